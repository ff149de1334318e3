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
from data.pix2pix_dataset import size_of
from datasets.preparation.archives import Part, Source, find
from datasets.preparation.checks import check_ids, check_photo, complete
from datasets.preparation.coco import LEGACY_HELP, Annotations, Thing, instances_of, pycocotools_mask
from datasets.preparation.jobs import run_all
from datasets.preparation.output import (
    Output,
    check_counts,
    check_link,
    copy,
    is_there,
    preparation_parser,
    refuse_another,
    say_next,
)
from options.flags import add_switch
from util.errors import UserError, run_main
from util.files import put, save_image

OFFICIAL = {"train": 118_287, "val": 5_000}
CLASSES = 182
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
    """Write an image's three files, unless they are there.

    Raises:
        UserError: a file is damaged, has ids of no class, or does not fit the annotations.
        OSError: the disk is full or the folder is not writable.
    """
    photo, label, instance = (out / f"{part}_{kind}" / scene.stem for kind in ("img", "label", "inst"))
    photo, label, instance = photo.with_suffix(".jpg"), label.with_suffix(".png"), instance.with_suffix(".png")
    if all(map(is_there, (photo, label, instance))):
        return
    where, content, photo_content = labels.where(scene.label), labels.read(scene.label), photos.read(scene.photo)
    ids = read_id_array(where, content=content)
    check_ids(where, ids, 0, CLASSES - 1, "COCO-Stuff's are 0 .. 181, and 255 where nothing is labelled", unknown=255)
    instances = instances_of(ids, scene.things, scene.size, where, legacy)
    check_photo(photos.where(scene.photo), photo_content, size_of(ids), where)
    copy(photos, scene.photo, photo, link, photo_content)
    put(content, label)
    save_image(Image.fromarray(instances), instance)


def scenes_of(
    part: str, photos: Source, labels: Source, annotations: Source, downloads: str, partial: bool
) -> list[Scene]:
    """The images of a part that have a photo, a label map and an entry in the annotations.

    Raises:
        UserError: archives are damaged, or images lack one of the three.
    """
    files = list(annotations.select(rf"(instances_{part}2017\.json)").values())
    if not files:
        raise UserError(f"{annotations.path} has no instances_{part}2017.json; it is in {ANNOTATIONS.archive}")
    held = Annotations.read(annotations.read(files[0]), annotations.where(files[0]))
    found, maps = photos.select(r"(\d+)\.jpe?g"), labels.select(rf"{part}2017/(\d+)\.png")
    entries = {f"{number:012d}": f"{number:012d}" for number in held.sizes}
    stems = complete(
        f"{part} images",
        {"photo": found, "label map": maps, "entry in the annotations": entries},
        downloads,
        f"{part}2017/*.jpg, {part}2017/*.png and instances_{part}2017.json",
        partial,
        "are the archives of one release, and whole? Download what is missing",
    )
    return [
        Scene(stem, found[stem], maps[stem], held.sizes[int(stem)], held.things.get(int(stem), [])) for stem in stems
    ]


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    parser = preparation_parser("prepare_coco.py", __doc__, "datasets/coco_stuff")
    add_switch(parser, "--legacy", LEGACY_HELP)
    parser.add_argument("--parts", nargs="+", choices=list(OFFICIAL), default=list(OFFICIAL), help="(default: both)")
    args = parser.parse_args(argv)
    pycocotools_mask()
    parts = [part for part in OFFICIAL if part in args.parts]
    sources = find(Path(args.downloads), [*(PHOTOS[part] for part in parts), LABELS, ANNOTATIONS])
    *photos, labels, annotations = sources
    for source in photos:
        check_link(args.link, source)
    made_with = {"legacy": args.legacy, "link": args.link}
    refuse_another(args.out, "prepare_coco.py", made_with, sources)
    scenes = {
        part: scenes_of(part, source, labels, annotations, args.downloads, args.partial)
        for part, source in zip(parts, photos, strict=True)
    }
    counts = {part: len(found) for part, found in scenes.items()}
    check_counts("COCO-Stuff", counts, OFFICIAL, args.partial)
    output = Output.begin(args.out, "prepare_coco.py", made_with, sources)
    failures = []
    for part, source in zip(parts, photos, strict=True):
        work = functools.partial(
            prepare, part=part, photos=source, labels=labels, out=output.folder, legacy=args.legacy, link=args.link
        )
        failures += [f"{part}: {line}" for line in run_all(work, scenes[part], args.workers, "image", part)[1]]
    output.finish(counts, failures, [part for part in OFFICIAL if part not in parts])
    say_next(
        output.folder,
        counts,
        ["--name", "coco", "--dataset_mode", "coco", "--dataroot", str(output.folder), "--batchSize", "32"],
    )


if __name__ == "__main__":
    run_main(main)
