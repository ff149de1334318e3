"""What a segmenter is: its network, what that takes and gives, and which label ids are its classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluation.confusion import UNKNOWN
from evaluation.weights import Weights
from util.class_table import ClassTable


@dataclass(frozen=True)
class Kind:
    """A segmenter's network, what it takes and gives, and the rules that its authors measure by."""

    title: str
    network: Callable[[], nn.Module]
    scores: Callable[[nn.Module, Tensor, tuple[int, int]], Tensor]  # net, uint8 [N, 3, H, W] RGB, (h, w): [N, K, h, w]
    class_table: str | None  # of the data set that it reads
    ids: Sequence[int]  # the label id of each class
    rule: str  # of MIOU_RULES
    files: Sequence[Weights]

    @property
    def names(self) -> list[str]:
        """The classes' names."""
        names = ClassTable.load(self.class_table).names
        return [names.get(i, f"class {i}") for i in self.ids]

    def class_of(self, labels: Tensor) -> Tensor:
        """Label ids, integer of any shape, as classes; what is none of them is UNKNOWN."""
        table = torch.full((max(self.ids) + 2,), UNKNOWN, device=labels.device)  # the last for all other ids
        table[list(self.ids)] = torch.arange(len(self.ids), device=labels.device)
        other = len(table) - 1
        labels = labels.long()
        return table[torch.where((labels >= 0) & (labels < other), labels, other)]

    @torch.no_grad()
    def read(self, net: nn.Module, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """The classes that a network sees in RGB images, uint8 [N, 3, H, W]: long [N, h, w] at `size` (default:
        theirs)."""
        return self.scores(net, images, size or tuple(images.shape[-2:])).argmax(1)
