"""Anybody's own pictures."""

from argparse import Namespace
from typing import Any

from data.pix2pix_dataset import Paths, Pix2pixDataset
from util.errors import UserError


class CustomDataset(Pix2pixDataset):
    """Folders of label maps, photos and, if there are any, instance maps."""

    folder_flags = frozenset({"label_dir", "image_dir", "instance_dir"})

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        return dict(
            preprocess_mode="resize_and_crop",
            load_size=286 if is_train else 256,
            crop_size=256,
            label_nc=13,
            contain_dontcare_label=False,
        )

    def find_paths(self, opt: Namespace) -> Paths:
        needed = {"label_dir": opt.label_dir, "image_dir": opt.image_dir}
        if not opt.isTrain:
            needed.pop("image_dir")
        missing = [f"--{name}" for name, value in needed.items() if not value]
        if missing:
            raise UserError(f"--dataset_mode custom needs {' and '.join(missing)}")
        return self.find_layouts(opt)
