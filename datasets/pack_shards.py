"""Pack any data set into tar shards, for --dataset_mode shards.

    python datasets/pack_shards.py --out shards/train --dataset_mode coco --dataroot datasets/coco_stuff
    python datasets/pack_shards.py --out shards/val --dataset_mode coco --dataroot datasets/coco_stuff --phase val

The data set is named by the flags of train.py. Files go into the shards as they are, byte by byte, and nothing is
written beside them. Training sets are shuffled by --seed, so that every shard is a random sample; other phases, and
all with --serial_batches, keep their order. A packing that was cut short goes on where it was when the same command is
given again; one that is finished is left as it is. Needs requirements-webdataset.txt.
"""

import argparse
import hashlib
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data import create_dataset
from data.coco_dataset import CocoDataset
from data.path_table import PathTable
from data.pix2pix_dataset import Pix2pixDataset
from data.shards import (
    CLASSES_NAME,
    FLAGS,
    INDEX_NAME,
    ITEMS_NAME,
    LARGEST,
    MEMBERS,
    Index,
    Items,
    Shard,
    check_names,
    member_name,
    padded,
    read_index,
    tar_size,
    tar_writer,
    webdataset,
)
from data.shards_dataset import ShardsDataset
from options.flags import positive, positive_float
from options.train_options import TrainOptions
from util.class_table import ClassTable, table_names
from util.errors import UserError, first_few, run_main
from util.files import beside, sha256, write_atomically
from util.seeding import shuffled

PLAN_NAME = "packing.json"  # while shards are written: the index without their digests
MEGABYTE = 10**6
SHOWN_GROUPS = ("options", "input", "packing", *(mode.options_title for mode in (Pix2pixDataset, CocoDataset)))
SHOWN_FLAGS = (*FLAGS, "phase", "seed")


class PackOptions(TrainOptions):
    """Pack a data set, named by the flags of train.py, into tar shards."""

    prog = "pack_shards.py"

    def _build_parser(self) -> argparse.ArgumentParser:
        parser = super()._build_parser()
        for action in parser._actions:  # --help has those of a data set; what else train.py takes is taken and ignored
            if action.container.title not in SHOWN_GROUPS and action.dest not in SHOWN_FLAGS:
                action.help = argparse.SUPPRESS
        return parser

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        group = parser.add_argument_group("packing")
        group.add_argument("--out", metavar="FOLDER", help="folder for the shards, one for each part of a data set")
        group.add_argument(
            "--shard_size", type=positive_float, default=256.0, metavar="MB", help="megabytes of a shard, about"
        )
        group.add_argument("--shard_items", type=positive, metavar="N", help="items of a shard at most")
        group.add_argument(
            "--verify", metavar="FOLDER", help="pack nothing; compare the shards of a folder with their checksums"
        )

    def _complete(self, opt: Namespace, typed: dict[str, Any]) -> None:
        opt.isTrain = self.is_train = opt.phase == "train"  # which decides what files there must be
        super()._complete(opt, typed)
        if not opt.out and not opt.verify:
            self.parser.error("--out FOLDER is needed, the folder for the shards (or --verify FOLDER)")

    def kept(self, opt: Namespace) -> dict[str, Any]:
        """The flags that decide what ids mean, as they were given: opt.json's way."""
        flags = {name: self._chosen[name] for name in FLAGS}
        if opt.class_table and opt.class_table not in table_names():
            flags["class_table"] = CLASSES_NAME  # a copy, since the file may be elsewhere
        else:
            flags["class_table"] = opt.class_table
        if opt.label_palette is not None:
            flags["label_palette"] = ""  # the class table's
        return flags


@dataclass(frozen=True)
class Plan:
    """What goes where: decided before anything is written, and the same whenever it is asked for."""

    index: Index  # whose shards have no digests yet
    items: Items
    files: list[PathTable]  # of each of the index's members, in the order of the shards
    classes: str | None  # text of the class table, where it has no name


def plan(opt: Namespace, flags: dict[str, Any], dataset: Pix2pixDataset) -> Plan:
    """The plan for a data set; reads the sizes of all files.

    Raises:
        UserError: a file is missing or has a name that cannot be kept.
    """
    is_shuffled = opt.isTrain and not opt.serial_batches
    order = np.arange(len(dataset))
    if is_shuffled:
        order = shuffled(len(dataset), opt.seed, 0)  # epochs count from 1
    tables = {"image": dataset.paths.images, "instance": dataset.paths.instances, "label": dataset.paths.labels}
    members = [member for member in MEMBERS if tables[member]]
    files = [_ordered(tables[member], order) for member in members]
    sizes, times = _sizes_and_times(files)
    known: dict[str, int] = {}
    extensions = np.array([[known.setdefault(_extension(p), len(known)) for p in table] for table in files], np.uint8).T
    reported = files[members.index("image" if "image" in members else "label")]
    items = Items(sizes, np.ascontiguousarray(extensions), _relative(reported))
    table = None if flags["class_table"] != CLASSES_NAME else ClassTable.load(opt.class_table).save_text()
    source = hashlib.sha256(items.to_bytes() + times.tobytes())
    source.update(repr((sorted(flags.items()), table, opt.dataset_mode, opt.phase)).encode())
    for files_of_member in files:
        source.update(_relative(files_of_member).bytes.tobytes())
    index = Index(
        dataset_mode=opt.dataset_mode,
        phase=opt.phase,
        flags=flags,
        seed=opt.seed if is_shuffled else None,
        items=len(dataset),
        members=members,
        extensions=list(known),
        items_sha256=hashlib.sha256(items.to_bytes()).hexdigest(),
        source=source.hexdigest(),
        shards=_cut(opt, sizes),
    )
    return Plan(index, items, files, table)


