"""Normalise, modulate and activate in one pass: what is left of SPADE once gamma and beta are rows of a table.

    y = leaky_relu((x - mean) / std * scale[pattern] + shift[pattern])

Kept for the gradient are x, y, the tables and the pattern of each pixel; never gamma or beta at full size. On a CPU the
work goes block by block, so that everything in between stays in its cache.

Letters: N batch, h w size, P = h * w pixels of an image, C channels, U patterns, G groups that share statistics (1 for
batch norms, N for instance norms).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.networks.patterns import Patterns, blocks_of


@dataclass(frozen=True)
class Statistics:
    """What x is normalised with, as it was computed from x: the gradient goes through it."""

    mean: Tensor  # [G, C]
    rstd: Tensor  # [G, C], 1 / sqrt(variance + eps)

    def of(self, images: slice) -> tuple[Tensor, Tensor]:
        """mean and rstd of some images, to be broadcast over [images, pixels, C]."""
        if len(self.mean) > 1:
            return self.mean[images, None], self.rstd[images, None]
        return self.mean[:, None], self.rstd[:, None]


def modulate(
    x: Tensor,
    statistics: Statistics | None,
    patterns: Patterns,
    tables: list[tuple[Tensor, Tensor]],
    slopes: list[float],
) -> tuple[Tensor, ...]:
    """Modulate one x by several tables.

    Args:
        x: [N, C, h, w].
        statistics: None leaves x as it is, for tables that have the normalisation in them.
        tables: scale and shift, [U, C] each, in float32 or more.
        slopes: of the leaky ReLU behind each; 1 for none.

    Returns:
        [N, C, h, w] for each table, in channels-last order; differentiable in x and the tables.
    """
    flat = [row for table in tables for row in table]
    return _Modulate.apply(x, statistics, patterns, slopes, *flat)


class _Modulate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, statistics: Statistics | None, patterns: Patterns, slopes: list[float], *flat: Tensor
    ) -> tuple[Tensor, ...]:
        rows = as_rows(x)
        outs = [torch.empty_like(rows) for _ in slopes]
        for images, pixels in _blocks(rows):
            normalised = _normalise(rows[images, pixels], statistics, images)
            index = patterns.index[images, pixels]
            for out, scale, shift, slope in zip(outs, flat[::2], flat[1::2], slopes, strict=True):
                y, scale, shift = out[images, pixels], F.embedding(index, scale), F.embedding(index, shift)
                torch.addcmul(shift, normalised, scale, out=y)
                if slope != 1:
                    F.leaky_relu_(y, slope)
        ys = [as_image(out, x) for out in outs]
        ctx.statistics, ctx.patterns, ctx.slopes = statistics, patterns, slopes
        ctx.save_for_backward(x, *flat, *(y if slope != 1 else None for y, slope in zip(ys, slopes, strict=True)))
        return tuple(ys)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        statistics, patterns, slopes = ctx.statistics, ctx.patterns, ctx.slopes
        x, *saved = ctx.saved_tensors
        flat, ys = saved[: 2 * len(slopes)], saved[2 * len(slopes) :]
        rows, grads, ys = as_rows(x), [as_rows(g) for g in grads], [y if y is None else as_rows(y) for y in ys]
        for_x, for_tables = ctx.needs_input_grad[0], any(ctx.needs_input_grad[4:])
        through = for_x and statistics is not None
        grad_x = torch.empty_like(rows) if for_x else None
        sums = [_SegmentSums(patterns, table) for table in flat] if for_tables else []
        if through:
            mean_grad, mean_product = (torch.zeros_like(statistics.mean)[:, None] for _ in range(2))
        for number, (images, pixels) in enumerate(_blocks(rows)):
            index = patterns.index[images, pixels]
            normalised = _normalise(rows[images, pixels], statistics, images)
            total = None
            for i, (grad, y, slope) in enumerate(zip(grads, ys, slopes, strict=True)):
                g = grad[images, pixels].to(normalised.dtype)
                if slope != 1:
                    g = torch.ops.aten.leaky_relu_backward(g, y[images, pixels].to(g.dtype), slope, True)
                if for_tables:
                    sums[2 * i].add(number, g * normalised)
                    sums[2 * i + 1].add(number, g)
                if for_x:
                    part = g * F.embedding(index, flat[2 * i])
                    total = part if total is None else total.add_(part)
            if for_x:
                grad_x[images, pixels] = total
            if through:
                group = images if len(mean_grad) > 1 else slice(0, 1)
                dims = (1,) if len(mean_grad) > 1 else (0, 1)
                mean_grad[group] += total.sum(dims, keepdim=True)
                mean_product[group] += total.mul_(normalised).sum(dims, keepdim=True)
        if through:
            count = rows.shape[1] * (rows.shape[0] if len(statistics.mean) == 1 else 1)
            for images, pixels in _blocks(rows):
                group = images if len(mean_grad) > 1 else slice(0, 1)
                total = grad_x[images, pixels] - mean_grad[group] / count
                total -= _normalise(rows[images, pixels], statistics, images).mul_(mean_product[group] / count)
                grad_x[images, pixels] = total * statistics.of(images)[1]
        of_tables = [s.result() for s in sums] if for_tables else [None] * len(flat)
        return as_image(grad_x, x) if for_x else None, None, None, None, *of_tables


class _SegmentSums:
    """Sums of rows over the pixels of each pattern, block by block."""

    def __init__(self, patterns: Patterns, table: Tensor) -> None:
        self._segments = patterns.segments
        self._sums = table.new_empty(len(self._segments), table.shape[1])

    def add(self, number: int, values: Tensor) -> None:
        """Values [images, pixels, C] of block `number`."""
        values = values.reshape(-1, values.shape[-1])
        order, starts, place = self._segments.local[number]
        self._sums[place] = F.embedding_bag(order, values, starts, mode="sum")

    def result(self) -> Tensor:
        """The sums [U, C]."""
        return self._segments.total(self._sums)


def as_rows(x: Tensor) -> Tensor:
    """[N, C, h, w] to [N, h * w, C]: a view where x is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])


def as_image(rows: Tensor, like: Tensor) -> Tensor:
    """[N, h * w, C] to a channels-last view of the shape of `like`, [N, C, h, w]."""
    n, c, h, w = like.shape
    return rows.view(n, h, w, c).permute(0, 3, 1, 2)


def _blocks(rows: Tensor) -> Iterator[tuple[slice, slice]]:
    return ((slice(image, image + 1), pixels) for image, pixels in blocks_of(*rows.shape[:2]))


def _normalise(x: Tensor, statistics: Statistics | None, images: slice) -> Tensor:
    if statistics is None:
        return x
    mean, rstd = statistics.of(images)
    return (x - mean).mul_(rstd)
