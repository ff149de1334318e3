"""How fast a page of a large gallery shows: python -m benchmarks viewer [ROWS], 5,000 by default.

Writes galleries of layouts with a legend, a synthesised picture and a photo, opens their pages in headless Chromium and
prints the time to the first paint, the DOM nodes and the bytes of HTML. Only the first rows have pictures of their own;
the others link to the same files, since a browser loads what it shows. Beside it the same rows on a single page, as
galleries of results are usually made.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from options.flags import command_parser, positive
from tests.browser import dom_nodes, open_browser
from util.class_table import ClassTable
from util.errors import run_main
from util.html import Row, render_page, write_pages
from util.picture_kinds import LABEL, REAL, SYNTHESIZED
from util.pictures import save_picture

SIZE = 256  # pixels
DISTINCT = 150  # rows with pictures of their own


def rows_of(folder: Path, count: int) -> list[Row]:
    """Rows of noise, which compresses worse than any photo, with layouts of 12 classes."""
    rng, table = np.random.default_rng(0), ClassTable.load("coco")
    rows = []
    for i in range(min(count, DISTINCT)):
        blocks = rng.integers(0, 182, 12)[rng.integers(0, 12, (8, 8))].repeat(SIZE // 8, 0).repeat(SIZE // 8, 1)
        coarse = rng.integers(0, 256, (SIZE // 4, SIZE // 4, 3), np.uint8)
        photo = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        kinds = {LABEL: table.colorize(blocks), SYNTHESIZED: photo, REAL: photo[::-1].copy()}
        pictures = [
            save_picture(folder, kind, f"{i:04d}", pixels, kind, 400, flat=kind == LABEL)
            for kind, pixels in kinds.items()
        ]
        rows.append(Row(f"{i:04d}", pictures, table.present(blocks)))
    return [rows[i % len(rows)] for i in range(count)]


def measure(browser, page: Path) -> tuple[float, float, int]:
    """Seconds from asking for a page to its first contentful paint and to its being whole, and DOM nodes with text."""
    browser.get(page.as_uri())
    paint = browser.execute_async_script(
        "const done = arguments[0];"
        "const look = () => { const p = performance.getEntriesByName('first-contentful-paint')[0];"
        " p ? done(p.startTime) : setTimeout(look, 20) }; look()"
    )
    whole = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    return paint / 1000, whole / 1000, dom_nodes(browser)


def main() -> None:
    """Print a line for each kind of page: the worst of several pages, opened twice each."""
    parser = command_parser("benchmarks viewer", __doc__)
    parser.add_argument("rows", nargs="?", type=positive, default=5000)
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = rows_of(folder, count)
        write_pages(folder, "gallery", [f"{count} layouts"], rows, 400)
        paged = sorted(folder.glob("*.html"))
        single = folder / "single.html"
        single.write_bytes(render_page("gallery", [f"{count} layouts"], rows, 400))
        browser = open_browser()
        browser.set_script_timeout(120)
        some = [paged[0], *paged[:: max(1, len(paged) // 5)]]
        for caption, pages in ((f"{len(paged)} pages", some), ("one page", [single])):
            results = [measure(browser, page) for page in pages * 2]
            paint, whole, nodes = (max(values) for values in zip(*results, strict=True))
            size = max(page.stat().st_size for page in pages)
            seen = f"first paint {paint:.2f} s, whole {whole:.2f} s, {nodes:,} DOM nodes"
            print(f"{caption:>10}: {seen}, {size / 1e6:.2f} MB of HTML")
        browser.quit()


if __name__ == "__main__":
    try:
        run_main(main)
    except pytest.skip.Exception as missing:
        sys.exit(f"error: {missing}")
