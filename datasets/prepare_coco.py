"""COCO-Stuff from the official archives to the folders of --dataset_mode coco, instance maps included.

    python datasets/prepare_coco.py --downloads DIR --out datasets/coco_stuff

DIR holds train2017.zip, val2017.zip, stuffthingmaps_trainval2017.zip and annotations_trainval2017.zip as they were
downloaded, or the folders that they unpack to. Writes {train,val}_{img,label,inst}/. Photos and label maps are copied
byte by byte. An instance map is the label map with each object, crowds too, as a number from 256 on, as 16 bits.
A run that was cut short goes on when the same command is given again. Needs requirements-coco.txt.
"""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image

from data.base_dataset import read_id_array
from datasets.preparation.archives import Part, Source, find
from datasets.preparation.coco import Annotations, Thing, instances_of, pycocotools_mask
from datasets.preparation.jobs import run_all
from datasets.preparation.output import (
    Output,
    check_counts,
    check_link,
    copy,
    is_there,
    preparation_parser,
    put,
    say_next,
)
from options.flags import add_switch
from util.errors import UserError, first_few, run_main
from util.files import save_image

OFFICIAL = {"train": 118_287, "val": 5_000}
HOME = "http://images.cocodataset.org"
PHOTOS = {
    "train": Part("training photos", "train2017.zip", "18 GB", f"{HOME}/zips/train2017.zip", ("train2017",)),
    "val": Part("validation photos", "val2017.zip", "0.8 GB", f"{HOME}/zips/val2017.zip", ("val2017",)),
}
STUFF = "stuffthingmaps_trainval2017"
LABELS = Part(
    "label maps",
    f"{STUFF}.zip",
    "0.7 GB",
    f"http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/{STUFF}.zip",
    (STUFF, "stuffthingmaps"),
    "*2017/*.png",
)
ANNOTATIONS = Part(
    "objects",
    "annotations_trainval2017.zip",
    "0.25 GB",
    f"{HOME}/annotations/annotations_trainval2017.zip",
    ("annotations", "annotations_trainval2017"),
)


@dataclass(frozen=True)
class Scene:
    """One image: where its files are, and its objects."""

    stem: str  # 000000000139
    photo: str
    label: str
    size: tuple[int, int]  # height and width, as annotated
    things: list[Thing]


def prepare(scene: Scene, part: str, photos: Source, labels: Source, out: Path, legacy: bool, link: bool) -> None:
    """Write what is not there yet of an image's three files.

    Raises:
        UserError: a file is damaged, or does not fit the annotations.
        OSError: the disk is full or the folder is not writable.
    """
    photo, label, instance = (out / f"{part}_{kind}" / scene.stem for kind in ("img", "label", "inst"))
    photo, label, instance = photo.with_suffix(".jpg"), label.with_suffix(".png"), instance.with_suffix(".png")
    if not is_there(photo):
        copy(photos, scene.photo, photo, link)
    if is_there(label) and is_there(instance):
        return
    content = labels.read(scene.label)
    put(content, label)
    ids = read_id_array(labels.where(scene.label), content=content)
    save_image(
        Image.fromarray(instances_of(ids, scene.things, scene.size, labels.where(scene.label), legacy)), instance
    )


def scenes_of(part: str, photos: Source, labels: Source, annotations: Source) -> list[Scene]:
    """The images of a part that have a photo, a label map and an entry in the annotations.

    Raises:
        UserError: archives are damaged, or images lack one of the three.
    """
    found = photos.select(r"(\d+)\.jpe?g")
    maps = labels.select(rf"{part}2017/(\d+)\.png")
    files = annotations.select(rf"(instances_{part}2017\.json)")
    if not files:
        raise UserError(f"{annotations.path} has no instances_{part}2017.json; it is in {ANNOTATIONS.archive}")
    (file,) = files.values()
    held = Annotations.read(annotations.read(file), annotations.where(file))
    for what, stems in (("label map", maps.keys()), ("entry in the annotations", {f"{i:012d}" for i in held.sizes})):
        alone = [name for stem, name in found.items() if stem not in stems]
        if alone:
            raise UserError(
                f"{photos.path}: {len(alone)} of {len(found)} photos have no {what} ({first_few(alone)}); are the "
                f"archives of one release, and whole? Or do not unpack other files there"
            )
    return [
        Scene(stem, photo, maps[stem], held.sizes[int(stem)], held.things.get(int(stem), []))
        for stem, photo in found.items()
    ]


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    parser = preparation_parser("prepare_coco.py", __doc__, "datasets/coco_stuff")
    add_switch(parser, "--legacy", "instance maps exactly as the released SPADE's: 8 bits, from 0 on, without crowds")
    parser.add_argument("--parts", nargs="+", choices=list(OFFICIAL), default=list(OFFICIAL), help="(default: both)")
    args = parser.parse_args(argv)
    pycocotools_mask()
    parts = [part for part in OFFICIAL if part in args.parts]
    sources = find(Path(args.downloads), [*(PHOTOS[part] for part in parts), LABELS, ANNOTATIONS])
    *photos, labels, annotations = sources
    check_link(args.link, photos[0])
    counts = {part: len(source.select(r"(\d+)\.jpe?g")) for part, source in zip(parts, photos, strict=True)}
    check_counts("COCO-Stuff", counts, OFFICIAL, args.partial)
    output = Output.begin(args.out, "prepare_coco.py", {"legacy": args.legacy, "parts": parts}, sources)
    failures = []
    for part, source in zip(parts, photos, strict=True):
        work = functools.partial(
            prepare, part=part, photos=source, labels=labels, out=output.folder, legacy=args.legacy, link=args.link
        )
        scenes = scenes_of(part, source, labels, annotations)
        failures += run_all(work, scenes, args.workers, "image", part)[1]
    output.finish(counts, failures)
    say_next(
        output.folder,
        counts,
        ["--name", "coco", "--dataset_mode", "coco", "--dataroot", str(output.folder), "--batchSize", "32"],
    )


if __name__ == "__main__":
    run_main(main)
