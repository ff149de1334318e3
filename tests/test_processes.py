"""Several processes on one machine's CPU do what one does."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist

import test as test_script
import train as train_script
from options.train_options import TrainOptions
from tests import parallel_steps
from tests.conftest import TINY, write_pairs
from tests.faults.lives import Life, begin, differences, flags_for, losses_of, tensors_of
from tests.locked import held_by_another
from trainers.base_trainer import BaseTrainer
from trainers.gradients import sum_gradients
from util import distributed, launch
from util.distributed import pick_device
from util.errors import UserError
from util.watch import Watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and stops and kills processes")

ROOT = Path(__file__).parent.parent
FLAGS = [*TINY, "--label_nc", 5, "--niter", 9, "--batchSize", 4, *"--no_html --print_freq 0 --display_freq 0".split()]
CROP = ["--crop_height", 32]  # half the pixels


NINE = ["--batchSize", 8, "--max_dataset_size", 9]
NORMS = ["--norm_G", "spectralspadebatch3x3", "--norm_D", "batch", "--spectral_all"]
CASES = {
    "plain": [],
    "vae": ["--use_vae"],
    "accumulation": ["--use_vae", "--accumulate", 2, *NINE],
    "instance norm": ["--norm_G", "spectralspadeinstance3x3", "--use_vae"],
    "batch norm everywhere": NORMS,
    "both of them": ["--use_vae", "--accumulate", 2, *NINE, *NORMS],
    "pix2pixHD's generator": ["--netG", "pix2pixhd", "--norm_G", "sync_batch"],
    "augmented": ["--use_vae", "--diffaugment", "color", "translation", "cutout"],
    "checkpointed": ["--grad_checkpoint", "--D_steps_per_G", 2],
    "at every pixel": ["--spade_impl", "dense", "--ngf", 2, "--batchSize", 2],
}
IN_OTHERS = ("vae", "accumulation", "batch norm everywhere", "augmented")  # cases that are parts of others
FEW = {name: flags for name, flags in CASES.items() if name not in IN_OTHERS}


def made_by(count: int, cases: dict[str, list], iterations: int, folder: Path) -> dict[str, Any]:
    """What so many processes make of these cases: losses, weights and collectives by case."""
    data = folder / "data"
    if not data.exists():
        write_pairs(data, 9)
    common = [*FLAGS, *CROP, "--max_dataset_size", 5, "--dataroot", data]
    flags = json.dumps({name: [*map(str, [*common, *more])] for name, more in cases.items()})
    out, said = folder / f"made_by_{count}.pt", folder / "said.txt"
    assert begin([str(out), str(iterations), flags], count, said, parallel_steps).wait(300) == [0] * count, (
        said.read_text()
    )
    return torch.load(out, weights_only=True)


def check_same(one: dict[str, Any], several: dict[str, Any], iterations: int) -> None:
    """Losses of each iteration, and weights after the last."""
    for case, theirs in several.items():
        own = one[case]
        assert len(own["losses"]) == iterations
        for losses, expected in zip(theirs["losses"], own["losses"], strict=True):
            assert losses == pytest.approx(expected, rel=1e-6), case
        for key, weight in own["weights"].items():
            assert (theirs["weights"][key] - weight).abs().max() <= 1e-6 * weight.abs().max(), (case, key)


def test_any_number_of_processes_gives_the_same(tmp_path: Path) -> None:
    """In float64, with batches from files of which each process reads its share: losses and weights after two
    iterations, past the end of an epoch; and the collectives that it takes."""
    by_four = {"plain": FEW["plain"]}
    one, two, four = (made_by(count, cases, 2, tmp_path) for count, cases in ((1, FEW), (2, FEW), (4, by_four)))
    assert (set(two), set(four)) == (set(FEW), set(by_four))
    check_same(one, two, 2)
    check_same(one, four, 2)
    check_collectives(one, two)


@pytest.mark.prove
def test_any_number_of_processes_gives_the_same_for_longer(tmp_path: Path) -> None:
    """All cases by four processes too, and five iterations."""
    cases = {**CASES, "at every pixel": [*CASES["at every pixel"], "--batchSize", 4]}
    one = made_by(1, cases, 5, tmp_path)
    for count in (2, 4):
        several = made_by(count, cases, 5, tmp_path)
        assert set(several) == set(CASES)
        check_same(one, several, 5)


def check_collectives(one: dict[str, Any], two: dict[str, Any]) -> None:
    """An iteration sums each network's gradients once, with its losses, and statistics once forward and once backward
    for each normalised tensor: SPADE's generator has 14 (two in each of seven blocks), and makes images twice."""
    assert [each["calls"] for each in two["plain"]["collectives"]] == [2 + 14 + 14 + 14] * 2
    assert [each["calls"] for each in two["at every pixel"]["collectives"]] == [2 + 14 + 14 + 14] * 2
    assert [each["calls"] for each in two["instance norm"]["collectives"]] == [2] * 2
    assert [each["calls"] for each in one["plain"]["collectives"]] == [0] * 2
    # Every weight once, of 8 bytes each; beside them G's three losses, D's two, and twice whether a signal came.
    weights = two["instance norm"]["weights"]
    count = sum(value.numel() for key, value in weights.items() if not key.endswith(("_u", "_v")))
    assert {each["bytes"] for each in two["instance norm"]["collectives"]} == {8 * (count + 3 + 2 + 2)}


