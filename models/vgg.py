"""Where the perceptual loss's VGG19 weights come from."""

import pickle
from collections.abc import Mapping

import torch

from models.networks.architecture import VGG19
from util.checkpoint import read_state
from util.errors import UserError


def load_vgg19(path: str | None) -> VGG19:
    """ImageNet VGG19 features, from a local file of torchvision's weights or through torchvision's download cache.

    Raises:
        UserError: the file does not fit, or there is none and it cannot be downloaded.
    """
    import torchvision  # here, since it takes a second and only training needs it

    weights = torchvision.models.VGG19_Weights.IMAGENET1K_V1
    if path:
        with torch.device("meta"):
            features = torchvision.models.vgg19(weights=None, init_weights=False).features
        try:
            state = read_state(path)
        except UserError as error:
            raise UserError(f"--vgg_weights: {error}; the file is {weights.url}, fetched") from None
        if not isinstance(state, Mapping):
            raise UserError(f"--vgg_weights {path} holds no state dict; it must be torchvision's vgg19 ({weights.url})")
        kept = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        try:
            features.load_state_dict(kept, assign=True)
        except RuntimeError:
            raise UserError(f"--vgg_weights {path} is not torchvision's vgg19 ({weights.url})") from None
        return VGG19(features)
    try:
        return VGG19(torchvision.models.vgg19(weights=weights).features)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # URLError is an OSError
        raise UserError(
            f"the perceptual loss needs VGG19 weights, which are not (whole) in {torch.hub.get_dir()}/checkpoints and "
            f"cannot be downloaded ({error}). Fetch {weights.url} (548 MB) elsewhere and put it there, or pass "
            "--vgg_weights FILE, or train with --no_vgg_loss"
        ) from None
