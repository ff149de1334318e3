"""The floor: the ordinary convolutions of a pass alone, replayed on tensors of the same shapes and strides."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
CONVOLUTIONS = {
    aten.convolution.default,
    aten.convolution_backward.default,
    torch.ops.mkldnn._convolution_pointwise.default,  # on CPUs, with packed weights
}


class Convolutions(TorchDispatchMode):
    """Notes every convolution, forward and backward, that happens inside."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable, tuple, dict]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in CONVOLUTIONS:
            self.calls.append((func, tree_map(_alike, args), tree_map(_alike, kwargs or {})))
        return func(*args, **(kwargs or {}))

    def replay(self) -> None:
        """Do them all again."""
        for func, args, kwargs in self.calls:
            func(*args, **kwargs)


def floor_of(step: Callable[[], Any]) -> Callable[[], None]:
    """A function that does the convolutions of `step()` alone."""
    with Convolutions() as noted:
        step()
    return torch.no_grad()(noted.replay)


_made: dict[tuple, Tensor] = {}


def _alike(value: Any) -> Any:
    """A tensor of the same shape, strides and type, shared by all that are alike, filled with noise."""
    if not isinstance(value, Tensor) or value.is_mkldnn:  # packed weights have no strides, and stay as they are
        return value
    key = value.shape, value.stride(), value.dtype, value.device
    if key not in _made:
        _made[key] = torch.empty_strided(*key[:2], dtype=key[2], device=key[3]).normal_()
    return _made[key]
