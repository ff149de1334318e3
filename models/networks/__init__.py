"""Networks by name, and their builders.

A new network is a `BaseNetwork` and a line in its table; its class says which of that base's answers it changes.
"""

from argparse import Namespace
from contextlib import AbstractContextManager

import torch
from torch import nn

from models.networks.base_network import BaseNetwork
from models.networks.discriminator import MultiscaleDiscriminator
from models.networks.encoder import ConvEncoder
from models.networks.generator import Pix2PixHDGenerator, SPADEGenerator
from models.networks.initialization import init_weights
from models.networks.modulation import compile_kernels
from models.networks.spectral import spectral_everywhere
from util.switches import switched_off

# The values of --netG, --netD and --netE.
GENERATORS: dict[str, type[BaseNetwork]] = {"spade": SPADEGenerator, "pix2pixhd": Pix2PixHDGenerator}
DISCRIMINATORS: dict[str, type[BaseNetwork]] = {"multiscale": MultiscaleDiscriminator}
ENCODERS: dict[str, type[BaseNetwork]] = {"conv": ConvEncoder}


def build_generator(opt: Namespace) -> nn.Module:
    """G(semantics [N, S, H, W], z [N, z_dim] or None) -> image [N, 3, H, W] in [-1, 1]; initialised weights.

    Semantics are dense, or a `LabelMap`.
    """
    return _finish(GENERATORS[opt.netG].from_options(opt), opt)


def build_discriminator(opt: Namespace) -> nn.Module:
    """D(cat(semantics, image) [N, S + 3, H, W]) -> list over scales of lists of stages; initialised weights.

    D(image, semantics) is the same, and takes a `LabelMap` too.
    """
    return _finish(DISCRIMINATORS[opt.netD].from_options(opt), opt)


def build_encoder(opt: Namespace) -> nn.Module:
    """E(image [N, 3, H, W] in [-1, 1]) -> mu [N, z_dim], log variance [N, z_dim]; initialised weights."""
    return _finish(ENCODERS[opt.netE].from_options(opt), opt)


def frozen(net: nn.Module) -> AbstractContextManager[None]:
    """Let what is computed inside have no gradients for the weights of `net`."""
    return switched_off(net.parameters(), "requires_grad")


def _finish(net: nn.Module, opt: Namespace) -> nn.Module:
    if opt.spectral_all:
        spectral_everywhere(net)
    init_weights(net, opt.init_type, opt.init_variance)
    if opt.compile:
        compile_kernels(True)
    return net.to(memory_format=torch.channels_last)  # how convolutions are fastest, on CPUs and GPUs
