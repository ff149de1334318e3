"""The trainings of docs/results.md: their commands, and what is made of their records."""

import contextlib
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from evaluation.options import EvaluateOptions
from evaluation.train_segmenter import SegmenterOptions
from experiments import labelmefacade, overfitting, pictures, sheet, spectrum, streets, styles, tables
from experiments.labelmefacade import ROOT, Place
from experiments.runs import COMMON, RUNS, SCALES
from models.networks.semantics import LabelMap
from models.pix2pix_model import Pix2PixModel
from options.test_options import TestOptions
from options.train_options import TrainOptions
from tests.conftest import write_pairs
from tests.locked import held_by_another
from util.checkpoint import save_set
from util.errors import UserError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_pairs(tmp_path / "data", 8)
    write_pairs(tmp_path / "data", 4, split="val")
    return Place(tmp_path / "data", tmp_path / "out", SCALES["cpu"])


def flags_of(words: list[str]) -> list[str]:
    """As the machine that tests run on takes them."""
    return [*words, "--gpu_ids", "-1"]


def test_every_run_is_a_command_that_train_takes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(labelmefacade, "call", called.append)
    for scale, run in itertools.product(SCALES.values(), RUNS):
        at_scale = Place(place.data, place.out, scale)
        at_scale.segmenter.parent.mkdir(exist_ok=True)
        at_scale.segmenter.touch()
        labelmefacade.train(at_scale, run, ["--print_freq", "8"])
        script, *words = called[-1]
        opt = TrainOptions(raises=True).parse(flags_of(words))
        assert script == "train.py"
        assert (opt.name, opt.crop_size, opt.print_freq) == (run, scale.size, 8)
        assert (opt.no_vgg_loss, opt.no_instance, opt.ema_decay) == (True, True, 0.999)


def test_runs_differ_in_one_thing() -> None:
    """From the first; seeds of a run from that run, in the seed."""

    def parsed(run: str) -> dict[str, Any]:
        words = ["--dataset_mode", "custom", *COMMON.split(), *RUNS[run].split()]
        return vars(TrainOptions(raises=True).parse(words))

    for run in RUNS.keys() - {"spade"}:
        other = tables.without_seed(run) if tables.without_seed(run) != run else "spade"
        opt, before = parsed(run), parsed(other)
        own = {name for name in opt if opt[name] != before[name]} & {word[2:] for word in RUNS[run].split()}
        assert len(own - {"norm_G"}) == 1, run  # pix2pixHD's generator has no spade in its norms
        assert (own == {"seed"}) == (other == tables.without_seed(run)), run


