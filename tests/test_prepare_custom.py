"""Anybody's annotations: shapes and label maps of all kinds to what --dataset_mode custom reads."""

import base64
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data import create_dataset
from datasets.preparation.annotations import plain_name, read_coco, read_cvat, read_labelme
from datasets.preparation.ledger import Ledger
from datasets.preparation.naming import read_table
from datasets.preparation.pairing import Names
from datasets.preparation.shapes import NOTHING, Ellipse, Line, Order, Polygon, Runs, Shape, box, draw, runs_of
from datasets.preparation.splits import validation_part
from datasets.prepare_custom import main as prepare_custom
from options.train_options import TrainOptions
from tests.official import encoded, ids, jpeg, png, run_lengths, train_command
from util.errors import UserError

BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;">
<!ENTITY lol3 "&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;">]><annotations>&lol3;</annotations>"""


def grid(area: object, width: int, height: int, line_width: float = 0.0) -> list[str]:
    """A shape's pixels in a picture."""
    mask = np.zeros((height, width), bool)
    rows, columns, part = area.covered((width, height), line_width)
    mask[rows, columns] = part
    return ["".join(".#"[int(pixel)] for pixel in row) for row in mask]


def polygon(*corners: tuple[float, float]) -> Polygon:
    return Polygon((np.array(corners, float),))


def classes(out: Path) -> list[str]:
    """The names of classes 0, 1, ..."""
    held = json.loads((out / "classes.json").read_text())["classes"]
    assert [entry["id"] for entry in held] == list(range(len(held)))
    return [entry["name"] for entry in held]


def made(out: Path) -> list[str]:
    """All that lies in the folders of a data set."""
    return sorted(path.relative_to(out).as_posix() for path in out.glob("*_*/*"))


def outcome(out: Path, kind: str) -> dict[str, list[list[int]]]:
    """Maps by stem, of both parts."""
    return {path.stem: ids(path) for path in sorted(out.glob(f"*_{kind}/*"))}


