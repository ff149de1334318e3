"""What options and builders ask of a network's class, with the answers that most give."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from models.networks.normalization import without_tracking
from models.networks.spectral import without_power_iteration

Shapes = Mapping[str, tuple[int, ...]]


def shape_of(shapes: Shapes, weight: str) -> tuple[int, ...] | None:
    """The shape of a weight, spectrally normalised or not."""
    return shapes.get(weight, shapes.get(f"{weight}_orig"))


def plain_norm_of(shapes: Shapes, conv: str) -> str | None:
    """The norm string of a convolution that `conv_norm` made, with the kinds that look alike in braces."""
    with_norm = shape_of(shapes, f"{conv}.0.weight") is not None
    name = f"{conv}.0" if with_norm else conv
    if shape_of(shapes, f"{name}.weight") is None:
        return None
    kind = "none" if not with_norm else "{batch,sync_batch}" if f"{conv}.1.running_mean" in shapes else "instance"
    return ("spectral" if f"{name}.weight_orig" in shapes else "") + kind


@contextmanager
def repeated(net: nn.Module) -> Iterator[None]:
    """Let forward passes inside be the last one once more: norms neither track nor iterate."""
    with without_tracking(net), without_power_iteration(net):
        yield


class BaseNetwork(nn.Module):
    """A network that a table in this package names. Subclasses give `from_options`, and `add_options` for own flags."""

    takes_style = False  # generators: whether G(semantics, z) may get a z

    checkpoints = False  # whether training keeps the inputs of blocks alone and computes what is inside them again

    def run(self, block: nn.Module, *args: Any) -> Any:
        """`block(*args)`; where `checkpoints` says so, what happens inside is computed again in the backward pass."""
        if not (self.checkpoints and self.training and torch.is_grad_enabled()):
            return block(*args)
        return checkpoint(block, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), repeated(block)))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.parameters()).dtype

    @staticmethod
    def defaults() -> dict[str, Any]:
        """Values that this network sets for flags that are not typed."""
        return {}

    @classmethod
    def from_options(cls, opt: Namespace) -> "BaseNetwork":
        """The network that the options describe: the one place where its class reads them."""
        raise NotImplementedError

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        """Refuse options that cannot work, before anything is built.

        Raises:
            ValueError: the message names the flag and the way out.
        """

    @staticmethod
    def flags_of(shapes: Shapes) -> dict[str, Any]:
        """What the shapes of a state dict say of the flags it was built with, for messages about files that do not fit.

        Anything may be missing in it: a value that cannot be read is left out.
        """
        return {}

    @staticmethod
    def stride_of(opt: Namespace) -> int:
        """Generators: the number that both sides of a layout must be multiples of."""
        return 1

    @classmethod
    def layout_size_of(cls, opt: Namespace) -> tuple[int, int] | None:
        """Generators: the (width, height) that every layout must have; None where any that fits the stride will do."""
        return None
