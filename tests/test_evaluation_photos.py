"""test.py and evaluate.py on sample photos, with the real networks and deterministic weights: part of `make prove`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import evaluate as evaluate_script
import test as test_script
import train as train_script
from evaluation.inception import FIDInception
from evaluation.segmenters import SEGMENTERS, build
from tests.deterministic import filled
from tests.test_real_data import SIZE, ade20k

CASES = {
    "coco": ("deeplabv2", ["--dataset_mode", "coco", "--how_many", "4"], "coco_stuff_sample", 4),
    # Without a val folder; --phase train reads the training layouts.
    "cityscapes": (
        "drn_d_105",
        ["--dataset_mode", "cityscapes", "--phase", "train", "--how_many", "4"],
        "cityscapes_sample",
        4,
    ),
    "ade20k": ("upernet101", ["--dataset_mode", "ade20k", "--how_many", "2"], "ade20k", 2),  # COCO's photos
}
LABELS = {
    "coco": "val_label/*.png",
    "cityscapes": "gtFine/train/*/*_labelIds.png",
    "ade20k": "annotations/validation/*.png",
}


def save(net: nn.Module, path: Path, gain: float = 1.0) -> str:
    torch.save({k: v * gain if v.ndim > 1 else v for k, v in filled(net.state_dict()).items()}, path)
    return str(path)


@pytest.mark.prove
@pytest.mark.parametrize("case", CASES)
def test_evaluating_photos(case: str, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder and from the checkpoint alike; accuracies as a plain loop over the files counts them."""
    monkeypatch.chdir(tmp_path)
    name, flags, folder, count = CASES[case]
    root = real_data / folder
    if case == "ade20k":
        root = Path(ade20k(real_data, tmp_path)[3])
    data = ["--dataroot", str(root), "--gpu_ids", "-1", "--nThreads", "0", "--name", "x"]
    short = ["--no_vgg_loss", "--no_html", "--niter", "1", "--max_dataset_size", "2"]
    train_script.main([*flags[:2], *data, *SIZE, "--crop_size", "128", *short])
    test_script.main([*flags, *data])
    net = build(name).to(memory_format=torch.channels_last)
    parts = [net.encoder, net.decoder] if case == "ade20k" else [net]
    weights = ["--segmenter_weights"]
    for number, part in enumerate(parts):
        weights.append(save(part, tmp_path / f"{number}.pth"))
        part.load_state_dict(torch.load(weights[-1], weights_only=True))
    weights += ["--inception_weights", save(FIDInception(), tmp_path / "inception.pth", math.sqrt(2))]
    phase = "train" if "train" in flags else "test"
    made = Path(f"results/x/{phase}_latest/images/synthesized_image")
    numbers = []
    for images in (["--synthesized", str(made)], []):
        evaluate_script.main([*flags, *data, *weights, *images, "--batchSize", "1"])  # as the loop below
        numbers.append(json.loads(Path(f"results/x/evaluation_{phase}_latest/metrics.json").read_text()))
        del numbers[-1]["provenance"], numbers[-1]["synthesized"]
    assert numbers[0] == numbers[1]
    assert numbers[0]["images"] == numbers[0]["references"] == count
    assert math.isfinite(numbers[0]["fid"]) and numbers[0]["fid"] > 0

    kind = SEGMENTERS[name]
    labels = sorted(root.glob(LABELS[case]))
    right = known = 0
    for path in labels[:count]:
        stem = path.stem.replace("_gtFine_labelIds", "_leftImg8bit")
        pixels = torch.from_numpy(np.array(Image.open(made / f"{stem}.png"))).permute(2, 0, 1)[None].contiguous()
        with torch.no_grad():
            seen = kind.scores(net, pixels, pixels.shape[-2:]).argmax(1)[0].numpy()
        truth = np.array(Image.open(path).resize(seen.shape[::-1], Image.Resampling.NEAREST))
        ids = np.array(kind.ids)
        labelled = np.isin(truth, ids)
        known += labelled.sum()
        right += (ids[seen] == truth)[labelled].sum()
    assert numbers[0]["accuracies"]["pixels"] == known
    assert numbers[0]["accuracies"]["pixel_accuracy"] == pytest.approx(right / known, rel=1e-12)