def photo(path: Path, width: int = 4, height: int = 3, seed: int = 0, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def write(path: Path, content: object) -> Path:
    """A file of text, of bytes, or of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def labelme(shapes: list[dict], image: str = "a.jpg", size: tuple[int, int] | None = (4, 3)) -> dict:
    """What a Labelme file holds."""
    width, height = size or (None, None)
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [{"group_id": None, "shape_type": "polygon", "flags": {}, **shape} for shape in shapes],
        "imagePath": image,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def rectangle(label: str, left: float, top: float, right: float, bottom: float, **more: object) -> dict:
    return {"label": label, "shape_type": "rectangle", "points": [[left, top], [right, bottom]], **more}


ALL = rectangle("wall", 0, 0, 4, 3)


@pytest.fixture
def run(tmp_path: Path):
    """Runs the command on tmp_path/photos; the folder that it fills."""

    def run(*flags: object, out: str = "out") -> Path:
        flags = [str(flag) for flag in flags]
        val = [] if {"--val", "--val_list"} & set(flags) else ["--val", "0"]
        prepare_custom(
            ["--images", str(tmp_path / "photos"), "--out", str(tmp_path / out), "--workers", "1", *val, *flags]
        )
        return tmp_path / out

    return run


# ---------------------------------------------------------------------------------------------------------- shapes


def test_a_pixel_is_in_a_polygon_if_its_centre_is() -> None:
    triangle = polygon((0, 0), (4, 0), (0, 4))  # x + y < 4, and centres on the slope (3.5 + 0.5) are on a right edge
    assert grid(triangle, 5, 4) == ["###..", "##...", "#....", "....."]
    assert grid(polygon((0.6, 0.6), (3.4, 0.6), (3.4, 2.4), (0.6, 2.4)), 4, 3) == ["....", ".##.", "...."]
    assert grid(polygon((1.6, 0), (2.4, 0), (2.4, 3), (1.6, 3)), 4, 3) == ["...."] * 3  # between two centres
    assert grid(polygon((0, 0), (4, 3)), 4, 3) == ["...."] * 3
    assert grid(Polygon(()), 2, 1) == [".."]


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    """The edge at x = 2.5 goes through the centres of column 2: it is the left edge of the second one."""
    assert grid(polygon((0, 0), (2.5, 0), (2.5, 2), (0, 2)), 5, 2) == ["##..."] * 2
    assert grid(polygon((5, 2), (2.5, 2), (2.5, 0), (5, 0)), 5, 2) == ["..###"] * 2
    assert grid(polygon((0, 0), (2, 0), (2, 1.5), (0, 1.5)), 2, 3) == ["##", "..", ".."]
    assert grid(polygon((0, 1.5), (2, 1.5), (2, 3), (0, 3)), 2, 3) == ["..", "##", "##"]
    rng = np.random.default_rng(0)
    for _ in range(50):  # a fan of four triangles around any point is the whole
        hub, corners = rng.uniform(1, 7, 2), np.array([[0, 0], [8, 0], [8, 8], [0, 8]])
        count = np.zeros((8, 8), int)
        for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
            rows, columns, mask = polygon(hub, a, b).covered((8, 8), 0)
            count[rows, columns] += mask
        assert (count == 1).all()


def test_what_an_outline_goes_around_twice_is_outside() -> None:
    bow_tie = polygon((0, 0), (6, 5), (6, 0), (0, 5))
    assert grid(bow_tie, 6, 5) == ["#....#", "##..##", "######", "##..##", "#....#"]
    twice = [(0, 0), (3, 0), (3, 2), (0, 2)]
    assert grid(polygon(*twice, *twice), 3, 2) == ["..."] * 2
    assert grid(Polygon((np.array(twice), np.array(twice[::-1]))), 3, 2) == ["###"] * 2  # two outlines: all in either


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    assert grid(polygon((-1e6, -1e6), (1e6, -1e6), (1e6, 1), (-1e6, 1)), 3, 3) == ["###", "...", "..."]
    for far in (polygon((10, 10), (20, 10), (20, 20)), polygon((-9, 0), (-3, 0), (-3, 3)), Ellipse((-5, -5), (2, 2))):
        assert grid(far, 3, 3) == ["..."] * 3
    assert grid(Runs(np.array([0, 9]), -2, 1, 3, 3), 3, 3) == ["...", "#..", "#.."]
    assert grid(Runs(np.array([0, 9]), 5, -7, 3, 3), 3, 3) == ["..."] * 3


def test_ellipses_boxes_and_lines() -> None:
    assert grid(Ellipse((2, 2), (2, 2)), 4, 4) == [".##.", "####", "####", ".##."]  # corners: 1.5^2 + 1.5^2 > 2^2
    assert grid(Ellipse((2, 2), (2, 0)), 4, 1) == ["...."]
    clockwise = ["#....", ".##..", ".###.", "..##.", "....#"]
    assert grid(Ellipse((2.5, 2.5), (3, 0.8), 45), 5, 5) == clockwise
    assert grid(box(0, 1, 4, 3), 4, 4) == ["....", "####", "####", "...."]
    assert grid(box(0, 1, 4, 3, 90), 4, 4) == [".##."] * 4
    assert grid(box(-1, 2.2, 6, 2.8, 45), 5, 5) == ["#....", ".#...", "..#..", "...#.", "....#"]
    line = Line(np.array([[1.5, 1.5], [3.5, 1.5], [3.5, 4.5]]))
    assert grid(line, 5, 4, 1) == [".....", ".###.", "...#.", "...#."]
    assert grid(line, 5, 4, 2)[:2] == [".###.", "#####"]  # a centre that is 1 away is in
    assert grid(line, 5, 4) == ["....."] * 4
    assert grid(Line(np.array([[1.5, 1.5]])), 3, 3, 3) == ["..."] * 3


def test_run_lengths() -> None:
    assert grid(Runs(np.array([1, 2, 3]), 1, 0, 3, 2), 4, 2) == ["..##", "...."]
    assert grid(Runs(np.array([1, 2, 3]), 1, 0, 3, 2, by_columns=True), 4, 2) == ["..#.", ".#.."]
    for mask in (np.eye(3, dtype=bool), np.ones((2, 3), bool), np.zeros((2, 3), bool), np.zeros((0, 3), bool)):
        height, width = mask.shape
        expected = ["".join(".#"[int(v)] for v in row) for row in mask]
        assert grid(runs_of(mask, 0, 0), width, height) == expected


def test_what_lies_on_top() -> None:
    """Classes that are drawn first, levels, smaller ones; or later ones."""
    shapes = [Shape("small", box(0, 0, 1, 1)), Shape("large", box(0, 0, 3, 1)), Shape("middle", box(0, 0, 2, 1))]
    names = {shape.label: shape.label for shape in shapes}

    def row(order: Order, *level: int) -> list[int]:
        moved = [Shape(s.label, s.area, None, up) for s, up in zip(shapes, level or (0, 0, 0), strict=True)]
        places, covered = draw(moved, names, (4, 1), order)
        assert covered == [1, 3, 2]
        return places[0].tolist()

    assert row(Order()) == [0, 2, 1, NOTHING]
    assert row(Order(as_listed=True)) == [2, 2, 1, NOTHING]
    assert row(Order(), 0, 1, 0) == [1, 1, 1, NOTHING]
    assert row(Order(first=["small", "middle"]), 9, 0, 0) == [1, 1, 1, NOTHING]
    assert row(Order(first=["large", "small"])) == [2, 2, 1, NOTHING]


# ---------------------------------------------------------------------------------------------------------- Labelme


def test_labelme_comes_out_as_maps(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    """A wall that is drawn after its window and its door does not hide them; two parts of a door are one object."""
    photo(tmp_path / "photos/a.jpg")
    parts = [rectangle("door", 3, 3, 2, 2, group_id=0), rectangle("door", 3, 0, 4, 1, group_id=0)]
    write(tmp_path / "ann/a.json", labelme([rectangle("window", 0, 0, 1, 1), *parts, rectangle("wall", 0, 0, 4, 2)]))
    out = run("--labelme", tmp_path / "ann")
    assert classes(out) == ["door", "wall", "window"]
    assert ids(out / "train_label/a.png") == [[2, 1, 1, 0], [1, 1, 1, 1], [255, 255, 0, 255]]
    assert ids(out / "train_inst/a.png") == [[256, 258, 258, 257], [258, 258, 258, 258], [255, 255, 257, 255]]
    assert (out / "train_img/a.jpg").read_bytes() == (tmp_path / "photos/a.jpg").read_bytes()
    printed = capsys.readouterr().out
    assert "     1  wall     50.00% in 1 photos" in printed and "   255  unknown  25.00% in 1 photos" in printed
    command = train_command(printed)
    assert command == [
        *("--name", "out", "--dataset_mode", "custom", "--label_dir", f"{out}/train_label"),
        *("--image_dir", f"{out}/train_img", "--instance_dir", f"{out}/train_inst", "--label_nc", "3"),
        *("--contain_dontcare_label", "--class_table", f"{out}/classes.json", "--batchSize", "1"),
    ]
    opt = TrainOptions().parse([*command, "--gpu_ids", "-1", "--preprocess_mode", "none", "--no_flip"])
    item = create_dataset(opt)[0]
    assert item["label"].unique().tolist() == [0, 1, 2, 3]  # 3: unknown
    assert item["instance"].unique().tolist() == [255, 256, 257, 258]


def test_background_void_merge_and_stuff(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.jpg")
    shapes = [rectangle(label, x, 0, x + 1, 1) for x, label in enumerate(("truck", "car", "glare", "sky"))]
    write(tmp_path / "ann/a.json", labelme(shapes))
    flags = ("--labelme", tmp_path / "ann", "--merge", "truck=car", "--void", "glare", "--background", "ground")
    out = run(*flags, "--stuff", "sky", "ground")
    assert classes(out) == ["car", "ground", "sky"]
    assert ids(out / "train_label/a.png") == [[0, 0, 255, 2], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert ids(out / "train_inst/a.png") == [[256, 257, 255, 2], [1, 1, 1, 1], [1, 1, 1, 1]]
    out = run(*flags[:-2], "--void", "glare", "--background", "sky", "--no_instance", out="other")
    assert classes(out) == ["car", "sky"] and ids(out / "train_label/a.png")[1] == [1, 1, 1, 1]
    assert "--no_instance" in capsys.readouterr().out and not (out / "train_inst").exists()
    out = run(*flags[:-2], "--background", "truck", out="third")  # which is a car by now
    assert classes(out) == ["car", "sky"] and ids(out / "train_label/a.png")[1] == [0, 0, 0, 0]
    for flag, names, message in (
        ("--void", ["glair"], r"--void: there is no glair; there are car, glare, sky"),
        ("--merge", ["truk=car"], r"--merge: there is no truk; there are car, glare, sky, truck"),
        ("--merge", ["truck=car", "car=auto"], r"car is a new name and an old one; give the last name at once"),
        ("--merge", ["truck"], r"--merge 'truck': it is OLD=NEW"),
        ("--stuff", ["truck"], r"--stuff: there is no truck; there are car, ground, sky"),
        ("--draw_first", ["water"], r"--draw_first: there is no water; there are car, glare, ground, sky"),
        ("--background", ["glare"], r"--background glare is --void"),
    ):
        with pytest.raises(UserError, match=message):
            run(*flags, flag, *names, out="new")
    with pytest.raises(UserError, match=r"the name of class 'r\\udcff' is no UTF-8"):
        run("--labelme", tmp_path / "ann", "--merge", "car=r\udcff", out="new")
    with pytest.raises(UserError, match="no class is left"):
        run("--labelme", tmp_path / "ann", "--void", "truck", "car", "glare", "sky", out="new")
    assert not (tmp_path / "new").exists()


def test_a_flag_that_is_given_twice_adds_up(tmp_path: Path, run) -> None:
    photo(tmp_path / "photos/a.jpg")
    write(tmp_path / "ann/a.json", labelme([rectangle(label, x, 0, x + 1, 3) for x, label in enumerate("abcd")]))
    flags = ("--merge", "a=b", "--merge", "c=d", "--stuff", "b", "--stuff", "d")
    out = run("--labelme", tmp_path / "ann", *flags)
    assert classes(out) == ["b", "d"] and ids(out / "train_inst/a.png")[0] == [0, 0, 1, 1]
    out = run("--labelme", tmp_path / "ann", "--void", "a", "--void", "c", out="b")
    assert ids(out / "train_label/a.png")[0] == [255, 0, 255, 1]
    write(tmp_path / "ann/a.json", labelme([ALL, rectangle("a", 0, 0, 2, 3), rectangle("b", 1, 0, 2, 3)]))
    out = run("--labelme", tmp_path / "ann", "--draw_first", "b", "--draw_first", "a", out="c")
    assert ids(out / "train_label/a.png")[0] == [2] * 4  # b under a under the wall


def test_a_table_fixes_the_classes(tmp_path: Path, run) -> None:
    photo(tmp_path / "photos/a.jpg")
    write(tmp_path / "ann/a.json", labelme([ALL, rectangle("tree", 0, 0, 1, 1), rectangle("tree", 1, 0, 2, 1)]))
    table = write(tmp_path / "names.txt", "tree\nsky\n# not yet: water\n\nwall\n")
    out = run("--labelme", tmp_path / "ann", "--classes", table)
    assert classes(out) == ["tree", "sky", "wall"]  # with sky, which nobody drew
    assert ids(out / "train_label/a.png")[0] == [0, 0, 2, 2]
    table = write(tmp_path / "few.txt", "wall\nsky\n")
    flags = ("--labelme", tmp_path / "ann", "--classes", table)
    with pytest.raises(UserError, match=r"has no tree \(2 shapes\): add them to it, rename them \(--merge OLD=NEW\)"):
        run(*flags, out="new")
    assert ids(run(*flags, "--merge", "tree=sky", out="b") / "train_label/a.png")[0] == [1, 1, 0, 0]
    assert ids(run(*flags, "--void", "tree", out="c") / "train_label/a.png")[0] == [255, 255, 0, 0]


@pytest.mark.parametrize(
    "text",
    [
        "7 128 64 128 road\n9 0 0 0 sky\n",
        "0 sky\n1 road\n",
        "0:sky\n1:road\n",
        "0,sky,1,2,3\n1,road,2,3,4\n",
        "300\tsky\n",
    ],
)
def test_lines_that_begin_with_ids_are_refused(tmp_path: Path, text: str) -> None:
    """They would be taken for colours and names; one name may begin with a number."""
    table = write(tmp_path / "t.txt", text)
    with pytest.raises(UserError, match=r"--classes .*t.txt, line 1: .* seems to begin with an id. .* class table"):
        read_table(str(table), "--classes")
    write(table, "2 wheeler\ncar\n4x4\n")
    assert read_table(str(table), "--classes").names == {0: "2 wheeler", 1: "car", 2: "4x4"}


def test_classes_of_one_name_are_said(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.jpg", 3, 1)
    write(tmp_path / "maps/a.png", png(np.array([[0, 1, 2]], np.uint8)))
    table = write(tmp_path / "t.txt", "road\nsky\nroad\n")
    out = run("--label_maps", tmp_path / "maps", "--classes", table)
    assert ids(out / "train_label/a.png") == [[0, 1, 0]]  # ids of a text are the places of its lines
    assert "note: several classes of the table share a name, and become one: road (2)" in capsys.readouterr().out


def test_lines_of_a_table_that_are_too_long_are_none(tmp_path: Path) -> None:
    """A thousand characters are a name; a file of more is something else."""
    table = write(tmp_path / "t.txt", "x" * 1000)
    assert len(read_table(str(table), "--classes").names[0]) == 1000
    write(table, "x" * 1001)
    with pytest.raises(UserError, match="line 1: not all lines are a class"):
        read_table(str(table), "--classes")


def test_names_that_are_much_alike_are_said(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.jpg")
    write(tmp_path / "ann/a.json", labelme([ALL, rectangle(" Wall", 0, 0, 1, 1)]))
    run("--labelme", tmp_path / "ann")
    assert "note: Wall and wall are two classes" in capsys.readouterr().out


def test_all_kinds_of_labelme_shapes(tmp_path: Path) -> None:
    mask = base64.b64encode(png(np.array([[0, 1], [1, 0]], np.uint8))).decode()
    shapes = [
        {"label": "a", "points": [[0, 0], [2, 0], [2, 1]]},
        {"label": "a", "points": [[0, 0], [2, 0], [2, 1], [0, 1]], "shape_type": None},  # as old versions have it
        rectangle("a", 2, 3, 0, 1),
        {"label": "a", "points": [[2, 2], [2, 4]], "shape_type": "circle"},
        {"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": mask},
        {"label": "a", "points": [[0, 0], [2, 0]], "shape_type": "line"},
        {"label": "a", "points": [[0, 0], [2, 0], [3, 1]], "shape_type": "linestrip", "group_id": 4},
        {"label": "a", "points": [[0, 0]], "shape_type": "point"},
        {
            "label": "a",
            "points": [[2, -0.5], [4.5, 2], [2, 4.5], [-0.5, 2]],
            "shape_type": "rotation",
        },  # of X-AnyLabeling
    ]
    write(tmp_path / "a.json", labelme(shapes))
    drawing = read_labelme("a.json", tmp_path)
    assert (drawing.name, drawing.size, drawing.left_out) == ("a.jpg", (4, 3), {"point": 1})
    areas = [shape.area for shape in drawing.shapes]
    assert grid(areas[2], 4, 4) == ["....", "##..", "##..", "...."]
    assert grid(areas[3], 4, 4) == [".##.", "####", "####", ".##."]
    assert grid(areas[4], 4, 4) == ["....", "..#.", ".#..", "...."]
    assert [shape.group for shape in drawing.shapes] == [None] * 6 + [4, None]
    assert grid(areas[7], 4, 4) == [".##.", "####", "####", ".##."]
    assert grid(areas[6], 4, 2, 1)[0] == "###."


@pytest.mark.parametrize(
    ("path", "file", "name"),
    [
        ("..\\photos\\a b.jpg", "x.json", "photos/a b.jpg"),
        ("/pictures/a.jpg", "x.json", "pictures/a.jpg"),
        ("C:\\data\\a.jpg", "deep/x.json", "data/a.jpg"),
        ("../../../etc/passwd", "x.json", "etc/passwd"),
        ("./a.jpg", "north/x.json", "north/a.jpg"),
        ("", "x.json", ""),
    ],
)
def test_where_a_labelme_file_says_its_photo_is(tmp_path: Path, path: str, file: str, name: str) -> None:
    write(tmp_path / file, labelme([ALL], path))
    assert read_labelme(file, tmp_path).name == name


def test_photos_are_found_by_name_whatever_the_folders(tmp_path: Path, run) -> None:
    names = Names(["a/x.jpg", "b/x.jpg", "b/y.png", "Straße.JPG", "z.jpg", "deep/z.jpg"])
    assert names.find("elsewhere/b/x.png") == ["b/x.jpg"]
    assert names.find("x.jpg") == ["a/x.jpg", "b/x.jpg"]  # it is not clear which
    assert names.find("z.jpg") == ["z.jpg"] and names.find("of/deep/z.jpg") == ["deep/z.jpg"]
    assert names.find("STRASSE.png") == ["Straße.JPG"]
    assert names.find("q.jpg") == []
    assert names.find("c/x") == ["a/x.jpg", "b/x.jpg"] and names.find("b/x") == ["b/x.jpg"]
    assert Names(["a/x.jpg", "b/x.png"]).find("x.png") == ["a/x.jpg", "b/x.png"]  # endings tell no folders apart
    assert Names(["a/x.jpg", "a/x.png", "A/x.png"]).find("a/x.png") == ["a/x.png"]
    assert Names(["img.jpg", "img.1.jpg"]).find("img.1") == ["img.1.jpg"]
    assert Names(["caf\u00e9.jpg"]).find("cafe\u0301.png") == ["caf\u00e9.jpg"]  # as a Mac writes it
    assert Names(["cafe\u0301/1.jpg", "cafe/1.jpg"]).find("caf\u00e9/1.png") == ["cafe\u0301/1.jpg"]
    assert plain_name("C:/a/../b//c.jpg") == "b/c.jpg"
    for folder in ("north", "south"):
        photo(tmp_path / f"photos/{folder}/x.jpg", seed=len(folder))
        shape = rectangle(folder, 0, 0, 4, 3)
        write(tmp_path / f"ann/{folder}/x.json", labelme([shape], "x.jpg"))
    out = run("--labelme", tmp_path / "ann")
    assert made(out)[:2] == ["train_img/south_x.jpg", "train_img/x.jpg"]
    assert (out / "train_img/x.jpg").read_bytes() == (tmp_path / "photos/north/x.jpg").read_bytes()
    assert outcome(out, "label") == {"x": [[0] * 4] * 3, "south_x": [[1] * 4] * 3}


def test_no_photo_takes_another_folders_annotation(tmp_path: Path, run) -> None:
    """cam0/0 has no map of its own; that of cam1/0, whose photo is gone, is not taken instead."""
    for name in ("cam0/0", "cam1/1"):
        photo(tmp_path / f"photos/{name}.jpg")
    for name in ("cam1/0", "cam1/1"):
        write(tmp_path / f"maps/{name}.png", png(np.zeros((3, 4), np.uint8)))
    reason = "cam1/0.png is not taken for that of cam0/0.jpg, which is in another folder"
    with pytest.raises(
        UserError, match=rf"1 label map of whose name there are photos in other folders alone \({reason}"
    ):
        run("--label_maps", tmp_path / "maps")
    out = run("--label_maps", tmp_path / "maps", "--partial")
    assert made(out) == ["train_img/1.jpg", "train_label/1.png"]
    assert (out / "left_out.txt").read_text().splitlines() == [reason, "cam0/0.jpg: photo without an annotation"]


@pytest.mark.parametrize("kind", ["labelme", "cvat", "coco"])
def test_no_annotation_takes_another_folders_photo(tmp_path: Path, run, kind: str) -> None:
    """All photos are of seq1, all annotations but that of seq1/1 there: it is seq2/1 that has one."""
    for name in "01":
        photo(tmp_path / f"photos/seq1/{name}.jpg", seed=int(name))
    names = ("seq1/0", "seq2/0", "seq2/1")
    if kind == "labelme":
        for name in names:
            write(tmp_path / f"ann/{name}.json", labelme([ALL], f"{name[-1]}.jpg"))
        flags = ("--labelme", tmp_path / "ann")
    elif kind == "cvat":
        flags = ("--cvat", write(tmp_path / "a.xml", cvat(*(cvat_image(BOXED, name=f"{name}.jpg") for name in names))))
    else:
        images = [{"id": i, "file_name": f"{name}.jpg", "width": 4, "height": 3} for i, name in enumerate(names)]
        shapes = [{"image_id": i, "category_id": 9, "segmentation": [[0, 0, 4, 0, 4, 3]]} for i in range(3)]
        flags = ("--coco_json", write(tmp_path / "a.json", {**coco(shapes), "images": images}))
    with pytest.raises(
        UserError, match=r"2 annotations of whose name .* \(seq2/0\.\w+ is not taken .* and 1 more\); 1 photo w"
    ):
        run(*flags)
    out = run(*flags, "--partial")
    assert (out / "train_img/0.jpg").read_bytes() == (tmp_path / "photos/seq1/0.jpg").read_bytes()
    assert made(out) == ["train_img/0.jpg", "train_inst/0.png", "train_label/0.png"]


def test_folders_that_nobody_else_names_may_differ(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/frames/7.jpg")
    write(tmp_path / "maps/masks/7.png", png(np.zeros((3, 4), np.uint8)))
    out = run("--label_maps", tmp_path / "maps")
    assert made(out) == ["train_img/7.jpg", "train_label/7.png"]
    assert "(frames/7.jpg by masks/7.png); look whether they belong together" in capsys.readouterr().out
    (tmp_path / "maps/masks").rename(tmp_path / "maps/old")
    write(tmp_path / "maps/7.png", png(np.ones((3, 4), np.uint8)))  # fits as well
    with pytest.raises(UserError, match="frames/7.jpg has two label maps: 7.png and old/7.png"):
        run("--label_maps", tmp_path / "maps", out="new")
    (tmp_path / "photos/frames/7.jpg").rename(tmp_path / "photos/7.jpg")
    out = run("--label_maps", tmp_path / "maps", "--partial", out="c")  # fits better
    assert classes(out) == ["class 1"] and "old/7.png" in (out / "left_out.txt").read_text()


def test_a_copied_labelme_file_is_not_taken_for_another_photos(tmp_path: Path, run) -> None:
    for name in "ab":
        photo(tmp_path / f"photos/{name}.jpg")
    write(tmp_path / "ann/a.json", labelme([ALL]))
    write(tmp_path / "ann/b.json", labelme([rectangle("tree", 0, 0, 4, 3)]))  # whose imagePath is a.jpg
    flags = ("--labelme", tmp_path / "ann")
    with pytest.raises(UserError, match=r"b.json says that it belongs to a.jpg \(imagePath\), and there is b.jpg too"):
        run(*flags)
    out = run(*flags, "--by_file_name")
    assert outcome(out, "label") == {"a": [[1] * 4] * 3, "b": [[0] * 4] * 3}
    (tmp_path / "photos/b.jpg").unlink()
    with pytest.raises(UserError, match=r"of one photo there are several annotations \(a.jpg by a.json, b.json\)"):
        run(*flags, "--partial", out="new")


def test_an_image_path_that_fits_several_photos(tmp_path: Path, run) -> None:
    """The file's own name decides, if it is clearer; else it is refused."""
    for name in ("north/x", "south/x"):
        photo(tmp_path / f"photos/{name}.jpg", seed=len(name))
    write(tmp_path / "ann/south/x.json", labelme([ALL], "..\\x.jpg"))
    out = run("--labelme", tmp_path / "ann", "--partial")
    assert (out / "train_img/x.jpg").read_bytes() == (tmp_path / "photos/south/x.jpg").read_bytes()
    (tmp_path / "ann/south/x.json").rename(tmp_path / "ann/y.json")
    with pytest.raises(UserError, match=r"x.jpg may belong to north/x.jpg, south/x.jpg: take those out of --images"):
        run("--labelme", tmp_path / "ann", "--partial", out="new")


def test_a_stale_image_path_gives_way_to_the_files_name(tmp_path: Path, run) -> None:
    photo(tmp_path / "photos/new.jpg")
    write(tmp_path / "photos/new.json", labelme([ALL], "old.jpg"))  # beside the photos
    assert made(run("--labelme", tmp_path / "photos"))[0] == "train_img/new.jpg"


def test_what_is_left_out_is_said(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    for name in "abcd":
        photo(tmp_path / f"photos/{name}.jpg")
    line = {"label": "rope", "points": [[0, 1.5], [4, 1.5]], "shape_type": "line"}
    hidden = rectangle("box", 1, 1, 2, 2)
    write(tmp_path / "ann/a.json", labelme([line, ALL, hidden, rectangle("tree", 8, 8, 9, 9)]))
    write(tmp_path / "ann/b.json", labelme([], "b.jpg"))
    write(tmp_path / "ann/c.json", '{"shapes": [')
    write(tmp_path / "ann/e.json", labelme([ALL], "e.jpg"))
    flags = ("--labelme", tmp_path / "ann", "--draw_first", "box")
    with pytest.raises(UserError) as error:
        run(*flags)
    for part in (
        "1 annotation without a photo (e.json)",
        "1 annotation without shapes (--background NAME says what all of it is) (b.json)",
        "1 annotation that cannot be read",
        "c.json is no Labelme file, or a damaged one",
        "3 photos without an annotation (b.jpg, c.jpg, d.jpg)",
        "pass --partial to go on with all others",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()
    out = run(*flags, "--partial")
    assert outcome(out, "label") == {"a": [[2] * 4] * 3}
    printed = capsys.readouterr().out
    assert "what has no area is left out (line 1); --line_width N draws lines" in printed
    assert "1 shapes lie wholly under others (box: 1); --draw_first NAME" in printed
    assert "1 shapes cover no pixel (tree: 1)" in printed
    assert (out / "left_out.txt").read_text().splitlines()[0] == "e.json: annotation without a photo"
    assert len((out / "left_out.txt").read_text().splitlines()) == 6
    write(tmp_path / "others/e.json", labelme([ALL], "e.jpg"))
    with pytest.raises(UserError, match=r"1 annotation without a photo .*; mend that; nothing else is there"):
        run("--labelme", tmp_path / "others", "--partial", out="new")
    out = run(*flags, "--partial", "--line_width", "1", out="lines")
    assert ids(out / "train_label/a.png") == [[3] * 4, [1] * 4, [3] * 4] and classes(out)[1] == "rope"


# ------------------------------------------------------------------------------------------------------------- CVAT


def cvat(*images: str, labels: str = "") -> str:
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    begin = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f"{begin}{meta}{''.join(images)}</annotations>"


def cvat_image(*shapes: str, name: str = "a.jpg", size: tuple[int, int] = (4, 3)) -> str:
    return f'<image id="0" name="{name}" width="{size[0]}" height="{size[1]}">{"".join(shapes)}</image>'


def cvat_label(name: str, color: str) -> str:
    return (
        f"<label><name>{name}</name><color>{color}</color><attributes><attribute><name>age</name></attribute>"
        "</attributes></label>"
    )


BOXED = '<box label="ship" xtl="0" ytl="0" xbr="1" ybr="2" z_order="-1" occluded="0" group_id="7"/>'


def test_cvat_comes_out_as_maps(tmp_path: Path, run) -> None:
    """z_order decides where shapes overlap; classes are in the task's order, with its colours, as far as they occur."""
    photo(tmp_path / "photos/task/a.jpg")
    labels = cvat_label("sky", "#0a0b0c") + cvat_label("ship", "#ff0000") + cvat_label("crane", "nonsense")
    labels += cvat_label("bird", "#000001")
    content = cvat(
        cvat_image(
            BOXED,
            '<polygon label="sky" points="0.00,0.00;4.00,0.00;4.00,1.00;0.00,1.00" z_order="0"/>',
            '<box label="ship" xtl="2" ytl="2" xbr="3" ybr="3" z_order="0" group_id="7"><attribute name="age">3'
            "</attribute></box>",
            '<mask label="crane" rle="1, 1, 1, 1" left="2" top="0" width="2" height="2" z_order="1"/>',
            '<points label="ship" points="1,1"/><polyline label="ship" points="1,1;2,2"/><tag label="wet"/>',
            '<cuboid label="ship" xtl1="1"/>',
            name="task/a.jpg",
        ),
        labels=labels,
    )
    file = write(tmp_path / "annotations.xml", content)
    out = run("--cvat", file, "--stuff", "sky")
    held = json.loads((out / "classes.json").read_text())["classes"]
    assert held == [
        {"id": 0, "name": "sky", "color": [10, 11, 12]},
        {"id": 1, "name": "ship", "color": [255, 0, 0]},
        {"id": 2, "name": "crane"},
    ]
    assert ids(out / "train_label/a.png") == [[0, 0, 0, 2], [1, 255, 255, 2], [255, 255, 1, 255]]
    assert ids(out / "train_inst/a.png") == [[0, 0, 0, 257], [256, 255, 255, 257], [255, 255, 256, 255]]
    (drawing,) = read_cvat(file)[0]
    assert drawing.left_out == {"points": 1, "tag": 1, "cuboid": 1}
    alone = [BOXED.replace('group_id="7"', f'xtl="{x}" {group}') for x, group in enumerate(("", 'group_id="0"'))]
    alone = [box.replace(' xtl="0" ytl', " ytl").replace('xbr="1"', f'xbr="{x + 1}"') for x, box in enumerate(alone)]
    file_of_two = write(tmp_path / "two.xml", cvat(cvat_image(*alone, name="task/a.jpg")))
    assert ids(run("--cvat", file_of_two, out="two") / "train_inst/a.png")[0] == [256, 257, 255, 255]  # no group
    twice = write(tmp_path / "twice.xml", cvat(*[cvat_image(shape) for shape in [BOXED] * 2]))
    with pytest.raises(UserError, match=r"of one photo there are several annotations \(task/a.jpg by a.jpg, a.jpg\)"):
        run("--cvat", twice, out="new")
    write(file, content.replace("ship", "boat"))  # which is another export
    with pytest.raises(UserError, match="classes.json has other classes than the annotations have now: give a new"):
        run("--cvat", file, "--stuff", "sky")


def test_cvats_ellipses_and_turned_boxes(tmp_path: Path) -> None:
    shapes = (
        '<ellipse label="a" cx="2.5" cy="2.5" rx="3" ry="0.8" rotation="45.0"/>',
        '<box label="a" xtl="-1" ytl="2.2" xbr="6" ybr="2.8" rotation="45"/>',
    )
    (drawing,), table = read_cvat(write(tmp_path / "a.xml", cvat(cvat_image(*shapes, size=(5, 5)))))
    ellipse, turned = (shape.area for shape in drawing.shapes)
    assert grid(ellipse, 5, 5) == ["#....", ".##..", ".###.", "..##.", "....#"]
    assert grid(turned, 5, 5)[0] == "#...." and not table.names


# ------------------------------------------------------------------------------------------------------------- COCO


def coco(annotations: list[dict], size: tuple[int, int] = (4, 3)) -> dict:
    return {
        "images": [{"id": 5, "file_name": "photos/a.jpg", "width": size[0], "height": size[1]}],
        "annotations": [{"id": i, "image_id": 5, "iscrowd": 0, **a} for i, a in enumerate(annotations)],
        "categories": [{"id": 9, "name": "zebra"}, {"id": 3, "name": "grass"}, {"id": 4, "name": "car"}],
    }


def test_coco_json_comes_out_as_maps(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    """Polygons of several parts, crowds in run lengths; classes in the order of category ids, as far as they occur."""
    photo(tmp_path / "photos/a.jpg")
    crowd = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], bool)
    parts = [[0, 0, 1, 0, 1, 1, 0, 1], [3, 0, 4, 0, 4, 1, 3, 1]]
    annotations = [
        {"category_id": 9, "segmentation": parts},
        {"category_id": 3, "segmentation": {"size": [3, 4], "counts": run_lengths(crowd)}, "iscrowd": 1},
        {"category_id": 4, "bbox": [0, 0, 2, 2]},
    ]
    out = run("--coco_json", write(tmp_path / "a.json", coco(annotations)))
    assert classes(out) == ["grass", "zebra"]
    assert ids(out / "train_label/a.png") == [[1, 0, 255, 1], [0, 0, 255, 255], [0, 0, 0, 0]]
    assert ids(out / "train_inst/a.png")[0] == [256, 257, 255, 256]
    assert "what has no area is left out (annotation without segmentation 1)" in capsys.readouterr().out


def test_an_image_with_a_damaged_annotation_is_left_out(tmp_path: Path, run) -> None:
    for name in "ab":
        photo(tmp_path / f"photos/{name}.jpg")
    held = coco([{"category_id": 9, "segmentation": [[0, 0, 1, 0, 1, 1]]}, {"category_id": 8}])
    held["images"].append({"id": 6, "file_name": "photos/b.jpg", "width": 4, "height": 3})
    held["annotations"].append({"id": 7, "image_id": 6, "category_id": 9, "segmentation": [[0, 0, 4, 0, 4, 3, 0, 3]]})
    flags = ("--coco_json", write(tmp_path / "a.json", held))
    with pytest.raises(
        UserError, match=r"1 annotation that cannot be read \(.*a.json: image 'photos/a.jpg', annotation 1: "
    ):
        run(*flags)
    out = run(*flags, "--partial")
    assert outcome(out, "label") == {"b": [[0] * 4] * 3} and classes(out) == ["zebra"]


def test_compressed_run_lengths_are_read_without_pycocotools(tmp_path: Path) -> None:
    """9, 1, 9, 2, 50, 1: digits of 5 bits from the character 0 on; from the 4th number on less the last but one."""
    # 9 -> '9', 1 -> '1', 9 -> '9', 2 - 1 -> '1', 50 - 9 = 41 = 01001 + 32 * 1 -> 'Y1', 1 - 2 = -1 -> 'O'
    held = coco([{"category_id": 9, "segmentation": {"size": [8, 9], "counts": "9191Y1O"}}], (9, 8))
    (drawing,), _ = read_coco(write(tmp_path / "a.json", held))
    assert drawing.shapes[0].area.counts.tolist() == [9, 1, 9, 2, 50, 1]


def test_compressed_run_lengths_are_those_of_pycocotools(tmp_path: Path) -> None:
    masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for density in (0.0, 0.01, 0.5, 1.0):
        mask = rng.random((40, 60)) < density
        encoded_mask = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation = {"size": [40, 60], "counts": encoded_mask["counts"].decode()}
        held = coco([{"category_id": 9, "segmentation": segmentation}], (60, 40))
        (drawing,), _ = read_coco(write(tmp_path / "a.json", held))
        rows, columns, part = drawing.shapes[0].area.covered((60, 40), 0)
        assert (rows, columns) == (slice(0, 40), slice(0, 60)) and (part == mask).all()


# ---------------------------------------------------------------------------------------------------- hostile files


PAINTED = base64.b64encode(png(np.array([[[0, 1, 2]]], np.uint8))).decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no JSON .Expecting value"),
        (b"\xff\xfe\x00", "it is no text in UTF-8"),
        ("[" * 100_000, "it is nested too deeply"),
        ("[1]", "a part of it is of another kind than it should be"),
        ({"shapes": [3]}, "a part of it is of another kind than it should be"),
        ({"version": "5"}, "it has no 'shapes'"),
        (
            labelme([{"label": "a", "points": [[0, 0], [1, 1], [float("nan"), 2]]}]),
            r"shape 1 \('a'\): a coordinate of nan",
        ),
        (
            labelme([ALL, {"label": "a", "points": [[0, 0], [1, 1], [1e300, 2]]}]),
            r"shape 2 \('a'\): a coordinate of 1e",
        ),
        (labelme([{"label": "a", "points": [[0, 0, 0]]}]), r"points \[\[0, 0, 0\]\], which are no pairs of x and y"),
        (
            labelme([{"label": "a", "points": [[0, 0], [1]]}]),
            r"points \[\[0, 0\], \[1\]\], which are no pairs of numbers",
        ),
        (labelme([{"label": "a", "points": {"x": 1}}]), "points {'x': 1}, which are no pairs of numbers"),
        (labelme([{"label": "a", "points": None}]), "points None, which are no pairs"),
        (labelme([{"label": ["a"], "points": []}]), "where a name should be"),
        (labelme([rectangle("\ud800", 0, 0, 1, 1)]), "which is no text in UTF-8, where a name should be"),
        (labelme([{"points": []}]), "it has no 'label'"),
        (labelme([{"label": "a", "points": [[0, 0]], "shape_type": "circle"}]), "a circle of 1 points, not 2"),
        (labelme([{"label": "a", "points": [], "shape_type": "blob"}]), "shape_type 'blob', which is none of polygon"),
        (
            labelme([{"label": "a", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "!!"}]),
            "its mask is no text of base64",
        ),
        (
            labelme([{"label": "a", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "AAAA"}]),
            "its mask cannot",
        ),
        (
            labelme([{"label": "a", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": PAINTED}]),
            r"its mask has Pillow mode RGB, but a map of ids has one integer channel \(8, 16 or 32 bits\)$",
        ),
        (labelme([{"label": "a", "points": [], "group_id": [1]}]), r"group_id \[1\]"),
        (labelme([ALL], size=(-4, 3)), "a size of -4 x 3"),
        (labelme([ALL], size=("4", "3")), "a size of '4' x '3'; width and height are whole numbers from 1 on"),
        (labelme([ALL], size=(float("inf"), 3)), "a size of inf x 3"),
        (labelme([ALL], size=(4.5, 3)), "a size of 4.5 x 3"),
        ({**labelme([ALL]), "imagePath": 3}, "imagePath 3"),
    ],
)
def test_labelme_files_that_are_none(tmp_path: Path, content: object, message: str) -> None:
    write(tmp_path / "a.json", content)
    with pytest.raises(UserError, match=rf"a\.json is no Labelme file, or a damaged one: .*(?i:{message})"):
        read_labelme("a.json", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "it declares a document type"),
        ("", "no element found"),
        ("<annotations><image", "unclosed token"),
        ("<html></html>", "it begins with <html>, not <annotations>"),
        (b"PK\x03\x04", "it is a zip archive; unpack it, and give the annotations.xml in it"),
        (cvat('<track id="0" label="a"></track>'), "it has tracks, .* export the task as `CVAT for images 1.1`"),
    ],
)
def test_cvat_files_that_are_none(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.xml is no export .*, or a damaged one: .*{message}"):
        read_cvat(write(tmp_path / "a.xml", content))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (cvat('<image name="a" width="4"></image>'), "image 'a': it has no 'height'"),
        (cvat('<image name="a" width="4" height="x"></image>'), "'x' where a whole number should be"),
        (cvat('<image name="a" width="0" height="0"></image>'), "a size of 0 x 0; width and height are whole numbers"),
        (cvat(cvat_image('<polygon label="a" points="1,2;3"/>')), r"image 'a.jpg', shape 1 \('a'\): points 1,2;3"),
        (cvat(cvat_image('<polygon label="a" points="1,x;3,4"/>')), "points .* are no pairs of numbers"),
        (cvat(cvat_image('<box label="a" xtl="1" ytl="b" xbr="2" ybr="3"/>')), "'b' where a number should be"),
        (
            cvat(cvat_image(*(f'<box label="a" xtl="{x}" ytl="1" xbr="2" ybr="3"/>' for x in "bc"))),
            "'b' where a number",
        ),
        (cvat(cvat_image('<polygon label="a" points="1,nan;3,4"/>')), "a coordinate of nan"),
        (cvat(cvat_image('<box label="a" xtl="1" ytl="inf" xbr="2" ybr="3"/>')), "a coordinate of inf"),
        (cvat(cvat_image('<box label="a" xtl="1" ytl="1" xbr="2" ybr="3" rotation="nan"/>')), "a coordinate of nan"),
        (cvat(cvat_image('<box xtl="1" ytl="1" xbr="2" ybr="3"/>')), "it has no 'label'"),
        (
            cvat(cvat_image('<mask label="a" rle="1,9999999999999999" left="0" top="0" width="99999999" height="9"/>')),
            "a mask of 99999999 x 9 at 0, 0 in a picture of 4 x 3",
        ),
        (
            cvat(cvat_image('<mask label="a" rle="1,99999999999999999999" left="0" top="0" width="2" height="2"/>')),
            "run lengths",
        ),
        (cvat(cvat_image('<mask label="a" rle="1,-1,4" left="0" top="0" width="2" height="2"/>')), "run lengths"),
    ],
)
def test_images_of_cvat_that_cannot_be_used(tmp_path: Path, content: str, problem: str) -> None:
    """The others of the file can."""
    content = content.replace("</annotations>", cvat_image(BOXED, name="b.jpg") + "</annotations>")
    bad, good = read_cvat(write(tmp_path / "a.xml", content))[0]
    assert re.search(problem, bad.problem)
    assert (good.name, good.problem, len(good.shapes)) == ("b.jpg", "", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "a part of it is of another kind than it should be"),
        ({**coco([]), "images": None}, "a part of it is of another kind than it should be"),
        ({"images": [], "annotations": []}, "it has no 'categories'"),
        (coco([{"category_id": 9, "image_id": 6}]), "image_id 6, which is not in the file"),
        ({**coco([]), "annotations": [{"segments_info": []}]}, "panoptic export"),
        (
            {**coco([]), "images": [{"id": 1, "file_name": "a", "width": 2, "height": 2}] * 2},
            "two images have the id 1",
        ),
    ],
)
def test_coco_files_that_are_none(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.json is no COCO annotation file, or a damaged one: .*{message}"):
        read_coco(write(tmp_path / "a.json", content))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (coco([{"category_id": 9, "segmentation": [[0, 0, 1, 0, 1]]}]), "annotation 0: an outline of 5 numbers"),
        (
            coco([{"category_id": 9, "segmentation": [["x", 0, 1, 0]]}]),
            r"annotation 0: points \['x', 0, 1, 0\], which are no",
        ),
        (coco([{"category_id": 8}]), "annotation 0: category_id 8, which is not in the file"),
        (coco([{"category_id": 9, "segmentation": {"size": [4, 3], "counts": [12]}}]), "run lengths of 3 x 4"),
        (
            coco([{"category_id": 9, "segmentation": {"size": [3, 4], "counts": [5]}}]),
            "run lengths of 5 pixels, not 4 x 3",
        ),
        (coco([{"category_id": 9, "segmentation": {"size": [3, 4], "counts": "\x00"}}]), "character"),
        (coco([{"category_id": 9, "segmentation": {"size": [3, 4], "counts": "P"}}]), "cut short"),
        (coco([{"category_id": 9, "segmentation": {"size": [3, 4], "counts": "o" * 99}}]), "60 bits"),
        (
            coco([{"category_id": 9, "segmentation": 3}]),
            "annotation 0: a part of it is of another kind than it should be",
        ),
        (coco([{"category_id": 8}, {"category_id": 7}]), "annotation 0: category_id 8"),
        (coco([{"category_id": [9]}]), "annotation 0: a part of it is of another kind"),
        (coco([], size=(0, 0)), "a size of 0 x 0; width and height are whole numbers from 1 on"),
    ],
)
def test_images_of_coco_that_cannot_be_used(tmp_path: Path, content: dict, problem: str) -> None:
    """The others of the file can."""
    content["images"].append({"id": 6, "file_name": "b.jpg", "width": 4, "height": 3})
    content["annotations"].append({"id": 99, "image_id": 6, "category_id": 9, "segmentation": [[0, 0, 1, 0, 1, 1]]})
    bad, good = read_coco(write(tmp_path / "a.json", content))[0]
    assert re.search(f"image 'photos/a.jpg'.*{problem}", bad.problem)
    assert (good.name, good.problem, len(good.shapes)) == ("b.jpg", "", 1)


