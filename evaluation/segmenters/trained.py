"""Segmenters of torchvision, trained by `evaluate.py train-segmenter` where nobody has released one for a data set.

Letters: N images, K classes, H W size, D numbers of a feature.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import segmentation

from evaluation.confusion import PRESENT, Scores
from evaluation.segmenters.kind import Kind
from util.checkpoint import differences_of, plain, read_state
from util.errors import UserError
from util.files import write_atomically

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lraspp_mobilenet_v3_large": segmentation.lraspp_mobilenet_v3_large,  # 3 million weights
    "deeplabv3_mobilenet_v3_large": segmentation.deeplabv3_mobilenet_v3_large,  # 11
    "deeplabv3_resnet50": segmentation.deeplabv3_resnet50,  # 40
    "deeplabv3_resnet101": segmentation.deeplabv3_resnet101,  # 59
}
DEFAULT = "lraspp_mobilenet_v3_large"
WHAT = "a segmenter of evaluate.py train-segmenter"  # what its files say they are
MOST_CLASSES = 1 << 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0 .. 1, as torchvision's weights take it


def build(network: str, classes: int) -> nn.Module:
    """A network of NETWORKS with K = `classes` outputs, with weights as PyTorch draws them."""
    net = NETWORKS[network](weights=None, weights_backbone=None, num_classes=classes)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # MobileNet's 0.01 is meant for a million steps: here averages would come too late
    return net


def prepared(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """RGB images, uint8 [N, 3, H, W], as the networks take them."""
    mean, std = (torch.tensor(v, dtype=dtype, device=images.device)[:, None, None] for v in (MEAN, STD))
    return (images.to(dtype) / 255 - mean) / std


def load_trunk(net: nn.Module, path: Path) -> None:
    """Begin with torchvision's weights of the network that the trunk is part of, such as mobilenet_v3_large's.

    Raises:
        UserError: the file cannot be read or does not fit.
    """
    state = read_state(path)
    trunk = net.backbone
    own = trunk.state_dict()
    if not isinstance(state, dict):
        raise UserError(f"--backbone_weights {path} holds no state dict")
    loaded = {k.removeprefix("features."): v for k, v in state.items()}
    loaded = {k: v for k, v in loaded.items() if not k.startswith(("classifier.", "fc."))}
    wrong = differences_of(loaded, own)
    if wrong:
        raise UserError(f"--backbone_weights {path} does not fit the trunk: {'; '.join(wrong[:4])}")
    trunk.load_state_dict(loaded)


def scores(net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Scores [N, K, h, w] of RGB images, uint8 [N, 3, H, W], at `size` = (h, w)."""
    logits = net(prepared(images, next(net.parameters()).dtype))["out"]  # [N, K, H, W]
    if logits.shape[-2:] != size:
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return logits


class PooledFeatures(nn.Module):
    """The means over the image of what a segmenter's trunk hands on: prepared images [N, 3, H, W] to [N, D]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.trunk = net.backbone

    def forward(self, x: Tensor) -> Tensor:
        *_, last = self.trunk(x).values()  # LR-ASPP's has a lower level before
        return last.mean((2, 3))


@dataclass
class Trained:
    """What a segmenter's file holds."""

    network: str  # of NETWORKS
    label_nc: int  # of the data set
    ids: list[int]  # the label id of each class
    state: dict[str, Tensor]
    epochs: int  # that it was trained for, of `of_epochs`
    of_epochs: int
    trained_on: str  # in words
    how: dict[str, Any]  # what else decides what it learned, by name
    names: list[str] | None = None  # of the classes, where they are known
    photos: dict[str, Any] | None = None  # what it reads of photos that it never saw: Scores, `images`, `which`
    resume: dict[str, Any] | None = None  # what going on takes, until it is finished
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether its training came to its end."""
        return self.resume is None

    def net(self) -> nn.Module:
        """The network with its weights, in evaluation mode."""
        net = build(self.network, len(self.ids))
        net.load_state_dict(self.state)
        return net.eval()

    def kind(self, class_table: str | None) -> Kind:
        """How evaluate.py uses it; its mean IoU is over classes in the label maps."""
        title = f"{self.network}, trained on {self.trained_on}"
        return Kind(title, lambda: build(self.network, len(self.ids)), scores, class_table, self.ids, PRESENT, ())

    def describe_photos(self) -> str:
        """What it reads of photos, in words."""
        held = self.photos or {}
        miou, accuracy = (f"{100 * held[key]:.2f}" for key in ("miou", "pixel_accuracy"))
        return f"mIoU {miou}, pixel accuracy {accuracy} on {held['images']} photos it never saw ({held['which']})"


def save(trained: Trained, path: Path) -> None:
    """Write a segmenter's file.

    Raises:
        UserError: the disk is full or the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = plain({"what": WHAT, **vars(trained)})
    write_atomically(path, lambda file: torch.save(content, file))


def read(path: Path) -> Trained:
    """What a segmenter's file holds.

    Raises:
        UserError: it is not there, damaged, or another file.
    """
    held = read_state(path)
    if not isinstance(held, dict) or held.pop("what", None) != WHAT:
        raise UserError(f"{path} is no {WHAT.removeprefix('a ')}: give one, or the name of a released one")
    try:
        trained = Trained(**held)
        _check(trained)
        own = build(trained.network, len(trained.ids)).state_dict()
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged or of another version ({error}); train it again") from None
    wrong = differences_of(trained.state, own)
    if wrong:
        raise UserError(f"{path} is damaged: {'; '.join(wrong[:4])}; train it again")
    return trained


def _check(trained: Trained) -> None:
    """Look at what was read before it is used.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is not what `save` writes.
    """
    ids = trained.ids
    if not 2 <= len(ids) == len(set(ids)) or not all(type(i) is int and 0 <= i <= MOST_CLASSES for i in ids):
        raise ValueError("its ids are no different label ids")
    numbers = [trained.label_nc, trained.epochs, trained.of_epochs]
    texts = [trained.network, trained.trained_on, *(trained.names or ())]
    if not all(type(number) is int for number in numbers) or not all(isinstance(text, str) for text in texts):
        raise TypeError("its numbers or texts are none")
    if trained.names is not None and len(trained.names) != len(ids):
        raise ValueError("its names are not as many as its classes")
    for key, value in trained.state.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{key} is not finite")
    if trained.photos is not None:
        trained.describe_photos()


def of_photos(measured: Scores, images: int, which: str) -> dict[str, Any]:
    """What `Trained.photos` holds."""
    return {**asdict(measured), "images": images, "which": which}


def check_classes(trained: Trained, path: str, label_nc: int) -> None:
    """Refuse a segmenter of other classes.

    Raises:
        UserError: it knows other ids than the data set has.
    """
    if trained.label_nc != label_nc:
        raise UserError(
            f"--segmenter {path} was trained with --label_nc {trained.label_nc}, and the layouts have --label_nc "
            f"{label_nc}: train one on their data set"
        )
