"""The web pages of results and of training: what is on them, and what their keys do in a browser."""

import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import dom_nodes, open_browser
from tests.pages import Nodes, assert_links_work
from util.class_table import PresentClass
from util.curves import MARKED, POINTS, LossHistory, read_losses
from util.html import COLUMNS, PAGE_NODES, PAGE_ROWS, Picture, Row, pages_of, render_page, write_pages
from util.pictures import save_picture
from util.training_page import ROWS, TrainingPage


def make_row(folder: Path, name: str, classes: int = 2, styles: int = 0) -> Row:
    """A row with a label map, synthesised pictures and a photo, all written, of 12 x 8 pixels."""
    kinds = ["input_label", *([f"s{k:02d}" for k in range(styles)] or ["synthesized_image"]), "real_image"]
    pictures = []
    for shade, kind in enumerate(kinds):
        pixels = np.full((8, 12, 3), 40 * shade % 256, np.uint8)
        pictures.append(save_picture(folder, kind, name, pixels, kind, width=400, flat=kind == "input_label"))
    return Row(name, pictures, [PresentClass(i, f"class {i}", (i, 0, 0), 1 / classes) for i in range(classes)])


def test_pages_hold_what_a_browser_shows_at_once(tmp_path: Path) -> None:
    row = make_row(tmp_path, "x", classes=12, styles=8)
    pages = pages_of([row] * 5000)
    assert sum(map(len, pages)) == 5000
    assert all(sum(r.nodes for r in page) <= PAGE_NODES for page in pages)
    assert len(pages[0]) == PAGE_NODES // row.nodes
    small = make_row(tmp_path, "y", classes=0)
    assert {len(page) for page in pages_of([small] * 5000)} == {PAGE_ROWS}
    assert pages_of([]) == [[]]
    long = make_row(tmp_path, "z", styles=500)
    pages = pages_of([long])
    assert len(pages) == 2 and [row.title for page in pages for row in page] == ["z (1)", "z (2)"]
    assert [picture for page in pages for row in page for picture in row.pictures] == list(long.pictures)
    assert all(row.nodes <= PAGE_NODES and row.legend == long.legend for page in pages for row in page)


def test_nodes_of_a_row_are_counted_right(tmp_path: Path) -> None:
    """A page with the row has as many more nodes than one without as the row says."""
    for row in (make_row(tmp_path, "a", classes=3), make_row(tmp_path, "b", classes=0, styles=4)):
        counts = []
        for name, rows in (("with.html", [row]), ("without.html", [])):
            (tmp_path / name).write_bytes(render_page("t", [], rows, 400))
            counts.append(Nodes(tmp_path / name).count)
        assert counts[0] - counts[1] == row.nodes


def test_gallery_of_many_pages(tmp_path: Path) -> None:
    rows = [make_row(tmp_path, f"a b#{i}") for i in range(2 * PAGE_ROWS + 1)]  # names that links must quote
    first = write_pages(tmp_path, "many", ["about"], rows, 400)
    assert first.name == "index.html"
    names = sorted(p.name for p in tmp_path.glob("*.html"))
    assert names == ["index.html", "page_2.html", "page_3.html"]
    for name in names:
        assert_links_work(tmp_path / name)
        assert Nodes(tmp_path / name).count < 2000
    (tmp_path / "page_of_mine.html").touch()
    write_pages(tmp_path, "few", [], rows[:3], 400)
    # No page of the longer gallery is left, and nothing else is gone.
    assert sorted(p.name for p in tmp_path.glob("*.html")) == ["index.html", "page_of_mine.html"]


def test_text_is_escaped(tmp_path: Path) -> None:
    row = Row("<b>&", [], [PresentClass(0, "<i>", (0, 0, 0), 1.0)])
    text = render_page("<script>", ["a < b"], [row], 400).decode()
    assert "<b>" not in text.replace("<b></b>", "") and "<i>" not in text and "<title><script>" not in text


