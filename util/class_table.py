"""Class tables: the ids, names and colours of a data set's classes.

A table is a JSON file: {"title": TEXT, "classes": [{"id": 0, "name": "sky", "color": [135, 190, 240]}, ...]}. Colours
may be left out. Those of known data sets are in data/class_tables/.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.errors import UserError

TABLES = Path(__file__).resolve().parent.parent / "data" / "class_tables"
Color = tuple[int, int, int]  # 0 .. 255


@dataclass(frozen=True)
class PresentClass:
    """A class that a label map shows."""

    id: int
    name: str
    color: Color
    share: float  # of the map's pixels


@dataclass(frozen=True)
class ClassTable:
    """Names and colours by id. An id without a name is `class 7`; one without a colour has that of the VOC palette."""

    title: str
    names: dict[int, str]
    colors: dict[int, Color]

    @classmethod
    def load(cls, which: str | None) -> "ClassTable":
        """The table of a known data set by name, or that of a file; None for one without names.

        Raises:
            UserError: there is no such table, or the file is no class table; the message says what is.
        """
        if which is None:
            return cls("", {}, {})
        path = TABLES / f"{which}.json" if which in table_names() else Path(which)
        try:
            return cls._parse(json.loads(path.read_text(encoding="utf-8-sig")))  # as some editors write it
        except (FileNotFoundError, IsADirectoryError):
            raise UserError(
                f"there is no class table {which}; give a JSON file, or one of {', '.join(table_names())}"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else error
            raise UserError(
                f'{path} is no class table ({what}); it is JSON such as {{"title": "My classes", "classes": '
                '[{"id": 0, "name": "sky", "color": [135, 190, 240]}]}'
            ) from None

    @classmethod
    def _parse(cls, content: dict) -> "ClassTable":
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        names: dict[int, str] = {}
        colors: dict[int, Color] = {}
        for entry in content["classes"]:
            index, name, color = entry["id"], entry["name"], entry.get("color")
            if type(index) is not int or index < 0 or not isinstance(name, str):
                raise ValueError(f"id {index!r}, name {name!r}: ids are whole numbers from 0 on, names are text")
            if index in names:
                raise ValueError(f"id {index} is there twice")
            names[index] = name
            if color is not None:
                if len(color) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in color):
                    raise ValueError(f"id {index}: color {color!r} is not three whole numbers of 0 .. 255")
                colors[index] = tuple(color)
        return cls(str(content.get("title", "")), names, colors)

    def save_text(self) -> str:
        """The table as the text of a file."""
        entries = (
            {"id": i, "name": name} | ({"color": list(self.colors[i])} if i in self.colors else {})
            for i, name in self.names.items()
        )
        lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in entries)
        return f'{{"title": {json.dumps(self.title, ensure_ascii=False)}, "classes": [\n{lines}\n]}}\n'

    def with_unknown(self, index: int) -> "ClassTable":
        """The same with a name for the id of unknown pixels, unless it is the table's last id, which knows its name."""
        if index == max(self.names, default=None):
            return self
        colors = {i: color for i, color in self.colors.items() if i != index}
        return ClassTable(self.title, {**self.names, index: "unknown"}, colors)

    def name(self, index: int) -> str:
        """The class's name, the first where it has several (`building;edifice`)."""
        return self.names.get(index, f"class {index}").split(";")[0]

    def color(self, index: int) -> Color:
        """The class's colour."""
        return tuple(int(v) for v in self.colorize(np.array(index)))

    def colorize(self, label: np.ndarray) -> np.ndarray:
        """Class ids [...] to colours uint8 [..., 3]."""
        label = np.asarray(label)
        lookup = interleaved(np.arange(int(label.max(initial=0)) + 1))
        for index, color in self.colors.items():
            if index < len(lookup):
                lookup[index] = color
        return lookup[label]

    def present(self, label: np.ndarray) -> list[PresentClass]:
        """The classes of a label map, the largest first."""
        ids, counts = np.unique(label, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [
            PresentClass(int(ids[i]), self.name(int(ids[i])), self.color(int(ids[i])), counts[i] / label.size)
            for i in order
        ]


class Palette:
    """Reads label maps that are painted in a class table's colours."""

    def __init__(self, table: ClassTable, name: str) -> None:
        """`name`: what messages call the table.

        Raises:
            UserError: two classes share a colour, or none has one.
        """
        self.name = name
        by_color: dict[Color, int] = {}
        for index, color in sorted(table.colors.items()):
            if color in by_color:
                other = by_color[color]
                raise UserError(
                    f"--label_palette {name}: {table.name(other)} ({other}) and {table.name(index)} ({index}) share "
                    f"the colour {color}, so that it stands for no class; paint one of them otherwise and say so in a "
                    "table of your own, or use maps of ids"
                )
            by_color[color] = index
        if not by_color:
            raise UserError(f'--label_palette {name}: no class has a "color"')
        codes = np.array([_code(np.array(color)) for color in by_color])
        order = np.argsort(codes)
        self._codes, self._ids = codes[order], np.array(list(by_color.values()), np.int32)[order]

    def ids(self, rgb: np.ndarray, path: str) -> np.ndarray:
        """Colours uint8 [H, W, 3] to class ids int32 [H, W].

        Raises:
            UserError: a colour stands for no class; the message counts its pixels.
        """
        codes = _code(rgb)
        places = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        wrong = self._codes[places] != codes
        if wrong.any():
            strange, counts = np.unique(codes[wrong], return_counts=True)
            worst = np.argsort(-counts, kind="stable")[:4]

            def times(count: int) -> str:
                return "once" if count == 1 else f"{count} times"

            listed = ", ".join(
                f"{(int(strange[i]) >> 16, int(strange[i]) >> 8 & 255, int(strange[i]) & 255)} {times(counts[i])}"
                for i in worst
            )
            more = ", ..." if len(strange) > len(worst) else ""
            raise UserError(
                f"{path} has colours of no class of --label_palette {self.name}: {listed}{more}; add them to the "
                "table, or save the map without smoothing (no anti-aliasing, no JPEG, resized by nearest neighbour)"
            )
        return self._ids[places]

    def ids_of_grey(self, grey: np.ndarray, ids: np.ndarray, path: str) -> np.ndarray:
        """Class ids of a grey map: its `ids` as they are, unless only its grey levels uint8 [H, W] are of the table.

        Raises:
            UserError: both are, and they differ.
        """
        levels, first = np.unique(grey, return_index=True)
        values = ids.reshape(-1)[first].astype(np.int64)
        codes = _code(levels[:, None].repeat(3, 1))
        if not np.isin(codes, self._codes).all():
            return ids
        painted = self._ids[np.searchsorted(self._codes, codes)]
        if (painted == values).all():
            return ids
        if np.isin(values, self._ids).all():
            raise UserError(
                f"{path} is grey, and its values {', '.join(map(str, values[:8]))} may be ids or colours of "
                f"--label_palette {self.name}; save it as RGB if they are colours, or drop the flag if maps hold ids"
            )
        return painted[np.searchsorted(levels, grey)]


def _code(rgb: np.ndarray) -> np.ndarray:
    """Colours [..., 3] as numbers."""
    red, green, blue = np.moveaxis(rgb.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def table_names() -> list[str]:
    """The names of the tables that come with this code."""
    return sorted(path.stem for path in TABLES.glob("*.json"))


def interleaved(ids: np.ndarray) -> np.ndarray:
    """Colours of ids as in PASCAL VOC, bit-interleaved, of id + 1 so that 0 has a colour too: uint8 [..., 3]."""
    value = np.asarray(ids, np.int64) + 1
    colors = np.zeros((*value.shape, 3), np.uint8)
    for bit in range(7, -1, -1):
        for channel in range(3):
            colors[..., channel] |= ((value >> channel & 1) << bit).astype(np.uint8)
        value = value >> 3
    return colors
