"""On a GPU: the same numbers as on the CPU, and a training run end to end."""

from pathlib import Path

import pytest
import torch

import test as test_script
import train as train_script
from models.networks import build_generator
from options.train_options import TrainOptions
from tests.conftest import TINY
from tests.deterministic import fill, image, label_map
from trainers.pix2pix_trainer import Pix2PixTrainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def trainer(*argv: str) -> Pix2PixTrainer:
    flags = "--dataset_mode custom --label_nc 4 --ngf 4 --ndf 4 --nef 4 --crop_size 64 --no_vgg_loss --use_vae".split()
    made = Pix2PixTrainer(TrainOptions().parse([*flags, *argv]))
    made.model.double()
    for net in made.model.networks().values():
        fill(net)
    return made


def test_steps_agree_with_the_cpu() -> None:
    """Three iterations in float64, style noise included."""
    batches = [
        {
            "label": label_map(f"label{i}", 2, 4, 64, 64),
            "instance": label_map(f"instance{i}", 2, 9, 64, 64),
            "image": image(f"image{i}", 2, 64, 64),
        }
        for i in range(3)
    ]
    cpu, gpu = trainer("--gpu_ids", "-1"), trainer("--gpu_ids", "0")
    assert gpu.device.type == "cuda"
    for batch in batches:
        a, b = cpu.step(batch), gpu.step(batch)
        assert {k: v.item() for k, v in b.items()} == pytest.approx({k: v.item() for k, v in a.items()}, rel=1e-8)


@pytest.mark.parametrize("more", ["", "--diffaugment color translation cutout"])
def test_steps_wait_for_no_result(more: str) -> None:
    """Nothing in a step needs an answer from the GPU before the next kernel is sent to it, but the sizes of tables."""
    flags = "--gpu_ids 0 --batchSize 2 --accumulate 2 --ema_decay 0.9 --spade_impl dense"
    own = trainer(*flags.split(), *more.split())
    batch = {
        "label": label_map("label", 2, 4, 64, 64).cuda(),
        "instance": label_map("instance", 2, 9, 64, 64).cuda(),
        "image": image("image", 2, 64, 64).cuda(),
    }
    own.step(batch)  # makes the optimisers' state
    torch.cuda.set_sync_debug_mode("error")
    try:
        own.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_full_size_generator() -> None:
    opt = TrainOptions().parse(["--dataset_mode", "coco"])
    G = build_generator(opt).cuda().eval()
    with torch.no_grad():
        assert G(torch.zeros(1, 184, 256, 256, device="cuda")).shape == (1, 3, 256, 256)


def test_train_resume_test(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--use_vae", "--gpu_ids", "0", "--nThreads", "2"]
    train_script.main([*flags, "--batchSize", "2"])
    train_script.main([*flags, "--batchSize", "2", "--niter", "2", "--continue_train"])
    test_script.main(["--dataroot", str(pairs)])
    assert len(list(Path("results/label2coco/test_latest/images/synthesized_image").iterdir())) == 2
