"""The numbers that the reference implementations compute, from the same weights and inputs (float64, CPU)."""

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data import create_dataset
from data.base_dataset import Plan, Preprocess, id_tensor, image_tensor, read_ids, read_image
from models.networks import build_discriminator, build_encoder, build_generator
from models.networks.architecture import VGG19
from models.networks.loss import VGGLoss, kld_loss, multiscale_gan_loss
from models.networks.semantics import SPADE_IMPLS, Semantics, dense_of, encode_label_map
from options.test_options import TestOptions
from options.train_options import TrainOptions
from tests.deterministic import differences, fill, filled, image, label_map, normal
from trainers.pix2pix_trainer import Pix2PixTrainer

FOLDER = Path(__file__).parent / "golden"
SPADE = json.loads((FOLDER / "spade.json").read_text())
DATA = json.loads((FOLDER / "data.json").read_text())
KEYS = json.loads((FOLDER / "state_dict_keys.json").read_text())
FORWARD, GRADIENT, TRAJECTORY, PICTURE = 1e-9, 1e-7, 1e-8, 1e-6  # tolerances of the golden files' README


def parse(flags: list[str]) -> Namespace:
    return TrainOptions().parse([*SPADE["base_flags"], *flags, "--gpu_ids", "-1"])


def semantics_of(name: str, size: tuple[int, int], impl: str) -> Semantics:
    """Layouts as one of `SPADE_IMPLS` computes with them; `tensor`: dense."""
    label, instance = label_map(f"{name}_label", 2, 13, *size), label_map(f"{name}_inst", 2, 50, *size)
    if impl == "tensor":
        return encode_label_map(label, instance, classes=13).dense(torch.float64)
    return encode_label_map(label, instance, 13, impl)


# ------------------------------------------------------------------------------------------------------------ networks

GENERATORS = [(name, impl) for name in SPADE["generator"] for impl in SPADE_IMPLS]
# Those are dense ones in another form.
GENERATORS += [
    pytest.param(name, "tensor", marks=[] if name == "spade" else pytest.mark.prove) for name in SPADE["generator"]
]


@pytest.mark.parametrize(("name", "impl"), GENERATORS)
def test_generator(name: str, impl: str) -> None:
    case = SPADE["generator"][name]
    opt = parse(case["flags"])
    G = fill(build_generator(opt).double())
    semantics = semantics_of(name, case["semantics_summary"]["shape"][2:], impl)
    assert not differences(dense_of(semantics, torch.float64), case["semantics_summary"], FORWARD)
    z = torch.from_numpy(normal(f"{name}_z", (2, opt.z_dim))) if opt.use_vae else None

    with torch.no_grad():
        assert not differences(G.eval()(semantics, z), case["eval"], FORWARD)
        assert not differences(G.train()(semantics, z), case["train"], FORWARD)
        assert not differences(G(semantics, z), case["train_second_call"], FORWARD)
    for key, golden in case["buffers_after_two_train_calls"].items():
        assert not differences(G.state_dict()[key], golden, FORWARD), key

    fill(G)
    output = G(semantics, z)
    (output * image(f"{name}_grad", *output.shape[:1], *output.shape[2:])).sum().backward()
    parameters = dict(G.named_parameters())
    for key, golden in case["gradients_train"].items():
        if golden["abs_sum"] < 1e-6:  # a bias in front of a parameter-free norm: no true gradient
            assert parameters[key].grad.abs().max() < 1e-9, key
        else:
            assert not differences(parameters[key].grad, golden, GRADIENT), key
    total = sum(p.grad.abs().sum().item() for p in G.parameters())
    assert total == pytest.approx(case["gradient_abs_total"], rel=GRADIENT)


@pytest.mark.parametrize("impl", [*SPADE_IMPLS, "tensor"])
@pytest.mark.parametrize("name", SPADE["discriminator"])
def test_discriminator(name: str, impl: str) -> None:
    case = SPADE["discriminator"][name]
    D = fill(build_discriminator(parse(case["flags"])).double())
    inputs = image(f"{name}_image", 2, 64, 64), semantics_of(name, (64, 64), impl)
    with torch.no_grad():
        stages = [stage for scale in D.eval()(*inputs) for stage in scale]
        goldens = [golden for scale in case["eval"] for golden in scale]
        for i, (stage, golden) in enumerate(zip(stages, goldens, strict=True)):
            assert not differences(stage, golden, FORWARD), i
        for scale, golden in zip(D.train()(*inputs), case["train_last"], strict=True):
            assert not differences(scale[-1], golden, FORWARD)


