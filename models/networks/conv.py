"""Convolutions that prepare their weights once for evaluation."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from models.networks import onednn
from models.networks.folding import folded, forget, may_fold
from util.precision import compute_dtype


class Conv2d(nn.Conv2d):
    """A convolution: x [N, C_in, h, w] in the type of the weight."""

    def forward(self, x: Tensor) -> Tensor:
        if is_usual(self) and may_fold(self, [self.weight]):
            return convolve(self, x, [self.weight], lambda: self.weight)
        forget(self)
        return super().forward(x)

    def train(self, mode: bool = True) -> "Conv2d":
        """Also forgets what was made of the weight."""
        forget(self)
        return super().train(mode)


def is_usual(conv: nn.Conv2d) -> bool:
    """Whether it has neither dilation nor groups, and pads with a given number of zeros."""
    usual = conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == "zeros"
    return usual and isinstance(conv.padding, tuple)


def convolve(layer: nn.Conv2d, x: Tensor, sources: Sequence[Tensor], weight: Callable[[], Tensor]) -> Tensor:
    """The convolution of x [N, C, h, w] by a usual `layer` with a weight that `may_fold`, made once from `sources`.

    Computes in the type of the weight, or in autocast's. On a CPU the result is channels-last.
    """
    dtype, bias = compute_dtype(sources[0]), layer.bias
    x = x.to(compute_dtype(x))
    wanted = torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad))
    differentiable = wanted or _is_transformed(x)
    if bias is not None:
        bias = bias.to(dtype)
    fits = x.dtype == dtype and x.ndim == 4 and x.shape[1] == layer.in_channels  # else F.conv2d says what is wrong
    if fits and onednn.serves(x) and not differentiable:
        step = layer.stride, layer.padding

        def pack() -> list[Tensor]:
            return onednn.packed_conv_weight(weight().to(dtype), x, *step)

        return onednn.conv2d(x, folded(layer, "packed", sources, pack, dtype), bias, *step)
    kept = folded(layer, "weight", sources, lambda: weight().to(dtype), dtype)
    return F.conv2d(x, kept, bias, layer.stride, layer.padding)


def _is_transformed(x: Tensor) -> bool:
    """Whether forward-mode differentiation or torch.func (vmap, jvp) follows x: they know PyTorch's operations only."""
    return forward_ad._current_level >= 0 or torch._C._functorch.is_functorch_wrapped_tensor(x)
