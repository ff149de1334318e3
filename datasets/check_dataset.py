"""Look at every file of a data set, named by the flags of train.py, before days of training.

    python datasets/check_dataset.py --dataset_mode coco --dataroot datasets/coco_stuff
    python datasets/check_dataset.py --dataset_mode custom --label_dir L --image_dir I \\
        --val_label_dir VL --val_image_dir VI

Prints what is wrong and flags that suit, and writes a page (histogram of classes, contact sheet), problems.txt and
check.json into --report. Ends with status 2 if there are errors: files that are damaged, unpaired, of wrong sizes, with
ids of no class, or in both parts. Where --label_nc is not given for custom data, ids are only counted.
"""

import argparse
import json
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.coco_dataset import CocoDataset
from data.inspection import KINDS
from data.pix2pix_dataset import Pix2pixDataset
from data.twins import CORRELATION
from data.workers import cores
from datasets.preparation.archives import Source
from datasets.preparation.check_page import name_of, write_page
from datasets.preparation.checking import (
    Part,
    advice,
    compare,
    first_of_each,
    ids_alone,
    look,
    missing_classes,
    part_of,
    refuse_many_ids,
    suggested,
)
from datasets.preparation.output import check_outside
from evaluation.flags import WITHOUT_PARTS, check_validation
from options.flags import fraction
from options.train_options import TrainOptions
from util.class_table import ClassTable
from util.errors import UserError, printable, run_main
from util.files import write_atomically
from util.provenance import command

SHOWN_GROUPS = ("options", "input", "size", "checking", *(mode.options_title for mode in (Pix2pixDataset, CocoDataset)))
IGNORED = ("max_dataset_size",)  # every file is looked at
NUMBERS = "check.json"
SHOWN = 3  # problems of a kind that are printed
SHOWN_IDS = 20  # of each data set


class CheckOptions(TrainOptions):
    """Check a data set, named by the flags of train.py."""

    prog = "check_dataset.py"

    def _build_parser(self) -> argparse.ArgumentParser:
        parser = super()._build_parser()
        for action in parser._actions:  # --help has those of a data set; what else train.py takes is taken and ignored
            shown = action.container.title in SHOWN_GROUPS or action.dest.startswith("val_")
            if not shown or action.dest in IGNORED:
                action.help = argparse.SUPPRESS
        return parser

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        group = parser.add_argument_group("checking")
        group.add_argument("--report", default="./results/check", metavar="DIR", help="folder for the page")
        group.add_argument(
            "--twins",
            type=fraction,
            default=CORRELATION,
            metavar="R",
            help="correlation of 24 x 24 grey levels from which a validation photo counts as nearly a training photo",
        )

    def _complete_evaluation(self, opt: Namespace, typed: dict[str, Any]) -> None:
        """Validation folders are given without --eval_freq here."""
        try:
            check_validation(opt)
        except ValueError as error:
            self.parser.error(str(error))
        opt.counts_ids = opt.dataset_mode == "custom" and "label_nc" not in typed and not opt.load_from_opt_file


def parts_of(opt: Namespace) -> list[Part]:
    """The training part, and the validation part where there is one; with --phase val that one alone.

    Raises:
        UserError: there are no label maps, or no photos to train on.
    """
    opt.max_dataset_size = None
    if opt.phase != "train":
        return [part_of(opt, opt.phase)]
    parts = [part_of(opt, "training")]
    seen = {**vars(opt), "isTrain": False, "phase": "test"}
    if opt.val_label_dir:
        seen |= {"label_dir": opt.val_label_dir, "image_dir": opt.val_image_dir, "instance_dir": opt.val_instance_dir}
    elif opt.dataset_mode in WITHOUT_PARTS and not opt.val_dataroot:
        flags = "--val_label_dir, --val_image_dir" if opt.dataset_mode == "custom" else "--val_dataroot"
        print(f"note: no validation part is named ({flags}), so none is looked at")
        return parts
    seen["dataroot"] = opt.val_dataroot or opt.dataroot
    try:
        parts.append(part_of(Namespace(**seen), "validation"))
        parts[1].dataset.rules = parts[0].dataset.rules
    except UserError as error:
        if opt.val_label_dir or opt.val_dataroot:
            raise
        print(f"note: no validation part: {error}")
    return parts


