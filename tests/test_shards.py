"""Tar shards: items and errors are those of loose files; order is a function of (seed, epoch); cut packings go on."""

import builtins
import hashlib
import json
import os
import pickle
import re
import shutil
import sys
import tarfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import test as test_script
import train as train_script
from benchmarks import shards as benchmark
from data import PositionedBatches, create_dataloader, create_dataset
from data.pix2pix_dataset import Pix2pixDataset
from data.shards import Items, Shards, is_header, read_index, samples_of, webdataset
from data.shards_dataset import ShardsDataset
from datasets import pack_shards
from options.test_options import TestOptions
from options.train_options import TrainOptions
from tests.conftest import TINY, write_pairs
from tests.test_loader import custom
from util.errors import UserError

pytest.importorskip("webdataset", reason="pip install -r requirements-webdataset.txt")

SMALL = "--gpu_ids -1 --nThreads 0".split()
SIZE = "--load_size 50 --crop_size 32".split()


def train(*argv: object) -> Namespace:
    return TrainOptions(raises=True).parse([*SMALL, *SIZE, *map(str, argv)])


def test(*argv: object) -> Namespace:
    return TestOptions(raises=True).parse([*SMALL, "--crop_size", "32", *map(str, argv)])


test.__test__ = False


def pack(out: Path, *argv: object) -> Path:
    pack_shards.main(["--out", str(out), "--gpu_ids", "-1", *map(str, argv)])
    return out


def of(folder: Path, *more: object) -> list[object]:
    return ["--dataset_mode", "shards", "--dataroot", folder, *more]


def check_same(loose: Pix2pixDataset, packed: Pix2pixDataset) -> None:
    """Every item of the shards is, bit for bit, that of the loose file of its name, at several places of a run."""
    assert len(loose) == len(packed)
    where = {os.path.basename(loose.path(i)): i for i in range(len(loose))}
    assert len(where) == len(loose)
    for index in range(len(packed)):
        other = where.pop(os.path.basename(packed.path(index)))
        for name, (_, content) in packed.files(index).items():
            path, _ = loose.files(other)[name]
            assert content == Path(path).read_bytes()
        for place in range(3):
            a, b = loose[(other, (1, place))], packed[(index, (1, place))]
            assert a.keys() == b.keys()
            assert b["path"] == packed.path(index) and a["path"].endswith(b["path"])
            for name in a.keys() - {"path"}:
                assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), (b["path"], name)


@pytest.fixture
def packed(pairs: Path, tmp_path: Path) -> Path:
    """The training pairs in order, two in a shard."""
    return pack(tmp_path / "shards", "--dataroot", pairs, "--label_nc", 5, "--shard_items", 2, "--serial_batches")


# --------------------------------------------------------------------------------------------------- the same as loose


@pytest.mark.parametrize(
    ("label", "instance", "classes"), [("8", "16", 9), ("16", "32", 300), ("palette", "8", 60), ("1", "palette", 2)]
)
def test_items_of_every_kind_of_file(tmp_path: Path, label: str, instance: str, classes: int) -> None:
    """Photos are PNG and JPEG by turns, sizes differ."""
    argv = custom(tmp_path / "loose", [(80, 60), (61, 95), (40, 40), (33, 70), (90, 50)], label, instance, classes)
    out = pack(tmp_path / "out", *argv, "--shard_items", 2)
    dataset = create_dataset(train(*of(out)))
    assert dataset.rules.label_nc == classes
    check_same(create_dataset(train(*argv)), dataset)


def test_coco(pairs: Path, tmp_path: Path) -> None:
    flags = ["--dataroot", pairs]
    check_same(create_dataset(train(*flags)), create_dataset(train(*of(pack(tmp_path / "a", *flags)))))
    opt = train(*of(tmp_path / "a"))
    assert (opt.label_nc, opt.contain_dontcare_label, opt.class_table, opt.packed_from) == (182, True, "coco", "coco")
    opt = train(*of(tmp_path / "a", "--label_nc", 7, "--contain_dontcare_label", "false"))
    assert (opt.label_nc, opt.contain_dontcare_label) == (7, False)  # typed
    out = pack(tmp_path / "b", *flags, "--no_instance")
    assert read_index(out).members == ["image", "label"]
    opt = train(*of(out))
    assert opt.no_instance
    assert "instance" not in create_dataset(opt)[0]
    with pytest.raises(UserError, match="no instance maps of --dataset_mode coco .*pack them with instance maps, or"):
        create_dataset(train(*of(out), "--no_instance", "false"))


