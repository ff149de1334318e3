"""Norm strings, SPADE, and convolutions with a norm behind them.

Letters: N batch, S semantic channels, C channels, H W layout size, h w feature size, T taps of a kernel, U patterns of
layouts (models/networks/patterns.py).
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.conv import Conv2d
from models.networks.folding import folded, forget, may_fold
from models.networks.modulation import modulate
from models.networks.moments import (
    Moments,
    Statistics,
    moments_of_batch,
    moments_of_images,
    moments_over_processes,
    normalise,
)
from models.networks.onednn import linear, packed_matrix
from models.networks.patterns import with_outside
from models.networks.semantics import LabelMap, Semantics, by_channel, dense_of, resize_nearest
from models.networks.spectral import spectral, weight_of
from util.distributed import world_size
from util.errors import UserError
from util.precision import compute_dtype
from util.switches import switched_off

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
    """Batch norm with the statistics of the batches of all processes, which explains what it cannot do: x [N, C, h, w]
    to the same shape."""

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.tracks = True  # in training mode
        self.synchronizes = True  # the same, over processes
        self.observers: list[Callable[[Tensor], None]] = []  # get each x that the norm sees

    def forward(self, x: Tensor) -> Tensor:
        if self.shares:
            y = normalise(x, self.statistics(x, self.moments(x)))
            return y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1) if self.affine else y
        self._see(x)
        if self.training and not self.tracks:
            # Copies move instead: without any, autograd would keep fewer tensors than it did of a checkpointed pass.
            moved = self.running_mean.clone(), self.running_var.clone()
            return F.batch_norm(x, *moved, self.weight, self.bias, training=True, eps=self.eps)
        return self.normalize(x)

    @property
    def shares(self) -> bool:
        """Whether the statistics are now those of several processes."""
        return self.training and self.synchronizes and world_size() > 1

    def normalize(self, x: Tensor) -> Tensor:
        """The norm itself, in one process."""
        return super().forward(x)

    def moments(self, x: Tensor) -> Moments:
        """What the statistics of x are made of."""
        return moments_over_processes(x) if self.shares else moments_of_batch(x)

    def statistics(self, x: Tensor, moments: Moments) -> Statistics:
        """What x, with these moments, is normalised with in training; tracked."""
        self._see(x)
        if self.tracks:
            self.track(moments)
        return moments.statistics(self.eps)

    def running_statistics(self) -> tuple[Tensor, Tensor]:
        """What x is normalised with in evaluation: mean and 1 / standard deviation, [C] each."""
        return self.running_mean, (self.running_var + self.eps).rsqrt()

    @torch.no_grad()
    def track(self, moments: Moments) -> None:
        """Move the running statistics towards these."""
        unbiased = moments.variance[0] * (moments.count / (moments.count - 1))
        self.running_mean.lerp_(moments.mean[0], self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        self.count_batch()

    def count_batch(self) -> None:
        """Advance num_batches_tracked."""
        self.num_batches_tracked.add_(1)

    def _see(self, x: Tensor) -> None:
        for observer in self.observers:
            observer(x)
        if self.training and x.numel() == x.shape[1] and not self.shares:
            raise UserError(
                "batch norm has a single value per channel here (a batch of one image, and a layout of one latent "
                "pixel): use larger layouts (--crop_size), batches of at least two of one size (--batchSize), or an "
                "instance norm"
            )


class SynchronizedBatchNorm2d(BatchNorm2d):
    """The same under the name `syncbatch`; it differs in one buffer."""

    def normalize(self, x: Tensor) -> Tensor:
        # Quirk kept (SPADE): num_batches_tracked is in the state dict but never advances.
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    def count_batch(self) -> None:
        """Nothing: see `normalize`."""


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm without parameters or running statistics: x [N, C, h, w] to the same shape."""

    shares = False  # statistics with other processes

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            # The same norm, which PyTorch computes in place of memory's order; its instance norm would copy x twice.
            with torch.autocast(x.device.type, enabled=False):  # it computes statistics in float32 by itself
                return F.group_norm(x, x.shape[1], eps=self.eps)
        return super().forward(x)

    def moments(self, x: Tensor) -> Moments:
        """What the statistics of x are made of."""
        return moments_of_images(x)

    def statistics(self, x: Tensor, moments: Moments) -> Statistics:
        """What x, with these moments, is normalised with."""
        self._check(x)
        return moments.statistics(self.eps)

    def _check(self, x: Tensor) -> None:
        if x.shape[-2] * x.shape[-1] == 1:
            raise UserError(
                "instance norm has a single pixel per channel here (a layout of one latent pixel): use a larger layout "
                "or --crop_size, or a batch norm"
            )


