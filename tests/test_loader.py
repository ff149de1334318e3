"""Items are those of plain Pillow and torch, whatever the data set does to be faster; types of ids; processes."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from benchmarks import loader as benchmark
from benchmarks.loader import check_equal, plain_item
from data import collate, create_dataloader, create_dataset
from data.base_dataset import CROPPING_MODES, MODES, Plan, image_tensor, read_id_array, read_image
from data.pix2pix_dataset import Pix2pixDataset
from models.networks.semantics import encode_label_map
from options.train_options import TrainOptions
from tests import deterministic
from util.class_table import ClassTable
from util.errors import UserError

SMALL = "--gpu_ids -1 --nThreads 0 --batchSize 1".split()


def train(*argv: object) -> Namespace:
    return TrainOptions().parse([*SMALL, *map(str, argv)])


def photo(name: str, width: int, height: int) -> Image.Image:
    pixels = deterministic.image(name, 1, height, width)[0].add(1).mul(127.5).round().byte().permute(1, 2, 0)
    noise = np.random.default_rng(width * height).integers(0, 60, (height, width, 3))
    return Image.fromarray((pixels.numpy() // 2 + noise).astype(np.uint8))


def save_ids(path: Path, ids: np.ndarray, kind: str) -> None:
    """As PNG (TIFF: 32 bits) of 1, 8, 16 or 32 bits, or with a palette; grey of fewer bits loses what does not fit."""
    if kind == "palette":
        picture = Image.fromarray(ids.astype(np.uint8))
        picture.putpalette([value * 7 % 256 for value in range(768)])
    else:
        picture = Image.fromarray(ids.astype({"1": bool, "8": np.uint8, "16": np.uint16, "32": np.int32}[kind]))
    picture.save(path)


def custom(root: Path, sizes: list[tuple[int, int]], label: str = "8", instance: str = "16", classes: int = 9) -> list:
    """Flags for pairs of these sizes that it writes, with ids of `label` and `instance` bits (`save_ids`)."""
    for kind in ("label", "img", "inst"):
        (root / kind).mkdir(parents=True)
    for i, (width, height) in enumerate(sizes):
        ids = deterministic.label_map(f"l{i}", 1, classes, height, width)[0, 0].numpy()
        instances = deterministic.label_map(f"i{i}", 1, {"8": 256}.get(instance, 40000), height, width)[0, 0].numpy()
        suffix = {"32": "tif"}
        save_ids(root / "label" / f"{i}.{suffix.get(label, 'png')}", ids, label)
        save_ids(root / "inst" / f"{i}.{suffix.get(instance, 'png')}", instances, instance)
        photo(f"p{i}", width, height).save(root / "img" / (f"{i}.jpg" if i % 2 else f"{i}.png"))
    folders = ["--label_dir", root / "label", "--image_dir", root / "img", "--instance_dir", root / "inst"]
    return ["--dataset_mode", "custom", "--label_nc", classes, *folders]


def check_items(dataset: Pix2pixDataset, draws: int) -> None:
    for index in range(len(dataset)):
        for place in range(draws):
            key = (index, (1, place))
            check_equal(dataset[key], plain_item(dataset, key))


# --------------------------------------------------------------------------------------------------- equal to the plain


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("crop", [(32, 32), (64, 96), (200, 160)])  # the last is larger than what it is taken from
def test_items_are_those_of_plain_pillow(tmp_path: Path, mode: str, crop: tuple[int, int]) -> None:
    """Odd sizes, larger and smaller than the result; crops and flips as training draws them."""
    argv = custom(tmp_path, [(97, 61), (40, 73), (33, 33), (251, 130)])
    size = ["--load_size", 75, "--crop_size", crop[0], "--aspect_ratio", "1.3"]
    size += ["--crop_height", crop[1]] if mode in CROPPING_MODES else []
    check_items(create_dataset(train(*argv, "--preprocess_mode", mode, *size)), draws=6)


@pytest.mark.parametrize("label", ["1", "8", "16", "32", "palette"])
@pytest.mark.parametrize("instance", ["8", "16", "32", "palette"])
def test_ids_of_every_kind_of_file(tmp_path: Path, label: str, instance: str) -> None:
    argv = custom(tmp_path, [(80, 60), (61, 95)], label, instance, classes=2 if label == "1" else 200)
    check_items(create_dataset(train(*argv, "--load_size", 50, "--crop_size", 41)), draws=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.dtype(">u2"), np.int32])
def test_ids_are_taken_from_where_pillow_takes_them(dtype: type) -> None:
    """Any size to any other: all ids of a picture differ, so that each tells its place."""
    rng = np.random.default_rng(0)
    for _ in range(150):
        width, height, to_width, to_height = (int(v) for v in rng.integers(1, 700, 4))
        crop = tuple(int(v) for v in (*rng.integers(0, 30, 2), *rng.integers(1, 300, 2)))
        plan = Plan((to_width, to_height), crop if rng.random() < 0.7 else None, flip=bool(rng.integers(2)))
        ids = (np.arange(width * height) % np.iinfo(dtype).max).reshape(height, width)
        expected = plan.apply(Image.fromarray(ids.astype(np.int32)), Image.Resampling.NEAREST)
        planned = plan.apply_to_ids(ids.astype(dtype))
        assert planned.dtype == dtype
        assert planned.flags["C_CONTIGUOUS"]
        assert (planned == np.asarray(expected)).all()


def test_every_byte_of_a_photo_becomes_the_same_float() -> None:
    """All 256 values, in pictures whose sizes leave rests to vectorised loops."""
    for width, height in ((256, 1), (1, 256), (1, 1), (37, 7)):
        pixels = (np.arange(width * height * 3) * 5 % 256).astype(np.uint8).reshape(height, width, 3)
        plain = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(127.5).sub_(1)
        tensor = image_tensor(Image.fromarray(pixels))
        assert torch.equal(tensor, plain)
        assert tensor.is_contiguous()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "ppm", "tif", "webp"])
def test_photos_outlive_their_files(tmp_path: Path, suffix: str) -> None:
    """RGB files are not copied, others are converted; both stay when the file is closed and gone."""
    for mode in ("RGB", "L"):
        path = tmp_path / f"{mode}.{suffix}"
        photo("p", 70, 50).convert(mode).save(path)
        with Image.open(path) as opened:
            expected = opened.convert("RGB")
        picture = read_image(str(path))
        path.unlink()
        assert picture.mode == "RGB"
        plan = Plan((33, 20), (1, 2, 30, 10), flip=True)
        assert plan.apply(picture, Image.Resampling.BICUBIC) == plan.apply(expected, Image.Resampling.BICUBIC)


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["coco_stuff_sample", "cityscapes_sample"])
def test_items_of_real_photos(folder: str, real_data: Path) -> None:
    flags = ["--dataset_mode", folder.split("_")[0], "--dataroot", real_data / folder]
    check_items(create_dataset(train(*flags, "--max_dataset_size", 4)), draws=3)


def test_the_benchmark_runs_and_notices_a_difference(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(benchmark, "LOADED", 4)
    flags = ["--dataset_mode", "coco", "--dataroot", str(pairs)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--rounds", "1", *flags])
    benchmark.main()
    assert "equal bytes" in capsys.readouterr().out
    monkeypatch.setattr("data.pix2pix_dataset.image_tensor", lambda picture: image_tensor(picture).mul_(1 - 1e-7))
    with pytest.raises(AssertionError, match=r"picture0.jpg: image differs"):
        benchmark.main()


# ---------------------------------------------------------------------------------------------------------- small types


@pytest.mark.parametrize(
    ("classes", "unknown", "dtype"),
    [
        (255, ["--contain_dontcare_label"], torch.uint8),  # 255 is unknown
        (256, [], torch.uint8),
        (256, ["--contain_dontcare_label", "--unknown_id", "60000"], torch.int16),
        (32768, [], torch.int16),
        (32768, ["--contain_dontcare_label", "--unknown_id", "60000"], torch.int32),
    ],
)
def test_labels_are_as_small_as_the_classes_let_them(
    tmp_path: Path, classes: int, unknown: list[str], dtype: torch.dtype
) -> None:
    """By the options and not by the file, so that all items of a data set have one type."""
    argv = custom(tmp_path, [(64, 64)] * 2, label="16", classes=100)
    own = np.full((64, 64), classes - 1, np.uint16)
    own[0] = 60000 if "--unknown_id" in unknown else 255 if unknown else 0
    Image.fromarray(own).save(tmp_path / "label" / "0.png")
    keep = ["--preprocess_mode", "none", "--no_flip", *unknown]
    dataset = create_dataset(train(*argv, "--label_nc", classes, *keep))
    assert [item["label"].dtype for item in (dataset[0], dataset[1])] == [dtype, dtype]
    assert dataset[0]["label"].unique().tolist() == sorted({classes - 1, classes if unknown else 0})
    check_items(dataset, draws=2)


def test_instance_maps_of_8_and_16_bits_share_a_batch(tmp_path: Path) -> None:
    argv = custom(tmp_path, [(64, 64)] * 2, instance="16")
    save_ids(tmp_path / "inst" / "0.png", np.arange(64 * 64).reshape(64, 64) % 256, "8")
    opt = train(*argv, "--preprocess_mode", "none", "--no_flip", "--batchSize", 2, "--serial_batches")
    dataset = create_dataset(opt)
    assert [dataset[i]["instance"].dtype for i in range(2)] == [torch.uint8, torch.int32]
    (batch,) = create_dataloader(opt, dataset)
    assert batch["instance"].dtype == torch.int32
    assert torch.equal(batch["instance"][0], dataset[0]["instance"].int())
    assert collate([dataset[0], dataset[0]], opt)["instance"].dtype == torch.uint8


def test_whatever_reads_ids_takes_small_ones(tmp_path: Path) -> None:
    """Semantics, colours and legends are those of long ids."""
    argv = custom(tmp_path, [(64, 64)], instance="8", classes=200)
    opt = train(*argv, "--preprocess_mode", "none")
    (batch,) = create_dataloader(opt)
    label, instance = batch["label"], batch["instance"]
    assert (label.dtype, instance.dtype) == (torch.uint8, torch.uint8)
    semantics = encode_label_map(label, instance, 200).dense(torch.float32)
    assert torch.equal(semantics, encode_label_map(label.long(), instance.long(), 200).dense(torch.float32))
    table = ClassTable.load("coco")
    assert (table.colorize(label.numpy()) == table.colorize(label.long().numpy())).all()
    assert table.present(label.numpy()) == table.present(label.long().numpy())


@pytest.mark.parametrize("kind", ["8", "16", "32", "palette"])
def test_wrong_ids_are_found_in_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    """One pixel in the last corner, which nearest neighbour leaves out; the unknown id beside it is none of them."""
    argv = custom(tmp_path, [(90, 90)], label=kind, classes=50)
    (path,) = (tmp_path / "label").iterdir()
    ids = read_id_array(str(path)).copy()
    ids[-1, -2:] = 255, 77
    save_ids(path, ids, kind)
    argv += ["--contain_dontcare_label", "--load_size", 40, "--crop_size", 32]
    with pytest.raises(UserError, match=rf"{path.name} has ids 77, but --label_nc 50 allows 0 .. 49"):
        create_dataset(train(*argv))[0]


# ------------------------------------------------------------------------------------------------------------ processes


class Threads(Dataset):
    """Items that say how many threads torch would use."""

    def __init__(self, dataset: Pix2pixDataset) -> None:
        self.dataset, self.preprocess = dataset, dataset.preprocess

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: object) -> dict:
        return {**self.dataset[key], "path": str(torch.get_num_threads())}


def test_a_loader_process_computes_with_one_thread(pairs: Path) -> None:
    opt = train("--dataroot", pairs, "--dataset_mode", "coco")
    opt.nThreads = 2
    loader = create_dataloader(opt, Threads(create_dataset(opt)))
    assert [batch["path"] for batch in loader] == [["1"]] * 4
    assert (loader.persistent_workers, loader.prefetch_factor, loader.pin_memory) == (True, 2, False)
