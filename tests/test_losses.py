"""Losses a reader can compute by hand."""

import math

import pytest
import torch

from models.networks.loss import feature_matching_loss, gan_loss, kld_loss, multiscale_gan_loss

SCORES = torch.tensor([0.5, -2.0])


@pytest.mark.parametrize(
    ("mode", "real", "for_discriminator", "value"),
    [
        ("hinge", True, True, (0.5 + 3.0) / 2),  # relu(1 - x)
        ("hinge", False, True, (1.5 + 0.0) / 2),  # relu(1 + x)
        ("hinge", True, False, 0.75),  # -mean
        ("ls", True, True, (0.25 + 9.0) / 2),
        ("ls", False, True, (0.25 + 4.0) / 2),
        ("ls", True, False, (0.25 + 9.0) / 2),
        ("original", True, True, (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(2.0))) / 2),
        ("original", False, True, (math.log1p(math.exp(0.5)) + math.log1p(math.exp(-2.0))) / 2),
        ("w", True, True, 0.75),
        ("w", False, True, -0.75),
        ("w", True, False, 0.75),
    ],
)
def test_gan_loss(mode: str, real: bool, for_discriminator: bool, value: float) -> None:
    assert gan_loss(SCORES, real, for_discriminator, mode).item() == pytest.approx(value)


def test_scales_count_alike() -> None:
    """A scale's weight does not depend on how many patches it has."""
    prediction = [[torch.full((4, 4), 1.0)], [torch.full((1, 1), 3.0)]]
    assert multiscale_gan_loss(prediction, real=False, for_discriminator=True, mode="w").item() == 2.0


def test_feature_matching_leaves_the_prediction_out() -> None:
    """Scale 1: |1 - 0| + |2 - 0|, scale 2: |4 - 0|; the sum over two scales is halved."""
    ones = torch.ones(2, 2)
    fake = [[1 * ones, 2 * ones, 100 * ones], [4 * ones, 100 * ones]]
    real = [[0 * ones, 0 * ones, 0 * ones], [0 * ones, 0 * ones]]
    assert feature_matching_loss(fake, real).item() == 3.5


def test_feature_matching_moves_only_the_fake() -> None:
    fake, real = (torch.ones(2, requires_grad=True) for _ in range(2))
    feature_matching_loss([[2 * fake, fake]], [[real, real]]).backward()
    assert real.grad is None
    assert fake.grad.tolist() == [1.0, 1.0]


def test_kld_of_a_standard_normal_is_0() -> None:
    assert kld_loss(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0
    assert kld_loss(torch.ones(2, 3), torch.zeros(2, 3)).item() == 3.0  # half of six ones: a sum, not a mean
