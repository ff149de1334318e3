"""--ema_decay: what is averaged, saved, resumed and selected."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

import models
import test as test_script
import train as train_script
from options.test_options import TestOptions
from options.train_options import TrainOptions
from tests.conftest import TINY
from trainers import create_trainer
from trainers.moving_average import MovingAverage
from util.checkpoint import read_state
from util.errors import UserError


def set_to(net: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]:
            tensor.fill_(value)


def test_averages_by_hand() -> None:
    """Weights 1, 2, 3: at first it keeps 0 / 9, 1 / 10 and 2 / 11 of itself, later no more than the decay."""
    net = nn.Linear(1, 1)
    early, late = MovingAverage(net, 0.999), MovingAverage(net, 0.05)
    for value in (1.0, 2.0, 3.0):
        set_to(net, value)
        early.update()
        late.update()
    second = 0.1 * 1 + 0.9 * 2
    assert early.state_dict()["weight"].item() == pytest.approx(2 / 11 * second + 9 / 11 * 3)
    second = 0.05 * 1 + 0.95 * 2
    assert late.state_dict()["weight"].item() == pytest.approx(0.05 * second + 0.95 * 3)
    assert net.weight.item() == 3


def test_running_statistics_are_averaged_and_counters_are_not() -> None:
    net = nn.BatchNorm2d(2)
    average = MovingAverage(net, 0.5)
    average.updates = 100
    for value in (1.0, 2.0):
        set_to(net, value)
        net.num_batches_tracked.fill_(int(value))
        average.update()
    state = average.state_dict()
    assert list(state) == list(net.state_dict())
    for key in ("weight", "bias", "running_mean", "running_var"):
        assert state[key].tolist() == [1.5, 1.5], key
    assert state["num_batches_tracked"] == 2


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 4, 3), nn.Linear(5, 3), nn.ConvTranspose2d(4, 4, 3)], ids=["conv", "linear", "transposed"]
)
def test_singular_vectors_are_those_of_the_averaged_weights(layer: nn.Module) -> None:
    """Two weights, each with vectors of its own: those of their mean belong to neither."""
    net = spectral_norm(layer.double(), n_power_iterations=200)
    average = MovingAverage(net, 0.5)
    average.updates = 100
    shape = (2, 5) if isinstance(layer, nn.Linear) else (2, layer.in_channels, 8, 8)
    for seed in (0, 1):
        torch.manual_seed(seed)
        with torch.no_grad():
            net.weight_orig.normal_()
            # One direction stands out, so that few iterations find it.
            net.weight_orig += 9 * (seed + 1) * torch.ones_like(net.weight_orig)
        net.train()(torch.zeros(shape, dtype=torch.float64))
        average.update()
    state = average.state_dict()
    outer = state["weight_orig"].transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else state["weight_orig"]
    matrix = outer.flatten(1)
    sigma = torch.linalg.matrix_norm(matrix, 2)
    assert torch.dot(state["weight_u"], matrix @ state["weight_v"]) == pytest.approx(sigma.item(), rel=1e-12)
    stale = torch.dot(net.weight_u, matrix @ net.weight_v)
    assert stale.item() < sigma.item() * (1 - 1e-9)
    net.load_state_dict(state)
    net.eval()(torch.zeros(shape, dtype=torch.float64))
    torch.testing.assert_close(net.weight, state["weight_orig"] / sigma)


def test_the_average_keeps_its_networks_layout() -> None:
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    average = MovingAverage(net, 0.9)
    average.update()
    assert average.state_dict()["weight"].stride() == net.weight.stride()
    average.load_state_dict({key: value.contiguous() for key, value in net.state_dict().items()})
    assert average.state_dict()["weight"].stride() == net.weight.stride()


# ---------------------------------------------------------------------------------------------------------- whole runs

EMA = ["--ema_decay", "0.6"]


def run(pairs: Path, *argv: str) -> dict[str, dict[str, Tensor]]:
    """Train; the files of the checkpoint `latest`, whole."""
    flags = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--no_html", "--print_freq", "0"]
    train_script.main([*flags, "--norm_G", "spectralspadebatch1x1", "--D_steps_per_G", "3", *argv])
    folder = Path("checkpoints", argv[argv.index("--name") + 1])
    return {path.name: read_state(path) for path in sorted(folder.glob("latest_net_*.pth"))}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def different(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    assert list(a) == list(b)
    return [key for key in a if not torch.equal(a[key], b[key])]


def test_a_resumed_average_is_that_of_one_run(place: None, pairs: Path) -> None:
    """Four items an epoch; the generator moves at iterations 0, 3 and 6 of 8. Plain weights do not notice."""
    whole = run(pairs, "--name", "whole", "--niter", "2", *EMA)
    assert list(whole) == ["latest_net_D.pth", "latest_net_G.pth", "latest_net_G_ema.pth"]
    run(pairs, "--name", "halves", "--niter", "1", *EMA)
    halves = run(pairs, "--name", "halves", "--niter", "2", "--continue_train", *EMA)
    none = run(pairs, "--name", "none", "--niter", "2")
    assert list(none) == ["latest_net_D.pth", "latest_net_G.pth"]
    for name in whole:
        assert not different(whole[name], halves[name]), name
    assert not different(whole["latest_net_G.pth"], none["latest_net_G.pth"])
    assert len(different(whole["latest_net_G.pth"], whole["latest_net_G_ema.pth"])) > 100
    manifest = Path("checkpoints/whole/latest_manifest.json").read_text()
    assert '"latest_net_G_ema.pth"' in manifest


def test_an_average_may_start_and_end_on_the_way(place: None, pairs: Path, capsys: pytest.CaptureFixture) -> None:
    run(pairs, "--name", "x", "--niter", "1", "--save_epoch_freq", "1")
    started = run(pairs, "--name", "x", "--niter", "2", "--continue_train", *EMA)
    assert "note: checkpoint latest has no moving average of G: it starts here" in capsys.readouterr().err
    assert "latest_net_G_ema.pth" in started
    run(pairs, "--name", "x", "--niter", "3", "--continue_train", "--ema_decay", "0.9")
    said = capsys.readouterr().err
    assert "--ema_decay 0.9 (was 0.6)" in said and "starts here" not in said
    ended = run(pairs, "--name", "x", "--niter", "4", "--continue_train")
    assert "note: the moving average of checkpoint latest ends here (--ema_decay 0)" in capsys.readouterr().err
    assert "latest_net_G_ema.pth" not in ended  # nor does an old one stay beside newer weights
    with pytest.raises(
        UserError, match=r"average of checkpoint latest: it has those of 2, 3, previous \(--which_epoch\)"
    ):
        test_script.main(["--name", "x", "--dataroot", str(pairs), "--gpu_ids", "-1", "--weights", "ema"])


def test_the_average_can_be_selected(place: None, pairs: Path, capsys: pytest.CaptureFixture) -> None:
    """By test.py and by load_generator; without the flag nothing changes."""
    files = run(pairs, "--name", "x", "--niter", "2", *EMA)
    folder = "checkpoints/x"
    for weights, name in (("plain", "latest_net_G.pth"), ("ema", "latest_net_G_ema.pth")):
        G = models.load_generator(folder, weights=weights)
        assert not different(G.state_dict(), files[name])
        by_flag = models.load_generator(folder, argv=["--weights", weights])
        assert not different(by_flag.state_dict(), files[name])
    flags = ["--name", "x", "--dataroot", str(pairs), "--gpu_ids", "-1"]
    pictures = []
    for weights in ([], ["--weights", "plain"], ["--weights", "ema"]):
        test_script.main([*flags, *weights, "--results_dir", "r"])
        pictures.append(Path("r/x/test_latest/images/synthesized_image/picture0.png").read_bytes())
        assert ("these are the plain weights" in capsys.readouterr().err) == (weights != ["--weights", "ema"])
    assert pictures[0] == pictures[1] != pictures[2]
    for epoch in ("latest", "2"):
        Path(folder, f"{epoch}_net_G_ema.pth").unlink()
    with pytest.raises(UserError, match="has no moving average of checkpoint latest: train.py --ema_decay keeps one"):
        models.load_generator(folder, weights="ema")


def test_a_system_without_an_average_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.pix2pix_model.Pix2PixModel.averaged_networks", frozenset())
    with pytest.raises(UserError, match="--ema_decay: --model pix2pix has no network to average; drop the flag"):
        create_trainer(TrainOptions().parse([*TINY, *EMA]))


def test_flags() -> None:
    assert TrainOptions().parse([]).ema_decay == 0
    assert TestOptions().parse([]).weights == "plain"
    for options, flags in ((TrainOptions, ["--ema_decay", "1"]), (TestOptions, ["--weights", "average"])):
        with pytest.raises(UserError):
            options(raises=True).parse(flags)
