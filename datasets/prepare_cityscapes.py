"""Cityscapes from the official archives to the official tree, which --dataset_mode cityscapes reads.

    python datasets/prepare_cityscapes.py --downloads DIR --out datasets/cityscapes

DIR holds gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip as they were downloaded, or the folders that they
unpack to. Writes photos, *_labelIds.png and *_instanceIds.png of both parts, byte by byte, and nothing else.
Where DIR is the official tree already, with gtFine/ and leftImg8bit/ in it, it is checked and used as it is: nothing
is written, and --out is not needed. A run that was cut short goes on when the same command is given again.
"""

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from data.base_dataset import open_image, read_id_array
from datasets.preparation.archives import Part, Source, find
from datasets.preparation.checks import CHECKED, look_first
from datasets.preparation.jobs import run_all
from datasets.preparation.output import (
    Output,
    check_counts,
    check_link,
    copy,
    is_there,
    preparation_parser,
    say_next,
)
from util.errors import UserError, first_few, run_main

OFFICIAL = {"train": 2_975, "val": 500}
HOME = "https://www.cityscapes-dataset.com/downloads after signing in"
PARTS = {
    "leftImg8bit": Part(
        "photos", "leftImg8bit_trainvaltest.zip", "11 GB", HOME, ("leftImg8bit", "leftImg8bit_trainvaltest")
    ),
    "gtFine": Part("label maps", "gtFine_trainvaltest.zip", "241 MB", HOME, ("gtFine", "gtFine_trainvaltest")),
}
FOLDERS = {"leftImg8bit": "leftImg8bit", "gtFine_labelIds": "gtFine", "gtFine_instanceIds": "gtFine"}  # by ending
PER_CLASS = 1_000  # an object's number is 1000 * class + n


@dataclass(frozen=True)
class Frame:
    """A photo and its two maps."""

    name: str  # aachen/aachen_000000_000019
    files: Mapping[str, str]  # by ending: leftImg8bit, gtFine_labelIds, gtFine_instanceIds


def unpack(frame: Frame, part: str, sources: Mapping[str, Source], out: Path, link: bool) -> None:
    """Write what is not there yet of a frame's three files.

    Raises:
        UserError: a file is damaged.
        OSError: the disk is full or the folder is not writable.
    """
    for ending, name in frame.files.items():
        folder = FOLDERS[ending]
        path = out / folder / part / f"{frame.name}_{ending}.png"
        if not is_there(path):
            copy(sources[folder], name, path, link and folder == "leftImg8bit")


def frames_of(part: str, sources: Mapping[str, Source]) -> list[Frame]:
    """The frames of a part that have a photo.

    Raises:
        UserError: archives are damaged, or photos lack a map.
    """
    files = {ending: _files(sources[folder], part, ending) for ending, folder in FOLDERS.items()}
    photos = files["leftImg8bit"]
    for ending in ("gtFine_labelIds", "gtFine_instanceIds"):
        alone = [name for name in photos if name not in files[ending]]
        if alone:
            others = ""
            if ending == "gtFine_labelIds" and _files(sources["gtFine"], part, "gtFine_labelTrainIds"):
                others = "; the *_labelTrainIds.png that are there number other classes and cannot stand in for them"
            raise UserError(
                f"{sources['gtFine'].path}: {len(alone)} of {len(photos)} {part} photos have no *_{ending}.png "
                f"({first_few(alone)}), but {PARTS['gtFine'].archive} has one for each: download and unpack that "
                f"package whole{others}"
            )
    return [Frame(name, {ending: files[ending][name] for ending in FOLDERS}) for name in photos]


def _files(source: Source, part: str, ending: str) -> dict[str, str]:
    return source.select(rf"{part}/([^/]+/[^/]+)_{ending}\.png")


def check_pairs(part: str, sources: Mapping[str, Source], frames: list[Frame]) -> None:
    """Refuse a tree in which there are label maps without a photo: training takes all that are there.

    Raises:
        UserError: there are some.
    """
    there = {frame.name for frame in frames}
    alone = [name for name in _files(sources["gtFine"], part, "gtFine_labelIds") if name not in there]
    if alone:
        raise UserError(
            f"{sources['leftImg8bit'].path}: {len(alone)} {part} label maps have no photo ({first_few(alone)}): unpack "
            f"{PARTS['leftImg8bit'].archive} whole"
        )