def test_ade20k_keeps_its_zero(tmp_path: Path) -> None:
    """Ids 0 (unknown) .. 150 are allowed, 151 is not; also for loose layouts under the rules of the shards."""
    for name, ids in {"a_train_1": [0, 150], "a_train_2": [1, 151]}.items():
        (tmp_path / "ade").mkdir(exist_ok=True)
        Image.fromarray(np.array([ids * 20] * 40, np.uint8)).save(tmp_path / "ade" / f"{name}.png")
        Image.new("RGB", (40, 40)).save(tmp_path / "ade" / f"{name}.jpg")
    out = pack(tmp_path / "out", "--dataset_mode", "ade20k", "--dataroot", tmp_path / "ade", "--serial_batches")
    opt = train(*of(out))
    assert (opt.label_nc, opt.contain_dontcare_label, opt.no_instance, opt.class_table) == (150, True, True, "ade20k")
    dataset = create_dataset(opt)
    assert dataset[0]["label"].unique().tolist() == [0, 150]
    said = r"out/train-000000.tar/000001.label.png \(of a_train_2.jpg\) has ids 151, but --label_nc 150 allows 0 .. 150"
    with pytest.raises(UserError, match=said):
        dataset[1]
    layouts = test(
        "--dataset_mode", "shards", "--packed_from", "ade20k", "--label_nc", 150, "--label_dir", tmp_path / "ade"
    )
    layouts.contain_dontcare_label = True
    for path in (tmp_path / "ade").glob("*.jpg"):
        path.unlink()
    loose = create_dataset(layouts)
    assert (type(loose).__name__, len(loose), loose.rules.highest) == ("Ade20kDataset", 2, 150)
    with pytest.raises(UserError, match="packed from --dataset_mode ade20k, but --packed_from coco has another id"):
        create_dataset(train(*of(out), "--packed_from", "coco"))


def test_cityscapes_pairs_by_city_and_frame(tmp_path: Path) -> None:
    for i in range(3):
        stem = f"aachen/aachen_{i:06}_000019"
        for path, pixels in {
            f"gtFine/train/{stem}_gtFine_labelIds.png": np.full((32, 64), i, np.uint8),
            f"gtFine/train/{stem}_gtFine_instanceIds.png": np.full((32, 64), 26000 + i, np.uint16),
            f"leftImg8bit/train/{stem}_leftImg8bit.png": np.full((32, 64, 3), 40 * i, np.uint8),
        }.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / path)
    flags = ["--dataset_mode", "cityscapes", "--dataroot", tmp_path]
    out = pack(tmp_path / "out", *flags)
    opt = train(*of(out))
    assert (opt.preprocess_mode, opt.aspect_ratio, opt.num_upsampling_layers, opt.batchSize) == ("fixed", 2, "more", 16)
    dataset = create_dataset(opt)
    check_same(create_dataset(train(*flags)), dataset)
    for index in range(3):
        number = int(dataset.path(index).split("_")[1])
        item = dataset[index]
        assert item["label"].unique().tolist() == [number] and item["instance"].unique().tolist() == [26000 + number]


def test_painted_maps_and_a_class_table_of_ones_own(tmp_path: Path) -> None:
    """The table goes with the shards, and the flag that reads maps by it."""
    colors = [[0, 0, 255], [255, 0, 0]]
    classes = [{"id": i, "name": f"c{i}", "color": color} for i, color in enumerate(colors)]
    (tmp_path / "table.json").write_text(json.dumps({"title": "Mine", "classes": classes}))
    for kind in ("l", "p"):
        (tmp_path / kind).mkdir()
        Image.fromarray(np.array([colors * 20] * 40, np.uint8)).save(tmp_path / kind / "a.png")
    flags = ["--dataset_mode", "custom", "--label_dir", tmp_path / "l", "--image_dir", tmp_path / "p", "--label_nc", 2]
    flags += ["--no_instance"]
    out = pack(tmp_path / "out", *flags, "--label_palette", tmp_path / "table.json")
    loose = create_dataset(train(*flags, "--label_palette", tmp_path / "table.json"))
    (tmp_path / "table.json").rename(tmp_path / "elsewhere.json")
    opt = train(*of(out))
    assert (opt.class_table, opt.label_palette, opt.no_instance) == (str(out / "classes.json"), "", True)
    check_same(loose, create_dataset(opt))
    assert str(tmp_path) not in (out / "index.json").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="this system's file names are always Unicode")
def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    for kind, suffix in (("l", "png"), ("p", "jpg")):
        (tmp_path / kind).mkdir()
        for stem in (b"B\xe4ume", b"\xff", "日本.1".encode()):
            Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / kind / os.fsdecode(stem + b".png"))
            (tmp_path / kind / os.fsdecode(stem + b".png")).rename(
                tmp_path / kind / os.fsdecode(stem + b"." + suffix.encode())
            )
    flags = ["--dataset_mode", "custom", "--label_dir", tmp_path / "l", "--image_dir", tmp_path / "p", "--no_instance"]
    dataset = create_dataset(train(*of(pack(tmp_path / "out", *flags))))
    check_same(create_dataset(train(*flags)), dataset)
    assert {os.fsencode(dataset.path(i)) for i in range(3)} == {b"B\xe4ume.jpg", b"\xff.jpg", "日本.1.jpg".encode()}


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["coco_stuff_sample", "cityscapes_sample"])
def test_real_photos(folder: str, real_data: Path, tmp_path: Path) -> None:
    flags = ["--dataset_mode", folder.split("_")[0], "--dataroot", real_data / folder, "--max_dataset_size", 4]
    out = pack(tmp_path / "out", *flags, "--shard_items", 3)
    check_same(create_dataset(train(*flags)), create_dataset(train(*of(out))))


# ---------------------------------------------------------------------------------------------------------------- order