# -------------------------------------------------------------------------------------------------------- label maps


def test_ids_with_gaps_become_0_to_n(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    """Ids of 16 bits, and 255 for pixels of no class as in other data sets."""
    photo(tmp_path / "photos/a.jpg", 3, 2)
    write(tmp_path / "maps/a.png", png(np.array([[7, 7, 300], [255, 40, 40]], np.uint16)))
    flags = ("--label_maps", tmp_path / "maps")
    out = run(*flags)
    assert classes(out) == ["class 7", "class 40", "class 300"]
    assert ids(out / "train_label/a.png") == [[0, 0, 2], [255, 1, 1]] and not (out / "train_inst").exists()
    printed = capsys.readouterr().out
    assert "id 255 (16.7% of the pixels) is taken for unknown; --merge 255=NAME makes it a class" in printed
    assert "--no_instance" in printed and "--contain_dontcare_label" in printed
    out = run(*flags, "--merge", "255=edge", "40=7", "300=big", out="b")
    assert classes(out) == ["class 7", "edge", "big"] and ids(out / "train_label/a.png") == [[0, 0, 2], [1, 0, 0]]
    assert "--contain_dontcare_label" not in capsys.readouterr().out
    assert ids(run(*flags, "--void", "7", out="c") / "train_label/a.png") == [[255, 255, 1], [255, 0, 0]]
    table = write(tmp_path / "t.json", {"classes": [{"id": 40, "name": "sea"}, {"id": 7, "name": "sky"}]})
    with pytest.raises(UserError, match=r"has no class 300 \(1 pixels\)"):
        run(*flags, "--classes", table, out="new")
    out = run(*flags, "--classes", table, "--merge", "300=sea", out="d")
    assert classes(out) == ["sky", "sea"] and ids(out / "train_label/a.png") == [[0, 0, 1], [255, 1, 1]]


def test_masks_of_0_and_255_have_two_classes(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.jpg", 2, 1)
    write(tmp_path / "maps/a.png", png(np.array([[0, 255]], np.uint8)))
    out = run("--label_maps", tmp_path / "maps", "--merge", "255=cat", "0=ground")
    assert ids(out / "train_label/a.png") == [[0, 1]] and classes(out) == ["ground", "cat"]
    capsys.readouterr()
    out = run("--label_maps", tmp_path / "maps", out="b")
    assert ids(out / "train_label/a.png") == [[0, 1]] and classes(out) == ["class 0", "class 255"]
    assert "255 is taken for a class" in capsys.readouterr().out


def test_255_beside_two_classes_is_unknown(tmp_path: Path, run) -> None:
    photo(tmp_path / "photos/a.jpg", 3, 1)
    write(tmp_path / "maps/a.png", png(np.array([[0, 1, 255]], np.uint8)))
    out = run("--label_maps", tmp_path / "maps")
    assert ids(out / "train_label/a.png") == [[0, 1, 255]] and classes(out) == ["class 0", "class 1"]


def test_255_classes_leave_255_for_unknown(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.jpg", 16, 16)
    write(tmp_path / "maps/a.png", png(np.arange(256, dtype=np.uint8).reshape(16, 16)))
    out = run("--label_maps", tmp_path / "maps", "--instance_maps", tmp_path / "maps")
    label = Image.open(out / "train_label/a.png")
    assert label.mode == "L" and np.asarray(label).tolist() == np.arange(256).reshape(16, 16).tolist()
    words = train_command(capsys.readouterr().out)
    assert words[words.index("--label_nc") + 1] == "255" and "--unknown_id" not in words
    assert np.asarray(Image.open(out / "train_inst/a.png"))[0, :2].tolist() == [0, 256]
    run("--label_maps", tmp_path / "maps", "--merge", "255=edge", out="b")  # 256 of them, and nothing unknown
    words = train_command(capsys.readouterr().out)
    assert words[words.index("--label_nc") + 1] == "256" and "--contain_dontcare_label" not in words


def test_more_than_255_classes_take_16_bits(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.jpg", 300, 2)
    label = np.arange(600).reshape(2, 300) // 2
    write(tmp_path / "maps/a.png", png(label.astype(np.uint16)))
    out = run("--label_maps", tmp_path / "maps", "--merge", "255=x", "--void", "299")
    assert np.array(ids(out / "train_label/a.png")).max() == 299  # the first number beside 299 classes
    assert "--label_nc 299 --contain_dontcare_label --unknown_id 299" in re.sub(
        r"\s+\\?\s*", " ", capsys.readouterr().out
    )
    photo(tmp_path / "photos/a.jpg", 40, 40)
    write(tmp_path / "maps/a.png", png(np.arange(1600, dtype=np.uint16).reshape(40, 40)))
    with pytest.raises(UserError, match="label maps hold 1,599 ids, more than there are classes: are they inst"):
        run("--label_maps", tmp_path / "maps", out="new")


PALETTES = {
    "first.txt": "# made by hand\n0 0 0 sky and clouds\n128\t64\t128\troad\n\n255 0 0 car\n",
    "name.txt": "sky and clouds: 0,0,0\nroad: 128, 64, 128\ncar: 255,0,0\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky and clouds:0,0,0::\nroad:128,64,128::\ncar:255,0,0:wheel:\n",
    "dict.csv": "name,r,g,b\nsky and clouds,0,0,0\nroad,128,64,128\ncar,255,0,0\n",
    "table.json": json.dumps(
        {
            "classes": [
                {"id": 3, "name": "sky and clouds", "color": [0, 0, 0]},
                {"id": 8, "name": "road", "color": [128, 64, 128]},
                {"id": 9, "name": "car", "color": [255, 0, 0]},
            ]
        }
    ),
}


@pytest.mark.parametrize("name", PALETTES)
def test_painted_maps_and_the_forms_of_palettes(tmp_path: Path, name: str) -> None:
    table = read_table(str(write(tmp_path / name, PALETTES[name])), "--palette")
    assert list(table.names.values()) == ["sky and clouds", "road", "car"]
    assert list(table.colors.values()) == [(0, 0, 0), (128, 64, 128), (255, 0, 0)]


def test_painted_maps(tmp_path: Path, run) -> None:
    """RGB, RGBA and PNGs with a palette of their own; what the palette has and no map keeps its place."""
    colors = np.array([[[0, 0, 0], [255, 0, 0], [128, 64, 128]]], np.uint8)
    painted = Image.fromarray(colors)
    for name, picture in {"a": painted, "b": painted.convert("RGBA"), "c": painted.quantize(3)}.items():
        photo(tmp_path / f"photos/{name}.jpg", 3, 1)
        write(tmp_path / f"maps/{name}.png", encoded(picture, "PNG"))
    palette = write(tmp_path / "p.txt", "255 255 255 snow\n" + PALETTES["first.txt"])
    flags = ("--label_maps", tmp_path / "maps", "--palette", palette)
    out = run(*flags)
    assert outcome(out, "label") == {"a": [[1, 3, 2]], "b": [[1, 3, 2]], "c": [[1, 3, 2]]}
    assert json.loads((out / "classes.json").read_text())["classes"][3] == {
        "id": 3,
        "name": "car",
        "color": [255, 0, 0],
    }
    assert ids(run(*flags, "--merge", "car=road", "--void", "snow", out="b") / "train_label/a.png") == [[0, 1, 1]]
    merged = json.loads((run(*flags, "--merge", "road=car", out="c") / "classes.json").read_text())["classes"]
    assert merged[2:] == [{"id": 2, "name": "car", "color": [255, 0, 0]}]  # its own, not that of the road
    colors[0, 0] = 1  # smoothed
    write(tmp_path / "maps/a.png", png(colors))
    with pytest.raises(UserError, match=r"has colours of no class of --palette .*p.txt: \(1, 1, 1\) once; add them"):
        run(*flags, out="new")
    with pytest.raises(UserError, match=r"--palette TABLE reads it"):
        run("--label_maps", tmp_path / "maps", out="new")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 0 sky\n0 0 300 sea\n", r"line 2: not all lines are a class"),
        ("0 0 0 sky\nsea\n", r"line 2: not all lines are a class; they are `R G B name` or `name: R,G,B`"),
        ("", "line 1: not all lines"),
        (b"\x89PNG\xff", "is no text"),
        ("0 0 0 sky\n0 0 0 sea\n", r"--palette .*: sky \(0\) and sea \(1\) share the colour \(0, 0, 0\)"),
        ("sky\nsea\n", r'--palette .*: no class has a "color"'),
        ('{"classes": 3}', "is no class table"),
    ],
)
def test_palettes_that_are_none(tmp_path: Path, run, text: object, message: str) -> None:
    photo(tmp_path / "photos/a.jpg")
    (tmp_path / "maps").mkdir()
    with pytest.raises(UserError, match=message):
        run("--label_maps", tmp_path / "maps", "--palette", write(tmp_path / "p.txt", text))
    with pytest.raises(UserError, match="there is no class table gone.json"):
        run("--label_maps", tmp_path / "maps", "--palette", "gone.json")


def test_instance_maps_are_numbered_anew(tmp_path: Path, run) -> None:
    """What is one number and one class is one object; 0 and stuff are none; colours are numbers, black is 0."""
    photo(tmp_path / "photos/a.jpg", 4, 1)
    write(tmp_path / "maps/a.png", png(np.array([[3, 3, 5, 5]], np.uint8)))
    write(tmp_path / "objects/a.png", png(np.array([[0, 9, 9, 2]], np.uint16)))
    flags = ("--label_maps", tmp_path / "maps", "--instance_maps", tmp_path / "objects")
    assert outcome(run(*flags), "inst") == {"a": [[0, 257, 258, 256]]}
    assert outcome(run(*flags, "--stuff", "5", out="b"), "inst") == {"a": [[0, 256, 1, 1]]}
    assert outcome(run(*flags, "--void", "5", out="c"), "inst") == {"a": [[0, 256, 255, 255]]}
    colors = [[[0, 0, 0], [9, 9, 9], [9, 9, 9], [0, 0, 200]]]
    write(tmp_path / "objects/a.png", png(np.array(colors, np.uint8)))
    assert outcome(run(*flags, out="d"), "inst") == {"a": [[0, 257, 258, 256]]}
    seen_through = np.dstack([np.array(colors, np.uint8), np.array([[0, 7, 255, 0]], np.uint8)])  # RGBA
    write(tmp_path / "objects/a.png", png(seen_through))
    assert outcome(run(*flags, out="rgba"), "inst") == {"a": [[0, 257, 258, 256]]}  # by colour alone
    write(tmp_path / "objects/a.png", png(np.zeros((2, 8), np.uint8)))
    with pytest.raises(UserError, match=r"objects/a.png is 8 x 2 and .*maps/a.png is 4 x 1 .*; sizes must be equal"):
        run(*flags, out="e")
    (tmp_path / "objects/a.png").rename(tmp_path / "objects/b.png")
    with pytest.raises(UserError, match=r"none of the instance maps in .* has the name of a photo, such as b.png"):
        run(*flags, out="new")


def test_objects_of_300_classes_are_numbered_behind_them(tmp_path: Path, run) -> None:
    """Classes are 0 .. 299 and unknown is 300, so that the first object is 301."""
    photo(tmp_path / "photos/a.jpg", 300, 1)
    write(tmp_path / "maps/a.png", png(np.arange(300, dtype=np.uint16)[None]))
    write(tmp_path / "objects/a.png", png(np.array([[7] + [0] * 299], np.uint8)))
    flags = ("--label_maps", tmp_path / "maps", "--merge", "255=edge")
    out = run(*flags, "--instance_maps", tmp_path / "objects")
    assert ids(out / "train_inst/a.png")[0][:3] == [301, 1, 2]


def test_more_objects_than_16_bits_hold_are_refused(tmp_path: Path, run) -> None:
    """256 + 65,280 objects are numbers up to 65,535, one more is not."""
    photo(tmp_path / "photos/a.jpg", 350, 200)
    write(tmp_path / "maps/a.png", png(np.zeros((200, 350), np.uint8)))
    numbers = np.arange(70_000).reshape(200, 350)
    colors = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], -1).astype(np.uint8)
    flags = ("--label_maps", tmp_path / "maps", "--instance_maps", tmp_path / "objects")
    write(tmp_path / "objects/a.png", png(colors))
    with pytest.raises(UserError, match=r"objects/a.png has objects beyond the number 65,535, .* \(--stuff\)"):
        run(*flags)
    colors[numbers > 65_281] = 0
    write(tmp_path / "objects/a.png", png(colors))
    with pytest.raises(UserError, match="beyond the number 65,535"):
        run(*flags)
    colors[numbers > 65_280] = 0
    write(tmp_path / "objects/a.png", png(colors))
    assert np.array(ids(run(*flags) / "train_inst/a.png")).max() == 65_535


