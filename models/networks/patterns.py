"""Which windows of a label map differ: SPADE's gamma and beta are computed once for each, not once for each pixel.

gamma and beta at a pixel depend on nothing but the ids around it, and layouts are made of regions, so that few
different neighbourhoods exist. Everything here is integer arithmetic on ids and holds no weights: a table is made once
for a batch and a resolution, and serves every SPADE layer, both passes of a training iteration, and every style.

Letters: N batch, h w size, K codes, k kernel, T = k * k taps of a window, M = N * h * w pixels, U different windows.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST_KEY = 2**63  # what an int64 holds
BLOCK_ROWS = 2048  # pixels that a CPU works on in one go: as many as fit its cache
SHORT_ROWS = 256  # pixels that one thread of a GPU sums
ROUND_ROWS = 64  # tables that are multiplied have multiples of this many rows, since libraries prepare for each number


class GatherSum:
    """Rows of a table, gathered and summed: out[i] = sum over t of table[index[i, t]], and what its gradient needs.

    The gradient of a gather is a sum over all places that a row went to. Sorting them once makes it a gather too.
    """

    def __init__(self, index: Tensor, rows: int) -> None:
        """`index`: long [U, T] in 0 .. rows - 1."""
        self.index, self.rows = index, rows

    def __call__(self, table: Tensor) -> Tensor:
        """Table [rows, C] to [U, C]; differentiable."""
        return _GatherSum.apply(table, self)

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor]:
        """For each row of the table the places [U * T] it went to, and where its own start [rows]."""
        flat = self.index.reshape(-1)
        places = torch.argsort(flat, stable=True)
        return places // self.index.shape[1], starts_of(flat, self.rows)


def sum_of_taps(members: Tensor, count: int) -> GatherSum:
    """For windows of ids [U, T] the sum of what the id at each tap adds there.

    The table has a row for each id in 0 .. count - 1 and tap, taps fastest, and at its end one for what lies outside.
    """
    taps = members.shape[1]
    index = members * taps + torch.arange(taps, device=members.device)
    return GatherSum(torch.where(members == count, count * taps, index), count * taps + 1)


def with_outside(rows: Tensor, height: int | None = None) -> Tensor:
    """A table [rows, C] and the row of what lies outside the map: nothing; and more such up to [height, C]."""
    return F.pad(rows, (0, 0, 0, 1 if height is None else height - len(rows)))


class _GatherSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, lookup: GatherSum) -> Tensor:
        ctx.lookup = lookup
        return F.embedding_bag(lookup.index, table, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        places, starts = ctx.lookup.transposed
        return F.embedding_bag(places, grad.contiguous(), starts, mode="sum"), None


class Segments:
    """Sums over the pixels of each pattern, in two exact steps: inside blocks of pixels, then over the blocks.

    A block fits a cache, and no sum is longer than a block, however large the sky is.
    """

    def __init__(self, index: Tensor, patterns: int) -> None:
        """`index`: long [N, pixels of an image] in 0 .. patterns - 1."""
        images, pixels = index.shape
        rows = SHORT_ROWS if index.is_cuda else BLOCK_ROWS
        per_image = -(-pixels // rows)
        of_row = torch.arange(pixels, device=index.device) // rows
        block = of_row + per_image * torch.arange(images, device=index.device)[:, None]
        key = (block * patterns + index).reshape(-1)
        self.order = torch.argsort(key, stable=True)  # [M]; a block's rows stay together
        key = key[self.order]
        first = torch.ones_like(key, dtype=torch.bool)
        first[1:] = key[1:] != key[:-1]
        self.starts = first.nonzero()[:, 0]  # [segments], each of one pattern in one block
        owner = key[self.starts] % patterns
        self._within: dict[tuple[int, ...], list[tuple[Tensor, Tensor, slice]]] = {}
        self.by_pattern, self.pattern_starts = torch.argsort(owner, stable=True), starts_of(owner, patterns)

    def __len__(self) -> int:
        return len(self.starts)

    def within(self, bounds: tuple[int, ...]) -> list[tuple[Tensor, Tensor, slice]]:
        """Pieces of the batch, between rows `bounds`, each of whole blocks.

        Returns:
            For each piece the order of its rows, starts in that order, and the place of its segments among all.
        """
        if bounds not in self._within:
            ends = torch.searchsorted(self.starts, torch.tensor(bounds, device=self.starts.device)).tolist()
            self._within[bounds] = [
                (self.order[row:after] - row, self.starts[s:e] - row, slice(s, e))
                for row, after, s, e in zip(bounds[:-1], bounds[1:], ends[:-1], ends[1:], strict=True)
            ]
        return self._within[bounds]

    def total(self, sums: Tensor) -> Tensor:
        """Sums over segments [segments, C] to sums over patterns [patterns, C]."""
        return F.embedding_bag(self.by_pattern, sums, self.pattern_starts, mode="sum")


def blocks_of(images: int, pixels: int) -> list[tuple[slice, slice]]:
    """Pieces of a batch [images, pixels, C] that a CPU works on one after the other: an image, and pixels of it."""
    return [
        (slice(image, image + 1), slice(start, min(start + BLOCK_ROWS, pixels)))
        for image in range(images)
        for start in range(0, pixels, BLOCK_ROWS)
    ]


class RowsAtPixels:
    """Rows of a table to the pixels that have them; its gradient sums by `Segments`."""

    def __init__(self, index: Tensor, rows: int) -> None:
        """`index`: long [N, h, w] in 0 .. rows - 1."""
        self.index, self.rows = index, rows

    def __call__(self, table: Tensor) -> Tensor:
        """Table [rows, C] to [N, C, h, w], channels-last; differentiable."""
        return _RowsAtPixels.apply(table, self).permute(0, 3, 1, 2)

    @cached_property
    def segments(self) -> Segments:
        """The pixels of each row."""
        return Segments(self.index.flatten(1), self.rows)


class _RowsAtPixels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, lookup: RowsAtPixels) -> Tensor:
        ctx.lookup = lookup
        return F.embedding(lookup.index, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        segments = ctx.lookup.segments
        sums = F.embedding_bag(segments.order, grad.reshape(-1, grad.shape[-1]), segments.starts, mode="sum")
        return segments.total(sums), None


class Patterns:
    """The different windows of one batch at one resolution, for SPADE with kernel k.

    `windows` numbers the different windows of ids; `first` turns rows of mlp_shared's weight (K * T rows, and one of
    zeros) into one hidden row for each of them. `index` numbers the different windows of windows; `second` turns
    products of hidden rows with the taps of mlp_gamma or mlp_beta (`height` * T rows, taps fastest) into one row of
    gamma or beta for each. `height` rows are the `hidden` ones and, behind them, zeros.
    """

    def __init__(self, codes: Tensor, count: int, kernel: int) -> None:
        """`codes`: long [N, h, w] in 0 .. count - 1."""
        self.kernel, self.codes = kernel, count
        self._alone = torch.arange(count, device=codes.device)[:, None]
        self._taps = torch.arange(kernel * kernel, device=codes.device)
        self.windows, members = (codes, self._alone) if kernel == 1 else window_ids(codes, count, kernel)  # [N, h, w]
        self.hidden = len(members)
        self.height = (self.hidden // ROUND_ROWS + 1) * ROUND_ROWS
        self.first = sum_of_taps(members, count)

    def __len__(self) -> int:
        return len(self.second.index)

    @cached_property
    def hidden_at(self) -> RowsAtPixels:
        """Hidden rows to the pixels that have them."""
        return RowsAtPixels(self.windows, self.hidden)

    @cached_property
    def _second(self) -> tuple[Tensor, GatherSum]:
        if self.kernel == 1:
            index, members = self.windows, self._alone
        else:
            index, members = window_ids(self.windows, self.hidden, self.kernel, windows_of=self.codes)
        taps = len(self._taps)  # row `hidden` is what lies outside, where the hidden layer is zero
        return index.flatten(1), GatherSum(members * taps + self._taps, self.height * taps)

    @property
    def index(self) -> Tensor:
        """The pattern of each pixel, long [N, h * w]."""
        return self._second[0]

    @property
    def second(self) -> GatherSum:
        """Products of hidden rows and taps to rows of gamma or beta, one for each pattern."""
        return self._second[1]

    @cached_property
    def segments(self) -> Segments:
        """The pixels of each pattern, for gradients."""
        return Segments(self.index, len(self))


def window_ids(
    ids: Tensor,
    count: int,
    kernel: int,
    stride: int = 1,
    padding: int | None = None,
    windows_of: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Number the different windows of a map.

    Args:
        ids: long [N, h, w] in 0 .. count - 1.
        kernel: side of a window; positions outside the map hold the id `count`.
        padding: as a convolution's; kernel // 2 where it is None.
        windows_of: the ids are themselves numbers that this function gave, for windows of the same kernel over this
            many ids. Overlaps make most of such a window superfluous.

    Returns:
        The number of each window, long [N, h', w'], and the ids in each, long [U, T]. With an odd kernel and stride 1
        windows of one id alone have that id as their number, seen or not.
    """
    padding = kernel // 2 if padding is None else padding
    padded = F.pad(ids, (padding,) * 4, value=count)
    size = [(side + 2 * padding - kernel) // stride + 1 for side in ids.shape[1:]]
    offsets = [(y, x) for y in range(kernel) for x in range(kernel)]

    def at(y: int, x: int) -> Tensor:  # the id at one place of every window, [N, h', w']
        return padded[:, y : y + stride * (size[0] - 1) + 1 : stride, x : x + stride * (size[1] - 1) + 1 : stride]

    telling = offsets if windows_of is None else _telling(kernel, min(ids.shape[1:]))
    known = 0
    if stride == 1 and kernel % 2 == 1 and padding == kernel // 2:
        # Most windows hold one id alone and need not be sorted. Windows of windows do so only where the inner ones do.
        known = count if windows_of is None else windows_of
        middle = at(padding, padding)
        mixed = middle >= known
        for y, x in telling:
            if (y, x) != (padding, padding):
                mixed |= at(y, x) != middle
        where = mixed.reshape(-1).nonzero()[:, 0]
    else:
        where = torch.arange(ids.shape[0] * size[0] * size[1], device=ids.device)
    number, representative = distinct([at(y, x).reshape(-1)[where] for y, x in telling], count + 1)
    numbers = middle.reshape(-1).index_copy(0, where, number + known) if known else number
    where = where[representative]
    image, y, x = where // (size[0] * size[1]), where // size[1] % size[0], where % size[1]
    corner = (image * padded.shape[1] + y * stride) * padded.shape[2] + x * stride
    within = torch.tensor([y * padded.shape[2] + x for y, x in offsets], device=ids.device)
    members = padded.reshape(-1)[corner[:, None] + within]
    if known:
        alone = torch.arange(known, device=ids.device)[:, None].expand(-1, len(offsets))
        members = torch.cat([alone, members])
    return numbers.view(-1, *size), members


def _telling(kernel: int, side: int) -> Sequence[tuple[int, int]]:
    """Places (y, x) of a window of windows that determine the rest.

    Windows at the corners together see every id that the others see. Where a corner lies outside the map they may not:
    for a kernel of 3 that takes a map one pixel wide, for larger kernels any border; there the windows between the
    corners and in the middle see what is missing.
    """
    last = kernel - 1
    places = (0, last) if kernel == 3 and side > 1 else (0, kernel // 2, last)
    return [(y, x) for y in places for x in places]


def distinct(columns: Sequence[Tensor], base: int) -> tuple[Tensor, Tensor]:
    """Number the different rows of a table that is given by its columns.

    Columns are packed into one integer as long as it holds them, exactly and without hashing; what is packed is
    replaced by its rank before it would overflow.

    Args:
        columns: long [n] each, in 0 .. base - 1.

    Returns:
        Each row's number, long [n] in 0 .. U - 1, and for each number a row that has it, long [U].
    """
    key, bound = columns[0], base
    for column in columns[1:]:
        if bound * base >= LARGEST_KEY:
            values, key = torch.unique(key, return_inverse=True)
            bound = len(values)
            assert bound * base < LARGEST_KEY
        key, bound = key * base + column, bound * base
    values, number = torch.unique(key, return_inverse=True)
    rows = torch.arange(len(number), device=number.device)
    return number, torch.empty_like(values).scatter_(0, number, rows)


def starts_of(owner: Tensor, owners: int) -> Tensor:
    """Where each owner's items start once they are sorted by owner: long [owners]."""
    counts = torch.zeros(owners, dtype=torch.long, device=owner.device)  # bincount would wait for the largest
    counts.scatter_add_(0, owner, torch.ones_like(owner))
    return counts.cumsum(0) - counts