def _ordered(table: PathTable, order: np.ndarray) -> PathTable:
    return PathTable([table[index] for index in order.tolist()])


def _extension(path: str) -> str:
    extension = os.path.splitext(path)[1].lower().removeprefix(".")
    return extension if re.fullmatch(r"[a-z0-9]+", extension) else "bin"


def _relative(paths: PathTable) -> PathTable:
    """Paths below the folder that all have in common."""
    folders = {os.path.dirname(path) for path in paths}
    start = len(os.path.join(os.path.commonpath(folders), "")) if folders != {""} else 0
    names = PathTable([path[start:] for path in paths])
    try:
        check_names(names)
    except ValueError as error:
        raise UserError(f"{error}, which cannot be the name of a result; rename it") from None
    return names


def _sizes_and_times(files: list[PathTable]) -> tuple[np.ndarray, np.ndarray]:
    """Sizes in bytes and times of change in nanoseconds, int64 [items, members] each."""
    stats = np.empty((2, len(files[0]), len(files)), np.int64)
    with tqdm(total=len(files[0]) * len(files), unit="file", desc="sizes", disable=None) as bar:
        for member, table in enumerate(files):
            for item, path in enumerate(table):
                stat = os.stat(path)
                if not S_ISREG(stat.st_mode):
                    raise UserError(f"{path} is no plain file and cannot be packed; leave it out")
                if stat.st_size > LARGEST:
                    raise UserError(f"{path} has {stat.st_size} bytes; a file in a tar shard has at most {LARGEST}")
                stats[:, item, member] = stat.st_size, stat.st_mtime_ns
                bar.update()
    return stats[0], stats[1]


def _cut(opt: Namespace, sizes: np.ndarray) -> list[Shard]:
    """The shards that items of these sizes fill, one after the other."""
    limit, most = opt.shard_size * MEGABYTE, opt.shard_items or len(sizes)
    counts, total = [], 0
    for size in padded(sizes).sum(1).tolist():
        if not counts or counts[-1][0] >= most or total + size > limit:
            counts.append([0, 0])
            total = 0
        total += size
        counts[-1][0] += 1
        counts[-1][1] = total
    return [
        Shard(f"{opt.phase}-{number:06d}.tar", items, tar_size(total), "")
        for number, (items, total) in enumerate(counts)
    ]


# ------------------------------------------------------------------------------------------------------------- writing


