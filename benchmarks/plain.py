"""The baseline: SPADE as the released code computes it, in our own modules and with the weights of a model of ours.

Contiguous tensors, gamma and beta at every pixel, all weights divided by their spectral norms on every call, dense
semantics, weight gradients of D in the generator's step too, and Adam in a loop over parameters.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.optim import Adam

from models.networks.conv import Conv2d
from models.networks.semantics import label_map_of
from models.networks.spectral import SpectralConv2d
from models.pix2pix_model import Pix2PixModel, class_count
from trainers.pix2pix_trainer import Pix2PixTrainer


def make_plain(model: Pix2PixModel) -> Pix2PixModel:
    """Change `model` in place into the baseline with the same weights."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, SpectralConv2d):
                setattr(parent, name, _released_conv(layer))
            elif isinstance(layer, Conv2d):
                layer.__class__ = nn.Conv2d  # which prepares nothing
    model.to(memory_format=torch.contiguous_format)
    model.__class__ = _PlainModel
    return model


def make_plain_trainer(trainer: Pix2PixTrainer) -> Pix2PixTrainer:
    """The same for a whole trainer."""
    make_plain(trainer.model)
    trainer.optimizers = trainer.build_optimizers()
    for name, optimizer in trainer.optimizers.items():
        # Not the groups as they are: they say how each is computed, fused here.
        groups = [{key: group[key] for key in ("params", "lr", "lr_scale")} for group in optimizer.param_groups]
        trainer.optimizers[name] = Adam(groups, betas=optimizer.defaults["betas"], eps=1e-8)
    return trainer


class _PlainModel(Pix2PixModel):
    def semantics(self, batch: dict[str, Any]) -> Tensor:
        instance = None if self.opt.no_instance else batch["instance"]
        return label_map_of(batch["label"], instance, class_count(self.opt)).dense(self.dtype)

    def discriminate_for_generator(self, semantics: Tensor, fake: Tensor, real: Tensor) -> tuple:
        return self.discriminate(semantics, fake, real)


def _released_conv(layer: SpectralConv2d) -> nn.Conv2d:
    """The same convolution under PyTorch's own spectral norm."""
    conv = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        bias=layer.bias is not None,
        device=layer.weight_orig.device,
        dtype=layer.weight_orig.dtype,
    )
    conv = spectral_norm(conv).train(layer.training)
    conv.load_state_dict(layer.state_dict())
    return conv