def test_encoder() -> None:
    case = SPADE["encoder"]
    E = fill(build_encoder(parse(case["flags"])).double()).eval()
    with torch.no_grad():
        for golden, size, name in (
            (case, (256, 256), "E_image"),
            (case["resized_96x160"], (96, 160), "E_image_small"),
        ):
            mu, logvar = E(image(name, 2, *size))
            assert not differences(mu, golden["mu"], FORWARD)
            assert not differences(logvar, golden["logvar"], FORWARD)


@pytest.mark.parametrize("name", KEYS)
def test_state_dict_keys(name: str) -> None:
    """Names, shapes and order of every parameter and buffer at full size, and the number of parameters."""
    case = KEYS[name]
    opt = TrainOptions().parse([*case["flags"], "--init_type", "none"])
    builders = {"netG": build_generator, "netD": build_discriminator, "netE": build_encoder}
    for net in case["parameters"]:
        with torch.device("meta"):
            built = builders[net](opt)
        shapes = {key: list(value.shape) for key, value in built.state_dict().items()}
        assert shapes == case[net]
        assert list(shapes) == list(case[net])
        assert sum(p.numel() for p in built.parameters()) == case["parameters"][net]


# -------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("mode", ["hinge", "ls", "original", "w"])
def test_gan_losses(mode: str) -> None:
    prediction = [
        [image("a", 2, 9, 9, 4), 3 * image("b", 2, 5, 5, 1)],
        [image("c", 2, 7, 7, 4), 3 * image("d", 2, 4, 4, 1)],
    ]
    for name, real, for_discriminator in (
        ("discriminator_real", True, True),
        ("discriminator_fake", False, True),
        ("generator", True, False),
    ):
        loss = multiscale_gan_loss(prediction, real, for_discriminator, mode)
        assert loss.item() == pytest.approx(SPADE["losses"][mode][name], rel=FORWARD)


def filled_vgg() -> VGG19:
    import torchvision

    with torch.device("meta"):
        features = torchvision.models.vgg19(weights=None, init_weights=False).features
    vgg = VGG19(features).to_empty(device="cpu").double()
    assert {k: list(v.shape) for k, v in vgg.state_dict().items()} == SPADE["losses"]["vgg"]["keys"]
    return fill(vgg)


def test_vgg_loss() -> None:
    case = SPADE["losses"]["vgg"]
    fake = image("vgg_fake", 2, 64, 64).requires_grad_()
    loss = VGGLoss(filled_vgg())(fake, image("vgg_real", 2, 64, 64))
    loss.backward()
    assert loss.item() == pytest.approx(case["value"], rel=FORWARD)
    assert not differences(fake.grad, case["grad"], GRADIENT)


