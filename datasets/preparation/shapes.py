"""Shapes that people draw on photos, as pixels.

Coordinates are x, y in pixels from the upper left corner of the picture: the pixel in column 3 of row 2 reaches from
(3, 2) to (4, 3). It belongs to a shape if its centre, (3.5, 2.5), lies in it. A centre on the left or upper edge of a
polygon is in it, one on the right or lower edge is not, so that polygons that share an edge neither overlap nor leave a
gap. What an outline that crosses itself goes around twice is outside (even-odd).

Letters: H W size of the picture; sizes in tuples are (width, height).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NOTHING = -1  # in a map of places: no shape covers the pixel
MOST_CROSSINGS = 1 << 22  # of rows and edges that are looked at together
Window = tuple[slice, slice, np.ndarray]  # rows and columns of a picture, and what of them is covered, bool


@dataclass(frozen=True)
class Polygon:
    """All that is in one of the outlines, each [n, 2]."""

    outlines: tuple[np.ndarray, ...]

    def covered(self, size: tuple[int, int], line_width: float) -> Window:
        if len(self.outlines) == 1:
            return _inside(self.outlines[0], size)
        corners = np.concatenate([np.zeros((0, 2)), *self.outlines])
        return _united((_inside(outline, size) for outline in self.outlines), corners, 0, size)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse that is turned clockwise."""

    center: tuple[float, float]
    radii: tuple[float, float]
    degrees: float = 0.0

    def covered(self, size: tuple[int, int], line_width: float) -> Window:
        (x, y), reach, turn = self.center, max(self.radii), math.radians(self.degrees)
        rows, columns, right, down = _centres((x - reach, y - reach), (x + reach, y + reach), size)
        if min(self.radii) <= 0:
            return rows, columns, np.zeros((len(down), len(right)), bool)
        right, down = right - x, down[:, None] - y
        along = (right * math.cos(turn) + down * math.sin(turn)) / self.radii[0]
        across = (down * math.cos(turn) - right * math.sin(turn)) / self.radii[1]
        return rows, columns, along**2 + across**2 <= 1


@dataclass(frozen=True)
class Line:
    """A line through points [n, 2]. It covers what is half a line's width away at most: nothing without a width."""

    points: np.ndarray

    def covered(self, size: tuple[int, int], line_width: float) -> Window:
        reach = line_width / 2
        if not reach or not len(self.points):
            return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
        pairs = zip(self.points[:-1], self.points[1:], strict=True)
        return _united((_near(start, end, reach, size) for start, end in pairs), self.points, reach, size)


@dataclass(frozen=True)
class Runs:
    """Pixels of a box, row by row (or column by column): numbers of those that are out, in, out, in, ..."""

    counts: np.ndarray  # their sum is width x height
    left: int
    top: int
    width: int
    height: int
    by_columns: bool = False

    def covered(self, size: tuple[int, int], line_width: float) -> Window:
        flat = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        mask = flat.reshape(self.width, self.height).T if self.by_columns else flat.reshape(self.height, self.width)
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = min(size[0], self.left + self.width), min(size[1], self.top + self.height)
        inside = mask[top - self.top : max(0, bottom - self.top), left - self.left : max(0, right - self.left)]
        return slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1]), inside


Area = Polygon | Ellipse | Line | Runs


@dataclass(frozen=True)
class Shape:
    """What somebody drew around an object, or a part of one."""

    label: str
    area: Area
    group: int | str | None = None  # shapes of one label and group are one object
    level: int = 0  # shapes of higher levels lie on top