def test_maps_whose_names_end_otherwise(tmp_path: Path, run) -> None:
    """All in one folder, too."""
    photo(tmp_path / "photos/a.jpg", 2, 1)
    for end in ("", "_inst", "_L"):
        write(tmp_path / f"maps/a{end}.png", png(np.array([[len(end), 1]], np.uint8)))
    (tmp_path / "maps/a.png").unlink()
    with pytest.raises(UserError, match=r"if a_L.png belongs to a, pass --label_suffix=_L"):
        run("--label_maps", tmp_path / "maps")
    flags = ("--label_suffix", "_L", "--instance_suffix", "_inst", "--instance_maps")
    out = run("--label_maps", tmp_path / "maps", *flags, tmp_path / "maps")
    assert (outcome(out, "label"), outcome(out, "inst")) == ({"a": [[1, 0]]}, {"a": [[257, 256]]})
    for path in (tmp_path / "maps").iterdir():
        path.rename(tmp_path / "photos" / path.name)
    folder = tmp_path / "photos"
    out = run("--label_maps", folder, *flags, folder, out="b")
    assert made(out) == ["train_img/a.jpg", "train_inst/a.png", "train_label/a.png"]
    with pytest.raises(UserError, match="maps is the folder of --images; pass --label_suffix, which tells"):
        run("--label_maps", folder, out="new")


