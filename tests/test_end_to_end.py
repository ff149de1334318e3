"""train.py and test.py as a user runs them, on a CPU."""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import models
import test as test_script
import train as train_script
from tests.conftest import TINY
from tests.faults.lives import begin, differences
from tests.pages import assert_links_work
from util.checkpoint import checkpoints_in
from util.errors import UserError, run_main

ROOT = Path(__file__).parent.parent
ONE = ("--max_dataset_size", "1")  # item, and iteration
SCRIPTS = {"train.py": train_script, "test.py": test_script}


def run(script: str, *argv: object, cwd: Path) -> subprocess.CompletedProcess:
    """The script in a process of its own: on Linux forked from this one, which has imported everything already."""
    if sys.platform != "linux":
        return run_afresh(script, *argv, cwd=cwd)
    with tempfile.TemporaryDirectory() as folder:
        said, errors = Path(folder, "stdout"), Path(folder, "stderr")
        (status,) = begin([*map(str, argv)], 1, said, SCRIPTS[script], [{}], errors, cwd).wait(300)
        return subprocess.CompletedProcess([script, *argv], status, said.read_text(), errors.read_text())


def run_afresh(script: str, *argv: object, cwd: Path, **more: object) -> subprocess.CompletedProcess:
    """The script as a user starts it."""
    command = [sys.executable, str(ROOT / script), *map(str, argv)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, **more)


def states(folder: Path, epoch: str = "latest") -> dict[str, torch.Tensor]:
    return {
        f"{letter}.{key}": value
        for letter in "GDE"
        if (folder / f"{epoch}_net_{letter}.pth").exists()
        for key, value in torch.load(folder / f"{epoch}_net_{letter}.pth", weights_only=True).items()
    }


