"""Normalise, modulate and activate in one pass: what is left of SPADE once gamma and beta are rows of a table.

    y = leaky_relu((x - mean) / std * scale[pattern] + shift[pattern])

Kept for the gradient are x, y, the tables and the pattern of each pixel; never gamma or beta at full size. On a CPU the
work goes block by block, so that everything in between stays in its cache.

Letters: N batch, h w size, P = h * w pixels of an image, C channels, U patterns, G groups that share statistics (1 for
batch norms, N for instance norms).
"""

import functools
import itertools
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.networks.moments import Statistics
from models.networks.patterns import Patterns, blocks_of


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
        ctx: Any, x: Tensor, statistics: Statistics | None, patterns: Patterns, slopes: list[float], *flat: Tensor
    ) -> tuple[Tensor, ...]:
        rows, tables = as_rows(x), list(zip(flat[::2], flat[1::2], slopes, strict=True))
        if in_one_kernel(x):
            norm = (None, None) if statistics is None else statistics.of(ALL)
            outs = [kernel(_normalise_and_modulate)(rows, *norm, patterns.index, *table) for table in tables]
        else:
            outs = [torch.empty_like(rows) for _ in tables]
            for images, pixels in pieces_of(rows):
                normalised = _normalise(rows[images, pixels], statistics, images)
                for out, table in zip(outs, tables, strict=True):
                    _modulate_rows(normalised, patterns.index[images, pixels], *table, out=out[images, pixels])
        ys = [as_image(out, x) for out in outs]
        ctx.statistics, ctx.patterns, ctx.slopes = statistics, patterns, slopes
        ctx.save_for_backward(x, *flat, *(y if slope != 1 else None for y, slope in zip(ys, slopes, strict=True)))
        return tuple(ys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        statistics, patterns, slopes = ctx.statistics, ctx.patterns, ctx.slopes
        x, *saved = ctx.saved_tensors
        flat, ys = saved[: 2 * len(slopes)], saved[2 * len(slopes) :]
        rows, grads, ys = as_rows(x), [as_rows(g) for g in grads], [y if y is None else as_rows(y) for y in ys]
        for_x, for_tables = ctx.needs_input_grad[0], any(ctx.needs_input_grad[4:])
        through = for_x and statistics is not None
        pieces = pieces_of(rows)
        compute = kernel(_gradients) if in_one_kernel(x) else _gradients
        grad_x = torch.empty_like(rows) if for_x else None
        sums = [_SegmentSums(patterns, table, rows) for table in flat] if for_tables else []
        if through:
            mean_grad, mean_product = (torch.zeros_like(statistics.mean)[:, None] for _ in range(2))  # sums, at first
        for number, (images, pixels) in enumerate(pieces):
            index = patterns.index[images, pixels]
            normalised = _normalise(rows[images, pixels], statistics, images)
            total = None
            for i, (grad, y, slope) in enumerate(zip(grads, ys, slopes, strict=True)):
                y = None if y is None else y[images, pixels]
                of_shift, of_scale, of_x = compute(grad[images, pixels], y, normalised, index, flat[2 * i], slope)
                if for_tables:
                    sums[2 * i].add(number, of_scale)
                    sums[2 * i + 1].add(number, of_shift)
                total = of_x if total is None else total.add_(of_x)
            if for_x:
                grad_x[images, pixels] = total
            if through:
                group, dims = (images, (1,)) if len(mean_grad) > 1 else (ALL, (0, 1))
                mean_grad[group] += total.sum(dims, keepdim=True)
                mean_product[group] += total.mul_(normalised).sum(dims, keepdim=True)
        if through:
            mean_grad, mean_product = statistics.mean_gradients(mean_grad, mean_product)
            for images, pixels in pieces:
                group = images if len(mean_grad) > 1 else ALL
                total = grad_x[images, pixels] - mean_grad[group]
                total -= _normalise(rows[images, pixels], statistics, images).mul_(mean_product[group])
                grad_x[images, pixels] = total * statistics.of(images)[1]
        of_tables = [s.result() for s in sums] if for_tables else [None] * len(flat)
        return as_image(grad_x, x) if for_x else None, None, None, None, *of_tables


ALL = slice(None)
KERNEL_NUMEL = 2**26  # numbers that a kernel writes at once on the way back: 256 MiB of each kind


# ----------------------------------------------------------------------------------------------- at each pixel


def _normalise(x: Tensor, statistics: Statistics | None, images: slice) -> Tensor:
    if statistics is None:
        return x
    mean, rstd = statistics.of(images)
    return (x - mean).mul_(rstd)


def _modulate_rows(
    normalised: Tensor, index: Tensor, scale: Tensor, shift: Tensor, slope: float, out: Tensor | None = None
) -> Tensor:
    y = torch.addcmul(F.embedding(index, shift), normalised, F.embedding(index, scale), out=out)
    return y if slope == 1 else F.leaky_relu_(y, slope)


def _normalise_and_modulate(
    x: Tensor, mean: Tensor | None, rstd: Tensor | None, index: Tensor, scale: Tensor, shift: Tensor, slope: float
) -> Tensor:
    normalised = x if mean is None else (x - mean) * rstd
    return _modulate_rows(normalised, index, scale, shift, slope).to(x.dtype)


def _gradients(
    grad: Tensor, y: Tensor | None, normalised: Tensor, index: Tensor, scale: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of shift and scale, before they are summed over the pixels of a pattern, and of what was modulated."""
    grad = grad.to(scale.dtype)
    if y is not None:  # the sign of y is that of what went into the leaky ReLU
        grad = torch.where(y > 0, grad, grad * slope)
    return grad, grad * normalised, grad * F.embedding(index, scale)


# --------------------------------------------------------------------------- blocks for CPUs, kernels for GPUs


class _SegmentSums:
    """Sums of rows over the pixels of each pattern, block by block."""

    def __init__(self, patterns: Patterns, table: Tensor, rows: Tensor) -> None:
        self._segments = patterns.segments
        sizes = (rows[piece].shape[:2].numel() for piece in pieces_of(rows))
        self._pieces = self._segments.within(tuple(itertools.accumulate(sizes, initial=0)))
        self._sums = table.new_empty(len(self._segments), table.shape[1])

    def add(self, number: int, values: Tensor) -> None:
        """Values [images, pixels, C] of piece `number`."""
        order, starts, place = self._pieces[number]
        self._sums[place] = F.embedding_bag(order, values.reshape(-1, values.shape[-1]), starts, mode="sum")

    def result(self) -> Tensor:
        """The sums [U, C]."""
        return self._segments.total(self._sums)


def as_rows(x: Tensor) -> Tensor:
    """[N, C, h, w] to [N, h * w, C]: a view where x is channels-last, else a copy."""
    return x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(1, 2)


def as_image(rows: Tensor, like: Tensor) -> Tensor:
    """[N, h * w, C] to a channels-last view of the shape of `like`, [N, C, h, w]."""
    n, c, h, w = like.shape
    return rows.view(n, h, w, c).permute(0, 3, 1, 2)


def pieces_of(rows: Tensor) -> list[tuple[slice, slice]]:
    """Pieces of rows [N, P, C] that are worked on one after the other: images, and pixels of them.

    Blocks that fit a cache, or for kernels whole images, as many as leave what is in between small.
    """
    images, pixels, channels = rows.shape
    if in_one_kernel(rows):
        step = max(1, KERNEL_NUMEL // (pixels * channels))
        return [(slice(i, min(i + step, images)), ALL) for i in range(0, images, step)]
    return blocks_of(images, pixels)


_compile: bool | None = None  # None: on a GPU that Triton knows


def compile_kernels(on: bool | None) -> None:
    """Whether what happens at each pixel is compiled into one kernel; None, at the start, decides by the device."""
    global _compile
    _compile = on


def in_one_kernel(x: Tensor) -> bool:
    """Whether x is worked on as a whole: on a GPU, or where kernels are compiled."""
    return x.is_cuda or bool(_compile)


def kernel(function: Callable) -> Callable:
    """`function`, compiled where that is asked for or where it is what a GPU needs."""
    wanted = _triton_is_there() if _compile is None else _compile
    return _compiled(function) if wanted else function


@functools.cache
def _compiled(function: Callable) -> Callable:
    fast = torch.compile(function, dynamic=True)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        nonlocal fast
        try:
            return fast(*args)
        except Exception as error:  # no compiler, or one that does not know the device: slower, but the same
            if fast is function or isinstance(error, torch.OutOfMemoryError):
                raise
            why = str(error).strip().splitlines()[0]
            print(
                f"warning: kernels are not compiled ({type(error).__name__}: {why}); going on without, which gives the "
                "same numbers (on a CPU it takes g++, and gains next to nothing)",
                file=sys.stderr,
            )
            fast = function
            return function(*args)

    return call


@functools.cache
def _triton_is_there() -> bool:
    from torch.utils._triton import has_triton

    return has_triton()
