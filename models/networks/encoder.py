"""Style encoders: photo to the distribution of its style.

Letters: N batch, e = nef, z = z_dim.
"""

from argparse import Namespace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.architecture import SLOPE
from models.networks.base_network import BaseNetwork, Shapes, plain_norm_of, shape_of
from models.networks.normalization import NormSpec, conv_norm, parse_norm
from util.precision import at_least_float32

INPUT_SIZE = 256  # pixels, both sides; images of another size are resized


class ConvEncoder(BaseNetwork):
    """Six stride-2 convolutions and two linear layers (paper, appendix A, image encoder)."""

    WIDTHS = (1, 2, 4, 8, 8, 8)

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        parse_norm(opt.norm_E, spade=False, flag="--norm_E")

    @staticmethod
    def flags_of(shapes: Shapes) -> dict[str, Any]:
        first = shape_of(shapes, "layer1.weight") or shape_of(shapes, "layer1.0.weight")
        style = shape_of(shapes, "fc_mu.weight")
        if first is None or style is None:
            return {"--netE": "another"}
        return {
            "--netE": "conv",
            "--nef": first[0],
            "--z_dim": style[0],
            "--output_nc": first[1],
            "--norm_E": plain_norm_of(shapes, "layer1"),
            "--spectral_all": "fc_mu.weight_orig" in shapes,
        }

    @classmethod
    def from_options(cls, opt: Namespace) -> "ConvEncoder":
        return cls(opt.output_nc, nef=opt.nef, norm=parse_norm(opt.norm_E, spade=False), z_dim=opt.z_dim)

    def __init__(self, input_nc: int, nef: int, norm: NormSpec, z_dim: int = 256) -> None:
        super().__init__()
        # Mended (SPADE): below crop 256 the sixth layer was left out, and then the linear layers did not fit.
        before = input_nc
        for i, multiple in enumerate(self.WIDTHS, start=1):
            conv = nn.Conv2d(before, multiple * nef, 3, stride=2, padding=1)
            self.add_module(f"layer{i}", conv_norm(conv, norm))
            before = multiple * nef
        side = INPUT_SIZE // 2 ** len(self.WIDTHS)
        # Mended (SPADE): a z_dim other than 256 did not fit the generator.
        self.fc_mu = nn.Linear(before * side * side, z_dim)
        self.fc_var = nn.Linear(before * side * side, z_dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image [N, 3, H, W] in [-1, 1] to mu [N, z] and log variance [N, z]."""
        x = image
        if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
            x = F.interpolate(x, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        for i in range(1, len(self.WIDTHS) + 1):
            x = F.leaky_relu(getattr(self, f"layer{i}")(x), SLOPE)  # [N, e, 128, 128] ... [N, 8e, 4, 4]
        x = x.flatten(1)
        return at_least_float32(self.fc_mu(x)), at_least_float32(self.fc_var(x))
