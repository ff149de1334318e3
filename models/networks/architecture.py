"""Blocks that networks are built from, and the VGG19 features of the perceptual loss.

Letters: N batch, S semantic channels, C channels, H W layout size, h w feature size.
"""

from torch import Tensor, nn

from models.networks.conv import Conv2d
from models.networks.normalization import SPADE, NormSpec, conv_norm, spades
from models.networks.semantics import Semantics
from models.networks.spectral import spectral

SLOPE = 0.2  # of every leaky ReLU


class SPADEResnetBlock(nn.Module):
    """Residual block whose norms are SPADE (paper, figure 4); where the width changes the skip is learned too."""

    def __init__(self, fin: int, fout: int, semantic_nc: int, norm: NormSpec) -> None:
        super().__init__()
        middle = min(fin, fout)
        wrap = spectral if norm.spectral else lambda conv: conv
        self.conv_0 = wrap(Conv2d(fin, middle, 3, padding=1))
        self.conv_1 = wrap(Conv2d(middle, fout, 3, padding=1))
        self.conv_s = wrap(Conv2d(fin, fout, 1, bias=False)) if fin != fout else None
        self.norm_0 = SPADE(fin, semantic_nc, norm)
        self.norm_1 = SPADE(middle, semantic_nc, norm)
        self.norm_s = SPADE(fin, semantic_nc, norm) if fin != fout else None

    def forward(self, x: Tensor, semantics: Semantics) -> Tensor:  # [N, fin, h, w], [N, S, H, W]
        if self.conv_s is None:
            skip, (dx,) = x, spades(x, semantics, [self.norm_0], [SLOPE])  # [N, fin, h, w]
        else:
            dx, skip = spades(x, semantics, [self.norm_0, self.norm_s], [SLOPE, 1])  # [N, fin, h, w] each
            skip = self.conv_s(skip)  # [N, fout, h, w]
        dx = self.conv_0(dx)  # [N, min(fin, fout), h, w]
        (dx,) = spades(dx, semantics, [self.norm_1], [SLOPE])
        return self.conv_1(dx).add_(skip)  # [N, fout, h, w]


class ResnetBlock(nn.Module):
    """Residual block of pix2pixHD: reflection pad, conv, norm, ReLU, then the same without the ReLU."""

    def __init__(self, channels: int, norm: NormSpec, kernel: int) -> None:
        super().__init__()
        pad = (kernel - 1) // 2
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(pad),
            conv_norm(Conv2d(channels, channels, kernel), norm),
            nn.ReLU(),
            nn.ReflectionPad2d(pad),
            conv_norm(Conv2d(channels, channels, kernel), norm),
        )

    def forward(self, x: Tensor) -> Tensor:  # [N, C, h, w] to the same
        return x + self.conv_block(x)


class VGG19(nn.Module):
    """The features at relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 of an ImageNet VGG19; never trained.

    Keys: `sliceI.J.weight` with J the index in torchvision's `features`.
    """

    ENDS = (2, 7, 12, 21, 30)  # slice i takes the layers before ENDS[i], down to its ReLU

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        start = 0
        for i, end in enumerate(self.ENDS, start=1):
            part = nn.Sequential()
            for index in range(start, end):
                layer = features[index]
                part.add_module(str(index), nn.ReLU() if isinstance(layer, nn.ReLU) else layer)
            self.add_module(f"slice{i}", part)
            start = end
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image [N, 3, H, W] to five feature maps, the i-th at 1 / 2^i of its size."""
        stages = []
        for part in self.children():
            x = part(x)
            stages.append(x)
        return stages
