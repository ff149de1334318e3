"""NYU Depth v2 from its labelled images to folders of --dataset_mode custom.

    python datasets/prepare_nyu.py --downloads DIR --out datasets/nyu                     # DIR has splits.mat too
    python datasets/prepare_nyu.py --downloads DIR --out datasets/nyu --split pix2pixhd   # it has not

DIR holds nyu_depth_v2_labeled.mat as it was downloaded, and splits.mat, which is on another page:
https://cs.nyu.edu/~silberman/projects/indoor_seg_sup.html. Writes {train,val}_{img,label,inst}/ and classes.json. Files
are named by their number in the file, 0001 .. 1449. Photos, which are raw there, become PNGs. Classes are the --classes
most frequent labels of the training part, whose pixels are counted first and kept in class_pixels.json, or those of a
--mapping file; all else is unknown. An instance map has a number for each object, 1, 2, ..., as 16 bits; what is not
labelled has 0. A run that was cut short goes on when the same command is given again. Needs requirements-nyu.txt.
"""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from datasets.preparation.archives import Part, find
from datasets.preparation.checks import look_first
from datasets.preparation.classes import class_table, object_numbers, remapped, unknown_flags, unknown_of
from datasets.preparation.frequency import Counts, choose_classes, entry_of, total
from datasets.preparation.jobs import run_all
from datasets.preparation.ledger import Ledger
from datasets.preparation.matlab import read_matlab
from datasets.preparation.output import Output, check_counts, is_there, preparation_parser, say_next
from options.flags import positive
from util.class_table import ClassTable
from util.errors import UserError, run_main
from util.files import digest, save_image, sha256, write_atomically

