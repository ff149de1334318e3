"""The main job on sample photos, short: train, resume, synthesise. `make prove` runs the same for longer."""

import re
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


def images(tmp_path: Path, epoch: str) -> dict[str, np.ndarray]:
    """Synthesised images by stem, int [H, W, 3]."""
    folder = tmp_path / "results" / "run" / f"train_{epoch}" / "images" / "synthesized_image"
    return {path.stem: np.asarray(Image.open(path), int) for path in sorted(folder.iterdir())}


def distances(made: dict[str, np.ndarray], photos: Path) -> tuple[float, float]:
    """Mean absolute difference, 0 .. 255, of the images to the photos of the same names, and to the others."""
    table = np.zeros((len(made), len(made)))
    for column, (stem, image) in enumerate(made.items()):
        photo = Image.open(next(p for p in photos.rglob(f"{stem}.*") if "label" not in p.parent.name)).convert("RGB")
        pixels = np.asarray(photo.resize(image.shape[1::-1], Image.Resampling.BICUBIC), int)
        table[:, column] = [np.abs(other - pixels).mean() for other in made.values()]
    own = np.eye(len(made), dtype=bool)
    return float(table[own].mean()), float(table[~own].mean())


def run(flags: list[str], epochs: int, lr: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train an epoch, resume up to half of the epochs and for the rest; synthesise training layouts after 1 and all."""
    monkeypatch.chdir(tmp_path)
    shared = [*flags, "--name", "run", "--gpu_ids", "-1", "--nThreads", "1"]
    train = [*shared, "--no_vgg_loss", "--print_freq", "8", "--lr", str(lr)]
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
    """A few epochs, resumed twice: losses stay finite, and the images change with training and with the layout."""
    run(case(real_data, tmp_path), 4, 0.002, tmp_path, monkeypatch)
    log = (tmp_path / "checkpoints" / "run" / "loss_log.txt").read_text()
    values = [float(value) for value in re.findall(r": (-?[\d.]+|-?inf|nan)(?= |$|\))", log, re.MULTILINE)]
    assert len(values) > 10
    assert np.isfinite(values).all()
    first, last = images(tmp_path, "1"), images(tmp_path, "latest")
    assert np.mean([np.abs(last[stem] - first[stem]).mean() for stem in first]) > 0.2
    assert np.std(list(last.values()), axis=0).mean() > 0.2  # over layouts
    assert np.mean([image.std(axis=(0, 1)).mean() for image in last.values()]) > 0.2  # over pixels


@pytest.mark.prove
@pytest.mark.real_data
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_long_run(case, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of iterations: images come nearer to the photos, and to their own photo much more than to the others.

    After one epoch they are alike and grey, at the same distance from all photos.
    """
    flags = case(real_data, tmp_path)
    run(flags, 60, 0.0002, tmp_path, monkeypatch)
    photos = Path(flags[flags.index("--image_dir" if "--image_dir" in flags else "--dataroot") + 1])
    before, before_others = distances(images(tmp_path, "1"), photos)
    after, after_others = distances(images(tmp_path, "latest"), photos)
    print(
        f"{case.__name__}: mean distance to their own photo {before:.1f} after epoch 1, {after:.1f} after epoch 60; ",
        end="",
    )
    print(f"to the other photos {before_others:.1f}, {after_others:.1f}")
    assert before > 0.99 * before_others
    assert after < before
    assert after < 0.9 * after_others
