"""Synthesised images beside the layouts that they were made from, and the photos."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from data.base_dataset import BaseDataset, Key, read_image
from data.image_folder import list_images
from data.pix2pix_dataset import Pix2pixDataset
from util.errors import UserError, first_few
from util.paths import unique_stems

T = TypeVar("T")


class Part(torch.utils.data.Dataset):
    """The items of a data set at some places."""

    def __init__(self, dataset: BaseDataset, places: Sequence[int]) -> None:
        self.dataset, self.preprocess, self.places = dataset, dataset.preprocess, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        index, *draw = (key,) if isinstance(key, int) else key
        return self.dataset[(self.places[index], *draw) if draw else self.places[index]]


class Pairs(Part):
    """Items of a data set, with `synthesized` (uint8 [3, H, W]) and `truth` (label ids, long [H, W]) of one size.

    Raises:
        UserError: an image is not there.
    """

    def __init__(
        self,
        dataset: Pix2pixDataset,
        folder: str | None,
        places: Sequence[int],
        at_label: bool,
        with_others: bool = False,
    ) -> None:
        """Takes the items at `places`.

        Args:
            folder: of the images, named as test.py names them; None: there are none yet, and `truth` has the layouts'
                size.
            at_label: `truth` has the size of its file instead.
            with_others: items have `other` too, the truth of the layout that is half of all items away.
        """
        super().__init__(dataset, places)
        self._at_label, self._with_others = at_label, with_others
        self._files = _files_of(dataset, folder, places) if folder is not None else None

    def stems(self) -> list[str]:
        """The names that test.py gives the items' images."""
        return stems_of(self.dataset, self.places)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        index = key if isinstance(key, int) else key[0]
        place, item = self.places[index], dict(super().__getitem__(key))
        size = tuple(item["label"].shape[-2:])
        if self._files is not None:
            pixels = np.asarray(read_image(self._files[index]))
            item["synthesized"] = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
            size = pixels.shape[:2]
        item["truth"] = self._truth(place, item["label"], size)
        if self._with_others:
            other = self.places[(index + len(self.places) // 2) % len(self.places)]
            item["other"] = self.dataset.label_at(other, tuple(item["truth"].shape))
        return item

    def _truth(self, index: int, label: Tensor, size: tuple[int, int]) -> Tensor:
        if self._at_label:
            return self.dataset.label_at(index)
        if tuple(label.shape[-2:]) != size:
            return self.dataset.label_at(index, size)  # images of other code, of another size than ours
        return label[0].long()


def chosen_places(opt: Namespace, dataset: BaseDataset) -> Sequence[int]:
    """Those that --how_many or --subset name: the first N, N evenly spread, or those of a list of names; else all.

    Raises:
        UserError: the list has a name that no layout has.
    """
    if opt.subset is None:
        return range(len(dataset) if opt.how_many is None else min(len(dataset), opt.how_many))
    if opt.subset.isdecimal():
        return evenly_spread(int(opt.subset), range(len(dataset)))
    return _listed(Path(opt.subset), dataset)


def evenly(count: int, places: int) -> list[int]:
    """`count` of the places 0 .. places - 1, evenly spread; some come again where there are fewer."""
    return [place * places // count for place in range(count)]


def evenly_spread(count: int, items: Sequence[T]) -> list[T]:
    """At most `count` of the items, evenly spread."""
    return [items[place] for place in evenly(min(count, len(items)), len(items))]


def _listed(path: Path, dataset: BaseDataset) -> list[int]:
    """The places of the layouts that a file names, in the data set's order."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"--subset {path} is neither a number nor a text file with layouts' names ({why})") from None
    stems = [Path(dataset.path(place)).stem for place in range(len(dataset))]
    known = set(stems)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    names = {line if line in known else Path(line).stem for line in lines}  # with an ending or without
    missing = sorted(names - known)
    if missing or not names:
        what = f"names {len(missing)} layouts that are not there ({first_few(missing)})" if names else "names no layout"
        raise UserError(f"--subset {path} {what}; it has a line for each, such as {stems[0]}")
    return [place for place, stem in enumerate(stems) if stem in names]


def stems_of(dataset: BaseDataset, places: Sequence[int]) -> list[str]:
    """The names that test.py gives the images of the layouts at `places`, which depend on all names before them."""
    stem_of = unique_stems()
    stems = [stem_of(dataset.path(place)) for place in range(max(places, default=-1) + 1)]
    return [stems[place] for place in places]


def _files_of(dataset: BaseDataset, folder: str, places: Sequence[int]) -> list[str]:
    """The image of each of the items at `places`."""
    if not Path(folder).is_dir():
        raise UserError(f"--synthesized {folder} is not a folder; it is where images are, such as those of test.py")
    there = {Path(path).stem: path for path in list_images(folder)}
    stems = stems_of(dataset, places)
    missing = [stem for stem in stems if stem not in there]
    if missing:
        some = f"{len(missing)} of {len(stems)} layouts have no image in --synthesized {folder}"
        raise UserError(
            f"{some} ({first_few(missing)}); they are named as the layouts' photos are, and --how_many N evaluates the "
            "first N layouts alone"
        )
    return [there[stem] for stem in stems]


def photos_to_uint8(images: Tensor) -> Tensor:
    """Photos as the loader gives them, float [N, 3, H, W] in [-1, 1], as the uint8 they were made from."""
    return images.add(1).mul(127.5).round().to(torch.uint8)
