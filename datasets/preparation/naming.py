"""Which class what is annotated becomes, by the user's wishes: names, ids and colours to 0 .. n - 1 and unknown.

Annotations call classes by name. Ids of label maps have the names that a table gives them, else `class 7`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.preparation.classes import unknown_of
from util.class_table import ClassTable, Color, table_names
from util.errors import UserError, first_few

LONGEST = 1000  # characters of a line
SHOWN = 12  # names in a message
_COLOR = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
_COLOR_FIRST = re.compile(rf"{_COLOR}[\s,;:]+(\S.*)")
_NAME_FIRST = re.compile(rf"(\S.*?)[\s:,;]+{_COLOR}\s*(?::.*)?")  # CVAT adds parts and actions: `car:128,0,0::`
_ID_FIRST = re.compile(r"\d+[\s,;:]")  # of a name
_HEADER = re.compile(r"\W*\w+\W+r(ed)?\W+g(reen)?\W+b(lue)?\W*|\W*r(ed)?\W+g(reen)?\W+b(lue)?\W+\w+\W*", re.IGNORECASE)


def read_table(which: str, flag: str) -> ClassTable:
    """The classes of a file, or of a known data set by name.

    A file is a class table (JSON), or text with a class on each line: `R G B name`, `name: R, G, B`, CVAT's
    `name:R,G,B:parts:actions`, or the name alone in all lines. Their ids are then 0, 1, 2, ..., in the order of the
    lines. Left out are empty ones, those that begin with #, and a first line such as `name,r,g,b`.

    Args:
        flag: what messages call the choice: --classes or --palette.

    Raises:
        UserError: it is none of these, or lines have ids of their own.
    """
    path = Path(which)
    if which in table_names() or not path.is_file() or path.suffix.lower() == ".json":
        return ClassTable.load(which)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{flag} {which} is no text; it is a class table, or lines such as `128 64 128 road`") from None
    numbered = [(place, line.strip()) for place, line in enumerate(lines, start=1)]
    numbered = [(place, line) for place, line in numbered if line and not line.startswith("#")]
    if numbered and numbered[0][1].startswith("{"):
        return ClassTable.load(which)
    if numbered and _HEADER.fullmatch(numbered[0][1]):
        numbered = numbered[1:]
    entries = [(place, *_entry(line)) for place, line in numbered if len(line) <= LONGEST]
    painted = [color is not None for _, _, color in entries]
    if not entries or len(entries) < len(numbered) or any(painted) != all(painted):
        odd = next((place for place, _, color in entries if color is None), numbered[0][0] if numbered else 1)
        raise UserError(
            f"{flag} {which}, line {odd}: not all lines are a class; they are `R G B name` or `name: R,G,B` with "
            "colours of 0 .. 255, or the name alone in all of them"
        )
    if all(_ID_FIRST.match(name) for _, name, _ in entries):
        raise UserError(
            f"{flag} {which}, line {entries[0][0]}: {numbered[0][1]!r:.80} seems to begin with an id. The classes of "
            "such lines have the ids 0, 1, 2, ... in their order: leave ids out, or give a class table (JSON), which "
            "has them"
        )
    colors = {index: color for index, (_, _, color) in enumerate(entries) if color is not None}
    return ClassTable("", {index: name for index, (_, name, _) in enumerate(entries)}, colors)


def _entry(line: str) -> tuple[str, Color | None]:
    """Name and colour of a line; no colour where it has none that can be."""
    if match := _COLOR_FIRST.fullmatch(line):
        *color, name = match.groups()
    elif match := _NAME_FIRST.fullmatch(line):
        name, *color = match.groups()
    else:
        return line, None
    red, green, blue = (int(value) for value in color)
    return (name.strip(), (red, green, blue)) if max(red, green, blue) <= 255 else (line, None)


@dataclass(frozen=True)
class Wishes:
    """What the user wants classes to be."""

    merge: Mapping[str, str]  # old name to new
    void: Sequence[str] = ()  # classes that become unknown
    background: str | None = None  # the class of what no shape covers

    def renamed(self, name: str) -> str:
        """What a class of the annotations is called."""
        return self.merge.get(name, name)


@dataclass(frozen=True)
class Naming:
    """The classes 0 .. n - 1."""

    table: ClassTable
    ids: dict[str, int]  # by name in the annotations
    called: dict[str, str]  # what these names become, also those that are unknown

    def __len__(self) -> int:
        return len(self.table.names)

    @property
    def unknown(self) -> int:
        """The id of pixels of no class."""
        return unknown_of(len(self))

    @property
    def dtype(self) -> type[np.integer]:
        """Of label maps."""
        return np.uint8 if self.unknown == 255 else np.uint16

    @property
    def first_object(self) -> int:
        """The number of a picture's first object: beyond 8-bit ids, classes and unknown."""
        return max(256, self.unknown + 1)