def begin_report(folder: Path, parts: Sequence[Part]) -> None:
    """Take a folder for the page, before the work.

    Raises:
        UserError: it is in the data set, or holds something else.
        OSError: it cannot be written to.
    """
    firsts = [path for part in parts if len(part.dataset) for path in part.dataset.files_of(0)]
    for place in dict.fromkeys(map(os.path.dirname, firsts)):
        check_outside(str(folder), [Source(Path(place))])
    if folder.is_dir() and any(folder.iterdir()) and not (folder / NUMBERS).exists():
        raise UserError(f"--report {folder} holds files that are no report of a check; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)


def describe(part: Part) -> str:
    """A line on what a part has."""
    count = len(part.items)
    photos = sum(item.photo_size is not None for item in part.items)
    objects = sum(item.objects for item in part.items)
    sizes = sorted({item.size for item in part.items if item.size}, key=lambda size: size[0] * size[1])
    span = f" of {' x '.join(map(str, sizes[0]))}" if sizes else ""
    if len(sizes) > 1:
        span += f" to {' x '.join(map(str, sizes[-1]))} pixels ({len(sizes)} sizes)"
    elif sizes:
        span += " pixels"
    beside = f", {photos:,} photos" if photos else ", no photos"
    beside += f", {objects / count:.1f} instances each" if objects and count else ""
    rate = f" [{count / part.seconds:.0f} items/s]" if part.seconds else ""
    return f"{part.name}: {count:,} label maps{span}{beside}{rate}"


def print_ids(parts: Sequence[Part], table: ClassTable) -> None:
    """Print the largest ids, with their shares of all pixels and the numbers of label maps that have them."""
    shares, files = [part.shares() for part in parts], [part.files() for part in parts]
    ids = list(dict.fromkeys(i for of_part in shares for i in of_part))
    names = {i: printable(name_of(table, i, parts[0]).split(";")[0]) for i in ids[:SHOWN_IDS]}
    width = max(map(len, names.values()), default=0)
    if ids:
        print(f"ids, their shares of the pixels and numbers of maps: {', '.join(part.name for part in parts)}")
    for i, name in names.items():
        counts = [(100 * share.get(i, 0), count.get(i, 0)) for share, count in zip(shares, files, strict=True)]
        columns = "  ".join(f"{share:6.2f} % {count:>8,}" for share, count in counts)
        print(f"{i:>6}  {name:{width}}  {columns}")
    if len(ids) > SHOWN_IDS:
        print(f"        and {len(ids) - SHOWN_IDS:,} smaller ones, which the page and check.json have")


def print_findings(opt: Namespace, parts: Sequence[Part], table: ClassTable) -> None:
    """Print what was found, the worst last."""
    for part in parts:
        print(describe(part))
    print_ids(parts, table)
    notes = [missing_classes(part, table.names) for part in parts]
    notes += [*advice(opt, parts), *(line for part in parts for line in part.ways_out)]
    for line in filter(None, notes):
        print(f"note: {printable(line)}")
    kinds = first_of_each(problem for part in parts for problem in part.problems)
    for kind, texts in reversed(kinds):
        print(f"{'error' if KINDS[kind].is_error else 'warning'}: {KINDS[kind].title}: {len(texts):,}")
        for text in texts[:SHOWN]:
            print(f"  {printable(text)}")
        if len(texts) > SHOWN:
            print(f"  and {len(texts) - SHOWN:,} more ({Path(opt.report) / 'problems.txt'})")


def numbers_of(parts: Sequence[Part]) -> dict[str, Any]:
    """What check.json holds."""
    return {
        part.name: {
            "items": len(part.items),
            "pixels": part.pixels(),
            "files": part.files(),
            "problems": {kind: len(texts) for kind, texts in first_of_each(part.problems)},
        }
        for part in parts
    }


def main(argv: list[str] | None = None) -> None:
    """Check the data set that the command line names.

    Raises:
        UserError: there are errors, which were printed; or there is nothing to check.
    """
    options = CheckOptions()
    opt = options.parse(argv)
    options.read_classes(opt)
    folder = Path(opt.report)
    parts = parts_of(opt)
    begin_report(folder, parts)
    if opt.counts_ids:
        for part in parts:
            ids_alone(part)
    for part in parts:
        look(part, cores() if opt.nThreads is None else opt.nThreads)
        if opt.counts_ids:
            refuse_many_ids(part)
    compare(parts, opt.twins)
    table = ClassTable.load(opt.class_table)
    print_findings(opt, parts, table)
    lines = [f"{problem.kind}\t{printable(problem.text)}\n" for part in parts for problem in part.problems]
    write_atomically(folder / NUMBERS, (json.dumps(numbers_of(parts), indent=1) + "\n").encode())
    write_atomically(folder / "problems.txt", "".join(lines).encode())
    flags = suggested(opt, parts)
    about = [command(), *map(describe, parts)]
    if flags:
        about.append(f"flags that suit: {shlex.join(flags)}")
        print(f"flags that suit: {shlex.join(flags)}")
    page = write_page(folder, "Data set check", about, parts, table)
    print(f"the page: {page}")
    errors = sum(KINDS[problem.kind].is_error for part in parts for problem in part.problems)
    if errors:
        plural = "" if errors == 1 else "s"
        raise UserError(f"{errors:,} error{plural}, listed above and in {folder / 'problems.txt'}")
    print("no errors")


if __name__ == "__main__":
    run_main(main)
