"""Your own photos and annotations to the folders of --dataset_mode custom.

    python datasets/prepare_custom.py --images photos --labelme annotations --out datasets/mine --background other
    python datasets/prepare_custom.py --images photos --label_maps maps --palette colours.txt --out datasets/mine

Annotations are one of: --label_maps (PNGs of class ids, or with --palette painted in colours), --labelme (a folder of
Labelme's JSON files), --cvat (an export "CVAT for images 1.1"), --coco_json (COCO's JSON). Writes
{train,val}_{img,label,inst}/ and classes.json. The originals stay as they are.

Classes become 0 .. n - 1: in the order of --classes or --palette if given, which are then all there are; else those
that occur, in the order of the annotations' own list of classes, or by name (label maps: by id). What is of no class is
unknown (255), and not trained on.

Shapes: a pixel belongs to a polygon if its centre lies in it. Where shapes overlap, those of --draw_first lie lowest;
then CVAT's z_order decides; then smaller ones lie on top, so that a window is not hidden by its wall (--order file:
later ones do). Each shape is an object of its own, but for those of a group (group_id) and of --stuff.

An annotation belongs to the photo of its name, whatever their endings, in folders that are the most alike. What fits a
photo of another folder alone is refused, or left out with --partial, as are photos without annotations, annotations
without photos, and what cannot be read: of the one file of CVAT or COCO the images with a damaged shape.

A run that was cut short goes on when the same command is given again, which also makes anew what was made of other
photos, label maps or Labelme files than are there now (made_of.jsonl has their sizes and times).
"""

import argparse
import contextlib
import functools
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from data.image_folder import EXTENSIONS
from datasets.preparation.annotations import Drawing, read_coco, read_cvat, read_labelme
from datasets.preparation.archives import Source
from datasets.preparation.classes import unknown_flags
from datasets.preparation.custom import (
    KINDS,
    Item,
    Originals,
    Recipe,
    Seen,
    Shapes,
    Written,
    calling_it_palette,
    files_of,
    look,
    prepare,
)
from datasets.preparation.jobs import run_all
from datasets.preparation.ledger import Ledger
from datasets.preparation.naming import Naming, Wishes, check_classes, choose, much_alike, parse_merges, read_table
from datasets.preparation.output import Output, preparation_parser, refuse_another, say_next
from datasets.preparation.pairing import (
    AnnotatedPhoto,
    Matches,
    Names,
    agree,
    files_below,
    pair_drawings,
    pair_maps,
)
from datasets.preparation.shapes import Line, Order
from datasets.preparation.splits import validation_part, wanted_of
from options.flags import add_switch, natural, nonnegative_float
from util.class_table import ClassTable, Palette
from util.errors import UserError, first_few, printable, run_main
from util.files import sha256, write_atomically
from util.paths import unique_stems