def test_what_follows_training(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other scripts' commands: photos are measured as images of this folder, at the size of the others."""
    called: list[list[str]] = []
    monkeypatch.setattr(labelmefacade, "call", called.append)
    monkeypatch.setattr(labelmefacade, "read_metrics", lambda *_: {})
    labelmefacade.train_segmenter(place)
    place.segmenter.touch()
    labelmefacade.write_pages(place, "spade-vae")
    labelmefacade.evaluate_photos(place, "spade-vae")
    labelmefacade.evaluate(place, "spade-vae", "ema")
    (_, command, *segmenter), *tests, (_, *photos), (_, *images) = called
    assert command == "train-segmenter"
    assert SegmenterOptions(raises=True).parse(segmenter).ignore_ids == [0]
    assert [words[0] for words in tests] == ["test.py"] * 2
    bare = ["--load_from_opt_file", "false", "--use_vae"]
    pages = [TestOptions(raises=True).parse([*words[1:], *bare]) for words in tests]
    assert [bool(page.image_dir) for page in pages] == [True, False]
    assert [page.num_samples for page in pages] == [None, 6]
    (place.out / "results/spade-vae/test_latest/images/real_image").mkdir(parents=True)
    measured = [
        EvaluateOptions(raises=True).parse([*words, "--load_from_opt_file", "false"]) for words in (photos, images)
    ]
    assert [opt.reference for opt in measured] == [str(place.data / "train_img")] * 2
    assert (measured[0].load_size, measured[0].crop_size) == (128, 128)
    assert measured[1].weights == "ema"


def test_a_record_of_other_flags_is_not_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.out / "records").mkdir(parents=True)
    held = {"flags": shlex.join(labelmefacade.flags_of(place, "spade", []))}
    (place.out / "records/spade.json").write_text(json.dumps(held))
    called: list[list[str]] = []
    monkeypatch.setattr(labelmefacade, "call", called.append)
    monkeypatch.setattr(labelmefacade, "check", lambda *_: None)
    argv = ["experiments", "--data", str(place.data), "--out", str(place.out), "--runs", "spade"]
    monkeypatch.setattr(sys, "argv", argv)
    labelmefacade.main()
    assert [words[1] for words in called] == ["train-segmenter"]
    for more in (["--scale", "cpu-short"], ["--", "--lr", "1"]):
        monkeypatch.setattr(sys, "argv", [*argv, *more])
        with pytest.raises(UserError, match=r"spade.json is of other flags .*; give another --out"):
            labelmefacade.main()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--print_frequ", "0"], "--print_frequ"),
        (["--print_freq", "0"], "--print_freq 0, but records hold what is measured and printed on the way"),
        (["--eval_freq", "0"], "--eval_freq 0, but records hold"),
    ],
)
def test_flags_that_leave_no_record(place: Place, monkeypatch: pytest.MonkeyPatch, flags: list[str], said: str) -> None:
    """Are refused before anything is trained with them."""
    place.out.mkdir()
    place.segmenter.touch()
    monkeypatch.setattr(labelmefacade, "train_segmenter", lambda _: None)
    monkeypatch.setattr(labelmefacade, "call", lambda words: pytest.fail(f"{words} was called"))
    argv = ["experiments", "--data", str(place.data), "--out", str(place.out), "--", *flags]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(UserError, match=said):
        labelmefacade.main()


