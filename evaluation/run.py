"""What evaluate.py does, in each process of a run: one pass over the images, then the numbers."""

import json
import math
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from data import create_dataloader, create_dataset
from data.pix2pix_dataset import Pix2pixDataset
from evaluation import inception
from evaluation.confusion import MIOU_RULES, Scores
from evaluation.evaluator import Evaluator, Features, Numbers, Segmenter
from evaluation.pairs import Pairs, photos_to_uint8
from evaluation.protocol import AT_LABEL, PROTOCOLS
from evaluation.references import OF_LAYOUTS, OF_TRAINING, features_of, reference_photos
from evaluation.report import Example, chosen, write_report
from evaluation.segmenters import SEGMENTERS, Kind, read
from evaluation.weights import load_released
from models import create_model
from models.styles import Styles
from util.checkpoint import load_networks, require_checkpoint
from util.class_table import ClassTable
from util.distributed import busy_with, pick_device, rank, to_device
from util.errors import UserError
from util.files import write_atomically
from util.images import to_uint8
from util.paths import unique_stems
from util.precision import autocast, check_amp
from util.provenance import command, provenance

FEW = 2048  # images: with fewer, covariances of 2048 features are singular, and distances far too large

Make = Callable[[dict[str, Any], int], Tensor]  # a batch and the place of its first item to images, uint8 [N, 3, H, W]


