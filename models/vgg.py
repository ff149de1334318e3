"""Where the perceptual loss's VGG19 weights come from."""

import torch
import torchvision

from models.networks.architecture import VGG19
from util.checkpoint import read_state
from util.errors import UserError

WEIGHTS = torchvision.models.VGG19_Weights.IMAGENET1K_V1


def load_vgg19(path: str | None) -> VGG19:
    """ImageNet VGG19 features, from a local file of torchvision's weights or through torchvision's download cache.

    Raises:
        UserError: the file does not fit, or there is none and it cannot be downloaded.
    """
    if path:
        features = torchvision.models.vgg19(weights=None).features
        state = read_state(path)
        kept = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        try:
            features.load_state_dict(kept)
        except RuntimeError as error:
            raise UserError(f"--vgg_weights {path} is not torchvision's vgg19 ({WEIGHTS.url}): {error}") from None
        return VGG19(features)
    try:
        return VGG19(torchvision.models.vgg19(weights=WEIGHTS).features)
    except OSError as error:  # URLError is one
        raise UserError(
            f"the perceptual loss needs VGG19 weights, which are not in {torch.hub.get_dir()}/checkpoints and cannot "
            f"be downloaded ({error}). Fetch {WEIGHTS.url} (548 MB) elsewhere and put it there, or pass "
            "--vgg_weights FILE, or train with --no_vgg_loss"
        ) from None
