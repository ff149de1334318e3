"""Looks at files before and during the work."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from data.base_dataset import read_image
from data.pix2pix_dataset import same_shape
from util.errors import UserError, first_few

Item = TypeVar("Item")
CHECKED = 4  # items of each part that are looked at before the work


def complete(
    images: str,
    files: Mapping[str, Mapping[str, str]],
    where: str,
    layout: str,
    partial: bool,
    way_out: str = "download or unpack it again",
    listed: Sequence[str] | None = None,
) -> list[str]:
    """The names of images that have all their files; with --partial others are left out, and a note says so.

    Args:
        images: what messages call them, such as "train images".
        files: what an image needs, such as "photo" and "label map"; by name, where it is.
        where: the archive or folder.
        layout: the files that should be there, for a message.
        listed: names that should be there, where something says so; else those that any file has.

    Raises:
        UserError: images lack a file, or none is there.
    """
    names = dict.fromkeys(itertools.chain.from_iterable(files.values()) if listed is None else listed)
    texts = []
    for needed, found in files.items():
        alone = [next((f[name] for f in files.values() if name in f), name) for name in names if name not in found]
        if alone:
            verb = "has" if len(alone) == 1 else "have"
            texts.append(f"{len(alone):,} of {len(names):,} {images} {verb} no {needed} ({first_few(alone)})")
    if texts and not partial:
        raise UserError(f"{where}: {'; '.join(texts)}: {way_out}, or pass --partial to leave out what is not whole")
    for text in texts:
        print(f"note: {where}: {text}: left out")
    whole = [name for name in names if all(name in found for found in files.values())]
    if not whole:
        raise UserError(f"{where} has no {images} with all their files, which should be {layout}; {way_out}")
    return whole


def look_first(look: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Refuse, before the work, items of which the first few are all wrong; one that is damaged is told at the end.

    Raises:
        UserError: what `look` says of the first.
    """
    errors = []
    for item in items[:CHECKED]:
        try:
            look(item)
            return
        except UserError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def check_photo(where: str, content: bytes, size: tuple[int, int], map_where: str) -> None:
    """Refuse a photo that is damaged, or of another shape than its label map of `size` (width, height).

    Raises:
        UserError: it is so.
    """
    picture = read_image(where, content)
    if not same_shape(picture.size, size):
        raise UserError(
            f"{where} is {picture.width} x {picture.height} but {map_where} is {size[0]} x {size[1]} (width x "
            "height): they are not one picture; unpack both again"
        )


def check_ids(where: str, ids: np.ndarray, lowest: int, highest: int, rule: str, unknown: int | None = None) -> None:
    """Refuse a label map [H, W] that has other ids than its data set has.

    Args:
        rule: what the data set's are, for the message.
        unknown: an id beside `lowest` .. `highest`.

    Raises:
        UserError: it has others.
    """
    wrong = (ids < lowest) | (ids > highest)
    if unknown is not None:
        wrong &= ids != unknown
    if wrong.any():
        listed = first_few(list(map(str, np.unique(ids[wrong]))), 4)
        raise UserError(f"{where} has ids {listed}, but {rule}; take the label maps as they were downloaded")
