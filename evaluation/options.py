"""Flags of evaluate.py."""

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

from evaluation.flags import add_measuring_flags, complete_measuring, data_set_of
from evaluation.protocol import PROTOCOLS
from evaluation.published import TABLE_1
from evaluation.resizing import RESIZINGS
from options.flags import add_switch, positive_float
from options.test_options import TestOptions


class EvaluateOptions(TestOptions):
    """Measure synthesised images: how well a segmenter reads their layouts (mIoU), and how like photos they are (FID).

    Images are those of a folder (--synthesized), or are made from the checkpoint --name. Data and checkpoints are named
    by the flags of test.py. Other commands, each with its own --help: evaluate.py train-segmenter, compare, study,
    study-results.
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
        group.add_argument(
            "--subset",
            metavar="N|FILE",
            help="measure N layouts, evenly spread over all, or those whose names are in a text file, a line for each",
        )
        add_measuring_flags(group)
        group.add_argument("--resizing", choices=list(RESIZINGS), help="rule for Inception (default: the protocol's)")
        group.add_argument(
            "--reference",
            metavar="val|train|FOLDER",
            help="photos that distances compare with: those of the layouts (val), of the training set (train), or of a "
            "folder (default: the protocol's)",
        )
        add_switch(group, "--real", "let the segmenter read the photos too: what images as good as these would get")
        add_switch(group, "--shuffled", "compare what it reads with others' layouts too: what images of no layout get")
        group.add_argument(
            "--at_least",
            type=positive_float,
            metavar="SHARE",
            help="end with an error where the pixel accuracy is less than this share of the photos' (with --real)",
        )
        group.add_argument(
            "--published",
            choices=list(TABLE_1),
            help="data set whose published figures the page shows (default: that of --dataset_mode)",
        )

    def _complete(self, opt: Namespace, typed: dict[str, Any]) -> None:
        super()._complete(opt, typed)
        try:
            complete_measuring(opt)
        except ValueError as error:
            self.parser.error(str(error))
        opt.resizing = opt.resizing or PROTOCOLS[opt.protocol].resizing
        opt.reference = opt.reference or PROTOCOLS[opt.protocol].reference
        opt.published = opt.published or data_set_of(opt)
        if opt.synthesized and not Path(opt.synthesized).is_dir():
            self.parser.error(f"--synthesized {opt.synthesized} is not a folder")
        if opt.num_samples or opt.interpolate:
            self.parser.error("--num_samples and --interpolate make several images of a layout: evaluate.py takes one")
        if opt.subset and opt.how_many:
            self.parser.error("--how_many takes the first layouts, --subset chooses others: give one of them")
        if opt.subset and opt.subset.isdecimal() and int(opt.subset) == 0:
            self.parser.error(f"--subset {opt.subset} measures nothing; give 1 or more, or the name of a file")
        if opt.no_miou and (opt.real or opt.shuffled):
            self.parser.error("--no_miou leaves out what --real and --shuffled are about")
        if opt.at_least and not opt.real:
            self.parser.error("--at_least is a share of what photos reach: give --real too")
