"""One pass over images: accuracies and features are gathered as they come, and put together at the end.

Letters: N images of a batch, H W their size, h w that of their label maps, D numbers of a feature.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.confusion import Confusion, Scores
from evaluation.frechet import Gaussian, frechet_distance, kernel_distance
from evaluation.resizing import RESIZINGS
from evaluation.segmenters import Kind, read
from util.distributed import gather, rank


@dataclass(frozen=True)
class Segmenter:
    """A network with its weights, and what it is."""

    kind: Kind
    net: nn.Module


@dataclass
class Accuracies:
    """What a segmenter reads in images, against the layouts that they were made from."""

    segmenter: Segmenter
    confusion: Confusion
    by_place: dict[int, float] = field(default_factory=dict)  # pixel accuracy of each image; NaN: nothing is labelled

    @torch.no_grad()
    def add(self, places: list[int], images: Tensor, truth: Tensor) -> None:
        """Count a batch: images uint8 [N, 3, H, W] in RGB, label ids of the data set long [N, h, w]."""
        kind = self.segmenter.kind
        classes = read(kind, self.segmenter.net, images, tuple(truth.shape[-2:]))
        known = kind.class_of(truth)
        self.confusion.add(known, classes)
        right = (classes == known).sum((1, 2)) / (known >= 0).sum((1, 2))  # what is unknown is never read
        self.by_place.update(zip(places, right.tolist(), strict=True))

    def finish(self) -> Scores:
        """The scores over all processes' images; on the first, `by_place` has all of them then."""
        self.confusion.sum_over_processes()
        for others in gather(self.by_place):
            self.by_place |= others
        return self.confusion.scores(self.segmenter.kind.rule)


@dataclass
class Features:
    """A network's features of images, by place."""

    net: nn.Module
    resizing: str  # of RESIZINGS
    by_place: dict[int, np.ndarray] = field(default_factory=dict)

    @torch.no_grad()
    def add(self, places: list[int], images: Tensor) -> None:
        """Take a batch: images uint8 [N, 3, H, W] in RGB."""
        prepared = RESIZINGS[self.resizing](images, next(self.net.parameters()).dtype)
        vectors = self.net(prepared).float().cpu().numpy()  # [N, D]
        self.by_place.update(zip(places, vectors, strict=True))

    def finish(self) -> np.ndarray:
        """Features [N, D] in the order of places: on the first process of all images, elsewhere of its own."""
        for others in gather(self.by_place):
            self.by_place |= others
        return np.stack([self.by_place[place] for place in sorted(self.by_place)])


@dataclass
class Numbers:
    """What came out; None: not measured. Whole on the first process alone."""

    images: int
    accuracies: Scores | None = None
    accuracies_of_photos: Scores | None = None
    fid: float | None = None
    kid: float | None = None
    references: int | None = None  # photos that these compare with
    by_place: dict[int, float] = field(default_factory=dict)  # pixel accuracy of each image
    matrix: np.ndarray | None = None  # pixels [K, K], true class by read class


class Evaluator:
    """Takes images batch by batch, and gives the numbers."""

    def __init__(
        self,
        segmenter: Segmenter | None,
        features: Features | None = None,
        references: np.ndarray | None = None,
        reads_photos: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """None: that is not measured.

        Args:
            references: features of photos [M, D], to compare `features` with.
            reads_photos: the segmenter reads the photos too.
        """

        def accuracies() -> Accuracies:
            return Accuracies(segmenter, Confusion(len(segmenter.kind.ids), device))

        self._accuracies = accuracies() if segmenter else None
        self._of_photos = accuracies() if segmenter and reads_photos else None
        self._features, self._references = features, references

    @property
    def needs_photos(self) -> bool:
        """Whether `add` has to be given photos."""
        return self._of_photos is not None

    def add(self, places: list[int], images: Tensor, truth: Tensor, photos: Tensor | None = None) -> None:
        """Take a batch.

        Args:
            places: of the images among all.
            images: uint8 [N, 3, H, W], RGB.
            truth: label ids of the data set, long [N, h, w].
            photos: the real ones, uint8 [N, 3, H, W], RGB.
        """
        images = images.contiguous()  # or convolutions take other ways, and round otherwise, by where images come from
        if self._accuracies:
            self._accuracies.add(places, images, truth)
        if self._of_photos:
            self._of_photos.add(places, photos, truth)
        if self._features:
            self._features.add(places, images)

    def finish(self) -> Numbers:
        """The numbers over all processes' images, on the first; all processes call it together.

        Raises:
            ValueError: there are fewer than two images to compare features of.
        """
        numbers = Numbers(images=sum(gather(self._count())))
        if self._accuracies:
            numbers.accuracies = self._accuracies.finish()
            numbers.by_place, numbers.matrix = self._accuracies.by_place, self._accuracies.confusion.matrix.numpy()
        if self._of_photos:
            numbers.accuracies_of_photos = self._of_photos.finish()
        if self._features:
            made, real = self._features.finish(), self._references
            if rank() == 0:
                numbers.fid = frechet_distance(Gaussian.of(made), Gaussian.of(real))
                numbers.kid, numbers.references = kernel_distance(made, real), len(real)
        return numbers

    def _count(self) -> int:
        return len((self._accuracies or self._features).by_place)