PARTS = ("train", "val")
MOST_IDS = 1000  # of label maps without a table: more are no classes
RARE = 10  # training photos, or half of them
SHOWN = 40  # classes of the report
BATCH = 4  # of the command that trains
NO_CLASSES = ("unknown", "unlabeled", "unlabelled", "void", "ignore")
CLASSES, LEFT_OUT, MADE_OF = "classes.json", "left_out.txt", "made_of.jsonl"
OF_SHAPES = ("background", "draw_first", "order", "line_width", "no_instance")
OF_MAPS = ("palette", "instance_maps", "label_suffix", "instance_suffix")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: flags are wrong, or do not go together.
    """
    parser = preparation_parser("prepare_custom.py", __doc__, official=False)
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="photos; those in subfolders too")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--label_maps", metavar="DIR", help="label maps, named as the photos are")
    kind.add_argument("--labelme", metavar="DIR", help="Labelme's JSON files; may be the folder of the photos")
    kind.add_argument("--cvat", metavar="FILE", help="annotations.xml of an export CVAT for images 1.1")
    kind.add_argument("--coco_json", metavar="FILE", help="COCO's JSON, with polygons or run lengths")
    add_switch(parser, "--partial", "go on without photos and annotations that lack the other or cannot be used")
    add_switch(parser, "--link", "link photos instead of copying them")
    add_switch(parser, "--ignore_exif", "photos were annotated as they are stored, however the camera was held")
    add_switch(parser, "--by_file_name", "Labelme: go by the files' own names, not by the imagePath in them")

    add = parser.add_argument_group("label maps").add_argument
    add("--palette", metavar="FILE", help="they are painted in its colours: a table as --classes takes, with colours")
    add("--instance_maps", metavar="DIR", help="numbers or colours of objects; 0 or black: no object")
    add("--label_suffix", default="", metavar="TEXT", help="what their names end in: _L for a_L.png of a.jpg")
    add("--instance_suffix", default="", metavar="TEXT", help="the same of instance maps")

    add = parser.add_argument_group("classes").add_argument
    help = (
        "all classes, whether they occur or not, and no others: a class table (a file, or a known one such as ade20k), "
        "or text with R G B name or name in each line, whose ids in label maps are then 0, 1, 2, ... from line to line"
    )
    add("--classes", metavar="FILE", help=help)
    many = {"nargs": "+", "action": "extend", "default": []}  # a second one adds to the first
    add("--merge", metavar="OLD=NEW", help="rename classes, or make one of several", **many)
    many["type"] = class_name
    add("--void", metavar="NAME", help="classes whose pixels become unknown", **many)
    add("--stuff", metavar="NAME", help="classes without objects, such as sky", **many)

    group = parser.add_argument_group("shapes")
    add = group.add_argument
    add("--background", type=class_name, metavar="NAME", help="class of what no shape covers (default: unknown)")
    add("--draw_first", metavar="NAME", help="classes that lie under all others, lowest first", **many)
    help = "whether smaller or later shapes lie on top (default: %(default)s)"
    add("--order", choices=("size", "file"), default="size", help=help)
    help = "width of lines (default: they are left out)"
    add("--line_width", type=nonnegative_float, default=0.0, metavar="PIXELS", help=help)
    add_switch(group, "--no_instance", "write no instance maps")

    add = parser.add_argument_group("validation part").add_argument
    help = "share of the photos below 1, or their number, 0 for none (default: %(default)s)"
    add("--val", type=nonnegative_float, default=0.1, metavar="N", help=help)
    add("--seed", type=natural, default=0, metavar="N", help="another one holds others back (default: %(default)s)")
    help = (
        "photos whose paths have the same match (of its first group) stay together, so that they may be some more or "
        "fewer than --val says"
    )
    add("--group_by", metavar="REGEX", help=help)
    add("--val_list", metavar="FILE", help="names of the photos to hold back, one a line")
    args = parser.parse_args(argv)
    _check_flags(args, parser)
    return args


def class_name(text: str) -> str:
    """A class's name, as annotations have it.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a class")
    return text.strip()


def _check_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    others = [f"--{name}" for name in (OF_SHAPES if args.label_maps else OF_MAPS) if name in given]
    if others:
        raise UserError(f"{' and '.join(others)}: of use with {'shapes' if args.label_maps else '--label_maps'} alone")
    if args.by_file_name and not args.labelme:
        raise UserError("--by_file_name goes with --labelme alone")
    if args.palette and args.classes:
        raise UserError("--palette gives the classes, so that --classes is one table too many; drop one of them")
    if args.stuff and (args.no_instance or (args.label_maps and not args.instance_maps)):
        raise UserError("--stuff is for instance maps, and none are made; drop it")
    if args.val_list and {"val", "seed", "group_by"} & given:
        raise UserError("--val_list says which photos are held back; drop --val, --seed and --group_by")
    if args.val >= 1 and args.val != int(args.val):
        raise UserError(f"--val {args.val:g} is neither a share below 1 nor a whole number")
    try:
        re.compile(args.group_by or "")
    except re.error as error:
        raise UserError(f"--group_by {args.group_by!r} is no regular expression: {error}") from None
    for name in ("images", "label_maps", "labelme", "instance_maps"):
        folder = getattr(args, name)
        if folder and not Path(folder).is_dir():
            raise UserError(f"--{name} {folder} is not a folder")
        if folder and Path(args.out).resolve().is_relative_to(Path(folder).resolve()):
            raise UserError(f"--out {args.out} is in --{name} {folder}, where nothing is written; give another folder")
    for name in ("cvat", "coco_json", "val_list"):
        file = getattr(args, name)
        if file and not Path(file).is_file():
            raise UserError(f"--{name} {file} is not a file")


