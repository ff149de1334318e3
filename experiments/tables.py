"""What records of runs say: tables in Markdown, and curves over training.

    python -m experiments tables docs/results/cpu [--curves FILE.svg]

Prints each class's IoU too. Numbers are those of averaged weights where nothing else is said. Runs that differ in their
seed alone have a line with their mean and the half of their range.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any

from experiments.labelmefacade import CURVE
from options.flags import command_parser
from util.curves import round_limits
from util.errors import UserError, first_few
from util.files import write_atomically

Record = Mapping[str, Any]
MEASURED = {  # name in records: heading, and in what and how it is written
    "miou": ("mIoU", 100, ".1f"),
    "pixel_accuracy": ("accuracy", 100, ".1f"),
    "mean_accuracy": ("mean class accuracy", 100, ".1f"),
    "segmenter_frechet": ("Fréchet", 1, ".3g"),
    "segmenter_kernel": ("kernel", 1, ".3g"),
}
IN_CURVES = [name for name in MEASURED if name in CURVE]
SEED = re.compile(r"-seed\d+$")
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989", "#0a7ea4")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 300, 52, 34, 14, 190  # pixels; the plot is what the margins leave


def read_records(folder: Path) -> list[Record]:
    """All records of a folder, by name; `spade` and its seeds first.

    Raises:
        UserError: there is none, or one is damaged.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(_whole(json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"{path} is no record of a run ({error})") from None
    if not records:
        raise UserError(f"{folder} has no records (RUN.json); python -m experiments labelmefacade writes them")
    return sorted(records, key=lambda record: (without_seed(record["run"]) != "spade", record["run"]))


def _whole(record: Record) -> Record:
    """The record, if all that is read of one is in it; KeyError, TypeError or IndexError else."""
    texts = [record[name] for name in ("run", "machine", "segmenter")]
    numbers = [record["images"], record["images_per_second"], record["curve"][-1]["images"]]
    numbers += [record[kind][name] for kind in ("ema", "plain", "photos") for name in MEASURED]
    numbers += [point[name] for point in (record["shuffled"], *record["curve"]) for name in CURVE]
    lists = [record[kind]["iou"] for kind in ("ema", "plain", "photos")] + [record["classes"]]
    kinds = ((texts, str), (numbers, int | float), (lists, list), ([record["losses"]], dict))
    wrong = [value for values, kind in kinds for value in values if not isinstance(value, kind)]
    if wrong:
        raise TypeError(f"{wrong[0]!r:.40} is of another kind")
    return record


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def numbers_of(records: Sequence[Record]) -> str:
    """A line for each run, for seeds together, and for photos and shuffled layouts."""

    def row(name: str, held: Mapping[str, float]) -> list[str]:
        return [name, *(shown(held[key], key) if key in held else "" for key in MEASURED)]

    rows = []
    for name, group in groups_of(records).items():
        for record in group:
            rows += [row(record["run"], record["ema"]), row(f"{record['run']}, plain weights", record["plain"])]
        if len(group) > 1:
            rows.append([name, *(spread([record["ema"][key] for record in group], key) for key in MEASURED)])
    first = records[0]
    rows += [row("real photos", first["photos"]), row(f"{first['run']}, layouts shuffled", first["shuffled"])]
    return table(["", *(heading for heading, *_ in MEASURED.values())], rows)


def without_seed(run: str) -> str:
    """What all seeds of a run have in common."""
    return SEED.sub("", run)


def groups_of(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs that differ in their seed alone, by what they are together, as `spade, 3 seeds`; else by its name."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(without_seed(record["run"]), []).append(record)
    return {f"{name}, {len(runs)} seeds" if len(runs) > 1 else name: runs for name, runs in groups.items()}


def shown(value: float, key: str) -> str:
    """A number as the tables have it."""
    _, factor, form = MEASURED[key]
    return f"{factor * value:{form}}"


def spread(values: Sequence[float], key: str) -> str:
    """The mean and the half of the range, to as many places."""
    mean = shown(sum(values) / len(values), key)
    places = max(0, -Decimal(mean).as_tuple().exponent)
    return f"{mean} ± {MEASURED[key][1] * (max(values) - min(values)) / 2:.{places}f}"


def classes_of(records: Sequence[Record]) -> str:
    """Each class's IoU."""
    names = [name.split(";")[0] for name in records[0]["classes"]]
    sides = [(record["run"], record["ema"]["iou"]) for record in records]
    sides += [("real photos", records[0]["photos"]["iou"])]
    rows = [[name, *("" if v is None else f"{100 * v:.0f}" for v in iou)] for name, iou in sides]
    return table(["IoU of", *names], rows)


def costs_of(records: Sequence[Record]) -> str:
    """What was trained, for how long, on what."""
    rows = [[r["run"], f"{r['images']:,}", f"{r['images_per_second']:.2f}", r["machine"]] for r in records]
    return table(["", "images", "images/s", "machine"], rows)


def losses_of(records: Sequence[Record]) -> str:
    """Means over the last tenth of a run."""
    names = list(dict.fromkeys(name for record in records for name in record["losses"]))
    rows = [[r["run"], *(f"{r['losses'][n]:.3f}" if n in r["losses"] else "" for n in names)] for r in records]
    return table(["last losses", *names], rows)


def curves(records: Sequence[Record], key: str) -> str:
    """An SVG picture of one number over the images seen, a line for each run; seeds have one colour."""
    groups = {
        name: [[(point["images"], point[key]) for point in run["curve"]] for run in runs]
        for name, runs in groups_of(records).items()
    }
    xs, ys = zip(*(point for lines in groups.values() for points in lines for point in points), strict=True)
    low, high = round_limits(ys)

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * x / max(xs)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (y - low) / (high - low)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    for y in (low, (low + high) / 2, high):
        parts.append(f'<path d="M{LEFT},{down(y):.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in (0, max(xs) / 2, max(xs)):
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - 14}" text-anchor="middle">{x / 1000:.3g}k</text>')
    for i, (name, lines) in enumerate(groups.items()):
        colour = COLOURS[i % len(COLOURS)]
        dashes = f"{2 * (i // len(COLOURS))} 3" if i >= len(COLOURS) else "none"  # where colours come again
        pen = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        for points in lines:
            parts.append(f'<polyline points="{" ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)}" {pen}/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{TOP + 10 + 17 * i}" fill="{colour}">{escape(name)}</text>')
    title = f"{MEASURED[key][0]} over images seen"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{title}">{"".join(parts)}</svg>\n'
    )


def main() -> None:
    """Print the tables of the folder that the command line names.

    Raises:
        UserError: it has no records, or a damaged one.
    """
    parser = command_parser("experiments tables", __doc__)
    parser.add_argument("records", metavar="DIR", help="a folder of records, RUN.json")
    parser.add_argument("--curves", metavar="FILE.svg", help="draw the curves of --metric")
    parser.add_argument("--metric", choices=IN_CURVES, default="miou", help="(default: %(default)s)")
    args = parser.parse_args(sys.argv[1:])
    records = read_records(Path(args.records))
    readers = sorted({record["segmenter"] for record in records})
    if len(readers) > 1:
        print(f"note: not all are read by the same segmenter ({first_few(readers)})", file=sys.stderr)
    print("\n\n".join(part(records) for part in (numbers_of, classes_of, losses_of, costs_of)))
    if args.curves:
        write_atomically(Path(args.curves), curves(records, args.metric).encode())
