"""What annotation programs write, as one plain structure: Labelme, CVAT for images 1.1, COCO's JSON."""

import base64
import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

import numpy as np

from data.base_dataset import read_id_array
from data.pix2pix_dataset import version_of
from datasets.preparation.shapes import Area, Ellipse, Line, Polygon, Runs, Shape, box, runs_of
from util.class_table import ClassTable, Color
from util.errors import UserError
from util.files import digest

FARTHEST = 1_000_000  # pixels: no picture reaches as far
ODD = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)  # what odd files lead to
ADVICE = "is no {kind}, or a damaged one: {what}"


@dataclass(frozen=True)
class Drawing:
    """What is drawn on one photo."""

    name: str  # of the photo, as the annotations have it, with / between folders
    size: tuple[int, int] | None  # of the photo, width and height, as it was shown; None where they do not say
    shapes: list[Shape]
    left_out: Counter[str] = field(default_factory=Counter)  # what covers no pixels, by kind
    problem: str = ""  # why it cannot be used
    version: tuple[str | int, ...] = ()  # of its own file, if it has one, as it was read

    @property
    def key(self) -> str:
        """What is another where size or shapes are."""
        shapes = [dataclasses.asdict(shape) for shape in self.shapes]
        return digest(json.dumps([self.size, shapes], default=np.ndarray.tolist))


def plain_name(path: str) -> str:
    """A path of whatever system with `/` between folders and none of what leads up, or to a drive."""
    parts = re.sub(r"^[A-Za-z]:", "", path.replace("\\", "/")).split("/")
    parts = [part for part in parts if part not in ("", ".")]
    while ".." in parts:
        parts = parts[parts.index("..") + 1 :]
    return "/".join(parts)


# ---------------------------------------------------------------------------------------------------------- Labelme


def read_labelme(name: str, folder: Path) -> Drawing:
    """What a Labelme file holds.

    Args:
        name: the file's path below the folder.

    Raises:
        UserError: it cannot be read, or is none.
    """
    with _blamed(str(folder / name), "Labelme file"):
        version = version_of(str(folder / name))  # before it is read
        held = json.loads((folder / name).read_bytes())
        left_out: Counter[str] = Counter()
        shapes = []
        for entry in held["shapes"]:
            kind = entry.get("shape_type") or "polygon"
            try:
                label, area = _text(entry["label"]), _labelme_area(kind, entry)
                group = entry.get("group_id")
                if group is not None and not isinstance(group, int | str):
                    raise ValueError(f"group_id {group!r}")
            except ODD as error:
                where = f"shape {len(shapes) + left_out.total() + 1} ({entry.get('label')!r:.60})"
                raise ValueError(f"{where}: {_said(error)}") from None
            if area is None:
                left_out[kind] += 1
            else:
                shapes.append(Shape(label, area, group))
        size = None
        if held.get("imageWidth") and held.get("imageHeight"):
            size = _size(held["imageWidth"], held["imageHeight"])
        photo = held.get("imagePath") or ""
        if not isinstance(photo, str):
            raise ValueError(f"imagePath {photo!r}")
        # It leads on from the file's folder; where it leads up first, what it then leads to may be anywhere.
        beside = not re.match(r"/|\\|[A-Za-z]:", photo) and ".." not in photo.replace("\\", "/").split("/")
        photo = plain_name(str(Path(name).parent.as_posix()) + "/" + photo if beside and photo else photo)
    return Drawing(photo, size, shapes, left_out, version=version)


def _labelme_area(kind: str, entry: Mapping[str, Any]) -> Area | None:
    points = _points(entry["points"])
    if kind in ("polygon", "oriented_rectangle", "rotation") or (kind == "rectangle" and len(points) > 2):
        return Polygon((points,))
    if kind in ("rectangle", "circle", "mask") and len(points) != 2:
        raise ValueError(f"a {kind} of {len(points)} points, not 2")
    if kind == "rectangle":
        return box(*points.min(0), *points.max(0))
    if kind == "circle":
        radius = math.dist(*points)
        return Ellipse(tuple(points[0]), (radius, radius))
    if kind == "mask":
        mask = _mask(_text(entry["mask"]))
        left, top = (int(value) for value in points.min(0))
        return runs_of(mask > 0, left, top)
    if kind in ("line", "linestrip"):
        return Line(points)
    if kind in ("point", "points"):
        return None
    raise ValueError(f"shape_type {kind!r}, which is none of polygon, rectangle, circle, mask, line, linestrip, point")


