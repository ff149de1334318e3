"""Pixels counted by true and read class, and the accuracies that follow. Letters: K classes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from util.distributed import sum_over_processes

UNKNOWN = -1  # the class of pixels that nobody has labelled

# Which classes the mean IoU is over; published numbers differ by it.
PRESENT = "present"  # those in the true label maps (DeepLab)
SEEN = "seen"  # those, and what was read where a label is known (DRN)
ALL = "all"  # all K; one that is nowhere counts as 0 (CSAIL's ADE20K)
MIOU_RULES = {
    PRESENT: "the mean over classes that occur in the label maps",
    SEEN: "the mean over classes that occur in the label maps or were read on labelled pixels",
    ALL: "the mean over all classes, absent ones as 0",
}


@dataclass(frozen=True)
class Scores:
    """Shares in 0 .. 1; NaN where there is nothing to divide by."""

    miou: float
    rule: str  # of MIOU_RULES
    pixel_accuracy: float  # of labelled pixels
    pixel_accuracy_all: float  # of all pixels: unlabelled ones, which cannot be right, counted
    mean_accuracy: float  # mean over classes in the label maps of the share of their pixels that was read right
    weighted_iou: float  # mean IoU weighted by the classes' pixels
    iou: list[float]  # of each class; NaN where it occurs neither in label maps nor in what was read
    pixels: int  # labelled
    unknown: int  # unlabelled pixels


class Confusion:
    """A matrix of pixels [K, K], true class by read class, and the number of unlabelled ones."""

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        self.classes = classes
        self._counts = torch.zeros(classes * classes + 1, dtype=torch.int64, device=device)  # the last: unlabelled

    def add(self, truth: Tensor, read: Tensor) -> None:
        """Count pixels; integer tensors of one shape.

        Args:
            truth: classes in 0 .. K - 1, or UNKNOWN.
            read: classes in 0 .. K - 1.
        """
        truth, read = truth.flatten().long(), read.flatten().long()
        cells = torch.where(truth == UNKNOWN, self.classes**2, truth * self.classes + read)
        self._counts.scatter_add_(0, cells, torch.ones_like(cells))  # bincount would wait for a GPU

    def sum_over_processes(self) -> None:
        """Let every process have the counts of all."""
        sum_over_processes(self._counts)

    @property
    def matrix(self) -> Tensor:
        """Pixels of each true class (rows) read as each class (columns): int64 [K, K] on the CPU."""
        return self._counts[:-1].view(self.classes, self.classes).cpu()

    def scores(self, rule: str) -> Scores:
        """What the counts say; `rule` is of MIOU_RULES."""
        matrix, unknown = self.matrix.double(), self._counts[-1].item()
        right, true, read = matrix.diag(), matrix.sum(1), matrix.sum(0)
        union = true + read - right
        iou = right / union  # NaN for 0 / 0
        counted = {PRESENT: iou[true > 0], SEEN: iou[union > 0], ALL: iou.nan_to_num(0)}[rule]
        present = true > 0
        total = true.sum()
        return Scores(
            miou=_mean(counted),
            rule=rule,
            pixel_accuracy=_share(right.sum().item(), total.item()),
            pixel_accuracy_all=_share(right.sum().item(), total.item() + unknown),
            mean_accuracy=_mean((right / true)[present]),
            weighted_iou=_share((true * iou)[present].sum().item(), total.item()),
            iou=iou.tolist(),
            pixels=int(total.item()),
            unknown=unknown,
        )


def _mean(values: Tensor) -> float:
    return values.mean().item() if len(values) else math.nan


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
