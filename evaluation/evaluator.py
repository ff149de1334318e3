"""One pass over images: accuracies and features are gathered as they come, and put together at the end.

Letters: N images of a batch, H W their size, h w that of their label maps, D numbers of a feature, M photos.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.confusion import Confusion, Scores
from evaluation.frechet import Gaussian, frechet_distance, kernel_distance
from evaluation.metrics import INCEPTION, OF_SEGMENTER, SHARES
from evaluation.segmenters.kind import Kind
from util.distributed import gather, rank


@dataclass(frozen=True)
class Segmenter:
    """A network with its weights, and what it is."""

    kind: Kind
    net: nn.Module


@dataclass
class Accuracies:
    """What a segmenter reads in images, against layouts."""

    kind: Kind
    confusion: Confusion
    by_place: dict[int, float] = field(default_factory=dict)  # pixel accuracy of each image; NaN: nothing is labelled

    def add(self, places: list[int], classes: Tensor, truth: Tensor) -> None:
        """Count a batch: classes that were read [N, h, w], label ids of the data set long [N, h, w]."""
        known = self.kind.class_of(truth)
        self.confusion.add(known, classes)
        right = (classes == known).sum((1, 2)) / (known >= 0).sum((1, 2))  # what is unknown is never read
        self.by_place.update(zip(places, right.tolist(), strict=True))

    def finish(self) -> Scores:
        """The scores over all processes' images; on the first, `by_place` has all of them then."""
        self.confusion.sum_over_processes()
        for others in gather(self.by_place):
            self.by_place |= others
        return self.confusion.scores(self.kind.rule)


@dataclass
class Features:
    """A network's features of images, by place."""

    net: nn.Module
    prepare: Callable[..., Tensor]  # RGB images, uint8 [N, 3, H, W], and a dtype, to what the network takes
    resizing: str  # the name of this
    by_place: dict[int, np.ndarray] = field(default_factory=dict)

    def fresh(self) -> "Features":
        """The same without images."""
        return Features(self.net, self.prepare, self.resizing)

    @torch.no_grad()
    def add(self, places: list[int], images: Tensor) -> None:
        """Take a batch: images uint8 [N, 3, H, W] in RGB."""
        ready = self.prepare(images, next(self.net.parameters()).dtype)
        vectors = self.net(ready).float().cpu().numpy()  # [N, D]
        self.by_place.update(zip(places, vectors, strict=True))

    def finish(self) -> np.ndarray:
        """Features [N, D] in the order of places: on the first process of all images, elsewhere none."""
        for others in gather(self.by_place):
            self.by_place |= others
        if rank() > 0:  # which may have had no image
            return np.empty((0, 0), np.float32)
        return np.stack([self.by_place[place] for place in sorted(self.by_place)])


@dataclass(frozen=True)
class Distance:
    """Features of images, to be compared with those of photos [M, D]."""

    features: Features
    references: np.ndarray
    names: tuple[str, str]  # of `Numbers`: where the Frechet and the kernel distance go


@dataclass
class Numbers:
    """What came out; None: not measured. Whole on the first process alone."""

    images: int
    accuracies: Scores | None = None
    accuracies_of_photos: Scores | None = None
    accuracies_of_others: Scores | None = None  # of the same images against layouts of others
    fid: float | None = None
    kid: float | None = None
    segmenter_frechet: float | None = None  # in the features of a segmenter of one's own: no FID
    segmenter_kernel: float | None = None
    references: int | None = None  # photos that these compare with
    by_place: dict[int, float] = field(default_factory=dict)  # pixel accuracy of each image
    matrix: np.ndarray | None = None  # pixels [K, K], true class by read class

    def metrics(self) -> dict[str, float]:
        """What was measured of the images, by name; shares in 0 .. 1."""
        found = {} if self.accuracies is None else {name: getattr(self.accuracies, name) for name in SHARES}
        found |= {name: getattr(self, name) for name in (*INCEPTION, *OF_SEGMENTER)}
        return {name: value for name, value in found.items() if value is not None}


class Evaluator:
    """Takes images batch by batch, and gives the numbers."""

    def __init__(
        self,
        segmenter: Segmenter | None,
        distances: Sequence[Distance] = (),
        reads_photos: bool = False,
        reads_others: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Without a segmenter, accuracies are not measured.

        Args:
            reads_photos: the segmenter reads the photos too.
            reads_others: what it reads is compared with layouts of others too.
        """

        def accuracies() -> Accuracies:
            return Accuracies(segmenter.kind, Confusion(len(segmenter.kind.ids), device))

        self._segmenter = segmenter
        self._accuracies = accuracies() if segmenter else None
        self._of_photos = accuracies() if segmenter and reads_photos else None
        self._of_others = accuracies() if segmenter and reads_others else None
        self._distances = [(distance, distance.features.fresh()) for distance in distances]
        self._images = 0

    @property
    def needs_photos(self) -> bool:
        """Whether `add` has to be given photos."""
        return self._of_photos is not None

    def add(
        self,
        places: list[int],
        images: Tensor,
        truth: Tensor,
        photos: Tensor | None = None,
        other: Tensor | None = None,
    ) -> None:
        """Take a batch.

        Args:
            places: of the images among all.
            images: uint8 [N, 3, H, W], RGB.
            truth: label ids of the data set, long [N, h, w].
            photos: the real ones, uint8 [N, 3, H, W], RGB.
            other: label ids of layouts of others, long [N, h, w].
        """
        images = images.contiguous()  # or convolutions take other ways, and round otherwise, by where images come from
        self._images += len(places)
        if self._segmenter:
            kind, net, size = self._segmenter.kind, self._segmenter.net, tuple(truth.shape[-2:])
            classes = kind.read(net, images, size)
            self._accuracies.add(places, classes, truth)
            if self._of_photos:
                self._of_photos.add(places, kind.read(net, photos, size), truth)
            if self._of_others:
                self._of_others.add(places, classes, other)
        for _, features in self._distances:
            features.add(places, images)

    def finish(self) -> Numbers:
        """The numbers over all processes' images, on the first; all processes call it together.

        Raises:
            ValueError: there are fewer than two images to compare features of.
        """
        numbers = Numbers(images=sum(gather(self._images)))
        if self._accuracies:
            numbers.accuracies = self._accuracies.finish()
            numbers.by_place, numbers.matrix = self._accuracies.by_place, self._accuracies.confusion.matrix.numpy()
        if self._of_photos:
            numbers.accuracies_of_photos = self._of_photos.finish()
        if self._of_others:
            numbers.accuracies_of_others = self._of_others.finish()
        for distance, features in self._distances:
            made, real = features.finish(), distance.references
            if rank() == 0:
                found = frechet_distance(Gaussian.of(made), Gaussian.of(real)), kernel_distance(made, real)
                named = dict(zip(distance.names, found, strict=True))
                numbers = replace(numbers, references=len(real), **named)
        return numbers
