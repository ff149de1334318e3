"""Segmenters for data sets that have no released one."""

import json
import math
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate as evaluate_script
from datasets import pack_shards
from evaluation import train_segmenter
from evaluation.confusion import PRESENT, UNKNOWN
from evaluation.segmenters import SEGMENTERS, trained
from evaluation.train_segmenter import SegmenterOptions, learning_rate, mean_loss, new_segmenter
from tests.conftest import write_pairs
from util.errors import Interrupted, UserError

COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [90, 90, 90]], np.uint8)  # of classes 0 .. 3


def write_squares(root: Path, split: str, count: int) -> None:
    """`count` photos of four coloured squares of 32 pixels, and their label maps; the upper left is class 3."""
    rng = np.random.default_rng(len(split))
    for kind in ("img", "label"):
        (root / f"{split}_{kind}").mkdir()
    for i in range(count):
        label = rng.integers(0, 3, (2, 2))
        label[0, 0] = 3
        label = label.repeat(32, 0).repeat(32, 1).astype(np.uint8)
        noise = rng.integers(0, 30, (64, 64, 3))
        Image.fromarray((COLOURS[label] + noise).astype(np.uint8)).save(root / f"{split}_img" / f"{i}.png")
        Image.fromarray(label).save(root / f"{split}_label" / f"{i}.png")


TRAIN = "train-segmenter --out s.pth --dataset_mode custom --label_nc 4 --label_dir train_label --image_dir train_img"
TRAIN += " --crop_size 64 --load_size 64 --batchSize 4 --gpu_ids -1 --nThreads 0"
VAL = "--val_label_dir val_label --val_image_dir val_img"
MEASURE = "--dataset_mode custom --label_nc 4 --label_dir val_label --image_dir val_img --crop_size 64 --gpu_ids -1"
MEASURE += " --nThreads 0 --no_instance --no_fid --segmenter s.pth"


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_squares(tmp_path, "train", 20)
    write_squares(tmp_path, "val", 6)
    return tmp_path


def run(text: str) -> None:
    evaluate_script.main(text.split())


def metrics() -> dict:
    return json.loads(Path("results/label2coco/evaluation_test_latest/metrics.json").read_text())


