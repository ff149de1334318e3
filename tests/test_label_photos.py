"""Photos without annotations to a data set. The segmenter here names what is red, green or blue."""

import base64
import csv
import errno
import functools
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from data import create_dataset
from data.twins import SIDE
from datasets import label_photos
from datasets.preparation import labelling
from datasets.preparation.archives import Source
from datasets.preparation.credits import Credit, read_credits
from datasets.preparation.labelling import IDS, Job, Labeller, pixels_of
from datasets.preparation.ledger import Ledger
from datasets.preparation.photo_facts import ARTIST, COPYRIGHT, ORIENTATION, Facts, exif_text, look_at, photos_in
from datasets.preparation.selection import by_classes, is_licensed, landscape_rules, twins
from evaluation import segmenters
from evaluation.confusion import PRESENT
from evaluation.segmenters import SEGMENTERS, trained
from evaluation.segmenters.kind import Kind
from options.train_options import TrainOptions
from tests.test_prepare import train_command
from util.class_table import ClassTable
from util.errors import UserError

ROCK, TREE, SKY = 0, 1, 2  # red, green, blue
COLORS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
BLOCKS = 8  # to a side of a photo


class Colors(nn.Module):
    """The channels are the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.batches: list[int] = []  # sizes of what it was shown


def scores(net: Colors, images: Tensor, size: tuple[int, int]) -> Tensor:
    net.batches.append(len(images))
    return F.interpolate(images.float(), size)


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Colors:
    """What all photos are shown to."""
    net, kind = Colors(), Kind("colours", Colors, scores, None, range(3), PRESENT, ())
    names = {ROCK: "rock", TREE: "tree;wood", SKY: "sky", 255: "unknown"}
    labeller = Labeller(kind, net, "colours (1)", 64, names, 255, ["--label_nc", "3"])
    monkeypatch.setattr(label_photos, "open_labeller", lambda which, weights, unknown_below: labeller)
    return net


def blocks(seed: int, sky: int = 32, rock: int = 0) -> np.ndarray:
    """Classes [8, 8]: so many of 64 blocks are sky and rock, all others tree, anywhere."""
    classes = np.array([SKY] * sky + [ROCK] * rock + [TREE] * (64 - sky - rock))
    return np.random.default_rng(seed).permutation(classes).reshape(BLOCKS, BLOCKS)


def picture(classes: np.ndarray, width: int = 64, height: int = 64) -> Image.Image:
    """A photo in the colours of classes."""
    return Image.fromarray(COLORS[classes]).resize((width, height), Image.Resampling.NEAREST)


def save(path: Path, photo: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photos, sky in 10, 20, ... 60 of their 64 blocks."""
    for i in range(1, 7):
        save(tmp_path / f"photos/tour{i % 2}/p{i}.png", picture(blocks(i, sky=10 * i)))
    return tmp_path / "photos"


def run(photos: Path, *flags: str) -> dict[str, dict[str, str]]:
    """The rows of the manifest, by original path."""
    out = photos.parent / "out"
    common = ["--photos", str(photos), "--out", str(out), "--gpu_ids", "-1", "--workers", "1", "--smallest", "16"]
    label_photos.main([*common, *flags])
    return rows(out)


def rows(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "manifest.csv", encoding="utf-8", newline="") as file:
        return {row["original"]: row for row in csv.DictReader(file)}


def files(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.glob("*_*/*"))


def label(out: Path, file: str) -> np.ndarray:
    """The label map of a photo of the data set."""
    return np.asarray(Image.open(out / f"{file.replace('_img', '_label').rpartition('.')[0]}.png"))


def reasons(manifest: dict[str, dict[str, str]]) -> dict[str, str]:
    """Why photos are left out, in a word."""
    return {name: row["reason"].split(":")[0] for name, row in manifest.items() if row["reason"]}


# ------------------------------------------------------------------------------------------------------- the data set


def test_photos_become_a_data_set(net: Colors, photos: Path, capsys: pytest.CaptureFixture) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    manifest, out = run(photos, "--val", "2"), photos.parent / "out"
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    parts = [row["part"] for row in manifest.values()]
    assert parts.count("train") == 4 and parts.count("val") == 2
    assert list(manifest) == [f"tour{i % 2}/p{i}.png" for i in (2, 4, 6, 1, 3, 5)]
    row = manifest["tour1/p3.png"]
    assert row["file"] == f"{row['part']}_img/p3.png" and row["classes"] == "tree 0.531; sky 0.469"  # 34 and 30 of 64
    assert (row["width"], row["height"], row["licence"], row["reason"]) == ("64", "64", "", "")
    assert (out / row["file"]).read_bytes() == (photos / "tour1/p3.png").read_bytes()
    assert (label(out, row["file"]) == blocks(3, sky=30).repeat(8, 0).repeat(8, 1)).all()
    said = capsys.readouterr().out
    assert "        6 photos in" in said and "        6 are left" in said
    assert "note: of 6 photos 6 have no source, 6 have no author, 6 have no licence" in said
    opt = TrainOptions().parse([*train_command(said), "--gpu_ids", "-1"])
    assert (opt.label_nc, opt.no_instance) == (3, True)
    assert len(create_dataset(opt)) == 4


