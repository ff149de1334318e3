"""Commands that prepare data sets from official downloads: what all share, and COCO-Stuff."""

import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.preparation.coco import legacy_instance_map
from datasets.prepare_coco import main as prepare_coco
from options.train_options import TrainOptions
from tests.official import coco_archives, coco_entry, jpeg, png, run_lengths, unzipped
from util.errors import UserError

ROOT = Path(__file__).parent.parent


def train_command(printed: str) -> list[str]:
    """The words of the train.py command that a preparing command printed; train.py takes it."""
    (command,) = re.findall(r"python train\.py (.*)", printed.replace("\\\n", ""))
    words = shlex.split(command)
    TrainOptions().parse(words)
    return words


def ids(path: Path) -> list[list[int]]:
    """A map as it is in its file."""
    return np.asarray(Image.open(path)).astype(int).tolist()


# ------------------------------------------------------------------------------------------------------ COCO-Stuff


def tiny_coco(folder: Path) -> None:
    """One training and two validation images; image 2 of 6 x 4 pixels has an object and a crowd."""
    square = [2, 0, 4, 0, 4, 2, 2, 2]  # x, y corners: columns 2 and 3 of rows 0 and 1
    crowd = {"size": [4, 6], "counts": [16, 8]}  # run lengths down the columns: columns 4 and 5
    scene = (jpeg(6, 4), png(np.full((4, 6), 9, np.uint8)))
    name = "{:012d}".format
    things = {"val": [coco_entry(2, crowd, crowd=True), coco_entry(2, [square])]}
    coco_archives(folder, {"train": {name(1): scene}, "val": {name(2): scene, name(30): scene}}, things)


def test_coco_comes_out_of_its_archives(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tiny_coco(tmp_path / "zips")
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "coco"), "--workers", "2"]
    with pytest.raises(UserError, match=r"1 of 118,287 train images are there \(118,286 are missing\); 2 of 5,000 val"):
        prepare_coco(flags)
    assert not (tmp_path / "coco").exists()
    prepare_coco([*flags, "--partial"])
    words = train_command(capsys.readouterr().out)
    assert words[words.index("--dataroot") + 1] == str(tmp_path / "coco")
    found = sorted(str(path.relative_to(tmp_path / "coco")) for path in tmp_path.glob("coco/*/*"))
    assert found == sorted(
        f"{part}_{kind}/{stem:012d}.{'jpg' if kind == 'img' else 'png'}"
        for part, stem in (("train", 1), ("val", 2), ("val", 30))
        for kind in ("img", "label", "inst")
    )
    photo = (tmp_path / "coco/val_img/000000000002.jpg").read_bytes()
    assert photo == zipfile.ZipFile(tmp_path / "zips/val2017.zip").read("val2017/000000000002.jpg")
    # Mended (SPADE): the crowd, which comes first, is there, and no object is 0, 1, ..., as classes are.
    assert (
        ids(tmp_path / "coco/val_inst/000000000002.png")
        == [[9, 9, 257, 257, 256, 256]] * 2 + [[9, 9, 9, 9, 256, 256]] * 2
    )


def test_legacy_coco_is_as_released(tmp_path: Path) -> None:
    """Objects from 0 on, crowds neither drawn nor counted."""
    tiny_coco(tmp_path / "zips")
    unzipped(tmp_path / "zips")
    zips = tmp_path / "zips"
    (zips / "train2017/train2017").rename(zips / "photos")
    (zips / "train2017").rmdir()
    (zips / "photos").rename(zips / "train2017")
    flags = ["--downloads", str(zips), "--out", str(tmp_path / "coco"), "--partial", "--link", "--workers", "1"]
    prepare_coco([*flags, "--legacy"])
    made = tmp_path / "coco/val_inst/000000000002.png"
    assert Image.open(made).mode == "L"
    assert ids(made) == [[9, 9, 0, 0, 9, 9]] * 2 + [[9] * 6] * 2
    assert (tmp_path / "coco/val_img/000000000002.jpg").is_symlink()
    assert legacy_instance_map(np.array([[7, 8]], np.uint8), [np.array([[0, 1]])] * 300).tolist() == [[7, 299 % 256]]
    with pytest.raises(UserError, match=r"was made with legacy True, not False: give a new folder, or delete that one"):
        prepare_coco(flags)


@pytest.mark.real_data
def test_legacy_instance_maps_are_those_of_the_sample(real_data: Path, tmp_path: Path) -> None:
    """The sample, packed as COCO is, with what its released instance maps show as objects, gives these maps again."""
    sample = real_data / "coco_stuff_sample"
    parts: dict[str, dict[str, tuple[bytes, bytes]]] = {}
    things: dict[str, list[dict]] = {}
    for part in ("train", "val"):
        for path in sorted((sample / f"{part}_img").iterdir()):
            label = np.asarray(Image.open(sample / f"{part}_label/{path.stem}.png"))
            inst = np.asarray(Image.open(sample / f"{part}_inst/{path.stem}.png"))
            numbers = inst[inst != label]
            for number in range(int(numbers.max()) + 1):  # one that others cover wholly has no pixel
                mask = (inst == number) & (inst != label)
                rle = {"size": list(mask.shape), "counts": run_lengths(mask)}
                things.setdefault(part, []).append(coco_entry(int(path.stem), rle))
            label_file = sample / f"{part}_label/{path.stem}.png"
            parts.setdefault(part, {})[path.stem] = (path.read_bytes(), label_file.read_bytes())
    coco_archives(tmp_path / "zips", parts, things)
    for flags in (["--legacy"], []):
        out = tmp_path / f"coco{len(flags)}"
        prepare_coco(["--downloads", str(tmp_path / "zips"), "--out", str(out), "--partial", *flags])
    made = sorted(tmp_path.glob("coco1/*_inst/*.png"))
    assert len(made) == 21
    for path in made:
        released = sample / path.parent.name / path.name
        assert ids(path) == ids(released)
        ours, label = (np.array(ids(p)) for p in (tmp_path / "coco0" / path.parent.name / path.name, released))
        assert (ours[ours < 256] == label[ours < 256]).all()
    assert max(np.array(ids(path)).max() for path in tmp_path.glob("coco0/*_inst/*.png")) == 256 + 19
