"""Inputs and weights that depend on a name alone, and the summaries that golden files keep of tensors.

The golden numbers were made from these same draws; any change here breaks the comparison.
"""

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor


def generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 1) float64."""
    return generator(name).standard_normal(tuple(shape))


def label_map(name: str, n: int, classes: int, height: int, width: int) -> Tensor:
    """24 random rectangles of random classes over class 0: long [N, 1, H, W]."""
    rng = generator(name)
    out = np.zeros((n, 1, height, width), np.int64)
    for picture in out[:, 0]:
        for _ in range(24):
            top, left = rng.integers(0, height), rng.integers(0, width)
            h, w = rng.integers(1, height // 2 + 1), rng.integers(1, width // 2 + 1)
            picture[top : top + h, left : left + w] = rng.integers(0, classes)
    return torch.from_numpy(out)


def image(name: str, n: int, height: int, width: int, channels: int = 3) -> Tensor:
    """Smooth colours in [-1, 1]: float64 [N, C, H, W]."""
    coarse = torch.from_numpy(normal(name, (n, channels, 6, 6)))
    return torch.tanh(torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False))


def filled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with every entry replaced by a value that depends on its key and shape."""
    out = {}
    for key, old in state.items():
        if not key.endswith(("weight_u", "weight_v")):
            out[key] = torch.as_tensor(_value(key, tuple(old.shape))).to(old.dtype)
    for key, old in state.items():
        if key.endswith("weight_u"):
            prefix = key.removesuffix("weight_u")
            u, v = _power_iterations(key, normal(f"{prefix}weight_orig", state[f"{prefix}weight_orig"].shape), len(old))
            out[key] = torch.from_numpy(u).to(old.dtype)
            out[f"{prefix}weight_v"] = torch.from_numpy(v).to(old.dtype)
    return {key: out[key] for key in state}


def fill(net: torch.nn.Module) -> torch.nn.Module:
    """Fill a network's state, strictly; returns the network."""
    net.load_state_dict(filled(net.state_dict()))
    return net


def _value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    leaf = key.split(".")[-1]
    if leaf == "num_batches_tracked":
        return np.asarray(7)
    value = normal(key, shape)
    if leaf == "running_var":
        return 1 + 0.1 * abs(value)
    if leaf == "running_mean":
        return 0.1 * value
    if len(shape) >= 2:
        return value / np.sqrt(np.prod(shape[1:]))
    return 1 + 0.1 * value if leaf == "weight" else 0.05 * value


def _power_iterations(key: str, weight: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    if weight.shape[0] != outputs:  # a transposed convolution counts its outputs in dimension 1
        weight = weight.swapaxes(0, 1)
    matrix = weight.reshape(outputs, -1)
    u = normal(key, (outputs,))
    u = u / np.linalg.norm(u)
    for _ in range(30):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u, v


def differences(tensor: Tensor, golden: dict[str, Any], tolerance: float) -> list[str]:
    """Where a tensor's summary departs from a golden one, |a - b| > tolerance * max(|b|, mean |x|); [] if nowhere."""
    flat = tensor.detach().double().flatten()
    if list(tensor.shape) != golden["shape"]:
        return [f"shape {list(tensor.shape)}, golden {golden['shape']}"]
    places = torch.linspace(0, len(flat) - 1, 16).round().long()
    weights = torch.arange(len(flat), dtype=torch.float64).cos()
    own = {
        "mean": flat.mean(),
        "std": flat.std(unbiased=False),
        "abs_sum": flat.abs().sum(),
        "weighted": (flat * weights).sum(),
    } | {f"probe {i}": flat[p] for i, p in enumerate(places)}
    wanted = {k: golden[k] for k in ("mean", "std", "abs_sum", "weighted")}
    wanted |= {f"probe {i}": v for i, v in enumerate(golden["probes"])}
    scale = golden["abs_sum"] / max(1, len(flat))
    rounding = {k: 1e-12 if k.startswith("probe") else 0.0 for k in wanted}  # probes are kept to 12 decimals
    return [
        f"{k}: {own[k].item()!r}, golden {b!r}"
        for k, b in wanted.items()
        if abs(own[k].item() - b) > tolerance * max(abs(b), scale) + rounding[k]
    ]
