"""What train.py, test.py and the web pages ask of a system's model; nothing here knows which system it is."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from util.class_table import PresentClass
from util.errors import UserError
from util.images import to_uint8
from util.picture_kinds import LABEL, REAL


class BaseModel(nn.Module):
    """Networks, losses and pictures of one system. Subclasses give `networks`, `generate` and `input_picture`."""

    # Networks without whose file `generate` still works: test.py says so and goes on.
    optional_networks: frozenset[str] = frozenset()
    # Networks, by letter, of which --ema_decay keeps a moving average.
    averaged_networks: frozenset[str] = frozenset()
    # Losses that are sums over their batch; all others are means, which --accumulate weights.
    sum_losses: frozenset[str] = frozenset()

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        """Values that this system sets for flags that are not typed."""
        return {}

    # The network that --pretrained_G starts; None where there is no such network.
    pretrained_network: str | None = None

    @classmethod
    def complete_options(cls, opt: Namespace) -> None:
        """Add what follows from several flags, and check.

        `size_multiple`: of what a layout's sides must be multiples; `layout_size`: the only (width, height) that will
        do, or None.

        Raises:
            ValueError: flags contradict each other; the message names them and the way out.
        """
        opt.size_multiple, opt.layout_size = 1, None

    def __init__(self, opt: Namespace) -> None:
        super().__init__()
        self.opt = opt
        self.set_noise(opt.seed)

    def networks(self) -> dict[str, nn.Module]:
        """The networks that checkpoints hold, by the letter in their file's name: {'G': ..., 'D': ...}."""
        raise NotImplementedError

    def generate(self, batch: dict[str, Any], z: Tensor | None = None) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1] for a batch, without gradient, in the networks' present mode."""
        raise NotImplementedError

    @contextmanager
    def one_batch(self) -> Iterator[None]:
        """Inside, inputs do not change: what is made of them may be kept, for both steps, or for several styles."""
        yield

    def input_picture(self, batch: dict[str, Any]) -> np.ndarray:
        """The batch's input as pictures for people: uint8 [N, H, W, 3]."""
        raise NotImplementedError

    def legend(self, batch: dict[str, Any]) -> list[list[PresentClass]]:
        """For each input of a batch the classes that its picture shows; empty where colours stand for nothing."""
        return [[] for _ in batch["path"]]

    def drop_network(self, letter: str) -> None:
        """Do without an optional network whose file is missing."""
        raise NotImplementedError

    def style_of(self, image: Tensor) -> Tensor:
        """The styles [N, z] of photos [N, 3, H, W] in [-1, 1].

        Raises:
            UserError: this model encodes none.
        """
        raise UserError(f"this model ({type(self).__name__}) takes no style from a photo; drop the flag")

    def random_styles(self, count: int) -> Tensor:
        """The next draw of random styles [count, z], from the noise that `set_noise` set.

        Raises:
            UserError: this model has no styles.
        """
        raise UserError(f"this model ({type(self).__name__}) has no styles; drop the flag")

    def visuals(self, batch: dict[str, Any], fakes: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Pictures to show side by side, name to uint8 [N, H, W, 3]: the input, synthesised ones, the photo if any."""
        pictures = {LABEL: self.input_picture(batch), **{name: to_uint8(fake) for name, fake in fakes.items()}}
        if "image" in batch:
            pictures[REAL] = to_uint8(batch["image"])
        return pictures

    def set_noise(self, seed: int, *stream: int, first: int = 0) -> None:
        """Let the noise that follows be a function of (seed, stream, how many draws came before, row).

        Training passes the iteration as the stream; testing passes no stream and, as `first`, the place of the batch's
        first layout, so that a layout's noise does not depend on the batch it is in.
        """
        self._noise_key, self._noise_first, self._draws = (seed, *stream), first, 0

    def place_noise(self, draws: int, first: int) -> None:
        """Let the next draw be the one after `draws` others, its rows counted from `first`: so the parts of a batch get
        what the whole one would."""
        self._draws, self._noise_first = draws, first

    @property
    def draws(self) -> int:
        """How many draws came since `set_noise`."""
        return self._draws

    def noise(self, draw: Callable[..., Tensor], count: int, shape: tuple[int, ...]) -> Tensor:
        """The next draw [count, *shape], on the CPU, a row at a time: `draw` is a function of shape and key of
        util/seeding.py."""
        self._draws += 1
        return torch.stack(
            [draw(shape, *self._noise_key, self._draws, self._noise_first + row) for row in range(count)]
        )

    @property
    def dtype(self) -> torch.dtype:
        """The type of the networks' weights, which inputs take on."""
        return next(self.parameters()).dtype