def test_names_that_leave_no_room_for_endings_are_shortened(tmp_path: Path, run) -> None:
    """File systems take 255 bytes, and a file is called x.png.tmp before it takes its place."""
    for end in "ab":
        photo(tmp_path / f"photos/{'x' * 250}{end}.jpg", 2, 1)
        write(tmp_path / f"maps/{'x' * 250}{end}.png", png(np.zeros((1, 2), np.uint8)))
    assert len(made(run("--label_maps", tmp_path / "maps"))) == 4


def test_label_maps_below_the_photos_are_no_photos(tmp_path: Path, run) -> None:
    photo(tmp_path / "photos/a.png", 2, 1)
    photo(tmp_path / "photos/.trash/b.png", 2, 1)
    write(tmp_path / "photos/maps/a.png", png(np.array([[4, 4]], np.uint8)))
    assert made(run("--label_maps", tmp_path / "photos/maps")) == ["train_img/a.png", "train_label/a.png"]


def test_label_maps_that_cannot_be_used(tmp_path: Path, run) -> None:
    for name in "abc":
        photo(tmp_path / f"photos/{name}.jpg")
    write(tmp_path / "maps/a.png", jpeg(4, 3))
    write(tmp_path / "maps/b.png", png(np.zeros((4, 3), np.uint8)))
    write(tmp_path / "maps/c.png", png(np.zeros((6, 8), np.uint8)))  # twice as large, which is well
    with pytest.raises(UserError, match="2 photos that cannot be used .*a.png is a JPEG, whose compression"):
        run("--label_maps", tmp_path / "maps")
    out = run("--label_maps", tmp_path / "maps", "--partial")
    rule = "b.jpg is 4 x 3, but annotated as 3 x 4 (width x height): they may differ in size, but not in shape"
    assert rule in (out / "left_out.txt").read_text()
    assert np.array(ids(out / "train_label/c.png")).shape == (6, 8) and len(made(out)) == 2
    write(tmp_path / "maps/c.bmp", encoded(Image.new("L", (4, 3)), "BMP"))
    with pytest.raises(UserError, match=r"c.jpg has two label maps: c.bmp and c.png; take one of them out"):
        run("--label_maps", tmp_path / "maps", "--partial")


