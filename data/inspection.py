"""Looking at a data set's files: what is in them, and what is wrong with them.

Letters: H W size in pixels; sizes in tuples are (width, height).
"""

import hashlib
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from data.base_dataset import WAYS_ON, BaseDataset, as_stored, open_image, read_id_array, read_image
from data.pix2pix_dataset import Pix2pixDataset, check_sizes, size_of
from data.twins import grey_of
from util.errors import UserError, printable

CONTRADICTING = 0.02  # of a picture's pixels; COCO's objects differ from its label maps in up to 0.9 %, at their edges
QUICK_ITEMS, QUICK_PIXELS = 64, 1 << 24  # that train.py looks at: at most a second or two, whatever their size
GOLDEN = (5**0.5 - 1) / 2
NO_OBJECT = 0  # an instance number that many data sets give to all that is no object, of whatever class


@dataclass(frozen=True)
class Kind:
    """A kind of problem."""

    title: str
    is_error: bool


KINDS = {
    "unpaired": Kind("files without a counterpart", True),
    "label": Kind("label maps that cannot be used", True),
    "ids": Kind("label maps with ids of no class", True),
    "photo": Kind("photos that cannot be used", True),
    "instance": Kind("instance maps that cannot be used", True),
    "size": Kind("files whose sizes do not go together", True),
    "leak": Kind("photos of the training part that are in the validation part too", True),
    "alone": Kind("photos of the validation part without a layout: they count among the real ones of FID", False),
    "twin": Kind("photos of the validation part that are nearly one of the training part", False),
    "copy": Kind("photos that are there twice", False),
    "contradiction": Kind("instance maps that contradict their label maps", False),
    "turned": Kind("photos that viewers turn (EXIF orientation) and training does not", False),
    "blank": Kind("photos of a single colour", False),
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file."""

    kind: str  # of KINDS
    text: str  # which begins with the file's path


@dataclass
class Inspection:
    """What an item's files are like."""

    index: int
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # of the label map, ascending
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # of each
    size: tuple[int, int] | None = None  # of the label map
    photo_size: tuple[int, int] | None = None
    photo_digest: bytes | None = None  # of its pixels
    grey: np.ndarray | None = None  # the photo, small: uint8 [24, 24]
    objects: int = 0  # instance numbers
    contradicting: float = 0.0  # share of pixels whose label is not that of most of their instance
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_blank(self) -> bool:
        """Whether the photo is of a single colour."""
        return any(problem.kind == "blank" for problem in self.problems)

    @property
    def errors(self) -> list[Problem]:
        """Those problems that training would stop at."""
        return [problem for problem in self.problems if KINDS[problem.kind].is_error]


def inspect(dataset: Pix2pixDataset, index: int, quick: bool = False) -> Inspection:
    """What an item's files are like; whatever is wrong with one of them is among its problems.

    Args:
        quick: the photo is opened, but its pixels are not read.
    """
    found = Inspection(index)
    try:
        files = dataset.files(index)
    except UserError as error:  # a shard
        found.problems.append(Problem("label", str(error)))
        return found
    label = _label(dataset, found, *files["label"])
    if "image" in files:
        _photo(dataset, found, files["label"][0], *files["image"], quick=quick)
    if "instance" in files and dataset.with_instances:
        _instances(dataset, found, label, files["label"][0], *files["instance"])
    return found


def _label(dataset: Pix2pixDataset, found: Inspection, path: str, content: bytes | None) -> np.ndarray | None:
    try:
        label = read_id_array(path, dataset.palette, content)
    except UserError as error:
        found.problems.append(Problem("label", str(error)))
        return None
    found.size = size_of(label)
    _, found.ids, found.pixels = _runs(np.zeros_like(label), label)
    wrong = dataset.rules.wrong_of(found.ids)
    if wrong.any():
        share = found.pixels[wrong].sum() / label.size
        text = f"{path} has {dataset.rules.problem(found.ids[wrong].tolist())} ({_percent(share)} of its pixels)"
        found.problems.append(Problem("ids", text))
    return label


def _photo(
    dataset: Pix2pixDataset, found: Inspection, label_path: str, path: str, content: bytes | None, quick: bool
) -> None:
    try:
        with open_image(path, content) as header:
            found.photo_size, orientation = as_stored(header, path, content)
        if not quick:
            photo = read_image(path, content)
            found.photo_digest = hashlib.blake2b(photo.tobytes(), digest_size=16, key=b"%dx%d" % photo.size).digest()
            found.grey = grey_of(photo)
            if all(low == high for low, high in photo.getextrema()):
                found.problems.append(Problem("blank", f"{path} is of a single colour"))
    except UserError as error:
        found.problems.append(Problem("photo", str(error)))
        return
    if orientation > 1:
        text = f"{path} is shown turned by viewers (EXIF orientation), and used as its pixels lie: is its label map so?"
        found.problems.append(Problem("turned", text))
    if found.size is not None:
        _sizes(dataset, found, found.photo_size, path, label_path)


def _sizes(dataset: Pix2pixDataset, found: Inspection, size: tuple[int, int], path: str, label_path: str) -> None:
    try:
        check_sizes(dataset.preprocess.mode, size, path, found.size, label_path)
    except UserError as error:
        found.problems.append(Problem("size", str(error)))


def _instances(
    dataset: Pix2pixDataset,
    found: Inspection,
    label: np.ndarray | None,
    label_path: str,
    path: str,
    content: bytes | None,
) -> None:
    try:
        instances = read_id_array(path, content=content)
    except UserError as error:
        found.problems.append(Problem("instance", str(error)))
        return
    if label is None:
        return
    _sizes(dataset, found, size_of(instances), path, label_path)
    if instances.shape != label.shape:
        return
    numbers, classes, pixels = _runs(instances, label)
    found.objects = len(np.unique(numbers))
    others = _minorities(numbers, classes, pixels)
    found.contradicting = others.sum() / label.size
    if found.contradicting > CONTRADICTING:
        worst = numbers[np.argmax(others)]
        inside = np.argsort(-np.where(numbers == worst, pixels, 0))[:2]
        listed = " and ".join(f"{classes[i]} ({pixels[i]:,} pixels)" for i in inside)
        text = (
            f"{path} and {label_path} contradict each other in {_percent(found.contradicting)} of the pixels: instance "
            f"{worst} covers the classes {listed}; is it another picture's, or does a number stand for two objects?"
        )
        found.problems.append(Problem("contradiction", text))


def _minorities(numbers: np.ndarray, classes: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Of parts by instance number and class, the pixels [parts]; 0 for the largest part of each number."""
    others = np.where(numbers == NO_OBJECT, 0, pixels)
    order = np.lexsort((-pixels, numbers))  # the largest of each number first
    first = np.ones(len(order), bool)
    first[1:] = numbers[order][1:] != numbers[order][:-1]
    others[order[first]] = 0
    return others


def _runs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of values that two maps [H, W] have at the same pixels, ascending, int64 [pairs] each, and how many
    pixels have them. Rows are looked at run by run, which are far fewer than pixels."""
    a, b = a.reshape(-1), b.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero((a[1:] != a[:-1]) | (b[1:] != b[:-1])) + 1])
    lengths = np.diff(np.append(starts, a.size))
    a, b = a[starts].astype(np.int64), b[starts].astype(np.int64)
    lowest, step = b.min(), b.max() - b.min() + 1
    pairs, place = np.unique(a * step + (b - lowest), return_inverse=True)  # 32 bits each at most
    return pairs // step, pairs % step + lowest, np.bincount(place, lengths).astype(np.int64)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


