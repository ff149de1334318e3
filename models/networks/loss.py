"""Losses: adversarial, feature matching, perceptual and the encoder's divergence. All return scalars.

A prediction is what a discriminator returns: for each scale the list of its stages, the patch scores last.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.architecture import VGG19
from util.precision import at_least_float32

GAN_MODES = ("hinge", "ls", "original", "w")


def gan_loss(scores: Tensor, real: bool, for_discriminator: bool, mode: str) -> Tensor:
    """Adversarial loss of one scale's patch scores.

    Args:
        scores: any shape, unbounded.
        real: whether the images are to be judged real; for the generator's loss this is always so.
        mode: hinge (Lim and Ye 2017), ls (least squares), original (cross entropy on logits) or w (Wasserstein).
    """
    scores = at_least_float32(scores)
    if mode == "original":
        return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))
    if mode == "ls":
        return F.mse_loss(scores, torch.full_like(scores, float(real)))
    if mode == "hinge" and for_discriminator:
        return F.relu(1 - scores if real else 1 + scores).mean()
    return -scores.mean() if real else scores.mean()


def multiscale_gan_loss(prediction: list[list[Tensor]], real: bool, for_discriminator: bool, mode: str) -> Tensor:
    """Mean over the scales of their adversarial losses."""
    losses = [gan_loss(stages[-1], real, for_discriminator, mode) for stages in prediction]
    return torch.stack(losses).mean()


def feature_matching_loss(fake: list[list[Tensor]], real: list[list[Tensor]]) -> Tensor:
    """L1 between fake's and (fixed) real's stages before the prediction, summed, over the number of scales.

    Wang et al. 2018, equation 4, with equal weights for all stages.
    """
    terms = [
        F.l1_loss(at_least_float32(f), at_least_float32(r.detach()))
        for fs, rs in zip(fake, real, strict=True)
        for f, r in zip(fs[:-1], rs[:-1], strict=True)
    ]
    return torch.stack(terms).sum() / len(fake)


def kld_loss(mu: Tensor, logvar: Tensor) -> Tensor:
    """Divergence of N(mu, e^logvar) from N(0, 1), summed over the batch (Kingma and Welling 2014, appendix B)."""
    mu, logvar = at_least_float32(mu), at_least_float32(logvar)
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


class VGGLoss(nn.Module):
    """Perceptual loss: L1 between VGG19 features (Wang et al. 2018, section 3.3)."""

    WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)

    def __init__(self, vgg: VGG19) -> None:
        super().__init__()
        self.vgg = vgg

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:  # [N, 3, H, W] in [-1, 1] each
        # Quirk kept (SPADE): images enter as they are, without ImageNet's normalisation.
        pairs = zip(self.WEIGHTS, self.vgg(fake), self.vgg(real), strict=True)
        return sum(weight * F.l1_loss(at_least_float32(f), at_least_float32(r.detach())) for weight, f, r in pairs)