def test_a_page_in_detail() -> None:
    """What its readers see of a row, and what their browsers need to show it."""
    pictures = [Picture("layout", "l.png", "small/l.png", (8, 4), flat=True), Picture("real", "r.png", "r.jpg", (8, 4))]
    legend = [PresentClass(7, "sky", (1, 2, 3), 0.994), PresentClass(9, "sea", (4, 5, 6), 0.006)]
    row = Row("street", pictures, legend)
    page = render_page("my title", ["first line", "test.py --name a-b x-y -1"], [row], 300).decode()
    assert '<meta charset="utf-8">' in page and '<html lang="en">' in page and "<title>my title</title>" in page
    assert '<p class="about">first line</p>' in page
    flags = "test.py <span>--name</span> a-b x-y <span>-1</span>"  # which lines do not break
    assert f'<p class="about">{flags}</p>' in page and ".about span { white-space: nowrap }" in page
    assert 'style="--n:2;--w:300px"' in page
    layout, real = re.findall(r"<figure>.*?</figure>", page)
    assert '<a href="l.png">' in layout and 'src="small/l.png"' in layout and 'class="flat"' in layout
    assert '<a href="r.png">' in real and 'src="r.jpg"' in real and "class" not in real
    assert 'alt="street: layout"' in layout and "<figcaption>layout</figcaption>" in layout
    assert re.findall(r'<li><i style="background:rgb(\([^)]*\))"></i>([^<]*)</li>', page) == [
        ("(1, 2, 3)", "sky 99%"),
        ("(4, 5, 6)", "sea &lt; 1%"),
    ]
    many = render_page("t", [], [Row("styles", pictures * 8)], 300).decode()
    assert f"--n:{COLUMNS};" in many  # more go on below


def test_navigation() -> None:
    """The neighbours by arrows, the first, the last, those around this page and every tenth by number."""
    names = [(str(n), f"p{n}.html") for n in range(1, 42)]

    def shown(here: int, rows: int) -> list[list[str]]:
        page = render_page("t", [], [Row(f"r{i}", []) for i in range(rows)], 300, names, f"p{here}.html").decode()
        return [re.findall(r"<[ab][^>]*>([^<]*)</[ab]>", nav) for nav in re.findall(r"<nav>.*?</nav>", page)]

    assert shown(15, rows=3) == [["←", "→", *"1 10 12 13 14 15 16 17 18 20 30 40 41".split()]]
    assert shown(1, rows=4) == [["→", *"1 2 3 4 10 20 30 40 41".split()]] * 2  # a long page has it at its end too
    assert shown(41, rows=1) == [["←", *"1 10 20 30 38 39 40 41".split()]]
    page = render_page("t", [], [Row("r", [])] * 4, 300, names, "p2.html").decode()
    assert page.count('rel="prev"') == page.count('rel="next"') == 1
    assert re.search(r'<a href="p1.html" rel="prev">', page) and re.search(r'<a href="p3.html" rel="next">', page)
    assert "<b>2</b>" in page


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="this system's file names are always Unicode")
def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_pages(tmp_path, name, [name], [make_row(tmp_path, name)], 400)
    assert_links_work(tmp_path / "index.html")
    assert Nodes(tmp_path / "index.html").headings == ["caf?"]


