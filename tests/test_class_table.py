"""Class tables and label maps in colours."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import DATASETS, create_dataset
from data.base_dataset import read_ids
from datasets.landscapes import CLASSES
from models import create_model
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.class_table import ClassTable, Palette, interleaved, table_names
from util.errors import UserError


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("coco", 183, {0: "person", 105: "clouds", 154: "sea", 156: "sky-other", 182: "unknown"}),
        ("ade20k", 151, {0: "unknown", 1: "wall", 2: "building", 150: "flag"}),
        ("cityscapes", 35, {0: "unlabeled", 7: "road", 33: "bicycle", 34: "license plate"}),
        ("cityscapes19", 19, {0: "road", 10: "sky", 18: "bicycle"}),
        ("facades", 13, {0: "unknown", 2: "facade", 12: "shop"}),
        ("sample", 14, {0: "sky", 13: "boat"}),
    ],
)
def test_tables_of_data_sets(name: str, count: int, some: dict[int, str]) -> None:
    table = ClassTable.load(name)
    assert sorted(table.names) == sorted(table.colors) == list(range(count))
    assert {index: table.name(index) for index in some} == some


def test_every_data_set_has_its_table() -> None:
    """label_nc classes, and one more for unknown pixels; only `custom` has no table by itself, and `shards` has
    that of its index."""
    for mode in DATASETS:
        opt = TestOptions().parse(["--dataset_mode", mode])
        if mode in ("custom", "shards"):
            assert opt.class_table is None
        else:
            assert len(ClassTable.load(opt.class_table).names) == opt.label_nc + opt.contain_dontcare_label
    assert [ClassTable.load("sample").name(i) for i in range(14)] == CLASSES


def test_colours_without_a_table_are_vocs() -> None:
    plain = ClassTable.load(None)
    assert plain.colorize(np.array([[0, 1], [14, 255]])).tolist() == interleaved(np.array([[0, 1], [14, 255]])).tolist()
    assert plain.name(3) == "class 3"
    assert plain.with_unknown(3).name(3) == "unknown"
    assert ClassTable.load("ade20k").with_unknown(150).name(150) == "flag"  # the last name of a whole table stays
    cut = ClassTable.load("coco").with_unknown(20)  # the table is of a larger data set, in which 20 is a class
    assert cut.name(20) == "unknown" and cut.color(20) == plain.color(20)


def test_classes_that_a_map_shows() -> None:
    """Three of four pixels are sky (0), one is tree (4)."""
    present = ClassTable.load("sample").present(np.array([[0, 0], [4, 0]]))
    assert [(p.id, p.name, p.share) for p in present] == [(0, "sky", 0.75), (4, "tree", 0.25)]
    assert present[1].color == (30, 100, 40)


def test_a_users_table(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(
        '{"title": "Mine", "classes": [{"id": 2, "name": "Bäume", "color": [1, 2, 3]}, {"id": 0, "name": "x"}]}'
    )
    table = ClassTable.load(str(file))
    assert table.colorize(np.array([2, 0])).tolist() == [[1, 2, 3], [128, 0, 0]]
    file.write_text(table.save_text(), encoding="utf-8")
    assert "Bäume" in file.read_text(encoding="utf-8")
    assert ClassTable.load(str(file)) == table


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not JSON", "is no class table .*it is JSON such as"),
        ("[]", "is no class table .it holds a list"),
        ("{}", "it has no 'classes'"),
        ('{"classes": [{"id": 0}]}', "it has no 'name'"),
        ('{"classes": [{"id": 0, "name": "a"}, {"id": 0, "name": "b"}]}', "id 0 is there twice"),
        ('{"classes": [{"id": -1, "name": "a"}]}', "whole numbers from 0 on"),
        ('{"classes": [{"id": 1.5, "name": "a"}]}', "whole numbers from 0 on"),
        ('{"classes": [{"id": 0, "name": "a", "color": [0, 0, 256]}]}', "not three whole numbers of 0 .. 255"),
        ('{"classes": [{"id": 0, "name": "a", "color": "red"}]}', "not three whole numbers"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=words):
        ClassTable.load(str(tmp_path / "t.json"))


def test_a_missing_table_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="no class table nowhere.*" + ", ".join(table_names())):
        ClassTable.load("nowhere")


def test_the_checkpoint_keeps_its_table(tmp_path: Path) -> None:
    """The file that --class_table named may be elsewhere when the weights are used."""
    mine = tmp_path / "mine.json"
    mine.write_text('{"classes": [{"id": 0, "name": "ground"}]}')
    place = ["--checkpoints_dir", str(tmp_path), "--name", "x"]
    options = TrainOptions()
    opt = options.parse([*place, "--dataset_mode", "custom", "--class_table", str(mine)])
    options.read_classes(opt)  # when training starts
    mine.unlink()
    options.save(opt)  # with the first weights, hours later
    assert ClassTable.load(TestOptions().parse(place).class_table).name(0) == "ground"
    assert TestOptions().parse([*place, "--class_table", "coco"]).class_table == "coco"  # typed
    assert (
        TestOptions().parse([*place, "--load_from_opt_file", "false", "--dataset_mode", "custom"]).class_table is None
    )
    # Another run of that name, without a table: the old one must not stay.
    options.save(options.parse([*place, "--dataset_mode", "custom"]))
    assert TestOptions().parse(place).class_table is None


# ------------------------------------------------------------------------------------------------- maps in colours


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    """A table of two classes, and a label map in their colours as RGB, RGBA and palette PNG."""
    entries = [{"id": 0, "name": "a", "color": [255, 0, 0]}, {"id": 7, "name": "b", "color": [0, 0, 255]}]
    (tmp_path / "table.json").write_text(json.dumps({"classes": entries}))
    rgb = np.array([[[255, 0, 0], [0, 0, 255]], [[0, 0, 255], [0, 0, 255]]], np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb).convert("RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    return tmp_path


def test_colours_are_read_as_ids(painted: Path) -> None:
    table = str(painted / "table.json")
    palette = Palette(ClassTable.load(table), table)
    with Image.open(painted / "p.png") as picture:
        picture.convert("PA").save(painted / "pa.tif")
    assert Image.open(painted / "pa.tif").mode == "PA"
    for name in ("rgb.png", "rgba.png", "p.png", "pa.tif"):
        assert np.asarray(read_ids(str(painted / name), palette)).tolist() == [[0, 7], [7, 7]], name
    Image.fromarray(np.array([[0, 7]], np.uint8)).save(painted / "ids.png")
    assert np.asarray(read_ids(str(painted / "ids.png"), palette)).tolist() == [[0, 7]]  # grey: ids as ever


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_painted_maps_without_other_colours(tmp_path: Path, mode: str) -> None:
    """Paper is white and has id 0, ink is black and has id 1; programs save such drawings as grey."""
    paper, ink = {"id": 0, "name": "paper", "color": [255] * 3}, {"id": 1, "name": "ink", "color": [0] * 3}
    (tmp_path / "table.json").write_text(json.dumps({"classes": [paper, ink]}), encoding="utf-8-sig")
    palette = Palette(ClassTable.load(str(tmp_path / "table.json")), "TABLE")
    drawing = Image.fromarray(np.array([[255, 0], [0, 0]], np.uint8)).convert(mode)
    drawing.save(tmp_path / "a.png")
    if mode == "1":  # one bit: 1 is white, and an id
        with pytest.raises(UserError, match="its values 0, 1 may be ids or colours"):
            read_ids(str(tmp_path / "a.png"), palette)
        return
    assert np.asarray(read_ids(str(tmp_path / "a.png"), palette)).tolist() == [[0, 1], [1, 1]]
    if mode == "L":  # nothing but ink: black is 0, which is an id too
        Image.new("L", (2, 2)).save(tmp_path / "b.png")
        with pytest.raises(UserError, match="b.png is grey, and its values 0 may be ids or colours of --label_palette"):
            read_ids(str(tmp_path / "b.png"), palette)
        dark = {"id": 0, "name": "void", "color": [0] * 3}, {"id": 1, "name": "sky", "color": [9, 9, 250]}
        (tmp_path / "dark.json").write_text(json.dumps({"classes": dark}))
        void = read_ids(str(tmp_path / "b.png"), Palette(ClassTable.load(str(tmp_path / "dark.json")), "TABLE"))
        assert np.asarray(void).tolist() == [[0, 0], [0, 0]]  # one and the same


def test_colours_of_no_class_are_counted(painted: Path) -> None:
    strange = [[255, 0, 0], [250, 5, 0], [250, 5, 0], [255, 255, 255]]
    Image.fromarray(np.array([strange], np.uint8)).save(painted / "smooth.png")
    palette = Palette(ClassTable.load(str(painted / "table.json")), "TABLE")
    said = r"smooth.png has colours of no class of --label_palette TABLE: \(250, 5, 0\) 2 times, \(255, 255, 255\) once"
    with pytest.raises(UserError, match=said):
        read_ids(str(painted / "smooth.png"), palette)


def test_ambiguous_palettes_are_refused() -> None:
    with pytest.raises(UserError, match=r"unlabeled \(0\) and ego vehicle \(1\) share the colour \(0, 0, 0\)"):
        Palette(ClassTable.load("cityscapes"), "cityscapes")
    with pytest.raises(UserError, match='no class has a "color"'):
        Palette(ClassTable.load(None), "x")


def test_a_coloured_data_set(pairs: Path, tmp_path: Path) -> None:
    """Label maps repainted in the sample table's colours give the same items as the ids do."""
    argv = ["--dataset_mode", "custom", "--label_dir", str(pairs / "train_label"), "--image_dir"]
    argv += [str(pairs / "train_img"), "--label_nc", "14", "--no_instance", "--no_flip"]
    plain = create_dataset(TrainOptions().parse(argv))[0]["label"]
    for path in (pairs / "train_label").iterdir():
        Image.fromarray(ClassTable.load("sample").colorize(np.asarray(Image.open(path)))).save(path)
    with pytest.raises(UserError, match="mode RGB.*--label_palette TABLE reads it"):
        create_dataset(TrainOptions().parse(argv))[0]
    for flags in (["--label_palette", "sample"], ["--class_table", "sample", "--label_palette"]):
        item = create_dataset(TrainOptions().parse([*argv, *flags]))[0]
        assert (item["label"] == plain).all()
    with pytest.raises(UserError, match="--label_palette needs a class table"):
        create_dataset(TrainOptions().parse([*argv, "--label_palette"]))


