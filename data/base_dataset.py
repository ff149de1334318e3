"""What every data set shares: reading images and ids, and one geometric plan applied alike to label, image, instance.

Letters: H W size of an item in pixels; sizes in tuples are (width, height), as in Pillow.
"""

import functools
import io
import os
import re
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from util.class_table import Palette
from util.errors import UserError
from util.seeding import seed_from

MODES = (
    "resize_and_crop",
    "crop",
    "scale_width",
    "scale_width_and_crop",
    "scale_shortside",
    "scale_shortside_and_crop",
    "fixed",
    "none",
)
CROPPING_MODES = tuple(mode for mode in MODES if mode.endswith("crop"))
ID_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow modes with one integer channel
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow says of damaged files
COLOR_MODES = ("RGB", "RGBA", "P", "PA", "LA")
GREY_STEPS = {"L;2": 85, "L;4": 17}  # what Pillow multiplies grey levels of 2 and 4 bits by

# An item's key: its index alone, or (index, what its crop and flip are drawn from).
Key = int | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Plan:
    """What happens to the label, the image and the instance map of one item alike."""

    size: tuple[int, int]  # after resizing
    crop: tuple[int, int, int, int] | None  # left, top, width, height
    flip: bool

    def apply(self, picture: Image.Image, resample: Image.Resampling) -> Image.Image:
        """The picture resized, cropped and flipped; what a crop takes from outside is 0 (black, label 0)."""
        if picture.size != self.size:
            picture = picture.resize(self.size, resample)
        if self.crop is not None:
            left, top, width, height = self.crop
            picture = picture.crop((left, top, left + width, top + height))
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip else picture

    def apply_to_ids(self, ids: np.ndarray) -> np.ndarray:
        """Ids [H, W] resized by nearest neighbour, cropped and flipped: equal to `apply`, and touches fewer pixels."""
        rows, columns = _nearest(ids.shape[0], self.size[1]), _nearest(ids.shape[1], self.size[0])
        if self.crop is not None:
            left, top, width, height = self.crop
            rows, columns = rows[top : top + height], columns[left : left + width]
        if self.flip:
            columns = columns[::-1]
        planned = ids.take(rows, 0).take(columns, 1)
        if self.crop is None or planned.shape == (height, width):
            return planned
        beside = (0, width - len(columns))
        return np.pad(planned, ((0, height - len(rows)), beside[::-1] if self.flip else beside))


@functools.lru_cache(maxsize=4096)
def _nearest(size: int, resized: int) -> np.ndarray:
    """For each of `resized` pixels of a row, the one of `size` that Pillow's nearest neighbour takes; columns alike."""
    places = Image.fromarray(np.arange(size, dtype=np.int32)[None])
    return np.array(places.resize((resized, 1), Image.Resampling.NEAREST))[0].astype(np.intp)


