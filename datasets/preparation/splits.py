"""Which images are held back for validation, where a data set does not say."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable


def wanted_of(images: int, amount: float) -> int:
    """How many of the images are to be held back.

    Args:
        amount: a share of the images where it is below 1, at least one then; else a number of images.
    """
    # Rounded first, since 0.07 * 100 is more than 7 in binary fractions.
    return math.ceil(round(amount * images, 6)) if amount < 1 else int(amount)


def validation_part(names: Iterable[str], amount: float, seed: int) -> set[str]:
    """The names that are held back: a function of each name and the seed, so that more images later move few.

    Names that stand for several images are whole: one is taken if that comes nearer to the number. Where all are too
    large, the smallest is.

    Args:
        names: of each image, the same one for all that must stay together, such as the frames of a video.
        amount: as `wanted_of` has it.
    """
    images = Counter(names)
    wanted = wanted_of(images.total(), amount)

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()

    order = sorted(images, key=place)
    held_back, missing = set(), wanted
    for name in order:
        if images[name] < 2 * missing:
            held_back.add(name)
            missing -= images[name]
    if wanted and order and not held_back:
        held_back.add(min(order, key=images.__getitem__))
    return held_back
