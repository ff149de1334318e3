"""Photos that the camera noted to be turned (EXIF): whether they were annotated as stored or as shown.

The loader takes photos as they are stored; annotation programs show most of them upright.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from data.base_dataset import as_stored, open_image, read_image
from data.pix2pix_dataset import same_shape
from util.errors import UserError
from util.files import save_image

QUALITY = 95  # of JPEGs that are written anew


@dataclass(frozen=True)
class Stored:
    """How a photo lies in its file."""

    size: tuple[int, int]  # width and height
    orientation: int = 1  # EXIF's: 1 upright, 3 upside down, 6 and 8 turned by 90 degrees, ...

    @classmethod
    def of(cls, path: str) -> "Stored":
        """That of the photo at `path`, of which the first bytes are read, of a TIFF all.

        Raises:
            UserError: it is none.
        """
        with open_image(path) as picture:
            return cls(*as_stored(picture, path))

    @property
    def shown(self) -> tuple[int, int]:
        """Its size as programs show it that heed how the camera was held."""
        return self.size[::-1] if self.orientation >= 5 else self.size

    def must_turn(self, annotated: tuple[int, int], exactly: bool, heed_exif: bool, where: str) -> bool:
        """Whether the photo was annotated as it is shown, which is not how it is stored.

        Where both would fit (a square; one that is upside down), it was annotated as shown.

        Args:
            annotated: width and height of what was annotated.
            exactly: sizes must be equal; else they may be of one shape.
            heed_exif: it may have been shown as the camera was held.
            where: what messages call it.

        Raises:
            UserError: the sizes do not fit.
        """
        fits = (lambda size: size == annotated) if exactly else (lambda size: same_shape(size, annotated))
        if heed_exif and self.orientation > 1 and fits(self.shown):
            return True
        if fits(self.size):
            return False
        turned = f" (shown as {self.shown[0]} x {self.shown[1]})" if self.shown != self.size else ""
        rule = "sizes must be equal" if exactly else "they may differ in size, but not in shape"
        raise UserError(
            f"{where} is {self.size[0]} x {self.size[1]}{turned}, but annotated as {annotated[0]} x {annotated[1]} "
            f"(width x height): {rule}; was it resized or cropped afterwards?"
        )


def upright(path: str) -> Image.Image:
    """A photo as it is shown.

    Raises:
        UserError: it cannot be read.
    """
    return ImageOps.exif_transpose(read_image(path))


def save_upright(picture: Image.Image, out: Path) -> None:
    """Write what `upright` gave; `out` ends as `suffix_of` says.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    if out.suffix == ".jpg":
        save_image(picture, out, quality=QUALITY, subsampling=0)
    else:
        save_image(picture, out)


def suffix_of(photo: str, turned: bool) -> str:
    """What the name of a photo's copy ends in: JPEGs that are turned stay JPEGs, all else becomes PNG then."""
    suffix = PurePosixPath(photo).suffix
    if not turned:
        return suffix
    return ".jpg" if suffix.lower() in (".jpg", ".jpeg") else ".png"
