"""What a command makes of what is annotated: the most frequent classes, ids 0 .. n - 1, and unknown; objects."""

from collections.abc import Mapping, Sequence

import numpy as np

from util.class_table import ClassTable
from util.errors import UserError


def most_frequent(pixels: Mapping[int, int], count: int) -> list[int]:
    """The keys of the `count` classes with most pixels, the largest first; of equals the smaller key first."""
    return sorted((key for key in pixels if pixels[key] > 0), key=lambda key: (-pixels[key], key))[:count]


def unknown_of(classes: int) -> int:
    """The id of unknown pixels beside ids 0 .. classes - 1: 255, or `classes` itself where 255 is a class."""
    return 255 if classes <= 255 else classes


def unknown_flags(classes: int) -> list[str]:
    """The flags of train.py that this id takes."""
    flags = ["--label_nc", str(classes), "--contain_dontcare_label"]
    return flags if unknown_of(classes) == 255 else [*flags, "--unknown_id", str(unknown_of(classes))]


def remapped(keys: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Keys [H, W] of at least 0 to the places that they have in `classes`, and unknown: uint8, or uint16 where needed.

    Keys that are not in `classes` are unknown.
    """
    unknown = unknown_of(len(classes))
    lookup = np.full(max(int(keys.max(initial=0)), *classes, 0) + 1, unknown)
    lookup[list(classes)] = np.arange(len(classes))
    return lookup[keys].astype(np.uint8 if unknown == 255 else np.uint16)


def object_numbers(labels: np.ndarray, instances: np.ndarray, where: str) -> np.ndarray:
    """Labels and instances [H, W] to a number for each object, uint16 [H, W]: 1, 2, ...; 0 where the label is 0.

    An object is what has the same pair of both: instances of several labels may have the same number.

    Args:
        labels: at least 0.
        instances: 0 .. 255.
        where: what messages call the file.

    Raises:
        UserError: there are more than 16 bits can tell apart, as in a damaged file.
    """
    pairs = np.where(labels == 0, 0, labels.astype(np.int32) * 256 + instances)
    is_there = np.zeros(pairs.max(initial=0) + 1, bool)
    is_there[pairs] = is_there[0] = True
    numbers = np.cumsum(is_there) - 1
    if numbers[-1] > np.iinfo(np.uint16).max:
        raise UserError(f"{where} has {numbers[-1]:,} objects, more than 65,535; download the file again")
    return numbers.astype(np.uint16)[pairs]


def class_table(title: str, names: Sequence[str]) -> ClassTable:
    """The table of classes 0 .. n - 1, without colours."""
    return ClassTable(title, dict(enumerate(names)), {})