def many(tmp_path: Path, count: int = 23, shard_items: int = 3) -> Path:
    write_pairs(tmp_path / "many", count, size=(40, 40))
    return pack(tmp_path / "out", "--dataroot", tmp_path / "many", "--shard_items", shard_items)


def test_order_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    """8 shards of 3 items, of which 2 are mixed at a time."""
    out = many(tmp_path, 24)
    dataset = create_dataset(train(*of(out, "--shard_window", 2)))
    again = create_dataset(train(*of(out, "--shard_window", 2)))
    orders = [dataset.order(epoch, 24) for epoch in (1, 2, 3)]
    assert np.array_equal(orders, [again.order(epoch, 24) for epoch in (1, 2, 3)])
    assert len({tuple(order) for order in orders}) == 3
    other = create_dataset(train(*of(out, "--shard_window", 2, "--seed", 1)))
    assert other.order(1, 24).tolist() != orders[0].tolist()
    pairs_of_shards, one_after_the_other = set(), 0
    for order in orders:
        assert sorted(order) == list(range(24))
        for window in (order // 3).reshape(4, 6):
            assert sorted(np.bincount(window)[np.unique(window)]) == [3, 3]
            pairs_of_shards.add(frozenset(window.tolist()))
            one_after_the_other += (np.diff(window) != 0).sum() == 1
    assert len(pairs_of_shards) > 6  # of 12: other shards are mixed in other epochs
    assert one_after_the_other < 6
    wide = create_dataset(train(*of(out, "--shard_window", 100)))
    assert sorted(wide.order(1, 24)) == list(range(24))


def test_a_part_of_the_items_is_ordered_too(tmp_path: Path) -> None:
    """--max_dataset_size 7 takes two shards and one item of the third, --how_many the same."""
    out = many(tmp_path)
    dataset = create_dataset(train(*of(out, "--max_dataset_size", 7)))
    assert len(dataset) == 7
    assert sorted(dataset.order(1, 7).tolist()) == list(range(7))
    assert sorted(dataset.order(1, 3).tolist()) == list(range(3))
    loader = create_dataloader(train(*of(out, "--max_dataset_size", 7, "--batchSize", 3)))
    assert [len(batch["path"]) for batch in loader] == [3, 3]


def test_loose_files_keep_their_order(pairs: Path) -> None:
    """The hook gives what the sampler has always drawn."""
    dataset = create_dataset(train("--dataroot", pairs))
    plain = PositionedBatches(4, 1, shuffle=True, seed=0, complete=True)
    for epoch in (1, 2):
        plain.set_position(epoch, 0)
        assert dataset.order(epoch, 4).tolist() == [index for ((index, _),) in plain]
        loader = create_dataloader(train("--dataroot", pairs))
        loader.batch_sampler.set_position(epoch, 0)
        assert list(loader.batch_sampler) == list(plain)


def test_training_shards_are_random_samples_and_others_in_order(pairs: Path, tmp_path: Path) -> None:
    def numbers(out: Path) -> list[int]:
        names = Shards(str(out)).items.names
        return [int(re.search(r"(\d+)", name)[1]) for name in names]

    write_pairs(pairs, 12, size=(40, 40))
    write_pairs(pairs, 12, size=(40, 40), split="val")
    flags = ["--dataroot", pairs]
    shuffled = [numbers(pack(tmp_path / f"seed{seed}", *flags, "--seed", seed)) for seed in (0, 1)]
    assert shuffled[0] != shuffled[1] and all(sorted(order) == list(range(12)) != order for order in shuffled)
    assert read_index(tmp_path / "seed1").seed == 1
    for out, more in (("serial", ["--serial_batches"]), ("val", ["--phase", "val"]), ("test", ["--phase", "test"])):
        assert numbers(pack(tmp_path / out, *flags, *more)) == list(range(12))
        assert read_index(tmp_path / out).seed is None


def batches_of(out: Path, workers: int, epoch: int = 1, start: int = 0) -> list[dict[str, Any]]:
    opt = train(*of(out, "--batchSize", 4, "--shard_window", 2))
    opt.nThreads = workers
    loader = create_dataloader(opt)
    loader.batch_sampler.set_position(epoch, start)
    return list(loader)


def check_equal_batches(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a["path"] == b["path"]
        assert all(torch.equal(a[name], b[name]) for name in ("label", "instance", "image"))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_and_resuming_do_not_change_what_is_loaded(tmp_path: Path) -> None:
    out = many(tmp_path)
    alone = batches_of(out, 0)
    assert len(alone) == 5
    for workers in (1, 2, 3):
        check_equal_batches(batches_of(out, workers), alone)
    check_equal_batches(batches_of(out, 2, start=3), alone[3:])
    second = batches_of(out, 2, epoch=2)
    assert [batch["path"] for batch in second] != [batch["path"] for batch in alone]
    check_equal_batches(batches_of(out, 0, epoch=2, start=1), second[1:])


def test_a_process_does_not_move_anothers_place(packed: Path) -> None:
    """Both have the file that was open before the fork, and neither uses it."""
    shards = Shards(str(packed))
    shards.read(0)
    (opened,) = shards._files.values()
    shards._process = -1  # as in a child
    shards.read(1)
    assert shards._files[0] is not opened
    assert opened.tell() < shards._files[0].tell()


def test_a_reader_can_be_sent_to_another_process(packed: Path) -> None:
    """As loaders do where processes are not forked: without its open files."""
    shards = Shards(str(packed))
    shards.read(0)
    sent = pickle.loads(pickle.dumps(shards))
    assert not sent._files and shards._files
    assert [sent.read(i) for i in range(4)] == [shards.read(i) for i in range(4)]


def test_few_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.shards.OPEN_FILES", 2)
    shards = Shards(str(many(tmp_path, 8, 1)))
    first = [shards.read(i) for i in range(8)]
    assert list(shards._files) == [6, 7]
    assert [shards.read(i) for i in (7, 0, 6, 3)] == [first[i] for i in (7, 0, 6, 3)]
    assert list(shards._files) == [6, 3]


# -------------------------------------------------------------------------------------------------------------- packing


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_shards_are_what_they_are_said_to_be(pairs: Path, packed: Path) -> None:
    """Plain tar files that tar and webdataset's own loader read, with nothing in them but the files."""
    assert sorted(p.name for p in packed.iterdir()) == [
        "index.json",
        "items.bin",
        "train-000000.tar",
        "train-000001.tar",
    ]
    with tarfile.open(packed / "train-000001.tar") as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [
            f"00000{i}.{what}" for i in (0, 1) for what in ("image.jpg", "instance.png", "label.png")
        ]
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.mode) for m in members} == {(0, 0, "", "", 0, 0o444)}
        assert tar.extractfile("000001.label.png").read() == (pairs / "train_label" / "picture3.png").read_bytes()
    library = webdataset()
    (_, second) = library.WebDataset(str(packed / "train-000001.tar"), shardshuffle=False)
    assert second["image.jpg"] == (pairs / "train_img" / "picture3.jpg").read_bytes()
    index = read_index(packed)
    assert [(s.items, s.bytes) for s in index.shards] == [(2, (packed / s.name).stat().st_size) for s in index.shards]
    assert [s.sha256 for s in index.shards] == [
        hashlib.sha256((packed / s.name).read_bytes()).hexdigest() for s in index.shards
    ]


