"""Pairs of label map and photo, with instance maps where there are any: the base of SPADE's data sets."""

import argparse
import collections
import multiprocessing
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.base_dataset import BaseDataset, Plan, image_tensor, open_image, read_id_array, read_image
from data.id_rules import IdRules
from data.image_folder import EXTENSIONS, list_images, natural_order
from data.path_table import PathTable
from options.flags import add_switch
from util.class_table import ClassTable, Palette, table_names
from util.errors import UserError, first_few


@dataclass
class Paths:
    """Files that pair up by position; `images` and `instances` may be empty. A data set that is there has tables."""

    labels: Sequence[str]
    images: Sequence[str] = field(default_factory=PathTable)
    instances: Sequence[str] = field(default_factory=PathTable)


class Pix2pixDataset(BaseDataset):
    """Items: `label` and `instance` integers [1, H, W], `image` float [3, H, W] in [-1, 1], `path` str.

    Ids stay small until they are on the device: `label` is uint8, or int16 or int32 where there are more classes;
    `instance` is uint8 or int32, as its file is, and absent with --no_instance; `image` is absent for layouts alone
    (testing without photos). Subclasses give `find_paths`.
    """

    options_title = "label maps (all data sets)"
    zero_is_unknown = False  # ADE20K
    instances_from = "give --instance_dir"  # where instance maps come from, for a message

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        add_switch(group, "--no_pairing_check", "do not check that paired files have the same name")
        group.add_argument("--label_dir", help="folder of label maps (custom; at test any data set's layouts)")
        group.add_argument("--image_dir", help="folder of photos (custom; not needed at test)")
        group.add_argument("--instance_dir", help="folder of instance maps (custom, optional)")
        group.add_argument(
            "--class_table", help=f"names and colours of classes: a JSON file, or one of {', '.join(table_names())}"
        )
        group.add_argument(
            "--label_palette",
            nargs="?",
            const="",
            metavar="TABLE",
            help="label maps are painted in the colours of this class table (no value: of --class_table)",
        )

    def __init__(self, opt: Namespace, paths: Paths | None = None) -> None:
        """`paths`: files that pair up; None: those of `found`, checked.

        Raises:
            UserError: files are missing or do not pair up.
        """
        super().__init__(opt)
        self.opt = opt
        self.paths = self._gather() if paths is None else paths
        self.rules = IdRules.from_options(opt, self.zero_is_unknown)
        self.palette = _palette(opt)
        self.with_instances = not opt.no_instance
        self._warned = multiprocessing.Value("b", 0)  # one warning over all worker processes
        if self.palette is None and opt.class_table and self.paths.labels:
            self._warn_of_palette(ClassTable.load(opt.class_table))

    def __len__(self) -> int:
        return len(self.paths.labels)

    def find_paths(self, opt: Namespace) -> Paths:
        """The files of this data set under `opt.dataroot`; `list_images` of this object obeys the cache flags.

        Raises:
            UserError: a folder that is needed is not there.
        """
        raise NotImplementedError

    def find_layouts(self, opt: Namespace) -> Paths:
        """The files of --label_dir, --image_dir and --instance_dir."""
        return Paths(
            labels=self.list_images(opt.label_dir),
            images=self.list_images(opt.image_dir) if opt.image_dir else PathTable(),
            instances=self.instance_folder(opt),
        )

    def instance_folder(self, opt: Namespace) -> PathTable:
        """The files of --instance_dir, if it is given and instances are used."""
        return self.list_images(opt.instance_dir) if opt.instance_dir and not opt.no_instance else PathTable()

    def list_images(self, root: str, recursive: bool = False) -> PathTable:
        """`data.image_folder.list_images` with the cache flags of the command line."""
        dataroot = self.opt.dataroot
        inside = Path(os.path.abspath(root)).is_relative_to(os.path.abspath(dataroot))
        if inside and not os.path.isdir(dataroot):
            mode = self.opt.dataset_mode
            raise UserError(
                f"--dataroot {dataroot} is not a folder; it is where the files of --dataset_mode {mode} are"
            )
        return list_images(root, recursive, self.opt.cache_filelist_read, self.opt.cache_filelist_write)

    def path(self, index: int) -> str:
        return (self.paths.images or self.paths.labels)[index]

    def files(self, index: int) -> dict[str, tuple[str, bytes | None]]:
        """The files of an item by what they are (`label`, `image`, `instance`): path, and None: it is read from there.

        Or a name for messages, and the file's bytes.
        """
        kinds = {"label": self.paths.labels, "image": self.paths.images, "instance": self.paths.instances}
        return {kind: (paths[index], None) for kind, paths in kinds.items() if paths}

    def files_of(self, index: int) -> list[str]:
        return [paths[index] for paths in (self.paths.labels, self.paths.images, self.paths.instances) if paths]

    def load(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        files = self.files(index)
        label_path, content = files["label"]
        label = read_id_array(label_path, self.palette, content)
        self.rules.check(label, label_path)
        size = size_of(label)
        plan = self.preprocess.plan(size, rng)
        self._warn_of_overhang(label_path, size, plan)
        item: dict[str, Any] = {"label": self.rules.classes(plan.apply_to_ids(label))}
        if self.with_instances:
            if "instance" in files:
                path, content = files["instance"]
                instance = read_id_array(path, content=content)
                check_sizes(self.preprocess.mode, size_of(instance), path, size, label_path)
                dtype = np.uint8 if instance.dtype == np.uint8 else np.int32  # torch can do little with uint16
                item["instance"] = torch.from_numpy(plan.apply_to_ids(instance).astype(dtype, copy=False))[None]
            else:
                item["instance"] = torch.zeros_like(item["label"])
        if "image" in files:
            path, content = files["image"]
            image = read_image(path, content)
            check_sizes(self.preprocess.mode, image.size, path, size, label_path)
            item["image"] = image_tensor(plan.apply(image, Image.Resampling.BICUBIC))
        item["path"] = self.path(index)
        return item

    @property
    def has_photos(self) -> bool:
        """Whether items have photos."""
        return bool(self.paths.images)

    def photo(self, index: int) -> Image.Image:
        """An item's photo, RGB, as it is in its file.

        Raises:
            UserError: the file cannot be read.
        """
        return read_image(*self.files(index)["image"])

    def photo_version(self, index: int) -> tuple[str | int, ...]:
        """What changes when an item's photo does: its name, and size and time of its file."""
        return version_of(self.paths.images[index])

    def label_version(self, index: int) -> tuple[str | int, ...]:
        """What tells an item's label map from others: its name without an ending, and the bytes of its file."""
        return os.path.splitext(os.path.basename(self.path(index)))[0], os.path.getsize(self.paths.labels[index])

    def label_at(self, index: int, size: tuple[int, int] | None = None) -> Tensor:
        """An item's label ids, long [H, W], resized from its file to `size` = (H, W); None: at the file's own size.

        Raises:
            UserError: the file cannot be read.
        """
        path, content = self.files(index)["label"]
        ids = read_id_array(path, self.palette, content)
        self.rules.check(ids, path)
        if size is not None:
            ids = Plan(size[::-1], None, flip=False).apply_to_ids(ids)
        return self.rules.classes(ids)[0].long()

    def pair_key(self, path: str) -> str:
        """What files that belong together share in their names."""
        return os.path.splitext(os.path.basename(path))[0]

    # ------------------------------------------------------------------------------------------------- finding files

    def found(self) -> Paths:
        """All files of the data set in natural order, whether they pair up or not.

        Raises:
            UserError: a folder that is needed is not there.
        """
        opt = self.opt
        if opt.label_dir and opt.dataset_mode != "custom":  # at test: a folder of layouts under this data set's rules
            paths = self.find_layouts(opt)
        else:
            paths = self.find_paths(opt)
        return Paths(*(natural_order(p) for p in (paths.labels, paths.images, paths.instances)))

    def _gather(self) -> Paths:
        opt, paths = self.opt, self.found()
        if not paths.labels:
            where = opt.label_dir or opt.dataroot
            deeper = ""
            if opt.label_dir:
                inside = sorted(path.name for path in Path(where).iterdir() if path.is_dir())[:4]
                deeper = f"; its subfolders {', '.join(inside)} are not searched" if inside else ""
            raise UserError(
                f"no label maps of --dataset_mode {opt.dataset_mode} found in {where} (--phase {opt.phase}); they are "
                f"files that end in {', '.join(sorted(EXTENSIONS))}{deeper}"
            )
        if opt.isTrain and not paths.images:
            raise UserError(f"no photos of --dataset_mode {opt.dataset_mode} found in {opt.image_dir or opt.dataroot}")
        if not opt.no_instance and not paths.instances:
            self._do_without_instances()
        if not opt.isTrain and not opt.no_pairing_check:
            paths.images = self._of_layouts(paths.labels, paths.images, "images")
            paths.instances = self._of_layouts(paths.labels, paths.instances, "instance maps")
        for what, files in (("images", paths.images), ("instance maps", paths.instances)):
            if files:
                self._check_pairs(paths.labels, files, what)
        limit = opt.max_dataset_size
        return Paths(paths.labels[:limit], paths.images[:limit], paths.instances[:limit])

    def _of_layouts(self, labels: PathTable, others: PathTable, what: str) -> PathTable:
        """Of a folder of photos those that belong to the layouts at hand."""
        keys = set(map(self.pair_key, labels))
        own = others.where(self.pair_key(path) in keys for path in others)
        if others and not own:
            raise UserError(
                f"none of the {len(others)} {what} in {os.path.dirname(others[0])} has the name of a label "
                f"map{self._alone(labels, others, what)}; rename them, or leave the folder out"
            )
        return own

    def _do_without_instances(self) -> None:
        """The channel of instance edges stays, all zero: right for custom data, a mistake in training on others."""
        opt = self.opt
        if opt.isTrain and opt.dataset_mode != "custom":
            raise UserError(
                f"no instance maps of --dataset_mode {opt.dataset_mode} in {opt.dataroot}: {self.instances_from}, "
                "or pass --no_instance to train without them"
            )
        saving = "; --no_instance saves it" if opt.isTrain else ""
        print(
            f"note: without instance maps (--instance_dir) the channel of their edges is zero everywhere{saving}",
            file=sys.stderr,
        )

    def _check_pairs(self, labels: PathTable, others: PathTable, what: str) -> None:
        if len(labels) != len(others):
            raise UserError(
                f"{len(labels)} label maps but {len(others)} {what}; they pair up in sorted order"
                f"{'' if self.opt.no_pairing_check else self._alone(labels, others, what)}"
            )
        if self.opt.no_pairing_check:
            return
        for label, other in zip(labels, others, strict=True):
            if self.pair_key(label) != self.pair_key(other):
                raise UserError(
                    f"{label} and {other} pair up by their place in the sorted lists, but their names "
                    f"differ{self._alone(labels, others, what)}; rename them, or pass --no_pairing_check if the order "
                    "is right"
                )

    def _alone(self, labels: PathTable, others: PathTable, what: str) -> str:
        """The first files of either list that have no counterpart in the other, or several."""
        text = ""
        for files, against, other in ((labels, others, what), (others, labels, "label map")):
            stems = {self.pair_key(p) for p in against}
            alone = [p for p in files if self.pair_key(p) not in stems]
            if alone:
                text += f"; no {other} for {first_few(alone)}"
        for files in (labels, others):
            times = collections.Counter(self.pair_key(path) for path in files)
            twice = [path for path in files if times[self.pair_key(path)] > 1]
            if twice:
                text += f"; of one name are {', '.join(twice[:4])}{', ...' if len(twice) > 4 else ''}"
        return text

    # ----------------------------------------------------------------------------------------------- ids and warnings

    def _warn_of_overhang(self, path: str, size: tuple[int, int], plan: Plan) -> None:
        if plan.crop is None or self._warned.value:
            return
        _, _, width, height = plan.crop
        if width > plan.size[0] or height > plan.size[1]:
            with self._warned:
                if self._warned.value:
                    return
                self._warned.value = 1
            # Quirk kept (SPADE): the part of a crop outside the image is black with label 0, although 0 is a class.
            print(
                f"warning: {path} ({size[0]} x {size[1]}) is {plan.size[0]} x {plan.size[1]} when resized, less than "
                f"the {width} x {height} crop; the rest is filled with black and label 0 (said once; a larger "
                "--load_size or another --preprocess_mode avoids it)",
                file=sys.stderr,
                flush=True,
            )

    def _warn_of_palette(self, table: ClassTable) -> None:
        """A palette PNG is read by index. Say so where its colours are those of other classes of the table."""
        try:
            path, content = self.files(0)["label"]
            with open_image(path, content) as picture:
                if picture.mode != "P":
                    return
                ids, first = np.unique(read_id_array(path, content=content), return_index=True)
                colors = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        except (UserError, OSError):
            return  # whoever loads it says what is wrong
        own = {color: index for index, color in table.colors.items()}
        seen = {int(i): tuple(map(int, colors[k])) for i, k in zip(ids, first, strict=True)}
        other = [(i, own[color]) for i, color in seen.items() if color in own and table.colors.get(i) != color]
        if 2 * len(other) > len(ids):
            index, named = other[0]
            print(
                f"warning: {path} is read by index, but its colours say otherwise: index {index} ({table.name(index)}) "
                f"has the colour of {table.name(named)} ({named}), and so on. If the colours are right, pass "
                "--label_palette",
                file=sys.stderr,
            )


def _palette(opt: Namespace) -> Palette | None:
    if opt.label_palette is None:
        return None
    which = opt.label_palette or opt.class_table
    if which is None:
        raise UserError("--label_palette needs a class table: --label_palette TABLE, or --class_table TABLE beside it")
    return Palette(ClassTable.load(which), which)


def version_of(path: str) -> tuple[str | int, ...]:
    """Name, size and time of a file."""
    stat = os.stat(path)
    return os.path.basename(path), stat.st_size, stat.st_mtime_ns


def size_of(ids: np.ndarray) -> tuple[int, int]:
    """Width and height of a map [H, W]."""
    return ids.shape[1], ids.shape[0]


def check_sizes(mode: str, other: tuple[int, int], other_path: str, label: tuple[int, int], label_path: str) -> None:
    """Refuse a photo or an instance map whose size (width, height) does not go with that of its label map.

    Raises:
        UserError: their shapes differ, or their sizes where the --preprocess_mode does not resize.
    """
    if other == label:
        return
    if mode in ("crop", "none"):
        rule = f"--preprocess_mode {mode} needs equal sizes"
    elif not same_shape(other, label):
        rule = "a pair may differ in size, but not in shape; is it the same picture, uncropped and unturned?"
    else:
        return
    raise UserError(
        f"{other_path} is {other[0]} x {other[1]} but {label_path} is {label[0]} x {label[1]} (width x height): {rule}"
    )


def same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes are one shape, but for rounding each side to whole pixels."""
    return abs(a[0] * b[1] - b[0] * a[1]) <= max(*a, *b)


def split_of(phase: str) -> str:
    """The folder of a phase: `test` reads the validation pictures, since these data sets publish no others."""
    return "val" if phase == "test" else phase
