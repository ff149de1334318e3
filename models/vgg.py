"""Where the perceptual loss's VGG19 weights come from."""

from collections.abc import Mapping
from pathlib import Path

import torch

from models.networks.architecture import VGG19
from util.checkpoint import read_state
from util.errors import UserError
from util.released import Released, fetched


def load_vgg19(path: str | None) -> VGG19:
    """ImageNet VGG19 features, from a local file of torchvision's weights or through torchvision's download cache.

    Raises:
        UserError: the file does not fit, or there is none and it cannot be downloaded.
    """
    import torchvision  # here, since it takes a second and only training needs it

    weights = torchvision.models.VGG19_Weights.IMAGENET1K_V1
    with torch.device("meta"):
        features = torchvision.models.vgg19(weights=None, init_weights=False).features
    # Not torchvision's vgg19(weights=...), which lets what lies in the cache run code: it is unpickled as it is.
    name = Path(weights.url).name
    file = Released(name, weights.url, 548, digest=Path(name).stem.rpartition("-")[2])
    cached = file.cached if path else fetched(file, "--vgg_weights FILE, or train with --no_vgg_loss")
    where = f"--vgg_weights {path}" if path else f"{cached}, VGG19's weights for the perceptual loss,"
    try:
        state = read_state(path or cached)
    except UserError as error:
        way_out = (
            f"--vgg_weights: {error}; the file is" if path else f"{error}. Delete it, so that it is fetched again:"
        )
        raise UserError(f"{way_out} {weights.url}{', fetched' if path else ''}") from None
    if not isinstance(state, Mapping):
        raise UserError(f"{where} holds no state dict; it must be torchvision's vgg19 ({weights.url})")
    kept = {k.removeprefix("features."): v for k, v in state.items() if str(k).startswith("features.")}
    try:
        features.load_state_dict(kept, assign=True)
    except RuntimeError:
        raise UserError(f"{where} is not torchvision's vgg19 ({weights.url})") from None
    return VGG19(features)
