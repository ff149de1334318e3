"""Numbers that evaluate.py prints, on cases that a reader can check by hand."""

import dataclasses
import json
import math
import os
import re
import sys
import urllib.error
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import evaluate as evaluate_script
import test as test_script
import train as train_script
from data import create_dataset
from datasets import pack_shards as pack_script
from evaluation import measurement, references, segmenters
from evaluation.confusion import ALL, PRESENT, SEEN, UNKNOWN, Confusion
from evaluation.evaluator import Accuracies, Distance, Evaluator, Features, Numbers
from evaluation.flags import RELEASED
from evaluation.frechet import Gaussian, frechet_distance, kernel_distance
from evaluation.metrics import INCEPTION
from evaluation.options import EvaluateOptions
from evaluation.pairs import Pairs, chosen_places, photos_to_uint8
from evaluation.published import TABLE_1
from evaluation.report import (
    NAMED,
    SHOWN,
    Example,
    chosen,
    matrix_picture,
    matrix_table,
    shares_read,
    write_report,
)
from evaluation.resizing import pytorch_fid
from evaluation.segmenters import SEGMENTERS
from evaluation.segmenters.kind import Kind
from evaluation.weights import Weights, load_released
from tests.conftest import TINY, write_pairs
from tests.faults.lives import begin
from tests.pages import Nodes
from util.errors import UserError
from util.html import PAGE_NODES

# ---------------------------------------------------------------------------------------------------------- accuracies


def test_accuracies_by_hand() -> None:
    """Class 0: one of two pixels is right; class 1: its one is right, and another is taken for it. None of class 2."""
    matrix = Confusion(3)
    matrix.add(torch.tensor([0, 0, 1, UNKNOWN]), torch.tensor([0, 1, 1, 2]))
    assert matrix.matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    scores = matrix.scores(PRESENT)
    assert scores.iou[:2] == [1 / 2, 1 / 2] and math.isnan(scores.iou[2])
    assert (scores.miou, matrix.scores(SEEN).miou, matrix.scores(ALL).miou) == pytest.approx((1 / 2, 1 / 2, 1 / 3))
    assert (scores.pixel_accuracy, scores.pixel_accuracy_all) == pytest.approx((2 / 3, 2 / 4))
    assert scores.mean_accuracy == pytest.approx((1 / 2 + 1) / 2)
    assert (scores.pixels, scores.unknown) == (3, 1)


