"""A training iteration on a CPU that others use too: python -m benchmarks sharing [--rounds N] [--flags of train.py].

Threads that wait in circles, as OpenMP has them by itself, and threads that sleep, which the environment may ask for,
each in a process of its own, alone and beside one busy process for each core.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import batches_of, options_of, parser_of
from benchmarks.training import trainer_of
from data.workers import cores
from options.flags import positive
from options.train_options import TrainOptions
from util.distributed import pick_device, to_device
from util.errors import run_main
from util.provenance import machine

ASLEEP = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}  # GNU's after a thousand rounds, microseconds
SIDES = {"in circles": dict.fromkeys(ASLEEP, ""), "asleep": ASLEEP}
SMALL = "--crop_size 96 --load_size 96 --batchSize 4 --ngf 8 --ndf 16 --no_vgg_loss".split()  # the demo's
TURNS = 5
SECONDS = "seconds of an iteration: "


@contextmanager
def busy(count: int) -> Iterator[None]:
    """As many processes that compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def one_side(rounds: int, argv: list[str], environment: dict[str, str]) -> float:
    """Seconds of an iteration, of a process in this environment."""
    command = [sys.executable, "-m", "benchmarks", "sharing", "--one_side", "--rounds", str(rounds), *argv]
    own = {name: value for name, value in {**os.environ, **environment}.items() if value}
    root = Path(__file__).parent.parent
    done = subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    return float(done.stdout.rsplit(SECONDS, 1)[1])


def main() -> None:
    """Measure, and print a table.

    Raises:
        UserError: flags are wrong.
    """
    parser = parser_of("sharing", __doc__, "train.py")
    parser.add_argument("--rounds", type=positive, default=8, help="iterations of each side (default: %(default)s)")
    parser.add_argument("--one_side", action="store_true", help="in this process alone, as it is")
    if not any(word.startswith("--crop_size") for word in sys.argv):
        sys.argv += SMALL
    argv = [word for word in sys.argv[1:] if word != "--one_side"]
    with options_of(parser, TrainOptions(), "train") as (own, opt, _):
        if own.one_side:
            device = pick_device(opt.gpu_ids)
            trainer, times = trainer_of(opt, "patterns"), []
            batches = [to_device(batch, device) for batch in batches_of(opt)]
            for number in range(own.rounds + 1):
                start = time.perf_counter()
                trainer.step(dict(batches[number % len(batches)]))
                times.append(time.perf_counter() - start)
            print(f"{SECONDS}{statistics.median(times[1:])}")
            return
    print(machine())
    print("\n| others | threads wait | s | times in circles |\n|---|---|---|---|")
    for others, count in (("none", 0), ("one busy process for each core", cores())):
        seconds: dict[str, list[float]] = {name: [] for name in SIDES}
        with busy(count):
            for _ in range(TURNS):  # so that what else happens disturbs both sides
                for name, environment in SIDES.items():
                    seconds[name].append(one_side(own.rounds, argv, environment))
        for name, values in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(seconds["in circles"], values, strict=True))
            print(f"| {others} | {name} | {statistics.median(values):.3f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    run_main(main)
