"""COCO-Stuff."""

import argparse
import os
from argparse import Namespace
from typing import Any

from data.path_table import PathTable
from data.pix2pix_dataset import Paths, Pix2pixDataset, split_of
from options.flags import add_switch


class CocoDataset(Pix2pixDataset):
    """{train,val}_{img,label,inst}/ under the root; `..._portrait` beside each is added when training."""

    options_title = "COCO-Stuff (--dataset_mode coco)"

    instances_from = "make {train,val}_inst with datasets/coco_generate_instance_map.py"

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        add_switch(group, "--coco_no_portraits", "leave out train_{img,label,inst}_portrait")

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        return dict(
            preprocess_mode="resize_and_crop",
            load_size=286 if is_train else 256,
            crop_size=256,
            label_nc=182,
            class_table="coco",
            contain_dontcare_label=True,
        )

    def find_paths(self, opt: Namespace) -> Paths:
        split = split_of(opt.phase)
        portraits = opt.isTrain and not opt.coco_no_portraits

        def files(kind: str) -> PathTable:
            found = self.list_images(os.path.join(opt.dataroot, f"{split}_{kind}"))
            beside = os.path.join(opt.dataroot, f"{split}_{kind}_portrait")
            return found + self.list_images(beside) if portraits and os.path.isdir(beside) else found

        def there(kind: str) -> bool:
            return os.path.isdir(os.path.join(opt.dataroot, f"{split}_{kind}"))

        return Paths(
            labels=files("label"),
            images=files("img") if opt.isTrain or there("img") else PathTable(),
            instances=files("inst") if not opt.no_instance and there("inst") else PathTable(),
        )