def test_photos_of_one_size_are_seen_together(net: Colors, photos: Path) -> None:
    """Six of 64 x 64 and one of 64 x 32 pixels; one is larger, so that its label map is."""
    save(photos / "wide.png", picture(blocks(9), 64, 32))
    save(photos / "large.png", picture(blocks(10), 128, 128))
    manifest = run(photos, "--batchSize", "4")
    assert sorted(net.batches) == [1, 1, 2, 4]
    assert label(photos.parent / "out", manifest["large.png"]["file"]).shape == (128, 128)
    assert label(photos.parent / "out", manifest["wide.png"]["file"]).shape == (32, 64)


def test_large_photos_are_shrunk(net: Colors, tmp_path: Path) -> None:
    """To 32 pixels of the shorter side, as JPEGs; smaller ones are copied."""
    large, small = blocks(1), blocks(2)
    save(tmp_path / "photos/large.png", picture(large, 128, 64))
    save(tmp_path / "photos/small.PNG", picture(small, 32, 32))
    manifest, out = run(tmp_path / "photos", "--short_side", "32", "--val", "0"), tmp_path / "out"
    assert files(out) == [
        f"train_{name}" for name in ("img/large.jpg", "img/small.png", "label/large.png", "label/small.png")
    ]
    photo = np.asarray(Image.open(out / "train_img/large.jpg")).astype(int)
    assert photo.shape == (32, 64, 3) and (manifest["large.png"]["width"], manifest["large.png"]["height"]) == (
        "128",
        "64",
    )
    centres = np.ix_(np.arange(2, 32, 4), np.arange(4, 64, 8))  # of blocks of 8 x 4 pixels
    assert np.abs(photo[centres] - COLORS[large]).max() < 20
    assert (label(out, "train_img/large.jpg")[centres] == large).all()


