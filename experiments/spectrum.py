"""Where synthesised images have more or less power than photos: grids, textures, blur; and how far colours are off.

    python -m experiments spectrum --photos DIR FOLDER [FOLDER ...]

Prints, for each folder of images, the ratio of its mean power to that of the photos, 1 being as in them: by wavelength,
coarse to fine; the largest among waves of the grids that up-sampling can leave, each without those of finer grids, 2
pixels being the checkerboard's (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts"); and the largest of all,
and where it is. Before them stands how far the mean red, green and blue, 0 .. 255, are above those of the photos. All
pictures are to be of one size.
"""

import itertools
import sys

import numpy as np

from data.base_dataset import read_image
from data.image_folder import list_images
from experiments.tables import table
from options.flags import command_parser
from util.errors import UserError

BANDS = (32, 16, 8, 4)  # pixels: wavelengths above the first, between neighbours, below the last
GRIDS = (2, 4, 8, 16)  # pixels


def mean_power(folder: str) -> np.ndarray:
    """Of the pictures' grey values 0 .. 255, by frequency [H, W], as np.fft.fft2 has them.

    A Hann window keeps borders, which do not continue on the other side, from looking like edges.

    Raises:
        UserError: there are no pictures, or of several sizes.
    """
    paths = list_images(folder)
    if not paths:
        raise UserError(f"{folder} has no pictures")
    size = read_grey(paths[0]).shape
    window, power = np.outer(*(np.hanning(side) for side in size)), np.zeros(size)
    for path in paths:
        grey = read_grey(path)
        if grey.shape != size:
            raise UserError(f"{path} is of another size than {paths[0]}; give folders of pictures of one size")
        power += np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / len(paths)
    return power


def mean_colour(folder: str) -> np.ndarray:
    """Red, green and blue, 0 .. 255, [3]."""
    return np.mean([np.asarray(read_image(path).convert("RGB")).mean((0, 1)) for path in list_images(folder)], 0)


def read_grey(path: str) -> np.ndarray:
    """Grey values 0 .. 255, [H, W].

    Raises:
        UserError: the file is no image.
    """
    return np.asarray(read_image(path).convert("L"), dtype=np.float64)


def wavelengths(size: tuple[int, int]) -> np.ndarray:
    """In pixels, by frequency [H, W]; infinite at the mean."""
    down, across = (np.fft.fftfreq(side) for side in size)
    with np.errstate(divide="ignore"):
        return 1 / np.hypot(down[:, None], across)


def of_bands(power: np.ndarray) -> list[float]:
    """Power of wavelengths above 32 pixels, of 32 to 16, ..., below 4; the mean, which is no wave, belongs to none."""
    waves = wavelengths(power.shape)
    band = np.where(np.isinf(waves), -1, len(BANDS) - np.searchsorted(BANDS[::-1], waves, "right"))
    return [float(power[band == i].sum()) for i in range(len(BANDS) + 1)]


def ratios_to(real: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Power over that of the photos, by frequency; 0 at the mean, which is no wave."""
    return np.where(np.isinf(wavelengths(power.shape)), 0, power / np.maximum(real, 1e-12))


def of_grids(ratios: np.ndarray) -> list[float]:
    """The largest ratio of waves that repeat after 2, 4, ... pixels down and across, and not after half as many."""
    found = []
    for pixels in GRIDS:
        rows, columns = (np.round(np.arange(pixels) * side / pixels).astype(int) for side in ratios.shape)
        waves = ratios[np.ix_(rows, columns)]
        waves[::2, ::2] = 0  # of the grid of half as many
        found.append(float(waves.max()))
    return found


def main() -> None:
    """Print the table.

    Raises:
        UserError: a folder has no pictures, or they are of several sizes.
    """
    parser = command_parser("experiments spectrum", __doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders of synthesised images")
    parser.add_argument("--photos", required=True, metavar="DIR", help="photos of the same size")
    args = parser.parse_args(sys.argv[1:])
    real, colour, rows = mean_power(args.photos), mean_colour(args.photos), []
    for folder in args.folders:
        power = mean_power(folder)
        if power.shape != real.shape:
            sizes = (f"{height} x {width}" for height, width in (power.shape, real.shape))
            raise UserError(
                f"{folder} has pictures of {' pixels, --photos of '.join(sizes)}; they are to be of one size"
            )
        ratios = ratios_to(real, power)
        parts = [f"{a / b:.2g}" if b else "" for a, b in zip(of_bands(power), of_bands(real), strict=True)]
        off = ", ".join(f"{round(part):+d}" for part in mean_colour(folder) - colour)
        rows.append([folder, off, *parts, *(f"{part:.2g}" for part in of_grids(ratios)), largest(ratios)])
    bands = [f"over {BANDS[0]} px", *(f"{a} to {b}" for a, b in itertools.pairwise(BANDS)), f"under {BANDS[-1]}"]
    print(table(["power / photos'", "red, green, blue", *bands, *(f"{n} px grid" for n in GRIDS), "most"], rows))


def largest(ratios: np.ndarray) -> str:
    """The largest ratio of all frequencies, and the wavelengths where it is."""
    at = np.unravel_index(np.argmax(ratios), ratios.shape)
    steps = [abs(np.fft.fftfreq(side)[k]) for side, k in zip(ratios.shape, at, strict=True)]  # cycles a pixel
    down, across = (f"{1 / step:.3g}" if step else "none" for step in steps)
    return f"{ratios.max():.2g} ({down} px down, {across} across)"
