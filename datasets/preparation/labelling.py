"""Label maps of photos, read by a segmenter on one device while threads read files and write maps.

Pillow decodes and PyTorch computes without Python's lock, so that threads are enough.

Letters: N photos of a batch, K classes, h w the size that the segmenter sees, H W that of the label map.
"""

import contextlib
import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from tqdm import tqdm

from datasets.preparation.archives import Source
from datasets.preparation.classes import unknown_flags, unknown_of
from datasets.preparation.photo_facts import read_photo, shrunk
from evaluation import segmenters
from evaluation.confusion import PRESENT
from evaluation.segmenters import SEGMENTERS, trained
from evaluation.segmenters.kind import Kind
from evaluation.weights import Weights, load_released
from util.class_table import ClassTable
from util.errors import UserError
from util.files import digest, sha256

OF_TORCHVISION = "torchvision:"  # in front of its networks' names
LONGEST = {"deeplabv2": 640, "upernet101": 1000, "drn_d_105": 2048}  # longer side of the photos that it was trained on
LONGEST_OF_OTHERS = 693  # torchvision's weights were made with shorter sides of 520
PROBABILITIES = ("upernet101",)  # whose scores are some
# By data set: the id of unknown pixels, and the flags of train.py that read label maps of all its ids.
IDS = {
    "coco": (255, "--label_nc 182 --contain_dontcare_label --class_table coco"),
    "ade20k": (0, "--label_nc 151 --class_table ade20k"),
    "cityscapes": (0, "--label_nc 35 --class_table cityscapes"),
}
MOST_SCORED = 1 << 20  # pixels at which scores of all classes are resized, 182 of which take 0.8 GB; larger maps repeat
FLAG = "--segmenter_weights"


@dataclass(frozen=True)
class Labeller:
    """A segmenter, and what its label maps are."""

    kind: Kind
    net: nn.Module
    identity: str  # its name, and the first digits of the SHA-256 of its weights
    longest: int  # pixels of the longer side that it is best shown
    names: dict[int, str]  # of the classes, by id; unknown pixels too
    unknown: int  # the id of pixels that it is not sure of
    train_flags: list[str]  # of train.py, which read its label maps
    is_probable: bool = False  # whether its scores are probabilities; others are logits, or logarithms of some
    table: ClassTable | None = None  # a class table that there is not yet

    def to(self, device: torch.device) -> "Labeller":
        """Let the network compute there."""
        self.net.to(device, memory_format=torch.channels_last)  # the faster for convolutions
        return self

    @torch.inference_mode()
    def maps(self, images: Tensor, size: tuple[int, int], unknown_below: float) -> np.ndarray:
        """What it sees in RGB images uint8 [N, 3, h, w], as label ids [N, H, W] for `size` = (H, W).

        Args:
            unknown_below: pixels whose class is less probable than this become unknown.
        """
        scores = self.kind.scores(self.net, images, size)  # [N, K, H, W]
        if unknown_below and not self.is_probable:
            scores = scores.softmax(1)
        best, classes = scores.max(1)
        highest = max(*self.kind.ids, self.unknown)
        ids = torch.tensor(list(self.kind.ids), device=classes.device)[classes]
        if unknown_below:
            ids[best < unknown_below] = self.unknown
        return ids.cpu().numpy().astype(np.uint8 if highest <= 255 else np.uint16)


def open_labeller(which: str, weights: Sequence[str], unknown_below: float) -> Labeller:
    """The labeller of --segmenter and --segmenter_weights.

    Raises:
        UserError: there is no such segmenter, or its weights are not there or not right.
    """
    if which in SEGMENTERS:
        kind, net = SEGMENTERS[which], segmenters.build(which)
        unknown, flags = IDS[kind.class_table]
        table, longest = None, LONGEST[which]
        names = dict(zip(kind.ids, kind.names, strict=True))
        load_released(net, kind.files, weights, FLAG)
    elif which.startswith(OF_TORCHVISION):
        kind, categories = _of_torchvision(which)
        net = kind.network().eval()
        unknown, flags = _ids_of(len(categories), unknown_below)
        names, longest = dict(enumerate(categories)), LONGEST_OF_OTHERS
        table = ClassTable(kind.title, names, {})
        load_released(net, kind.files, weights, FLAG)
    else:
        return _of_file(which, weights, unknown_below)
    files = [Path(path) for path in weights] or [file.cached for file in kind.files]
    identity = f"{which} ({digest([sha256(file) for file in files])})"
    names = {**names, unknown: "unknown"}
    return Labeller(kind, net, identity, longest, names, unknown, flags.split(), which in PROBABILITIES, table)


