"""Several evaluations in one table, beside the paper's figures.

    python evaluate.py compare results/A/evaluation_test_latest results/B/evaluation_test_latest --out comparison

Takes folders that evaluate.py has written, prints the table, and writes a page with it and each class's IoU. Numbers
can be compared where they were computed alike: what differs is said.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dominate import tags

from evaluation.metrics import METRICS
from evaluation.published import TABLE_1
from evaluation.report import STYLE
from evaluation.table import MISSING, Line, as_html, as_text, measured, published
from options.flags import command_parser
from util.errors import UserError
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
    "subset": "choices of layouts",
    "references": "numbers of photos",
    "reference": "photos",
    "resizing": "resizings",
}
SHORT = 60  # characters of a value in a message


def read_metrics(folder: str) -> dict[str, Any]:
    """What evaluate.py has written into a folder: the content of metrics.json.

    Raises:
        UserError: there is nothing, or it is damaged.
    """
    path = Path(folder, "metrics.json") if Path(folder).is_dir() else Path(folder)
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        numbers = [held["images"], *metrics_of(held).values(), *iou_of(held).values()]
        if not all(value is None or type(value) in (int, float) for value in numbers):
            raise ValueError("a value is no number")
    except FileNotFoundError:
        raise UserError(f"{path} is not there; give folders that evaluate.py has written") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not what evaluate.py writes ({error})") from None
    return held


def metrics_of(held: Mapping[str, Any]) -> dict[str, float | None]:
    """METRICS of an evaluation by name; None: not measured."""
    everything = {**held, **(held.get("accuracies") or {})}
    return {name: everything.get(name) for name in METRICS}


def iou_of(held: Mapping[str, Any]) -> dict[str, float | None]:
    """Each class's IoU of an evaluation by the class's name; None: it occurs nowhere."""
    return dict(zip(held.get("classes") or [], (held.get("accuracies") or {}).get("iou", []), strict=True))


def names_of(runs: Sequence[Mapping[str, Any]], names: Sequence[str] | None, folders: Sequence[str]) -> list[str]:
    """What the table calls each run: as asked, else its name, with the epoch or the folder where names are the same.

    Raises:
        UserError: there are more or fewer names than runs, or two are the same.
    """
    if names is None:
        names = [str(run.get("name") or Path(folder).name) for run, folder in zip(runs, folders, strict=True)]
        if len(set(names)) < len(names):
            names = [f"{name}, {run.get('epoch')}" for name, run in zip(names, runs, strict=True)]
        if len(set(names)) < len(names):
            names = list(folders)
    if len(names) != len(runs) or len(set(names)) < len(names):
        raise UserError(f"--names {' '.join(names)}: give {len(runs)} different names, one for each folder")
    return list(names)


def differences(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """What the numbers depend on and is not the same in all runs, a sentence each."""
    found = []
    for key, what in ALIKE.items():
        values = [run.get(key) for run in runs]
        if any(value != values[0] for value in values):
            shown = [f"{name}: {str(value)[:SHORT]}" for name, value in zip(names, values, strict=True)]
            found.append(f"these numbers are of different {what} ({'; '.join(shown)})")
    return found


def write_page(
    folder: Path, lines: Sequence[Line], names: Sequence[str], runs: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> Path:
    """Write index.html; returns it."""
    figure = f"<style>{STYLE}</style>{as_html(lines)}{_class_table(names, runs)}"
    folder.mkdir(parents=True, exist_ok=True)
    about = [f"Note: {note}." for note in notes] + [command()]
    write_atomically(folder / page_name(1), render_page("Evaluations compared", about, [], 400, figure=figure))
    return folder / page_name(1)


def _class_table(names: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> str:
    """IoU by class and run; nothing where no run has any."""
    tables = [iou_of(run) for run in runs]
    classes = dict.fromkeys(name for table in tables for name in table)
    known = [name for name in classes if any(table.get(name) is not None for table in tables)]
    if not known:
        return ""
    box = tags.div(cls="classes")
    with box:
        tags.h2("IoU of each class, in percent")
        with tags.table(cls="numbers"):
            with tags.tr():
                for heading in ("", *names):
                    tags.th(heading)
            for name in known:
                values = [table.get(name) for table in tables]
                highest = max(value for value in values if value is not None)
                wins = values.count(highest) == 1 and len(values) > 1
                with tags.tr():
                    tags.td(name.split(";")[0])
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
