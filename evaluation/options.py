"""Flags of evaluate.py."""

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

from evaluation.protocol import DEFAULT, PROTOCOLS
from evaluation.resizing import RESIZINGS
from evaluation.segmenters import SEGMENTERS
from options.flags import add_switch
from options.test_options import TestOptions

OFFICIAL = {kind.class_table: name for name, kind in SEGMENTERS.items()}  # segmenters by --dataset_mode


class EvaluateOptions(TestOptions):
    """Measure synthesised images: how well a segmenter reads their layouts (mIoU), and how like photos they are (FID).

    Images are those of a folder (--synthesized), or are made from the checkpoint --name. Data and checkpoints are named
    by the flags of test.py.
    """

    prog = "evaluate.py"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        group = parser.add_argument_group("evaluation")
        group.add_argument(
            "--synthesized",
            metavar="FOLDER",
            help="images to measure, named as the layouts are (default: made from the checkpoint, kept in no folder)",
        )
        about = "; ".join(f"{name}: {protocol.about}" for name, protocol in PROTOCOLS.items())
        group.add_argument("--protocol", default=DEFAULT, choices=list(PROTOCOLS), help=about)
        group.add_argument(
            "--segmenter",
            choices=list(SEGMENTERS),
            help="what reads the layouts (default: that of --dataset_mode coco, ade20k and cityscapes)",
        )
        group.add_argument(
            "--segmenter_weights",
            nargs="+",
            default=[],
            metavar="FILE",
            help="its released weights (default: from PyTorch's download cache)",
        )
        group.add_argument(
            "--inception_weights", metavar="FILE", help="those of pytorch-fid (default: from PyTorch's download cache)"
        )
        group.add_argument("--resizing", choices=list(RESIZINGS), help="rule for Inception (default: the protocol's)")
        group.add_argument(
            "--reference",
            metavar="val|train|FOLDER",
            help="photos that FID and KID compare with: those of the layouts (val), of the training set (train), or "
            "of a folder (default: the protocol's)",
        )
        group.add_argument(
            "--features_dir", default="./results/features", help="where features of photos are kept for the next time"
        )
        add_switch(group, "--no_miou", "do not measure mIoU and accuracies")
        add_switch(group, "--no_fid", "do not measure FID and KID")
        add_switch(group, "--real", "let the segmenter read the photos too: the most that images can reach")

    def _complete(self, opt: Namespace, typed: dict[str, Any]) -> None:
        super()._complete(opt, typed)
        opt.segmenter = opt.segmenter or OFFICIAL.get(opt.dataset_mode)
        opt.resizing = opt.resizing or PROTOCOLS[opt.protocol].resizing
        opt.reference = opt.reference or PROTOCOLS[opt.protocol].reference
        if opt.no_miou and opt.no_fid:
            self.parser.error("--no_miou --no_fid leave nothing to measure: give one of them at most")
        if opt.segmenter is None and not opt.no_miou:
            self.parser.error(
                f"--dataset_mode {opt.dataset_mode} has no released segmenter: --segmenter names one of "
                f"{', '.join(SEGMENTERS)}, where ids mean the same; --no_miou measures FID alone"
            )
        if opt.synthesized and not Path(opt.synthesized).is_dir():
            self.parser.error(f"--synthesized {opt.synthesized} is not a folder")
        if opt.num_samples or opt.interpolate:
            self.parser.error("--num_samples and --interpolate make several images of a layout: evaluate.py takes one")
