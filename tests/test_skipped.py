"""--on_bad_image: what becomes of items whose files cannot be used, and how the run tells of them."""

import os
import re
import shutil
import signal
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import train as train_script
from data import create_dataloader, create_dataset
from data.base_dataset import MOST_REPLACEMENTS
from data.skipped import FILE_NAME, SHOWN, SkippedFiles
from options.train_options import TrainOptions
from tests.conftest import TINY, write_pairs
from tests.faults.lives import begin
from tests.test_end_to_end import states
from trainers.base_trainer import BaseTrainer, micro_batches
from util import launch
from util.errors import Interrupted, UserError
from util.iter_counter import IterationCounter
from util.seeding import seed_from

SMALL = "--gpu_ids -1 --nThreads 0 --crop_size 64 --load_size 72 --label_nc 5".split()
RUN = [*TINY, "--label_nc", "5", "--no_html", "--print_freq", "0", "--display_freq", "0", "--on_bad_image", "skip"]


def options(root: Path, *argv: object) -> Namespace:
    return TrainOptions().parse([*SMALL, "--dataroot", str(root), *map(str, argv)])


def skipping(root: Path, *argv: object) -> Namespace:
    return options(root, "--on_bad_image", "skip", *argv)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Eight pairs, of which 1 has an empty photo, 4 a label map with id 9, and 6 an instance map of another shape."""
    root = write_pairs(tmp_path / "data", 8)
    (root / "train_img" / "picture1.jpg").write_bytes(b"")
    Image.new("L", (80, 72), 9).save(root / "train_label" / "picture4.png")
    Image.new("L", (80, 40)).save(root / "train_inst" / "picture6.png")
    return root


BAD = {
    "train_img/picture1.jpg": "cannot be read as an image: it is empty (0 bytes)",
    "train_label/picture4.png": "has ids 9, but --label_nc 5 allows 0 .. 4",
    "train_inst/picture6.png": "is 80 x 40 but",
}


def numbers(batch: dict[str, Any]) -> list[int]:
    return [int(re.search(r"(\d+)\.jpg$", path)[1]) for path in batch["path"]]


# --------------------------------------------------------------------------------------------------------- replacements


def test_errors_name_the_file_and_the_flag(damaged: Path) -> None:
    hint = r".*\(--on_bad_image skip trains without such files, datasets/check_dataset.py lists them\)"
    with pytest.raises(UserError, match=r"picture4.png has ids 9" + hint):  # before training begins
        create_dataloader(options(damaged, "--serial_batches"))
    for kind, name in (("label", "picture4.png"), ("inst", "picture6.png")):
        shutil.copy(damaged / f"train_{kind}/picture0.png", damaged / f"train_{kind}" / name)
    photo = damaged / "train_img/picture1.jpg"
    photo.write_bytes((damaged / "train_img/picture0.jpg").read_bytes()[:-200])  # which a quick look does not see
    loader = create_dataloader(options(damaged, "--serial_batches"))
    with pytest.raises(UserError, match=r"picture1.jpg cannot be read as an image" + hint):
        list(loader)


def test_the_replacement_follows_from_seed_epoch_place_and_attempt(damaged: Path) -> None:
    """By hand: the generator of that key draws an item, then its crop and flip."""
    dataset = create_dataset(skipping(damaged, "--seed", 3))
    attempts = set()
    for place in range(40):
        item = dataset[(1, (2, place))]
        bad, index = [], 1
        while index in (1, 4, 6):
            bad.append(index)
            rng = np.random.default_rng(seed_from(3, 2, place, len(bad)))
            index = int(rng.integers(8))
        expected = dataset.load(index, rng)
        assert item["path"] == expected["path"]
        assert all(torch.equal(item[name], expected[name]) for name in ("label", "instance", "image"))
        names = [{1: "img", 4: "label", 6: "inst"}[i] for i in bad]
        for (file, reason), name in zip(item["skipped"], names, strict=True):
            ending = next(ending for ending in BAD if name in ending)
            assert file == str(damaged / ending) and reason.startswith(f"{file} {BAD[ending]}")
        attempts.add(len(bad))
    assert attempts >= {1, 2}  # a replacement may be bad too
    assert "skipped" not in dataset[(0, (2, 0))]


def test_workers_and_resuming_change_nothing(damaged: Path) -> None:
    """Batches are full and bit for bit the same, with the files that they tell of."""

    def load(workers: int, start: int = 0) -> list[dict]:
        opt = skipping(damaged, "--batchSize", 2)
        opt.nThreads = workers
        loader = create_dataloader(opt)
        loader.batch_sampler.set_position(2, start)
        return list(loader)

    whole = load(0)
    assert [len(batch["path"]) for batch in whole] == [2] * 4
    assert not {1, 4, 6} & {number for batch in whole for number in numbers(batch)}
    told = {file for batch in whole for files in batch.get("skipped", []) for file, _ in files}
    assert told == {str(damaged / name) for name in BAD}
    for other, first in ((load(1), 0), (load(2), 0), (load(1, start=1), 1)):
        assert len(other) == 4 - first
        for a, b in zip(whole[first:], other, strict=True):
            assert (a["path"], a.get("skipped")) == (b["path"], b.get("skipped"))
            assert all(torch.equal(a[name], b[name]) for name in ("label", "instance", "image"))


def test_a_batch_tells_for_each_item_and_splits(damaged: Path) -> None:
    """So that whatever slices a batch by item slices this too; a batch without such items does not have it."""
    opt = skipping(damaged, "--serial_batches", "--batchSize", 4)
    first, second = create_dataloader(opt)
    assert [len(files) > 0 for files in first["skipped"]] == [False, True, False, False]
    assert [len(files) > 0 for files in second["skipped"]] == [True, False, True, False]
    parts = [part for _, part in micro_batches(first, 2)]
    assert [part["skipped"] for part in parts] == [first["skipped"][:2], first["skipped"][2:]]
    good = write_pairs(damaged.parent / "good", 2)
    (batch,) = create_dataloader(skipping(good, "--batchSize", 2))
    assert "skipped" not in batch


def test_where_nothing_can_be_used_it_ends(pairs: Path) -> None:
    for path in (pairs / "train_label").iterdir():
        path.write_bytes(b"GIF89a")
    words = rf"of an item and {MOST_REPLACEMENTS} others in its place none can be used.*picture0.png cannot be read"
    with pytest.raises(UserError, match=words):
        create_dataloader(skipping(pairs))


def test_the_look_at_the_first_item_obeys_the_flag(pairs: Path) -> None:
    path = pairs / "train_label" / "picture0.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(
        UserError, match=r"picture0.png cannot be read as an image: .*; copy it again, or leave it out$"
    ):
        create_dataloader(options(pairs))
    assert len(list(create_dataloader(skipping(pairs)))) == 4


def test_a_layout_that_no_generator_takes_is_replaced(tmp_path: Path) -> None:
    """Among pictures of 64 x 64 one of 64 x 40, which is no multiple of 32."""
    root = write_pairs(tmp_path, 3, size=(64, 64))
    for kind, name in (("label", "picture1.png"), ("inst", "picture1.png"), ("img", "picture1.jpg")):
        path = root / f"train_{kind}" / name
        Image.open(path).crop((0, 0, 64, 40)).save(path)
    flags = ["--preprocess_mode", "scale_width", "--load_size", 64, "--serial_batches"]
    with pytest.raises(UserError, match=r"picture1.jpg, as .* makes it, is a layout of 64 x 40"):
        list(create_dataloader(options(root, *flags)))
    batches = list(create_dataloader(skipping(root, *flags)))
    assert [tuple(batch["label"].shape[2:]) for batch in batches] == [(64, 64)] * 3
    file, reason = batches[1]["skipped"][0][0]
    assert file.endswith("picture1.jpg") and "is a layout of 64 x 40" in reason


def test_files_in_shards(tmp_path: Path) -> None:
    """Damaged before they were packed: named as in the data set that was packed, with their place in the shards."""
    pytest.importorskip("webdataset")
    from datasets import pack_shards

    root = write_pairs(tmp_path / "data", 4)
    (root / "train_label" / "picture2.png").write_bytes(b"no picture")
    flags = ["--dataset_mode", "coco", "--dataroot", root, "--label_nc", 5, "--serial_batches", "--nThreads", 1]
    pack_shards.main([*map(str, flags), "--gpu_ids", "-1", "--out", str(tmp_path / "shards")])
    opt = skipping(tmp_path / "shards", "--dataset_mode", "shards", "--serial_batches")
    batches = list(create_dataloader(opt))
    assert len(batches) == 4
    ((file, reason),) = batches[2]["skipped"][0]
    assert file == "picture2.jpg"
    assert re.search(r"train-000000.tar/000002.label.png \(of picture2.jpg\) cannot be read", reason)


# -------------------------------------------------------------------------------------------------------------- listing


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def batch_of(*files: tuple[str, str]) -> dict[str, Any]:
    return {"path": ["x"], "skipped": [list(files)]}


def test_a_list_is_short_and_the_file_is_whole(tmp_path: Path) -> None:
    """Each file once in an epoch, with the first reason; names may hold anything."""
    said: list[str] = []
    skipped = SkippedFiles(options(tmp_path, "--on_bad_image", "skip"), tmp_path / "run", said.append)
    with skipped:
        files = [(f"f{i}", f"f{i} is bad") for i in range(SHOWN + 5)]
        batches = [batch_of(*files), {"path": ["y"]}, batch_of(("f0", "f0 again"), ("a\nb\t\x1b\\", "r"))]
        assert all("skipped" not in batch for batch in skipped.taken_from(batches, 1))
        skipped.list_epoch()
        list(skipped.taken_from([batch_of(("f0", "f0 is bad"))], 2))
        skipped.write()  # as with a checkpoint
        list(skipped.taken_from([batch_of(("f0", "f0 is bad"))], 2))
        skipped.list_epoch()
        list(skipped.taken_from([{"path": ["y"]}], 3))
        skipped.list_epoch()
    first, second = said
    shown = first.split("\n")
    assert shown[0].startswith(f"epoch 1: {SHOWN + 6} files could not be used") and FILE_NAME in shown[0]
    assert shown[1:] == [*(f"  f{i} is bad" for i in range(SHOWN)), "  and 6 more"]
    assert second.startswith("epoch 2: 1 file could not") and second.endswith("\n  f0 is bad")
    kept = lines_of(tmp_path / "run" / FILE_NAME)
    assert kept[0] == "1\tf0\tf0 is bad" and len(kept) == SHOWN + 7
    assert kept[-2:] == ["1\ta\\nb\\t\\x1b\\\\\tr", "2\tf0\tf0 is bad"]


def test_nothing_is_written_where_nothing_is_wrong(tmp_path: Path) -> None:
    said: list[str] = []
    for policy in ("error", "skip"):
        with SkippedFiles(options(tmp_path, "--on_bad_image", policy), tmp_path / "run", said.append) as skipped:
            list(skipped.taken_from([{"path": ["y"]}], 1))
            skipped.list_epoch()
    assert not said and not (tmp_path / "run").exists()


def test_what_an_epoch_had_is_told_when_the_run_fails(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        pytest.raises(UserError, match="a loss is nan"),
        SkippedFiles(options(tmp_path, "--on_bad_image", "skip"), tmp_path, said.append) as skipped,
    ):
        for _ in skipped.taken_from([batch_of(("f", "f is bad"))], 4):
            raise UserError("a loss is nan")
    assert len(said) == 1 and said[0].startswith("epoch 4: 1 file") and said[0].endswith("  f is bad")
    assert lines_of(tmp_path / FILE_NAME) == ["4\tf\tf is bad"]


def test_a_run_goes_on_and_tells(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Stopped in the middle of its second epoch and resumed, it ends with the same weights; both parts tell theirs."""
    monkeypatch.chdir(tmp_path)
    flags = [*RUN, "--dataroot", str(damaged), "--niter", "2", "--batchSize", "2", "--accumulate", "2"]
    train_script.main([*flags, "--name", "whole"])
    said = capsys.readouterr().out
    folder = Path("checkpoints/whole")
    kept = lines_of(folder / FILE_NAME)
    assert {line.split("\t")[1] for line in kept} == {str(damaged / name) for name in BAD}
    assert len(kept) == len({tuple(line.split("\t")[:2]) for line in kept})  # once an epoch
    for epoch in (1, 2):
        own = [line.split("\t")[2] for line in kept if line.startswith(f"{epoch}\t")]
        listed = "".join(f"\n  {reason}" for reason in own)
        where = rf"epoch {epoch}: {len(own)} files? could not be used, and other items came instead \({folder}/"
        assert re.search(where + re.escape(f"{FILE_NAME}){listed}"), said)

    step = BaseTrainer.step

    def step_then_stop(self: BaseTrainer, batch: dict) -> dict:
        losses = step(self, batch)
        if self.iteration == 6:  # the second of four batches of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return losses

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(BaseTrainer, "step", step_then_stop)
        train_script.main([*flags, "--name", "parts"])
    before = lines_of(Path("checkpoints/parts") / FILE_NAME)
    train_script.main([*flags, "--name", "parts", "--continue_train"])
    after = lines_of(Path("checkpoints/parts") / FILE_NAME)
    assert after[: len(before)] == before
    assert set(after) == set(kept)
    whole, parts = states(folder), states(Path("checkpoints/parts"))
    assert list(whole) == list(parts) and all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_each_process_reads_its_share_and_the_first_tells(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Two processes list what one does, and only the first of them prints it."""
    monkeypatch.chdir(tmp_path)
    port, said_by = launch.free_port(), [tmp_path / f"said{rank}.txt" for rank in range(2)]
    flags = [*RUN, "--dataroot", str(damaged), "--batchSize", "4", "--name"]
    train_script.main([*flags, "run1"])
    lives = [
        begin([*flags, "run2"], 1, path, environments=[launch.environment(rank, 2, port)])
        for rank, path in enumerate(said_by)
    ]
    statuses, outputs = [life.wait() for life in lives], [path.read_text() for path in said_by]
    assert statuses == [[0], [0]], outputs
    listed = {count: sorted(lines_of(tmp_path / "checkpoints" / f"run{count}" / FILE_NAME)) for count in (1, 2)}
    printed = {1: [capsys.readouterr().out], 2: outputs}
    said = {count: [out.count("could not be used") for out in texts] for count, texts in printed.items()}
    assert listed[1] == listed[2] and len(listed[1]) == len(BAD)
    assert (said[1], said[2]) == ([1], [1, 0])


@pytest.mark.skipif(sys.platform != "linux", reason="this system's file names are always Unicode")
def test_names_of_files_may_be_anything(tmp_path: Path) -> None:
    """A line is a line, whatever the name; and it is UTF-8."""
    root = write_pairs(tmp_path / "data", 2)
    odd = os.fsdecode(b"pic\n\t\xe9 'ture")
    for kind, ending in (("label", ".png"), ("inst", ".png"), ("img", ".jpg")):
        (root / f"train_{kind}" / f"picture1{ending}").rename(root / f"train_{kind}" / f"{odd}{ending}")
    (root / "train_img" / f"{odd}.jpg").write_bytes(b"")
    opt = skipping(root)
    counter = IterationCounter(opt, 2)
    said: list[str] = []
    with SkippedFiles(opt, tmp_path, said.append) as skipped:
        list(skipped.taken_from(counter.batches(create_dataloader(opt)), 1))
    ((epoch, file, reason),) = (line.split("\t") for line in lines_of(tmp_path / FILE_NAME))
    assert (epoch, file) == ("1", f"{root / 'train_img'}/pic\\n\\t\\udce9 'ture.jpg")
    assert reason == f"{file} cannot be read as an image: it is empty (0 bytes); copy it again, or leave it out"
    assert said[0].split("\n")[1:] == [f"  {reason}"]
