"""Cityscapes from the official archives to the official tree, which --dataset_mode cityscapes reads.

    python datasets/prepare_cityscapes.py --downloads DIR --out datasets/cityscapes

DIR holds gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip as they were downloaded, or the folders that they
unpack to. Writes photos, *_labelIds.png and *_instanceIds.png of both parts, byte by byte, and nothing else.
Where DIR is the official tree already, with gtFine/train/, leftImg8bit/train/ and those of val in it, and its frames
are whole, it is used as it is: nothing is written, and --out is not needed. A run that was cut short goes on when the
same command is given again. Parts can be made one after the other.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from data.base_dataset import read_id_array, read_image
from datasets.preparation.archives import Part, Source, find
from datasets.preparation.checks import CHECKED, complete, look_first
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
from util.errors import UserError, run_main

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
    """Write what is not there yet of a frame's three files; none of one that is damaged.

    Raises:
        UserError: a file is damaged.
        OSError: the disk is full or the folder is not writable.
    """
    paths = {ending: out / FOLDERS[ending] / part / f"{frame.name}_{ending}.png" for ending in frame.files}
    missing = [ending for ending, path in paths.items() if not is_there(path)]
    if not missing:
        return
    contents = {ending: sources[FOLDERS[ending]].read(frame.files[ending]) for ending in missing}
    is_loose = any(sources[FOLDERS[ending]].file(name) for ending, name in frame.files.items())
    if is_loose or not all(contents.values()):
        check_frame(frame, sources)  # nothing else says that a file was cut short; archives have checksums
    for ending in missing:
        is_link = link and ending == "leftImg8bit"
        copy(sources[FOLDERS[ending]], frame.files[ending], paths[ending], is_link, contents[ending])


def files_of(part: str, sources: Mapping[str, Source]) -> dict[str, dict[str, str]]:
    """The files of a part, by ending, by frame.

    Raises:
        UserError: an archive is damaged.
    """
    return {ending: _files(sources[folder], part, ending) for ending, folder in FOLDERS.items()}


def _files(source: Source, part: str, ending: str) -> dict[str, str]:
    return source.select(rf"{part}/([^/]+/[^/]+)_{ending}\.png")


def frames_of(
    part: str, files: Mapping[str, Mapping[str, str]], sources: Mapping[str, Source], partial: bool
) -> list[Frame]:
    """The frames of a part that have a photo and both maps.

    Raises:
        UserError: some lack one, or none is there.
    """
    way_out = f"unpack {' and '.join(p.archive for p in PARTS.values())} whole"
    unlabelled = files["leftImg8bit"].keys() - files["gtFine_labelIds"].keys()
    if unlabelled and _files(sources["gtFine"], part, "gtFine_labelTrainIds"):
        way_out += " (*_labelTrainIds.png number other classes and cannot stand in for *_labelIds.png)"
    names = complete(
        f"{part} frames",
        {f"*_{ending}.png": found for ending, found in files.items()},
        " and ".join(dict.fromkeys(str(source.path) for source in sources.values())),
        f"leftImg8bit/{part}/CITY/*_leftImg8bit.png and gtFine/{part}/CITY/*_gtFine_labelIds.png, *_instanceIds.png",
        partial,
        way_out,
    )
    return [Frame(name, {ending: files[ending][name] for ending in FOLDERS}) for name in names]


def is_official(folder: Path, parts: Sequence[str]) -> bool:
    """Whether training would find the files of all parts in a folder, whatever else it has."""
    places = {f"{package}/{part}/*/*_{ending}.png" for ending, package in FOLDERS.items() for part in parts}
    return all(next(folder.glob(place), None) is not None for place in places)


def check_frame(frame: Frame, sources: Mapping[str, Source]) -> None:
    """Look at a frame: its files are of one size, and its instance map is of its label map.

    Raises:
        UserError: they are not, or are damaged.
    """
    photo, label, instance = (
        (sources[FOLDERS[ending]].where(name), sources[FOLDERS[ending]].read(name))
        for ending, name in frame.files.items()
    )
    width, height = read_image(*photo).size
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
    in_place = is_official(downloads, parts)
    if in_place:
        sources = {folder: Source(downloads / folder) for folder in PARTS}
    else:
        sources = dict(zip(PARTS, find(downloads, list(PARTS.values())), strict=True))
        check_link(args.link, sources["leftImg8bit"])
    files = {part: files_of(part, sources) for part in parts}
    _refuse_empty({part: len(files[part]["leftImg8bit"]) for part in parts})
    frames = {part: frames_of(part, files[part], sources, args.partial) for part in parts}
    counts = {part: len(frames[part]) for part in parts}
    check_counts(f"Cityscapes in {downloads}", counts, OFFICIAL, args.partial)
    for part in parts:
        spread = frames[part][:: max(1, len(frames[part]) // CHECKED)][:CHECKED]
        look_first(functools.partial(check_frame, sources=sources), spread)
    if in_place and any(len(found) > counts[part] for part in parts for found in files[part].values()):
        print(f"note: training would take all that is in {downloads}: whole frames go to {args.out}")
        in_place = False
    if in_place:
        print(f"{downloads} is the official tree, which training reads as it is: nothing is written")
    else:
        # Not the parts: each has files of its own, and the other one can be added.
        output = Output.begin(args.out, "prepare_cityscapes.py", {"link": args.link}, list(sources.values()))
        failures = []
        for part in parts:
            work = functools.partial(unpack, part=part, sources=sources, out=output.folder, link=args.link)
            failures += [f"{part}: {line}" for line in run_all(work, frames[part], args.workers, "frame", part)[1]]
        output.finish(counts, failures, [part for part in OFFICIAL if part not in parts])
    root = downloads if in_place else output.folder
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
