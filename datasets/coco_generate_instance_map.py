"""Make COCO-Stuff instance maps from label maps and the official annotations.

    python datasets/coco_generate_instance_map.py --annotation_file instances_val2017.json \\
        --input_label_dir val_label --output_instance_dir val_inst

An instance map is the label map with every object's pixels replaced by a number of its own, 256 and up, as a 16-bit
PNG: `data/` reads any bit depth, and no object can share a number with a class. Needs requirements-coco.txt.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.base_dataset import read_ids
from data.image_folder import list_images
from options.flags import command_parser
from util.errors import UserError, run_main

FIRST_INSTANCE = 256  # above every 8-bit class id


def instance_map(label: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray:
    """Class ids [H, W] and objects' masks [H, W] to instance ids uint16 [H, W]; later objects lie on top."""
    # Mended (SPADE): objects were numbered from 0, so that an object could get the number of a stuff class beside it.
    out = label.astype(np.uint16)
    for number, mask in enumerate(masks, start=FIRST_INSTANCE):
        out[mask.astype(bool)] = number
    return out


def main() -> None:
    """Write an instance map for every label map.

    Raises:
        UserError: a file is missing or does not fit.
    """
    parser = command_parser("coco_generate_instance_map.py", __doc__)
    parser.add_argument("--annotation_file", required=True, help="instances_{train,val}2017.json")
    parser.add_argument("--input_label_dir", required=True, help="folder of label maps, named by image id")
    parser.add_argument("--output_instance_dir", required=True, help="folder for the instance maps")
    args = parser.parse_args()
    try:
        from pycocotools.coco import COCO
    except ImportError:
        raise UserError("pycocotools is not installed: pip install -r requirements-coco.txt") from None
    if not os.path.isfile(args.annotation_file):
        raise UserError(f"{args.annotation_file} is not there; it is in COCO's annotations_trainval2017.zip")
    try:
        coco = COCO(args.annotation_file)
    except (ValueError, KeyError, AssertionError) as error:
        raise UserError(f"{args.annotation_file} is no COCO annotation file, or a damaged one: {error}") from None
    output = Path(args.output_instance_dir)
    output.mkdir(parents=True, exist_ok=True)
    for path in tqdm(list_images(args.input_label_dir), unit="map"):
        stem = Path(path).stem
        if not stem.isdecimal() or int(stem) not in coco.imgs:
            raise UserError(f"{path}: {args.annotation_file} has no image of that id; is it the other split's file?")
        # Mended (SPADE): crowds (run-length encoded) were left out.
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=int(stem)))
        label = np.asarray(read_ids(path))
        size = coco.imgs[int(stem)]["height"], coco.imgs[int(stem)]["width"]
        if label.shape != size:
            raise UserError(
                f"{path} is {label.shape[1]} x {label.shape[0]} but its image is {size[1]} x {size[0]} "
                "(width x height) in the annotations; make instance maps before any resizing"
            )
        masks = (coco.annToMask(annotation) for annotation in annotations)
        Image.fromarray(instance_map(label, masks)).save(output / f"{stem}.png")


if __name__ == "__main__":
    run_main(main)