def test_sizes_of_shards(pairs: Path, tmp_path: Path) -> None:
    """An item takes 6 to 7.5 kB; where a shard may have one byte, each item has a shard of its own."""
    for size, shards in (("0.000001", 4), ("0.016", 2), ("1", 1)):
        out = pack(tmp_path / size, "--dataroot", pairs, "--shard_size", size)
        index = read_index(out)
        assert len(index.shards) == shards and sum(s.items for s in index.shards) == 4
        assert all(s.bytes <= float(size) * 1e6 + 1024 + 10240 for s in index.shards)


def test_packing_again_changes_nothing(pairs: Path, packed: Path, capsys: pytest.CaptureFixture) -> None:
    before, originals = content(packed), content(pairs)
    pack(packed, "--dataroot", pairs, "--label_nc", 5, "--shard_items", 2, "--serial_batches")
    assert "4 items in 2 shard(s)" in capsys.readouterr().out
    assert content(packed) == before
    assert content(pairs) == originals


@pytest.mark.parametrize("cut", ["after the first shard", "in the second shard", "before the index"])
def test_a_packing_that_was_cut_short_goes_on(
    pairs: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """Nothing half written has a shard's name, and what was finished is not written again."""
    flags = ["--dataroot", pairs, "--label_nc", 5, "--shard_items", 2, "--serial_batches", "--nThreads", 1]
    out = tmp_path / "again"
    whole_sample, whole_write = pack_shards._sample, pack_shards.write_atomically

    class Killed(BaseException):
        pass

    def sample(plan: object, item: int, place: int) -> dict:
        if item == {"after the first shard": 2, "in the second shard": 3}.get(cut):
            raise Killed
        return whole_sample(plan, item, place)

    def write(path: Path, content: object) -> None:
        if cut == "before the index" and path.name == "index.json":
            raise Killed
        whole_write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(pack_shards, "_sample", sample)
        patch.setattr(pack_shards, "write_atomically", write)
        with pytest.raises(Killed):
            pack(out, *flags)
    left = content(out)
    tars = {name for name in left if name.endswith(".tar")}
    assert tars == ({"train-000000.tar"} if "shard" in cut else {"train-000000.tar", "train-000001.tar"})
    assert all(left[name][0] == (packed / name).read_bytes() for name in tars)
    assert not (out / "index.json").exists()
    with pytest.raises(UserError, match=r"there is no index.json in \S+again: .* has made and finished"):
        create_dataset(train(*of(out, "--packed_from", "coco", "--label_nc", 5)))
    with pytest.raises(UserError, match="holds shards of 4 items of --dataset_mode coco .* this is another data set"):
        pack(out, *flags, "--phase", "val")
    pack(out, *flags)
    assert {name: data for name, (data, _) in content(out).items()} == {
        name: data for name, (data, _) in content(packed).items()
    }
    assert all(content(out)[name] == left[name] for name in tars)


def test_a_folder_holds_one_data_set(pairs: Path, packed: Path, tmp_path: Path) -> None:
    flags = ["--dataroot", pairs, "--label_nc", 5, "--shard_items", 2, "--serial_batches"]
    before = content(packed)
    for other in (["--phase", "val"], ["--shard_items", 3], ["--label_nc", 6], ["--no_instance"]):
        with pytest.raises(UserError, match=rf"--out {packed} holds shards of 4 items .*give a new folder, or delete"):
            pack(packed, *flags, *other)
    (pairs / "train_label" / "picture1.png").touch()  # which may be another file
    with pytest.raises(UserError, match="this is another data set, or files, flags or --seed have changed since"):
        pack(packed, *flags)
    assert content(packed) == before
    with pytest.raises(
        UserError, match=r"--out \S+train_img holds other files \(picture0.jpg, .* and 1 more\); give an"
    ):
        pack(pairs / "train_img", *flags)
    assert sorted(p.name for p in (pairs / "train_img").iterdir()) == [f"picture{i}.jpg" for i in range(4)]


def test_what_cannot_be_packed(pairs: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--dataset_mode shards is not one of files that can be packed"):
        pack(tmp_path / "x", *of(packed))
    (pairs / "train_label" / "picture0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="picture0.png cannot be read as an image"):
        pack(tmp_path / "x", "--dataroot", pairs, "--label_nc", 5)
    with pytest.raises(SystemExit):
        pack_shards.main(["--dataroot", str(pairs)])
    (pairs / "train_label" / "picture0.png").write_bytes((pairs / "train_label" / "picture1.png").read_bytes())
    (pairs / "train_img" / "picture3.jpg").unlink()
    os.mkfifo(pairs / "train_img" / "picture3.jpg")  # reading it would wait for ever
    with pytest.raises(UserError, match="picture3.jpg is no plain file and cannot be packed"):
        pack(tmp_path / "x", "--dataroot", pairs, "--label_nc", 5)
    assert not (tmp_path / "x").exists()


def test_a_file_that_changes_while_it_is_packed(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pack_shards.plan

    def plan(*args: Any) -> object:
        planned = whole(*args)
        Image.new("RGB", (80, 72)).save(pairs / "train_img" / "picture1.jpg")
        return planned

    monkeypatch.setattr(pack_shards, "plan", plan)
    with pytest.raises(UserError, match=r"picture1.jpg has changed while it was packed; delete the folder"):
        pack(tmp_path / "out", "--dataroot", pairs, "--label_nc", 5)
    assert not list((tmp_path / "out").glob("*.tar"))


def test_a_damaged_shard_is_never_signed(pairs: Path, packed: Path) -> None:
    """Packing again writes what is gone, with the digest of before; without an index it trusts no shard at all."""
    flags = ["--dataroot", pairs, "--label_nc", 5, "--shard_items", 2, "--serial_batches"]
    before = {path: path.read_bytes() for path in sorted(packed.iterdir())}
    first, second = sorted(packed.glob("*.tar"))

    def damaged_second() -> None:
        second.write_bytes(bytes(second.stat().st_size))

    damaged_second()
    first.unlink()
    pack(packed, *flags)
    assert first.read_bytes() == before[first]
    with pytest.raises(UserError, match=f"{second.name} differ from index.json, or are gone; copy them again, or del"):
        pack_shards.main(["--verify", str(packed), "--gpu_ids", "-1"])
    second.unlink()
    pack(packed, *flags)
    assert {path: path.read_bytes() for path in sorted(packed.iterdir())} == before
    damaged_second()
    (packed / "index.json").unlink()
    pack(packed, *flags)
    assert {path: path.read_bytes() for path in sorted(packed.iterdir())} == before


def test_verify(packed: Path, capsys: pytest.CaptureFixture) -> None:
    pack_shards.main(["--verify", str(packed), "--gpu_ids", "-1"])
    assert "2 shard(s) in" in capsys.readouterr().out
    path = packed / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # in what no reader looks at
    with pytest.raises(UserError, match=r"train-000001.tar differ from index.json, or are gone; copy them again"):
        pack_shards.main(["--verify", str(packed), "--gpu_ids", "-1"])


# -------------------------------------------------------------------------------------------------------------- testing


def test_layouts_without_photos(pairs: Path, tmp_path: Path) -> None:
    shutil.rmtree(pairs / "val_img")
    out = pack(tmp_path / "val", "--dataroot", pairs, "--label_nc", 5, "--phase", "val")
    dataset = create_dataset(test(*of(out)))
    assert "image" not in dataset[0]
    check_same(create_dataset(test("--dataroot", pairs, "--label_nc", 5)), dataset)
    with pytest.raises(
        UserError, match=r"the shards in \S+val \(--phase val\) were packed without photos, which train"
    ):
        create_dataset(train(*of(out)))


def test_a_folder_of_layouts_under_a_data_sets_rules(pairs: Path, tmp_path: Path) -> None:
    """Packed as test.py reads it: --label_dir, no photos, instance maps where they are given."""
    argv = ["--dataset_mode", "coco", "--label_nc", 5, "--label_dir", pairs / "train_label", "--phase", "test"]
    dataset = create_dataset(test(*of(pack(tmp_path / "out", *argv))))
    check_same(create_dataset(test(*argv)), dataset)
    assert dataset[0]["instance"].eq(0).all()


# ---------------------------------------------------------------------------------------------------- mistakes and harm


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def change_index(packed: Path, change: Callable[[dict], None]) -> None:
    index = json.loads((packed / "index.json").read_text())
    change(index)
    (packed / "index.json").write_text(json.dumps(index))


def change_items(packed: Path, change: Callable[[bytes], bytes]) -> None:
    """Other items.bin, and its digest in the index, as one who means harm would have it."""
    damage(packed / "items.bin", change)
    digest = hashlib.sha256((packed / "items.bin").read_bytes()).hexdigest()
    change_index(packed, lambda index: index.update(items_sha256=digest))


def test_a_folder_that_is_not_one_of_shards(tmp_path: Path, pairs: Path) -> None:
    for folder in (tmp_path / "none", pairs, pairs / "train_img" / "picture0.jpg"):
        said = (
            rf"there is no index.json in {folder}: --dataroot of --dataset_mode shards is a folder that datasets/pack"
        )
        with pytest.raises(UserError, match=said):
            create_dataset(train(*of(folder)))


def test_shards_that_are_gone_or_cut_short_are_named_at_the_start(packed: Path) -> None:
    path = packed / "train-000001.tar"
    damage(path, lambda data: data[:5000])
    with pytest.raises(
        UserError, match=r"train-000001.tar has 5000 bytes, but index.json says \d+: it is cut short; copy"
    ):
        create_dataset(train(*of(packed)))
    path.unlink()
    with pytest.raises(
        UserError, match=r"train-000001.tar is not there, but index.json lists it; copy the folder again"
    ):
        create_dataset(train(*of(packed)))


def test_shards_that_change_after_the_start(packed: Path) -> None:
    shards = Shards(str(packed))
    shards.read(2)
    damage(packed / "train-000001.tar", lambda data: data[:600])
    with pytest.raises(UserError, match="train-000001.tar has 600 bytes, but index.json says"):  # the file is open
        shards.read(3)
    (packed / "train-000000.tar").unlink()
    with pytest.raises(UserError, match="train-000000.tar is not there"):
        shards.read(0)


def test_a_shard_of_another_packing(pairs: Path, packed: Path, tmp_path: Path) -> None:
    """Same size, other content: names and sizes in the tar file are not those of the index."""
    sizes = [shard.bytes for shard in read_index(packed).shards]
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(pairs / "train_img" / "picture0.jpg", "000000.image.jpg")
    damage(
        packed / "train-000000.tar",
        lambda data: (tmp_path / "other.tar").read_bytes()[: sizes[0]].ljust(sizes[0], b"\0"),
    )
    said = r"train-000000.tar does not have 000000.\w+.\w+ where index.json and items.bin say: it is of another packing"
    with pytest.raises(UserError, match=said):
        create_dataset(train(*of(packed)))[0]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE, tarfile.DIRTYPE, b"x"])
def test_members_that_are_no_plain_files(packed: Path, kind: bytes) -> None:
    """Links, sparse files (whose size may be anything) and extended headers never reach the library."""

    def change(data: bytes) -> bytes:
        info = tarfile.TarInfo.frombuf(data[:512], "utf-8", "strict")
        assert is_header(data[:512], info.name, info.size)
        info.type, info.linkname = kind, "../../../etc/passwd"
        block = info.tobuf(tarfile.GNU_FORMAT)[:512]
        assert not is_header(block, info.name, info.size)
        return block + data[512:]

    damage(packed / "train-000000.tar", change)
    with pytest.raises(UserError, match="train-000000.tar does not have 000000.image.jpg where"):
        create_dataset(train(*of(packed)))[0]


def test_a_header_that_asks_for_more_than_the_index_says(packed: Path) -> None:
    def change(data: bytes) -> bytes:
        info = tarfile.TarInfo.frombuf(data[:512], "utf-8", "strict")
        return replace_size(info, 1 << 33) + data[512:]

    def replace_size(info: tarfile.TarInfo, size: int) -> bytes:
        info.size = size - 1
        return info.tobuf(tarfile.USTAR_FORMAT)

    damage(packed / "train-000000.tar", change)
    with pytest.raises(UserError, match="train-000000.tar does not have 000000.image.jpg where"):
        create_dataset(train(*of(packed)))[0]


def test_sizes_that_do_not_fit_the_shards(packed: Path) -> None:
    """items.bin starts with the sizes of the first item's files: a large one asks for what follows."""
    change_items(packed, lambda data: np.array([1 << 30], "<i8").tobytes() + data[8:])
    with pytest.raises(UserError, match="items.bin does not fit train-000000.tar; copy the folder again"):
        create_dataset(train(*of(packed)))
    change_items(packed, lambda data: np.array([-1], "<i8").tobytes() + data[8:])
    with pytest.raises(
        UserError, match=r"items.bin does not fit index.json \(a size or an extension is out of range\)"
    ):
        create_dataset(train(*of(packed)))
    change_items(packed, lambda data: data[:50])
    with pytest.raises(UserError, match=r"items.bin does not fit index.json \(it was cut short\)"):
        create_dataset(train(*of(packed)))
    damage(packed / "items.bin", lambda data: data[:49])
    with pytest.raises(UserError, match="items.bin is not the one that index.json describes, or damaged"):
        create_dataset(train(*of(packed)))
    (packed / "items.bin").unlink()
    with pytest.raises(UserError, match="items.bin is not there"):
        create_dataset(train(*of(packed)))


@pytest.mark.parametrize(
    "name", ["../../../x", "/tmp/xxx.jpg", "a//b/xx.jpg", "./a.jpgxxxx", "a/../xx.jpg", "..\\..\\xxxxx"]
)
def test_names_that_lead_out_of_a_folder(packed: Path, name: str) -> None:
    """They would become names of results."""
    change_items(packed, lambda data: data.replace(b"picture1.jpg", name.encode().ljust(12, b"x")))
    with pytest.raises(UserError, match=r"items.bin does not fit index.json \(an item is called"):
        create_dataset(train(*of(packed)))


def test_names_with_dots_that_lead_nowhere(packed: Path) -> None:
    for name in (b"...........x", b"a/...b/..x.y", b"picture1.jpg"):
        change_items(packed, lambda data, name=name: data[:-26] + name + data[-14:])
    assert len(create_dataset(train(*of(packed)))) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "is of format 2, this code reads 1: pack it anew"),
        ({"format": None}, "is of format None"),
        ({"items": 5}, "do not have as many items as it counts"),
        ({"items": True}, "a count is not a whole number"),
        ({"members": ["label", "image"]}, "an item has the members"),
        ({"members": "label"}, "damaged one"),
        ({"extensions": ["png", "../x"]}, "extensions are"),
        ({"dataset_mode": "painting"}, "shards of --dataset_mode painting: there are coco, ade20k"),
        ({"dataset_mode": "shards"}, "shards of --dataset_mode shards"),
        ({"surprise": 1}, "is no index of shards, or a damaged one"),
        ({"flags": {"label_nc": "5; rm"}}, "label_nc '5; rm' is no value of --label_nc"),
        ({"flags": {"class_table": "../../secret.json"}}, "the class table is '../../secret.json', not a name"),
        ({"flags": {"label_palette": "../../secret.json"}}, "the label palette is '../../secret.json', not a name"),
        ({"shards": []}, "do not have as many"),
        ({"shards": [{"name": "../x.tar", "items": 4, "bytes": 1, "sha256": ""}]}, "a shard is called '../x.tar'"),
    ],
)
def test_an_index_that_is_damaged(packed: Path, change: dict, words: str) -> None:
    change_index(packed, lambda index: index.update(change))
    with pytest.raises(UserError, match=re.escape(words)):
        create_dataset(train(*of(packed)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "null", "\xff", "[" * 100000])
