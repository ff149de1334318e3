"""Photos with shapes or label maps of any kind, and what is written for them: photo, label map, instance map.

Letters: H W size of a map; n classes, whose ids are 0 .. n - 1.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.base_dataset import open_image, read_id_array, read_image
from data.pix2pix_dataset import version_of
from datasets.preparation.archives import Source
from datasets.preparation.naming import Naming
from datasets.preparation.orientation import Stored, save_upright, suffix_of, upright
from datasets.preparation.output import copy, is_there
from datasets.preparation.pairing import AnnotatedPhoto
from datasets.preparation.shapes import NOTHING, Order, draw
from util.class_table import Palette
from util.errors import UserError
from util.files import save_image

KINDS = ("img", "label", "inst")


@dataclass(frozen=True)
class Originals:
    """The folders that photos and annotations are in."""

    images: Path
    annotations: Path | None = None  # of Labelme files or label maps; None: one file has all
    instance_maps: Path | None = None

    def photo(self, annotated: AnnotatedPhoto) -> Path:
        """Where the photo is."""
        return self.images / annotated.photo

    def annotation(self, annotated: AnnotatedPhoto) -> Path:
        """Where the Labelme file or the label map is."""
        return (self.annotations or Path()) / annotated.file

    def versions(self, annotated: AnnotatedPhoto) -> list[list[Any]]:
        """Path, name, bytes and time of each file, as JSON has them: where they are others, what is made of it is, too.

        Raises:
            OSError: one is gone.
        """
        versions = [[annotated.photo, *version_of(str(self.photo(annotated)))]]
        if annotated.drawing is None:
            versions.append([annotated.file, *version_of(str(self.annotation(annotated)))])
        elif annotated.file:
            versions.append([annotated.file, *annotated.drawing.version])
        else:  # it is one of many in a file
            versions.append([annotated.drawing.key])
        if self.instance_maps:
            versions.append([annotated.instance_map, *version_of(str(self.instance_maps / annotated.instance_map))])
        return versions


@dataclass(frozen=True)
class Seen:
    """What a first look at a photo and its annotation shows."""

    made_of: list[list[Any]]  # the files that were looked at
    turned: bool  # the photo must be turned
    size: tuple[int, int]  # of the label map that comes of it
    pixels: dict[int, int]  # of the ids of a label map


@dataclass(frozen=True)
class Shapes:
    """Shapes of which nothing is seen, by class."""

    hidden: Counter[str] = field(default_factory=Counter)  # under others
    empty: Counter[str] = field(default_factory=Counter)  # that cover no pixel

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any] | None, made_of: Sequence[Any]) -> "Shapes | None":
        """What a Ledger has; None where it has none, or of other originals, or it makes no sense."""
        if entry is None or entry.get("made_of") != made_of:
            return None
        counts = (entry.get("hidden"), entry.get("empty"))
        if not all(isinstance(c, dict) and all(type(count) is int for count in c.values()) for c in counts):
            return None
        return cls(*map(Counter, counts))


@dataclass(frozen=True)
class Item:
    """What is written for a photo."""

    annotated: AnnotatedPhoto
    seen: Seen
    part: str
    stem: str
    before: Shapes | None = None  # what it had when its files were made, if that was of the same originals


@dataclass(frozen=True)
class Recipe:
    """What all items have in common."""

    originals: Originals
    out: Path
    naming: Naming
    names: Mapping[int, str | None]  # of the ids of label maps; None: unknown
    palette: Palette | None
    background: int  # the id of what no shape covers
    stuff: frozenset[int]
    order: Order
    with_instances: bool
    link: bool


@dataclass
class Written:
    """What an item's label map shows."""

    pixels: np.ndarray  # by class, and unknown at the end: [n + 1]
    shapes: Shapes = field(default_factory=Shapes)
    entry: dict[str, Any] | None = None  # for a Ledger, where files were made


def look(annotated: AnnotatedPhoto, originals: Originals, palette: Palette | None, heed_exif: bool) -> Seen:
    """How a photo and its annotation fit, and the ids of its label map.

    Raises:
        UserError: a file cannot be read, or sizes differ.
        OSError: one is gone.
    """
    photo, made_of = str(originals.photo(annotated)), originals.versions(annotated)  # before they are read
    stored = Stored.of(photo)
    if annotated.drawing is None:
        ids = read_map(str(originals.annotation(annotated)), palette)
        found, counts = np.unique(ids, return_counts=True)
        size = (ids.shape[1], ids.shape[0])
        turned = stored.must_turn(size, exactly=False, heed_exif=heed_exif, where=photo)
        return Seen(made_of, turned, size, dict(zip(found.tolist(), counts.tolist(), strict=True)))
    # Programs that note no size show photos as they were taken.
    size = annotated.drawing.size or (stored.shown if heed_exif else stored.size)
    return Seen(made_of, stored.must_turn(size, exactly=True, heed_exif=heed_exif, where=photo), size, {})


def read_map(path: str, palette: Palette | None) -> np.ndarray:
    """The ids [H, W] of a label map.

    Raises:
        UserError: it cannot be read, or has colours that the palette does not know.
    """
    with calling_it_palette():
        return read_id_array(path, palette)