# ------------------------------------------------------------------------------------------------------ what goes wrong


def wait_for(path: Path, text: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < until, path.read_text() if path.exists() else f"{path} is not there"
        time.sleep(0.01)


def begun(tmp_path: Path, *flags: object) -> tuple[Life, Path]:
    """Two processes in the middle of a long run, and where they write what they say."""
    life = begin(flags_for(tmp_path / "data", "x", "--niter", 999, *flags), 2, tmp_path / "said.txt")
    wait_for(tmp_path / "checkpoints" / "x" / "loss_log.txt", "(epoch: 1, ")
    return life, tmp_path / "said.txt"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_hangs_is_named(place: Path, lost: int) -> None:
    """Stopped, it neither answers nor ends; the other waits for it in a collective, and then says so and ends."""
    life, said = begun(place, "--process_timeout", 4)
    life.kill([lost], signal.SIGSTOP)
    other = 1 - lost
    began = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(life.pids[other], 0)[1])
    took = time.monotonic() - began
    life.kill([lost])
    os.waitpid(life.pids[lost], 0)
    assert status == 75, said.read_text()
    assert 3 < took < 30
    assert re.search(
        # It may have been reading, computing or saving.
        rf"interrupted: rank {lost} \(.*, pid {life.pids[lost]}; [^)]+\).* has given no sign of life for 4 s; "
        "what was saved before is whole",
        said.read_text(),
    )


def slow_saves(argv: list[str] | None = None) -> None:
    """train.py, whose saves take 8 s, and where an iteration's collectives may take 1.5 times --process_timeout."""
    write = BaseTrainer._write

    def slowly(self: BaseTrainer, *args: object) -> None:
        time.sleep(8)
        write(self, *args)

    BaseTrainer._write, distributed.SLACK = slowly, 0
    train_script.main(argv)


def slow_start(argv: list[str] | None = None) -> None:
    """train.py, which takes a minute for its data set."""

    def slowly(opt: Namespace) -> None:
        print("begun", flush=True)
        time.sleep(60)

    train_script.create_dataloader = slowly
    train_script.main(argv)


def lost_while_joining(argv: list[str] | None = None) -> None:
    """train.py, whose second process dies as soon as all know each other."""
    if launch.rank() == 1:
        distributed._make_groups = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    train_script.main(argv)


def as_script(main: Callable[[], None]) -> ModuleType:
    script = ModuleType("train")
    script.main = main
    return script