def test_an_index_that_is_none(packed: Path, text: str) -> None:
    (packed / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"index.json is no index of shards, or a damaged one \(.*pack it anew"):
        train(*of(packed))


def test_the_index_sets_nothing_but_what_ids_mean(packed: Path) -> None:
    """Not where results go, nor what is downloaded."""
    change_index(packed, lambda index: index["flags"].update(checkpoints_dir="/elsewhere", name="other"))
    with pytest.raises(UserError, match=r"index.json .*it sets the flags label_nc, .*checkpoints_dir, name; those of"):
        train(*of(packed))


def test_files_in_shards_are_checked_as_loose_ones(pairs: Path, tmp_path: Path) -> None:
    """The message names the shard, the member, and the file that it was."""
    Image.new("RGB", (72, 80)).save(pairs / "train_img" / "picture1.jpg")
    (pairs / "train_label" / "picture2.png").write_bytes(b"\x89PNG not really")
    (pairs / "train_inst" / "picture3.png").write_bytes(b"")
    out = pack(tmp_path / "out", "--dataroot", pairs, "--label_nc", 5, "--serial_batches")
    dataset = create_dataset(train(*of(out)))
    name = r"\S*out/train-000000.tar/00000{0}.{1}.\w+ \(of picture{0}.jpg\)"
    for index, said in {
        1: rf"{name.format(1, 'image')} is 72 x 80 but {name.format(1, 'label')} is 80 x 72 .* not in shape",
        2: rf"{name.format(2, 'label')} cannot be read as an image: it is none of .* damaged; copy it again",
        3: rf"{name.format(3, 'instance')} cannot be read as an image: it is empty \(0 bytes\); copy it again",
    }.items():
        with pytest.raises(UserError, match=said):
            dataset[index]


