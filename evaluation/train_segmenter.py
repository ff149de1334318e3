"""A segmenter for a data set that has no released one: evaluate.py train-segmenter.

    python evaluate.py train-segmenter --out facades.pth --dataset_mode custom --label_nc 9 --ignore_ids 0 \\
        --label_dir train_label --image_dir train_img --val_label_dir val_label --val_image_dir val_img

It sees real photos alone, those of the training set, as training would crop and mirror them. What it then reads of
photos it never saw is what images as good as photos would get, and is kept in its file.
"""

import argparse
import math
import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from data import create_dataloader, create_dataset
from data.pix2pix_dataset import Pix2pixDataset
from evaluation.confusion import UNKNOWN
from evaluation.evaluator import Evaluator, Numbers, Segmenter
from evaluation.flags import RELEASED, WITHOUT_PARTS, add_validation_flags, check_validation, data_set_of
from evaluation.pairs import Part, photos_to_uint8
from evaluation.run import class_list
from evaluation.segmenters import SEGMENTERS, trained
from evaluation.segmenters.trained import Trained
from options.base_options import BaseOptions
from options.flags import add_switch, natural, nonnegative_float, positive
from util import launch
from util.class_table import ClassTable
from util.distributed import pick_device, to_device
from util.errors import Interrupted, UserError
from util.files import digest
from util.interruption import Interruption, ends_at_once
from util.provenance import provenance
from util.seeding import seed_everything

# Flags that all scripts have, and that are about the generator, its checkpoints and pages.
OF_GENERATORS = (
    *("name", "checkpoints_dir", "load_from_opt_file", "init_type", "init_variance", "spade_impl", "amp", "compile"),
    *("phase", "process_timeout", "display_winsize"),
)
CLASSES = ("label_nc", "contain_dontcare_label")  # of what makes a generator's networks, what a segmenter's does too
# What decides what it learns, beside its network, its data and its epochs.
HOW = (
    *("lr", "seed", "batchSize", "preprocess_mode", "load_size", "crop_size", "crop_height", "aspect_ratio", "no_flip"),
    "backbone_weights",
)
HELD_OUT = 10  # of a training set without validation pairs, each such pair is kept for measuring
WARM_UP = 0.05  # of all steps
WEIGHT_DECAY = 1e-2


