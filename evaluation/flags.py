"""Flags that say how images are measured, for evaluate.py and for train.py --eval_freq.

Nothing here imports a segmenter, so that train.py need not wait for torchvision.
"""

import argparse
import os
from argparse import Namespace
from pathlib import Path

from evaluation.protocol import DEFAULT, PROTOCOLS
from options.flags import add_switch

RELEASED = {"coco": "deeplabv2", "ade20k": "upernet101", "cityscapes": "drn_d_105"}  # segmenters by data set


WITHOUT_PARTS = ("custom", "shards")  # --dataset_mode whose flags name one part of a data set, not all of them


def add_measuring_flags(group: argparse._ActionsContainer) -> None:
    """What is measured, and with which networks."""
    about = "; ".join(f"{name}: {protocol.about}" for name, protocol in PROTOCOLS.items())
    group.add_argument("--protocol", default=DEFAULT, choices=list(PROTOCOLS), help=about)
    group.add_argument(
        "--segmenter",
        metavar="NAME|FILE",
        help=f"what reads the layouts: {', '.join(RELEASED.values())} (default: that of --dataset_mode "
        f"{', '.join(RELEASED)}), or a file of evaluate.py train-segmenter, in whose features distances are measured "
        "too",
    )
    group.add_argument(
        "--segmenter_weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help="a released segmenter's weights (default: from PyTorch's download cache)",
    )
    group.add_argument(
        "--inception_weights", metavar="FILE", help="those of pytorch-fid (default: from PyTorch's download cache)"
    )
    group.add_argument(
        "--features_dir", default="./results/features", help="where features of photos are kept for the next time"
    )
    add_switch(group, "--no_miou", "do not measure mIoU and accuracies")
    add_switch(group, "--no_fid", "do not measure FID and KID")


def add_validation_flags(group: argparse._ActionsContainer) -> None:
    """Where layouts and photos are that a network has not seen; most data sets have folders for them."""
    group.add_argument("--val_label_dir", metavar="DIR", help="folder of label maps to measure on (custom)")
    group.add_argument("--val_image_dir", metavar="DIR", help="folder of their photos (custom)")
    group.add_argument("--val_dataroot", metavar="DIR", help="folder of another part to measure on (shards)")


def check_validation(opt: Namespace) -> None:
    """Refuse what is trained on in the place of what is not, and flags that lead nowhere.

    Raises:
        ValueError: a folder is that of the training part, or holds no shards; or a flag lacks another.
    """
    for name in ("label_dir", "image_dir", "dataroot"):
        own, other = getattr(opt, name), getattr(opt, f"val_{name}")
        if own and other and os.path.realpath(own) == os.path.realpath(other):
            raise ValueError(f"--val_{name} {other} is what is trained on: give the folder of another part")
    if opt.dataset_mode == "custom" and opt.val_dataroot:
        raise ValueError("--val_dataroot: --dataset_mode custom has no dataroot; give --val_label_dir")
    for name in ("val_image_dir", "val_instance_dir"):
        if getattr(opt, name, None) and not opt.val_label_dir:
            raise ValueError(f"--{name} belongs to --val_label_dir, which is not there")
    if opt.val_label_dir and opt.val_dataroot:
        raise ValueError("--val_label_dir and --val_dataroot name two parts to measure on: give one of them")
    if opt.val_dataroot and opt.dataset_mode == "shards" and not Path(opt.val_dataroot, "index.json").is_file():
        raise ValueError(f"--val_dataroot {opt.val_dataroot} holds no shards: there is no index.json")


def data_set_of(opt: Namespace) -> str:
    """The data set whose ids the label maps have: of shards, that which was packed."""
    return opt.packed_from or opt.dataset_mode


def complete_measuring(opt: Namespace) -> None:
    """Fill in which segmenter reads, and check.

    Raises:
        ValueError: flags contradict each other, or a segmenter is neither a name nor a file.
    """
    mode = data_set_of(opt)
    opt.segmenter = opt.segmenter or RELEASED.get(mode)
    if opt.no_miou and opt.no_fid:
        raise ValueError("--no_miou --no_fid leave nothing to measure: give one of them at most")
    if Path(opt.features_dir).exists() and not Path(opt.features_dir).is_dir():
        raise ValueError(f"--features_dir {opt.features_dir} is no folder")
    if opt.no_miou:
        return
    if opt.segmenter is None:
        raise ValueError(
            f"--dataset_mode {mode} has no released segmenter: train one on its photos with evaluate.py "
            "train-segmenter and give its file as --segmenter FILE, or --no_miou, which measures FID alone"
        )
    if opt.segmenter not in RELEASED.values():
        if not Path(opt.segmenter).is_file():
            raise ValueError(
                f"--segmenter {opt.segmenter} is neither a file nor one of {', '.join(RELEASED.values())}; evaluate.py "
                "train-segmenter makes such files"
            )
        if opt.segmenter_weights:
            raise ValueError("--segmenter_weights are a released segmenter's; the file of --segmenter has its own")