def test_thumbnails(tmp_path: Path) -> None:
    """Small enough to load at once; the picture itself is kept as it is. Label maps get no colours in between."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 600, 3), np.uint8)
    picture = save_picture(tmp_path, "real_image", "a", pixels, "real", width=200)
    assert (np.asarray(Image.open(tmp_path / picture.link)) == pixels).all()
    assert Image.open(tmp_path / picture.thumbnail).size == (200, 100)
    label = np.where(rng.random((300, 600, 1)) < 0.5, np.uint8(7), np.uint8(200)).repeat(3, 2)
    picture = save_picture(tmp_path, "input_label", "a", label, "label", width=200, flat=True)
    small = np.asarray(Image.open(tmp_path / picture.thumbnail))
    assert small.shape == (100, 200, 3) and set(np.unique(small)) == {7, 200}
    smooth = np.asarray(Image.open(tmp_path / "thumbnails/real_image/a.jpg")).astype(int)
    mean = pixels.reshape(100, 3, 200, 3, 3).mean((1, 3))
    assert np.abs(smooth - mean).mean() < 25  # noise, averaged; single pixels are 60 away from these means
    assert picture.size == (600, 300) and picture.thumbnail != picture.link
    small = save_picture(tmp_path, "input_label", "b", label, "label", width=600, flat=True)
    assert small.thumbnail == small.link  # one file is enough
    photo = save_picture(tmp_path, "real_image", "b", pixels, "real", width=600)
    assert photo.thumbnail == "thumbnails/real_image/b.jpg"  # which a browser loads faster than a PNG


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before is still there."""

    def full(image: Image.Image, path: Path, *args: object, **options: int) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    black = np.zeros((4, 4, 3), np.uint8)
    for earlier in (False, True):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="real_image/a.png") as error:
            patch.setattr(Image.Image, "save", full)
            save_picture(tmp_path, "real_image", "a", black, "real", width=4)
        assert error.value.errno == 28
        left = [path.name for path in (tmp_path / "images/real_image").iterdir()]
        assert left == (["a.png"] if earlier else [])
        if not earlier:
            save_picture(tmp_path, "real_image", "a", black, "real", width=4)
    assert (np.asarray(Image.open(tmp_path / "images/real_image/a.png")) == 0).all()


# ---------------------------------------------------------------------------------------------------- training pages


def test_training_pages(tmp_path: Path) -> None:
    """The first page has the newest rows; no page leads to one that is not there, and no row is on two of them."""
    page = TrainingPage(tmp_path, "t", 400, seen=0)
    for i in range(1, 4 * ROWS + 3):
        page.add(i, make_row(tmp_path, f"row {i}"), ["about"], "<svg></svg>")
        for file in tmp_path.glob("*.html"):
            assert_links_work(file)
    headings = {file.name: Nodes(file).headings for file in tmp_path.glob("*.html")}
    first = (tmp_path / "index.html").read_text()
    assert "<svg></svg>" in first and "about" in first
    assert headings["index.html"] == [f"row {i}" for i in range(4 * ROWS + 2, 3 * ROWS, -1)]
    assert headings["older_1.html"] == [f"row {i}" for i in range(ROWS, 0, -1)]
    assert sorted(headings) == ["index.html", "older_1.html", "older_2.html", "older_3.html"]
    name, shown = "index.html", []
    while name:  # from the newest page on as its reader goes on
        shown += headings[name]
        name = Nodes(tmp_path / name).neighbours.get("next", "")
    assert shown == [f"row {i}" for i in range(4 * ROWS + 2, 0, -1)]  # every row, in order
    assert Nodes(tmp_path / "older_1.html").neighbours == {"prev": "older_2.html"}
    assert Nodes(tmp_path / "older_3.html").neighbours == {"prev": "index.html", "next": "older_2.html"}


@pytest.mark.parametrize(("classes", "rows"), [(25, 4 * ROWS), (150, 9), (700, 4)])
def test_training_pages_of_many_classes_are_light(tmp_path: Path, classes: int, rows: int) -> None:
    page, row = TrainingPage(tmp_path, "t", 400, seen=0), make_row(tmp_path, "x", classes)
    for i in range(1, rows):
        page.add(i, row, [], "")
        shown = [len(Nodes(file).headings) for file in tmp_path.glob("*.html")]
        assert sum(shown) == i and min(shown) > 0
        assert max(Nodes(file).count for file in tmp_path.glob("*.html")) < max(PAGE_NODES, 2 * row.nodes)