@dataclass(frozen=True)
class Preprocess:
    """The options that decide plans: `random` draws crops, centred otherwise; `flip` mirrors half of the items."""

    mode: str
    load_size: int
    crop: tuple[int, int]
    aspect_ratio: float
    multiple: int  # mode none rounds to it
    random: bool
    flip: bool

    @classmethod
    def from_options(cls, opt: Namespace) -> "Preprocess":
        """The preprocessing that a command line asks for."""
        return cls(
            mode=opt.preprocess_mode,
            load_size=opt.load_size,
            crop=(opt.crop_size, opt.crop_height or opt.crop_size),
            aspect_ratio=opt.aspect_ratio,
            multiple=max(32, opt.size_multiple),
            random=opt.isTrain,
            flip=not opt.no_flip,  # a default at test, and off there unless asked for
        )

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size before cropping of an item of `size`."""
        width, height = size
        load = self.load_size
        if self.mode == "resize_and_crop":
            # The crop's shape, which is a square as released unless --crop_height says otherwise.
            return load, max(1, round(load * self.crop[1] / self.crop[0]))
        if self.mode.startswith("scale_width"):
            return load, max(1, int(load * height / width))
        if self.mode.startswith("scale_shortside"):
            # Mended (SPADE): the released code scales one side only.
            if width < height:
                return load, int(load * height / width)
            return int(load * width / height), load
        if self.mode == "fixed":
            return self.crop[0], round(self.crop[0] / self.aspect_ratio)
        if self.mode == "none":
            step = self.multiple
            return max(step, round(width / step) * step), max(step, round(height / step) * step)
        return size  # crop

    def output_size(self) -> tuple[int, int] | None:
        """The size of every item, or None where it depends on the file."""
        if self.mode in CROPPING_MODES:
            return self.crop
        return self.resized((0, 0)) if self.mode == "fixed" else None

    def plan(self, size: tuple[int, int], rng: np.random.Generator) -> Plan:
        """The plan for an item whose label map has `size`; `rng` decides what is random in it."""
        resized = self.resized(size)
        crop = None
        if self.mode in CROPPING_MODES:
            spare = [max(0, r - c) for r, c in zip(resized, self.crop, strict=True)]
            if self.random:
                left, top = (int(rng.integers(0, s, endpoint=True)) for s in spare)
            else:
                left, top = (s // 2 for s in spare)
            crop = (left, top, *self.crop)
        return Plan(resized, crop, flip=self.flip and bool(rng.random() < 0.5))


class BaseDataset(Dataset):
    """A data set: `len()`, items as dicts, its own flags (`add_options`) and defaults.

    Subclasses give `__len__` and `load(index, rng)`, and register in `data.DATASETS`.
    """

    folder_flags: frozenset[str] = frozenset()  # flags beside --dataroot that lead to its files

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        """Values that this data set sets for flags that are not typed."""
        return {}

    @staticmethod
    def found_defaults(dataroot: str, is_train: bool) -> dict[str, Any]:
        """Values that the data under `dataroot` itself sets for flags that are not typed; reads a small file at most.

        Raises:
            UserError: the file is damaged. One that is missing is for `__init__` to report.
        """
        return {}

    @classmethod
    def create(cls, opt: Namespace) -> "BaseDataset":
        """The data set of this kind that the options ask for.

        Raises:
            UserError: files are missing or do not pair up.
        """
        return cls(opt)

    def __init__(self, opt: Namespace) -> None:
        self.preprocess = Preprocess.from_options(opt)
        self.seed = opt.seed

    def __getitem__(self, key: Key) -> dict[str, Any]:
        index, draw = key if isinstance(key, tuple) else (key, (key,))
        return self.load(index, np.random.default_rng(seed_from(self.seed, *draw)))

    def __len__(self) -> int:
        raise NotImplementedError

    def load(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Item `index`, with its randomness from `rng` alone: `path` (str) and tensors for the model."""
        raise NotImplementedError

    def path(self, index: int) -> str:
        """What item `index` reports as its `path`; subclasses that know it without loading the item say so here."""
        return self[index]["path"]

    def order(self, epoch: int, size: int) -> np.ndarray:
        """The shuffled order of the first `size` items in 1-based `epoch`: indices [size], by (seed, epoch) alone."""
        return np.random.default_rng(seed_from(self.seed, epoch)).permutation(size)


