"""Flags of test.py."""

import argparse
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from options.base_options import LAYOUTS, BaseOptions
from options.flags import positive


class TestOptions(BaseOptions):
    """Synthesise images with a trained model. Its networks and sizes come from the checkpoint's opt.json."""

    __test__ = False  # not a pytest class
    is_train = False
    prog = "test.py"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("testing")
        group.add_argument("--results_dir", default="./results/", help="folder for the results")
        group.add_argument("--which_epoch", default="latest", help="checkpoint to use: latest or an epoch")
        group.add_argument("--how_many", type=positive, help="number of layouts to synthesise (default: all)")
        parser.set_defaults(
            preprocess_mode="scale_width_and_crop",
            crop_size=256,
            load_size=256,
            phase="test",
            serial_batches=True,
            no_flip=True,
            load_from_opt_file=True,
        )

    def _complete(self, opt: Namespace, typed: dict[str, Any]) -> None:
        super()._complete(opt, typed)
        if "load_size" not in typed:  # in resize_and_crop, the crop then is the whole layout
            opt.load_size = opt.crop_size

    def takes_saved_options(self, decided: Callable[[str], Any]) -> bool:
        return decided("load_from_opt_file")

    def filter_saved(self, saved: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in saved.items() if k in self.structure or k in LAYOUTS}
