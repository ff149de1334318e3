"""UPerNet on ResNet-101, in the form whose ADE20K weights are public.

Xiao et al. 2018, "Unified Perceptual Parsing for Scene Understanding"; parameter names are those of
CSAILVision/semantic-segmentation-pytorch. Letters: N images, H W their size, K classes.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from evaluation.weights import Weights

FOLDER = "http://sceneparsing.csail.mit.edu/model/pytorch/ade20k-resnet101-upernet"
# Beside the network's parameters they hold what their synchronised batch norm counted with.
EXTRA = ("_tmp_running_mean", "_tmp_running_var", "_running_iter")
FILES = tuple(
    Weights(f"{part}_epoch_50.pth", f"{FOLDER}/{part}_epoch_50.pth", megabytes, part=part, ignored=EXTRA)
    for part, megabytes in (("encoder", 171), ("decoder", 162))
)
WIDTHS = (256, 512, 1024, 2048)  # of the encoder's maps, at 1/4, 1/8, 1/16 and 1/32 of the size
POOLS = (1, 2, 3, 6)
FPN = 512


class ResNet101DeepStem(nn.Module):
    """ResNet-101 whose first convolution is three of 3x3: images [N, 3, H, W] to maps at four sizes, largest first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128)
        self.layer1 = _stage(128, WIDTHS[0], 3, 1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], 4, 2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], 23, 2)
        self.layer4 = _stage(WIDTHS[2], WIDTHS[3], 3, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def _stage(before: int, after: int, blocks: int, stride: int) -> nn.Sequential:
    planes = after // Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    first = Bottleneck(before, planes, stride, shortcut)
    return nn.Sequential(first, *(Bottleneck(after, planes) for _ in range(blocks - 1)))


def _conv(before: int, after: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class UPerNetDecoder(nn.Module):
    """A pyramid pooling module on the smallest map, a feature pyramid over all: to logits [N, K, H / 4, W / 4]."""

    def __init__(self, classes: int = 150) -> None:
        super().__init__()
        self.ppm_conv = nn.ModuleList(_conv(WIDTHS[-1], FPN, 1) for _ in POOLS)
        self.ppm_last_conv = _conv(WIDTHS[-1] + len(POOLS) * FPN, FPN, 3)
        self.fpn_in = nn.ModuleList(_conv(width, FPN, 1) for width in WIDTHS[:-1])
        self.fpn_out = nn.ModuleList(nn.Sequential(_conv(FPN, FPN, 3)) for _ in WIDTHS[:-1])
        self.conv_last = nn.Sequential(_conv(len(WIDTHS) * FPN, FPN, 3), nn.Conv2d(FPN, classes, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        *lower, top = maps
        pooled = [
            conv(_resized(F.adaptive_avg_pool2d(top, size), top))
            for size, conv in zip(POOLS, self.ppm_conv, strict=True)
        ]
        x = self.ppm_last_conv(torch.cat([top, *pooled], 1))  # [N, 512, H / 32, W / 32]
        pyramid = [x]
        for level in reversed(range(len(lower))):
            x = self.fpn_in[level](lower[level]) + _resized(x, lower[level])
            pyramid.insert(0, self.fpn_out[level](x))  # a branch: what is smoothed does not go on down
        merged = torch.cat([pyramid[0], *(_resized(p, pyramid[0]) for p in pyramid[1:])], 1)
        return self.conv_last(merged)


class UPerNet101(nn.Module):
    """RGB images [N, 3, H, W], normalised as for ImageNet, to logits [N, K, H / 4, W / 4]."""

    def __init__(self, classes: int = 150) -> None:
        super().__init__()
        self.encoder, self.decoder = ResNet101DeepStem(), UPerNetDecoder(classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


SHORT_SIDES, LONGEST, MULTIPLE = (300, 375, 450, 525, 600), 1000, 32
MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def input_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width that an image is resized to: its shorter side to `short_side` and the longer to 1000 at most,
    then both up to multiples of 32, which changes their ratio a little."""
    scale = min(short_side / min(height, width), LONGEST / max(height, width))
    return tuple(-(-int(side * scale) // MULTIPLE) * MULTIPLE for side in (height, width))


def prepared(images: Tensor, short_side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """RGB images, uint8 [N, 3, H, W], as the network takes them at one of its sizes."""
    height, width = input_size(*images.shape[-2:], short_side)
    resized = [
        np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        for image in images.permute(0, 2, 3, 1).cpu().numpy()
    ]
    x = torch.from_numpy(np.stack(resized)).to(images.device).permute(0, 3, 1, 2).float() / 255
    means, deviations = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (MEANS, DEVIATIONS))
    return ((x - means) / deviations).to(dtype)


def scores(net: nn.Module, images: Tensor, size: tuple[int, int], short_sides: tuple[int, ...] = SHORT_SIDES) -> Tensor:
    """Probabilities [N, K, h, w] at `size` = (h, w) for RGB images, uint8 [N, 3, H, W]: the mean over five sizes."""
    dtype = next(net.parameters()).dtype
    total = 0
    for short_side in short_sides:
        logits = net(prepared(images, short_side, dtype))
        total = total + F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(1)
    return total / len(short_sides)