def test_kld() -> None:
    mu, logvar = (torch.from_numpy(normal(name, (3, 256))) for name in ("mu", "logvar"))
    assert kld_loss(mu, logvar).item() == pytest.approx(SPADE["losses"]["kld"], rel=FORWARD)


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize(
    ("name", "impl"),
    [
        *((name, "pattern") for name in SPADE["training"]),
        ("hinge", "dense"),
        pytest.param("vae", "auto", marks=pytest.mark.prove),  # which takes one of the two for each layer
    ],
)
def test_training_trajectory(name: str, impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of several iterations, then the weights and an image in evaluation mode."""
    case = SPADE["training"][name]
    opt = parse([*case["flags"], "--batchSize", "2", "--beta2", "0.999", "--spade_impl", impl])
    monkeypatch.setattr("models.pix2pix_model.load_vgg19", lambda path: filled_vgg())
    trainer = Pix2PixTrainer(opt)
    model = trainer.model.double()
    model.sample_style = lambda mu, logvar: mu
    for net in model.networks().values():
        fill(net)

    for i, golden in enumerate(case["steps"]):
        batch = training_batch(name, i, opt.crop_size)
        losses = trainer.step(batch)
        assert set(losses) == set(golden)
        for key, value in golden.items():
            assert losses[key].item() == pytest.approx(value, rel=TRAJECTORY), (i, key)
    for net, golden in case["state_abs_sum"].items():
        state = getattr(model, net).state_dict()
        total = sum(v.abs().sum().item() for k, v in state.items() if "num_batches_tracked" not in k)
        assert total == pytest.approx(golden, rel=1e-3), net
    assert not differences(model.eval().generate(batch), case["inference_after"], 1e-3)


def training_batch(name: str, i: int, size: int) -> dict[str, Any]:
    return {
        "label": label_map(f"{name}_label{i}", 2, 13, size, size),
        "instance": label_map(f"{name}_inst{i}", 2, 50, size, size),
        "image": image(f"{name}_image{i}", 2, size, size),
        "path": ["a.png", "b.png"],
    }


# ---------------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize("name", DATA["synthetic"])
def test_synthetic_transform(name: str) -> None:
    picture, mode = name.split("/")
    pixels = ((image(picture, 1, 150, 260) + 1) * 127.5).round().byte()[0].permute(1, 2, 0).numpy()
    ids = label_map(picture, 1, 40, 150, 260)[0, 0].numpy().astype(np.uint8)
    case = DATA["synthetic"][name]
    check_transform(mode, Image.fromarray(pixels), Image.fromarray(ids), case, 143, 128, (9, 5), 1.6)


@pytest.mark.real_data
@pytest.mark.parametrize("mode", DATA["transforms"])
def test_transform_of_a_photo(mode: str, real_data: Path) -> None:
    case = DATA["transforms"][mode]
    folder, stem = real_data / "coco_stuff_sample", "000000017914"
    photo, label = read_image(str(folder / f"train_img/{stem}.jpg")), read_ids(str(folder / f"train_label/{stem}.png"))
    assert photo.size == (500, 375)
    check_transform(mode, photo, label, case, case["load_size"], case["crop_size"], tuple(case["crop_pos"]), 1.0)


def check_transform(
    mode: str,
    photo: Image.Image,
    label: Image.Image,
    case: dict[str, Any],
    load_size: int,
    crop_size: int,
    crop_pos: tuple[int, int],
    aspect_ratio: float,
) -> None:
    flip = mode.endswith("_flip")
    mode = mode.removesuffix("_flip")
    preprocess = Preprocess(
        mode, load_size, (crop_size, crop_size), aspect_ratio, multiple=32, random=False, flip=False
    )
    crop = (*crop_pos, crop_size, crop_size) if mode.endswith("crop") else None
    plan = Plan(preprocess.resized(label.size), crop, flip)
    assert not differences(image_tensor(plan.apply(photo, Image.Resampling.BICUBIC)), case["image"], PICTURE)
    assert not differences(id_tensor(plan.apply(label, Image.Resampling.NEAREST)), case["label"], FORWARD)


@pytest.mark.real_data
@pytest.mark.parametrize("name", DATA["test_loader"])
def test_items_of_a_real_data_set(name: str, real_data: Path) -> None:
    case = DATA["test_loader"][name]
    opt = TestOptions().parse([flag.format(SPADE_REAL_DATA=real_data) for flag in case["flags"]])
    dataset = create_dataset(opt)
    for index, golden in case["items"].items():
        item = SimpleNamespace(**dataset[int(index)])
        assert len(dataset) == golden["size"]
        assert item.path.endswith(golden["path"])
        assert not differences(item.label, golden["label"], FORWARD)
        assert not differences(item.instance, golden["instance"], FORWARD)
        assert not differences(item.image, golden["image"], PICTURE)
        assert item.label.unique().tolist() == golden["label_values"]
        assert item.instance.unique().tolist()[:20] == golden["instance_first_values"]


def test_filling_is_strict() -> None:
    """A filled state has its network's own keys, order and shapes; so loading one can fail and does not."""
    G = build_generator(parse([]))
    state = filled(G.state_dict())
    assert list(state) == list(G.state_dict())
    assert float(state["fc.weight"].std()) == pytest.approx((14 * 9) ** -0.5, rel=0.1)
