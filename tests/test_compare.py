"""Several evaluations in one table."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import evaluate as evaluate_script
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


def test_own_features_have_columns_of_their_own() -> None:
    text = as_text([measured("mine", {"fid": None, "segmenter_frechet": 12.345678}), *published("ade20k")])
    assert "Frechet, segmenter's features" in text and re.search(r"mine, measured.* 12\.35$", text, re.M)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not what evaluate.py writes"),
        ("[]", "is not what evaluate.py writes"),
        ('{"images": "many"}', "a value is no number"),
        (json.dumps({**ONE, "classes": ["sky"]}), "is not what evaluate.py writes"),
    ],
)
def test_damaged(content: str, message: str) -> None:
    write("a")
    Path("a/metrics.json").write_text(content)
    with pytest.raises(UserError, match=message):
        evaluate_script.main(["compare", "a"])
    with pytest.raises(UserError, match=r"nowhere is not there; give folders that evaluate.py has written"):
        evaluate_script.main(["compare", "nowhere"])