# -------------------------------------------------------------------------------------------------------- train.py's


def scattered(count: int) -> Iterator[int]:
    """The places 0 .. count - 1 in an order of which each beginning is spread evenly; 0 is the first, none comes twice.

    Multiples of the golden ratio, modulo 1: each falls into the widest gap that those before have left.
    """
    seen = set()
    for step in range(4 * count):
        place = int(step * GOLDEN % 1 * count)
        if place not in seen:
            seen.add(place)
            yield place


def look_over(dataset: BaseDataset, skips: bool) -> None:
    """Look at some items before a long run, and warn of what is wrong and would not stop it; of label maps alone.

    Args:
        skips: files that cannot be used are no errors (--on_bad_image skip).

    Raises:
        UserError: a file cannot be used.
    """
    if not isinstance(dataset, Pix2pixDataset):
        return
    warned = set()
    pixels = 0
    for index in itertools.islice(scattered(len(dataset)), QUICK_ITEMS):
        found = inspect(dataset, index, quick=True)
        if found.errors and not skips:
            try:
                dataset.load(index, np.random.default_rng(0))  # whose message is the one that training would end with
            except UserError as error:
                raise UserError(f"{error} ({WAYS_ON})") from None
        for problem in found.problems:
            if not KINDS[problem.kind].is_error and problem.kind not in warned:
                warned.add(problem.kind)
                text = printable(problem.text)
                print(f"warning: {text} (said once; datasets/check_dataset.py lists all)", file=sys.stderr)
        pixels += int(found.pixels.sum())
        if pixels > QUICK_PIXELS:
            break
