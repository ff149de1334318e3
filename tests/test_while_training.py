"""train.py --eval_freq: what evaluate.py would measure, and the best of it kept."""

import csv
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import evaluate as evaluate_script
import test as test_script
import train as train_script
from evaluation import measurement, segmenters, while_training
from evaluation.evaluator import Numbers
from evaluation.measurement import Measurement
from evaluation.metrics import is_better
from options.train_options import TrainOptions
from tests.conftest import TINY, write_pairs
from tests.faults.lives import begin
from tests.test_evaluation import KIND, Reader
from util import manifest
from util.checkpoint import remove_set
from util.distributed import rank
from util.errors import Interrupted, UserError
from util.metrics_file import MetricsFile

DATA = "--dataset_mode coco --dataroot data --label_nc 5 --no_instance".split()
RUN = [*TINY, *DATA, "--name", "x", "--batchSize", "2", "--niter", "4", "--save_epoch_freq", "1", "--print_freq", "4"]
EVALUATED = [*RUN, "--eval_freq", "2", "--eval_images", "3"]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "data", 2)  # an iteration of two in each epoch
    write_pairs(tmp_path / "data", 6, split="val")


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for the segmenter and for Inception."""
    monkeypatch.setitem(segmenters.SEGMENTERS, "deeplabv2", KIND)
    monkeypatch.setattr(measurement.inception, "FIDInception", Reader)
    monkeypatch.setattr(measurement.inception, "FILES", ())


def lines(folder: str = "x") -> list[dict[str, str]]:
    with open(f"checkpoints/{folder}/metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def weights(epoch: str, network: str = "G", folder: str = "x") -> dict[str, torch.Tensor]:
    return torch.load(f"checkpoints/{folder}/{epoch}_net_{network}.pth", weights_only=True)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def evaluated(*flags: str) -> dict[str, Any]:
    argv = [*DATA[:4], "--name", "x", "--gpu_ids", "-1", "--nThreads", "0", "--subset", "3", *flags]
    evaluate_script.main(argv)
    (folder,) = Path("results/x").glob("evaluation_test_*")
    numbers = json.loads((folder / "metrics.json").read_text())
    shutil.rmtree(folder)
    return {**numbers, **numbers["accuracies"]}


@pytest.mark.parametrize("flags", [[], ["--ema_decay", "0.5"]], ids=["plain", "ema"])
def test_numbers_are_those_of_evaluate(readers: None, flags: list[str], capsys: pytest.CaptureFixture) -> None:
    """Of the same checkpoint, and to the digits of metrics.csv; `best` is the best of them, and can be tested."""
    train_script.main([*EVALUATED, *flags])
    said, kept = capsys.readouterr().out, lines()
    assert [line["epoch"] for line in kept] == ["2", "4"] and {line["images"] for line in kept} == {"3"}
    assert "(epoch: 2, evaluated) miou: " in said and "saved best (epoch 2, 2 images into it)" in said
    which = ["--weights", "ema"] if flags else []
    for line in kept:
        numbers = evaluated("--which_epoch", line["epoch"], *which)
        for name in ("miou", "pixel_accuracy", "pixel_accuracy_all", "mean_accuracy", "fid", "kid"):
            assert float(line[name]) == pytest.approx(numbers[name], rel=1e-5), name
    best = max(kept, key=lambda line: float(line["miou"]))["epoch"]
    networks = ["G", "D", "G_ema"] if flags else ["G", "D"]
    assert all(same(weights("best", network), weights(best, network)) for network in networks)
    test_script.main([*DATA, "--name", "x", "--which_epoch", "best", "--gpu_ids", "-1", "--nThreads", "0", *which])
    assert len(list(Path("results/x/test_best/images/synthesized_image").iterdir())) == 6
    state = torch.load("checkpoints/x/latest_state.pth", weights_only=True)["evaluated"]
    assert (state["epoch"], state["metric"]) == (4, "miou")
    assert state["best"]["value"] == pytest.approx(max(float(line["miou"]) for line in kept))
    assert state["best"]["iteration"] == int(best)  # an epoch has one


def test_training_is_the_same_without(readers: None) -> None:
    train_script.main([*EVALUATED, "--niter", "2", "--eval_freq", "1"])
    train_script.main([*RUN, "--niter", "2", "--name", "y"])
    assert all(same(weights("2", net), weights("2", net, "y")) for net in ("G", "D"))


def test_a_resumed_run_goes_on_with_its_lines(readers: None) -> None:
    """From epoch 2: the line of epoch 4 is void, and is written anew as it was."""
    train_script.main(EVALUATED)
    whole = Path("checkpoints/x/metrics.csv").read_text()
    page = Path("checkpoints/x/web/index.html")
    assert 'aria-label="miou"' in page.read_text() and 'aria-label="fid"' in page.read_text()
    Path("checkpoints/x/metrics.csv").write_text(whole + "5,20,3,not a number\n")
    train_script.main([*EVALUATED, "--continue_train", "--which_epoch", "2"])
    assert Path("checkpoints/x/metrics.csv").read_text() == whole


def test_stopped_while_it_measures(readers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is saved; the run measures when it goes on, before the next epoch, and ends as one that was not stopped."""
    train_script.main([*EVALUATED, "--name", "y"])
    clean, trainers = Measurement.measure, []
    init = while_training.Evaluations.__init__

    def keep(self: Any, options: Any, opt: Any, trainer: Any) -> None:
        trainers.append(trainer)
        init(self, options, opt, trainer)

    def stopped(self: Measurement, make: Any, is_stopped: Any) -> Any:
        trainers[-1].interruption.asked = True
        return clean(self, make, is_stopped)

    monkeypatch.setattr(while_training.Evaluations, "__init__", keep)
    monkeypatch.setattr(Measurement, "measure", stopped)
    with pytest.raises(Interrupted, match="everything is saved, and this goes on from here"):
        train_script.main(EVALUATED)
    assert not Path("checkpoints/x/metrics.csv").exists() and not Path("checkpoints/x/best_net_G.pth").exists()
    with pytest.raises(Interrupted, match="nothing has changed, and this goes on from here"):
        train_script.main([*EVALUATED, "--continue_train"])
    monkeypatch.setattr(Measurement, "measure", clean)
    train_script.main([*EVALUATED, "--continue_train"])
    assert lines() == lines("y")
    assert all(same(weights(epoch), weights(epoch, folder="y")) for epoch in ("4", "best"))


