"""A system, a network's worth of flags and a data set that train.py, test.py and the pages have never heard of."""

import argparse
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

import test as test_script
import train as train_script
from data import DATASETS
from data.base_dataset import BaseDataset, image_tensor, read_image
from models.base_model import BaseModel
from trainers import SYSTEMS, System
from trainers.base_trainer import BaseTrainer
from util.errors import UserError
from util.images import to_uint8


class Paintings(BaseDataset):
    """RGB sketches beside photos, in one folder."""

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        group.add_argument("--sketches", help="folder of the sketches")

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        return dict(preprocess_mode="resize_and_crop", load_size=40, crop_size=40)  # no multiple of 32

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        self.paths = sorted(str(p) for p in Path(opt.sketches).iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        sketch = read_image(self.paths[index])
        plan = self.preprocess.plan(sketch.size, rng)
        tensor = image_tensor(plan.apply(sketch, Image.Resampling.BICUBIC))
        return {"sketch": tensor, "image": -tensor, "path": self.paths[index]}


class ToyModel(BaseModel):
    """Two small generators in a row and a discriminator; the first drops out at random."""

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        group.add_argument("--toy_width", type=int, default=3)

    @staticmethod
    def defaults(is_train: bool) -> dict[str, Any]:
        return dict(dataset_mode="paintings", batchSize=2)

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        self.first = nn.Sequential(nn.Conv2d(3, opt.toy_width, 3, padding=1), nn.Dropout(0.5))
        self.second = nn.Conv2d(opt.toy_width, 3, 3, padding=1)
        self.judge = nn.Conv2d(3, 1, 4, stride=4) if opt.isTrain else None

    def networks(self) -> dict[str, nn.Module]:
        nets = {"G1": self.first, "G2": self.second, "D": self.judge}
        return {name: net for name, net in nets.items() if net is not None}

    def forward(self, sketch: Tensor) -> Tensor:
        return torch.tanh(self.second(self.first(sketch)))

    @torch.no_grad()
    def generate(self, batch: dict[str, Any], z: Tensor | None = None) -> Tensor:
        return self(batch["sketch"])

    def input_picture(self, batch: dict[str, Any]) -> np.ndarray:
        return to_uint8(batch["sketch"])


class ToyTrainer(BaseTrainer):
    """The discriminator first; three optimisers."""

    def build_optimizers(self) -> dict[str, Optimizer]:
        nets = self.model.networks()
        return {name: self.make_optimizer(list(net.parameters())) for name, net in nets.items()}

    def update(self, batch: dict[str, Any]) -> None:
        self._move(["D"], batch, self._judge_loss)
        self._move(["G1", "G2"], batch, self._painter_loss)

    def _judge_loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        judge, fake = self.model.judge, self.model(batch["sketch"]).detach()
        return {"judge": F.relu(1 + judge(fake)).mean() + F.relu(1 - judge(batch["image"])).mean()}

    def _painter_loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        fake = self.model(batch["sketch"])
        self.keep_for_showing(batch, fake)
        return {"painter": F.l1_loss(fake, batch["image"]) - self.model.judge(fake).mean()}

    def _move(self, names: list[str], batch: dict[str, Any], losses_of: Any) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        self.record(self.accumulate(batch, losses_of))
        for name in names:
            self.advance(name)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The toy system registered, five sketches, and the flags that both scripts take."""
    monkeypatch.setitem(DATASETS, "paintings", Paintings)
    monkeypatch.setitem(SYSTEMS, "toy", System(ToyModel, ToyTrainer))
    monkeypatch.chdir(tmp_path)
    os.mkdir("sketches")
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (50, 50, 3), np.uint8)).save(f"sketches/{i}.png")
    return ["--model", "toy", "--sketches", "sketches", "--gpu_ids", "-1", "--nThreads", "0"]


def weights(name: str) -> dict[str, Tensor]:
    return {
        f"{path.name}/{key}": value
        for path in sorted(Path("checkpoints", name).glob("latest_net_*.pth"))
        for key, value in torch.load(path, weights_only=True).items()
    }


def test_a_toy_system_trains_resumes_and_tests(toy: list[str]) -> None:
    train_script.main([*toy, "--name", "whole", "--niter", "4", "--print_freq", "1", "--toy_width", "5"])
    half = [*toy, "--name", "halves", "--print_freq", "1", "--toy_width", "5"]
    train_script.main([*half, "--niter", "2"])
    train_script.main([*half, "--niter", "4", "--continue_train"])
    whole, halves = weights("whole"), weights("halves")
    assert {key.split("/")[0] for key in whole} == {f"latest_net_{name}.pth" for name in ("G1", "G2", "D")}
    assert list(whole) == list(halves)
    assert all(torch.equal(whole[key], halves[key]) for key in whole)  # dropout included

    train_script.main([*toy, "--name", "parts", "--niter", "1", "--accumulate", "2", "--print_freq", "2"])
    assert "judge: " in Path("checkpoints/parts/loss_log.txt").read_text()

    with pytest.raises(UserError, match="--pretrained_G: --model toy"):
        train_script.main([*half, "--overwrite", "--pretrained_G", "checkpoints/whole/latest_net_G1.pth"])

    # --dataset_mode and --toy_width come from opt.json.
    test_script.main([*toy, "--name", "whole", "--how_many", "4"])
    results = Path("results/whole/test_latest")
    assert sorted(p.name for p in (results / "images/synthesized_image").iterdir()) == [f"{i}.png" for i in range(4)]
    sketch = np.asarray(Image.open(results / "images/input_label/0.png"))
    assert sketch.shape == (40, 40, 3)
    assert sketch.std() > 20


def test_nothing_shared_names_spade() -> None:
    """The scripts, the pages, the loader and the trainer's base know no system."""
    root = Path(__file__).parent.parent
    for name in (
        "train.py",
        "test.py",
        "trainers/base_trainer.py",
        "util/visualizer.py",
        "util/html.py",
        "models/base_model.py",
        "data/__init__.py",
        "util/checkpoint.py",
    ):
        text = (root / name).read_text()
        code = "\n".join(line.split("#")[0] for line in text.splitlines())
        for word in ("pix2pix", "netG", "netD", "spade", "label_nc"):
            assert word not in code, (name, word)