class SegmenterOptions(BaseOptions):
    """Train a segmenter on the photos and label maps of a training set, named by the flags of train.py."""

    is_train = True
    prog = "evaluate.py train-segmenter"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("segmenter")
        group.add_argument(
            "--out", metavar="FILE", help="where to write it, after each epoch; a part of one is gone on with"
        )
        add_switch(group, "--overwrite", "start anew although --out is there")
        group.add_argument(
            "--network", default=trained.DEFAULT, choices=list(trained.NETWORKS), help="torchvision's name of it"
        )
        group.add_argument(
            "--backbone_weights",
            metavar="FILE",
            help="torchvision's weights of its trunk to begin with (default: none)",
        )
        group.add_argument("--epochs", type=positive, default=30, help="passes over the training pairs")
        group.add_argument("--lr", type=nonnegative_float, default=0.002, help="highest learning rate of AdamW")
        group.add_argument(
            "--ignore_ids", type=natural, nargs="+", default=[], metavar="ID", help="label ids that mean unlabelled"
        )
        add_validation_flags(group)
        parser.set_defaults(batchSize=8)

    def _build_parser(self) -> argparse.ArgumentParser:
        parser = super()._build_parser()
        self.without_effect = (self.structure - set(CLASSES)) | set(OF_GENERATORS)
        for action in parser._actions:
            if action.dest in self.without_effect:
                action.help = argparse.SUPPRESS
        return parser

    def trainers(self) -> list[type]:
        return []

    def complete_model(self, opt: Namespace) -> None:
        opt.size_multiple, opt.layout_size = 1, None

    def takes_saved_options(self, decided: Any) -> bool:
        return False

    def filter_saved(self, saved: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _complete(self, opt: Namespace, typed: dict[str, Any]) -> None:
        super()._complete(opt, typed)
        fail = self.parser.error
        opt.on_bad_image, opt.accumulate, opt.no_instance = "error", 1, True  # which it does not look at
        if not opt.out:
            fail("--out FILE is needed: where to write the segmenter")
        unused = [name for name in typed if name in self.without_effect]
        if unused:
            fail(f"--{unused[0]} is about the generator, which a segmenter has nothing to do with; leave it out")
        if launch.world_size() > 1:
            fail("a segmenter is trained by one process: start it without torchrun")
        path = Path(opt.out)
        if path.is_dir():
            fail(f"--out {path} is a folder; give the name of a file, such as {path / 'segmenter.pth'}")
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            fail(f"--out {path}: {nearest} is no folder that can be written to")
        if opt.batchSize < 2:
            fail("--batchSize 1: the networks normalise over batches, which takes two images at least")
        if len(opt.gpu_ids) > 1:
            fail(
                f"--gpu_ids {','.join(map(str, opt.gpu_ids))}: a segmenter is trained on one device; give one id, or -1"
            )
        if bool(opt.val_label_dir) != bool(opt.val_image_dir):
            fail("--val_label_dir and --val_image_dir belong together: give both or neither")
        try:
            check_validation(opt)
        except ValueError as error:
            fail(str(error))
        ids = class_ids(opt)
        beyond = [i for i in opt.ignore_ids if i not in ids]
        if beyond:
            fail(f"--ignore_ids {beyond[0]}: the classes have ids {min(ids)} .. {max(ids)}")
        if len(set(ids) - set(opt.ignore_ids)) < 2:
            fail("--ignore_ids leaves less than two of the classes, and a segmenter tells two apart")


def class_ids(opt: Namespace) -> Sequence[int]:
    """Label ids of the data set's classes: those that its released segmenter tells apart, else all."""
    mode = data_set_of(opt)
    return SEGMENTERS[RELEASED[mode]].ids if mode in RELEASED else range(opt.label_nc)


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Of 0-based `step` of `steps`: up in a straight line, then down to 0 along half a cosine."""
    begin = max(1, round(WARM_UP * steps))
    if step < begin:
        return highest * (step + 1) / begin
    return highest * (1 + math.cos(math.pi * (step - begin) / max(1, steps - begin))) / 2


def parts_of(opt: Namespace) -> tuple[Part, Part, str]:
    """What it is trained on, what it is measured on, and the latter in words.

    Raises:
        UserError: files are missing or do not pair up.
    """
    training, seen = create_dataset(opt), {**vars(opt), "how_many": None}
    if not isinstance(training, Pix2pixDataset):
        raise UserError(f"--dataset_mode {opt.dataset_mode} has no label maps to train on")
    # As test.py sees them: whole, not mirrored.
    seen |= {"isTrain": False, "no_flip": True, "serial_batches": True, "load_size": opt.crop_size}
    if opt.dataset_mode in WITHOUT_PARTS and not opt.val_label_dir and not opt.val_dataroot:
        measured = range(HELD_OUT - 1, len(training), HELD_OUT)
        if not measured:
            raise UserError(f"{len(training)} pairs are too few to keep some for measuring: give --val_label_dir too")
        which = f"each {HELD_OUT}th of the training set, which it was not trained on"
        others = [place for place in range(len(training)) if place not in measured]
        return Part(training, others), Part(create_dataset(Namespace(**seen)), measured), which
    seen |= {"phase": "test", "max_dataset_size": None, "dataroot": opt.val_dataroot or opt.dataroot}
    which = "--val_dataroot" if opt.val_dataroot else "the validation set"
    if opt.val_label_dir:
        seen |= {"label_dir": opt.val_label_dir, "image_dir": opt.val_image_dir, "instance_dir": None}
        which = "--val_image_dir"
    dataset = create_dataset(Namespace(**seen))
    if not dataset.has_photos:
        raise UserError("the validation set has no photos, which a segmenter is measured on")
    return Part(training, range(len(training))), Part(dataset, range(len(dataset))), which


def segmenter_names(opt: Namespace, ids: Sequence[int]) -> list[str] | None:
    """The names of classes, where there is a class table."""
    return [ClassTable.load(opt.class_table).name(i) for i in ids] if opt.class_table else None


def new_segmenter(opt: Namespace, photos: int, version: str = "") -> Trained:
    """One that has learned nothing yet; `version` tells the training pairs from others."""
    ids = [i for i in class_ids(opt) if i not in opt.ignore_ids]
    seed_everything(opt.seed)
    net = trained.build(opt.network, len(ids))
    if opt.backbone_weights:
        trained.load_trunk(net, Path(opt.backbone_weights))
    return Trained(
        network=opt.network,
        label_nc=opt.label_nc,
        ids=ids,
        state=net.state_dict(),
        epochs=0,
        of_epochs=opt.epochs,
        trained_on=f"{photos} photos",
        how={name: getattr(opt, name) for name in HOW} | {"photos": version},
        names=segmenter_names(opt, ids),
        resume={},
        provenance=provenance(),
    )


def begin_or_go_on(opt: Namespace, part: Part) -> Trained:
    """What --out holds of this training, or a new one.

    Raises:
        UserError: --out is finished, or of another training.
    """
    version = digest([part.dataset.label_version(place) for place in part.places])
    path, new = Path(opt.out), new_segmenter(opt, len(part), version)
    if not path.exists() or opt.overwrite:
        return new
    there = trained.read(path)
    if there.is_finished:
        raise UserError(f"--out {path} holds a segmenter that is finished; --overwrite trains it anew")
    for name in ("network", "label_nc", "ids", "of_epochs", "trained_on", "how"):
        was, now = getattr(there, name), getattr(new, name)
        if was != now:
            if name == "how":
                name = next(key for key in now if was.get(key) != now[key])
                was, now = was.get(name), now[name]
            raise UserError(
                f"--out {path} holds a part of another training ({name} {was}, not {now}); --overwrite starts anew"
            )
    print(f"going on after epoch {there.epochs} of {there.of_epochs}")
    return there


def _where_it_stands(opt: Namespace, epoch: int) -> str:
    """What is left when training stops after so many epochs."""
    if not epoch:
        return "nothing was saved in the first epoch; the same command starts again"
    without = " without --overwrite" if opt.overwrite else ""
    return f"{opt.out} stands after epoch {epoch}; the same command{without} goes on from there"


def mean_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy of logits [N, K, H, W] with classes [N, H, W], the mean over labelled pixels; 0 without any."""
    total = F.cross_entropy(logits, classes, ignore_index=UNKNOWN, reduction="sum")
    return total / (classes != UNKNOWN).sum().clamp(min=1)


def train(
    opt: Namespace, segmenter: Trained, part: Part, device: torch.device, interruption: Interruption
) -> nn.Module:
    """Train to the end, writing after each epoch all that going on takes; returns the network in evaluation mode.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came, and all is saved but the epoch that had begun.
    """
    net, path = segmenter.net().train(), Path(opt.out)
    net.to(device, memory_format=torch.channels_last)  # the faster order for convolutions
    kind = segmenter.kind(None)
    optimizer = torch.optim.AdamW(net.parameters(), lr=opt.lr, weight_decay=WEIGHT_DECAY)
    if segmenter.resume:
        optimizer.load_state_dict(segmenter.resume)
    loader = create_dataloader(opt, part)
    steps = len(loader.batch_sampler)
    for epoch in range(segmenter.epochs, opt.epochs):
        loader.batch_sampler.set_position(epoch + 1, 0)
        total = torch.zeros((), device=device)
        for place, batch in enumerate(tqdm(loader, f"epoch {epoch + 1}/{opt.epochs}", leave=False, disable=None)):
            if interruption.asked:
                raise Interrupted(_where_it_stands(opt, epoch))
            step = epoch * steps + place
            seed_everything(opt.seed, step)  # of dropout
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, opt.epochs * steps, opt.lr)
            batch = to_device(batch, device)
            images = trained.prepared(photos_to_uint8(batch["image"])).contiguous(memory_format=torch.channels_last)
            loss = mean_loss(net(images)["out"], kind.class_of(batch["label"][:, 0]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        if not torch.isfinite(total):
            raise UserError(
                f"the loss of epoch {epoch + 1} is no finite number, and {path} is as it was; a lower --lr than "
                f"{opt.lr} may help"
            )
        segmenter.epochs, segmenter.state, segmenter.resume = epoch + 1, net.state_dict(), optimizer.state_dict()
        trained.save(segmenter, path)
        print(f"epoch {epoch + 1} of {opt.epochs}: loss {total.item() / steps:.4f}", flush=True)
    return net.eval()


@torch.no_grad()
def measure(
    opt: Namespace, segmenter: Trained, net: nn.Module, part: Part, device: torch.device, interruption: Interruption
) -> Numbers:
    """What it reads in photos, as evaluate.py --real counts it.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came.
    """
    evaluator = Evaluator(Segmenter(segmenter.kind(None), net), device=device)
    tested = Namespace(**{**vars(opt), "isTrain": False, "serial_batches": True, "how_many": None})
    loader, done = create_dataloader(tested, part), 0
    for batch in tqdm(loader, "photos", leave=False, disable=None):
        if interruption.asked:
            raise Interrupted(_where_it_stands(opt, opt.epochs))
        batch = to_device(batch, device)
        places = list(range(done, done + len(batch["path"])))
        evaluator.add(places, photos_to_uint8(batch["image"]), batch["label"][:, 0].long())
        done += len(places)
    return evaluator.finish()


def main(argv: list[str] | None = None) -> None:
    """Train, measure on photos it never saw, and write the file.

    Raises:
        UserError: something the user can mend; the message says what.
        Interrupted: Ctrl-C or SIGTERM came.
    """
    opt = SegmenterOptions().parse(argv)
    device = pick_device(opt.gpu_ids)
    with ends_at_once():
        part, held_out, which = parts_of(opt)
        segmenter = begin_or_go_on(opt, part)
    kind, counts = segmenter.kind(opt.class_table), f"{len(part)} photos to train on, {len(held_out)} to measure on"
    print(f"{opt.network} with {len(kind.ids)} classes, {counts}", flush=True)
    with Interruption("the epoch that has begun is left out") as interruption:
        net = train(opt, segmenter, part, device, interruption)
        numbers = measure(opt, segmenter, net, held_out, device, interruption)
    segmenter.photos = trained.of_photos(numbers.accuracies, numbers.images, which)
    segmenter.resume = None
    trained.save(segmenter, Path(opt.out))
    print(f"real photos: {segmenter.describe_photos()}")
    print(class_list(kind, numbers.accuracies))
    print(f"{opt.out} is what --segmenter of evaluate.py and of train.py takes")
