"""ADE20K's scene parsing benchmark from the official archive to the tree of --dataset_mode ade20k.

    python datasets/prepare_ade20k.py --downloads DIR --out datasets/ade20k
    python datasets/prepare_ade20k.py --downloads DIR --out datasets/ade20k_outdoor --outdoor

DIR holds ADEChallengeData2016.zip as it was downloaded, or the folder that it unpacks to. Writes the archive's
images/{training,validation}/ and annotations/{training,validation}/, byte by byte. Ids stay as they are: 0 is
unlabelled, 1 .. 150 are the classes. A run that was cut short goes on when the same command is given again.

--outdoor makes ADE20K-outdoor: the images whose category in the archive's sceneCategories.txt is an outdoor one. The
list of images that the SPADE paper used was not published, so this is not exactly its part. Categories are outdoor or
indoor by datasets/ade20k_scenes.json, or else by `outdoor`, `exterior`, `indoor` or `interior` in their names; those
about which neither says anything are left out. train.txt and val.txt have the images' names:

    python evaluate.py --name NAME --dataset_mode ade20k --dataroot datasets/ade20k \\
      --subset datasets/ade20k_outdoor/val.txt --published ade20k-outdoor
"""

import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from data.base_dataset import read_id_array
from data.pix2pix_dataset import size_of
from datasets.preparation.ade20k import Outdoor, Place, Scenes, add_scene_flags, scenes_of
from datasets.preparation.archives import Part, Source, find
from datasets.preparation.checks import check_ids, check_photo, complete, look_first
from datasets.preparation.jobs import run_all
from datasets.preparation.output import (
    Output,
    check_counts,
    check_link,
    copy,
    is_there,
    preparation_parser,
    say_next,
    shell_command,
)
from util.errors import UserError, run_main
from util.files import put, write_atomically

OFFICIAL = {"train": 20_210, "val": 2_000}
FOLDERS = {"train": "training", "val": "validation"}
NAME = "ADEChallengeData2016"
BENCHMARK = Part(
    "photos and label maps",
    f"{NAME}.zip",
    "0.97 GB",
    f"http://data.csail.mit.edu/places/ADEchallenge/{NAME}.zip",
    (NAME,),
    "annotations/training/*.png",
)
CATEGORIES = "sceneCategories.txt"
CLASSES = 150


@dataclass(frozen=True)
class Pair:
    """A photo and its label map."""

    stem: str  # ADE_train_00000001
    photo: str
    label: str


def prepare(pair: Pair, part: str, source: Source, out: Path, link: bool) -> None:
    """Write what is not there yet of an image's two files.

    Raises:
        UserError: a file is damaged, or is not what the benchmark has.
        OSError: the disk is full or the folder is not writable.
    """
    photo = out / "images" / FOLDERS[part] / f"{pair.stem}.jpg"
    label = out / "annotations" / FOLDERS[part] / f"{pair.stem}.png"
    if is_there(photo) and is_there(label):
        return
    content, ids = read_label(pair, source)
    photo_content = source.read(pair.photo)
    check_photo(source.where(pair.photo), photo_content, size_of(ids), source.where(pair.label))
    put(content, label)
    copy(source, pair.photo, photo, link, photo_content)


def read_label(pair: Pair, source: Source) -> tuple[bytes, np.ndarray]:
    """A label map's file, and its ids [H, W] of 0 .. 150.

    Raises:
        UserError: it is damaged, or has others.
    """
    content = source.read(pair.label)
    where = source.where(pair.label)
    ids = read_id_array(where, content=content)
    check_ids(where, ids, 0, CLASSES, f"the benchmark's are 0 (unlabelled) .. {CLASSES}, not shifted")
    return content, ids


def pairs_of(part: str, source: Source, partial: bool) -> list[Pair]:
    """The images of a part that have a photo and a label map.

    Raises:
        UserError: the archive is damaged, or images have one of them only, or none is there.
    """
    photos = source.select(rf"images/{FOLDERS[part]}/(ADE_{part}_\d+)\.jpe?g")
    labels = source.select(rf"annotations/{FOLDERS[part]}/(ADE_{part}_\d+)\.png")
    files = {"photo": photos, "label map": labels}
    folder = FOLDERS[part]
    layout = f"images/{folder}/ADE_{part}_*.jpg and annotations/{folder}/ADE_{part}_*.png"
    names = complete(f"{part} images", files, str(source.path), layout, partial)
    return [Pair(name, photos[name], labels[name]) for name in names]


