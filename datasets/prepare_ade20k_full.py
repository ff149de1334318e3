"""Full ADE20K, either release, to folders of --dataset_mode custom: its most frequent classes, and instance maps.

    python datasets/prepare_ade20k_full.py --downloads DIR --out datasets/ade20k_full --classes 300 --instances

DIR holds ADE20K_2016_07_26.zip or ADE20K_2021_17_01.zip as it was downloaded, or the folder that it unpacks to. Writes
{train,val}_{img,label}/, with --instances {train,val}_inst/, and classes.json. Photos are copied byte by byte. Classes
are those of whole objects, not of parts, with most pixels in the training part, the largest first; all else is unknown.
Their pixels are counted first and kept in class_pixels.json, which has all classes. An instance map has a number for
each object of each class, 1, 2, ..., as 16 bits; what is not labelled has 0. A run that was cut short goes on when the
same command is given again. Pickle files are not read.
"""

import functools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from data.base_dataset import open_image, read_image
from datasets.preparation.ade20k import Outdoor, Place, add_scene_flags, scenes_of
from datasets.preparation.archives import Part, Source, find, find_optional
from datasets.preparation.checks import check_photo, complete, look_first
from datasets.preparation.classes import class_table, object_numbers, remapped, unknown_flags
from datasets.preparation.frequency import ClassPixels, Counts, choose_classes, entry_of, total
from datasets.preparation.jobs import run_all
from datasets.preparation.ledger import Ledger
from datasets.preparation.matlab import read_texts
from datasets.preparation.output import (
    Output,
    check_counts,
    check_link,
    copy,
    is_there,
    preparation_parser,
    say_next,
)
from options.flags import add_switch, positive
from util.errors import UserError, run_main
from util.files import save_image, write_atomically

HOME = "https://groups.csail.mit.edu/vision/datasets/ADE20K after signing in"


def _release(name: str, size: str, folder: str) -> Part:
    return Part("photos and annotations", f"{name}.zip", size, HOME, (name,), f"{folder}/training/*/*/*_seg.png")


RELEASES = {
    "2016": _release("ADE20K_2016_07_26", "about 4 GB", "images"),
    "2021": _release("ADE20K_2021_17_01", "several GB", "images/ADE"),
}
OFFICIAL = {"2016": {"train": 20_210, "val": 2_000}, "2021": {"train": 25_574, "val": 2_000}}
FOLDERS = {"training": "train", "validation": "val"}
ENDINGS = r"_seg\.png|\.jpe?g|_atr\.txt|\.json"
INDEX = "index_ade20k.mat"
FILES = rf"(images/(?:ADE/)?(?:{'|'.join(FOLDERS)})/.+(?:{ENDINGS})|{re.escape(INDEX)})"
CLASSES_NAME = "classes.json"
ALIKE = 0.5  # of the images that have a class or a name, those that have both: fewer, and it is not the class's name


@dataclass(frozen=True)
class Annotated:
    """A photo, and what is annotated."""

    stem: str  # ADE_train_00000001
    photo: str
    seg: str
    names: str | None  # the file with the names of its objects
    place: Place


@dataclass(frozen=True)
class Counted:
    """The classes of an image, and the names of its objects."""

    pixels: Mapping[int, int]  # by class; unlabelled (0) too
    names: Sequence[tuple[int, str]]  # with their number in the official list, where that is there; 0 where it is not

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> "Counted":
        """What a line of the ledger says."""
        pixels = dict(zip(entry["classes"], entry["pixels"], strict=True))
        return cls(pixels, [(number, name) for number, name in entry["names"]])


# ------------------------------------------------------------------------------------------------ what the archive has


