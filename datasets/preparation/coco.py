"""COCO's annotations, and instance maps made of them: objects on top of stuff."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.preparation.annotations import run_lengths
from datasets.preparation.shapes import Polygon
from util.errors import UserError

FIRST_INSTANCE = 256  # above every 8-bit class id

LEGACY_HELP = "instance maps as the released ones: 8 bits, numbers from 0 on, no crowds, polygons half a pixel off"

Segmentation = Sequence[Sequence[float]] | Mapping[str, Any]  # polygons, x y x y ...; or run lengths


@dataclass(frozen=True)
class Thing:
    """An object of a picture, or a crowd of them."""

    segmentation: Segmentation
    is_crowd: bool = False


@dataclass(frozen=True)
class Annotations:
    """The objects of one part of the data set."""

    sizes: dict[int, tuple[int, int]]  # by the image's id: height and width
    things: dict[int, list[Thing]]  # by the image's id, in the order of the file

    @classmethod
    def read(cls, content: bytes, where: str) -> "Annotations":
        """What an instances_{train,val}2017.json holds.

        Raises:
            UserError: it is none.
        """
        try:
            held: Mapping[str, Any] = json.loads(content)
            sizes = {_whole(image, "id"): (_whole(image, "height"), _whole(image, "width")) for image in held["images"]}
            things: dict[int, list[Thing]] = {}
            for annotation in held["annotations"]:
                segmentation = annotation["segmentation"]
                if not isinstance(segmentation, Mapping):  # smaller than lists of Python's numbers
                    segmentation = [np.asarray(polygon, np.float64) for polygon in segmentation]
                thing = Thing(segmentation, bool(annotation.get("iscrowd")))
                things.setdefault(_whole(annotation, "image_id"), []).append(thing)
        except KeyError as error:
            raise UserError(f"{where} is no COCO annotation file, or a damaged one: it has no {error}") from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            what = error if isinstance(error, ValueError) else "lists and objects are where they should not be"
            raise UserError(f"{where} is no COCO annotation file, or a damaged one: {what}") from None
        return cls(sizes, things)


def _whole(entry: Mapping[str, Any], name: str) -> int:
    value = entry[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} {value!r} is no whole number")
    return value


def instances_of(label: np.ndarray, things: list[Thing], size: tuple[int, int], where: str, legacy: bool) -> np.ndarray:
    """The instance map of a label map [H, W].

    Args:
        size: H and W, as annotated.
        where: what messages call the label map.

    Raises:
        UserError: sizes differ, or an annotation is damaged.
    """
    if label.shape != size:
        raise UserError(
            f"{where} is {label.shape[1]} x {label.shape[0]} but its image is {size[1]} x {size[0]} (width x height) "
            "in the annotations; make instance maps before any resizing"
        )
    # Mended (SPADE): crowds (run-length encoded) were left out, and polygons drawn half a pixel off.
    taken = [thing for thing in things if not (legacy and thing.is_crowd)]
    try:
        masks = ((legacy_mask_of if legacy else mask_of)(thing.segmentation, *size) for thing in taken)
        return legacy_instance_map(label, masks) if legacy else instance_map(label, masks)
    except ValueError as error:
        raise UserError(f"{where}: the annotations have {error} for it; download them again") from None


def instance_map(label: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray:
    """Class ids [H, W] and objects' masks [H, W] to instance ids uint16 [H, W]; later objects lie on top."""
    # Mended (SPADE): objects were numbered from 0, so that an object could get the number of a stuff class beside it.
    out = label.astype(np.uint16)
    for number, mask in enumerate(masks, start=FIRST_INSTANCE):
        out[mask.astype(bool)] = number
    return out


def legacy_instance_map(label: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray:
    """As the released maps are: objects are 0, 1, ... in 8 bits, beside stuff that has its class ids: uint8 [H, W].

    Quirk kept (SPADE), for --legacy alone: an object may have the number of a class beside it, where there is no edge
    then. Crowds are to be left out of `masks`.
    """
    out = label.astype(np.uint8)
    for number, mask in enumerate(masks):
        out[mask.astype(bool)] = number % 256
    return out


def legacy_mask_of(segmentation: Segmentation, height: int, width: int) -> np.ndarray:
    """A COCO segmentation as a mask, bool [H, W], as released maps show them.

    Quirk kept (SPADE), for --legacy alone: the pixel in column x of row y belongs to a polygon if (x + 1, y + 1) lies
    in it, not its centre. Released maps themselves show as much: no object of theirs reaches the last row or column,
    and they lie half a pixel left of and above those of the label maps.

    Raises:
        UserError: pycocotools is not installed.
        ValueError: it is no segmentation, or of another size.
    """
    if isinstance(segmentation, Mapping):
        return mask_of(segmentation, height, width)
    mask = np.zeros((height, width), bool)
    # Moved, since a Polygon has the pixels whose centres lie in it.
    outlines = tuple(np.asarray(polygon).reshape(-1, 2) - 0.5 for polygon in _polygons(segmentation))
    rows, columns, inside = Polygon(outlines).covered((width, height), line_width=0)
    mask[rows, columns] = inside
    return mask


def _polygons(segmentation: Sequence[Sequence[float]]) -> list[list[float]]:
    """Those of three corners at least.

    Raises:
        ValueError: one has half a corner.
    """
    if any(len(polygon) % 2 for polygon in segmentation):
        raise ValueError("a polygon of an odd number of values")
    return [list(polygon) for polygon in segmentation if len(polygon) >= 6]


def mask_of(segmentation: Segmentation, height: int, width: int) -> np.ndarray:
    """A COCO segmentation as a mask, bool [H, W].

    Raises:
        UserError: pycocotools is not installed.
        ValueError: it is no segmentation, or of another size.
    """
    masks = pycocotools_mask()
    try:
        if isinstance(segmentation, Mapping):
            if tuple(segmentation["size"]) != (height, width):
                raise ValueError(f"run lengths of {segmentation['size']}, not {[height, width]}")
            counts = run_lengths(segmentation["counts"], width, height).tolist()
            encoded = masks.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            return masks.decode(encoded).astype(bool)
        polygons = _polygons(segmentation)
        if not polygons:
            return np.zeros((height, width), bool)
        return masks.decode(masks.merge(masks.frPyObjects(polygons, height, width))).astype(bool)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"no segmentation ({type(error).__name__} {error})") from None


def pycocotools_mask() -> Any:
    """The module that knows COCO's masks.

    Raises:
        UserError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError("pycocotools is not installed: pip install -r requirements-coco.txt") from None
    return mask