def test_rules_differ_where_an_absent_class_is_read() -> None:
    """Both pixels are of class 0, and one is read as class 1: it counts as 0 among those that were seen."""
    matrix = Confusion(3)
    matrix.add(torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert [matrix.scores(rule).miou for rule in (PRESENT, SEEN, ALL)] == pytest.approx([1 / 2, 1 / 4, 1 / 6])


def test_nothing_labelled_is_no_number() -> None:
    matrix = Confusion(2)
    matrix.add(torch.full((4,), UNKNOWN), torch.zeros(4))
    scores = matrix.scores(PRESENT)
    assert math.isnan(scores.miou) and math.isnan(scores.pixel_accuracy) and scores.pixel_accuracy_all == 0


@pytest.mark.parametrize(
    ("name", "ids", "classes", "names"),
    [
        ("deeplabv2", [0, 181, 182, 255], [0, 181, UNKNOWN, UNKNOWN], {0: "person", 181: "wood"}),
        ("upernet101", [0, 1, 150, 151], [UNKNOWN, 0, 149, UNKNOWN], {0: "wall", 149: "flag"}),
        ("drn_d_105", [0, 7, 9, 33, 34, -1, 255], [UNKNOWN, 0, UNKNOWN, 18, UNKNOWN, UNKNOWN, UNKNOWN], {0: "road"}),
    ],
)
def test_label_ids_as_classes(name: str, ids: list[int], classes: list[int], names: dict[int, str]) -> None:
    kind = SEGMENTERS[name]
    assert kind.class_of(torch.tensor(ids)).tolist() == classes
    assert {i: kind.names[i] for i in names} == names


# ----------------------------------------------------------------------------------------------------------- distances


def test_frechet_distance_of_moved_points() -> None:
    """All points moved by (3, 4): 3^2 + 4^2. All scaled by 2 about the origin, which is their mean: (2 - 1)^2 tr C."""
    points = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # C = diag(2/3, 2/3)
    at = Gaussian.of(points)
    assert frechet_distance(at, Gaussian.of(points + np.array([3, 4]))) == pytest.approx(25)
    assert frechet_distance(at, Gaussian.of(2 * points)) == pytest.approx(4 / 3)
    assert frechet_distance(at, at) == pytest.approx(0, abs=1e-12)


def test_kernel_distance_by_hand() -> None:
    """k(0, 0) = 1, k(1, 1) = (1 + 1)^3 = 8, k(0, 1) = 1: 1 + 8 - 2."""
    assert kernel_distance(np.zeros((2, 1)), np.ones((2, 1))) == 7
    with pytest.raises(ValueError, match="1 and 2 feature vectors"):
        kernel_distance(np.zeros((1, 1)), np.ones((2, 1)))


# ------------------------------------------------------------------------------------------------------------- weights


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


FILE = Weights("small.pth", "https://example.org/small.pth", 3, part="head", ignored=("_extra",))


def test_released_weights_are_loaded_strictly(tmp_path: Path) -> None:
    """Names that the kind of file may have or lack are no matter; all others, and shapes, are."""
    state, path = Small().head.state_dict(), tmp_path / "given.pth"

    def load(changes: dict[str, Tensor | None]) -> Small:
        torch.save({k: v for k, v in {**state, **changes}.items() if v is not None}, path)
        net = Small()
        load_released(net, [FILE], [str(path)], "--weights")
        return net

    for harmless in ({}, {"1.num_batches_tracked": None}, {"1.x_extra": torch.zeros(1)}):
        assert torch.equal(load(harmless).head[0].weight, state["0.weight"])
    for changes, message in (
        ({"0.bias": None}, "0.bias: not in the file"),
        ({"2.bias": torch.zeros(1)}, "2.bias: only in the file"),
        ({"0.bias": torch.zeros(3)}, r"0.bias: \(3,\) in the file, \(2,\) in the network"),
    ):
        with pytest.raises(
            UserError, match=rf"given.pth is not small.pth from https://example.org/small.pth: {message}"
        ):
            load(changes)
    torch.save([1], path)
    with pytest.raises(UserError, match="given.pth holds no state dict; it should be small.pth"):
        load_released(Small(), [FILE], [str(path)], "--weights")
    with pytest.raises(UserError, match="--weights nofile: there is no such file; it should be small.pth from https"):
        load_released(Small(), [FILE], ["nofile"], "--weights")
    with pytest.raises(UserError, match="--weights names 2 file.*, and 1 are needed: small.pth"):
        load_released(Small(), [FILE], ["a", "b"], "--weights")


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    message = (
        r"small.pth \(about 3 MB\) is not in \S+checkpoints, and it cannot be downloaded \(<urlopen error no network>"
    )
    with pytest.raises(
        UserError, match=message + r"\). Get it from https://example.org/small.pth .* pass --weights FILE"
    ):
        load_released(Small(), [FILE], [], "--weights")
    by_hand = Weights("small.pth", "https://example.org/models", 3)
    with pytest.raises(UserError, match="it has to be fetched by hand. Get it from https://example.org/models and put"):
        load_released(Small(), [by_hand], [], "--weights")
    torch.save(Small().head.state_dict(), tmp_path / "checkpoints" / "small.pth")
    load_released(Small(), [FILE], [], "--weights")


# ------------------------------------------------------------------------------------------------------- whole command


class Reader(nn.Module):
    """Stands for a segmenter, and for Inception: what it reads is plain to see."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def class_in_red(net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    """A pixel's class is a twentieth of its red, as scores [N, 5, h, w]."""
    classes = (images[:, 0].long() // 20).clamp(0, 4)
    scores = nn.functional.one_hot(classes, 5).permute(0, 3, 1, 2).float()
    return nn.functional.interpolate(scores, size)


KIND = Kind("a reader of red", Reader, class_in_red, "coco", range(5), PRESENT, ())


def with_readers(argv: list[str] | None = None) -> None:
    """evaluate.py with them; for processes of their own."""
    segmenters.SEGMENTERS["deeplabv2"] = KIND
    measurement.inception.FIDInception, measurement.inception.FILES = Reader, ()
    evaluate_script.main(argv)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(segmenters.SEGMENTERS, "deeplabv2", KIND)
    monkeypatch.setattr(measurement.inception, "FIDInception", Reader)
    monkeypatch.setattr(measurement.inception, "FILES", ())


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Seven layouts of 64 x 64 pixels, and flags; their images show the layout's classes in the upper half and class 0
    in the lower."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "data", 7, size=(64, 64), split="val")
    (tmp_path / "made").mkdir()
    for path in sorted((tmp_path / "data" / "val_label").iterdir()):
        label = np.array(Image.open(path))
        label[32:] = 0
        pixels = np.stack([label * 20 + 5, label * 0, label * 0], 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "made" / path.name)
    flags = "--dataset_mode coco --dataroot data --label_nc 5 --crop_size 64 --gpu_ids -1 --nThreads 0 --no_instance"
    return [*flags.split(), "--synthesized", "made"]


def metrics() -> dict:
    return json.loads(Path("results/label2coco/evaluation_test_latest/metrics.json").read_text())


def labels_of(folder: Path) -> np.ndarray:
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.iterdir())])