def evaluate(opt: Namespace) -> None:
    """Measure, print, and write metrics.json.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    device = pick_device(opt.gpu_ids)
    check_amp(opt.amp, device)
    dataset = create_dataset(opt)
    if not isinstance(dataset, Pix2pixDataset):
        raise UserError(f"--dataset_mode {opt.dataset_mode} has no label maps to compare with")
    count = len(dataset) if opt.how_many is None else min(len(dataset), opt.how_many)
    if count < 2 and not opt.no_fid:
        raise UserError("FID compares two images at least, and there is one; --no_fid leaves it out")
    if opt.real and not dataset.paths.images:
        raise UserError("--real: the layouts have no photos (--image_dir); drop it")
    photos = None if opt.no_fid else reference_photos(opt, dataset, count)
    at_label = PROTOCOLS[opt.protocol].compared_at == AT_LABEL
    pairs = Pairs(dataset, opt.synthesized, count, at_label)
    make = _generator(opt, device) if opt.synthesized is None else None
    segmenter = None if opt.no_miou else _segmenter(opt, device)
    features = references = None
    if photos is not None:
        features = Features(_inception(opt, device), opt.resizing)
        references = features_of(photos, features.net, opt)
    evaluator = Evaluator(segmenter, features, references, opt.real, device)
    _pass(opt, pairs, device, make, evaluator)
    numbers = evaluator.finish()
    if rank() == 0:
        _print(opt, numbers, segmenter)
        folder = _write(opt, numbers)
        examples = [] if segmenter is None else _examples(pairs, make, device, segmenter, numbers)
        title = f"{opt.name}: evaluation, {opt.phase}, epoch {opt.which_epoch}"
        about = [f"protocol {opt.protocol}: {PROTOCOLS[opt.protocol].about}", command()]
        kind = segmenter.kind if segmenter else None
        page = write_report(folder, title, about, numbers, kind, opt.dataset_mode, examples, opt.display_winsize)
        print(f"the page is {page}")


def _generator(opt: Namespace, device: torch.device) -> Make:
    folder = Path(opt.checkpoints_dir, opt.name)
    require_checkpoint(folder, opt.which_epoch, opt.weights)
    model = create_model(opt)
    load_networks(model, folder, opt.which_epoch, opt.weights)
    model.to(device).eval()
    styles = Styles(opt, model)

    def make(batch: dict[str, Any], place: int) -> Tensor:
        model.set_noise(opt.seed, first=place)
        with autocast(opt.amp, device), model.one_batch():
            ((_, z),) = styles.of(batch)
            pixels = to_uint8(model.generate(batch, z))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)

    return make


def _segmenter(opt: Namespace, device: torch.device) -> Segmenter:
    kind = SEGMENTERS[opt.segmenter]
    net = kind.network().eval()
    load_released(net, kind.files, opt.segmenter_weights, "--segmenter_weights")
    return Segmenter(kind, net.to(device, memory_format=torch.channels_last))  # which convolutions work faster with


def _inception(opt: Namespace, device: torch.device) -> inception.FIDInception:
    net = inception.FIDInception().eval()
    paths = [opt.inception_weights] if opt.inception_weights else []
    load_released(net, inception.FILES, paths, "--inception_weights")
    return net.to(device, memory_format=torch.channels_last)


def _pass(opt: Namespace, pairs: Pairs, device: torch.device, make: Make | None, evaluator: Evaluator) -> None:
    loader = create_dataloader(opt, pairs)
    places, done = loader.batch_sampler.own_places().tolist(), 0
    busy_with("evaluating")
    with tqdm(total=len(places), unit="img", disable=None if rank() == 0 else True) as bar:
        for batch in loader:
            batch = to_device(batch, device)
            own = places[done : done + len(batch["path"])]
            images = batch["synthesized"] if make is None else make(batch, own[0])
            photos = photos_to_uint8(batch["image"]) if evaluator.needs_photos else None
            evaluator.add(own, images, batch["truth"], photos)
            done += len(own)
            bar.update(len(own))


def _examples(
    pairs: Pairs, make: Make | None, device: torch.device, segmenter: Segmenter, numbers: Numbers
) -> list[Example]:
    """The images of the lowest and the highest pixel accuracy."""
    kind, examples, stem_of = segmenter.kind, [], unique_stems()
    colours = ClassTable.load(kind.class_table)
    places = chosen(numbers.by_place)
    stems = [stem_of(pairs.path(place)) for place in range(max(places, default=-1) + 1)]
    for place in places:
        batch = to_device(default_collate([pairs[place]]), device)
        images = batch["synthesized"] if make is None else make(batch, place)
        size = tuple(batch["truth"].shape[-2:])
        seen = read(kind, segmenter.net, images, size)[0].cpu().numpy()
        pictures = {
            "layout": colours.colorize(batch["truth"][0].cpu().numpy()),
            "synthesised": images[0].permute(1, 2, 0).cpu().numpy(),
            "read": colours.colorize(np.asarray(kind.ids)[seen]),
        }
        if "image" in batch:
            pictures["real"] = photos_to_uint8(batch["image"])[0].permute(1, 2, 0).cpu().numpy()
        examples.append(Example(stems[place], numbers.by_place[place], pictures))
    return examples


def _print(opt: Namespace, numbers: Numbers, segmenter: Segmenter | None) -> None:
    protocol = PROTOCOLS[opt.protocol]
    print(f"protocol {opt.protocol}: {protocol.about}")
    if segmenter is not None:
        print(f"  {protocol.text}")
        _print_scores(f"{numbers.images} synthesised images", numbers.accuracies, segmenter.kind)
    if numbers.accuracies_of_photos is not None:
        _print_scores("their photos", numbers.accuracies_of_photos, segmenter.kind)
    if numbers.fid is not None:
        print(f"FID {numbers.fid:.2f}, KID x 1000 {1000 * numbers.kid:.3f}")
        whose = {OF_LAYOUTS: "of their layouts", OF_TRAINING: "of the training set"}.get(opt.reference, opt.reference)
        print(f"  {numbers.images} images against {numbers.references} photos {whose}, resized as {opt.resizing} does")
        if min(numbers.images, numbers.references) < FEW:
            print(f"  with fewer than {FEW} images FID is far too large; compare it between equal numbers alone")


def _print_scores(what: str, scores: Scores, kind: Kind) -> None:
    shares = (scores.pixel_accuracy, scores.pixel_accuracy_all, scores.mean_accuracy)
    known, of_all, of_classes = (f"{100 * share:.2f}" for share in shares)
    print(f"{what}, read by {kind.title} ({len(kind.ids)} classes):")
    print(f"  mIoU {100 * scores.miou:.2f}, {MIOU_RULES[scores.rule]}")
    print(f"  pixel accuracy {known} of labelled pixels; {of_all} of all, where unlabelled ones count as wrong")
    print(f"  mean class accuracy {of_classes}")


def _write(opt: Namespace, numbers: Numbers) -> Path:
    """Write the numbers; returns the folder."""
    folder = Path(opt.results_dir, opt.name, f"evaluation_{opt.phase}_{opt.which_epoch}")
    kept = {"protocol": opt.protocol, "segmenter": None if opt.no_miou else opt.segmenter, "resizing": opt.resizing}
    kept["reference"] = opt.reference
    kept |= {k: v for k, v in asdict(numbers).items() if k not in ("by_place", "matrix")}
    kept["provenance"] = provenance()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "metrics.json", (json.dumps(_plain(kept), indent=1) + "\n").encode())
    print(f"the numbers, with each class's IoU: {folder / 'metrics.json'}")
    return folder


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
