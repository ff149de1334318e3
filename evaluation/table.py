"""Numbers of several sources in one table: measured ones, and published ones."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dominate import tags

from evaluation.confusion import Scores
from evaluation.metrics import METRICS, SHARES
from evaluation.published import TABLE_1

HEADINGS = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "pixel_accuracy_all": "of all pixels",
    "mean_accuracy": "mean class accuracy",
    "fid": "FID",
    "kid": "KID x 1000",
    "segmenter_frechet": "Frechet, segmenter's features",
    "segmenter_kernel": "kernel, segmenter's features",
}
NARROW = 11  # characters of a heading's line in text, so that a table of everything fits a terminal
MISSING = "-"  # not measured, not published, or not found


@dataclass(frozen=True)
class Line:
    """A source, and what it says of METRICS as text."""

    heading: str
    values: Mapping[str, str]
    is_published: bool = False


def measured(heading: str, metrics: Mapping[str, float | None]) -> Line:
    """Values as `Numbers.metrics` has them: shares become percent."""
    known = {k: v for k, v in metrics.items() if k in METRICS and v is not None and math.isfinite(v)}
    return Line(f"{heading}, measured", {name: text_of(name, value) for name, value in known.items()})


def measured_scores(heading: str, scores: Scores) -> Line:
    """Accuracies alone."""
    return measured(heading, {name: getattr(scores, name) for name in SHARES})


def published(data_set: str) -> list[Line]:
    """The paper's figures for a data set, if it has any."""
    lines = []
    for row in TABLE_1.get(data_set, ()):
        values = {"miou": row.miou, "pixel_accuracy": row.accuracy, "fid": row.fid}
        texts = {name: f"{value:.1f}" for name, value in values.items() if value is not None}
        lines.append(Line(f"{row.method}, published", texts, is_published=True))
    return lines


def text_of(name: str, value: float) -> str:
    """A value of METRICS[name] as tables show it."""
    if name in SHARES:
        return f"{100 * value:.2f}"
    if name == "fid":
        return f"{value:.2f}"
    return f"{1000 * value:.3f}" if name == "kid" else f"{value:.4g}"


def columns_of(lines: Sequence[Line]) -> list[str]:
    """METRICS that a line has a value of."""
    return [name for name in METRICS if any(name in line.values for line in lines)]


def as_html(lines: Sequence[Line]) -> str:
    """The table for a page whose style knows `numbers`."""
    table, columns = tags.table(cls="numbers"), columns_of(lines)
    with table:
        with tags.tr():
            for heading in ("", *(HEADINGS[name] for name in columns)):
                tags.th(heading)
        for line in lines:
            with tags.tr(cls="dim" if line.is_published else ""):
                tags.td(line.heading)
                for name in columns:
                    tags.td(line.values.get(name, MISSING))
    return table.render(pretty=False)


def as_text(lines: Sequence[Line]) -> str:
    """The table for a terminal; the words of long headings stand below each other."""
    columns = columns_of(lines)
    stacks = [textwrap.wrap(HEADINGS[name], NARROW) for name in columns]
    height = max(map(len, stacks), default=1)
    stacks = [[""] * (height - len(stack)) + stack for stack in stacks]
    rows = [["", *(stack[i] for stack in stacks)] for i in range(height)]
    rows += [[line.heading, *(line.values.get(name, MISSING) for name in columns)] for line in lines]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        " ".join([f"{heading:{first}}", *(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))])
        for heading, *cells in rows
    )
