"""SPADE: generator, discriminator, perhaps a style encoder, and their losses.

Letters: N batch, S semantic channels, H W image size.
"""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.base_model import BaseModel
from models.networks import (
    DISCRIMINATORS,
    ENCODERS,
    GENERATORS,
    build_discriminator,
    build_encoder,
    build_generator,
    frozen,
)
from models.networks.augmentation import DRAWS, augment_images, augment_layouts
from models.networks.loss import VGGLoss, feature_matching_loss, kld_loss, multiscale_gan_loss
from models.networks.normalization import batch_norms
from models.networks.semantics import LabelMap, label_map_of
from models.networks.spectral import without_power_iteration
from models.vgg import load_vgg19
from util.class_table import ClassTable, PresentClass
from util.errors import UserError
from util.seeding import standard_normal, uniform

Losses = dict[str, Tensor]
Prediction = list[list[Tensor]]


class Pix2PixModel(BaseModel):
    """`netG`, `netD` (None at test) and `netE` (None without --use_vae), one method per job.

    A batch holds `label` integer [N, 1, H, W], `instance` integer [N, 1, H, W] unless --no_instance, and `image` float
    [N, 3, H, W] in [-1, 1], which only `generate` can do without.
    """

    optional_networks = frozenset({"E"})
    averaged_networks = frozenset({"G"})
    sum_losses = frozenset({"KLD"})
    pretrained_network = "G"

    @classmethod
    def complete_options(cls, opt: Namespace) -> None:
        generator = GENERATORS[opt.netG]
        opt.semantic_nc = class_count(opt) + (not opt.no_instance)
        opt.size_multiple, opt.layout_size = generator.stride_of(opt), generator.layout_size_of(opt)
        generator.check_options(opt)
        ENCODERS[opt.netE].check_options(opt)
        if opt.isTrain:
            DISCRIMINATORS[opt.netD].check_options(opt)
        if opt.use_vae and not generator.takes_style:
            raise ValueError(f"--use_vae: the {opt.netG} generator takes no style; use --netG spade or drop the flag")

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        self._layouts: dict[tuple, tuple] | None = None  # made of ids inside `one_batch`
        self.class_table = ClassTable.load(opt.class_table)
        if opt.contain_dontcare_label:
            self.class_table = self.class_table.with_unknown(opt.label_nc)
        if opt.isTrain and opt.output_nc != 3:
            raise UserError(f"--output_nc {opt.output_nc}: photos are RGB, so training needs 3")
        self.netG = build_generator(opt)
        self.netG.checkpoints = opt.isTrain and opt.grad_checkpoint
        self.netD = build_discriminator(opt) if opt.isTrain else None
        self.netE = build_encoder(opt) if opt.use_vae else None
        self.vgg_loss = VGGLoss(load_vgg19(opt.vgg_weights)) if opt.isTrain and not opt.no_vgg_loss else None

    def networks(self) -> dict[str, nn.Module]:
        nets = {"G": self.netG, "D": self.netD, "E": self.netE}
        return {letter: net for letter, net in nets.items() if net is not None}

    def generator_losses(self, batch: dict[str, Any]) -> tuple[Losses, Tensor]:
        """Weighted losses of G and E, scalars by name, and the image they judge [N, 3, H, W]."""
        opt, real = self.opt, self.photo(batch)
        semantics = self.semantics(batch)  # [N, S, H, W]
        losses: Losses = {}
        z = None
        if self.netE is not None:
            mu, logvar = self.netE(real)  # [N, z] each
            z = self.sample_style(mu, logvar)
            losses["KLD"] = opt.lambda_kld * kld_loss(mu, logvar)
        fake = self.netG(semantics, z)
        on_fake, on_real = self.discriminate_for_generator(*self.augmented(semantics, fake, real))
        losses["GAN"] = multiscale_gan_loss(on_fake, real=True, for_discriminator=False, mode=opt.gan_mode)
        if not opt.no_ganFeat_loss:
            losses["GAN_Feat"] = opt.lambda_feat * feature_matching_loss(on_fake, on_real)
        if self.vgg_loss is not None:
            losses["VGG"] = opt.lambda_vgg * self.vgg_loss(fake, real)
        return losses, fake

    def discriminator_losses(self, batch: dict[str, Any]) -> Losses:
        """Losses of D on a fake image made anew by the present generator, without gradient into it."""
        real, mode = self.photo(batch), self.opt.gan_mode
        semantics = self.semantics(batch)  # [N, S, H, W]
        with torch.no_grad():
            z = self.sample_style(*self.netE(real)) if self.netE is not None else None
            fake = self.netG(semantics, z)
        on_fake, on_real = self.discriminate(*self.augmented(semantics, fake, real))
        return {
            "D_Fake": multiscale_gan_loss(on_fake, real=False, for_discriminator=True, mode=mode),
            "D_real": multiscale_gan_loss(on_real, real=True, for_discriminator=True, mode=mode),
        }

    def augmented(self, semantics: LabelMap, fake: Tensor, real: Tensor) -> tuple[LabelMap, Tensor, Tensor]:
        """What D sees of layouts, synthesised images and photos: --diffaugment changes an item's three alike."""
        kinds = self.opt.diffaugment
        if not kinds:
            return semantics, fake, real
        draws = self.noise(uniform, len(fake), (DRAWS,))
        fake, real = (augment_images(images, draws, kinds) for images in (fake, real))  # [N, 3, H, W]
        return augment_layouts(semantics, draws, kinds), fake, real

    def discriminate(self, semantics: LabelMap, fake: Tensor, real: Tensor) -> tuple[Prediction, Prediction]:
        """D's stages for fake and for real images; both go through D as one batch, fake first."""
        prediction, n = self.netD(torch.cat([fake, real]), semantics), len(fake)  # [2N, 3, H, W], [N, S, H, W]
        return [[s[:n] for s in stages] for stages in prediction], [[s[n:] for s in stages] for stages in prediction]

    def discriminate_for_generator(
        self, semantics: LabelMap, fake: Tensor, real: Tensor
    ) -> tuple[Prediction, Prediction]:
        """The same, with gradients into `fake` alone: none for D's weights, and none through the real images."""
        with frozen(self.netD):
            if batch_norms(self.netD):  # under which fake and real images depend on each other
                return self.discriminate(semantics, fake, real)
            on_fake = self.netD(fake, semantics)
            with torch.no_grad(), without_power_iteration(self.netD):
                return on_fake, self.netD(real, semantics)

    @torch.no_grad()
    def generate(self, batch: dict[str, Any], z: Tensor | None = None) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1].

        With a VAE and no z: the photo's mu where the batch has a photo, else a style from N(0, 1) and the seed.
        """
        semantics = self.semantics(batch)
        if z is None and self.opt.use_vae:
            has_photo = "image" in batch and self.netE is not None
            z = self.style_of(batch["image"]) if has_photo else self.random_styles(len(semantics))
        return self.netG(semantics, z)

    @torch.no_grad()
    def style_of(self, image: Tensor) -> Tensor:
        if self.netE is None:
            raise UserError(
                "a style from a photo needs the encoder, latest_net_E.pth of a model trained with --use_vae; "
                "--num_samples draws styles without it"
            )
        mu, _ = self.netE(image.to(self.dtype))
        return mu

    def random_styles(self, count: int) -> Tensor:
        weight = next(self.netG.parameters())
        unit = weight.new_zeros(count, self.opt.z_dim)
        return self.sample_style(mu=unit, logvar=unit)

    def sample_style(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """mu + exp(logvar / 2) eps, all [N, z], with eps from N(0, 1): the one place where style noise enters."""
        eps = self.noise(standard_normal, len(mu), mu.shape[1:])
        return mu + (0.5 * logvar).exp() * eps.to(mu, non_blocking=True)

    def semantics(self, batch: dict[str, Any]) -> LabelMap:
        """What the networks read of a batch's layouts: [N, S, H, W]."""
        label, instance = batch["label"], None if self.opt.no_instance else batch["instance"]
        key = tuple((x.data_ptr(), x.shape, x.stride(), x.dtype) for x in (label, instance) if x is not None)
        if self._layouts is None or key not in self._layouts:
            layouts = label_map_of(label, instance, class_count(self.opt), self.opt.spade_impl)
            if self._layouts is None:
                return layouts
            self._layouts[key] = label, instance, layouts  # as long as the ids are kept, no others lie where they do
        return self._layouts[key][-1]

    @contextmanager
    def one_batch(self) -> Iterator[None]:
        self._layouts = {}
        try:
            yield
        finally:
            self._layouts = None

    def photo(self, batch: dict[str, Any]) -> Tensor:
        """The batch's real images [N, 3, H, W], in the type of the weights."""
        return batch["image"].to(self.dtype)

    def input_picture(self, batch: dict[str, Any]) -> np.ndarray:
        return self.class_table.colorize(batch["label"][:, 0].cpu().numpy())

    def legend(self, batch: dict[str, Any]) -> list[list[PresentClass]]:
        return [self.class_table.present(label) for label in batch["label"][:, 0].cpu().numpy()]

    def drop_network(self, letter: str) -> None:
        assert letter == "E"
        self.netE = None


def class_count(opt: Namespace) -> int:
    """Channels of the one-hot map: the classes, and one for unknown pixels where there is one."""
    return opt.label_nc + bool(opt.contain_dontcare_label)
