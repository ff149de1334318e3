"""Web pages of pictures: one file, nothing loaded from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import dominate
from dominate import tags

from util.files import write_atomically

STYLE = """
body { font: 15px system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
h2 { font-size: 1em; margin: 1.5em 0 .4em; font-weight: 600 }
.row { display: flex; flex-wrap: wrap; gap: 10px }
figure { margin: 0 }
figcaption { color: #666; font-size: .85em }
img { display: block; height: auto }
"""


@dataclass(frozen=True)
class Row:
    """A heading and pictures beside each other: (caption, path relative to the page)."""

    title: str
    pictures: Sequence[tuple[str, str]]


def write_page(path: Path, title: str, rows: Sequence[Row], width: int) -> None:
    """Write a page of rows; pictures are `width` pixels wide and link to their files."""
    page = dominate.document(title=title)
    with page.head:
        tags.meta(charset="utf-8")
        tags.style(STYLE)
    with page.body:
        tags.h1(title)
        for row in rows:
            tags.h2(row.title)
            with tags.div(cls="row"):
                for caption, link in row.pictures:
                    with tags.figure():
                        with tags.a(href=quote(link)):
                            tags.img(src=quote(link), width=width, loading="lazy", alt=caption)
                        tags.figcaption(caption)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.render().encode())
