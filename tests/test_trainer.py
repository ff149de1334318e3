"""One iteration: who moves, in which order, at which rate, and on which noise."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.plain import make_plain_trainer
from models.networks.semantics import SPADE_IMPLS, LabelMap
from models.networks.spectral import SpectralConv2d
from models.pix2pix_model import Pix2PixModel
from options.train_options import TrainOptions
from tests.deterministic import fill, image, label_map
from trainers.base_trainer import lr_at, micro_batches
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.errors import UserError
from util.images import to_uint8
from util.iter_counter import IterationCounter
from util.visualizer import EMPTY_AFTER, Visualizer


def parse(*argv: object) -> Namespace:
    flags = "--dataset_mode custom --label_nc 4 --ngf 4 --ndf 4 --nef 4 --crop_size 64 --no_vgg_loss".split()
    return TrainOptions().parse([*flags, "--gpu_ids", "-1", *map(str, argv)])


def batch(n: int = 2) -> dict[str, Any]:
    return {
        "label": label_map("label", n, 4, 64, 64),
        "instance": label_map("instance", n, 9, 64, 64),
        "image": image("image", n, 64, 64).float(),
        "path": ["a"] * n,
    }


def parameters(net: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def moved(net: torch.nn.Module, before: list[Tensor]) -> bool:
    return any(not torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


def test_each_step_moves_its_own_networks() -> None:
    trainer = Pix2PixTrainer(parse("--use_vae"))
    G, D, E = (parameters(net) for net in trainer.model.networks().values())
    losses = trainer.run_generator_one_step(batch())
    assert set(losses) == {"KLD", "GAN", "GAN_Feat"}
    assert moved(trainer.model.netG, G)
    assert moved(trainer.model.netE, E)
    assert not moved(trainer.model.netD, D)
    G, E = parameters(trainer.model.netG), parameters(trainer.model.netE)
    assert set(trainer.run_discriminator_one_step(batch())) == {"D_Fake", "D_real"}
    assert moved(trainer.model.netD, D)
    assert not moved(trainer.model.netG, G)
    assert not moved(trainer.model.netE, E)


def test_losses_are_weighted_scalars() -> None:
    plain, heavy = (Pix2PixTrainer(parse("--lambda_feat", weight)).model for weight in (1, 3))
    a, b = (model.generator_losses(batch())[0] for model in (plain, heavy))
    assert b["GAN_Feat"].item() == pytest.approx(3 * a["GAN_Feat"].item())
    assert all(loss.ndim == 0 for loss in a.values())
    assert set(Pix2PixTrainer(parse("--no_ganFeat_loss")).step(batch())) == {"GAN", "D_Fake", "D_real"}


def test_the_discriminator_step_advances_the_generators_statistics() -> None:
    """It generates anew, in training mode, so batch statistics and power iterations advance; there is no gradient."""
    trainer = Pix2PixTrainer(parse())
    before = {k: v.clone() for k, v in trainer.model.netG.named_buffers()}
    trainer.run_discriminator_one_step(batch())
    after = dict(trainer.model.netG.named_buffers())
    for key in ("head_0.norm_0.param_free_norm.running_mean", "head_0.conv_0.weight_u"):
        assert not torch.equal(before[key], after[key])
    assert all(p.grad is None for p in trainer.model.netG.parameters())


def test_d_steps_per_g() -> None:
    """Every third iteration, the first included, moves G; every iteration moves D."""
    trainer = Pix2PixTrainer(parse("--D_steps_per_G", 3))
    moves = []
    for _ in range(5):
        G, D = parameters(trainer.model.netG), parameters(trainer.model.netD)
        losses = trainer.step(batch())
        moves.append((moved(trainer.model.netG, G), moved(trainer.model.netD, D)))
        assert set(losses) == {"GAN", "GAN_Feat", "D_Fake", "D_real"}  # the last known value of each
    assert moves == [(True, True), (False, True), (False, True), (True, True), (False, True)]


@pytest.mark.parametrize(
    ("argv", "g_rate", "d_rate", "betas"),
    [
        ((), 1e-4, 4e-4, (0.0, 0.999)),
        (("--no_TTUR",), 2e-4, 2e-4, (0.5, 0.999)),
        (("--lr", 0.001, "--beta1", 0.3, "--beta2", 0.9), 5e-4, 2e-3, (0.3, 0.9)),
    ],
)
def test_adam(argv: tuple, g_rate: float, d_rate: float, betas: tuple[float, float]) -> None:
    optimizers = Pix2PixTrainer(parse(*argv)).optimizers
    for name, rate in (("G", g_rate), ("D", d_rate)):
        (group,) = optimizers[name].param_groups
        assert group["lr"] == pytest.approx(rate)
        assert group["betas"] == betas
        assert group["eps"] == 1e-8


def test_sgd_has_an_effect() -> None:
    """Mended (SPADE): --optimizer had none."""
    trainer = Pix2PixTrainer(parse("--optimizer", "sgd"))
    assert isinstance(trainer.optimizers["G"], torch.optim.SGD)
    momentum = Pix2PixTrainer(parse("--optimizer", "sgd", "--beta1", 0.3)).optimizers["D"]
    assert momentum.param_groups[0]["momentum"] == 0.3
    before = parameters(trainer.model.netG)
    trainer.step(batch())
    assert moved(trainer.model.netG, before)


def test_learning_rate_by_hand() -> None:
    """niter 2, niter_decay 4: flat for three epochs, then down by a quarter of lr each."""
    rates = [lr_at(epoch, 1.0, niter=2, niter_decay=4) for epoch in range(1, 7)]
    assert rates == [1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert [lr_at(epoch, 1.0, niter=3, niter_decay=0) for epoch in (1, 2, 3)] == [1.0, 1.0, 1.0]
    trainer = Pix2PixTrainer(parse("--niter", 2, "--niter_decay", 4))
    trainer.set_learning_rate(5)
    assert trainer.optimizers["D"].param_groups[0]["lr"] == pytest.approx(4e-4 / 2)


def test_pictures_belong_together() -> None:
    """With --D_steps_per_G 2 the second iteration makes no image: the first is shown, beside its own label."""
    trainer = Pix2PixTrainer(parse("--D_steps_per_G", 2))
    first, second = batch(), {**batch(), "label": 3 - batch()["label"]}
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    fresh, _ = trainer.visuals(first)  # before any step: made for showing, and nothing has moved
    assert list(fresh) == ["input_label", "evaluation_mode", "real_image"]
    assert fresh["evaluation_mode"].shape == (64, 64, 3)
    assert trainer.model.training
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())
    trainer.step(first)
    shown, _ = trainer.visuals(first)
    trainer.step(second)
    again, _ = trainer.visuals(second)
    assert list(again) == ["input_label", "synthesized_image", "evaluation_mode", "real_image"]
    for name in ("input_label", "synthesized_image", "real_image"):
        assert (again[name] == shown[name]).all()


def test_evaluation_mode_is_what_testing_makes() -> None:
    """The training page's picture in evaluation mode is the one that the networks make when they are tested."""
    trainer = Pix2PixTrainer(parse("--batchSize", 2))
    trainer.step(batch())
    shown, legend = trainer.visuals(batch())
    tested = to_uint8(trainer.model.eval().generate(batch()))[0]
    assert (shown["evaluation_mode"] == tested).all()
    assert (shown["synthesized_image"] != tested).any()
    assert sum(entry.share for entry in legend) == pytest.approx(1)