def box(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Polygon:
    """A rectangle, turned clockwise about its centre."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    if degrees:
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        centre = corners.mean(0)
        corners = (corners - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre
    return Polygon((corners,))


def runs_of(mask: np.ndarray, left: int, top: int) -> Runs:
    """A mask, bool [h, w], whose upper left pixel lies in column `left` of row `top`."""
    edges = np.flatnonzero(np.diff(mask.reshape(-1).astype(np.int8), prepend=0)) if mask.size else np.zeros(0, int)
    counts = np.diff(edges, prepend=0, append=mask.size)
    return Runs(counts, left, top, mask.shape[1], mask.shape[0])


@dataclass(frozen=True)
class Order:
    """What is drawn first, and so lies under what is drawn later."""

    first: Sequence[str] = ()  # labels, the lowest first, under all others
    as_listed: bool = False  # on one level shapes are drawn as they are listed; else larger ones first
    line_width: float = 0.0


def draw(
    shapes: Sequence[Shape], names: Mapping[str, str], size: tuple[int, int], order: Order
) -> tuple[np.ndarray, list[int]]:
    """Which shape every pixel shows.

    Lowest are the classes of `order.first`, then come the shapes by level; of those that are alike in both, larger
    ones, by their pixels in the picture, lie under smaller ones, or earlier ones under later ones.

    Args:
        names: what the labels are called in `order.first`.

    Returns:
        Places in `shapes`, int32 [H, W], NOTHING where none is; and how many pixels each shape covers, seen or not.
    """
    ranks = {name: rank for rank, name in enumerate(order.first)}
    covered = [int(shape.area.covered(size, order.line_width)[2].sum()) for shape in shapes]

    def key(place: int) -> tuple[int, int, int, int]:
        shape = shapes[place]
        rank = ranks.get(names[shape.label], len(ranks))
        return rank, shape.level, 0 if order.as_listed else -covered[place], place

    places = np.full(size[::-1], NOTHING, np.int32)
    for place in sorted(range(len(shapes)), key=key):
        rows, columns, mask = shapes[place].area.covered(size, order.line_width)
        places[rows, columns][mask] = place
    return places, covered


def _inside(outline: np.ndarray, size: tuple[int, int]) -> Window:
    """The pixels whose centres are in an outline [n, 2]: how often one crosses it on the way from the left is odd."""
    if len(outline) < 3:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
    rows, columns, right, _ = _centres(outline.min(0), outline.max(0), size)
    crossed = np.zeros((rows.stop - rows.start, len(right) + 1), np.uint8)  # 256 times are 0, and as even
    edges = np.concatenate([outline, np.roll(outline, -1, 0)], 1)  # [n, 4]: x y x y
    most = max(1, MOST_CROSSINGS // max(1, len(crossed)))
    for some in (edges[start : start + most] for start in range(0, len(edges), most)):
        (x0, y0, x1, y1), rises = some.T, some[:, 1] < some[:, 3]
        first, last = _first_centre(np.where(rises, y0, y1)), _first_centre(np.where(rises, y1, y0))
        first, last = first.clip(rows.start, rows.stop), last.clip(rows.start, rows.stop)
        spans = last - first
        edge = np.repeat(np.arange(len(some)), spans)  # once for each row of centres that it crosses
        row = np.arange(len(edge)) - np.repeat(np.cumsum(spans) - spans - first, spans)
        x = x0[edge] + (row + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
        column = _first_centre(x).clip(columns.start, columns.stop)
        np.add.at(crossed, (row - rows.start, column - columns.start), 1)
    return rows, columns, (np.cumsum(crossed[:, :-1], 1, np.uint8) & 1).astype(bool)


def _near(start: np.ndarray, end: np.ndarray, reach: float, size: tuple[int, int]) -> Window:
    """The pixels whose centres are `reach` or less from the line between two points."""
    rows, columns, right, down = _centres(np.minimum(start, end) - reach, np.maximum(start, end) + reach, size)
    (dx, dy), right, down = end - start, right - start[0], down[:, None] - start[1]
    along = ((right * dx + down * dy) / max(dx * dx + dy * dy, 1e-12)).clip(0, 1)
    return rows, columns, (right - along * dx) ** 2 + (down - along * dy) ** 2 <= reach * reach


def _centres(
    least: Sequence[float], most: Sequence[float], size: tuple[int, int]
) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Rows and columns of the picture that may have centres between two corners, and where these are: [w], [h]."""
    spans = []
    for axis in (0, 1):
        start = int(np.clip(_first_centre(least[axis]), 0, size[axis]))
        spans.append(slice(start, int(np.clip(_first_centre(most[axis]) + 1, start, size[axis]))))
    columns, rows = spans
    return rows, columns, np.arange(columns.start, columns.stop) + 0.5, np.arange(rows.start, rows.stop) + 0.5


def _first_centre(at: np.ndarray | float) -> np.ndarray:
    """The first pixel of a row or column whose centre is not before `at`."""
    return np.ceil(np.asarray(at) - 0.5).astype(np.int64)


def _united(windows: Iterable[Window], points: np.ndarray, reach: float, size: tuple[int, int]) -> Window:
    """All that any of the windows covers, which are no farther than `reach` from points [n, 2]."""
    if not len(points):
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
    rows, columns, right, down = _centres(points.min(0) - reach, points.max(0) + reach, size)
    mask = np.zeros((len(down), len(right)), bool)
    for r, c, part in windows:
        mask[r.start - rows.start : r.stop - rows.start, c.start - columns.start : c.stop - columns.start] |= part
    return rows, columns, mask
