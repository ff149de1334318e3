"""Train a model: python train.py --name NAME --dataset_mode MODE --dataroot FOLDER ... (--help lists every flag)."""

import sys
from argparse import Namespace
from pathlib import Path

from torch.utils.data import DataLoader

from data import create_dataloader, describe_ends
from data.skipped import SkippedFiles
from evaluation.while_training import BEST, Evaluations, NoEvaluations, create_evaluations
from options.train_options import TrainOptions
from trainers import create_trainer
from trainers.base_trainer import BaseTrainer
from trainers.run_folder import alone, refuse_to_overwrite
from util import launch
from util.checkpoint import checkpoints_in
from util.distributed import busy_with, pick_device, processes, rank, require_same, said_by_the_first
from util.errors import Interrupted, run_main
from util.interruption import ends_at_once
from util.iter_counter import IterationCounter
from util.provenance import resuming_command
from util.visualizer import create_visualizer


def main(argv: list[str] | None = None) -> None:
    """Train as the command line says, from the start or from a checkpoint.

    Raises:
        UserError: something the user can mend; the message says what.
        Interrupted: Ctrl-C or SIGTERM came, and all is saved; or another process is lost.
    """
    options = TrainOptions()
    with said_by_the_first():
        opt = options.parse(argv)
        options.check_split(opt, launch.size_of_run(opt.gpu_ids))
    with processes(opt.gpu_ids, opt.process_timeout), alone(opt):
        with ends_at_once():
            trainer, loader, counter = prepared(options, opt)
            evaluations = create_evaluations(options, opt, trainer)
        train(options, opt, trainer, loader, counter, evaluations)


def describe_held(opt: Namespace) -> str:
    """The checkpoints of --name, and whether the run goes on from them."""
    held = ", ".join(checkpoints_in(Path(opt.checkpoints_dir, opt.name))) or "none"
    return f"{held}{' (--continue_train)' if opt.continue_train else ''}"


def prepared(options: TrainOptions, opt: Namespace) -> tuple[BaseTrainer, DataLoader, IterationCounter]:
    """All that a run needs, at the place where it begins or goes on; in each process of the run."""
    pick_device(opt.gpu_ids)  # before anything that takes time
    options.go_on_after_restart(opt)
    require_same(lambda: describe_held(opt), "what --name holds (checkpoints)")
    refuse_to_overwrite(opt)
    options.read_classes(opt)
    loader = create_dataloader(opt)
    require_same(lambda: describe_ends(loader.dataset), "the data set")
    trainer = create_trainer(opt)
    counter = IterationCounter(opt, len(loader.dataset))
    if opt.continue_train:
        for change in options.changes(opt):
            print(f"note: this differs from the checkpoint's options: {change}", file=sys.stderr)
        counter.load_state_dict(trainer.resume() or counter.state_dict())
        if counter.done_images >= counter.total_images:
            print(
                f"note: nothing is left to do, since the checkpoint stands after epoch {counter.epoch - 1} of --niter "
                f"{opt.niter} + --niter_decay {opt.niter_decay}; raise one of them to train longer",
                file=sys.stderr,
            )
    elif opt.pretrained_G:
        trainer.load_pretrained(opt.pretrained_G)
    if not trainer.has_checkpoints() and rank() == 0:
        options.save(opt)
    print(options.describe(opt))
    print(f"data set [{type(loader.dataset).__name__}] of size {len(loader.dataset)}, {loader.num_workers} workers")
    print(trainer.describe_networks())
    return trainer, loader, counter


def train(
    options: TrainOptions,
    opt: Namespace,
    trainer: BaseTrainer,
    loader: DataLoader,
    counter: IterationCounter,
    evaluations: Evaluations | NoEvaluations,
) -> None:
    """The loop, in each process of the run."""
    visualizer = create_visualizer(opt, counter)
    skipped = SkippedFiles(opt, trainer.folder, visualizer.note)

    def save(which: str) -> None:
        skipped.write()
        trainer.save(which, counter.state_dict(), options.files(opt))  # opt.json describes the weights beside it
        epoch, images = counter.place
        visualizer.note(f"saved {which} (epoch {epoch}, {images} images into it)")

    def ends_kept_epoch() -> bool:
        return counter.epoch_is_done and (counter.epoch == counter.last_epoch or counter.due_epoch(opt.save_epoch_freq))

    def evaluate() -> bool:
        """Whether it came to its end: where a process is asked to stop, the run measures when it goes on."""
        found = evaluations.measure(counter)
        if found is None:
            return False
        visualizer.show_metrics(found.epoch, found.images, found.metrics, found.measured_with)
        visualizer.note(found.describe())
        save(BEST if found.is_best else "latest")  # which know what was found
        return True

    with trainer.interruption, skipped:
        if evaluations.due(counter) and not evaluate():  # as when the run was stopped after this epoch
            raise Interrupted(f"nothing has changed, and this goes on from here:\n  {resuming_command()}")
        for epoch in counter.epochs():
            trainer.set_learning_rate(epoch)
            for batch in skipped.taken_from(counter.batches(loader), epoch):
                losses = trainer.step(batch)
                visualizer.advance()
                if counter.due(opt.print_freq):
                    visualizer.print_losses(losses)
                if counter.due(opt.display_freq) and visualizer.shows:
                    visualizer.show(*trainer.visuals(batch))
                if trainer.should_stop():  # all is saved below
                    break
                if counter.due(opt.save_latest_freq) and not ends_kept_epoch():
                    save("latest")
                busy_with(f"reading the batch of iteration {trainer.iteration + 1}")
            skipped.list_epoch()
            stops, measures = trainer.should_stop(), evaluations.due(counter)
            if ends_kept_epoch():
                save(str(epoch))
            elif stops or measures:  # which may fail
                save("latest")
            stops = stops or (measures and not evaluate())
            if stops and (counter.done_images < counter.total_images or evaluations.due(counter)):
                raise Interrupted(f"everything is saved, and this goes on from here:\n  {resuming_command()}")

    visualizer.close()
    print("Training was successfully finished.")


if __name__ == "__main__":
    run_main(main)
