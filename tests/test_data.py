"""Data sets: finding and pairing files, ids of every bit depth, geometry, order, and mistakes."""

import json
import os
import shutil
import struct
import zlib
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import PositionedBatches, create_dataloader, create_dataset, default_workers
from data.base_dataset import Plan, Preprocess, read_ids, read_image
from data.image_folder import list_images, natural_order
from options.test_options import TestOptions
from options.train_options import TrainOptions
from tests.conftest import write_pairs
from util.errors import UserError

SMALL = ["--crop_size", "64", "--load_size", "64", "--nThreads", "0", "--gpu_ids", "-1"]


def train(*argv: object) -> Namespace:
    return TrainOptions().parse([*SMALL, *map(str, argv)])


def test(*argv: object) -> Namespace:
    return TestOptions().parse([*SMALL, *map(str, argv)])


test.__test__ = False


def save_ids(path: Path, ids: list[list[int]], dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(ids, dtype)).save(path)
    return path


def preprocess(mode: str, **changes: object) -> Preprocess:
    values = dict(load_size=40, crop=(32, 32), aspect_ratio=2.0, multiple=32, random=False, flip=False) | changes
    return Preprocess(mode, **values)


# ------------------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("mode", "size", "resized"),
    [
        ("resize_and_crop", (100, 50), (40, 40)),
        ("crop", (100, 50), (100, 50)),
        ("scale_width", (100, 51), (40, 20)),  # 20.4 down
        ("scale_width_and_crop", (51, 100), (40, 78)),  # 78.4 down
        ("scale_shortside", (100, 51), (78, 40)),
        ("scale_shortside_and_crop", (51, 100), (40, 78)),
        ("fixed", (100, 50), (32, 16)),
        ("none", (100, 50), (96, 64)),  # 3.125 and 1.5625 times 32
        ("none", (80, 16), (64, 32)),  # 2.5 rounds to the even 2; never below 32
    ],
)
def test_sizes(mode: str, size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert preprocess(mode).resized(size) == resized


def test_mode_none_rounds_to_the_generators_stride() -> None:
    opt = train("--preprocess_mode", "none", "--num_upsampling_layers", "most")
    assert Preprocess.from_options(opt).resized((300, 190)) == (256, 128)


def test_crops_are_uniform_when_training_and_centred_at_test() -> None:
    rng = np.random.default_rng(0)
    drawn = [preprocess("crop", random=True).plan((35, 33), rng).crop for _ in range(400)]
    assert {c[0] for c in drawn} == {0, 1, 2, 3}
    assert {c[1] for c in drawn} == {0, 1}
    assert preprocess("crop").plan((42, 36), rng).crop == (5, 2, 32, 32)


def test_crop_height_frees_the_height(pairs: Path) -> None:
    opt = train("--dataroot", pairs, "--crop_height", 32)
    item = create_dataset(opt)[0]
    assert item["label"].shape == (1, 32, 64)
    assert item["image"].shape == (3, 32, 64)


def test_label_image_and_instance_share_one_plan(tmp_path: Path) -> None:
    """Ids written into all three files come out at the same places, flipped or not, wherever the crop is."""
    ids = np.arange(30 * 40).reshape(30, 40) % 250
    for kind, suffix in (("label", "png"), ("inst", "png"), ("img", "png")):
        folder = tmp_path / f"train_{kind}"
        folder.mkdir()
        array = ids.astype(np.uint8)
        Image.fromarray(np.stack([array] * 3, -1) if kind == "img" else array).save(folder / f"a.{suffix}")
    opt = train("--dataroot", tmp_path, "--label_nc", 254, "--preprocess_mode", "crop", "--crop_size", 16)
    dataset = create_dataset(opt)
    flips = set()
    for place in range(20):
        item = dataset[(0, (1, place))]
        pixels = ((item["image"] + 1) * 127.5).round().long()
        assert torch.equal(item["label"][0], pixels[0])
        assert torch.equal(item["label"], item["instance"])
        flips.add(bool(item["label"][0, 0, 0] > item["label"][0, 0, 1]))
    assert flips == {True, False}


def test_a_crop_past_the_image_is_black_with_label_0_and_says_so_once(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """Quirk kept (SPADE)."""
    write_pairs(tmp_path, 3, size=(40, 40))
    opt = train("--dataroot", tmp_path, "--preprocess_mode", "crop", "--no_flip", "--nThreads", "2", "--batchSize", "1")
    for batch in create_dataloader(opt):
        assert batch["label"][..., 40:, :].eq(0).all()
        assert batch["instance"][..., 40:].eq(0).all()
        assert batch["image"][..., 40:].eq(-1).all()
    said = capfd.readouterr().err
    assert said.count("filled with black") == 1
    assert "(40 x 40)" in said


def test_flip() -> None:
    picture = Image.fromarray(np.array([[1, 2, 3]], np.uint8))
    assert np.asarray(Plan((3, 1), None, flip=True).apply(picture, Image.Resampling.NEAREST)).tolist() == [[3, 2, 1]]


# ------------------------------------------------------------------------------------------------------------------ ids


@pytest.mark.parametrize(
    ("dtype", "ids", "suffix"),
    [
        (bool, [0, 1], "png"),
        (np.uint8, [0, 7, 255], "png"),
        (np.uint16, [0, 33000, 65535], "png"),
        (np.uint16, [0, 33000, 65535], "tif"),
        (np.int32, [0, 70000, 2**31 - 1], "tif"),
    ],
)
def test_ids_of_any_bit_depth(tmp_path: Path, dtype: type, ids: list[int], suffix: str) -> None:
    """Mended (SPADE): 16-bit instance ids of 32768 and more turned negative."""
    path = save_ids(tmp_path / f"a.{suffix}", [ids], dtype)
    assert np.asarray(read_ids(str(path))).tolist() == [ids]


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits(tmp_path: Path, bits: int) -> None:
    """Pillow spreads 2-bit grey over 0, 85, 170, 255; ids stay 0, 1, 2, 3."""
    ids = [0, 1, 2, 3]
    packed = b"".join(bytes([0, 0b00011011]) if bits == 2 else bytes([0, 0x01, 0x23]) for _ in range(1))
    save_png(tmp_path / "a.png", 4, 1, bits, packed)
    assert np.asarray(read_ids(str(tmp_path / "a.png"))).tolist() == [ids]


def save_png(path: Path, width: int, height: int, bits: int, rows: bytes) -> None:
    """A grey PNG by hand: signature, IHDR, IDAT, IEND (PNG specification, section 11)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_palette_pngs_give_their_indices(tmp_path: Path) -> None:
    picture = Image.new("P", (3, 1))
    picture.putdata([0, 1, 2])
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 77])
    picture.save(tmp_path / "a.png")
    assert np.asarray(read_ids(str(tmp_path / "a.png"))).tolist() == [[0, 1, 2]]


def test_colour_label_maps_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="one integer channel"):
        read_ids(str(tmp_path / "a.png"))


def labels_of(tmp_path: Path, ids: list[int], *argv: object, training: bool = False) -> torch.Tensor:
    shutil.rmtree(tmp_path / "l", ignore_errors=True)
    save_ids(tmp_path / "l" / "a.png", [ids * 8] * 32, np.uint16 if max(ids) > 255 else np.uint8)
    opt = test("--label_dir", tmp_path / "l", "--preprocess_mode", "none", *argv)
    dataset = create_dataset(opt)
    dataset.rules = replace(dataset.rules, is_train=training)
    return dataset[0]["label"].unique()


def test_unknown_becomes_label_nc(tmp_path: Path) -> None:
    assert labels_of(tmp_path, [0, 5, 181, 255]).tolist() == [0, 5, 181, 182]
    assert labels_of(tmp_path, [0, 9, 200], "--unknown_id", 200, "--label_nc", 10).tolist() == [0, 9, 10]
    assert labels_of(tmp_path, [0, 3, 7], "--unknown_id", 3, "--label_nc", 8).tolist() == [0, 7, 8]
    # Above 255 classes 255 is a class, and only --unknown_id names the unknown.
    assert labels_of(tmp_path, [0, 255, 299], "--label_nc", 300).tolist() == [0, 255, 299]
    assert labels_of(tmp_path, [0, 255, 300], "--label_nc", 300, "--unknown_id", 300).tolist() == [0, 255, 300]


def test_ade20k_ids_are_not_shifted(tmp_path: Path) -> None:
    """Quirk kept (SPADE): 0 is unknown, 150 is the last class, and both reach their own channel."""
    assert labels_of(tmp_path, [0, 1, 150], "--dataset_mode", "ade20k").tolist() == [0, 1, 150]
    with pytest.raises(UserError, match=r"ids 151, but --label_nc 150 allows 0 .. 150: pass --label_nc 151 or more"):
        labels_of(tmp_path, [0, 151], "--dataset_mode", "ade20k", training=True)


@pytest.mark.parametrize(
    ("ids", "argv", "words"),
    [
        ([0, 182, 200], [], "ids 182, 200, but --label_nc 182 allows 0 .. 181: pass --label_nc 201"),
        (
            [0, 182],
            [],
            "if it means unknown, pass --unknown_id 182, or if ids start at 1, subtract 1, or pass --label_nc",
        ),
        (
            [1, 5],
            ["--label_nc", "5", "--contain_dontcare_label", "false"],
            "allows 0 .. 4: if ids start at 1, subtract 1, or pass --label_nc 6 (0 is then empty), or correct the file",
        ),
        ([0, 255], ["--contain_dontcare_label", "false"], "id 255 means unknown: pass --contain_dontcare_label"),
        ([0, 200, 255], ["--contain_dontcare_label", "false"], "id 255 means unknown: pass --contain_dontcare_label"),
        ([0, 255], ["--label_nc", "300", "--unknown_id", "7", "--label_nc", "200"], "pass --unknown_id 255"),
    ],
)
def test_wrong_ids_name_file_ids_and_way_out(tmp_path: Path, ids: list[int], argv: list[str], words: str) -> None:
    """Mended (SPADE): such ids indexed out of range on the device."""
    with pytest.raises(UserError) as error:
        labels_of(tmp_path, ids, *argv, training=True)
    assert words in str(error.value)
    assert "a.png" in str(error.value)


def test_a_trained_network_gets_no_other_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ids 182, 200, .* 0 .. 181, and the model knows no others: correct the file$"):
        labels_of(tmp_path, [0, 182, 200])
    plain = ["--contain_dontcare_label", "false", "--label_nc", "5"]
    with pytest.raises(UserError, match=r"the model knows no others: if ids start at 1, subtract 1, or correct the"):
        labels_of(tmp_path, [1, 5], *plain)
    with pytest.raises(UserError, match=r"trained with --contain_dontcare_label \(type it if this one was"):
        labels_of(tmp_path, [0, 255], *plain)


def test_negative_ids_are_refused(tmp_path: Path) -> None:
    save_ids(tmp_path / "l" / "a.tif", [[-1] * 32] * 32, np.int32)
    with pytest.raises(UserError, match=r"ids -1, but .* allows 0 .. 181, .*: correct the file$"):
        create_dataset(test("--label_dir", tmp_path / "l"))[0]


def test_ids_outside_the_crop_are_checked_too(tmp_path: Path) -> None:
    ids = np.zeros((64, 200), np.uint8)
    ids[0, 199] = 90
    path = save_ids(tmp_path / "l" / "a.png", ids.tolist())
    opt = test("--label_dir", path.parent, "--preprocess_mode", "crop", "--label_nc", "20")
    with pytest.raises(UserError, match="ids 90"):
        create_dataset(opt)[0]


# ---------------------------------------------------------------------------------------------------------------- files


def test_natural_order() -> None:
    names = ["a010.png", "a10.png", "b1.png", "a9.png"]
    assert natural_order(names) == natural_order(names[::-1]) == ["a9.png", "a010.png", "a10.png", "b1.png"]
    assert natural_order(["1²3.png", "12.png"]) == ["1²3.png", "12.png"]  # a superscript is no digit to int()


def test_coco_files(pairs: Path) -> None:
    dataset = create_dataset(train("--dataroot", pairs))
    assert [Path(p).name for p in dataset.paths.labels] == [f"picture{i}.png" for i in range(4)]
    item = dataset[0]
    assert {k: (v.dtype, tuple(v.shape)) for k, v in item.items() if k != "path"} == {
        "label": (torch.uint8, (1, 64, 64)),
        "instance": (torch.int32, (1, 64, 64)),  # the files have 16 bits
        "image": (torch.float32, (3, 64, 64)),
    }
    assert item["path"].endswith("train_img/picture0.jpg")
    assert len(create_dataset(test("--dataroot", pairs))) == 2  # --phase test reads the val folders
    assert len(create_dataset(train("--dataroot", pairs, "--max_dataset_size", 3))) == 3
    assert "instance" not in create_dataset(train("--dataroot", pairs, "--no_instance"))[0]


def test_coco_portraits_are_added_when_training(pairs: Path) -> None:
    for kind in ("label", "img", "inst"):
        (pairs / f"train_{kind}_portrait").mkdir()
        for file in (pairs / f"train_{kind}").glob("picture0.*"):
            shutil.copy(file, pairs / f"train_{kind}_portrait" / f"portrait{file.suffix}")
    assert len(create_dataset(train("--dataroot", pairs))) == 5
    assert len(create_dataset(train("--dataroot", pairs, "--coco_no_portraits"))) == 4
    assert len(create_dataset(test("--dataroot", pairs, "--phase", "train"))) == 4


def test_testing_needs_no_photos(pairs: Path) -> None:
    """Mended (SPADE)."""
    shutil.rmtree(pairs / "val_img")
    item = create_dataset(test("--dataroot", pairs))[0]
    assert "image" not in item
    assert item["path"].endswith("val_label/picture0.png")


def test_ade20k_files(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for i in (1, 2):
            save_ids(tmp_path / "annotations" / part / f"ADE_{part}_{i:08}.png", [[0, 150] * 32] * 64)
            photo = tmp_path / "images" / part / f"ADE_{part}_{i:08}.jpg"
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64)).save(photo)
    dataset = create_dataset(train("--dataset_mode", "ade20k", "--dataroot", tmp_path))
    assert [Path(p).name for p in dataset.paths.labels] == ["ADE_train_00000001.png", "ADE_train_00000002.png"]
    assert set(dataset[0]) == {"label", "image", "path"}
    # Mended (SPADE): --phase val read the training pictures.
    for opt in (
        test("--dataset_mode", "ade20k", "--dataroot", tmp_path, "--phase", phase) for phase in ("val", "test")
    ):
        assert "ADE_val_" in create_dataset(opt).paths.labels[0]


def test_cityscapes_files(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for i in range(2):
            stem = f"aachen/aachen_{i:06}_000019"
            save_ids(tmp_path / "gtFine" / part / f"{stem}_gtFine_labelIds.png", [[0, 34] * 32] * 32)
            save_ids(
                tmp_path / "gtFine" / part / f"{stem}_gtFine_instanceIds.png", [[26001, 33002] * 32] * 32, np.uint16
            )
            photo = tmp_path / "leftImg8bit" / part / f"{stem}_leftImg8bit.png"
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 32)).save(photo)
    opt = train("--dataset_mode", "cityscapes", "--dataroot", tmp_path, "--no_flip")
    item = create_dataset(opt)[1]
    assert item["label"].shape == (1, 32, 64)
    assert item["instance"].unique().tolist() == [26001, 33002]
    assert item["path"].endswith("aachen_000001_000019_leftImg8bit.png")
    val = test("--dataset_mode", "cityscapes", "--dataroot", tmp_path, "--phase", "val")
    assert "gtFine/val" in create_dataset(val).paths.labels[0]


def test_facades_files(pairs: Path) -> None:
    dataset = create_dataset(train("--dataset_mode", "facades", "--dataroot", pairs))
    assert set(dataset[0]) == {"label", "image", "path"}
    assert len(dataset) == 4


def test_custom_files(pairs: Path, capsys: pytest.CaptureFixture) -> None:
    custom = ["--dataset_mode", "custom", "--label_dir", pairs / "train_label", "--image_dir", pairs / "train_img"]
    item = create_dataset(train(*custom))[0]
    assert item["instance"].eq(0).all()  # the edge channel stays, all zero
    assert "--no_instance saves it" in capsys.readouterr().err
    create_dataset(train(*custom, "--no_instance"))
    assert capsys.readouterr().err == ""
    item = create_dataset(train(*custom, "--instance_dir", pairs / "train_inst"))[0]
    assert item["instance"].ne(0).any()
    with pytest.raises(UserError, match="needs --label_dir and --image_dir"):
        create_dataset(train("--dataset_mode", "custom"))
    assert "image" not in create_dataset(test(*custom[:4]))[0]


def test_instance_maps_that_are_not_there(pairs: Path, capsys: pytest.CaptureFixture) -> None:
    """Training stops; testing goes on with zero edges and says so, since the network has the channel."""
    for split in ("train", "val"):
        shutil.rmtree(pairs / f"{split}_inst")
    with pytest.raises(
        UserError, match=r"make .*_inst with datasets/coco_generate_instance_map.py, or pass --no_instance"
    ):
        create_dataset(train("--dataroot", pairs))
    assert create_dataset(test("--dataroot", pairs))[0]["instance"].eq(0).all()
    assert "zero everywhere" in capsys.readouterr().err


def test_any_data_set_tests_a_folder_of_layouts(pairs: Path) -> None:
    dataset = create_dataset(test("--label_dir", pairs / "train_label"))
    assert len(dataset) == 4
    assert dataset[0]["instance"].eq(0).all()


def test_cityscapes_layouts_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """--label_dir with the official files, cities and all; another folder is one of label maps alone."""
    for kind, ids, dtype in (("labelIds", [7, 26], np.uint8), ("instanceIds", [7, 26001], np.uint16)):
        save_ids(tmp_path / "gt" / "aachen" / f"aachen_0_0_gtFine_{kind}.png", [ids * 32] * 32, dtype)
    save_ids(tmp_path / "own" / "a.png", [[7, 26] * 32] * 32)
    (official,) = create_dataset(test("--dataset_mode", "cityscapes", "--label_dir", tmp_path / "gt"))
    assert official["label"].unique().tolist() == [7, 26]
    assert official["instance"].unique().tolist() == [7, 26001]
    (own,) = create_dataset(test("--dataset_mode", "cityscapes", "--label_dir", tmp_path / "own"))
    assert own["label"].unique().tolist() == [7, 26]
    assert own["instance"].unique().tolist() == [0]


def test_an_instance_folder_for_data_sets_without_instances(pairs: Path) -> None:
    for mode in ("facades", "ade20k"):
        root = pairs
        if mode == "ade20k":
            root = pairs.parent / "ade"
            for source, name in (
                ("train_label/picture0.png", "a_train_0.png"),
                ("train_img/picture0.jpg", "a_train_0.jpg"),
            ):
                (root / name).parent.mkdir(exist_ok=True)
                shutil.copy(pairs / source, root / name)
        folder = pairs.parent / f"{mode}_inst"
        folder.mkdir()
        names = ["a_train_0"] if mode == "ade20k" else [f"picture{i}" for i in range(4)]
        for i, name in enumerate(names):
            shutil.copy(pairs / "train_inst" / f"picture{i}.png", folder / f"{name}.png")
        argv = ["--dataset_mode", mode, "--dataroot", root, "--no_instance", "false", "--instance_dir", folder]
        assert create_dataset(train(*argv))[0]["instance"].unique().numel() > 1


def test_names_with_dots_pair_up(tmp_path: Path) -> None:
    for folder, suffix in (("l", "png"), ("p", "jpg")):
        for stem in ("a", "a.k"):
            save_ids(tmp_path / folder / f"{stem}.{suffix}", [[0] * 32] * 32)
    argv = ["--dataset_mode", "custom", "--label_dir", tmp_path / "l", "--image_dir", tmp_path / "p"]
    assert [Path(p).name for p in create_dataset(train(*argv)).paths.labels] == ["a.png", "a.k.png"]


def test_pairs_of_different_shape_are_refused(pairs: Path) -> None:
    """A larger photo of the same shape is fine; a turned one or an instance map of another is not."""
    photo = pairs / "train_img" / "picture0.jpg"
    Image.new("RGB", (161, 144)).save(photo)  # the label map is 80 x 72
    assert create_dataset(train("--dataroot", pairs))[0]["image"].shape == (3, 64, 64)
    Image.new("RGB", (72, 80)).save(photo)
    with pytest.raises(UserError, match=r"picture0.jpg is 72 x 80 but .*picture0.png is 80 x 72 .* not in shape"):
        create_dataset(train("--dataroot", pairs))[0]


def test_pairing(pairs: Path) -> None:
    (pairs / "train_img" / "picture3.jpg").rename(pairs / "train_img" / "other.jpg")
    said = r"picture0.png and \S+other.jpg pair up .*no images for \S+picture3.png; no label map for \S+other.jpg;"
    with pytest.raises(UserError, match=said):
        create_dataset(train("--dataroot", pairs))
    assert len(create_dataset(train("--dataroot", pairs, "--no_pairing_check"))) == 4
    for i in range(3):
        (pairs / "train_img" / f"picture{i}.jpg").unlink()
    with pytest.raises(
        UserError, match=r"no images for (\S+picture\d.png, ){2}\S+picture2.png and 1 more; no label map"
    ):
        create_dataset(train("--dataroot", pairs))
    (pairs / "train_img" / "other.jpg").rename(pairs / "train_img" / "picture1.jpg")
    with pytest.raises(
        UserError,
        match=r"4 label maps but 1 images; .*; no images for \S+picture0.png, \S+picture2.png, \S+picture3.png$",
    ):
        create_dataset(train("--dataroot", pairs))


def test_two_photos_of_one_name(pairs: Path) -> None:
    shutil.copy(pairs / "train_img" / "picture1.jpg", pairs / "train_img" / "picture1.png")
    said = r"4 label maps but 5 images; .*; of one name are \S+picture1.jpg, \S+picture1.png$"
    with pytest.raises(UserError, match=said):
        create_dataset(train("--dataroot", pairs))


@pytest.mark.parametrize("flag", ["--image_dir", "--instance_dir"])
def test_a_folder_of_which_nothing_belongs_to_the_layouts(pairs: Path, flag: str) -> None:
    """At test some photos may be of other layouts; if all are, it is the wrong folder."""
    (pairs / "other").mkdir()
    shutil.copy(pairs / "train_inst" / "picture0.png", pairs / "other" / "z.png")
    argv = ["--label_dir", pairs / "train_label", flag, pairs / "other"]
    said = (
        r"none of the 1 (images|instance maps) in \S+other has the name of a label map; .* for \S+picture0.png, .*z.png"
    )
    with pytest.raises(UserError, match=said):
        create_dataset(test(*argv))
    shutil.copy(pairs / "train_inst" / "picture0.png", pairs / "other" / "picture1.png")
    shutil.copytree(pairs / "train_label", pairs / "one", ignore=lambda *_: [f"picture{i}.png" for i in (0, 2, 3)])
    assert len(create_dataset(test("--label_dir", pairs / "one", flag, pairs / "other"))) == 1


def test_a_folder_beside_one_that_is_missing(pairs: Path) -> None:
    """--dataroot is not there and not needed; its name begins that of --label_dir."""
    argv = ["--dataroot", pairs / "train", "--label_dir", pairs / "train_label"]
    assert len(create_dataset(test(*argv))) == 4


def test_ids_that_pillow_would_scale_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P5\n2 1\n15\n\x03\x0e")
    with pytest.raises(UserError, match="a.ppm has a maximum of 15, to which Pillow scales ids; save the map as PNG"):
        read_ids(str(tmp_path / "a.ppm"))
    for content in (b"P5\n2 1\n255\n\x03\x0e", b"P2\n2 1\n255\n3 14\n", b"P5\n2 1\n65535\n\0\x03\0\x0e"):
        (tmp_path / "b.ppm").write_bytes(content)
        assert np.asarray(read_ids(str(tmp_path / "b.ppm"))).tolist() == [[3, 14]]


def test_the_folder_above_the_label_maps(pairs: Path) -> None:
    with pytest.raises(UserError, match="; its subfolders train_img, train_inst, train_label, val_img are not"):
        create_dataset(test("--label_dir", pairs))


def test_missing_folders_are_named(tmp_path: Path) -> None:
    for mode in ("coco", "cityscapes", "facades"):
        with pytest.raises(UserError, match=str(tmp_path)):
            create_dataset(train("--dataset_mode", mode, "--dataroot", tmp_path))
    with pytest.raises(UserError, match="no label maps"):
        create_dataset(train("--dataset_mode", "ade20k", "--dataroot", tmp_path))


def test_damaged_files_are_named(pairs: Path) -> None:
    (pairs / "train_label" / "picture0.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(UserError, match="picture0.png cannot be read as an image"):
        create_dataset(train("--dataroot", pairs))[0]


def test_jpeg_label_maps_are_refused(tmp_path: Path) -> None:
    """Compression changes ids."""
    Image.new("L", (32, 32)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="a.jpg is a JPEG"):
        read_ids(str(tmp_path / "a.jpg"))


def test_grey_photos_of_16_bits(tmp_path: Path) -> None:
    """0, 257 * 100 and 65535 of 65535 are 0, 100 and 255 of 255."""
    save_ids(tmp_path / "a.png", [[0, 25700, 65535]], np.uint16)
    assert np.asarray(read_image(str(tmp_path / "a.png")))[0].tolist() == [[v] * 3 for v in (0, 100, 255)]
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="fractional"):
        read_image(str(tmp_path / "a.tif"))


def test_links_that_go_round(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.png").touch()
    (tmp_path / "again").symlink_to(tmp_path / "other")
    found = [os.path.relpath(p, tmp_path) for p in list_images(str(tmp_path), recursive=True)]
    assert found == ["a.png", "again/b.png", "other/b.png"]


def test_the_cache_flags_reach_the_files(pairs: Path) -> None:
    create_dataset(train("--dataroot", pairs, "--cache_filelist_write"))
    for kind in ("label", "img", "inst"):
        cache = pairs / f"train_{kind}" / "files.list"
        names = json.loads(cache.read_text())
        names["files"] = names["files"][:2]
        cache.write_text(json.dumps(names))
    assert len(create_dataset(train("--dataroot", pairs, "--cache_filelist_read"))) == 2
    assert len(create_dataset(train("--dataroot", pairs))) == 4


def test_file_list_cache(tmp_path: Path) -> None:
    """Mended (SPADE): the cache flags had no effect. A changed folder is noticed."""
    (tmp_path / "sub").mkdir()
    for name in ("a2.png", "a10.png", "sub/b.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    names = ["a2.png", "a10.png", "sub/b.JPG"]

    def listed(**flags: bool) -> list[str]:
        return [os.path.relpath(p, tmp_path) for p in list_images(str(tmp_path), recursive=True, **flags)]

    assert listed(cache_write=True) == names
    cache = tmp_path / "files.list"
    cache.write_text(cache.read_text().replace("a2.png", "a3.png"))
    assert listed() == names
    assert listed(cache_read=True) == ["a3.png", "a10.png", "sub/b.JPG"]  # from the cache, not from the folder
    (tmp_path / "sub" / "c.png").touch()
    assert listed(cache_read=True) == [*names, "sub/c.png"]
    cache.write_text("another program's list")
    assert listed(cache_read=True) == [*names, "sub/c.png"]


# --------------------------------------------------------------------------------------------------------------- loader


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def keys(seed: int, epoch: int, start: int = 0) -> list:
        batches = PositionedBatches(10, 3, shuffle=True, seed=seed, complete=True)
        batches.set_position(epoch, start)
        return list(batches)

    assert keys(0, 1) == keys(0, 1)
    assert keys(0, 1) != keys(0, 2)
    assert keys(0, 1) != keys(1, 1)
    assert keys(0, 1)[2:] == keys(0, 1, start=2)
    assert len(keys(0, 1)) == 3  # 10 items, 3 a batch: the incomplete last batch is dropped
    assert len({index for batch in keys(0, 1) for index, _ in batch}) == 9
    whole = PositionedBatches(10, 3, shuffle=False, seed=0, complete=False)
    assert [index for batch in whole for index, _ in batch] == list(range(10))


def test_workers_do_not_change_what_is_loaded(pairs: Path) -> None:
    def load(workers: int) -> list[dict]:
        opt = train("--dataroot", pairs, "--batchSize", 2, "--load_size", 70)
        opt.nThreads = workers
        return list(create_dataloader(opt))

    for a, b in zip(load(0), load(2), strict=True):
        assert a["path"] == b["path"]
        for name in ("label", "instance", "image"):
            assert torch.equal(a[name], b[name])


def test_worker_processes_for_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core is left for the training process; more than 8 bring nothing. Processes of torchrun share the cores."""
    for cores, processes, workers in ((1, 1, 0), (2, 1, 1), (6, 1, 5), (40, 1, 8), (16, 4, 3), (40, 2, 8), (4, 8, 0)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(range(cores)), raising=False)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert default_workers() == workers
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert default_workers() == 3


def test_fewer_items_than_a_batch(pairs: Path) -> None:
    with pytest.raises(UserError, match=r"--batchSize 5, but the data set has 4 items; --batchSize 1 .. 4 would do"):
        create_dataloader(train("--dataroot", pairs, "--batchSize", 5))


def test_how_many_is_exact(pairs: Path) -> None:
    opt = test("--dataroot", pairs, "--phase", "train", "--how_many", 3, "--batchSize", 2)
    assert [len(batch["path"]) for batch in create_dataloader(opt)] == [2, 1]


def test_sizes_that_no_generator_takes(pairs: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"a layout of 72 x 72 .* multiples of 32: the nearest are 64 or 96 wide and 64 or 96 high; --crop_size",
    ):
        create_dataloader(train("--dataroot", pairs, "--crop_size", 72))
    with pytest.raises(UserError, match=r"a layout of 64 x 64 .*style \(--use_vae\) fixes the size to 64 x 32"):
        create_dataloader(train("--dataroot", pairs, "--crop_size", 64, "--use_vae", "--aspect_ratio", 2))


def test_a_layout_whose_size_does_not_fit_is_named(tmp_path: Path) -> None:
    save_ids(tmp_path / "odd.png", [[0] * 72] * 54)
    opt = test("--label_dir", tmp_path, "--preprocess_mode", "scale_width", "--load_size", 72)
    with pytest.raises(UserError, match=r"odd.png, .* is a layout of 72 x 54 .*: .* 64 or 96 wide and 32 or 64 high"):
        list(create_dataloader(opt))


def test_a_batch_of_testing_ends_where_the_size_changes(tmp_path: Path) -> None:
    for name, (width, height) in {"a": (64, 32), "b": (32, 64), "c": (32, 64), "d": (64, 32)}.items():
        save_ids(tmp_path / f"{name}.png", [[0] * width] * height)
    opt = test("--label_dir", tmp_path, "--preprocess_mode", "none", "--batchSize", 3)
    for opt.nThreads in (0, 1):
        loader = create_dataloader(opt)
        for _ in range(2):
            batches = [([Path(path).stem for path in b["path"]], tuple(b["label"].shape)) for b in loader]
            assert batches == [(["a"], (1, 1, 32, 64)), (["b", "c"], (2, 1, 64, 32)), (["d"], (1, 1, 32, 64))]


def test_items_of_different_sizes_are_no_batch_of_training(tmp_path: Path) -> None:
    save_ids(tmp_path / "a.png", [[0] * 64] * 32)
    save_ids(tmp_path / "b.png", [[0] * 32] * 64)
    (tmp_path / "photos").mkdir()
    for name, size in {"a": (64, 32), "b": (32, 64)}.items():
        Image.new("RGB", size).save(tmp_path / "photos" / f"{name}.png")
    folders = ["--label_dir", tmp_path, "--image_dir", tmp_path / "photos", "--no_instance", "--serial_batches"]
    opt = train("--dataset_mode", "custom", "--label_nc", 1, *folders, "--preprocess_mode", "none", "--batchSize", 2)
    with pytest.raises(
        UserError, match=r"--preprocess_mode none .* 64 x 32 .*a.png.* and 32 x 64 .*b.png.*--batchSize 1"
    ):
        list(create_dataloader(opt))
