"""The photos that distances compare with, and their features, which are kept from one evaluation to the next."""

import hashlib
import io
import itertools
import secrets
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from data import create_dataset
from data.base_dataset import Preprocess, read_image
from data.image_folder import list_images
from data.pix2pix_dataset import Pix2pixDataset, version_of
from data.sampler import PositionedBatches, Share
from data.workers import begin_work, default_workers, end_work_at_exit
from evaluation.evaluator import Features
from evaluation.flags import WITHOUT_PARTS
from util.distributed import broadcast, pick_device, rank, world_size
from util.errors import UserError
from util.files import write_atomically

OF_LAYOUTS, OF_TRAINING = "val", "train"


class Photos(Dataset):
    """Photos as a data set's preprocessing makes them, uint8 [3, H, W]: of files, in `LayoutPhotos` of a data set."""

    def __init__(self, paths: Sequence[str], preprocess: Preprocess) -> None:
        self._paths, self.preprocess = paths, preprocess

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> Image.Image:
        """A photo, RGB."""
        return read_image(self._paths[index])

    def version(self, index: int) -> tuple[str | int, ...]:
        """What changes when a photo does."""
        return version_of(self._paths[index])

    def __getitem__(self, key: tuple[int, object]) -> Tensor:
        photo = self.read(key[0])
        plan = self.preprocess.plan(photo.size, np.random.default_rng(0))  # which draws nothing at test
        pixels = np.asarray(plan.apply(photo, Image.Resampling.BICUBIC))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


class LayoutPhotos(Photos):
    """Those of the layouts at some places of a data set."""

    def __init__(self, dataset: Pix2pixDataset, places: Sequence[int], preprocess: Preprocess) -> None:
        self._dataset, self._places, self.preprocess = dataset, places, preprocess

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> Image.Image:
        return self._dataset.photo(self._places[index])

    def version(self, index: int) -> tuple[str | int, ...]:
        return self._dataset.photo_version(self._places[index])


def reference_photos(opt: Namespace, dataset: Pix2pixDataset, places: Sequence[int]) -> Photos:
    """Those that --reference names: of the layouts at `places`, of the training set, or of a folder.

    Raises:
        UserError: there are fewer than two.
    """
    if opt.reference == OF_LAYOUTS:
        photos = LayoutPhotos(dataset, places if dataset.has_photos else [], dataset.preprocess)
        way_out = "--image_dir, or --reference FOLDER names some"
    elif opt.reference == OF_TRAINING:
        photos = LayoutPhotos(*_training_photos(opt), dataset.preprocess)
        way_out = "--reference FOLDER names some"
    elif not Path(opt.reference).is_dir():
        raise UserError(
            f"--reference {opt.reference} is no folder of photos, nor {OF_LAYOUTS} (those of the layouts), nor "
            f"{OF_TRAINING} (those of the training set)"
        )
    else:
        photos, way_out = Photos(list_images(opt.reference, recursive=True), dataset.preprocess), "give another folder"
    if len(photos) < 2:
        raise UserError(
            f"--reference {opt.reference} has {len(photos)} photo(s), and FID takes two at least ({way_out}); --no_fid "
            "leaves it out"
        )
    return photos


def _training_photos(opt: Namespace) -> tuple[Pix2pixDataset, Sequence[int]]:
    """The training part of the data set, and all its places."""
    if opt.dataset_mode in WITHOUT_PARTS:
        raise UserError(
            f"--reference {OF_TRAINING}: --dataset_mode {opt.dataset_mode} has no folders by which training photos are "
            "found; give theirs as --reference FOLDER"
        )
    whole = {"phase": "train", "max_dataset_size": None, "label_dir": None, "image_dir": None, "instance_dir": None}
    training = create_dataset(Namespace(**{**vars(opt), **whole}))
    return training, range(len(training) if training.has_photos else 0)


def features_of(photos: Photos, like: Features, opt: Namespace) -> np.ndarray:
    """Features [N, D] of photos, as `like` makes them, on the first process: from --features_dir, or computed and kept
    there."""
    path = Path(opt.features_dir, f"{_fingerprint(photos, like)}.npy")
    known = _read(path, len(photos))
    if broadcast(known is not None):
        return known
    features = _computed(photos, like, opt)
    if rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, features, allow_pickle=False)
        own = path.with_suffix(f".{secrets.token_hex(4)}")  # other evaluations may be writing the same
        write_atomically(own, buffer.getvalue())
        own.replace(path)
    return features


def _computed(photos: Photos, like: Features, opt: Namespace) -> np.ndarray:
    device, features = pick_device(opt.gpu_ids), like.fresh()
    share = Share(rank(), world_size(), 1)
    batches = PositionedBatches(len(photos), opt.batchSize, shuffle=False, seed=0, complete=False, share=share)
    workers = default_workers() if opt.nThreads is None else opt.nThreads
    if workers:
        end_work_at_exit()
    loader = DataLoader(photos, batch_sampler=batches, num_workers=workers, collate_fn=list, worker_init_fn=begin_work)
    places, done = batches.own_places().tolist(), 0
    with tqdm(total=len(places), unit="photo", disable=None if rank() == 0 else True) as bar:
        for items in loader:
            for _, alike in itertools.groupby(items, lambda item: item.shape):
                stacked = torch.stack(list(alike))
                features.add(places[done : done + len(stacked)], stacked.to(device))
                done += len(stacked)
                bar.update(len(stacked))
    return features.finish()


def _fingerprint(photos: Photos, like: Features) -> str:
    """What the features depend on: files by name, size and time, preprocessing, resizing and weights."""
    digest = hashlib.sha256(repr((photos.preprocess, like.resizing)).encode())
    for index in range(len(photos)):
        digest.update(repr(photos.version(index)).encode())
    for key, value in like.net.state_dict().items():
        digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _read(path: Path, count: int) -> np.ndarray | None:
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged: they are computed anew
        return None
    return features if features.ndim == 2 and len(features) == count and np.isfinite(features).all() else None
