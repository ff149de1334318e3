"""Several evaluations in one table, beside the paper's figures.

    python evaluate.py compare results/A/evaluation_test_latest results/B/evaluation_test_latest --out comparison

Takes folders that evaluate.py has written, prints the table, and writes a page with it and each class's IoU. Numbers
can be compared where they were computed alike: what differs is said.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dominate import tags

from evaluation.metrics import METRICS
from evaluation.published import TABLE_1
from evaluation.report import STYLE
from evaluation.table import MISSING, Line, as_html, as_text, measured, published
from options.flags import command_parser
from util.errors import UserError, printable
from util.files import write_atomically
from util.html import page_name, render_page
from util.provenance import command

# What numbers depend on beside the images, and what messages call it.
ALIKE = {
    "data_set": "data sets",
    "protocol": "protocols",
    "segmenter": "segmenters",
    "classes": "classes",
    "images": "numbers of images",
    "layouts": "layouts",
    "references": "numbers of photos",
    "photos": "photos",
    "resizing": "resizings",
}
TEXTS = ("name", "epoch", "data_set", "protocol", "segmenter", "layouts", "photos", "resizing")
COUNTS = ("images", "references")
LARGE = 1e300  # what is smaller can be computed with
SHORT = 60  # characters of a value in a message


def read_metrics(folder: str) -> dict[str, Any]:
    """What evaluate.py has written into a folder: the content of metrics.json.

    Raises:
        UserError: there is nothing, or it is damaged.
    """
    path = Path(folder, "metrics.json") if Path(folder).is_dir() else Path(folder)
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        _require_kinds(held)
    except FileNotFoundError:
        raise UserError(f"{path} is not there; give folders that evaluate.py has written") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not what evaluate.py writes ({error})") from None
    return held


def _require_kinds(held: Any) -> None:
    """Whether what this script reads of a metrics.json is of the kinds that evaluate.py writes.

    Raises:
        ValueError: a value is not.
        TypeError, AttributeError: a container is not.
    """
    if not isinstance(held, dict) or held.get("images") is None:
        raise ValueError("it has no number of images")
    for key in TEXTS:
        if not isinstance(held.get(key), str | None):
            raise ValueError(f"{key} {_short(held[key])} is no text")
    for key in COUNTS:
        if held.get(key) is not None and (type(held[key]) is not int or not 1 <= held[key] <= sys.maxsize):
            raise ValueError(f"{key} {_short(held[key])} is no whole number from 1 on")
    classes = held.get("classes") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes {_short(classes)} are no names")
    for value in (*metrics_of(held).values(), *iou_of(held).values()):
        # JSON may hold NaN, infinity, and whole numbers that no float can hold.
        if value is not None and (type(value) not in (int, float) or not abs(value) < LARGE):
            raise ValueError(f"a value, {_short(value)}, is no number")


def _short(value: Any) -> str:
    """A value for a message, on one line."""
    return printable(str(value)[:SHORT])


def metrics_of(held: Mapping[str, Any]) -> dict[str, float | None]:
    """METRICS of an evaluation by name; None: not measured."""
    everything = {**held, **(held.get("accuracies") or {})}
    return {name: everything.get(name) for name in METRICS}


def iou_of(held: Mapping[str, Any]) -> dict[tuple[str, int], float | None]:
    """Each class's IoU of an evaluation; None: it occurs nowhere.

    The key is the class's name, and which one of that name it is, from 1 on: tables may give a name to several.
    """
    classes, met = held.get("classes") or [], Counter()
    ious = (held.get("accuracies") or {}).get("iou") or []
    if len(classes) != len(ious):
        raise ValueError(f"{len(classes)} classes, and an IoU of {len(ious)}")
    found = {}
    for name, iou in zip(classes, ious, strict=True):
        met[name] += 1
        found[name, met[name]] = iou
    return found


def names_of(runs: Sequence[Mapping[str, Any]], names: Sequence[str] | None, folders: Sequence[str]) -> list[str]:
    """What the table calls each run: as asked, else its name.

    Where names are the same they get the epoch, else the folder is the name, with a number where that is the same too.

    Raises:
        UserError: there are more or fewer names than runs, or two are the same.
    """
    if names is None:
        names = [str(run.get("name") or Path(folder).name) for run, folder in zip(runs, folders, strict=True)]
        if len(set(names)) < len(names):
            names = [f"{name}, {run.get('epoch')}" for name, run in zip(names, runs, strict=True)]
        if len(set(names)) < len(names):
            names = list(folders)
        if len(set(names)) < len(names):
            names = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
        names = [printable(name) for name in names]
    if len(names) != len(runs) or len(set(names)) < len(names):
        raise UserError(f"--names {' '.join(names)}: give {len(runs)} different names, one for each folder")
    return list(names)


def differences(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """What the numbers depend on and is not the same in all runs, a sentence each."""
    found = []
    for key, what in ALIKE.items():
        values = [run.get(key) for run in runs]
        if any(value != values[0] for value in values):
            shown = [f"{name}: {_short(value)}" for name, value in zip(names, values, strict=True)]
            found.append(f"these numbers are of different {what} ({'; '.join(shown)})")
    return found


def write_page(
    folder: Path, lines: Sequence[Line], names: Sequence[str], runs: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> Path:
    """Write index.html; returns it."""
    figure = f"<style>{STYLE}</style>{as_html(lines)}{_class_table(names, runs, can_win=not notes)}"
    folder.mkdir(parents=True, exist_ok=True)
    about = [f"Note: {note}." for note in notes] + [command()]
    write_atomically(folder / page_name(1), render_page("Evaluations compared", about, [], 400, figure=figure))
    return folder / page_name(1)


def _class_table(names: Sequence[str], runs: Sequence[Mapping[str, Any]], can_win: bool) -> str:
    """IoU by class and run, the highest in bold where they can be compared; nothing where no run has any."""
    tables = [iou_of(run) for run in runs]
    classes = dict.fromkeys(key for table in tables for key in table)
    known = [key for key in classes if any(table.get(key) is not None for table in tables)]
    if not known:
        return ""
    box = tags.div(cls="classes")
    with box:
        tags.h2("IoU of each class, in percent")
        with tags.table(cls="numbers"):
            with tags.tr():
                for heading in ("", *names):
                    tags.th(heading)
            for name, which in known:
                values = [table.get((name, which)) for table in tables]
                highest = max(value for value in values if value is not None)
                wins = can_win and values.count(highest) == 1 and len(values) > 1
                with tags.tr():
                    tags.td(name.split(";")[0] + (f" ({which})" if which > 1 else ""))
                    for value in values:
                        text = MISSING if value is None else f"{100 * value:.1f}"
                        tags.td(tags.b(text) if wins and value == highest else text)
    return box.render(pretty=False)


def main(argv: list[str] | None = None) -> None:
    """Print the table and write the page.

    Raises:
        UserError: a folder holds no evaluation.
    """
    parser = command_parser("evaluate.py compare", __doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="what evaluate.py has written")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what the table calls them (by their --name)")
    parser.add_argument("--published", choices=list(TABLE_1), help="data set of the paper's figures (the runs')")
    parser.add_argument("--out", default="./results/comparison", metavar="FOLDER", help="for the page (%(default)s)")
    args = parser.parse_args(argv)

    runs = [read_metrics(folder) for folder in args.folders]
    names = names_of(runs, args.names, args.folders)
    notes = differences(runs, names)
    data_set = args.published or runs[0].get("data_set", "")
    lines = [
        measured(f"{name} ({run['images']} images)", metrics_of(run)) for name, run in zip(names, runs, strict=True)
    ]
    lines += published(data_set)
    print(as_text(lines))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"the page is {write_page(Path(args.out), lines, names, runs, notes)}")
