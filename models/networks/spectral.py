"""Spectral norm (Miyato et al. 2018) of convolutions, under the keys of released checkpoints.

`torch.nn.utils.spectral_norm` divides all weights by their norm on every call, and goes over them several times more on
the way back: a hundred million numbers each time. Here the smaller of weight and output is divided, which is the same
up to rounding. Parameters, power iteration and its random start are those of that function.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import spectral_norm
from torch.nn.utils.spectral_norm import SpectralNorm

from models.networks.conv import Conv2d, convolve, is_usual
from models.networks.folding import forget, is_traced, may_fold
from models.networks.initialization import CONVOLUTIONS_AND_LINEAR
from util.precision import compute_dtype
from util.switches import switched_off

EPS = 1e-12  # as torch.nn.utils.spectral_norm has it


def spectral(layer: nn.Module) -> nn.Module:
    """`layer`, spectrally normalised: parameter `weight_orig` and buffers `weight_u`, `weight_v`, no `weight`."""
    usual = type(layer) in (nn.Conv2d, Conv2d) and is_usual(layer)
    return SpectralConv2d(layer) if usual else spectral_norm(layer)


def spectral_everywhere(net: nn.Module) -> None:
    """Normalise every convolution and linear layer of `net` that is not yet."""
    for parent in list(net.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, CONVOLUTIONS_AND_LINEAR) and not hasattr(layer, "weight_orig"):
                setattr(parent, name, spectral(layer))


@contextmanager
def without_power_iteration(net: nn.Module) -> Iterator[None]:
    """Let forward passes inside, in training mode, use the norms of weights as the last one left them."""
    layers = list(net.modules())
    own = [layer for layer in layers if isinstance(layer, SpectralConv2d)]
    hooks = [hook for layer in layers for hook in layer._forward_pre_hooks.values() if isinstance(hook, SpectralNorm)]
    with switched_off(own, "iterates"), switched_off(hooks, "n_power_iterations"):
        yield


def power_iteration(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step from u [rows] towards the first singular vectors of a matrix: u, v [columns], and matrix v."""
    v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=EPS)
    product = torch.mv(matrix, v)
    return F.normalize(product, dim=0, eps=EPS), v, product


def weight_of(layer: nn.Module) -> Tensor:
    """The weight that a layer multiplies with, spectrally normalised or not; differentiable.

    In training mode this is a spectral norm's forward pass: it advances the power iteration.
    """
    return layer.normalised_weight() if isinstance(layer, SpectralConv2d) else layer.weight


