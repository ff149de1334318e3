"""Norm strings, SPADE, and convolutions with a norm behind them.

Letters: N batch, S semantic channels, C channels, H W layout size, h w feature size, T taps of a kernel, U patterns of a
layout (models/networks/patterns.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.folding import compute_dtype, folded, may_fold
from models.networks.modulation import Statistics, modulate
from models.networks.semantics import LabelMap, Semantics, dense_of, resize_nearest
from models.networks.spectral import spectral, weight_of
from util.errors import UserError

HIDDEN = 128  # channels of SPADE's shared layer (paper, appendix A)


@dataclass(frozen=True)
class NormSpec:
    """A norm string, spelled out: 'spectralspadesyncbatch3x3' is NormSpec(True, 'sync_batch', 3)."""

    spectral: bool
    kind: str  # 'sync_batch', 'batch', 'instance' or 'none'
    spade_kernel: int = 0  # 0: a plain norm, not SPADE


def parse_norm(text: str, spade: bool, flag: str = "norm") -> NormSpec:
    """Read a norm string.

    Args:
        text: `[spectral]spade{syncbatch,batch,instance}KxK` with odd K where `spade`, else
            `[spectral]{instance,batch,sync_batch,none}`.
        flag: what a message calls it.

    Raises:
        ValueError: the string is of neither kind, or of the other.
    """
    if spade:
        match = re.fullmatch(r"(spectral)?spade(syncbatch|batch|instance)(\d+)x\3", text)
        if match and int(match[3]) % 2:
            return NormSpec(bool(match[1]), match[2].replace("syncbatch", "sync_batch"), int(match[3]))
        raise ValueError(
            f"{flag} {text!r}: a SPADE generator takes [spectral]spade{{syncbatch,batch,instance}}KxK with odd K, "
            "such as spectralspadesyncbatch3x3"
        )
    match = re.fullmatch(r"(spectral)?(instance|batch|sync_batch|none)", text)
    if not match:
        raise ValueError(
            f"{flag} {text!r}: discriminators, encoders and the pix2pixhd generator take "
            "[spectral]{instance,batch,sync_batch,none}, such as spectralinstance"
        )
    return NormSpec(bool(match[1]), match[2])


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that explains what it cannot do: x [N, C, h, w] to the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self.normalize(x)

    def normalize(self, x: Tensor) -> Tensor:
        """The norm itself."""
        return super().forward(x)

    def statistics(self, x: Tensor, shared: "Moments | None" = None) -> Statistics:
        """What x is normalised with, tracked where the norm does so; `shared`: the moments of x, if known."""
        self._check(x)
        if not self.training:
            return Statistics(self.running_mean[None], (self.running_var + self.eps).rsqrt()[None], of_x=False)
        moments = shared or moments_of_batch(x)
        with torch.no_grad():
            count = x.numel() // x.shape[1]
            self.running_mean.lerp_(moments.mean[0].to(self.running_mean), self.momentum)
            unbiased = moments.variance[0] * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
            self.count_batch()
        return moments.statistics(self.eps)

    def count_batch(self) -> None:
        """Advance num_batches_tracked."""
        self.num_batches_tracked.add_(1)

    def _check(self, x: Tensor) -> None:
        if self.training and x.numel() == x.shape[1]:
            raise UserError(
                "batch norm has a single value per channel here (--batchSize 1 and a layout of one latent pixel): use "
                "--batchSize 2, a larger --crop_size, or an instance norm"
            )


class SynchronizedBatchNorm2d(BatchNorm2d):
    """Batch norm with the statistics of the global batch: x [N, C, h, w] to the same shape.

    Normalises with the biased variance and tracks the unbiased one. In one process it is plain batch norm.
    """

    def normalize(self, x: Tensor) -> Tensor:
        # Quirk kept (SPADE): num_batches_tracked is in the state dict but never advances.
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    def count_batch(self) -> None:
        """Nothing: see `normalize`."""


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm without parameters or running statistics: x [N, C, h, w] to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            # The same norm, which PyTorch computes in place of memory's order; its instance norm would copy x twice.
            return F.group_norm(x, x.shape[1], eps=self.eps)
        return super().forward(x)

    def statistics(self, x: Tensor, shared: "Moments | None" = None) -> Statistics:
        """What x is normalised with; `shared`: the moments of x, if known."""
        self._check(x)
        return (shared or moments_of_images(x)).statistics(self.eps)

    def _check(self, x: Tensor) -> None:
        if x.shape[-2] * x.shape[-1] == 1:
            raise UserError(
                "instance norm has a single pixel per channel here (a layout of one latent pixel): use a larger layout "
                "or --crop_size, or a batch norm"
            )


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance [G, C], in float32 or more, over a batch (G = 1) or each image (G = N)."""

    mean: Tensor
    variance: Tensor

    def statistics(self, eps: float) -> Statistics:
        """What x, which they were computed from, is normalised with."""
        return Statistics(self.mean, (self.variance + eps).rsqrt(), of_x=True)


