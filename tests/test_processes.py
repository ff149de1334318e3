"""Several processes on one machine's CPU do what one does."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import TINY, write_pairs
from util import launch

ROOT = Path(__file__).parent.parent
FLAGS = [*TINY, "--label_nc", 5, "--niter", 9, "--batchSize", 4, *"--no_html --print_freq 0 --display_freq 0".split()]


def start(count: int, *command: object, cwd: Path = ROOT) -> list[subprocess.Popen]:
    """`count` processes that find each other, as torchrun or `launch.start` would start them."""
    port = launch.free_port()
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, **launch.environment(r, count, port), "PYTHONPATH": str(ROOT)},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(count)
    ]


CASES = {
    "plain": [],
    "vae": ["--use_vae"],
    "accumulation": ["--use_vae", "--accumulate", 2, "--batchSize", 8],
    "instance norm": ["--norm_G", "spectralspadeinstance3x3", "--use_vae"],
    "batch norm everywhere": ["--norm_G", "spectralspadebatch3x3", "--norm_D", "batch", "--spectral_all"],
    "pix2pixHD's generator": ["--netG", "pix2pixhd", "--norm_G", "sync_batch"],
    "checkpointed": ["--grad_checkpoint", "--D_steps_per_G", 2],
    "at every pixel": ["--spade_impl", "dense", "--ngf", 2],
}


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """What a number of processes compute together: five iterations of every case, past the end of an epoch."""
    place = tmp_path_factory.mktemp("processes")
    data = write_pairs(place / "data", 17)
    cases = json.dumps({name: [*map(str, [*FLAGS, "--dataroot", data, *flags])] for name, flags in CASES.items()})

    @functools.cache
    def compute(count: int) -> dict[str, Any]:
        out = place / f"{count}.pt"
        workers = start(count, "-m", "tests.parallel_steps", out, 5, cases)
        said = [worker.communicate(timeout=300)[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * count, said
        return torch.load(out, weights_only=True)

    return compute


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_any_number_of_processes_gives_the_same(
    computed: Callable[[int], dict[str, Any]], case: str, count: int
) -> None:
    """In float64, with batches from files of which each process reads its share."""
    one, several = computed(1)[case], computed(count)[case]
    for own, theirs in zip(one["losses"], several["losses"], strict=True):
        assert theirs == pytest.approx(own, rel=1e-6)
    assert len(one["losses"]) == 5
    for key, weight in one["weights"].items():
        assert (several["weights"][key] - weight).abs().max() <= 1e-6 * weight.abs().max(), key


def test_collectives_are_few(computed: Callable[[int], dict[str, Any]]) -> None:
    """An iteration sums each network's gradients once, with its losses, and statistics once forward and once backward
    for each normalised tensor: SPADE's generator has 14 (two in each of seven blocks), and makes images twice."""
    two = computed(2)
    assert [one["calls"] for one in two["plain"]["collectives"]] == [2 + 14 + 14 + 14] * 5
    assert [one["calls"] for one in two["instance norm"]["collectives"]] == [2] * 5
    assert [one["calls"] for one in computed(1)["plain"]["collectives"]] == [0] * 5
    # Every weight is summed once: 8 bytes each, and beside them 1 + 2 losses for G, 1 + 2 for D, one being a signal.
    case = two["instance norm"]
    counts = {letter: 0 for letter in "GDE"}
    for key, value in case["weights"].items():
        if not key.endswith(("_u", "_v")):
            counts[key[0]] += value.numel()
    assert {one["bytes"] for one in case["collectives"]} == {8 * (sum(counts.values()) + (1 + 3) + (1 + 2))}
