"""Convolutions of a label map, and of averages of it, without its dense form.

A convolution of a one-hot map is a sum of rows of its weight, and one of averaged pixels an average of such sums. Like
SPADE's tables both are computed once for each different window.

Letters: N batch, S semantic channels, C channels, h w size, K codes, T taps of the convolution, U different windows.
"""

from torch import Tensor

from models.networks.patterns import GatherSum, RowsAtPixels, sum_of_taps, window_ids, with_outside


class LayoutPyramid:
    """A map of ids [N, h, w], and its halves by average pooling (3 x 3, stride 2, padding not counted)."""

    def __init__(self, ids: Tensor, members: Tensor | None = None, finer: "LayoutPyramid | None" = None) -> None:
        """`ids`: long; `members` [U, 9]: the finer ids that each of these is the average of."""
        self.ids, self.finer = ids, finer
        self._windows: dict[tuple[int, int, int], tuple[GatherSum, RowsAtPixels]] = {}
        if finer is not None:
            self.count = len(members)
            self._sum = GatherSum(members, finer.count + 1)
            self._inside = (members < finer.count).sum(1, keepdim=True)

    @classmethod
    def of_codes(cls, codes: Tensor, count: int) -> "LayoutPyramid":
        """The finest: codes [N, H, W] in 0 .. count - 1."""
        pyramid = cls(codes)
        pyramid.count = count
        return pyramid

    def halve(self) -> "LayoutPyramid":
        """The same at half the size. It knows this one and not the reverse, so that both are freed at once."""
        ids, members = window_ids(self.ids, self.count, 3, stride=2, padding=1)
        return LayoutPyramid(ids, members, self)

    def convolve(self, rows: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        """The convolution of what the ids stand for.

        Args:
            rows: what each code of the finest map adds at each tap, [K, T * C].

        Returns:
            [N, C, h', w'], differentiable in `rows`.
        """
        key = kernel, stride, padding
        if key not in self._windows:
            self._windows[key] = self._find_windows(*key)
        taps, windows = self._windows[key]
        table = self._averages(rows).reshape(self.count * kernel * kernel, -1)
        return windows(taps(with_outside(table)))  # a row for each different window, to where they are

    def _averages(self, rows: Tensor) -> Tensor:
        """What each id adds at each tap, [count, T * C]."""
        if self.finer is None:
            return rows
        return self._sum(with_outside(self.finer._averages(rows))) / self._inside

    def _find_windows(self, kernel: int, stride: int, padding: int) -> tuple[GatherSum, RowsAtPixels]:
        numbers, members = window_ids(self.ids, self.count, kernel, stride, padding)
        return sum_of_taps(members, self.count), RowsAtPixels(numbers, len(members))
