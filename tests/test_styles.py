"""Styles and statistics at test time: what test.py's flags make of models trained with --use_vae."""

import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import test as test_script
from data.base_dataset import image_tensor
from models import create_model
from models.networks.normalization import batch_norms
from models.recalibration import recalibrate
from models.styles import between
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.checkpoint import save_set
from util.errors import UserError

SMALL = "--ngf 4 --nef 4 --crop_size 64 --label_nc 5".split()
ASK = "--gpu_ids -1 --nThreads 0 --name x".split()


@pytest.fixture
def styled(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with styles in checkpoints/x (weights as initialised, large enough for styles to show), and its data."""
    monkeypatch.chdir(tmp_path)
    options = TrainOptions()
    opt = options.parse(
        [*SMALL, "--name", "x", "--batchSize", "3", "--use_vae", "--no_vgg_loss", "--init_variance", "1"]
    )
    torch.manual_seed(0)
    save_set(Path("checkpoints/x"), "latest", create_model(opt).networks(), {})
    options.save(opt)
    return pairs


def made(*argv: object) -> dict[str, np.ndarray]:
    """test.py's pictures by name."""
    test_script.main([*ASK, *map(str, argv)])
    folder = Path("results/x/test_latest/images/synthesized_image")
    found = {p.stem: np.asarray(Image.open(p)).astype(int) for p in sorted(folder.iterdir())}
    for path in folder.iterdir():
        path.unlink()
    return found


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return np.abs(a - b).max()


def test_random_styles(styled: Path) -> None:
    """Sample k is the style of seed S + k for every layout, whatever the batch and the number of samples."""
    ask = ["--label_dir", styled / "train_label", "--how_many", 3]
    three = made(*ask, "--num_samples", 3)
    assert sorted(three) == [f"picture{i}_s{k:02d}" for i in range(3) for k in range(3)]
    assert apart(three["picture0_s00"], three["picture0_s01"]) > 3
    again = made(*ask, "--num_samples", 2, "--batchSize", 2)
    assert max(apart(again[name], three[name]) for name in again) <= 1  # rounding
    other = made(*ask, "--num_samples", 1, "--seed", 1)
    assert max(apart(other[f"picture{i}_s00"], three[f"picture{i}_s01"]) for i in range(3)) <= 1
    plain, in_pairs = made(*ask), made(*ask, "--batchSize", 2)  # without photos: to each layout a style of its own
    assert apart(plain["picture0"], three["picture0_s00"]) <= 1
    assert apart(plain["picture1"], three["picture1_s00"]) > 3
    assert max(apart(plain[name], in_pairs[name]) for name in plain) <= 1


def test_styles_of_photos(styled: Path) -> None:
    """The style of a photo is the one that its own layout gets; --style_image gives it to all layouts."""
    own = made("--dataroot", styled, "--dataset_mode", "coco")  # with photos
    photo = styled / "val_img" / "picture1.jpg"
    layouts = ["--label_dir", styled / "val_label", "--instance_dir", styled / "val_inst"]
    asked = made(*layouts, "--style_image", photo, "--batchSize", 2)
    assert sorted(asked) == ["picture0", "picture1"]
    assert apart(asked["picture1"], own["picture1"]) <= 1
    assert apart(asked["picture0"], own["picture0"]) > 1


def test_interpolation(styled: Path) -> None:
    """From one style to another: the ends are those styles, and the steps between them small."""
    layouts = ["--label_dir", styled / "val_label", "--how_many", 1]
    strip = made(*layouts, "--interpolate", 3, styled / "val_img" / "picture1.jpg", "--steps", 4)
    assert sorted(strip) == [f"picture0_s{k:02d}" for k in range(4)]
    seeded = made(*layouts, "--num_samples", 1, "--seed", 3)
    styled_end = made(*layouts, "--style_image", styled / "val_img" / "picture1.jpg")
    assert apart(strip["picture0_s00"], seeded["picture0_s00"]) <= 1
    assert apart(strip["picture0_s03"], styled_end["picture0"]) <= 1
    frames = [strip[f"picture0_s{k:02d}"] for k in range(4)]
    photo = (styled / "val_img" / "picture1.jpg").read_bytes()
    Path("7").write_bytes(photo)  # a file is a photo, whatever its name
    Path("3").mkdir()  # a folder is none
    named = made("--label_dir", styled / "val_label", "--interpolate", 3, 7, "--batchSize", 2)
    assert sorted(named) == [f"picture{i}_s{k:02d}" for i in range(2) for k in range(5)]  # 5 steps unless told
    assert apart(named["picture0_s04"], strip["picture0_s03"]) <= 1
    whole = np.abs(frames[0] - frames[3]).mean()
    assert all(np.abs(a - b).mean() < whole for a, b in pairwise(frames))


def test_the_way_between_styles() -> None:
    """Half way from (2, 0) to (0, 4) on the circle: 45 degrees, length 3."""
    start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert between(start, end, 0.5).tolist()[0] == pytest.approx([3 / math.sqrt(2)] * 2)
    third = between(start, end, 1 / 3)  # 30 degrees, length 8/3
    assert third.tolist()[0] == pytest.approx([8 / 3 * math.sqrt(3) / 2, 8 / 3 / 2])
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    assert between(a, b, 0.25).tolist() == [[0.5, 0.0]]  # opposite: straight
    assert between(a, 0 * b, 0.25).tolist() == [[0.75, 0.0]]  # no direction: straight
    assert between(a, a, 0.3).tolist() == a.tolist()


def test_the_page_shows_styles_in_a_row(styled: Path, capsys: pytest.CaptureFixture) -> None:
    test_script.main([*ASK, "--dataroot", str(styled), "--num_samples", "2"])
    assert "2 layout(s) in 2 styles each, images in " in capsys.readouterr().out
    text = Path("results/x/test_latest/index.html").read_text()
    row = text.split("<section>")[1]
    captions = [part.split("<")[0] for part in row.split("<figcaption>")[1:]]
    assert captions == ["layout", "seed 0", "seed 1", "real"]
    assert "person" in row  # the legend


def test_the_page_shows_where_a_style_is_from(styled: Path) -> None:
    photo = styled / "val_img" / "picture1.jpg"
    test_script.main([*ASK, "--label_dir", str(styled / "val_label"), "--interpolate", "3", str(photo)])
    rows = Path("results/x/test_latest/index.html").read_text().split("<section>")[1:]
    assert [row.split("<h2>")[1].split("<")[0] for row in rows] == ["style", "picture0", "picture1"]
    assert "picture1.jpg" in rows[0]
    captions = [part.split("<")[0] for part in rows[1].split("<figcaption>")[1:]]
    assert captions == ["layout", "seed 3", "25%", "50%", "75%", "picture1.jpg"]
    assert Image.open("results/x/test_latest/images/style_image/picture1.png").size == (64, 64)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--num_samples 2 --style_image a.jpg", "--style_image and --num_samples: give one of them"),
        ("--steps 3", "--steps counts the styles of --interpolate A B"),
        ("--interpolate 1 ²", "--interpolate ²: no file, and no seed"),
        ("--interpolate 1 nowhere.jpg", "--interpolate nowhere.jpg: no file, and no seed"),
        ("--style_image nowhere.jpg", "--style_image nowhere.jpg: there is no such file"),
        ("--interpolate 1 2 --steps 1", "'1' is not a whole number of at least 2"),
    ],
)
def test_style_flags_that_cannot_be(flags: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        TestOptions(raises=True).parse(["--use_vae", "--crop_size", "64", *flags.split()])


def test_models_without_styles_say_so() -> None:
    with pytest.raises(UserError, match="--num_samples: the model of --name x has no styles.*--use_vae"):
        TestOptions(raises=True).parse(["--name", "x", "--num_samples", "2"])


def test_a_photo_needs_the_encoder(styled: Path) -> None:
    for file in Path("checkpoints/x").glob("*"):
        if file.name not in ("latest_net_G.pth", "opt.json"):
            file.unlink()
    with pytest.raises(UserError, match=r"needs the encoder, latest_net_E.pth.*--num_samples draws styles without it"):
        made("--label_dir", styled / "val_label", "--style_image", styled / "val_img" / "picture0.jpg")
    assert len(made("--label_dir", styled / "val_label", "--num_samples", 1)) == 2


# ------------------------------------------------------------------------------------------------ batch norm statistics


def batch(seed: int, items: int = 2) -> dict:
    rng = np.random.default_rng(seed)
    label = torch.from_numpy(rng.integers(0, 5, (items, 1, 4, 4))).repeat_interleave(16, 2).repeat_interleave(16, 3)
    return {"label": label, "path": ["x"] * items}


def test_recalibrated_statistics_are_those_of_the_layouts() -> None:
    """Mean and unbiased variance over all pixels of all batches; nothing else of the model moves."""
    torch.manual_seed(0)
    flags = [*SMALL, "--no_instance", "--name", "none", "--init_variance", "1"]
    model = create_model(TestOptions().parse(flags)).eval()
    batches = [batch(0), batch(1), batch(2, items=1)]
    inputs: list[torch.Tensor] = []
    first = model.netG.head_0.norm_0.param_free_norm
    first.observers.append(lambda x: inputs.append(x.clone()))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert recalibrate(model, batches) == 5
    seen = torch.cat([x.transpose(0, 1).flatten(1) for x in inputs], 1)  # [C, pixels of all]
    torch.testing.assert_close(first.running_mean, seen.mean(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first.running_var, seen.var(1), rtol=1e-4, atol=0)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved and all(key.endswith(("running_mean", "running_var")) for key in moved)
    assert not any(module.training for module in model.modules())


def test_recalibration_brings_testing_to_training() -> None:
    """With the statistics of one batch, evaluation makes of that batch what training does."""
    torch.manual_seed(0)
    model = create_model(TestOptions().parse([*SMALL, "--no_instance", "--name", "none"])).double().eval()
    pixels = {}
    for norm in batch_norms(model):
        norm.train()
        norm.observers.append(lambda x, norm=norm: pixels.update({norm: x[:, 0].numel()}))
    as_in_training = model.generate(batch(0, items=4))
    model.eval()
    recalibrate(model, [batch(0, items=4)])
    for norm, count in pixels.items():  # running variances are unbiased, those that a batch is normalised with are not
        norm.running_var *= (count - 1) / count
    torch.testing.assert_close(model.generate(batch(0, items=4)), as_in_training, rtol=1e-7, atol=1e-9)


def test_an_encoder_that_is_not_used_keeps_its_statistics() -> None:
    """Layouts without photos: the encoder's batch norms see nothing."""
    flags = [*SMALL, "--no_instance", "--name", "none", "--use_vae", "--norm_E", "batch"]
    model = create_model(TestOptions().parse(flags)).eval()
    assert batch_norms(model.netE)
    recalibrate(model, [batch(0)])
    assert all((norm.running_var == 1).all() for norm in batch_norms(model.netE))
    assert not any((norm.running_var == 1).all() for norm in batch_norms(model.netG))


def test_recalibration_needs_batch_norms(styled: Path) -> None:
    model = create_model(TestOptions().parse([*SMALL, "--norm_G", "spectralspadeinstance3x3", "--name", "none"]))
    with pytest.raises(UserError, match="--recalibrate_bn: this model has no batch norms"):
        recalibrate(model, [batch(0)])


def test_recalibration_from_the_command_line(styled: Path, capsys: pytest.CaptureFixture) -> None:
    plain = made("--label_dir", styled / "train_label")
    other = made("--label_dir", styled / "train_label", "--recalibrate_bn", 3, "--batchSize", 2, "--how_many", 1)
    assert "those of 3 layout(s), at most 2 a batch\n" in capsys.readouterr().out  # whatever is synthesised
    assert list(other) == ["picture0"]
    assert apart(plain["picture0"], other["picture0"]) > 3
    as_trained = made("--label_dir", styled / "train_label", "--recalibrate_bn", 9)
    said = "those of 4 layout(s), at most 3 a batch: there are no more, though --recalibrate_bn asks for 9\n"
    assert said in capsys.readouterr().out
    threes, ones = (
        made("--label_dir", styled / "train_label", "--recalibrate_bn", 9, "--batchSize", size) for size in (3, 1)
    )
    assert apart(as_trained["picture0"], threes["picture0"]) <= 1 < apart(as_trained["picture0"], ones["picture0"])
    parsed = TestOptions().parse([*ASK, "--name", "no_opt_json"])
    assert parsed.recalibration_batch == 16 and parsed.batchSize == 1


def test_options_that_recalibration_does_not_need(styled: Path) -> None:
    """opt.json is read for its batch only where that is asked for; what is no number of images does not count."""
    place = Path("checkpoints/x/opt.json")
    place.write_text(place.read_text().replace('"batchSize": 3', '"batchSize": 0'))
    assert TestOptions().parse([*ASK, "--recalibrate_bn", "2"]).recalibration_batch == 16
    place.write_text('{"batchSize": 6, "accumulate": 2}')  # batch norms saw three images at a time
    assert TestOptions().parse([*ASK, "--recalibrate_bn", "2"]).recalibration_batch == 3
    place.write_text("{")
    flags = [*ASK, *SMALL, "--use_vae", "--load_from_opt_file", "false"]
    assert TestOptions().parse([*flags, "--recalibrate_bn", "2"]).recalibration_batch == 16


def test_recalibration_reads_the_folders_once(styled: Path, capsys: pytest.CaptureFixture) -> None:
    made("--label_dir", styled / "train_label", "--recalibrate_bn", 2)
    assert capsys.readouterr().err.count("without instance maps") == 1


def test_styles_are_encoded_by_the_recalibrated_encoder(pairs: Path, tmp_path: Path, monkeypatch) -> None:
    """An encoder with batch norm: the style photo is read with the statistics that all else is."""
    monkeypatch.chdir(tmp_path)
    options = TrainOptions()
    flags = [*SMALL, "--name", "x", "--use_vae", "--no_vgg_loss", "--init_variance", "1", "--norm_E", "batch"]
    save_set(Path("checkpoints/x"), "latest", create_model(options.parse(flags)).networks(), {})
    options.save(options.parse(flags))
    given = ["--dataroot", pairs, "--recalibrate_bn", 2, "--batchSize", 2, "--how_many", 1]
    own = made(*given)
    by_file = made(*given, "--style_image", pairs / "val_img" / "picture0.jpg")
    assert apart(own["picture0"], by_file["picture0"]) <= 1


def test_the_noise_of_recalibration_is_that_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout's random style depends on its place alone: not on its batch, nor on what was drawn before."""
    flags = [*SMALL, "--no_instance", "--name", "none", "--use_vae", "--seed", "5"]
    model = create_model(TestOptions().parse(flags)).eval()
    drawn: list[torch.Tensor] = []
    draw = model.random_styles
    monkeypatch.setattr(model, "random_styles", lambda count: drawn.append(draw(count)) or drawn[-1])
    recalibrate(model, [batch(0, items=3), batch(1, items=1)])
    recalibrate(model, [batch(0, items=2), batch(1, items=2)])
    assert torch.equal(torch.cat(drawn[:2]), torch.cat(drawn[2:]))
    assert len(torch.cat(drawn[:2]).unique(dim=0)) == 4
    model.set_noise(5)
    assert torch.equal(drawn[0], draw(3))


def test_photos_are_encoded_as_the_data_set_shows_them(styled: Path) -> None:
    """--style_image is resized as the photos of the data set are, before the encoder sees it."""
    from models.styles import Styles

    opt = TestOptions().parse([*ASK, "--style_image", str(styled / "val_img" / "picture0.jpg")])
    model = create_model(opt).eval()
    [(name, z)] = Styles(opt, model).of({"path": ["a", "b"]})
    photo = Image.open(opt.style_image).resize((64, 64), Image.Resampling.BICUBIC)
    assert name == "synthesized_image"
    torch.testing.assert_close(z, model.style_of(image_tensor(photo)[None]).expand(2, -1))


# ---------------------------------------------------------------------------------------------------------- results


def test_what_was_made_before_an_error_is_on_the_page(styled: Path) -> None:
    """A damaged third layout ends the run; the page shows the two before it."""
    (styled / "train_label" / "picture2.png").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"picture2.png cannot be read as an image: it is empty \(0 bytes\); copy it again"
    ):
        test_script.main([*ASK, "--label_dir", str(styled / "train_label")])
    rows = Path("results/x/test_latest/index.html").read_text().split("<section>")[1:]
    assert [row.split("<h2>")[1].split("<")[0] for row in rows] == ["picture0", "picture1"]


def test_an_error_while_the_page_is_written_does_not_hide_the_first(styled: Path, monkeypatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("util.results.write_pages", full)
    (styled / "train_label" / "picture2.png").write_bytes(b"")
    with pytest.raises(UserError, match="picture2.png"):
        test_script.main([*ASK, "--label_dir", str(styled / "train_label")])
    with pytest.raises(OSError, match="No space left"):
        test_script.main([*ASK, "--label_dir", str(styled / "val_label")])


def test_images_of_earlier_runs_are_noticed(styled: Path, capsys: pytest.CaptureFixture) -> None:
    """An evaluation of the folder would count them."""
    argv = [*ASK, "--label_dir", str(styled / "val_label")]
    test_script.main([*argv, "--num_samples", "3"])
    assert "earlier runs" not in capsys.readouterr().err
    test_script.main(argv)
    assert "note: 6 images of earlier runs lie among them" in capsys.readouterr().err
    test_script.main([*argv, "--num_samples", "3"])
    assert "note: 2 images of earlier runs lie among them" in capsys.readouterr().err


def test_photos_of_other_layouts_are_left_out(styled: Path) -> None:
    """A folder of all photos beside a folder of one layout."""
    (styled / "one").mkdir()
    (styled / "train_label" / "picture2.png").rename(styled / "one" / "picture2.png")
    flags = [
        "--label_dir",
        styled / "one",
        "--image_dir",
        styled / "train_img",
        "--instance_dir",
        styled / "train_inst",
    ]
    assert list(made(*flags)) == ["picture2"]
    photo = Image.open(styled / "train_img" / "picture2.jpg").resize((64, 64), Image.Resampling.BICUBIC)
    shown = np.asarray(Image.open("results/x/test_latest/images/real_image/picture2.png"))
    assert (shown == np.asarray(photo)).all()


def test_photos_are_shown_where_there_are_any(styled: Path) -> None:
    test_script.main([*ASK, "--dataroot", str(styled)])
    page = Path("results/x/test_latest/index.html").read_text()
    assert '<p class="about">2 layouts</p>' in page
    assert len(re.findall('class="flat"', page)) == 2  # the layouts alone
    folder = Path("results/x/test_latest/images")
    assert sorted(p.name for p in folder.iterdir()) == ["input_label", "real_image", "synthesized_image"]
    photo = Image.open(styled / "val_img" / "picture0.jpg").resize((64, 64), Image.Resampling.BICUBIC)
    assert apart(np.asarray(Image.open(folder / "real_image/picture0.png")).astype(int), np.asarray(photo)) == 0


def test_a_full_disk_while_testing_names_the_file(styled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError) as error:
        test_script.main([*ASK, "--label_dir", str(styled / "val_label")])
    assert error.value.filename.endswith("images/input_label/picture0.png")
