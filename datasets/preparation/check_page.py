"""The page of check_dataset.py: what is wrong, how often each class occurs, and a contact sheet."""

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from dominate import tags
from PIL import Image

from data.base_dataset import read_id_array, read_image
from data.inspection import KINDS, Inspection, scattered
from datasets.preparation.checking import Part, first_of_each
from util.bars import BARS_STYLE, Bar, bars
from util.class_table import ClassTable, Palette, PresentClass
from util.errors import UserError, printable
from util.files import write_atomically
from util.html import Row, page_name, render_page
from util.pictures import save_picture

SHEET = 24  # items of each part that the contact sheet shows
SUSPECTS = 12  # of the items with problems
LEGEND = 20  # ids below an item with problems
BARS = 300  # ids of the histogram: each takes some nodes of the page
SHOWN = 20  # problems of a kind that the page lists
COLUMNS = 6  # of the contact sheet
WIDTH = 256  # pixels that a picture is wide on the page
MOST = (1 << 16) - 1  # the largest id that has a colour of its own
LARGEST = 1024  # pixels that it is wide and high at most behind it
STYLE = """
.problems h2 { margin: 1em 0 .2em } .problems ul { margin: 0; padding-left: 1.2em; overflow-wrap: anywhere }
.problems { flex: 1 0 100% } .good { color: #2a8a3a } .bad { color: #c8372d }
"""


def write_page(folder: Path, title: str, about: Sequence[str], parts: Sequence[Part], table: ClassTable) -> Path:
    """Write index.html and its pictures; returns it."""
    figure = f"<style>{STYLE}{BARS_STYLE}</style>{_problems(parts)}{_histogram(parts, table)}"
    rows = [row for part in parts for row in _suspects(folder, part, table)]
    rows += [row for part in parts for row in _sheet(folder, part, table)]
    page = render_page(title, about, rows, WIDTH, figure=figure)
    write_atomically(folder / page_name(1), page)
    return folder / page_name(1)


def _problems(parts: Sequence[Part]) -> str:
    kinds = first_of_each(problem for part in parts for problem in part.problems)
    box = tags.div(cls="problems")
    with box:
        if not kinds:
            tags.p("Nothing is wrong with any file.", cls="good")
        for kind, texts in kinds:
            tags.h2(f"{KINDS[kind].title}: {len(texts):,}", cls="bad" if KINDS[kind].is_error else "")
            with tags.ul():
                for text in texts[:SHOWN]:
                    tags.li(printable(text))
                if len(texts) > SHOWN:
                    tags.li(f"and {len(texts) - SHOWN:,} more, all of them in problems.txt")
    return box.render(pretty=False)


def _histogram(parts: Sequence[Part], table: ClassTable) -> str:
    """A bar for each id of the first part, and thin below it that of the second: the root of its share of pixels."""
    shares, files = [part.shares() for part in parts], parts[0].files()
    largest = max((share for part in shares for share in part.values()), default=1.0)
    ids = list(dict.fromkeys(i for part in shares for i in part))
    entries = [
        Bar(
            f"{i} {name_of(table, i, parts[0])}",
            (shares[0].get(i, 0.0) / largest) ** 0.5,
            f"{100 * shares[0][i]:.2f} % in {files[i]:,}" if i in files else f"{parts[1].name} part alone",
            (shares[1].get(i, 0.0) / largest) ** 0.5 if len(parts) > 1 else None,
            color_of(table, i),
        )
        for i in ids[:BARS]
    ]
    title = f"Ids in the {parts[0].name} label maps: share of all pixels, and how many maps have it"
    thin = f"; thin: of the {parts[1].name} part" if len(parts) > 1 else ""
    most = f"; the largest of {len(ids):,}" if len(ids) > BARS else ""
    return bars(f"{title} (bars: roots of shares{thin}{most})", entries)


def name_of(table: ClassTable, index: int, part: Part) -> str:
    """What an id of a label file stands for."""
    rules = part.dataset.rules
    if rules.has_unknown and index == rules.unknown_id and index not in table.names:
        return "unknown"
    return table.name(index)


def color_of(table: ClassTable, index: int) -> tuple[int, int, int]:
    """The colour of an id of a label file, whatever it is."""
    return table.color(min(max(index, 0), MOST))


