"""The web page of a training run: loss curves, and rows of pictures with the newest first.

Pages of older rows are written once and never change, so that a row costs the same after days as in the beginning.
Every row is a line of pictures.jsonl, from which a resumed run goes on.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from util.class_table import PresentClass
from util.files import write_atomically
from util.html import Picture, Row, page_name, render_page

ROWS = 10  # of an older page; the first one shows up to twice as many
INDEX = "pictures.jsonl"


class TrainingPage:
    """web/index.html and older_1.html, older_2.html, ... from the oldest on."""

    def __init__(self, folder: Path, title: str, width: int, seen: int) -> None:
        """Goes on at `seen` images: rows of later ones, which a run that is now void had made, are dropped."""
        self.folder, self._title, self._width = folder, title, width
        self._count = 0  # rows so far
        self._recent: list[Row] = []  # those of the last complete page, and the ones since
        self._load(seen)

    def add(self, seen: int, row: Row, about: Sequence[str], figure: str) -> None:
        """Show a row made after `seen` images, under the text `about` and the HTML `figure`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / INDEX, "a", encoding="utf-8") as file:
            file.write(_to_json(seen, row) + "\n")
        self._append(row)
        if self._count % ROWS == 0:
            number = self._count // ROWS
            self._write_older(number, self._recent[-ROWS:])
            if number > 1:  # it now has a newer neighbour
                self._write_older(number - 1, self._recent[-2 * ROWS : -ROWS])
        pages = self._pages(self._count // ROWS)
        content = render_page(
            self._title, about, self._recent[::-1], self._width, pages, here=page_name(1), figure=figure
        )
        write_atomically(self.folder / page_name(1), content)

    def _append(self, row: Row) -> None:
        self._count += 1
        self._recent.append(row)
        del self._recent[: -(ROWS + (self._count % ROWS or ROWS))]

    def _write_older(self, number: int, rows: list[Row]) -> None:
        pages = self._pages(self._count // ROWS)
        content = render_page(self._title, [], rows[::-1], self._width, pages, here=_older(number))
        write_atomically(self.folder / _older(number), content)

    @staticmethod
    def _pages(complete: int) -> list[tuple[str, str]]:
        return [("newest", page_name(1)), *((str(n), _older(n)) for n in range(complete, 0, -1))]

    def _load(self, seen: int) -> None:
        path = self.folder / INDEX
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        kept = []
        for line in lines:
            try:
                made_at, row = _from_json(line)
            except (ValueError, KeyError, TypeError):
                break  # cut short when the run was
            if made_at > seen:
                break
            kept.append(line)
            self._append(row)
        if len(kept) < len(lines):
            write_atomically(path, "".join(line + "\n" for line in kept).encode())
        complete = self._count // ROWS
        for page in self.folder.glob("older_*.html"):
            number = page.stem.removeprefix("older_")
            if number.isdecimal() and int(number) > complete:
                page.unlink()
        if complete:
            end = len(self._recent) - self._count % ROWS
            self._write_older(complete, self._recent[end - ROWS : end])


def _older(number: int) -> str:
    return f"older_{number}.html"


def _to_json(seen: int, row: Row) -> str:
    return json.dumps({"seen": seen, **dataclasses.asdict(row)})


def _from_json(line: str) -> tuple[int, Row]:
    content = json.loads(line)
    pictures = [Picture(**{**p, "size": tuple(p["size"])}) for p in content["pictures"]]
    legend = [PresentClass(**{**entry, "color": tuple(entry["color"])}) for entry in content["legend"]]
    return content["seen"], Row(content["title"], pictures, legend)