def test_label_maps_of_very_large_photos(net: Colors, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the scores of all classes would take too much, what is seen at a smaller size is repeated."""
    monkeypatch.setattr(labelling, "MOST_SCORED", 8 * 8)
    manifest = run(photos)
    seen = label(photos.parent / "out", manifest["tour1/p1.png"]["file"])
    assert seen.shape == (64, 64) and (seen == seen[::8, ::8].repeat(8, 0).repeat(8, 1)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_viewers_show_them(orientation: int, net: Colors, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / "photos/a.jpg", picture(blocks(1), 64, 32), exif=exif, quality=95, subsampling=0)
    (row,) = run(tmp_path / "photos", "--val", "0").values()
    shown = ImageOps.exif_transpose(Image.open(path))
    assert shown.size == ((32, 64) if orientation > 4 else (64, 32)) == (int(row["width"]), int(row["height"]))
    made = Image.open(tmp_path / "out" / row["file"])
    assert made.size == shown.size and made.getexif().get(ORIENTATION, 1) == 1
    assert np.abs(np.asarray(made).astype(int) - np.asarray(shown)).max() < 40
    assert (label(tmp_path / "out", row["file"]) == np.asarray(shown).argmax(2)).all()
    assert ((tmp_path / "out" / row["file"]).read_bytes() == path.read_bytes()) == (orientation == 1)


def test_tiffs_are_not_turned_twice(net: Colors, tmp_path: Path) -> None:
    """Pillow turns them when it reads them, for the loader too."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[ARTIST] = 6, "Ann"
    path = save(tmp_path / "photos/a.tif", picture(blocks(1), 64, 32), exif=exif)
    (row,) = run(tmp_path / "photos", "--val", "0").values()
    assert (row["width"], row["height"], row["author"]) == ("32", "64", "Ann")
    assert (tmp_path / "out" / row["file"]).read_bytes() == path.read_bytes()
    assert label(tmp_path / "out", row["file"]).shape == (64, 32)


def test_unsure_pixels_are_unknown(net: Colors) -> None:
    """Logits 0, 0, log 2 make probabilities 1/4, 1/4, 1/2; of scores that are probabilities 0.6 is the highest."""
    kind = Kind("k", Colors, lambda net, images, size: images, None, (7, 21, 11), PRESENT, ())
    labeller = Labeller(kind, net, "", 64, {}, 255, [])
    logits = torch.tensor([0, 0, 2.0]).log1p().mul(np.log(2) / np.log(3)).view(1, 3, 1, 1)
    assert labeller.maps(logits, (1, 1), 0.0).tolist() == [[[11]]]
    assert labeller.maps(logits, (1, 1), 0.49).tolist() == [[[11]]]
    assert labeller.maps(logits, (1, 1), 0.51).tolist() == [[[255]]]
    sure = Labeller(kind, net, "", 64, {}, 255, [], is_probable=True)
    shares = torch.tensor([0.1, 0.6, 0.3]).view(1, 3, 1, 1)
    assert sure.maps(shares, (1, 1), 0.55).tolist() == [[[21]]]
    assert labeller.maps(shares, (1, 1), 0.55).tolist() == [[[255]]]


def test_names_are_plain_and_differ(net: Colors, tmp_path: Path) -> None:
    """And photos keep theirs when others come that would have had them."""
    for i, name in enumerate(("b/Sea side.png", "c/sea_side.jpg", "=1+1\n.png")):
        save(tmp_path / "photos" / name, picture(blocks(i)))
    manifest = run(tmp_path / "photos", "--val", "0")
    assert {name: row["file"] for name, row in manifest.items()} == {
        "./=1+1\\n.png": "train_img/_1_1_.png",
        "b/Sea side.png": "train_img/Sea_side.png",
        "c/sea_side.jpg": "train_img/c_sea_side.jpg",
    }
    save(tmp_path / "photos/a/sea_side.png", picture(blocks(7)))
    net.batches.clear()
    again = run(tmp_path / "photos", "--val", "0")
    assert again.pop("a/sea_side.png")["file"] == "train_img/a_sea_side.png"
    assert again == manifest and net.batches == [1]


# ------------------------------------------------------------------------------------------------ what is left out


def test_what_is_left_out_by_its_file(net: Colors, photos: Path, capsys: pytest.CaptureFixture) -> None:
    whole = (photos / "tour1/p1.png").read_bytes()
    (photos / "a_copy.png").write_bytes(whole)
    (photos / "damaged.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("no picture")
    (photos / "notes.txt").write_text("no picture by its name")
    (photos / ".hidden").mkdir()
    (photos / ".hidden/p.png").write_bytes(whole)
    os.mkfifo(photos / "pipe.png")
    save(photos / "small.png", picture(blocks(20), 64, 39))
    save(photos / "wide.png", picture(blocks(21), 101, 40))
    save(photos / "fine.png", picture(blocks(22), 100, 40))
    save(photos / "blank.png", Image.new("RGB", (64, 64), (90, 120, 60)))
    save(photos / "grey.png", picture(blocks(23)).convert("L"))
    manifest = run(photos, "--smallest", "40", "--colored")
    assert reasons(manifest) == {
        "tour1/p1.png": "copy",
        **dict.fromkeys(("damaged.png", "empty.jpg", "text.jpg", "pipe.png"), "unreadable"),
        **{"small.png": "small", "wide.png": "shape", "blank.png": "blank", "grey.png": "colorless"},
    }
    assert manifest["pipe.png"]["reason"] == "unreadable: it is no plain file" and not manifest["pipe.png"]["width"]
    assert manifest["tour1/p1.png"]["reason"] == "copy: the same file as a_copy.png"
    assert manifest["wide.png"]["reason"] == "shape: 101 x 40 is 2.52 to 1, more than 2.5 to 1"
    said = capsys.readouterr().out
    assert "       16 photos in" in said and "       -4 cannot be read" in said and "        7 are left" in said
    assert "grey.png" not in reasons(run(photos, "--smallest", "40"))
    assert sum(net.batches) == 8  # what is left out is not shown to the segmenter


def test_twins(net: Colors, tmp_path: Path) -> None:
    """The same photo compressed again, resized or mirrored; the largest stays, of equals the first by name."""
    one, folder = picture(blocks(1), 128, 96), tmp_path / "photos"
    save(folder / "a_compressed.jpg", one, quality=30)
    save(folder / "b.png", one)
    save(folder / "c_small.jpg", one.resize((64, 48), Image.Resampling.BILINEAR), quality=80)
    save(folder / "d_mirrored.png", ImageOps.mirror(one))
    save(folder / "e_bright.png", one.point(lambda value: min(255, value + 40)))
    save(folder / "f_other.png", picture(blocks(2), 128, 96))
    manifest = run(folder, "--val", "0")
    assert reasons(manifest) == dict.fromkeys(("b.png", "c_small.jpg", "d_mirrored.png", "e_bright.png"), "twin")
    assert manifest["d_mirrored.png"]["reason"].startswith("twin: nearly the same as a_compressed.jpg (")
    save(folder / "g_large.png", one.resize((256, 192)))
    assert reasons(run(folder, "--val", "0")) == dict.fromkeys(
        ("a_compressed.jpg", "b.png", "c_small.jpg", "d_mirrored.png", "e_bright.png"), "twin"
    )
    assert not reasons(run(folder, "--val", "0", "--twins", "1"))


def at_angle(degrees: float, name: str, size: int = 10) -> Facts:
    """A photo whose grey levels are one pattern at 0 degrees, another one at 90, and mixed between: their correlation
    is the cosine of the difference."""
    rows = np.arange(SIDE)[:, None] + np.zeros(SIDE)
    first, second = np.where(rows < SIDE / 2, 1, -1), np.where(rows % 2 == 0, 1, -1)
    angle = np.radians(degrees)
    levels = (127.5 + 80 * (np.cos(angle) * first + np.sin(angle) * second)).round().astype(np.uint8)
    grey = base64.b64encode(levels.tobytes()).decode()
    return Facts(name, 1, 1, "", name, size, size, grey=grey)


def test_twins_are_compared_with_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """cos 12 degrees is 0.978 and cos 24 is 0.914: of a row of photos each of which is like the next, every other one
    stays."""
    row = [at_angle(12 * i, f"{i}") for i in range(5)]
    expected = {"1": "0", "3": "2"}

    def found(photos: list[Facts]) -> dict[str, str]:
        return {name: left_out.why.split(" as ")[1].split(" (")[0] for name, left_out in twins(photos, 0.97).items()}

    assert found(row) == expected
    assert found([*row[:3], at_angle(36, "3", size=11), row[4]]) == {"2": "3", "4": "3", "1": "0"}
    monkeypatch.setattr("datasets.preparation.selection.BLOCK", 2)  # photos of others blocks are found as well
    assert found(row) == expected
    assert found([at_angle(degrees, f"at {degrees}") for degrees in (0, 40, 80, 120, 85)]) == {"at 85": "at 80"}
    assert twins(row, 0.98) == {} and twins([], 0.97) == {}


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (["--at_least", "sky=0.625"], [4, 5, 6]),  # 40, 50 and 60 of 64 blocks
        (["--at_least", "sky=0.626"], [5, 6]),
        (["--at_most", "tree=0.2"], [6]),  # 4 of 64; by the first of its names
        (["--at_least", "tree;wood=0.2"], [1, 2, 3, 4, 5]),
        (["--at_least", "s*=0.4", "--at_most", "sky=0.5"], [3]),
        (["--at_least", "sky+tree=1", "--at_most", "rock+unknown=0"], [1, 2, 3, 4, 5, 6]),
    ],
    ids=str,
)
def test_what_is_left_out_by_what_it_shows(flags: list[str], left: list[int], net: Colors, photos: Path) -> None:
    manifest = run(photos, *flags, "--val", "0")
    assert sorted(name[-5] for name, row in manifest.items() if row["file"]) == sorted(map(str, left))
    assert set(reasons(manifest).values()) <= {"classes"}
    if "sky=0.625" in flags:
        assert manifest["tour1/p1.png"]["reason"] == "classes: sky: 0.156, less than 0.625"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--at_least", "sea=0.5"], "--at_least sea: the segmenter knows no such class; there is rock, tree, sky"),
        (["--at_most", "sky"], "--at_most sky: give classes and a share of 0 .. 1, such as --at_most sky-other"),
        (["--at_most", "sky=20"], "--at_most sky=20: give classes and a share"),
        (["--landscapes"], "--landscapes knows the classes of coco and ade20k, and this segmenter has others"),
        (["--group_by", "("], r"--group_by '\(' is no regular expression"),
        (["--metadata", "none.csv"], "--metadata none.csv cannot be read"),
        (["--gpu_ids", "77"], "--gpu_ids 77, but PyTorch sees"),
        (["--photos", "none"], "--photos none is no folder"),
        (["--twins", "-1"], "argument --twins: '-1' is not a number above 0"),
        (["--unknown_below", "1"], "argument --unknown_below: '1' is not a number of at least 0 and below 1"),
    ],
    ids=str,
)
def test_flags_that_cannot_be(flags: list[str], message: str, net: Colors, photos: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(photos, *flags)
    assert not (photos.parent / "out").exists() and not net.batches


def test_nothing_is_left(net: Colors, photos: Path) -> None:
    with pytest.raises(UserError, match=r"no photo is left; \S+manifest.csv says why of each"):
        run(photos, "--at_least", "rock=0.5")
    assert list(reasons(rows(photos.parent / "out")).values()) == ["classes"] * 6
    with pytest.raises(UserError, match="--val 6 leaves none of 6 photos to train on; give less"):
        run(photos, "--val", "6")
    assert sum(net.batches) == 6


def test_folders_that_cannot_be(net: Colors, photos: Path) -> None:
    (photos.parent / "empty").mkdir()
    with pytest.raises(UserError, match="--photos .*empty has no photos"):
        run(photos, "--photos", str(photos.parent / "empty"))
    with pytest.raises(
        UserError, match=r"--out .*photos/out lies in --photos .*photos, where its photos would be found"
    ):
        run(photos, "--out", str(photos / "out"))
    run(photos)
    save(photos.parent / "others/x.png", picture(blocks(1)))
    with pytest.raises(UserError, match="was made of other photos, such as tour0/p2.png, .* has none of them"):
        run(photos, "--photos", str(photos.parent / "others"))


@pytest.mark.parametrize("table", ["coco", "ade20k"])
def test_rules_of_landscapes(table: str) -> None:
    """Every class that they name is there, and none is on two sides."""
    nature, sky, moving, rooms = landscape_rules(table, ClassTable.load(table).names)
    assert sky.ids < nature.ids
    assert not nature.ids & moving.ids and not nature.ids & rooms.ids and not moving.ids & rooms.ids
    with pytest.raises(UserError, match="--landscapes knows the classes of coco and ade20k"):
        landscape_rules("cityscapes", {})


@pytest.mark.real_data
def test_landscapes_of_the_sample(real_data: Path) -> None:
    """By COCO-Stuff's own label maps: a beach with horses far away, birds in the mist, a surfer on the sea."""
    names = ClassTable.load("coco").names | {255: "unknown"}
    rules = landscape_rules("coco", names)
    maps = sorted((real_data / "coco_stuff_sample").glob("*_label/*.png"))
    shown = [path.stem for path in maps if not by_classes(pixels_of(np.asarray(Image.open(path))), rules)]
    assert len(maps) == 21 and [int(stem) for stem in shown] == [138805, 203744, 1490]


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "groups"), [("labelmefacade_256", 8), ("camvid_256", 53)])
def test_twins_of_the_samples(name: str, groups: int, real_data: Path) -> None:
    """What their notes count are photos that have a near-twin: each must be left out or have one that is."""
    source = Source(real_data / name / "train_img")
    facts = [look_at(photo, source) for photo in photos_in(source)]
    levels = np.stack([each.levels for each in facts]).reshape(len(facts), -1)
    alike = np.corrcoef(levels) - 2 * np.eye(len(facts))
    have = {facts[i].original for i in np.flatnonzero(alike.max(1) > 0.97)}
    assert len(have) == groups
    out = twins(facts, 0.97)
    partners = {left_out.why.split(" as ")[1].split(" ")[0] for left_out in out.values()}
    assert set(out) | partners <= have
    stay = [i for i, each in enumerate(facts) if each.original not in out]
    assert alike[np.ix_(stay, stay)].max() <= 0.97
    assert all(alike[i, stay].max() > 0.97 for i, each in enumerate(facts) if each.original in out)


