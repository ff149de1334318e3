"""The table that a generator's forward pass and a training iteration share: every way of computing SPADE, in turns."""

import functools
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from benchmarks.common import LAYOUTS, compiled_graphs, default_memory, in_turns, report
from benchmarks.floor import floor_of
from util.distributed import pick_device

SIDES = ("plain", "best plain", "patterns")


def compare(opt: Namespace, rounds: int, call: Callable[[str, int], Any], released: Callable[[int], Any]) -> None:
    """Print the table for one precision.

    Args:
        call: computes one of `SIDES` on batch number 0 .. LAYOUTS - 1.
        released: the same of plain, in fp32 whatever --amp says; here with the C library's default memory.
    """

    def plain_as_released(number: int) -> None:
        with default_memory():
            released(number % LAYOUTS)

    def kept(side: str, number: int) -> None:
        call(side, number % LAYOUTS)

    sides: dict[str, Callable[[int], Any]] = {"plain, fp32": plain_as_released}
    names = {"plain": "plain, kept" if opt.amp == "off" else f"plain, {opt.amp}"}
    sides |= {names.get(side, side): functools.partial(kept, side) for side in SIDES}
    before = compiled_graphs()
    call("patterns", 0)
    first = compiled_graphs()
    floors = [floor_of(functools.partial(call, "patterns", number)) for number in range(LAYOUTS)]
    sides["convolutions"] = lambda number: floors[number % LAYOUTS]()
    times = in_turns(sides, rounds, pick_device(opt.gpu_ids))
    print(f"--amp {opt.amp}, {rounds} round(s) over {LAYOUTS} batches, --batchSize {opt.batchSize}")
    report(times, opt.batchSize, ["plain, fp32", "best plain", "convolutions"])
    if opt.compile:
        print(f"  graphs compiled in the first call: {first - before}, later: {compiled_graphs() - first}")
