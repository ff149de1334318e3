"""Differentiable augmentation: images change at random on their way into D, and gradients pass through the changes.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training". Where photos are few, D learns them by
heart; of changed ones it cannot. Synthesised images are changed too, in the steps of both networks, so that G learns
to make images as they are before. Here a photo, the image that is synthesised for its layout and the layout are changed
alike: D knows where the classes are, and feature matching compares the two images.

Letters: N batch, C channels, H W image size.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks.semantics import LabelMap

# In the order in which they are made.
AUGMENTATIONS = ("color", "translation", "cutout")
DRAWS = 7  # of each item, whichever changes are asked for: 3 for color, 2 for translation, 2 for cutout
FARTHEST = 1 / 8  # translation, as a share of each side
HOLE = 1 / 2  # cutout's sides, as a share of the image's


def augment_images(images: Tensor, draws: Tensor, kinds: Collection[str]) -> Tensor:
    """Images [N, C, H, W] in [-1, 1], changed; what color makes may lie outside of that, what is empty is 0.

    Args:
        draws: uniform in [0, 1), [N, DRAWS], on the CPU.
        kinds: some of `AUGMENTATIONS`.
    """
    if "color" in kinds:
        images = change_color(images, draws[:, :3].to(images, non_blocking=True))
    if "translation" in kinds:
        images = translate(images, shifts(draws, images.shape[-2:]))
    if "cutout" in kinds:
        images = cut_out(images, draws[:, 5:7])
    return images


def augment_layouts(layouts: LabelMap, draws: Tensor, kinds: Collection[str]) -> LabelMap:
    """Layouts [N, S, H, W], moved as their images are; ids at the border are repeated where images are empty."""
    return layouts.moved(shifts(draws, layouts.shape[-2:])) if "translation" in kinds else layouts


def shifts(draws: Tensor, size: tuple[int, int]) -> Tensor:
    """Rows down and columns to the right, whole, long [N, 2]; each up to an eighth of a side either way."""
    farthest = torch.tensor([int(side * FARTHEST + 0.5) for side in size])
    return ((2 * farthest + 1) * draws[:, 3:5]).long() - farthest


def change_color(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness -0.5 .. 0.5, then saturation times 0 .. 2, then contrast times 0.5 .. 1.5, by draws [N, 3]."""
    brightness, saturation, contrast = draws[:, :, None, None, None].unbind(1)  # [N, 1, 1, 1] each
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translate(images: Tensor, moves: Tensor) -> Tensor:
    """Images moved by whole rows and columns, long [N, 2]; what comes in from outside is 0."""
    height, width = images.shape[-2:]
    margin = int(moves.abs().max())
    padded = F.pad(images, (margin,) * 4)
    # Slices, whose gradient is a copy; that of indexing would be a sum.
    parts = [
        image[:, margin - down : margin - down + height, margin - right : margin - right + width]
        for image, (down, right) in zip(padded, moves.tolist(), strict=True)
    ]
    return torch.stack(parts)


def cut_out(images: Tensor, draws: Tensor) -> Tensor:
    """Images with a rectangle of half their sides set to 0, its centre anywhere in the image, by draws [N, 2]."""
    masks = []
    for side, draw in zip(images.shape[-2:], draws.unbind(1), strict=True):
        hole = int(side * HOLE + 0.5)
        # Of an even hole the centre lies between two pixels, so that there is one place more.
        first = ((side + 1 - hole % 2) * draw).long()[:, None] - hole // 2
        place = torch.arange(side)
        masks.append((place >= first) & (place < first + hole))  # [N, side]
    rows, columns = masks
    holes = rows[:, None, :, None] & columns[:, None, None, :]  # [N, 1, H, W]
    return images.masked_fill(holes.to(images.device, non_blocking=True), 0.0)
