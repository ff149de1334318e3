"""Norm strings, SPADE, and convolutions with a norm behind them.

Letters: N batch, S semantic channels, C channels, H W layout size, h w feature size.
"""

import re
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

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
        if self.training and x.numel() == x.shape[1]:
            raise UserError(
                "batch norm has a single value per channel here (--batchSize 1 and a layout of one latent pixel): use "
                "--batchSize 2, a larger --crop_size, or an instance norm"
            )
        return self.normalize(x)

    def normalize(self, x: Tensor) -> Tensor:
        """The norm itself."""
        return super().forward(x)


class SynchronizedBatchNorm2d(BatchNorm2d):
    """Batch norm with the statistics of the global batch: x [N, C, h, w] to the same shape.

    Normalises with the biased variance and tracks the unbiased one. In one process it is plain batch norm.
    """

    def normalize(self, x: Tensor) -> Tensor:
        # Quirk kept (SPADE): num_batches_tracked is in the state dict but never advances.
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm without parameters or running statistics: x [N, C, h, w] to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] * x.shape[-1] == 1:
            raise UserError(
                "instance norm has a single pixel per channel here (a layout of one latent pixel): use a larger layout "
                "or --crop_size, or a batch norm"
            )
        return super().forward(x)


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
        conv = spectral_norm(conv)
    if norm.kind == "none":
        return conv
    del conv.bias
    conv.register_parameter("bias", None)
    channels = conv.out_channels
    return nn.Sequential(conv, norm_layer(norm.kind, channels, affine=True))


def resize_nearest(semantics: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, S, H, W] to [N, S, h, w] by nearest neighbour, which keeps one-hot maps one-hot."""
    return semantics if semantics.shape[-2:] == size else F.interpolate(semantics, size, mode="nearest")


class SPADE(nn.Module):
    """Spatially-adaptive normalisation (paper, section 3): the layout modulates normalised features at every pixel."""

    def __init__(self, channels: int, semantic_nc: int, norm: NormSpec) -> None:
        super().__init__()
        k = norm.spade_kernel
        self.param_free_norm = norm_layer(norm.kind, channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_nc, HIDDEN, k, padding=k // 2), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, channels, k, padding=k // 2)
        self.mlp_beta = nn.Conv2d(HIDDEN, channels, k, padding=k // 2)

    def forward(self, x: Tensor, semantics: Tensor) -> Tensor:  # [N, C, h, w], [N, S, H, W]
        code = self.mlp_shared(resize_nearest(semantics, x.shape[-2:]))  # [N, 128, h, w]
        gamma, beta = self.mlp_gamma(code), self.mlp_beta(code)  # [N, C, h, w] each; gamma 0 leaves x normalised
        return self.param_free_norm(x) * (1 + gamma) + beta  # [N, C, h, w]
