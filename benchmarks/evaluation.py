"""evaluate.py's parts in images a second: python -m benchmarks evaluation [--parts NAME ...] [--rounds N] [--size W H].

Each network as evaluate.py runs it, and as it comes: channels first, an image at a time. Counting pixels into a
confusion matrix, and with NumPy's bincount image by image. Frechet distances, and with SciPy's root of a matrix.
Weights are random: they change no time.
"""

import statistics
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

from benchmarks.common import in_turns, report
from evaluation import inception
from evaluation.confusion import Confusion
from evaluation.frechet import Gaussian, frechet_distance
from evaluation.resizing import pytorch_fid
from evaluation.segmenters import SEGMENTERS, trained
from options.flags import command_parser, positive
from util.distributed import pick_device
from util.errors import run_main
from util.provenance import machine

CLASSES = 182
BATCH = 4


def plain_confusion(truth: np.ndarray, read: np.ndarray, classes: int) -> np.ndarray:
    """Pixels [K, K] of one image after the other, as scripts of this field count them."""
    matrix = np.zeros((classes, classes), np.int64)
    for t, r in zip(truth, read, strict=True):
        known = (t >= 0) & (t < classes)
        matrix += np.bincount(classes * t[known] + r[known], minlength=classes**2).reshape(classes, classes)
    return matrix


def plain_frechet(a: Gaussian, b: Gaussian) -> float:
    """With the root of the product of both covariances, which need not be real."""
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance + b.covariance - 2 * np.real(root)))


Side = Callable[[int], object]
NETWORKS = (*SEGMENTERS, trained.DEFAULT, "inception")
MATRIX, FRECHET = "matrix", "frechet"


def network(name: str) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    """One of NETWORKS, and its pass over RGB images, uint8 [N, 3, H, W]."""
    if name in SEGMENTERS:
        return SEGMENTERS[name].network(), SEGMENTERS[name].read
    if name == trained.DEFAULT:
        small = trained.build(name, CLASSES)
        return small, lambda net, images: trained.scores(net, images, images.shape[-2:]).argmax(1)
    return inception.FIDInception(), lambda net, images: net(pytorch_fid(images))


def measure_network(name: str, images: Tensor, rounds: int) -> None:
    """Print the two ways of going through images."""
    net, run = network(name)
    net.eval().to(images.device)
    print(f"\n{name}, {sum(p.numel() for p in net.parameters()):,} weights")

    def through(memory_format: torch.memory_format, batch: int) -> Side:
        def call(number: int) -> None:
            net.to(memory_format=memory_format)
            for part in images.split(batch):
                run(net, part)

        return call

    sides = {
        "channels first, one by one": through(torch.contiguous_format, 1),
        "as evaluate.py": through(torch.channels_last, BATCH),
    }
    report(in_turns(sides, rounds, images.device), len(images), ["channels first, one by one"])


def measure_matrix(width: int, height: int, rounds: int, device: torch.device) -> None:
    """Print the two ways of counting."""
    print(f"\nconfusion matrix of {CLASSES} classes")
    rng = torch.Generator().manual_seed(0)
    truth, read = (torch.randint(CLASSES, (64, height, width), generator=rng) for _ in range(2))
    matrix, on_device = Confusion(CLASSES, device), (truth.to(device), read.to(device))
    sides = {
        "bincount of each image": lambda number: plain_confusion(truth.numpy(), read.numpy(), CLASSES),
        "as evaluate.py": lambda number: matrix.add(*on_device),
    }
    report(in_turns(sides, rounds, device), len(truth), ["bincount of each image"])


def measure_frechet() -> None:
    """Print the two ways of computing a distance, and whether they agree."""
    dimensions = inception.FEATURES
    print(f"\nFrechet distance of {dimensions} features")
    points = np.random.default_rng(0)
    a, b = (Gaussian.of(points.normal(size=(dimensions + 1000, dimensions))) for _ in range(2))
    values: dict[str, float] = {}
    sides = {
        "sqrtm": lambda number: values.update(sqrtm=plain_frechet(a, b)),
        "as evaluate.py": lambda number: values.update(ours=frechet_distance(a, b)),
    }
    for name, times in in_turns(sides, 1, torch.device("cpu")).items():
        print(f"  {name}: {statistics.median(times):.1f} s")
    print(f"  the values differ by {abs(values['sqrtm'] - values['ours']):.1e} of {values['ours']:.1f}")


@torch.no_grad()
def main() -> None:
    """Measure what the command line names."""
    parser = command_parser("benchmarks evaluation", __doc__)
    parts = (*NETWORKS, MATRIX, FRECHET)
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, metavar="NAME", help=", ".join(parts))
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="timed calls of each side")
    parser.add_argument("--size", type=positive, nargs=2, default=(256, 256), metavar=("W", "H"), help="pixels")
    parser.add_argument("--gpu_ids", default="-1", help="a GPU's id, or -1 for the CPU")
    args = parser.parse_args()
    device = pick_device([] if args.gpu_ids == "-1" else [int(args.gpu_ids)])
    width, height = args.size
    print(f"{machine()}; images of {width} x {height}")
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH, 3, height, width), dtype=torch.uint8, generator=rng).to(device)
    for name in args.parts:
        if name in NETWORKS:
            measure_network(name, images, args.rounds)
    if MATRIX in args.parts:
        measure_matrix(width, height, args.rounds, device)
    if FRECHET in args.parts:
        measure_frechet()


if __name__ == "__main__":
    run_main(main)
