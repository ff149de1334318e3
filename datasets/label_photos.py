"""Photos without annotations to a data set: a segmenter draws their label maps, as for SPADE's Flickr Landscapes.

    python datasets/label_photos.py --photos DIR --out datasets/landscapes --landscapes
    python datasets/label_photos.py --photos DIR --out datasets/mine --segmenter segmenter.pth --at_least sky+sea=0.3

DIR is any folder of photos, with folders in it. Writes {train,val}_{img,label}/ for --dataset_mode custom and
manifest.csv, which says of each photo in DIR where it went or why it was left out, and keeps source, author and
licence: those of --metadata, else author and copyright of the photo's EXIF.

Left out are files that cannot be read, photos that are too small or of one colour, copies, photos that are nearly the
same as a larger one or as its mirror image (by the correlation of small grey pictures), and last what is no landscape,
by the shares of classes: --landscapes, --at_least, --at_most. Photos are turned as viewers show them, and shrunk to
--short_side; those that need neither are copied byte by byte.

--segmenter is deeplabv2 (182 classes of COCO-Stuff, which the paper used), upernet101 (150 of ADE20K), drn_d_105 (19 of
Cityscapes), a file of evaluate.py train-segmenter, or torchvision:NAME, such as torchvision:deeplabv3_resnet50, whose
21 classes are things alone: they know no sky and no sea. Label maps have the ids of the segmenter's data set.

A run that was cut short goes on when the same command is given again. What was read and seen is kept in OUT/cache, so
that the command may be given again with other filters, another --val or more photos: what was labelled stays so, and
files change places. Delete OUT/cache when nothing is to change any more.
"""

import csv
import functools
import io
import json
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from data.twins import CORRELATION
from datasets.preparation.archives import Source
from datasets.preparation.credits import FIELDS, Credit, read_credits
from datasets.preparation.jobs import run_all
from datasets.preparation.labelling import Job, Labeller, label_all, largest, open_labeller, pixels_of
from datasets.preparation.ledger import Ledger
from datasets.preparation.output import Output, is_there, preparation_parser, say_next
from datasets.preparation.photo_facts import Facts, is_as, look_at, names_of, photos_in, shrunk, write_photo
from datasets.preparation.selection import (
    REASONS,
    LeftOut,
    Rule,
    by_classes,
    by_file,
    copies,
    is_licensed,
    landscape_rules,
    parse_rule,
    twins,
)
from datasets.preparation.splits import validation_part
from options.flags import add_switch, fraction, natural, nonnegative_float, positive, positive_float
from util.distributed import pick_device
from util.errors import UserError, first_few, printable, run_main
from util.files import save_image, write_atomically

COMMAND, MANIFEST, SELECTION, CLASSES, CACHE = (
    *("label_photos.py", "manifest.csv", "selection.json", "classes.json", "cache"),
)
# Flags that may be others the next time.
CHOICE = (
    *("smallest", "widest", "colored", "twins", "licences", "landscapes", "at_least", "at_most"),
    *("val", "seed", "group_by", "metadata"),
)
PARTS = ("train", "val")
COLUMNS = (
    *("file", "original", "part", "reason", "width", "height", "sha256", "source", "author", "licence", "classes"),
)
SHOWN_CLASSES = 8  # of a photo in the manifest
FORMULAS = ("=", "+", "-", "@")  # what spreadsheets compute where a cell begins with it


@dataclass
class Set:
    """What becomes of each photo."""

    facts: dict[str, Facts]  # by path below --photos, in natural order
    credits: dict[str, Credit]
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    pixels: dict[str, dict[int, int]] = field(default_factory=dict)  # of each class, of what was labelled
    parts: dict[str, str] = field(default_factory=dict)  # train or val
    files: dict[str, str] = field(default_factory=dict)  # below OUT

    @property
    def left(self) -> list[str]:
        """The photos that are not left out."""
        return [original for original in self.facts if original not in self.left_out]

    def leave_out(self, found: Mapping[str, LeftOut]) -> None:
        """Leave some more out, and say how many for which reason."""
        self.left_out |= found
        counts = Counter(each.reason for each in found.values())
        for reason, what in REASONS.items():
            if counts[reason]:
                print(f"{-counts[reason]:9,} {what}")


# ------------------------------------------------------------------------------------------------------------- reading


