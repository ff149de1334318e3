"""How much memory a training iteration takes, by size and batch, predicted without the machine that has it.

    python -m benchmarks memory                        # the table in docs/questions.md
    python -m benchmarks memory --dataset_mode ade20k --use_vae --batchSize 4      # one command line of train.py

A whole step runs on tensors without contents; every storage is counted from its making to its end. SPADE is computed
by the plain formula; where layouts have few patterns less is needed, and `python -m benchmarks training --memory`
measures how much. Real use on a GPU is more: the CUDA context (about 0.5 GiB), workspaces of convolutions,
and what the allocator cannot reuse.
"""

import sys
import weakref
from argparse import Namespace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.contentless import run_a_step
from options.train_options import TrainOptions
from util.errors import run_main

GIB = 2**30
TABLE = [  # caption, flags, batches
    ("COCO-Stuff, 256 x 256", "--dataset_mode coco", (1, 2, 4, 8, 16, 32)),
    ("COCO-Stuff, 256 x 256, `--use_vae`", "--dataset_mode coco --use_vae", (1, 2, 4, 8, 16, 32)),
    ("Cityscapes, 512 x 256", "--dataset_mode cityscapes", (1, 2, 4, 8, 16, 32)),
    ("COCO-Stuff, 512 x 512", "--dataset_mode coco --crop_size 512 --load_size 572", (1, 2, 4, 8, 16, 32)),
    ("Cityscapes, 1024 x 512", "--dataset_mode cityscapes --crop_size 1024", (1, 2, 4, 8, 16, 32)),
]


class StorageCounter(TorchDispatchMode):
    """Bytes of all tensors that operations made and that still live, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, size: int) -> None:
        self.now -= size


def peak_of_a_step(opt: Namespace) -> tuple[int, int]:
    """Bytes that live between training steps, and at the most within one.

    Raises:
        UserError: the size of the images depends on the files.
    """
    counter, between = StorageCounter(), 0

    def begin() -> None:
        nonlocal between
        between = counter.peak = counter.now

    run_a_step(opt, counter, begin)
    return between, counter.peak


def main() -> None:
    """Print one prediction, or the table."""
    if len(sys.argv) > 1:
        options = TrainOptions()
        options.prog = "benchmarks memory"
        opt = options.parse([*sys.argv[1:], "--gpu_ids", "-1"])
        between, peak = peak_of_a_step(opt)
        print(f"{peak / GIB:.1f} GiB in a step, {between / GIB:.1f} GiB between steps")
        return
    batches = TABLE[0][2]
    print(f"| GiB in fp32 | {' | '.join(f'batch {n}' for n in batches)} |\n|---|{'---|' * len(batches)}")
    for caption, flags, sizes in TABLE:
        peaks = []
        for size in sizes:
            opt = TrainOptions().parse([*flags.split(), "--batchSize", str(size), "--gpu_ids", "-1"])
            peaks.append(f"{peak_of_a_step(opt)[1] / GIB:.1f}")
        print(f"| {caption} | {' | '.join(peaks)} |", flush=True)


if __name__ == "__main__":
    run_main(main)
