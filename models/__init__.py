"""Models by name, and the way to a trained generator from a folder alone.

Systems (a model and its trainer) are registered in `trainers.SYSTEMS`.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from models.base_model import BaseModel
from models.networks import build_generator
from util.checkpoint import load_network, load_networks, network_file


def create_model(opt: Namespace) -> BaseModel:
    """The model of the system that `--model` names."""
    from trainers import SYSTEMS  # here, since a system is registered with its trainer, which is built on models

    return SYSTEMS[opt.model].model(opt)


def load_model(opt: Namespace, device: torch.device) -> BaseModel:
    """The model of --which_epoch of --name, on a device and ready to synthesise.

    Raises:
        UserError: there is no such checkpoint, or it does not fit.
    """
    model = create_model(opt)
    load_networks(model, Path(opt.checkpoints_dir, opt.name), opt.which_epoch, opt.weights)
    return model.to(device).eval()


def load_generator(
    folder: str, epoch: str | int = "latest", argv: Sequence[str] = (), weights: str = "plain"
) -> nn.Module:
    """A trained generator in evaluation mode, on the CPU: all that a notebook or an app needs.

    Args:
        folder: the checkpoint folder, with opt.json and `{epoch}_net_G.pth`.
        epoch: `latest` or a number.
        argv: flags as for test.py, for a folder without opt.json (released weights) or to override it.
        weights: `plain`, or `ema` for their moving average, `{epoch}_net_G_ema.pth`.

    Returns:
        The generator; its options are its attribute `opt`. Its weights take no gradients, a style may.

    Raises:
        UserError: the file is not there or does not fit the options, or these are wrong.
    """
    from options.test_options import TestOptions  # here, since options list the networks

    place = Path(folder).resolve()
    where = ["--checkpoints_dir", str(place.parent), "--name", place.name, "--which_epoch", str(epoch)]
    opt = TestOptions(raises=True).parse(["--weights", weights, *argv, *where])
    net = build_generator(opt)
    load_network(net, network_file(place, str(epoch), "G", opt.weights))
    net.opt = opt
    return net.requires_grad_(False).eval()