def norm_layer(kind: str, channels: int, affine: bool) -> nn.Module:
    """The norm named `kind`; instance norm never has parameters."""
    if kind == "instance":
        return InstanceNorm2d(channels)
    return {"sync_batch": SynchronizedBatchNorm2d, "batch": BatchNorm2d}[kind](channels, affine=affine)


def batch_norms(model: nn.Module) -> list[BatchNorm2d]:
    """The batch norms of a model, which keep running statistics for evaluation."""
    return [module for module in model.modules() if isinstance(module, BatchNorm2d)]


def without_tracking(net: nn.Module) -> AbstractContextManager[None]:
    """Let forward passes inside, in training mode, leave the running statistics as they are."""
    return switched_off(batch_norms(net), "tracks")


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


def without_synchronization(net: nn.Module) -> AbstractContextManager[None]:
    """Let each process use the statistics of its own batches inside."""
    return switched_off(batch_norms(net), "synchronizes")


class SPADE(nn.Module):
    """Spatially-adaptive normalisation (paper, section 3): the layout modulates normalised features at every pixel."""

    def __init__(self, channels: int, semantic_nc: int, norm: NormSpec) -> None:
        super().__init__()
        self.kernel = k = norm.spade_kernel
        self.param_free_norm = norm_layer(norm.kind, channels, affine=False)
        self.mlp_shared = nn.Sequential(Conv2d(semantic_nc, HIDDEN, k, padding=k // 2), nn.ReLU())
        self.mlp_gamma = Conv2d(HIDDEN, channels, k, padding=k // 2)
        self.mlp_beta = Conv2d(HIDDEN, channels, k, padding=k // 2)

    def forward(self, x: Tensor, semantics: Semantics) -> Tensor:  # [N, C, h, w], [N, S, H, W]
        return spades(x, semantics, [self])[0]

    def train(self, mode: bool = True) -> "SPADE":
        """Also forgets what was made of the weights."""
        forget(self)
        return super().train(mode)

    def plain(self, x: Tensor, semantics: Semantics, normalised: Tensor | None = None) -> Tensor:
        """The paper's formula at every pixel: x [N, C, h, w], semantics [N, S, h, w]; `normalised`: x, where it is
        already."""
        code = self.hidden(semantics, x.dtype)  # [N, 128, h, w]
        gamma, beta = self.mlp_gamma(code), self.mlp_beta(code)  # [N, C, h, w] each; gamma 0 leaves x normalised
        normalised = self.param_free_norm(x) if normalised is None else normalised
        return normalised * (1 + gamma) + beta  # [N, C, h, w]

    def hidden(self, semantics: Semantics, dtype: torch.dtype) -> Tensor:
        """[N, S, h, w] to [N, 128, h, w]; of ids not as a convolution, but once for each different window."""
        if not isinstance(semantics, LabelMap) or semantics.impl == "dense":
            return self.mlp_shared(dense_of(semantics, dtype))
        patterns = semantics.patterns(self.kernel)
        return patterns.hidden_at(self._hidden_rows(semantics, self._shared()))

    def tables(self, semantics: LabelMap) -> tuple[Tensor, Tensor]:
        """Scale (1 + gamma) and shift (beta) of each pattern, [U, C] each."""
        gamma, beta = self.mlp_gamma, self.mlp_beta
        for module in (self, self.mlp_shared[0], gamma, beta):
            forget(module)
        rows = self._hidden_rows(semantics, self._shared())
        return (
            self._products(semantics, rows, by_tap(weight_of(gamma))) + (gamma.bias + 1),
            self._products(semantics, rows, by_tap(weight_of(beta))) + beta.bias,
        )

    def tables_with_norm(self, semantics: LabelMap) -> tuple[Tensor, Tensor]:
        """The same with a batch norm's running statistics in them: x * scale + shift is all there is to do."""
        sources = [*self.parameters(), *self.buffers()]
        if not may_fold(self, sources):
            mean, rstd = self.param_free_norm.running_statistics()
            scale, shift = self.tables(semantics)
            scale = scale * rstd
            return scale, shift - mean * scale
        dtype = compute_dtype(self.mlp_gamma.bias)
        kept = folded(self, "tables", sources, lambda: self._fold(dtype), dtype)
        rows = self._hidden_rows(semantics, kept.shared)
        scale = self._products(semantics, rows, kept.scale).add_(kept.scale_bias)
        shift = self._products(semantics, rows, kept.shift).add_(kept.shift_bias)
        return scale, shift if kept.mean is None else shift.addcmul_(kept.mean, scale, value=-1)

    def _fold(self, dtype: torch.dtype) -> "_Folded":
        """What `tables_with_norm` computes with, products in `dtype`."""
        mean, rstd = self.param_free_norm.running_statistics()
        at_taps = lambda values: values.repeat(self.kernel**2)[:, None]  # noqa: E731  [C] to [T * C, 1]
        scale, shift = by_tap(weight_of(self.mlp_gamma)) * at_taps(rstd), by_tap(weight_of(self.mlp_beta))
        scale_bias, shift_bias = (self.mlp_gamma.bias + 1) * rstd, self.mlp_beta.bias
        whole = dtype.itemsize >= 4  # in half precision the scale, as it was rounded, has to count for x and mean alike
        if whole:
            shift, shift_bias = shift - scale * at_taps(mean), shift_bias - scale_bias * mean
        return _Folded(
            self._shared().contiguous(),
            packed_matrix(scale.to(dtype)),
            packed_matrix(shift.to(dtype)),
            scale_bias,
            shift_bias,
            None if whole else mean,
        )

    def _shared(self) -> Tensor:
        """The shared layer's weight, [S, T * 128]."""
        return by_channel(weight_of(self.mlp_shared[0]))

    def _hidden_rows(self, semantics: LabelMap, channels: Tensor) -> Tensor:
        """The hidden layer of each different window, [windows, 128], from the shared layer's weight by channel."""
        rows = with_outside(semantics.code_rows(channels).view(-1, HIDDEN))
        return F.relu(semantics.patterns(self.kernel).first(rows) + self.mlp_shared[0].bias)

    def _products(self, semantics: LabelMap, rows: Tensor, taps: Tensor) -> Tensor:
        """The hidden layer times [T * C, 128], each window with each tap once, gathered to patterns: [U, C]."""
        patterns, dtype = semantics.patterns(self.kernel), compute_dtype(rows)
        rows = with_outside(rows, patterns.height)  # zeros where the hidden layer is not computed
        products = linear(rows.to(dtype), taps.to(dtype))  # [height, T * C]
        return patterns.second(products.view(patterns.second.rows, -1)).to(rows.dtype)


@dataclass(frozen=True)
class _Folded:
    """A SPADE's weights for evaluation, with the running statistics of its batch norm in them."""

    shared: Tensor  # [S, T * 128]
    scale: Tensor  # [T * C, 128]
    shift: Tensor
    scale_bias: Tensor  # [C]
    shift_bias: Tensor
    mean: Tensor | None  # what is still to be subtracted from x, [C]


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
    kernel, norms = layers[0].kernel, [layer.param_free_norm for layer in layers]
    patterns = isinstance(semantics, LabelMap) and semantics.by_pattern(kernel)
    folds = isinstance(norms[0], BatchNorm2d) and not norms[0].training  # running statistics, into tables
    statistics = None
    if norms[0].shares or (patterns and not folds):
        moments = norms[0].moments(x)
        statistics, *_ = [norm.statistics(x, moments) for norm in norms]  # equal, but each norm tracks its own
    if not patterns:
        # Processes may differ in whether they are here, but not in their collectives.
        normalised = None if statistics is None else normalise(x, statistics)
        outs = [layer.plain(x, semantics, normalised) for layer in layers]
        return tuple(y if slope == 1 else F.leaky_relu(y, slope) for y, slope in zip(outs, slopes, strict=True))
    tables = [layer.tables_with_norm(semantics) if folds else layer.tables(semantics) for layer in layers]
    return modulate(x, statistics, semantics.patterns(kernel), tables, slopes)


def by_tap(weight: Tensor) -> Tensor:
    """A convolution's weight [C_out, C_in, kh, kw] as one matrix, tap below tap: [kh kw C_out, C_in]."""
    return weight.permute(2, 3, 0, 1).flatten(0, 2)
