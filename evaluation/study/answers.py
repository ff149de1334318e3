"""The CSV files that participants have saved, checked and brought to one answer a question."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime

from evaluation.study.page import CHECK, MATCH, MISMATCH, REAL
from util.errors import UserError, first_few, printable

COLUMNS = "participant study question kind layout left right chosen chosen_system milliseconds order timestamp".split()


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
