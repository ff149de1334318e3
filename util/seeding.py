"""All randomness as pure functions of (seed, place), so that workers, processes and resuming cannot change it."""

import random

import numpy as np
import torch


def seed_from(*key: int) -> int:
    """A 63-bit seed that depends on every integer of `key` and on their order."""
    # The length goes in too, since trailing zeros alone would not change a SeedSequence.
    return int(np.random.SeedSequence((len(key), *key)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def shuffled(size: int, *key: int) -> np.ndarray:
    """The numbers 0 .. size - 1 in an order that depends on `key` alone."""
    return np.random.default_rng(seed_from(*key)).permutation(size)


def seed_everything(*key: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch (all devices) from `key`."""
    seed = seed_from(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def standard_normal(shape: tuple[int, ...], *key: int) -> torch.Tensor:
    """N(0, 1) float64 values on the CPU that depend on `key` alone: the same on every device and in every process."""
    return torch.randn(shape, generator=_generator(*key), dtype=torch.float64)


def uniform(shape: tuple[int, ...], *key: int) -> torch.Tensor:
    """Float64 values in [0, 1) on the CPU that depend on `key` alone."""
    return torch.rand(shape, generator=_generator(*key), dtype=torch.float64)


def _generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_from(*key))