def made_with(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that decide what is written; of files what is in them."""
    files, folders = ("palette", "classes", "val_list"), ("images", "label_maps", "labelme", "instance_maps")
    aside = {"out", "workers", "partial", *files}
    made = {name: as_text(value) for name, value in vars(args).items() if name not in aside}
    made |= {name: os.path.abspath(made[name]) for name in (*folders, "cvat", "coco_json") if made[name]}
    for name in files:
        which = getattr(args, name)
        if which:  # it may be the name of a table that is known
            made[f"{name}'s content"] = sha256(Path(which))[:12] if Path(which).is_file() else which
    return made


def as_text(value: Any) -> Any:
    """A flag's value, of which a name that is no UTF-8 can be written too."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


# ---------------------------------------------------------------------------------------------- what belongs together


def gather(args: argparse.Namespace) -> tuple[Matches, ClassTable]:
    """Photos with their annotations, and the annotations' own list of classes, if they have one.

    Raises:
        UserError: there are none, or it is not clear what belongs together.
    """
    apart = [Path(folder) for folder in (args.label_maps, args.instance_maps) if folder]
    photos = files_below(Path(args.images), apart)
    for name in ("label", "instance"):
        folder, suffix = getattr(args, f"{name}_maps"), getattr(args, f"{name}_suffix")
        if folder and Path(folder).resolve() == Path(args.images).resolve():
            if not suffix:
                raise UserError(
                    f"--{name}_maps is the folder of --images; pass --{name}_suffix, which tells them apart"
                )
            photos = [photo for photo in photos if not PurePosixPath(photo).stem.endswith(suffix)]
    if not photos:
        raise UserError(f"--images {args.images} has no photos (.jpg, .png, ...)")
    own = ClassTable("", {}, {})
    if args.label_maps:
        matches = pair_maps(photos, args.label_maps, args.label_suffix, args.instance_maps, args.instance_suffix)
    else:
        drawings, own, failures = read_drawings(args)
        if not args.line_width:
            drawings = [(without_lines(drawing), file) for drawing, file in drawings]
        drawn = [(drawing, file) for drawing, file in drawings if drawing.shapes or args.background]
        matches = pair_drawings(drawn, photos, args.by_file_name)
        bare = [file or drawing.name for drawing, file in drawings if not drawing.shapes and not args.background]
        matches.leave_out("annotation", "without shapes (--background NAME says what all of it is)", bare)
        matches.leave_out("annotation", "that cannot be read", failures, failures)
    files: dict[str, list[str]] = {}
    for annotated in matches.found:
        files.setdefault(annotated.photo, []).append(annotated.name)
    twice = [f"{photo} by {first_few(by)}" for photo, by in files.items() if len(by) > 1]
    if twice:
        raise UserError(f"of one photo there are several annotations ({first_few(twice)}); keep one of each")
    matches.leave_out("photo", "without an annotation", [photo for photo in photos if photo not in files])
    return matches, own


def read_drawings(args: argparse.Namespace) -> tuple[list[tuple[Drawing, str]], ClassTable, list[str]]:
    """What is drawn, each with its own file if it has one; the annotations' list of classes; what cannot be read.

    Raises:
        UserError: the one file that there is cannot be read, or there is none.
    """
    if args.cvat or args.coco_json:
        drawings, own = read_cvat(Path(args.cvat)) if args.cvat else read_coco(Path(args.coco_json))
        failures = [f"{args.cvat or args.coco_json}: {drawing.problem}" for drawing in drawings if drawing.problem]
        return [(drawing, "") for drawing in drawings if not drawing.problem], own, failures
    folder = Path(args.labelme)
    files = [name for name in Source(folder).names() if name.lower().endswith(".json")]
    if not files:
        raise UserError(f"--labelme {folder} has no JSON files")
    read, failures = run_all(functools.partial(read_labelme, folder=folder), files, args.workers, "file", "reading")
    drawings = [(drawing, file) for drawing, file in zip(read, files, strict=True) if drawing is not None]
    return drawings, ClassTable("", {}, {}), failures


def without_lines(drawing: Drawing) -> Drawing:
    """The drawing, its lines among what is left out."""
    shapes = [shape for shape in drawing.shapes if not isinstance(shape.area, Line)]
    lines = Counter(line=len(drawing.shapes) - len(shapes))
    return replace(drawing, shapes=shapes, left_out=drawing.left_out + lines)


def see(args: argparse.Namespace, matches: Matches, palette: Palette | None) -> list[tuple[AnnotatedPhoto, Seen]]:
    """A first look at all photos and label maps; what cannot be used is left out with --partial, and refused else.

    Raises:
        UserError: something cannot be used, or nothing can.
    """
    _refuse(matches, args.partial, len(matches.found))
    work = functools.partial(look, originals=originals(args), palette=palette, heed_exif=not args.ignore_exif)
    looks, failures = run_all(work, matches.found, args.workers, "photo", "looking")
    matches.leave_out("photo", "that cannot be used", failures, failures)
    seen = [(annotated, look) for annotated, look in zip(matches.found, looks, strict=True) if look is not None]
    _refuse(matches, args.partial, len(seen))
    return seen


def originals(args: argparse.Namespace) -> Originals:
    """The folders that files come from."""
    folders = (args.label_maps or args.labelme, args.instance_maps)
    return Originals(Path(args.images), *(Path(folder) if folder else None for folder in folders))


def _refuse(matches: Matches, partial: bool, usable: int) -> None:
    if matches.problems and not (partial and usable):
        way_out = ", or pass --partial to go on with all others" if usable else "; nothing else is there"
        raise UserError(f"not all can be used: {'; '.join(matches.problems)}; mend that{way_out}")


# -------------------------------------------------------------------------------------------------------- the classes


def name_classes(
    args: argparse.Namespace, seen: Sequence[tuple[AnnotatedPhoto, Seen]], own: ClassTable, given: ClassTable | None
) -> tuple[Naming, dict[int, str | None]]:
    """The classes, and the names of the ids of label maps.

    Args:
        own: the annotations' own list of classes.
        given: the user's.

    Raises:
        UserError: names are unknown, or no class is left.
    """
    merges, names, counts = parse_merges(args.merge), {}, Counter[str]()
    if args.label_maps:
        pixels = Counter[int]()
        for _, look in seen:
            pixels.update(look.pixels)
        names = names_of_ids(pixels, given, {*merges, *args.void})
        for i, name in names.items():
            if name is not None:
                counts[name] += pixels[i]
        table = ClassTable("", {i: name for i, name in names.items() if name is not None}, {})
    else:
        counts.update(shape.label for annotated, _ in seen for shape in annotated.drawing.shapes)
        table = own
    table = table if given is None else given
    wishes = Wishes(
        {name_of(old, names): name_of(new, names) for old, new in merges.items()},
        [name_of(name, names) for name in args.void],
        args.background,
    )
    unit = "pixels" if args.label_maps else "shapes"
    naming = choose(counts, table, given is not None, wishes, unit)
    check_classes("--stuff", [name_of(name, names) for name in args.stuff], naming)
    check_classes("--draw_first", args.draw_first, naming, void=True)
    shared = [f"{name} ({count})" for name, count in Counter(table.names.values()).items() if count > 1]
    if shared:
        note(f"several classes of the table share a name, and become one: {first_few(shared)}")
    for name in naming.table.names.values():
        if name.lower() in NO_CLASSES:
            note(f"{name!r} is a class like any other; --void {shlex.quote(name)} makes its pixels unknown")
    for group in much_alike(naming.table.names.values()):
        note(f"{group} are two classes; --merge OLD=NEW makes one of them")
    return naming, names


def names_of_ids(pixels: Counter[int], given: ClassTable | None, wanted: set[str]) -> dict[int, str | None]:
    """The names of the ids that label maps hold and of the table's; None: it stands for unknown pixels.

    Args:
        wanted: what --merge and --void name.

    Raises:
        UserError: there are too many for classes.
    """
    table = ClassTable("", {}, {}) if given is None else given
    names: dict[int, str | None] = {i: table.names.get(i, f"class {i}") for i in sorted({*pixels, *table.names})}
    others = [i for i in pixels if 0 <= i != 255]
    if given is None and len(others) > MOST_IDS:
        raise UserError(
            f"label maps hold {len(others):,} ids, more than there are classes: are they instance maps, or photos? "
            "Else --classes FILE says which classes there are"
        )
    for i in pixels:
        is_named = i in table.names or (i == 255 and bool({"255", "class 255"} & wanted))
        if is_named or 0 <= i != 255:
            continue
        if i == 255 and given is None and len(others) < 2:
            note("label maps hold 255 and one other id at most, so that 255 is taken for a class")
            continue
        way_out = "; --merge 255=NAME makes it a class" if i == 255 else ""
        note(f"id {i} ({pixels[i] / pixels.total():.1%} of the pixels) is taken for unknown{way_out}")
        names[i] = None
    return names


def name_of(word: str, names: Mapping[int, str | None]) -> str:
    """The class that a word of the command line means: by name, or by id where ids have names and none is that."""
    if names and word.isdecimal() and word not in names.values():
        return names.get(int(word)) or f"class {int(word)}"
    return word


# ----------------------------------------------------------------------------------------------------------- the split


def held_back(args: argparse.Namespace, photos: Sequence[str], before: Mapping[str, str]) -> set[str]:
    """The photos of the validation part.

    Args:
        before: the parts of photos that an earlier run has prepared, in which they stay.

    Raises:
        UserError: none is left to train on, or a name of the list is unclear.
    """
    if args.val_list:
        return _listed(args.val_list, photos, args.partial)
    groups = {photo: photo for photo in photos}
    if args.group_by:
        found = {photo: _group_of(photo, re.compile(args.group_by)) for photo in photos}
        alone = [photo for photo, group in found.items() if group is None]
        if len(alone) == len(photos):
            raise UserError(f"--group_by {args.group_by} matches no photo, such as {photos[0]}")
        if alone:
            note(f"--group_by does not match {len(alone):,} photos, which stand alone ({first_few(alone)})")
        groups |= {photo: f"{group}/" for photo, group in found.items() if group is not None}  # no photo's name
    parts = {groups[photo]: before[photo] for photo in photos if photo in before}
    kept = {group for group, part in parts.items() if part == "val"}
    missing = wanted_of(len(photos), args.val) - sum(groups[photo] in kept for photo in photos)
    new = [groups[photo] for photo in photos if groups[photo] not in parts]
    kept |= validation_part(new, max(0, missing), args.seed)
    if kept == set(groups.values()):
        kind = "groups of photos" if args.group_by else "photos"
        raise UserError(f"--val {args.val:g} holds back all of the {len(kept)} {kind}; take fewer, or --val 0 for none")
    return {photo for photo in photos if groups[photo] in kept}


def parts_before(ledger: Ledger) -> dict[str, str]:
    """The parts of photos, by their paths, that earlier runs have prepared."""
    parts = {}
    for entry in ledger.entries.values():
        with contextlib.suppress(KeyError, TypeError, IndexError):  # which make no sense
            if entry["part"] in PARTS:
                parts[str(entry["made_of"][0][0])] = entry["part"]
    return parts


def _group_of(photo: str, expression: re.Pattern[str]) -> str | None:
    match = expression.search(photo)
    return match and match[1 if expression.groups else 0]


def _listed(file: str, photos: Sequence[str], partial: bool) -> set[str]:
    try:
        lines = [line.strip() for line in Path(file).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--val_list {file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    names, found, folders = Names(photos), {}, {}
    for line in filter(None, lines):
        name = line.replace("\\", "/")
        if PurePosixPath(name).suffix.lower() not in {*EXTENSIONS, ".json"}:
            name += ".*"  # one without an ending, though there may be a dot in it
        found[line] = [photo for photo in names.find(name) if agree(name, photo)]
        for photo in found[line]:
            folders.setdefault(photo, set()).add(PurePosixPath(name).parent)
    if partial and (gone := [line for line, fits in found.items() if not fits]):
        note(f"--val_list names {len(gone):,} photos that are not taken ({first_few(gone)})")
        found = {line: fits for line, fits in found.items() if fits}
    # Lines of several folders name several photos, of which but one is there.
    wrong = [line for line, fits in found.items() if len(fits) != 1 or len(folders[fits[0]]) > 1]
    if wrong:
        raise UserError(f"--val_list {file}: {len(wrong):,} lines are not the name of one photo ({first_few(wrong)})")
    kept = {fits[0] for fits in found.values()}
    if len(kept) == len(photos):
        raise UserError(f"--val_list {file} holds back all photos; leave some to train on")
    return kept


# ------------------------------------------------------------------------------------------------- what is written


def begin(args: argparse.Namespace, items: Sequence[Item], naming: Naming) -> Output:
    """The folder to fill, with the class table.

    Raises:
        UserError: it holds what this command does not make, or made of other annotations.
    """
    output = Output.begin(args.out, "prepare_custom.py", made_with(args))
    table, text = output.folder / CLASSES, naming.table.save_text()
    way_out = "give a new folder, or delete that one"
    if table.exists() and table.read_bytes() != text.encode():
        raise UserError(f"{table} has other classes than the annotations have now: {way_out}")
    made = {name for item in items for name in files_of(item)}
    there = [path for part in PARTS for kind in KINDS for path in sorted(output.folder.glob(f"{part}_{kind}/*"))]
    strange = [str(path) for path in there if f"{path.parent.name}/{path.name}".removesuffix(".tmp") not in made]
    if strange:
        raise UserError(
            f"{output.folder} has files of photos that are gone, or in the other part now, or called otherwise "
            f"({first_few(strange)}): {way_out}"
        )
    write_atomically(table, text.encode())
    return output


def write(
    items: Sequence[Item], recipe: Recipe, ledger: Ledger, workers: int
) -> tuple[list[tuple[Item, Written]], list[str]]:
    """Make what is not there yet, or was made of other originals, and note what it was made of.

    Returns:
        What each item's label map shows, and what is said of those that cannot be made.
    """
    items = [replace(item, before=Shapes.of_entry(ledger.entries.get(item.stem), item.seen.made_of)) for item in items]

    def keep(what: Written) -> None:
        if what.entry is not None:
            ledger.add(what.entry)

    done, failures = run_all(functools.partial(prepare, recipe=recipe), items, workers, "photo", "writing", keep)
    for item, what in zip(items, done, strict=True):
        for name in files_of(item) if what is None else ():  # those of an earlier run were made of other originals
            (recipe.out / name).unlink(missing_ok=True)
    return [(item, what) for item, what in zip(items, done, strict=True) if what is not None], failures


def say_what_is_left_out(matches: Matches, seen: Sequence[tuple[AnnotatedPhoto, Seen]], output: Output) -> None:
    """Print what is not taken, and what is not taken as it is."""
    path = output.folder / LEFT_OUT
    path.unlink(missing_ok=True)
    if matches.left_out:
        write_atomically(path, "".join(f"{line}\n" for line in matches.left_out).encode("utf-8", "backslashreplace"))
        note(f"left out are {'; '.join(matches.problems)}; {path} has all")
    if matches.elsewhere:
        note(
            f"{len(matches.elsewhere):,} photos have annotations of their names in folders that are called otherwise "
            f"({first_few(matches.elsewhere)}); look whether they belong together"
        )
    kinds = sum((annotated.drawing.left_out for annotated, _ in seen if annotated.drawing), Counter())
    if kinds:
        named = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
        note(f"what has no area is left out ({named}){'; --line_width N draws lines' if kinds['line'] else ''}")
    turned = [annotated.photo for annotated, look in seen if look.turned]
    if turned:
        note(
            f"{len(turned):,} photos are stored turned (EXIF), and written upright, as they were annotated "
            f"({first_few(turned)}); if they were annotated as they are stored, pass --ignore_exif"
        )


def report(written: Sequence[tuple[Item, Written]], naming: Naming) -> np.ndarray:
    """Print what the label maps hold: the largest classes, rare ones, and shapes that nobody sees.

    Returns:
        Pixels of each class, and of unknown at the end: [n + 1].
    """
    pixels = np.array([what.pixels for _, what in written])
    trained = np.array([item.part == "train" for item, _ in written])
    total, photos, in_training = pixels.sum(0), (pixels > 0).sum(0), (pixels[trained] > 0).sum(0)
    names = [*naming.table.names.values(), "unknown"]
    shown_names = [printable(name) for name in names]
    largest = [int(i) for i in np.argsort(-total[:-1], kind="stable")]
    shown = largest[:SHOWN] + [len(naming)] * bool(total[-1])
    width = max(len(shown_names[i]) for i in shown)
    print(f"{len(naming)} classes, by their share of the pixels:")
    for i in shown:
        number = naming.unknown if i == len(naming) else i
        print(f"{number:>6}  {shown_names[i]:{width}} {total[i] / total.sum():>7.2%} in {photos[i]:,} photos")
    if len(largest) > SHOWN:
        print(f"        and {len(largest) - SHOWN} smaller ones")
    few = min(RARE, max(1, trained.sum() // 2))
    rare = [int(i) for i in np.argsort(in_training[:-1], kind="stable") if in_training[i] < few]
    if rare:
        named = [f"{names[i]}: {in_training[i]}" for i in rare]
        note(f"in fewer than {few} training photos are {first_few(named, 12)}; --merge or --void may help")
    empty = [item.annotated.photo for item, what in written if not what.pixels[:-1].any()]
    if empty:
        note(f"wholly unknown, so that they teach nothing, are {len(empty):,} photos ({first_few(empty)})")
    hidden = sum((what.shapes.hidden for _, what in written), Counter())
    if hidden:
        ways_out = "--draw_first NAME, or another --order, may help"
        note(f"{hidden.total():,} shapes lie wholly under others ({_counted(hidden)}); {ways_out}")
    outside = sum((what.shapes.empty for _, what in written), Counter())
    if outside:
        note(f"{outside.total():,} shapes cover no pixel ({_counted(outside)})")
    return total


def _counted(counts: Counter[str]) -> str:
    return first_few([f"{name}: {count:,}" for name, count in counts.most_common()], 8)


def train_flags(out: Path, total: np.ndarray, instances: bool, images: int) -> list[str]:
    """The flags of train.py for what was written.

    Args:
        total: pixels of each class and of unknown: [n + 1].
        images: training photos.
    """
    name = re.sub(r"[^\w.-]+", "_", out.resolve().name).strip("._-") or "custom"
    flags = ["--name", name, "--dataset_mode", "custom"]
    flags += ["--label_dir", str(out / "train_label"), "--image_dir", str(out / "train_img")]
    flags += ["--instance_dir", str(out / "train_inst")] if instances else ["--no_instance"]
    flags += unknown_flags(len(total) - 1) if total[-1] else ["--label_nc", str(len(total) - 1)]
    return [*flags, "--class_table", str(out / CLASSES), "--batchSize", str(min(BATCH, images))]


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    args = parse(argv)
    refuse_another(args.out, "prepare_custom.py", made_with(args))
    given, palette = tables(args)
    matches, own = gather(args)
    seen = see(args, matches, palette)
    naming, names = name_classes(args, seen, own, given)
    ledger = Ledger(Path(args.out) / MADE_OF, "stem")
    items = plan(args, seen, ledger)
    output = begin(args, items, naming)
    recipe = recipe_of(args, naming, names, palette, output.folder)
    written, failures = write(items, recipe, ledger, args.workers)
    if args.partial and written:
        matches.leave_out("photo", "that cannot be read", failures, failures)
        failures = []
    say_what_is_left_out(matches, seen, output)
    images = {part: sum(item.part == part for item, _ in written) for part in PARTS}
    images = {part: count for part, count in images.items() if count}
    total = report(written, naming) if written else np.zeros(len(naming) + 1, int)
    output.finish(images, failures)
    if "train" not in images:
        raise UserError("no photo is left to train on")
    say_next(output.folder, images, train_flags(output.folder, total, recipe.with_instances, images["train"]))


def tables(args: argparse.Namespace) -> tuple[ClassTable | None, Palette | None]:
    """The user's classes, and what reads label maps that are painted in their colours.

    Raises:
        UserError: the file is no table; or there are no colours, or classes share one.
    """
    which = args.palette or args.classes
    if which is None:
        return None, None
    given = read_table(which, "--palette" if args.palette else "--classes")
    with calling_it_palette():
        return given, Palette(given, which) if args.palette else None


def plan(args: argparse.Namespace, seen: Sequence[tuple[AnnotatedPhoto, Seen]], ledger: Ledger) -> list[Item]:
    """What is written: the part of each photo, and a name of its own."""
    photos, stem = [annotated.photo for annotated, _ in seen], unique_stems()
    validation = held_back(args, photos, parts_before(ledger))
    return [
        Item(annotated, look, PARTS[annotated.photo in validation], stem(annotated.photo)) for annotated, look in seen
    ]


def recipe_of(
    args: argparse.Namespace,
    naming: Naming,
    names: Mapping[int, str | None],
    palette: Palette | None,
    out: Path,
) -> Recipe:
    """How it is written."""
    stuff = {name_of(name, names) for name in args.stuff}
    return Recipe(
        originals=originals(args),
        out=out,
        naming=naming,
        names=names,
        palette=palette,
        background=naming.unknown if args.background is None else naming.ids[args.background],
        stuff=frozenset(i for i, name in naming.table.names.items() if name in stuff),
        order=Order(args.draw_first, args.order == "file", args.line_width),
        with_instances=bool(args.instance_maps) if args.label_maps else not args.no_instance,
        link=args.link,
    )


def note(text: str) -> None:
    """Print a line that may hold the names of files and classes."""
    print(f"note: {printable(text)}")


if __name__ == "__main__":
    run_main(main)
