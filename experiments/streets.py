"""Streets drawn by a program, as somebody would paint them: layouts for models of LabelMeFacade, none of its own.

    python -m experiments streets --out DIR [--count 8] [--size 256] [--swap building=vegetation]

Writes 0.png, 1.png, ...: 8-bit ids. --swap writes, beside each, the same layout with one class in the place of another,
0_building_as_vegetation.png; where a layout has none of it, nothing.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from experiments.labelmefacade import CLASSES
from options.flags import command_parser, natural, positive
from util.class_table import ClassTable
from util.errors import UserError
from util.files import save_image

ID = {name: i for i, name in ClassTable.load(str(CLASSES)).names.items()}
Rng = np.random.Generator


def street(seed: int, index: int, size: int) -> np.ndarray:
    """Layout `index` of `seed`: ids uint8 [size, size].

    From back to front: sky, houses with windows and doors, trees, pavement, road, cars. Places are shares of the side,
    x to the right, y downwards.
    """
    rng = np.random.default_rng([seed, index])
    image = Image.new("L", (size, size), ID["sky"])
    draw = ImageDraw.Draw(image)

    def box(name: str, left: float, top: float, right: float, bottom: float) -> None:
        draw.rectangle([round(size * v) for v in (left, top, right, bottom)], fill=ID[name])

    def blob(name: str, x: float, y: float, radius: float) -> None:
        draw.ellipse([round(size * v) for v in (x - radius, y - radius, x + radius, y + radius)], fill=ID[name])

    ground = rng.uniform(0.68, 0.8)
    left = -rng.uniform(0, 0.1)
    while left < 1:
        width, top = rng.uniform(0.25, 0.5), rng.uniform(0.05, 0.4)
        box("building", left, top, left + width, ground)
        _front(rng, box, (left, top, left + width, ground))
        left += width + (rng.uniform(0.05, 0.2) if rng.random() < 0.3 else 0)
    for _ in range(rng.integers(0, 4)):
        x, radius = rng.uniform(0, 1), rng.uniform(0.05, 0.11)
        y = ground - rng.uniform(0.1, 0.25)
        for _ in range(5):
            blob("vegetation", x + rng.normal(0, radius / 2), y + rng.normal(0, radius / 2), radius)
        box("vegetation", x - 0.012, y, x + 0.012, ground)
    curb = ground + rng.uniform(0.04, 0.08)
    box("pavement", 0, ground, 1, curb)
    box("road", 0, curb, 1, 1)
    for _ in range(rng.integers(0, 3)):
        x, y, length = rng.uniform(0, 0.8), curb + rng.uniform(0.02, 0.06), rng.uniform(0.16, 0.26)
        box("car", x, y - 0.06, x + length, y)
        box("car", x + 0.2 * length, y - 0.11, x + 0.75 * length, y - 0.06)
        blob("car", x + 0.2 * length, y, 0.025)
        blob("car", x + 0.8 * length, y, 0.025)
    return np.asarray(image)


def _front(rng: Rng, box: Callable[..., None], house: tuple[float, float, float, float]) -> None:
    """Rows of windows, and a door at the bottom."""
    left, top, right, bottom = house
    across, storeys = rng.integers(2, 5), max(1, round((bottom - top) / rng.uniform(0.13, 0.19)))
    step, height = (right - left) / across, (bottom - top) / storeys
    door = rng.integers(across)
    for storey in range(storeys):
        for i in range(across):
            x, y = left + (i + 0.28) * step, top + (storey + 0.25) * height
            if storey == storeys - 1 and i == door:
                box("door", x, y, x + 0.4 * step, bottom)
            else:
                box("window", x, y, x + 0.44 * step, y + 0.5 * height)


def write(out: Path, count: int, size: int, seed: int, swaps: Sequence[tuple[str, str]] = ()) -> None:
    """Write so many layouts, and each with one class, by name, in the place of another."""
    for index in range(count):
        ids = street(seed, index, size)
        save_image(Image.fromarray(ids), out / f"{index}.png")
        for old, new in swaps:
            if (ids == ID[old]).any():
                swapped = np.where(ids == ID[old], ID[new], ids).astype(np.uint8)
                save_image(Image.fromarray(swapped), out / f"{index}_{old}_as_{new}.png")


def main() -> None:
    """Write the layouts.

    Raises:
        UserError: --swap names no classes.
    """
    parser = command_parser("experiments streets", __doc__)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--count", type=positive, default=8, help="(default: %(default)s)")
    parser.add_argument("--size", type=positive, default=256, help="pixels of a side (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="(default: %(default)s)")
    parser.add_argument("--swap", nargs="+", default=[], metavar="OLD=NEW", help="classes by name")
    args = parser.parse_args(sys.argv[1:])
    for text in args.swap:
        if text.count("=") != 1:
            raise UserError(f"--swap {text}: give OLD=NEW, as in building=sky")
    swaps = [tuple(text.split("=")) for text in args.swap]
    unknown = [name for swap in swaps for name in swap if name not in ID]
    if unknown:
        raise UserError(f"--swap: there is no class {unknown[0]!r}; there are {', '.join(ID)}, as in building=sky")
    write(Path(args.out), args.count, args.size, args.seed, swaps)
