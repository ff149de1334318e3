"""How much memory a training iteration takes, by size and batch, predicted without the machine that has it.

    python -m benchmarks memory                        # the table in docs/questions.md
    python -m benchmarks memory --dataset_mode ade20k --use_vae --batchSize 4      # one command line of train.py

The whole step (both networks, all losses, both optimisers) runs on tensors that have sizes but no contents (torch's
FakeTensorMode); every storage is counted from its making to its end. SPADE is computed by the plain formula, since how
many patterns there are depends on the layouts; where there are few, less is needed, and `python -m benchmarks training
--memory` measures how much. Real use on a GPU is more: the CUDA context (about 0.5 GiB), workspaces of convolutions,
and what the allocator cannot reuse.
"""

import sys
import warnings
import weakref
from argparse import Namespace
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from data.base_dataset import Preprocess
from models.networks.architecture import VGG19
from options.train_options import TrainOptions
from trainers import create_trainer
from util.errors import UserError, run_main

GIB = 2**30
TABLE = [  # caption, flags, batches
    ("COCO-Stuff, 256 x 256", "--dataset_mode coco", (1, 2, 4, 8, 16, 32)),
    ("COCO-Stuff, 256 x 256, `--use_vae`", "--dataset_mode coco --use_vae", (1, 2, 4, 8, 16, 32)),
    ("Cityscapes, 512 x 256", "--dataset_mode cityscapes", (1, 2, 4, 8, 16, 32)),
    ("COCO-Stuff, 512 x 512", "--dataset_mode coco --crop_size 512 --load_size 572", (1, 2, 4, 8, 16, 32)),
    ("Cityscapes, 1024 x 512", "--dataset_mode cityscapes --crop_size 1024", (1, 2, 4, 8, 16, 32)),
]


class StorageCounter(TorchDispatchMode):
    """Bytes of all tensors that operations made and that still live, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, size: int) -> None:
        self.now -= size


def peak_of_a_step(opt: Namespace) -> tuple[int, int]:
    """Bytes that live between training steps, and at the most within one.

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
    opt = Namespace(**{**vars(opt), "spade_impl": "dense"})  # tables of patterns depend on contents
    stay = mock.patch.object(nn.Module, "to", lambda net, *args, **kwargs: net)  # these tensors cannot be moved
    with stay, mock.patch("models.pix2pix_model.load_vgg19", vgg19), FakeTensorMode(), StorageCounter() as counter:
        trainer = create_trainer(opt)
        shape = opt.batchSize, 1, height, width
        batch = {name: torch.zeros(shape, dtype=torch.long) for name in ("label", "instance")}
        batch |= {"image": torch.zeros(opt.batchSize, 3, height, width), "path": ["x"] * opt.batchSize}
        trainer.step(batch)  # makes the optimisers' state
        counter.peak = 0
        trainer.step(batch)
        return counter.now, counter.peak


def main() -> None:
    """Print one prediction, or the table."""
    if len(sys.argv) > 1:
        options = TrainOptions()
        options.prog = "benchmarks memory"
        opt = options.parse([*sys.argv[1:], "--gpu_ids", "-1"])
        between, peak = peak_of_a_step(opt)
        print(f"{peak / GIB:.1f} GiB in a step, {between / GIB:.1f} GiB between steps")
        return
    batches = TABLE[0][2]
    print(f"| GiB in fp32 | {' | '.join(f'batch {n}' for n in batches)} |\n|---|{'---|' * len(batches)}")
    for caption, flags, sizes in TABLE:
        peaks = []
        for size in sizes:
            opt = TrainOptions().parse([*flags.split(), "--batchSize", str(size), "--gpu_ids", "-1"])
            peaks.append(f"{peak_of_a_step(opt)[1] / GIB:.1f}")
        print(f"| {caption} | {' | '.join(peaks)} |", flush=True)


if __name__ == "__main__":
    run_main(main)
