"""SPADE's optimisers and its order of steps."""

import argparse
import sys
from argparse import Namespace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from models.networks.augmentation import AUGMENTATIONS
from models.networks.loss import GAN_MODES
from models.networks.normalization import batch_norms
from options.flags import add_switch, nonnegative_float, positive
from trainers.base_trainer import BaseTrainer

SMALL_BATCH = 4  # below, the statistics of one batch are far from running averages


class Pix2PixTrainer(BaseTrainer):
    """On each batch: every D_steps_per_G-th time a step of generator and encoder, then always one of D."""

    options_title = "SPADE training (--model pix2pix)"

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        group.add_argument("--D_steps_per_G", type=positive, default=1, help="iterations for each generator step")
        group.add_argument("--gan_mode", default="hinge", choices=GAN_MODES, help="adversarial loss")
        group.add_argument("--lambda_feat", type=nonnegative_float, default=10.0, help="weight of feature matching")
        group.add_argument("--lambda_vgg", type=nonnegative_float, default=10.0, help="weight of the perceptual loss")
        group.add_argument(
            "--lambda_kld", type=nonnegative_float, default=0.05, help="weight of the encoder's divergence"
        )
        group.add_argument(
            "--diffaugment",
            nargs="+",
            choices=AUGMENTATIONS,
            default=[],
            metavar="KIND",
            help="change what the discriminator sees at random, photos and synthesised images alike, where photos are "
            f"few (Zhao et al. 2020): {', '.join(AUGMENTATIONS)}, or some of them",
        )
        add_switch(group, "--no_ganFeat_loss", "no feature matching")
        add_switch(group, "--no_vgg_loss", "no perceptual loss")
        group.add_argument(
            "--vgg_weights", metavar="FILE", help="torchvision's vgg19 weights (default: its download cache)"
        )

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        if opt.batchSize // opt.accumulate < SMALL_BATCH and batch_norms(self.model.netG):
            parts = f" / --accumulate {opt.accumulate}" if opt.accumulate > 1 else ""
            print(
                f"warning: the generator's batch norms see --batchSize {opt.batchSize}{parts}: its images can be good "
                "in training and bad in testing, which uses running averages (the training page shows both). Larger "
                "batches help, --norm_G spectralspadeinstance3x3 avoids it, test.py --recalibrate_bn N may mend it",
                file=sys.stderr,
            )

    def build_optimizers(self) -> dict[str, Optimizer]:
        model, opt = self.model, self.opt
        generator = list(model.netG.parameters()) + (list(model.netE.parameters()) if model.netE is not None else [])
        # Two time-scale update rule (Heusel et al. 2017): 1e-4 for G and E, 4e-4 for D at the default --lr.
        g_scale, d_scale = (1.0, 1.0) if opt.no_TTUR else (0.5, 2.0)
        return {
            "G": self.make_optimizer(generator, g_scale),
            "D": self.make_optimizer(list(model.netD.parameters()), d_scale),
        }

    def update(self, batch: dict[str, Any]) -> None:
        if self.iteration % self.opt.D_steps_per_G == 0:
            self.run_generator_one_step(batch)
        self.run_discriminator_one_step(batch)

    def run_generator_one_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Update G and E on one batch; returns the losses, detached."""
        made = []

        def losses_of(part: dict[str, Any]) -> dict[str, Tensor]:
            losses, fake = self.model.generator_losses(part)
            made.append((part, fake.detach()))
            return losses

        losses = self.descend("G", batch, losses_of)
        self.update_averages()
        self.keep_for_showing(*made[0])
        return losses

    def run_discriminator_one_step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Update D on one batch, against a fake image of the generator as it is now; returns the losses, detached."""
        return self.descend("D", batch, self.model.discriminator_losses)