def test_the_whole_command(readers: None, drawn: list[str], capsys: pytest.CaptureFixture) -> None:
    """Against a plain count over all pixels."""
    evaluate_script.main(drawn)
    numbers, labels = metrics(), labels_of(Path("data/val_label"))
    seen = labels.copy()
    seen[:, 32:] = 0
    assert numbers["accuracies"]["pixel_accuracy"] == pytest.approx((labels == seen).mean())
    ious = [((labels == k) & (seen == k)).sum() / ((labels == k) | (seen == k)).sum() for k in range(5)]
    assert numbers["accuracies"]["iou"] == pytest.approx(ious)
    assert numbers["accuracies"]["miou"] == pytest.approx(np.mean(ious))
    assert numbers["images"] == 7 and numbers["accuracies_of_photos"] is None
    colours = [
        np.stack([2 / 255 * np.array(Image.open(p)).mean((0, 1)) - 1 for p in sorted(Path(d).iterdir())])
        for d in ("made", "data/val_img")
    ]
    # Resized to 299 x 299 a mean colour moves a little.
    assert numbers["fid"] == pytest.approx(frechet_distance(*map(Gaussian.of, colours)), rel=0.05)
    said = capsys.readouterr().out
    assert f"mIoU {100 * np.mean(ious):.2f}, the mean over classes that occur in the label maps" in said
    assert (
        "protocol spade-v1" in said and "with fewer than 2048 images Frechet distances (FID) are far too large" in said
    )


def test_photos_are_read_too(readers: None, drawn: list[str], capsys: pytest.CaptureFixture) -> None:
    evaluate_script.main([*drawn, "--real", "--no_fid"])
    assert metrics()["accuracies_of_photos"]["pixels"] == 7 * 64 * 64 and metrics()["fid"] is None
    assert "their photos, read by a reader of red (5 classes):" in capsys.readouterr().out


def test_some_of_the_layouts(readers: None, drawn: list[str]) -> None:
    """The first three; images of the others need not be there."""
    for name in sorted(path.name for path in Path("made").iterdir())[3:]:
        Path("made", name).unlink()
    with pytest.raises(
        UserError, match=r"4 of 7 layouts have no image in --synthesized made \(picture3, picture4, .* 1 m"
    ):
        evaluate_script.main(drawn)
    evaluate_script.main([*drawn, "--how_many", "3", "--no_fid"])
    assert metrics()["images"] == 3 and metrics()["accuracies"]["pixels"] == 3 * 64 * 64