def check_frame(frame: Frame, sources: Mapping[str, Source]) -> None:
    """Look at a frame: its files are of one size, and its instance map is of its label map.

    Raises:
        UserError: they are not, or are damaged.
    """
    photo, label, instance = (
        (sources[FOLDERS[ending]].where(name), sources[FOLDERS[ending]].read(name))
        for ending, name in frame.files.items()
    )
    width, height = open_image(*photo).size
    ids, objects = (read_id_array(where, content=content) for where, content in (label, instance))
    if not ids.shape == objects.shape == (height, width):
        sizes = ", ".join(f"{w} x {h}" for h, w in ((height, width), ids.shape, objects.shape))
        raise UserError(
            f"{photo[0]}, {label[0]} and {instance[0]} are {sizes} (width x height): they must be of one size; "
            "unpack the official archives anew"
        )
    if objects.dtype == np.uint8:
        raise UserError(
            f"{instance[0]} has 8 bits, but official instance maps have 16 (1000 * class + number of an object); "
            f"unpack {PARTS['gtFine'].archive} anew"
        )
    classes = np.where(objects >= PER_CLASS, objects // PER_CLASS, objects)
    wrong = classes != ids
    if wrong.any():
        number, said, there = (int(values[wrong][0]) for values in (objects, classes, ids))
        raise UserError(
            f"{label[0]} does not fit its instance map: {int(wrong.sum()):,} pixels differ, such as one with label id "
            f"{there} and instance {number}, which is of class {said}; were ids changed, as in *_labelTrainIds.png? "
            f"Unpack {PARTS['gtFine'].archive} anew"
        )


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    parser = preparation_parser("prepare_cityscapes.py", __doc__, "datasets/cityscapes")
    parser.add_argument("--parts", nargs="+", choices=list(OFFICIAL), default=list(OFFICIAL), help="(default: both)")
    args = parser.parse_args(argv)
    parts = [part for part in OFFICIAL if part in args.parts]
    downloads = Path(args.downloads)
    is_tree = all((downloads / folder).is_dir() for folder in PARTS)
    if is_tree:
        sources = {folder: Source(downloads / folder) for folder in PARTS}
    else:
        sources = dict(zip(PARTS, find(downloads, list(PARTS.values())), strict=True))
        check_link(args.link, sources["leftImg8bit"])
    counts = {part: len(_files(sources["leftImg8bit"], part, "leftImg8bit")) for part in parts}
    _refuse_empty(counts)
    check_counts("Cityscapes", counts, OFFICIAL, args.partial)
    frames = {part: frames_of(part, sources) for part in parts}
    for part in parts:
        spread = frames[part][:: max(1, len(frames[part]) // CHECKED)][:CHECKED]
        look_first(functools.partial(check_frame, sources=sources), spread)
    if is_tree:
        for part in parts:
            check_pairs(part, sources, frames[part])
        print(f"{downloads} is the official tree, which training reads as it is: nothing is written")
    else:
        output = Output.begin(args.out, "prepare_cityscapes.py", {"parts": parts}, list(sources.values()))
        failures = []
        for part in parts:
            work = functools.partial(unpack, part=part, sources=sources, out=output.folder, link=args.link)
            failures += run_all(work, frames[part], args.workers, "frame", part)[1]
        output.finish(counts, failures)
    root = downloads if is_tree else output.folder
    say_next(
        root,
        counts,
        ["--name", "cityscapes", "--dataset_mode", "cityscapes", "--dataroot", str(root), "--batchSize", "16"],
    )


def _refuse_empty(counts: Mapping[str, int]) -> None:
    """Say how to do without a part of which nothing is there, which --partial does not.

    Raises:
        UserError: there is such a part, and another one.
    """
    there = [part for part in counts if counts[part]]
    if there and len(there) < len(counts):
        (empty,) = counts.keys() - there
        raise UserError(f"Cityscapes: no {empty} photos are there: download them, or pass --parts {there[0]}")


if __name__ == "__main__":
    run_main(main)
