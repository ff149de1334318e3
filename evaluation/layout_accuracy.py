"""Do synthesised pictures follow their layouts? A small segmenter that knows only real photos reads them.

    python -m evaluation.layout_accuracy --synthesized results/NAME/test_latest/images/synthesized_image \\
        --label_dir VAL_LABELS --image_dir VAL_PHOTOS --train_label_dir LABELS --train_image_dir PHOTOS --label_nc K

Prints the share of pixels whose class it reads right: on the real photos of the same layouts (the most that can be
had), on the synthesised pictures, and on these against the layouts of others (what pictures of no layout in particular
get). Ends with status 1 where the synthesised pictures fall short of `--at_least` times the real ones.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.base_dataset import id_tensor, image_tensor, read_ids, read_image
from data.image_folder import list_images
from evaluation.small_segmenter import read_layouts, train_segmenter
from options.flags import positive, positive_float
from util.errors import UserError, run_main


def load_pairs(pictures: list[str], labels: list[str], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pictures [N, 3, H, W] in [-1, 1] and labels long [N, H, W] of the same stems, resized to `size` (width, height).

    Raises:
        UserError: a picture has no label map of its name, or a file cannot be read.
    """
    by_stem = {Path(path).stem: path for path in labels}
    xs, ys = [], []
    for path in pictures:
        label = by_stem.get(Path(path).stem)
        if label is None:
            raise UserError(f"{path} has no label map of its name among {len(labels)}; check --label_dir")
        xs.append(image_tensor(_resized(read_image(path), size, Image.Resampling.BICUBIC)))
        ys.append(id_tensor(_resized(read_ids(label), size, Image.Resampling.NEAREST))[0])
    return torch.stack(xs), torch.stack(ys)


def pixel_accuracy(read: Tensor, labels: Tensor, classes: int) -> float:
    """The share of pixels [N, H, W] whose class was read right, among those with a class in 0 .. classes - 1."""
    known = (labels >= 0) & (labels < classes)
    return ((read == labels) & known).sum().item() / max(1, known.sum().item())


def _resized(picture: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, resample)


def main(argv: list[str] | None = None) -> None:
    """Train the segmenter and print the three accuracies.

    Raises:
        UserError: a folder is missing, or files do not pair up.
    """
    parser = argparse.ArgumentParser(
        prog="evaluation.layout_accuracy",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--synthesized", required=True, help="folder of synthesised pictures")
    parser.add_argument("--label_dir", required=True, help="folder of their layouts")
    parser.add_argument("--image_dir", required=True, help="folder of the real photos of those layouts")
    parser.add_argument("--train_label_dir", required=True, help="folder of label maps to train on")
    parser.add_argument("--train_image_dir", required=True, help="folder of their photos")
    parser.add_argument("--label_nc", type=positive, required=True, help="number of classes")
    parser.add_argument("--epochs", type=positive, default=8, help="passes over the training photos (%(default)s)")
    parser.add_argument("--at_least", type=positive_float, help="share of the real accuracy that must be reached")
    args = parser.parse_args(argv)

    made = list_images(args.synthesized)
    if not made:
        raise UserError(f"{args.synthesized} holds no pictures; run test.py first")
    stems = {Path(path).stem for path in made}
    with Image.open(made[0]) as first:
        size = first.size
    val_labels = list_images(args.label_dir)
    fake, labels = load_pairs(made, val_labels, size)
    real, real_labels = load_pairs([p for p in list_images(args.image_dir) if Path(p).stem in stems], val_labels, size)
    photos, photo_labels = load_pairs(list_images(args.train_image_dir), list_images(args.train_label_dir), size)

    print(f"training a small segmenter on {len(photos)} real photos of {size[0]} x {size[1]} ...", flush=True)
    net = train_segmenter(photos, photo_labels, args.label_nc, args.epochs)
    read = read_layouts(net, fake)
    on_real = pixel_accuracy(read_layouts(net, real), real_labels, args.label_nc)
    on_fake = pixel_accuracy(read, labels, args.label_nc)
    others = torch.from_numpy(np.roll(np.arange(len(labels)), 1))
    on_others = pixel_accuracy(read, labels[others], args.label_nc)
    print("share of pixels whose class the segmenter reads right:")
    print(f"  real photos                             {on_real:.3f}")
    print(f"  synthesised from their layouts          {on_fake:.3f}  ({on_fake / on_real:.2f} of the real photos')")
    print(f"  synthesised, against layouts of others  {on_others:.3f}  ({on_others / on_real:.2f})")
    if args.at_least and on_fake < args.at_least * on_real:
        print(f"the synthesised pictures fall short of {args.at_least:g} of the real photos' accuracy", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
