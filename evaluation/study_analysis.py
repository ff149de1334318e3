"""What the answers of a preference study say: shares with intervals, a test against 50 %, and how far raters agree.

    python evaluate.py study-results answers/*.csv

Letters: Q questions, R participants, n answers, of which k are for the first of two systems; p = k / n.

Answers to one question resemble each other, because layouts differ in difficulty, so n answers to Q questions say less
than n unrelated ones. How much less is the design effect d: the variance of p with questions as clusters,
Q / (Q - 1) sum_q (k_q - p n_q)^2 / n^2, over that of n unrelated answers, p (1 - p) / (n - 1); at least 1, since less
is chance. The interval is Wilson's (1927) with n / d answers in the place of n, as Korn and Graubard (1998) put surveys
with clusters into intervals for shares, and with the t quantile of Q - 1 degrees of freedom because d is estimated.
Where each question has one answer d is 1, and it is Wilson's own. It stays within 0 .. 1, and holds its level with few
questions and with shares near 0 or 1, where p -+ 1.96 standard errors does not (tests/test_study.py draws studies of
simulated raters, and counts). A bootstrap over questions would be slower, and as poor as that where questions are few.

That interval is for other layouts, judged by these participants. Participants differ in taste, too. A second interval
counts them as a sample as well: its d is d_q + d_r - 1, where d_r has participants as clusters, and it has R - 1
degrees of freedom where that is less (clusters in two ways, added up as in Cameron, Gelbach and Miller 2011). With few
participants it is wide, which is all that few participants can say about others.

The two-sided tests are of p = 50 % by the score (p - 1/2) / sqrt(d / 4n) that Wilson's interval inverts: a p-value is
below 0.05 where its interval leaves out 50 %.
"""

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

import numpy as np
from scipy import stats

from evaluation.study import CHECK, MATCH, MISMATCH, REAL
from options.flags import command_parser, nonnegative_float
from util.errors import UserError, first_few, printable, run_main
from util.files import write_atomically

COLUMNS = "participant study question kind layout left right chosen chosen_system milliseconds order timestamp".split()
LEVEL = 0.95


@dataclass(frozen=True)
class Answer:
    """A row of a participant's CSV."""

    participant: str
    study: str
    question: str
    kind: str  # REAL or CHECK
    layout: str
    left: str  # systems; MATCH and MISMATCH in check items
    right: str
    chosen: str  # 'left' or 'right'
    timestamp: str
    where: str  # file and line

    @property
    def system(self) -> str:
        """What was chosen."""
        return self.left if self.chosen == "left" else self.right


@dataclass(frozen=True)
class Preference:
    """How two systems compare. Shares are in 0 .. 1; NaN where there is nothing to tell."""

    study: str
    first: str
    second: str
    questions: int
    answers: int
    participants: int
    share_first: float
    low: float  # of the interval for other layouts
    high: float
    p_value: float
    low_others: float  # of that for other layouts and other participants
    high_others: float
    p_value_others: float
    design_effect: float  # of questions
    agreement: float  # share of pairs of raters of one question that agree
    kappa: float


# ------------------------------------------------------------------------------------------------------------ reading


def read_answers(path: str) -> list[Answer]:
    """The rows of a CSV that the page saved, also after a spreadsheet has saved it again.

    Raises:
        UserError: the file is missing or no such CSV, or a row is damaged; the message has the line.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=";" if head.count(";") > head.count(",") else ",", strict=True)
            return _parse(reader, path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there; give the CSV files that participants have sent") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give the files in it: {path}/*.csv") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8, so not what the study's page saves; ask for it again") from None


def _parse(reader: Iterable[list[str]], path: str) -> list[Answer]:
    """Rows of text as answers; `reader` is the csv module's."""
    answers, place, line = [], {}, 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}; ask for the file again") from None
        if row is None:
            break
        where, line = f"{path}, line {line}", reader.line_num + 1
        if not place:
            missing = [name for name in COLUMNS if name not in row]
            if missing:
                raise UserError(
                    f"{where}: there is no column {first_few(missing)}, so this is not what the study's page saves; "
                    "leave the file out"
                )
            place = {name: row.index(name) for name in COLUMNS}
            width = len(row)
        elif any(row):
            wrong = f"it has {len(row)} fields, not {width}" if len(row) != width else None
            values = {} if wrong else {name: row[place[name]] for name in COLUMNS}
            wrong = wrong or _fault(values)
            if wrong:
                raise UserError(
                    f"{where}: {wrong}; the file was damaged or changed: ask for it again, or take the line out"
                )
            answers.append(Answer(**{f.name: values[f.name] for f in fields(Answer) if f.name in values}, where=where))
    if not place:
        raise UserError(f"{path}, line 1: the file is empty; ask for it again, or leave it out")
    return answers