class _Digest:
    """A file that is only written to, and what has gone into it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256, self.bytes = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> None:
        self.file.write(content)
        self.sha256.update(content)
        self.bytes += len(content)


def pack(plan: Plan, folder: Path, workers: int) -> Index:
    """Write what is not there yet of the shards, then the index.

    Raises:
        UserError: the folder holds something else, a file has changed since it was planned, or the disk is full.
    """
    finished = read_index(folder)
    known = finished or read_index(folder, PLAN_NAME)
    if known is not None:
        _refuse_another(plan, known, folder)
    else:
        _begin(plan, folder)
    if finished is not None and all(_is_there(folder, shard) for shard in finished.shards):
        (folder / PLAN_NAME).unlink(missing_ok=True)
        return finished
    firsts = np.cumsum([0] + [shard.items for shard in plan.index.shards]).tolist()
    with tqdm(total=plan.index.items, unit="item", disable=None) as bar, ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_shard, plan, folder, first, shard, bar.update)
            for first, shard in zip(firsts, (known or plan.index).shards, strict=False)
        ]
        try:
            shards = [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    index = replace(plan.index, shards=shards)
    if plan.classes is not None:
        write_atomically(folder / CLASSES_NAME, plan.classes.encode())
    write_atomically(folder / ITEMS_NAME, plan.items.to_bytes())
    write_atomically(folder / INDEX_NAME, index.to_text().encode())
    (folder / PLAN_NAME).unlink(missing_ok=True)
    return index


def _begin(plan: Plan, folder: Path) -> None:
    """Take an empty folder, or one whose index was deleted: then nobody knows what its shards are, and they go.

    Raises:
        UserError: the folder holds something else.
    """
    shards = {shard.name for shard in plan.index.shards}
    own = {PLAN_NAME, ITEMS_NAME, CLASSES_NAME, INDEX_NAME, *shards}
    own |= {beside(Path(name)).name for name in own}  # there after a kill
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there - own:
        names = first_few(sorted(there - own))
        raise UserError(f"--out {folder} holds other files ({names}); give an empty or a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(there & shards):
        (folder / name).unlink()
    write_atomically(folder / PLAN_NAME, plan.index.to_text().encode())


def _is_there(folder: Path, shard: Shard) -> bool:
    path = folder / shard.name
    return path.is_file() and path.stat().st_size == shard.bytes


def _refuse_another(plan: Plan, other: Index, folder: Path) -> None:
    same = [replace(shard, sha256="") for shard in other.shards] == plan.index.shards
    if other.source != plan.index.source or not same:
        raise UserError(
            f"--out {folder} holds shards of {other.items} items of --dataset_mode {other.dataset_mode} (--phase "
            f"{other.phase}), and this is another data set, or files, flags or --seed have changed since; give a new "
            "folder, or delete that one"
        )


def _shard(plan: Plan, folder: Path, first: int, shard: Shard, advance: Callable[[int], None]) -> Shard:
    """One shard, with its digest; one that is there under its name is whole, and only read.

    Raises:
        UserError: `shard` has a digest, which the shard that was written anew has not.
    """
    path = folder / shard.name
    if _is_there(folder, shard):
        advance(shard.items)
        return replace(shard, sha256=shard.sha256 or sha256(path))
    beside(path).unlink(missing_ok=True)
    done = None

    def content(file: BinaryIO) -> None:
        nonlocal done
        done = _Digest(file)
        with tar_writer(done) as writer:
            for place in range(shard.items):
                writer.write(_sample(plan, first + place, place))
                advance(1)

    write_atomically(path, content)
    assert done.bytes == shard.bytes, (path, done.bytes, shard.bytes)
    digest = done.sha256.hexdigest()
    if shard.sha256 not in ("", digest):
        raise UserError(f"{path} came out otherwise than before: files have changed since; delete {folder}, pack again")
    return replace(shard, sha256=digest)


def _sample(plan: Plan, item: int, place: int) -> dict[str, Any]:
    """The files of an item as webdataset takes them."""
    sample: dict[str, Any] = {}
    for number, (member, table) in enumerate(zip(plan.index.members, plan.files, strict=True)):
        path = table[item]
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); run the same command again") from None
        if len(content) != plan.items.sizes[item, number]:
            raise UserError(f"{path} has changed while it was packed; delete the folder of the shards, and pack again")
        name = member_name(place, member, plan.index.extensions[plan.items.extensions[item, number]])
        sample["__key__"], _, suffix = name.partition(".")
        sample[suffix] = content
    return sample


def verify(folder: Path, workers: int) -> int:
    """Compare all shards of a folder with the digests of its index; returns their number.

    Raises:
        UserError: some are gone or differ, or there is no index.
    """
    index = read_index(folder)
    if index is None:
        raise UserError(f"--verify {folder}: there is no {INDEX_NAME}; a folder of shards that is finished has one")

    def differs(shard: Shard) -> bool:
        path = folder / shard.name
        return not path.is_file() or sha256(path) != shard.sha256

    with ThreadPoolExecutor(workers) as pool:
        found: Iterable[bool] = tqdm(
            pool.map(differs, index.shards), total=len(index.shards), unit="shard", disable=None
        )
        wrong = [shard.name for shard, bad in zip(index.shards, found, strict=True) if bad]
    if wrong:
        raise UserError(
            f"{folder}: {first_few(wrong)} differ from {INDEX_NAME}, or are gone; copy them again, "
            "or delete them and give the command that packed them once more"
        )
    return len(index.shards)


def main(argv: list[str] | None = None) -> None:
    """Pack what the command line names, or verify.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    options = PackOptions()
    opt = options.parse(argv)
    workers = opt.nThreads or os.cpu_count() or 1
    if opt.verify:
        print(f"{verify(Path(opt.verify), workers)} shard(s) in {opt.verify} are as they were packed")
        return
    webdataset()
    dataset = create_dataset(opt)
    if not isinstance(dataset, Pix2pixDataset) or isinstance(dataset, ShardsDataset):
        raise UserError(f"--dataset_mode {opt.dataset_mode} is not one of files that can be packed")
    dataset[0]  # so that what is wrong with all files shows before hours of packing
    index = pack(plan(opt, options.kept(opt), dataset), Path(opt.out), workers)
    total = sum(shard.bytes for shard in index.shards)
    print(f"{index.items} items in {len(index.shards)} shard(s), {total / MEGABYTE:.1f} MB, in {opt.out}")
    print(f"use them with --dataset_mode shards --dataroot {opt.out}")


if __name__ == "__main__":
    run_main(main)
