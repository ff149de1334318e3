"""Small data sets packed as their makers pack the real ones."""

import io
import json
import re
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data import create_dataset
from options.train_options import TrainOptions

ONE = ["--workers", "1", "--partial"]  # flags: in this process, a few images


def zipped(path: Path, files: Mapping[str, bytes]) -> None:
    """A zip archive of these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def unzipped(folder: Path) -> None:
    """Unpack all archives of a folder there, and remove them."""
    for path in folder.glob("*.zip"):
        zipfile.ZipFile(path).extractall(folder / path.stem)
        path.unlink()


def png(pixels: np.ndarray) -> bytes:
    """A picture's bytes."""
    return encoded(Image.fromarray(pixels), "PNG")


def jpeg(width: int, height: int, seed: int = 0) -> bytes:
    """A photo's bytes: noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return encoded(Image.fromarray(pixels), "JPEG")


def encoded(picture: Image.Image, kind: str) -> bytes:
    """A picture as a file of that kind."""
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def run_lengths(mask: np.ndarray) -> list[int]:
    """A mask [H, W] as COCO's run lengths, down the columns, zeros first."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(int), [0]])
    edges = np.flatnonzero(np.diff(flat))
    ends = np.concatenate([[0], edges, [mask.size]])
    return np.diff(ends).tolist()


def coco_entry(image: int, segmentation: object, crowd: bool = False) -> dict:
    """An annotation."""
    return {"id": 1, "image_id": image, "category_id": 1, "iscrowd": int(crowd), "segmentation": segmentation}


def coco_archives(
    folder: Path,
    parts: Mapping[str, Mapping[str, tuple[bytes, bytes]]],
    things: Mapping[str, list[dict]],
) -> None:
    """COCO-Stuff's four archives.

    Args:
        parts: by part, by stem: photo and label map.
        things: by part: annotations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    maps, annotations = {}, {}
    for part, scenes in parts.items():
        zipped(folder / f"{part}2017.zip", {f"{part}2017/{stem}.jpg": photo for stem, (photo, _) in scenes.items()})
        sizes = {stem: Image.open(io.BytesIO(label)).size for stem, (_, label) in scenes.items()}
        maps |= {f"{part}2017/{stem}.png": label for stem, (_, label) in scenes.items()}
        images = [{"id": int(stem), "width": width, "height": height} for stem, (width, height) in sizes.items()]
        held = {"images": images, "annotations": things.get(part, []), "categories": []}
        annotations[f"annotations/instances_{part}2017.json"] = json.dumps(held).encode()
    zipped(folder / "stuffthingmaps_trainval2017.zip", maps)
    zipped(folder / "annotations_trainval2017.zip", annotations)


def content(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ids(path: Path) -> list[list[int]]:
    """A map as it is in its file."""
    return np.asarray(Image.open(path)).astype(int).tolist()


def train_command(printed: str) -> list[str]:
    """The words of the train.py command that a preparing command printed; train.py takes it."""
    (command,) = re.findall(r"python train\.py (.*)", printed.replace("\\\n", ""))
    words = shlex.split(command)
    TrainOptions().parse(words)
    return words


def loaded(words: Sequence[str], size: int = 16, mode: str = "resize_and_crop") -> list[dict]:
    """The items that the words of a train.py command lead to, in squares of `size`."""
    sizes = ["--preprocess_mode", mode, "--load_size", str(size), "--crop_size", str(size), "--no_flip"]
    dataset = create_dataset(TrainOptions().parse([*words, *sizes]))
    return [dataset[i] for i in range(len(dataset))]
