"""Tar shards against loose files: python -m benchmarks shards [--copies N] [--flags of train.py].

The data set that the flags name is copied N times into a folder of its own, under other names, packed from there in
order, and read from both, in turns: with the files in the system's cache, and after asking the system to drop them
(posix_fadvise, which needs no rights; a disk's own cache, or a host's under a virtual machine, stays). First what
reading takes, without decoding; then images a second of the whole loader, shuffled. That items of both sides are equal
is checked.
"""

import os
import shutil
import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.common import options_of, parser_of
from data import create_dataloader, create_dataset
from data.pix2pix_dataset import Pix2pixDataset
from datasets import pack_shards
from options.flags import positive
from options.train_options import TrainOptions
from util.errors import UserError, run_main
from util.provenance import machine

COPIES, ROUNDS = 30, 3


def copy(dataset: Pix2pixDataset, folder: Path, copies: int) -> list[str]:
    """The files of a data set `copies` times, and the flags that lead to them."""
    kinds = {"label": dataset.paths.labels, "image": dataset.paths.images, "instance": dataset.paths.instances}
    flags = []
    for kind, paths in kinds.items():
        if not paths:
            continue
        (folder / kind).mkdir(parents=True)
        for number, path in enumerate(paths):
            for again in range(copies):
                shutil.copyfile(path, folder / kind / f"{again:03}_{number:06}{Path(path).suffix}")
        flags += [f"--{kind}_dir", str(folder / kind)]
    return flags


def drop(folder: Path) -> None:
    """Ask the system to forget what it has read of a folder's files."""
    for path in folder.rglob("*"):
        if path.is_file() and hasattr(os, "posix_fadvise"):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_all(dataset: Pix2pixDataset, seed: int) -> float:
    """Seconds to read the bytes of all items, in the order of an epoch."""
    start, size = time.perf_counter(), 0
    for index in dataset.order(seed, len(dataset)).tolist():
        for path, content in dataset.files(index).values():
            size += len(Path(path).read_bytes() if content is None else content)
    return time.perf_counter() - start


def load_all(opt: Namespace, dataset: Pix2pixDataset, workers: int, epoch: int) -> float:
    """Seconds of an epoch of the whole loader, its processes' start left out."""
    loader = create_dataloader(Namespace(**{**vars(opt), "nThreads": workers}), dataset)
    loader.batch_sampler.set_position(epoch, 0)
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def main() -> None:
    """Print items a second of both sides.

    Raises:
        AssertionError: an item differs.
        UserError: the data set is not one of label maps and photos.
    """
    parser = parser_of("shards", __doc__, "train.py")
    parser.add_argument("--copies", type=positive, metavar="N", help="of the data set", default=COPIES)
    parser.add_argument("--rounds", type=positive, metavar="N", help="of either side", default=ROUNDS)
    parser.add_argument("--scratch", metavar="FOLDER", help="where the copies lie for the time of the benchmark")
    torch.set_num_threads(1)
    with (
        options_of(parser, TrainOptions(), "train") as (own, opt, _),
        TemporaryDirectory(dir=own.scratch) as scratch,
    ):
        print(machine())
        original = create_dataset(opt)
        if not isinstance(original, Pix2pixDataset):
            raise UserError(f"--dataset_mode {opt.dataset_mode} has no files to pack")
        folders = {"loose files": Path(scratch, "loose"), "shards": Path(scratch, "shards")}
        rules = {**vars(opt), "dataset_mode": "custom"}
        found = copy(original, folders["loose files"], own.copies)
        loose = Namespace(**rules | {flag[2:]: folder for flag, folder in zip(found[::2], found[1::2], strict=True)})
        ids = ["--label_nc", str(opt.label_nc), "--contain_dontcare_label", str(bool(opt.contain_dontcare_label))]
        argv = ["--dataset_mode", "custom", *found, *ids, "--gpu_ids", "-1", "--shard_size", "16"]
        pack_shards.main([*argv, "--serial_batches", "--out", str(folders["shards"])])
        packed = Namespace(**{**vars(opt), "dataset_mode": "shards", "dataroot": str(folders["shards"])})
        packed.packed_from, packed.shard_window = "custom", opt.shard_window
        opts = {"loose files": loose, "shards": packed}
        sets = {name: create_dataset(o) for name, o in opts.items()}
        for index in range(0, len(original) * own.copies, own.copies):
            a, b = (sets[name][(index, (1, index))] for name in sets)
            assert all(torch.equal(a[kind], b[kind]) for kind in a if kind != "path"), a["path"]
        count, shards = len(sets["shards"]), len(sets["shards"].shards.index.shards)
        print(f"{count} items, {shards} shards; equal items; medians of {own.rounds}:\n")

        def line(what: str, run: Callable[[str, int], float], cold: bool) -> None:
            times: dict[str, list[float]] = {name: [] for name in sets}
            for number in range(own.rounds):
                for name, folder in folders.items():
                    if cold:
                        drop(folder)
                    times[name].append(run(name, number + 1))
            speeds = [count / statistics.median(times[name]) for name in sets]
            print(f"| {what} | {speeds[0]:.0f} | {speeds[1]:.0f} | {speeds[1] / speeds[0]:.2f} |", flush=True)

        print(f"| items a second | {' | '.join(sets)} | times as many |\n|---|---|---|---|")
        for cold in (False, True):
            state = "cold" if cold else "warm"
            line(f"reading alone, {state}", lambda name, epoch: read_all(sets[name], epoch), cold)
            for workers in (0, 2):
                line(
                    f"whole loader, {workers} processes, {state}",
                    lambda name, epoch, workers=workers: load_all(opts[name], sets[name], workers, epoch),
                    cold,
                )


if __name__ == "__main__":
    run_main(main)