# ------------------------------------------------------------------------------------------------------------ credits


def test_credits_come_from_metadata_or_exif(net: Colors, photos: Path, capsys: pytest.CaptureFixture) -> None:
    exif = Image.Exif()
    exif[ARTIST], exif[COPYRIGHT] = "Zoë Ångström".encode(), "=HYPERLINK(1)"
    save(photos / "exif.jpg", picture(blocks(11)), exif=exif)
    metadata = photos.parent / "credits.csv"
    metadata.write_text(
        "File,Source,Author,License,views\n"
        "p1.png,https://a.example/1,@ann,CC BY 2.0,7\n"
        './tour0/p2.png,https://a.example/2,"Bo\n\x1b[31mred",CC0,8\n'
        "exif.jpg,https://a.example/3,,,9\n",
        encoding="utf-8-sig",
    )
    manifest = run(photos, "--metadata", str(metadata))

    def credits(name: str) -> list[str]:
        return [manifest[name][field] for field in ("source", "author", "licence")]

    assert credits("tour1/p1.png") == ["https://a.example/1", "'@ann", "CC BY 2.0"]
    assert credits("tour0/p2.png") == ["https://a.example/2", r"Bo \x1b[31mred", "CC0"]
    assert credits("exif.jpg") == ["https://a.example/3", "Zoë Ångström", "'=HYPERLINK(1)"]
    assert "note: of 7 photos 4 have no source, 4 have no author, 4 have no licence" in capsys.readouterr().out
    as_json = {"tour1/p1.png": {"source": "s", "licence": "CC0", "author": None}, "nowhere.png": {}}
    for held in (as_json, [{"file": name, **entry} for name, entry in as_json.items()]):
        (photos.parent / "credits.json").write_text(json.dumps(held))
        manifest = run(photos, "--metadata", str(photos.parent / "credits.json"))
        assert credits("tour1/p1.png") == ["s", "", "CC0"]


