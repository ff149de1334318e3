"""Photos that are nearly the same: small grey versions of them that correlate.

Letters: N M photos, D = 24 x 24 grey levels.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

SIDE = 24
CORRELATION = 0.97  # from which photos count as nearly the same: frames of a video, or one that was cropped a little
BLOCK = 4096  # photos that are compared at a time: 4096 x 4096 float32 products are 64 MiB


def grey_of(photo: Image.Image) -> np.ndarray:
    """The photo's grey levels, whatever its shape: uint8 [24, 24]."""
    return np.asarray(photo.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def normalised(greys: Sequence[np.ndarray]) -> np.ndarray:
    """Grey levels as vectors whose products are correlations: float32 [N, D]; of one level: zeros."""
    values = np.stack(greys).reshape(len(greys), -1).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    lengths = np.sqrt((values**2).sum(1, keepdims=True))
    return values / np.maximum(lengths, 1e-6)


def nearest(asked: Sequence[np.ndarray], known: Sequence[np.ndarray], correlation: float) -> Iterator[tuple]:
    """For each of N photos the most alike of M others, where they correlate by at least so much.

    Yields:
        The photo's place, the other's place, and their correlation.
    """
    b = normalised(known)
    for start in range(0, len(asked), BLOCK):
        a = normalised(asked[start : start + BLOCK])
        best, place = np.full(len(a), -2.0, np.float32), np.zeros(len(a), np.int64)
        for first in range(0, len(b), BLOCK):
            products = a @ b[first : first + BLOCK].T  # [block, block]
            highest = products.argmax(1)
            value = products[np.arange(len(a)), highest]
            better = value > best
            best[better], place[better] = value[better], first + highest[better]
        for i in np.flatnonzero(best >= correlation):
            yield start + int(i), int(place[i]), float(best[i])
