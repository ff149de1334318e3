"""CMP Facades from the official archives to the folders of --dataset_mode facades.

    python datasets/prepare_facades.py --downloads DIR --out datasets/facades

DIR holds CMP_facade_DB_base.zip and CMP_facade_DB_extended.zip as they were downloaded, or the folders that they
unpack to; with --partial one of them is enough. Writes {train,val}_{img,label}/. Photos and label maps are copied byte
by byte. The archives do not say what to hold back: --val images are, drawn by --seed. 106 is how many pix2pix tested
on; which it did is not in the archives. A run that was cut short goes on when the same command is given again.
"""

import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.base_dataset import read_id_array
from data.pix2pix_dataset import size_of
from datasets.preparation.archives import Part, Source, find, find_optional
from datasets.preparation.checks import check_photo, complete
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
from datasets.preparation.splits import validation_part
from options.flags import natural, positive
from util.class_table import ClassTable
from util.errors import UserError, run_main
from util.files import put

OFFICIAL = {"base": 378, "extended": 228}
HOME = "https://cmp.felk.cvut.cz/~tylecr1/facade"
PARTS = {
    "base": Part("378 facades", "CMP_facade_DB_base.zip", "35 MB", HOME, ("base", "CMP_facade_DB_base")),
    "extended": Part("228 more", "CMP_facade_DB_extended.zip", "20 MB", HOME, ("extended", "CMP_facade_DB_extended")),
}
TABLE = ClassTable.load("facades")
CLASSES = max(TABLE.names)  # ids are 1 .. 12
# Names of classes are beside their ids in each object of a picture's XML.
NAMED = re.compile(rb"<label>\s*(\d{1,3})\s*</label>\s*<labelname>\s*(\w+)\s*</labelname>")


@dataclass(frozen=True)
class Facade:
    """One image: where its files are."""

    stem: str  # cmp_b0001
    source: Source
    photo: str
    label: str
    objects: str | None  # its XML


def prepare(facade: Facade, held_back: set[str], out: Path, link: bool) -> dict[int, str]:
    """Write what is not there yet of an image's two files.

    Returns:
        Names of classes by id, where the image's XML has others than our table; none if nothing was to do.

    Raises:
        UserError: a file is damaged, or its ids or its size are wrong.
        OSError: the disk is full or the folder is not writable.
    """
    part = "val" if facade.stem in held_back else "train"
    photo, label = out / f"{part}_img" / f"{facade.stem}.jpg", out / f"{part}_label" / f"{facade.stem}.png"
    if is_there(photo) and is_there(label):
        return {}
    source = facade.source
    content = source.read(facade.label)
    ids = read_id_array(source.where(facade.label), content=content)
    if ids.max() > CLASSES:
        raise UserError(f"{source.where(facade.label)} has id {ids.max()}, but classes are 1 .. {CLASSES}")
    photo_content = source.read(facade.photo)
    check_photo(source.where(facade.photo), photo_content, size_of(ids), source.where(facade.label))
    others = other_names(source.read(facade.objects)) if facade.objects else {}
    put(content, label)
    copy(source, facade.photo, photo, link, photo_content)
    return others


def other_names(objects: bytes) -> dict[int, str]:
    """Names of classes by id, of those that a picture's XML calls otherwise than our table."""
    found = {int(index): name.decode() for index, name in NAMED.findall(objects)}
    return {index: name for index, name in found.items() if TABLE.names.get(index) != name}


def facades_of(name: str, source: Source, partial: bool) -> list[Facade]:
    """The images of an archive, `base` or `extended`, that have a photo and a label map.

    Raises:
        UserError: it is damaged, or images have one of them only, or none is there.
    """
    photos, labels, objects = (source.select(rf"(cmp_[bx]\d+)\.{ending}") for ending in ("jpg", "png", "xml"))
    files = {"photo": photos, "label map": labels}
    layout = f"cmp_{'b' if name == 'base' else 'x'}*.jpg and a .png of each one's name"
    stems = complete(f"{name} images", files, str(source.path), layout, partial)
    return [Facade(stem, source, photos[stem], labels[stem], objects.get(stem)) for stem in stems]


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    parser = preparation_parser("prepare_facades.py", __doc__, "datasets/facades")
    parser.add_argument(
        "--val", type=positive, default=106, metavar="N", help="images that are held back (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="what they are drawn by (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    downloads = Path(args.downloads)
    names = list(PARTS)
    if args.partial and downloads.is_dir():
        names = [name for name in PARTS if find_optional(downloads, PARTS[name]) is not None] or names
    sources = dict(zip(names, find(downloads, [PARTS[name] for name in names]), strict=True))
    for source in sources.values():
        check_link(args.link, source)
    found = {name: facades_of(name, source, args.partial) for name, source in sources.items()}
    there = {name: len(facades) for name, facades in found.items()}
    check_counts(f"CMP Facades in {downloads}", there, OFFICIAL, args.partial)
    facades = [facade for part in found.values() for facade in part]
    if args.val >= len(facades):
        raise UserError(f"--val {args.val} leaves none of {len(facades)} images to train on; pass fewer")
    held_back = validation_part([facade.stem for facade in facades], args.val, args.seed)
    split = {"val": args.val, "seed": args.seed, "images": len(facades)}
    output = Output.begin(args.out, "prepare_facades.py", {**split, "link": args.link}, list(sources.values()))
    work = functools.partial(prepare, held_back=held_back, out=output.folder, link=args.link)
    named, failures = run_all(work, facades, args.workers, "image")
    others = {index: name for names in named for index, name in (names or {}).items()}
    if others:
        listed = ", ".join(f"{index} {name!r} ({TABLE.name(index)!r})" for index, name in sorted(others.items()))
        print(f"note: the archives call classes otherwise than data/class_tables/facades.json: {listed}")
    counts = {"train": len(facades) - len(held_back), "val": len(held_back)}
    output.finish(counts, failures)
    say_next(
        output.folder,
        counts,
        ["--name", "facades", "--dataset_mode", "facades", "--dataroot", str(output.folder), "--batchSize", "4"],
    )


if __name__ == "__main__":
    run_main(main)
