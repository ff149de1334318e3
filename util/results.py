"""What test.py leaves: pictures in folders by kind, and the web page that shows them."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

from util.class_table import PresentClass
from util.html import Row, write_pages
from util.paths import unique_stems
from util.pictures import save_picture

LABEL, SYNTHESIZED, REAL = "input_label", "synthesized_image", "real_image"


class Results:
    """The folder results/NAME/PHASE_EPOCH. As a context it writes the page at the end, also after an error."""

    def __init__(self, opt: Namespace) -> None:
        self.folder = Path(opt.results_dir, opt.name, f"{opt.phase}_{opt.which_epoch}")
        self.rows: list[Row] = []
        self._title = f"{opt.name}: {opt.phase}, epoch {opt.which_epoch}"
        self._width = opt.display_winsize
        self._stem_of = unique_stems()
        self._command = " ".join(sys.argv)
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, path: str, pictures: dict[str, np.ndarray], legend: list[PresentClass]) -> None:
        """Write the pictures of one layout, uint8 [H, W, 3] each.

        A name is that of a folder under images/, or `synthesized_image_s00`: a style, whose file gets the ending.
        """
        stem = self._stem_of(path)
        shown = []
        for name, pixels in pictures.items():
            folder, ending = name, ""
            if name.startswith(f"{SYNTHESIZED}_"):
                folder, ending = SYNTHESIZED, name.removeprefix(SYNTHESIZED)
            caption = ending.removeprefix("_") or name.replace("_", " ")
            flat = name == LABEL and bool(legend)
            shown.append(save_picture(self.folder, folder, stem + ending, pixels, caption, self._width, flat))
        self.rows.append(Row(stem, shown, legend))

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *error: object) -> None:
        if self.rows:
            self.page = write_pages(self.folder, self._title, self._about(), self.rows, self._width)

    def _about(self) -> list[str]:
        count = len(self.rows)
        return [f"{count} layout{'s' if count != 1 else ''}", self._command]
