"""How weights start."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules.batchnorm import _BatchNorm

CONVOLUTIONS_AND_LINEAR = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

# The values of --init_type: what happens to a convolution's or linear layer's weight, given the gain --init_variance.
INIT_TYPES: dict[str, Callable[[Tensor, float], Tensor] | None] = {
    "xavier": lambda weight, gain: init.xavier_normal_(weight, gain=gain),
    "normal": lambda weight, gain: init.normal_(weight, 0.0, gain),
    "xavier_uniform": lambda weight, gain: init.xavier_uniform_(weight, gain=1.0),
    "kaiming": lambda weight, gain: init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: init.orthogonal_(weight, gain=gain),
    "none": None,  # PyTorch's own
}


def init_weights(net: nn.Module, init_type: str, gain: float) -> None:
    """Set convolution and linear weights by `init_type`, their biases to 0, affine batch norms to N(1, gain) and 0.

    With `none` convolutions and linear layers keep what PyTorch gave them.
    """
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            init.normal_(module.weight, 1.0, gain)
            init.zeros_(module.bias)
        elif isinstance(module, CONVOLUTIONS_AND_LINEAR):
            if INIT_TYPES[init_type] is None:
                continue
            weight = module.weight_orig if hasattr(module, "weight_orig") else module.weight  # under spectral norm
            INIT_TYPES[init_type](weight.data, gain)
            if module.bias is not None:
                init.zeros_(module.bias)
