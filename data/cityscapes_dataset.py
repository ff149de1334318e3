"""Cityscapes, in the official tree."""

import os
from argparse import Namespace
from typing import Any

from data.path_table import PathTable
from data.pix2pix_dataset import Paths, Pix2pixDataset, split_of


class CityscapesDataset(Pix2pixDataset):
    """gtFine/{train,val}/CITY/*_labelIds.png and *_instanceIds.png, leftImg8bit/{train,val}/CITY/*.png."""

    instances_from = "unpack gtFine_trainvaltest.zip whole"

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        return dict(
            preprocess_mode="fixed",
            load_size=512,
            crop_size=512,
            aspect_ratio=2.0,
            label_nc=35,
            class_table="cityscapes",
            batchSize=16,
            num_upsampling_layers="more",
        )

    def find_paths(self, opt: Namespace) -> Paths:
        # Mended (SPADE): --phase val read the training pictures.
        split = split_of(opt.phase)
        photos = os.path.join(opt.dataroot, "leftImg8bit", split)
        paths = self._annotations(opt, os.path.join(opt.dataroot, "gtFine", split))
        paths.images = self.list_images(photos, recursive=True) if opt.isTrain or os.path.isdir(photos) else PathTable()
        return paths

    def find_layouts(self, opt: Namespace) -> Paths:
        """A folder of the official annotations, with those of cities in it; else one of label maps alone."""
        paths = self._annotations(opt, opt.label_dir)
        return paths if paths.labels else super().find_layouts(opt)

    def _annotations(self, opt: Namespace, root: str) -> Paths:
        files = self.list_images(root, recursive=True)
        return Paths(
            labels=files.where(p.endswith("_labelIds.png") for p in files),
            instances=PathTable() if opt.no_instance else files.where(p.endswith("_instanceIds.png") for p in files),
        )

    def pair_key(self, path: str) -> str:
        """City, sequence and frame: the first three parts of the name."""
        return "_".join(os.path.basename(path).split("_")[:3])
