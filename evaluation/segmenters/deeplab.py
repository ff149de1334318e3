"""DeepLab v2 with ResNet-101, in the form whose COCO-Stuff weights are public.

Chen et al. 2017, "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs"; parameter names are those of kazuto1011/deeplab-pytorch. Letters: N images, H W their size, K classes.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.weights import Weights

NAME = "deeplabv2_resnet101_msc-cocostuff164k-100000.pth"
FILES = (Weights(NAME, f"https://github.com/kazuto1011/deeplab-pytorch/releases/download/v1.0/{NAME}", 224),)
SCALES = (0.5, 0.75)  # of the input, beside its own size
DILATIONS = (6, 12, 18, 24)
STAGES = ((256, 3, 1, 1), (512, 4, 2, 1), (1024, 23, 1, 2), (2048, 3, 1, 4))  # channels, blocks, stride, dilation


class _ConvBN(nn.Sequential):
    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        conv = nn.Conv2d(before, after, kernel, stride, padding, dilation, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(after)))


class _Bottleneck(nn.Module):
    """As in Caffe, the stride is the first convolution's."""

    def __init__(self, before: int, after: int, stride: int, dilation: int, has_shortcut: bool) -> None:
        super().__init__()
        self.reduce = _ConvBN(before, after // 4, 1, stride)
        self.conv3x3 = _ConvBN(after // 4, after // 4, 3, dilation=dilation)
        self.increase = _ConvBN(after // 4, after, 1)
        self.shortcut = _ConvBN(before, after, 1, stride) if has_shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.reduce(x))
        h = F.relu(self.conv3x3(h))
        return F.relu(self.increase(h) + self.shortcut(x))


class _Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _ConvBN(3, 64, 7, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.conv1(x)), 3, stride=2, padding=1, ceil_mode=True)


class _ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one 3x3 convolution at several dilations, summed."""

    def __init__(self, before: int, classes: int) -> None:
        super().__init__()
        for i, dilation in enumerate(DILATIONS):
            self.add_module(f"c{i}", nn.Conv2d(before, classes, 3, padding=dilation, dilation=dilation))

    def forward(self, x: Tensor) -> Tensor:
        return sum(conv(x) for conv in self.children())


def _base(classes: int) -> nn.Sequential:
    parts, before = OrderedDict(layer1=_Stem()), 64
    for number, (after, blocks, stride, dilation) in enumerate(STAGES, start=2):
        stage = OrderedDict()
        for i in range(blocks):
            first = i == 0
            stage[f"block{i + 1}"] = _Bottleneck(before, after, stride if first else 1, dilation, first)
            before = after
        parts[f"layer{number}"] = nn.Sequential(stage)
    parts["aspp"] = _ASPP(before, classes)
    return nn.Sequential(parts)


class DeepLabV2(nn.Module):
    """BGR images [N, 3, H, W] in 0 .. 255 minus their means, to logits [N, K, H / 8, W / 8]: the largest of three."""

    def __init__(self, classes: int = 182) -> None:
        super().__init__()
        self.base = _base(classes)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.base(x)  # [N, K, h, w], h and w are H / 8 and W / 8, rounded up and one more
        for scale in SCALES:
            # Coordinates are scaled by 1 / 0.75, not by the ratio of the rounded sizes, as PyTorch does since 1.6.
            smaller = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
            resized = F.interpolate(self.base(smaller), logits.shape[-2:], mode="bilinear", align_corners=False)
            logits = torch.maximum(logits, resized)
        return logits


MEANS = (104.008, 116.669, 122.675)  # of blue, green and red


def prepared(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """RGB images, uint8 [N, 3, H, W], as the network takes them."""
    blue_first = images.flip(1).to(dtype)
    return blue_first - torch.tensor(MEANS, dtype=dtype, device=images.device).view(3, 1, 1)


def scores(net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [N, K, h, w] at `size` = (h, w) for RGB images, uint8 [N, 3, H, W]."""
    x = prepared(images, next(net.parameters()).dtype)
    return F.interpolate(net(x), size, mode="bilinear", align_corners=False)
