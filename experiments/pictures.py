"""Sheets of what runs of `labelmefacade` synthesise, without a photo or layout of the data set in them.

    python -m experiments pictures --data DIR --out DIR [--scale cpu] --runs spade spade-vae

Writes into OUT/sheets: RUN.jpg, 32 validation layouts' images, evenly spread by name and not chosen; RUN_streets.jpg,
layouts drawn by `streets`, their images, and the same with buildings turned into vegetation; of a run with a VAE
RUN_styles.jpg, a row of random styles for each of some layouts, and RUN_style_of_photos.jpg, a row in the style of one
photo each.
"""

import shutil
import sys
from pathlib import Path

from data.image_folder import list_images
from evaluation.pairs import evenly, evenly_spread
from experiments import sheet, streets
from experiments.labelmefacade import STYLES, Place, call, made_of, make_parser, place_of, results_of
from experiments.runs import RUNS
from util.errors import UserError

IMAGES = "images/synthesized_image"
SHOWN = 32  # validation layouts
STYLED = 8  # layouts in several styles
SWAPPED = ("building", "vegetation")


def write_sheets(place: Place, run: str) -> list[Path]:
    """All sheets of a run; returns their paths.

    Raises:
        UserError: the run has no pages yet.
    """
    images = results_of(place, run) / IMAGES
    if not images.is_dir():
        raise UserError(f"{images} is not there; python -m experiments labelmefacade --runs {run} trains and makes it")
    made = [spread(place, images, f"{run}.jpg", SHOWN, columns=8)]
    if "--use_vae" in RUNS[run]:
        styled = place.out / "styles" / run / "test_latest" / IMAGES
        made.append(spread(place, styled, f"{run}_styles.jpg", STYLED, columns=STYLES, group=STYLES))
        made.append(styles_of_photos(place, run))
    made.append(painted(place, run))
    return made


def spread(place: Place, folder: Path, name: str, count: int, columns: int, group: int = 1) -> Path:
    """A sheet of `count` groups of pictures, evenly spread over those of a folder."""
    paths = [Path(path) for path in list_images(folder)]
    groups = [paths[first : first + group] for first in range(0, len(paths), group)]
    shown = [path for group in evenly_spread(count, groups) for path in group]
    return sheet.write([shown], columns, place.scale.size, place.out / "sheets" / name)


def styles_of_photos(place: Place, run: str) -> Path:
    """Layouts in the styles of some validation photos, a row each."""
    photos, paths = list_images(place.data / "val_img"), list_images(place.data / "val_label")
    shown = [Path(path) for path in evenly_spread(STYLED, paths)]
    made = place.out / "style_of_photos"
    layouts = made / "layouts"
    layouts.mkdir(parents=True, exist_ok=True)
    for path in shown:
        shutil.copy(path, layouts)
    rows = []
    for k, i in enumerate(evenly(STYLES, len(photos))):
        words = ["test.py", *made_of(place, run, layouts), "--weights", "ema"]
        call([*words, "--results_dir", str(made / str(k)), "--style_image", photos[i]])
        rows += [made / str(k) / run / "test_latest" / IMAGES / f"{path.stem}.png" for path in shown]
    return sheet.write([rows], STYLED, place.scale.size, place.out / "sheets" / f"{run}_style_of_photos.jpg")


def painted(place: Place, run: str) -> Path:
    """Layouts that nobody photographed, and what becomes of them when a class is swapped."""
    layouts = place.out / "streets"
    streets.write(layouts, STYLED, place.scale.size, seed=0, swaps=[SWAPPED])
    results = place.out / "of_streets"
    call(["test.py", *made_of(place, run, layouts), "--weights", "ema", "--results_dir", str(results)])
    images = results / run / "test_latest" / "images"
    names = ["{}", "{}_" + "_as_".join(SWAPPED)]
    rows = [
        [images / kind / f"{name.format(i)}.png" for i in range(STYLED)]
        for name in names
        for kind in ("input_label", "synthesized_image")
    ]
    return sheet.write(rows, STYLED, place.scale.size, place.out / "sheets" / f"{run}_streets.jpg")


def main() -> None:
    """Write the sheets of the runs that the command line names.

    Raises:
        UserError: the data set or a run is not there.
    """
    args = make_parser("pictures", __doc__).parse_args(sys.argv[1:])
    place = place_of(args)
    for run in args.runs:
        for path in write_sheets(place, run):
            print(f"the sheet: {path}")