def _mask(text: str) -> np.ndarray:
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("its mask is no text of base64") from None
    try:
        return read_id_array("its mask", content=content)
    except UserError as error:
        raise ValueError(str(error).partition(";")[0]) from None  # its ways out are for files


# ------------------------------------------------------------------------------------------------------------- CVAT


def read_cvat(path: Path) -> tuple[list[Drawing], ClassTable]:
    """What an export `CVAT for images 1.1` holds, and the labels of its task.

    Raises:
        UserError: it cannot be read, or is none.
    """
    taker = _CvatTaker()
    with _blamed(str(path), "export of the kind `CVAT for images 1.1` (annotations.xml)"), open(path, "rb") as file:
        if file.read(2) == b"PK":
            raise ValueError("it is a zip archive; unpack it, and give the annotations.xml in it")
        file.seek(0)
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype  # entities that stand for others fill the memory
        parser.StartElementHandler = taker.start
        parser.EndElementHandler = taker.end
        parser.CharacterDataHandler = taker.take_text
        try:
            parser.ParseFile(file)
        except expat.ExpatError as error:
            raise ValueError(str(error)) from None
    names = dict.fromkeys(taker.colors)
    colors = {place: color for place, color in enumerate(taker.colors.values()) if color is not None}
    return taker.drawings, ClassTable("", dict(enumerate(names)), colors)


def _refuse_doctype(*declared: object) -> NoReturn:
    raise ValueError("it declares a document type, which CVAT does not")


class _CvatTaker:
    """Takes what a reader of XML finds, one element after the other."""

    def __init__(self) -> None:
        self.drawings: list[Drawing] = []
        self.colors: dict[str, Color | None] = {}  # by label
        self._open: list[str] = []  # the elements that a place is in
        self._text = ""
        self._label = ""

    def start(self, tag: str, held: dict[str, str]) -> None:
        self._open.append(tag)
        self._text = ""
        if self._open[0] != "annotations":
            raise ValueError(f"it begins with <{self._open[0]:.60}>, not <annotations>")
        if tag == "track":
            raise ValueError("it has tracks, as `CVAT for video` has; export the task as `CVAT for images 1.1`")
        if self._open == ["annotations", "image"]:
            self.drawings.append(_drawing_of(held["name"], held, _whole))
        elif self._open[:-1] == ["annotations", "image"] and not self.drawings[-1].problem:
            drawing = self.drawings[-1]
            try:
                area = _cvat_area(tag, held, drawing.size or (0, 0))
                if area is None:
                    drawing.left_out[tag] += 1
                    return
                group = held.get("group_id", "0")
                level = _whole(held.get("z_order", "0"))
                shape = Shape(_text(held["label"]), area, None if group == "0" else group, level)
            except ODD as error:
                number = len(drawing.shapes) + drawing.left_out.total() + 1
                where = f"image {drawing.name!r:.200}, shape {number} ({held.get('label')!r:.60})"
                self.drawings[-1] = replace(drawing, problem=f"{where}: {_said(error)}")
                return
            drawing.shapes.append(shape)

    def take_text(self, text: str) -> None:
        if self._open[-3:-1] == ["labels", "label"]:
            self._text += text

    def end(self, tag: str) -> None:
        if self._open[-3:] == ["labels", "label", "name"]:
            self._label = self._text.strip()
            self.colors[self._label] = None
        elif self._open[-3:] == ["labels", "label", "color"] and re.fullmatch(r"#[0-9a-fA-F]{6}", self._text.strip()):
            red, green, blue = bytes.fromhex(self._text.strip()[1:])
            self.colors[self._label] = (red, green, blue)
        self._open.pop()


