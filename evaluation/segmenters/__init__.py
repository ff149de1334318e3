"""Networks that read layouts back from pictures, by name: those that the field's numbers are computed with.

A segmenter's classes are 0 .. K - 1; what of a data set's label ids is which class is `class_of`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluation.confusion import ALL, PRESENT, SEEN, UNKNOWN
from evaluation.segmenters import deeplab, drn, upernet
from evaluation.weights import Weights
from util.class_table import ClassTable

CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # label ids of the 19 classes


@dataclass(frozen=True)
class Kind:
    """A segmenter's network, what it takes and gives, and the rules that its authors measure by."""

    title: str
    network: Callable[[], nn.Module]
    scores: Callable[[nn.Module, Tensor, tuple[int, int]], Tensor]  # net, uint8 [N, 3, H, W] RGB, (h, w): [N, K, h, w]
    class_table: str  # of the data set that it reads
    ids: Sequence[int]  # the label id of each class
    rule: str  # of MIOU_RULES
    files: Sequence[Weights]

    @property
    def names(self) -> list[str]:
        """The classes' names."""
        names = ClassTable.load(self.class_table).names
        return [names[i] for i in self.ids]

    def class_of(self, labels: Tensor) -> Tensor:
        """Label ids, integer of any shape, as classes; what is none of them is UNKNOWN."""
        table = torch.full((max(self.ids) + 2,), UNKNOWN, device=labels.device)  # the last for all other ids
        table[list(self.ids)] = torch.arange(len(self.ids), device=labels.device)
        other = len(table) - 1
        labels = labels.long()
        return table[torch.where((labels >= 0) & (labels < other), labels, other)]


SEGMENTERS = {
    "deeplabv2": Kind(
        "DeepLabV2 ResNet-101", deeplab.DeepLabV2, deeplab.scores, "coco", range(182), PRESENT, deeplab.FILES
    ),
    "upernet101": Kind("UPerNet-101", upernet.UPerNet101, upernet.scores, "ade20k", range(1, 151), ALL, upernet.FILES),
    "drn_d_105": Kind("DRN-D-105", drn.DRND105, drn.scores, "cityscapes", CITYSCAPES, SEEN, drn.FILES),
}


def build(name: str) -> nn.Module:
    """The network of a segmenter, in evaluation mode, with weights as PyTorch draws them."""
    return SEGMENTERS[name].network().eval()


@torch.no_grad()
def read(kind: Kind, net: nn.Module, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The classes that a network sees in RGB images, uint8 [N, 3, H, W]: long [N, h, w] at `size` (default: theirs)."""
    return kind.scores(net, images, size or tuple(images.shape[-2:])).argmax(1)
