"""Where a run stands: epochs, batches and images, and whether it is time to print, show or save."""

import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader


class IterationCounter:
    """Counts images. The position it holds after a batch is where a resumed run goes on."""

    def __init__(self, opt: Namespace, items: int) -> None:
        """`items`: images in the data set; an epoch has as many whole batches as fit."""
        self.batch_size = opt.batchSize
        self.last_epoch = opt.niter + opt.niter_decay
        self.epoch_images = items // opt.batchSize * opt.batchSize
        self.epoch, self.images_in_epoch, self.images_seen = 1, 0, 0
        self._waited = 0.0  # seconds

    def epochs(self) -> Iterator[int]:
        """The epochs that are left, the first of them perhaps begun."""
        self._normalize()
        while self.epoch <= self.last_epoch:
            yield self.epoch
            self.images_in_epoch = self.epoch_images
            self._normalize()

    def batches(self, loader: DataLoader) -> Iterator[dict[str, Any]]:
        """The batches that are left in this epoch; each counts as done when it is handed out."""
        loader.batch_sampler.set_position(self.epoch, self.images_in_epoch // self.batch_size)
        before = time.perf_counter()
        for batch in loader:
            ready = time.perf_counter()
            self._waited += ready - before
            self.images_in_epoch += self.batch_size
            self.images_seen += self.batch_size
            yield batch
            before = time.perf_counter()

    def due(self, every: int) -> bool:
        """Whether the last batch reached or passed a multiple of `every` images; never where `every` is 0."""
        return every > 0 and self.images_seen // every > (self.images_seen - self.batch_size) // every

    def due_epoch(self, every: int) -> bool:
        """Whether the number of this epoch is a multiple of `every`; never where that is 0."""
        return every > 0 and self.epoch % every == 0

    @property
    def epoch_is_done(self) -> bool:
        """Whether no batch is left of this epoch."""
        return self.images_in_epoch >= self.epoch_images

    @property
    def total_images(self) -> int:
        """Images in the whole run."""
        return self.last_epoch * self.epoch_images

    @property
    def done_images(self) -> int:
        """Images of the whole run that are done, those before a resume included."""
        return (self.epoch - 1) * self.epoch_images + self.images_in_epoch

    @property
    def done_epochs(self) -> int:
        """Whole epochs of the run that are done."""
        return self.epoch - 1 + self.epoch_is_done

    @property
    def place(self) -> tuple[int, int]:
        """For people: the epoch in which the last batch was, and the images that are done of it."""
        if self.images_in_epoch == 0 and self.epoch > 1:
            return self.epoch - 1, self.epoch_images
        return self.epoch, self.images_in_epoch

    def take_waited(self) -> float:
        """Seconds spent waiting for the loader since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

    def state_dict(self) -> dict[str, int]:
        """The position of the next batch."""
        return {
            "epoch": self.epoch + self.epoch_is_done,
            "images_in_epoch": 0 if self.epoch_is_done else self.images_in_epoch,
            "images_seen": self.images_seen,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved position."""
        self.epoch, self.images_in_epoch = state["epoch"], state["images_in_epoch"]
        self.images_seen = state["images_seen"]
        self.images_in_epoch -= self.images_in_epoch % self.batch_size  # whole batches, should --batchSize have changed

    def _normalize(self) -> None:
        state = self.state_dict()
        self.epoch, self.images_in_epoch = state["epoch"], state["images_in_epoch"]
