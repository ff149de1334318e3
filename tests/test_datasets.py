"""Scripts that prepare data sets."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.coco_generate_instance_map import instance_map

ROOT = Path(__file__).parent.parent


def test_objects_never_share_a_number_with_a_class() -> None:
    """Mended (SPADE): the first objects were numbered 0, 1, ..., as classes are."""
    label = np.array([[1, 1, 200], [1, 0, 255]], np.uint8)
    first = np.array([[1, 1, 0], [0, 0, 0]])
    second = np.array([[0, 1, 0], [0, 1, 0]])
    assert instance_map(label, [first, second]).tolist() == [[256, 257, 200], [1, 257, 255]]


def test_polygons_and_crowds_from_an_annotation_file(tmp_path: Path) -> None:
    """Mended (SPADE): crowds were skipped."""
    pytest.importorskip("pycocotools", reason="needs requirements-coco.txt")
    square = [2, 0, 4, 0, 4, 2, 2, 2]  # x, y corners: columns 2 and 3 of rows 0 and 1
    crowd = {"size": [4, 6], "counts": [16, 8]}  # run lengths down the columns: columns 4 and 5
    annotations = {
        "images": [{"id": 42, "height": 4, "width": 6, "file_name": "000000000042.jpg"}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 42, "category_id": 1, "iscrowd": 0, "segmentation": [square], "area": 4},
            {"id": 2, "image_id": 42, "category_id": 1, "iscrowd": 1, "segmentation": crowd, "area": 8},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    (tmp_path / "label").mkdir()
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(tmp_path / "label" / "000000000042.png")
    script = ROOT / "datasets" / "coco_generate_instance_map.py"
    flags = ["--annotation_file", "a.json", "--input_label_dir", "label", "--output_instance_dir", "inst"]
    command = [sys.executable, script, *flags]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    made = np.asarray(Image.open(tmp_path / "inst" / "000000000042.png"))
    expected = np.full((4, 6), 9)
    expected[:2, 2:4] = 256
    expected[:, 4:] = 257
    assert made.tolist() == expected.tolist()

    Image.fromarray(np.full((8, 6), 9, np.uint8)).save(tmp_path / "label" / "000000000042.png")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "is 6 x 8 but its image is 6 x 4" in done.stderr) == (2, True)
    (tmp_path / "a.json").write_text("{")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "no COCO annotation file" in done.stderr) == (2, True)
