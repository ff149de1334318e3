"""What test.py leaves: pictures in folders by kind, and the web page that shows them."""

import contextlib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from util.class_table import PresentClass
from util.errors import UserError
from util.html import Row, write_pages
from util.paths import unique_stems
from util.picture_kinds import LABEL, STYLE, SYNTHESIZED, caption_of
from util.pictures import save_picture
from util.provenance import command


class Results:
    """The folder results/NAME/PHASE_EPOCH. As a context it writes the page at the end, also after an error."""

    def __init__(self, opt: Namespace) -> None:
        self.folder = Path(opt.results_dir, opt.name, f"{opt.phase}_{opt.which_epoch}")
        self.rows: list[Row] = []
        self._head: list[Row] = []
        self._title = f"{opt.name}: {opt.phase}, epoch {opt.which_epoch}"
        self._width = opt.display_winsize
        self._stem_of = unique_stems()
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        path: str,
        pictures: dict[str, np.ndarray],
        legend: list[PresentClass],
        captions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write the pictures of one layout, uint8 [H, W, 3] each.

        A name is that of a folder under images/, or `synthesized_image_s00`: a style, whose file gets the ending.
        `captions` gives what the page calls some of them.
        """
        stem = self._stem_of(path)
        shown = []
        for name, pixels in pictures.items():
            folder, ending = name, ""
            if name.startswith(f"{SYNTHESIZED}_"):
                folder, ending = SYNTHESIZED, name.removeprefix(SYNTHESIZED)
            caption = captions.get(name) or caption_of(name)
            flat = name == LABEL and bool(legend)
            shown.append(save_picture(self.folder, folder, stem + ending, pixels, caption, self._width, flat))
        self.rows.append(Row(stem, shown, legend))

    def show_styles(self, photos: dict[str, np.ndarray]) -> None:
        """Show the photos, path to uint8 [H, W, 3], that styles were taken from in front of all layouts."""
        stem_of = unique_stems()
        shown = []
        for path, pixels in photos.items():
            shown.append(save_picture(self.folder, STYLE, stem_of(path), pixels, Path(path).name, self._width))
        if shown:
            self._head = [Row("style", shown)]

    def leftovers(self) -> int:
        """How many synthesised images of earlier runs, with other flags, lie among this one's."""
        own = {picture.link for row in self.rows for picture in row.pictures}
        folder = f"images/{SYNTHESIZED}"
        return sum(f"{folder}/{path.name}" not in own for path in (self.folder / folder).glob("*.png"))

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self.rows:
            return
        # What was made before an error is shown too; where that fails as well, the first error is the one to report.
        with contextlib.suppress(*() if error is None else (OSError, UserError)):
            self.page = write_pages(self.folder, self._title, self._about(), self._head + self.rows, self._width)

    def _about(self) -> list[str]:
        count = len(self.rows)
        return [f"{count} layout{'s' if count != 1 else ''}", command()]