HOME = "https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html"
SPLITS_HOME = "https://cs.nyu.edu/~silberman/projects/indoor_seg_sup.html"
IMAGES = Part("labelled images", "nyu_depth_v2_labeled.mat", "2.8 GB", HOME)
SPLITS = Part("official split; --split pix2pixhd does without", "splits.mat", "a few kB", SPLITS_HOME)
OFFICIAL = {"official": {"train": 795, "val": 654}, "pix2pixhd": {"train": 1_200, "val": 249}}
KINDS = {"images": (np.uint8, 4), "labels": (np.uint16, 3), "instances": (np.uint8, 3)}  # type and dimensions
# What h5py raises of files that it does not expect. OSError is of the disk too, and says so.
ERRORS = (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Labelled:
    """nyu_depth_v2_labeled.mat: MATLAB 7.3, which is HDF5. It is opened anew for each image, in whatever process.

    Letters: N images, L labels with a name. MATLAB's order of axes is the reverse of ours.
    """

    path: Path

    def names(self) -> list[str]:
        """The names of labels 1 .. L.

        Raises:
            UserError: the file is damaged, or not of this kind.
        """
        with self._open() as file:
            try:
                cells = file["names"][()].reshape(-1)
                texts = [file[cell][()].reshape(-1).astype("<u2").tobytes() for cell in cells]
            except ERRORS as error:
                raise self._damaged("names", error) from None
        return [text.decode("utf-16-le", "replace") for text in texts]

    def count(self) -> int:
        """N.

        Raises:
            UserError: the file is damaged, or not of this kind.
        """
        with self._open() as file:
            try:
                shapes = {kind: tuple(file[kind].shape) for kind in KINDS}
                types = {kind: file[kind].dtype for kind in KINDS}
            except ERRORS as error:
                raise self._damaged("images, labels and instances", error) from None
        right = all(types[kind] == of_kind and len(shapes[kind]) == axes for kind, (of_kind, axes) in KINDS.items())
        count, channels, *sides = shapes["images"] if right else (0, 0)
        if not right or channels != 3 or any(shapes[kind] != (count, *sides) for kind in ("labels", "instances")):
            there = ", ".join(f"{kind} {types[kind]} {list(shapes[kind])}" for kind in KINDS)
            raise UserError(
                f"{self.path} has {there}, but {IMAGES.archive} has images uint8 [1449, 3, 640, 480], labels uint16 "
                "[1449, 640, 480] and instances uint8 [1449, 640, 480]; download it again"
            )
        return count

    def read(self, kind: str, number: int) -> np.ndarray:
        """What the file has of an image, which counts from 1: photo [H, W, 3], labels or instances [H, W].

        Raises:
            UserError: it is damaged.
        """
        with self._open() as file:
            try:
                return np.ascontiguousarray(file[kind][number - 1].T)
            except ERRORS as error:
                raise self._damaged(f"{kind} of image {number}", error) from None

    def _open(self) -> Any:
        try:
            return h5py_module().File(self.path, "r", locking=False)  # a lock would need rights to write
        except OSError as error:
            size = self.path.stat().st_size
            raise UserError(
                f"{self.path} ({size:,} bytes) cannot be opened as HDF5 ({error}); was its download cut short? wget "
                "-c, curl -C - and browsers go on where they were"
            ) from None

    def _damaged(self, what: str, error: Exception) -> UserError:
        return UserError(f"{self.path}: {what} cannot be read ({error}); download the file again")


def h5py_module() -> Any:
    """The module that reads HDF5.

    Raises:
        UserError: it is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise UserError("h5py is not installed: pip install -r requirements-nyu.txt") from None
    return h5py


@dataclass(frozen=True)
class Classes:
    """What labels become."""

    table: ClassTable
    lookup: np.ndarray  # [L + 1]: the class of each label, or unknown


def most_frequent_classes(chosen: Sequence[int], names: Sequence[str]) -> Classes:
    """These labels as classes 0, 1, ...; names: those of labels 1 .. L."""
    table = class_table(f"NYU Depth v2, {len(chosen)} most frequent labels", [names[label - 1] for label in chosen])
    return Classes(table, remapped(np.arange(len(names) + 1), chosen))


def count_all(ledger: Ledger, numbers: Sequence[int], labelled: Labelled, names: Sequence[str], workers: int) -> Counts:
    """The labels of training images. Those that the ledger has are not read again.

    Raises:
        UserError: no image has any label.
    """
    work = functools.partial(count_labels, labelled=labelled, labels=len(names))
    left = [number for number in numbers if stem_of(number) not in ledger.entries]
    _, failures = run_all(work, left, workers, "image", "counting", keep=ledger.add)
    stems = map(stem_of, numbers)
    pixels = total(ledger.entries[stem] for stem in stems if stem in ledger.entries)
    if not pixels:
        raise UserError(f"{labelled.path}: no pixel of the training part has a label; download the file again")
    return pixels, {label: names[label - 1] for label in pixels}, failures


def count_labels(number: int, labelled: Labelled, labels: int) -> dict[str, Any]:
    """The labels of an image as a line of the ledger.

    Raises:
        UserError: it is damaged.
    """
    return entry_of(stem_of(number), checked_labels(number, labelled, labels))


def stem_of(number: int) -> str:
    """What an image's files are called."""
    return f"{number:04d}"


def checked_labels(number: int, labelled: Labelled, labels: int) -> np.ndarray:
    """The labels [H, W] of an image: 0 for none, else 1 .. L.

    Raises:
        UserError: it is damaged, or labels have no name.
    """
    found = labelled.read("labels", number)
    if found.max() > labels:
        raise UserError(
            f"{labelled.path}: image {number} has label {found.max()}, but names are those of 1 .. {labels}; download "
            "the file again"
        )
    return found


def mapped_classes(path: Path, labels: int) -> Classes:
    """The classes of a file such as classMapping40.mat: mapClass, a class from 1 on or 0 for each label, and className.

    Raises:
        UserError: it is no such file, or is for another number of labels.
    """
    held = read_matlab(path, ("mapClass", "className"))
    names = [_text(cell) for cell in held["className"].reshape(-1)]
    classes = _whole_numbers(held["mapClass"])
    if classes is None or len(classes) != labels or "" in names or not 0 <= min(classes) <= max(classes) <= len(names):
        raise UserError(
            f"--mapping {path}: mapClass has {held['mapClass'].size} values and className {len(names)} names; it must "
            f"have a number of 0 .. {len(names)} for each of {labels} labels, and each class a name"
        )
    unknown = unknown_of(len(names))
    lookup = np.array([unknown, *(index - 1 if index else unknown for index in classes)])
    return Classes(class_table(f"NYU Depth v2, {path.stem}", names), lookup.astype(np.min_scalar_type(unknown)))


def _text(cell: object) -> str:
    """The text in a cell of a cell array, which may be in a cell of its own; none if it is no text."""
    while isinstance(cell, np.ndarray):
        cell = cell.flat[0] if cell.size == 1 else None
    return cell if isinstance(cell, str) else ""


def official_split(path: Path, count: int) -> dict[str, list[int]]:
    """The numbers of images, from 1 on, of either part in splits.mat, as far as there are so many.

    Raises:
        UserError: it is no such file.
    """
    held = read_matlab(path, ("trainNdxs", "testNdxs"))
    train, val = (_whole_numbers(held[name]) for name in ("trainNdxs", "testNdxs"))
    if train is None or val is None or min(train + val) < 1 or len({*train, *val}) < len(train + val):
        raise UserError(f"{path}: trainNdxs and testNdxs must be numbers from 1 on, each once; download it again")
    return {part: [n for n in numbers if n <= count] for part, numbers in (("train", train), ("val", val))}


def first_and_last(count: int) -> dict[str, list[int]]:
    """The numbers of images, from 1 on, of either part where as many are trained on as pix2pixHD did: the first."""
    first = min(count, OFFICIAL["pix2pixhd"]["train"])
    return {"train": list(range(1, first + 1)), "val": list(range(first + 1, count + 1))}


def _whole_numbers(values: np.ndarray) -> list[int] | None:
    """Values of any shape as numbers; None if they are others, or none."""
    if values.dtype.kind not in "iuf" or not values.size or not np.isfinite(values).all() or (values % 1).any():
        return None
    return [int(value) for value in values.reshape(-1)]


def files_of(downloads: Path, parts: list[Part]) -> list[Path]:
    """The files, which are no archives, of parts.

    Raises:
        UserError: some are not there.
    """
    find(downloads, parts)
    by_name = {path.name.lower(): path for path in downloads.iterdir()}
    return [by_name[part.archive] for part in parts]


def prepare(number: int, part: str, labelled: Labelled, lookup: np.ndarray, out: Path) -> None:
    """Write what is not there yet of an image's three files; none of one that is damaged.

    Raises:
        UserError: it is damaged.
        OSError: the disk is full or the folder is not writable.
    """
    paths = {kind: out / f"{part}_{kind}" / f"{stem_of(number)}.png" for kind in ("img", "label", "inst")}
    missing = [kind for kind, path in paths.items() if not is_there(path)]
    if not missing:
        return
    # All that is needed is read before anything is written: no photo without its maps.
    photo = labelled.read("images", number)
    labels = checked_labels(number, labelled, len(lookup) - 1)
    objects = object_numbers(labels, labelled.read("instances", number), f"{labelled.path}: image {number}")
    made = {"img": photo, "label": lookup[labels], "inst": objects}
    for kind in missing:
        save_image(Image.fromarray(made[kind]), paths[kind])


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    parser = preparation_parser("prepare_nyu.py", __doc__, "datasets/nyu")
    parser.add_argument(
        "--split",
        choices=list(OFFICIAL),
        default="official",
        help="official: that of splits.mat in --downloads, 795 to train on and 654 to validate; pix2pixhd: the first "
        "1,200 and the last 249, pix2pixHD's numbers (default: official)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--classes",
        type=positive,
        default=40,
        metavar="N",
        help="the most frequent labels of the training part are classes (default: %(default)s)",
    )
    which.add_argument("--mapping", metavar="FILE", help="classes of a file such as classMapping40.mat instead")
    args = parser.parse_args(argv)
    h5py_module()
    if args.link:
        raise UserError(f"--link: photos are in {IMAGES.archive}, which is one file; drop the flag")
    file, *splits = files_of(Path(args.downloads), [IMAGES, SPLITS] if args.split == "official" else [IMAGES])
    labelled = Labelled(file)
    count = labelled.count()
    split = official_split(splits[0], count) if splits else first_and_last(count)
    counts = {part: len(numbers) for part, numbers in split.items()}
    check_counts(f"NYU Depth v2 in {file}", counts, OFFICIAL[args.split], args.partial)
    names = labelled.names()
    mapping = Path(args.mapping) if args.mapping is not None else None
    classes = mapped_classes(mapping, len(names)) if mapping else None
    for numbers in split.values():
        look_first(functools.partial(checked_labels, labelled=labelled, labels=len(names)), numbers)
    made_with = {
        "split": args.split,
        "classes": None if mapping else args.classes,
        "mapping": sha256(mapping)[:12] if mapping else None,
        "splits.mat": sha256(splits[0])[:12] if splits else None,
        "names of labels": digest(names),  # another release has others
    }
    output = Output.begin(args.out, "prepare_nyu.py", made_with)
    failures = []
    if classes is None:
        work = functools.partial(
            count_all, numbers=split["train"], labelled=labelled, names=names, workers=args.workers
        )
        pixels, failures = choose_classes(output, list(map(stem_of, split["train"])), args.classes, work)
        classes = most_frequent_classes(pixels.largest(args.classes), names)
    out = output.folder
    table = out / "classes.json"
    write_atomically(table, classes.table.save_text().encode())
    for part, numbers in split.items():
        work = functools.partial(prepare, part=part, labelled=labelled, lookup=classes.lookup, out=out)
        failures += run_all(work, numbers, args.workers, "image", part)[1]
    output.finish(counts, list(dict.fromkeys(failures)))  # what could not be counted could not be prepared either
    flags = ["--name", "nyu", "--dataset_mode", "custom", "--label_dir", str(out / "train_label")]
    flags += ["--image_dir", str(out / "train_img"), "--instance_dir", str(out / "train_inst")]
    flags += [*unknown_flags(len(classes.table.names)), "--class_table", str(table), "--batchSize", "4"]
    say_next(out, counts, flags)


if __name__ == "__main__":
    run_main(main)
