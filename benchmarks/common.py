"""What the benchmarks share: layouts to measure on, taking turns, and what is written about the machine."""

import argparse
import gc
import io
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from torch.utils.data import default_collate

from data import create_dataset
from datasets.make_sample_landscapes import main as paint_landscapes
from options.base_options import BaseOptions
from options.flags import command_parser
from util.allocator import keep_freed_memory

SAMPLE = "--dataset_mode custom --label_nc 14 --label_dir {0}/{1}_label --image_dir {0}/{1}_img"
SAMPLE += " --instance_dir {0}/{1}_inst"
LAYOUTS = 8  # that a benchmark goes through


def parser_of(name: str, text: str, script: str) -> argparse.ArgumentParser:
    """The parser of a benchmark's own flags, which passes all others on to those of `script`; `text` says what for."""
    parser = command_parser(f"benchmarks {name}", text)
    parser.epilog = f"All other flags are those of {script}, on the CPU unless --gpu_ids is given."
    return parser


@contextmanager
def options_of(
    parser: argparse.ArgumentParser, options: BaseOptions, phase: str, layouts: int = LAYOUTS
) -> Iterator[tuple[Namespace, Namespace, list[str]]]:
    """A benchmark's own flags, the options of train.py or test.py from all others, and these others.

    Without --dataroot or --label_dir as many sample layouts are painted, at the size that `--crop_size` asks for.
    """
    own, argv = parser.parse_known_args()
    options.prog = parser.prog
    with tempfile.TemporaryDirectory() as folder:
        if not {"--dataroot", "--label_dir"} & {arg.split("=")[0] for arg in argv}:
            argv = [*SAMPLE.format(folder, phase).split(), *argv]
        if not any(arg.split("=")[0] == "--gpu_ids" for arg in argv):
            argv = [*argv, "--gpu_ids", "-1"]
        argv = [*argv, "--name", "benchmark"]
        opt = options.parse(argv)
        if (opt.label_dir or "").startswith(folder):
            counts = ["--train", str(layouts), "--val", str(layouts), "--size", str(opt.crop_size)]
            with redirect_stdout(io.StringIO()):
                paint_landscapes(["--out", folder, *counts])
        yield own, opt, argv


def batches_of(opt: Namespace, count: int = LAYOUTS) -> list[dict[str, Any]]:
    """The first `count` batches of a data set, which is gone through again where it ends."""
    dataset = create_dataset(opt)
    size = opt.batchSize
    return [default_collate([dataset[(i * size + k) % len(dataset)] for k in range(size)]) for i in range(count)]


@contextmanager
def default_memory() -> Iterator[None]:
    """Give freed memory back to the system inside, as programs do that do not ask for anything else."""
    keep_freed_memory(False)
    try:
        yield
    finally:
        keep_freed_memory(True)


def in_turns(sides: dict[str, Callable[[int], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds that each side takes for call number 0 .. rounds - 1, one side after the other within each round.

    What other programs do to a machine then disturbs all sides alike; medians of ratios within a round are robust.
    Each timed call follows one that is not: so it finds memory as its own kind leaves it, not as another's.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, call in sides.items():
            call(max(number - 1, 0))
            gc.collect()
            _wait(device)
            start = time.perf_counter()
            call(number)
            _wait(device)
            times[name].append(time.perf_counter() - start)
    return times


def report(times: dict[str, list[float]], images: int, against: Sequence[str]) -> None:
    """Print a table: median seconds, images a second, and medians of the ratios to the sides `against`."""
    heads = "".join(f" times {name} |" for name in against)
    print(f"\n| | s | images/s |{heads}\n|---|---|---|{'---|' * len(against)}")
    for name, own in times.items():
        median = statistics.median(own)
        ratios = [
            statistics.median(theirs / mine for theirs, mine in zip(times[other], own, strict=True))
            for other in against
        ]
        print(f"| {name} | {median:.3f} | {images / median:.2f} |{''.join(f' {ratio:.2f} |' for ratio in ratios)}")
    print(flush=True)


def compiled_graphs() -> int:
    """How many graphs torch.compile has made in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
