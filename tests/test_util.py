"""Names of results, colours and pictures."""

import numpy as np
import pytest
import torch

from util import launch
from util.class_table import ClassTable, interleaved
from util.images import to_uint8
from util.paths import unique_stems
from util.provenance import resuming_command
from util.seeding import seed_from, standard_normal
from util.sizes import nearest_multiples
from util.visualizer import clock


def test_results_are_named_after_their_layouts() -> None:
    stem = unique_stems()
    assert [stem(p) for p in ("x/a/street.png", "x/b/street.png", "x/street.tar.png")] == [
        "street",
        "b_street",
        "street.tar",
    ]


def test_results_never_share_a_name() -> None:
    stem = unique_stems()
    names = [stem(p) for p in ("a/x.png", "b/x.png", "b_x.png", "b/x.jpg", "/x.png", "/x.png")]
    assert len(set(names)) == len(names)
    assert all("/" not in name for name in names)


def test_voc_colours_of_id_plus_one() -> None:
    """PASCAL VOC's colour 1 is (128, 0, 0), 2 is (0, 128, 0), 15 is (192, 128, 128): of ids 0, 1 and 14 here."""
    assert interleaved(np.array([0, 1, 14])).tolist() == [[128, 0, 0], [0, 128, 0], [192, 128, 128]]
    assert len({tuple(c) for c in interleaved(np.arange(256))}) == 256


def test_colours_of_data_sets() -> None:
    streets = ClassTable.load("cityscapes").colorize(np.array([7, 23, 26]))
    assert streets.tolist() == [[128, 64, 128], [70, 130, 180], [0, 0, 142]]
    coco = ClassTable.load("coco").colorize(np.array([154, 0]))
    assert coco[0].argmax() == 2  # the sea is blue
    assert coco[1].tolist() == [128, 0, 0]


def test_pictures_round_trip() -> None:
    """Every 8-bit value survives the way to [-1, 1] and back; what lies outside is clipped."""
    values = torch.arange(256).float()
    images = (values / 127.5 - 1).view(1, 1, 16, 16)
    assert to_uint8(images)[0, ..., 0].flatten().tolist() == values.tolist()
    assert to_uint8(torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2))[0, 0, :, 0].tolist() == [0, 255]


def test_seeds_depend_on_every_part() -> None:
    assert len({seed_from(*key) for key in ((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 1))}) == 6
    assert torch.equal(standard_normal((4,), 1, 2), standard_normal((4,), 1, 2))


def test_clock() -> None:
    assert clock(3723.4) == "1:02:03"


def test_nearest_multiples() -> None:
    assert nearest_multiples(70, 32) == (64, 96)
    assert nearest_multiples(64, 32) == (64, 64)
    assert nearest_multiples(20, 32) == nearest_multiples(0, 32) == (32, 32)


def test_the_command_that_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what only starts a run or goes back in it: what was saved is `latest`."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    argv = "train.py --name x --overwrite --which_epoch 3 --lr 0.1 --pretrained_G=a.pth --continue_train auto --use_vae"
    monkeypatch.setattr("sys.argv", argv.split())
    resumes = "train.py --name x --lr 0.1 --use_vae --continue_train"
    assert resuming_command().split(" ", 1)[1] == resumes
    for name, value in launch.environment(1, 2, 1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert resuming_command() == f"torchrun --nproc_per_node 2 {resumes}"
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert resuming_command() == f"torchrun (its own flags as before) {resumes}"
