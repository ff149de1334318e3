"""The main job on sample photos, short: train, resume, synthesise. `make prove` runs the same for longer."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import test as test_script
import train as train_script

SIZE = "--ngf 8 --ndf 8 --nef 8 --crop_size 64 --load_size 72 --batchSize 2".split()


def coco(photos: Path, tmp_path: Path) -> list[str]:
    return ["--dataset_mode", "coco", "--dataroot", str(photos / "coco_stuff_sample"), *SIZE]


def coco_vae(photos: Path, tmp_path: Path) -> list[str]:
    return [*coco(photos, tmp_path), "--use_vae"]


def cityscapes(photos: Path, tmp_path: Path) -> list[str]:
    """Layouts of 128 x 64; the sample has no val folder, so testing reads the training pictures too."""
    return [
        "--dataset_mode",
        "cityscapes",
        "--dataroot",
        str(photos / "cityscapes_sample"),
        *SIZE,
        "--crop_size",
        "128",
    ]


def custom(photos: Path, tmp_path: Path) -> list[str]:
    """CamVid: 11 classes, and 11 for unlabelled."""
    folder = photos / "camvid_256"
    flags = "--dataset_mode custom --label_nc 11 --unknown_id 11 --contain_dontcare_label --no_instance".split()
    limit = ["--max_dataset_size", "40"]
    folders = ["--label_dir", str(folder / "train_label"), "--image_dir", str(folder / "train_img")]
    return [*flags, *folders, *limit, *SIZE]


def ade20k(photos: Path, tmp_path: Path) -> list[str]:
    """COCO's photos in ADE20K's tree, with ids 0 .. 150."""
    root = tmp_path / "ADEChallengeData2016"
    for part, folder in (("train", "training"), ("val", "validation")):
        for kind in ("annotations", "images"):
            (root / kind / folder).mkdir(parents=True)
        for i, label in enumerate(sorted((photos / "coco_stuff_sample" / f"{part}_label").iterdir()), start=1):
            name = f"ADE_{part}_{i:08}"
            Image.fromarray(np.asarray(Image.open(label)) % 151).save(root / "annotations" / folder / f"{name}.png")
            shutil.copy(
                label.parent.parent / f"{part}_img" / f"{label.stem}.jpg", root / "images" / folder / f"{name}.jpg"
            )
    return ["--dataset_mode", "ade20k", "--dataroot", str(root), *SIZE]


def facades(photos: Path, tmp_path: Path) -> list[str]:
    """LabelMeFacade's photos in the facades' folders."""
    root, source = tmp_path / "facades", photos / "labelmefacade_256"
    for part in ("train", "val"):
        for kind in ("label", "img"):
            (root / f"{part}_{kind}").mkdir(parents=True)
            for file in sorted((source / f"{part}_{kind}").iterdir())[:24]:
                shutil.copy(file, root / f"{part}_{kind}" / file.name)
    return ["--dataset_mode", "facades", "--dataroot", str(root), *SIZE]


def distance(folder: Path, photos: Path) -> float:
    """Mean absolute difference, 0 .. 255, between synthesised images and the photos of the same names."""
    differences = []
    for path in sorted((folder / "images" / "synthesized_image").iterdir()):
        image = Image.open(path)
        photo = next(photos.rglob(f"{path.stem}.*")).resolve()
        same_size = Image.open(photo).convert("RGB").resize(image.size, Image.Resampling.BICUBIC)
        differences.append(np.abs(np.asarray(image, int) - np.asarray(same_size, int)).mean())
    return float(np.mean(differences))


def run(flags: list[str], epochs: int, lr: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train an epoch, resume up to half of the epochs and for the rest; synthesise training layouts after 1 and all."""
    monkeypatch.chdir(tmp_path)
    shared = [*flags, "--name", "run", "--gpu_ids", "-1", "--nThreads", "1"]
    train = [*shared, "--no_vgg_loss", "--print_freq", "40", "--lr", str(lr)]
    for last in (1, epochs // 2, epochs):
        resume = ["--continue_train"] if last > 1 else []
        train_script.main([*train, "--niter", str(last), "--save_epoch_freq", "0", *resume])
    test = [f for i, f in enumerate(shared) if "--ndf" not in (f, shared[i - 1])]  # test.py has no discriminator
    for epoch in ("1", "latest"):
        test_script.main([*test, "--phase", "train", "--which_epoch", epoch, "--how_many", "13"])


CASES = [coco, coco_vae, cityscapes, custom, ade20k, facades]


@pytest.mark.real_data
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_short_run(case, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few epochs at ten times the usual rate, resumed once: the images come nearer to the photos."""
    check(case, 4, 0.002, 1.0, real_data, tmp_path, monkeypatch)


@pytest.mark.prove
@pytest.mark.real_data
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_long_run(case, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of iterations: the distance to the training photos falls by a fifth or more."""
    check(case, 60, 0.0002, 0.8, real_data, tmp_path, monkeypatch)


def check(case, epochs: int, lr: float, share: float, real_data: Path, tmp_path: Path, monkeypatch) -> None:
    flags = case(real_data, tmp_path)
    run(flags, epochs, lr, tmp_path, monkeypatch)
    photos = Path(flags[flags.index("--image_dir" if "--image_dir" in flags else "--dataroot") + 1])
    before, after = (distance(tmp_path / "results" / "run" / f"train_{epoch}", photos) for epoch in ("1", "latest"))
    print(f"{case.__name__}: distance to the photos {before:.1f} after epoch 1, {after:.1f} after epoch {epochs}")
    assert after < share * before
