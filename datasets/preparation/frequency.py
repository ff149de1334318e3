"""Classes by frequency: pixels are counted once and kept in the folder, so that a second run takes the same classes."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.preparation.classes import most_frequent
from datasets.preparation.ledger import Ledger
from datasets.preparation.output import Output
from util.errors import UserError
from util.files import digest, write_atomically

PIXELS_NAME = "class_pixels.json"
LEDGER_NAME = "counted.jsonl"  # while not all training images are counted
LABEL_FOLDERS = ("train_label", "val_label")

Counts = tuple[Mapping[int, int], Mapping[int, str], list[str]]  # pixels and names by class, what could not be read


@dataclass(frozen=True)
class ClassPixels:
    """All classes of the training part with their pixels."""

    images: str  # what tells the images from others
    is_whole: bool  # whether all could be read
    pixels: Mapping[int, int]
    names: Mapping[int, str]

    @classmethod
    def load(cls, path: Path) -> "ClassPixels | None":
        """What an earlier run counted; None where none did.

        Raises:
            UserError: the file is damaged.
        """
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            classes = held["classes"]
            return cls(
                str(held["images"]),
                held["whole"] is True,
                {int(entry["index"]): int(entry["pixels"]) for entry in classes},
                {int(entry["index"]): str(entry["name"]) for entry in classes},
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}); delete it, and the same command counts again") from None

    def save(self, path: Path) -> None:
        """Write what `load` reads, the largest class first."""
        entries = (
            json.dumps({"index": key, "name": self.names[key], "pixels": self.pixels[key]}, ensure_ascii=False)
            for key in self.largest(len(self.pixels))
        )
        head = f'{{"images": "{self.images}", "whole": {json.dumps(self.is_whole)}, "classes": ['
        write_atomically(path, (f"{head}\n  " + ",\n  ".join(entries) + "\n]}\n").encode("utf-8", "replace"))

    def largest(self, classes: int) -> list[int]:
        """The numbers of the classes with most pixels."""
        return most_frequent(self.pixels, classes)


def entry_of(image: str, keys: np.ndarray) -> dict[str, Any]:
    """A line of the ledger: how many pixels of an image's keys [H, W] each class has; 0 is unlabelled."""
    pixels = np.bincount(keys.reshape(-1))
    classes = np.flatnonzero(pixels)
    return {"image": image, "classes": classes.tolist(), "pixels": pixels[classes].tolist()}


def total(entries: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """The pixels of all classes, in the order of their numbers."""
    pixels: Counter[int] = Counter()
    for entry in entries:
        pixels.update(dict(zip(entry["classes"], entry["pixels"], strict=True)))
    return {key: pixels[key] for key in sorted(pixels.keys() - {0})}


def choose_classes(
    output: Output, images: Sequence[str], classes: int, count: Callable[[Ledger], Counts]
) -> tuple[ClassPixels, list[str]]:
    """The classes of the training images, counted or as an earlier run counted them, and what could not be read.

    Label maps of other classes, from a run that could not read all, are removed.

    Args:
        images: names of the training images.
        classes: how many are wanted.
        count: counts what the ledger does not have yet.

    Raises:
        UserError: label maps of other training images are there already, and are of other classes.
    """
    counted, failures = _counted(output, images, classes, count)
    if len(counted.pixels) < classes:
        print(f"note: --classes {classes}: training images have pixels of only {len(counted.pixels)}, which are taken")
    return counted, failures


def _counted(
    output: Output, images: Sequence[str], classes: int, count: Callable[[Ledger], Counts]
) -> tuple[ClassPixels, list[str]]:
    path, which = output.folder / PIXELS_NAME, digest(sorted(images))
    before = ClassPixels.load(path)
    if before is not None and before.is_whole and before.images == which:
        return before, []
    pixels, names, failures = count(Ledger(output.folder / LEDGER_NAME, "image"))
    counted = ClassPixels(which, not failures, pixels, names)
    if before is not None and before.largest(classes) != counted.largest(classes):
        if before.is_whole:
            raise UserError(
                f"--out {output.folder} has the classes that are most frequent in other training images than there are "
                "now, in which others are; give a new folder, or delete that one"
            )
        print("note: with the images that could not be read before, other classes are most frequent: label maps anew")
        for folder in (output.folder / name for name in LABEL_FOLDERS):
            if folder.is_dir():
                shutil.rmtree(folder)
    counted.save(path)
    if counted.is_whole:
        (output.folder / LEDGER_NAME).unlink(missing_ok=True)
    return counted, failures
