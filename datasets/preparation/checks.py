"""Looks at files before and during the work."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from data.base_dataset import read_image
from data.pix2pix_dataset import same_shape
from util.errors import UserError

Item = TypeVar("Item")
CHECKED = 4  # items of each part that are looked at before the work


def look_first(look: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Refuse, before the work, items of which the first few are all wrong; one that is damaged is told at the end.

    Raises:
        UserError: what `look` says of the first.
    """
    errors = []
    for item in items[:CHECKED]:
        try:
            look(item)
            return
        except UserError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def check_photo(where: str, content: bytes, size: tuple[int, int], map_where: str) -> None:
    """Refuse a photo that is damaged, or of another shape than its label map of `size` (width, height).

    Raises:
        UserError: it is so.
    """
    picture = read_image(where, content)
    if not same_shape(picture.size, size):
        raise UserError(
            f"{where} is {picture.width} x {picture.height} but {map_where} is {size[0]} x {size[1]} (width x "
            "height): they are not one picture; unpack both again"
        )