def test_double_weights_take_any_batch() -> None:
    trainer = Pix2PixTrainer(parse("--use_vae"))
    trainer.model.double()
    assert all(loss.dtype == torch.float64 for loss in trainer.step(batch()).values())


# -------------------------------------------------------------------------------------------------------- accumulation

INSTANCE = "--use_vae --norm_G spectralspadeinstance1x1 --norm_D spectralinstance --norm_E spectralinstance".split()


def test_micro_batches() -> None:
    whole = {"label": torch.arange(6).view(6, 1), "path": list("abcdef")}
    parts = list(micro_batches(whole, 3))
    assert [first for first, _ in parts] == [0, 2, 4]
    assert [part["path"] for _, part in parts] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert [part["label"].tolist() for _, part in parts] == [[[0], [1]], [[2], [3]], [[4], [5]]]
    with pytest.raises(ValueError, match="6 items do not split into 4"):
        list(micro_batches(whole, 4))


def test_means_are_weighted_and_sums_are_not() -> None:
    """Of 1, 2, 3, 4 times p = 2 the mean is 5 with gradient 2.5, the sum 20 with gradient 10."""
    trainer = Pix2PixTrainer(parse("--batchSize", 4, "--accumulate", 2))
    trainer.model.set_noise(0)
    p = torch.tensor(2.0, requires_grad=True)
    seen = []

    def losses_of(part: dict[str, Any]) -> dict[str, Tensor]:
        seen.append(part["x"].tolist())
        return {"GAN": (p * part["x"]).mean(), "KLD": (p * part["x"]).sum()}

    losses = trainer.accumulate({"x": torch.tensor([1.0, 2.0, 3.0, 4.0])}, losses_of)
    assert {name: loss.item() for name, loss in losses.items()} == {"GAN": 5.0, "KLD": 20.0}
    assert p.grad.item() == 12.5
    assert seen == [[1, 2], [3, 4]]
    assert not any(loss.requires_grad for loss in losses.values())
    after = trainer.model.random_styles(1)  # what is drawn behind it belongs to row 0 again
    trainer.model.set_noise(0)
    assert torch.equal(after, trainer.model.random_styles(1))


