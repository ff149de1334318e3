"""Products of rows with a matrix, the other half of SPADE's arithmetic beside its convolutions."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear(rows: Tensor, weight: Tensor) -> Tensor:
    """rows [U, I] times weight [O, I] transposed: [U, O]; differentiable in both.

    For float32 on a CPU PyTorch calls MKL, which runs at half the speed on processors of other makers than its own.
    oneDNN, which computes the convolutions, does not.
    """
    return _Linear.apply(rows, weight) if _by_onednn(rows) else F.linear(rows, weight)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        for_rows, for_weight = ctx.needs_input_grad
        # The sum over rows in the weight's gradient is no faster in oneDNN.
        return _product(grad, weight.t()) if for_rows else None, grad.t() @ rows if for_weight else None


def _product(rows: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weight, None, "none", [], "")


def _by_onednn(rows: Tensor) -> bool:
    return (
        rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