def test_painted_maps_at_test(painted: Path, tmp_path: Path) -> None:
    """Palette PNGs look like ids; that their colours count is something that the checkpoint remembers."""
    place = ["--checkpoints_dir", str(tmp_path), "--name", "x"]
    options = TrainOptions()
    flags = ["--dataset_mode", "custom", "--label_palette", str(painted / "table.json"), "--no_instance"]
    options.save(options.parse([*place, *flags]))
    (painted / "maps").mkdir()
    (painted / "p.png").rename(painted / "maps" / "p.png")
    given = ["--label_dir", str(painted / "maps"), "--preprocess_mode", "none"]
    assert create_dataset(TestOptions().parse([*place, *given]))[0]["label"].unique().tolist() == [0, 7]
    by_index = create_dataset(TestOptions().parse([*place, *given, "--class_table", "sample"]))
    with pytest.raises(UserError, match="--label_palette sample"):
        by_index[0]


def test_a_palette_that_contradicts_the_class_table_is_noticed(painted: Path, capsys: pytest.CaptureFixture) -> None:
    """Index 0 has the colour of class 7 and index 1 that of class 0; a palette of other colours says nothing."""
    argv = ["--dataset_mode", "custom", "--label_dir", str(painted / "maps"), "--image_dir", str(painted / "maps")]
    argv += ["--label_nc", "8", "--no_instance", "--class_table", str(painted / "table.json")]
    (painted / "maps").mkdir()

    def said(colors: list[int], *more: str) -> str:
        picture = Image.new("P", (2, 1))
        picture.putdata([0, 1])
        picture.putpalette(colors)
        picture.save(painted / "maps" / "a.png")
        create_dataset(TrainOptions().parse([*argv, *more]))
        return capsys.readouterr().err

    assert "index 0 (a) has the colour of b (7), and so on" in said([0, 0, 255, 255, 0, 0])
    assert said([0, 0, 255, 255, 0, 0], "--label_palette") == ""  # they are read by colour
    assert said([255, 0, 0, 9, 9, 9]) == said([9, 9, 9, 8, 8, 8]) == ""
    assert said([255, 0, 0, 0, 0, 255]) == ""  # one of two: chance
    (painted / "maps" / "a.png").write_bytes(b"damaged")
    create_dataset(TrainOptions().parse(argv))  # whoever loads it says what is wrong