@pytest.mark.parametrize(
    ("parts", "more"),
    [
        (2, ""),
        pytest.param(4, "", marks=pytest.mark.prove),
        (4, "--spectral_all"),  # of the generator's and the encoder's linear layers too
        (2, "--diffaugment color translation cutout"),
    ],
)
def test_micro_batches_add_up_to_one_batch(parts: int, more: str) -> None:
    """Losses and weights after three steps in float64, style noise included, where nothing depends on other items.

    Not Adam: it makes a full step of the rounding error that is the gradient of a bias in front of a norm.
    """
    four = {**batch(4), "path": list("abcd")}
    ran = []
    for count in (1, parts):
        flags = ("--optimizer", "sgd", "--lr", 0.01, "--batchSize", 4, "--accumulate", count, "--D_steps_per_G", 2)
        trainer = Pix2PixTrainer(parse(*INSTANCE, *flags, *more.split()))
        trainer.model.double()
        losses = [trainer.step(four) for _ in range(3)]
        ran.append((trainer, losses))
    (whole, a), (split, b) = ran
    for one, other in zip(a, b, strict=True):
        assert {k: v.item() for k, v in one.items()} == pytest.approx(
            {k: v.item() for k, v in other.items()}, rel=1e-10
        )
    for p, q in zip(whole.model.parameters(), split.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)
    assert moved(split.model.netE, parameters(Pix2PixTrainer(parse(*INSTANCE)).model.double().netE))


def test_batch_norm_sees_one_micro_batch() -> None:
    """Four images in two parts make two passes in each of the two steps."""
    trainer = Pix2PixTrainer(parse("--batchSize", 4, "--accumulate", 2, "--norm_G", "spectralspadebatch3x3"))
    sizes = []
    norm = trainer.model.netG.head_0.norm_0.param_free_norm
    norm.observers.append(lambda x: sizes.append(len(x)))
    trainer.step({**batch(4), "path": list("abcd")})
    assert sizes == [2, 2, 2, 2]
    assert norm.num_batches_tracked.item() == 4


def test_the_first_picture_of_all_micro_batches_is_shown() -> None:
    shown = []
    for count in (1, 2):
        trainer = Pix2PixTrainer(parse(*INSTANCE, "--batchSize", 4, "--accumulate", count))
        trainer.step({**batch(4), "path": list("abcd")})
        shown.append(trainer.visuals(batch())[0])
    for name in ("input_label", "real_image", "synthesized_image"):
        assert np.abs(shown[0][name].astype(int) - shown[1][name]).max() <= 1  # rounding


