"""Pictures as files for a web page: the picture itself, and a small one that loads at once."""

from pathlib import Path

import numpy as np
from PIL import Image

from util.files import save_image
from util.html import Picture

QUALITY = 88  # of JPEG thumbnails


def save_picture(
    folder: Path, name: str, stem: str, pixels: np.ndarray, caption: str, width: int, flat: bool = False
) -> Picture:
    """Write folder/images/NAME/STEM.png and its thumbnail.

    Args:
        pixels: uint8 [H, W, 3].
        width: pixels that a thumbnail is wide at most.
        flat: a label map, which stays a PNG and gets no colours in between.
    """
    image = Image.fromarray(pixels)
    link = f"images/{name}/{stem}.png"
    save_image(image, folder / link)
    small = image
    if image.width > width:
        size = width, max(1, round(image.height * width / image.width))
        small = image.resize(size, Image.Resampling.NEAREST if flat else Image.Resampling.LANCZOS)
    thumbnail = f"thumbnails/{name}/{stem}.{'png' if flat else 'jpg'}"
    if flat and small is image:
        thumbnail = link
    else:
        save_image(small, folder / thumbnail, quality=QUALITY)
    return Picture(caption, link, thumbnail, image.size, flat)