def _cvat_area(kind: str, held: Mapping[str, str], size: tuple[int, int]) -> Area | None:
    if kind in ("polygon", "polyline"):
        pairs = [pair.split(",") for pair in held["points"].split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"points {held['points']:.60}")
        points = _points(pairs)
        return Polygon((points,)) if kind == "polygon" else Line(points)
    turn = held.get("rotation", "0")
    if kind == "box":
        return box(*_numbers([*(held[name] for name in ("xtl", "ytl", "xbr", "ybr")), turn]))
    if kind == "ellipse":
        x, y, rx, ry, degrees = _numbers([*(held[name] for name in ("cx", "cy", "rx", "ry")), turn])
        return Ellipse((x, y), (rx, ry), degrees)
    if kind == "mask":
        left, top, width, height = (_whole(held[name]) for name in ("left", "top", "width", "height"))
        if not (0 <= left <= left + width <= size[0] and 0 <= top <= top + height <= size[1]):
            raise ValueError(f"a mask of {width} x {height} at {left}, {top} in a picture of {size[0]} x {size[1]}")
        lengths = run_lengths([_whole(count) for count in held["rle"].split(",")], width, height)
        return Runs(lengths, left, top, width, height)
    return None  # points, cuboid, skeleton, tag


# ------------------------------------------------------------------------------------------------------------- COCO


def read_coco(path: Path) -> tuple[list[Drawing], ClassTable]:
    """What a file of COCO's JSON holds (`instances_*.json`), and its categories.

    Raises:
        UserError: it cannot be read, or is none.
    """
    with _blamed(str(path), "COCO annotation file"):
        held = json.loads(path.read_bytes())
        if any("segments_info" in entry for entry in held["annotations"][:1]):
            raise ValueError("it describes the PNGs of a panoptic export; export polygons, or give PNGs (--label_maps)")
        categories = {entry["id"]: _text(entry["name"]) for entry in held["categories"]}
        drawings: dict[Any, Drawing] = {}
        for image in held["images"]:
            if image["id"] in drawings:
                raise ValueError(f"two images have the id {image['id']!r:.60}")
            drawings[image["id"]] = _drawing_of(_text(image["file_name"]), image, lambda side: side)
        for annotation in held["annotations"]:
            key = annotation["image_id"]
            if key not in drawings:
                where = f"annotation {annotation.get('id')!r:.60}"
                raise ValueError(f"{where}: image_id {key!r:.60}, which is not in the file")
            drawing = drawings[key]
            if drawing.problem:
                continue
            try:
                if annotation["category_id"] not in categories:
                    raise ValueError(f"category_id {annotation['category_id']!r:.60}, which is not in the file")
                area = _coco_area(annotation.get("segmentation"), drawing.size or (0, 0))
            except ODD as error:
                where = f"image {drawing.name!r:.200}, annotation {annotation.get('id')!r:.60}"
                drawings[key] = replace(drawing, problem=f"{where}: {_said(error)}")
                continue
            if area is None:
                drawing.left_out["annotation without segmentation"] += 1
            else:
                drawing.shapes.append(Shape(categories[annotation["category_id"]], area))
        colors = {entry["id"]: tuple(entry["color"]) for entry in held["categories"] if _is_color(entry.get("color"))}
        places = {key: place for place, key in enumerate(sorted(categories))}
        names = {place: categories[key] for key, place in places.items()}
        table = ClassTable("", names, {places[key]: color for key, color in colors.items()})
    return list(drawings.values()), table


def _coco_area(held: Any, size: tuple[int, int]) -> Area | None:
    if not held:
        return None  # a box alone
    if isinstance(held, Mapping):
        height, width = held["size"]
        if (width, height) != size:
            raise ValueError(f"run lengths of {width!r} x {height!r} in a picture of {size[0]} x {size[1]}")
        return Runs(run_lengths(held["counts"], *size), 0, 0, *size, by_columns=True)
    outlines = []
    for flat in held:
        if len(flat) % 2:
            raise ValueError(f"an outline of {len(flat)} numbers, which are no pairs")
        outlines.append(_points(_array(flat).reshape(-1, 2)))
    return Polygon(tuple(outlines))