# --------------------------------------------------------------------------------------------------------------- style


def test_style_noise_depends_on_seed_iteration_and_row_alone() -> None:
    model = Pix2PixTrainer(parse("--use_vae")).model
    zeros = torch.zeros(3, 256)

    def draw(*stream: int, first: int = 0, rows: int = 3) -> Tensor:
        model.set_noise(7, *stream, first=first)
        return model.sample_style(zeros[:rows], zeros[:rows])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(draw(1)[2:], draw(1, first=2, rows=1))  # a row is the same whatever batch it is in
    model.set_noise(7, 1)
    first, second = (model.sample_style(zeros, zeros) for _ in range(2))
    assert not torch.equal(first, second)  # the generator's and the discriminator's step draw anew
    assert draw(1).std().item() == pytest.approx(1, abs=0.1)


def test_style_is_mu_plus_deviation() -> None:
    model = Pix2PixTrainer(parse("--use_vae")).model
    mu, logvar = torch.full((2, 256), 5.0), torch.full((2, 256), 2 * torch.tensor(3.0).log().item())
    model.set_noise(0)
    unit = model.sample_style(torch.zeros(2, 256), torch.zeros(2, 256))
    model.set_noise(0)
    torch.testing.assert_close(model.sample_style(mu, logvar), 5 + 3 * unit)


def test_generate_takes_the_photos_style_or_a_seeded_one() -> None:
    """Mended (SPADE): sampling a style crashed on the CPU."""
    model = Pix2PixTrainer(parse("--use_vae")).model.eval()
    full = batch()
    layout = {k: v for k, v in full.items() if k != "image"}
    mu, _ = model.netE(full["image"])
    assert torch.equal(model.generate(full), model.generate(layout, z=mu))
    model.set_noise(3)
    a = model.generate(layout)
    model.set_noise(3)
    assert torch.equal(a, model.generate(layout))
    assert a.grad_fn is None