@pytest.mark.skipif(sys.platform == "win32", reason="has no flock")
def test_commands_with_one_folder(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The segmenter is trained by one of them, for which the others wait; a run by one, and others are told."""
    called: list[list[str]] = []
    monkeypatch.setattr(labelmefacade, "call", called.append)
    monkeypatch.setattr(labelmefacade, "train", lambda *_: pytest.fail("was trained"))
    monkeypatch.setattr(labelmefacade, "check", lambda *_: None)
    segmenter, run = contextlib.ExitStack(), contextlib.ExitStack()
    segmenter.enter_context(held_by_another(place.out))
    run.enter_context(held_by_another(place.out / "results/spade"))
    argv = ["experiments", "--data", str(place.data), "--out", str(place.out), "--runs", "spade"]
    monkeypatch.setattr(sys, "argv", argv)

    called_before: list[int] = []

    def leave() -> None:
        called_before.append(len(called))
        segmenter.close()

    other = threading.Timer(0.5, leave)
    other.start()
    with pytest.raises(UserError, match="process 12 on elsewhere has spade of .*out in hand; wait until it"):
        labelmefacade.main()
    other.join()
    assert called_before == [0]
    assert [words[1] for words in called] == ["train-segmenter"]
    assert f"waiting for another command, which trains the segmenter of {place.out}" in capsys.readouterr().out
    run.close()


def test_ctrl_c_lets_a_script_save(tmp_path: Path) -> None:
    """It reaches both; the one in front waits for the script, and says that it can be gone on with."""
    (tmp_path / "slow.py").write_text(
        "import signal, sys, time\n"
        "def save(*_): time.sleep(1); open('saved', 'w').close(); sys.exit(75)\n"
        "signal.signal(signal.SIGINT, save); open('ready', 'w').close(); time.sleep(60)\n"
    )
    front = (
        f"from experiments import labelmefacade as e; from util.errors import run_main; from pathlib import Path\n"
        f"e.ROOT = Path({str(tmp_path)!r}); run_main(lambda: e.call(['slow.py']))"
    )
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, "-c", front], cwd=tmp_path, env=own, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert (tmp_path / "saved").exists()
    assert run.returncode == 75
    assert "slow.py was interrupted; the same command goes on" in said


def test_a_failed_script_ends_the_run(place: Place, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=r"test.py ended with status 2; mend that and give the same command again"):
        labelmefacade.call(["test.py", "--name", "nothing there", "--checkpoints_dir", str(place.out)])
    assert "$ python test.py --name 'nothing there'" in capfd.readouterr().out


def test_a_folder_that_is_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match=f"--data {tmp_path} has no folder train_img"):
        labelmefacade.main()


@pytest.mark.prove
def test_a_run_from_its_command_to_its_record(place: Place) -> None:
    """In 128 x 128, for two epochs; given again, the command has nothing to do."""
    command = [sys.executable, "-m", "experiments", "labelmefacade", "--data", str(place.data), "--out", str(place.out)]
    command += ["--runs", "spade-vae", "--", *"--ngf 4 --nef 4 --ndf 4 --niter 2 --niter_decay 0".split()]
    command += ["--eval_freq", "1", "--print_freq", "4"]
    subprocess.run(command, check=True, cwd=ROOT)
    (held,) = tables.read_records(place.out / "records")
    assert [point["images"] for point in held["curve"]] == [8, 16]
    assert held["curve"][-1]["miou"] == pytest.approx(held["ema"]["miou"], abs=1e-3)
    assert set(held["losses"]) == {"KLD", "GAN", "GAN_Feat", "D_Fake", "D_real"}
    assert len(list((place.out / "styles/spade-vae/test_latest").rglob("*synthesized*/**/*.png"))) == 4 * 6
    photos, images = styles.measure(place, "spade-vae")
    assert photos.shape == images.shape == (4, 9, 3)
    again = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert again.endswith("spade-vae.json is there already\n")


# --------------------------------------------------------------------------------------------------------- the records


def record(run: str, miou: float) -> dict[str, Any]:
    scores = {"miou": miou, "pixel_accuracy": 0.5, "mean_accuracy": 0.25, "iou": [miou, None]}
    distances = {"segmenter_frechet": 2.0, "segmenter_kernel": 0.125}
    return {
        "run": run,
        "images": 2000,
        "images_per_second": 3.25,
        "machine": "a machine",
        "segmenter": "segmenter_128.pth (0123)",
        "curve": [{**scores, "images": 1000, "miou": miou / 2}, {**scores, "images": 2000}],
        "losses": {"GAN": 1.0},
        "plain": {**scores, "miou": 0.1, **distances},
        "ema": scores | distances,
        "photos": {**scores, "miou": 0.9, **distances},
        "shuffled": {**scores, "miou": 0.05},
        "classes": ["building", "car; auto"],
    }


@pytest.fixture
def records(tmp_path: Path) -> Path:
    for run, miou in (("pix2pixhd", 0.3), ("spade", 0.4), ("spade-seed1", 0.5)):
        held = record(run, miou)
        held["ema"]["segmenter_frechet"] += 2.5 * (run == "spade-seed1")
        (tmp_path / f"{run}.json").write_text(json.dumps(held))
    return tmp_path


def test_tables(records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments", str(records)])
    tables.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[2:10] == [
        "| spade | 40.0 | 50.0 | 25.0 | 2 | 0.125 |",
        "| spade, plain weights | 10.0 | 50.0 | 25.0 | 2 | 0.125 |",
        "| spade-seed1 | 50.0 | 50.0 | 25.0 | 4.5 | 0.125 |",
        "| spade-seed1, plain weights | 10.0 | 50.0 | 25.0 | 2 | 0.125 |",
        "| spade, 2 seeds | 45.0 ± 5.0 | 50.0 ± 0.0 | 25.0 ± 0.0 | 3.25 ± 1.25 | 0.125 ± 0.000 |",
        "| pix2pixhd | 30.0 | 50.0 | 25.0 | 2 | 0.125 |",
        "| pix2pixhd, plain weights | 10.0 | 50.0 | 25.0 | 2 | 0.125 |",
        "| real photos | 90.0 | 50.0 | 25.0 | 2 | 0.125 |",
    ]
    assert printed[10] == "| spade, layouts shuffled | 5.0 | 50.0 | 25.0 |  |  |"
    held = record("dense", 0.2) | {"segmenter": "segmenter_128.pth (4567)"}
    (records / "dense.json").write_text(json.dumps(held))
    tables.main()
    assert "not all are read by the same segmenter (segmenter_128.pth (0123)" in capsys.readouterr().err
    assert printed[12:15] == ["| IoU of | building | car |", "| --- | --- | --- |", "| spade | 40 |  |"]


def test_curves(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each run, from the first measurement to the last, which is at the right; seeds are one colour."""
    monkeypatch.setattr(sys, "argv", ["experiments", str(records), "--curves", str(records / "miou.svg")])
    tables.main()
    picture = ElementTree.fromstring((records / "miou.svg").read_text())
    space = "{http://www.w3.org/2000/svg}"
    lines = [line.get("points").split() for line in picture.iter(f"{space}polyline")]
    assert [len(points) for points in lines] == [2, 2, 2]
    assert {points[-1].split(",")[0] for points in lines} == {f"{tables.WIDTH - tables.RIGHT:.1f}"}
    texts = [text.text for text in picture.iter(f"{space}text")]
    assert texts[-2:] == ["spade, 2 seeds", "pix2pixhd"]
    first, second, third = (line.get("stroke") for line in picture.iter(f"{space}polyline"))
    assert first == second != third


@pytest.mark.parametrize("miou", [0.0, 0.4, 0.0123])
def test_a_curve_of_one_point(miou: float) -> None:
    held = record("spade", miou)
    picture = ElementTree.fromstring(tables.curves([{**held, "curve": held["curve"][-1:]}], "miou"))
    (line,) = picture.iter("{http://www.w3.org/2000/svg}polyline")
    assert tables.TOP <= float(line.get("points").split(",")[1]) <= tables.HEIGHT - tables.BOTTOM


def test_damaged_and_missing_records(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no records"):
        tables.read_records(tmp_path)
    (tmp_path / "spade.json").write_text('{"run": "spade"}')
    with pytest.raises(UserError, match=r"spade.json is no record of a run \('machine'\)"):
        tables.read_records(tmp_path)
    for place, name in (("ema", "segmenter_frechet"), ("shuffled", "mean_accuracy")):
        held = record("spade", 0.5)
        del held[place][name]
        (tmp_path / "spade.json").write_text(json.dumps(held))
        with pytest.raises(UserError, match=rf"spade.json is no record of a run \('{name}'\)"):
            tables.read_records(tmp_path)


# -------------------------------------------------------------------------------------------------------- the pictures


def test_streets_are_layouts_of_all_classes_but_various(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["streets", "--out", str(tmp_path), "--count", "6", "--size", "64", "--swap", "building=vegetation"]
    monkeypatch.setattr(sys, "argv", argv)
    streets.main()
    assert len(list(tmp_path.iterdir())) == 12
    seen = set()
    for path in sorted(tmp_path.glob("?.png")):
        ids = np.asarray(Image.open(path))
        swapped = np.asarray(Image.open(path.with_name(f"{path.stem}_building_as_vegetation.png")))
        assert (ids.dtype, ids.shape) == (np.uint8, (64, 64))
        assert np.array_equal(swapped, np.where(ids == 1, 7, ids))
        seen |= {*ids.flatten().tolist()}
    assert seen == set(range(1, 9))
    assert np.array_equal(streets.street(0, 3, 64), np.asarray(Image.open(tmp_path / "3.png")))


@pytest.mark.parametrize(
    ("swap", "said"),
    [
        ("house=sky", "there is no class 'house'; there are various, building, car"),
        ("building", "--swap building: give OLD=NEW, as in building=sky"),
    ],
)
def test_a_class_to_swap_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: str, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["streets", "--out", str(tmp_path), "--swap", swap])
    with pytest.raises(UserError, match=said):
        streets.main()


@pytest.mark.parametrize("name", ["sheet", "sheet.xyz"])
def test_a_sheet_without_an_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "argv", ["sheet", "--out", str(tmp_path / name), str(tmp_path)])
    with pytest.raises(UserError, match=f"{name}: give a name that ends in .jpg or .png"):
        sheet.main()


def test_rows_of_folders_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders of three pictures in two columns: a a, b b, a, b."""
    for folder, grey in (("a", 50), ("b", 200)):
        (tmp_path / folder).mkdir()
        for name in range(3):
            Image.new("RGB", (20, 10), (grey + 10 * name,) * 3).save(tmp_path / folder / f"{name}.png")
    out = tmp_path / "sheet.png"
    argv = ["sheet", "--out", str(out), "--columns", "2", "--side", "8", str(tmp_path / "a"), str(tmp_path / "b")]
    monkeypatch.setattr(sys, "argv", argv)
    sheet.main()
    page = Image.open(out)
    assert page.size == (18, 38)
    centres = [[page.getpixel((4 + 10 * column, 4 + 10 * row))[0] for column in range(2)] for row in range(4)]
    assert centres == [[50, 60], [200, 210], [70, 255], [220, 255]]
    (tmp_path / "a/0.png").unlink()  # so that the first of b is nobody's
    sheet.main()
    page = Image.open(out)
    assert [page.getpixel((4, 4 + 10 * row))[0] for row in range(2)] == [60, 210]
    (tmp_path / "b/2.png").unlink()
    with pytest.raises(UserError, match=r"/b has no pictures of the names 2, which .*/a has"):
        sheet.main()


def test_a_run_without_pages(place: Place) -> None:
    with pytest.raises(UserError, match="python -m experiments labelmefacade --runs spade trains and makes it"):
        pictures.write_sheets(place, "spade")


def test_sheets_of_a_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layouts come evenly spread, all styles of one together; streets stand above their images, swapped ones below."""
    painted: list[list[str]] = []

    def paint(words: list[str]) -> None:
        """Stand for test.py: a picture for each layout, whose grey is that of its name's length."""
        painted.append(words)
        results, layouts = (Path(words[words.index(flag) + 1]) for flag in ("--results_dir", "--label_dir"))
        for path in layouts.iterdir():
            for kind, grey in (("input_label", 10), ("synthesized_image", 100 + len(path.stem))):
                folder = results / "spade-vae/test_latest/images" / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (grey,) * 3).save(folder / f"{path.stem}.png")

    monkeypatch.setattr(pictures, "call", paint)
    monkeypatch.setattr(pictures, "STYLED", 2)
    styled = [f"{i}_s{k:02}" for i in range(4) for k in range(6)]
    for kind, names in (("results", [f"{i:02}" for i in range(64)]), ("styles", styled)):
        folder = place.out / kind / "spade-vae/test_latest" / pictures.IMAGES
        folder.mkdir(parents=True)
        for grey, name in enumerate(names):
            Image.new("RGB", (8, 8), (3 * grey,) * 3).save(folder / f"{name}.png")
    made = pictures.write_sheets(place, "spade-vae")
    names = ("spade-vae", "spade-vae_styles", "spade-vae_style_of_photos", "spade-vae_streets")
    assert [path.stem for path in made] == [*names]
    middles = [np.asarray(Image.open(path).convert("L"))[64::130, 64::130] for path in made]
    assert middles[0].shape == (4, 8)
    assert np.abs(middles[0].flatten() - 6.0 * np.arange(32)).max() <= 1  # each second of 64, and JPEG's rounding
    assert (
        np.abs(middles[1] - 3.0 * (np.arange(6) + np.array([[0], [12]]))).max() <= 1
    )  # layouts 0 and 2 of 4, in six styles
    assert middles[2].shape == (6, 2)
    styled = [words[words.index("--label_dir") + 1] for words in painted if "--style_image" in words]
    assert [len([*Path(layouts).iterdir()]) for layouts in styled] == [2] * 6  # no more than are shown
    assert np.abs(middles[3][:, 0] - np.array([10.0, 101, 10, 101 + len("_building_as_vegetation")])).max() <= 1
    assert len(painted) == pictures.STYLES + 1
    assert all("--image_dir" not in words for words in painted)