def test_stopped_while_it_measures_after_the_last_epoch(readers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no success; what was measured when it goes on is remembered, also where it is not the best."""
    clean, measured = Measurement.measure, []

    def none(self: Measurement, *_: Any) -> None:
        measured.append("none")

    flags = [*EVALUATED, "--niter", "1", "--eval_freq", "5"]  # the last epoch is measured though
    monkeypatch.setattr(Measurement, "measure", none)
    with pytest.raises(Interrupted, match="everything is saved"):
        train_script.main(flags)

    def counted(self: Measurement, *args: Any) -> Any:
        measured.append("whole")
        return clean(self, *args)

    monkeypatch.setattr(Measurement, "measure", counted)
    monkeypatch.setattr(while_training, "is_better", lambda *_: False)
    for _ in range(2):
        train_script.main([*flags, "--continue_train"])
    assert measured == ["none", "whole"] and [line["epoch"] for line in lines()] == ["1"]


def test_an_epoch_is_saved_before_it_is_measured(readers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may fail: a layout of the validation part is damaged."""
    for path in sorted(Path("data/val_label").iterdir())[2:4]:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"val_label/picture\d.png"):
        train_script.main([*EVALUATED, "--save_epoch_freq", "0"])
    state = torch.load("checkpoints/x/latest_state.pth", weights_only=True)
    assert state["position"]["epoch"] == 3 and state["iteration"] == 2


