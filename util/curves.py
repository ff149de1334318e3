"""Loss curves: what loss_log.txt holds, as small charts in SVG for a web page."""

import math
import re
from html import escape
from pathlib import Path

import numpy as np

LINE = re.compile(r"\(epoch: (\d+), iters: (\d+), time: [^)]*\) (.*)")
HEADER = "====="  # a run, or a part of one that was resumed, starts with such a line
POINTS = 300  # of a curve; more are averaged
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 330, 150, 44, 20, 22  # pixels; the plot is what the margins leave


class LossHistory:
    """The losses of a run by name: images seen so far, and values."""

    def __init__(self) -> None:
        self._points: dict[str, list[tuple[int, float]]] = {}

    @classmethod
    def read(cls, log: Path, epoch_images: int) -> "LossHistory":
        """What a loss_log.txt says; empty where there is none. An epoch has `epoch_images`."""
        history = cls()
        try:
            lines = log.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return history
        fresh = False
        for line in lines:
            if line.startswith(HEADER):
                fresh = True
            elif match := LINE.match(line):
                seen = (int(match[1]) - 1) * epoch_images + int(match[2])
                if fresh:  # went on from a checkpoint, or started anew: what came later before is void
                    history.cut(seen)
                    fresh = False
                history.add(seen, _losses(match[3]))
        return history

    def add(self, seen: int, losses: dict[str, float]) -> None:
        """One more value of each loss; those that are no finite numbers leave a gap."""
        for name, value in losses.items():
            if math.isfinite(value):
                self._points.setdefault(name, []).append((seen, value))

    def cut(self, seen: int) -> None:
        """Forget what was recorded at `seen` images and later."""
        for name, points in self._points.items():
            self._points[name] = [p for p in points if p[0] < seen]

    def curves(self) -> dict[str, np.ndarray]:
        """Each loss as [points, 2]: images, value."""
        return {name: np.array(points) for name, points in self._points.items() if points}

    def charts(self, epoch_images: int) -> str:
        """A small SVG chart of each loss over epochs; those of a discriminator have one scale, to be compared."""
        curves = self.curves()
        rivals = [curve[:, 1] for name, curve in curves.items() if name.startswith("D_")]
        text = ""
        for name, curve in curves.items():
            values = np.concatenate(rivals) if name.startswith("D_") else curve[:, 1]
            text += _chart(name, curve, epoch_images, _limits(values.min(), values.max()))
        return text


def _losses(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\S+): (-?[\d.]+(?:e[-+]?\d+)?)(?=\s|$)", text)}


def _chart(name: str, curve: np.ndarray, epoch_images: int, limits: tuple[float, float]) -> str:
    """Means of up to `POINTS` stretches of a curve, in the band between their extremes."""
    parts = np.array_split(curve, min(POINTS, len(curve)))
    x = np.array([part[:, 0].mean() for part in parts]) / epoch_images
    middle, low, high = (np.array([f(part[:, 1]) for part in parts]) for f in (np.mean, np.min, np.max))
    bottom, top = limits
    last = max(curve[-1, 0] / epoch_images, 1e-9)
    right, floor = WIDTH - 8, HEIGHT - BOTTOM

    def place(xs: np.ndarray, ys: np.ndarray) -> str:
        across = LEFT + xs / last * (right - LEFT)
        down = floor - (ys - bottom) / (top - bottom) * (floor - TOP)
        return " ".join(f"{a:.1f},{d:.1f}" for a, d in zip(across, down, strict=True))

    band = place(np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]]))
    lines, labels = "", ""
    for value in (bottom, (bottom + top) / 2, top):
        y = floor - (value - bottom) / (top - bottom) * (floor - TOP)
        lines += f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        labels += f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">'
        f"{lines}{labels}"
        f'<path class="band" d="M{band}Z"/><path d="M{place(x, middle)}"/>'
        f'<text x="{LEFT}" y="12" font-weight="600">{escape(name)} {curve[-1, 1]:.3g}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 5}">0</text>'
        f'<text x="{right}" y="{HEIGHT - 5}" text-anchor="end">{_epochs(last)}</text></svg>'
    )


def _epochs(number: float) -> str:
    return f"{number:.3g} epochs" if number < 1000 else f"{number:.0f} epochs"


def _limits(low: float, high: float) -> tuple[float, float]:
    """Round numbers around a range, with a round one in the middle."""
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span)) / 2
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return first * step, (last + (last - first) % 2) * step