@pytest.mark.parametrize(("extra", "run_again"), [([], run_afresh), (["--use_vae"], run)], ids=["plain", "vae"])
def test_train_resume_test(pairs: Path, tmp_path: Path, extra: list[str], run_again: Callable) -> None:
    """Two epochs in one go equal, bit for bit, one epoch and another in a fresh process."""
    common = [*TINY, "--dataroot", pairs, "--batchSize", 2, "--label_nc", 5, "--print_freq", 1, "--niter", 2, *extra]
    done = run("train.py", *common, "--name", "whole", "--display_freq", 4, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Training was successfully finished.\n")
    assert "network G [SPADEGenerator]" in done.stdout
    folder = tmp_path / "checkpoints"
    log = (folder / "whole" / "loss_log.txt").read_text().splitlines()[1:]
    kld = r"KLD: [\d.]+ " if extra else ""
    for line, (epoch, images) in zip(log, [(1, 2), (1, 4), (2, 2), (2, 4)], strict=True):
        pattern = (
            rf"\(epoch: {epoch}, iters: {images}, time: [\d.]+\) {kld}GAN: \S+ GAN_Feat: \S+ D_Fake: \S+ D_real: \S+"
        )
        assert re.fullmatch(pattern, line), line
    assert_links_work(folder / "whole" / "web" / "index.html")

    stopped = run("train.py", *common, "--name", "parts", "--niter", 1, cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    resumed = run_again("train.py", *common, "--name", "parts", "--continue_train", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    whole, parts = states(folder / "whole"), states(folder / "parts")
    assert list(whole) == list(parts)
    assert [key for key in whole if not torch.equal(whole[key], parts[key])] == []

    before = {p: p.stat().st_mtime_ns for p in (folder / "whole").rglob("*")}
    results = run("test.py", "--name", "whole", "--dataroot", pairs, "--gpu_ids", -1, "--batchSize", 2, cwd=tmp_path)
    assert results.returncode == 0, results.stderr
    assert {p: p.stat().st_mtime_ns for p in (folder / "whole").rglob("*")} == before  # testing writes nothing there
    page = tmp_path / "results" / "whole" / "test_latest" / "index.html"
    assert_links_work(page)
    for name in ("input_label", "synthesized_image"):
        for i in range(2):
            assert Image.open(page.parent / "images" / name / f"picture{i}.png").size == (64, 64)


def test_resume_in_the_middle_of_an_epoch(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run cut after its third batch of eight goes on with the fourth, bit for bit, log lines included."""
    monkeypatch.chdir(tmp_path)
    common = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--niter", "0", "--use_vae", "--D_steps_per_G", "2"]
    common += ["--niter_decay", "2", "--print_freq", "1", "--no_html"]
    train_script.main([*common, "--name", "whole"])

    class Cut(Exception):
        pass

    from trainers.base_trainer import BaseTrainer

    whole_save = BaseTrainer.save

    def save_then_cut(self: BaseTrainer, *args: object) -> None:
        whole_save(self, *args)
        if self.iteration == 3:  # the third of four batches of epoch 1
            raise Cut

    monkeypatch.setattr(BaseTrainer, "save", save_then_cut)
    with pytest.raises(Cut):
        train_script.main([*common, "--name", "cut", "--save_latest_freq", "1"])
    monkeypatch.setattr(BaseTrainer, "save", whole_save)
    train_script.main([*common, "--name", "cut", "--continue_train"])

    whole, cut = states(Path("checkpoints/whole")), states(Path("checkpoints/cut"))
    assert [key for key in whole if not torch.equal(whole[key], cut[key])] == []
    optimizers = [
        torch.load(f"checkpoints/{n}/latest_state.pth", weights_only=True)["optimizers"] for n in ("whole", "cut")
    ]
    # niter 0, niter_decay 2: 1e-4 times 1, 1/2.
    assert optimizers[1]["G"]["param_groups"][0]["lr"] == pytest.approx(1e-4 / 2)
    for name in ("G", "D"):
        a, b = (o[name]["state"] for o in optimizers)
        assert all(torch.equal(a[i]["exp_avg_sq"], b[i]["exp_avg_sq"]) for i in a)

    def lines(name: str) -> list[str]:
        text = Path(f"checkpoints/{name}/loss_log.txt").read_text()
        return [re.sub(r"time: [\d.]+", "", line) for line in text.splitlines() if line.startswith("(")]

    assert lines("whole") == lines("cut")


def test_checkpoints_alone_make_images(pairs: Path, tmp_path: Path) -> None:
    """No photos, no D, no optimiser state, layouts of other sizes: G's file and opt.json are enough."""
    done = run("train.py", *TINY, "--dataroot", pairs, "--label_nc", 5, "--name", "x", "--use_vae", *ONE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "checkpoints" / "x"
    for file in folder.iterdir():
        if file.name not in ("opt.json", "latest_net_G.pth"):
            file.unlink() if file.is_file() else None
    results = run("test.py", "--name", "x", "--label_dir", pairs / "val_label", "--gpu_ids", -1, cwd=tmp_path)
    assert results.returncode == 0, results.stderr
    assert "latest_net_E.pth is not there" in results.stderr
    images = list((tmp_path / "results/x/test_latest/images/synthesized_image").iterdir())
    assert len(images) == 2
    assert models.load_generator(str(folder)).opt.use_vae


def test_images_do_not_depend_on_the_batch(pairs: Path, tmp_path: Path) -> None:
    done = run("train.py", *TINY, "--dataroot", pairs, "--label_nc", 5, "--name", "x", "--use_vae", *ONE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = []
    for size in (1, 3):
        argv = ["--name", "x", "--label_dir", pairs / "train_label", "--batchSize", size, "--results_dir", f"r{size}"]
        assert run("test.py", *argv, "--gpu_ids", -1, cwd=tmp_path).returncode == 0
        folder = tmp_path / f"r{size}" / "x" / "test_latest" / "images" / "synthesized_image"
        made.append([np.asarray(Image.open(p)).astype(int) for p in sorted(folder.iterdir())])
    assert max(np.abs(a - b).max() for a, b in zip(*made, strict=True)) <= 1  # rounding


@pytest.mark.parametrize(
    ("run", "script", "argv", "words"),
    [
        (
            run,
            "train.py",
            "--dataroot nowhere --no_vgg_loss",
            "--dataroot nowhere is not a folder; it is where the files of --dataset_mode coco are",
        ),
        (run, "train.py", "--dataroot data --no_vgg_loss --batchSize 9", "--batchSize 1 .. 4 would do"),
        (run, "train.py", "--dataroot data --no_vgg_loss --label_nc 3 --nThreads 1", "picture"),
        (run, "train.py", "--netD wrong", "--netD"),
        (
            run,
            "train.py",
            "--dataroot data --no_vgg_loss --continue_train",
            "there is no folder checkpoints/label2coco",
        ),
        (
            run_afresh,
            "test.py",
            "--name nothing --dataroot data",
            "there is no folder checkpoints/nothing (--checkpoints_dir, --name); ",
        ),
        (run, "test.py", "--bathSize 1", "--bathSize"),
    ],
)
def test_mistakes_show_one_message_and_status_2(pairs: Path, run: Callable, script: str, argv: str, words: str) -> None:
    """Mended (SPADE): some ended with status 0, others with a traceback."""
    done = run(script, *argv.split(), "--gpu_ids", -1, "--ngf", 4, cwd=pairs.parent)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(pairs.parent.glob("checkpoints/*/*.pth"))


def test_a_run_that_fails_leaves_the_options_of_the_weights(pairs: Path, tmp_path: Path) -> None:
    """opt.json describes the weights beside it, until others are saved."""
    flags = [*TINY, "--dataroot", pairs, "--label_nc", 5, "--name", "x"]
    assert run("train.py", *flags, *ONE, "--no_html", "--display_freq", 1, cwd=tmp_path).returncode == 0
    folder = tmp_path / "checkpoints" / "x"
    assert not (folder / "web").exists()  # --no_html
    kept = (folder / "opt.json").read_text()
    done = run("train.py", *flags, "--label_nc", 4, "--overwrite", cwd=tmp_path)
    assert (done.returncode, "ids 4" in done.stderr) == (2, True)
    assert (folder / "opt.json").read_text() == kept


def test_a_disk_full_while_overwriting_keeps_the_old_run(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and options of a run belong together: either both are the new run's, or neither."""
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--no_html", *ONE]
    train_script.main(flags)
    before = {path: path.read_bytes() for path in Path("checkpoints/label2coco").iterdir() if path.suffix != ".txt"}

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="what was there before is untouched"):
        patch.setattr(torch, "save", full)
        train_script.main([*flags, "--ngf", "8", "--overwrite"])
    assert {path: path.read_bytes() for path in before} == before
    test_script.main(["--gpu_ids", "-1", "--name", "label2coco", "--dataroot", str(pairs), "--how_many", "1"])


def test_a_run_is_not_overwritten_unasked(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command again, without --continue_train, would lose what days of training made."""
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--name", "x", "--no_html", *ONE]
    train_script.main([*flags, "--niter", "2", "--save_epoch_freq", "1"])
    before = {p.name: p.read_bytes() for p in Path("checkpoints/x").iterdir()}
    with pytest.raises(
        UserError, match=r"holds a run \(checkpoints 1, 2, previous, latest\): --continue_train .* --overwrite"
    ):
        train_script.main(flags)
    assert {p.name: p.read_bytes() for p in Path("checkpoints/x").iterdir()} == before
    train_script.main([*flags, "--overwrite", "--seed", "1"])
    names = {p.name for p in Path("checkpoints/x").glob("*.pth")}
    assert names == {f"{epoch}_{what}.pth" for epoch in ("1", "latest") for what in ("net_G", "net_D", "state")}
    assert Path("checkpoints/x/latest_net_G.pth").read_bytes() != before["latest_net_G.pth"]


def test_a_run_that_does_not_start_leaves_no_folder(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its own; what was there stays, and --continue_train makes none."""
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--label_nc", "5", "--no_html", *ONE]
    for name in ("x", "sweep/x"):
        with pytest.raises(UserError, match="nowhere is not a folder"):
            train_script.main([*flags, "--name", name, "--dataroot", "nowhere"])
    with pytest.raises(UserError, match="there is no folder checkpoints/x"):
        train_script.main([*flags, "--name", "x", "--dataroot", str(pairs), "--continue_train"])
    assert not Path("checkpoints").exists()
    Path("checkpoints/x").mkdir(parents=True)
    with pytest.raises(UserError, match="nowhere is not a folder"):
        train_script.main([*flags, "--name", "x", "--dataroot", "nowhere"])
    assert [*Path("checkpoints/x").iterdir()] == []
    Path("checkpoints/file").touch()
    with pytest.raises(UserError, match="checkpoints/file is not a folder; give another --name, or remove it"):
        train_script.main([*flags, "--name", "file", "--dataroot", str(pairs)])


def test_a_finished_run_says_so(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--name", "x", "--no_html", *ONE]
    train_script.main(flags)
    assert "nothing is left" not in capsys.readouterr().err
    train_script.main([*flags, "--continue_train"])
    assert "nothing is left to do, since the checkpoint stands after epoch 1" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ctrl_c_saves_and_says_how_to_go_on(pairs: Path, tmp_path: Path) -> None:
    """In the middle of an epoch; the printed command, in another process, ends as a run that was not interrupted."""
    flags = [*TINY, "--dataroot", pairs, "--label_nc", 5, "--nThreads", 2, "--use_vae", "--ema_decay", 0.9]
    flags += ["--niter", 4, "--print_freq", 1, "--no_html", "--batchSize", 2, "--accumulate", 2]
    assert run("train.py", *flags, "--name", "whole", cwd=tmp_path).returncode == 0
    command = [sys.executable, "-u", str(ROOT / "train.py"), *map(str, flags), "--name", "a run", "--overwrite"]
    command += ["--save_latest_freq", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not process.stdout.readline().startswith("(epoch: 2, iters: 2,"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 75
    saved = re.findall("saved latest .*", printed)
    assert saved and len(set(saved)) == len(saved)  # at an iteration that saves anyway, once
    assert "Traceback" not in said and "Ctrl-C: this iteration is finished, then saved" in said
    last = said.strip().splitlines()[-1]
    python, *again = shlex.split(last)
    assert python in ("python", sys.executable) and again[-1] == "--continue_train" and "--overwrite" not in again
    assert (tmp_path / again[0]).samefile(ROOT / "train.py")
    done = run("train.py", *again[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert differences(tmp_path / "checkpoints" / "whole", tmp_path / "checkpoints" / "a run") == []


def test_continue_train_where_there_is_nothing(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """auto starts, and goes on when called again; without a value it is an error."""
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--name", "x", "--no_html", *ONE]
    with pytest.raises(UserError, match="there is no folder checkpoints/x"):
        train_script.main([*flags, "--continue_train"])
    train_script.main([*flags, "--continue_train", "auto"])
    train_script.main([*flags, "--continue_train", "auto", "--niter", "2"])
    log = Path("checkpoints/x/loss_log.txt").read_text()
    assert log.count("from image 0)") == 1 and log.count("from image 1)") == 1
    with pytest.raises(SystemExit):
        train_script.main([*flags, "--continue_train", "perhaps"])
    assert "'perhaps' is neither true nor false" in capsys.readouterr().err


def test_few_checkpoints_are_kept(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--name", "x", "--no_html", "--save_epoch_freq", "1"]
    flags += ONE
    train_script.main([*flags, "--niter", "4", "--keep_checkpoints", "2"])
    assert checkpoints_in(Path("checkpoints/x")) == ["3", "4", "previous", "latest"]
    assert not list(Path("checkpoints/x").glob("[12]_*"))


def test_errors_of_the_file_system_are_one_line(capsys: pytest.CaptureFixture) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "loss_log.txt")

    with pytest.raises(SystemExit) as stop:
        run_main(full)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: loss_log.txt: No space left on device; make room\n"

    def read_only() -> None:
        raise PermissionError(13, "Permission denied", "web")

    with pytest.raises(SystemExit):
        run_main(read_only)
    assert "error: web: Permission denied; choose another place" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("unable to mmap 96 bytes from file </torch_1_2>: Cannot allocate memory (12)"),
    ],
)
def test_too_little_memory_is_one_line(error: Exception, capsys: pytest.CaptureFixture) -> None:
    def large() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_main(large)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1
    assert "error: out of memory (" in said and "a smaller --batchSize" in said

    def killed() -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. ... out of shared memory.")

    with pytest.raises(SystemExit):
        run_main(killed)
    assert "too little shared memory (DataLoader" in capsys.readouterr().err

    def ours() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_main(ours)


@pytest.mark.skipif(sys.platform != "linux", reason="this system's file names are always Unicode")
def test_odd_names_are_no_obstacle(pairs: Path, tmp_path: Path) -> None:
    """Names that are no UTF-8, and a terminal that shows ASCII alone."""
    odd = tmp_path / os.fsdecode(b"B\xe4ume")
    pairs.rename(odd)
    flags = [*TINY, "--dataroot", odd, "--label_nc", 5, "--checkpoints_dir", odd, "--max_dataset_size", 1]
    done = run_afresh("train.py", *flags, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    flags = [*TINY[:2], "--dataroot", odd, "--name", "label2coco", "--checkpoints_dir", odd]
    done = run_afresh("test.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_tensorboard(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--tf_log writes TensorBoard's files, or says what is missing before training."""
    monkeypatch.chdir(tmp_path)
    argv = [*TINY, "--dataroot", str(pairs), "--label_nc", "5", "--tf_log", "--print_freq", "2", "--display_freq", "4"]
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="requirements-tensorboard.txt"):
            train_script.main(argv)
        return
    train_script.main(argv)
    assert list(Path("checkpoints/label2coco/logs").glob("events.out.tfevents.*"))


def test_debug_run(pairs: Path, tmp_path: Path) -> None:
    done = run("train.py", *TINY, "--dataroot", pairs, "--label_nc", 5, "--debug", "--niter", 9, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "(mlp_gamma): Conv2d" in done.stdout  # the structure
    shown = (tmp_path / "checkpoints/label2coco/web/pictures.jsonl").read_text().splitlines()
    assert len(shown) == 4  # every iteration of one epoch
