"""datasets/prepare_ade20k.py and prepare_ade20k_full.py, on archives packed as the official ones are."""

import functools
import io
import json
import os
import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from data import create_dataset
from datasets import prepare_ade20k_full as full
from datasets.preparation import matlab, output
from datasets.preparation.ade20k import LIST, SAYS, Outdoor, Place, Scenes
from datasets.preparation.archives import Archive, Source
from datasets.preparation.jobs import run_all
from datasets.prepare_ade20k import OFFICIAL
from datasets.prepare_ade20k import main as prepare
from datasets.prepare_ade20k_full import main as prepare_full
from evaluation.options import EvaluateOptions
from evaluation.pairs import chosen_places
from options.train_options import TrainOptions
from tests.official import ONE, content, ids, jpeg, loaded, png, train_command, zipped
from util.errors import UserError

PARTS = {"train": "training", "val": "validation"}


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """MATLAB files are read in this process, since starting others takes long."""
    monkeypatch.setattr(matlab, "ProcessPoolExecutor", ThreadPoolExecutor)


# ------------------------------------------------------------------------------------------------------- the benchmark

CATEGORIES = {
    "ADE_train_00000001": "street",
    "ADE_train_00000002": "bedroom",
    "ADE_train_00000003": "misc",
    "ADE_val_00000001": "misc",
    "ADE_val_00000002": "casino_outdoor",
    "ADE_val_00000003": "beach",
}


def label(number: int) -> np.ndarray:
    """A map of 8 x 6 pixels: 0, 150 and an id of its own."""
    ids = np.full((6, 8), number, np.uint8)
    ids[0, 0], ids[0, 1] = 0, 150
    return ids


def benchmark(folder: Path, changed: Mapping[str, bytes | None] = {}) -> dict[str, bytes]:
    """ADEChallengeData2016.zip in a new folder, with three images a part.

    Args:
        changed: other content of members, None: they are left out.
    """
    files = {}
    for number, stem in enumerate(CATEGORIES):
        part = PARTS[stem.split("_")[1]]
        files[f"images/{part}/{stem}.jpg"] = jpeg(8, 6, number)
        files[f"annotations/{part}/{stem}.png"] = png(label(number + 1))
    files["objectInfo150.txt"] = b"Idx\tRatio\n"
    files["sceneCategories.txt"] = "".join(f"{stem} {kind}\n" for stem, kind in CATEGORIES.items()).encode()
    files = {name: held for name, held in {**files, **changed}.items() if held is not None}
    folder.mkdir()
    zipped(folder / "ADEChallengeData2016.zip", {f"ADEChallengeData2016/{k}": held for k, held in files.items()})
    return files


def maps_of_training(held: bytes) -> dict[str, bytes]:
    """That for all label maps of training."""
    return {f"annotations/training/{stem}.png": held for stem in CATEGORIES if "train" in stem}


def unpacked(folder: Path) -> Path:
    """Unpack the archive of a folder as it does by itself, and give the tree's folder."""
    (path,) = folder.glob("*.zip")
    zipfile.ZipFile(path).extractall(folder)
    path.unlink()
    return folder / path.stem


def test_benchmark_is_unpacked_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = benchmark(tmp_path / "zips")
    out = tmp_path / "ade"
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(out), "--workers", "2"]
    assert OFFICIAL == {"train": 20_210, "val": 2_000}
    with pytest.raises(UserError, match=r"train images 3 of 20,210 \(20,207 missing\); val images 3 of 2,000"):
        prepare(flags)
    assert not out.exists()
    prepare([*flags, "--partial"])
    words = train_command(capsys.readouterr().out)
    made = content(out)
    assert made.pop("prepared.json")
    assert made == {name: held for name, held in files.items() if "/" in name}
    items = loaded(words)
    assert [sorted(set(item["label"].flatten().tolist())) for item in items] == [[0, 1, 150], [0, 2, 150], [0, 3, 150]]
    assert items[0]["image"].shape == (3, 16, 16)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*")}
    (out / "images/training/ADE_train_00000002.jpg").unlink()
    prepare([*flags, "--partial"])
    after = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*")}
    assert len(after) == 12
    assert {path.stem for path in after if after[path] != before[path]} == {"ADE_train_00000002"}