def test_a_fixed_seed_fixes_the_weights() -> None:
    a, b, c = (Pix2PixTrainer(parse("--seed", seed)).model.netG.fc.weight for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


# -------------------------------------------------------------------------------------------------------------- devices


def test_devices_that_are_not_there() -> None:
    if torch.cuda.device_count() > 0:
        pytest.skip("this machine has a GPU")
    for ids in (0, 3):
        with pytest.raises(UserError, match=f"--gpu_ids {ids}, but PyTorch sees no GPU .*--gpu_ids -1 runs on the CPU"):
            Pix2PixTrainer(parse("--gpu_ids", ids))


def test_missing_vgg_weights_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from urllib.error import URLError

    def refused(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    opt = parse()
    opt.no_vgg_loss = False
    with pytest.raises(UserError, match=r"\(<urlopen error no network>\).*--vgg_weights FILE, or .*--no_vgg_loss"):
        Pix2PixTrainer(opt)
    monkeypatch.undo()
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    opt.vgg_weights = str(tmp_path / "vgg.pth")
    with pytest.raises(UserError, match="is not torchvision's vgg19"):
        Pix2PixTrainer(opt)
    opt.vgg_weights = str(tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match=r"--vgg_weights: .*nowhere.pth is not there; the file is https://.*, fetched"):
        Pix2PixTrainer(opt)


def test_vgg_weights_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """A file of torchvision's whole network is read; the classifier in it is not used. So is what was downloaded."""
    import torchvision

    features = torchvision.models.vgg19(weights=None, init_weights=False).features
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    torch.save({**state, "classifier.0.bias": torch.zeros(4096)}, tmp_path / "vgg.pth")
    model = Pix2PixModel(parse("--no_vgg_loss", "false", "--vgg_weights", tmp_path / "vgg.pth"))
    first = next(model.vgg_loss.parameters())
    assert torch.equal(first, features[0].weight)
    assert not first.requires_grad

    def download(url: str, file: str, hash_prefix: str) -> None:
        assert (url.rpartition("/")[2], hash_prefix) == ("vgg19-dcbb9e9d.pth", "dcbb9e9d")
        (tmp_path / "vgg.pth").rename(file)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):  # the second time it is there
        model = Pix2PixModel(parse("--no_vgg_loss", "false"))
        assert torch.equal(next(model.vgg_loss.parameters()), features[0].weight)
    assert (tmp_path / "hub/checkpoints/vgg19-dcbb9e9d.pth").exists()


class Waiting(TorchDispatchMode):
    """Names the operations whose result the host must have before it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_steps_wait_for_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are read where a line is printed and nowhere else, so that a GPU is never left without work.

    How many patterns layouts have must be known before their tables are made, so here there are none.
    """
    opt = parse(
        "--checkpoints_dir",
        tmp_path,
        "--use_vae",
        "--batchSize",
        2,
        "--accumulate",
        2,
        "--ema_decay",
        0.9,
        "--no_html",
        "--spade_impl",
        "dense",
    )
    trainer, counter = Pix2PixTrainer(opt), IterationCounter(opt, items=100)
    trainer.health.late = 4  # which looks at a step when there are so many after it
    visualizer = Visualizer(opt, counter)

    def to_the_host(self: Tensor, *args: object, **kwargs: object) -> None:
        raise AssertionError("a tensor went to the host")

    with Waiting() as waiting, monkeypatch.context() as patch:
        for name in ("cpu", "numpy", "tolist", "__array__"):
            patch.setattr(Tensor, name, to_the_host)
        for _ in range(2):
            losses = trainer.step(batch())
            visualizer.advance()
        assert waiting.seen == []
        visualizer.print_losses(losses)
        assert waiting.seen == ["_local_scalar_dense"] * len(losses)
    assert len(losses) == 5


# -------------------------------------------------------------------------------------------------------------- layouts


def filled_trainer(*argv: object) -> Pix2PixTrainer:
    """In float64, from the same weights whatever the flags."""
    trainer = Pix2PixTrainer(parse(*argv, "--batchSize", 2))
    for net in trainer.model.double().networks().values():
        fill(net)
    return trainer


def numbered_batch(i: int) -> dict[str, Any]:
    return {
        "label": label_map(f"label{i}", 2, 4, 64, 64),
        "instance": label_map(f"instance{i}", 2, 9, 64, 64),
        "image": image(f"image{i}", 2, 64, 64),
        "path": ["a", "b"],
    }


def losses_over(trainer: Pix2PixTrainer, iterations: int) -> list[dict[str, float]]:
    return [{k: v.item() for k, v in trainer.step(numbered_batch(i)).items()} for i in range(iterations)]


@pytest.mark.parametrize("flags", [(), ("--use_vae",)], ids=["plain", "vae"])
def test_training_by_patterns_is_training(flags: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten iterations in float64, hinge losses, style noise included."""
    monkeypatch.setattr("models.networks.normalization.HIDDEN", 6)
    narrow = ("--ngf", 2, "--ndf", 2, "--nef", 2, *flags)
    dense, pattern = (losses_over(filled_trainer(*narrow, "--spade_impl", impl), 10) for impl in ("dense", "pattern"))
    assert len(dense[0]) == 4 + len(flags)
    for i, (a, b) in enumerate(zip(dense, pattern, strict=True)):
        assert b == pytest.approx(a, rel=1e-8), i
    assert dense[0] != pytest.approx(dense[-1], rel=0.01)


def test_the_baseline_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What benchmarks compare with: the released way, from the same weights."""
    monkeypatch.setattr("models.networks.normalization.HIDDEN", 6)
    own, plain = filled_trainer(), make_plain_trainer(filled_trainer())
    assert not any(isinstance(layer, SpectralConv2d) for layer in plain.model.modules())
    assert not any(group.get("fused") for optimizer in plain.optimizers.values() for group in optimizer.param_groups)
    for i, (a, b) in enumerate(zip(losses_over(own, 3), losses_over(plain, 3), strict=True)):
        assert b == pytest.approx(a, rel=1e-8), i
    for p, q in zip(own.optimizers["D"].param_groups, plain.optimizers["D"].param_groups, strict=True):
        assert (p["lr"], p["betas"], p["eps"]) == (q["lr"], q["betas"], q["eps"])


def made_in(trainer: Pix2PixTrainer) -> list[LabelMap]:
    """What `semantics` gives from now on."""
    made, semantics = [], trainer.model.semantics
    trainer.model.semantics = lambda batch: made.append(semantics(batch)) or made[-1]
    return made


def test_both_steps_share_a_batch_of_layouts() -> None:
    trainer = filled_trainer()
    made = made_in(trainer)
    trainer.step(numbered_batch(0))
    trainer.step(numbered_batch(0))
    assert len(made) == 4
    assert made[0] is made[1]
    assert made[2] is made[3]
    assert made[0] is not made[2]  # nothing is kept from one iteration to the next


def test_micro_batches_keep_their_layouts() -> None:
    """With --accumulate 2 both parts are kept from the generator's step to the discriminator's."""
    trainer = Pix2PixTrainer(parse("--batchSize", 2, "--accumulate", 2))
    made = made_in(trainer)
    trainer.step(numbered_batch(0))
    assert [made.index(own) for own in made] == [0, 1, 0, 1]
    assert made[0] is not made[1]


def test_layouts_that_are_written_to_are_new_ones() -> None:
    """A painting app may use the same memory again, behind PyTorch's back."""
    model = filled_trainer().model
    canvas = np.zeros((1, 1, 64, 64), np.uint8)
    layout = {
        "label": torch.from_numpy(canvas),
        "instance": torch.zeros(1, 1, 64, 64, dtype=torch.uint8),
        "path": ["a"],
    }
    before = model.eval().generate(layout)
    canvas[..., 20:40, 20:40] = 3
    assert not torch.equal(model.generate(layout), before)
    with model.one_batch():
        assert model.semantics(layout) is model.semantics(layout)
    assert model.semantics(layout) is not model.semantics(layout)


@pytest.mark.parametrize("impl", SPADE_IMPLS)
def test_the_flag_reaches_the_layouts(impl: str) -> None:
    assert Pix2PixModel(parse("--spade_impl", impl)).semantics(batch()).impl == impl


def test_small_ids_are_not_wrapped() -> None:
    """Labels of 8 bits with classes above 127, and instances of 32 bits."""
    flags = "--dataset_mode custom --label_nc 201 --ngf 2 --crop_size 64 --gpu_ids -1 --norm_G spadeinstance1x1".split()
    opt = TrainOptions().parse([*flags, "--no_vgg_loss", "--spade_impl", "pattern"])
    model = Pix2PixModel(opt)
    label = 97 + label_map("label", 1, 104, 64, 64)
    small = {"label": label.to(torch.uint8), "instance": label.to(torch.int32) << 20}
    large = {"label": label, "instance": label << 20}
    assert label.max() > 128
    assert torch.equal(model.generate(small), model.generate(large))


# ------------------------------------------------------------------------------------------------------------- counting


def counter(items: int = 10, *argv: object) -> IterationCounter:
    return IterationCounter(parse("--batchSize", 4, *argv), items)


def test_position_is_that_of_the_next_batch() -> None:
    """10 items, 4 a batch: two batches an epoch."""
    c = counter()
    c.images_in_epoch = 4
    assert (c.state_dict()["epoch"], c.state_dict()["images_in_epoch"]) == (1, 4)
    c.images_in_epoch = 8
    assert (c.state_dict()["epoch"], c.state_dict()["images_in_epoch"]) == (2, 0)
    assert c.total_images == 50 * 8


def test_another_batch_size_goes_on_at_a_whole_batch() -> None:
    """After 6 images of an epoch, batches of 4 go on with the second: 2 images are seen twice rather than none."""
    c = counter()
    c.load_state_dict({"epoch": 2, "images_in_epoch": 6, "images_seen": 16})
    assert (c.epoch, c.images_in_epoch, c.images_seen) == (2, 4, 16)


def test_due_counts_images() -> None:
    """Every 6 images in batches of 4: after images 8 (6 passed), 12, 20 (18 passed), 24."""
    c = counter()
    due = []
    for images in range(4, 28, 4):
        c.images_seen = images
        if c.due(6):
            due.append(images)
    assert due == [8, 12, 20, 24]
    assert not c.due(0)


# ------------------------------------------------------------------------------------------------------------ warnings


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        ("--batchSize 3", True),
        ("--batchSize 4", False),
        ("--batchSize 4 --accumulate 2", True),
        ("--batchSize 8 --accumulate 2", False),
        ("--batchSize 1 --norm_G spectralspadeinstance3x3", False),
        ("--batchSize 1 --norm_G spectralspadebatch3x3", True),
    ],
)
def test_small_batches_under_batch_norm(flags: str, warned: bool, capsys: pytest.CaptureFixture) -> None:
    Pix2PixTrainer(parse(*flags.split()))
    assert ("the generator's batch norms see --batchSize" in capsys.readouterr().err) == warned


