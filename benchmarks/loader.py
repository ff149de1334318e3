"""Training items and batches a second: python -m benchmarks loader [--rounds N] [--flags of train.py].

Items are made in this process, with one thread, in turns by the data set and by `plain_item`, plain Pillow and torch;
both must give equal ones. Then images a second from the whole loader, by the number of its processes.
"""

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import options_of, parser_of
from data import create_dataloader, create_dataset
from data.base_dataset import Key, read_ids
from data.pix2pix_dataset import Pix2pixDataset
from data.shards_dataset import ShardsDataset
from options.flags import positive
from options.train_options import TrainOptions
from util.errors import UserError, run_main
from util.provenance import machine
from util.seeding import seed_from

ROUNDS = 15  # of either side; the median of their ratios is printed, since other programs disturb single ones
ITEMS = 40  # a round, or the data set where it is smaller
LOADED = 300  # images from the whole loader, at least


def plain_item(dataset: Pix2pixDataset, key: Key) -> dict[str, Any]:
    """The item `dataset[key]` by plain steps over whole pictures, with ids as long; files are taken to be sound."""
    index, draw = key
    paths, preprocess = dataset.paths, dataset.preprocess
    label = read_ids(paths.labels[index], dataset.palette)
    plan = preprocess.plan(label.size, np.random.default_rng(seed_from(dataset.seed, *draw)))

    def planned(picture: Image.Image, resample: Image.Resampling) -> torch.Tensor:
        return torch.from_numpy(np.array(plan.apply(picture, resample)))

    ids = np.asarray(label)
    if ids.max() > dataset.rules.highest or ids.min() < 0:
        wrong = np.unique(ids[(ids > dataset.rules.highest) | (ids < 0)])
        assert dataset.rules.has_unknown and set(wrong.tolist()) == {dataset.rules.unknown_id}, paths.labels[index]
    item = {"path": paths.labels[index], "label": planned(label, Image.Resampling.NEAREST).long()[None]}
    if dataset.rules.has_unknown and dataset.rules.unknown_id is not None:
        item["label"][item["label"] == dataset.rules.unknown_id] = dataset.rules.label_nc
    if dataset.with_instances:
        item["instance"] = torch.zeros_like(item["label"])
        if paths.instances:
            item["instance"] = planned(read_ids(paths.instances[index]), Image.Resampling.NEAREST).long()[None]
    if paths.images:
        item["path"] = paths.images[index]
        with Image.open(item["path"]) as picture:
            pixels = planned(picture.convert("RGB"), Image.Resampling.BICUBIC)
        item["image"] = pixels.permute(2, 0, 1).float().div_(127.5).sub_(1)
    return item


def check_equal(item: dict[str, Any], plain: dict[str, Any]) -> None:
    """Ids equal in value, photos bit by bit.

    Raises:
        AssertionError: they are not; the message names the file.
    """
    assert item.keys() == plain.keys(), f"{item['path']}: {sorted(item)} instead of {sorted(plain)}"
    for name, value in plain.items():
        same = item[name] == value if name == "path" else torch.equal(item[name].to(value.dtype), value)
        assert same, f"{item['path']}: {name} differs"
    if "image" in plain:
        assert item["image"].dtype == torch.float32


def seconds(make: Callable[[Key], Any], keys: list[Key]) -> float:
    """How long `make` takes for an item, on average over `keys`."""
    start = time.perf_counter()
    for key in keys:
        make(key)
    return (time.perf_counter() - start) / len(keys)


def compare(dataset: Pix2pixDataset, rounds: int = ROUNDS) -> tuple[float, float, float]:
    """Seconds an item for the data set and for `plain_item`, and how many times faster the former is: medians.

    Raises:
        AssertionError: an item differs.
    """
    times = []
    for epoch in range(rounds + 1):
        keys = [(i, (epoch, i)) for i in range(min(len(dataset), ITEMS))]
        if epoch == 0:  # which also reads the files into the system's cache
            for key in keys:
                check_equal(dataset[key], plain_item(dataset, key))
            continue
        times.append((seconds(dataset.__getitem__, keys), seconds(lambda key: plain_item(dataset, key), keys)))
    fast, plain = zip(*times, strict=True)
    return statistics.median(fast), statistics.median(plain), statistics.median(p / f for f, p in times)


def images_per_second(opt: Namespace, dataset: Pix2pixDataset, workers: int) -> float:
    """Images a second from the whole loader, after an epoch that starts its processes."""
    loader = create_dataloader(Namespace(**{**vars(opt), "nThreads": workers}), dataset)
    images, start, epoch = 0, 0.0, 0
    while images < LOADED:
        epoch += 1
        loader.batch_sampler.set_position(epoch, 0)
        for batch in loader:
            images += len(batch["path"]) if epoch > 1 else 0
        if epoch == 1:
            start = time.perf_counter()
    return images / (time.perf_counter() - start)


def main() -> None:
    """Print both sides, their ratio and the loader's throughput.

    Raises:
        AssertionError: an item differs from the plain one.
        UserError: the data set is not one of label maps and photos.
    """
    parser = parser_of("loader", __doc__, "train.py")
    parser.add_argument("--rounds", type=positive, metavar="N", help="of either side", default=ROUNDS)
    torch.set_num_threads(1)
    with options_of(parser, TrainOptions(), "train", ITEMS) as (own, opt, _):
        print(machine())
        dataset = create_dataset(opt)
        if not isinstance(dataset, Pix2pixDataset) or isinstance(dataset, ShardsDataset):
            raise UserError(f"--dataset_mode {opt.dataset_mode} has no plain way of its own to compare with")
        fast, plain, ratio = compare(dataset, own.rounds)
        print(f"{min(len(dataset), ITEMS)} items, {own.rounds} time(s) each, in one thread (medians):")
        print(f"  plain     {plain * 1e3:7.2f} ms an item, {1 / plain:6.1f} items/s")
        print(f"  data set  {fast * 1e3:7.2f} ms an item, {1 / fast:6.1f} items/s, {ratio:.2f} times as many")
        print("  equal bytes")
        print(f"whole loader, --batchSize {opt.batchSize}:")
        for workers in (0, 1, 2):
            print(f"  {workers} processes {images_per_second(opt, dataset, workers):7.1f} images/s", flush=True)


if __name__ == "__main__":
    run_main(main)
