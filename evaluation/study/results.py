"""What the answers of a preference study say: shares with intervals, a test against 50 %, and how far raters agree.

    python evaluate.py study-results answers/*.csv

How these are computed: evaluation/study/statistics.py.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from evaluation.study.answers import Answer, failed_checks, latest, read_answers
from evaluation.study.page import CHECK, MATCH, REAL
from evaluation.study.statistics import Preference, preference
from options.flags import command_parser, nonnegative_float
from util.errors import UserError, first_few, printable, run_main
from util.files import write_atomically


def analyse(answers: Sequence[Answer], most_failed: float, first: Sequence[str] = ()) -> list[Preference]:
    """Print what one study's answers are and who is left out, and compare each pair of systems.

    Args:
        most_failed: the largest share of check items that one may fail.
        first: systems to stand first, in this order; the others follow by name.

    Raises:
        UserError: nobody is left.
    """
    study = answers[0].study
    checks = failed_checks(answers)
    out = {name for name, (failed, seen) in checks.items() if failed > most_failed * seen}
    print(f"study {printable(study)}: {_count(len(answers), 'answer')} of {_count(len(checks), 'participant')}")
    for name in sorted(out):
        failed, seen = checks[name]
        print(f"  left out: {printable(name)} failed {failed} of {_count(seen, 'check item')}")
    unchecked = [printable(name) for name, (_, seen) in checks.items() if not seen]
    if unchecked and any(seen for _, seen in checks.values()):
        print(f"  answered no check item, and counts: {first_few(unchecked)}")
    _print_doubtful_checks(answers)
    pairs: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    place = {name: i - len(first) for i, name in enumerate(first)}
    for answer in answers:
        if answer.kind == REAL and answer.participant not in out:
            one, other = sorted((answer.left, answer.right), key=lambda name: (place.get(name, 0), name))
            pairs[one, other].append(answer)
    if not pairs:
        why = "everybody failed too many check items; raise --most_failed_checks" if out else "give more files"
        raise UserError(f"study {printable(study)}: no answers to real questions are left; {why}")
    used = [answer for pair in pairs.values() for answer in pair]
    lefts = sum(answer.chosen == "left" for answer in used)
    print(f"  of {_count(len(used), 'answer')} that count, {lefts / len(used):.1%} chose the left picture")
    order = sorted(pairs, key=lambda pair: [(place.get(name, 0), name) for name in pair])
    return [preference(study, *pair, pairs[pair]) for pair in order]


def _print_doubtful_checks(answers: Iterable[Answer]) -> None:
    results: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for answer in answers:
        if answer.kind == CHECK:
            results[answer.question, answer.layout].append(answer.system != MATCH)
    for (question, layout), failed in sorted(results.items()):
        if len(failed) > 2 and 2 * sum(failed) >= len(failed):
            what = f"check item {printable(question)} (layout {printable(layout)})"
            print(f"  {what} was failed by {sum(failed)} of {len(failed)}: its answer may not be obvious")


def table(results: Sequence[Preference]) -> str:
    """Results as aligned text, a pair a line."""
    head = ("pair", "questions", "answers", "people", "prefer first", "these people", "p", "others too", "p")
    head = (*head, "agree", "kappa")
    rows = [head]
    for r in results:
        row = (f"{printable(r.first)} : {printable(r.second)}", f"{r.questions:,}", f"{r.answers:,}")
        row = (*row, f"{r.participants:,}", f"{r.share_first:.1%}", _interval(r.low, r.high), _p(r.p_value))
        row = (*row, _interval(r.low_others, r.high_others), _p(r.p_value_others))
        rows.append((*row, _or_dash(r.agreement, ".1%"), _or_dash(r.kappa, ".2f")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write_table(path: Path, results: Sequence[Preference]) -> None:
    """The results as CSV, shares in 0 .. 1; what is not known is empty.

    Raises:
        UserError: the file cannot be written.
    """
    rows = [{k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()} for r in results]
    lines = [[f.name for f in fields(Preference)], *(list(row.values()) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(",".join(map(_cell, line)) + "\n" for line in lines).encode())


def _cell(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',;"\r\n') else text


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _interval(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{100 * low:.1f} - {high:.1%}"


def _or_dash(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else _or_dash(value, ".4f")


def main(argv: list[str] | None = None) -> None:
    """Read the files and print what they say.

    Raises:
        UserError: a file is missing, foreign or damaged, or no answers are left.
    """
    parser = command_parser("evaluate.py study-results", __doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="CSV files that participants have saved")
    parser.add_argument(
        "--most_failed_checks",
        type=nonnegative_float,
        default=0.2,
        metavar="SHARE",
        help="of check items that one may fail (%(default)s); who fails more is left out, with 1 nobody",
    )
    parser.add_argument("--first", nargs="+", default=[], metavar="NAME", help="systems that stand first in pairs")
    parser.add_argument("--csv", metavar="FILE", help="write the table there as well")
    args = parser.parse_args(argv)

    if args.csv and Path(args.csv).resolve() in {Path(path).resolve() for path in args.files}:
        raise UserError(f"--csv {args.csv} is one of the files to read; give another name")
    answers, changed = latest(answer for path in args.files for answer in read_answers(path))
    if not answers:
        raise UserError(f"there are no answers in {first_few(args.files)}; give files of people who answered something")
    names = {name for answer in answers if answer.kind == REAL for name in (answer.left, answer.right)}
    unknown = [name for name in args.first if name not in names]
    if unknown:
        raise UserError(f"--first: nobody was asked about {unknown[0]}; there are {first_few(sorted(names), 8)}")
    for name, count in changed.items():
        print(
            f"note: {printable(name)} answered {_count(count, 'question')} in two ways, of which the later counts; "
            "are these files of one person?"
        )
    results: list[Preference] = []
    for study in dict.fromkeys(answer.study for answer in answers):
        of_study = analyse([answer for answer in answers if answer.study == study], args.most_failed_checks, args.first)
        print(f"\n{table(of_study)}\n")
        results += of_study
    print(
        "these people, others too: 95 % intervals for other layouts, judged by these participants or by others as well;"
    )
    print(
        "each p: the share is 50 %; agree, kappa: pairs of answers to one question, and Fleiss' kappa (docs/study.md)"
    )
    if args.csv:
        write_table(Path(args.csv), results)
        print(f"written: {args.csv}")


if __name__ == "__main__":
    run_main(main)
