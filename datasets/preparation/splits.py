"""Which images are held back for validation, where a data set does not say."""

import hashlib
import math
from collections.abc import Iterable


def validation_part(names: Iterable[str], amount: float, seed: int) -> set[str]:
    """The names that are held back: a function of each name and the seed, so that more images later move few.

    Args:
        names: what must stay together is one name, such as all frames of a video.
        amount: a share where it is below 1, at least one name then; else a number of names.
    """
    names = sorted(set(names))
    count = math.ceil(amount * len(names)) if amount < 1 else int(amount)

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()

    return set(sorted(names, key=place)[:count])