def test_outdoor_part(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Street by the list, casino_outdoor by its name; misc is in neither list. evaluate.py takes the names."""
    benchmark(tmp_path / "zips")
    flags = ["--downloads", str(tmp_path / "zips"), *ONE]
    out, whole = tmp_path / "outdoor", tmp_path / "ade"
    prepare([*flags, "--out", str(out), "--outdoor"])
    printed = capsys.readouterr().out
    assert "train: images by scene: 1 outdoors, 1 indoors, 1 of categories in neither list" in printed
    assert "val: images by scene: 2 outdoors, 0 indoors, 1 of categories in neither list" in printed
    assert "neither list has their categories, 2 in all: misc 2;" in printed
    assert (out / "left_out_scenes.txt").read_text() == "misc 2\n"
    assert (out / "train.txt").read_text() == "ADE_train_00000001\n"
    assert (out / "val.txt").read_text() == "ADE_val_00000002\nADE_val_00000003\n"
    assert {path.stem for path in out.glob("images/*/*")} == {
        "ADE_train_00000001", "ADE_val_00000002", "ADE_val_00000003"
    }  # fmt: skip
    assert len(loaded(train_command(printed))) == 1
    prepare([*flags, "--out", str(whole)])
    (command,) = re.findall(r"python evaluate\.py (.*)", printed.replace("\\\n", ""))
    words = shlex.split(command)
    for root, places in ((out, [0, 1]), (whole, [1, 2])):
        words[words.index("--dataroot") + 1] = str(root)
        opt = EvaluateOptions().parse([*words, "--no_miou", "--gpu_ids", "-1", "--synthesized", str(tmp_path)])
        assert opt.published == "ade20k-outdoor"
        assert chosen_places(opt, create_dataset(opt)) == places


def test_lists_of_scenes() -> None:
    """Each name is in one list, written as it is looked up, and says nothing by itself."""
    scenes, held = Scenes.load(LIST), json.loads(LIST.read_text())
    assert min(map(len, held.values())) > 500
    for names in held.values():
        assert names == sorted(set(names))
        assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in names)
        assert not [name for name in names if SAYS.keys() & set(name.split("_"))]
    assert not scenes.outdoor & scenes.indoor
    assert len(scenes.outdoor) == len(held["outdoor"]) and len(scenes.indoor) == len(held["indoor"])


@pytest.mark.parametrize(
    ("category", "group", "outdoor"),
    [
        ("street", "", True),
        ("street", "work_place", True),
        ("bedroom", "urban", False),  # a list goes before the group
        ("bus_interior", "", False),
        ("gazebo_exterior", "", True),
        ("bus_station/indoor", "", False),
        ("bus_station__indoor", "urban", False),
        ("Badminton Court Outdoor", "", True),
        ("indoor_outdoor", "", None),
        ("doorway", "", None),
        ("outdoorsy", "", None),  # a part of a name is a whole word
        ("misc", "", None),
        ("misc", "urban", True),
        ("misc", "nature_landscape", True),
        ("misc", "work_place", None),
        ("", "", None),
    ],
)
def test_is_outdoor(category: str, group: str, outdoor: bool | None) -> None:
    assert Scenes.load(LIST).is_outdoor(Place(category, group)) is outdoor


def test_the_list_of_what_was_left_out_is_no_older_than_the_folder(tmp_path: Path) -> None:
    Outdoor({}, Counter(misc=1)).write(tmp_path)
    assert (tmp_path / "left_out_scenes.txt").read_text() == "misc 1\n"
    Outdoor({}, Counter()).write(tmp_path)
    assert not (tmp_path / "left_out_scenes.txt").exists()


def test_own_lists_of_scenes(tmp_path: Path) -> None:
    """They decide alone, and a folder that was made with others is refused."""
    benchmark(tmp_path / "zips")
    own = tmp_path / "own.json"
    own.write_text('{"outdoor": ["misc"], "indoor": ["casino_outdoor"]}')
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE]
    with pytest.raises(UserError, match="--scenes is what --outdoor chooses by: give it too"):
        prepare([*flags, "--scenes", str(own)])
    prepare([*flags, "--scenes", str(own), "--outdoor"])
    assert (tmp_path / "ade/val.txt").read_text() == "ADE_val_00000001\n"
    with pytest.raises(UserError, match=r"was made with scenes 'outdoor, by lists \w+', not 'all': give a new folder"):
        prepare(flags)
    with pytest.raises(
        UserError, match=r"was made with scenes 'outdoor, by lists \w+', not 'outdoor, by lists \w+': give a"
    ):
        prepare([*flags, "--outdoor"])
    own.write_text('{"outdoor": ["street", "beach"], "indoor": ["beach house"]}')
    prepare(
        ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "new"), *ONE, "--outdoor", "--scenes", str(own)]
    )
    assert (tmp_path / "new/val.txt").read_text() == "ADE_val_00000002\nADE_val_00000003\n"  # one says it by its name
    own.write_text('{"outdoor": ["bedroom"], "indoor": ["casino_outdoor"]}')
    with pytest.raises(UserError, match=r"--outdoor: no val image is of a category that \S+own.json has as outdoor"):
        prepare([*flags, "--scenes", str(own), "--outdoor"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no list of scenes"),
        ("[]", 'it has not "outdoor" and "indoor" alone'),
        ('{"outdoor": [], "indoor": [], "other": []}', 'it has not "outdoor" and "indoor" alone'),
        ('{"outdoor": ["a"], "indoor": "bedroom"}', "they are not lists of names"),
        ('{"outdoor": ["a"], "indoor": [1]}', "they are not lists of names"),
        ('{"outdoor": ["a b"], "indoor": ["a_b"]}', "a_b are in both"),
        (None, r"--scenes \S+own.json cannot be read \(No such file"),
    ],
)
def test_bad_lists_of_scenes(text: str | None, message: str, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    if text is not None:
        own.write_text(text)
    with pytest.raises(UserError, match=message):
        Scenes.load(own)


@pytest.mark.parametrize(
    ("changed", "flags", "message"),
    [
        (
            {"annotations/training/ADE_train_00000002.png": None},
            [],
            r"1 of 3 train images has no label map \(\S+ADE_train_00000002.jpg\): download or unpack it again, or",
        ),
        (
            {"images/validation/ADE_val_00000002.jpg": None},
            [],
            r"1 of 3 val images has no photo \(\S+/ADE_val_00000002.png\)",
        ),
        (
            maps_of_training(png(np.full((6, 8), 151, np.uint8))),
            ["--partial"],
            r"ADE_train_00000001.png has ids 151, but the benchmark's are 0 \(unlabelled\) .. 150, not shifted",
        ),
        (
            maps_of_training(png(np.zeros((6, 8, 3), np.uint8))),
            ["--partial"],
            "ADE_train_00000001.png has Pillow mode RGB, but a map of ids has one integer channel",
        ),
        (
            {"sceneCategories.txt": None},
            ["--partial", "--outdoor"],
            r"ADEChallengeData2016.zip has no sceneCategories.txt, which says what images show",
        ),
        (
            {"sceneCategories.txt": b"\xff\xfe<html>"},
            ["--partial", "--outdoor"],
            r"sceneCategories.txt has no line of an image's name and its category, such as ADE_train_00000001 airport",
        ),
        ({}, ["--partial", "--link"], "is an archive, which must be unpacked first"),
        ({f"images/{part}/ADE_{p}_0000000{n}.jpg": None for p, part in PARTS.items() for n in (1, 2, 3)},
         ["--partial"], r"2016.zip has no train images with all their files, which should be images/training/A"),
    ],
)  # fmt: skip
def test_wrong_benchmarks_are_refused_first(
    changed: dict[str, bytes | None], flags: list[str], message: str, tmp_path: Path
) -> None:
    benchmark(tmp_path / "zips", changed)
    with pytest.raises(UserError, match=message):
        prepare(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), "--workers", "1", *flags])
    assert not (tmp_path / "ade").exists()


def test_images_without_a_partner_or_a_category_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    changed = {"annotations/training/ADE_train_00000002.png": None, "sceneCategories.txt": (
        b"ADE_train_00000001 street\nADE_train_00000003\n\nADE_val_00000001 beach house\n"
    )}  # fmt: skip
    benchmark(tmp_path / "zips", changed)
    prepare(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE, "--outdoor"])
    printed = capsys.readouterr().out
    assert "note: " in printed and "1 of 3 train images has no label map" in printed
    assert "3 in all: (none) 3;" in printed
    assert {path.stem for path in tmp_path.glob("ade/images/*/*")} == {"ADE_train_00000001", "ADE_val_00000001"}


def test_damaged_files_of_the_benchmark_are_told_and_all_else_is_done(tmp_path: Path) -> None:
    """From an unpacked tree, with links; what is mended comes with the same command."""
    files = benchmark(tmp_path / "zips")
    tree = unpacked(tmp_path / "zips")
    bad = {
        "images/training/ADE_train_00000002.jpg": files["images/training/ADE_train_00000002.jpg"][:-200],
        "images/training/ADE_train_00000003.jpg": jpeg(8, 9),
        "images/validation/ADE_val_00000003.jpg": b"",
        "annotations/validation/ADE_val_00000002.png": png(np.full((6, 8), 255, np.uint8)),
    }
    for name, held in bad.items():
        (tree / name).write_bytes(held)
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE, "--link"]
    with pytest.raises(
        UserError, match=r"4 could not be prepared: \S+2.jpg cannot be read as an image: .*replace what"
    ):
        prepare(flags)
    told = (tmp_path / "ade/not_prepared.txt").read_text()
    assert "ADE_train_00000003.jpg is 8 x 9 but" in told and "it is empty (0 bytes)" in told
    assert "ADE_val_00000002.png has ids 255" in told
    assert len(list(tmp_path.glob("ade/images/*/*"))) == 2 == len(list(tmp_path.glob("ade/annotations/*/*")))
    for name in bad:
        (tree / name).write_bytes(files[name])
    prepare(flags)
    links = sorted(tmp_path.glob("ade/images/*/*"))
    assert len(links) == 6 and all(link.is_symlink() and link.resolve().is_relative_to(tree) for link in links)
    assert not any(path.is_symlink() for path in tmp_path.glob("ade/annotations/*/*"))
    assert not (tmp_path / "ade/not_prepared.txt").exists()
    assert content(tree) == files


def test_the_tree_itself_is_taken_and_nothing_written_there(tmp_path: Path) -> None:
    benchmark(tmp_path / "zips")
    tree = unpacked(tmp_path / "zips")
    with pytest.raises(UserError, match=r"\S+/new is inside \S+, where originals are; give a folder elsewhere"):
        prepare(["--downloads", str(tree), "--out", str(tree / "new"), *ONE])
    prepare(["--downloads", str(tree), "--out", str(tmp_path / "ade"), *ONE])
    assert len(list(tmp_path.glob("ade/images/*/*"))) == 6


def test_a_benchmark_cut_short(tmp_path: Path) -> None:
    benchmark(tmp_path / "zips")
    path = tmp_path / "zips/ADEChallengeData2016.zip"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"is no zip archive, or one whose download was cut short"):
        prepare(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE])
    path.rename(tmp_path / "zips/other.zip")
    with pytest.raises(UserError, match=r"lacks ADEChallengeData2016.zip \(photos and label maps, 0.97 GB, http"):
        prepare(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE])


# --------------------------------------------------------------------------------------------------------- full ADE20K


def seg(keys: object, instances: object = 0) -> bytes:
    """A *_seg.png of classes and instances [H, W]."""
    keys = np.asarray(keys)
    blue = np.broadcast_to(np.asarray(instances), keys.shape)
    return png(np.stack([keys // 256 * 10, keys % 256, blue], -1).astype(np.uint8))


WALL, FLOOR, TREE, SIGN = 2978, 976, 2855, 773
NAMES = {WALL: "wall", FLOOR: "floor, flooring", TREE: "tree", SIGN: "sign"}
SCENES = {  # by part, folders and stem: the image's rows
    ("train", "s/street", "ADE_train_00000001"): [[WALL] * 4, [TREE, TREE, TREE, 0]],
    ("train", "b/bedroom", "ADE_train_00000002"): [[WALL] * 4, [FLOOR, FLOOR, SIGN, 0]],
    ("train", "m/misc", "ADE_train_00000003"): [[WALL] * 4, [FLOOR, FLOOR, TREE, 0]],
    ("val", "c/casino/outdoor", "ADE_val_00000001"): [[SIGN] * 4, [TREE, TREE, 0, 0]],
}
IN_2021 = {
    "s/street": "urban/street",
    "b/bedroom": "home_or_hotel/bedroom",
    "m/misc": "unclassified/misc",
    "c/casino/outdoor": "sports_and_leisure/casino__outdoor",
}
HEADS = {"2016": "ADE20K_2016_07_26/images", "2021": "ADE20K_2021_17_01/images/ADE"}


def names_file(release: str, keys: Sequence[int], first: int = 1) -> tuple[str, bytes]:
    """Ending and content of the file of an image's objects; `first`: the number of the list's first class."""
    if release == "2016":
        lines = [f'{n:03d} # 0 # 0 # {NAMES[key]} # raw # ""' for n, key in enumerate(keys, 1)]
        return "_atr.txt", "\n".join([*lines, f'{len(keys):03d} # 1 # 0 # part # raw # ""']).encode()
    objects = [{"name": NAMES[key], "name_ndx": key - 1 + first, "parts": {"part_level": 0}} for key in keys]
    return ".json", json.dumps({"annotation": {"object": objects}}).encode()


def ade(
    folder: Path,
    release: str = "2016",
    index: bytes | None = None,
    changed: Mapping[str, bytes | None] = {},
    first: int = 1,
) -> None:
    """A release's archive in a new folder."""  # fmt: skip
    files: dict[str, bytes | None] = {}
    for number, ((part, place, stem), rows) in enumerate(SCENES.items()):
        start = f"{PARTS[part]}/{place if release == '2016' else IN_2021[place]}/{stem}"
        keys = sorted({key for row in rows for key in row} - {0})
        ending, objects = names_file(release, keys, first)
        files |= {f"{start}.jpg": jpeg(4, 2, number), f"{start}_seg.png": seg(rows), f"{start}{ending}": objects}
        files[f"{start}_parts_1.png"] = b"not read"
        if release == "2021":
            files[f"{start}/instance_000_{stem}.png"] = b"not read"
    held = {f"{HEADS[release]}/{name}": file for name, file in {**files, **changed}.items() if file is not None}
    if index is not None:
        held[f"{HEADS[release].split('/')[0]}/index_ade20k.mat"] = index
    folder.mkdir(exist_ok=True)
    zipped(folder / f"{HEADS[release].split('/')[0]}.zip", held)


def segs(held: bytes) -> dict[str, bytes]:
    """That for all label maps of the release of 2016."""
    return {f"{PARTS[part]}/{place}/{stem}_seg.png": held for part, place, stem in SCENES}


def index_mat(names: Sequence[str]) -> bytes:
    """An index_ade20k.mat with the names of classes 1 .. C."""
    stream = io.BytesIO()
    savemat(stream, {"index": {"objectnames": np.array(names, object), "description": "none"}})
    return stream.getvalue()


def class_names(out: Path) -> list[str]:
    """The names of classes 0 .. n - 1."""
    return [entry["name"] for entry in json.loads((out / "classes.json").read_text())["classes"]]


def test_what_colours_mean(tmp_path: Path) -> None:
    """Tens of red times 256, and green: the class; blue: the instance."""
    (tmp_path / "a_seg.png").write_bytes(png(np.array([[[0, 0, 0], [19, 7, 3], [255, 255, 255]]], np.uint8)))
    image = full.Annotated("a", "a.jpg", "a_seg.png", None, Place(""))
    keys, instances = full.read_seg(image, Source(tmp_path))
    assert (keys.tolist(), instances.tolist()) == ([[0, 256 + 7, 25 * 256 + 255]], [[0, 3, 255]])


@pytest.mark.parametrize("release", ["2016", "2021"])
def test_full_ade20k(release: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """12 pixels of wall, 4 of floor, 4 of tree (the larger number), 1 of sign: three classes, and unknown."""
    ade(tmp_path / "zips", release, index_mat([NAMES.get(key, "other") for key in range(1, 3149)]))
    out = tmp_path / "ade"
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(out), "--workers", "1", "--classes", "3"]
    official = {"2016": "20,210", "2021": "25,574"}[release]
    with pytest.raises(
        UserError, match=rf"ADE20K of {release} in \S+.zip: train images 3 of {official} .*val images 1 of 2,000"
    ):
        prepare_full(flags)
    assert not out.exists()
    prepare_full([*flags, "--partial"])
    printed = capsys.readouterr().out
    words = train_command(printed)
    assert "--no_instance" in words and "classes: 3, with 95.2% of the labelled training pixels" in printed  # 20 of 21
    assert sorted(str(path.relative_to(out)) for path in out.glob("*/*")) == sorted(
        f"{part}_{kind}" for part, _, stem in SCENES for kind in (f"img/{stem}.jpg", f"label/{stem}.png")
    )
    assert ids(out / "train_label/ADE_train_00000002.png") == [[0] * 4, [1, 1, 255, 255]]
    assert ids(out / "train_label/ADE_train_00000003.png") == [[0] * 4, [1, 1, 2, 255]]
    assert ids(out / "val_label/ADE_val_00000001.png") == [[255] * 4, [2, 2, 255, 255]]
    assert class_names(out) == ["wall", "floor;flooring", "tree"]
    listed = json.loads((out / "class_pixels.json").read_text())["classes"]
    assert [(entry["index"], entry["pixels"]) for entry in listed] == [(WALL, 12), (FLOOR, 4), (TREE, 4), (SIGN, 1)]
    items = loaded(words)
    assert [sorted(set(item["label"].flatten().tolist())) for item in items] == [[0, 2, 3], [0, 1, 3], [0, 1, 2, 3]]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*_*/*")}
    prepare_full([*flags, "--partial", "--instances"])  # they can be added
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert len(list(out.glob("train_inst/*"))) == 3
    assert "instance" in loaded(train_command(capsys.readouterr().out))[0]


def test_more_classes_than_8_bits_hold(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of 302 classes of 2 and more pixels the 300 largest; 255 is one of them, so that unknown is 300."""
    keys = np.repeat(np.arange(1000, 1302), 2 + np.arange(302) // 100)
    keys = np.pad(keys, (0, 30 * 32 - len(keys))).reshape(30, 32)
    start = "training/s/street/ADE_train_00000001"
    ade(tmp_path / "zips", changed={f"{start}_seg.png": seg(keys), f"{start}.jpg": jpeg(32, 30)})
    out = tmp_path / "ade"
    prepare_full(["--downloads", str(tmp_path / "zips"), "--out", str(out), *ONE])
    words = train_command(capsys.readouterr().out)
    assert words[words.index("--unknown_id") + 1] == "300" == words[words.index("--label_nc") + 1]
    made = np.array(ids(out / "train_label/ADE_train_00000001.png"))
    assert made.max() == 300 and (made[keys == 0] == 300).all()
    assert made[keys == 1301].tolist() == [2] * 5  # behind the wall of other images, 8 pixels, and 1300, 5 as well
    opt = TrainOptions().parse([*words, "--preprocess_mode", "none", "--no_flip", "--batchSize", "1"])
    dataset = create_dataset(opt)
    assert dataset.label_at(0).tolist() == made.tolist()


def test_instance_maps_have_a_number_for_each_object_of_each_class(tmp_path: Path) -> None:
    keys = [[WALL, WALL, TREE, TREE], [0, 25 * 256 + 255, FLOOR, FLOOR]]  # the highest number that colours have
    instances = [[1, 2, 2, 2], [0, 255, 255, 0]]
    start = "training/s/street/ADE_train_00000001"
    ade(tmp_path / "zips", changed={f"{start}_seg.png": seg(keys, instances)})
    flags = ["--downloads", str(tmp_path / "zips"), *ONE, "--instances", "--classes", "1"]
    prepare_full([*flags, "--out", str(tmp_path / "ade")])
    assert ids(tmp_path / "ade/val_inst/ADE_val_00000001.png") == [[1] * 4, [2, 2, 0, 0]]  # sign and tree; unlabelled
    made = tmp_path / "ade/train_inst/ADE_train_00000001.png"
    assert Image.open(made).mode in ("I;16", "I")  # as versions of Pillow call 16 bits
    pixels = np.array(ids(made)).reshape(-1)
    expected = list(zip(np.reshape(keys, -1).tolist(), np.reshape(instances, -1).tolist(), strict=True))
    assert len(set(pixels)) == 7 == len(set(expected))
    assert len(set(zip(pixels, expected, strict=True))) == 7  # also of those that are of no class


@pytest.mark.parametrize("release", ["2016", "2021"])
@pytest.mark.parametrize("index", [None, b"MATLAB 5.0 MAT-file, damaged"])
@pytest.mark.parametrize("first", [0, 1])
def test_names_from_the_annotations(
    release: str, index: bytes | None, first: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ade(tmp_path / "zips", release, index, first=first)
    prepare_full(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE])
    assert class_names(tmp_path / "ade") == ["wall", "floor;flooring", "tree", "sign"]
    told = "index_ade20k.mat cannot be read" in capsys.readouterr().out
    assert told is (index is not None)


@pytest.mark.parametrize(
    "held",
    [
        None,
        *(b"", b"{", b"[]", b"\xff"),
        b'{"annotation": {"object": [{"name": "wall"}]}}',
        b'{"annotation": {"object": [{"name": "wall", "name_ndx": Infinity}]}}',
    ],
)
def test_without_names_classes_have_numbers(held: bytes | None, tmp_path: Path) -> None:
    names = {f"{PARTS[part]}/{IN_2021[place]}/{stem}.json": held for part, place, stem in SCENES}
    ade(tmp_path / "zips", "2021", changed=names)
    prepare_full(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE])
    assert class_names(tmp_path / "ade") == [f"class {key}" for key in (WALL, FLOOR, TREE, SIGN)]


def crash(content: io.BytesIO, **how: object) -> None:
    """End the process as a fault in memory does."""
    os._exit(1)


def test_a_crash_over_the_index_is_none_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """scipy's reader crashes on some damaged files."""
    ade(tmp_path / "zips", index=b"damaged")
    monkeypatch.setattr(matlab, "loadmat", crash)
    monkeypatch.setattr(matlab, "ProcessPoolExecutor", ProcessPoolExecutor)
    prepare_full(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE])
    printed = capsys.readouterr().out
    assert "index_ade20k.mat cannot be read (its reader crashed); names of classes are taken from the ann" in printed
    assert "note: --classes 300: training images have pixels of only 4, which are taken" in printed
    assert class_names(tmp_path / "ade") == ["wall", "floor;flooring", "tree", "sign"]


def test_odd_names_are_kept_as_far_as_text_goes(tmp_path: Path) -> None:
    odd = b'{"annotation": {"object": [{"name": "b\xe9d \\ud800", "name_ndx": 2978}, {"name": "", "name_ndx": 976}]}}'
    held = {f"{PARTS[part]}/{IN_2021[place]}/{stem}.json": odd for part, place, stem in SCENES}
    ade(tmp_path / "zips", "2021", changed=held)
    prepare_full(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE, "--classes", "2"])
    assert class_names(tmp_path / "ade") == ["b\ufffdd ?", f"class {FLOOR}"]


def test_names_that_fit_alike_are_nobodys() -> None:
    """Bed and lamp are always together; a name that is in few of a class's images is not its own."""
    together = full.Counted({5: 1, 6: 1}, [(0, "bed"), (0, "lamp")])
    alone = full.Counted({7: 1}, [])
    once = full.Counted({7: 1}, [(0, "sofa")])
    assert full.names_in_company([together, together], [5, 6]) == {}
    assert full.names_in_company([alone, alone, once], [7]) == {}
    assert full.names_in_company([alone, once, once], [7]) == {7: "sofa"}


@pytest.mark.parametrize(
    ("release", "train", "left_out"),
    [("2016", ["ADE_train_00000001"], "misc 1\n"), ("2021", ["ADE_train_00000001"], "misc 1\n")],
)
def test_full_outdoor_part(release: str, train: list[str], left_out: str, tmp_path: Path) -> None:
    """By the folders; classes are those of the images that are taken: wall 4, tree 3 pixels."""
    ade(tmp_path / "zips", release)
    out = tmp_path / "ade"
    prepare_full(["--downloads", str(tmp_path / "zips"), "--out", str(out), *ONE, "--outdoor"])
    assert [path.stem for path in out.glob("train_img/*")] == train
    assert [path.stem for path in out.glob("val_img/*")] == ["ADE_val_00000001"]
    assert (out / "left_out_scenes.txt").read_text() == left_out
    assert [e["index"] for e in json.loads((out / "class_pixels.json").read_text())["classes"]] == [WALL, TREE]


def test_where_an_outdoor_part_goes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ade(tmp_path / "zips")
    benchmark(tmp_path / "other")
    prepare_full(["--downloads", "zips", *ONE, "--outdoor"])
    prepare(["--downloads", "other", *ONE, "--outdoor"])
    assert sorted(path.name for path in tmp_path.glob("datasets/*")) == ["ade20k_full_outdoor", "ade20k_outdoor"]


def test_places_by_folders(tmp_path: Path) -> None:
    names = ("a/abbey/i_1", "b/bus_station/indoor/i_2", "urban/street/i_3", "urban/i_4", "i_5")
    for name in names:
        for ending in (".jpg", "_seg.png"):
            path = tmp_path / f"images/training/{name}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for ending in (".jpg", "_seg.png"):
        path = tmp_path / f"images/validation/a/abbey/i_6{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    images, index = full.images_of(Source(tmp_path), partial=False)
    assert {image.stem: (image.place.category, image.place.group) for image in images["train"]} == {
        "i_1": ("abbey", ""),
        "i_2": ("bus_station_indoor", ""),
        "i_3": ("street", "urban"),
        "i_4": ("urban", "urban"),
        "i_5": ("", ""),
    }
    assert ([image.stem for image in images["val"]], index) == (["i_6"], None)
    for path in tmp_path.glob("images/validation/*/*/*"):
        path.unlink()
    message = (
        r"no val images with all their files, which should be ADE_val_\*.jpg and ADE_val_\*_seg.png below images/va"
    )
    with pytest.raises(UserError, match=message):
        full.images_of(Source(tmp_path), partial=True)


def test_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends while files are written goes on without counting again, to what a whole run makes."""
    ade(tmp_path / "zips")
    flags = ["--downloads", str(tmp_path / "zips"), *ONE, "--instances"]
    prepare_full([*flags, "--out", str(tmp_path / "whole")])
    calls = []

    def four_times(write: Callable[[object, Path], None]) -> Callable[[object, Path], None]:
        def write_or_end(content: object, path: Path) -> None:
            if len(calls) == 4:
                raise KeyboardInterrupt
            calls.append(path)
            write(content, path)

        return write_or_end

    with monkeypatch.context() as patch:
        for module, name in ((output, "put"), (full, "save_image")):
            patch.setattr(module, name, four_times(getattr(module, name)))
        with pytest.raises(KeyboardInterrupt):
            prepare_full([*flags, "--out", str(tmp_path / "ade")])
    assert len(list(tmp_path.glob("ade/*/*"))) == 4
    with monkeypatch.context() as patch:
        patch.setattr(full, "count", None)
        prepare_full([*flags, "--out", str(tmp_path / "ade")])
    assert content(tmp_path / "ade") == content(tmp_path / "whole")
    (tmp_path / "ade/class_pixels.json").write_text('{"images": 1}')
    with pytest.raises(UserError, match=r"class_pixels.json is damaged .*; delete it, and the same command counts aga"):
        prepare_full([*flags, "--out", str(tmp_path / "ade")])


def test_counting_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ade(tmp_path / "zips")
    flags = ["--downloads", str(tmp_path / "zips"), *ONE]
    prepare_full([*flags, "--out", str(tmp_path / "whole")])
    calls: list[str] = []

    def stopping(image: full.Annotated, **how: object) -> dict:
        calls.append(image.stem)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return count(image, **how)

    count = full.count
    monkeypatch.setattr(full, "count", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare_full([*flags, "--out", str(tmp_path / "ade")])
    prepare_full([*flags, "--out", str(tmp_path / "ade")])
    assert sorted(calls[:2] + calls[3:]) == sorted(stem for part, _, stem in SCENES if part == "train")
    assert content(tmp_path / "ade") == content(tmp_path / "whole")


def test_damaged_label_maps_are_told_once_and_counted_when_they_are_mended(tmp_path: Path) -> None:
    ade(tmp_path / "zips")
    flags = ["--downloads", str(tmp_path / "zips"), *ONE]
    tree = unpacked(tmp_path / "zips")
    prepare_full([*flags, "--out", str(tmp_path / "whole")])
    path = tree / "images/training/m/misc/ADE_train_00000003_seg.png"
    held = path.read_bytes()
    path.write_bytes(held[:60])
    with pytest.raises(UserError, match=r"^1 could not be prepared: \S+ADE_train_00000003_seg.png cannot be read"):
        prepare_full([*flags, "--out", str(tmp_path / "ade")])
    assert len(list(tmp_path.glob("ade/*_label/*"))) == 3
    path.write_bytes(held)
    prepare_full([*flags, "--out", str(tmp_path / "ade")])
    made, whole = (content(tmp_path / name) for name in ("ade", "whole"))
    assert made == whole


def test_damaged_photos_are_told_and_all_else_is_done(tmp_path: Path) -> None:
    """From an unpacked tree, with links; nothing is written there."""
    ade(tmp_path / "zips")
    tree = unpacked(tmp_path / "zips")
    before = content(tree)
    photo = tree / "images/training/m/misc/ADE_train_00000003.jpg"
    photo.write_bytes(jpeg(8, 9))
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE, "--link"]
    with pytest.raises(
        UserError, match=r"1 could not be prepared: \S+3.jpg is 8 x 9 but \S+3_seg.png is 4 x 2 \(width"
    ):
        prepare_full(flags)
    assert len(list(tmp_path.glob("ade/*_label/*"))) == 3 == len(list(tmp_path.glob("ade/*_img/*")))
    photo.write_bytes(before["images/training/m/misc/ADE_train_00000003.jpg"])
    prepare_full(flags)
    assert all(path.is_symlink() for path in tmp_path.glob("ade/*_img/*"))
    assert content(tree) == before
    with pytest.raises(UserError, match=r"\S+/new is inside \S+, where originals are"):
        prepare_full(["--downloads", str(tree), "--out", str(tree / "new"), *ONE])


def test_other_training_images_with_other_classes_need_a_new_folder(tmp_path: Path) -> None:
    ade(tmp_path / "zips")
    tree = unpacked(tmp_path / "zips")
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE, "--classes", "2"]
    prepare_full(flags)
    start = tree / "images/training/s/street/ADE_train_00000004"
    Path(f"{start}.jpg").write_bytes(jpeg(4, 2))
    Path(f"{start}_seg.png").write_bytes(seg([[FLOOR] * 4, [0] * 4]))
    prepare_full(flags)  # wall and floor are the largest still
    Path(f"{start}_seg.png").write_bytes(seg([[SIGN] * 4] * 2))
    Path(f"{start}.jpg").rename(tree / "images/training/s/street/ADE_train_00000005.jpg")
    Path(f"{start}_seg.png").rename(tree / "images/training/s/street/ADE_train_00000005_seg.png")
    with pytest.raises(UserError, match="has the classes that are most frequent in other training images"):
        prepare_full(flags)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (segs(png(np.zeros((2, 4), np.uint8))), "ADE_train_00000002_seg.png is a PNG of mode L, but ADE20K's"),
        (segs(jpeg(4, 2)), "is a JPEG of mode RGB, but ADE20K's"),
        ({"training/a/abbey/ADE_train_00000001.jpg": b"x"}, "has both .* must have different names"),
        ({"training/s/street/ADE_train_00000009.jpg": b"x"}, "1 of 4 train images has no label map"),
        ({"training/s/street/ADE_train_00000009_seg.png": b"x"}, "1 of 4 train images has no photo"),
    ],
)
def test_wrong_releases_are_refused_first(changed: dict[str, bytes], message: str, tmp_path: Path) -> None:
    ade(tmp_path / "zips", changed=changed)
    partial = ["--partial"] if "mode" in message else []
    with pytest.raises(UserError, match=message):
        prepare_full(
            ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), "--workers", "1", *partial]
        )
    assert not (tmp_path / "ade").exists()


