"""A network's weights, averaged over training: --ema_decay."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.networks.spectral import power_iteration

POWER_ITERATIONS = 10  # from the network's own u, which is near already


class MovingAverage:
    """Exponential moving average of a network's weights, saved and loaded as the network itself is.

    Running statistics of batch norms are averaged with the weights: while these move little, the mean of the statistics
    is that of the mean weights. The mean of singular vectors is none: spectral norms' u and v are computed from the
    averaged weights whenever these are read. Counters are the network's.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        """decay: the share in [0, 1) that the average keeps at each update, once there were enough of them."""
        self.net, self.decay = net, decay
        self.updates = 0
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now; the device is not waited for."""
        live = self._live()
        if not self._average:
            self._average = {key: value.clone() for key, value in live.items()}
        # In the beginning it forgets faster, so that no more of the first weights is left than of a plain mean.
        kept = min(self.decay, self.updates / (self.updates + 9))
        torch._foreach_lerp_(list(self._average.values()), list(live.values()), 1 - kept)
        self.updates += 1

    @torch.no_grad()
    def state_dict(self) -> dict[str, Tensor]:
        """A state dict of the network, keys and shapes, with the averaged weights; before any update its own ones."""
        state = {**self.net.state_dict(), **self._average}
        for name, module in self.net.named_modules():
            if hasattr(module, "weight_u"):
                self._singular_vectors(state, f"{name}.weight_" if name else "weight_", module)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self._average = {key: value.clone().copy_(state[key]) for key, value in self._live().items()}

    def _live(self) -> dict[str, Tensor]:
        """What is averaged, as it is in the network now."""
        vectors = ("weight_u", "weight_v")
        state = self.net.state_dict()
        return {k: value for k, value in state.items() if value.is_floating_point() and not k.endswith(vectors)}

    @staticmethod
    def _singular_vectors(state: dict[str, Tensor], prefix: str, module: nn.Module) -> None:
        weight, u = state[f"{prefix}orig"], state[f"{prefix}u"]
        if isinstance(module, nn.ConvTranspose2d):
            weight = weight.transpose(0, 1)
        matrix = weight.flatten(1)  # [outputs, all else]
        for _ in range(POWER_ITERATIONS):
            u, v, _ = power_iteration(matrix, u)
        state[f"{prefix}u"], state[f"{prefix}v"] = u, v
