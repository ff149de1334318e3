"""Classes that a command makes of what is annotated: the most frequent ones, ids 0 .. n - 1, and unknown."""

from collections.abc import Mapping, Sequence

import numpy as np

from util.class_table import ClassTable


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


def class_table(title: str, names: Sequence[str]) -> ClassTable:
    """The table of classes 0 .. n - 1, without colours."""
    return ClassTable(title, dict(enumerate(names)), {})
