"""Losses and gradients that are no finite numbers: --on_nan stop and skip."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import train as train_script
from tests.conftest import TINY
from tests.test_trainer import batch, parse
from trainers.health import MOST_IN_A_ROW
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.checkpoint import read_state
from util.errors import UserError

NAN, INF = float("nan"), float("inf")


def trainer_with(factors: dict[int, float], *argv: object) -> Pix2PixTrainer:
    """A trainer whose generator loss GAN is multiplied by `factors[i]` in iteration i, counted from 0."""
    trainer = Pix2PixTrainer(parse(*argv))
    losses_of = trainer.model.generator_losses

    def losses(part: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
        made, fake = losses_of(part)
        return {**made, "GAN": made["GAN"] * factors.get(trainer.iteration, 1)}, fake

    trainer.model.generator_losses = losses
    return trainer


def state_of(trainer: Pix2PixTrainer) -> dict[str, Tensor]:
    nets = trainer.model.networks().items()
    return {f"{letter}.{key}": value.clone() for letter, net in nets for key, value in net.state_dict().items()}


def named(*paths: str) -> dict[str, Any]:
    return {**batch(len(paths)), "path": list(paths)}


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    """At the next look, which comes with the next step of an optimiser: D's of the same iteration."""
    trainer = trainer_with({1: NAN})
    trainer.step(named("a.png", "b.png"))
    message = r"^loss GAN is nan in iteration 2, whose batch has c.png, d.png\. What was saved before is whole"
    with pytest.raises(UserError, match=message):
        trainer.step(named("c.png", "d.png"))


def test_a_gradient_that_is_no_number_stops_the_run() -> None:
    """The loss is finite, and what it is multiplied with has no finite derivative at 0."""
    trainer = trainer_with({})
    losses_of = trainer.model.discriminator_losses

    def losses(part: dict[str, Any]) -> dict[str, Tensor]:
        made = losses_of(part)
        return {**made, "D_Fake": made["D_Fake"] + (made["D_Fake"] * 0).sqrt()}

    trainer.model.discriminator_losses = losses
    trainer.step(named("a.png", "b.png"))
    with pytest.raises(UserError, match=r"the gradient of D_Fake \+ D_real is not finite in iteration 1, .* has a.png"):
        trainer.health.settle()


def test_nothing_is_saved_after_a_bad_step(tmp_path: Path) -> None:
    trainer = trainer_with({1: INF}, "--checkpoints_dir", tmp_path, "--name", "x")
    position = {"epoch": 1, "images_in_epoch": 2, "images_seen": 2}
    trainer.step(named("a.png", "b.png"))
    trainer.save("latest", position)
    before = {path: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    trainer.health.late = 9  # so that nothing looks by itself
    trainer.step(named("c.png", "d.png"))
    with pytest.raises(UserError, match="loss GAN is -?inf in iteration 2"):
        trainer.save("latest", position)
    assert {path: path.read_bytes() for path in (tmp_path / "x").iterdir()} == before


def test_weights_are_looked_at_too() -> None:
    """A step that was sound may have made them infinite."""
    trainer = trainer_with({})
    trainer.health.settle(trainer.model.networks())
    with torch.no_grad():
        next(trainer.model.netD.parameters())[0] = INF
    with pytest.raises(UserError, match="^network D has weights that are not finite. What was saved before is whole"):
        trainer.health.settle(trainer.model.networks())


def test_a_skipped_step_leaves_nothing_behind(capsys: pytest.CaptureFixture) -> None:
    """Neither in weights nor in running statistics, singular vectors, moments or the moving average."""
    trainer = trainer_with({1: NAN}, "--on_nan", "skip", "--ema_decay", 0.5, "--use_vae")
    trainer.step(named("a.png", "b.png"))
    before, average = state_of(trainer), trainer.averages["G"].updates
    moments = [value.clone() for state in trainer.optimizers["G"].state.values() for value in state.values()]
    trainer.run_generator_one_step({**named("c.png", "d.png")})
    after = state_of(trainer)
    assert [key for key, value in before.items() if not torch.equal(value, after[key])] == []
    now = [value for state in trainer.optimizers["G"].state.values() for value in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, now, strict=True))
    assert trainer.averages["G"].updates == average
    said = capsys.readouterr().err
    assert "warning: loss GAN is nan in iteration 2, whose batch has c.png, d.png: this step is skipped" in said
    trainer.step(named("e.png", "f.png"))  # its first step is bad too, D's is not
    assert any(not torch.equal(value, state_of(trainer)[key]) for key, value in before.items() if key[0] == "D")
    trainer.step(named("g.png", "h.png"))
    assert all(value.isfinite().all() for value in state_of(trainer).values())
    assert trainer.averages["G"].updates == average + 1


def test_skipping_ends_after_ten_in_a_row() -> None:
    """Nine bad iterations, a good one, and then ten."""
    bad = {i: NAN for i in range(MOST_IN_A_ROW + MOST_IN_A_ROW) if i != MOST_IN_A_ROW - 1}
    trainer = trainer_with(bad, "--on_nan", "skip")
    for i in range(2 * MOST_IN_A_ROW - 1):
        trainer.step(named("a.png"))
        assert trainer.health.in_a_row == {9: 0}.get(i, i + 1 if i < 9 else i - 9)
    with pytest.raises(UserError, match="; it is the 10th iteration in a row"):
        trainer.step(named("a.png"))


def test_a_run_that_explodes(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a learning rate of 1e39 weights are infinite after the first step of the generator; whether D, which sees
    what they make, has a loss that is no number depends on the rounding before."""
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--no_html", "--save_latest_freq", "1"]
    train_script.main([*flags, "--name", "x", "--batchSize", "2"])
    again = [*flags, "--name", "x", "--batchSize", "2", "--continue_train", "--niter", "9", "--lr", "1e39"]
    before = {path: path.read_bytes() for path in Path("checkpoints/x").glob("*.pth")}
    with pytest.raises(UserError, match="^(loss D_Fake is nan in iteration 3|network G has weights)"):
        train_script.main(again)
    assert {path: path.read_bytes() for path in Path("checkpoints/x").glob("*.pth")} == before
    assert read_state("checkpoints/x/latest_state.pth")["iteration"] == 2
    with pytest.raises(UserError, match="it is the 10th iteration in a row"):
        skipping = ["--name", "y", "--niter", "9", "--lr", "1e39", "--on_nan", "skip", "--save_latest_freq", "0"]
        train_script.main([*flags, *skipping])
