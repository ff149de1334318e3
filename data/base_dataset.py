"""What every data set shares: reading images and ids, and one geometric plan applied alike to label, image, instance.

Letters: H W size of an item in pixels; sizes in tuples are (width, height), as in Pillow.
"""

import functools
import io
import os
import re
import stat
import warnings
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.utils.data import Dataset

from util.class_table import Palette
from util.errors import UserError, printable
from util.seeding import seed_from, shuffled
from util.sizes import layout_problem

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
# What a file may be, whatever its name says: others of Pillow's kinds run programs (EPS) or are read by no one.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pillow refuses pictures of more than twice MAX_IMAGE_PIXELS (178,956,970 pixels), and warns from once on: of pictures
# that are read all the same, in each loader process anew.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
COLOR_MODES = ("RGB", "RGBA", "P", "PA", "LA")
GREY_STEPS = {"L;2": 85, "L;4": 17}  # what Pillow multiplies grey levels of 2 and 4 bits by

ON_BAD_IMAGE = ("error", "skip")
WAYS_ON = "--on_bad_image skip trains without such files, datasets/check_dataset.py lists them"
MOST_REPLACEMENTS = 10  # items that are tried in the place of one that cannot be used

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
        self._trains = opt.isTrain
        self._skips = opt.isTrain and opt.on_bad_image == "skip"
        self._fits = functools.partial(require_layout, opt=opt)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """The item of a key; with --on_bad_image skip another one where it cannot be used.

        That one has the key `skipped` too: a list of (file, reason), what could not be used in its place.

        Raises:
            UserError: a file cannot be used; or none of so many could that something else must be wrong.
        """
        index, draw = key if isinstance(key, tuple) else (key, (key,))
        rng = np.random.default_rng(seed_from(self.seed, *draw))
        if not self._skips:
            try:
                return self.load(index, rng)
            except UserError as error:
                if not self._trains or key == index:  # which is the look at the first item before training
                    raise
                raise UserError(f"{error} ({WAYS_ON})") from None
        skipped: list[tuple[str, str]] = []
        for attempt in range(1, MOST_REPLACEMENTS + 2):
            try:
                item = self.load(index, rng)
                self._fits(item)
                return {**item, "skipped": skipped} if skipped else item
            except UserError as error:
                skipped.append(self._at_fault(index, error))
            # Which one follows from the place in the run alone, and so does what is random in it.
            rng = np.random.default_rng(seed_from(self.seed, *draw, attempt))
            index = int(rng.integers(len(self)))
        raise UserError(
            f"--on_bad_image skip: of an item and {MOST_REPLACEMENTS} others in its place none can be used, so that "
            f"perhaps no file can, or a flag is wrong; the first and the last: {skipped[0][1]}; {skipped[-1][1]}"
        )

    def __len__(self) -> int:
        raise NotImplementedError

    def load(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Item `index`, with its randomness from `rng` alone: `path` (str) and tensors for the model."""
        raise NotImplementedError

    def path(self, index: int) -> str:
        """What item `index` reports as its `path`; subclasses that know it without loading the item say so here."""
        return self.load(index, np.random.default_rng(0))["path"]

    def files_of(self, index: int) -> list[str]:
        """The files of item `index` that a message may begin with, as far as they are known without reading any."""
        return []

    def _at_fault(self, index: int, error: UserError) -> tuple[str, str]:
        """The file that an error of item `index` names, and the first line of its message, in which it is printable."""
        message = str(error)
        file = next((path for path in self.files_of(index) if message.startswith(path)), None)
        if file is None:
            try:
                file = self.path(index)
            except UserError:
                file = f"item {index}"
        for path in {file, *self.files_of(index)}:
            message = message.replace(path, printable(path))
        return file, message.splitlines()[0]

    def order(self, epoch: int, size: int) -> np.ndarray:
        """The shuffled order of the first `size` items in 1-based `epoch`: indices [size], by (seed, epoch) alone."""
        return shuffled(size, self.seed, epoch)


def require_layout(item: dict[str, Any], opt: Namespace) -> None:
    """Refuse an item whose layout is of a size that the model of these options does not take.

    Raises:
        UserError: the message names sizes that would do.
    """
    if "label" not in item:
        return
    height, width = item["label"].shape[-2:]
    problem = layout_problem(width, height, opt.size_multiple, opt.layout_size)
    if problem:
        raise UserError(f"{item['path']}, as --preprocess_mode {opt.preprocess_mode} makes it, is a {problem}")


def read_image(path: str, content: bytes | None = None) -> Image.Image:
    """The RGB image at `path`; 16-bit grey is brought to 8 bits. With `content`, `path` is but its name.

    Raises:
        UserError: the file is missing or no image, or its values are fractions.
    """
    with _load(open_image(path, content), path, content) as picture:
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
    with open_image(path, content) as picture:
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


def open_image(path: str, content: bytes | None = None) -> Image.Image:
    """The picture at `path`, whose pixels are not read yet. With `content`, `path` is but its name.

    Raises:
        UserError: the file is missing, no plain file, or no image.
    """
    try:
        if content is None and not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for ever
            kind = "a folder" if os.path.isdir(path) else "no plain file (a pipe, a socket or a device)"
            raise UserError(f"{path} is {kind}, not an image; leave it out")
        return Image.open(path if content is None else io.BytesIO(content), formats=FORMATS)
    except FileNotFoundError:
        why = "is a link to a file that is not there" if os.path.islink(path) else "is not there"
        raise UserError(f"{path} {why} (was it moved after training or testing started?)") from None
    except UserError:
        raise
    except Exception as error:  # Pillow's readers say anything of bytes that they do not expect
        raise _unreadable(path, content, error) from None


def as_stored(picture: Image.Image, path: str, content: bytes | None = None) -> tuple[tuple[int, int], int]:
    """An opened picture's size (width, height) as `read_image` gives it, and what EXIF says that this does not heed.

    Raises:
        UserError: a TIFF, of which all is read, is damaged.
    """
    if picture.format == "TIFF":  # which Pillow turns while it reads the pixels
        return _load(picture, path, content).size, 1
    return picture.size, exif_orientation(picture)


def exif_orientation(picture: Image.Image) -> int:
    """What EXIF says of an opened picture: 1 upright, 3 upside down, 6 and 8 turned by 90 degrees, ..."""
    if picture.format == "PNG" and "exif" not in picture.info and "Raw profile type exif" not in picture.info:
        return 1  # Pillow would read all pixels, to look for it behind them
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's readers say anything of bytes that they do not expect
        return 1
    return orientation if orientation in range(1, 9) else 1


def _load(picture: Image.Image, path: str, content: bytes | None) -> Image.Image:
    try:
        picture.load()
    except Exception as error:
        raise _unreadable(path, content, error) from None
    return picture


def _unreadable(path: str, content: bytes | None, error: Exception) -> UserError:
    try:
        size = os.path.getsize(path) if content is None else len(content)
    except OSError:
        size = None
    way_out = "copy it again, or leave it out"
    if size == 0:
        why = "it is empty (0 bytes)"
    elif isinstance(error, Image.DecompressionBombError):
        claimed = re.search(r"\((\d+) pixels\)", str(error))
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        why = (
            f"it says that it has {int(claimed[1]):,} pixels, and more than {most:,} are not read" if claimed else error
        )
        way_out = "scale it down, or leave it out"
    elif isinstance(error, Image.UnidentifiedImageError):
        why = f"it is none of {', '.join(FORMATS)}, or its first bytes are damaged"
    elif isinstance(error, MemoryError):
        why, way_out = "that takes more memory than there is", "scale it down, or leave it out"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror
    else:
        # Pillow says the name, or where in memory the bytes are
        why = re.sub(r" <_io\.BytesIO object at \w+>", "", str(error).replace(f" '{path}'", ""))
        why = f"{type(error).__name__} {why}".strip() if isinstance(error, LookupError) or not why else why
    return UserError(f"{path} cannot be read as an image: {why}; {way_out}")
