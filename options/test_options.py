"""Flags of test.py."""

import argparse
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.styles import is_photo
from options.base_options import LAYOUTS, BaseOptions
from options.flags import at_least_2, positive, positive_or_inf
from util.checkpoint import WEIGHTS

RELEASED_BATCH = 16  # for --recalibrate_bn where the checkpoint does not say what it was trained with


class TestOptions(BaseOptions):
    """Synthesise images with a trained model. Its networks and sizes come from the checkpoint's opt.json."""

    __test__ = False  # not a pytest class
    is_train = False
    prog = "test.py"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("testing")
        group.add_argument("--results_dir", default="./results/", help="folder for the results")
        group.add_argument("--which_epoch", default="latest", help="checkpoint to use: latest or an epoch")
        group.add_argument(
            "--weights",
            default="plain",
            choices=WEIGHTS,
            help="the generator's: plain, as training left them, or ema, their moving average (train.py --ema_decay)",
        )
        group.add_argument("--how_many", type=positive_or_inf, help="number of layouts to synthesise (default: all)")
        group.add_argument(
            "--recalibrate_bn",
            type=positive,
            metavar="N",
            help="estimate the batch norms' statistics anew from N of the layouts, before synthesising, in batches of "
            "--batchSize (default here: that of training)",
        )
        group = parser.add_argument_group("styles (models trained with --use_vae)")
        group.add_argument("--style_image", metavar="FILE", help="synthesise all layouts in the style of this photo")
        group.add_argument(
            "--num_samples",
            type=positive,
            metavar="K",
            help="synthesise each layout in K random styles, those of --seed, --seed + 1, ...",
        )
        group.add_argument(
            "--interpolate",
            nargs=2,
            metavar=("A", "B"),
            help="synthesise each layout on the way from style A to B: photos, or seeds of random styles",
        )
        group.add_argument("--steps", type=at_least_2, metavar="N", help="styles of --interpolate (default: 5)")
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
        asked = [f"--{name}" for name in ("style_image", "num_samples", "interpolate") if getattr(opt, name)]
        if len(asked) > 1:
            self.parser.error(f"{' and '.join(asked)}: give one of them")
        if asked and not opt.use_vae:
            self.parser.error(
                f"{asked[0]}: the model of --name {opt.name} has no styles; those come from training with --use_vae "
                "(type it where the checkpoint has no opt.json)"
            )
        if opt.steps and not opt.interpolate:
            self.parser.error("--steps counts the styles of --interpolate A B, which is not there")
        opt.steps = opt.steps or 5
        if opt.style_image and not Path(opt.style_image).is_file():
            self.parser.error(f"--style_image {opt.style_image}: there is no such file")
        for end in opt.interpolate or ():
            if is_photo(end) and not Path(end).is_file():
                self.parser.error(f"--interpolate {end}: no file, and no seed (a whole number from 0 on) either")
        opt.recalibration_batch = typed.get("batchSize", RELEASED_BATCH)
        if "batchSize" not in typed and opt.recalibrate_bn and opt.load_from_opt_file:
            saved = self.read_saved(opt.checkpoints_dir, opt.name) or {}
            trained, parts = saved.get("batchSize"), saved.get("accumulate", 1)
            if type(trained) is int and type(parts) is int and trained >= parts > 0:
                opt.recalibration_batch = trained // parts  # what the batch norms saw
        if "load_size" not in typed:  # in resize_and_crop, the crop then is the whole layout
            opt.load_size = opt.crop_size
        if opt.load_from_opt_file:
            self._take_kept_classes(opt, typed)

    def takes_saved_options(self, decided: Callable[[str], Any]) -> bool:
        return decided("load_from_opt_file")

    def filter_saved(self, saved: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in saved.items() if k in self.structure or k in LAYOUTS}
