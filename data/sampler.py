"""Which items go into which batch, and which of them this process reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from data.base_dataset import Key
from util.seeding import shuffled


@dataclass(frozen=True)
class Share:
    """What one process gets of every batch: of each micro-batch its part, in the order of ranks.

    So that a micro-batch over all processes is that of one process, whatever batch norm sees of it is the same.
    """

    rank: int = 0
    processes: int = 1
    parts: int = 1  # micro-batches, --accumulate

    def places(self, batch_size: int) -> list[int]:
        """The places in a batch of `batch_size` items, which is a multiple of processes x parts."""
        size = batch_size // (self.processes * self.parts)
        first = [part * size * self.processes + self.rank * size for part in range(self.parts)]
        return [place for start in first for place in range(start, start + size)]


WHOLE = Share()


class PositionedBatches(Sampler[list[Key]]):
    """Batches of keys from any place of any epoch on; order and keys are functions of (seed, epoch, place) alone.

    Training batches are `complete`, and this process gets its share of each. In testing it gets every P-th batch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        complete: bool,
        share: Share = WHOLE,
        order: Callable[[int, int], np.ndarray] | None = None,
    ) -> None:
        """`order`: of (epoch, size) to indices, where a data set has an order of its own."""
        self.size, self.batch_size, self.shuffle, self.seed, self.complete = size, batch_size, shuffle, seed, complete
        self.share = share
        self.order = order
        self.epoch, self.start = 1, 0

    def set_position(self, epoch: int, start: int) -> None:
        """Let the next pass be that of 1-based `epoch`, without its first `start` batches."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return len(self._batches())

    def own_places(self) -> np.ndarray:
        """The places of the items that this process gets in a pass, in their order."""
        own = np.asarray(self.share.places(self.batch_size) if self.complete else range(self.batch_size))
        places = (np.asarray(self._batches())[:, None] * self.batch_size + own).ravel()
        return places[places < self.size]

    def _batches(self) -> range:
        if self.complete:
            return range(self.start, self.size // self.batch_size)
        return range(self.start + self.share.rank, -(-self.size // self.batch_size), self.share.processes)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.size)
        if self.shuffle and self.order is not None:
            order = self.order(self.epoch, self.size)
        elif self.shuffle:
            order = shuffled(self.size, self.seed, self.epoch)
        own = self.share.places(self.batch_size) if self.complete else range(self.batch_size)
        for batch in self._batches():
            first = batch * self.batch_size
            places = [first + place for place in own if first + place < self.size]
            yield [(int(order[place]), (self.epoch, place)) for place in places]
