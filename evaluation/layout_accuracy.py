"""Do synthesised pictures follow their layouts? A small segmenter that knows only real photos reads them.

    python -m evaluation.layout_accuracy --synthesized results/NAME/test_latest/images/synthesized_image \\
        --label_dir VAL_LABELS --image_dir VAL_PHOTOS --train_label_dir LABELS --train_image_dir PHOTOS --label_nc K

Prints the share of pixels whose class it reads right: on the real photos of the same layouts (the most that can be
had), on the synthesised pictures, and on these against the layouts of others (what pictures of no layout in particular
get). Ends with status 1 where the synthesised pictures fall short of `--at_least` times the real ones.
"""

import argparse
import re
import sys
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from data.base_dataset import id_tensor, image_tensor, read_ids, read_image
from data.image_folder import list_images
from evaluation.small_segmenter import read_layouts, train_segmenter
from options.flags import positive, positive_float
from util.class_table import ClassTable, Palette
from util.errors import UserError, first_few, run_main


def load_pictures(paths: Sequence[str], size: tuple[int, int]) -> Tensor:
    """Pictures [N, 3, H, W] in [-1, 1], resized to `size` (width, height).

    Raises:
        UserError: a file cannot be read.
    """
    return torch.stack([image_tensor(_resized(read_image(path), size, Image.Resampling.BICUBIC)) for path in paths])


def load_labels(paths: Sequence[str], size: tuple[int, int], palette: Palette | None = None) -> Tensor:
    """Label maps, long [N, H, W], resized to `size` (width, height); painted ones are read by `palette`.

    Raises:
        UserError: a file cannot be read.
    """
    return torch.cat([id_tensor(_resized(read_ids(path, palette), size, Image.Resampling.NEAREST)) for path in paths])


def layout_of(path: str, stems: Container[str]) -> str:
    """The stem of the layout that a picture shows: its own, or that before `_s00`, the number of a style.

    Raises:
        UserError: there is no such layout among `stems`.
    """
    stem = Path(path).stem
    plain = re.sub(r"_s\d+$", "", stem)
    for name in (stem, plain):
        if name in stems:
            return name
    raise UserError(f"{path} has no label map of its name in --label_dir; give the layouts that it was made from")


def pixel_accuracy(read: Tensor, labels: Tensor, classes: int) -> float:
    """The share of pixels [N, H, W] whose class was read right, among those with a class in 0 .. classes - 1."""
    known = (labels >= 0) & (labels < classes)
    return ((read == labels) & known).sum().item() / max(1, known.sum().item())


def _images_by_stem(flag: str, folder: str) -> dict[str, str]:
    """Stem to path of the pictures in the folder that a flag names.

    Raises:
        UserError: it is no folder, or holds none.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{flag} {folder} is not a folder")
    found = {Path(path).stem: path for path in list_images(folder)}
    if not found:
        raise UserError(f"{flag} {folder} holds no pictures{'; run test.py first' if flag == '--synthesized' else ''}")
    return found


def _require(stems: Iterable[str], there: Container[str], flag: str) -> None:
    missing = [stem for stem in stems if stem not in there]
    if missing:
        raise UserError(f"{flag} has no file of the name {first_few(missing)}")


def _require_ids(labels: Tensor, flag: str, classes: int) -> None:
    """Ids beyond the classes mean unknown pixels, of which there is one kind."""
    ids = labels.unique()
    beyond = ids[(ids < 0) | (ids >= classes)].tolist()
    if len(beyond) > 1:
        raise UserError(
            f"{flag} has ids {', '.join(map(str, beyond[:8]))}, but --label_nc {classes} allows 0 .. {classes - 1} and "
            "one more for unknown pixels; raise it, or correct the maps"
        )


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
    parser.add_argument("--label_palette", metavar="TABLE", help="label maps are painted in this class table's colours")
    parser.add_argument("--epochs", type=positive, default=8, help="passes over the training photos (%(default)s)")
    parser.add_argument("--at_least", type=positive_float, help="share of the real accuracy that must be reached")
    args = parser.parse_args(argv)

    palette = Palette(ClassTable.load(args.label_palette), args.label_palette) if args.label_palette else None
    made = _images_by_stem("--synthesized", args.synthesized)
    layouts = _images_by_stem("--label_dir", args.label_dir)
    photos = _images_by_stem("--image_dir", args.image_dir)
    train_layouts = _images_by_stem("--train_label_dir", args.train_label_dir)
    train_photos = _images_by_stem("--train_image_dir", args.train_image_dir)
    shown = {path: layout_of(path, layouts) for path in made.values()}
    names = list(dict.fromkeys(shown.values()))  # a layout may be there in several styles
    place = {name: i for i, name in enumerate(names)}
    _require(names, photos, "--image_dir")
    _require(train_photos, train_layouts, "--train_label_dir")
    size = read_image(next(iter(shown))).size

    fake = load_pictures(list(shown), size)
    real = load_pictures([photos[name] for name in names], size)
    labels = load_labels([layouts[name] for name in names], size, palette)
    training = load_pictures(list(train_photos.values()), size)
    training_labels = load_labels([train_layouts[name] for name in train_photos], size, palette)
    _require_ids(labels, "--label_dir", args.label_nc)
    _require_ids(training_labels, "--train_label_dir", args.label_nc)
    print(f"training a small segmenter on {len(training)} real photos of {size[0]} x {size[1]} ...", flush=True)
    net = train_segmenter(training, training_labels, args.label_nc, args.epochs)
    read = read_layouts(net, fake)
    own = torch.tensor([place[name] for name in shown.values()])
    on_real = pixel_accuracy(read_layouts(net, real), labels, args.label_nc)
    on_fake = pixel_accuracy(read, labels[own], args.label_nc)
    if not on_real:
        raise UserError(
            "the segmenter reads no pixel of the real photos right, so it says nothing about synthesised ones; check "
            f"that photos and label maps belong together, and --label_nc {args.label_nc}"
        )
    print("share of pixels whose class the segmenter reads right:")
    print(f"  real photos                             {on_real:.3f}")
    print(f"  synthesised from their layouts          {on_fake:.3f}  ({on_fake / on_real:.2f} of the real photos')")
    if len(names) > 1:
        on_others = pixel_accuracy(read, labels[(own + 1) % len(names)], args.label_nc)
        print(f"  synthesised, against layouts of others  {on_others:.3f}  ({on_others / on_real:.2f})")
    if args.at_least and on_fake < args.at_least * on_real:
        print(f"the synthesised pictures fall short of {args.at_least:g} of the real photos' accuracy", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