def parse_merges(words: Sequence[str]) -> dict[str, str]:
    """`old=new` ... as a dict.

    Raises:
        UserError: a word has another form, an old name is there twice, or a new one is merged itself.
    """
    merges: dict[str, str] = {}
    for word in words:
        old, equals, new = (part.strip() for part in word.partition("="))
        if not (old and equals and new):
            raise UserError(f"--merge {word!r}: it is OLD=NEW, such as truck=car")
        if merges.get(old, new) != new:
            raise UserError(f"--merge: {old} is to become {merges[old]} and {new}")
        merges[old] = new
    chained = [new for old, new in merges.items() if new in merges and merges[new] != new]
    if chained:
        raise UserError(f"--merge: {first_few(chained)} is a new name and an old one; give the last name at once")
    return merges


def choose(counts: Mapping[str, int], table: ClassTable, fixed: bool, wishes: Wishes, unit: str) -> Naming:
    """The classes that annotations come to have.

    They are in the table's order; what is not in it comes behind, sorted.

    Args:
        counts: how often each name occurs in the annotations.
        table: names in their order, and colours. There may be none.
        fixed: the classes are all those of the table and no others; else those that occur.
        unit: what is counted: "shapes" or "pixels".

    Raises:
        UserError: a name is in no table that fixes them, or the user's wishes name what is not there.
    """
    own = [table.names[index] for index in sorted(table.names)]
    listed = dict.fromkeys(map(wishes.renamed, own))
    found = dict.fromkeys(map(wishes.renamed, (name for name, count in counts.items() if count)))
    background = [] if wishes.background is None else [wishes.renamed(wishes.background)]
    _check_names("--merge", wishes.merge, {*own, *counts})
    _check_names("--void", wishes.void, {*listed, *found})
    if fixed:
        strange = [name for name in (*found, *background) if name not in listed and name not in wishes.void]
        if strange:
            times = {name: sum(n for old, n in counts.items() if wishes.renamed(old) == name) for name in strange}
            named = [f"{name} ({times[name]:,} {unit})" for name in sorted(strange, key=lambda name: -times[name])]
            raise UserError(
                f"the table that is given has no {first_few(named, SHOWN)}: add them to it, rename them (--merge "
                "OLD=NEW) or make them unknown (--void NAME)"
            )
        chosen = list(listed)
    else:
        there = dict.fromkeys([*found, *background])
        chosen = [name for name in listed if name in there] + sorted(name for name in there if name not in listed)
    chosen = [name for name in chosen if name not in wishes.void]
    for name in chosen:
        if not name.isascii() and name.encode("utf-8", "ignore").decode() != name:
            raise UserError(f"the name of class {name!r} is no UTF-8; choose another one")
    if not chosen:
        raise UserError("no class is left: all that occurs is unknown")
    if set(background) & set(wishes.void):
        raise UserError(f"--background {wishes.background} is --void; leave --background out, which makes it unknown")
    raw = [*counts, *own] if wishes.background is None else [*counts, *own, wishes.background]
    called = {name: wishes.renamed(name) for name in raw}
    places = {name: place for place, name in enumerate(chosen)}
    ids = {name: places.get(new, unknown_of(len(chosen))) for name, new in called.items()}
    return Naming(ClassTable(table.title, dict(enumerate(chosen)), _colors(chosen, table, wishes)), ids, called)


def _colors(chosen: Sequence[str], table: ClassTable, wishes: Wishes) -> dict[int, Color]:
    """The classes' colours: their own, else those of a class that became one of them."""
    colors: dict[str, Color] = {}
    for index in sorted(table.colors, key=lambda index: table.names[index] != wishes.renamed(table.names[index])):
        colors.setdefault(wishes.renamed(table.names[index]), table.colors[index])
    return {place: colors[name] for place, name in enumerate(chosen) if name in colors}


def _check_names(flag: str, names: Iterable[str], there: Iterable[str]) -> None:
    there = set(there)
    wrong = [name for name in names if name not in there]
    if wrong:
        raise UserError(f"{flag}: there is no {first_few(wrong)}; there are {first_few(sorted(there), SHOWN)}")


def check_classes(flag: str, names: Sequence[str], naming: Naming, void: bool = False) -> None:
    """Refuse names that are no class, nor one that is unknown where `void` ones will do.

    Raises:
        UserError: some are none.
    """
    _check_names(flag, names, [*naming.table.names.values(), *(naming.called.values() if void else ())])


def much_alike(names: Iterable[str]) -> list[str]:
    """Names that differ in capitals, spaces or dashes alone, as `Car` and `car`: 'Car, car' each."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"[\s_-]+", "", name.casefold()), []).append(name)
    return [" and ".join(group) for group in alike.values() if len(group) > 1]