def test_only_photos_of_some_licences(net: Colors, photos: Path) -> None:
    """A copy with a licence is not left out for one without."""
    (photos / "a_copy.png").write_bytes((photos / "tour1/p1.png").read_bytes())
    licences = {"tour1/p1.png": "CC BY 2.0", "tour0/p2.png": "CC-BY-NC-2.0", "tour1/p3.png": "cc0"}
    lines = [f"{name},{licence}\n" for name, licence in licences.items()]
    (photos.parent / "credits.csv").write_text("".join(["file,licence\n", *lines]))
    flags = ["--metadata", str(photos.parent / "credits.csv"), "--licences", "CC-BY-[0-9]*", "CC0"]
    manifest = run(photos, *flags)
    assert [name for name, row in manifest.items() if row["file"]] == ["tour1/p1.png", "tour1/p3.png"]
    assert manifest["tour0/p2.png"]["reason"] == "licence: licence 'CC-BY-NC-2.0'"
    assert manifest["a_copy.png"]["reason"] == "licence: no licence is known"
    assert is_licensed("CC BY-SA 4.0", ["cc-by-sa-4.0"]) and not is_licensed("CC-BY-NC", ["CC-BY"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"name,author\na.png,Ann\n", "it has no column file"),
        ("m.csv", b"", "it has no column file"),
        ("m.csv", b"\xff\xfe\x00", "can't decode byte 0xff"),
        ("m.json", b"{", "Expecting property name"),
        ("m.json", b"[1]", "it holds other than objects with a file"),
        ("m.json", b'{"a.png": 7}', "'int' object is not a mapping"),
        ("m.json", b"[" * 100_000, "recursion"),
        (
            "m.csv",
            b"file,author\nother.png,Ann\n",
            "names none of the 6 photos: it has other.png, and they are tour0/p2",
        ),
    ],
)
def test_metadata_that_cannot_be_used(name: str, content: bytes, message: str, net: Colors, photos: Path) -> None:
    (photos.parent / name).write_bytes(content)
    with pytest.raises(UserError, match=f"--metadata .*{name} .*{message}"):
        run(photos, "--metadata", str(photos.parent / name))


