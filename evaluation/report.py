"""The page of an evaluation: the numbers beside published ones, each class, what is taken for what, and examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dominate import tags

from evaluation.confusion import Scores
from evaluation.evaluator import Numbers
from evaluation.segmenters.kind import Kind
from evaluation.table import as_html, measured, measured_scores, published
from util.bars import BARS_STYLE, Bar, bars
from util.errors import first_few
from util.files import write_atomically
from util.html import Picture, Row, page_name, render_page
from util.pictures import save_picture

SHOWN = 4  # images of the best, and of the worst
# Classes at most, by what a page may hold (`PAGE_NODES`):
NAMED = 30  # that the confusion matrix names; of more it is a picture
WRITTEN = 20  # of which its cells have their shares as text
CELL = 4  # pixels of a class in the picture of the confusion matrix
DARK_FROM = 0.6  # shares above it are written in white
DARK = np.array([23, 78, 166])  # of a cell that has all of its row
STYLE = """
.numbers { border-collapse: collapse; align-self: flex-start; font-variant-numeric: tabular-nums }
.numbers th, .numbers td { padding: .25em .9em .25em 0; text-align: right; border-bottom: 1px solid var(--line) }
.numbers th:first-child, .numbers td:first-child { text-align: left }
.numbers .dim td { color: var(--dim) }
.confusion { border-collapse: collapse; font-size: .85em; font-variant-numeric: tabular-nums }
.confusion td { min-width: 1.5em; height: 1.5em; padding: 0 .2em; border: 1px solid #ddd }
.confusion td { text-align: center; color: #111 }
.confusion .dark { color: #fff }
.confusion .none { color: inherit; font-style: italic }
.confusion th { font-weight: 400; padding: 0 .3em }
.confusion th:first-child { max-width: 14em; padding-right: .6em; text-align: left }
.confusion th:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.curves > div { max-width: 100%; overflow-x: auto }
"""


@dataclass(frozen=True)
class Example:
    """One image of the evaluation; pictures uint8 [H, W, 3] by what the page calls them, the layout first."""

    name: str
    accuracy: float
    pictures: dict[str, np.ndarray]


def write_report(
    folder: Path,
    title: str,
    about: Sequence[str],
    numbers: Numbers,
    kind: Kind | None,
    data_set: str,
    examples: Sequence[Example],
    width: int,
) -> Path:
    """Write index.html and its pictures; returns it.

    Args:
        about: lines of text under the title.
        kind: the segmenter's, where there was one.
        data_set: a key of `TABLE_1`, or another name.
        examples: the worst first, the best last.
        width: pixels that a picture is wide on the page.
    """
    figure = f"<style>{STYLE}{BARS_STYLE}</style>{_numbers(numbers, data_set)}"
    rows = []
    if kind is not None and numbers.accuracies is not None:
        figure += _classes(kind.names, numbers.accuracies, numbers.accuracies_of_photos)
        shares, present = shares_read(numbers.matrix)
        if 0 < len(present) <= NAMED:
            figure += matrix_table(shares, [kind.names[i] for i in present])
        elif present:
            rows.append(_matrix(folder, [kind.names[i] for i in present], shares, width))
    for number, example in enumerate(examples):
        which = "worst" if number < len(examples) / 2 else "best"
        share = "no labelled pixel" if math.isnan(example.accuracy) else f"{100 * example.accuracy:.1f} % read right"
        rows.append(Row(f"{which}: {example.name}, {share}", _pictures(folder, example, width)))
    page = render_page(title, about, rows, width, figure=figure)
    write_atomically(folder / page_name(1), page)
    return folder / page_name(1)


def _pictures(folder: Path, example: Example, width: int) -> list[Picture]:
    return [
        save_picture(folder, caption, example.name, pixels, caption, width, flat=caption in ("layout", "read"))
        for caption, pixels in example.pictures.items()
    ]


def _matrix(folder: Path, names: Sequence[str], shares: np.ndarray, width: int) -> Row:
    pixels = matrix_picture(shares)
    picture = save_picture(folder, "confusion", "matrix", pixels, f"{len(names)} classes", 2 * width, flat=True)
    few = first_few([name.split(";")[0] for name in names])
    return Row(f"a row for each class ({few}): what its pixels were read as, the darker the more", [picture])


def chosen(by_place: dict[int, float]) -> list[int]:
    """Places of the worst images and the best, the worst first; those without a labelled pixel do not count."""
    places = sorted((p for p, share in by_place.items() if not math.isnan(share)), key=lambda p: (by_place[p], p))
    return places if len(places) <= 2 * SHOWN else places[:SHOWN] + places[-SHOWN:]


def shares_read(matrix: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """For classes that occur in layouts or were read: the share of each one's pixels that was read as each other.

    Args:
        matrix: pixels [K, K], true class by read class.

    Returns:
        Shares [k, k] in 0 .. 1, and the classes; a class that occurs in no layout has zeros.
    """
    present = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    part = matrix[np.ix_(present, present)].astype(float)
    return part / np.maximum(1, part.sum(1, keepdims=True)), present.tolist()


def matrix_picture(shares: np.ndarray) -> np.ndarray:
    """Shares [k, k] as a picture, uint8 [4 k, 4 k, 3], the darker the more."""
    return np.kron(_colours(shares), np.ones((CELL, CELL, 1), np.uint8))


def _colours(shares: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] for shares of any shape."""
    # The root, so that small shares can be seen.
    return (255 + np.sqrt(shares)[..., None] * (DARK - 255)).round().astype(np.uint8)


def matrix_table(shares: np.ndarray, names: Sequence[str]) -> str:
    """Shares [k, k] as a table with the names of the k classes, at most NAMED."""
    short = [name.split(";")[0] for name in names]
    box = tags.div(cls="classes")
    with box:
        tags.h2("What the pixels of each class (rows) were read as (columns), in percent")
        with tags.table(cls="confusion"):
            with tags.tr():
                tags.th()
                for number, name in enumerate(names, start=1):
                    tags.th(number, title=name)
            for number, (name, row) in enumerate(zip(names, shares, strict=True), start=1):
                with tags.tr():
                    tags.th(f"{number} {short[number - 1]}", title=name)
                    if not row.any():
                        tags.td("in no layout", cls="none", colspan=len(names))
                    for share, other in zip(row, short, strict=True) if row.any() else ():
                        _cell(share, f"{short[number - 1]} read as {other}", is_written=len(names) <= WRITTEN)
    return box.render(pretty=False)


def _cell(share: float, what: str, is_written: bool) -> None:
    percent = 100 * share
    colour = ",".join(map(str, _colours(np.array(share))))
    dark = {"cls": "dark"} if share > DARK_FROM else {}
    text = f"{percent:.0f}" if is_written and percent >= 0.5 else ""
    tags.td(text, title=f"{what}: {percent:.1f} %", style=f"background:rgb({colour})", **dark)


def _numbers(numbers: Numbers, data_set: str) -> str:
    """The table of this evaluation's numbers, and published ones."""
    lines = [measured(f"{numbers.images} images", numbers.metrics())]
    if numbers.accuracies_of_photos is not None:
        lines.append(measured_scores("their photos", numbers.accuracies_of_photos))
    if numbers.accuracies_of_others is not None:
        lines.append(measured_scores("the images against layouts of others", numbers.accuracies_of_others))
    return as_html([*lines, *published(data_set)])


def _classes(names: Sequence[str], scores: Scores, of_photos: Scores | None) -> str:
    """A bar for each class that occurs, the highest IoU first; under it a thin one, of the photos."""
    order = sorted((i for i, iou in enumerate(scores.iou) if not math.isnan(iou)), key=lambda i: -scores.iou[i])
    thin = [math.nan if of_photos is None else of_photos.iou[i] for i in order]
    entries = [
        Bar(names[i], scores.iou[i], f"{100 * scores.iou[i]:.1f}", None if math.isnan(other) else other)
        for i, other in zip(order, thin, strict=True)
    ]
    return bars("IoU of each class" + (", and thin that of the photos" if of_photos else ""), entries)