def _suspects(folder: Path, part: Part, table: ClassTable) -> list[Row]:
    """The items with problems, those with contradictions in the order of these: each kind of file by itself."""
    wrong = [item for item in part.items if item.problems]
    wrong.sort(key=lambda item: (-len(item.errors), -item.contradicting))
    rows = []
    for item in wrong[:SUSPECTS]:
        pictures = [
            save_picture(folder, kind, _stem(part, item), pixels, _caption(kind, item), WIDTH, kind != "photo")
            for kind, pixels in _pictures(part, item.index, table).items()
        ]
        why = ", ".join(KINDS[kind].title for kind in dict.fromkeys(problem.kind for problem in item.problems))
        title = f"look at {part.name}: {_name(part, item)}: one of the {why}"
        rows.append(Row(title, pictures, _legend(item, part, table)))
    return rows


def _legend(item: Inspection, part: Part, table: ClassTable) -> list[PresentClass]:
    """The ids of an item, the largest first."""
    order = np.argsort(-item.pixels)[:LEGEND]
    shares = item.pixels / max(1, item.pixels.sum())
    ids = [(int(item.ids[i]), float(shares[i])) for i in order]
    return [PresentClass(i, name_of(table, i, part), color_of(table, i), share) for i, share in ids]


def _sheet(folder: Path, part: Part, table: ClassTable) -> list[Row]:
    """Items spread over the part: photo, layout and instances below each other."""
    places = sorted(itertools.islice(scattered(len(part.items)), SHEET))
    tiles = []
    for item in (part.items[place] for place in places):
        pixels = _pictures(part, item.index, table)
        if pixels:
            sheet = _stacked(list(pixels.values()))
            tiles.append(save_picture(folder, "sheet", _stem(part, item), sheet, _name(part, item), WIDTH))
    rows = [tiles[first : first + COLUMNS] for first in range(0, len(tiles), COLUMNS)]
    title = f"{part.name}: {len(tiles)} of {len(part.items):,}, spread over all"
    return [Row(title if number == 1 else f"{part.name} ({number})", row) for number, row in enumerate(rows, start=1)]


def _stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures uint8 [H, W, 3] below each other, all as wide as the first."""
    width = pictures[0].shape[1]
    resized = []
    for pixels in pictures:
        height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
        resized.append(np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)))
    return np.concatenate(resized)


def _stem(part: Part, item: Inspection) -> str:
    return f"{part.name}_{item.index:07d}"


def _name(part: Part, item: Inspection) -> str:
    return printable(Path(part.photo(item.index)).name)


def _caption(kind: str, item: Inspection) -> str:
    size = item.photo_size if kind == "photo" else item.size
    return f"{kind}, {size[0]} x {size[1]}" if size and kind != "instances" else kind


def _pictures(part: Part, index: int, table: ClassTable) -> dict[str, np.ndarray]:
    """An item's photo, label map in its colours and instance map, as far as they can be read: uint8 [H, W, 3] each."""
    try:
        files = part.dataset.files(index)
    except UserError:
        return {}
    readers = {
        "photo": lambda: np.asarray(_smaller(read_image(*files["image"]))),
        "layout": lambda: table.colorize(_ids(*files["label"], palette=part.dataset.palette).clip(0, MOST)),
        "instances": lambda: _numbered(_ids(*files["instance"])),
    }
    pictures = {}
    for kind, read in readers.items():
        with contextlib.suppress(UserError, KeyError):  # it is among the problems; or there is none
            pictures[kind] = read()
    return pictures


def _ids(path: str, content: bytes | None, palette: Palette | None = None) -> np.ndarray:
    """A map's ids [H, W], of which rows and columns are left out where they are many."""
    ids = read_id_array(path, palette, content)
    step = -(-max(ids.shape) // LARGEST)
    return ids[::step, ::step]


def _smaller(photo: Image.Image) -> Image.Image:
    photo.thumbnail((LARGEST, LARGEST))
    return photo


def _numbered(instances: np.ndarray) -> np.ndarray:
    """Instance numbers [H, W] in colours that differ from neighbours': uint8 [H, W, 3]."""
    _, places = np.unique(instances, return_inverse=True)
    places = places.reshape(instances.shape)
    return np.stack([(places * step + offset) % 256 for step, offset in ((97, 40), (157, 90), (61, 140))], -1).astype(
        np.uint8
    )
