"""Small data sets and command lines that tests share."""

import os
from pathlib import Path

# Before PyTorch is imported, which reads them once, also in the processes that tests start. Several tests run at once,
# and where threads are more than cores, those that wait for others take the cores' time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

from tests import deterministic
from util.allocator import keep_freed_memory

TINY = "--gpu_ids -1 --ngf 4 --ndf 4 --nef 4 --crop_size 64 --load_size 72 --no_vgg_loss --nThreads 0 --niter 1".split()

LONG = ("trajectory", "test_real_data", "test_end_to_end")
# Some tests start threads that forks do not have.
FORKING = ("test_processes", "test_while_training", "test_faults", "test_skipped")

torch.set_num_threads(1)  # the tests themselves run in parallel
keep_freed_memory()


def write_pairs(
    root: Path, count: int, size: tuple[int, int] = (80, 72), classes: int = 5, split: str = "train"
) -> Path:
    """`count` label maps, photos and instance maps in COCO's folders: {split}_{label,img,inst}."""
    width, height = size
    for kind in ("label", "img", "inst"):
        (root / f"{split}_{kind}").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        name = f"{split}{i}"
        label = deterministic.label_map(f"{name}_label", 1, classes, height, width)[0, 0].numpy()
        # Numbers that are of one class each.
        instance = 60 * label + deterministic.label_map(f"{name}_inst", 1, 60, height, width)[0, 0].numpy()
        photo = deterministic.image(name, 1, height, width)[0].add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(label.astype(np.uint8)).save(root / f"{split}_label" / f"picture{i}.png")
        Image.fromarray(instance.astype(np.uint16)).save(root / f"{split}_inst" / f"picture{i}.png")
        Image.fromarray(photo).save(root / f"{split}_img" / f"picture{i}.jpg", quality=95)
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork first, then long ones, so that no process is left alone with one at the end."""

    def rank(item: pytest.Item) -> list[bool]:
        return [not any(name in item.nodeid for name in names) for names in (FORKING, LONG)]

    items.sort(key=rank)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A data set in COCO's layout: 4 training pairs and 2 validation pairs of 80 x 72 pixels with ids 0 .. 4."""
    write_pairs(tmp_path / "data", 4)
    return write_pairs(tmp_path / "data", 2, split="val")


@pytest.fixture
def real_data() -> Path:
    """The folder of sample photos; the test is skipped where there is none."""
    folder = os.environ.get("SPADE_REAL_DATA")
    if not folder:
        pytest.skip("needs the sample photos: set SPADE_REAL_DATA to their folder")
    return Path(folder)
