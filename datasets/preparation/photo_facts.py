"""Photos of all sizes and kinds, as viewers show them, and what is to be known of each.

Sizes are (width, height), as in Pillow, of the photo as it is shown: turned as its EXIF says.
"""

import base64
import hashlib
import io
import os
import stat
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.base_dataset import open_image, read_image
from data.image_folder import EXTENSIONS
from data.twins import SIDE, grey_of
from datasets.preparation.archives import LARGEST, Source
from datasets.preparation.output import copy
from util.errors import UserError, printable
from util.files import put
from util.paths import unique_stems

# What Pillow says of damaged EXIF, of each photo anew.
warnings.filterwarnings("ignore", module=r"PIL\.")
ARTIST, ORIENTATION, COPYRIGHT = 0x013B, 0x0112, 0x8298  # EXIF's tags
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LAID_OVER = {TURNS[orientation] for orientation in (5, 6, 7, 8)}  # width and height change places
SHORT_OF_GREY = 4 * SIDE  # pixels of the shorter side that small grey pictures are made of
LONGEST_TEXT = 300  # characters that are kept of what a file says of its author
QUALITY = 95  # of JPEGs that are written
SPARE = 2  # a JPEG is decoded at a fraction of its size where that is still so many times what is needed


@dataclass(frozen=True)
class Facts:
    """What a photo's file is, and what the choice of photos goes by."""

    original: str  # its path below the folder of photos, with / between
    bytes: int  # of the file
    time: int  # when it was changed, in nanoseconds
    problem: str = ""  # why it cannot be read; all else is empty then
    sha256: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False  # whether viewers turn it, so that its pixels are not as they are shown
    color: float = 0.0  # mean difference between the highest and the lowest channel, 0 .. 255
    grey: str = ""  # `data.twins.grey_of`, in base64
    author: str = ""  # by EXIF
    licence: str = ""  # what EXIF says of the copyright

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def levels(self) -> np.ndarray:
        """Its grey levels, uint8 [24, 24]."""
        return np.frombuffer(base64.b64decode(self.grey), np.uint8).reshape(SIDE, SIDE)

    def entry(self) -> dict[str, Any]:
        """For a Ledger."""
        return asdict(self)

    @classmethod
    def of_entry(cls, entry: dict[str, Any]) -> "Facts | None":
        """What a Ledger has; None where it makes no sense."""
        try:
            facts = cls(**entry)
            return facts if facts.levels.size and facts.width > 0 < facts.height else None
        except (TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Photo:
    """A photo that was read."""

    picture: Image.Image  # RGB as it is shown, perhaps smaller than its file has it
    size: tuple[int, int]  # of the whole
    turned: bool
    author: str
    licence: str
    profile: bytes | None  # of its colours (ICC)


def photos_in(folder: Source) -> list[str]:
    """The paths of all photos below a folder, in natural order; hidden files and folders, and links to folders, are
    left out."""
    return [name for name in folder.names() if os.path.splitext(name)[1].lower() in EXTENSIONS]


def read_photo(where: str, content: bytes, short: int) -> Photo:
    """A photo as viewers show it.

    Args:
        where: what messages call it.
        content: the file's bytes.
        short: pixels of its shorter side that are needed: a JPEG of many times that is decoded at a fraction of its
            size, three to five times as fast.

    Raises:
        UserError: it is no picture, or damaged.
    """
    picture = open_image(where, content)
    size = picture.size
    if picture.format in ("JPEG", "MPO"):
        try:
            picture.draft(None, (SPARE * short, SPARE * short))
            picture.load()
        except Exception:  # Pillow's readers say anything of bytes that they do not expect: this one says it well
            picture = read_image(where, content)
        exif = _exif(picture)
    elif picture.format == "TIFF":  # which Pillow turns while it decodes them
        exif = {**_exif(picture), ORIENTATION: None}
        picture = read_image(where, content)
        size = picture.size
    else:
        picture = read_image(where, content)
        exif = _exif(picture)
    profile, turn = picture.info.get("icc_profile"), _turn(exif.get(ORIENTATION))
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    if turn is not None:
        picture = picture.transpose(turn)
        size = size[::-1] if turn in LAID_OVER else size
    author, licence = exif_text(exif.get(ARTIST)), exif_text(exif.get(COPYRIGHT))
    return Photo(picture, size, turn is not None, author, licence, profile if isinstance(profile, bytes) else None)


def _exif(picture: Image.Image) -> dict[int, Any]:
    """A picture's EXIF tags; none where they are damaged."""
    try:
        return dict(picture.getexif())
    except Exception:  # Pillow's readers say anything of bytes that they do not expect
        return {}


def _turn(orientation: Any) -> Image.Transpose | None:
    return TURNS.get(orientation) if isinstance(orientation, int) else None


def exif_text(value: Any) -> str:
    """A text among EXIF tags, as `one_line`."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return ""
    try:
        value = value.encode("latin-1").decode("utf-8")  # EXIF says ASCII, Pillow reads Latin-1, programs write UTF-8
    except UnicodeError:
        pass
    return one_line("; ".join(part for part in value.split("\0") if part.strip()))  # photographer and editor


def one_line(text: str) -> str:
    """A text that a stranger wrote, on one line, of few characters that all can be seen."""
    return printable(" ".join(text.split()))[:LONGEST_TEXT]


def look_at(original: str, photos: Source) -> Facts:
    """What a photo's file is; what cannot be read has a `problem`."""
    path = photos.path / original
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # to read a pipe would wait for ever
            raise UserError("it is no plain file")
        if status.st_size > LARGEST:
            raise UserError(f"it has {status.st_size:,} bytes")
        where, content = photos.where(original), photos.read(original)
        photo = read_photo(where, content, SHORT_OF_GREY)
    except OSError as error:
        return Facts(original, 0, 0, error.strerror or str(error))
    except UserError as error:
        return Facts(original, 0, 0, str(error).removeprefix(f"{photos.where(original)} "))
    levels = np.asarray(photo.picture.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(int)
    return Facts(
        original,
        status.st_size,
        status.st_mtime_ns,
        sha256=hashlib.sha256(content).hexdigest(),
        width=photo.size[0],
        height=photo.size[1],
        turned=photo.turned,
        color=round(float((levels.max(2) - levels.min(2)).mean()), 2),
        grey=base64.b64encode(grey_of(photo.picture).tobytes()).decode(),
        author=photo.author,
        licence=photo.licence,
    )


def is_as(facts: Facts, photos: Source) -> bool:
    """Whether a photo's file is still the one that was looked at."""
    try:
        status = os.stat(photos.path / facts.original)
    except OSError:
        return False
    return (facts.bytes, facts.time) == (status.st_size, status.st_mtime_ns)


def shrunk(size: tuple[int, int], side: float, by: Callable[..., int]) -> tuple[int, int]:
    """A size whose shorter (`by` = min) or longer (max) side is `side` at most; never a larger one."""
    scale = min(1.0, side / by(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def write_photo(original: str, path: Path, size: tuple[int, int] | None, photos: Source) -> None:
    """Bring a photo into the data set.

    Args:
        size: what it is shrunk to, as a JPEG, turned; None: it is copied byte by byte.

    Raises:
        UserError: it cannot be read.
        OSError: the disk is full or the folder is not writable.
    """
    if size is None:
        copy(photos, original, path)
        return
    photo = read_photo(photos.where(original), photos.read(original), min(size))
    stream = io.BytesIO()
    resized = photo.picture.resize(size, Image.Resampling.LANCZOS)
    resized.save(stream, "JPEG", quality=QUALITY, subsampling=0, icc_profile=photo.profile)
    put(stream.getvalue(), path)


def names_of(originals: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """A name without extension for each photo, of letters, digits, - and _, which no other has.

    Args:
        known: names that were given before, by path, which these photos keep.
    """
    stem = unique_stems()
    for name in known.values():
        stem(name)
    return {
        original: known[original] if original in known else stem(f"{_plain(os.path.splitext(original)[0])}.jpg")
        for original in originals
    }


def _plain(path: str) -> str:
    return "".join(c if c.isalnum() or c in "-_/" else "_" for c in unicodedata.normalize("NFC", path))
