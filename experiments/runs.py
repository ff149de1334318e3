"""What is trained: sizes of an experiment, and runs that differ from the first in one thing each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How large the networks and how long the runs are."""

    about: str
    size: int  # pixels of a side
    segmenter_epochs: int
    eval_freq: int  # epochs
    train: str  # flags of train.py
    device: str  # flags of all scripts


def _schedule(epochs: int) -> str:
    """As the paper: the first half at the full learning rate, the second to zero."""
    return f"--niter {epochs // 2} --niter_decay {epochs - epochs // 2}"


_NARROW = "--ngf 16 --nef 16 --ndf 32 --batchSize 4 --nThreads 0"
_NARROW_TEXT = "128 x 128, generators a quarter as wide as the paper's, discriminators half"
SCALES = {
    "cpu": Scale(_NARROW_TEXT, 128, 40, 4, f"{_NARROW} {_schedule(24)}", "--gpu_ids -1"),
    "cpu-short": Scale(f"{_NARROW_TEXT}; 8 epochs", 128, 40, 8, f"{_NARROW} {_schedule(8)}", "--gpu_ids -1"),
    "gpu": Scale("256 x 256, the paper's width", 256, 40, 10, f"--batchSize 16 {_schedule(200)}", "--gpu_ids 0"),
}

# What all runs have: no instance maps, no downloaded weights, and a moving average beside the plain weights, which it
# leaves as they are.
COMMON = "--no_instance --no_vgg_loss --ema_decay 0.999"

# Each against `spade`.
RUNS = {
    "spade": "",
    "spade-seed1": "--seed 1",
    "spade-seed2": "--seed 2",
    "spade-seed3": "--seed 3",
    "spade-vae": "--use_vae",
    "pix2pixhd": "--netG pix2pixhd --norm_G spectralinstance",
    "dense": "--spade_impl dense",
    "bf16": "--amp bf16",
    "bf16-seed1": "--amp bf16 --seed 1",
    "bf16-seed2": "--amp bf16 --seed 2",
    "lr-1e-4": "--lr 0.0001",
    "lr-4e-4": "--lr 0.0004",
    "lr-8e-4": "--lr 0.0008",
    "batch-2": "--batchSize 2",
    "batch-8": "--batchSize 8",
    "gain-1": "--init_variance 1",
    "diffaugment": "--diffaugment color translation cutout",
    "diffaugment-translation": "--diffaugment translation cutout",
}
