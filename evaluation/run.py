"""What evaluate.py does, in each process of a run: one pass over the images, then the numbers."""

import json
import math
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.confusion import MIOU_RULES, Scores
from evaluation.evaluator import Numbers
from evaluation.measurement import Make, Measurement
from evaluation.pairs import photos_to_uint8
from evaluation.protocol import PROTOCOLS
from evaluation.references import OF_LAYOUTS, OF_TRAINING
from evaluation.report import Example, chosen, write_report
from evaluation.segmenters.kind import Kind
from models import load_model
from models.base_model import BaseModel
from models.recalibration import recalibrate_as_asked
from models.styles import Styles
from util.checkpoint import require_checkpoint
from util.class_table import ClassTable
from util.distributed import rank
from util.errors import UserError
from util.files import write_atomically
from util.images import to_uint8
from util.precision import autocast
from util.provenance import command, provenance

FEW = 2048  # images: with fewer, covariances of 2048 features are singular, and distances far too large


def evaluate(opt: Namespace) -> None:
    """Measure, print, and write metrics.json and the page.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    if opt.synthesized is None:
        require_checkpoint(Path(opt.checkpoints_dir, opt.name), opt.which_epoch, opt.weights)
    measurement = Measurement(opt)
    make = _generator(opt, measurement) if opt.synthesized is None else None
    numbers = measurement.measure(make)
    if rank() > 0:
        return
    for note in measurement.notes:
        print(f"note: {note}", file=sys.stderr)
    print_numbers(opt, numbers, measurement)
    folder = _write(opt, numbers, measurement)
    page = _write_page(opt, numbers, measurement, make, folder)
    print(f"the page is {page}")
    if opt.at_least:
        _require_share(numbers, opt.at_least)


def _generator(opt: Namespace, measurement: Measurement) -> Make:
    model = load_model(opt, measurement.device)
    with autocast(opt.amp, measurement.device):
        recalibrate_as_asked(opt, model, measurement.pairs.dataset)
    return images_of(model, opt)


def images_of(model: BaseModel, opt: Namespace) -> Make:
    """How a model in evaluation mode makes images of batches: as test.py does."""
    styles, device = Styles(opt, model), next(model.parameters()).device

    def make(batch: dict[str, Any], place: int) -> Tensor:
        model.set_noise(opt.seed, first=place)
        with autocast(opt.amp, device), model.one_batch():
            ((_, z),) = styles.of(batch)
            pixels = to_uint8(model.generate(batch, z))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)

    return make


def _require_share(numbers: Numbers, at_least: float) -> None:
    """--at_least."""
    images, photos = numbers.accuracies.pixel_accuracy, numbers.accuracies_of_photos.pixel_accuracy
    if not images >= at_least * photos:
        raise UserError(
            f"pixel accuracy {100 * images:.2f} is less than --at_least {at_least:g} of the photos' {100 * photos:.2f}"
        )


# ------------------------------------------------------------------------------------------------------------- printed


def print_numbers(opt: Namespace, numbers: Numbers, measurement: Measurement) -> None:
    """All numbers, with what they depend on."""
    protocol, segmenter = PROTOCOLS[opt.protocol], measurement.segmenter
    print(f"protocol {opt.protocol}: {protocol.about}")
    if segmenter is not None:
        kind = segmenter.kind
        print(f"  {protocol.text}")
        _print_scores(f"{numbers.images} synthesised images", numbers.accuracies, kind)
        if numbers.accuracies_of_photos is not None:
            _print_scores("their photos", numbers.accuracies_of_photos, kind)
        if numbers.accuracies_of_others is not None:
            _print_scores("the images against layouts of others", numbers.accuracies_of_others, kind)
        if measurement.trained is not None and measurement.trained.photos:
            print(f"  this segmenter reads {measurement.trained.describe_photos()}")
        print(class_list(kind, numbers.accuracies))
    if numbers.fid is not None:
        print(f"FID {numbers.fid:.2f}, KID x 1000 {1000 * numbers.kid:.3f}")
        print(f"  {_compared(opt, numbers)}, resized as {opt.resizing} does")
    if numbers.segmenter_frechet is not None:
        values = f"Frechet {numbers.segmenter_frechet:.4g}, kernel {numbers.segmenter_kernel:.4g}"
        print(f"distances in the segmenter's features, which are no FID and no KID: {values}")
        print(f"  {_compared(opt, numbers)}, at their own size")
    if numbers.references is not None and min(numbers.images, numbers.references) < FEW:
        print(f"  with fewer than {FEW} images Frechet distances (FID) are far too large; compare equal numbers alone")


def _compared(opt: Namespace, numbers: Numbers) -> str:
    whose = {OF_LAYOUTS: "of their layouts", OF_TRAINING: "of the training set"}.get(opt.reference, opt.reference)
    return f"{numbers.images} images against {numbers.references} photos {whose}"


def _print_scores(what: str, scores: Scores, kind: Kind) -> None:
    shares = (scores.pixel_accuracy, scores.pixel_accuracy_all, scores.mean_accuracy)
    known, of_all, of_classes = (f"{100 * share:.2f}" for share in shares)
    print(f"{what}, read by {kind.title} ({len(kind.ids)} classes):")
    print(f"  mIoU {100 * scores.miou:.2f}, {MIOU_RULES[scores.rule]}")
    print(f"  pixel accuracy {known} of labelled pixels; {of_all} of all, where unlabelled ones count as wrong")
    print(f"  mean class accuracy {of_classes}")


def class_list(kind: Kind, scores: Scores, columns: int = 3) -> str:
    """The IoU of each class that occurs, the highest first, in percent."""
    order = sorted((i for i, iou in enumerate(scores.iou) if not math.isnan(iou)), key=lambda i: -scores.iou[i])
    cells = [f"{100 * scores.iou[i]:5.1f} {kind.names[i].split(';')[0][:24]:24}" for i in order]
    rows = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    return "\n".join(["  IoU of each class that occurs:", *("  " + "".join(row).rstrip() for row in rows)])


# ------------------------------------------------------------------------------------------------------------- written


def _write(opt: Namespace, numbers: Numbers, measurement: Measurement) -> Path:
    """Write the numbers; returns the folder."""
    averaged = "_ema" if opt.weights == "ema" else ""
    folder = Path(opt.results_dir, opt.name, f"evaluation_{opt.phase}_{opt.which_epoch}{averaged}")
    kept = {"name": opt.name, "data_set": opt.published, "phase": opt.phase, "epoch": opt.which_epoch}
    kept |= {"protocol": opt.protocol, "segmenter": measurement.segmenter_name, "resizing": opt.resizing}
    kept |= {"reference": opt.reference, "subset": opt.subset, "weights": opt.weights, "synthesized": opt.synthesized}
    kept |= {"layouts": measurement.layouts, "photos": measurement.photos}
    kept["classes"] = measurement.segmenter.kind.names if measurement.segmenter else None
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


def _write_page(opt: Namespace, numbers: Numbers, measurement: Measurement, make: Make | None, folder: Path) -> Path:
    kind = measurement.segmenter.kind if measurement.segmenter else None
    examples = [] if kind is None else _examples(measurement, make, numbers)
    title = f"{opt.name}: evaluation, {opt.phase}, epoch {opt.which_epoch}"
    about = [f"protocol {opt.protocol}: {PROTOCOLS[opt.protocol].about}"]
    if measurement.trained is not None and measurement.trained.photos:
        about.append(f"read by {kind.title}: {measurement.trained.describe_photos()}")
    about.append(command())
    return write_report(folder, title, about, numbers, kind, opt.published, examples, opt.display_winsize)


def _examples(measurement: Measurement, make: Make | None, numbers: Numbers) -> list[Example]:
    """The images of the lowest and the highest pixel accuracy."""
    kind, examples, stems = measurement.segmenter.kind, [], measurement.pairs.stems()
    colours = ClassTable.load(kind.class_table)
    for place in chosen(numbers.by_place):
        batch, images, seen = measurement.look(place, make)
        pictures = {
            "layout": colours.colorize(batch["truth"][0].cpu().numpy()),
            "synthesised": images[0].permute(1, 2, 0).cpu().numpy(),
            "read": colours.colorize(np.asarray(kind.ids)[seen[0].cpu().numpy()]),
        }
        if "image" in batch:
            pictures["real"] = photos_to_uint8(batch["image"])[0].permute(1, 2, 0).cpu().numpy()
        examples.append(Example(stems[place], numbers.by_place[place], pictures))
    return examples