def test_a_subset_is_spread_evenly(drawn: list[str]) -> None:
    """Three of seven: places 0, 2 and 4; or those that a file names, in the data set's order."""
    Path("names.txt").write_text("picture5.png\n\npicture1\n")
    for subset, places in (("3", [0, 2, 4]), ("99", list(range(7))), ("names.txt", [1, 5])):
        opt = EvaluateOptions().parse([*drawn, "--subset", subset])
        assert list(chosen_places(opt, create_dataset(opt))) == places
    Path("names.txt").write_text("picture1\npicture99\n")
    for subset, message in (
        ("names.txt", r"--subset names.txt names 1 layouts that are not there \(picture99\); .*, such as picture0"),
        ("none.txt", "--subset none.txt is neither a number nor a text file with layouts' names"),
    ):
        opt = EvaluateOptions().parse([*drawn, "--subset", subset])
        with pytest.raises(UserError, match=message):
            chosen_places(opt, create_dataset(opt))


def test_a_subset_has_its_own_images_and_photos(readers: None, drawn: list[str]) -> None:
    """Places 0 and 3 of seven, by hand: the class is a twentieth of the image's red."""
    evaluate_script.main([*drawn, "--subset", "2", "--real"])
    labels, made = labels_of(Path("data/val_label"))[[0, 3]], labels_of(Path("made"))[[0, 3], ..., 0]
    assert metrics()["accuracies"]["pixel_accuracy"] == pytest.approx((made // 20 == labels).mean())
    assert metrics()["images"] == metrics()["references"] == 2
    photos = np.stack([np.array(Image.open(f"data/val_img/picture{i}.jpg"))[..., 0] for i in (0, 3)])
    seen = np.minimum(photos // 20, 4)
    # Photos are resized to the crop's 64 x 64 from as much, which changes nothing.
    assert metrics()["accuracies_of_photos"]["pixel_accuracy"] == pytest.approx((seen == labels).mean(), abs=0.01)


def test_layouts_of_others_are_the_least(readers: None, drawn: list[str], capsys: pytest.CaptureFixture) -> None:
    """Each image against the layout three places on, which is half of seven."""
    evaluate_script.main([*drawn, "--no_fid", "--shuffled"])
    labels, seen = labels_of(Path("data/val_label")), labels_of(Path("made"))[..., 0] // 20
    others = np.roll(labels, -3, axis=0)
    assert metrics()["accuracies_of_others"]["pixel_accuracy"] == pytest.approx((others == seen).mean())
    assert "the images against layouts of others, read by a reader of red" in capsys.readouterr().out


@pytest.mark.parametrize(("protocol", "side"), [("spade-v1", 32), ("label-size-v1", 64)])
def test_images_of_another_size(readers: None, drawn: list[str], protocol: str, side: int) -> None:
    """Halved: label maps follow by nearest neighbour, or the scores are brought to the label maps' size."""
    for path in Path("made").iterdir():
        Image.open(path).resize((32, 32), Image.Resampling.NEAREST).save(path)
    evaluate_script.main([*drawn, "--no_fid", "--protocol", protocol])
    labels = labels_of(Path("data/val_label"))
    seen = labels_of(Path("made"))[..., 0] // 20
    if side == 32:
        labels = labels[:, 1::2, 1::2]  # the pixel that Pillow's nearest neighbour takes
    else:
        seen = seen.repeat(2, 1).repeat(2, 2)
    assert metrics()["accuracies"]["pixels"] == 7 * side**2
    assert metrics()["accuracies"]["pixel_accuracy"] == pytest.approx((labels == seen).mean())


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_processes_share_the_images(drawn: list[str], tmp_path: Path) -> None:
    """Two and three give the numbers of one, to the last digit of the accuracies."""
    script, made = ModuleType("evaluate"), []
    script.main = with_readers
    for count in (1, 2, 3):
        life = begin([*drawn, "--batchSize", "2", "--real"], count, tmp_path / "said.txt", script)
        assert life.wait(60) == [0] * count, (tmp_path / "said.txt").read_text()
        made.append({k: v for k, v in metrics().items() if k != "provenance"})
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no_fid", "--no_miou"], "--no_miou --no_fid leave nothing to measure"),
        (["--dataset_mode", "custom", "--label_dir", "x"], "--dataset_mode custom has no released segmenter"),
        (["--synthesized", "nowhere"], "--synthesized nowhere is not a folder"),
        (["--subset", "3", "--how_many", "3"], "--how_many takes the first layouts, --subset chooses others"),
        (["--subset", "0"], "--subset 0 measures nothing"),
        (["--no_miou", "--real"], "--no_miou leaves out what --real and --shuffled are about"),
        (["--at_least", "0.5"], "--at_least is a share of what photos reach: give --real too"),
        (["--segmenter", "deeplab"], "--segmenter deeplab is neither a file nor one of deeplabv2, upernet101"),
    ],
)
def test_flags_that_cannot_be(flags: list[str], message: str, drawn: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        evaluate_script.main([*drawn, *flags])
    assert message in capsys.readouterr().err


def test_a_command_that_is_none() -> None:
    with pytest.raises(UserError, match="evaluate.py has no command train_segmenter; it has train-segmenter, compare,"):
        evaluate_script.main(["train_segmenter", "--out", "x"])


def test_no_photos(readers: None, drawn: list[str]) -> None:
    flags = [*drawn, "--label_dir", "data/val_label"]
    with pytest.raises(
        UserError, match=r"--reference val has 0 photo\(s\), and FID takes two at least \(--image_dir, or"
    ):
        evaluate_script.main(flags)
    with pytest.raises(UserError, match=r"--real: the layouts have no photos \(--image_dir\)"):
        evaluate_script.main([*flags, "--no_fid", "--real"])
    evaluate_script.main([*flags, "--no_fid"])
    assert metrics()["images"] == 7


def test_items_have_truth_beside_the_image(drawn: list[str]) -> None:
    dataset = create_dataset(EvaluateOptions().parse(drawn))
    item = Pairs(dataset, "made", range(7), at_label=False)[2]
    assert item["synthesized"].dtype == torch.uint8 and item["synthesized"].shape == (3, 64, 64)
    assert torch.equal(item["truth"], item["label"][0].long())
    assert torch.equal(dataset.label_at(2), item["truth"])


def test_an_evaluator_takes_batches_in_any_order() -> None:
    """As processes have them: features are in the order of places at the end."""
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    of_photos = Features(Reader(), pytorch_fid, "pytorch-fid")
    of_photos.add([0, 1, 2, 3], images.flip(0))  # the same pictures in another order
    numbers = []
    for batches in ([[0, 1], [2, 3]], [[3], [1, 0], [2]]):
        evaluator = Evaluator(None, [Distance(of_photos.fresh(), of_photos.finish(), INCEPTION)])
        for places in batches:
            evaluator.add(places, images[places], images[places, 0].long())
        numbers.append(evaluator.finish())
    assert numbers[0] == numbers[1] and numbers[0].images == 4
    assert numbers[0].fid == pytest.approx(0, abs=1e-6)


def test_the_accuracy_of_an_image_is_of_its_labelled_pixels() -> None:
    """Of four pixels two are labelled, and one of them is read right; of another image none."""
    accuracies = Accuracies(KIND, Confusion(5))
    truth = torch.tensor([[[0, 1], [255, 255]], [[255, 255], [255, 255]]])
    accuracies.add([7, 3], torch.zeros_like(truth), truth)
    assert accuracies.by_place[7] == 0.5 and math.isnan(accuracies.by_place[3])


def test_features_depend_on_photos_preprocessing_and_weights(drawn: list[str]) -> None:
    opt = EvaluateOptions().parse(drawn)
    photos = references.reference_photos(opt, create_dataset(opt), range(7))
    like, seen = Features(Reader(), pytorch_fid, "pytorch-fid"), set()
    seen.add(references._fingerprint(photos, like))
    seen.add(references._fingerprint(references.reference_photos(opt, create_dataset(opt), range(6)), like))
    photos.preprocess = dataclasses.replace(photos.preprocess, crop=(32, 32))
    seen.add(references._fingerprint(photos, like))
    like.net.weight.data += 1
    seen.add(references._fingerprint(photos, like))
    seen.add(references._fingerprint(photos, dataclasses.replace(like, resizing="clean-fid")))
    assert len(seen) == 5


def test_photos_are_resized_as_the_loader_does(drawn: list[str]) -> None:
    opt = EvaluateOptions().parse([*drawn, "--crop_size", "32"])
    dataset = create_dataset(opt)
    photos = references.reference_photos(opt, dataset, range(7))
    for place in (0, 6):
        assert torch.equal(photos[(place, None)], photos_to_uint8(dataset[place]["image"][None])[0])


def test_a_checkpoint_gives_the_numbers_of_its_images(readers: None, drawn: list[str]) -> None:
    """With a style encoder and no photos each layout has a random style of its own, whatever the batches."""
    write_pairs(Path("data"), 2, size=(64, 64))
    data = drawn[: drawn.index("--synthesized")]
    train_script.main([*data, *TINY, "--use_vae", "--max_dataset_size", "1"])
    weights = Path("checkpoints/label2coco/latest_net_G.pth")
    state = torch.load(weights, weights_only=True)
    torch.save({k: v * (300 if k.startswith("conv_img") else 1) for k, v in state.items()}, weights)
    layouts = [*data, "--label_dir", "data/val_label"]
    test_script.main([*layouts, "--batchSize", "3"])
    made = "results/label2coco/test_latest/images/synthesized_image"
    numbers = []
    for flags in (["--synthesized", made], ["--batchSize", "2"]):
        evaluate_script.main([*layouts, *flags, "--no_fid"])
        numbers.append(metrics()["accuracies"])
    assert numbers[0] == numbers[1]
    assert sum(iou is not None and iou > 0 for iou in numbers[0]["iou"]) > 1  # or styles would make no difference


def test_processes_together_know_the_accuracy_of_each_image(drawn: list[str], tmp_path: Path) -> None:
    """The page of two has the best and the worst of one."""
    script, pages = ModuleType("evaluate"), []
    script.main = with_readers
    for count in (1, 2):
        life = begin([*drawn, "--no_fid"], count, tmp_path / "said.txt", script)
        assert life.wait(60) == [0] * count, (tmp_path / "said.txt").read_text()
        page = Path("results/label2coco/evaluation_test_latest/index.html").read_text()
        pages.append(re.findall(r"(?:worst|best): \w+, [\d.]+ %", page))
    assert pages[0] == pages[1] and len(set(pages[0])) == 7


def test_features_of_photos_are_kept(readers: None, drawn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And computed anew where a photo, the resizing or the weights have changed, or the file is damaged."""
    computed, compute = [], references._computed
    monkeypatch.setattr(references, "_computed", lambda *args: computed.append(args) or compute(*args))

    def count(*flags: str) -> int:
        evaluate_script.main([*drawn, "--no_miou", *flags])
        return len(computed)

    assert [count(), count()] == [1, 1]
    first = metrics()["fid"]
    assert count("--resizing", "clean-fid") == 2
    (kept, _) = sorted(Path("results/features").iterdir(), key=os.path.getmtime)
    assert np.load(kept).shape == (7, 3)
    os.utime("data/val_img/picture0.jpg", ns=(1, 1))
    assert count() == 3 and metrics()["fid"] == first
    newest = max(Path("results/features").iterdir(), key=os.path.getmtime)
    newest.write_bytes(newest.read_bytes()[:50])
    assert [count(), count()] == [4, 4] and metrics()["fid"] == first


def test_other_references(readers: None, drawn: list[str], capsys: pytest.CaptureFixture) -> None:
    """The images themselves: no distance. Training photos, and a folder that is none."""
    evaluate_script.main([*drawn, "--no_miou", "--reference", "made"])
    assert metrics()["fid"] == pytest.approx(0, abs=1e-6) and metrics()["references"] == 7
    write_pairs(Path("data"), 3, size=(64, 64))
    evaluate_script.main([*drawn, "--no_miou", "--protocol", "train-photos-v1"])
    assert (metrics()["reference"], metrics()["images"], metrics()["references"]) == ("train", 7, 3)
    assert "7 images against 3 photos of the training set, resized as pytorch-fid does" in capsys.readouterr().out
    with pytest.raises(UserError, match="--reference nowhere is no folder of photos, nor val "):
        evaluate_script.main([*drawn, "--reference", "nowhere"])


def test_training_photos_of_custom_data_have_to_be_named(readers: None, drawn: list[str]) -> None:
    """Its flags name one part: that would be compared with itself."""
    flags = "--dataset_mode custom --label_dir data/val_label --image_dir data/val_img --no_miou".split()
    with pytest.raises(UserError, match="--reference train: --dataset_mode custom has no folders by which training"):
        evaluate_script.main([*drawn, *flags, "--reference", "train"])
    write_pairs(Path("data"), 3, size=(64, 64))
    more = ["--label_dir", "data/val_label", "--image_dir", "data/val_img"]
    evaluate_script.main([*drawn, *more, "--no_miou", "--reference", "train"])  # COCO's are found beside
    assert metrics()["references"] == 3


def test_shards_give_the_numbers_of_loose_files(readers: None, drawn: list[str]) -> None:
    """Segmenter, photos and what is kept of them: by the rules of the data set that was packed."""
    pytest.importorskip("webdataset", reason="pip install -r requirements-webdataset.txt")
    evaluate_script.main([*drawn, "--real"])
    loose = metrics()
    own = ["--dataset_mode", "coco", "--label_nc", "5", "--no_instance"]
    pack_script.main([*own, "--dataroot", "data", "--phase", "val", "--serial_batches", "--out", "packed"])
    flags = "--dataset_mode shards --dataroot packed --crop_size 64 --gpu_ids -1 --nThreads 0 --no_instance --real"
    evaluate_script.main([*flags.split(), "--synthesized", "made"])
    assert metrics() == loose and loose["references"] == 7
    assert len(list(Path("results/features").iterdir())) == 2  # other versions of the photos


# ----------------------------------------------------------------------------------------------------------- the report


def test_the_worst_and_the_best_are_shown() -> None:
    """Four of each, the worst first; all where there are no more; none that has no labelled pixel."""
    assert chosen({0: 0.5, 1: 0.1, 2: math.nan, 3: 0.9}) == [1, 0, 3]
    assert chosen({place: place / 10 for place in range(10)}) == [0, 1, 2, 3, 6, 7, 8, 9]


def test_shares_of_the_confusion_matrix() -> None:
    """Class 1 occurs nowhere, class 2 was read alone."""
    shares, present = shares_read(np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]]))
    assert present == [0, 2] and shares.tolist() == [[0.75, 0.25], [0, 0]]
    pixels = matrix_picture(shares)
    assert pixels.shape == (8, 8, 3) and pixels[7, 7].tolist() == [255, 255, 255]
    assert pixels[0, 0].sum() < pixels[0, 7].sum() < 3 * 255  # the darker the more


def cells_in(table: str) -> list[list[str]]:
    """The tags of the cells, row by row, without that of numbers."""
    return [re.findall("<td[^>]*>[^<]*", row) for row in table.split("<tr>")[2:]]


def test_the_confusion_matrix_has_names() -> None:
    """Rows have the numbers of columns before their names; class 3 is in no layout. Colours are the picture's."""
    names = ["sky;air", "<b>", '"road"']
    shares = np.array([[0.75, 0.246, 0.004], [0.5, 0.5, 0], [0, 0, 0]])
    table = matrix_table(shares, names)
    assert re.findall('<th title="([^"]*)">([^<]*)</th>', table) == [
        *(("sky;air", "1"), ("&lt;b&gt;", "2"), ("&quot;road&quot;", "3")),
        *(("sky;air", "1 sky"), ("&lt;b&gt;", "2 &lt;b&gt;"), ("&quot;road&quot;", "3 &quot;road&quot;")),
    ]
    sky, other, road = cells_in(table)
    assert [cell.split(">")[1] for cell in sky] == ["75", "25", ""]
    titles = [re.search('title="([^"]*)"', cell)[1] for cell in sky]
    assert titles == ["sky read as sky: 75.0 %", "sky read as &lt;b&gt;: 24.6 %", "sky read as &quot;road&quot;: 0.4 %"]
    assert [cell.split(">")[1] for cell in other] == ["50", "50", ""]
    (alone,) = road
    assert 'colspan="3"' in alone and alone.endswith("in no layout")
    red, green, blue = matrix_picture(shares)[0, 4]
    assert f"background:rgb({red},{green},{blue})" in sky[1]


@pytest.mark.parametrize("classes", [2, 20, 21, NAMED, NAMED + 1])
def test_pages_of_any_number_of_classes_are_small(classes: int, tmp_path: Path) -> None:
    """What was read is spread as evenly as it may be, and every other share is smaller; with photos, and 8 examples."""
    table = {"classes": [{"id": i, "name": f"<i>class {i}"} for i in range(classes)]}
    (tmp_path / "table.json").write_text(json.dumps(table))
    kind = replace(KIND, class_table=str(tmp_path / "table.json"), ids=range(classes))
    confusion = Confusion(classes)
    confusion._counts[:-1] = torch.tensor([100, 3]).repeat(classes**2)[: classes**2]
    scores = confusion.scores(PRESENT)
    matrix = confusion.matrix.numpy()
    distances = dict(fid=1.0, kid=1.0, segmenter_frechet=1.0, segmenter_kernel=1.0)
    numbers = Numbers(10, scores, scores, scores, **distances, references=10, matrix=matrix)
    pictures = {name: np.zeros((4, 4, 3), np.uint8) for name in ("layout", "synthesised", "read", "real")}
    examples = [Example(str(i), 0.5, pictures) for i in range(2 * SHOWN)]
    page = write_report(tmp_path, "t", ["a", "b", "c"], numbers, kind, "coco", examples, 400)
    assert Nodes(page).count <= PAGE_NODES or classes > NAMED  # whose bars alone are many
    assert (tmp_path / "images" / "confusion").exists() == (classes > NAMED)
    text = page.read_text()
    assert "<i>class" not in text
    if classes > NAMED:
        assert f"{classes} classes" in text and "(&lt;i&gt;class 0, &lt;i&gt;class 1" in text
        return
    cells = cells_in(text.split('class="confusion"')[1].split("</table>")[0])
    assert len(cells) == classes
    spans = [[int((re.findall('colspan="(\\d+)"', cell) or [1])[0]) for cell in row] for row in cells]
    assert all(sum(row) == classes for row in spans)  # no column is lost
    assert (set(map(len, spans)) == {classes}) == (classes <= 30)


def test_nothing_labelled_has_no_confusion_matrix(tmp_path: Path) -> None:
    confusion = Confusion(5)
    numbers = Numbers(1, confusion.scores(PRESENT), matrix=confusion.matrix.numpy())
    page = write_report(tmp_path, "t", [], numbers, KIND, "coco", [], 400).read_text()
    assert "were read as" not in page and not (tmp_path / "images").exists()


def test_the_page(readers: None, drawn: list[str]) -> None:
    """Its numbers are those of metrics.json, its pictures are there, and figures nobody has found are dashes."""
    evaluate_script.main([*drawn, "--real"])
    folder = Path("results/label2coco/evaluation_test_latest")
    page, numbers = (folder / "index.html").read_text(), metrics()
    for scores in (numbers["accuracies"], numbers["accuracies_of_photos"]):
        assert f"<td>{100 * scores['miou']:.2f}</td><td>{100 * scores['pixel_accuracy']:.2f}</td>" in page
    assert f"<td>{numbers['fid']:.2f}</td>" in page
    assert "SPADE, published</td><td>37.4</td><td>67.9</td><td>-</td><td>-</td><td>22.6</td>" in page
    links = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    assert len([link for link in links if link.startswith("images/synthesised/")]) == 7
    assert all((folder / link).is_file() for link in links)
    assert page.index("worst: ") < page.index("best: ")
    names = re.findall(r"(?:worst|best): (\w+), ([\d.]+) %", page)
    assert [float(share) for _, share in names] == sorted(float(share) for _, share in names)
    (label,) = [p for p in Path("data/val_label").iterdir() if p.stem == names[0][0]]
    known = np.array(Image.open(label))
    shown = np.where(np.arange(64)[:, None] < 32, known, 0)
    assert 100 * (known == shown).mean() == pytest.approx(float(names[0][1]), abs=0.05)


def test_names_of_released_segmenters() -> None:
    """Flags know them without importing them."""
    assert {kind.class_table: name for name, kind in SEGMENTERS.items()} == RELEASED


def test_published_figures_that_were_not_found_are_none() -> None:
    assert {row.method: row.miou for row in TABLE_1["ade20k"]} == {"CRN": 22.4, "pix2pixHD": None, "SPADE": 38.5}
