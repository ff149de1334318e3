"""What test.py leaves: pictures in folders by kind, and the web page that shows them."""

import contextlib
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from util.class_table import PresentClass
from util.distributed import gather, rank
from util.errors import UserError
from util.html import Row, write_pages
from util.paths import unique_stems
from util.picture_kinds import LABEL, STYLE, SYNTHESIZED, caption_of
from util.pictures import save_picture
from util.provenance import command


class Results:
    """The folder results/NAME/PHASE_EPOCH. As a context it writes the page at the end, also after an error.

    Several processes write pictures into one folder, each those of its layouts; at the end the first has all rows.
    """

    def __init__(self, opt: Namespace, name_of: Callable[[int], str]) -> None:
        """`name_of`: the path that the layout of a place has, asked for those that are added elsewhere."""
        self.folder = Path(opt.results_dir, opt.name, f"{opt.phase}_{opt.which_epoch}")
        self._rows: dict[int, Row] = {}  # by the layout's place
        self._head: list[Row] = []
        self._title = f"{opt.name}: {opt.phase}, epoch {opt.which_epoch}"
        self._width = opt.display_winsize
        self._name_of, self._stem_of, self._named = name_of, unique_stems(), 0
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> list[Row]:
        """What was added, in the layouts' order."""
        return [self._rows[place] for place in sorted(self._rows)]

    def add(
        self,
        place: int,
        path: str,
        pictures: dict[str, np.ndarray],
        legend: list[PresentClass],
        captions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write the pictures of the layout of that place, uint8 [H, W, 3] each; places come in ascending order.

        A name is that of a folder under images/, or `synthesized_image_s00`: a style, whose file gets the ending.
        `captions` gives what the page calls some of them.
        """
        while self._named < place:  # those of other processes, so that names do not depend on how many there are
            self._stem_of(self._name_of(self._named))
            self._named += 1
        stem = self._stem_of(path)
        self._named += 1
        shown = []
        for name, pixels in pictures.items():
            folder, ending = name, ""
            if name.startswith(f"{SYNTHESIZED}_"):
                folder, ending = SYNTHESIZED, name.removeprefix(SYNTHESIZED)
            caption = captions.get(name) or caption_of(name)
            flat = name == LABEL and bool(legend)
            shown.append(save_picture(self.folder, folder, stem + ending, pixels, caption, self._width, flat))
        self._rows[place] = Row(stem, shown, legend)

    def show_styles(self, photos: dict[str, np.ndarray]) -> None:
        """Show the photos, path to uint8 [H, W, 3], that styles were taken from in front of all layouts."""
        if rank() > 0:
            return
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
        if error is None:
            for rows in gather(self._rows):
                self._rows |= rows
        if not self._rows or rank() > 0:
            return
        # What was made before an error is shown too; where that fails as well, the first error is the one to report.
        with contextlib.suppress(*() if error is None else (OSError, UserError)):
            self.page = write_pages(self.folder, self._title, self._about(), self._head + self.rows, self._width)

    def _about(self) -> list[str]:
        count = len(self.rows)
        return [f"{count} layout{'s' if count != 1 else ''}", command()]