def test_unknown_pixels_have_a_name(tmp_path: Path) -> None:
    flags = ["--name", "none", "--class_table", "sample", "--label_nc", "14", "--contain_dontcare_label", "--ngf", "4"]
    model = create_model(TestOptions().parse([*flags, "--checkpoints_dir", str(tmp_path)]))
    shown = model.legend({"label": torch.tensor([[[[14, 14, 0]]]]), "path": ["x"]})[0]
    assert [(entry.name, round(entry.share, 2)) for entry in shown] == [("unknown", 0.67), ("sky", 0.33)]


def test_a_table_of_another_data_set_is_noticed(capsys: pytest.CaptureFixture) -> None:
    """Every data set's own table fits it, unknown pixels included."""
    options = TrainOptions()
    for mode in DATASETS:
        options.read_classes(options.parse(["--dataset_mode", mode]))
    assert capsys.readouterr().err == ""
    options.read_classes(options.parse(["--class_table", "coco", "--dataset_mode", "custom", "--label_nc", "14"]))
    assert "--class_table coco names ids up to 182, but --label_nc 14 allows 0 .. 13" in capsys.readouterr().err
    options.read_classes(options.parse(["--class_table", "sample", "--dataset_mode", "custom", "--label_nc", "13"]))
    assert "names ids up to 13, but --label_nc 13 allows 0 .. 12" in capsys.readouterr().err


