"""Gradients, and what else is summed with them, over processes."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from util.distributed import sum_over_processes, world_size


def sum_gradients(parameters: Sequence[Tensor], beside: Tensor) -> Tensor:
    """Let every gradient be the sum of all processes', in one collective.

    Args:
        parameters: those without a gradient are left alone; they are the same in all processes, as is their order.
        beside: other numbers [K] that are summed with them.

    Returns:
        The sums of `beside`. Gradients become views into one flat tensor, each in its weight's order of memory.
    """
    if world_size() == 1:
        return beside
    moved = [p for p in parameters if p.grad is not None]
    ends = list(itertools.accumulate([beside.numel(), *(p.numel() for p in moved)]))
    flat = torch.empty(ends[-1], dtype=beside.dtype, device=beside.device)
    views = [
        flat[first:end].as_strided(p.shape, p.stride(), first)
        for p, (first, end) in zip(moved, itertools.pairwise(ends), strict=True)
    ]
    flat[: ends[0]] = beside
    torch._foreach_copy_(views, [p.grad for p in moved])
    sum_over_processes(flat)
    for parameter, view in zip(moved, views, strict=True):
        parameter.grad = view
    return flat[: ends[0]].clone()  # a view would keep all gradients alive as long as somebody keeps a loss


def total(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of all values, a scalar: not finite where one of them is not; finite otherwise, up to values of 1e29.

    A plain sum, since norms take 2 to 10 times as long.
    """
    return torch.stack([tensor.detach().sum() for tensor in tensors]).sum()