def test_a_resumed_run_drops_what_came_later(tmp_path: Path) -> None:
    page = TrainingPage(tmp_path, "t", 400, seen=0)
    for i in range(1, 3 * ROWS + 2):
        page.add(10 * i, make_row(tmp_path, f"row {i}"), [], "")
    with open(tmp_path / "pictures.jsonl", "a") as file:
        file.write('{"seen": 9')  # the machine stopped while writing
    whole = (tmp_path / "pictures.jsonl").read_text()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "pictures.jsonl").write_text(whole[:200] + whole[900:])
    torn = TrainingPage(tmp_path / "torn", "t", 400, seen=10**6)
    torn.add(10, make_row(tmp_path / "torn", "first"), [], "")  # what follows a torn line is not trusted either
    assert Nodes(tmp_path / "torn" / "index.html").headings == ["first"]
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    assert "older_2.html" in before
    resumed = TrainingPage(tmp_path, "t", 400, seen=10 * (ROWS + 3) + 5)
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    shutil.rmtree(tmp_path / "torn")
    resumed.add(10 * (ROWS + 4), make_row(tmp_path, "again"), [], "")
    assert not list(tmp_path.glob("older_*.html"))  # 14 rows fit on one page
    assert_links_work(tmp_path / "index.html")
    assert Nodes(tmp_path / "index.html").headings[:2] == ["again", f"row {ROWS + 3}"]
    assert (tmp_path / "index.html").read_text().count("background:rgb(1, 0, 0)") == ROWS + 4  # colours came back
    assert len((tmp_path / "pictures.jsonl").read_text().splitlines()) == ROWS + 4


def test_a_resumed_run_goes_on_with_the_older_pages(tmp_path: Path) -> None:
    """The same files as of a run that was never interrupted."""
    contents = []
    for stop in (0, 2 * ROWS + 1):
        folder = tmp_path / str(stop)
        page = TrainingPage(folder, "t", 400, seen=0)
        for i in range(1, 3 * ROWS + 2):
            page.add(i, make_row(folder, f"row {i}"), [], "")
        if stop:
            page = TrainingPage(folder, "t", 400, seen=stop)
            for i in range(stop + 1, 3 * ROWS + 2):
                page.add(i, make_row(folder, f"row {i}"), [], "")
                for file in folder.glob("*.html"):
                    assert_links_work(file)
        contents.append({file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})
    assert sorted(contents[0]) == ["index.html", "older_1.html", "older_2.html", "pictures.jsonl"]
    assert contents[0] == contents[1]


def test_a_run_that_starts_anew_starts_an_empty_page(tmp_path: Path) -> None:
    TrainingPage(tmp_path, "t", 400, seen=0).add(10, make_row(tmp_path, "old"), [], "")
    TrainingPage(tmp_path, "t", 400, seen=0).add(10, make_row(tmp_path, "new"), [], "")
    assert Nodes(tmp_path / "index.html").headings == ["new"]


# ------------------------------------------------------------------------------------------------------ loss curves


def test_a_run_that_replaced_another_keeps_none_of_its_losses(tmp_path: Path) -> None:
    """The old run wrote lines more often; the header says from where the new one went on. Odd bytes are no obstacle."""
    old = "".join(f"(epoch: 1, iters: {i}, time: 0.1) GAN: 9.0\n" for i in (100, 200, 300, 400))
    header = "================ Training Loss (Mon Nov 2 10:00:00 2026, from image {}) ================\n"
    new = "(epoch: 1, iters: 400, time: 0.1) GAN: 1.0\n(epoch: 1, iters: 800, time: 0.1) GAN: 2.0\n"
    more = "(epoch: 1, iters: 900, time: 0.1) GAN: 3.0\n"
    log = header.format(0) + old + header.format(0) + new + header.format(500) + more
    (tmp_path / "loss_log.txt").write_bytes(log.encode() + b"\xff\n")
    recorded = read_losses(tmp_path / "loss_log.txt", epoch_images=1000, done_images=1000)
    assert recorded == [(400, {"GAN": 1.0}), (900, {"GAN": 3.0})]


LOG = """================ Training Loss (Mon) ================
(epoch: 1, iters: 2, time: 0.100) GAN: 1.000 D_real: -0.500
(epoch: 1, iters: 4, time: 0.100) GAN: nan D_real: 2.500e-05
(epoch: 2, iters: 2, time: 0.100) GAN: 9.000 D_real: 9.000
================ Training Loss (Tue) ================
(epoch: 2, iters: 2, time: 0.100) GAN: 3.000 D_real: 4.000
"""