def images_of(source: Source, partial: bool) -> tuple[dict[str, list[Annotated]], str | None]:
    """The images by part, and the index.

    Raises:
        UserError: the archive is damaged, or images lack photo or label map, or two have one name, or none is there.
    """
    files = source.select(FILES)
    index = next((name for key, name in files.items() if key.lower() == INDEX), None)
    kinds = ("photo", "seg", "names")
    found: dict[str, dict[str, dict[str, str]]] = {part: {kind: {} for kind in kinds} for part in FOLDERS.values()}
    places: dict[tuple[str, str], Place] = {}
    for key, name in files.items():
        match = re.fullmatch(rf"images/(?:ADE/)?([^/]+)/(.*?)({ENDINGS})", key, re.IGNORECASE)
        if match is None:
            continue
        path, part = PurePosixPath(match[2]), FOLDERS[match[1].lower()]
        of_kind = found[part][_kind(match[3])]
        if path.name in of_kind:
            raise UserError(
                f"{source.path} has both {of_kind[path.name]} and {name}, but images of a part must have different "
                "names; leave the one that does not belong to the data set out"
            )
        of_kind[path.name] = name
        places[part, path.name] = _place(path.parts[:-1])
    images = {}
    folders = {part: folder for folder, part in FOLDERS.items()}
    for part, files_of in found.items():
        photos, segs, names = (files_of[kind] for kind in kinds)
        stems = complete(
            f"{part} images",
            {"photo": photos, "label map": segs},
            str(source.path),
            f"ADE_{part}_*.jpg and ADE_{part}_*_seg.png below images/{folders[part]}/ or images/ADE/{folders[part]}/",
            partial,
        )
        images[part] = [
            Annotated(stem, photos[stem], segs[stem], names.get(stem), places[part, stem]) for stem in stems
        ]
    return images, index


def _kind(ending: str) -> str:
    ending = ending.lower()
    return "seg" if ending.endswith(".png") else "names" if ending.endswith((".txt", ".json")) else "photo"


def _place(folders: Sequence[str]) -> Place:
    """What folders say: a/abbey, b/bus_station/indoor (2016) and urban/street (2021)."""
    if not folders:
        return Place("")
    first, rest = folders[0], folders[1:]
    return Place("_".join(rest)) if len(first) == 1 else Place("_".join(rest or [first]), first)


