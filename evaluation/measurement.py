"""All that measuring takes, made once: the layouts, the networks that read images, the features of photos."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from data import create_dataloader, create_dataset
from data.pix2pix_dataset import Pix2pixDataset
from evaluation import inception
from evaluation.evaluator import Distance, Evaluator, Features, Numbers, Segmenter
from evaluation.metrics import INCEPTION, OF_SEGMENTER, SHARES
from evaluation.pairs import Pairs, chosen_places, photos_to_uint8
from evaluation.protocol import AT_LABEL, PROTOCOLS
from evaluation.references import OF_LAYOUTS, Photos, features_of, reference_photos
from evaluation.resizing import RESIZINGS
from evaluation.segmenters import SEGMENTERS, trained
from evaluation.weights import load_released
from util.distributed import busy_with, gather, pick_device, rank, to_device
from util.errors import UserError
from util.files import digest, sha256
from util.precision import check_amp

Make = Callable[[dict[str, Any], int], Tensor]  # a batch and the place of its first item to images, uint8 [N, 3, H, W]


class Measurement:
    """Measures images of the layouts that the options name, as often as they are made anew."""

    def __init__(self, opt: Namespace) -> None:
        """Looks at files and loads networks, before anything that takes time.

        Raises:
            UserError: something the user can mend; the message says what.
        """
        self.opt, self.device = opt, pick_device(opt.gpu_ids)
        check_amp(opt.amp, self.device)
        dataset = create_dataset(opt)
        if not isinstance(dataset, Pix2pixDataset):
            raise UserError(f"--dataset_mode {opt.dataset_mode} has no label maps to compare with")
        places = chosen_places(opt, dataset)
        if len(places) < 2 and not opt.no_fid:
            raise UserError("FID compares two images at least, and there is one; --no_fid leaves it out")
        if opt.real and not dataset.has_photos:
            raise UserError("--real: the layouts have no photos (--image_dir); drop it")
        if opt.shuffled and len(places) < 2:
            raise UserError("--shuffled compares with the layouts of others, and there is one layout; drop it")
        self.notes: list[str] = []  # what is not measured, and why
        at_label = PROTOCOLS[opt.protocol].compared_at == AT_LABEL
        photos = None if opt.no_fid else reference_photos(opt, dataset, places)
        self.pairs = Pairs(dataset, opt.synthesized, places, at_label, with_others=opt.shuffled)
        if opt.subset and opt.subset.isdecimal() and int(opt.subset) > len(places):
            self.notes.append(f"--subset {opt.subset}: there are {len(places)} layouts")
        self.trained: trained.Trained | None = None  # the segmenter's file, where it is one's own
        self.segmenter_name: str | None = None  # or its file's, with the first digits of its SHA-256
        self.segmenter = None if opt.no_miou else self._build_segmenter()
        self.photos: str | None = None  # a digest of the names of those that distances compare with
        self._distances = self._build_distances(dataset, photos)
        self.layouts = digest([dataset.label_version(place) for place in places])

    @property
    def metrics(self) -> list[str]:
        """Names of what is measured."""
        names = [name for distance in self._distances for name in distance.names]
        return [*(SHARES if self.segmenter else ()), *names]

    @property
    def measured_with(self) -> str:
        """A digest of all that numbers depend on beside the generator."""
        opt = self.opt
        return digest([self.layouts, self.photos, self.segmenter_name, opt.protocol, opt.resizing, opt.weights])

    def measure(self, make: Make | None, is_stopped: Callable[[], bool] = lambda: False) -> Numbers | None:
        """The numbers, whole on the first process; all call it together.

        Args:
            make: images of a batch; None: they are those of --synthesized.
            is_stopped: whether this process was asked to stop; if any was, the result is None.
        """
        opt = self.opt
        evaluator = Evaluator(self.segmenter, self._distances, opt.real, opt.shuffled, self.device)
        loader = create_dataloader(Namespace(**{**vars(opt), "how_many": None}), self.pairs)
        places, done = loader.batch_sampler.own_places().tolist(), 0
        busy_with("evaluating")
        with tqdm(total=len(places), unit="img", leave=False, disable=None if rank() == 0 else True) as bar:
            for batch in loader:
                if is_stopped():
                    break
                batch = to_device(batch, self.device)
                own = places[done : done + len(batch["path"])]
                images = self._images(batch, own[0], make)
                photos = photos_to_uint8(batch["image"]) if evaluator.needs_photos else None
                evaluator.add(own, images, batch["truth"], photos, batch.get("other"))
                done += len(own)
                bar.update(len(own))
        if any(gather(is_stopped(), everywhere=True)):
            return None
        return evaluator.finish()

    def look(self, place: int, make: Make | None) -> tuple[dict[str, Any], Tensor, Tensor]:
        """One item's batch, its image uint8 [1, 3, H, W], and the classes that the segmenter reads [1, h, w]."""
        batch = to_device(default_collate([self.pairs[place]]), self.device)
        images = self._images(batch, place, make)
        size = tuple(batch["truth"].shape[-2:])
        return batch, images, self.segmenter.kind.read(self.segmenter.net, images.contiguous(), size)

    def _images(self, batch: dict[str, Any], place: int, make: Make | None) -> Tensor:
        return batch["synthesized"] if make is None else make(batch, place)

    def _build_segmenter(self) -> Segmenter:
        opt = self.opt
        if opt.segmenter in SEGMENTERS:
            self.segmenter_name = opt.segmenter
            kind = SEGMENTERS[opt.segmenter]
            net = kind.network().eval()
            load_released(net, kind.files, opt.segmenter_weights, "--segmenter_weights")
        else:
            self.segmenter_name = f"{Path(opt.segmenter).name} ({sha256(Path(opt.segmenter))[:12]})"
            self.trained = trained.read(Path(opt.segmenter))
            trained.check_classes(self.trained, opt.segmenter, opt.label_nc)
            kind, net = self.trained.kind(opt.class_table), self.trained.net()
            if self.trained.names and opt.class_table and self.trained.names != kind.names:
                differ = next((a, b) for a, b in zip(self.trained.names, kind.names, strict=True) if a != b)
                self.notes.append(f"--segmenter {opt.segmenter} calls a class {differ[0]}, the layouts {differ[1]}")
            if not self.trained.is_finished:
                done = f"{self.trained.epochs} of {self.trained.of_epochs} epochs"
                self.notes.append(
                    f"--segmenter {opt.segmenter} is unfinished ({done}): the command that made it goes on"
                )
        return Segmenter(kind, net.to(self.device, memory_format=torch.channels_last))  # the faster for convolutions

    def _build_distances(self, dataset: Pix2pixDataset, photos: Photos | None) -> list[Distance]:
        opt, found = self.opt, []
        if photos is not None:
            net = inception.FIDInception().eval()
            paths = [opt.inception_weights] if opt.inception_weights else []
            load_released(net, inception.FILES, paths, "--inception_weights")
            found.append((self._features(net, RESIZINGS[opt.resizing], opt.resizing), photos, INCEPTION))
        if self.trained is not None and self._can_compare(dataset):
            photos = photos or reference_photos(opt, dataset, self.pairs.places)
            features = self._features(trained.PooledFeatures(self.segmenter.net), trained.prepared, "own size")
            found.append((features, photos, OF_SEGMENTER))
        if photos is not None:
            self.photos = digest([photos.version(place)[0] for place in range(len(photos))])
        return [Distance(features, features_of(photos, features, opt), names) for features, photos, names in found]

    def _can_compare(self, dataset: Pix2pixDataset) -> bool:
        """Whether there are two images and photos at least: a segmenter's features are no reason to stop."""
        if len(self.pairs.places) < 2 or (self.opt.reference == OF_LAYOUTS and not dataset.has_photos):
            self.notes.append("no distance in the segmenter's features: it takes two images and two photos at least")
            return False
        return True

    def _features(self, net: torch.nn.Module, prepare: Callable[..., Tensor], resizing: str) -> Features:
        return Features(net.to(self.device, memory_format=torch.channels_last), prepare, resizing)