def test_losses_from_a_log(tmp_path: Path) -> None:
    """Two epochs of four images; the second epoch began twice, and the first of the two is void."""
    (tmp_path / "loss_log.txt").write_text(LOG)
    recorded = read_losses(tmp_path / "loss_log.txt", epoch_images=4, done_images=6)
    assert [(seen, losses["D_real"]) for seen, losses in recorded] == [(2, -0.5), (4, 2.5e-05), (6, 4.0)]
    assert [str(losses["GAN"]) for _, losses in recorded] == ["1.0", "nan", "3.0"]
    assert [seen for seen, _ in read_losses(tmp_path / "loss_log.txt", epoch_images=4, done_images=5)] == [2, 4]
    assert read_losses(tmp_path / "nothing", 4, 6) == []


def test_losses_of_the_discriminator_have_one_scale() -> None:
    history = LossHistory()
    for i, (real, fake, other) in enumerate([(0.5, 1.5, 10), (1.0, 0.25, 20)]):
        history.add(i, {"D_real": real, "D_Fake": fake, "GAN": other})
    charts = history.charts(1, 1).split("</svg>")[:3]
    scales = [re.findall(r'text-anchor="end">([-\d.]+)<', chart) for chart in charts]
    assert scales == [["0", "1", "2"], ["0", "1", "2"], ["10", "20", "30"]]
    assert "D_real 1<" in charts[0] and "D_Fake 0.25<" in charts[1]


def test_charts(tmp_path: Path) -> None:
    """One chart for each loss, with its last value; 3000 points become 375 means of 8, between their extremes."""
    history = LossHistory()
    for i in range(3000):
        history.add(i, {"GAN": 5.0 if i == 1234 else -2.0 if i == 2000 else 1.0, "<b>": 2.0})
    text = history.charts(epoch_images=1000, done_images=3000)
    assert text.count("<svg") == 2
    assert "GAN 1<" in text and "&lt;b&gt; 2<" in text and "3 epochs" in text
    assert re.findall(r'text-anchor="end">([-\d.]+)<', text.split("</svg>")[0]) == ["-2", "2", "6"]
    line = text.split('<path d="M')[1].split('"')[0].split()
    assert len(line) == 375 and POINTS <= 375 <= 2 * POINTS
    band = text.split('class="band" d="M')[1].split("Z")[0].split()
    tops = [float(point.split(",")[1]) for point in band[375:]]
    bottoms = [float(point.split(",")[1]) for point in band[:375]]
    assert min(tops) < sorted(tops)[1] - 10  # the single high value shows
    assert max(bottoms) > sorted(bottoms)[-2] + 10  # and the single low one


def test_a_loss_that_is_no_number_shows() -> None:
    """As a gap, and where it is the last value, as that."""
    history = LossHistory()
    for i, value in enumerate([1.0, 2.0, math.nan, math.inf, 3.0, math.nan]):
        history.add(i, {"GAN": value, "VGG": math.nan, "KLD": 1.0})
    gan, vgg, kld = history.charts(epoch_images=1, done_images=5).split("</svg>")[:3]
    line = gan.split('<path d="')[1].split('"')[0]
    assert line.count("M") == 2 and line.split("M")[1].count(" ") == 1  # two values, and one alone
    assert "GAN nan<" in gan and "VGG nan<" in vgg and "KLD 1<" in kld
    assert '<path d=""' in vgg  # nothing to draw
    assert kld.split('<path d="')[1].split('"')[0].count("M") == 1


def points_of(chart: str) -> list[str]:
    return re.search('<path d="([^"]*)"', chart)[1].replace("M", " ").split()


def dots_of(chart: str) -> list[str]:
    return re.findall(r"M(\S+?)h0", re.search('<path style="stroke-width:5" d="([^"]*)"', chart)[1])