def _fault(row: dict[str, str]) -> str | None:
    """What is wrong with a row, if anything."""
    sides = {"left": row["left"], "right": row["right"]}
    empty = [name for name in COLUMNS if not row[name] and name != "milliseconds"]
    if empty:
        return f"{empty[0]} is empty"
    if row["kind"] not in (REAL, CHECK):
        return f"kind is {row['kind']!r}, not {REAL} or {CHECK}"
    if row["chosen"] not in sides:
        return f"chosen is {row['chosen']!r}, not left or right"
    if row["left"] == row["right"]:
        return f"left and right are both {row['left']!r}"
    if row["kind"] == CHECK and set(sides.values()) != {MATCH, MISMATCH}:
        return f"a check item has {row['left']!r} and {row['right']!r}, not {MATCH} and {MISMATCH}"
    if row["chosen_system"] != sides[row["chosen"]]:
        return f"chosen_system is {row['chosen_system']!r}, but {row['chosen']} is {sides[row['chosen']]!r}"
    for name in ("milliseconds", "order"):
        if row[name] and not (row[name].isascii() and row[name].isdigit()):
            return f"{name} is {row[name]!r}, not a whole number"
    try:
        datetime.fromisoformat(row["timestamp"].replace("Z", "+00:00"))
    except ValueError:
        return f"timestamp is {row['timestamp']!r}, not a time such as 2024-05-17T09:30:00.000Z"
    return None


def latest(answers: Iterable[Answer]) -> tuple[list[Answer], dict[str, int]]:
    """One answer of each participant to each question, the latest, and how many each had changed.

    A file may be given twice, and one may have saved answers before changing some.

    Raises:
        UserError: two rows say different things about one question, so that they are not of one study.
    """
    known: dict[tuple[str, str], Answer] = {}
    found: dict[tuple[str, str, str], Answer] = {}
    changed: Counter[str] = Counter()
    for answer in answers:
        other = known.setdefault((answer.study, answer.question), answer)
        for name in ("kind", "layout"):
            if getattr(other, name) != getattr(answer, name):
                raise _at_odds(answer, other)
        if {other.left, other.right} != {answer.left, answer.right}:
            raise _at_odds(answer, other)
        key = answer.study, answer.participant, answer.question
        before = found.get(key)
        if before is not None and before.timestamp != answer.timestamp:
            changed[answer.participant] += before.system != answer.system
        if before is None or answer.timestamp >= before.timestamp:
            found[key] = answer
    return list(found.values()), {name: count for name, count in changed.items() if count}


def _at_odds(answer: Answer, other: Answer) -> UserError:
    return UserError(
        f"{answer.where}: question {printable(answer.question)} is another than in {other.where}, so one of the files "
        "was changed; ask for it again, or leave it out"
    )


def failed_checks(answers: Iterable[Answer]) -> dict[str, tuple[int, int]]:
    """Check items that each participant failed, and answered."""
    counts: dict[str, tuple[int, int]] = {}
    for answer in answers:
        failed, seen = counts.get(answer.participant, (0, 0))
        if answer.kind == CHECK:
            failed, seen = failed + (answer.system != MATCH), seen + 1
        counts[answer.participant] = failed, seen
    return counts


# --------------------------------------------------------------------------------------------------------- statistics


