"""ADE20K, scene parsing benchmark."""

import os
from argparse import Namespace
from typing import Any

from data.pix2pix_dataset import Paths, Pix2pixDataset, split_of


class Ade20kDataset(Pix2pixDataset):
    """Any tree under the root: `.jpg` photos and `.png` labels with `_train_` or `_val_` in their names."""

    # Quirk kept (SPADE): ADE20K ids are not shifted. Channel 0 is 'unknown' and 1 .. 150 are the classes, as the
    # published weights were trained, so that id label_nc is a class here and not 'unknown'.
    zero_is_unknown = True
    folder_flags = frozenset({"instance_dir"})

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        return dict(
            preprocess_mode="resize_and_crop",
            load_size=286 if is_train else 256,
            crop_size=256,
            label_nc=150,
            class_table="ade20k",
            contain_dontcare_label=True,
            no_instance=True,
        )

    def find_paths(self, opt: Namespace) -> Paths:
        # Mended (SPADE): --phase val read the training pictures.
        part = f"_{split_of(opt.phase)}_"
        files = self.list_images(opt.dataroot, recursive=True)
        files = files.where(part in os.path.basename(p) for p in files)
        return Paths(
            labels=files.where(p.lower().endswith(".png") for p in files),
            images=files.where(p.lower().endswith((".jpg", ".jpeg")) for p in files),
            instances=self.instance_folder(opt),
        )
