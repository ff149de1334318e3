"""Tables of paths: the same sequence as a list of str, names of any bytes, order, and pairs."""

import os
import pickle
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import million
from data import create_dataset
from data.image_folder import _are_alike, list_images, natural_order
from data.path_table import CHUNK, PathTable
from options.train_options import TrainOptions
from util.errors import UserError

NAMES = ["a/1.png", "", "b", os.fsdecode(b"B\xe4ume/\xff.png"), "weiß/日本.jpg", "a/1.png"]


def test_a_table_is_the_sequence_of_its_paths() -> None:
    table = PathTable(NAMES)
    assert len(table) == 6
    assert list(table) == NAMES
    assert [table[i] for i in range(-6, 6)] == NAMES + NAMES
    assert all(type(table[i]) is str for i in range(6))
    assert table[np.int64(3)] == NAMES[3]
    for part in (
        slice(None),
        slice(2),
        slice(1, -1),
        slice(None, None, -2),
        slice(4, 1),
        slice(0, 100, 3),
        slice(9, 12),
    ):
        assert list(table[part]) == NAMES[part], part
        assert isinstance(table[part], PathTable)
    for index in (6, -7):
        with pytest.raises(IndexError):
            table[index]
    assert "b" in table and "c" not in table
    assert table.index("b") == 2
    assert table == NAMES and table == PathTable(NAMES) and table == tuple(NAMES)
    assert table != NAMES[:-1] and table != PathTable(NAMES[:-1]) and table != [*NAMES[:-1], "c"]
    assert list(pickle.loads(pickle.dumps(table))) == NAMES
    assert list(table.where(name.endswith("png") for name in table)) == [NAMES[0], NAMES[3], NAMES[5]]
    assert list(table.where([False] * 6)) == []
    assert table + PathTable("x") == [*NAMES, "x"] and table[:1] + table[2:3] == ["a/1.png", "b"]


def test_no_paths() -> None:
    table = PathTable()
    assert list(table) == [] and not table and table == [] and list(table[:3]) == [] and table + table == []
    assert natural_order([]) == []


def test_more_paths_than_are_decoded_at_once() -> None:
    names = [f"{i}/é" for i in range(2 * CHUNK + 1)]
    assert list(PathTable(names)) == names
    assert list(PathTable(iter(names))[CHUNK - 1 : CHUNK + 2]) == names[CHUNK - 1 : CHUNK + 2]


def test_names_that_no_file_has() -> None:
    with pytest.raises(ValueError, match="the character 0"):
        PathTable(["a\0b"])
    with pytest.raises(ValueError):
        PathTable(["\ud800"])


def test_a_table_holds_two_objects_and_not_one_for_each_path() -> None:
    table = PathTable(str(i) for i in range(1000))
    arrays = [value for value in vars(table).values() if isinstance(value, np.ndarray)]
    assert [(array.dtype, array.nbytes) for array in arrays] == [(np.uint8, 10 + 180 + 2700 + 1000), (np.int64, 8008)]
    assert len(vars(table)) == 3  # and `natural`


# ---------------------------------------------------------------------------------------------------------------- order


def plain_key(path: str) -> tuple:
    tokens = re.split(r"(\d+)", os.path.splitext(path)[0])
    return [int(token) if token.isdecimal() else token for token in tokens], path


def test_order_is_that_of_texts_and_numbers() -> None:
    """Random names of few characters, of which many differ in leading zeros, dots, extensions or folders alone."""
    rng = random.Random(0)
    letters = ["a", "b", "0", "1", "2", "10", "007", ".", "/", "_", "٣", "²", "é", os.fsdecode(b"\xff"), "-", " "]
    for count in range(300):
        names = {
            "".join(rng.choices(letters, k=rng.randint(1, 7))) + rng.choice([".png", ".jpg", ""]) for _ in range(40)
        }
        names = rng.sample(sorted(names), len(names))
        assert list(natural_order(names)) == sorted(names, key=plain_key), count


@pytest.mark.parametrize("name", ["{:06}.png", "x/{:04}_{:02}.png", "a.{:03}.b{:01}", ".{:05}", "é{:04}.png"])
def test_order_of_names_that_are_alike(name: str) -> None:
    """Numbers of one length, as data sets have them, are sorted as they are; no other names may be."""
    rng = random.Random(0)
    names = [name.format(number, number % 10) for number in rng.sample(range(1000), 200)]
    assert _are_alike(PathTable(names)) == name.isascii()
    assert list(natural_order(names)) == sorted(names, key=plain_key)
    mixed = [*names, names[0].replace("0", "a", 1), names[1] + "9"]
    assert not _are_alike(PathTable(mixed))
    assert list(natural_order(mixed)) == sorted(mixed, key=plain_key)


def test_a_table_in_natural_order_is_not_sorted_again() -> None:
    table = natural_order(["b", "a"])
    assert natural_order(table) is table
    assert natural_order(table[:1]).natural and natural_order(table.where([True, False])).natural
    for other in (table[::-1], table + PathTable("0"), PathTable(["b", "a"])):
        assert not other.natural
        assert list(natural_order(other)) == sorted(other)


@pytest.mark.skipif(sys.platform != "linux", reason="this system's file names are always Unicode")
def test_files_whose_names_are_no_unicode(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"B\xe4ume")
    folder.mkdir()
    for name in (b"\xff2.png", b"\xff10.PNG", b"\xff.txt"):
        (folder / os.fsdecode(name)).touch()
    for flags in ({}, {"cache_write": True}, {"cache_read": True}):
        found = list_images(str(folder), **flags)
        assert [os.fsencode(Path(path).name) for path in found] == [b"\xff2.png", b"\xff10.PNG"], flags
        assert all(os.path.isfile(path) for path in found)


def test_a_data_set_holds_tables(pairs: Path) -> None:
    dataset = create_dataset(TrainOptions().parse(["--dataroot", str(pairs), "--gpu_ids", "-1"]))
    assert all(isinstance(t, PathTable) for t in (dataset.paths.labels, dataset.paths.images, dataset.paths.instances))
    assert [Path(dataset.path(i)).name for i in range(4)] == [f"picture{i}.jpg" for i in range(4)]
    assert [dataset[i]["path"] for i in range(4)] == [dataset.path(i) for i in range(4)]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of memory")
def test_the_benchmark_of_many_files_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """And all of its sides have one order, else it stops."""
    pytest.importorskip("webdataset")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--files", "2000"])
    million.main()
    rows = re.findall(r"^\| (.*?) \| [\d.]+ \| [\d.]+ \| \d+, \d+; \d+, \d+ \|$", capsys.readouterr().out, re.M)
    assert rows == ["lists of str", "tables", "shards"]
    monkeypatch.setattr("data.pix2pix_dataset.natural_order", lambda paths: PathTable(list(paths)))
    monkeypatch.setattr("data.image_folder.natural_order", lambda paths: PathTable(list(paths)))
    with pytest.raises(AssertionError, match="the same order"):
        million.main()


def test_pairs_are_checked_by_name(pairs: Path) -> None:
    (pairs / "train_img" / "picture2.jpg").rename(pairs / "train_img" / "picture2b.jpg")
    with pytest.raises(UserError, match=r"picture2.png and \S+picture2b.jpg pair up .*no images for \S+picture2.png;"):
        create_dataset(TrainOptions().parse(["--dataroot", str(pairs), "--gpu_ids", "-1"]))
