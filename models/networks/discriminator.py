"""Discriminators: layout and image to patch scores.

Letters: N batch, S semantic channels, H W image size.
"""

import argparse
from argparse import Namespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.architecture import SLOPE
from models.networks.base_network import BaseNetwork, Shapes, plain_norm_of, shape_of
from models.networks.normalization import NormSpec, conv_norm, parse_norm
from models.networks.semantics import LabelMap, Semantics, dense_of
from models.networks.spectral import weight_of
from options.flags import positive


class NLayerDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017) that returns every stage: stride-2 4x4 convolutions, doubling to at most 512."""

    def __init__(self, input_nc: int, ndf: int, n_layers: int, norm: NormSpec) -> None:
        super().__init__()
        # Spectral norm is part of the norm, so that the first and the last convolution have neither.
        self.model0 = nn.Sequential(nn.Conv2d(input_nc, ndf, 4, stride=2, padding=2), nn.LeakyReLU(SLOPE))
        width = ndf
        for n in range(1, n_layers):
            before, width = width, min(2 * width, 512)
            conv = nn.Conv2d(before, width, 4, stride=1 if n == n_layers - 1 else 2, padding=2)
            self.add_module(f"model{n}", nn.Sequential(conv_norm(conv, norm), nn.LeakyReLU(SLOPE)))
        self.add_module(f"model{n_layers}", nn.Sequential(nn.Conv2d(width, 1, 4, padding=2)))

    def forward(self, x: Tensor, semantics: LabelMap | None = None, halvings: int = 0) -> list[Tensor]:
        """Every stage's output: [N, ndf, h/2 + 1, w/2 + 1], ..., the prediction [N, 1, ...] last.

        Args:
            x: cat(semantics, images) [N, S + 3, h, w]; with `semantics` images alone.
            semantics: at full size; layout i belongs to images i, i + N, ... of x.
            halvings: how often the images were halved.
        """
        first, *others = self.children()
        x = first(x) if semantics is None else self._first(x, semantics, halvings)
        stages = [x]
        for stage in others:
            x = stage(x)
            stages.append(x)
        return stages

    def _first(self, x: Tensor, semantics: LabelMap, halvings: int) -> Tensor:
        """`model0`, with the layout's part of its convolution computed once for each window of ids, not per image."""
        conv, activation = self.model0
        weight = weight_of(conv)
        of_layout, of_images = weight.split([semantics.shape[1], x.shape[1]], dim=1)
        y = F.conv2d(x, of_images, conv.bias, conv.stride, conv.padding)  # [G * N, ndf, h/2 + 1, w/2 + 1]
        layout = semantics.convolve(of_layout, conv.stride[0], conv.padding[0], halvings).to(y.dtype)
        return activation((y.unflatten(0, (-1, len(semantics))) + layout).flatten(0, 1))


# Kinds of discriminator for one scale: --netD_subarch.
SUBARCHS = {"n_layer": NLayerDiscriminator}


class MultiscaleDiscriminator(BaseNetwork):
    """`num_D` equal discriminators (Wang et al. 2018, section 3.2), each on an image half the size of the last."""

    options_title = "multi-scale discriminator (--netD multiscale)"

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        group.add_argument(
            "--netD_subarch", default="n_layer", choices=list(SUBARCHS), help="architecture at each scale"
        )
        group.add_argument("--num_D", type=positive, default=2, help="number of scales")
        group.add_argument(
            "--n_layers_D", type=positive, default=4, help="strided and flat convolutions before the prediction"
        )
        group.add_argument(
            "--ndf", type=positive, default=64, help="discriminator's width: channels of its first stage"
        )

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        parse_norm(opt.norm_D, spade=False, flag="--norm_D")

    @staticmethod
    def flags_of(shapes: Shapes) -> dict[str, Any]:
        first = shape_of(shapes, "discriminator_0.model0.0.weight")
        if first is None:
            return {"--netD": "another"}
        stages = {key.split(".")[1] for key in shapes if key.startswith("discriminator_0.")}
        return {
            "--netD": "multiscale",
            "--num_D": len({key.split(".")[0] for key in shapes}),
            "--n_layers_D": len(stages) - 1,
            "--ndf": first[0],
            "--label_nc + --contain_dontcare_label + instance edges (unless --no_instance)": first[1] - 3,
            "--norm_D": plain_norm_of(shapes, "discriminator_0.model1.0"),
            "--spectral_all": "discriminator_0.model0.0.weight_orig" in shapes,
        }

    @classmethod
    def from_options(cls, opt: Namespace) -> "MultiscaleDiscriminator":
        return cls(
            opt.semantic_nc + opt.output_nc,
            ndf=opt.ndf,
            n_layers=opt.n_layers_D,
            norm=parse_norm(opt.norm_D, spade=False),
            num_D=opt.num_D,
            subarch=opt.netD_subarch,
        )

    def __init__(
        self, input_nc: int, ndf: int, n_layers: int, norm: NormSpec, num_D: int = 2, subarch: str = "n_layer"
    ) -> None:
        super().__init__()
        for i in range(num_D):
            self.add_module(f"discriminator_{i}", SUBARCHS[subarch](input_nc, ndf, n_layers, norm))

    def forward(self, x: Tensor, semantics: Semantics | None = None) -> list[list[Tensor]]:
        """For each scale every stage's output, the prediction last.

        Args:
            x: cat(semantics, images) [N, S + 3, H, W]; with `semantics` images alone.
            semantics: [N, S, H, W], dense or a label map, of which layout i belongs to images i, i + N, ... of x.
        """
        if semantics is not None and not (isinstance(semantics, LabelMap) and semantics.by_window()):
            dense = dense_of(semantics, x.dtype)
            x, semantics = torch.cat([dense.repeat(len(x) // len(dense), 1, 1, 1), x], 1), None
        scales = []
        for i, discriminator in enumerate(self.children()):
            if i > 0:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            scales.append(discriminator(x, semantics, i))
        return scales
