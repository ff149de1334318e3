"""What a training iteration computes and moves, counted, and how long GPUs would take for it, predicted.

    python -m benchmarks cost                          # the paper's recipes: docs/reproduce.md
    python -m benchmarks cost --dataset_mode ade20k --use_vae --batchSize 4      # one command line of train.py
    python -m benchmarks cost --machine 390 25 --dataset_mode coco               # on a machine with these speeds

A whole step runs on tensors without contents, under --amp where the precision is half; the arithmetic of each operation
and the bytes that it reads and writes are added up. An operation takes the longest of: its arithmetic at a share of the
GPU's peak, its bytes at a share of the bandwidth, and what it takes to start one. SPADE is computed by the plain
formula, so that patterns, and kernels that --compile fuses, take less. --machine takes what one of yours does of matrix
products in fp32 (GFLOP a second) and of copies (GB a second), both measured, and assumes no shares.
"""

from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.contentless import run_a_step
from options.flags import command_parser, positive_float
from options.train_options import TrainOptions
from util.errors import UserError, run_main


@dataclass(frozen=True)
class Device:
    """A GPU by its vendor's datasheet, and the shares of it that convolutions and copies usually reach (assumed)."""

    flops: float  # a second, at the peak of its matrix units where it has some for this precision
    bandwidth: float  # bytes a second
    share_of_flops: float = 0.35
    share_of_bandwidth: float = 0.75
    start: float = 5e-6  # seconds at least for each operation

    def seconds(self, flops: float, moved: float) -> float:
        """What one operation takes."""
        slowest = flops / (self.flops * self.share_of_flops), moved / (self.bandwidth * self.share_of_bandwidth)
        return max(*slowest, self.start)


DEVICES = {  # named after the precision
    "V100, fp32": Device(15.7e12, 900e9, share_of_flops=0.7),  # no matrix units for it: vector units reach more
    "V100, fp16": Device(125e12, 900e9),
    "H200, TF32": Device(495e12, 4.8e12),
    "H200, bf16": Device(990e12, 4.8e12),
}
HALF = ("fp16", "bf16")
# What a GPU has nothing to do for.
NOTHING_TO_DO = (
    "prim",
    "profiler",
    "aten::empty",
    "aten::new_empty",
    "aten::lift",
    "aten::detach",
    "aten::promote_types",
)
# The paper's recipes: caption, flags, images of an epoch, epochs.
RECIPES = [
    ("COCO-Stuff", "--dataset_mode coco --batchSize 32", 118_287, 100),
    ("ADE20K", "--dataset_mode ade20k --batchSize 32", 20_210, 200),
    ("Cityscapes", "--dataset_mode cityscapes --batchSize 32", 2_975, 200),
]
MACHINES = [(8, "V100, fp32"), (8, "V100, fp16"), (1, "H200, bf16"), (8, "H200, bf16")]


@dataclass
class Work:
    """Operations: floating-point operations and bytes of each."""

    operations: list[tuple[float, float]] = field(default_factory=list)

    @property
    def flops(self) -> float:
        return sum(flops for flops, _ in self.operations)

    @property
    def moved(self) -> float:
        return sum(moved for _, moved in self.operations)

    def seconds(self, device: Device) -> float:
        """One after the other."""
        return sum(device.seconds(flops, moved) for flops, moved in self.operations)


class WorkCounter(TorchDispatchMode):
    """The operations that compute; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not func.is_view and not func.name().startswith(NOTHING_TO_DO):
            count = flop_registry.get(func._overloadpacket)
            flops = count(*args, **kwargs, out_val=out) if count else 0
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
            self.work.operations.append((flops, sum(x.numel() * x.element_size() for x in tensors)))
        return out


def work_of_a_step(opt: Namespace, amp: str = "off") -> Work:
    """All operations of a training iteration, in a precision of --amp.

    Raises:
        UserError: the size of the images depends on the files.
    """
    counter = WorkCounter()
    run_a_step(Namespace(**{**vars(opt), "amp": amp}), counter, counter.work.operations.clear)
    return counter.work


def works_of(opt: Namespace, precisions: Iterable[bool] = (False, True)) -> dict[bool, Work]:
    """In full and in half precision (True); fp16 is as bf16, but that its scaler needs contents."""
    return {half: work_of_a_step(opt, "bf16" if half else "off") for half in precisions}


def measured(gflops: float, gb: float) -> Device:
    """A machine by what it was measured to do a second."""
    return Device(gflops * 1e9, gb * 1e9, share_of_flops=1, share_of_bandwidth=1)


def main() -> None:
    """Print one prediction, or those of the recipes.

    Raises:
        UserError: --machine without the flags of a training, or one whose images' size depends on the files.
    """
    own = command_parser("benchmarks cost", f"{__doc__}\nAll other flags are train.py's.")
    text = "predict for it: what it does of matrix products in fp32 and of copies, in GFLOP and GB a second"
    own.add_argument("--machine", nargs=2, type=positive_float, metavar=("GFLOPS", "GB"), help=text)
    args, flags = own.parse_known_args()
    if args.machine and not flags:
        raise UserError("--machine is for one command line of train.py: give its flags too, as --dataset_mode coco")
    if flags:
        options = TrainOptions()
        options.prog = "benchmarks cost"
        devices = {"fp32": measured(*args.machine)} if args.machine else DEVICES
        works = works_of(options.parse([*flags, "--gpu_ids", "-1"]), {name.endswith(HALF) for name in devices})
        for name, device in devices.items():
            work = works[name.endswith(HALF)]
            counted = f"{work.flops / 1e12:.2f} TFLOP, {work.moved / 1e9:.1f} GB, {len(work.operations):,} operations"
            print(f"{name}: {work.seconds(device):.3f} s (predicted, plain formula; {counted})")
        return
    headings = [f"{count} x {name}" for count, name in MACHINES]
    print(f"| predicted | TFLOP, GB an image | {' | '.join(headings)} |\n|---|---|{'---|' * len(headings)}")
    for caption, flags, images, epochs in RECIPES:
        opt = TrainOptions().parse([*flags.split(), "--gpu_ids", "-1"])
        iterations = images // opt.batchSize * epochs
        works = {count: works_of(_share(opt, count)) for count in {count for count, _ in MACHINES}}
        times = []
        for count, name in MACHINES:
            seconds = works[count][name.endswith(HALF)].seconds(DEVICES[name])
            times.append(f"{seconds:.2f} s, {iterations * seconds / 3600:.2g} h")
        whole = works[1][False]
        per_image = f"{whole.flops / 1e12 / opt.batchSize:.2f}, {whole.moved / 1e9 / opt.batchSize:.1f}"
        print(f"| {caption} | {per_image} | {' | '.join(times)} |", flush=True)


def _share(opt: Namespace, count: int) -> Namespace:
    """What each of several GPUs has to do."""
    return Namespace(**{**vars(opt), "batchSize": opt.batchSize // count})


if __name__ == "__main__":
    run_main(main)