def test_charts_of_a_page_have_one_axis() -> None:
    """A metric of epoch 1, and a loss of each half of two and a half epochs: 100 images stand below each other."""
    metric, loss = LossHistory([(100, {"miou": 0.5})]), LossHistory((seen, {"GAN": 1.0}) for seen in range(50, 251, 50))
    charts = [history.charts(epoch_images=100, done_images=250) for history in (metric, loss)]
    assert all(">2.5 epochs<" in chart for chart in charts)
    (alone,), points = map(points_of, charts)
    assert alone.split(",")[0] == points[1].split(",")[0]
    assert ">1 epoch<" in metric.charts(epoch_images=100, done_images=100)


def test_few_points_are_marked() -> None:
    """A value alone, which has no line, and each of up to 30; of more only what stands between gaps."""
    for count in (1, MARKED):
        chart = LossHistory((i, {"GAN": 1.0}) for i in range(count)).charts(1, count)
        assert dots_of(chart) == points_of(chart) and len(dots_of(chart)) == count
    values = [1.0] * MARKED + [math.nan, 3.0, math.nan]
    chart = LossHistory((i, {"GAN": value}) for i, value in enumerate(values)).charts(1, len(values))
    assert dots_of(chart) == points_of(chart)[-1:]


# --------------------------------------------------------------------------------------------------------- browser


@pytest.fixture
def browser() -> Iterator:
    driver = open_browser()
    yield driver
    driver.quit()