def test_pictures_of_one_colour_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Once, and not in the beginning, when they all are."""
    opt = parse("--checkpoints_dir", tmp_path, "--no_html", "--niter", 10, "--batchSize", 2)
    counter = IterationCounter(opt, items=2 * EMPTY_AFTER)
    visualizer = Visualizer(opt, counter)
    white, fine = np.full((8, 8, 3), 255, np.uint8), np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    visualizer.show({"synthesized_image": white}, [])
    counter.images_in_epoch = 2 * EMPTY_AFTER - 2
    visualizer.show({"synthesized_image": white}, [])
    assert "one colour" not in capsys.readouterr().out
    counter.epoch, counter.images_in_epoch = 2, 2
    visualizer.show({"synthesized_image": fine}, [])
    assert "one colour" not in capsys.readouterr().out
    visualizer.show({"synthesized_image": white}, [])
    visualizer.show({"synthesized_image": white}, [])
    assert capsys.readouterr().out.count("is of one colour, (255, 255, 255)") == 1


def test_a_resumed_page_goes_on(tmp_path: Path) -> None:
    """Curves and rows of before are there, but not those after the checkpoint; then new ones follow."""
    opt = parse("--checkpoints_dir", tmp_path, "--niter", 10)
    page = tmp_path / opt.name / "web" / "index.html"
    picture = {name: np.zeros((8, 8, 3), np.uint8) for name in ("synthesized_image", "evaluation_mode")}

    def run(images: list[int]) -> str:
        counter = IterationCounter(opt, items=100)
        counter.images_in_epoch = images[0]
        visualizer = Visualizer(opt, counter)
        for done in images[1:]:
            counter.images_in_epoch = done
            visualizer.print_losses({"GAN": torch.tensor(float(done))})
            visualizer.show(picture, [])
        return page.read_text()

    text = run([0, 10, 20, 30])
    assert "GAN 30<" in text and text.count("<section>") == 3
    captions = re.findall("<figcaption>([^<]*)<", text)
    assert captions == ["synthesised, in training mode", "in evaluation mode, as test.py"] * 3
    text = run([20, 25])  # from the checkpoint at 20 images
    assert "GAN 25<" in text
    assert [part.split("<")[0] for part in text.split("<h2>")[1:]] == [
        f"epoch 1, {done} images into it" for done in (25, 20, 10)
    ]
    line = text.split('<path d="M')[1].split('"')[0].split()
    assert len(line) == 3  # 10, 20 and 25
    assert "GAN 5<" in run([0, 5])  # anew
    assert page.read_text().count("<section>") == 1


def test_one_picture_is_made_for_showing() -> None:
    """Of a batch of two only the first is synthesised again in evaluation mode."""
    trainer = Pix2PixTrainer(parse("--batchSize", 2))
    trainer.step(batch())
    made = []
    generate = trainer.model.generate
    trainer.model.generate = lambda items: made.append(len(items["label"])) or generate(items)
    trainer.visuals(batch())
    assert made == [1]
