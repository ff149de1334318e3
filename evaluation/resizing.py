"""How images get to the size that Inception takes: three rules in use, which give different distances."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 299  # pixels


def pytorch_fid(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bilinear, without antialiasing: uint8 [N, 3, H, W] to [N, 3, 299, 299] in [-1, 1]."""
    return from_unit(images.to(dtype) / 255)


def from_unit(images: Tensor) -> Tensor:
    """The same from images in [0, 1]."""
    return 2 * F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1


def torch_fidelity(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bilinear as in TensorFlow 1, whose pixels have no centres: to [N, 3, 299, 299] in [-1, 1)."""
    x = images.to(dtype)
    rows, columns = (_places(side, images.device, dtype) for side in images.shape[-2:])
    x = _between(x, *rows, dim=2)
    x = _between(x, *columns, dim=3)
    return (x - 128) / 128


def clean_fid(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pillow's bicubic with antialiasing on each channel in single precision (Parmar et al. 2022), to [-1, 1)."""
    resized = [
        [np.asarray(Image.fromarray(channel).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for channel in image]
        for image in images.cpu().numpy().astype(np.float32)
    ]
    x = torch.from_numpy(np.array(resized)).clip(0, 255).to(images.device, dtype)
    return (x - 128) / 128


RESIZINGS: dict[str, Callable[..., Tensor]] = {
    "pytorch-fid": pytorch_fid,
    "torch-fidelity": torch_fidelity,
    "clean-fid": clean_fid,
}


def _places(side: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """For each of 299 positions: the pixel before, the pixel after, and how far it is between them."""
    scale = torch.tensor(side, dtype=torch.float32) / SIDE  # rounded, as TensorFlow does
    position = torch.arange(SIDE, dtype=torch.float64) * scale.double()
    before = position.floor().long()
    after = (before + 1).clamp(max=side - 1)
    return before.to(device), after.to(device), (position - before).to(device, dtype)


def _between(x: Tensor, before: Tensor, after: Tensor, share: Tensor, dim: int) -> Tensor:
    first, second = x.index_select(dim, before), x.index_select(dim, after)
    return first + (second - first) * (share[:, None] if dim == 2 else share)
