"""What a training run shows: a progress bar, loss_log.txt, a web page of pictures, and TensorBoard's files."""

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from util.class_table import PresentClass
from util.curves import LossHistory, read_losses
from util.distributed import rank
from util.errors import UserError
from util.html import Row
from util.iter_counter import IterationCounter
from util.metrics_file import MetricsFile
from util.picture_kinds import EVALUATION, LABEL, SYNTHESIZED, caption_of
from util.pictures import save_picture
from util.provenance import command
from util.training_page import TrainingPage

EMPTY_AFTER = 500  # batches; before, a picture of one colour means nothing
FLAT = 2.0  # grey levels of 255: a synthesised picture that varies less is empty


def create_visualizer(opt: Namespace, counter: IterationCounter) -> "Visualizer | NoVisualizer":
    """What shows a run in this process: of several, the first does.

    Raises:
        UserError: --tf_log is given and TensorBoard is not installed.
    """
    return Visualizer(opt, counter) if rank() == 0 else NoVisualizer()


class NoVisualizer:
    """Shows nothing."""

    shows = False

    def advance(self) -> None: ...

    def print_losses(self, losses: dict[str, Tensor]) -> None: ...

    def show(self, visuals: dict[str, np.ndarray], legend: list[PresentClass]) -> None: ...

    def show_metrics(self, epoch: int, images: int, metrics: dict[str, float], measured_with: str) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


class Visualizer:
    """Shows the progress of one training run.

    Raises:
        UserError: --tf_log is given and TensorBoard is not installed.
    """

    shows = True

    def __init__(self, opt: Namespace, counter: IterationCounter) -> None:
        self.opt = opt
        self.counter = counter
        self.folder = Path(opt.checkpoints_dir, opt.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.board = _tensorboard(self.folder / "logs") if opt.tf_log else None
        self.log = self.folder / "loss_log.txt"
        self.history, self.page = LossHistory(), None
        if not opt.no_html:
            self.history = LossHistory(read_losses(self.log, counter.epoch_images, counter.done_images))
            title = f"{opt.name}: training"
            self.page = TrainingPage(self.folder / "web", title, opt.display_winsize, counter.done_images)
        self.metrics = MetricsFile(self.folder / "metrics.csv", counter.done_images)
        if opt.overwrite:
            self.metrics.remove()
        self._warned = False
        with open(self.log, "a") as file:
            begun = f"{time.strftime('%c')}, from image {counter.done_images}"
            file.write(f"================ Training Loss ({begun}) ================\n")
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
        if self.page is not None:
            self.history.add(self.counter.done_images, values)
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

    def show(self, visuals: dict[str, np.ndarray], legend: list[PresentClass]) -> None:
        """Pictures of one item, uint8 [H, W, 3] each, as files and on web/index.html, and for TensorBoard."""
        self._warn_of_empty(visuals)
        if self.board is not None:
            for name, pixels in visuals.items():
                self.board.add_image(name, pixels, self.counter.images_seen, dataformats="HWC")
        if self.page is None:
            return
        # Mended (SPADE): the page linked to pictures that were never written.
        epoch, images = self.counter.epoch, self.counter.images_in_epoch
        stem, width = f"epoch{epoch:03d}_iter{images:07d}", self.opt.display_winsize
        captions = {name: caption_of(name) for name in visuals}
        if EVALUATION in visuals:
            captions[SYNTHESIZED] = "synthesised, in training mode"
        pictures = []
        for name, pixels in visuals.items():
            flat = name == LABEL and bool(legend)
            pictures.append(save_picture(self.page.folder, name, stem, pixels, captions[name], width, flat))
        row = Row(f"epoch {epoch}, {images} images into it", pictures, legend)
        self.page.add(self.counter.done_images, row, self._about(), self._charts())

    def show_metrics(self, epoch: int, images: int, metrics: dict[str, float], measured_with: str) -> None:
        """What was measured after `epoch` on so many images, into metrics.csv, onto the page, and for TensorBoard."""
        self.metrics.add(epoch, self.counter.done_images, images, metrics, measured_with)
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(f"evaluation/{name}", value, self.counter.images_seen)
        if self.page is not None:
            self.page.refresh(self._about(), self._charts())

    def _about(self) -> list[str]:
        """The lines under the page's title."""
        counter = self.counter
        where = f"epoch {counter.place[0]} of {counter.last_epoch}, {counter.done_images:,} of {counter.total_images:,}"
        return [f"{where} images, {time.strftime('%Y-%m-%d %H:%M')}", command()]

    def _charts(self) -> str:
        """Curves of what was measured, and of the losses."""
        measured, axis = LossHistory(self.metrics.history()), (self.counter.epoch_images, self.counter.done_images)
        return measured.charts(*axis) + self.history.charts(*axis)

    def _warn_of_empty(self, visuals: dict[str, np.ndarray]) -> None:
        """Say once when the synthesised picture is of one colour though training has begun."""
        picture = visuals.get(SYNTHESIZED)
        begun = self.counter.done_images > EMPTY_AFTER * self.opt.batchSize
        if picture is None or self._warned or not begun or picture.std(axis=(0, 1)).max() >= FLAT:
            return
        self._warned = True
        color = tuple(int(v) for v in picture.mean((0, 1)).round())
        self.note(
            f"warning: the synthesised picture is of one colour, {color}: training has probably collapsed. See 'White "
            "or empty pictures' in docs/questions.md (said once)"
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