def test_best_is_a_checkpoint_of_this_run(readers: None, capsys: pytest.CaptureFixture) -> None:
    """Gone back to epoch 1, whose value was the best then: `best` on the disk is of epochs that are void now."""
    flags = [*EVALUATED, "--eval_freq", "1", "--best_by", "fid"]
    train_script.main([*flags, "--niter", "3"])
    values = [float(line["fid"]) for line in lines()]
    assert min(values) < values[0]  # or this test shows nothing
    train_script.main([*flags, "--niter", "2", "--lr", "0", "--continue_train", "--which_epoch", "1"])
    best = min(lines(), key=lambda line: float(line["fid"]))["epoch"]
    assert same(weights("best"), weights(best))
    state = torch.load("checkpoints/x/latest_state.pth", weights_only=True)
    assert state["evaluated"]["best"]["iteration"] == manifest.read(Path("checkpoints/x"), "best").iteration

    remove_set(Path("checkpoints/x"), "best")  # as a user may
    capsys.readouterr()
    train_script.main([*flags, "--niter", "3", "--lr", "0", "--continue_train"])
    assert "`best` begins anew: the best value so far is of a checkpoint `best` that is gone" in capsys.readouterr().err
    assert same(weights("best"), weights("3"))

    train_script.main([*flags, "--niter", "4", "--lr", "0", "--best_by", "kid", "--continue_train"])
    assert "`best` begins anew: the best value so far is of --best_by fid" in capsys.readouterr().err
    state = torch.load("checkpoints/x/latest_state.pth", weights_only=True)["evaluated"]
    assert state["best"]["value"] == pytest.approx(float(lines()[-1]["kid"]))


