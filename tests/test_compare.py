"""Several evaluations in one table."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import evaluate as evaluate_script
from evaluation.metrics import METRICS
from evaluation.table import as_text, measured, published
from util.errors import UserError

ONE = {
    "name": "spade",
    "data_set": "coco",
    "protocol": "spade-v1",
    "segmenter": "deeplabv2",
    "classes": ["sky;air", "road", "car"],
    "images": 5000,
    "accuracies": {"miou": 0.35, "pixel_accuracy": 0.679, "iou": [0.5, 0.2, None]},
    "fid": 22.6,
    "kid": 0.0125,
    "segmenter_frechet": None,
}


def write(folder: str, **changes: Any) -> str:
    Path(folder).mkdir()
    Path(folder, "metrics.json").write_text(json.dumps({**ONE, **changes}))
    return folder


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cells(line: str) -> list[str]:
    return line.split()[-4:]


def test_table(capsys: pytest.CaptureFixture) -> None:
    """Shares in percent, KID in thousandths; the paper's figures below, those that were not found as dashes."""
    scores = {"miou": 0.25, "pixel_accuracy": 0.5, "iou": [0.4, 0.3, None]}
    evaluate_script.main(["compare", write("a"), write("b", name="other", accuracies=scores)])
    said = capsys.readouterr()
    lines = {line.split(",")[0].split(" (")[0]: cells(line) for line in said.out.splitlines() if "," in line}
    assert lines["spade"] == ["35.00", "67.90", "22.60", "12.500"]
    assert lines["other"] == ["25.00", "50.00", "22.60", "12.500"]
    assert lines["SPADE"] == ["37.4", "67.9", "22.6", "-"] and lines["CRN"][0] == "23.7"
    assert said.err == ""
    page = Path("results/comparison/index.html").read_text()
    assert "<td>spade (5000 images), measured</td><td>35.00</td><td>67.90</td><td>22.60</td><td>12.500</td>" in page
    assert "SPADE, published</td><td>37.4</td><td>67.9</td>" in page
    assert "<td>sky</td><td><b>50.0</b></td><td>40.0</td>" in page  # the better one in bold
    assert "<td>road</td><td>20.0</td><td><b>30.0</b></td>" in page
    assert "<td>car" not in page  # which occurs nowhere
    assert "segmenter's features" not in page.replace("&#x27;", "'")


def test_what_is_not_alike_is_said(capsys: pytest.CaptureFixture) -> None:
    write("a")
    write("b", images=500, protocol="label-size-v1", epoch="10")
    evaluate_script.main(["compare", "a", "b", "--names", "few", "many", "--out", "page"])
    said = capsys.readouterr().err
    assert "note: these numbers are of different protocols (few: spade-v1; many: label-size-v1)" in said
    assert "note: these numbers are of different numbers of images (few: 5000; many: 500)" in said
    assert said.count("note") == 2
    assert "<b>" not in Path("page/index.html").read_text()  # nobody wins
    assert "different protocols" in Path("page/index.html").read_text()


def test_names() -> None:
    """Where runs have one name their epochs tell them apart, else their folders."""
    write("a", epoch="latest")
    write("b", epoch="best")
    evaluate_script.main(["compare", "a", "b"])
    assert "spade, best (5000" in Path("results/comparison/index.html").read_text()
    write("c", epoch="best")
    evaluate_script.main(["compare", "b", "c"])
    assert "c (5000 images)" in Path("results/comparison/index.html").read_text()
    with pytest.raises(UserError, match="--names x: give 2 different names, one for each folder"):
        evaluate_script.main(["compare", "a", "b", "--names", "x"])


@pytest.mark.parametrize("folders", [["a", "a"], ["a", "b", "a"]])
def test_a_folder_given_twice_is_numbered(folders: list[str], capsys: pytest.CaptureFixture) -> None:
    for folder in dict.fromkeys(folders):
        write(folder)
    evaluate_script.main(["compare", *folders])
    said = capsys.readouterr().out
    assert re.findall(r"^(\d: \w) \(5000 images\)", said, re.M) == [f"{i}: {f}" for i, f in enumerate(folders, 1)]


