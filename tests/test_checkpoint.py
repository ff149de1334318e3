"""Checkpoint files: names and keys of SPADE's, strict, atomic, nothing executable."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import models
from models.networks import build_discriminator, build_encoder, build_generator
from options.train_options import TrainOptions
from tests.conftest import TINY
from tests.deterministic import fill
from trainers import create_trainer
from trainers.base_trainer import BaseTrainer
from util.checkpoint import (
    averages_in,
    check_set,
    checkpoints_in,
    copy_set,
    file_about,
    load_network,
    load_networks,
    newest_whole,
    no_checkpoint,
    read_state,
    remove_oldest,
    save_set,
)
from util.errors import UserError
from util.files import write_atomically

POSITION = {"epoch": 3, "images_in_epoch": 4, "images_seen": 20}


def trainer(folder: Path, *argv: str) -> BaseTrainer:
    flags = ["--checkpoints_dir", str(folder), "--name", "x", "--label_nc", "4", *argv]
    options = TrainOptions()
    opt = options.parse([*TINY, *flags])
    options.save(opt)
    return create_trainer(opt)


def test_names_and_keys(tmp_path: Path) -> None:
    own = trainer(tmp_path, "--use_vae")
    own.save("latest", POSITION)
    own.save("7", POSITION)
    folder = tmp_path / "x"
    for epoch in ("latest", "7"):
        for letter, net in own.model.networks().items():
            state = torch.load(folder / f"{epoch}_net_{letter}.pth", weights_only=True)
            assert list(state) == list(net.state_dict())
            assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())
    assert (folder / "iter.txt").read_text().split() == ["3", "4"]
    assert not list(folder.glob("*.tmp"))
    state = read_state(folder / "latest_state.pth")
    assert state["position"] == POSITION
    assert {"command", "torch", "commit"} <= set(state["provenance"])


def test_released_weights_dropped_in_place(tmp_path: Path) -> None:
    """A folder that holds latest_net_G.pth and nothing else."""
    own = trainer(tmp_path / "ours")
    fill(own.model.netG)
    torch.save(own.model.netG.state_dict(), tmp_path / "latest_net_G.pth")
    flags = ["--ngf", "4", "--label_nc", "4", "--crop_size", "64"]
    G = models.load_generator(str(tmp_path), argv=flags)
    assert not G.training
    assert G.opt.label_nc == 4
    semantics = torch.zeros(1, 6, 64, 96)
    with torch.no_grad():
        assert torch.equal(G(semantics), own.model.netG.eval()(semantics))
    with pytest.raises(
        UserError, match=r"fc.weight: \(64, 6, 3, 3\) in the file, \(1024, 184, 3, 3\) in(.|\n)*no opt.json"
    ):
        models.load_generator(str(tmp_path))


def test_load_generator_reads_the_options(tmp_path: Path) -> None:
    trainer(tmp_path, "--norm_G", "spadeinstance1x1").save("2", POSITION)
    G = models.load_generator(str(tmp_path / "x"), epoch=2)
    assert G.head_0.norm_0.mlp_gamma.weight.shape[-1] == 1
    assert G.opt.which_epoch == "2"
    with pytest.raises(UserError, match="has no checkpoint 9: it has 2, latest"):
        models.load_generator(str(tmp_path / "x"), epoch=9)
    (tmp_path / "x" / "opt.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):  # not SystemExit: a notebook goes on
        models.load_generator(str(tmp_path / "x"), epoch=2)


def test_loading_is_strict_and_names_what_differs(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 3))
    path = tmp_path / "net.pth"
    for state, words in (
        ({"0.weight": torch.zeros(3, 2)}, "0.bias: not in the file"),
        ({**net.state_dict(), "1.bias": torch.zeros(1)}, "1.bias: only in the file"),
        ({"0.weight": torch.zeros(3, 9), "0.bias": torch.zeros(3)}, r"\(3, 9\) in the file, \(3, 2\) in the network"),
    ):
        torch.save(state, path)
        with pytest.raises(UserError, match=words):
            load_network(net, path)


BASE = "--dataset_mode coco --ngf 4 --ndf 4 --nef 4 --crop_size 64 --no_vgg_loss"


@pytest.mark.parametrize(
    ("letter", "flags", "said"),
    [
        ("G", "--ngf 8", ["--ngf: 8 in the file, 4 here"]),
        ("G", "--label_nc 35", ["instance edges (unless --no_instance): 37 in the file, 184 here"]),
        ("G", "--no_instance", ["instance edges (unless --no_instance): 183 in the file, 184 here"]),
        ("G", "--contain_dontcare_label false", ["instance edges (unless --no_instance): 183 in the file, 184 here"]),
        ("G", "--use_vae", ["--use_vae: True in the file, False here"]),
        ("G", "--num_upsampling_layers most", ["--num_upsampling_layers most: True in the file, False here"]),
        (
            "G",
            "--norm_G spadeinstance5x5",
            ["--norm_G: spadeinstance5x5 in the file, spectralspade{syncbatch,batch}3x3 here"],
        ),
        ("G", "--spectral_all", ["--spectral_all: True in the file, False here"]),
        ("G", "--netG pix2pixhd", ["--netG: pix2pixhd in the file, spade here"]),
        ("E", "--use_vae --nef 8 --z_dim 16", ["--nef: 8 in the file, 4 here", "--z_dim: 16 in the file, 256 here"]),
        ("E", "--use_vae --norm_E instance", ["--norm_E: instance in the file, spectralinstance here"]),
        ("D", "--ndf 8 --num_D 3", ["--num_D: 3 in the file, 2 here", "--ndf: 8 in the file, 4 here"]),
        ("D", "--n_layers_D 3", ["--n_layers_D: 3 in the file, 4 here"]),
        ("D", "--norm_D instance", ["--norm_D: instance in the file, spectralinstance here"]),
        ("D", "--norm_D spectralbatch", ["--norm_D: spectral{batch,sync_batch} in the file, spectralinstance here"]),
        ("D", "--norm_D none", ["--norm_D: none in the file, spectralinstance here"]),
        ("D", "--spectral_all", ["--spectral_all: True in the file, False here"]),
        ("E", "--use_vae --spectral_all", ["--spectral_all: True in the file, False here"]),
        ("E", "--use_vae --output_nc 1", ["--output_nc: 1 in the file, 3 here"]),
        ("G", "--output_nc 1", ["--output_nc: 1 in the file, 3 here"]),
    ],
)
def test_files_that_do_not_fit_name_the_flags(tmp_path: Path, letter: str, flags: str, said: list[str]) -> None:
    """The flag whose value was another one when the file was written, read off its shapes."""
    build = {"G": build_generator, "D": build_discriminator, "E": build_encoder}[letter]
    torch.save(build(TrainOptions().parse([*BASE.split(), *flags.split()])).state_dict(), tmp_path / "f.pth")
    with pytest.raises(UserError, match="flags that would explain it:") as error:
        load_network(build(TrainOptions().parse(BASE.split())), tmp_path / "f.pth")
    explained = str(error.value).split("flags that would explain it:\n")[1]
    lines = [line.strip() for line in explained.split("\n") if line.startswith("  ")]
    assert [line.split(" + ")[-1] for line in lines] == said


def test_the_style_of_another_size_is_named(tmp_path: Path) -> None:
    """64 x 64 pixels make a latent map of 2 x 2; 96 x 96 one of 3 x 3."""
    argv = [*BASE.split(), "--use_vae"]
    torch.save(build_generator(TrainOptions().parse([*argv, "--crop_size", "96"])).state_dict(), tmp_path / "f.pth")
    with pytest.raises(UserError, match=r"pixels of the latent map \(--crop_size, .*\): 9 in the file, 4 here"):
        load_network(build_generator(TrainOptions().parse(argv)), tmp_path / "f.pth")


def test_pix2pixhd_files_are_explained(tmp_path: Path) -> None:
    argv = [*BASE.split(), "--netG", "pix2pixhd", "--resnet_n_downsample", "1", "--resnet_n_blocks", "2"]
    for flag, own, value in (
        ("--resnet_n_blocks", "2", "3"),
        ("--resnet_n_blocks", "2", "0"),
        ("--resnet_n_downsample", "1", "3"),
        ("--resnet_n_downsample", "1", "0"),
        ("--resnet_kernel_size", "3", "5"),
        ("--resnet_initial_kernel_size", "7", "5"),
        ("--ngf", "4", "8"),
        ("--output_nc", "3", "1"),
        ("--norm_G", "instance", "spectralinstance"),
        ("--norm_G", "instance", "none"),
        ("--norm_G", "instance", "{batch,sync_batch}"),
        ("--spectral_all", "False", "True"),
    ):
        given = [flag, value.replace("{batch,sync_batch}", "batch")]
        torch.save(build_generator(TrainOptions().parse([*argv, *given])).state_dict(), tmp_path / "f.pth")
        with pytest.raises(UserError) as error:
            load_network(build_generator(TrainOptions().parse(argv)), tmp_path / "f.pth")
        assert f"{flag}: {value} in the file, {own} here" in str(error.value)
        if flag != "--spectral_all":
            assert str(error.value).count(" here") == 1, (given, str(error.value))


@pytest.mark.parametrize("shape", [(), (3,), (8, 4), (8, 4, 3, 3)])
def test_files_of_odd_shapes_are_refused_like_others(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Names of ours with shapes that no flags make: there is nothing to explain, and nothing breaks."""
    for build, flags in (
        (build_generator, ""),
        (build_generator, "--netG pix2pixhd --resnet_n_blocks 1"),
        (build_discriminator, ""),
        (build_encoder, "--use_vae"),
    ):
        net = build(TrainOptions().parse([*BASE.split(), *flags.split()]))
        torch.save({key: torch.zeros(shape) for key in net.state_dict()}, tmp_path / "f.pth")
        with pytest.raises(UserError, match="does not fit"):
            load_network(net, tmp_path / "f.pth")