def read_seg(image: Annotated, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of classes and of instances of an image's pixels: uint16 [H, W] in 0 .. 6,655, uint8 [H, W].

    Raises:
        UserError: the file is damaged, or is no such map.
    """
    content, where = source.read(image.seg), source.where(image.seg)
    with open_image(where, content) as picture:
        if picture.format != "PNG" or picture.mode != "RGB":
            raise UserError(
                f"{where} is a {picture.format} of mode {picture.mode}, but ADE20K's *_seg.png are PNGs of mode RGB "
                "(class in red and green, instance in blue); take them as they were downloaded"
            )
    red, green, blue = np.moveaxis(np.asarray(read_image(where, content)), -1, 0)
    return (np.arange(256, dtype=np.uint16) // 10 * 256)[red] + green, blue


# ------------------------------------------------------------------------------------------------------------- classes


def count(image: Annotated, source: Source, with_names: bool) -> dict[str, Any]:
    """The classes of an image, and with `with_names` the names of its objects, as a line of the ledger.

    Raises:
        UserError: the label map is damaged.
    """
    keys, _ = read_seg(image, source)
    return {**entry_of(image.stem, keys), "names": named_objects(image, source) if with_names else []}


def named_objects(image: Annotated, source: Source) -> list[tuple[int, str]]:
    """The names of an image's objects, each with its number in the official list, or 0 where that is not there.

    2016: lines `001 # 0 # 0 # wall # wall # ""`, where the second number is 0 for whole objects.
    2021: {"annotation": {"object": [{"name": "wall", "name_ndx": 2978, "parts": {"part_level": 0, ...}, ...}]}}
    """
    if image.names is None:
        return []
    try:
        text = source.read(image.names).decode("utf-8", "replace")
        if image.names.lower().endswith(".json"):
            objects = json.loads(text, strict=False)["annotation"]["object"]
            return sorted({(int(o["name_ndx"]), str(o["name"])) for o in objects})
        fields = [[field.strip() for field in line.split("#")] for line in text.splitlines()]
        return sorted({(0, line[3]) for line in fields if len(line) > 3 and int(line[1]) == 0})
    except (UserError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return []  # names are for people; without them training is the same


def names_in_index(source: Source, index: str) -> dict[int, str]:
    """The names of classes 1 .. C of the official index; none where it cannot be read."""
    try:
        return dict(enumerate(read_texts(source.read(index), "index", "objectnames"), start=1))
    except ValueError as error:
        print(f"note: {source.where(index)} cannot be read ({error}); names of classes are taken from the annotations")
        return {}


def names_of_numbers(counted: Sequence[Counted]) -> dict[int, str]:
    """The names of classes by the numbers that the annotations have beside them.

    Whether these count from 0 or, as the label maps do, from 1 is seen in the images: their classes are among those.
    """
    names = {number: name for image in counted for number, name in image.names}
    fits = [
        sum(len({number + shift for number, _ in image.names} & image.pixels.keys()) for image in counted)
        for shift in (0, 1)
    ]
    shift = 1 if fits[1] > fits[0] else 0
    return {number + shift: name for number, name in names.items()}


def names_in_company(counted: Sequence[Counted], keys: Iterable[int]) -> dict[int, str]:
    """The names of classes by the images that have them: an object's name is in the images that its class is in.

    A class has no name where two fit alike, or none fits.
    """
    of_class, of_name, of_both = Counter(), Counter(), {key: Counter() for key in keys}
    for image in counted:
        names = {name for _, name in image.names}
        of_name.update(names)
        of_class.update(image.pixels.keys())
        for key in image.pixels:
            if key in of_both:
                of_both[key].update(names)
    found = {}
    for key, both in of_both.items():
        fits = {name: times / (of_class[key] + of_name[name] - times) for name, times in both.items()}
        highest = max(fits.values(), default=0)
        best = [name for name, fit in fits.items() if fit == highest]
        if len(best) == 1 and highest >= ALIKE:
            found[key] = best[0]
    return found


def count_all(ledger: Ledger, images: Sequence[Annotated], index: str | None, source: Source, workers: int) -> Counts:
    """The classes of training images. Those that the ledger has are not read again.

    Raises:
        UserError: no image has any class.
    """
    names = names_in_index(source, index) if index else {}
    work = functools.partial(count, source=source, with_names=not names)
    left = [image for image in images if image.stem not in ledger.entries]
    _, failures = run_all(work, left, workers, "image", "counting", keep=ledger.add)
    entries = [ledger.entries[image.stem] for image in images if image.stem in ledger.entries]
    pixels = total(entries)
    if not pixels:
        raise UserError("no training image has a pixel of any class: are these the label maps of ADE20K?")
    if not names:
        counted = [Counted.of_entry(entry) for entry in entries]
        has_numbers = any(number for image in counted for number, _ in image.names)
        names = names_of_numbers(counted) if has_numbers else names_in_company(counted, pixels)
    return pixels, {key: names.get(key) or f"class {key}" for key in pixels}, failures


# ------------------------------------------------------------------------------------------------------------ the work


def prepare(
    image: Annotated, part: str, source: Source, out: Path, classes: Sequence[int], link: bool, instances: bool
) -> None:
    """Write what is not there yet of an image's files.

    Raises:
        UserError: a file is damaged.
        OSError: the disk is full or the folder is not writable.
    """
    photo = out / f"{part}_img" / f"{image.stem}.jpg"
    maps = {kind: out / f"{part}_{kind}" / f"{image.stem}.png" for kind in ("label", *(["inst"] if instances else []))}
    if all(is_there(path) for path in (photo, *maps.values())):
        return
    keys, numbers = read_seg(image, source)
    if not is_there(photo):
        content = source.read(image.photo)
        check_photo(source.where(image.photo), content, keys.shape[::-1], source.where(image.seg))
        copy(source, image.photo, photo, link, content)
    if not is_there(maps["label"]):
        save_image(Image.fromarray(remapped(keys, classes)), maps["label"])
    if instances and not is_there(maps["inst"]):
        save_image(Image.fromarray(object_numbers(keys, numbers, source.where(image.seg))), maps["inst"])


def found_release(downloads: Path, release: str | None) -> tuple[str, Source]:
    """The release that is there, or that --release names.

    Raises:
        UserError: none is there, or both are.
    """
    find(downloads, [RELEASES[release]] if release else [])
    found = {
        name: source
        for name, part in RELEASES.items()
        if release in (None, name) and (source := find_optional(downloads, part))
    }
    if not found:
        raise UserError(f"{downloads} lacks {' or '.join(part.describe() for part in RELEASES.values())}")
    if len(found) > 1:
        there = " and ".join(str(source.path) for source in found.values())
        raise UserError(f"{there} are both there: choose with --release {' or --release '.join(found)}")
    ((release, source),) = found.items()
    return release, source


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    parser = preparation_parser("prepare_ade20k_full.py", __doc__, "datasets/ade20k_full")
    parser.add_argument("--classes", type=positive, default=300, metavar="N", help="(default: %(default)s)")
    add_switch(parser, "--instances", "write instance maps too")
    parser.add_argument("--release", choices=list(RELEASES), help="(default: the one that is there)")
    add_scene_flags(parser, "the folders that they are in; --out is datasets/ade20k_full_outdoor then")
    args = parser.parse_args(argv)
    if args.outdoor and args.out == parser.get_default("out"):
        args.out += "_outdoor"
    scenes = scenes_of(args, parser)
    release, source = found_release(Path(args.downloads), args.release)
    check_link(args.link, source)
    images, index = images_of(source, args.partial)
    counts = {part: len(found) for part, found in images.items()}
    check_counts(f"ADE20K of {release} in {source.path}", counts, OFFICIAL[release], args.partial)
    for found in images.values():
        look_first(functools.partial(read_seg, source=source), found)
    outdoor = None
    if scenes:
        outdoor = Outdoor.choose({part: {i.stem: i.place for i in found} for part, found in images.items()}, scenes)
        images = {part: [i for i in found if i.stem in outdoor.names[part]] for part, found in images.items()}
    made_with = {  # not the instance maps, which can be added
        "release": release,
        "classes": args.classes,
        "scenes": scenes.key if scenes else "all",
        "link": args.link,
    }
    output = Output.begin(args.out, "prepare_ade20k_full.py", made_with, [source])
    if outdoor:
        outdoor.write(output.folder)
    work = functools.partial(count_all, images=images["train"], index=index, source=source, workers=args.workers)
    stems = [image.stem for image in images["train"]]
    pixels, failures = choose_classes(output, stems, args.classes, work)
    classes = pixels.largest(args.classes)
    names = [pixels.names[key].replace(", ", ";") for key in classes]  # of several names the first is shown
    table = class_table(f"ADE20K of {release}, {len(classes)} classes", names)
    write_atomically(output.folder / CLASSES_NAME, table.save_text().encode("utf-8", "replace"))
    for part, found in images.items():
        work = functools.partial(
            prepare,
            part=part,
            source=source,
            out=output.folder,
            classes=classes,
            link=args.link,
            instances=args.instances,
        )
        failures += run_all(work, found, args.workers, "image", part)[1]
    counts = {part: len(found) for part, found in images.items()}
    output.finish(counts, list(dict.fromkeys(failures)))  # what could not be counted could not be prepared either
    print(f"classes: {len(classes)}, with {covered(pixels, classes):.1%} of the labelled training pixels")
    say_next(output.folder, counts, train_flags(output.folder, len(classes), args.instances, args.outdoor))


def covered(pixels: ClassPixels, classes: Sequence[int]) -> float:
    """The share of labelled training pixels that are of these classes."""
    return sum(pixels.pixels[key] for key in classes) / sum(pixels.pixels.values())


def train_flags(out: Path, classes: int, instances: bool, outdoor: bool) -> list[str]:
    """The flags of train.py for what was written."""
    instance_flags = ["--instance_dir", str(out / "train_inst")] if instances else ["--no_instance"]
    return [
        *("--name", "ade20k_full_outdoor" if outdoor else "ade20k_full", "--dataset_mode", "custom"),
        *("--label_dir", str(out / "train_label"), "--image_dir", str(out / "train_img"), *instance_flags),
        *(*unknown_flags(classes), "--class_table", str(out / CLASSES_NAME), "--batchSize", "32"),
    ]


if __name__ == "__main__":
    run_main(main)