def test_a_terminal_obeys_no_name(capsys: pytest.CaptureFixture) -> None:
    write("a", name="red\x1b[31m\nline", segmenter="\x1b[2J")
    write("b")
    evaluate_script.main(["compare", "a", "b"])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and r"red\x1b[31m\nline (5000 images), measured" in said.out


def bold(page: str) -> list[str]:
    return re.findall("<b>([^<]*)</b>", page)


def test_one_run_and_equal_ones_have_no_winner() -> None:
    write("a")
    write("b", name="other", accuracies={**ONE["accuracies"], "iou": [0.5, 0.1, None]})
    evaluate_script.main(["compare", "a"])
    assert bold(Path("results/comparison/index.html").read_text()) == []
    evaluate_script.main(["compare", "a", "b"])
    assert bold(Path("results/comparison/index.html").read_text()) == ["20.0"]  # the road; of the sky both have 50.0


def test_classes_of_one_name_have_a_row_each() -> None:
    """They are told apart by their order."""
    for folder, iou in {"a": [0.1, 0.2, 0.3], "b": [0.4, 0.5, 0.6]}.items():
        write(folder, name=folder, classes=["car", "sky", "car"], accuracies={**ONE["accuracies"], "iou": iou})
    evaluate_script.main(["compare", "a", "b"])
    rows = re.findall(
        "<td>(car[^<]*)</td><td>([^<]*)</td><td><b>([^<]*)<", Path("results/comparison/index.html").read_text()
    )
    assert rows == [("car", "10.0", "40.0"), ("car (2)", "30.0", "60.0")]


def test_own_features_have_columns_of_their_own() -> None:
    text = as_text([measured("mine", {"fid": None, "segmenter_frechet": 12.345678}), *published("ade20k")])
    assert re.search(r"mine, measured.* 12\.35$", text, re.M)
    lasts = [line.split()[-1] for line in text.splitlines()]
    assert lasts[:3] == ["Frechet,", "segmenter's", "features"]


def test_a_table_of_everything_fits_a_terminal() -> None:
    """Headings of several words take several lines; each column keeps its right edge."""
    everything = measured("label2coco, latest (5000 images)", dict.fromkeys(METRICS, 0.4321))
    lines = as_text([everything, everything]).splitlines()
    assert {len(line) for line in lines} == {len(lines[0])} and len(lines[0]) <= 120
    assert " ".join(" ".join(lines[:-2]).split()).count("segmenter's segmenter's") == 1
    assert "mIoU" in lines[2] and "mIoU" not in lines[0] + lines[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not what evaluate.py writes"),
        ("[]", "is not what evaluate.py writes"),
        ("[" * 100_000, "is not what evaluate.py writes"),
        ("{}", "it has no number of images"),
        ('{"images": "many"}', "images many is no whole number from 1 on"),
        *(
            (json.dumps({**ONE, **changes}), f"^a/metrics.json is not what evaluate.py writes .{message}.$")
            for changes, message in (
                ({"classes": ["sky"]}, "1 classes, and an IoU of 3"),
                ({"classes": [0, 1, 2]}, r"classes \[0, 1, 2\] are no names"),
                ({"classes": "abc"}, "classes abc are no names"),
                ({"images": -1}, "images -1 is no whole number from 1 on"),
                ({"images": True}, "images True is no whole number from 1 on"),
                ({"references": [1]}, r"references \[1\] is no whole number from 1 on"),
                ({"data_set": [1]}, r"data_set \[1\] is no text"),
                ({"name": {}}, r"name {} is no text"),
                ({"epoch": "x\ny".split()}, "epoch .* is no text"),
                ({"fid": "low"}, "a value, low, is no number"),
                ({"fid": 10**400}, f"a value, {10**59}, is no number"),
                ({"fid": math.nan}, "a value, nan, is no number"),
                ({"accuracies": [1]}, ".*"),
                ({"accuracies": {"iou": 3}}, ".*"),
                ({"accuracies": {"iou": [[], {}, "x"]}}, r"a value, \[\], is no number"),
            )
        ),
    ],
)
def test_damaged(content: str, message: str) -> None:
    write("a")
    Path("a/metrics.json").write_text(content)
    with pytest.raises(UserError, match=message):
        evaluate_script.main(["compare", "a"])
    with pytest.raises(UserError, match=r"nowhere is not there; give folders that evaluate.py has written"):
        evaluate_script.main(["compare", "nowhere"])