class SpectralConv2d(Conv2d):
    """A convolution whose weight is `weight_orig` over its largest singular value, as the power iteration has it."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """Takes over the parameters of `conv`."""
        shape = conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
        super().__init__(*shape, bias=conv.bias is not None, device="meta")
        self.iterates = True  # in training mode
        weight = conv.weight
        self.bias = conv.bias
        del self.weight
        self.register_parameter("weight_orig", weight)
        with torch.no_grad():
            for name, size in zip(("weight_u", "weight_v"), weight.flatten(1).shape, strict=True):
                self.register_buffer(name, F.normalize(weight.new_empty(size).normal_(0, 1), dim=0, eps=EPS))

    def forward(self, x: Tensor) -> Tensor:  # [N, C_in, H, W]
        sources = [self.weight_orig, self.weight_u, self.weight_v]
        if may_fold(self, sources):
            return convolve(self, x, sources, self.normalised_weight)
        forget(self)
        if is_traced():
            return F.conv2d(x, self.normalised_weight(), self.bias, self.stride, self.padding)
        sigma, u, v = self.singular()
        return _SpectralConv.apply(
            x.to(compute_dtype(x)), self.weight_orig, self.bias, sigma, u, v, self.stride, self.padding
        )

    def normalised_weight(self) -> Tensor:
        """`weight_orig` over its norm; differentiable."""
        _, u, v = self.singular()
        with torch.autocast(u.device.type, enabled=False):
            return self.weight_orig / torch.dot(u, torch.mv(as_matrix(self.weight_orig), v))

    @torch.no_grad()
    def singular(self) -> tuple[Tensor, Tensor, Tensor]:
        """sigma [], u [C_out] and v [C_in kh kw] in the order of `as_matrix`; in training after one power iteration."""
        matrix, u, v = as_matrix(self.weight_orig), self.weight_u, in_memory_order(self.weight_v, self.weight_orig)
        with torch.autocast(matrix.device.type, enabled=False):
            if not (self.training and self.iterates):
                return torch.dot(u, torch.mv(matrix, v)), u, v
            u, v, product = power_iteration(matrix, u)
            self.weight_u.copy_(u)
            self.weight_v.copy_(from_memory_order(v, self.weight_orig))
            return torch.dot(u, product), u, v


class _SpectralConv(torch.autograd.Function):
    """conv(x, weight) / sigma + bias, where sigma = u' weight v is a function of the weight."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        sigma: Tensor,
        u: Tensor,
        v: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.stride, ctx.padding = stride, padding
        ctx.divides_output = _output_numel(x, weight, stride, padding) < weight.numel()
        ctx.save_for_backward(x, weight, sigma, u, v)
        if ctx.divides_output:
            y = F.conv2d(x, weight.to(x.dtype), None, stride, padding).div_(sigma)
            return y if bias is None else y.add_(bias.view(-1, 1, 1))
        return F.conv2d(x, _divided(weight, sigma, x), None if bias is None else bias.to(x.dtype), stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, sigma, u, v = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        grad_bias = grad.sum((0, 2, 3), dtype=weight.dtype) if for_bias else None
        if ctx.divides_output:
            grad, used = grad / sigma.to(grad.dtype), weight.to(x.dtype)
        else:
            used = _divided(weight, sigma, x)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, used, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, (for_x, for_weight, False)
        )
        if for_weight:
            grad_weight = grad_weight.to(weight.dtype).contiguous(memory_format=memory_format_of(weight))
            if not ctx.divides_output:
                grad_weight.div_(sigma)
            # d sigma / d weight = u v', and the loss sees weight / sigma: the part of the gradient along it goes.
            g, w = as_matrix(grad_weight), as_matrix(weight)
            g.addr_(torch.dot(g.view(-1), w.view(-1)) / -sigma * u, v)
        return grad_x, grad_weight, grad_bias, None, None, None, None, None


def _divided(weight: Tensor, sigma: Tensor, x: Tensor) -> Tensor:
    return (weight / sigma).to(x.dtype)


def _output_numel(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> int:
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    height, width = ((side + 2 * pad - kernel) // step + 1 for side, kernel, step, pad in sides)
    return len(x) * len(weight) * height * width


# A channels-last weight lies in memory as [C_out, kh, kw, C_in]. As a matrix it is read in that order, and weight_v,
# which files have in the order of [C_in, kh, kw], is brought into it: a vector, where the weight would be a copy.


def memory_format_of(weight: Tensor) -> torch.memory_format:
    """Channels-last, or contiguous where it is both or neither."""
    last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def as_matrix(weight: Tensor) -> Tensor:
    """[C_out, C_in, kh, kw] to a view [C_out, C_in kh kw], with columns in memory's order."""
    return (weight.permute(0, 2, 3, 1) if _is_last(weight) else weight).reshape(len(weight), -1)


def in_memory_order(v: Tensor, weight: Tensor) -> Tensor:
    """A vector in the order of [C_in, kh, kw] to that of `as_matrix`."""
    return v.view(weight.shape[1:]).permute(1, 2, 0).reshape(-1) if _is_last(weight) else v


def from_memory_order(v: Tensor, weight: Tensor) -> Tensor:
    """The reverse of `in_memory_order`."""
    _, c, kh, kw = weight.shape
    return v.view(kh, kw, c).permute(2, 0, 1).reshape(-1) if _is_last(weight) else v


def _is_last(weight: Tensor) -> bool:
    return memory_format_of(weight) == torch.channels_last
