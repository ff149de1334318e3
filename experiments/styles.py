"""What a model with a VAE takes over from the photo whose style it is given, class by class.

    python -m experiments styles --data DIR --out DIR [--scale cpu] --runs spade-vae

Synthesises some validation layouts in the style of each validation photo, with averaged weights. The layouts are always
the same, so that only the style can tell of the photo. For each class that covers a hundredth of a photo, its mean
colour there is compared with its mean colour in the images of that photo's style, in brightness (the mean of red, green
and blue) and warmth (red - blue). Prints the correlation over the photos, and how far the images spread compared with
the photos (the ratio of standard deviations): 1.00 (1.00) if all came through.
"""

import sys
import warnings
from typing import Any

import numpy as np
from torch import Tensor

from data import create_dataloader
from evaluation.pairs import evenly_spread
from experiments.labelmefacade import CLASSES, Place, made_of_validation, make_parser, place_of
from experiments.pictures import STYLED
from experiments.tables import table
from models import load_model
from options.test_options import TestOptions
from util.checkpoint import require_checkpoint
from util.class_table import ClassTable
from util.distributed import pick_device, to_device
from util.errors import UserError
from util.images import to_uint8

SMALLEST = 0.01  # of an image: classes that cover less have no colour to speak of
FEWEST = 3  # photos that a correlation is computed of


def colours(image: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Of an image [H, W, 3] with ids [H, W]: each class's mean RGB, [classes, 3], nan where it covers too little."""
    found = np.full((classes, 3), np.nan)
    for i in range(classes):
        if (inside := label == i).mean() >= SMALLEST:
            found[i] = image[inside].mean(0)
    return found


def measure(place: Place, run: str) -> tuple[np.ndarray, np.ndarray]:
    """The classes' colours, [photos, classes, 3] each: in the photos, and in the images of each photo's style.

    Raises:
        UserError: the run has no checkpoint, no averaged weights or no styles.
    """
    opt = TestOptions().parse([*made_of_validation(place, run), "--weights", "ema"])
    require_checkpoint(place.out / "checkpoints" / run, opt.which_epoch, opt.weights)
    if not opt.use_vae:
        raise UserError(f"{run} has no styles; give a run with --use_vae")
    device = pick_device(opt.gpu_ids)
    model, batches = load_model(opt, device), [to_device(batch, device) for batch in create_dataloader(opt)]
    layouts = evenly_spread(STYLED, batches)

    def of(images: Tensor, batch: dict[str, Any]) -> np.ndarray:
        return colours(to_uint8(images)[0], batch["label"][0, 0].cpu().numpy(), opt.label_nc)

    photos, images = [], []
    with model.one_batch(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of classes that no layout has: nan
        for batch in batches:
            z = model.style_of(batch["image"])  # [1, Z]
            photos.append(of(batch["image"], batch))
            images.append(np.nanmean([of(model.generate(layout, z), layout) for layout in layouts], axis=0))
    return np.array(photos), np.array(images)


def compare(photos: np.ndarray, images: np.ndarray) -> list[str]:
    """Cells of a class's line, of its colours [photos, 3] in both: how many photos, brightness, warmth."""
    both = ~np.isnan(photos[:, 0] + images[:, 0])
    if both.sum() < FEWEST:
        return [f"{both.sum()}", "", ""]
    cells = []
    for quality in (lambda rgb: rgb.mean(-1), lambda rgb: rgb[:, 0] - rgb[:, 2]):
        real, made = quality(photos[both]), quality(images[both])
        cells.append(f"{np.corrcoef(real, made)[0, 1]:.2f} ({made.std() / real.std():.2f})")
    return [f"{both.sum()}", *cells]


def main() -> None:
    """Print the table of each run that the command line names.

    Raises:
        UserError: the data set or a run is not there, or a run has no styles.
    """
    args = make_parser("styles", __doc__).parse_args(sys.argv[1:])
    place, classes = place_of(args), ClassTable.load(str(CLASSES))
    for run in args.runs:
        photos, images = measure(place, run)
        rows = [[classes.name(i), *compare(photos[:, i], images[:, i])] for i in range(photos.shape[1])]
        print(table([run, "photos", "brightness", "warmth"], rows))
