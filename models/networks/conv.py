"""Convolutions that prepare their weights once for evaluation."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks import onednn
from models.networks.folding import folded, forget, may_fold
from util.precision import compute_dtype


class Conv2d(nn.Conv2d):
    """A convolution without dilation, groups, or padding other than zeros: x [N, C_in, h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        if may_fold(self, [self.weight]):
            return convolve(self, x, [self.weight], lambda: self.weight)
        forget(self)
        return super().forward(x)


def convolve(layer: nn.Conv2d, x: Tensor, sources: Sequence[Tensor], weight: Callable[[], Tensor]) -> Tensor:
    """The convolution of x [N, C, h, w] by `layer` with a weight that `may_fold`, made once from `sources`."""
    dtype = compute_dtype(x)
    x = x.to(dtype)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    if onednn.serves(x) and not (torch.is_grad_enabled() and x.requires_grad):
        x = x.contiguous(memory_format=torch.channels_last)
        place = layer.stride, layer.padding

        def pack() -> Tensor:
            return onednn.packed_conv_weight(weight().to(dtype), x, *place)

        return onednn.conv2d(x, folded(layer, "packed", sources, pack, dtype), bias, *place)
    kept = folded(layer, "weight", sources, lambda: weight().to(dtype), dtype)
    return F.conv2d(x, kept, bias, layer.stride, layer.padding)