def look_at_all(names: Sequence[str], photos: Source, ledger: Ledger, workers: int) -> dict[str, Facts]:
    """What is to be known of photos; those that were read before and have not changed are not read again."""
    known = {name: facts for name in names if (facts := Facts.of_entry(ledger.entries.get(name, {})))}
    known = {name: facts for name, facts in known.items() if is_as(facts, photos)}
    new = [name for name in names if name not in known]

    def keep(facts: Facts) -> None:
        known[facts.original] = facts
        if not facts.problem:  # which may be gone the next time
            ledger.add(facts.entry())

    run_all(functools.partial(look_at, photos=photos), new, workers, "photo", "reading", keep)
    return {name: known[name] for name in names}


def credits_of(facts: Iterable[Facts], given: Mapping[str, Credit]) -> dict[str, Credit]:
    """What --metadata says of photos; of what it says nothing, what their files say."""
    found = {}
    for each in facts:
        own = given.get(each.original, Credit())
        found[each.original] = Credit(own.source, own.author or each.author, own.licence or each.licence)
    return found


def choose_by_files(photos: Set, args: Namespace) -> None:
    """Leave out what need not be labelled: the cheapest first, so that no photo is compared with one that goes."""
    found = {o: by_file(f, args.smallest, args.widest, args.colored) for o, f in photos.facts.items()}
    photos.leave_out({original: left_out for original, left_out in found.items() if left_out})
    if args.licences:
        credits = {original: photos.credits[original].licence for original in photos.left}
        photos.leave_out(
            {
                original: LeftOut("licence", f"licence {licence!r}" if licence else "no licence is known")
                for original, licence in credits.items()
                if not is_licensed(licence, args.licences)
            }
        )
    photos.leave_out(copies(photos.facts[original] for original in photos.left))
    if args.twins < 1:
        photos.leave_out(twins([photos.facts[original] for original in photos.left], args.twins))


# ----------------------------------------------------------------------------------------------------- labels and files


class Folder:
    """The files of OUT: those of the parts, and in its cache the label maps of what was left out since."""

    def __init__(self, out: Path, ledger: Ledger) -> None:
        """`ledger`: what was labelled, by the photos' paths."""
        self.out, self.ledger = out, ledger
        self.names = {original: entry["name"] for original, entry in ledger.entries.items() if _is_sound(entry)}
        self._labels = [out / f"{part}_label" for part in PARTS] + [out / CACHE / "label"]

    def label(self, name: str) -> Path | None:
        """Where a label map is; None where it is nowhere."""
        return next((path for folder in self._labels if is_there(path := folder / f"{name}.png")), None)

    def is_labelled(self, facts: Facts) -> bool:
        """Whether a photo, as it is now, has a label map."""
        entry = self.ledger.entries.get(facts.original, {})
        return _is_sound(entry) and entry["sha256"] == facts.sha256 and self.label(entry["name"]) is not None

    def pixels(self, original: str) -> dict[int, int]:
        """The pixels of each class of a photo that has a label map."""
        return {int(index): count for index, count in self.ledger.entries[original]["pixels"].items()}

    def forget(self, name: str) -> None:
        """Remove what was made of a photo that has changed since."""
        for folder in self._labels:
            (folder / f"{name}.png").unlink(missing_ok=True)
        for path in self._photos(name):
            path.unlink()

    def take_label(self, job: Job, ids: np.ndarray, sha256: str) -> None:
        """Keep what was labelled; threads may do so at once."""
        save_image(Image.fromarray(ids), self.out / CACHE / "label" / f"{job.name}.png")
        pixels = {str(index): count for index, count in pixels_of(ids).items()}
        self.ledger.add({"original": job.original, "name": job.name, "sha256": sha256, "pixels": pixels})

    def sort(self, parts: Mapping[str, str]) -> None:
        """Let each file be where it belongs: names that are in no part have only a label map, in the cache."""
        for path in (*(self.out / f"{part}_{kind}" for part in PARTS for kind in ("img", "label")), self._labels[-1]):
            path.mkdir(parents=True, exist_ok=True)
        for name in {*self.names.values(), *parts}:
            part, label = parts.get(name), self.label(name)
            folder = self.out / f"{part}_label" if part else self._labels[-1]
            if label is not None and label.parent != folder:
                os.replace(label, folder / label.name)
            for path in self._photos(name):
                if part is None:
                    path.unlink()
                elif path.parent.name != f"{part}_img":
                    os.replace(path, self.out / f"{part}_img" / path.name)

    @functools.cached_property
    def _endings(self) -> dict[str, set[str]]:
        endings: dict[str, set[str]] = {}
        for part in PARTS:
            for path in (self.out / f"{part}_img").glob("*"):
                endings.setdefault(path.stem, set()).add(path.suffix)
        return endings

    def _photos(self, name: str) -> list[Path]:
        paths = [self.out / f"{p}_img" / f"{name}{ending}" for p in PARTS for ending in self._endings.get(name, ())]
        return [path for path in paths if path.exists()]


