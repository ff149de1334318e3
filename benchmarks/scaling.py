"""How the generator's cost grows: python -m benchmarks scaling [--flags of test.py].

Best plain, patterns and the convolutions alone, in turns, over layouts of a given number of regions (each a convex cell
with a class of its own; noise: a class for each pixel), sizes, numbers of classes, and batches.
"""

import statistics
from argparse import Namespace
from typing import Any

import numpy as np
import torch

from benchmarks.common import in_turns, options_of, parser_of
from benchmarks.floor import floor_of
from benchmarks.generator import model_of, sides_of
from options.flags import positive
from options.test_options import TestOptions
from util.distributed import pick_device, to_device
from util.errors import run_main
from util.precision import autocast
from util.provenance import machine

SIZE, CLASSES, REGIONS = 256, 182, 64  # where they do not vary


def cells(count: int, size: int, classes: int, images: int) -> dict[str, Any]:
    """A batch of layouts of `count` cells each, each its own instance; 0: noise."""
    rng = np.random.default_rng(0)
    if count == 0:
        instance = np.arange(size * size).reshape(1, size, size).repeat(images, 0)
    else:
        grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1)
        instance = np.zeros((images, size, size), np.int64)
        for image in instance:
            nearest = np.full((size, size), np.inf)
            for i, seed in enumerate(rng.uniform(0, size, (count, 2))):
                distance = ((grid - seed) ** 2).sum(-1)
                image[distance < nearest] = i
                np.minimum(nearest, distance, out=nearest)
    label = rng.integers(0, classes, (images, instance.max() + 1))
    label = np.take_along_axis(label, instance.reshape(images, -1), 1).reshape(instance.shape)
    batch = {"label": torch.from_numpy(label)[:, None], "instance": torch.from_numpy(instance)[:, None]}
    return {**batch, "path": ["drawn"] * images}


def measure(opt: Namespace, classes: int, what: str, batch: dict[str, Any], rounds: int) -> None:
    """Print a line for one kind of layouts."""
    device = pick_device(opt.gpu_ids)
    batch = to_device(batch, device)
    opt = Namespace(**{**vars(opt), "label_nc": classes, "semantic_nc": classes + 2})
    models = sides_of(opt, model_of(opt, batch))
    del models["plain"]

    def synthesise(name: str) -> None:
        with autocast(opt.amp, device):
            models[name].generate(batch)

    with autocast(opt.amp, device):
        floor = floor_of(lambda: synthesise("patterns"))
    sides = {name: lambda number, name=name: synthesise(name) for name in models}
    times = in_turns({**sides, "convolutions": lambda number: floor()}, rounds, device)
    layouts = models["patterns"].semantics(batch)
    found = layouts.patterns(3)
    share = f"{found.hidden / layouts.label.numel():.1%}, {len(found) / layouts.label.numel():.1%}"
    plain, ours, least = (statistics.median(times[name]) for name in ("best plain", "patterns", "convolutions"))
    ratio = statistics.median(a / b for a, b in zip(times["best plain"], times["patterns"], strict=True))
    print(f"| {what} | {share} | {plain:.2f} | {ours:.2f} | {least:.2f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """Measure what the command line names."""
    parser = parser_of("scaling", __doc__, "test.py")
    parser.add_argument("--rounds", type=positive, metavar="N", help="timed calls of each side", default=3)
    with options_of(parser, TestOptions(), "val") as (own, opt, _):
        opt.dataset_mode, opt.contain_dontcare_label, opt.no_instance = "coco", True, False
        print(machine())
        print("| layouts | different 3 x 3, 5 x 5 windows | best plain, s | patterns, s | convolutions, s | times |")
        print("|---|---|---|---|---|---|")
        for count in (1, 4, 16, 64, 256, 1024, 4096, 0):
            what = f"{count} region{'s' * (count > 1)}" if count else "noise"
            measure(opt, CLASSES, what, cells(count, SIZE, CLASSES, 1), own.rounds)
        for size in (128, 512):
            measure(opt, CLASSES, f"{size} x {size}", cells(REGIONS, size, CLASSES, 1), own.rounds)
        for classes in (20, 500):
            measure(opt, classes, f"{classes} classes", cells(REGIONS, SIZE, classes, 1), own.rounds)
        for images in (2, 4, 8):
            measure(opt, CLASSES, f"batch {images}", cells(REGIONS, SIZE, CLASSES, images), own.rounds)


if __name__ == "__main__":
    run_main(main)
