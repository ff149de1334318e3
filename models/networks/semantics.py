"""From ids to what networks read: one-hot classes and instance edges.

Letters: N batch, C classes, H W size.
"""

import torch
from torch import Tensor


def one_hot(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Class ids [N, 1, H, W] in 0 .. classes - 1 to [N, C, H, W] of 0 and 1."""
    n, _, h, w = label.shape
    return torch.zeros(n, classes, h, w, dtype=dtype, device=label.device).scatter_(1, label.long(), 1.0)


def instance_edges(instance: Tensor) -> Tensor:
    """Instance ids [N, 1, H, W] to bool [N, 1, H, W]: whether the left, right, upper or lower neighbour differs."""
    edges = torch.zeros_like(instance, dtype=torch.bool)
    horizontal = instance[..., :, 1:] != instance[..., :, :-1]
    vertical = instance[..., 1:, :] != instance[..., :-1, :]
    edges[..., :, 1:] |= horizontal
    edges[..., :, :-1] |= horizontal
    edges[..., 1:, :] |= vertical
    edges[..., :-1, :] |= vertical
    return edges


def encode_semantics(label: Tensor, instance: Tensor | None, classes: int, dtype: torch.dtype) -> Tensor:
    """Dense semantics [N, S, H, W]: one-hot classes, then, where `instance` is given, one channel of edges."""
    dense = one_hot(label, classes, dtype)
    return dense if instance is None else torch.cat([dense, instance_edges(instance).to(dtype)], dim=1)
