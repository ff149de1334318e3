"""What several processes cost: python -m benchmarks processes [--processes P] [--rounds N] [--flags].

A training iteration of one process alone, of P processes at once that know nothing of each other, and of P that are one
run, each on the same images (--batchSize is what each gets) with one thread; the collectives that it takes and their
bytes; and what follows for links of other speeds, as a prediction: each collective waits for the one before, nothing
overlaps. On one machine, processes also take memory and clock from each other: the second row is without that.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.common import batches_of, options_of, parser_of
from options.flags import positive
from options.train_options import TrainOptions
from trainers import create_trainer
from util import launch
from util.distributed import COLLECTIVES, processes, rank, to_device, wait_for_all
from util.errors import run_main
from util.provenance import machine

STEPS = (0.05, 0.1, 0.2, 0.4)  # seconds of an iteration, computing alone


@dataclass(frozen=True)
class Link:
    """What connects processes. Speeds are of the kind that NCCL's tests call bus bandwidth."""

    name: str
    processes: int
    bandwidth: float  # bytes a second
    latency: float  # seconds of a collective of a few kilobytes


# Typical published values of such machines, not measured here.
LINKS = (
    Link("8 GPUs, NVLink of a DGX-1 (V100)", 8, 120e9, 25e-6),
    Link("8 GPUs, NVLink of a DGX H100", 8, 350e9, 20e-6),
    Link("8 GPUs, PCIe 4 alone", 8, 18e9, 40e-6),
    Link("64 GPUs, 8 machines, 8 x 200 Gb/s each", 64, 150e9, 60e-6),
    Link("64 GPUs, 8 machines, 1 x 100 Gb/s each", 64, 11e9, 80e-6),
)


def seconds_of(link: Link, calls: int, count: int) -> float:
    """Predicted seconds for so many collectives of `count` bytes in all: a ring moves 2 (P - 1) / P of them."""
    return calls * link.latency + 2 * (link.processes - 1) / link.processes * count / link.bandwidth


def work(opt: Namespace, rounds: int, out: Path) -> None:
    """In each process: time iterations; the first writes medians and collectives."""
    with processes(opt.gpu_ids, opt.process_timeout):
        torch.set_num_threads(1)
        trainer = create_trainer(opt)
        batches = [to_device(batch, trainer.device) for batch in batches_of(opt)]
        times, before = [], COLLECTIVES.copy()
        for number in range(rounds + 2):
            wait_for_all()
            if number == 2:  # the first make the optimisers' state and settle memory
                before, times = COLLECTIVES.copy(), []
            start = time.perf_counter()
            trainer.step(dict(batches[number % len(batches)]))
            if trainer.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        if rank() == 0:
            each = {name: (COLLECTIVES[name] - before[name]) / rounds for name in ("calls", "bytes")}
            out.write_text(json.dumps({"seconds": statistics.median(times), **each}))


def measure(argv: list[str], count: int, rounds: int, apart: bool = False) -> dict[str, float]:
    """What `count` processes take, as one run or each by itself."""
    with tempfile.TemporaryDirectory() as folder:
        port, outs = launch.free_port(), [Path(folder, f"{number}.json") for number in range(count)]
        command = [sys.executable, "-m", "benchmarks", "processes", "--rounds", str(rounds), *argv, "--work"]
        places = [launch.environment(*((0, 1) if apart else (r, count)), port) for r in range(count)]
        workers = [
            subprocess.Popen([*command, out], env={**os.environ, **place})
            for out, place in zip(outs, places, strict=True)
        ]
        if any([worker.wait() for worker in workers]):
            raise RuntimeError(f"{count} processes did not end well")
        return json.loads(outs[0].read_text())


def main() -> None:
    """Measure what the command line names."""
    parser = parser_of("processes", __doc__, "train.py")
    parser.add_argument("--processes", type=positive, metavar="P", help="processes at once", default=2)
    parser.add_argument("--rounds", type=positive, metavar="N", help="timed iterations", default=5)
    parser.add_argument("--work", type=Path, help="for the processes that it starts: where results go")
    with options_of(parser, TrainOptions(), "train") as (own, opt, argv):
        if own.work is not None:
            work(opt, own.rounds, own.work)
            return
        print(machine())
        rest = [argument for argument in argv if argument not in ("--name", "benchmark")]
        count = own.processes
        sides = {
            "1 process": measure(rest, 1, own.rounds),
            f"{count} processes that know nothing of each other": measure(rest, count, own.rounds, apart=True),
            f"{count} processes that are one run": measure(rest, count, own.rounds),
        }
        print("\n| | s an iteration | images/s | collectives | MB |\n|---|---|---|---|---|")
        for (name, made), images in zip(sides.items(), (1, count, count), strict=True):
            speed, size = images * opt.batchSize / made["seconds"], made["bytes"] / 1e6
            print(f"| {name} | {made['seconds']:.3f} | {speed:.2f} | {made['calls']:.0f} | {size:.1f} |")
        _, apart, several = sides.values()
        print(f"\nefficiency: {apart['seconds'] / several['seconds']:.2f} of processes that know nothing of each other")
        print("\nPREDICTED efficiency where computing an iteration takes so many seconds:\n")
        print(
            f"| | ms of communication | {' | '.join(f'{step} s' for step in STEPS)} |\n|---|---|{'---|' * len(STEPS)}"
        )
        for link in LINKS:
            took = seconds_of(link, round(several["calls"]), round(several["bytes"]))
            shares = " | ".join(f"{step / (step + took):.2f}" for step in STEPS)
            print(f"| {link.name} | {1e3 * took:.1f} | {shares} |")


if __name__ == "__main__":
    run_main(main)
