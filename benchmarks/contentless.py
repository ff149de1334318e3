"""A training step on tensors that have sizes but no contents (torch's FakeTensorMode), on a machine of any size."""

import warnings
from argparse import Namespace
from collections.abc import Callable
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from data.base_dataset import Preprocess
from models.networks.architecture import VGG19
from trainers import create_trainer
from util.errors import UserError


def run_a_step(opt: Namespace, watcher: TorchDispatchMode, begin: Callable[[], None]) -> None:
    """The whole step (both networks, all losses, both optimisers) while `watcher` sees each operation.

    SPADE is computed by the plain formula, since how many patterns there are depends on the layouts, and without
    --diffaugment, which moves images by what is drawn and costs next to nothing.

    Args:
        begin: called after a first step, which makes the optimisers' state, and before the one that counts.

    Raises:
        UserError: the size of the images depends on the files.
    """
    import torchvision

    def vgg19(path: str | None) -> VGG19:
        return VGG19(torchvision.models.vgg19(weights=None, init_weights=False).features)

    size = Preprocess.from_options(opt).output_size()
    if size is None:
        raise UserError(
            f"--preprocess_mode {opt.preprocess_mode}: images are as large as the files make them; predict for the "
            "largest with --preprocess_mode fixed --crop_size WIDTH --aspect_ratio RATIO"
        )
    warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")  # only compared
    width, height = size
    opt = Namespace(**{**vars(opt), "spade_impl": "dense", "diffaugment": []})
    stay = mock.patch.object(nn.Module, "to", lambda net, *args, **kwargs: net)  # these tensors cannot be moved
    with stay, mock.patch("models.pix2pix_model.load_vgg19", vgg19), FakeTensorMode(), watcher:
        trainer = create_trainer(opt)
        trainer.health.late = 8  # steps of optimisers before it looks at losses, which have no contents
        shape = opt.batchSize, 1, height, width
        batch = {name: torch.zeros(shape, dtype=torch.long) for name in ("label", "instance")}
        batch |= {"image": torch.zeros(opt.batchSize, 3, height, width), "path": ["x"] * opt.batchSize}
        trainer.step(batch)
        begin()
        trainer.step(batch)
