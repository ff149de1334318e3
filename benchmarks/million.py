"""Starting with a million files: python -m benchmarks million [--files N].

A listing is simulated: `os.walk` is replaced and gives N label maps, photos and instance maps in three folders, in no
order, and nothing is on disk. The data set then finds, sorts and pairs them as always. Sides, one after the other, each
in a process of its own:

* lists of str: paths in lists, sorted and checked as they would be without tables;
* tables: the data set as it is;
* shards: a written index of as many items, and tar files of the right sizes with nothing in them (holes, which take no
  place on a disk).

Two forked loader processes each get half of an epoch's items, in shuffled order, look up the paths of each (three; in
shards the one that an item reports) and return a number. What is printed is the time to the data set, the time of the
epoch, and how much memory each loader process has to itself (private pages, /proc/PID/smaps_rollup) at its start and
end; Linux only.
"""

import contextlib
import hashlib
import multiprocessing
import os
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
from torch.utils.data import DataLoader, Dataset

from data import PositionedBatches
from data.custom_dataset import CustomDataset
from data.path_table import PathTable
from data.pix2pix_dataset import Paths, Pix2pixDataset
from data.shards import INDEX_NAME, ITEMS_NAME, MEMBERS, Index, Items, Shard, padded, tar_size
from data.shards_dataset import ShardsDataset
from options.flags import command_parser, positive
from options.train_options import TrainOptions
from util.errors import run_main
from util.provenance import machine

FILES, BATCH, WORKERS, PER_SHARD = 1_000_000, 1000, 2, 1250
ROOT = "/data/simulated"
FLAGS = f"--dataset_mode custom --label_dir {ROOT}/train_label --image_dir {ROOT}/train_img"
FLAGS += f" --instance_dir {ROOT}/train_inst --gpu_ids -1 --no_vgg_loss"


class Lists(CustomDataset):
    """The same files in lists of str, sorted by key lists and compared name by name."""

    def _gather(self) -> Paths:
        opt = self.opt
        folders = (opt.label_dir, opt.image_dir, opt.instance_dir)
        paths = Paths(*(sorted(self._walk(folder), key=_natural_key) for folder in folders))
        for others in (paths.images, paths.instances):
            assert all(self.pair_key(a) == self.pair_key(b) for a, b in zip(paths.labels, others, strict=True))
        return paths

    @staticmethod
    def _walk(folder: str) -> list[str]:
        return [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]


def _natural_key(path: str) -> tuple[list[int | str], str]:
    tokens = re.split(r"(\d+)", os.path.splitext(path)[0])
    return [int(token) if token.isdecimal() else token for token in tokens], path


class Lookups(Dataset):
    """Looks up the names of what an item would read."""

    def __init__(self, paths: Paths) -> None:
        self.tables = [table for table in (paths.labels, paths.images, paths.instances) if table]

    def __getitem__(self, key: Any) -> int:
        index, _ = key
        return sum(len(table[index]) for table in self.tables)


def walk_of(files: int) -> Any:
    """A walk of three folders, each of `files` files numbered with twelve digits, in the disordered way of disks."""

    numbers = [f"{number:012}" for number in range(files)]
    random.Random(0).shuffle(numbers)
    names = {suffix: [f"{number}.{suffix}" for number in numbers] for suffix in ("png", "jpg")}

    def walk(folder: str, **flags: bool) -> Iterator[tuple[str, list[str], list[str]]]:
        yield folder, [], names["jpg" if folder.endswith("img") else "png"]

    return walk


def write_shards(folder: Path, files: int) -> None:
    """The index of shards of `files` items of 200 kB, 1250 in each, and as many empty tar files of their sizes."""
    sizes = np.tile(np.array([[180_000, 10_000, 10_000]]), (files, 1))
    names = PathTable([f"{number:012}.jpg" for number in range(files)])
    items = Items(sizes, np.zeros((files, 3), np.uint8), names)
    (folder / ITEMS_NAME).write_bytes(items.to_bytes())
    each = int(padded(sizes[0]).sum())
    shards = []
    for first in range(0, files, PER_SHARD):
        count = min(PER_SHARD, files - first)
        shards.append(Shard(f"train-{first // PER_SHARD:06}.tar", count, tar_size(count * each), ""))
        (folder / shards[-1].name).touch()
        os.truncate(folder / shards[-1].name, shards[-1].bytes)
    digest = hashlib.sha256(items.to_bytes()).hexdigest()
    index = Index("custom", "train", {}, None, files, list(MEMBERS), ["png"], digest, "", shards)
    (folder / INDEX_NAME).write_text(index.to_text())


def private_bytes(process: int | str = "self") -> int:
    """Memory that a process shares with no other."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.M)) * 1024


def measure(kind: type[Pix2pixDataset], files: int, folder: str) -> dict[str, Any]:
    """Seconds and bytes of one side."""
    flags = f"--dataset_mode shards --dataroot {folder} --gpu_ids -1" if kind is ShardsDataset else FLAGS
    opt = TrainOptions().parse(flags.split())
    with contextlib.ExitStack() as stack:
        if kind is not ShardsDataset:
            stack.enter_context(mock.patch("os.walk", walk_of(files)))
            stack.enter_context(mock.patch("os.path.isdir", lambda path: True))
        before = time.perf_counter()
        dataset = kind(opt)
        start = time.perf_counter() - before
    lookups = Lookups(dataset.paths)
    names = [os.path.basename(dataset.path(i)) for i in range(0, files, max(1, files // 1000))]
    batches = PositionedBatches(files, min(BATCH, files), shuffle=True, seed=0, complete=True)
    loader = DataLoader(lookups, batch_sampler=batches, num_workers=WORKERS, persistent_workers=True)
    before, memory = time.perf_counter(), []
    for number, _ in enumerate(loader):
        if number == 0:
            memory.append([private_bytes(worker.pid) for worker in loader._iterator._workers])
    seconds = time.perf_counter() - before
    memory.append([private_bytes(worker.pid) for worker in loader._iterator._workers])
    return {"start": start, "epoch": seconds, "memory": memory, "names": names}


def main() -> None:
    """Print all sides."""
    parser = command_parser("benchmarks million", __doc__)
    parser.add_argument("--files", type=positive, default=FILES, metavar="N", help="of each kind")
    files = parser.parse_args().files
    print(machine())
    print(f"{files} label maps, photos and instance maps each; {WORKERS} loader processes")
    print("\n| | start-up, s | epoch of look-ups, s | private memory of each loader process, MB: first batch, end |")
    print("|---|---|---|---|")
    found = []
    sides = {"lists of str": Lists, "tables": CustomDataset, "shards": ShardsDataset}
    with TemporaryDirectory() as folder:
        write_shards(Path(folder), files)
        for name, kind in sides.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                side = pool.submit(measure, kind, files, folder).result()
            found.append(side)
            first, end = (", ".join(f"{size / 1e6:.0f}" for size in sizes) for sizes in side["memory"])
            print(f"| {name} | {side['start']:.2f} | {side['epoch']:.1f} | {first}; {end} |", flush=True)
    assert found[0]["names"] == found[1]["names"] == found[2]["names"], "all sides have the same order"
    print()


if __name__ == "__main__":
    run_main(main)
