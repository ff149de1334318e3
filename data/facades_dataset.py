"""CMP Facades."""

import os
from argparse import Namespace
from typing import Any

from data.path_table import PathTable
from data.pix2pix_dataset import Paths, Pix2pixDataset, split_of


class FacadesDataset(Pix2pixDataset):
    """{train,val}_{img,label}/ under the root."""

    folder_flags = frozenset({"instance_dir"})

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        return dict(
            preprocess_mode="resize_and_crop",
            load_size=286 if is_train else 256,
            crop_size=256,
            label_nc=13,
            class_table="facades",
            contain_dontcare_label=False,
            no_instance=True,
        )

    def find_paths(self, opt: Namespace) -> Paths:
        split = split_of(opt.phase)
        photos = os.path.join(opt.dataroot, f"{split}_img")
        return Paths(
            labels=self.list_images(os.path.join(opt.dataroot, f"{split}_label")),
            images=self.list_images(photos) if opt.isTrain or os.path.isdir(photos) else PathTable(),
            instances=self.instance_folder(opt),
        )