@torch.no_grad()
def moments_of_batch(x: Tensor) -> Moments:
    """x: [N, C, h, w]."""
    # What batch norm itself computes them with; it takes running statistics to know the type they are wanted in.
    unused = [torch.zeros(x.shape[1], dtype=at_least_float32(x.dtype), device=x.device) for _ in range(2)]
    mean, variance = torch.ops.aten.batch_norm_update_stats(x, *unused, 0.0)
    return Moments(mean[None], variance[None])


@torch.no_grad()
def moments_of_images(x: Tensor) -> Moments:
    """x: [N, C, h, w]."""
    each = [moments_of_batch(image) for image in x.split(1)]
    return Moments(torch.cat([m.mean for m in each]), torch.cat([m.variance for m in each]))


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The type that statistics and tables have where activations have `dtype`."""
    return torch.promote_types(dtype, torch.float32)


def norm_layer(kind: str, channels: int, affine: bool) -> nn.Module:
    """The norm named `kind`; instance norm never has parameters."""
    if kind == "instance":
        return InstanceNorm2d(channels)
    return {"sync_batch": SynchronizedBatchNorm2d, "batch": BatchNorm2d}[kind](channels, affine=affine)


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of a model, which keep running statistics for evaluation."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def conv_norm(conv: nn.Module, norm: NormSpec) -> nn.Module:
    """`conv`, spectrally normalised if `norm` says so, and the norm behind it, which takes the place of the bias."""
    if norm.spectral:
        conv = spectral(conv)
    if norm.kind == "none":
        return conv
    del conv.bias
    conv.register_parameter("bias", None)
    channels = conv.out_channels
    return nn.Sequential(conv, norm_layer(norm.kind, channels, affine=True))


class SPADE(nn.Module):
    """Spatially-adaptive normalisation (paper, section 3): the layout modulates normalised features at every pixel."""

    def __init__(self, channels: int, semantic_nc: int, norm: NormSpec) -> None:
        super().__init__()
        self.kernel = k = norm.spade_kernel
        self.param_free_norm = norm_layer(norm.kind, channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_nc, HIDDEN, k, padding=k // 2), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, channels, k, padding=k // 2)
        self.mlp_beta = nn.Conv2d(HIDDEN, channels, k, padding=k // 2)

    def forward(self, x: Tensor, semantics: Semantics) -> Tensor:  # [N, C, h, w], [N, S, H, W]
        return spades(x, semantics, [self])[0]

    def plain(self, x: Tensor, semantics: Semantics) -> Tensor:
        """The paper's formula at every pixel: x [N, C, h, w], semantics [N, S, h, w]."""
        code = self.hidden(semantics, x.dtype)  # [N, 128, h, w]
        gamma, beta = self.mlp_gamma(code), self.mlp_beta(code)  # [N, C, h, w] each; gamma 0 leaves x normalised
        return self.param_free_norm(x) * (1 + gamma) + beta  # [N, C, h, w]

    def hidden(self, semantics: Semantics, dtype: torch.dtype) -> Tensor:
        """[N, S, h, w] to [N, 128, h, w]; of ids not as a convolution, but once for each different window."""
        if not isinstance(semantics, LabelMap) or semantics.impl == "dense":
            return self.mlp_shared(dense_of(semantics, dtype))
        patterns = semantics.patterns(self.kernel)
        rows = patterns.hidden_at(self._hidden_rows(semantics, weight_of(self.mlp_shared[0]), self.mlp_shared[0].bias))
        n, _, h, w = semantics.shape
        return rows.view(n, h, w, HIDDEN).permute(0, 3, 1, 2)

    def tables(self, semantics: LabelMap) -> tuple[Tensor, Tensor]:
        """Scale (1 + gamma) and shift (beta) of each pattern, [U, C] each."""
        shared, gamma, beta = self.mlp_shared[0], self.mlp_gamma, self.mlp_beta
        rows = self._hidden_rows(semantics, weight_of(shared), shared.bias)
        return (
            self._products(semantics, rows, by_tap(weight_of(gamma)), gamma.bias + 1),
            self._products(semantics, rows, by_tap(weight_of(beta)), beta.bias),
        )

    def folded_tables(self, semantics: LabelMap) -> tuple[Tensor, Tensor]:
        """The same in evaluation, with batch norm's running statistics in them: x * scale + shift is all."""
        layers = self.mlp_shared[0], self.mlp_gamma, self.mlp_beta
        norm = self.param_free_norm
        dtype = compute_dtype(norm.running_mean)

        def fold() -> tuple[Tensor, ...]:
            shared, gamma, beta = (weight_of(layer) for layer in layers)
            scale, shift = by_tap(gamma), by_tap(beta)  # [T, 128, C]
            rstd = (norm.running_var + norm.eps).rsqrt()
            scale, scale_bias = scale * rstd, (self.mlp_gamma.bias + 1) * rstd
            shift, shift_bias = shift - scale * norm.running_mean, self.mlp_beta.bias - scale_bias * norm.running_mean
            return shared, scale.to(dtype), scale_bias, shift.to(dtype), shift_bias

        sources = [*self.parameters(), *self.buffers()]
        shared, scale, scale_bias, shift, shift_bias = folded(self, "tables", sources, fold, dtype)
        rows = self._hidden_rows(semantics, shared, self.mlp_shared[0].bias)
        return self._products(semantics, rows, scale, scale_bias), self._products(semantics, rows, shift, shift_bias)

    def _hidden_rows(self, semantics: LabelMap, weight: Tensor, bias: Tensor) -> Tensor:
        """The hidden layer of each different window, [windows, 128]."""
        rows = F.pad(semantics.code_rows(weight), (0, 0, 0, 1))  # the last is what lies outside: nothing
        return F.relu(semantics.patterns(self.kernel).first(rows) + bias)

    def _products(self, semantics: LabelMap, rows: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        """The hidden layer times [T, 128, C], each window with each tap once, gathered to patterns: [U, C]."""
        dtype = compute_dtype(rows)
        rows = F.pad(rows, (0, 0, 0, 1)).to(dtype)  # outside the image the hidden layer is zero, not computed
        products = torch.bmm(rows.expand(len(taps), -1, -1), taps.to(dtype))  # [T, windows + 1, C]
        return semantics.patterns(self.kernel).second(products.flatten(0, 1)).to(bias.dtype) + bias


def spades(
    x: Tensor, semantics: Semantics, layers: Sequence[SPADE], slopes: Sequence[float] | None = None
) -> tuple[Tensor, ...]:
    """Several SPADEs of one x, each with a leaky ReLU behind it: they share its statistics and one pass over it.

    Args:
        x: [N, C, h, w].
        semantics: [N, S, H, W], dense or a label map.
        slopes: of the leaky ReLUs; 1 (which is the default) for none.

    Returns:
        [N, C, h, w] for each layer.
    """
    slopes = [1.0] * len(layers) if slopes is None else list(slopes)
    semantics = resize_nearest(semantics, x.shape[-2:])
    kernel = layers[0].kernel
    if not isinstance(semantics, LabelMap) or not semantics.by_pattern(kernel):
        outs = [layer.plain(x, semantics) for layer in layers]
        return tuple(y if slope == 1 else F.leaky_relu(y, slope) for y, slope in zip(outs, slopes, strict=True))
    patterns, norms = semantics.patterns(kernel), [layer.param_free_norm for layer in layers]
    if isinstance(norms[0], BatchNorm2d) and may_fold(layers[0], [*layers[0].parameters(), *layers[0].buffers()]):
        tables = [layer.folded_tables(semantics) for layer in layers]
        return modulate(x, None, patterns, tables, slopes)
    moments = None
    if isinstance(norms[0], InstanceNorm2d):
        moments = moments_of_images(x)
    elif norms[0].training:
        moments = moments_of_batch(x)
    statistics = [norm.statistics(x, moments) for norm in norms][0]
    tables = [layer.tables(semantics) for layer in layers]
    return modulate(x, statistics, patterns, tables, slopes)


def by_tap(weight: Tensor) -> Tensor:
    """A convolution's weight [C_out, C_in, kh, kw] as one matrix for each tap, [kh kw, C_in, C_out].

    A view where the weight is channels-last.
    """
    return weight.permute(2, 3, 1, 0).reshape(-1, *weight.shape[1::-1])
