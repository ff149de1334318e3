"""Helen's faces with the labels of Smith et al. (CVPR 2013) to folders of --dataset_mode custom.

    python datasets/prepare_helen.py --downloads DIR --out datasets/helen

DIR holds SmithCVPR2013_dataset_resized.zip as it was downloaded, or the folder that it unpacks to. Writes
{train,val}_{img,label}/ and classes.json. A pixel's class is that of the 11 masks which is strongest there, of equals
the first. exemplars.txt lists the training part; tuning.txt and testing.txt list what is validated on. Photos are
copied byte by byte. A run that was cut short goes on when the same command is given again.
"""

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from data.base_dataset import read_image
from data.pix2pix_dataset import size_of
from datasets.preparation.archives import Part, Source, find
from datasets.preparation.checks import check_photo, complete
from datasets.preparation.classes import class_table
from datasets.preparation.jobs import run_all
from datasets.preparation.output import (
    Output,
    check_counts,
    check_link,
    copy,
    is_there,
    preparation_parser,
    say_next,
)
from util.errors import UserError, run_main
from util.files import save_image, write_atomically

OFFICIAL = {"exemplars": 2_000, "tuning": 230, "testing": 100}
LISTS = {"train": ("exemplars",), "val": ("tuning", "testing")}
FACES = Part(
    "photos and masks",
    "SmithCVPR2013_dataset_resized.zip",
    "2,330 faces",
    "https://pages.cs.wisc.edu/~lizhang/projects/face-parsing",
    ("SmithCVPR2013_dataset_resized",),
    "exemplars.txt",
)
CLASSES = [
    "background",
    "face skin",
    "left eyebrow",
    "right eyebrow",
    "left eye",
    "right eye",
    "nose",
    "upper lip",
    "inner mouth",
    "lower lip",
    "hair",
]


@dataclass(frozen=True)
class Face:
    """One image: where its files are."""

    stem: str  # 100032540_1
    photo: str
    masks: tuple[str, ...]  # one for each class


def prepare(face: Face, part: str, source: Source, out: Path, link: bool) -> None:
    """Write what is not there yet of an image's two files.

    Raises:
        UserError: a file is damaged, or sizes differ.
        OSError: the disk is full or the folder is not writable.
    """
    photo, label = out / f"{part}_img" / f"{face.stem}.jpg", out / f"{part}_label" / f"{face.stem}.png"
    if is_there(photo) and is_there(label):
        return
    first = source.where(face.masks[0])
    ids = strongest([read_mask(source, name) for name in face.masks], first)
    photo_content = source.read(face.photo)
    check_photo(source.where(face.photo), photo_content, size_of(ids), first)
    save_image(Image.fromarray(ids), label)
    copy(source, face.photo, photo, link, photo_content)


def read_mask(source: Source, name: str) -> np.ndarray:
    """A mask, uint8 [H, W], 0 .. 255 whatever the bits that its file has.

    Raises:
        UserError: it is damaged.
    """
    return np.asarray(read_image(source.where(name), source.read(name)))[..., 0]


def strongest(masks: list[np.ndarray], where: str) -> np.ndarray:
    """The class of each pixel, uint8 [H, W]: the mask of those [H, W] that is largest there, of equals the first.

    Args:
        where: what messages call the first mask.

    Raises:
        UserError: they are of several sizes.
    """
    sizes = dict.fromkeys(f"{mask.shape[1]} x {mask.shape[0]}" for mask in masks)
    if len(sizes) > 1:
        raise UserError(f"{where} and the other masks of its photo are of several sizes: {', '.join(sizes)}")
    return np.argmax(masks, 0).astype(np.uint8)


def listed(source: Source) -> dict[str, list[str]]:
    """The names of faces by list: exemplars, tuning, testing.

    Raises:
        UserError: a list is not there or has other lines, or a name is there twice.
    """
    files = source.select(rf"({'|'.join(OFFICIAL)})\.txt")
    missing = [f"{name}.txt" for name in OFFICIAL if name not in files]
    if missing:
        raise UserError(f"{source.path} lacks {', '.join(missing)}; {FACES.archive} has it: unpack it whole")
    names: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for name in OFFICIAL:
        where = source.where(files[name])
        names[name] = []
        for number, line in enumerate(source.read(files[name]).decode("utf-8", "replace").splitlines(), start=1):
            if not line.strip():
                continue
            match = re.fullmatch(r"\d+\s*,\s*(\S+)", line.strip())
            if match is None:
                raise UserError(f"{where}, line {number}: {line[:80]!r} is not of the form `1 , 100032540_1`")
            if match[1] in seen:
                raise UserError(
                    f"{where}, line {number}: {match[1]} is in {seen[match[1]]} already, but a face belongs to one part"
                )
            seen[match[1]] = where
            names[name].append(match[1])
    return names


def faces_of(source: Source, lists: Mapping[str, Sequence[str]], partial: bool) -> dict[str, list[Face]]:
    """The listed faces, by list, that have a photo and all masks.

    Raises:
        UserError: some lack files, or a list has none that does not.
    """
    photos = source.select(r"images/([^/]+)\.jpe?g")
    found = source.select(r"labels/([^/]+/[^/]+_lbl\d\d)\.png")
    masks = {}
    for stem in (stem for stems in lists.values() for stem in stems):
        names = [f"{stem}/{stem}_lbl{number:02d}" for number in range(len(CLASSES))]
        if all(name in found for name in names):
            masks[stem] = tuple(found[name] for name in names)
    last = len(CLASSES) - 1
    first = {stem: of_face[0] for stem, of_face in masks.items()}
    files = {"photo": photos, f"whole set of masks *_lbl00.png .. *_lbl{last:02d}.png": first}
    layout = "images/NAME.jpg and labels/NAME/NAME_lbl00.png and so on"
    way_out = f"download {FACES.archive} again, or unpack it whole"
    faces = {}
    for name, stems in lists.items():
        whole = complete(f"{name} faces", files, str(source.path), layout, partial, way_out, stems)
        faces[name] = [Face(stem, photos[stem], masks[stem]) for stem in whole]
    return faces


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    args = preparation_parser("prepare_helen.py", __doc__, "datasets/helen").parse_args(argv)
    (source,) = find(Path(args.downloads), [FACES])
    check_link(args.link, source)
    found = faces_of(source, listed(source), args.partial)
    there = {name: len(of_list) for name, of_list in found.items()}
    check_counts(f"Helen in {source.path}", there, OFFICIAL, args.partial)
    faces = {part: [face for name in lists for face in found[name]] for part, lists in LISTS.items()}
    output = Output.begin(args.out, "prepare_helen.py", {"link": args.link}, [source])
    out = output.folder
    table = out / "classes.json"
    write_atomically(table, class_table("Helen faces", CLASSES).save_text().encode())
    failures = []
    for part in LISTS:
        work = functools.partial(prepare, part=part, source=source, out=out, link=args.link)
        failures += run_all(work, faces[part], args.workers, "image", part)[1]
    counts = {part: len(of_part) for part, of_part in faces.items()}
    output.finish(counts, failures)
    flags = ["--name", "helen", "--dataset_mode", "custom", "--label_dir", str(out / "train_label")]
    flags += ["--image_dir", str(out / "train_img"), "--label_nc", str(len(CLASSES)), "--class_table", str(table)]
    print("left and right eyes and brows are classes of their own, so that training is not to mirror photos: --no_flip")
    say_next(out, counts, [*flags, "--no_instance", "--no_flip", "--batchSize", "4"])


if __name__ == "__main__":
    run_main(main)
