"""Loss curves: what loss_log.txt holds, as small charts in SVG for a web page."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

LINE = re.compile(r"\(epoch: (\d+), iters: (\d+), time: [^)]*\) (.*)")
VALUE = re.compile(r"(\S+): (-?(?:[\d.]+(?:e[-+]?\d+)?|inf)|nan)(?=\s|$)")
HEADER = re.compile(r"=====.*?(?:from image (\d+))?\) =+$")  # of a run, or of a part of one that was resumed
POINTS = 300  # of a curve at least, once there are so many values; twice as many at most
MARKED = 30  # points of a curve at most that are dots too: of so few, where they are tells how sparse they are
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 330, 150, 44, 20, 22  # pixels; the plot is what the margins leave


def read_losses(log: Path, epoch_images: int, done_images: int) -> list[tuple[int, dict[str, float]]]:
    """What a loss_log.txt says of the run that stands at `done_images`: images seen, and the losses by name.

    What was recorded later, or before the run went back to an earlier checkpoint, is left out. An epoch has
    `epoch_images`. Empty where there is no file.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    recorded: list[tuple[int, dict[str, float]]] = []
    fresh = False  # whether a part began, and its header does not say where: logs of the released code
    for line in lines:
        if header := HEADER.match(line):
            fresh = header[1] is None
            _cut(recorded, math.inf if fresh else int(header[1]))
        elif match := LINE.match(line):
            seen = (int(match[1]) - 1) * epoch_images + int(match[2])
            if fresh:
                _cut(recorded, seen - 1)
                fresh = False
            recorded.append((seen, {name: float(value) for name, value in VALUE.findall(match[3])}))
    return [(seen, losses) for seen, losses in recorded if seen <= done_images]


def _cut(recorded: list[tuple[int, dict[str, float]]], done_images: float) -> None:
    """Forget what came later than the point at which a run went on, or started anew: it is void."""
    while recorded and recorded[-1][0] > done_images:
        recorded.pop()


@dataclass
class Stretch:
    """Values in a row: how many, where, and the sum and extremes of those that are finite."""

    values: int
    seen: float  # sum of images
    finite: int
    total: float
    low: float
    high: float

    @classmethod
    def of(cls, seen: int, value: float) -> "Stretch":
        known = math.isfinite(value)
        return cls(
            1, seen, int(known), value if known else 0.0, value if known else math.inf, value if known else -math.inf
        )

    def join(self, other: "Stretch") -> None:
        """Take in the values that follow."""
        self.values += other.values
        self.seen += other.seen
        self.finite += other.finite
        self.total += other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


class Curve:
    """One loss over a run, in stretches of equally many values, so that a chart costs the same after days."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self.last = math.nan
        self._length = 1  # values of a stretch

    def add(self, seen: int, value: float) -> None:
        """One more value, finite or not, after `seen` images."""
        self.last = value
        new = Stretch.of(seen, value)
        if self.stretches and self.stretches[-1].values < self._length:
            self.stretches[-1].join(new)
        else:
            self.stretches.append(new)
        if len(self.stretches) > 2 * POINTS and self.stretches[-1].values == self._length:
            self._halve()

    def _halve(self) -> None:
        pairs, self.stretches = self.stretches, []
        self._length *= 2
        for stretch in pairs:
            if self.stretches and self.stretches[-1].values < self._length:
                self.stretches[-1].join(stretch)
            else:
                self.stretches.append(stretch)

    def pieces(self) -> Iterator[list[Stretch]]:
        """Stretches that follow each other without one that has no finite value."""
        for known, group in itertools.groupby(self.stretches, lambda stretch: stretch.finite > 0):
            if known:
                yield list(group)

    def limits(self) -> Iterator[float]:
        """Its extremes; nothing where no value is finite."""
        for piece in self.pieces():
            yield min(stretch.low for stretch in piece)
            yield max(stretch.high for stretch in piece)


class LossHistory:
    """The losses of a run by name."""

    def __init__(self, recorded: Iterable[tuple[int, dict[str, float]]] = ()) -> None:
        """Starts with what `read_losses` gives."""
        self.curves: dict[str, Curve] = {}
        for seen, losses in recorded:
            self.add(seen, losses)

    def add(self, seen: int, losses: dict[str, float]) -> None:
        """One more value of each loss, after `seen` images; one that is no finite number leaves a gap."""
        for name, value in losses.items():
            self.curves.setdefault(name, Curve()).add(seen, value)

    def charts(self, epoch_images: int, done_images: int) -> str:
        """A small SVG chart of each loss over epochs; those of a discriminator have one scale, to be compared.

        All end at `done_images`, whenever their last value was recorded, so that charts of one page align.
        """
        rivals = [limit for name, curve in self.curves.items() if name.startswith("D_") for limit in curve.limits()]
        text = ""
        for name, curve in self.curves.items():
            limits = rivals if name.startswith("D_") else list(curve.limits())
            text += _chart(name, curve, epoch_images, done_images, *round_limits(limits or [0.0]))
        return text


def _chart(name: str, curve: Curve, epoch_images: int, done_images: int, bottom: float, top: float) -> str:
    """Means of the curve's stretches, in the band between their extremes."""
    last = max(done_images / epoch_images, 1e-9)
    right, floor = WIDTH - 8, HEIGHT - BOTTOM

    def down(y: float) -> float:
        return floor - (y - bottom) / (top - bottom) * (floor - TOP)

    def place(stretch: Stretch, y: float) -> str:
        return f"{LEFT + stretch.seen / stretch.values / epoch_images / last * (right - LEFT):.1f},{down(y):.1f}"

    bands, means, dots = "", "", ""
    for piece in curve.pieces():
        bands += f"M{' '.join([*(place(s, s.low) for s in piece), *(place(s, s.high) for s in piece[::-1])])}Z"
        points = [place(s, s.total / s.finite) for s in piece]
        means += f"M{' '.join(points)}"
        if len(piece) == 1 or len(curve.stretches) <= MARKED:  # one alone has no line
            dots += "".join(f"M{point}h0" for point in points)
    lines, labels = "", ""
    for y in (bottom, (bottom + top) / 2, top):
        lines += f'<line x1="{LEFT}" y1="{down(y):.1f}" x2="{right}" y2="{down(y):.1f}"/>'
        labels += f'<text x="{LEFT - 5}" y="{down(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">'
        f'{lines}{labels}<path class="band" d="{bands}"/><path d="{means}"/>'
        f'<path style="stroke-width:5" d="{dots}"/>'
        f'<text x="{LEFT}" y="12" font-weight="600">{escape(name)} {curve.last:.3g}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 5}">0</text>'
        f'<text x="{right}" y="{HEIGHT - 5}" text-anchor="end">{_epochs(last)}</text></svg>'
    )


def _epochs(number: float) -> str:
    text = f"{number:.3g}" if number < 1000 else f"{number:.0f}"
    return f"{text} epoch" if text == "1" else f"{text} epochs"


def round_limits(values: list[float]) -> tuple[float, float]:
    """Round numbers around these, for a scale, with a round one in the middle."""
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span)) / 2
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return first * step, (last + (last - first) % 2) * step