def _ids_of(classes: int, unknown_below: float) -> tuple[int, str]:
    """As IDS has them: for ids 0 .. classes - 1."""
    flags = unknown_flags(classes) if unknown_below else ["--label_nc", str(classes)]
    return unknown_of(classes), " ".join(flags)


def _of_torchvision(which: str) -> tuple[Kind, list[str]]:
    """A network of torchvision's with weights, and the names of its classes.

    Raises:
        UserError: there is none of that name.
    """
    name, known = which.removeprefix(OF_TORCHVISION), models.list_models(module=models.segmentation)
    if name not in known:
        raise UserError(f"--segmenter {which}: torchvision has {', '.join(known)}")
    weights = models.get_model_weights(name).DEFAULT
    file = weights.url.rpartition("/")[2]
    digest_of_file = file.rpartition("-")[2].removesuffix(".pth")
    own = Weights(file, weights.url, round(weights.meta.get("_file_size", 0)), digest_of_file)
    categories = weights.meta["categories"]
    more = {} if name.startswith("lraspp") else {"aux_loss": True}  # a part that its weights have
    network = functools.partial(
        models.get_model, name, weights=None, weights_backbone=None, num_classes=len(categories), **more
    )
    return Kind(which, network, trained.scores, None, range(len(categories)), PRESENT, (own,)), categories


def _of_file(which: str, weights: Sequence[str], unknown_below: float) -> Labeller:
    if not Path(which).is_file():
        raise UserError(
            f"--segmenter {which} is neither a file of evaluate.py train-segmenter nor one of {', '.join(SEGMENTERS)}, "
            f"{OF_TORCHVISION}NAME"
        )
    if weights:
        raise UserError(f"{FLAG} are a released segmenter's; the file of --segmenter has its own")
    held = trained.read(Path(which))
    if not held.is_finished:
        done = f"{held.epochs} of {held.of_epochs} epochs"
        print(f"note: --segmenter {which} is unfinished ({done}): the command that made it goes on")
    kind, label_nc = held.kind(None), max(held.label_nc, *(index + 1 for index in held.ids))
    unknown, flags = _ids_of(label_nc, unknown_below)
    names = dict(zip(held.ids, held.names or kind.names, strict=True))
    table = ClassTable(f"classes of {Path(which).name}", names, {}) if held.names else None
    sizes = [size for key in ("load_size", "crop_size") if isinstance(size := held.how.get(key), int) and size > 0]
    longest, identity = max(sizes, default=LONGEST_OF_OTHERS), f"{Path(which).name} ({sha256(Path(which))[:12]})"
    names = {**names, unknown: "unknown"}
    return Labeller(kind, held.net(), identity, longest, names, unknown, flags.split(), table=table)


# ------------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Job:
    """A photo to label."""

    name: str  # of its files in the data set
    original: str
    size: tuple[int, int]  # of the photo: width and height
    label_size: tuple[int, int]  # that its label map shall have


