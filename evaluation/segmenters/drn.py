"""DRN-D-105, in the form whose Cityscapes weights are public.

Yu et al. 2017, "Dilated Residual Networks"; parameter names are those of fyu/drn. Letters: N images, H W their size, K
classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from evaluation.weights import Weights

FILES = (Weights("drn-d-105_ms_cityscapes.pth", "https://go.yf.io/drn-cityscapes-models", 218),)
STAGES = ((256, 3, 2, 1), (512, 4, 2, 1), (1024, 23, 1, 2), (2048, 3, 1, 4))  # channels, blocks, stride, dilation


def _conv(before: int, after: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


def _stage(before: int, after: int, blocks: int, stride: int, dilation: int) -> nn.Sequential:
    planes = after // Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    first = Bottleneck(before, planes, stride, shortcut, dilation=dilation)
    return nn.Sequential(first, *(Bottleneck(after, planes, dilation=dilation) for _ in range(blocks - 1)))


def bilinear_kernel(size: int = 16) -> Tensor:
    """Weights [size, size] that make a transposed convolution of stride size / 2 interpolate."""
    half = size // 2
    line = 1 - (torch.arange(size) / half - (size - 1) / size).abs()
    return torch.outer(line, line)


class DRND105(nn.Module):
    """RGB images [N, 3, H, W], normalised, to log-probabilities [N, K, 8 ceil(H / 8), 8 ceil(W / 8)]."""

    def __init__(self, classes: int = 19) -> None:
        super().__init__()
        widths = (32, *(stage[0] for stage in STAGES))
        stages = [_stage(before, *stage) for before, stage in zip(widths, STAGES, strict=False)]
        self.base = nn.Sequential(
            _conv(3, 16, 7),
            _conv(16, 16, 3),
            _conv(16, 32, 3, stride=2),
            *stages,
            _conv(2048, 512, 3, dilation=2),
            _conv(512, 512, 3),
        )
        self.seg = nn.Conv2d(512, classes, 1)
        self.up = nn.ConvTranspose2d(classes, classes, 16, 8, 4, groups=classes, bias=False)
        with torch.no_grad():
            self.up.weight.copy_(bilinear_kernel())

    def forward(self, x: Tensor) -> Tensor:
        logits = self.seg(self.base(x))  # [N, K, h, w], a side is 1/8, rounded up
        return F.log_softmax(self.up(logits), 1)


MEANS = (0.29010095242892997, 0.32808144844279574, 0.28696394422942517)
DEVIATIONS = (0.1829540508368939, 0.18656561047509476, 0.18447508988480435)


def prepared(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """RGB images, uint8 [N, 3, H, W], as the network takes them."""
    means, deviations = (torch.tensor(v, dtype=dtype, device=images.device).view(3, 1, 1) for v in (MEANS, DEVIATIONS))
    return (images.to(dtype) / 255 - means) / deviations


def scores(net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Log-probabilities [N, K, h, w] at `size` = (h, w) for RGB images, uint8 [N, 3, H, W]."""
    height, width = images.shape[-2:]
    made = net(prepared(images, next(net.parameters()).dtype))[..., :height, :width]  # the rest lies outside
    return made if (height, width) == size else F.interpolate(made, size, mode="bilinear", align_corners=False)
