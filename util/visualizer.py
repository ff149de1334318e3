"""What a training run shows: a progress bar, loss_log.txt, a web page of pictures, and TensorBoard's files."""

import json
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from util.errors import UserError
from util.files import write_atomically
from util.html import Row, write_page
from util.iter_counter import IterationCounter

PAGE_ROWS = 200  # newest pictures on the page, which is written anew each time; older ones stay as files


class Visualizer:
    """Shows the progress of one training run.

    Raises:
        UserError: --tf_log is given and TensorBoard is not installed.
    """

    def __init__(self, opt: Namespace, counter: IterationCounter) -> None:
        self.opt = opt
        self.counter = counter
        self.folder = Path(opt.checkpoints_dir, opt.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.board = _tensorboard(self.folder / "logs") if opt.tf_log else None
        self.log = self.folder / "loss_log.txt"
        with open(self.log, "a") as file:
            file.write(f"================ Training Loss ({time.strftime('%c')}) ================\n")
        # The bar counts the images of the whole run, so that its estimate is the time left until the end.
        self.bar = tqdm(
            total=counter.total_images,
            initial=counter.done_images,
            unit="img",
            dynamic_ncols=True,
            disable=None,  # shown on a terminal only; in files the loss lines say the same
            smoothing=0.05,
        )
        self._since = time.perf_counter()
        self._images_since = 0

    def advance(self) -> None:
        """One more batch is done."""
        self._images_since += self.opt.batchSize
        self.bar.set_description(f"epoch {self.counter.epoch}/{self.counter.last_epoch}", refresh=False)
        self.bar.update(self.opt.batchSize)

    def print_losses(self, losses: dict[str, Tensor]) -> None:
        """A line of losses into loss_log.txt and onto the console, with speed and time left."""
        values = {name: loss.item() for name, loss in losses.items()}
        now = time.perf_counter()
        seconds = (now - self._since) / max(1, self._images_since)  # per image, since the last line
        waited = self.counter.take_waited() / (now - self._since)
        self._since, self._images_since = now, 0
        text = " ".join(f"{name}: {value:.3f}" for name, value in values.items())
        line = f"(epoch: {self.counter.epoch}, iters: {self.counter.images_in_epoch}, time: {seconds:.3f}) {text}"
        with open(self.log, "a") as file:
            file.write(line + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, self.counter.images_seen)
        left = (self.counter.total_images - self.counter.done_images) * seconds
        speed = f"{1 / seconds:.2f} images/s, {waited:.0%} waiting for data, {clock(left)} left"
        if self.bar.disable:
            print(f"{line} [{speed}]", flush=True)
        else:
            self.bar.write(line)
            self.bar.set_postfix_str(f"{waited:.0%} waiting for data, {text}")

    def show(self, visuals: dict[str, np.ndarray]) -> None:
        """Pictures of the first item of a batch, as files and on web/index.html, and for TensorBoard."""
        if self.board is not None:
            for name, batch in visuals.items():
                self.board.add_image(name, batch[0], self.counter.images_seen, dataformats="HWC")
        if self.opt.no_html:
            return
        web = self.folder / "web"
        (web / "images").mkdir(parents=True, exist_ok=True)
        stem = f"epoch{self.counter.epoch:03d}_iter{self.counter.images_in_epoch:07d}"
        pictures = []
        for name, batch in visuals.items():
            link = f"images/{stem}_{name}.png"
            Image.fromarray(batch[0]).save(web / link)
            pictures.append((name, link))
        # Mended (SPADE): the page linked to pictures that were never written. It lists those that were, newest first.
        index = web / "pictures.json"
        rows = {stem: pictures, **{s: p for s, p in self._shown(index).items() if s != stem}}
        rows = dict(list(rows.items())[:PAGE_ROWS])
        write_atomically(index, json.dumps(rows).encode())
        write_page(
            web / "index.html",
            f"{self.opt.name}: training",
            [Row(s, p) for s, p in rows.items()],
            self.opt.display_winsize,
        )

    def note(self, text: str) -> None:
        """A line on the console that leaves the bar whole."""
        if self.bar.disable:
            print(text, flush=True)
        else:
            self.bar.write(text)

    def close(self) -> None:
        """End the bar."""
        self.bar.close()
        if self.board is not None:
            self.board.close()
        sys.stdout.flush()

    @staticmethod
    def _shown(index: Path) -> dict[str, list]:
        try:
            return json.loads(index.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


def _tensorboard(folder: Path) -> Any:
    """PyTorch's writer of TensorBoard files."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tf_log needs the package tensorboard: pip install -r requirements-tensorboard.txt, or drop the flag"
        ) from None
    return SummaryWriter(str(folder))


def clock(seconds: float) -> str:
    """Seconds as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