def label_all(
    labeller: Labeller,
    jobs: Sequence[Job],
    photos: Source,
    done: Callable[[Job, np.ndarray], None],
    longest: int,
    unknown_below: float,
    batch: int,
    workers: int,
) -> dict[str, str]:
    """Label all photos; those of one size together.

    Args:
        done: takes what was made, label ids [H, W], in one of several threads.
        longest: pixels of the longer side of what the segmenter sees.
        workers: threads that read and write.

    Returns:
        What was wrong with photos that cannot be read, by their path.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    device = next(labeller.net.parameters()).device
    failures: dict[str, str] = {}
    writing: deque[Future] = deque()
    read = functools.partial(_read, photos=photos, longest=longest)
    with (
        ThreadPoolExecutor(workers) as pool,  # when something interrupts, what was seen is still written
        contextlib.closing(_ahead(pool, read, _batches(jobs, longest, batch), workers)) as batches,
        tqdm(total=len(jobs), unit="photo", desc="labelling", disable=None) as bar,
    ):
        for group, pictures in batches:
            pairs = list(zip(group, pictures, strict=True))
            failures |= {job.original: why for job, why in pairs if isinstance(why, str)}
            seen = [(job, picture) for job, picture in pairs if not isinstance(picture, str)]
            if seen:
                images = torch.from_numpy(np.stack([picture for _, picture in seen])).to(device)
                width, height = _scored(seen[0][0])
                maps = labeller.maps(images.permute(0, 3, 1, 2), (height, width), unknown_below)
                writing += [pool.submit(_finish, job, ids, done) for (job, _), ids in zip(seen, maps, strict=True)]
            while len(writing) > workers + batch:
                writing.popleft().result()
            bar.update(len(group))
        for future in writing:
            future.result()
    return failures


def _batches(jobs: Sequence[Job], longest: int, batch: int) -> list[list[Job]]:
    """Groups of photos whose pictures and maps are of one size."""

    def sizes(job: Job) -> tuple[tuple[int, int], tuple[int, int]]:
        return shrunk(job.size, longest, max), _scored(job)

    found = []
    for _, group in itertools.groupby(sorted(jobs, key=sizes), sizes):
        alike = list(group)
        found += [alike[first : first + batch] for first in range(0, len(alike), batch)]
    return found


def _scored(job: Job) -> tuple[int, int]:
    """Width and height at which the classes are compared: those of the map, unless that is very large."""
    width, height = job.label_size
    scale = min(1.0, (MOST_SCORED / (width * height)) ** 0.5)
    return max(1, int(width * scale)), max(1, int(height * scale))


def _read(job: Job, photos: Source, longest: int) -> np.ndarray | str:
    """What the segmenter sees, RGB uint8 [h, w, 3]; or why that cannot be read."""
    size = shrunk(job.size, longest, max)
    try:
        photo = read_photo(photos.where(job.original), photos.read(job.original), min(size))
    except UserError as error:
        return str(error)
    if photo.size != job.size:
        return f"{photos.where(job.original)} has changed; give the same command again"
    return np.asarray(photo.picture.resize(size, Image.Resampling.BILINEAR))


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[Job], np.ndarray | str], batches: Sequence[list[Job]], workers: int
) -> Iterator[tuple[list[Job], list[np.ndarray | str]]]:
    """Batches and their pictures, of which some are read ahead."""
    reading: deque[tuple[list[Job], list[Future]]] = deque()
    waiting = iter(batches)
    try:
        while True:
            while sum(len(group) for group, _ in reading) < 2 * workers:
                group = next(waiting, None)
                if group is None:
                    break
                reading.append((group, [pool.submit(read, job) for job in group]))
            if not reading:
                return
            group, futures = reading.popleft()
            yield group, [future.result() for future in futures]
    finally:
        for _, futures in reading:
            for future in futures:
                future.cancel()


def _finish(job: Job, ids: np.ndarray, done: Callable[[Job, np.ndarray], None]) -> None:
    if ids.shape != job.label_size[::-1]:
        ids = np.array(Image.fromarray(ids).resize(job.label_size, Image.Resampling.NEAREST))
    done(job, ids)


def pixels_of(ids: np.ndarray) -> dict[int, int]:
    """How many pixels each id has."""
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def largest(pixels: Mapping[int, int], names: Mapping[int, str], count: int) -> str:
    """The largest classes and their shares: "sky-other 0.512; sea 0.300"."""
    total = sum(pixels.values())
    order = sorted(pixels, key=lambda index: (-pixels[index], index))[:count]
    return "; ".join(
        f"{names.get(index, f'class {index}').split(';')[0]} {pixels[index] / total:.3f}" for index in order
    )
