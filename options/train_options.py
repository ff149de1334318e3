"""Flags of train.py."""

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.base_dataset import MOST_REPLACEMENTS, ON_BAD_IMAGE
from evaluation.flags import (
    RELEASED,
    WITHOUT_PARTS,
    add_measuring_flags,
    add_validation_flags,
    check_validation,
    complete_measuring,
)
from evaluation.metrics import INCEPTION, METRICS, OF_SEGMENTER, SHARES
from options.base_options import NEVER_TAKEN, BaseOptions
from options.flags import add_switch, fraction, natural, nonnegative_float, parse_bool_or_auto, positive
from trainers.health import MOST_IN_A_ROW, ON_NAN
from util import launch, manifest
from util.checkpoint import WEIGHTS, checkpoints_in
from util.distributed import broadcast
from util.errors import UserError


class TrainOptions(BaseOptions):
    """Train a model. Defaults shown are those of the system, network and data set on this command line."""

    is_train = True
    prog = "train.py"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("display and saving while training")
        group.add_argument(
            "--display_freq", type=natural, default=100, help="images between pictures on the web page; 0: never"
        )
        group.add_argument("--print_freq", type=natural, default=100, help="images between lines of losses; 0: never")
        group.add_argument(
            "--save_latest_freq", type=natural, default=5000, help="images between saves of 'latest'; 0: never"
        )
        group.add_argument(
            "--save_epoch_freq", type=natural, default=10, help="epochs between saves that are kept; 0: the last alone"
        )
        group.add_argument(
            "--keep_checkpoints",
            type=positive,
            metavar="N",
            help="delete the oldest of the checkpoints that are kept, so that N are left beside latest (default: none)",
        )
        add_switch(group, "--tf_log", "write losses and pictures for TensorBoard into the run's logs folder")
        add_switch(group, "--no_html", "write no web page and no pictures")
        add_switch(
            group, "--debug", "one epoch of at most 10 batches; show and print every iteration, print the networks"
        )

        group = parser.add_argument_group("training")
        group.add_argument(
            "--continue_train",
            nargs="?",
            const=True,
            default=False,
            type=parse_bool_or_auto,
            metavar="true|false|auto",
            help="go on from --which_epoch: weights, optimisers and position; auto: if there is one, else start",
        )
        add_switch(group, "--overwrite", "start anew although --name holds a run, whose checkpoints are then replaced")
        group.add_argument("--which_epoch", default="latest", help="checkpoint to continue from: latest or an epoch")
        group.add_argument(
            "--pretrained_G", metavar="FILE", help="start from this generator, with a fresh discriminator"
        )
        group.add_argument("--niter", type=natural, default=50, help="epochs at the full learning rate")
        group.add_argument("--niter_decay", type=natural, default=0, help="epochs of linear decay after them")
        group.add_argument("--optimizer", default="adam", choices=["adam", "sgd"], help="sgd takes --beta1 as momentum")
        group.add_argument("--beta1", type=fraction, help="Adam's first beta (default: 0.0, with --no_TTUR 0.5)")
        group.add_argument(
            "--beta2",
            type=fraction,
            default=0.999,
            help="Adam's second beta, as in the paper; the released code used 0.9",
        )
        group.add_argument(
            "--accumulate",
            type=positive,
            default=1,
            metavar="N",
            help="micro-batches of --batchSize / N images whose gradients add up to one optimiser step, in the memory "
            "of one of them",
        )
        add_switch(
            group,
            "--grad_checkpoint",
            "less memory for more time: keep what goes into the generator's blocks alone, and compute the rest twice",
        )
        group.add_argument(
            "--ema_decay",
            type=fraction,
            default=0.0,
            help="keep a moving average of the generator too, for test.py --weights ema: the share of it that each "
            "generator step leaves, such as 0.999 for the last thousand steps; 0: none",
        )
        add_switch(
            group, "--no_TTUR", "one learning rate --lr for all networks, instead of lr / 2 for G and E and 2 lr for D"
        )
        group.add_argument(
            "--on_nan",
            default="stop",
            choices=ON_NAN,
            help="what a loss or gradient that is no finite number does: stop the run, or skip that step (and stop "
            f"after {MOST_IN_A_ROW} iterations in a row)",
        )
        group.add_argument(
            "--on_bad_image",
            default="error",
            choices=ON_BAD_IMAGE,
            help="what a file that cannot be used does: stop the run, or skip its item, for which another one is taken "
            f"(and stop after {MOST_REPLACEMENTS} in a row); skipped_files.txt in the run's folder lists them",
        )
        group.add_argument("--lr", type=nonnegative_float, default=0.0002, help="learning rate before TTUR's factors")

        group = parser.add_argument_group("evaluation while training")
        group.add_argument(
            "--eval_freq", type=natural, default=0, metavar="EPOCHS", help="epochs between evaluations; 0: none"
        )
        group.add_argument(
            "--eval_images", type=positive, default=500, help="validation layouts, the same each time, spread evenly"
        )
        group.add_argument(
            "--eval_weights", choices=WEIGHTS, help="the generator's (default: ema with --ema_decay, else plain)"
        )
        group.add_argument(
            "--best_by", choices=METRICS, help="what makes a checkpoint `best` (default: miou, or fid with --no_miou)"
        )
        self._measuring = parser.add_argument_group("what --eval_freq measures, as evaluate.py does")
        add_validation_flags(self._measuring)
        self._measuring.add_argument("--val_instance_dir", metavar="DIR", help="their instance maps (custom)")
        add_measuring_flags(self._measuring)

    def takes_saved_options(self, decided: Callable[[str], Any]) -> bool:
        return decided("load_from_opt_file")

    def filter_saved(self, saved: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in saved.items() if k not in NEVER_TAKEN}

    def changes(self, opt: Namespace) -> list[str]:
        """The flags whose values differ from those in the experiment's opt.json, as text."""
        saved = self.read_saved(opt.checkpoints_dir, opt.name) or {}
        return [
            f"--{name} {self._chosen[name]} (was {saved[name]})"
            for name in sorted(self._chosen)
            if name in saved and name not in NEVER_TAKEN and saved[name] != self._chosen[name]
        ]

    def _refuse_other_networks(self, opt: Namespace) -> None:
        """Weights can fit networks that use them otherwise: an upsampling more, another norm."""
        saved = self.read_saved(opt.checkpoints_dir, opt.name) or {}
        for name in sorted(self.structure):
            if name in saved and saved[name] != self._chosen[name]:
                self.parser.error(
                    f"--continue_train: the checkpoint is of --{name} {saved[name]}, not {self._chosen[name]}; go on "
                    "with its flags (--load_from_opt_file takes them all), or start a new --name with --pretrained_G"
                )

    def check_split(self, opt: Namespace, processes: int) -> None:
        """Refuse a batch that does not split evenly over processes and micro-batches.

        Raises:
            UserError: the message names sizes that would do.
        """
        images, parts = opt.batchSize, processes * opt.accumulate
        if images % parts == 0:
            return
        below = images // parts * parts
        sizes = " or ".join(str(size) for size in (below, below + parts) if size)
        over = [f"{processes} processes"] * (processes > 1) + [f"--accumulate {opt.accumulate}"] * (opt.accumulate > 1)
        counts = [n for n in range(1, images + 1) if images % (n * processes) == 0]
        instead = f", or --accumulate {', '.join(map(str, counts))}" if opt.accumulate > 1 and counts else ""
        raise UserError(
            f"--batchSize {images}, which is the whole batch, does not split evenly over {' x '.join(over)}; "
            f"--batchSize {sizes} would do{instead}"
        )

    def go_on_after_restart(self, opt: Namespace) -> None:
        """Let a run that torchrun has started again go on from what it has saved itself: where it began with
        --overwrite, or with --continue_train auto at another epoch, it is not to do so once more."""
        if launch.attempt() == 0 or not (opt.overwrite or opt.continue_train):
            return
        latest = manifest.read_if_whole(Path(opt.checkpoints_dir, opt.name), "latest")
        own = broadcast(latest.job == launch.job())
        if own and (opt.overwrite or opt.which_epoch != "latest"):
            print("note: torchrun started this run again, which goes on from its latest checkpoint", file=sys.stderr)
            opt.overwrite, opt.continue_train, opt.which_epoch = False, True, "latest"
            self._take_kept_classes(opt, self.typed)

    def _complete(self, opt: Namespace, typed: dict[str, Any]) -> None:
        super()._complete(opt, typed)
        if opt.beta1 is None:
            opt.beta1 = 0.5 if opt.no_TTUR else 0.0
        if opt.niter + opt.niter_decay < 1:
            self.parser.error(f"--niter {opt.niter} --niter_decay {opt.niter_decay}: epochs, at least one in all")
        try:
            self.check_split(opt, processes=1)
        except UserError as error:
            self.parser.error(str(error))
        if opt.pretrained_G and opt.continue_train is True:
            self.parser.error(
                "--pretrained_G starts a run and --continue_train goes on with one: give one of them, or "
                "--continue_train auto"
            )
        if opt.no_instance and "instance_dir" in typed:
            self.parser.error("--no_instance trains without instance maps, --instance_dir names some: give one of them")
        if opt.overwrite and opt.continue_train:
            self.parser.error("--overwrite starts anew and --continue_train goes on: give one of them")
        if opt.debug and opt.continue_train:
            self.parser.error(
                "--debug is one short epoch from the start and --continue_train goes on: give one of them"
            )
        if opt.continue_train == "auto":
            opt.continue_train = bool(checkpoints_in(Path(opt.checkpoints_dir, opt.name)))
        if opt.continue_train:
            self._refuse_other_networks(opt)
            self._take_kept_classes(opt, typed)
        self._complete_evaluation(opt, typed)
        if opt.debug:
            opt.display_freq = opt.print_freq = 1
            opt.niter, opt.niter_decay = 1, 0
            opt.max_dataset_size = min(opt.max_dataset_size or 10 * opt.batchSize, 10 * opt.batchSize)

    def _complete_evaluation(self, opt: Namespace, typed: dict[str, Any]) -> None:
        """Fill in and check what --eval_freq measures."""
        fail, own = self.parser.error, [action.dest for action in self._measuring._group_actions]
        if not opt.eval_freq:
            unused = [name for name in ("eval_images", "eval_weights", "best_by", *own) if name in typed]
            if unused and "eval_freq" not in typed:
                fail(f"--{unused[0]} is about evaluation while training, which --eval_freq N asks for")
            return
        try:
            complete_measuring(opt)
            check_validation(opt)
        except ValueError as error:
            fail(str(error))
        if opt.dataset_mode in WITHOUT_PARTS and not opt.val_label_dir and not opt.val_dataroot:
            flag = "--val_label_dir" if opt.dataset_mode == "custom" else "--val_dataroot, or --val_label_dir"
            fail(f"--eval_freq measures on layouts that are not trained on: give their folder as {flag}")
        if opt.val_label_dir and not opt.val_image_dir and not opt.no_fid:
            fail("--eval_freq compares with photos (FID): give --val_image_dir, or --no_fid")
        if opt.val_label_dir and opt.instance_dir and not opt.no_instance and not opt.val_instance_dir:
            fail("--eval_freq: with --instance_dir the generator reads instance maps: give --val_instance_dir too")
        opt.eval_weights = opt.eval_weights or ("ema" if opt.ema_decay else "plain")
        if opt.eval_weights == "ema" and not opt.ema_decay:
            fail("--eval_weights ema needs --ema_decay, which keeps the average")
        opt.best_by = opt.best_by or (INCEPTION[0] if opt.no_miou else SHARES[0])
        if opt.best_by in (*SHARES, *OF_SEGMENTER) and opt.no_miou:
            fail(f"--best_by {opt.best_by} is not measured (--no_miou)")
        if opt.best_by in INCEPTION and opt.no_fid:
            fail(f"--best_by {opt.best_by} is not measured (--no_fid)")
        if opt.best_by in OF_SEGMENTER and opt.segmenter in RELEASED.values():
            fail(f"--best_by {opt.best_by} is of segmenters of one's own: give a file of evaluate.py train-segmenter")
