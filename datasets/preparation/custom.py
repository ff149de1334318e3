"""Photos with shapes or label maps of any kind, and what is written for them: photo, label map, instance map.

Letters: H W size of a map; n classes, whose ids are 0 .. n - 1.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from data.base_dataset import open_image, read_id_array, read_image
from datasets.preparation.archives import Source
from datasets.preparation.naming import Naming
from datasets.preparation.orientation import Stored, save_upright, suffix_of
from datasets.preparation.output import copy, is_there
from datasets.preparation.pairing import Annotated
from datasets.preparation.shapes import NOTHING, Order, draw
from util.class_table import Palette
from util.errors import UserError
from util.files import save_image

KINDS = ("img", "label", "inst")


@dataclass(frozen=True)
class Seen:
    """What a first look at a photo and its annotation shows."""

    turned: bool  # the photo must be turned
    size: tuple[int, int]  # of the label map that comes of it
    pixels: dict[int, int]  # of the ids of a label map


@dataclass(frozen=True)
class Item:
    """What is written for a photo."""

    annotated: Annotated
    seen: Seen
    part: str
    stem: str


@dataclass(frozen=True)
class Recipe:
    """What all items have in common."""

    images: Path
    annotations: Path  # the folder, or the file
    instance_maps: Path | None
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
    hidden: Counter[str] = field(default_factory=Counter)  # shapes under others, by class
    empty: Counter[str] = field(default_factory=Counter)  # shapes that cover no pixel, by class


def look(annotated: Annotated, images: Path, maps: Path | None, palette: Palette | None, heed_exif: bool) -> Seen:
    """How a photo and its annotation fit, and the ids of its label map.

    Raises:
        UserError: a file cannot be read, or sizes differ.
    """
    photo = str(images / annotated.photo)
    stored = Stored.of(photo)
    if annotated.drawing is None and maps is not None:
        ids = read_map(str(maps / annotated.file), palette)
        found, counts = np.unique(ids, return_counts=True)
        size = (ids.shape[1], ids.shape[0])
        turned = stored.must_turn(size, exactly=False, heed_exif=heed_exif, where=photo)
        return Seen(turned, size, dict(zip(found.tolist(), counts.tolist(), strict=True)))
    # Programs that note no size show photos as they were taken.
    annotated_size = annotated.drawing.size if annotated.drawing else None
    size = annotated_size or (stored.shown if heed_exif else stored.size)
    return Seen(stored.must_turn(size, exactly=True, heed_exif=heed_exif, where=photo), size, {})


def read_map(path: str, palette: Palette | None) -> np.ndarray:
    """The ids [H, W] of a label map.

    Raises:
        UserError: it cannot be read, or has colours that the palette does not know.
    """
    try:
        return read_id_array(path, palette)
    except UserError as error:
        raise UserError(str(error).replace("--label_palette", "--palette")) from None


def prepare(item: Item, recipe: Recipe) -> Written:
    """Write what is not there yet of a photo, its label map and its instance map.

    Raises:
        UserError: a file is damaged.
        OSError: the disk is full or the folder is not writable.
    """
    photo, label, instance = (recipe.out / name for name in files_of(item))
    sources = [recipe.annotations / item.annotated.file] if item.annotated.file else []
    if item.annotated.instance_map and recipe.instance_maps:
        sources.append(recipe.instance_maps / item.annotated.instance_map)
    written = None
    if is_current(label, *sources) and (not recipe.with_instances or is_current(instance, *sources)):
        try:
            written = Written(pixels_of(read_id_array(str(label)), recipe.naming))
        except UserError:  # damaged since
            pass
    maps = []
    if written is None:
        make = of_map if item.annotated.drawing is None else of_drawing
        ids, objects, written = make(item, recipe)
        maps = [(ids, label), (objects, instance)] if recipe.with_instances else [(ids, label)]
    original = recipe.images / item.annotated.photo
    # All maps have been read by now, so that no file is written without the others. Where they are new, the annotated
    # size may be new as well, and with it what is up.
    if maps or not is_current(photo, original):
        if item.seen.turned:
            save_upright(str(original), photo)
        else:
            read_image(str(original))  # one that is cut short would stop the training
            copy(Source(recipe.images), item.annotated.photo, photo, recipe.link)
    for array, path in maps:
        save_image(Image.fromarray(array), path)
    return written


def files_of(item: Item) -> list[str]:
    """Where the photo, the label map and the instance map go."""
    endings = {"img": suffix_of(item.annotated.photo, item.seen.turned)}
    return [f"{item.part}_{kind}/{item.stem}{endings.get(kind, '.png')}" for kind in KINDS]


def is_current(path: Path, *sources: Path) -> bool:
    """Whether a file is there and no older than what it was made of."""
    return is_there(path) and all(os.path.getmtime(path) >= os.path.getmtime(source) for source in sources)


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
    _check_numbers(max(objects), recipe.images / item.annotated.photo)
    lookup = np.array([recipe.background, *classes], naming.dtype)
    label, shown = lookup[places - NOTHING], np.bincount(places.reshape(-1) - NOTHING, minlength=len(shapes) + 1)[1:]
    written = Written(pixels_of(label, naming))
    for shape, count, seen in zip(shapes, covered, shown, strict=True):
        if not seen:
            (written.hidden if count else written.empty)[naming.called[shape.label]] += 1
    return label, np.array(objects, np.uint16)[places - NOTHING], written


def of_map(item: Item, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, Written]:
    """The label map [H, W] of a label map, and the instance map if there is one.

    Raises:
        UserError: a file is damaged.
    """
    naming, path = recipe.naming, recipe.annotations / item.annotated.file
    ids = read_map(str(path), recipe.palette)
    known = np.array(sorted(recipe.names), np.int64)
    called = [recipe.names[int(i)] for i in known]
    classes = np.array([naming.unknown if name is None else naming.ids[name] for name in called], naming.dtype)
    found = np.searchsorted(known, ids).clip(max=len(known) - 1)
    if (known[found] != ids).any():
        raise UserError(f"{path} has other ids than a moment ago; give the command again when nobody changes it")
    label = classes[found]
    written = Written(pixels_of(label, naming))
    if not recipe.instance_maps:
        return label, label, written
    where = recipe.instance_maps / item.annotated.instance_map
    numbers = read_numbers(str(where))
    if numbers.shape != label.shape:
        shapes = [f"{array.shape[1]} x {array.shape[0]}" for array in (numbers, label)]
        raise UserError(f"{where} is {shapes[0]} and {path} is {shapes[1]} (width x height); sizes must be equal")
    pairs, places = np.unique(numbers.astype(np.int64) * (naming.unknown + 1) + label, return_inverse=True)
    values, ids_of_pairs = np.divmod(pairs, naming.unknown + 1)
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