# ---------------------------------------------------------------------------------------------------------- the styles


def test_colours_of_classes() -> None:
    """Each class's mean, and nothing of one that covers less than a hundredth."""
    label = np.zeros((20, 20), int)
    label[:10], label[19, :4], label[19, 4:7] = 1, 2, 3  # 200, 4 and 3 of 400 pixels
    image = np.zeros((20, 20, 3))
    image[:5], image[5:10], image[19, :4] = (10, 20, 30), (30, 40, 50), (1, 2, 3)
    found = styles.colours(image, label, 5)
    assert found[1].tolist() == [20, 30, 40] and found[2].tolist() == [1, 2, 3]
    assert np.isnan(found[3:]).all()


def test_what_comes_through_of_a_photo() -> None:
    """Half of the brightness, and the opposite of the warmth; a class that only two photos have says nothing."""
    grey, warm = np.array([0.0, 10, 20, 30]), np.array([4.0, 0, 8, 2])
    photos = np.stack([grey + warm, grey, grey - warm], axis=-1)
    images = 100 + np.stack([grey / 2 - warm / 4, grey / 2, grey / 2 + warm / 4], axis=-1)
    assert styles.compare(photos, images) == ["4", "1.00 (0.50)", "-1.00 (0.25)"]
    photos[:2] = np.nan
    assert styles.compare(photos, images) == ["2", "", ""]


