"""Networks by name, and their builders.

A new network is a class with `from_options(opt)`, the only place where it reads options (its __init__ takes plain
values), perhaps `add_options` and `defaults` for flags of its own, and a line in its table.
"""

from argparse import Namespace

from torch import nn
from torch.nn.utils import spectral_norm

from models.networks.discriminator import DISCRIMINATORS
from models.networks.encoder import ConvEncoder
from models.networks.generator import Pix2PixHDGenerator, SPADEGenerator
from models.networks.initialization import CONVOLUTIONS_AND_LINEAR, init_weights

# The values of --netG and --netE; those of --netD are in discriminator.py, whose flags they belong to.
GENERATORS: dict[str, type[nn.Module]] = {"spade": SPADEGenerator, "pix2pixhd": Pix2PixHDGenerator}
ENCODERS: dict[str, type[nn.Module]] = {"conv": ConvEncoder}


def build_generator(opt: Namespace) -> nn.Module:
    """G(semantics [N, S, H, W], z [N, z_dim] or None) -> image [N, 3, H, W] in [-1, 1]; initialised weights."""
    return _finish(GENERATORS[opt.netG].from_options(opt), opt)


def build_discriminator(opt: Namespace) -> nn.Module:
    """D(cat(semantics, image) [N, S + 3, H, W]) -> list over scales of lists of stages; initialised weights."""
    return _finish(DISCRIMINATORS[opt.netD].from_options(opt), opt)


def build_encoder(opt: Namespace) -> nn.Module:
    """E(image [N, 3, H, W] in [-1, 1]) -> mu [N, z_dim], log variance [N, z_dim]; initialised weights."""
    return _finish(ENCODERS[opt.netE].from_options(opt), opt)


def _finish(net: nn.Module, opt: Namespace) -> nn.Module:
    if opt.spectral_all:
        for module in net.modules():
            if isinstance(module, CONVOLUTIONS_AND_LINEAR) and not hasattr(module, "weight_orig"):
                spectral_norm(module)
    init_weights(net, opt.init_type, opt.init_variance)
    return net
