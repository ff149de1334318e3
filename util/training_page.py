"""The web page of a training run: loss curves, and rows of pictures with the newest first.

The oldest rows of a page that has become long move to a page of their own, which is written again only when the one
after it comes, so that a row costs the same after days as in the beginning. Every row is a line of pictures.jsonl, from
which a resumed run goes on.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from util.class_table import PresentClass
from util.files import write_atomically
from util.html import PAGE_NODES, Picture, Row, page_name, render_page

ROWS = 10  # of an older page; the first page shows fewer than twice as many
FIRST_NODES = PAGE_NODES - 300  # DOM nodes of the first page's rows: it has the curves too
INDEX = "pictures.jsonl"


class TrainingPage:
    """web/index.html and older_1.html, older_2.html, ... from the oldest on."""

    def __init__(self, folder: Path, title: str, width: int, seen: int) -> None:
        """Goes on at `seen` images: rows of later ones, which a run that is now void had made, are dropped.

        Nothing is written before the first row comes: until then the pages are those of the run that was.
        """
        self.folder, self._title, self._width = folder, title, width
        self._recent: list[Row] = []  # on the first page, the newest last
        self._moved: list[Row] = []  # those of the newest older page
        self._older = 0  # how many older pages there are
        self._kept: list[str] | None = self._load(seen)  # lines of pictures.jsonl, until they are written again

    def add(self, seen: int, row: Row, about: Sequence[str], figure: str) -> None:
        """Show a row made after `seen` images, under the text `about` and the HTML `figure`."""
        self._begin()
        with open(self.folder / INDEX, "a", encoding="utf-8") as file:
            file.write(_to_json(seen, row) + "\n")
        before = self._moved
        if self._append(row):
            if self._older > 1:  # which now has a newer neighbour
                self._write_older(self._older - 1, before)
            self._write_older(self._older, self._moved)
        self.refresh(about, figure)

    def refresh(self, about: Sequence[str], figure: str) -> None:
        """Show the same rows under another text and figure."""
        self._begin()
        content = render_page(
            self._title, about, self._recent[::-1], self._width, self._pages(), here=page_name(1), figure=figure
        )
        write_atomically(self.folder / page_name(1), content)

    def _begin(self) -> None:
        """Before the first change: let the files be those of the run that goes on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._kept is not None:
            self._start(self._kept)
            self._kept = None

    def _append(self, row: Row) -> bool:
        """Whether rows have moved to a new older page."""
        self._recent.append(row)
        if len(self._recent) < 2 * ROWS and sum(r.nodes for r in self._recent) <= FIRST_NODES:
            return False
        half = len(self._recent) // 2
        if not half:  # a single row that is longer than a page
            return False
        self._moved, self._recent = self._recent[:half], self._recent[half:]
        self._older += 1
        return True

    def _write_older(self, number: int, rows: list[Row]) -> None:
        content = render_page(self._title, [], rows[::-1], self._width, self._pages(), here=_older(number))
        write_atomically(self.folder / _older(number), content)

    def _pages(self) -> list[tuple[str, str]]:
        return [("newest", page_name(1)), *((str(n), _older(n)) for n in range(self._older, 0, -1))]

    def _load(self, seen: int) -> list[str]:
        """Take in the rows up to `seen` images; returns their lines."""
        kept: list[str] = []
        try:
            lines = (self.folder / INDEX).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return kept
        for line in lines:
            try:
                made_at, row = _from_json(line)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                break  # cut short when the run was
            if made_at > seen:
                break
            kept.append(line)
            self._append(row)
        return kept

    def _start(self, kept: list[str]) -> None:
        """Let the files say what `_load` has kept, and nothing that came later."""
        write_atomically(self.folder / INDEX, "".join(line + "\n" for line in kept).encode())
        if self._older:
            self._write_older(self._older, self._moved)
        for page in self.folder.glob("older_*.html"):
            number = page.stem.removeprefix("older_")
            if number.isdecimal() and int(number) > self._older:
                page.unlink()


def _older(number: int) -> str:
    return f"older_{number}.html"


def _to_json(seen: int, row: Row) -> str:
    return json.dumps({"seen": seen, **dataclasses.asdict(row)})


def _from_json(line: str) -> tuple[int, Row]:
    content = json.loads(line)
    pictures = [Picture(**{**p, "size": tuple(p["size"])}) for p in content["pictures"]]
    legend = [PresentClass(**{**entry, "color": tuple(entry["color"])}) for entry in content["legend"]]
    return content["seen"], Row(content["title"], pictures, legend)
