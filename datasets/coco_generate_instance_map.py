"""Make COCO-Stuff instance maps from label maps and the official annotations.

    python datasets/coco_generate_instance_map.py --annotation_file instances_val2017.json \\
        --input_label_dir val_label --output_instance_dir val_inst

An instance map is the label map with every object's pixels replaced by a number of its own, 256 and up, as a 16-bit
PNG: `data/` reads any bit depth, and no object can share a number with a class. `--legacy` makes those of the released
SPADE. A run that was cut short goes on when the same command is given again. datasets/prepare_coco.py makes them with
everything else. Needs requirements-coco.txt.
"""

import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image

from data.base_dataset import read_id_array
from data.image_folder import list_images
from data.workers import cores
from datasets.preparation.archives import Source
from datasets.preparation.coco import LEGACY_HELP, Annotations, Thing, instances_of, pycocotools_mask
from datasets.preparation.jobs import run_all
from datasets.preparation.output import Output, is_there
from options.flags import add_switch, command_parser, positive
from util.errors import UserError, run_main
from util.files import save_image, sha256


def write(job: tuple[str, list[Thing], tuple[int, int]], out: Path, legacy: bool) -> None:
    """Write the instance map of (label map's path, objects, height and width), unless it is there.

    Raises:
        UserError: the label map is damaged, or does not fit the annotations.
        OSError: the disk is full or the folder is not writable.
    """
    path, things, size = job
    instance = out / f"{Path(path).stem}.png"
    if not is_there(instance):
        save_image(Image.fromarray(instances_of(read_id_array(path), things, size, path, legacy)), instance)


def main(argv: list[str] | None = None) -> None:
    """Write an instance map for every label map.

    Raises:
        UserError: a file is missing or does not fit.
    """
    parser = command_parser("coco_generate_instance_map.py", __doc__)
    parser.add_argument("--annotation_file", required=True, help="instances_{train,val}2017.json")
    parser.add_argument("--input_label_dir", required=True, help="folder of label maps, named by image id")
    parser.add_argument("--output_instance_dir", required=True, help="folder for the instance maps")
    add_switch(parser, "--legacy", LEGACY_HELP)
    parser.add_argument("--workers", type=positive, default=cores(), help="processes (default: one for each core)")
    args = parser.parse_args(argv)
    pycocotools_mask()
    file = Path(args.annotation_file)
    if not file.is_file():
        raise UserError(f"{file} is not there; it is in COCO's annotations_trainval2017.zip")
    annotations = Annotations.read(file.read_bytes(), str(file))
    maps = list_images(args.input_label_dir)
    if not maps:
        raise UserError(f"--input_label_dir {args.input_label_dir} has no label maps; give the folder of those")
    jobs = []
    for path in maps:
        stem = Path(path).stem
        if not stem.isdecimal() or int(stem) not in annotations.sizes:
            raise UserError(f"{path}: {file} has no image of that id; is it the other split's file?")
        jobs.append((path, annotations.things.get(int(stem), []), annotations.sizes[int(stem)]))
    source = Source(Path(args.input_label_dir))
    made_with = {
        "legacy": args.legacy,
        "annotation file's content": sha256(file)[:12],
        "label maps": os.path.abspath(args.input_label_dir),
    }
    output = Output.begin(args.output_instance_dir, "coco_generate_instance_map.py", made_with, [source])
    work = functools.partial(write, out=output.folder, legacy=args.legacy)
    output.finish({"instance maps": len(jobs)}, run_all(work, jobs, args.workers, "map")[1])
    print(f"{len(jobs):,} instance maps are in {output.folder}")


if __name__ == "__main__":
    run_main(main)