def test_without_the_extra(packed: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and packing say what to install; all else works without."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "webdataset"]:
        monkeypatch.delitem(sys.modules, name)
    whole = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "webdataset":
            raise ImportError(name)
        return whole(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    for attempt in (
        lambda: create_dataset(train(*of(packed))),
        lambda: pack(tmp_path / "x", "--dataroot", pairs, "--label_nc", 5),
    ):
        with pytest.raises(
            UserError, match=r"webdataset, which is not installed: pip install -r requirements-webdataset"
        ):
            attempt()
    assert (Path(__file__).parent.parent / "requirements-webdataset.txt").exists()
    assert not (tmp_path / "x").exists()
    create_dataset(train("--dataroot", pairs))[0]


def test_members_are_bytes_to_the_library(packed: Path) -> None:
    """No decoders: a member that looks like a pickle stays what it is."""
    with tarfile.open(packed.parent / "p.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        (packed.parent / "a").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
        tar.add(packed.parent / "a", "000000.label.pkl")
    (sample,) = samples_of((packed.parent / "p.tar").read_bytes())
    assert sample["label.pkl"] == b"cos\nsystem\n(S'echo'\ntR."


def test_items_survive_their_file(packed: Path) -> None:
    index = read_index(packed)
    whole = (packed / "items.bin").read_bytes()
    assert Items.from_bytes(whole, index).to_bytes() == whole
    with pytest.raises(ValueError, match="names 4 items|names 5 items"):
        Items.from_bytes(whole + b"x\0", index)
    with pytest.raises(ValueError):
        Items.from_bytes(whole + b"x", index)
    assert read_index(packed) == replace(index)


# ----------------------------------------------------------------------------------------------------------- end to end


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{letter}.{name}": value
        for letter in "GD"
        for name, value in torch.load(folder / f"latest_net_{letter}.pth", weights_only=True).items()
    }


def test_training_and_testing_from_shards(
    pairs: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed in order and read in order: weights are, bit for bit, those of the loose files; pictures too."""
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--serial_batches", "--batchSize", "2", "--no_html"]
    train_script.main([*flags, "--name", "loose", "--dataroot", str(pairs), "--label_nc", "5"])
    train_script.main([*flags, "--name", "packed", *map(str, of(packed))])
    loose, ours = weights(Path("checkpoints/loose")), weights(Path("checkpoints/packed"))
    assert loose.keys() == ours.keys()
    assert [name for name in loose if not torch.equal(loose[name], ours[name])] == []

    pack(Path("val"), "--dataroot", pairs, "--label_nc", 5, "--phase", "val")
    common = ["--gpu_ids", "-1", "--nThreads", "0"]
    test_script.main([*common, "--name", "loose", "--dataroot", str(pairs)])
    test_script.main([*common, "--name", "packed", "--dataroot", "val"])  # opt.json says that these are shards
    test_script.main([*common, "--name", "loose", *map(str, of(Path("val"))), "--results_dir", "other"])
    test_script.main([*common, "--name", "packed", "--label_dir", str(pairs / "val_label"), "--results_dir", "dir"])
    for kind in ("input_label", "synthesized_image", "real_image"):
        names = [f"picture{i}.png" for i in range(2)]
        made = Path(f"results/packed/test_latest/images/{kind}")
        assert sorted(path.name for path in made.iterdir()) == names
        for name in names:
            for other in ("results/loose", "other/loose"):
                assert (made / name).read_bytes() == Path(f"{other}/test_latest/images/{kind}/{name}").read_bytes()
    assert len(list(Path("dir/packed/test_latest/images/synthesized_image").iterdir())) == 2


def test_resuming_in_the_middle_of_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shuffled shards: a run cut after the second of three batches of its second epoch goes on, bit for bit."""
    from trainers.base_trainer import BaseTrainer

    out = many(tmp_path, 6, 2)
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, *map(str, of(out)), "--batchSize", "2", "--shard_window", "2", "--no_html", "--niter", "2"]
    flags += ["--save_latest_freq", "10", "--print_freq", "0"]  # images: after five batches
    train_script.main([*flags, "--name", "whole"])
    whole_save = BaseTrainer.save

    class Cut(Exception):
        pass

    def save_then_cut(self: BaseTrainer, *args: object) -> None:
        whole_save(self, *args)
        if self.iteration == 5:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(BaseTrainer, "save", save_then_cut)
        with pytest.raises(Cut):
            train_script.main([*flags, "--name", "cut"])
    train_script.main([*flags, "--name", "cut", "--continue_train", "--nThreads", "2"])
    whole, cut = weights(Path("checkpoints/whole")), weights(Path("checkpoints/cut"))
    assert [name for name in whole if not torch.equal(whole[name], cut[name])] == []


def test_the_benchmark_runs(pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    flags = ["--dataset_mode", "coco", "--dataroot", str(pairs), "--load_size", "40", "--crop_size", "32"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--copies", "2", "--rounds", "1", *flags])
    benchmark.main()
    said = capsys.readouterr().out
    assert "8 items, 1 shards; equal items" in said
    assert len(re.findall(r"^\| (?:reading|whole).* \| [\d.]+ \|$", said, re.M)) == 6
    whole = ShardsDataset.files

    def other(self: ShardsDataset, index: int) -> dict:
        found = whole(self, index)
        return {**found, "image": whole(self, 1)["image"]} if index == 0 else found

    monkeypatch.setattr(ShardsDataset, "files", other)
    with pytest.raises(AssertionError, match="000_000000"):
        benchmark.main()


def test_help_has_the_flags_of_a_data_set_alone(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        pack_shards.PackOptions().parse(["--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--out", "--label_dir", "--coco_no_portraits", "--label_nc", "--phase"))
    assert not any(flag in shown for flag in ("--ngf", "--lr", "--batchSize", "--shard_window"))