@pytest.mark.browser
def test_keys_flip_through_pictures(tmp_path: Path, browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    write_pages(tmp_path, "t", [], [make_row(tmp_path, f"r{i}") for i in range(PAGE_ROWS + 2)], 400)
    browser.get((tmp_path / "index.html").as_uri())

    def press(key: str) -> str:
        """The picture that is shown at full size after a key; empty for none."""
        ActionChains(browser).send_keys(key).perform()
        return shown()

    def shown() -> str:
        return browser.execute_script(
            "const box = document.querySelector('#box');"
            "return box && !box.hidden ? box.querySelector('img').getAttribute('src') : ''"
        )

    assert press(Keys.ENTER) == "images/input_label/r0.png"
    assert press(Keys.SPACE) == "images/synthesized_image/r0.png"
    assert press(Keys.SPACE) == "images/real_image/r0.png"
    assert press(Keys.SPACE) == "images/input_label/r0.png"
    assert press(Keys.ARROW_UP) == "images/real_image/r0.png"
    assert press("2") == "images/synthesized_image/r0.png"
    assert press("9") == "images/synthesized_image/r0.png"  # there are three
    assert press(Keys.ARROW_RIGHT) == "images/synthesized_image/r1.png"
    assert press(Keys.ARROW_LEFT) == "images/synthesized_image/r0.png"
    assert press(Keys.ARROW_LEFT) == "images/synthesized_image/r0.png"  # the first of all
    assert press(Keys.ESCAPE) == ""
    browser.find_elements("css selector", "section:nth-of-type(50) figure a")[2].click()
    assert shown() == f"images/real_image/r{PAGE_ROWS - 1}.png"
    assert press(Keys.ENTER) == f"images/real_image/r{PAGE_ROWS - 1}.png"
    assert press(Keys.SPACE) == f"images/input_label/r{PAGE_ROWS - 1}.png"
    assert press("3") == f"images/real_image/r{PAGE_ROWS - 1}.png"
    assert (
        press(Keys.ARROW_LEFT) == press(Keys.ENTER) == f"images/real_image/r{PAGE_ROWS - 2}.png"
    )  # not the clicked one
    assert press(Keys.ARROW_RIGHT) == f"images/real_image/r{PAGE_ROWS - 1}.png"
    assert press(Keys.ARROW_RIGHT) == f"images/real_image/r{PAGE_ROWS}.png"  # on the next page
    assert browser.current_url.split("#")[0].endswith("page_2.html")
    assert press(Keys.ARROW_LEFT) == f"images/real_image/r{PAGE_ROWS - 1}.png"
    press(Keys.ESCAPE)
    assert "#" not in browser.current_url
    browser.refresh()
    assert shown() == ""  # a page is opened at full size once
    press(Keys.ARROW_RIGHT)
    assert browser.current_url.endswith("page_2.html")
    press(Keys.ARROW_LEFT)
    assert browser.current_url.endswith("index.html")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.browser
def test_the_mouse(tmp_path: Path, browser) -> None:
    """A click on what is shown closes it; with Ctrl held a picture's link is a link; Enter opens the row in view."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    write_pages(tmp_path, "t", [], [make_row(tmp_path, f"r{i}") for i in range(30)], 400)
    browser.get((tmp_path / "index.html").as_uri())

    def shown() -> str:
        return browser.execute_script(
            "const box = document.querySelector('#box'), image = box?.querySelector('img');"
            "return box && !box.hidden ? image.getAttribute('src') + ' ' + getComputedStyle(image).imageRendering : ''"
        )

    link = browser.find_element("css selector", "section:nth-of-type(1) figure a")
    for held in (Keys.CONTROL, Keys.SHIFT):
        ActionChains(browser).key_down(held).click(link).key_up(held).perform()
        assert shown() == ""
    browser.switch_to.window(browser.window_handles[0])
    link.click()
    assert shown() == "images/input_label/r0.png pixelated"
    ActionChains(browser).send_keys("3").perform()
    assert shown() == "images/real_image/r0.png auto"
    browser.find_element("css selector", "#box").click()
    assert shown() == ""
    row = browser.find_elements("css selector", "section")[20]
    browser.execute_script("arguments[0].scrollIntoView({block: 'start'}); document.activeElement.blur()", row)
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert shown().startswith("images/input_label/r20.png")


@pytest.mark.browser
def test_full_size(tmp_path: Path, browser) -> None:
    """Label maps stay sharp, shorter rows show their last picture, and closing leads to the row one has come to."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    rows = [make_row(tmp_path, "long", styles=4), *(make_row(tmp_path, f"r{i}") for i in range(30))]
    write_pages(tmp_path, "t", [], rows, 400)
    browser.get((tmp_path / "index.html").as_uri())

    def press(key: str, *held: str) -> list[str]:
        chain = ActionChains(browser)
        for modifier in held:
            chain.key_down(modifier)
        chain.send_keys(key)
        for modifier in held:
            chain.key_up(modifier)
        chain.perform()
        return browser.execute_script(
            "const [image, text] = document.querySelector('#box').children;"
            "return [image.getAttribute('src'), image.className, text.textContent.split(' · ')[1]]"
        )

    assert press(Keys.ENTER) == ["images/input_label/long.png", "flat", "input_label (1 of 6)"]
    assert press("6") == ["images/real_image/long.png", "", "real_image (6 of 6)"]
    for held in (Keys.ALT, Keys.CONTROL, Keys.META):  # the browser's own keys
        assert press("1", held)[0] == "images/real_image/long.png"
    assert press(Keys.ARROW_RIGHT) == ["images/real_image/r0.png", "", "real_image (3 of 3)"]
    for _ in range(25):
        press(Keys.ARROW_RIGHT)
    press(Keys.ESCAPE)
    place = browser.execute_script("return document.querySelectorAll('section')[26].getBoundingClientRect().top")
    assert 0 <= place < browser.execute_script("return innerHeight")


@pytest.mark.browser
def test_a_page_of_a_large_gallery_is_light(tmp_path: Path, browser) -> None:
    """What is counted here is what Chromium made of the page."""
    rows = [make_row(tmp_path, f"r{i}", classes=15) for i in range(20)] * 50
    write_pages(tmp_path, "t", ["about"], rows, 400)
    browser.get((tmp_path / "page_7.html").as_uri())
    nodes = dom_nodes(browser)
    assert 1000 < nodes < 2000
    pictures = browser.execute_script("return [...document.images].map(i => i.loading)")
    assert set(pictures) == {"lazy"}


def test_picture_keeps_its_place(tmp_path: Path) -> None:
    """Width and height are given, so that nothing moves while pictures load."""
    row = Row("r", [Picture("c", "a.png", "a.jpg", (512, 256))])
    text = render_page("t", [], [row], 400).decode()
    assert 'width="400"' in text and 'height="200"' in text