def read_image(path: str, content: bytes | None = None) -> Image.Image:
    """The RGB image at `path`; 16-bit grey is brought to 8 bits. With `content`, `path` is but its name.

    Raises:
        UserError: the file is missing or no image, or its values are fractions.
    """
    with _open(path, content) as picture:
        if picture.mode == "F":
            raise UserError(f"{path} has fractional values (Pillow mode F); save photos with 8 bits a channel")
        if picture.mode.startswith("I"):  # which Pillow would cut off at 255
            picture = Image.fromarray((np.asarray(picture).astype(np.int64) // 257).clip(0, 255).astype(np.uint8))
        return picture if picture.mode == "RGB" else picture.convert("RGB")  # converting would copy it


def read_ids(path: str, palette: Palette | None = None) -> Image.Image:
    """What `read_id_array` reads as a picture: mode L (8 bits or fewer) or I (more)."""
    ids = read_id_array(path, palette)
    return Image.fromarray(ids if ids.dtype == np.uint8 else ids.astype(np.int32))


def read_id_array(path: str, palette: Palette | None = None, content: bytes | None = None) -> np.ndarray:
    """The ids [H, W] at `path`, as in the file, whatever its bit depth: uint8 (8 bits or fewer), or a larger integer.

    With `content`, the bytes of a file, `path` is but its name.

    With a `palette`, maps in colours (RGB, or with a palette of their own) are read by it, and grey ones whose values
    are colours of classes and no ids.

    Raises:
        UserError: the file is missing, no image, a JPEG, or has several or fractional channels, or colours that the
            palette does not know, or grey values that may be colours or ids.
    """
    with _open(path, content, load=False) as picture:
        if picture.format in ("JPEG", "MPO"):
            raise UserError(f"{path} is a JPEG, whose compression changes ids; save label and instance maps as PNG")
        raw = picture.tile[0][3] if picture.tile else None
        scaled = picture.format == "PPM" and picture.tile[0][0] != "raw" and isinstance(raw, tuple)
        if scaled and raw[1] not in (255, 65535):
            raise UserError(f"{path} has a maximum of {raw[1]}, to which Pillow scales ids; save the map as PNG")
        _load(picture, path, content)
        if palette is not None and picture.mode in COLOR_MODES:
            return palette.ids(np.asarray(picture.convert("RGB")), path)
        if picture.mode not in ID_MODES:
            raise UserError(_not_ids(path, picture))
        ids = np.asarray(picture)
        if raw in GREY_STEPS:  # Pillow spreads grey of 2 and 4 bits over 0 .. 255
            ids = ids // GREY_STEPS[raw]
        if palette is not None and picture.mode in ("1", "L"):  # as some programs save pictures without other colours
            ids = palette.ids_of_grey(np.asarray(picture.convert("L")), ids, path)
    # Mended (SPADE): 16-bit ids were read as int16 and turned negative. A palette's colours are dropped on the way.
    return ids.astype(np.uint8) if ids.dtype == bool else ids


def _not_ids(path: str, picture: Image.Image) -> str:
    rule = f"{path} has Pillow mode {picture.mode}, but a map of ids has one integer channel (8, 16 or 32 bits)"
    if picture.mode not in COLOR_MODES:
        return f"{rule}; save it as a grey or palette PNG of ids"
    channels = np.asarray(picture.convert("RGB"))
    if (channels == channels[..., :1]).all():
        return f"{rule}; its channels are equal, so save one of them: Image.open(FILE).convert('L').save(FILE)"
    return (
        f"{rule}; if it is a label map whose colours stand for classes, --label_palette TABLE reads it (a class "
        "table with their colours; docs/own_data.md shows one), else save it as a grey or palette PNG of ids"
    )


def image_tensor(picture: Image.Image) -> Tensor:
    """RGB picture to float [3, H, W] in [-1, 1]."""
    planes = np.asarray(picture).transpose(2, 0, 1).copy()  # rearranged as bytes, which are a quarter of the floats
    return torch.from_numpy(planes).float().div_(127.5).sub_(1)


def id_tensor(picture: Image.Image) -> Tensor:
    """Picture of ids to long [1, H, W]."""
    return torch.from_numpy(np.array(picture)).long()[None]


def _open(path: str, content: bytes | None, load: bool = True) -> Image.Image:
    try:
        picture = Image.open(path if content is None else io.BytesIO(content))
    except FileNotFoundError:
        why = "is a link to a file that is not there" if os.path.islink(path) else "is not there"
        raise UserError(f"{path} {why} (was it moved after training or testing started?)") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not an image") from None
    except UNREADABLE as error:
        raise _unreadable(path, content, error) from None
    if load:
        _load(picture, path, content)
    return picture


def _load(picture: Image.Image, path: str, content: bytes | None) -> None:
    try:
        picture.load()
    except UNREADABLE as error:
        raise _unreadable(path, content, error) from None


def _unreadable(path: str, content: bytes | None, error: Exception) -> UserError:
    size = os.path.getsize(path) if content is None else len(content)
    # Pillow says the name, or where in memory the bytes are
    said = re.sub(r" <_io\.BytesIO object at \w+>", "", str(error).replace(f" '{path}'", ""))
    why = "it is empty (0 bytes)" if size == 0 else said
    return UserError(f"{path} cannot be read as an image: {why}; copy it again, or leave it out")
