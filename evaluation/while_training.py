"""What train.py --eval_freq does: measure the generator as evaluate.py would, and keep the best."""

import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from evaluation.metrics import is_better
from evaluation.options import EvaluateOptions
from models import create_model
from options.train_options import TrainOptions
from trainers.base_trainer import BaseTrainer
from util import manifest
from util.distributed import broadcast, world_size
from util.errors import UserError
from util.iter_counter import IterationCounter

BEST = "best"  # the checkpoint's name
# Flags of evaluate.py that are those of the run.
SHARED = (
    *("name", "checkpoints_dir", "model", "gpu_ids", "seed", "nThreads", "spade_impl", "amp", "compile"),
    *("dataset_mode", "dataroot", "class_table", "label_palette", "no_pairing_check", "packed_from"),
    *("protocol", "segmenter", "segmenter_weights", "inception_weights", "features_dir", "no_miou", "no_fid"),
)


@dataclass(frozen=True)
class Found:
    """What an evaluation found."""

    epoch: int  # the last that was trained
    metrics: dict[str, float]  # by the names of `evaluation.metrics`
    images: int
    seconds: float
    is_best: bool
    measured_with: str  # numbers with another one cannot be compared

    def describe(self) -> str:
        """A line for people."""
        values = " ".join(f"{name}: {value:.4g}" for name, value in self.metrics.items())
        best = ", the best so far" if self.is_best else ""
        return f"(epoch: {self.epoch}, evaluated) {values} [{self.images} images, {self.seconds:.0f} s{best}]"


class NoEvaluations:
    """Measures nothing."""

    def due(self, counter: IterationCounter) -> bool:
        return False

    def measure(self, counter: IterationCounter) -> Found | None:
        return None


def create_evaluations(options: TrainOptions, opt: Namespace, trainer: BaseTrainer) -> "Evaluations | NoEvaluations":
    """What --eval_freq asks for.

    Raises:
        UserError: weights or validation files are missing, or do not fit.
    """
    if not opt.eval_freq:
        return NoEvaluations()
    evaluations = Evaluations(options, opt, trainer)
    for note in evaluations.notes:
        print(f"note: {note}", file=sys.stderr)
    return evaluations


def flags_of_run(options: TrainOptions, opt: Namespace) -> list[str]:
    """The command line of evaluate.py that measures a run's checkpoints as training does."""
    kept, argv = options.as_given(opt), ["--subset", str(opt.eval_images)]
    for name in SHARED:
        value = kept[name] if name == "gpu_ids" else getattr(opt, name)
        value = opt.val_dataroot or value if name == "dataroot" else value
        if value is None or value is False or value == []:
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        argv += [f"--{name}", *map(str, values)]
    for name in ("label_dir", "image_dir", "instance_dir"):
        if getattr(opt, f"val_{name}"):
            argv += [f"--{name}", getattr(opt, f"val_{name}")]
    batch = max(1, opt.batchSize // opt.accumulate // world_size())  # which fits the memory in training
    return [*argv, "--weights", opt.eval_weights, "--batchSize", str(batch)]


class OptionsOfRun(EvaluateOptions):
    """Those of evaluate.py, where a run stands for its opt.json: the file may still be another run's."""

    def __init__(self, options: TrainOptions, opt: Namespace) -> None:
        super().__init__(raises=True)
        self._kept = options.as_given(opt)

    def read_saved(self, checkpoints_dir: str, name: str) -> dict[str, Any]:
        return self._kept

    def _take_kept_classes(self, opt: Namespace, typed: dict[str, Any]) -> None:
        """The run's class table is among its flags."""


class Evaluations:
    """Measures a run's generator after every N-th epoch, on layouts that it is not trained on.

    A second model is measured, with the weights of the one in training, so that nothing of that one changes. The epoch
    that was measured last, and the best value so far, belong to the training state.
    """

    def __init__(self, options: TrainOptions, opt: Namespace, trainer: BaseTrainer) -> None:
        """Makes and looks at all that it takes, before training begins.

        Raises:
            UserError: weights or validation files are missing, or do not fit.
        """
        from evaluation.measurement import Measurement  # here, since torchvision takes a second
        from evaluation.run import images_of

        self.opt, self._trainer = opt, trainer
        self.options = OptionsOfRun(options, opt).parse(flags_of_run(options, opt))
        self._measurement = Measurement(self.options)
        self.measured_with = self._measurement.measured_with
        self.notes = list(self._measurement.notes)
        if opt.best_by not in self._measurement.metrics:
            measured, why = ", ".join(self._measurement.metrics), "".join(f"; {note}" for note in self.notes)
            raise UserError(f"--best_by {opt.best_by} is not measured: {measured} are{why}")
        held = trainer.evaluated
        if held.get("best") and self._best() is None:
            self.notes.append(f"`best` begins anew: the best value so far {self._why_not(held)}")
        self._model = create_model(self.options).to(trainer.device).eval()
        self._make = images_of(self._model, self.options)

    def due(self, counter: IterationCounter) -> bool:
        """Whether the epoch that is done is one to be measured after, and has not been."""
        done = counter.done_epochs
        if done == 0 or done * counter.epoch_images != counter.done_images:  # in the midst of an epoch
            return False
        measured = done % self.opt.eval_freq == 0 or done == counter.last_epoch
        return measured and self._trainer.evaluated.get("epoch") != done

    def measure(self, counter: IterationCounter) -> Found | None:
        """The numbers of the weights as they are, in all processes; None where one of them was asked to stop."""
        begun = time.monotonic()
        for letter, net in self._model.networks().items():
            net.load_state_dict(self._trainer.weights_of(letter, self.opt.eval_weights))
        numbers = self._measurement.measure(self._make, lambda: self._trainer.interruption.asked)
        if numbers is None:
            return None
        metrics = broadcast(numbers.metrics())
        best, value, iteration = self._best(), metrics[self.opt.best_by], self._trainer.iteration
        is_best = is_better(self.opt.best_by, value, best)
        held = self._trainer.evaluated.get("best") if best is not None else None
        if is_best:
            held = {"value": value, "iteration": iteration}
        how = {"metric": self.opt.best_by, "measured_with": self.measured_with}
        self._trainer.evaluated = {"epoch": counter.done_epochs, "best": held, **how}
        seconds = time.monotonic() - begun
        return Found(counter.done_epochs, metrics, numbers.images, seconds, is_best, self.measured_with)

    def _why_not(self, held: dict[str, Any]) -> str:
        """Why the best value so far is not compared with."""
        if held["metric"] != self.opt.best_by:
            return f"is of --best_by {held['metric']}"
        if held["measured_with"] != self.measured_with:
            return "was measured with another segmenter, protocol or weights, or on other layouts or photos"
        return "is of a checkpoint `best` that is gone, or of a part of the run that was gone back from"

    def _best(self) -> float | None:
        """The best value so far: of the same metric, measured alike, and of the checkpoint `best` that is there."""
        held = self._trainer.evaluated
        on_disk = broadcast(manifest.read_if_whole(self._trainer.folder, BEST).iteration)
        best = held.get("best")
        alike = (held.get("metric"), held.get("measured_with")) == (self.opt.best_by, self.measured_with)
        return best["value"] if best and alike and best["iteration"] == on_disk else None