def test_the_best_value_counts(readers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of FIDs 5, 3, 3, 4, the last two after resuming, the second: an equal one is no better."""
    values = iter([5.0, 3.0, 3.0, 4.0])
    monkeypatch.setattr(Measurement, "measure", lambda *_: Numbers(3, fid=next(values)))
    flags = [*EVALUATED, "--eval_freq", "1", "--no_miou"]
    for niter, more in (("2", []), ("4", ["--continue_train"])):
        train_script.main([*flags, "--niter", niter, *more])
    assert [line["fid"] for line in lines()] == ["5", "3", "3", "4"]
    state = torch.load("checkpoints/x/latest_state.pth", weights_only=True)["evaluated"]
    assert state["best"] == {"value": 3.0, "iteration": 2}
    assert same(weights("best"), weights("2"))


def with_a_stop_in_one(argv: list[str] | None = None) -> None:
    """train.py in which the second process is asked to stop while it measures."""
    clean = Measurement.measure

    def measure(self: Measurement, make: Any, is_stopped: Any) -> Any:
        return clean(self, make, lambda: rank() == 1 or is_stopped())

    Measurement.measure = measure
    with_readers(argv)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_one_of_two_processes_is_stopped_while_it_measures(tmp_path: Path) -> None:
    script = ModuleType("train")
    script.main = with_a_stop_in_one
    life = begin([*EVALUATED, "--niter", "1", "--eval_freq", "1", "--no_fid"], 2, tmp_path / "said.txt", script)
    assert life.wait(60) == [75, 75], (tmp_path / "said.txt").read_text()
    said = (tmp_path / "said.txt").read_text()
    assert said.count("everything is saved, and this goes on from here") == 1
    assert "rank 1 (" not in said  # which would have left alone


def test_values_that_were_measured_otherwise_do_not_count(readers: None, capsys: pytest.CaptureFixture) -> None:
    """Of other layouts: the next value is the best, whatever it is."""
    flags = [*EVALUATED, "--eval_freq", "1", "--best_by", "fid"]
    train_script.main([*flags, "--niter", "1"])
    capsys.readouterr()
    train_script.main([*flags, "--niter", "2", "--eval_images", "5", "--lr", "0", "--continue_train"])
    said = capsys.readouterr()
    assert "`best` begins anew" in said.err and "saved best (epoch 2," in said.out
    assert len({line["measured_with"] for line in lines()}) == 2


def test_more_images_are_asked_for_than_there_are(readers: None, capsys: pytest.CaptureFixture) -> None:
    train_script.main([*EVALUATED, "--niter", "1", "--eval_images", "50"])
    assert "note: --subset 50: there are 6 layouts" in capsys.readouterr().err
    assert lines()[0]["images"] == "6"


def test_flags_of_evaluate_are_those_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = "--seed 5 --amp bf16 --protocol label-size-v1 --accumulate 2 --batchSize 8 --eval_freq 1 --ema_decay 0.9"
    options = TrainOptions(raises=True)
    made = while_training.flags_of_run(options, options.parse([*RUN, *argv.split()]))
    text = " ".join(made)
    for flag in ("--seed 5", "--amp bf16", "--protocol label-size-v1", "--batchSize 4", "--weights ema", "--name x"):
        assert flag in text, flag
    monkeypatch.setattr(while_training, "world_size", lambda: 2)
    made = while_training.flags_of_run(options, options.parse([*RUN, *argv.split()]))
    assert " --batchSize 2" in " ".join(made)
    custom = [*TINY, *CUSTOM, "--eval_freq", "1", "--no_miou", "--val_label_dir", "a", "--val_image_dir", "b"]
    options = TrainOptions(raises=True)
    made = while_training.flags_of_run(options, options.parse([*custom, "--val_instance_dir", "c"]))
    assert " --label_dir a --image_dir b --instance_dir c" in " ".join(made)


def test_overwriting_removes_the_best_of_the_old_run(readers: None) -> None:
    """With other networks, while their opt.json is still the old run's."""
    train_script.main([*EVALUATED, "--niter", "2"])
    assert Path("checkpoints/x/best_net_G.pth").exists() and Path("checkpoints/x/metrics.csv").exists()
    train_script.main([*RUN, "--ngf", "5", "--niter", "1", "--overwrite"])
    assert not Path("checkpoints/x/best_net_G.pth").exists() and not Path("checkpoints/x/metrics.csv").exists()
    train_script.main([*EVALUATED, "--ngf", "6", "--niter", "2", "--overwrite"])
    assert same(weights("best"), weights("2"))


def with_readers(argv: list[str] | None = None) -> None:
    """train.py with them; for processes of their own."""
    segmenters.SEGMENTERS["deeplabv2"] = KIND
    measurement.inception.FIDInception, measurement.inception.FILES = Reader, ()
    train_script.main(argv)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_processes_share_the_images(tmp_path: Path) -> None:
    """Two give the line of one, up to what training in single precision amplifies; also where one of them has none."""
    script = ModuleType("train")
    script.main = with_readers
    flags = ["--niter", "1", "--eval_freq", "1", "--eval_images", "2", "--batchSize", "4"]
    flags += ["--norm_G", "spectralspadeinstance3x3", "--best_by", "fid"]
    write_pairs(tmp_path / "data", 4)
    for count in (1, 2):
        life = begin([*EVALUATED, *flags, "--name", f"of{count}"], count, tmp_path / "said.txt", script)
        assert life.wait(120) == [0] * count, (tmp_path / "said.txt").read_text()
    (one,), (two,) = lines("of1"), lines("of2")
    assert one["images"] == two["images"] == "2"
    assert float(one["fid"]) == pytest.approx(float(two["fid"]), rel=0.05)
    assert float(one["pixel_accuracy"]) == pytest.approx(float(two["pixel_accuracy"]), abs=0.02)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--eval_images", "3"], "--eval_images is about evaluation while training, which --eval_freq N asks for"),
        (["--no_fid"], "--no_fid is about evaluation while training"),
        (["--eval_freq", "1", "--no_fid", "--no_miou"], "--no_miou --no_fid leave nothing to measure"),
        (["--eval_freq", "1", "--no_fid", "--best_by", "fid"], r"--best_by fid is not measured \(--no_fid\)"),
        (["--eval_freq", "1", "--no_miou", "--best_by", "miou"], r"--best_by miou is not measured \(--no_miou\)"),
        (["--eval_freq", "1", "--eval_weights", "ema"], "--eval_weights ema needs --ema_decay"),
        (["--eval_freq", "1", "--best_by", "segmenter_frechet"], "--best_by segmenter_frechet is of segmenters of one"),
        (
            ["--eval_freq", "1", "--val_label_dir", "v"],
            r"--eval_freq compares with photos \(FID\): give --val_image_dir",
        ),
        (
            ["--eval_freq", "1", "--val_image_dir", "v"],
            "--val_image_dir belongs to --val_label_dir, which is not there",
        ),
        (["--eval_freq", "1", "--segmenter", "none.pth"], "--segmenter none.pth is neither a file nor one of"),
    ],
)
def test_flags_that_cannot_be(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainOptions(raises=True).parse([*RUN, *flags])


CUSTOM = "--dataset_mode custom --label_nc 5 --label_dir data/train_label --image_dir data/train_img".split()


def test_custom_data_need_validation_folders() -> None:
    argv = [*TINY, *CUSTOM, "--eval_freq", "1", "--no_miou"]
    for more, message in (
        ([], "--eval_freq measures on layouts that are not trained on: give their folder as --val_label_dir"),
        (["--val_label_dir", "data/val_label"], r"--eval_freq compares with photos \(FID\): give --val_image_dir"),
    ):
        with pytest.raises(UserError, match=message):
            TrainOptions(raises=True).parse([*argv, *more])
    with pytest.raises(UserError, match="--dataset_mode custom has no released segmenter: train one on its photos"):
        TrainOptions(raises=True).parse([*TINY, *CUSTOM, "--eval_freq", "1", "--val_label_dir", "data/val_label"])


def test_what_is_trained_on_is_not_measured_on() -> None:
    flags = [*TINY, *CUSTOM, "--eval_freq", "1", "--no_miou", "--val_image_dir", "data/val_img", "--val_label_dir"]
    with pytest.raises(UserError, match="--val_label_dir data/../data/train_label is what is trained on: give the"):
        TrainOptions(raises=True).parse([*flags, "data/../data/train_label"])
    Path("file").touch()
    with pytest.raises(UserError, match="--features_dir file is no folder"):
        TrainOptions(raises=True).parse([*flags, "data/val_label", "--features_dir", "file"])


def test_what_is_missing_shows_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of Inception, and no validation part."""
    monkeypatch.setitem(segmenters.SEGMENTERS, "deeplabv2", KIND)
    with pytest.raises(UserError, match="--inception_weights none.pth: there is no such file"):
        train_script.main([*EVALUATED, "--inception_weights", "none.pth"])
    for path in Path("data").glob("val_*/*"):
        path.unlink()
    with pytest.raises(UserError, match="no label maps of --dataset_mode coco found in data"):
        train_script.main([*EVALUATED, "--no_fid"])
    assert not list(Path("checkpoints/x").glob("*.pth"))


def test_better() -> None:
    assert is_better("miou", 0.2, None) and is_better("miou", 0.2, 0.1) and not is_better("miou", 0.1, 0.1)
    assert is_better("fid", 5, 6) and not is_better("fid", 7, 6) and not is_better("fid", 6, 6)
    assert not is_better("miou", float("nan"), None)


def test_lines_of_metrics(tmp_path: Path) -> None:
    """Columns are those that were ever measured; what is not ours ends the reading."""
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, seen=0)
    file.add(1, 10, 3, {"miou": 0.25}, "a")
    file.add(2, 20, 3, {"miou": 0.5}, "a")
    file.add(2, 20, 3, {"miou": 1 / 3, "fid": 12.0}, "a")  # once more
    written = "epoch,seen,images,measured_with,miou,fid\n1,10,3,a,0.25,\n2,20,3,a,0.33333333,12\n"
    assert path.read_text() == written
    assert MetricsFile(path, seen=19).history() == [(10, {"miou": 0.25})]
    path.write_text(written + "3,x,3,a,1,1\n4,40,3,a,1,1\n")
    assert [seen for seen, _ in MetricsFile(path, seen=99).history()] == [10, 20]
    path.write_bytes(b"\xff\xfe\x00")
    assert MetricsFile(path, seen=99).history() == []


def test_a_curve_is_of_values_that_can_be_compared(tmp_path: Path) -> None:
    """Those measured as the last was; the file has all."""
    file = MetricsFile(tmp_path / "metrics.csv", seen=0)
    file.add(1, 10, 3, {"miou": 0.25}, "other")
    file.add(2, 20, 4, {"miou": 0.5}, "now")
    assert file.history() == [(20, {"miou": 0.5})]
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_tensorboard_has_them(readers: None) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_script.main([*EVALUATED, "--tf_log", "--no_fid"])
    events = EventAccumulator("checkpoints/x/logs")
    events.Reload()
    values = [event.value for event in events.Scalars("evaluation/miou")]
    assert values == pytest.approx([float(line["miou"]) for line in lines()])
    assert "evaluation/pixel_accuracy" in events.Tags()["scalars"]
