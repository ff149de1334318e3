"""Synthesised images beside the layouts that they were made from, and the photos."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.base_dataset import BaseDataset, Key, read_image
from data.image_folder import list_images
from data.pix2pix_dataset import Pix2pixDataset
from util.errors import UserError, first_few
from util.paths import unique_stems


class Pairs(torch.utils.data.Dataset):
    """The items of a data set, with `synthesized` (uint8 [3, H, W]) and `truth` (label ids, long [H, W]) of one size.

    Raises:
        UserError: an image is not there.
    """

    def __init__(self, dataset: Pix2pixDataset, folder: str | None, count: int, at_label: bool) -> None:
        """`folder`: of the images, named as test.py names them; None: there are none yet, and `truth` has the layouts'
        size. `count`: how many items count, from the first. `at_label`: `truth` has the size of its file instead."""
        self.dataset, self.preprocess, self._at_label = dataset, dataset.preprocess, at_label
        self._files = _files_of(dataset, folder, count) if folder is not None else None

    def __len__(self) -> int:
        return len(self.dataset)

    def path(self, index: int) -> str:
        """The name that results have."""
        return self.dataset.path(index)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        index = key if isinstance(key, int) else key[0]
        item = dict(self.dataset[key])
        size = tuple(item["label"].shape[-2:])
        if self._files is not None:
            pixels = np.asarray(read_image(self._files[index]))
            item["synthesized"] = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
            size = pixels.shape[:2]
        item["truth"] = self._truth(index, item["label"], size)
        return item

    def _truth(self, index: int, label: Tensor, size: tuple[int, int]) -> Tensor:
        if self._at_label:
            return self.dataset.label_at(index)
        if tuple(label.shape[-2:]) != size:
            return self.dataset.label_at(index, size)  # images of other code, of another size than ours
        return label[0].long()


def _files_of(dataset: BaseDataset, folder: str, count: int) -> list[str]:
    """The image of each of the first `count` items."""
    if not Path(folder).is_dir():
        raise UserError(f"--synthesized {folder} is not a folder; it is where images are, such as those of test.py")
    there = {Path(path).stem: path for path in list_images(folder)}
    stem_of = unique_stems()
    stems = [stem_of(dataset.path(place)) for place in range(count)]
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
