"""oneDNN, PyTorch's library for networks on CPUs, where it is faster than what PyTorch does by itself.

Two things. Weights that stay as they are can be packed, once, into the order that oneDNN computes in; else it does so
on every call, which for a weight of 1024 x 1024 x 3 x 3 and a small map takes as long as the convolution. And PyTorch
gives products of float32 matrices to MKL, which runs at half the speed on processors of other makers than its own.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LONGEST_SUM = 1152  # products of float32 in a row; rounding errors grow with its root


def serves(x: Tensor) -> bool:
    """Whether oneDNN computes with such tensors here."""
    ours = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled and x.device.type == "cpu"
    return ours and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _has_bf16()))


def packed_conv_weight(weight: Tensor, x: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> list[Tensor]:
    """A convolution's weight [C_out, C_in, kh, kw], packed for maps like x [N, C_in, h, w]; only `conv2d` reads it.

    In parts, of some input channels each, so that no sum is long: oneDNN adds the products of a number one by one.
    """
    parts = -(-weight[0].numel() // LONGEST_SUM) if weight.dtype == torch.float32 else 1
    pack = torch.ops.mkldnn._reorder_convolution_weight
    return [
        pack(_last(part), padding, stride, (1, 1), 1, (len(x), part.shape[1], *x.shape[2:]))
        for part in weight.chunk(parts, 1)
    ]


def conv2d(
    x: Tensor, packed: list[Tensor], bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """`F.conv2d` with a packed weight; channels-last, not differentiable. Maps of other sizes do too."""
    convolve = torch.ops.mkldnn._convolution_pointwise
    sums = (
        convolve(_last(part), weight, bias if i == 0 else None, padding, stride, (1, 1), 1, "none", [], "")
        for i, (part, weight) in enumerate(zip(x.chunk(len(packed), 1), packed, strict=True))
    )
    y = next(sums)
    for more in sums:
        y.add_(more)
    return y


def packed_matrix(weight: Tensor) -> Tensor:
    """A matrix [O, I], packed where that helps; only `linear` reads it, without gradients."""
    return torch.ops.mkldnn._reorder_linear_weight(weight) if serves(weight) else weight


def linear(rows: Tensor, weight: Tensor) -> Tensor:
    """rows [U, I] times weight [O, I] transposed: [U, O]; differentiable in both unless `weight` is packed."""
    if weight.is_mkldnn:
        return _product(rows, weight)
    return _Linear.apply(rows, weight) if rows.dtype == torch.float32 and serves(rows) else F.linear(rows, weight)


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
        # The sum over rows, for the weight, is no faster in oneDNN.
        return _product(grad, weight.t()) if for_rows else None, grad.t() @ rows if for_weight else None


def _product(rows: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weight, None, "none", [], "")


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _has_bf16() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