def categories_of(source: Source) -> dict[str, str]:
    """The category of the scene that each image shows, by the image's name.

    Raises:
        UserError: there is no list of them, or it is damaged.
    """
    files = list(source.select(rf"({re.escape(CATEGORIES)})").values())
    if not files:
        raise UserError(
            f"--outdoor: {source.path} has no {CATEGORIES}, which says what images show; it is in {NAME}.zip"
        )
    lines = source.read(files[0]).decode("utf-8-sig", "replace").splitlines()
    words = [line.split(maxsplit=1) for line in lines if line.startswith("ADE_")]
    categories = {line[0]: line[1] for line in words if len(line) == 2}
    if not categories:
        raise UserError(
            f"{source.where(files[0])} has no line of an image's name and its category, such as ADE_train_00000001 "
            "airport_terminal; download it again"
        )
    return categories


def outdoor_of(parts: dict[str, list[Pair]], source: Source, scenes: Scenes) -> Outdoor:
    """Which of the images are of outdoor scenes.

    Raises:
        UserError: their categories are not known, or none are.
    """
    categories = categories_of(source)
    return Outdoor.choose(
        {part: {pair.stem: Place(categories.get(pair.stem, "")) for pair in found} for part, found in parts.items()},
        scenes,
    )


def write_names(parts: dict[str, list[Pair]], out: Path) -> None:
    """Lists of the images' names, as evaluate.py --subset takes them."""
    for part, found in parts.items():
        write_atomically(out / f"{part}.txt", "".join(f"{pair.stem}\n" for pair in found).encode())


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    parser = preparation_parser("prepare_ade20k.py", __doc__, "datasets/ade20k")
    add_scene_flags(parser, f"the archive's {CATEGORIES}; --out is datasets/ade20k_outdoor then")
    args = parser.parse_args(argv)
    if args.outdoor and args.out == parser.get_default("out"):
        args.out += "_outdoor"
    scenes = scenes_of(args, parser)
    (source,) = find(Path(args.downloads), [BENCHMARK])
    check_link(args.link, source)
    parts = {part: pairs_of(part, source, args.partial) for part in OFFICIAL}
    counts = {part: len(found) for part, found in parts.items()}
    check_counts(f"ADE20K in {source.path}", counts, OFFICIAL, args.partial)
    for found in parts.values():
        look_first(functools.partial(read_label, source=source), found)
    outdoor = outdoor_of(parts, source, scenes) if scenes else None
    made_with = {"scenes": scenes.key if scenes else "all", "link": args.link}
    output = Output.begin(args.out, "prepare_ade20k.py", made_with, [source])
    if outdoor:
        parts = {part: [p for p in found if p.stem in outdoor.names[part]] for part, found in parts.items()}
        outdoor.write(output.folder)
        write_names(parts, output.folder)
    failures = []
    for part, found in parts.items():
        work = functools.partial(prepare, part=part, source=source, out=output.folder, link=args.link)
        failures += run_all(work, found, args.workers, "image", part)[1]
    counts = {part: len(found) for part, found in parts.items()}
    output.finish(counts, failures)
    name = "ade20k_outdoor" if outdoor else "ade20k"
    of_data_set = ["--dataset_mode", "ade20k", "--dataroot", str(output.folder)]
    say_next(output.folder, counts, ["--name", name, *of_data_set, "--batchSize", "32"])
    if outdoor:
        subset = ["--subset", str(output.folder / "val.txt"), "--published", "ade20k-outdoor"]
        print("and measure these validation layouts, of a model that was trained on them or on all of ADE20K:")
        print(shell_command(["python", "evaluate.py", "--name", name, *of_data_set, *subset]))


if __name__ == "__main__":
    run_main(main)
