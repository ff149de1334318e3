"""Any data set in tar shards, as datasets/pack_shards.py leaves them."""

import argparse
import os
from argparse import Namespace
from typing import Any

import numpy as np

from data.base_dataset import BaseDataset
from data.pix2pix_dataset import Paths, Pix2pixDataset, version_of
from data.shards import CLASSES_NAME, INDEX_NAME, Shards, read_index
from options.flags import positive
from util.errors import UserError
from util.seeding import seed_from

WINDOW = 8  # shards whose items are mixed


def rules_of(mode: str | None) -> type[Pix2pixDataset]:
    """The data set that shards were packed from, whose rules say what their ids mean.

    Raises:
        UserError: there is none of that name.
    """
    from data import DATASETS  # here, since this data set is one of them

    known = {
        name: kind
        for name, kind in DATASETS.items()
        if issubclass(kind, Pix2pixDataset) and not issubclass(kind, ShardsDataset)
    }
    if mode not in known:
        raise UserError(f"shards of --dataset_mode {mode}: there are {', '.join(known)} (--packed_from names one)")
    return known[mode]


class ShardsDataset(Pix2pixDataset):
    """Tar shards under the root, and their index, which says what was packed and sets its flags."""

    options_title = "tar shards (--dataset_mode shards)"
    instances_from = "pack them with instance maps"

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        group.add_argument(
            "--shard_window",
            type=positive,
            default=WINDOW,
            metavar="N",
            help="shards whose items are mixed at a time, when shuffling",
        )
        group.add_argument(
            "--packed_from",
            metavar="MODE",
            help="data set that the shards were packed from, whose rules hold (default: what their index.json says)",
        )

    @staticmethod
    def found_defaults(dataroot: str, is_train: bool) -> dict[str, Any]:
        """The defaults of the data set that was packed, and the flags that it was packed with."""
        index = read_index(dataroot)
        if index is None:
            return {}
        flags = {name: value for name, value in index.flags.items() if value is not None}
        if flags.get("class_table") == CLASSES_NAME:
            flags["class_table"] = os.path.join(dataroot, CLASSES_NAME)
        return {**rules_of(index.dataset_mode).defaults(is_train), **flags, "packed_from": index.dataset_mode}

    @classmethod
    def create(cls, opt: Namespace) -> BaseDataset:
        """Shards; or, with --label_dir, which test.py takes for all data sets, loose layouts by the rules of theirs."""
        if opt.label_dir:
            return rules_of(opt.packed_from)(Namespace(**{**vars(opt), "dataset_mode": opt.packed_from}))
        return cls(opt)

    def __len__(self) -> int:
        return len(self.paths.labels)

    def path(self, index: int) -> str:
        return self.paths.labels[index]

    def files(self, index: int) -> dict[str, tuple[str, bytes | None]]:
        return self.shards.read(range(len(self))[index])

    @property
    def has_photos(self) -> bool:
        return "image" in self.shards.index.members

    def photo_version(self, index: int) -> tuple[str | int, ...]:
        return self.path(index), *version_of(os.path.join(self.shards.folder, INDEX_NAME))

    def label_version(self, index: int) -> tuple[str | int, ...]:
        size = self.shards.items.sizes[index, self.shards.index.members.index("label")]
        return os.path.splitext(self.path(index))[0], int(size)

    def order(self, epoch: int, size: int) -> np.ndarray:
        """Shards in an order of (seed, epoch), the items of some of them at a time mixed."""
        rng = np.random.default_rng(seed_from(self.seed, epoch))
        return self.shards.order(rng, size, self.opt.shard_window)

    def _gather(self) -> Paths:
        """The names that items report, in the place of files' paths."""
        opt = self.opt
        self.shards = Shards(opt.dataroot)
        mode, members = self.shards.index.dataset_mode, self.shards.index.members
        self.zero_is_unknown = rules_of(mode).zero_is_unknown
        if rules_of(opt.packed_from or mode).zero_is_unknown != self.zero_is_unknown:
            raise UserError(
                f"the shards in {opt.dataroot} were packed from --dataset_mode {mode}, but --packed_from "
                f"{opt.packed_from} has another id for unknown pixels; pass --packed_from {mode} if theirs is right"
            )
        if opt.isTrain and "image" not in members:
            raise UserError(
                f"the shards in {opt.dataroot} (--phase {self.shards.index.phase}) were packed without photos, which "
                "training needs: give the folder of the training part"
            )
        self.opt = Namespace(**{**vars(opt), "dataset_mode": mode})  # whose rules and messages are those
        if not opt.no_instance and "instance" not in members:
            self._do_without_instances()
        return Paths(self.shards.items.names[: opt.max_dataset_size])