def test_styles_of_what_has_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["styles", "--data", str(place.data), "--out", str(place.out)])
    with pytest.raises(UserError, match="there is no folder .*checkpoints/spade"):
        styles.main()


# --------------------------------------------------------------------------------------------------------- overfitting


class BlackAndBrightness(Pix2PixModel):
    """Its generator paints black, its discriminator says how bright what it sees is: 1 for white, -1 for black."""

    def generate(self, batch: dict[str, Any], z: Tensor | None = None) -> Tensor:
        return torch.full_like(batch["image"], -1)

    def discriminate(self, semantics: LabelMap, fake: Tensor, real: Tensor) -> Any:
        return tuple([[image * 9, image.mean((1, 2, 3))], [image.mean((1, 2, 3))]] for image in (fake, real))


def test_what_discriminators_say(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Of white training photos 1, of grey validation photos 0, of black images -1: half-way down, so r_v is 0.5."""
    for part, value in (("train", 255), ("val", 127)):
        for path in (place.data / f"{part}_img").iterdir():
            Image.new("RGB", (80, 72), (value,) * 3).save(path)
    place.segmenter.parent.mkdir(exist_ok=True)
    place.segmenter.touch()
    monkeypatch.setattr(overfitting, "create_model", BlackAndBrightness)
    monkeypatch.setattr(sys, "argv", ["overfitting", "--data", str(place.data), "--out", str(place.out)])
    with pytest.raises(UserError, match="there is no folder .*checkpoints/spade"):
        overfitting.main()
    opt = TrainOptions(raises=True).parse(labelmefacade.train_words(place, "spade", [])[1:])
    save_set(place.out / "checkpoints/spade", "latest", BlackAndBrightness(opt).networks(), {})
    overfitting.main()
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "| spade | 1.00 | -0.00 | -1.00 | 0.50 |"


# ------------------------------------------------------------------------------------------------------------- the docs


@pytest.mark.parametrize("folder", sorted(path.name for path in (ROOT / "docs/results").iterdir()))
def test_tables_and_curves_of_the_docs_are_those_of_the_records(folder: str) -> None:
    text = (ROOT / "docs/results.md").read_text()
    records = tables.read_records(ROOT / "docs/results" / folder)
    lines = tables.numbers_of(records).splitlines()
    if folder == "cpu":
        lines += tables.classes_of(records).splitlines()
        assert (ROOT / "docs/images/facade_miou.svg").read_text() == tables.curves(records, "miou")
    assert [line for line in lines if line not in text.splitlines()] == []


# ------------------------------------------------------------------------------------------------------------ spectrum


def write_grey(folder: Path, pattern: np.ndarray, seed: int = 0) -> Path:
    """Two pictures of noise with a pattern added."""
    folder.mkdir()
    for i in range(2):
        noise = np.random.default_rng(seed + i).normal(128, 8, (64, 64))
        Image.fromarray((noise + pattern).round().astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_checkerboard_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """In the grid of 2 pixels alone, and as the largest; waves of 20 pixels down in their octave alone."""
    rows, columns = np.mgrid[:64, :64]
    photos = write_grey(tmp_path / "photos", np.zeros((64, 64)))
    board = write_grey(tmp_path / "board", 10 * (-1.0) ** (rows + columns))
    waves = write_grey(tmp_path / "waves", 20 * np.cos(2 * np.pi * rows / 20))
    monkeypatch.setattr(sys, "argv", ["spectrum", "--photos", str(photos), str(photos), str(board), str(waves)])
    spectrum.main()
    same, of_board, of_waves = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert same[2:11] == ["1"] * 9
    assert "none px down, none" not in same[11]  # which is the mean
    bands, grids = [[float(cell) for cell in of_board[part]] for part in (slice(2, 7), slice(7, 11))]
    assert grids[0] > 100
    assert grids[1:] == [1, 1, 1]
    assert bands[:4] == [1] * 4  # it is all in the finest
    assert bands[4] > 1.5
    assert of_board[11].endswith("(2 px down, 2 across) |")
    bands = [float(cell) for cell in of_waves[2:7]]
    assert bands[1] > 20
    assert bands[3:] == [1, 1]
    assert "px down, none across" in of_waves[11]


def test_colours_that_are_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Images of noise, whose red is 5 above the photos' and whose blue 3 below; too small for waves above 32 pixels."""
    noise = np.random.default_rng(0).integers(20, 200, (16, 16, 3))
    for name, more in (("photos", (0, 0, 0)), ("images", (5, 0, -3))):
        (tmp_path / name).mkdir()
        Image.fromarray((noise + more).astype(np.uint8)).save(tmp_path / name / "0.png")
    monkeypatch.setattr(sys, "argv", ["spectrum", "--photos", str(tmp_path / "photos"), str(tmp_path / "images")])
    spectrum.main()
    assert capsys.readouterr().out.splitlines()[2].split(" | ")[1:3] == ["+5, +0, -3", ""]


@pytest.mark.parametrize(
    ("pixels", "down", "across"), [(2, 1, 0), (4, 1, 0), (4, 1, 2), (8, 3, 4), (16, 3, 0), (16, 5, 1)]
)
def test_each_wave_is_of_one_grid(pixels: int, down: int, across: int) -> None:
    """A wave of so many periods down and across in `pixels` is of that grid, and not of coarser ones, of which it is a
    harmonic."""
    rows, columns = np.mgrid[:64, :64]
    power = np.abs(np.fft.fft2(np.cos(2 * np.pi * (down * rows + across * columns) / pixels))) ** 2
    found = spectrum.of_grids(spectrum.ratios_to(np.ones((64, 64)), power))
    assert [pixels for pixels, ratio in zip(spectrum.GRIDS, found, strict=True) if ratio > 1e-9] == [pixels]


def test_twice_the_contrast_is_four_times_the_power(tmp_path: Path) -> None:
    rows = np.mgrid[:64, :64][0]
    wave = np.cos(2 * np.pi * rows / 8)
    power = [spectrum.mean_power(str(write_grey(tmp_path / str(a), a * wave))) for a in (32, 64)]
    assert power[1][8, 0] / power[0][8, 0] == pytest.approx(4, rel=0.02)
    assert spectrum.of_bands(power[1])[3] / spectrum.of_bands(power[0])[3] == pytest.approx(4, rel=0.1)


def test_pictures_of_other_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.zeros((64, 64))
    photos, mixed = write_grey(tmp_path / "photos", flat), write_grey(tmp_path / "mixed", flat)
    (tmp_path / "small").mkdir()
    for folder in (mixed, tmp_path / "small"):
        Image.new("L", (32, 32)).save(folder / "9.png")
    (tmp_path / "none").mkdir()
    for folder, said in (
        ("mixed", "9.png is of another size than .*0.png; give folders of pictures of one size"),
        ("small", "small has pictures of 32 x 32 pixels, --photos of 64 x 64; they are to be of one size"),
        ("none", "none has no pictures"),
    ):
        monkeypatch.setattr(sys, "argv", ["spectrum", "--photos", str(photos), str(tmp_path / folder)])
        with pytest.raises(UserError, match=said):
            spectrum.main()
