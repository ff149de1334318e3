"""test.py as a whole: python -m benchmarks synthesis [--rounds N] [--flags of test.py].

From the command line to the last picture and the page, with a checkpoint of random weights of a trained network's
scale: the network as the released code computes it, the plain formula at its best, and patterns, in turns.
"""

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import torch

import test as test_script
from benchmarks.common import batches_of, default_memory, in_turns, options_of, parser_of, report
from benchmarks.generator import model_of
from benchmarks.plain import make_plain
from data import create_dataset
from models import create_model
from options.flags import positive
from options.test_options import TestOptions
from util.distributed import pick_device, to_device
from util.errors import run_main
from util.provenance import machine


def main() -> None:
    """Measure what the command line names."""
    parser = parser_of("synthesis", __doc__, "test.py")
    parser.add_argument("--rounds", type=positive, metavar="N", help="timed calls of each side", default=3)
    with options_of(parser, TestOptions(), "val") as (own, opt, argv), tempfile.TemporaryDirectory() as folder:
        print(machine())
        run = Path(folder, opt.name)
        run.mkdir()
        batch = to_device(batches_of(opt, 1)[0], pick_device(opt.gpu_ids))
        torch.save(model_of(opt, batch).netG.state_dict(), run / "latest_net_G.pth")
        argv = [*argv, "--checkpoints_dir", folder]

        def synthesise(number: int, way: str, *flags: str) -> None:
            results = Path(folder, f"{way} {number}")
            made = (lambda opt: make_plain(create_model(opt))) if way == "plain" else create_model
            with mock.patch("models.create_model", made), redirect_stdout(io.StringIO()):
                test_script.main([*argv, "--results_dir", str(results), *flags])

        def plain(number: int) -> None:
            with mock.patch("util.distributed.keep_freed_memory"), default_memory():
                synthesise(number, "plain")

        sides = {
            "plain": plain,
            "best plain": lambda number: synthesise(number, "best", "--spade_impl", "dense"),
            "patterns": lambda number: synthesise(number, "patterns"),
        }
        times = in_turns(sides, own.rounds, pick_device(opt.gpu_ids))
        report(times, len(create_dataset(opt)), ["plain", "best plain"])


if __name__ == "__main__":
    run_main(main)
