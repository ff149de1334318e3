"""A training iteration: python -m benchmarks training [--rounds N] [--precisions off bf16] [--memory] [--flags].

The same sides as those of `python -m benchmarks generator`, each a trainer of its own, in turns in one process: a
generator step and a discriminator step on the same batch. --memory counts instead the bytes of all
tensors that live at the same time, at the most, weights and optimisers included.
"""

import io
from argparse import Namespace
from contextlib import redirect_stderr

from benchmarks.common import batches_of, options_of, parser_of
from benchmarks.memory import GIB, StorageCounter
from benchmarks.plain import make_plain_trainer
from benchmarks.sides import SIDES, compare
from options.flags import positive
from options.train_options import TrainOptions
from trainers import create_trainer
from trainers.base_trainer import BaseTrainer
from util.distributed import pick_device, to_device
from util.errors import run_main
from util.precision import AMP_TYPES
from util.provenance import machine


def trainer_of(opt: Namespace, side: str) -> BaseTrainer:
    """A fresh trainer in one of the ways of computing SPADE, without its warning of small batches."""
    with redirect_stderr(io.StringIO()):
        trainer = create_trainer(opt if side == "patterns" else Namespace(**{**vars(opt), "spade_impl": "dense"}))
    return make_plain_trainer(trainer) if side == "plain" else trainer


def measure(opt: Namespace, rounds: int) -> None:
    """Print the table for one precision."""
    device = pick_device(opt.gpu_ids)
    batches = [to_device(batch, device) for batch in batches_of(opt)]
    trainers = {side: trainer_of(opt, side) for side in SIDES}
    released = trainers["plain"] if opt.amp == "off" else trainer_of(Namespace(**{**vars(opt), "amp": "off"}), "plain")

    def step(trainer: BaseTrainer, number: int) -> None:
        trainer.step(dict(batches[number]))

    compare(opt, rounds, lambda side, number: step(trainers[side], number), lambda number: step(released, number))


def measure_memory(opt: Namespace) -> None:
    """Print each side's peak."""
    batch = batches_of(opt, 1)[0]
    peaks = {}
    for side in SIDES:
        with StorageCounter() as counter:
            trainer = trainer_of(opt, side)
            trainer.step(dict(batch))  # makes the optimisers' state
            counter.peak = 0
            trainer.step(dict(batch))
        peaks[side] = counter.peak
        del trainer
        print(f"  --batchSize {opt.batchSize}, {side}: {counter.peak / GIB:.2f} GiB, ", end="")
        print(f"{counter.peak / peaks['plain']:.2f} of plain", flush=True)


def main() -> None:
    """Measure what the command line names."""
    parser = parser_of("training", __doc__, "train.py")
    parser.add_argument(
        "--precisions",
        nargs="+",
        help="values of --amp, one table each",
        choices=list(AMP_TYPES),
        default=["off", "bf16"],
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help="timed calls of each side", default=5)
    parser.add_argument("--memory", action="store_true", help="count bytes instead")
    with options_of(parser, TrainOptions(), "train") as (own, opt, _):
        print(machine())
        if own.memory:
            measure_memory(opt)
            return
        for amp in own.precisions:
            measure(Namespace(**{**vars(opt), "amp": amp}), own.rounds)


if __name__ == "__main__":
    run_main(main)
