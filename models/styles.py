"""Which styles test.py synthesises each layout in.

Letters: N batch, Z = z_dim.
"""

import math
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.base_dataset import Preprocess, image_tensor, read_image
from models.base_model import BaseModel
from util.picture_kinds import SYNTHESIZED


class Styles:
    """The styles that a command line asks for: one of `plain`, a photo's, random ones, or a way between two.

    plain: that of the layout's own photo where there is one, else a random one; nothing for models without styles.
    """

    def __init__(self, opt: Namespace, model: BaseModel) -> None:
        """Encodes the photos that the flags name.

        Raises:
            UserError: a photo cannot be read, or the model has no encoder.
        """
        self._opt, self._model = opt, model
        self.photos: dict[str, np.ndarray] = {}  # path to pixels as the encoder sees them, uint8 [H, W, 3]
        self.captions: dict[str, str] = {}  # of the names that `of` gives
        self._fixed: dict[str, Tensor] = {}  # the same names to [1, Z] each; empty for plain
        if opt.style_image:
            self._fixed = {SYNTHESIZED: self._of_photo(opt.style_image)}
        elif opt.num_samples:
            for seed in range(opt.seed, opt.seed + opt.num_samples):
                self._add(f"seed {seed}", self._of_seed(seed))
        elif opt.interpolate:
            ends = opt.interpolate
            start, end = (self._of_photo(e) if is_photo(e) else self._of_seed(int(e)) for e in ends)
            first, last = (Path(e).name if is_photo(e) else f"seed {e}" for e in ends)
            for k in range(opt.steps):
                share = k / (opt.steps - 1)
                self._add({0: first, 1: last}.get(share, f"{share:.0%}"), between(start, end, share))

    def of(self, batch: dict[str, Any]) -> Iterator[tuple[str, Tensor | None]]:
        """For a batch of N layouts, one after the other: a name, and the styles [N, Z]; None leaves them to the model.

        A name stands for one style, which all layouts get, so that a column of the page is one style.
        """
        for name, z in (self._fixed or {SYNTHESIZED: None}).items():
            yield name, None if z is None else z.expand(len(batch["path"]), -1)

    def __len__(self) -> int:
        """In how many styles each layout is synthesised."""
        return max(1, len(self._fixed))

    def _add(self, caption: str, z: Tensor) -> None:
        name = f"{SYNTHESIZED}_s{len(self._fixed):02d}"
        self._fixed[name], self.captions[name] = z, caption

    def _of_photo(self, path: str) -> Tensor:
        photo = read_image(path)
        plan = Preprocess.from_options(self._opt).plan(photo.size, np.random.default_rng(0))
        photo = plan.apply(photo, Image.Resampling.BICUBIC)
        self.photos[path] = np.asarray(photo)
        return self._model.style_of(image_tensor(photo)[None].to(next(self._model.parameters()).device))

    def _of_seed(self, seed: int) -> Tensor:
        self._model.set_noise(seed)
        return self._model.random_styles(1)


def is_photo(end: str) -> bool:
    """Whether an end of --interpolate names a file; else it is the seed of a random style."""
    return not end.isdecimal() or Path(end).is_file()


def between(start: Tensor, end: Tensor, share: float) -> Tensor:
    """The style `share` of the way from one to another, [1, Z] each.

    Along the great circle between their directions (Shoemake 1985), with lengths in proportion: straight lines between
    random styles pass through shorter ones, which the generator has hardly seen.
    """
    lengths = start.norm(), end.norm()
    if share in (0, 1) or min(lengths) == 0:
        return start * (1 - share) + end * share
    a, b = start / lengths[0], end / lengths[1]
    angle = math.acos(max(-1.0, min(1.0, (a * b).sum().item())))
    if math.sin(angle) < 1e-6:  # the same direction, or the opposite one, between which no way is shorter
        return start * (1 - share) + end * share
    direction = (math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)
    return direction * torch.lerp(*lengths, share)