def test_label_maps_without_any_class(tmp_path: Path) -> None:
    ade(tmp_path / "zips", changed=segs(seg(np.zeros((2, 4), int))))
    with pytest.raises(UserError, match="no training image has a pixel of any class"):
        prepare_full(["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE])


def test_which_release(tmp_path: Path) -> None:
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "ade"), *ONE]
    with pytest.raises(UserError, match="zips is no folder"):
        prepare_full(flags)
    (tmp_path / "zips").mkdir()
    with pytest.raises(UserError, match=r"lacks ADE20K_2016_07_26.zip \(.*\) or ADE20K_2021_17_01.zip \("):
        prepare_full(flags)
    ade(tmp_path / "zips", "2016")
    with pytest.raises(UserError, match=r"lacks ADE20K_2021_17_01.zip .*; unpacked they are ADE20K_2021_17_01$"):
        prepare_full([*flags, "--release", "2021"])
    ade(tmp_path / "zips", "2021")
    with pytest.raises(UserError, match="are both there: choose with --release 2016 or --release 2021"):
        prepare_full(flags)
    prepare_full([*flags, "--release", "2021"])
    with pytest.raises(UserError, match="was made with .*release '2021', not '2016'"):
        prepare_full([*flags, "--release", "2016"])


# ------------------------------------------------------------------------------------------------ what archives promise


def read_member(name: str, source: Source) -> bytes:
    """For other processes."""
    return source.read(name)


def test_processes_read_an_archive_at_once(tmp_path: Path) -> None:
    """It is opened before they are forked, but each reads at places of its own."""
    rng = np.random.default_rng(0)
    files = {f"{number}.jpg": rng.bytes(30_000) for number in range(200)}
    zipped(tmp_path / "a.zip", files)
    source = Archive(tmp_path / "a.zip")
    names = source.names()
    held, failures = run_all(functools.partial(read_member, source=source), names, 3)
    assert (dict(zip(names, held, strict=True)), failures) == (files, [])