def _is_sound(entry: Mapping[str, object]) -> bool:
    """Whether what a ledger says of a label map makes sense."""
    pixels = entry.get("pixels")
    if not isinstance(pixels, dict) or not all(k.isdigit() and type(v) is int and v > 0 for k, v in pixels.items()):
        return False
    texts = isinstance(entry.get("sha256"), str) and re.fullmatch(r"[\w-]+", str(entry.get("name")))
    return bool(pixels) and bool(texts)


def size_in_set(facts: Facts, short_side: int) -> tuple[int, int]:
    """Width and height that a photo has in the data set."""
    return shrunk(facts.size, short_side, min) if short_side else facts.size


def label_photos(
    photos: Set, folder: Folder, labeller: Labeller, source: Source, args: Namespace, batch: int
) -> dict[str, str]:
    """Label what has no label map yet; returns what was wrong, by path."""
    left = [photos.facts[original] for original in photos.left]
    names = names_of(photos.left, folder.names)
    jobs = []
    for facts in left:
        if not folder.is_labelled(facts):
            folder.forget(names[facts.original])
            size = size_in_set(facts, args.short_side)
            jobs.append(Job(names[facts.original], facts.original, facts.size, size))

    def done(job: Job, ids: np.ndarray) -> None:
        folder.take_label(job, ids, photos.facts[job.original].sha256)

    failures = label_all(labeller, jobs, source, done, args.longest, args.unknown_below, batch, args.workers)
    folder.names |= {job.original: job.name for job in jobs if job.original not in failures}
    photos.pixels = {original: folder.pixels(original) for original in photos.left if original not in failures}
    return failures


def divide(originals: Sequence[str], amount: float, seed: int, group_by: re.Pattern | None) -> dict[str, str]:
    """The part of each photo.

    Raises:
        UserError: nothing is left to train on.
    """
    groups = {original: group_of(original, group_by) for original in originals}
    held_back = validation_part(groups.values(), amount, seed)
    parts = {original: "val" if group in held_back else "train" for original, group in groups.items()}
    if "train" not in parts.values():
        raise UserError(f"--val {amount:g} leaves none of {len(originals)} photos to train on; give less")
    return parts


def group_of(original: str, pattern: re.Pattern | None) -> str:
    """What must stay together has one group: what --group_by finds in the path, or the path."""
    match = pattern.search(original) if pattern else None
    if match is None:
        return original
    return (match[1] if match.re.groups else match[0]) or original


@dataclass(frozen=True)
class Copy:
    """A photo to bring into the data set."""

    original: str
    file: str  # below OUT
    size: tuple[int, int] | None  # None: as it is


def bring(job: Copy, photos: Source, out: Path) -> None:
    """Write a photo."""
    write_photo(job.original, out / job.file, job.size, photos)


def copy_of(facts: Facts, name: str, part: str, short_side: int) -> Copy:
    """What is to be written of a photo."""
    size = size_in_set(facts, short_side)
    if size == facts.size and not facts.turned:
        return Copy(facts.original, f"{part}_img/{name}{Path(facts.original).suffix.lower()}", None)
    return Copy(facts.original, f"{part}_img/{name}.jpg", size)


# ------------------------------------------------------------------------------------------------------------- written