def design_effect(chosen: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How many times the variance of the share is that of unrelated answers: [...], at least 1.

    Args:
        chosen: [..., C] answers for the first system in each of C clusters (questions, or participants).
        asked: [..., C] answers in each; clusters without any count as absent.

    Where all answers are alike nothing can be estimated, and a cluster counts as one answer: the result is n / C.
    """
    chosen, asked = np.asarray(chosen, float), np.asarray(asked, float)
    n, clusters = asked.sum(-1), (asked > 0).sum(-1)
    p = chosen.sum(-1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        clustered = clusters / (clusters - 1) * ((chosen - p[..., None] * asked) ** 2).sum(-1) / n**2
        effect = clustered / (p * (1 - p) / (n - 1))
    return np.maximum(1, np.where(np.isfinite(effect), effect, n / clusters))


def effective(
    chosen: np.ndarray, asked: np.ndarray, chosen_of: np.ndarray | None = None, asked_of: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How many unrelated answers these are worth, and with how many degrees of freedom that is known: [...] each.

    Those are infinite where no question has two answers, so that there is no design effect to estimate, and where there
    is one question.

    Args:
        chosen, asked: answers for the first system and all answers to each question, [..., Q].
        chosen_of, asked_of: those of each participant, [..., R], where participants are a sample as well.
    """
    effect, freedom = design_effect(chosen, asked), _freedom(asked)
    if chosen_of is not None and asked_of is not None:
        effect = effect + design_effect(chosen_of, asked_of) - 1
        freedom = np.minimum(freedom, _freedom(asked_of))
    return asked.sum(-1) / effect, freedom


def _freedom(asked: np.ndarray) -> np.ndarray:
    clusters = (asked > 0).sum(-1)
    return np.where((asked.max(-1) > 1) & (clusters > 1), clusters - 1.0, np.inf)


def wilson(p: np.ndarray, n: np.ndarray, z: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval (1927) for a share p of n answers, with the quantile z."""
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.maximum(0, middle - half), np.minimum(1, middle + half)


def share_interval(chosen: np.ndarray, asked: np.ndarray, *of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the share for the first system, [...] each; arguments as those of `effective`."""
    n, freedom = effective(chosen, asked, *of)
    return wilson(chosen.sum(-1) / asked.sum(-1), n, stats.t.ppf((1 + LEVEL) / 2, freedom))


def p_value(chosen: np.ndarray, asked: np.ndarray, *of: np.ndarray) -> np.ndarray:
    """Two-sided, of the share being 1/2: [...]; arguments as those of `effective`."""
    n, freedom = effective(chosen, asked, *of)
    return 2 * stats.t.sf(np.abs(chosen.sum(-1) / asked.sum(-1) - 0.5) * np.sqrt(4 * n), freedom)


def agreement(chosen: np.ndarray, asked: np.ndarray) -> float:
    """The share of pairs of answers to one question that are alike; NaN where no question has two.

    Args:
        chosen, asked: answers for the first system and all answers to each question, [Q].
    """
    other = asked - chosen
    pairs = (asked * (asked - 1)).sum()
    return float((chosen * (chosen - 1) + other * (other - 1)).sum() / pairs) if pairs else math.nan


def fleiss_kappa(chosen: np.ndarray, asked: np.ndarray) -> float:
    """Agreement beyond chance, Fleiss (1971), for two answers and unequal numbers of raters (Fleiss and Cuzick 1979).

    1 - sum_q k_q (n_q - k_q) / n_q / (sum_q (n_q - 1) p (1 - p)), over questions with two answers or more: 1 is full
    agreement, 0 that of answers drawn without looking at the question. NaN where there is none, or all are alike.

    Args:
        chosen, asked: answers for the first system and all answers to each question, [Q].
    """
    chosen, asked = chosen[asked > 1], asked[asked > 1]
    if not len(asked):
        return math.nan
    p = chosen.sum() / asked.sum()
    expected = (asked - 1).sum() * p * (1 - p)
    return float(1 - (chosen * (asked - chosen) / asked).sum() / expected) if expected else math.nan


def preference(study: str, first: str, second: str, answers: Sequence[Answer]) -> Preference:
    """What the answers to one pair's questions say; each answer counts the same."""
    _, question = np.unique([answer.question for answer in answers], return_inverse=True)
    _, rater = np.unique([answer.participant for answer in answers], return_inverse=True)
    for_first = np.array([answer.system == first for answer in answers], float)
    counts = np.bincount(question, for_first), np.bincount(question)
    people = np.bincount(rater, for_first), np.bincount(rater)
    several = len(people[0]) > 1  # one says nothing of others
    low, high = share_interval(*counts)
    low_others, high_others = share_interval(*counts, *people) if several else (math.nan, math.nan)
    return Preference(
        study=study,
        first=first,
        second=second,
        questions=len(counts[0]),
        answers=len(answers),
        participants=len(people[0]),
        share_first=float(for_first.mean()),
        low=float(low),
        high=float(high),
        p_value=float(p_value(*counts)),
        low_others=float(low_others),
        high_others=float(high_others),
        p_value_others=float(p_value(*counts, *people)) if several else math.nan,
        design_effect=float(design_effect(*counts)),
        agreement=agreement(*counts),
        kappa=fleiss_kappa(*counts),
    )


# ------------------------------------------------------------------------------------------------------------- report


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