def decoded(text: str) -> list[int]:
    """COCO's compressed run lengths: numbers of 5-bit digits, the lowest first, from the 4th on less the last but one.

    A character's code is 48 more than the digit, and 32 more where another one follows; numbers are in two's
    complement.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"run lengths with the character {character!r}")
        value |= (code & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("run lengths with a number of more than 60 bits")
        if not code & 32:
            value -= (code & 16) << 1 << (shift - 5)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("run lengths that are cut short")
    return counts


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)


# ------------------------------------------------------------------------------------------------------ what all use


@contextmanager
def _blamed(where: str, kind: str) -> Iterator[None]:
    """What is wrong with a file's content is said as the user's error."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{where} is not there") from None
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}") from None
    except ODD as error:
        raise UserError(f"{where} {ADVICE.format(kind=kind, what=_said(error))}") from None


def _said(error: Exception) -> str:
    """What was odd about a file, in plain words."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON ({error})"
    if isinstance(error, UnicodeError):
        return "it is no text in UTF-8"
    return str(error) if isinstance(error, ValueError) else "a part of it is of another kind than it should be"


def _drawing_of(name: str, held: Mapping[str, Any], number: Callable[[Any], Any]) -> Drawing:
    """That of an image without shapes as yet."""
    name = plain_name(name)
    try:
        return Drawing(name, _size(number(held["width"]), number(held["height"])), [])
    except ODD as error:
        return Drawing(name, None, [], problem=f"image {name!r:.200}: {_said(error)}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r:.60} where a name should be")
    if value.encode("utf-8", "replace").decode() != value:  # halves of characters, which no file can hold
        raise ValueError(f"{value!r:.60}, which is no text in UTF-8, where a name should be")
    return value.strip()


def _size(width: Any, height: Any) -> tuple[int, int]:
    for side in (width, height):
        if not isinstance(side, int | float) or not 1 <= side <= FARTHEST or side % 1:
            raise ValueError(f"a size of {width!r:.60} x {height!r:.60}; width and height are whole numbers from 1 on")
    return int(width), int(height)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r:.60} where a whole number should be") from None


def _array(values: Any) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"points {values!r:.60}, which are no pairs of numbers") from None


def _points(values: Any) -> np.ndarray:
    """Pairs of finite numbers, float64 [n, 2]."""
    points = _array(values)
    if points.shape == (0,):
        return points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points {values!r:.60}, which are no pairs of x and y")
    wrong = points[~(np.abs(points) <= FARTHEST)]  # not a number, too
    if len(wrong):
        raise ValueError(f"a coordinate of {wrong[0][~(np.abs(wrong[0]) <= FARTHEST)][0]:g}")
    return points


def _numbers(values: Any) -> list[float]:
    numbers = []
    for value in values:
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{value!r:.60} where a number should be") from None
        if not abs(number) <= FARTHEST:  # not a number, too
            raise ValueError(f"a coordinate of {number}")
        numbers.append(number)
    return numbers


def run_lengths(counts: str | Sequence[int], width: int, height: int) -> np.ndarray:
    """The lengths of runs, the first of pixels outside, that cover a rectangle; a text is in COCO's compressed form.

    Raises:
        ValueError: they are no lengths, or cover more or less.
    """
    numbers = np.asarray(decoded(counts) if isinstance(counts, str) else counts)
    if numbers.ndim != 1 or numbers.dtype.kind != "i" or numbers.min(initial=0) < 0:
        raise ValueError("run lengths that are no whole numbers from 0 on")
    if sum(numbers.tolist()) != width * height:
        raise ValueError(f"run lengths of {sum(numbers.tolist())} pixels, not {width} x {height}")
    return numbers
