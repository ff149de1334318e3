"""Scripts that prepare data sets."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.coco_generate_instance_map import main as generate
from datasets.landscapes import CLASSES, landscape
from datasets.make_sample_landscapes import main as make_sample
from datasets.preparation.coco import instance_map
from tests.official import coco_entry
from util.errors import UserError

ROOT = Path(__file__).parent.parent


def test_objects_never_share_a_number_with_a_class() -> None:
    """Mended (SPADE): the first objects were numbered 0, 1, ..., as classes are."""
    label = np.array([[1, 1, 200], [1, 0, 255]], np.uint8)
    first = np.array([[1, 1, 0], [0, 0, 0]])
    second = np.array([[0, 1, 0], [0, 1, 0]])
    assert instance_map(label, [first, second]).tolist() == [[256, 257, 200], [1, 257, 255]]


def test_polygons_and_crowds_from_an_annotation_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Mended (SPADE): crowds were skipped."""
    pytest.importorskip("pycocotools", reason="needs requirements-coco.txt")
    square = [2, 0, 4, 0, 4, 2, 2, 2]  # x, y corners: columns 2 and 3 of rows 0 and 1
    crowd = {"size": [4, 6], "counts": [16, 8]}  # run lengths down the columns: columns 4 and 5
    annotations = {
        "images": [{"id": 42, "height": 4, "width": 6, "file_name": "000000000042.jpg"}],
        "annotations": [coco_entry(42, [square]), coco_entry(42, crowd, crowd=True)],
    }
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    (tmp_path / "label").mkdir()
    made = tmp_path / "inst/000000000042.png"
    flags = ["--annotation_file", "a.json", "--input_label_dir", "label", "--output_instance_dir", "inst"]
    flags = [word if word.startswith("--") else str(tmp_path / word) for word in flags]
    with pytest.raises(UserError, match="--input_label_dir .*label has no label maps; give the folder of those"):
        generate(flags)
    Image.fromarray(np.full((8, 6), 9, np.uint8)).save(tmp_path / "label/000000000042.png")
    with pytest.raises(UserError, match="1 could not be prepared: .*is 6 x 8 but its image is 6 x 4"):
        generate(flags)
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(tmp_path / "label/000000000042.png")
    generate(flags)
    assert capsys.readouterr().out == f"1 instance maps are in {tmp_path}/inst\n"
    expected = np.full((4, 6), 9)
    expected[:2, 2:4] = 256
    expected[:, 4:] = 257
    assert np.asarray(Image.open(made)).tolist() == expected.tolist()
    before = made.stat().st_mtime_ns
    generate(flags)
    assert made.stat().st_mtime_ns == before
    annotations["annotations"].pop()
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    with pytest.raises(UserError, match="inst was made with another annotation file's content: give a new folder"):
        generate(flags)
    with pytest.raises(UserError, match="legacy False, not True"):
        generate([*flags, "--legacy"])
    with pytest.raises(UserError, match="label, where originals are"):
        generate([*flags[:-1], str(tmp_path / "label")])
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="no COCO annotation file"):
        generate(flags)


# ------------------------------------------------------------------------------------------------- sample landscapes


def test_scenes_are_functions_of_seed_and_number() -> None:
    first, again, other = landscape(3, 5, 32), landscape(3, 5, 32), landscape(3, 6, 32)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()
    photo, label, instance = first
    assert (photo.shape, photo.dtype, label.dtype, instance.dtype) == ((32, 32, 3), np.uint8, np.uint8, np.uint16)


def test_scenes_show_all_classes_and_things_have_numbers() -> None:
    """Fourteen classes in a dozen scenes. Where a pixel is of a thing, its instance is 1000 * class + number."""
    labels, instances = zip(*(landscape(0, i, 48)[1:] for i in range(12)), strict=True)
    label, instance = np.stack(labels).astype(int), np.stack(instances).astype(int)
    assert set(np.unique(label)) == set(range(14))
    things = instance >= 1000
    assert (instance[things] // 1000 == label[things]).all()
    assert (instance[~things] == label[~things]).all()
    assert {CLASSES[i] for i in np.unique(label[things])} == {"cloud", "tree", "house", "roof", "rock", "boat"}
    assert (label[:, 0] <= CLASSES.index("cloud")).mean() > 0.9  # sky and clouds on top


def test_one_layout_has_many_looks() -> None:
    """Over ten looks the layout stays, and some are half as bright again as others."""
    scenes = [landscape(0, 0, 32, look) for look in range(10)]
    assert all((label == scenes[0][1]).all() and (instance == scenes[0][2]).all() for _, label, instance in scenes)
    brightness = [photo.mean() for photo, _, _ in scenes]
    assert max(brightness) > 1.5 * min(brightness)


def test_validation_scenes_are_no_training_scenes(tmp_path: Path) -> None:
    make_sample(["--out", str(tmp_path), "--train", "9", "--val", "4", "--size", "24"])
    layouts = [path.read_bytes() for path in sorted(tmp_path.glob("*_label/*.png"))]
    assert len(layouts) == len(set(layouts)) == 13
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_sample_set_is_made_once(tmp_path: Path) -> None:
    command = ["--out", str(tmp_path), "--train", "3", "--val", "2", "--size", "32"]
    make_sample(command)
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert found[:2] == ["train_img/train_00000.png", "train_img/train_00001.png"]
    assert len(found) == 15
    assert Image.open(tmp_path / "val_inst/val_00001.png").mode in ("I;16", "I")
    train_photo = np.asarray(Image.open(tmp_path / "train_img/train_00000.png"))
    assert (train_photo != np.asarray(Image.open(tmp_path / "val_img/val_00000.png"))).any()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    (tmp_path / "train_label/train_00001.png").unlink()  # a run that was cut short goes on
    make_sample([*command[:2], "--train", "4", *command[4:]])
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    assert len(after) == 18
    assert sum(after[p] != before[p] for p in before) == 3  # the scene that was not whole
    (tmp_path / "made_with.txt").unlink()
    with pytest.raises(UserError, match="holds pictures that this script did not make; choose another --out"):
        make_sample(command)
    (tmp_path / "made_with.txt").write_text("seed 0, size 32\n")
    with pytest.raises(UserError, match="holds a set of seed 0, size 32, not of seed 1, size 32; choose another --out"):
        make_sample([*command, "--seed", "1"])
