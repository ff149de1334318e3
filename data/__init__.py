"""Data sets by name, and the loader that feeds them to a model.

A new data set is a subclass of `BaseDataset` (or `Pix2pixDataset`) and a line in `DATASETS`.
"""

import atexit
import functools
import itertools
import multiprocessing
import os
import signal
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from data.ade20k_dataset import Ade20kDataset
from data.base_dataset import BaseDataset, Key, Preprocess
from data.cityscapes_dataset import CityscapesDataset
from data.coco_dataset import CocoDataset
from data.custom_dataset import CustomDataset
from data.facades_dataset import FacadesDataset
from util import launch
from util.distributed import rank, speak_again, world_size
from util.errors import UserError
from util.seeding import seed_from
from util.sizes import layout_problem

DATASETS: dict[str, type[BaseDataset]] = {
    "coco": CocoDataset,
    "ade20k": Ade20kDataset,
    "cityscapes": CityscapesDataset,
    "facades": FacadesDataset,
    "custom": CustomDataset,
}

PREFETCH = 2  # batches ahead for each process: one in work, one that waits; more only take memory, where all are busy


def create_dataset(opt: Namespace) -> BaseDataset:
    """The data set that the options name.

    Raises:
        UserError: files are missing or do not pair up.
    """
    return DATASETS[opt.dataset_mode](opt)


def create_dataloader(opt: Namespace, dataset: BaseDataset | None = None) -> DataLoader:
    """Batches of the data set that the options name, or of one that is there already.

    They are shuffled and complete when training, in order and all of them when testing, where a batch ends early when
    the next item is of another size.

    Raises:
        UserError: files are missing or do not pair up, there are fewer items than a training batch takes, or the
            generator cannot make images of the size that the options crop or resize to.
    """
    if dataset is None:
        dataset = create_dataset(opt)
    _check_size(dataset.preprocess, opt)
    limit = None if opt.isTrain else opt.how_many
    size = len(dataset) if limit is None else min(limit, len(dataset))
    if opt.isTrain and size < opt.batchSize:
        parts = f" (a multiple of --accumulate {opt.accumulate})" if opt.accumulate > 1 else ""
        raise UserError(
            f"--batchSize {opt.batchSize}, but the data set has {size} items; --batchSize 1 .. {size}{parts} would do"
        )
    if opt.isTrain:
        dataset[0]  # so that what is wrong with all files shows before networks are built and weights downloaded
    share = Share(rank(), world_size(), opt.accumulate if opt.isTrain else 1)
    workers = default_workers() if opt.nThreads is None else opt.nThreads
    if workers:
        _end_work_at_exit()
    kind, collate_fn = (DataLoader, collate) if opt.isTrain else (CutLoader, cut_and_collate)
    return kind(
        dataset,
        batch_sampler=PositionedBatches(
            size, opt.batchSize, not opt.serial_batches, opt.seed, complete=opt.isTrain, share=share
        ),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        collate_fn=functools.partial(collate_fn, opt=opt),
        worker_init_fn=_begin_work,
        pin_memory=bool(opt.gpu_ids) and torch.cuda.is_available(),
    )


def _begin_work(worker: int) -> None:
    """In a loader's process: be heard, and leave it to the main process what Ctrl-C and SIGTERM mean, which schedulers
    and launchers send to all processes alike."""
    speak_again()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@functools.cache  # once
def _end_work_at_exit() -> None:
    """Kill the loader's processes when this one ends with them at work: Python would wait for them, and they for it."""

    def kill() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would say that one was killed
        for child in multiprocessing.active_children():
            child.kill()

    atexit.register(kill)


def _check_size(preprocess: Preprocess, opt: Namespace) -> None:
    """Refuse a size that every item has and no generator of these options takes."""
    size = preprocess.output_size()
    problem = size and layout_problem(*size, opt.size_multiple, opt.layout_size)
    if problem:
        flags = "--crop_size and --aspect_ratio" if opt.preprocess_mode == "fixed" else "--crop_size and --crop_height"
        raise UserError(f"--preprocess_mode {opt.preprocess_mode} makes a {problem}; {flags} decide it")