def manifest(photos: Set, names: Mapping[int, str]) -> bytes:
    """The table of all photos, as CSV in UTF-8."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(COLUMNS)
    for original, facts in photos.facts.items():
        credit, left_out = photos.credits[original], photos.left_out.get(original)
        path = printable(original)
        rows.writerow(
            [
                photos.files.get(original, ""),
                f"./{path}" if path.startswith(FORMULAS) else path,
                photos.parts.get(original, ""),
                cell(printable(f"{left_out.reason}: {left_out.why}")) if left_out else "",
                *(facts.size if facts.sha256 else ("", "")),
                facts.sha256,
                *(cell(getattr(credit, name)) for name in FIELDS),
                cell(largest(photos.pixels[original], names, SHOWN_CLASSES)) if original in photos.pixels else "",
            ]
        )
    return stream.getvalue().encode("utf-8", "backslashreplace")


def cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULAS) else text


def note_missing(photos: Set) -> None:
    """Say of how many photos source, author or licence are not known."""
    missing = {name: sum(not getattr(photos.credits[o], name) for o in photos.left) for name in FIELDS}
    listed = ", ".join(f"{count:,} have no {name}" for name, count in missing.items() if count)
    if listed:
        print(f"note: of {len(photos.left):,} photos {listed}; --metadata FILE gives it")


# ------------------------------------------------------------------------------------------------------------- command


def _parser() -> ArgumentParser:
    parser = preparation_parser(COMMAND, __doc__, official=False)
    parser.add_argument("--photos", required=True, metavar="DIR", help="folder of photos; nothing is written there")
    group = parser.add_argument_group("labels")
    group.add_argument(
        "--segmenter", default="deeplabv2", metavar="NAME|FILE", help="what labels them (default: %(default)s)"
    )
    group.add_argument(
        "--segmenter_weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help="its weights (default: from PyTorch's download cache, where they are fetched to)",
    )
    group.add_argument("--gpu_ids", type=int, default=0, metavar="ID", help="one GPU; -1: the CPU (default: 0)")
    group.add_argument(
        "--batchSize",
        type=positive,
        metavar="N",
        help="photos of one size that are labelled at once (default: 4; CPU: 1)",
    )
    group.add_argument(
        "--longest",
        type=positive,
        metavar="PIXELS",
        help="longer side of what the segmenter is shown; photos are never enlarged (default: that of the photos it "
        "was trained on: deeplabv2 640, upernet101 1000, drn_d_105 2048)",
    )
    group.add_argument(
        "--unknown_below",
        type=fraction,
        default=0.0,
        metavar="P",
        help="pixels whose class is less probable than this become unknown (default: none)",
    )
    group.add_argument(
        "--short_side",
        type=natural,
        default=512,
        metavar="PIXELS",
        help="photos with a longer shorter side are shrunk to it, which saves disk and time in training; 0: none is "
        "(default: %(default)s)",
    )
    group = parser.add_argument_group("photos that are left out")
    group.add_argument(
        "--smallest", type=positive, default=256, metavar="PIXELS", help="shorter side, at least (default: %(default)s)"
    )
    group.add_argument(
        "--widest",
        type=positive_float,
        default=2.5,
        metavar="RATIO",
        help="longer side to shorter side, at most (default: %(default)s)",
    )
    add_switch(group, "--colored", "leave out black and white photos")
    group.add_argument(
        "--twins",
        type=positive_float,
        default=CORRELATION,
        metavar="R",
        help="correlation of 24 x 24 grey levels above which two photos are nearly the same; 1: none are (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--licences",
        nargs="+",
        default=[],
        metavar="LICENCE",
        help="take only photos of these; * stands for any text: CC0* 'CC-BY-[0-9]*'",
    )
    add_switch(
        group,
        "--landscapes",
        "take only what shows landscapes, by the shares of COCO-Stuff's or ADE20K's classes: "
        "datasets/preparation/landscapes.json has the rules",
    )
    for flag, how in (("--at_least", "less"), ("--at_most", "more")):
        group.add_argument(
            flag,
            action="append",
            default=[],
            metavar="CLASSES=SHARE",
            help=f"leave out photos of which these classes make up {how} together, such as sky-other+clouds=0.2 or "
            "'wall-*=0.1'; may be given several times",
        )
    group = parser.add_argument_group("parts and credits")
    group.add_argument(
        "--val",
        type=nonnegative_float,
        default=0.05,
        metavar="AMOUNT",
        help="share of photos that are held back for validation, or from 1 on their number (default: %(default)s)",
    )
    group.add_argument("--seed", type=natural, default=0, help="decides which (default: %(default)s)")
    group.add_argument(
        "--group_by",
        metavar="REGEX",
        help="photos stay together in whose paths it finds the same (its first group): '([^/]+)/' for folders",
    )
    group.add_argument(
        "--metadata", metavar="FILE", help="CSV or JSON: file, source, author, licence of each photo (default: EXIF's)"
    )
    return parser


def _group_by(text: str | None) -> re.Pattern | None:
    try:
        return re.compile(text) if text is not None else None
    except re.error as error:
        raise UserError(f"--group_by {text!r} is no regular expression ({error})") from None


def _folder_of_photos(args: Namespace) -> Source:
    path, out = Path(args.photos), Path(args.out)
    if not path.is_dir():
        raise UserError(f"--photos {path} is no folder")
    if out.resolve().is_relative_to(path.resolve()):
        raise UserError(f"--out {out} lies in --photos {path}, where its photos would be found the next time")
    return Source(path)


def _rules(args: Namespace, labeller: Labeller) -> list[Rule]:
    rules = landscape_rules(labeller.kind.class_table, labeller.names) if args.landscapes else []
    for flag, texts in (("--at_least", args.at_least), ("--at_most", args.at_most)):
        rules += [parse_rule(flag, text, labeller.names) for text in texts]
    return rules


def _refuse_other_photos(names: Iterable[str], folder: Folder, where: Path) -> None:
    """All that was labelled would be left out."""
    known = set(folder.names)
    if known and known.isdisjoint(names):
        raise UserError(
            f"--out {folder.out} was made of other photos, such as {first_few(sorted(known))}, and --photos {where} "
            "has none of them; give the folder that it was made of, or a new --out"
        )


def main(argv: list[str] | None = None) -> None:
    """Make the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    args = _parser().parse_args(argv)
    source, group_by = _folder_of_photos(args), _group_by(args.group_by)
    names = photos_in(source)
    if not names:
        raise UserError(f"--photos {source.path} has no photos")
    given = read_credits(Path(args.metadata), names) if args.metadata else {}
    device = pick_device([args.gpu_ids] if args.gpu_ids >= 0 else [])
    labeller = open_labeller(args.segmenter, args.segmenter_weights, args.unknown_below)
    args.longest = args.longest or labeller.longest
    rules = _rules(args, labeller)
    made_with = {name: getattr(args, name) for name in ("longest", "unknown_below", "short_side")}
    output = Output.begin(args.out, COMMAND, {"segmenter": labeller.identity, **made_with})
    cache = output.folder / CACHE
    folder = Folder(output.folder, Ledger(cache / "labels.jsonl", "original"))
    _refuse_other_photos(names, folder, source.path)

    facts = look_at_all(names, source, Ledger(cache / "photos.jsonl", "original"), args.workers)
    photos = Set(facts, credits_of(facts.values(), given))
    print(f"{len(facts):9,} photos in {source.path}")
    choose_by_files(photos, args)
    batch = args.batchSize or (1 if device.type == "cpu" else 4)
    failures = label_photos(photos, folder, labeller.to(device), source, args, batch)
    photos.leave_out({o: out for o, p in photos.pixels.items() if (out := by_classes(p, rules))})
    photos.left_out |= {original: LeftOut("unreadable", why) for original, why in failures.items()}
    print(f"{len(photos.left):9,} are left")
    if not photos.left:
        write_atomically(output.folder / MANIFEST, manifest(photos, labeller.names))
        raise UserError(f"no photo is left; {output.folder / MANIFEST} says why of each")
    photos.parts = divide(photos.left, args.val, args.seed, group_by)
    folder.sort({folder.names[original]: part for original, part in photos.parts.items()})
    copies_to_make = [
        copy_of(facts[original], folder.names[original], part, args.short_side)
        for original, part in photos.parts.items()
    ]
    photos.files = {job.original: job.file for job in copies_to_make}
    new = [job for job in copies_to_make if not is_there(output.folder / job.file)]
    work = functools.partial(bring, photos=source, out=output.folder)
    failed = [*failures.values(), *run_all(work, new, args.workers, "photo", "writing")[1]]
    write_atomically(output.folder / MANIFEST, manifest(photos, labeller.names))
    chosen = {name: getattr(args, name) for name in CHOICE}
    write_atomically(output.folder / SELECTION, (json.dumps(chosen, indent=1) + "\n").encode())
    if labeller.table is not None:
        write_atomically(output.folder / CLASSES, labeller.table.save_text().encode())
    note_missing(photos)
    counts = Counter(photos.parts.values())
    images = {part: counts[part] for part in PARTS if counts[part]}
    output.finish(images, failed)
    say_next(output.folder, images, _train_flags(output.folder, labeller))


def _train_flags(out: Path, labeller: Labeller) -> list[str]:
    folders = ["--label_dir", str(out / "train_label"), "--image_dir", str(out / "train_img")]
    table = ["--class_table", str(out / CLASSES)] if labeller.table is not None else []
    shape = ["--preprocess_mode", "scale_shortside_and_crop"]  # landscapes are wide
    return [
        *("--name", out.resolve().name, "--dataset_mode", "custom", *folders, *labeller.train_flags, *table),
        *("--no_instance", *shape, "--batchSize", "32"),
    ]


if __name__ == "__main__":
    run_main(main)
