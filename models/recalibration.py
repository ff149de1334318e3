"""Batch norm statistics estimated anew, for models that are good in training and bad in testing.

In training each batch is normalised with its own mean and variance; in testing with running averages over the last
batches, each of which had other weights. At small batches the two can be far apart.
"""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data import create_dataloader
from models.base_model import BaseModel
from models.networks.normalization import BatchNorm2d, batch_norms, without_synchronization
from util.distributed import sum_over_processes, to_device, wait_for_all
from util.errors import UserError


def recalibrate_as_asked(opt: Namespace, model: BaseModel, dataset: Dataset) -> None:
    """What --recalibrate_bn asks for, on the first of a data set's layouts; nothing without the flag.

    Raises:
        UserError: the model has no batch norm.
    """
    if not opt.recalibrate_bn:
        return
    chosen = Namespace(**{**vars(opt), "how_many": opt.recalibrate_bn, "batchSize": opt.recalibration_batch})
    loader, device = create_dataloader(chosen, dataset), next(model.parameters()).device
    places = loader.batch_sampler.own_places()
    seen = recalibrate(model, (to_device(batch, device) for batch in loader), places)
    fewer = f": there are no more, though --recalibrate_bn asks for {opt.recalibrate_bn}"
    print(
        f"batch norm statistics are those of {seen} layout(s), at most {min(seen, opt.recalibration_batch)} a batch"
        f"{fewer if seen < opt.recalibrate_bn else ''}"
    )


@torch.no_grad()
def recalibrate(model: BaseModel, batches: Iterable[dict[str, Any]], places: Sequence[int] | None = None) -> int:
    """Set the running statistics of all batch norms to those over `batches`, pooled over all their pixels.

    Each batch is normalised by its own statistics meanwhile, as in training (Wu & Johnson 2021, section 3). Everything
    else, spectral norms included, stays in evaluation mode. Of several processes each has its own batches, and all get
    the statistics over all of them.

    Args:
        places: of this process's layouts among all, by which random styles are drawn; None: one after the other.

    Returns:
        The number of layouts that were seen.

    Raises:
        UserError: the model has no batch norm.
    """
    norms = batch_norms(model)
    if not norms:
        raise UserError("--recalibrate_bn: this model has no batch norms, whose statistics could be estimated; drop it")
    sums = [_Sums(norm) for norm in norms]
    seen = 0
    for norm, own in zip(norms, sums, strict=True):
        norm.train()
        norm.observers.append(own.add)
    try:
        with without_synchronization(model):
            for batch in batches:
                model.set_noise(model.opt.seed, first=seen if places is None else int(places[seen]))
                model.generate(batch)
                seen += len(batch["path"])
    finally:
        for norm in norms:
            norm.eval()
            norm.observers.pop()
    values = torch.cat([own.values for own in sums] + [sums[0].values.new_tensor([seen])])
    wait_for_all()  # who has slower layouts
    *over_all, seen_by_all = sum_over_processes(values).split([len(own.values) for own in sums] + [1])
    for norm, own, values in zip(norms, sums, over_all, strict=True):
        own.values = values
        if own.count > 0:  # the encoder's, where styles do not come from photos, saw nothing
            norm.running_mean.copy_(own.mean)
            norm.running_var.copy_(own.variance)
    return int(seen_by_all.item())


class _Sums:
    """Running sums per channel of a norm, in double precision."""

    def __init__(self, norm: BatchNorm2d) -> None:
        self.values = norm.running_mean.new_zeros(1 + 2 * norm.num_features, dtype=torch.float64)  # count, sum, squares

    def add(self, x: Tensor) -> None:
        """x: [N, C, h, w]."""
        x = x.double()
        count = x.new_tensor([x.numel() // x.shape[1]])
        self.values += torch.cat([count, x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])

    @property
    def count(self) -> float:
        """Values of a channel."""
        return self.values[0].item()

    @property
    def mean(self) -> Tensor:
        return self.values[1:].chunk(2)[0] / self.count

    @property
    def variance(self) -> Tensor:
        """Unbiased, as batch norms keep it."""
        squares = self.values[1:].chunk(2)[1]
        return (squares - self.count * self.mean.square()).clamp_min(0) / max(1, self.count - 1)
