"""Web pages of pictures: each a single file, with nothing loaded from elsewhere but the pictures beside it.

Rows of pictures, and under each the classes it shows; util/viewer/ has the style and the script that every page holds.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import dominate
from dominate import tags
from dominate.util import raw, text

from util.class_table import PresentClass
from util.files import write_atomically

VIEWER = Path(__file__).parent / "viewer"
PAGE_NODES = 1800  # DOM nodes of rows, text included, that a page may have
PAGE_ROWS = 50
NODES_OF_PICTURE = 5
COLUMNS = 10  # pictures beside each other; longer rows go on below
KEYS = (("Enter", "full size"), ("Space", "next picture"), ("← →", "other rows, pages"), ("Esc", "back"))


@dataclass(frozen=True)
class Picture:
    """A picture of a row; links are relative to the page's folder."""

    caption: str
    link: str
    thumbnail: str
    size: tuple[int, int]  # width and height in pixels
    flat: bool = False  # a label map: shown without smoothing


@dataclass(frozen=True)
class Row:
    """A heading, pictures beside each other, and the classes that the first of them shows."""

    title: str
    pictures: Sequence[Picture]
    legend: Sequence[PresentClass] = field(default=())

    @property
    def nodes(self) -> int:
        """DOM nodes that it takes on a page, text included."""
        return 4 + NODES_OF_PICTURE * len(self.pictures) + (1 + 3 * len(self.legend) if self.legend else 0)


def pages_of(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in pages that a browser shows at once; there is at least one."""
    pages: list[list[Row]] = [[]]
    nodes = 0
    for row in itertools.chain.from_iterable(map(_pieces, rows)):
        if pages[-1] and (nodes + row.nodes > PAGE_NODES or len(pages[-1]) == PAGE_ROWS):
            pages.append([])
            nodes = 0
        pages[-1].append(row)
        nodes += row.nodes
    return pages


def _pieces(row: Row) -> list[Row]:
    """The row, in several of that title where it is longer than a page."""
    room = max(1, (PAGE_NODES - dataclasses.replace(row, pictures=()).nodes) // NODES_OF_PICTURE)
    if len(row.pictures) <= room:
        return [row]
    parts = [row.pictures[start : start + room] for start in range(0, len(row.pictures), room)]
    return [dataclasses.replace(row, title=f"{row.title} ({i})", pictures=part) for i, part in enumerate(parts, 1)]


def render_page(
    title: str,
    about: Sequence[str],
    rows: Sequence[Row],
    width: int,
    pages: Sequence[tuple[str, str]] = (),
    here: str = "",
    figure: str = "",
) -> bytes:
    """One page.

    Args:
        about: lines of text under the title.
        width: pixels that a picture is wide, or less where the row does not fit the window.
        pages: all pages as (caption, file name); `here` is this one's file name.
        figure: HTML between the text and the rows.
    """
    page = dominate.document(title=title)
    page["lang"] = "en"
    with page.head:
        tags.meta(charset="utf-8")
        tags.meta(name="viewport", content="width=device-width")
        tags.style(raw((VIEWER / "viewer.css").read_text(encoding="utf-8")))
    with page.body:
        tags.h1(title)
        for line in about:
            with tags.p(cls="about"):
                _words(line)
        with tags.p(cls="keys"):
            for key, what in KEYS:
                tags.kbd(key)
                tags.span(f" {what}  ")
        if figure:
            tags.div(raw(figure), cls="curves")
        _navigation(pages, here)
        for row in rows:
            _row(row, width)
        if len(rows) > 3:
            _navigation(pages, here, again=True)
        tags.script(raw((VIEWER / "viewer.js").read_text(encoding="utf-8")))
    return page.render(pretty=False).encode("utf-8", "replace")  # names of files may be no UTF-8


def write_pages(folder: Path, title: str, about: Sequence[str], rows: Sequence[Row], width: int) -> Path:
    """Write index.html, page_2.html, ... in `folder`, and remove pages of a longer gallery from before.

    Returns:
        The first page.
    """
    pages = pages_of(rows)
    names = [page_name(number) for number in range(1, len(pages) + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    links = [(str(number), name) for number, name in enumerate(names, start=1)]
    for content, name in zip(pages, names, strict=True):
        write_atomically(folder / name, render_page(title, about, content, width, links, name))
    for path in folder.glob("page_*.html"):
        if path.name not in names and re.fullmatch(r"page_[0-9]+\.html", path.name):
            path.unlink()
    return folder / names[0]


def page_name(number: int) -> str:
    """The file of page `number`, from 1 on."""
    return "index.html" if number == 1 else f"page_{number}.html"


def _navigation(pages: Sequence[tuple[str, str]], here: str, again: bool = False) -> None:
    """Links to the pages: the neighbours, the first and last, and those around this one."""
    if len(pages) < 2:
        return
    place = [name for _, name in pages].index(here)
    near = {0, len(pages) - 1, *range(place - 3, place + 4), *range(9, len(pages), max(10, len(pages) // 10))}
    with tags.nav():
        for rel, other in (("prev", place - 1), ("next", place + 1)):
            if 0 <= other < len(pages):
                # The script looks for these; one of each is enough.
                which = {} if again else {"rel": rel}
                tags.a("←" if rel == "prev" else "→", href=_url(pages[other][1]), **which)
        for i in sorted(near & set(range(len(pages)))):
            caption, name = pages[i]
            tags.b(caption) if i == place else tags.a(caption, href=_url(name))


def _words(line: str) -> None:
    """Text whose flags a browser does not break after their hyphens."""
    for part in re.split(r"(?<!\S)(-\S+)", line):
        if part.startswith("-"):
            tags.span(part)
        elif part:
            text(part)


def _row(row: Row, width: int) -> None:
    columns = max(1, min(len(row.pictures), COLUMNS))  # in a grid that shrinks to fit the window
    with tags.section():
        tags.h2(row.title)
        with tags.div(cls="strip", style=f"--n:{columns};--w:{width}px"):
            for picture in row.pictures:
                height = round(width * picture.size[1] / picture.size[0])
                with tags.figure():
                    with tags.a(href=_url(picture.link)):
                        tags.img(
                            src=_url(picture.thumbnail),
                            width=width,
                            height=height,
                            loading="lazy",
                            alt=f"{row.title}: {picture.caption}",
                            **{"cls": "flat"} if picture.flat else {},
                        )
                    tags.figcaption(picture.caption)
        if row.legend:
            with tags.ul(cls="legend"):
                for entry in row.legend:
                    with tags.li():
                        tags.i(style=f"background:rgb{entry.color}")
                        text(f"{entry.name} {_percent(entry.share)}")


def _url(path: str) -> str:
    """A relative path as a link, byte for byte as the file system has it."""
    return quote(os.fsencode(path))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"