def test_learning_rates() -> None:
    """Of 100 steps five lead up, and half a cosine leads down: at its middle it is half the highest."""
    rates = [learning_rate(step, 100, 0.2) for step in range(100)]
    assert rates[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert rates[52] == pytest.approx(0.1, rel=0.03) and rates[99] < 1e-3
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert learning_rate(0, 1, 0.2) == 0.2


def test_unlabelled_pixels_have_no_loss() -> None:
    """Two pixels of two classes with logits 0 and log 3: p = 3/4; the unlabelled one counts for nothing."""
    logits = torch.tensor([[0.0, 0.0], [math.log(3), math.log(3)]])[None, :, None]  # [1, 2, 1, 2]
    assert mean_loss(logits, torch.tensor([[[1, UNKNOWN]]])).item() == pytest.approx(math.log(4 / 3))
    assert mean_loss(logits, torch.tensor([[[1, 0]]])).item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert mean_loss(logits, torch.tensor([[[UNKNOWN, UNKNOWN]]])).item() == 0


def test_it_learns_and_says_how_well(squares: Path, capsys: pytest.CaptureFixture) -> None:
    """Its file keeps what it reads of the validation photos, which is what evaluate.py --real measures."""
    run(f"{TRAIN} {VAL} --epochs 8 --lr 0.01 --ignore_ids 3")
    segmenter = trained.read(Path("s.pth"))
    assert segmenter.ids == [0, 1, 2] and segmenter.is_finished
    assert segmenter.photos["images"] == 6 and segmenter.photos["which"] == "--val_image_dir"
    assert segmenter.photos["pixel_accuracy"] > 0.9  # a third by chance
    assert segmenter.photos["unknown"] == 6 * 32 * 32  # class 3, a quarter of each
    capsys.readouterr()
    run(f"{MEASURE} --synthesized val_img --real --at_least 1")
    said, numbers = capsys.readouterr().out, metrics()
    for scores in (numbers["accuracies"], numbers["accuracies_of_photos"]):  # the images are the photos
        assert scores == {k: v for k, v in segmenter.photos.items() if k not in ("images", "which")}
    assert numbers["fid"] is None and numbers["segmenter_frechet"] == pytest.approx(0, abs=1e-6)
    assert "distances in the segmenter's features, which are no FID and no KID: Frechet" in said
    assert "FID 0" not in said
    assert f"this segmenter reads mIoU {100 * segmenter.photos['miou']:.2f}" in said
    page = Path("results/label2coco/evaluation_test_latest/index.html").read_text()
    assert "Frechet, segmenter" in page and segmenter.describe_photos().split(",")[0] in page

    Path("made").mkdir()
    for i in range(6):  # all of one colour, which are read as one class
        Image.new("RGB", (64, 64), (200, 30, 30)).save(f"made/{i}.png")
    with pytest.raises(UserError, match=r"pixel accuracy \S+ is less than --at_least 0.7 of the photos'"):
        run(f"{MEASURE} --synthesized made --real --at_least 0.7")
    assert metrics()["segmenter_frechet"] > 1e-4


def test_going_on_gives_the_same_bits(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in its second epoch, and then in the third; what is there meanwhile can be used."""
    clean, steps = trained.prepared, []
    with monkeypatch.context() as patched:
        patched.setattr(trained, "prepared", lambda images, *more: steps.append(images) or clean(images, *more))
        run(f"{TRAIN} {VAL} --epochs 3 --out whole.pth")
    assert not torch.equal(steps[0], steps[5])  # each epoch has an order of its own
    steps.clear()

    def stop_at_the_seventh(images: torch.Tensor) -> torch.Tensor:
        steps.append(images)
        if len(steps) == 7:  # an epoch has five
            os.kill(os.getpid(), signal.SIGTERM)
        return clean(images)

    for done in (1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(trained, "prepared", stop_at_the_seventh)
            with pytest.raises(Interrupted, match=f"s.pth stands after epoch {done}; the same command goes on"):
                run(f"{TRAIN} {VAL} --epochs 3")
        assert trained.read(Path("s.pth")).epochs == done
        steps.clear()
    run(f"{MEASURE} --synthesized val_img")
    unfinished = Path("s.pth").stat().st_size
    run(f"{TRAIN} {VAL} --epochs 3")
    parts, whole = trained.read(Path("s.pth")), trained.read(Path("whole.pth"))
    assert all(torch.equal(parts.state[k], whole.state[k]) for k in whole.state)
    assert parts.photos == whole.photos and Path("s.pth").stat().st_size < unfinished
    with pytest.raises(UserError, match="--out s.pth holds a segmenter that is finished; --overwrite trains it anew"):
        run(f"{TRAIN} {VAL} --epochs 3")


def test_a_loss_that_is_no_number(squares: Path) -> None:
    with pytest.raises(UserError, match="the loss of epoch 1 is no finite number, .*; a lower --lr than 1e.30 may"):
        run(f"{TRAIN} {VAL} --epochs 1 --lr 1e30")
    assert not Path("s.pth").exists()


@pytest.fixture
def unfinished(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """s.pth, trained for its one epoch and stopped before it was measured."""

    def stop(*_: object) -> None:
        raise Interrupted("now")

    monkeypatch.setattr(train_segmenter, "measure", stop)
    with pytest.raises(Interrupted):
        run(f"{TRAIN} {VAL} --epochs 1")


def test_a_part_of_another_training_is_left_alone(unfinished: None) -> None:
    before = Path("s.pth").read_bytes()
    with pytest.raises(UserError, match=r"a part of another training \(of_epochs 1, not 2\); --overwrite starts anew"):
        run(f"{TRAIN} {VAL} --epochs 2")
    assert Path("s.pth").read_bytes() == before


def test_without_validation_pairs_some_are_held_out(squares: Path) -> None:
    """Of twenty pairs the tenth and the twentieth."""
    run(f"{TRAIN} --epochs 1")
    held = trained.read(Path("s.pth"))
    assert held.photos["images"] == 2 and held.trained_on == "18 photos"
    assert held.photos["which"] == "each 10th of the training set, which it was not trained on"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--out", "expected one argument"),
        ("--batchSize 1", "--batchSize 1: the networks normalise over batches"),
        ("--gpu_ids 0,1", "a segmenter is trained on one device"),
        ("--ignore_ids 4", "--ignore_ids 4: the classes have ids 0 .. 3"),
        ("--val_label_dir val_label", "--val_label_dir and --val_image_dir belong together"),
        ("--lambda_feat 1", "unrecognized arguments: --lambda_feat"),
        ("--ngf 8", "--ngf is about the generator, which a segmenter has nothing to do with"),
        ("--amp bf16", "--amp is about the generator"),
        ("--out train_img", "--out train_img is a folder; give the name of a file, such as train_img/segmenter.pth"),
        ("--out /dev/null/s.pth", "--out /dev/null/s.pth: /dev/null is no folder that can be written to"),
    ],
)
def test_flags_that_cannot_be(flags: str, message: str, squares: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run(f"{TRAIN} {flags}")
    assert message in capsys.readouterr().err


def test_files_that_are_no_segmenters(squares: Path, capsys: pytest.CaptureFixture) -> None:
    run(f"{TRAIN} {VAL} --epochs 1")
    with pytest.raises(UserError, match="--segmenter s.pth was trained with --label_nc 4, and the layouts have .* 5"):
        run(f"{MEASURE} --synthesized val_img --label_nc 5")
    with pytest.raises(SystemExit):
        run(f"{MEASURE} --synthesized val_img --segmenter nothing.pth")
    assert "--segmenter nothing.pth is neither a file nor one of deeplabv2, upernet101" in capsys.readouterr().err
    content = torch.load("s.pth", weights_only=True)
    torch.save(content["state"], "weights.pth")
    torch.save({**content, "network": "resnet"}, "other.pth")
    torch.save({**content, "ids": [0, 1]}, "fewer.pth")
    for name, message in (
        ("weights.pth", "weights.pth is no segmenter of evaluate.py train-segmenter: give one"),
        ("other.pth", "other.pth is damaged or of another version"),
        ("fewer.pth", r"fewer.pth is damaged: .*\(4, 40, 1, 1\) in the file, \(2, 40, 1, 1\) in the network"),
    ):
        with pytest.raises(UserError, match=message):
            run(f"{MEASURE} --synthesized val_img --segmenter {name}")


def options(text: str) -> object:
    return SegmenterOptions(raises=True).parse([*TRAIN.split()[1:], *text.split()])


@pytest.mark.parametrize(
    ("mode", "name"), [("coco", "deeplabv2"), ("ade20k", "upernet101"), ("cityscapes", "drn_d_105")]
)
def test_known_data_sets_keep_their_classes(mode: str, name: str) -> None:
    """Those that the released segmenters tell apart, and no others."""
    argv = f"--out s.pth --dataset_mode {mode} --gpu_ids -1".split()
    segmenter = new_segmenter(SegmenterOptions(raises=True).parse(argv), 1)
    assert segmenter.ids == list(SEGMENTERS[name].ids)


def test_unlabelled_ids_are_no_classes() -> None:
    segmenter = new_segmenter(options("--ignore_ids 0 2"), 1)
    assert segmenter.ids == [1, 3]
    assert segmenter.kind(None).class_of(torch.tensor([0, 1, 2, 3, 9])).tolist() == [UNKNOWN, 0, UNKNOWN, 1, UNKNOWN]
    with pytest.raises(UserError, match="--ignore_ids leaves less than two of the classes"):
        options("--ignore_ids 0 1 2")


@pytest.mark.parametrize(
    ("network", "whole"), [(trained.DEFAULT, "mobilenet_v3_large"), ("deeplabv3_resnet50", "resnet50")]
)
def test_a_trunk_may_begin_with_torchvisions_weights(network: str, whole: str, tmp_path: Path) -> None:
    import torchvision

    donor = getattr(torchvision.models, whole)(weights=None)
    torch.save(donor.state_dict(), tmp_path / "trunk.pth")
    net = trained.build(network, 3)
    trained.load_trunk(net, tmp_path / "trunk.pth")
    (first,) = [v for k, v in donor.state_dict().items() if k in ("features.0.0.weight", "conv1.weight")]
    assert torch.equal(next(iter(net.backbone.state_dict().values())), first)
    if network == trained.DEFAULT:
        begun = new_segmenter(options(f"--backbone_weights {tmp_path / 'trunk.pth'}"), 1)
        assert torch.equal(begun.state["backbone.0.0.weight"], first)
    other = trained.build("deeplabv3_resnet101" if "resnet" in network else "deeplabv3_resnet50", 3)
    with pytest.raises(UserError, match="trunk.pth does not fit the trunk"):
        trained.load_trunk(other, tmp_path / "trunk.pth")


@pytest.mark.parametrize("network", trained.NETWORKS)
def test_networks_give_scores_and_features(network: str) -> None:
    net = trained.build(network, 3).eval()
    images = torch.randint(256, (1, 3, 48, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert trained.scores(net, images, (48, 64)).shape == (1, 3, 48, 64)
        assert trained.scores(net, images, (24, 32)).shape == (1, 3, 24, 32)
        width = 960 if "mobilenet" in network else 2048
        assert trained.PooledFeatures(net)(trained.prepared(images)).shape == (1, width)


def test_stopped_while_it_measures(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All epochs are there; the same command measures."""
    clean = train_segmenter.create_dataloader

    def stopping(opt: object, part: object) -> object:
        if not opt.isTrain:
            os.kill(os.getpid(), signal.SIGTERM)
        return clean(opt, part)

    monkeypatch.setattr(train_segmenter, "create_dataloader", stopping)
    with pytest.raises(Interrupted, match="s.pth stands after epoch 1; the same command goes on from there"):
        run(f"{TRAIN} {VAL} --epochs 1")
    assert not trained.read(Path("s.pth")).is_finished
    monkeypatch.setattr(train_segmenter, "create_dataloader", clean)
    run(f"{TRAIN} {VAL} --epochs 1")
    assert trained.read(Path("s.pth")).is_finished


def test_images_are_prepared_as_torchvision_does() -> None:
    """Black and white, in the units of ImageNet's deviations: -mean / std and (1 - mean) / std."""
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 1, 1)
    black, white = trained.prepared(images)[:, :, 0, 0]
    assert black.tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert white.tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


def test_other_flags_are_another_training(unfinished: None) -> None:
    """Which would not give the bits that are promised: rates, seeds, sizes, and other pairs of the same number."""
    shutil.copytree("train_label", "other_label")
    Path("other_label/0.png").write_bytes(Path("other_label/0.png").read_bytes() + b" ")
    for flags, what in (
        ("--lr 0.1", r"lr 0.002, not 0.1"),
        ("--seed 5", r"seed 0, not 5"),
        ("--load_size 70", r"load_size 64, not 70"),
        ("--label_dir other_label", "photos "),
    ):
        with pytest.raises(UserError, match=rf"a part of another training \({what}"):
            run(f"{TRAIN} {VAL} --epochs 1 {flags}")


def test_where_a_stopped_training_stands(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its first epoch nothing is there yet; with --overwrite the same command would begin anew."""
    clean, steps = trained.prepared, []

    def stop_at(number: int) -> None:
        def prepared(images: torch.Tensor) -> torch.Tensor:
            steps.append(images)
            if len(steps) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            return clean(images)

        steps.clear()
        monkeypatch.setattr(trained, "prepared", prepared)

    stop_at(2)
    with pytest.raises(Interrupted, match="nothing was saved in the first epoch; the same command starts again"):
        run(f"{TRAIN} {VAL} --epochs 2")
    stop_at(7)
    with pytest.raises(Interrupted, match="s.pth stands after epoch 1; the same command without --overwrite goes on"):
        run(f"{TRAIN} {VAL} --epochs 2 --overwrite")


def test_data_sets_with_parts_are_measured_on_their_validation_part(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4)
    write_pairs(tmp_path, 3, split="val")
    argv = (
        f"--out s.pth --dataset_mode coco --dataroot {tmp_path} --label_nc 5 --gpu_ids -1 --load_size 72 --crop_size 64"
    )
    training, measured, which = train_segmenter.parts_of(SegmenterOptions(raises=True).parse(argv.split()))
    assert (len(training), len(measured), which) == (4, 3, "the validation set")
    assert "val_label" in measured.dataset.paths.labels[0] and "train_label" in training.dataset.paths.labels[0]
    assert measured.dataset.preprocess.load_size == 64 and not measured.dataset.preprocess.random


def test_shards_are_measured_on_another_part(tmp_path: Path) -> None:
    """Or some of their pairs are held out."""
    pytest.importorskip("webdataset", reason="pip install -r requirements-webdataset.txt")
    write_pairs(tmp_path, 10)
    write_pairs(tmp_path, 3, split="val")
    for phase in ("train", "val"):
        flags = f"--dataset_mode coco --label_nc 5 --dataroot {tmp_path} --phase {phase} --out {tmp_path / phase}"
        pack_shards.main([*flags.split(), "--no_instance"])
    argv = f"--out s.pth --dataset_mode shards --dataroot {tmp_path / 'train'} --gpu_ids -1".split()
    training, measured, which = train_segmenter.parts_of(SegmenterOptions(raises=True).parse(argv))
    assert (len(training), len(measured)) == (9, 1)
    argv += ["--val_dataroot", str(tmp_path / "val")]
    opt = SegmenterOptions(raises=True).parse(argv)
    training, measured, which = train_segmenter.parts_of(opt)
    assert (len(training), len(measured), which) == (10, 3, "--val_dataroot")
    assert new_segmenter(opt, 10).ids == list(range(182))  # COCO's classes, as packed


@pytest.mark.parametrize(
    "change",
    [
        {"ids": ["a", "b", "c", "d"]},
        {"ids": [0, 0, 1, 2]},
        {"ids": [-5, 0, 1, 2]},
        {"ids": [10**13, 0, 1, 2]},
        {"state": [1, 2]},
        {"photos": {"a": 1}},
        {"photos": {"miou": "x", "pixel_accuracy": 1.0, "images": 1, "which": "w"}},
        {"label_nc": "4"},
        {"names": ["one"]},
        {"network": 3},
    ],
    ids=str,
)
def test_hostile_files(change: dict, tmp_path: Path) -> None:
    net = trained.build(trained.DEFAULT, 4)
    content = dict(network=trained.DEFAULT, label_nc=4, ids=[0, 1, 2, 3], state=net.state_dict(), epochs=1)
    content |= dict(of_epochs=1, trained_on="4 photos", how={}, what=trained.WHAT)
    torch.save(content, tmp_path / "s.pth")
    assert trained.read(tmp_path / "s.pth").ids == [0, 1, 2, 3]
    torch.save({**content, **change}, tmp_path / "s.pth")
    with pytest.raises(UserError, match="s.pth is damaged"):
        trained.read(tmp_path / "s.pth")
    state = {k: v * math.nan if v.is_floating_point() else v for k, v in content["state"].items()}
    torch.save({**content, "state": state}, tmp_path / "s.pth")
    with pytest.raises(UserError, match="s.pth is damaged .*is not finite"):
        trained.read(tmp_path / "s.pth")


def test_its_mean_is_over_classes_in_the_label_maps() -> None:
    """One that is nowhere and was read does not count; custom data's rule."""
    assert new_segmenter(options(""), 1).kind(None).rule == PRESENT


def test_scores_are_resized_bilinearly() -> None:
    """A column of 0 and one of 1, twice as wide: a quarter and three quarters between."""

    class Columns(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"out": torch.tensor([0.0, 1.0]).expand(1, 1, 2, 2)}

    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    assert trained.scores(Columns(), images, (2, 4))[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]


def test_features_are_means() -> None:
    class Trunk(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"low": x[:, :1] * 0, "high": x}

    net = torch.nn.Module()
    net.backbone = Trunk()
    x = torch.arange(8.0).view(1, 2, 2, 2)
    assert trained.PooledFeatures(net)(x).tolist() == [[1.5, 5.5]]


def test_a_held_out_pair_is_not_trained_on(squares: Path) -> None:
    """The two parts have all of the training set, and nothing twice."""
    part, held_out, _ = train_segmenter.parts_of(options(""))
    assert sorted([*part.places, *held_out.places]) == list(range(20)) and list(held_out.places) == [9, 19]