@contextmanager
def calling_it_palette() -> Iterator[None]:
    """What reads painted maps advises train.py's flag; here it has another name."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("--label_palette", "--palette")) from None


def prepare(item: Item, recipe: Recipe) -> Written:
    """Write what is not there yet of a photo, its label map and its instance map, or was made of other originals.

    Raises:
        UserError: a file is damaged.
        OSError: the disk is full or the folder is not writable.
    """
    photo, label, instance = (recipe.out / name for name in files_of(item))
    there = is_there(label) and (not recipe.with_instances or is_there(instance))
    written, maps = None, []
    if item.before is not None and there:
        try:
            written = Written(pixels_of(read_id_array(str(label)), recipe.naming), item.before)
        except UserError:  # damaged since
            pass
    if written is not None and is_there(photo):
        return written
    if written is None:
        make = of_map if item.annotated.drawing is None else of_drawing
        ids, objects, written = make(item, recipe)
        maps = [(objects, instance), (ids, label)] if recipe.with_instances else [(ids, label)]
    original = recipe.originals.photo(item.annotated)
    # All is read before anything is written, so that no file is without the others: a photo that is cut short would
    # stop the training. The label map is the last, and gone before: where it is, the others are its own.
    picture = upright(str(original)) if item.seen.turned else read_image(str(original))
    if maps:
        label.unlink(missing_ok=True)
    if item.seen.turned:
        save_upright(picture, photo)
    else:
        copy(Source(recipe.originals.images), item.annotated.photo, photo, recipe.link)
    for array, path in maps:
        save_image(Image.fromarray(array), path)
    shapes = {"hidden": written.shapes.hidden, "empty": written.shapes.empty}
    written.entry = {"stem": item.stem, "part": item.part, "made_of": item.seen.made_of, **shapes}
    return written


def files_of(item: Item) -> list[str]:
    """Where the photo, the label map and the instance map go."""
    endings = {"img": suffix_of(item.annotated.photo, item.seen.turned)}
    return [f"{item.part}_{kind}/{item.stem}{endings.get(kind, '.png')}" for kind in KINDS]


def pixels_of(label: np.ndarray, naming: Naming) -> np.ndarray:
    """How many pixels each class has, and unknown at the end: [n + 1]."""
    counts = np.bincount(label.reshape(-1), minlength=naming.unknown + 1)
    return np.append(counts[: len(naming)], counts[naming.unknown])


def of_drawing(item: Item, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, Written]:
    """The label map and the instance map [H, W] of shapes."""
    drawing, naming = item.annotated.drawing, recipe.naming
    shapes = drawing.shapes if drawing else []
    places, covered = draw(shapes, naming.called, item.seen.size, recipe.order)
    classes = [naming.ids[shape.label] for shape in shapes]
    numbers: dict[tuple[int, object], int] = {}
    objects = [recipe.background]
    for place, (shape, index) in enumerate(zip(shapes, classes, strict=True)):
        if index in recipe.stuff or index == naming.unknown:
            objects.append(index)
            continue
        key = (index, (None, place) if shape.group is None else (shape.group,))
        objects.append(numbers.setdefault(key, naming.first_object + len(numbers)))
    _check_numbers(max(objects), recipe.originals.photo(item.annotated))
    lookup = np.array([recipe.background, *classes], naming.dtype)
    label, shown = lookup[places - NOTHING], np.bincount(places.reshape(-1) - NOTHING, minlength=len(shapes) + 1)[1:]
    written = Written(pixels_of(label, naming))
    for shape, count, seen in zip(shapes, covered, shown, strict=True):
        if not seen:
            (written.shapes.hidden if count else written.shapes.empty)[naming.called[shape.label]] += 1
    return label, np.array(objects, np.uint16)[places - NOTHING], written


def of_map(item: Item, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, Written]:
    """The label map [H, W] of a label map, and the instance map if there is one.

    Raises:
        UserError: a file is damaged.
    """
    naming, path = recipe.naming, recipe.originals.annotation(item.annotated)
    ids = read_map(str(path), recipe.palette)
    known = np.array(sorted(recipe.names), np.int64)
    called = [recipe.names[int(i)] for i in known]
    classes = np.array([naming.unknown if name is None else naming.ids[name] for name in called], naming.dtype)
    found = np.searchsorted(known, ids).clip(max=len(known) - 1)
    if (known[found] != ids).any():
        raise UserError(f"{path} has other ids than a moment ago; give the command again when nobody changes it")
    label = classes[found]
    written = Written(pixels_of(label, naming))
    if not recipe.originals.instance_maps:
        return label, label, written
    where = recipe.originals.instance_maps / item.annotated.instance_map
    numbers = read_numbers(str(where))
    if numbers.shape != label.shape:
        shapes = [f"{array.shape[1]} x {array.shape[0]}" for array in (numbers, label)]
        raise UserError(f"{where} is {shapes[0]} and {path} is {shapes[1]} (width x height); sizes must be equal")
    both, places = np.unique(numbers.astype(np.int64) * (naming.unknown + 1) + label, return_inverse=True)
    values, ids_of_pairs = np.divmod(both, naming.unknown + 1)
    plain = (values == 0) | np.isin(ids_of_pairs, [*recipe.stuff, naming.unknown])
    objects = np.where(plain, ids_of_pairs, naming.first_object + np.cumsum(~plain) - 1)
    _check_numbers(int(objects.max(initial=0)), where)
    return label, objects.astype(np.uint16)[places.reshape(label.shape)], written


def _check_numbers(highest: int, where: Path) -> None:
    if highest > 65535:
        raise UserError(
            f"{where} has objects beyond the number 65,535, which 16 bits hold; name what is no object (--stuff)"
        )


def read_numbers(path: str) -> np.ndarray:
    """The numbers [H, W] of an instance map: ids, or colours, of which black is no object.

    Raises:
        UserError: it cannot be read.
    """
    with open_image(path) as picture:
        painted = picture.mode in ("RGB", "RGBA") and picture.format not in ("JPEG", "MPO")
    if not painted:
        return read_id_array(path)
    red, green, blue = np.moveaxis(np.asarray(read_image(path)).astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue
