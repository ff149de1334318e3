"""Batch norm statistics estimated anew, for models that are good in training and bad in testing.

In training each batch is normalised with its own mean and variance; in testing with running averages over the last
batches, each of which had other weights. At small batches the two can be far apart.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from models.base_model import BaseModel
from models.networks.normalization import batch_norms
from util.errors import UserError


@torch.no_grad()
def recalibrate(model: BaseModel, batches: Iterable[dict[str, Any]]) -> int:
    """Set the running statistics of all batch norms to those over `batches`, pooled over all their pixels.

    Each batch is normalised by its own statistics meanwhile, as in training (Wu & Johnson 2021, section 3). Everything
    else, spectral norms included, stays in evaluation mode.

    Returns:
        The number of layouts that were seen.

    Raises:
        UserError: the model has no batch norm.
    """
    norms = batch_norms(model)
    if not norms:
        raise UserError("--recalibrate_bn: this model has no batch norms, whose statistics could be estimated; drop it")
    sums = {norm: _Sums() for norm in norms}
    seen = 0
    for norm in norms:
        norm.train()
        norm.observers.append(sums[norm].add)
    try:
        for batch in batches:
            model.set_noise(model.opt.seed, first=seen)
            model.generate(batch)
            seen += len(batch["path"])
    finally:
        for norm in norms:
            norm.eval()
            norm.observers.pop()
    for norm, total in sums.items():
        if total.count:  # the encoder's, where styles do not come from photos, saw nothing
            norm.running_mean.copy_(total.mean)
            norm.running_var.copy_(total.variance)
    return seen


class _Sums:
    """Running sums of values and squares per channel, in double precision."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, x: Tensor) -> None:
        """x: [N, C, h, w]."""
        x = x.double()
        total, squares = x.sum((0, 2, 3)), x.square().sum((0, 2, 3))
        self.total, self.squares = (total, squares) if not self.count else (self.total + total, self.squares + squares)
        self.count += x.numel() // x.shape[1]

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def variance(self) -> Tensor:
        """Unbiased, as batch norms keep it."""
        return (self.squares - self.count * self.mean.square()).clamp_min(0) / max(1, self.count - 1)