def test_grey_maps_saved_as_rgb_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4, 3), 3, np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(UserError, match="its channels are equal, so save one of them"):
        read_ids(str(tmp_path / "grey.png"))


def test_a_model_of_painted_maps_reads_painted_maps(tmp_path: Path) -> None:
    """The palette is the class table, whose copy the checkpoint keeps; at test nothing is typed again."""
    table = tmp_path / "mine.json"
    table.write_text('{"classes": [{"id": 0, "name": "ground", "color": [9, 9, 9]}]}')
    place = ["--checkpoints_dir", str(tmp_path), "--name", "x"]
    for flags in (["--label_palette", str(table)], ["--class_table", str(table), "--label_palette"]):
        options = TrainOptions()
        opt = options.parse([*place, "--dataset_mode", "custom", *flags])
        assert opt.class_table == str(table)
        options.save(opt)
        tested = TestOptions().parse(place)
        assert tested.class_table == str(tmp_path / "x" / "classes.json")
        assert tested.label_palette in ("", tested.class_table)
        assert TestOptions().parse([*place, "--class_table", "sample"]).label_palette == ""  # that table's colours
    table.unlink()  # the copy is enough, to go on training too
    for more in (["--load_from_opt_file"], ["--dataset_mode", "custom"]):
        options = TrainOptions()
        opt = options.parse([*place, "--continue_train", *more])
        assert ClassTable.load(opt.class_table).names == {0: "ground"}
        options.save(opt)
        assert ClassTable.load(str(tmp_path / "x" / "classes.json")).names == {0: "ground"}
    options = TrainOptions()
    options.save(options.parse([*place, "--dataset_mode", "custom"]))  # a run that starts anew
    assert not (tmp_path / "x" / "classes.json").exists()
    with pytest.raises(UserError, match="--class_table coco and --label_palette sample: a palette is the class table"):
        TrainOptions(raises=True).parse(["--class_table", "coco", "--label_palette", "sample"])