def default_workers() -> int:
    """Loader processes for this one: its share of the cores that may be used, less one for itself, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(0, cores // launch.local_size() - 1))


@dataclass(frozen=True)
class Share:
    """What one process gets of every batch: of each micro-batch its part, in the order of ranks.

    So that a micro-batch over all processes is that of one process, whatever batch norm sees of it is the same.
    """

    rank: int = 0
    processes: int = 1
    parts: int = 1  # micro-batches, --accumulate

    def places(self, batch_size: int) -> list[int]:
        """The places in a batch of `batch_size` items, which is a multiple of processes x parts."""
        size = batch_size // (self.processes * self.parts)
        first = [part * size * self.processes + self.rank * size for part in range(self.parts)]
        return [place for start in first for place in range(start, start + size)]


class PositionedBatches(Sampler[list[Key]]):
    """Batches of keys from any place of any epoch on; order and keys are functions of (seed, epoch, place) alone.

    Training batches are `complete`, and this process gets its share of each. In testing it gets every P-th batch.
    """

    def __init__(
        self, size: int, batch_size: int, shuffle: bool, seed: int, complete: bool, share: Share = Share()
    ) -> None:
        self.size, self.batch_size, self.shuffle, self.seed, self.complete = size, batch_size, shuffle, seed, complete
        self.share = share
        self.epoch, self.start = 1, 0

    def set_position(self, epoch: int, start: int) -> None:
        """Let the next pass be that of 1-based `epoch`, without its first `start` batches."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return len(self._batches())

    def _batches(self) -> range:
        if self.complete:
            return range(self.start, self.size // self.batch_size)
        return range(self.start + self.share.rank, -(-self.size // self.batch_size), self.share.processes)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.size)
        if self.shuffle:
            order = np.random.default_rng(seed_from(self.seed, self.epoch)).permutation(self.size)
        own = self.share.places(self.batch_size) if self.complete else range(self.batch_size)
        for batch in self._batches():
            first = batch * self.batch_size
            places = [first + place for place in own if first + place < self.size]
            yield [(int(order[place]), (self.epoch, place)) for place in places]


def collate(items: list[dict[str, Any]], opt: Namespace) -> dict[str, Any]:
    """Items to a batch: tensors stacked, instance maps of 8 and of more bits as the larger type, paths in a list.

    Raises:
        UserError: the items differ in size, or the model of these options takes no layouts of their size.
    """
    for item in items[1:]:
        if shapes_of(item) != shapes_of(items[0]):
            sizes = " and ".join(f"{_size_of(x)} ({x['path']})" for x in (items[0], item))
            raise UserError(
                f"--preprocess_mode {opt.preprocess_mode} makes items of several sizes, which do not fit one batch: "
                f"{sizes} (width x height); use --batchSize 1 or a --preprocess_mode of one size"
            )
    if "label" in items[0]:  # all of one size by now
        height, width = items[0]["label"].shape[-2:]
        problem = layout_problem(width, height, opt.size_multiple, opt.layout_size)
        if problem:
            path, mode = items[0]["path"], opt.preprocess_mode
            raise UserError(f"{path}, as --preprocess_mode {mode} makes it, is a {problem}")
    if "instance" in items[0]:
        dtype = functools.reduce(torch.promote_types, [item["instance"].dtype for item in items])
        items = [{**item, "instance": item["instance"].to(dtype)} for item in items]
    return default_collate(items)


def cut_and_collate(items: list[dict[str, Any]], opt: Namespace) -> list[dict[str, Any]]:
    """Items to as few batches of one size each as their order allows.

    Raises:
        UserError: the model of these options takes no layouts of their size.
    """
    return [collate(list(run), opt) for _, run in itertools.groupby(items, shapes_of)]


class CutLoader(DataLoader):
    """A loader whose `collate_fn` makes several batches of one, each of which it gives by itself."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.chain.from_iterable(super().__iter__())


def shapes_of(item: dict[str, Any]) -> dict[str, torch.Size]:
    """The shapes of an item's tensors, by name."""
    return {name: value.shape for name, value in item.items() if torch.is_tensor(value)}


def _size_of(item: dict[str, Any]) -> str:
    *_, (height, width) = (shape[-2:] for shape in shapes_of(item).values())
    return f"{width} x {height}"