# -------------------------------------------------------------------------------------------- photos that are turned


def turned(path: Path, orientation: int, **options: object) -> Path:
    """A photo of 4 x 2 pixels whose camera was held otherwise: red left, blue right."""
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, :2, 0] = pixels[:, 2:, 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp", "a.tif"])
def test_a_photo_that_was_annotated_upright_is_written_upright(
    tmp_path: Path, run, capsys: pytest.CaptureFixture, name: str
) -> None:
    """Orientation 6: the right side of the file is the bottom of what was annotated, 2 wide and 4 high."""
    turned(tmp_path / "photos" / name, 6, **({} if name.endswith(("png", "tif")) else {"quality": 95}))
    write(tmp_path / "ann/a.json", labelme([rectangle("top", 0, 0, 2, 2), rectangle("low", 0, 2, 2, 4)], name, (2, 4)))
    out = run("--labelme", tmp_path / "ann")
    suffix = {"a.JPEG": ".jpg", "a.webp": ".png"}.get(name, name[1:])
    written = Image.open(out / f"train_img/a{suffix}")
    written.load()
    assert written.size == (2, 4) and ids(out / "train_label/a.png") == [[1, 1], [1, 1], [0, 0], [0, 0]]
    if not name.endswith("tif"):  # which Pillow turns while it reads it, for the loader too
        assert written.getexif().get(0x0112, 1) == 1
        assert "1 photos are stored turned (EXIF), and written upright" in capsys.readouterr().out
    pixels = np.asarray(written.convert("RGB")).astype(int)
    assert (pixels[:2, :, 0] > pixels[:2, :, 2]).all() and (pixels[2:, :, 0] < pixels[2:, :, 2]).all()


def test_a_photo_that_was_annotated_as_stored_is_copied(tmp_path: Path, run) -> None:
    original = turned(tmp_path / "photos/a.jpg", 8)
    write(tmp_path / "ann/a.json", labelme([ALL], size=(4, 2)))
    out = run("--labelme", tmp_path / "ann")
    assert (out / "train_img/a.jpg").read_bytes() == original.read_bytes()
    write(tmp_path / "ann/a.json", labelme([ALL], size=(2, 4)))  # annotated anew, otherwise
    os.utime(tmp_path / "ann/a.json", ns=(2**62, 2**62))
    assert Image.open(run("--labelme", tmp_path / "ann") / "train_img/a.jpg").size == (2, 4)
    write(tmp_path / "ann/a.json", labelme([ALL], size=(4, 3)))
    with pytest.raises(UserError, match=r"is 4 x 2 \(shown as 2 x 4\), but annotated as 4 x 3 .*: sizes must be equal"):
        run("--labelme", tmp_path / "ann", out="new")


def test_an_orientation_that_there_is_not_is_none(tmp_path: Path, run) -> None:
    original = turned(tmp_path / "photos/a.jpg", 9)
    write(tmp_path / "maps/a.png", png(np.zeros((2, 4), np.uint8)))
    out = run("--label_maps", tmp_path / "maps")
    assert (out / "train_img/a.jpg").read_bytes() == original.read_bytes()
    write(tmp_path / "maps/a.png", png(np.zeros((4, 2), np.uint8)))
    with pytest.raises(UserError, match=r"a.jpg is 4 x 2, but annotated as 2 x 4"):
        run("--label_maps", tmp_path / "maps", out="new")


def test_upside_down_sizes_do_not_tell(tmp_path: Path, run) -> None:
    """So that it was annotated as programs show it, unless --ignore_exif says otherwise."""
    original = turned(tmp_path / "photos/a.jpg", 3, quality=95)
    write(tmp_path / "maps/a.png", png(np.zeros((2, 4), np.uint8)))
    written = np.asarray(Image.open(run("--label_maps", tmp_path / "maps") / "train_img/a.jpg"))
    assert (written[:, :2, 2] > 200).all()  # blue is left
    out = run("--label_maps", tmp_path / "maps", "--ignore_exif", out="b")
    assert (out / "train_img/a.jpg").read_bytes() == original.read_bytes()
    original.unlink()
    original = turned(tmp_path / "photos/a.tif", 3)  # which needs no turning, since Pillow turns it for the loader
    out = run("--label_maps", tmp_path / "maps", out="t")
    assert (out / "train_img/a.tif").read_bytes() == original.read_bytes()
    original.unlink()
    write(tmp_path / "ann/a.json", labelme([ALL], size=None))
    turned(tmp_path / "photos/a.jpg", 5)
    assert np.array(ids(run("--labelme", tmp_path / "ann", out="c") / "train_label/a.png")).shape == (4, 2)


# ------------------------------------------------------------------------------------------------------------- parts


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """20 photos of 5 films, and their label maps."""
    for i in range(20):
        photo(tmp_path / f"photos/film{i % 5}_{i:02}.jpg", seed=i)
        write(tmp_path / f"maps/film{i % 5}_{i:02}.png", png(np.full((3, 4), i % 2, np.uint8)))
    return tmp_path / "maps"


def validation(out: Path) -> set[str]:
    labels, photos = ({path.stem for path in out.glob(f"val_{kind}/*")} for kind in ("label", "img"))
    assert labels == photos and not labels & {path.stem for path in out.glob("train_label/*")}
    return labels


def test_the_split_is_a_function_of_names_and_seed(tmp_path: Path, run, films: Path) -> None:
    flags = ("--label_maps", films)
    first = validation(run(*flags, "--val", "0.25"))
    assert len(first) == 5 and validation(run(*flags, "--val", "5", out="b")) == first
    assert validation(run(*flags, "--val", "5", "--seed", "1", out="c")) != first
    other = next(path for path in films.iterdir() if path.stem not in first)
    other.unlink()
    (tmp_path / "photos" / f"{other.stem}.jpg").unlink()
    assert validation(run(*flags, "--val", "5", out="d")) == first
    with pytest.raises(UserError, match=r"--val 19 holds back all of the 19 photos; take fewer, or --val 0 for none"):
        run(*flags, "--val", "19", out="new")


def test_shares_are_of_the_decimal_number_that_is_given() -> None:
    """0.07 * 100 is 7.000000000000001 in binary fractions, and 7 of 100."""
    names = [str(i) for i in range(100)]
    assert len(validation_part(names, 0.07, 0)) == 7 and len(validation_part(names, 0.071, 0)) == 8
    assert len(validation_part(names, 0.001, 0)) == 1 and not validation_part(names, 0, 0)
    assert validation_part(names, 7, 0) == validation_part(names, 0.07, 0) < validation_part(names, 8, 0)


def test_groups_are_counted_by_their_images() -> None:
    """As near to the number as whole groups come."""
    names = [name for name, count in {"a": 50, "b": 20, "c": 20, "d": 9, "e": 1}.items() for _ in range(count)]

    def held_back(amount: float) -> list[int]:
        return [sum(name in validation_part(names, amount, seed) for name in names) for seed in range(20)]

    assert set(held_back(1)) == {1}  # e alone, not 50 images for one
    assert all(10 <= count <= 30 for count in held_back(20)) and held_back(20) == held_back(0.2)
    assert all("a" not in validation_part(names, 20, seed) for seed in range(20))  # 50 are farther from 20 than none
    assert len({frozenset(validation_part(names, 20, seed)) for seed in range(20)}) > 1
    assert all(validation_part(["x"] * 9 + ["y"] * 8, 1, seed) == {"y"} for seed in range(8))  # the smallest


def test_groups_stay_together(run, films: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ("--label_maps", films, "--val", "0.2", "--group_by")
    for out, expression in (("a", r"film(\d)_\d+"), ("b", r"film\d")):
        held_back = validation(run(*flags, expression, out=out))
        assert len(held_back) == 4 and len({name[:5] for name in held_back}) == 1
    assert (
        len(validation(run(*flags[:2], "--val", "8", "--group_by", r"film\d", out="eight"))) == 8
    )  # photos, not groups
    run(*flags, r"(film[0-3])_", out="c")
    assert "--group_by does not match 4 photos, which stand alone (film4_04.jpg" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--group_by scene\(\.\) matches no photo, such as film0_00.jpg"):
        run(*flags, "scene(.)", out="new")
    with pytest.raises(UserError, match=r"holds back all of the 1 groups of photos"):
        run(*flags, "film", out="new")
    with pytest.raises(UserError, match=r"--group_by '\(' is no regular expression"):
        run(*flags, "(", out="new")


def test_a_group_that_is_called_as_a_photo_is_another(tmp_path: Path, run) -> None:
    """The group x.jpg of y/x.jpg_1 and _2, and the photo x.jpg, which stands alone."""
    for name in ("x", "x.jpg_1", "x.jpg_2"):
        photo(tmp_path / f"photos/{name}.jpg")
        write(tmp_path / f"maps/{name}.png", png(np.zeros((3, 4), np.uint8)))
    parts = set()
    for seed in range(8):
        flags = ("--label_maps", tmp_path / "maps", "--val", "1", "--seed", seed, "--group_by", r"(.*)_\d")
        parts.add(frozenset(validation(run(*flags, out=f"out{seed}"))))
    assert parts == {frozenset({"x"})}  # the only group of one photo


def test_a_list_says_what_is_held_back(tmp_path: Path, run, films: Path) -> None:
    names = write(tmp_path / "val.txt", "film0_00\r\nsome\\where\\film1_01.png\n\nfilm2_02.jpg\n")
    flags = ("--label_maps", films, "--val_list", names)
    assert validation(run(*flags)) == {"film0_00", "film1_01", "film2_02"}
    photo(tmp_path / "photos/img.1.png"), photo(tmp_path / "photos/img.png"), photo(tmp_path / "photos/a.b.jpg")
    for name in ("img.1", "img", "a.b"):
        write(films / f"{name}.png", png(np.zeros((3, 4), np.uint8)))
    write(names, "img.1\na.b.jpg\n")  # dots in names, with and without an ending
    assert validation(run(*flags, out="dots")) == {"img.1", "a.b"}
    write(names, "img.2\n")  # which is no img
    with pytest.raises(UserError, match=r"1 lines are not the name of one photo \(img.2\)"):
        run(*flags, out="new")
    write(names, "film0_00\nfilm0_01\n")
    with pytest.raises(UserError, match=r"val.txt: 1 lines are not the name of one photo \(film0_01\)"):
        run(*flags, out="new")
    assert validation(run(*flags, "--partial", out="b")) == {"film0_00"}


def test_a_line_without_an_ending_prefers_none(tmp_path: Path, run) -> None:
    for name in ("img.1.jpg", "img.1.png"):
        photo(tmp_path / "photos" / name)
        write(tmp_path / f"ann/of_{name[-3:]}.json", labelme([ALL], name))
    flags = ("--labelme", tmp_path / "ann", "--val_list", write(tmp_path / "val.txt", "img.1\n"))
    with pytest.raises(UserError, match=r"1 lines are not the name of one photo \(img.1\)"):
        run(*flags)
    write(tmp_path / "val.txt", "img.1.png\n")
    assert [path.suffix for path in run(*flags).glob("val_img/*")] == [".png"]


def test_a_list_names_no_photo_of_another_folder(tmp_path: Path, run) -> None:
    for name in ("cam1/0", "cam1/1"):
        photo(tmp_path / f"photos/{name}.jpg")
        write(tmp_path / f"maps/{name}.png", png(np.zeros((3, 4), np.uint8)))
    names = write(tmp_path / "val.txt", "cam0/0\n")
    flags = ("--label_maps", tmp_path / "maps", "--val_list", names)
    with pytest.raises(UserError, match=r"1 lines are not the name of one photo \(cam0/0\)"):
        run(*flags)
    assert validation(run(*flags, "--partial")) == set()
    for folder in ("photos", "maps"):  # flat: which of two was it?
        for path in (tmp_path / folder / "cam1").iterdir():
            path.rename(tmp_path / folder / path.name)
    write(names, "cam0/0\ncam1/0\n")
    with pytest.raises(UserError, match=r"2 lines are not the name of one photo \(cam0/0, cam1/0\)"):
        run(*flags, out="b")
    write(names, "set/cam1/0.jpg\nset/cam1/0.png\n")
    assert validation(run(*flags, out="c")) == {"0"}


# ------------------------------------------------------------------------------------------------------ second runs


def times(out: Path) -> dict[str, int]:
    return {name: (out / name).stat().st_mtime_ns for name in made(out)}


def test_a_run_goes_on_and_a_second_one_does_nothing(tmp_path: Path, run, films: Path, capsys) -> None:
    flags = ("--label_maps", films, "--val", "4", "--instance_maps", films)
    out = run(*flags)
    before, printed = times(out), capsys.readouterr().out
    assert len(before) == 60
    assert times(run(*flags)) == before and capsys.readouterr().out == printed
    gone = [out / name for name in sorted(before)[::7]]
    for path in gone[1:]:
        path.unlink()
    gone[0].write_bytes(b"")  # after a power failure
    gone[1].with_name(f"{gone[1].name}.tmp").write_bytes(b"half of a")
    whole = next(path for path in out.glob("*_label/*") if path not in gone and path.stem not in {p.stem for p in gone})
    whole.write_bytes(b"damaged")
    assert run(*flags) and times(out).keys() == before.keys()
    changed = {name for name, time in times(out).items() if time != before[name]}
    assert {path.relative_to(out).as_posix() for path in [*gone, whole]} <= changed
    assert {Path(name).stem for name in changed} == {path.stem for path in [*gone, whole]}
    assert outcome(out, "label")[whole.stem] == [[int(whole.stem[-2:]) % 2] * 4] * 3
    with pytest.raises(UserError, match=r"was made with val 4.0, not 5.0: give a new folder, or delete that one"):
        run(*flags[:2], "--val", "5", *flags[4:])


def test_what_grew_is_no_other_photos(tmp_path: Path, run) -> None:
    """east/x takes the name x, which north/x had; its files are older than those that were made of north/x."""
    for name, label in (("north", "a"), ("south", "b")):
        photo(tmp_path / f"photos/{name}/x.jpg", seed=len(name + label))
        write(tmp_path / f"ann/{name}/x.json", labelme([rectangle(label, 0, 0, 4, 3)], "x.jpg"))
    out = run("--labelme", tmp_path / "ann")
    before = times(out)
    east = photo(tmp_path / "photos/east/x.jpg", seed=9)
    shapes = write(tmp_path / "ann/east/x.json", labelme([rectangle("b", 0, 0, 4, 3)], "x.jpg"))
    for path in (east, shapes):
        os.utime(path, (1e9, 1e9))
    run("--labelme", tmp_path / "ann")
    assert outcome(out, "label") == {"north_x": [[0] * 4] * 3, "south_x": [[1] * 4] * 3, "x": [[1] * 4] * 3}
    assert (out / "train_img/x.jpg").read_bytes() == east.read_bytes()
    after = times(out)
    assert {name for name in before if after[name] == before[name]} == {name for name in before if "south" in name}


@pytest.mark.parametrize("val", ["0.1", "4"])
@pytest.mark.parametrize("group", [(), ("--group_by", "^(..)")])
def test_what_grew_keeps_its_parts(tmp_path: Path, run, val: str, group: tuple[str, ...]) -> None:
    """However many photos come, those that are there stay in their part, and new ones fill the validation part up."""
    flags = ("--label_maps", tmp_path / "maps", "--val", val, *group)

    def grow(first: int, last: int) -> dict[str, str]:
        for i in range(first, last):
            photo(tmp_path / f"photos/{i:03d}.png")
            write(tmp_path / f"maps/{i:03d}.png", png(np.full((3, 4), i % 2, np.uint8)))
        out = run(*flags)
        return {path.stem: path.parent.name for path in out.glob("*_label/*")}

    parts: dict[str, str] = {}
    for first, last in ((0, 20), (20, 21), (21, 40)):
        before, parts = parts, grow(first, last)
        assert len(parts) == last and before.items() <= parts.items()
    held_back = sum(part == "val_label" for part in parts.values())
    assert held_back == 4 if not group else held_back in (10, 11)  # groups of ten, of which one is the nearest


def test_a_photo_that_is_damaged_later_is_left_out(tmp_path: Path, run) -> None:
    """With what was made of it before."""
    for name in "ab":
        photo(tmp_path / f"photos/{name}.jpg", width=40, height=30)
        write(tmp_path / f"maps/{name}.png", png(np.zeros((30, 40), np.uint8)))
    flags = ("--label_maps", tmp_path / "maps", "--partial")
    out = run(*flags)
    original = tmp_path / "photos/b.jpg"
    original.write_bytes(original.read_bytes()[:-200])
    run(*flags)
    assert made(out) == ["train_img/a.jpg", "train_label/a.png"]


def test_one_folder_by_several_names(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "photos/a.png")
    write(tmp_path / "maps/a.png", png(np.zeros((3, 4), np.uint8)))
    before = times(run("--label_maps", tmp_path / "maps"))
    monkeypatch.chdir(tmp_path)
    for name in ("maps", f"{tmp_path}/maps/", "./photos/../maps"):
        assert times(run("--label_maps", name)) == before


def test_corrections_in_one_file_of_all_annotations(tmp_path: Path, run) -> None:
    """What has other shapes is made anew, and nothing else; a blank that was added corrects nothing."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 4, "height": 3} for i in range(2)]
    for i in range(2):
        photo(tmp_path / f"photos/{i}.png")
    held = {"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": []}
    for i in range(2):
        outline = [[0, 0, 2, 0, 2, 3, 0, 3]]
        held["annotations"].append({"id": i, "image_id": i, "category_id": 1, "segmentation": outline})
    file = write(tmp_path / "all.json", held)
    out = run("--coco_json", file)
    before = times(out)
    write(file, json.dumps(held, indent=1))
    run("--coco_json", file)
    assert times(out) == before
    held["annotations"][1]["segmentation"] = [[0, 0, 3, 0, 3, 3, 0, 3]]
    write(file, held)
    run("--coco_json", file)
    assert {name for name, time in times(out).items() if time != before[name]} == {n for n in before if "1.png" in n}
    assert ids(out / "train_label/1.png")[0] == [0, 0, 0, 255]


def test_classes_that_stand_for_nothing(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.png")
    write(tmp_path / "maps/a.png", png(np.zeros((3, 4), np.uint8)))
    table = write(tmp_path / "names.txt", "unlabeled\nsea\n")
    run("--label_maps", tmp_path / "maps", "--classes", table)
    assert "note: 'unlabeled' is a class like any other; --void unlabeled makes its pixels unknown" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("kind", ["photos", "maps", "objects"])
def test_an_original_in_place_of_another_is_noticed(tmp_path: Path, run, kind: str) -> None:
    """Whatever its time; and no other photo's files are made again."""
    for name in "ab":
        photo(tmp_path / f"photos/{name}.png")
        for folder in ("maps", "objects"):
            write(tmp_path / f"{folder}/{name}.png", png(np.array([[0, 0, 0, 1]] * 3, np.uint8)))
    flags = ("--label_maps", tmp_path / "maps", "--instance_maps", tmp_path / "objects")
    out = run(*flags)
    before, file = times(out), tmp_path / kind / "a.png"
    if kind == "photos":
        photo(file, seed=1)
    else:
        write(file, png(np.array([[1, 1, 0, 1]] * 3, np.uint8)))
    os.utime(file, (1e9, 1e9))
    run(*flags)
    assert {name for name, time in times(out).items() if time != before[name]} == {n for n in before if "a.png" in n}
    assert (out / "train_img/a.png").read_bytes() == (tmp_path / "photos/a.png").read_bytes()
    assert outcome(out, "label")["a"][0] == ([1, 1, 0, 1] if kind == "maps" else [0, 0, 0, 1])
    expected = {"photos": [0, 0, 0, 256], "maps": [0 + 1, 1, 0, 256], "objects": [256, 256, 0, 257]}
    assert outcome(out, "inst")["a"][0] == expected[kind]
    before = times(out)
    run(*flags)
    assert times(out) == before


def test_files_that_nobody_knows_the_making_of_are_made_again(tmp_path: Path, run) -> None:
    """As after a power failure, whose last line is half; what makes no sense counts as not there."""
    for name in "abc":
        photo(tmp_path / f"photos/{name}.jpg")
        write(tmp_path / f"maps/{name}.png", png(np.zeros((3, 4), np.uint8)))
    out = run("--label_maps", tmp_path / "maps")
    before, ledger = times(out), out / "made_of.jsonl"
    first, second, third = ledger.read_bytes().splitlines()
    ledger.write_bytes(first + b"\n" + second.replace(b'"hidden": {}', b'"hidden": 3') + b"\n" + third[:-9])
    run("--label_maps", tmp_path / "maps")
    changed = {name for name, time in times(out).items() if time != before[name]}
    assert changed == {name for name in before if name[-5] in "bc"}
    before = times(out)
    run("--label_maps", tmp_path / "maps")
    assert times(out) == before


def test_what_was_half_made_is_made_again(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the photo and its label map, after the originals were changed, which then are as before."""
    original = photo(tmp_path / "photos/a.jpg")
    write(tmp_path / "maps/a.png", png(np.zeros((3, 4), np.uint8)))
    flags = ("--label_maps", tmp_path / "maps", "--instance_maps", tmp_path / "maps")
    out = run(*flags)
    before = original.read_bytes(), os.stat(original)
    photo(original, seed=1)

    left = [None, KeyboardInterrupt]  # the second map is not written

    def save(picture: Image.Image, path: Path) -> None:
        if left.pop(0):
            raise KeyboardInterrupt
        picture.save(path)

    monkeypatch.setattr("datasets.preparation.custom.save_image", save)
    with pytest.raises(KeyboardInterrupt):
        run(*flags)
    monkeypatch.undo()
    assert (out / "train_img/a.jpg").read_bytes() == original.read_bytes() != before[0]
    original.write_bytes(before[0])
    os.utime(original, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    run(*flags)
    assert (out / "train_img/a.jpg").read_bytes() == before[0] and len(made(out)) == 3


def test_a_second_run_says_what_the_first_one_said(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.jpg")
    hidden, empty = rectangle("bo\x1bx", 1, 1, 2, 2), rectangle("tree", 8, 8, 9, 9)
    write(tmp_path / "ann/a.json", labelme([ALL, hidden, empty]))
    flags = ("--labelme", tmp_path / "ann", "--draw_first", "bo\x1bx")
    run(*flags)
    first = capsys.readouterr().out
    run(*flags)
    assert capsys.readouterr().out == first
    assert r"1 shapes lie wholly under others (bo\x1bx: 1)" in first and "1 shapes cover no pixel (tree: 1)" in first
    assert r"in fewer than 1 training photos are bo\x1bx: 0, tree: 0;" in first  # escaped once


def test_classes_that_are_rare_are_said(run, films: Path, capsys: pytest.CaptureFixture) -> None:
    """Fewer than 10 training photos, or half of them: here class 2 is in 2 of 20, the others are in 9 and more."""
    for name in ("film0_00", "film1_01"):
        write(films / f"{name}.png", png(np.full((3, 4), 2, np.uint8)))
    run("--label_maps", films)
    assert "in fewer than 10 training photos are class 2: 2, class 0: 9, class 1: 9;" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "now", "name"),
    [
        (["--stuff", "wall"], [], r"stuff \['wall'\], not \[\]"),
        (["--val", "0.5"], ["--val", "0"], "val 0.5, not 0.0"),
        (["--link"], [], "link True, not False"),
        ([], ["--background", "wall"], "background None, not 'wall'"),
    ],
)
def test_other_flags_need_another_folder(tmp_path: Path, run, before: list, now: list, name: str) -> None:
    for photo_name in "ab":
        photo(tmp_path / f"photos/{photo_name}.jpg")
        write(tmp_path / f"ann/{photo_name}.json", labelme([ALL], f"{photo_name}.jpg"))
    out = run("--labelme", tmp_path / "ann", *before)
    made_before = times(out)
    with pytest.raises(UserError, match=rf"was made with {name}: give a new folder"):
        run("--labelme", tmp_path / "ann", *now)
    assert times(out) == made_before


def test_ledgers_that_end_in_half_a_line_go_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"")
    Ledger(path, "key").add({"key": "a"})
    Ledger(path, "key").add({"key": "b"})
    assert path.read_bytes() == b'{"key": "a"}\n{"key": "b"}\n'
    path.write_bytes(b'{"key": "a"}\n{"key": 7}\n{"ke')
    ledger = Ledger(path, "key")
    assert ledger.entries == {"a": {"key": "a"}}  # no number
    ledger.add({"key": "b"})
    ledger.add({"key": "c"})
    assert path.read_bytes() == b'{"key": "a"}\n{"key": 7}\n{"ke\n{"key": "b"}\n{"key": "c"}\n'
    assert list(Ledger(path, "key").entries) == ["a", "b", "c"]


def test_what_was_corrected_is_made_anew(tmp_path: Path, run) -> None:
    photo(tmp_path / "photos/a.jpg")
    file = write(tmp_path / "ann/a.json", labelme([ALL, rectangle("tree", 0, 0, 1, 1)]))
    out = run("--labelme", tmp_path / "ann")
    before = times(out)
    write(file, labelme([ALL, rectangle("tree", 3, 2, 4, 3)]))
    os.utime(file, ns=(2**62, max(before.values()) + 1))
    run("--labelme", tmp_path / "ann")
    assert ids(out / "train_label/a.png") == [[1] * 4, [1] * 4, [1, 1, 1, 0]]
    assert (out / "train_img/a.jpg").read_bytes() == (tmp_path / "photos/a.jpg").read_bytes()
    write(file, labelme([ALL, rectangle("bush", 3, 2, 4, 3)]))
    with pytest.raises(UserError, match=r"classes.json has other classes than the annotations have now: give a new"):
        run("--labelme", tmp_path / "ann")


def test_photos_that_are_gone_or_move_to_the_other_part(tmp_path: Path, run, films: Path) -> None:
    flags = ("--label_maps", films, "--val", "0.1", "--partial")
    out = run(*flags)
    for name in validation(out):
        (tmp_path / f"photos/{name}.jpg").unlink()
    with pytest.raises(
        UserError,
        match=r"out has files of photos that are gone, or in the other part now, or called otherwise \(.*_img",
    ):
        run(*flags)


def test_damaged_photos_are_told_at_the_end(tmp_path: Path, run, films: Path, capsys: pytest.CaptureFixture) -> None:
    original = tmp_path / "photos/film0_00.jpg"
    whole = photo(original, 4, 3).read_bytes()
    original.write_bytes(whole[:-40])
    flags = ("--label_maps", films)
    with pytest.raises(UserError, match=r"1 could not be prepared: .*film0_00.jpg cannot be read as an image: "):
        run(*flags)
    out = tmp_path / "out"
    assert len(list(out.glob("train_img/*"))) == len(list(out.glob("train_label/*"))) == 19
    run(*flags, "--partial")
    assert "left out are 1 photo that cannot be read" in capsys.readouterr().out
    assert "film0_00.jpg cannot be read" in (out / "left_out.txt").read_text()
    original.write_bytes(whole)
    run(*flags)
    assert len(list(out.glob("train_img/*"))) == 20 and not (out / "left_out.txt").exists()


def test_links(tmp_path: Path, run) -> None:
    original = photo(tmp_path / "photos/a.jpg")
    turned(tmp_path / "photos/b.jpg", 6)
    for name, size in (("a", (4, 3)), ("b", (2, 4))):
        write(tmp_path / f"ann/{name}.json", labelme([ALL], f"{name}.jpg", size))
    out = run("--labelme", tmp_path / "ann", "--link")
    assert (out / "train_img/a.jpg").resolve() == original and not (out / "train_img/b.jpg").is_symlink()
    before = times(out)
    assert times(run("--labelme", tmp_path / "ann", "--link")) == before


# ------------------------------------------------------------------------------------------------------------- flags


def test_flags_that_do_not_go_together(tmp_path: Path, run) -> None:
    photo(tmp_path / "photos/a.jpg")
    maps, ann = ("--label_maps", tmp_path / "photos"), ("--labelme", tmp_path / "photos")
    for flags, message in (
        ((), r"one of the arguments --label_maps --labelme --cvat --coco_json is required"),
        ((*maps, *ann), r"argument --labelme: not allowed with argument --label_maps"),
        ((*maps, "--background", "a", "--order", "file"), r"--background and --order: of use with shapes alone"),
        ((*ann, "--palette", "p.txt"), r"--palette: of use with --label_maps alone"),
        (("--cvat", tmp_path / "x.xml", "--by_file_name"), r"--by_file_name goes with --labelme alone"),
        ((*maps, "--palette", "a", "--classes", "b"), r"--classes is one table too many"),
        ((*maps, "--stuff", "a"), r"--stuff is for instance maps, and none are made"),
        ((*ann, "--val_list", "x", "--seed", "3"), r"drop --val, --seed and --group_by"),
        ((*ann, "--val", "2.5"), r"--val 2.5 is neither a share below 1 nor a whole number"),
        (("--labelme", tmp_path / "gone"), r"--labelme .*gone is not a folder"),
        (("--cvat", tmp_path / "gone.xml"), r"--cvat .*gone.xml is not a file"),
        ((*ann,), r"--labelme .*photos has no JSON files"),
        ((*ann, "--line_width", "-1"), r"not a number of at least 0"),
        ((*ann, "--background", ""), r"argument --background: '' is no name of a class"),
        ((*ann, "--void", "a", " "), r"argument --void: ' ' is no name of a class"),
        ((*ann, "--seed", "-5"), r"argument --seed: '-5' is not a whole number of at least 0"),
    ):
        with pytest.raises(UserError, match=message):
            run(*flags)
    with pytest.raises(UserError, match=r"--out .*photos/out is in --images .*photos, where nothing is written"):
        run(*ann, out="photos/out")
    (tmp_path / "photos/a.jpg").unlink()
    write(tmp_path / "photos/a.json", labelme([ALL]))
    with pytest.raises(UserError, match=r"--images .*photos has no photos \(.jpg, .png, ...\)"):
        run(*ann)
    write(tmp_path / "mine/diary.txt", "x")
    with pytest.raises(UserError, match=r"holds files that this command did not make \(diary.txt\)"):
        run(*ann, out="mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "photos"]


def test_names_that_a_terminal_would_obey_are_shown(tmp_path: Path, run, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "photos/a.jpg")
    write(tmp_path / "ann/a.json", labelme([rectangle("\x1b[31mred\nline", 0, 0, 4, 3)]))
    out = run("--labelme", tmp_path / "ann")
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and r"\x1b[31mred\nline" in printed and classes(out) == ["\x1b[31mred\nline"]


# --------------------------------------------------------------------------------------------------------- real data

NAMES = ("various", "building", "car", "door", "pavement", "road", "sky", "vegetation", "window")
COLORS = np.array(
    """0 0 0  128 0 0  128 0 128  128 128 0  128 128 128  128 64 0  0 128 128  0 128 0  0 0 128""".split(), np.uint8
).reshape(-1, 3)


def outline(mask: np.ndarray) -> list[list[int]]:
    """The outer outline of a 4-connected mask without holes, along the edges of its pixels, clockwise."""
    padded, after = np.pad(mask, 1), {}
    sides = (((0, 1), (0, 0), (1, 0)), ((1, 2), (1, 0), (1, 1)), ((2, 1), (1, 1), (0, 1)), ((1, 0), (0, 1), (0, 0)))
    for y, x in np.argwhere(mask).tolist():
        for (down, right), start, end in sides:
            if not padded[y + down, x + right]:
                after.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    at = first = min(after, key=lambda corner: corner[::-1])
    corners, step = [], (0, 0)
    while not corners or at != first:
        ways = after[at]  # two where pixels touch at a corner: to the right keeps to the same pixel
        end = max(ways, key=lambda end: step[0] * (end[1] - at[1]) - step[1] * (end[0] - at[0]))
        ways.remove(end)
        corners.append(list(at))
        step, at = (end[0] - at[0], end[1] - at[1]), end
    return corners


def outlines(label: np.ndarray) -> list[dict]:
    """A shape around each connected region of a label map, holes and all."""
    shapes = []
    for index in np.unique(label):
        regions, _ = ndimage.label(label == index)
        for number, window in enumerate(ndimage.find_objects(regions), start=1):
            corners = outline(ndimage.binary_fill_holes(regions[window] == number))
            moved = [[x + window[1].start, y + window[0].start] for x, y in corners]
            shapes.append({"label": NAMES[index], "points": moved})
    return shapes


@pytest.mark.real_data
def test_real_label_maps_come_back_from_colours_and_from_shapes(real_data: Path, tmp_path: Path, run) -> None:
    """Regions as polygons, which are drawn larger ones first, leave no pixel out and give none to another."""
    sample = real_data / "labelmefacade_256"
    originals = {}
    for path in sorted((sample / "val_label").iterdir())[:3]:
        label = np.asarray(Image.open(path))
        originals[path.stem] = label
        write(tmp_path / f"photos/{path.stem}.jpg", (sample / f"val_img/{path.stem}.jpg").read_bytes())
        write(tmp_path / f"maps/{path.stem}.png", png(COLORS[label]))
        size = (label.shape[1], label.shape[0])
        write(tmp_path / f"ann/{path.stem}.json", labelme(outlines(label), f"..\\photos\\{path.stem}.jpg", size))
    lines = [f"{red} {green} {blue} {name}" for (red, green, blue), name in zip(COLORS, NAMES, strict=True)]
    palette = write(tmp_path / "palette.txt", "\n".join(lines))
    maps = run("--label_maps", tmp_path / "maps", "--palette", palette, out="maps_out")
    shapes = run("--labelme", tmp_path / "ann", "--classes", palette, out="shapes_out")
    for out in (maps, shapes):
        assert classes(out) == list(NAMES)
        found = outcome(out, "label")
        assert found.keys() == originals.keys()
        assert all((np.array(found[stem]) == label).all() for stem, label in originals.items())
    assert all(np.array(inst).min() >= 256 for inst in outcome(shapes, "inst").values())
