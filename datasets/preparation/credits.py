"""Where photos come from, who made them, and what may be done with them, as somebody wrote it down."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.preparation.photo_facts import one_line
from util.errors import UserError, first_few

FIELDS = ("source", "author", "licence")


@dataclass(frozen=True)
class Credit:
    """What is known of a photo; empty where nothing is."""

    source: str = ""  # an address, or the name of a collection
    author: str = ""
    licence: str = ""


def read_credits(path: Path, originals: Iterable[str]) -> dict[str, Credit]:
    """What a file says of photos: those that it names, by their paths, or by their names where these are unique.

    It is CSV with a line of names in front, file, source, author and licence (or license), of which all but the first
    may be missing, or JSON, a list of such objects or one object of them by file.

    Raises:
        UserError: it cannot be read, or names none of the photos.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        entries = _of_json(text) if path.suffix.lower() == ".json" else _of_csv(text)
    except OSError as error:
        raise UserError(f"--metadata {path} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"--metadata {path} cannot be read ({what}): CSV has a first line such as file,source,author,licence and "
            "JSON is a list of such objects, in UTF-8"
        ) from None
    originals = list(originals)
    times = Counter(name.rpartition("/")[2] for name in originals)
    found = {}
    for original in originals:
        name = original.rpartition("/")[2]
        credit = entries.get(original) or (entries.get(name) if times[name] == 1 else None)
        if credit is not None:
            found[original] = credit
    if originals and not found:
        raise UserError(
            f"--metadata {path} names none of the {len(originals)} photos: it has {first_few(list(entries))}, and they "
            f"are {first_few(originals)}"
        )
    return found


def _of_csv(text: str) -> dict[str, Credit]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if "file" not in _lower(dict.fromkeys(rows.fieldnames or ())):
        raise ValueError("it has no column file")
    return _by_file(rows)


def _of_json(text: str) -> dict[str, Credit]:
    held = json.loads(text)
    if isinstance(held, dict):
        held = [{**entry, "file": file} for file, entry in held.items()]
    if not isinstance(held, list) or not all(isinstance(entry, dict) and "file" in entry for entry in held):
        raise ValueError("it holds other than objects with a file")
    return _by_file(held)


def _by_file(rows: Iterable[Mapping[Any, Any]]) -> dict[str, Credit]:
    found = {}
    for row in rows:
        fields = _lower(row)
        fields["licence"] = fields.get("licence") or fields.get("license")
        file = str(fields["file"]).replace("\\", "/").removeprefix("./")
        found[file] = Credit(*(one_line(str(fields.get(field) or "")) for field in FIELDS))
    return found


def _lower(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key).strip().lower(): value for key, value in row.items()}