class Evil:
    """Would run a command if it were unpickled."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("evil_was_here"),))


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, "evil.pth")
    Path("plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(UserError, match="not loaded|damaged"):
            read_state(name)
    assert not Path("evil_was_here").exists()


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_damaged_files_are_named(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match="net.pth is damaged or no checkpoint"):
        read_state(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fails(file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"No space left on device.*; what was there before is untouched"):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_where_torch_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save speaks of a position in its archive."""

    def fails(file) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 212800 vs 212752")

    with pytest.raises(UserError, match="could not be written: .enforce fail"):
        write_atomically(tmp_path / "file", fails)  # some other error: as it is
    monkeypatch.setattr("util.files.shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(UserError, match="file could not be written: the disk is full; what was there before is"):
        write_atomically(tmp_path / "file", fails)


def test_manifest(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    save_set(tmp_path, "5", {"G": net}, {"iteration": 1})
    copy_set(tmp_path, "5", "latest")
    check_set(tmp_path, "latest")
    assert set(json.loads((tmp_path / "latest_manifest.json").read_text())["files"]) == {
        "latest_net_G.pth",
        "latest_state.pth",
    }
    save_set(tmp_path, "latest", {"G": net}, {"iteration": 2})  # a new latest leaves epoch 5 as it was
    assert read_state(tmp_path / "5_state.pth") == {"iteration": 1}
    shutil.copy(tmp_path / "5_state.pth", tmp_path / "latest_state.pth")
    with pytest.raises(UserError, match="latest_state.pth is damaged or from another save"):
        check_set(tmp_path, "latest")
    (tmp_path / "latest_state.pth").unlink()
    with pytest.raises(UserError, match="latest_state.pth is missing"):
        check_set(tmp_path, "latest")


def test_networks_of_an_older_set_do_not_stay(tmp_path: Path) -> None:
    """A moving average from before would pass for that of the new weights. Other sets keep theirs."""
    net = nn.Linear(1, 1)
    for epoch in ("5", "latest"):
        save_set(tmp_path, epoch, {"G": net, "G_ema": net}, {})
    assert averages_in(tmp_path) == ["5", "latest"]
    save_set(tmp_path, "latest", {"G": net}, {})
    assert averages_in(tmp_path) == ["5"]
    check_set(tmp_path, "latest")


def test_a_set_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at whatever rename, a save leaves the old set or the new one, never a mixture."""
    net = nn.Linear(1, 1)
    nn.init.zeros_(net.weight)
    replace, outcomes = os.replace, []

    class Cut(Exception):
        pass

    for stop in range(4):  # the manifest's rename, then those of G and of the state; at 3 nothing is interrupted
        save_set(tmp_path, "latest", {"G": net}, {"iteration": 1})
        old, done = net.weight.item(), 0
        nn.init.constant_(net.weight, old + 1)

        def cut(source: Path, target: Path, stop: int = stop) -> None:
            nonlocal done
            if done == stop:
                raise Cut
            done += 1
            replace(source, target)

        monkeypatch.setattr(os, "replace", cut)
        try:
            save_set(tmp_path, "latest", {"G": net}, {"iteration": 2})
        except Cut:
            pass
        monkeypatch.setattr(os, "replace", replace)
        check_set(tmp_path, "latest")
        iteration = read_state(tmp_path / "latest_state.pth")["iteration"]
        weight = read_state(tmp_path / "latest_net_G.pth")["weight"].item()
        assert weight == old + (iteration == 2)
        outcomes.append(iteration)
    assert outcomes == [1, 2, 2, 2]


@pytest.mark.parametrize("fails", [1, 2, 3, 4, 5])
def test_a_failed_save_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    """A disk that fills up while G, the state, opt.json, names or the manifest are written: nothing changed or left."""
    net = nn.Linear(1, 1)
    save_set(tmp_path, "latest", {"G": net}, {"iteration": 1}, {"opt.json": b"old", "classes.json": b"old"})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 5
    sync, written = os.fsync, []

    def full(file: int) -> None:
        written.append(file)
        if len(written) == fails:
            raise OSError(28, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device.*; what was there before is untouched"):
        save_set(tmp_path, "latest", {"G": net}, {"iteration": 2}, {"opt.json": b"new", "classes.json": None})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_set(tmp_path, "latest", {"G": net}, {"iteration": 2}, {"opt.json": b"new", "classes.json": None})
    assert (tmp_path / "opt.json").read_bytes() == b"new" and not (tmp_path / "classes.json").exists()


def killed_after(renames: int) -> Callable[[Path, Path], None]:
    """os.replace of a process that ends after so many."""
    replace, left = os.replace, [renames]

    def cut(source: Path, target: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    return cut


def test_files_about_a_run_belong_to_its_last_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the manifest's rename: the weights are the new ones, and so is what says how to build them."""
    net = nn.Linear(1, 1)
    save_set(tmp_path, "latest", {"G": net}, {"iteration": 1}, {"opt.json": b"old", "classes.json": b"old"})
    replace = os.replace
    monkeypatch.setattr(os, "replace", killed_after(1))
    with pytest.raises(KeyboardInterrupt):
        save_set(tmp_path, "latest", {"G": net}, {"iteration": 2}, {"opt.json": b"new", "classes.json": None})
    monkeypatch.setattr(os, "replace", replace)
    assert (tmp_path / "opt.json").read_bytes() == b"old"
    assert file_about(tmp_path, "opt.json").read_bytes() == b"new"
    assert file_about(tmp_path, "classes.json") is None
    newest_whole(tmp_path, "latest")
    assert (tmp_path / "opt.json").read_bytes() == b"new" and not (tmp_path / "classes.json").exists()
    (tmp_path / "opt.json.tmp").write_bytes(b"half")  # of a save that never came to its manifest
    assert file_about(tmp_path, "opt.json").read_bytes() == b"new"


def test_sets_of_a_replaced_run_go_whenever_it_is_killed(tmp_path: Path) -> None:
    """Those that --overwrite has not yet removed go when the run is resumed; its own of the same name stay."""
    net = nn.Linear(1, 1)
    for epoch in ("1", "2", "latest"):
        save_set(tmp_path, epoch, {"G": net}, {"iteration": 1}, run="old")
    save_set(tmp_path, "latest", {"G": net}, {"iteration": 1}, run="new", replaces=["1", "2", "latest"])
    save_set(tmp_path, "2", {"G": net}, {"iteration": 2}, run="new")
    assert newest_whole(tmp_path, "latest") == "latest"
    assert checkpoints_in(tmp_path) == ["2", "latest"]


def test_a_damaged_latest_does_not_replace_the_one_before(tmp_path: Path) -> None:
    """The run goes on from `previous`, which stays until there are two whole ones again."""
    begun = trainer(tmp_path)
    for iteration in (1, 2):
        begun.iteration = iteration
        begun.save("latest", POSITION)
    damage(tmp_path / "x", "latest")
    resumed = trainer(tmp_path, "--continue_train")
    resumed.resume()
    assert resumed.iteration == 1
    kept = []
    for iteration in (3, 4):
        resumed.iteration = iteration
        resumed.save("latest", POSITION)
        kept.append(read_state(tmp_path / "x" / "previous_state.pth")["iteration"])
        check_set(tmp_path / "x", "previous")
    assert kept == [1, 3]


def test_a_run_falls_back_to_its_own_sets_alone(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    save_set(tmp_path, "3", {"G": net}, {"iteration": 2}, run="other")
    save_set(tmp_path, "1", {"G": net}, {"iteration": 1}, run="own")
    save_set(tmp_path, "latest", {"G": net}, {"iteration": 3}, run="own")
    damage(tmp_path, "latest")
    assert newest_whole(tmp_path, "latest") == "1"


def test_what_killed_saves_left_is_removed(tmp_path: Path) -> None:
    """But not what a manifest waits for: that belongs to a checkpoint."""
    net = nn.Linear(1, 1)
    save_set(tmp_path, "3", {"G": net}, {"iteration": 1})
    (tmp_path / "3_net_G.pth").rename(tmp_path / "3_net_G.pth.tmp")  # killed between the renames
    for name in ("3_state.pth.tmp", "4_net_G.pth.tmp", "4_state.pth.tmp"):
        (tmp_path / name).write_bytes(b"half")
    save_set(tmp_path, "5", {"G": net}, {"iteration": 2})
    assert [path.name for path in tmp_path.glob("*.tmp")] == ["3_net_G.pth.tmp"]
    check_set(tmp_path, "3")
    assert not list(tmp_path.glob("*.tmp"))


def test_a_save_cut_short_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """test.py, which writes nothing, takes all networks from the new set although one was not yet renamed."""
    old, new = trainer(tmp_path, "--use_vae"), trainer(tmp_path, "--use_vae")
    old.save("latest", POSITION)
    for net in new.model.networks().values():
        fill(net)
    monkeypatch.setattr(os, "replace", killed_after(2))  # the manifest and G
    with pytest.raises(KeyboardInterrupt):
        new.save("latest", POSITION)
    before = {path: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    load_networks(old.model, tmp_path / "x", "latest")
    for a, b in zip(old.model.state_dict().values(), new.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert {path: path.read_bytes() for path in (tmp_path / "x").iterdir()} == before


def test_resuming_compares_with_the_manifest(tmp_path: Path) -> None:
    own = trainer(tmp_path)
    own.save("latest", POSITION)
    torch.save(fill(own.model.netG).state_dict(), tmp_path / "x" / "latest_net_G.pth")
    with pytest.raises(UserError, match="latest_net_G.pth is damaged or from another save"):
        trainer(tmp_path).resume()


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    for text in ("{", "{}", "[]"):
        (tmp_path / "latest_manifest.json").write_text(text)
        with pytest.raises(UserError, match="latest_manifest.json is damaged"):
            check_set(tmp_path, "latest")


def test_resume_without_training_state(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Released folders hold networks only: their weights go on, and the optimisers say that they start fresh."""
    trainer(tmp_path).save("latest", POSITION)
    folder = tmp_path / "x"
    (folder / "latest_state.pth").unlink()
    (folder / "latest_manifest.json").unlink()
    resumed = trainer(tmp_path, "--continue_train", "--ema_decay", "0.9").resume()
    assert resumed == {"epoch": 3, "images_in_epoch": 0, "images_seen": 0}
    said = capsys.readouterr().err
    assert "the optimisers start fresh" in said and "has no moving average of G: it starts here" in said
    for letter in "GD":
        (folder / f"latest_net_{letter}.pth").rename(folder / f"30_net_{letter}.pth")
    assert trainer(tmp_path, "--continue_train", "--which_epoch", "30").resume()["epoch"] == 31
    with pytest.raises(UserError, match=r"has no checkpoint latest: it has 30 \(--which_epoch\)"):
        trainer(tmp_path, "--continue_train").resume()


def test_other_networks_do_not_resume(tmp_path: Path) -> None:
    trainer(tmp_path).save("latest", POSITION)
    with pytest.raises(UserError, match="latest_net_G.pth does not fit"):
        trainer(tmp_path, "--ngf", "8").resume()


def test_resuming_obeys_the_flags_of_the_optimiser(tmp_path: Path) -> None:
    """Other rates and betas than the saved ones hold; another kind of optimiser is refused by name."""
    trainer(tmp_path).save("latest", POSITION)
    other = trainer(tmp_path, "--no_TTUR", "--beta1", "0.3")
    other.resume()
    (group,) = other.optimizers["D"].param_groups
    assert (group["lr"], group["lr_scale"], group["betas"]) == (2e-4, 1.0, (0.3, 0.999))
    with pytest.raises(UserError, match="is of --optimizer adam, not sgd"):
        trainer(tmp_path, "--optimizer", "sgd").resume()


def push(own: BaseTrainer) -> None:
    """A step of every optimiser along gradients that depend on shapes alone."""
    for optimizer in own.optimizers.values():
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.empty_like(p).copy_(torch.arange(p.numel()).sin().reshape(p.shape))
        optimizer.step()


def restride(own: BaseTrainer, memory_format: torch.memory_format) -> BaseTrainer:
    own.model.to(memory_format=memory_format)
    return own


def assert_same_weights(a: BaseTrainer, b: BaseTrainer) -> None:
    for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("saved", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("here", [torch.contiguous_format, torch.channels_last])
def test_resuming_whatever_the_layout_in_memory(
    tmp_path: Path, saved: torch.memory_format, here: torch.memory_format
) -> None:
    """Fused kernels would pair each weight with another one's moments where the strides of the two differ."""
    own = trainer(tmp_path, "--beta1", "0.5")
    push(own)
    own.save("latest", POSITION)
    (tmp_path / "x" / "latest_manifest.json").unlink()
    state = read_state(tmp_path / "x" / "latest_state.pth")
    for moments in (moments for kept in state["optimizers"].values() for moments in kept["state"].values()):
        for name in ("exp_avg", "exp_avg_sq"):
            if moments[name].ndim == 4:
                moments[name] = moments[name].contiguous(memory_format=saved)
    torch.save(state, tmp_path / "x" / "latest_state.pth")
    resumed = restride(trainer(tmp_path, "--beta1", "0.5"), here)
    resumed.resume()
    for go_on in (own, resumed):
        push(go_on)
    assert_same_weights(own, resumed)


def test_files_do_not_depend_on_the_layout_in_memory(tmp_path: Path) -> None:
    """Values and strides of a run in channels-last are those of a contiguous one, 1 x 1 kernels included."""
    files = []
    for name, memory_format in (("a", torch.contiguous_format), ("b", torch.channels_last)):
        own = restride(trainer(tmp_path / name), memory_format)
        push(own)
        own.save("latest", POSITION)
        states = [read_state(tmp_path / name / "x" / f"latest_net_{letter}.pth") for letter in "GD"]
        kept = read_state(tmp_path / name / "x" / "latest_state.pth")["optimizers"]
        states += [moments for optimizer in kept.values() for moments in optimizer["state"].values()]
        files.append([value for state in states for value in state.values()])
    assert own.model.netG.up_3.conv_s.weight_orig.stride() != (8, 1, 1, 1)
    for a, b in zip(*files, strict=True):
        assert a.stride() == b.stride() == torch.empty(a.shape).stride()
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_checkpoints_of_plain_adam_resume(tmp_path: Path) -> None:
    """Those of before Adam was fused."""
    own = trainer(tmp_path, "--beta1", "0.5")
    for optimizer in own.optimizers.values():
        assert optimizer.param_groups[0]["fused"]
        optimizer.param_groups[0]["fused"] = None
    push(own)
    own.save("latest", POSITION)
    resumed = trainer(tmp_path, "--beta1", "0.5")
    resumed.resume()
    assert all(optimizer.param_groups[0]["fused"] for optimizer in resumed.optimizers.values())
    for go_on in (own, resumed):
        push(go_on)
    assert_same_weights(own, resumed)


def test_pretrained_generator_gets_a_fresh_discriminator(tmp_path: Path) -> None:
    fill(trainer(tmp_path).model.netG)
    own = trainer(tmp_path)
    torch.save(fill(trainer(tmp_path).model.netG).state_dict(), tmp_path / "G.pth")
    D = {k: v.clone() for k, v in own.model.netD.state_dict().items()}
    own.load_pretrained(str(tmp_path / "G.pth"))
    loaded = torch.load(tmp_path / "G.pth", weights_only=True)
    assert all(torch.equal(v, loaded[k]) for k, v in own.model.netG.state_dict().items())
    assert all(torch.equal(v, D[k]) for k, v in own.model.netD.state_dict().items())


def test_a_mistyped_name_lists_the_experiments(tmp_path: Path) -> None:
    """The nearest first; folders without checkpoints are none."""
    for name in ("streets", "demo", "empty"):
        (tmp_path / name).mkdir()
    for name in ("streets", "demo"):
        (tmp_path / name / "latest_net_G.pth").touch()
    assert str(no_checkpoint(tmp_path / "street", "latest")).endswith("has streets, demo")
    assert str(no_checkpoint(tmp_path / "demo" / "x", "latest")).endswith("has no checkpoints")
    for i in range(7):
        (tmp_path / f"run{i}").mkdir()
        (tmp_path / f"run{i}" / "latest_net_G.pth").touch()
    said = str(no_checkpoint(tmp_path / "street", "latest"))
    assert "has streets, " in said and said.endswith(", ...")  # nine are more than it lists


def save_at(folder: Path, epoch: str, iteration: int) -> None:
    save_set(
        folder, epoch, {"G": nn.Linear(1, 1)}, {"iteration": iteration}, keep="previous" if epoch == "latest" else ""
    )


def damage(folder: Path, epoch: str) -> None:
    with open(folder / f"{epoch}_net_G.pth", "ab") as file:
        file.write(b"x")


def test_what_a_damaged_latest_falls_back_to(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """To `previous`; where that is damaged too, to the newest set that is no newer than `latest`: epoch 10 is of a run
    that was gone back from."""
    save_at(tmp_path, "1", 3)
    save_at(tmp_path, "10", 30)
    save_at(tmp_path, "2", 6)
    save_at(tmp_path, "latest", 6)
    save_at(tmp_path, "latest", 9)
    assert newest_whole(tmp_path, "latest") == "latest"
    damage(tmp_path, "latest")
    assert newest_whole(tmp_path, "latest") == "previous"
    said = capsys.readouterr().err
    assert "latest_net_G.pth is damaged" in said and "Going on from" in said and "previous_*" in said
    damage(tmp_path, "previous")
    assert newest_whole(tmp_path, "latest") == "2"
    damage(tmp_path, "2")
    assert newest_whole(tmp_path, "latest") == "1"
    damage(tmp_path, "1")
    with pytest.raises(UserError, match="latest_net_G.pth is damaged"):
        newest_whole(tmp_path, "latest")
    with pytest.raises(UserError, match="2_net_G.pth is damaged"):
        newest_whole(tmp_path, "2")


def test_a_latest_that_was_never_made(tmp_path: Path) -> None:
    """A run that was killed after its first epoch was saved, and before that became latest."""
    save_at(tmp_path, "1", 3)
    assert newest_whole(tmp_path, "latest") == "1"
    with pytest.raises(UserError, match="has no checkpoint 4: it has 1"):
        newest_whole(tmp_path, "4")


def test_the_first_saved_go_first(tmp_path: Path) -> None:
    """A run that went back to epoch 1 keeps what it saves, though 10 is more."""
    for number, epoch in enumerate(("1", "10", "2", "3")):  # by manifests, whatever times a copy has
        save_at(tmp_path, epoch, 3)
        os.utime(tmp_path / f"{epoch}_manifest.json", ns=(9 - number, 9 - number))
    assert remove_oldest(tmp_path, 2) == ["1", "10"]
    assert checkpoints_in(tmp_path) == ["2", "3"]