def test_others_wait_for_a_slow_save(place: Path) -> None:
    """8 s, where 6 s in an iteration would end the run."""
    flags = flags_for(place / "data", "x", "--niter", 0, "--niter_decay", 1, "--process_timeout", 4)
    assert begin(flags, 2, place / "said.txt", as_script(slow_saves)).wait() == [0, 0], (place / "said.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_before_the_first_iteration(place: Path, processes: int, number: int) -> None:
    life = begin(flags_for(place / "data", "x"), processes, place / "said.txt", as_script(slow_start))
    wait_for(place / "said.txt", "begun")
    life.kill(None, number)
    assert life.wait(30) == [75] * processes
    said = (place / "said.txt").read_text()
    assert said.count("before the first iteration: what was saved before is whole") == 1
    assert "Traceback" not in said and not Path("checkpoints/x").exists()


def test_a_run_that_was_suspended_goes_on(place: Path) -> None:
    """All processes are stopped for longer than --process_timeout, as by Ctrl-Z, and go on."""
    life, said = begun(place, "--process_timeout", 4)
    life.kill(None, signal.SIGSTOP)
    time.sleep(7)
    life.kill(None, signal.SIGCONT)
    log = place / "checkpoints" / "x" / "loss_log.txt"
    epoch = int(re.findall(r"epoch: (\d+)", log.read_text())[-1])
    wait_for(log, f"(epoch: {epoch + 1}, ", 60)
    time.sleep(2)
    life.kill(None, signal.SIGTERM)
    assert life.wait(60) == [75, 75], said.read_text()
    assert "no sign of life" not in said.read_text()


def test_a_process_that_is_lost_while_they_connect(place: Path) -> None:
    flags = flags_for(place / "data", "x", "--process_timeout", 4)
    life = begin(flags, 2, place / "said.txt", as_script(lost_while_joining))
    assert life.wait(30) == [75, -signal.SIGKILL], (place / "said.txt").read_text()
    assert "interrupted: rank 1 (" in (place / "said.txt").read_text()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_killed_is_named(place: Path, lost: int) -> None:
    """In much less than --process_timeout, since its connections close, and than torchrun's 30 s until it kills."""
    life, said = begun(place, "--process_timeout", 600)
    life.kill([lost])
    statuses = life.wait(25)
    assert statuses[lost] == -signal.SIGKILL and statuses[1 - lost] == 75, said.read_text()
    assert f"interrupted: rank {lost} (" in said.read_text()


def test_a_mistake_in_one_process_ends_all_and_is_said_once(place: Path) -> None:
    """A photo that only the second process reads whole; no quick look at it shows what is wrong."""
    data = write_pairs(place / "data", 4)
    flags = flags_for(data, "x", "--serial_batches", "--accumulate", 1, "--nThreads", 0, "--no_flip", "--niter", 3)
    flags += ["--process_timeout", "8"]
    photo = data / "train_img" / "picture3.jpg"
    photo.write_bytes(photo.read_bytes()[:-200])
    life = begin(flags, 2, place / "said.txt")
    assert life.wait(60) == [2, 2]
    said = (place / "said.txt").read_text()
    assert said.count("picture3.jpg cannot be read as an image") == 1 and "error: rank 1 (" in said
    assert "Traceback" not in said


def test_a_mistake_in_all_processes_is_said_once(place: Path) -> None:
    flags = flags_for(place / "data", "x", "--continue_train", "--process_timeout", 8)
    life = begin(flags, 2, place / "said.txt")
    assert life.wait(60) == [2, 2]
    said = (place / "said.txt").read_text()
    assert said.count("there is no folder checkpoints/x") == 1
    assert "rank" not in said


def test_the_first_process_waits_at_its_end_without_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has not ended: for a second it is looked for every 0.05 s, and no more often."""

    class Counting:
        def __init__(self, store: dist.Store) -> None:
            self.store, self.looked = store, 0

        def multi_get(self, keys: list[str]) -> list[bytes]:
            self.looked += 1
            return self.store.multi_get(keys)

        def set(self, key: str, value: str) -> None:
            self.store.set(key, value)

    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    own = Watch(0, 2, 1, dist.HashStore())
    own._store = counting = Counting(own._store)
    with own:
        pass
    assert 1 < counting.looked <= 30


def test_processes_that_see_different_folders(place: Path) -> None:
    """Of data, and of checkpoints: said at once, by the first."""
    write_pairs(place / "data", 10)
    shutil.copytree(place / "data", place / "other")
    for kind in ("label", "img", "inst"):
        next((place / "other" / f"train_{kind}").glob("picture9.*")).unlink()
    os.mkdir("checkpoints")
    for folder, words in (
        ("data", r"10 items from .* on .*; 9 items"),
        ("checkpoints", r"1, latest .* on .*; none on"),
    ):
        flags = flags_for(place / "data", "x", "--niter", 0, "--niter_decay", 1, "--continue_train", "auto")
        if folder == "checkpoints":
            assert begin(flags, 1, place / "first.txt").wait() == [0]
        port = launch.free_port()
        said = place / f"{folder}.txt"
        lives = []
        for rank in range(2):
            own = flags if rank == 0 else [flag.replace(f"{place}/data", f"{place}/other") for flag in flags]
            if folder == "checkpoints":
                own = [*flags, "--checkpoints_dir", ("checkpoints", "nothing")[rank]]
            lives.append(begin(own, 1, said, environments=[launch.environment(rank, 2, port)]))
        assert [life.wait(60) for life in lives] == [[2], [2]], said.read_text()
        assert re.search(rf"error: .* is not the same for all processes \({words}", said.read_text()), said.read_text()
        assert said.read_text().count("error: ") == 1


def summing() -> None:
    """Each process gives a gradient of ones and losses of ones."""
    with distributed.processes([], 20):
        weight = torch.zeros(1000)
        weight.grad = torch.ones(1000)
        losses = sum_gradients([weight], torch.ones(3))
        assert losses.tolist() == [2, 2, 2] and weight.grad.eq(2).all()
        assert losses.untyped_storage().nbytes() == 12, losses.untyped_storage().nbytes()


def test_losses_keep_no_gradients_alive(place: Path) -> None:
    life = begin([], 2, place / "said.txt", as_script(summing))
    assert life.wait(60) == [0, 0], (place / "said.txt").read_text()


def test_a_batch_that_does_not_split() -> None:
    with pytest.raises(UserError, match="--batchSize 6.* over 4 processes; --batchSize 4 or 8 would do$"):
        options = TrainOptions(raises=True)
        options.check_split(options.parse(["--batchSize", "6"]), processes=4)
    with pytest.raises(UserError, match=r"over 2 processes x --accumulate 4; .* 8 would do, or --accumulate 1, 3$"):
        options.check_split(Namespace(batchSize=6, accumulate=4), processes=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, and with checkpoints/whole: what two processes make of it in three epochs."""
    folder = tmp_path_factory.mktemp("whole")
    life = begin(flags_for(folder / "data", "whole", "--niter", 1), 2, folder / "whole.txt", folder=folder)
    assert life.wait() == [0, 0], (folder / "whole.txt").read_text()
    return folder


def test_sigterm_saves_in_all_processes_and_resuming_is_exact(whole: Path, place: Path) -> None:
    """It comes to one of two, in the middle of an epoch. Resumed by two, the end is that of a run that was never
    interrupted, bit for bit; resumed by one, it is the same up to rounding."""
    flags = flags_for(whole / "data", "parts", "--niter", 1)
    life = begin(flags, 2, place / "parts.txt")
    wait_for(place / "checkpoints" / "parts" / "loss_log.txt", "(epoch: 2, ")
    life.kill([1], signal.SIGTERM)
    assert life.wait() == [75, 75]
    said = (place / "parts.txt").read_text()
    assert said.count("everything is saved, and this goes on from here:") == 1
    shutil.copytree("checkpoints/parts", "checkpoints/alone")
    assert begin([*flags, "--continue_train", "auto"], 2, place / "parts.txt").wait() == [0, 0]
    assert differences(whole / "checkpoints/whole", place / "checkpoints/parts") == []
    flags[flags.index("parts")] = "alone"
    assert begin([*flags, "--continue_train"], 1, place / "alone.txt").wait() == [0]
    folders = place / "checkpoints/alone", whole / "checkpoints/whole"
    one, two = map(tensors_of, folders)
    assert list(one) == list(two)
    assert one["latest_state.pth/position/epoch"] == two["latest_state.pth/position/epoch"]
    losses = [losses_of(folder) for folder in folders]
    first = re.search(r"from image (\d+)\)", Path("checkpoints/alone/loss_log.txt").read_text().split("====\n")[-2])
    next_images = int(first[1]) + 4  # of 8 in an epoch
    place_in_run = str((next_images - 1) // 8 + 1), f"iters: {(next_images - 1) % 8 + 1}"
    own, theirs = (re.findall(r"(\w+): (-?[\d.]+)", each[place_in_run]) for each in losses)
    for (name, value), (_, expected) in zip(own, theirs, strict=True):  # as printed, to three digits
        assert float(value) == pytest.approx(float(expected), abs=2e-3, rel=1e-3), name


def test_one_name_is_trained_by_one_run(place: Path) -> None:
    """Another is refused, unless it trains another name. Where the first is killed, one goes on at once."""
    first, _ = begun(place)
    for flags in (["--overwrite"], ["--continue_train", "auto"], []):
        second = begin(flags_for(place / "data", "x", "--niter", 2, *flags), 2, place / "second.txt")
        assert second.wait() == [2, 2]
    lines = (place / "second.txt").read_text().splitlines()
    holder = f"process {first.pids[0]} on {launch.host()}"
    refused = f"checkpoints/x is being trained by {holder}; wait until it is done, or end it, or give another --name"
    assert lines == [f"error: {refused}"] * 3
    assert begin(flags_for(place / "data", "y", "--niter", 0, "--niter_decay", 1), 1, place / "y.txt").wait() == [0]
    first.kill()
    assert first.wait() == [-signal.SIGKILL] * 2
    third = begin(flags_for(place / "data", "x", "--niter", 1, "--continue_train", "auto"), 2, place / "third.txt")
    assert third.wait() == [0, 0], (place / "third.txt").read_text()


def test_a_holder_on_another_machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be gone without having given up its lock. A run that torchrun starts again has patience."""
    flags = [*map(str, FLAGS), "--dataroot", "data", "--name", "x"]
    gone = "process 12 on elsewhere; .*; remove checkpoints/x/.lock if that machine is gone"
    with held_by_another(Path("checkpoints/x")):
        with pytest.raises(UserError, match=gone):
            train_script.main(flags)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        monkeypatch.setattr("trainers.run_folder.AFTER_RESTART", 1.5)
        began = time.monotonic()
        with pytest.raises(UserError, match=gone):
            train_script.main(flags)
        assert time.monotonic() - began >= 1.5


def test_testing_by_several_processes_gives_the_same_files(place: Path) -> None:
    """Pictures, names and the page's rows."""
    flags = flags_for(place / "data", "x", "--niter", 0, "--niter_decay", 1)
    assert begin(flags, 1, place / "said.txt").wait() == [0]
    made = {}
    for count in (1, 3):
        argv = ["--name", "x", "--gpu_ids", "-1", "--label_dir", "data/train_label", "--instance_dir=data/train_inst"]
        argv += ["--batchSize", "2", "--recalibrate_bn", "7", "--results_dir", f"results{count}"]
        assert begin(argv, count, place / "tested.txt", test_script).wait() == [0] * count
        folder = place / f"results{count}" / "x" / "test_latest"
        made[count] = {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    page = Path("index.html")
    texts = [made[count].pop(page).decode().replace(f"results{count}", "") for count in (1, 3)]
    assert texts[0] == texts[1]
    assert made[1] == made[3]
    assert len([path for path in made[1] if path.parent.name == "synthesized_image"]) == 2 * 10  # and thumbnails
    said = (place / "tested.txt").read_text()
    assert said.count("10 layout(s), images in") == 2
    assert said.count("statistics are those of 7 layout(s)") == 2


def test_torchrun_starts_a_lost_run_again(whole: Path, place: Path) -> None:
    """One of two processes is killed; the run goes on by itself (--continue_train auto) and ends as if undisturbed."""
    flags = flags_for(whole / "data", "again", "--niter", 1, "--save_latest_freq", 4, "--continue_train", "auto")
    starter = [Path(sys.executable).with_name("torchrun"), "--nproc_per_node", "2", "--max-restarts", "1"]
    with open(place / "said.txt", "w") as said:
        run = subprocess.Popen([*starter, ROOT / "train.py", *flags], stdout=said, stderr=said)
    wait_for(place / "checkpoints" / "again" / "loss_log.txt", "(epoch: 2, ")
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    assert run.wait(120) == 0, (place / "said.txt").read_text()
    assert (place / "said.txt").read_text().count("data set [CustomDataset]") == 2
    assert differences(whole / "checkpoints/whole", place / "checkpoints/again") == []


@pytest.mark.parametrize("flags", [["--overwrite"], ["--continue_train", "auto", "--which_epoch", "1"]])
def test_a_restarted_run_does_not_begin_twice(pairs: Path, place: Path, monkeypatch: pytest.MonkeyPatch, flags) -> None:
    """torchrun starts it with the same command; what this job has saved counts, what another has does not."""
    common = [*map(str, FLAGS), "--dataroot", str(pairs), "--name", "x", "--save_epoch_freq", "1"]
    train_script.main([*common, "--niter", "2"])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    log = Path("checkpoints/x/loss_log.txt")
    train_script.main([*common, "--niter", "3", *flags])  # of this job nothing is saved: as the flags say
    begins = "from image 0)" if flags == ["--overwrite"] else "from image 4)"
    assert begins in log.read_text().split("====\n")[-2]
    train_script.main([*common, "--niter", "4", *flags])
    assert "from image 12)" in log.read_text().split("====\n")[-2]


# ------------------------------------------------------------------------------------------------------------- starting


def test_torchrun_says_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [launch.size_of_run(ids) for ids in ([], [0], [0, 1, 2])] == [1, 1, 3]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert [launch.size_of_run(ids) for ids in ([], [0], [0, 1, 2])] == [2, 2, 2]


def test_processes_started_inside_torchrun_have_a_store_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert not [name for name in launch.environment(0, 2, 1) if name.startswith("TORCHELASTIC_")]


@pytest.mark.parametrize(
    ("gpu_ids", "processes", "gpus", "devices"),
    [
        ([3], 1, 4, [3]),
        ([0], 4, 4, [0, 1, 2, 3]),  # torchrun: any id stands for GPUs
        ([7], 2, 4, [0, 1]),
        ([2, 3], 2, 4, [2, 3]),  # as many ids as processes
        ([0], 2, 1, [0, 0]),  # two processes on one GPU
    ],
)
def test_each_process_has_its_gpu(
    monkeypatch: pytest.MonkeyPatch, gpu_ids: list[int], processes: int, gpus: int, devices: list[int]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    for rank, device in enumerate(devices):
        for name, value in launch.environment(rank, processes, 1).items():
            monkeypatch.setenv(name, value)
        assert pick_device(gpu_ids) == torch.device("cuda", device)


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for ids in ([2], [0, 1, 2]):
        with pytest.raises(UserError, match="--gpu_ids 2, but PyTorch sees 2 GPUs"):
            pick_device(ids)


def starter(tmp_path: Path, text: str, count: int = 3) -> subprocess.Popen:
    """A process that starts `count` others, which run this text with `rank`."""
    worker = tmp_path / "worker.py"
    head = "import os, signal, sys, time\nrank, size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])\n"
    worker.write_text(head + text)
    command = f"launch.start({count}, {[sys.executable, str(worker)]!r})"
    script = f"import sys; from util import launch; launch.GRACE = 1\nsys.exit({command})"
    return subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_one_process_is_started_for_each_gpu(tmp_path: Path) -> None:
    done = starter(tmp_path, f"open(rf'{tmp_path}/{{rank}}', 'w').write(os.environ['MASTER_PORT'] + str(size))")
    assert done.wait(60) == 0
    texts = {(tmp_path / str(rank)).read_text() for rank in range(3)}
    assert len(texts) == 1 and texts.pop().endswith("3")


def test_the_first_failure_ends_all(tmp_path: Path) -> None:
    """One ends with 2; one sleeps and ignores SIGTERM; one is stopped. Those are killed, and 2 is the status."""
    text = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nif rank == 0: sys.exit(2)\n"
    text += "if rank == 1: os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(600)"
    began = time.monotonic()
    assert starter(tmp_path, text).wait(60) == 2
    assert time.monotonic() - began < 30


def test_a_killed_process_counts_as_interrupted(tmp_path: Path) -> None:
    done = starter(tmp_path, "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)")
    _, said = done.communicate(timeout=60)
    assert done.returncode == 75
    assert b"the process of rank 1 (pid " in said and b"was ended by SIGKILL" in said


def test_sigterm_is_passed_on_and_children_do_not_outlive_their_parent(tmp_path: Path) -> None:
    text = (
        f"signal.signal(signal.SIGTERM, lambda *_: (open(rf'{tmp_path}/ended{{rank}}', 'w').close(), sys.exit(75)))\n"
    )
    text += f"open(rf'{tmp_path}/began{{rank}}', 'w').close()\ntime.sleep(600)"
    for number, status in ((signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)):
        process = starter(tmp_path, text)
        for rank in range(3):
            wait_for(tmp_path / f"began{rank}", "")
        process.send_signal(number)
        assert process.wait(60) == status
        for rank in range(3):
            wait_for(tmp_path / f"ended{rank}", "")
        for path in [*tmp_path.glob("began*"), *tmp_path.glob("ended*")]:
            path.unlink()
