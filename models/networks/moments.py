"""What norms normalise with: mean and variance over a batch, over each image, or over the batches of all processes.

Letters: N batch, C channels, h w feature size, G groups that share statistics (1 for batch norms, N for instances).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from util.distributed import sum_over_processes
from util.precision import at_least_float32


@dataclass(frozen=True)
class Statistics:
    """What x is normalised with, as it was computed from x: the gradient goes through it."""

    mean: Tensor  # [G, C]
    rstd: Tensor  # [G, C], 1 / sqrt(variance + eps)
    count: int | Tensor  # values of a channel that they were computed from
    shared: bool = False  # whether those are of all processes

    def of(self, images: slice) -> tuple[Tensor, Tensor]:
        """mean and rstd of some images, to be broadcast over [images, pixels, C]."""
        images = images if len(self.mean) > 1 else slice(None)
        return self.mean[images, None], self.rstd[images, None]

    def mean_gradients(self, grad: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over this process's pixels of the normalised x's gradient, and of that times the normalised x, [.., C]
        each, to means over all pixels."""
        if self.shared:  # one collective for each x that is normalised
            grad, product = sum_over_processes(torch.stack([grad, product]))
        return grad / self.count, product / self.count


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance [G, C], in float32 or more, over a batch (G = 1) or each image (G = N)."""

    mean: Tensor
    variance: Tensor
    count: int | Tensor  # values of a channel
    shared: bool = False  # whether they are those of all processes

    def statistics(self, eps: float) -> Statistics:
        """What x, which they were computed from, is normalised with."""
        return Statistics(self.mean, (self.variance + eps).rsqrt(), self.count, self.shared)


@torch.no_grad()
def moments_of_batch(x: Tensor) -> Moments:
    """x: [N, C, h, w]."""
    # What batch norm itself computes them with; it takes running statistics to know the type they are wanted in.
    unused = at_least_float32(x.new_zeros(2, x.shape[1]))
    mean, variance = torch.ops.aten.batch_norm_update_stats(x, *unused, 0.0)
    return Moments(mean[None], variance[None], x.numel() // x.shape[1])


@torch.no_grad()
def moments_of_images(x: Tensor) -> Moments:
    """x: [N, C, h, w]."""
    each = [moments_of_batch(image) for image in x.split(1)]
    return Moments(torch.cat([m.mean for m in each]), torch.cat([m.variance for m in each]), each[0].count)


@torch.no_grad()
def moments_over_processes(x: Tensor) -> Moments:
    """x: [N, C, h, w], each process's part of one batch; one collective."""
    own = moments_of_batch(x)
    mean, variance = own.mean[0].double(), own.variance[0].double()  # in which sums of squares lose nothing
    sums = torch.cat([mean, variance + mean.square(), mean.new_ones(1)]) * own.count
    *means, count = sum_over_processes(sums).tensor_split([len(mean), 2 * len(mean)])
    mean, square = (m / count for m in means)
    variance = (square - mean.square()).clamp_min(0)
    kind = own.mean.dtype
    return Moments(mean[None].to(kind), variance[None].to(kind), count.to(kind), shared=True)


def normalise(x: Tensor, statistics: Statistics) -> Tensor:
    """(x - mean) / std, [N, C, h, w], where mean and std are those of a batch; differentiable through them too."""
    return _Normalise.apply(x, statistics)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, statistics: Statistics) -> Tensor:
        ctx.statistics = statistics
        ctx.save_for_backward(x)
        return _normalised(x, statistics).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,), statistics = ctx.saved_tensors, ctx.statistics
        normalised = _normalised(x, statistics)
        grad = grad.to(normalised.dtype)
        over = (0, 2, 3)
        mean_grad, mean_product = statistics.mean_gradients(grad.sum(over), (grad * normalised).sum(over))
        grad = grad - _by_channel(mean_grad) - normalised.mul_(_by_channel(mean_product))
        return grad.mul_(_by_channel(statistics.rstd[0])).to(x.dtype), None


def _normalised(x: Tensor, statistics: Statistics) -> Tensor:
    return (x - _by_channel(statistics.mean[0])).mul_(_by_channel(statistics.rstd[0]))


def _by_channel(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)
