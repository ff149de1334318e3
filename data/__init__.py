"""Data sets by name, and the loader that feeds them to a model.

A new data set is a subclass of `BaseDataset` (or `Pix2pixDataset`) and a line in `DATASETS`.
"""

import functools
import itertools
import os
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from data.ade20k_dataset import Ade20kDataset
from data.base_dataset import BaseDataset, Preprocess, require_layout
from data.cityscapes_dataset import CityscapesDataset
from data.coco_dataset import CocoDataset
from data.custom_dataset import CustomDataset
from data.facades_dataset import FacadesDataset
from data.inspection import look_over
from data.sampler import PositionedBatches, Share
from data.shards_dataset import ShardsDataset
from data.workers import begin_work, default_workers, end_work_at_exit
from util.distributed import rank, world_size
from util.errors import UserError
from util.sizes import layout_problem

DATASETS: dict[str, type[BaseDataset]] = {
    "coco": CocoDataset,
    "ade20k": Ade20kDataset,
    "cityscapes": CityscapesDataset,
    "facades": FacadesDataset,
    "custom": CustomDataset,
    "shards": ShardsDataset,
}

PREFETCH = 2  # batches ahead for each process: one in work, one that waits; more only take memory, where all are busy


def create_dataset(opt: Namespace) -> BaseDataset:
    """The data set that the options name.

    Raises:
        UserError: files are missing or do not pair up.
    """
    return DATASETS[opt.dataset_mode].create(opt)


def describe_ends(dataset: BaseDataset) -> str:
    """How many items a data set has, and the names of the first and the last."""
    first, last = (os.path.basename(dataset.path(place)) for place in (0, len(dataset) - 1))
    return f"{len(dataset)} items from {first} to {last}"


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
        look_over(dataset, skips=opt.on_bad_image == "skip")
    workers = default_workers() if opt.nThreads is None else opt.nThreads
    if workers:
        end_work_at_exit()
    kind, collate_fn = (DataLoader, collate) if opt.isTrain else (CutLoader, cut_and_collate)
    batches = PositionedBatches(
        size,
        opt.batchSize,
        not opt.serial_batches,
        opt.seed,
        complete=opt.isTrain,
        share=Share(rank(), world_size(), opt.accumulate if opt.isTrain else 1),
        order=getattr(dataset, "order", None),  # what wraps a data set may have none
    )
    return kind(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        collate_fn=functools.partial(collate_fn, opt=opt),
        worker_init_fn=begin_work,
        pin_memory=bool(opt.gpu_ids) and torch.cuda.is_available(),
    )


def _check_size(preprocess: Preprocess, opt: Namespace) -> None:
    """Refuse a size that every item has and no generator of these options takes."""
    size = preprocess.output_size()
    problem = size and layout_problem(*size, opt.size_multiple, opt.layout_size)
    if problem:
        flags = "--crop_size and --aspect_ratio" if opt.preprocess_mode == "fixed" else "--crop_size and --crop_height"
        raise UserError(f"--preprocess_mode {opt.preprocess_mode} makes a {problem}; {flags} decide it")


def collate(items: list[dict[str, Any]], opt: Namespace) -> dict[str, Any]:
    """Items to a batch: tensors stacked, instance maps of 8 and of more bits as the larger type, paths in a list.

    Where items replace others (--on_bad_image skip), `skipped` has for each item its list of (file, reason).

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
    require_layout(items[0], opt)  # all are of one size by now
    skipped = [item.get("skipped", []) for item in items]
    if any(skipped):
        items = [{name: value for name, value in item.items() if name != "skipped"} for item in items]
    if "instance" in items[0]:
        dtype = functools.reduce(torch.promote_types, [item["instance"].dtype for item in items])
        items = [{**item, "instance": item["instance"].to(dtype)} for item in items]
    batch = default_collate(items)
    return {**batch, "skipped": skipped} if any(skipped) else batch


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