def test_metadata_by_name(tmp_path: Path) -> None:
    """Not where it is not clear which of two photos is meant."""
    (tmp_path / "m.csv").write_text("file,author\np.png,Ann\nq.png,Bo\n")
    found = read_credits(tmp_path / "m.csv", ["a/p.png", "b/p.png", "b/q.png"])
    assert found == {"b/q.png": Credit(author="Bo")}


def test_texts_of_strangers() -> None:
    assert exif_text("a\0\0b ") == "a; b" and exif_text(b"\xe9t\xe9") == "été" and exif_text(7) == ""
    assert exif_text("Zo\xc3\xab") == "Zoë"  # UTF-8 that was read as Latin-1
    assert exif_text("a\r\n\tb\u202ec\x1b") == r"a b\u202ec\x1b" and len(exif_text("x" * 10**5)) == 300


@pytest.mark.filterwarnings("ignore:.*EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM", b"Exif\0\0" + b"\xff" * 60_000])
def test_hostile_exif(exif: bytes, tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", picture(blocks(1)), exif=exif)
    facts = look_at("a.jpg", Source(tmp_path))
    assert (facts.problem, facts.size, facts.turned, facts.author) == ("", (64, 64), False, "")


# -------------------------------------------------------------------------------------------------------- going on


def test_what_was_labelled_is_not_labelled_again(net: Colors, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, whole = photos.parent / "out", functools.partial(run, photos, "--val", "2")

    def stop(net: Colors, images: Tensor, size: tuple[int, int]) -> Tensor:
        if len(net.batches) == 3:
            raise KeyboardInterrupt
        return scores(net, images, size)

    kind = label_photos.open_labeller("", [], 0).kind
    with monkeypatch.context() as patched:
        patched.setitem(kind.__dict__, "scores", stop)
        with pytest.raises(KeyboardInterrupt):
            whole()
    assert len(net.batches) == 3 and not (out / "manifest.csv").exists()
    with open(out / "cache/labels.jsonl", "a") as file:
        file.write('{"original": "tour1/p5.p')  # as a power failure leaves it
    first = whole()
    assert sum(net.batches) == 6  # the three that were there stayed
    everything = {name: (out / name).read_bytes() for name in files(out)}
    assert whole() == first and sum(net.batches) == 6

    # Other filters: files go, and come back.
    fewer = whole("--at_least", "sky=0.6")
    assert sorted(name[-5] for name, row in fewer.items() if row["file"]) == ["4", "5", "6"]
    assert len(files(out)) == 6 and len(list(out.glob("cache/label/*"))) == 3
    assert json.loads((out / "selection.json").read_text())["at_least"] == ["sky=0.6"]
    assert whole() == first and {name: (out / name).read_bytes() for name in files(out)} == everything
    assert not list(out.glob("cache/label/*"))
    moved = whole("--seed", "5")
    assert {name for name in first if moved[name]["part"] != first[name]["part"]}
    assert sorted(Path(name).name for name in files(out)) == sorted(Path(name).name for name in everything)
    assert sum(net.batches) == 6
    made = json.loads((out / "prepared.json").read_text())
    assert made["images"] == {"train": 4, "val": 2}


def test_photos_that_change(net: Colors, photos: Path) -> None:
    """One is another photo now, one is gone, one is new."""
    out = photos.parent / "out"
    first = run(photos, "--val", "0")
    save(photos / "tour1/p1.png", picture(blocks(50, sky=5), 48, 64))
    (photos / "tour0/p2.png").unlink()
    save(photos / "new.png", picture(blocks(51)))
    again = run(photos, "--val", "0")
    assert sum(net.batches) == 8
    assert (label(out, "train_img/p1.png") == np.asarray(picture(blocks(50, sky=5), 48, 64)).argmax(2)).all()
    assert (out / "train_img/p1.png").read_bytes() == (photos / "tour1/p1.png").read_bytes()
    assert files(out) == sorted(
        f"train_{kind}/{name}.png" for kind in ("img", "label") for name in ("p1", "p3", "p4", "p5", "p6", "new")
    )
    assert again["tour1/p1.png"]["sha256"] != first["tour1/p1.png"]["sha256"] and "tour0/p2.png" not in again
    # Its label map waits for it to come back.
    save(photos / "tour0/p2.png", picture(blocks(2, sky=20)))
    assert run(photos, "--val", "0")["tour0/p2.png"] == first["tour0/p2.png"]
    assert sum(net.batches) == 8
    (out / "train_label/p3.png").unlink()
    run(photos, "--val", "0")
    assert sum(net.batches) == 9


def test_what_labels_depend_on_cannot_change(net: Colors, photos: Path) -> None:
    run(photos)
    for flag, value in (("--longest", "32"), ("--short_side", "8"), ("--unknown_below", "0.5")):
        with pytest.raises(UserError, match=rf"was made with {flag[2:]} .*, not {value}: give a new folder"):
            run(photos, flag, value)


def test_a_photo_that_is_damaged_between(net: Colors, photos: Path, capsys: pytest.CaptureFixture) -> None:
    """All others are there; with the file mended the same command adds it."""
    out, path = photos.parent / "out", photos / "tour1/p3.png"
    with pytest.raises(UserError, match="no photo is left"):
        run(photos, "--val", "0", "--smallest", "65")  # all is read, nothing is labelled
    whole, times = path.read_bytes(), path.stat()
    path.write_bytes(whole[:60] + bytes(len(whole) - 60))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UserError, match=r"1 could not be prepared: \S+p3.png cannot be read as an image"):
        run(photos, "--val", "0")
    assert len(files(out)) == 10 and reasons(rows(out)) == {"tour1/p3.png": "unreadable"}
    assert (out / "not_prepared.txt").exists()
    path.write_bytes(whole)
    assert not reasons(run(photos, "--val", "0")) and len(files(out)) == 12
    assert not (out / "not_prepared.txt").exists()


def test_a_photo_that_changes_its_size_meanwhile(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(blocks(1)))
    job, source = Job("a", "a.png", (64, 32), (64, 32)), Source(tmp_path)
    found = labelling.label_all(Labeller(None, Colors(), "", 64, {}, 255, []), [job], source, print, 64, 0.0, 1, 1)
    assert found == {"a.png": f"{tmp_path / 'a.png'} has changed; give the same command again"}


def test_a_full_disk(net: Colors, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the run, although a thread writes; with room the same command goes on."""

    def full(picture: Image.Image, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(label_photos, "save_image", full)
        with pytest.raises(OSError, match=r"No space left on device: \S+cache/label/p\d.png"):
            run(photos)
        with pytest.raises(OSError, match="No space left on device"):  # of the last batch
            run(photos, "--batchSize", "8")
    assert len(run(photos)) == 6


def test_groups_stay_together(net: Colors, photos: Path) -> None:
    manifest = run(photos, "--group_by", "(tour.)/", "--val", "1")
    held = {name.split("/")[0] for name, row in manifest.items() if row["part"] == "val"}
    assert len(held) == 1 and [row["part"] for row in manifest.values()].count("val") == 3
    assert label_photos.group_of("tour1/p1.png", re.compile("p[0-9]")) == "p1"
    assert label_photos.group_of("a7b.png", re.compile("a([0-9])b")) == "7"
    assert label_photos.group_of("x.png", re.compile("(tour.)/")) == "x.png"


def test_several_processes_make_the_same(net: Colors, photos: Path) -> None:
    one = run(photos, "--val", "0")
    before = {name: (photos.parent / "out" / name).read_bytes() for name in files(photos.parent / "out")}
    (photos.parent / "out").rename(photos.parent / "first")
    assert run(photos, "--val", "0", "--workers", "2") == one
    assert {name: (photos.parent / "out" / name).read_bytes() for name in before} == before


def test_ledgers_leave_out_what_makes_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"key": "a", "value": 1}\n\xff\n[1]\n{"key": 7}\n{"key": "a", "value": 2}\n{"key": "b"')
    ledger = Ledger(path, "key")
    assert ledger.entries == {"a": {"key": "a", "value": 2}}
    ledger.add({"key": "c\udcff"})
    assert Ledger(path, "key").entries == {**ledger.entries}
    assert Facts.of_entry({"original": "a", "bytes": 1, "time": 1}) is None and Facts.of_entry({"x": 1}) is None


def test_names_in_a_ledger_lead_nowhere_else(net: Colors, photos: Path) -> None:
    run(photos, "--val", "0")
    (photos.parent / "victim.png").write_bytes(b"mine")
    entry = {"original": "tour1/p1.png", "name": "../../victim", "sha256": "", "pixels": {"1": 1}}
    with open(photos.parent / "out/cache/labels.jsonl", "a") as file:
        file.write(json.dumps(entry) + "\n")
    run(photos, "--val", "0")
    assert (photos.parent / "victim.png").read_bytes() == b"mine" and sum(net.batches) == 7


# ----------------------------------------------------------------------------------------------------- segmenters


def test_flags_fit_the_ids_of_released_segmenters() -> None:
    """Every id that a segmenter gives, and unknown, is one that train.py reads by these flags."""
    for name, kind in SEGMENTERS.items():
        unknown, flags = IDS[kind.class_table]
        opt = TrainOptions(raises=True).parse(f"--name x --dataset_mode custom {flags} --gpu_ids -1".split())
        assert max(kind.ids) < opt.label_nc and name in labelling.LONGEST
        assert unknown < opt.label_nc or (opt.contain_dontcare_label and unknown == 255)
        assert unknown not in kind.ids


def save_trained(path: Path, **changes: object) -> None:
    """A segmenter of the ids 1 and 300, with weights as they are drawn."""
    held = trained.build(trained.DEFAULT, 2)
    values = {"names": ["land", "sky"], "how": {"load_size": 72, "crop_size": 64}, **changes}
    trained.save(trained.Trained(trained.DEFAULT, 300, [1, 300], held.state_dict(), 1, 1, "nothing", **values), path)


def test_a_trained_segmenter(photos: Path, capsys: pytest.CaptureFixture) -> None:
    """More than 255 classes: label maps have 16 bits."""
    save_trained(photos.parent / "s.pth", resume={})
    manifest = run(photos, "--segmenter", str(photos.parent / "s.pth"), "--val", "0", "--unknown_below", "0.4")
    out = photos.parent / "out"
    seen = label(out, manifest["tour1/p1.png"]["file"])
    assert seen.dtype in (np.uint16, np.int32) and set(np.unique(seen)) <= {1, 300} and seen.shape == (64, 64)
    said = capsys.readouterr().out
    assert "s.pth is unfinished (1 of 1 epochs)" in said
    words = train_command(said)
    assert words[words.index("--class_table") + 1] == str(out / "classes.json")
    assert ClassTable.load(str(out / "classes.json")).names == {1: "land", 300: "sky"}
    assert " ".join(words).count("--label_nc 301 --contain_dontcare_label --unknown_id 301") == 1
    made = json.loads((out / "prepared.json").read_text())["made_with"]
    assert made["longest"] == 72 and made["segmenter"].startswith("s.pth (")
    save_trained(photos.parent / "s.pth")
    with pytest.raises(UserError, match="was made with segmenter 's.pth .*, not 's.pth"):
        run(photos, "--segmenter", str(photos.parent / "s.pth"), "--unknown_below", "0.4")
    with pytest.raises(UserError, match="--segmenter_weights are a released segmenter's"):
        run(photos, "--segmenter", str(photos.parent / "s.pth"), "--segmenter_weights", "x.pth")


def test_a_segmenter_of_torchvision(photos: Path, capsys: pytest.CaptureFixture) -> None:
    """Its file of weights, here drawn ones."""
    from torchvision.models import segmentation

    state = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict()
    torch.save(state, photos.parent / "w.pth")
    flags = [
        "--segmenter",
        "torchvision:lraspp_mobilenet_v3_large",
        "--segmenter_weights",
        str(photos.parent / "w.pth"),
    ]
    run(photos, *flags, "--val", "0", "--longest", "64", "--at_most", "aeroplane+tvmonitor=1")
    words = train_command(capsys.readouterr().out)
    assert words[words.index("--label_nc") + 1] == "21"
    assert ClassTable.load(str(photos.parent / "out/classes.json")).names[15] == "person"
    torch.save({"a": torch.zeros(1)}, photos.parent / "w.pth")
    with pytest.raises(UserError, match="w.pth is not lraspp_mobilenet_v3_large-d234d4ea.pth from https"):
        run(photos, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--segmenter", "unet"],
            "--segmenter unet is neither a file of .* nor one of deeplabv2, upernet101, drn_d_105",
        ),
        (["--segmenter", "torchvision:unet"], "--segmenter torchvision:unet: torchvision has deeplabv3_mobilenet_v3"),
    ],
    ids=str,
)
def test_segmenters_that_are_not_there(flags: list[str], message: str, photos: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(photos, *flags)
    assert not (photos.parent / "out").exists()


def test_a_released_segmenter(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another network of few weights in its place."""
    monkeypatch.setattr(segmenters, "build", lambda name: nn.Linear(1, 1))
    torch.save(nn.Linear(1, 1).state_dict(), photos.parent / "w.pth")
    labeller = labelling.open_labeller("deeplabv2", [str(photos.parent / "w.pth")], 0.0)
    assert (labeller.names[156], labeller.names[255], labeller.longest) == ("sky-other", "unknown", 640)
    assert labeller.train_flags == "--label_nc 182 --contain_dontcare_label --class_table coco".split()
    assert re.fullmatch(r"deeplabv2 \([0-9a-f]{12}\)", labeller.identity) and not labeller.is_probable
    assert landscape_rules(labeller.kind.class_table, labeller.names)
    with pytest.raises(UserError, match="--segmenter_weights no.pth: there is no such file; it should be deeplabv2_"):
        run(photos, "--segmenter_weights", "no.pth")
    assert not (photos.parent / "out").exists()


@pytest.mark.real_data
def test_it_runs_on_photos(real_data: Path, tmp_path: Path) -> None:
    for path in sorted((real_data / "labelmefacade_256/val_img").iterdir())[:4]:
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    save_trained(tmp_path / "s.pth")
    manifest = run(tmp_path / "photos", "--segmenter", str(tmp_path / "s.pth"), "--val", "1")
    for row in manifest.values():
        assert label(tmp_path / "out", row["file"]).shape == (int(row["height"]), int(row["width"]))
