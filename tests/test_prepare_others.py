"""datasets/prepare_{cityscapes,facades,nyu,helen}.py, on archives packed as the official ones are."""

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datasets import prepare_cityscapes as cityscapes
from datasets import prepare_facades as facades
from datasets import prepare_helen as helen
from datasets import prepare_nyu as nyu
from datasets.preparation import matlab
from datasets.preparation.archives import Source
from datasets.preparation.classes import object_numbers
from datasets.preparation.frequency import LEDGER_NAME, PIXELS_NAME
from datasets.preparation.splits import validation_part
from datasets.prepare_cityscapes import main as prepare_cityscapes
from tests.official import ONE, content, encoded, ids, jpeg, loaded, png, train_command, unzipped, zipped
from util.class_table import ClassTable
from util.errors import UserError


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """MATLAB files are read in this process, since starting others takes long."""
    monkeypatch.setattr(matlab, "ProcessPoolExecutor", ThreadPoolExecutor)


def refused(main: Callable[[list[str]], None], flags: Sequence[str], message: str) -> None:
    """The command refuses these flags with this message."""
    with pytest.raises(UserError, match=message):
        main(list(flags))


def without(files: Mapping[str, bytes], *endings: str) -> dict[str, bytes]:
    """Files whose paths do not end so."""
    return {name: held for name, held in files.items() if not name.endswith(endings)}


def damaged(path: Path, member: str) -> None:
    """Turn the bytes of a member round, which is not compressed."""
    with zipfile.ZipFile(path) as archive:
        held, start = archive.read(member), archive.getinfo(member).header_offset
    whole = path.read_bytes()
    place = whole.index(held, start)
    path.write_bytes(whole[:place] + held[::-1] + whole[place + len(held) :])


# ------------------------------------------------------------------------------------------------------ Cityscapes

LABEL = np.array([[7, 7, 26, 26], [7, 7, 26, 24]], np.uint8)  # road, cars, a person's pixel
INSTANCE = np.array([[7, 7, 26000, 26001], [7, 7, 26, 24003]], np.uint16)  # 26: a group of cars


def city(part: str, stems: Sequence[str], label: np.ndarray = LABEL, instance: np.ndarray = INSTANCE) -> dict:
    """A part of the official tree: frames of 4 x 2 pixels."""
    files = {}
    for number, stem in enumerate(stems):
        place = f"{part}/{stem.split('_')[0]}/{stem}"
        photo = np.full((*LABEL.shape, 3), number, np.uint8)
        files[f"leftImg8bit/{place}_leftImg8bit.png"] = png(photo)
        files[f"gtFine/{place}_gtFine_labelIds.png"] = png(label)
        files[f"gtFine/{place}_gtFine_instanceIds.png"] = png(instance)
        files[f"gtFine/{place}_gtFine_color.png"] = png(photo)
        files[f"gtFine/{place}_gtFine_polygons.json"] = b"{}"
    return files


TRAIN, VAL = ["aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313"], ["lindau_000000_000019"]
CITIES = {**city("train", TRAIN), **city("val", VAL), **city("test", ["berlin_000000_000019"])}
READ = {name: held for name, held in CITIES.items() if "/test/" not in name and "color" not in name}
READ = without(READ, "polygons.json")  # what training reads


def pack_cities(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Both archives in a new folder, and flags that lead there."""
    folder.mkdir()
    for package in ("gtFine", "leftImg8bit"):
        held = {name: content for name, content in files.items() if name.startswith(package)}
        zipped(folder / f"{package}_trainvaltest.zip", {"README": b"", "license.txt": b"", **held})
    return ["--downloads", str(folder), *ONE]


def plant_cities(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """The tree, and flags that lead there."""
    for name, held in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(held)
    return ["--downloads", str(folder), *ONE]


def test_cityscapes_is_unpacked_to_what_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = [*pack_cities(tmp_path / "zips", CITIES), "--out", str(tmp_path / "out")]
    full = [flag for flag in flags if flag != "--partial"]
    message = r"train images 3 of 2,975 \(2,972 missing\); val images 1 of 500 \(499 missing\)"
    refused(prepare_cityscapes, full, message)
    assert not (tmp_path / "out").exists()
    prepare_cityscapes(flags)
    items = loaded(train_command(capsys.readouterr().out), 8, "crop")
    assert len(items) == 3
    assert items[0]["instance"][0, :2, :4].tolist() == INSTANCE.tolist()
    made = content(tmp_path / "out")
    del made["prepared.json"]
    assert made == READ
    # What a killed run left out is written again, and nothing else.
    lost, kept = (tmp_path / "out" / name for name in list(READ)[:2])
    lost.unlink()
    kept.write_bytes(b"kept")
    prepare_cityscapes(flags)
    assert lost.read_bytes() == READ[next(iter(READ))] and kept.read_bytes() == b"kept"


def test_official_tree_is_used_in_place(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    flags = plant_cities(tmp_path / "tree", CITIES)
    monkeypatch.chdir(tmp_path)
    prepare_cityscapes(flags)
    printed = capsys.readouterr().out
    assert "is the official tree, which training reads as it is: nothing is written" in printed
    assert len(loaded(train_command(printed), 8, "crop")) == 3
    assert content(tmp_path) == {f"tree/{name}": held for name, held in CITIES.items()}


def test_unpacked_beside_each_other_photos_can_be_linked(tmp_path: Path) -> None:
    """Each archive in a folder of its name is no tree for training, so that one is made."""
    flags = pack_cities(tmp_path / "zips", CITIES)
    unzipped(tmp_path / "zips")
    zips = tmp_path / "zips"
    inside = str(zips / "gtFine_trainvaltest/new")
    refused(prepare_cityscapes, [*flags, "--out", inside], "is inside .*, where originals are; give a folder elsewhere")
    prepare_cityscapes([*flags, "--out", str(tmp_path / "out"), "--link"])
    photo = tmp_path / "out" / next(iter(READ))
    assert photo.is_symlink() and photo.read_bytes() == next(iter(READ.values()))
    made = content(tmp_path / "out")
    del made["prepared.json"]
    assert made == READ and sum(path.is_symlink() for path in (tmp_path / "out").rglob("*")) == 4


def test_cityscapes_of_one_part(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = plant_cities(tmp_path / "tree", city("train", TRAIN))
    refused(prepare_cityscapes, flags, "no val photos are there: download them, or pass --parts train$")
    refused(prepare_cityscapes, flags[:-1], "no val photos are there: download them, or pass --parts train$")
    prepare_cityscapes([*flags, "--parts", "train"])
    assert "has its images: 3 train" in capsys.readouterr().out


WRONG_CITIES = [
    (
        {**CITIES, **city("train", TRAIN, label=np.where(LABEL == 26, 13, LABEL).astype(np.uint8))},
        r"labelIds.png does not fit its instance map: 3 pixels differ, such as one with label id 13 and instance 26000,"
        r" which is of class 26; were ids changed, as in \*_labelTrainIds.png\?",
    ),
    (
        {**CITIES, **city("val", VAL, instance=LABEL)},
        "lindau_000000_000019_gtFine_instanceIds.png has 8 bits, but official instance maps have 16",
    ),
    ({**CITIES, **city("val", VAL, label=LABEL[:, :2])}, "are 4 x 2, 2 x 2, 4 x 2 .*: they must be of one size"),
    ({**CITIES, "gtFine/../../evil.png": b""}, "has a member 'gtFine/../../evil.png', which leads out of it"),
]


@pytest.mark.parametrize(("files", "message"), WRONG_CITIES)
def test_wrong_cityscapes(files: Mapping[str, bytes], message: str, tmp_path: Path) -> None:
    flags = [*pack_cities(tmp_path / "zips", files), "--out", str(tmp_path / "out")]
    refused(prepare_cityscapes, flags, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("ending", "other"), [
    ("leftImg8bit", "gtFine_labelIds"), ("gtFine_labelIds", "leftImg8bit"), ("gtFine_instanceIds", "leftImg8bit")
])  # fmt: skip
def test_frames_that_lack_a_file_are_named_and_left_out(
    ending: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = [*pack_cities(tmp_path / "zips", without(CITIES, f"313_{ending}.png")), "--out", str(tmp_path / "out")]
    place = f"{other.split('_')[0]}/train/bochum/bochum_000000_000313_{other}.png"
    lack = f"1 of 3 train frames has no *_{ending}.png ({place})"
    with pytest.raises(UserError) as error:
        prepare_cityscapes([flag for flag in flags if flag != "--partial"])
    assert f"{lack}: unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip whole, or pass" in str(error.value)
    assert not (tmp_path / "out").exists()
    prepare_cityscapes(flags)
    printed = capsys.readouterr().out
    assert f"{lack}: left out" in printed and "has its images: 2 train and 1 val" in printed
    made = content(tmp_path / "out")
    assert made.pop("prepared.json") and made == without(READ, *(f"313_{ending}.png" for ending in cityscapes.FOLDERS))


def test_maps_for_training_ids_are_no_label_maps(tmp_path: Path) -> None:
    name = "gtFine/train/bochum/bochum_000000_000313_gtFine_labelTrainIds.png"
    flags = pack_cities(tmp_path / "zips", {**without(CITIES, "313_gtFine_labelIds.png"), name: png(LABEL)})
    message = r"has no \*_gtFine_labelIds.png .* whole \(\*_labelTrainIds.png number other classes and cannot stand in"
    refused(prepare_cityscapes, flags[:-1], message)


def test_a_tree_that_is_not_whole_is_not_used_in_place(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Training would take the label map that has no photo."""
    flags = [*plant_cities(tmp_path / "tree", without(CITIES, "313_leftImg8bit.png")), "--out", str(tmp_path / "out")]
    whole = [flag for flag in flags if flag != "--partial"]
    refused(prepare_cityscapes, whole, r"1 of 3 train frames has no \*_leftImg8bit.png")
    prepare_cityscapes([*flags, "--link"])
    printed = capsys.readouterr().out
    assert f"note: training would take all that is in {tmp_path / 'tree'}: whole frames go to {tmp_path}/out" in printed
    assert len(loaded(train_command(printed), 8, "crop")) == 2


@pytest.mark.parametrize("nested", [("gtFine",), ("leftImg8bit",), ("gtFine", "leftImg8bit")])
def test_folders_in_folders_of_their_names_are_no_official_tree(
    nested: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """As unpacking into a folder of the archive's name makes them: training would find nothing there."""
    files = {(f"{n.split('/')[0]}/{n}" if n.startswith(nested) else n): held for n, held in CITIES.items()}
    prepare_cityscapes([*plant_cities(tmp_path / "tree", files), "--out", str(tmp_path / "out")])
    assert len(loaded(train_command(capsys.readouterr().out), 8, "crop")) == 3
    made = content(tmp_path / "out")
    assert made.pop("prepared.json") and made == READ


def test_linked_folders_of_a_tree_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """As training does."""
    flags = plant_cities(tmp_path / "tree", CITIES)
    for place in ("gtFine/train/aachen", "leftImg8bit/train/aachen", "gtFine/val"):
        linked = tmp_path / "elsewhere" / place
        linked.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / place).rename(linked)
        (tmp_path / "tree" / place).symlink_to(linked)
    prepare_cityscapes(flags)
    printed = capsys.readouterr().out
    assert "is the official tree" in printed and "has its images: 3 train and 1 val" in printed
    assert len(loaded(train_command(printed), 8, "crop")) == 3


def test_unpacked_files_that_were_cut_short_are_told(tmp_path: Path) -> None:
    """No checksum tells it, as in archives."""
    flags = [*pack_cities(tmp_path / "zips", CITIES), "--out", str(tmp_path / "out"), "--link"]
    unzipped(tmp_path / "zips")
    cut = [f"{TRAIN[0]}_leftImg8bit.png", f"{TRAIN[1]}_gtFine_instanceIds.png"]
    for name in cut:
        (path,) = (tmp_path / "zips").rglob(name)
        path.write_bytes(path.read_bytes()[:-25])  # 24 is all that a tiny picture's end may lack
    with pytest.raises(UserError, match="^2 could not be prepared: ") as error:
        prepare_cityscapes(flags)
    assert all(f"{name} cannot be read" in str(error.value) for name in cut)
    made = {name for name in content(tmp_path / "out") if name.endswith(".png")}
    assert made == {name for name in READ if not any(stem in name for stem in TRAIN[:2])}


def test_parts_can_be_added(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = [*pack_cities(tmp_path / "zips", CITIES), "--out", str(tmp_path / "out")]
    prepare_cityscapes([*flags, "--parts", "val"])
    assert {name.split("/")[1] for name in content(tmp_path / "out") if "/" in name} == {"val"}
    capsys.readouterr()
    prepare_cityscapes([*flags, "--parts", "val", "train"])
    assert "has its images: 3 train and 1 val" in capsys.readouterr().out
    made = content(tmp_path / "out")
    assert made.pop("prepared.json") and made == READ


def test_frames_that_are_looked_at_first_are_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part's first city may be unlike the others."""
    seen = []
    monkeypatch.setattr(cityscapes, "look_first", lambda look, frames: seen.append([f.name[-6:] for f in frames]))
    stems = [f"aachen_000000_{number:06d}" for number in range(9)]
    flags = plant_cities(tmp_path / "tree", city("train", stems))
    prepare_cityscapes([*flags, "--parts", "train"])
    assert seen == [["000000", "000002", "000004", "000006"]]


@pytest.mark.parametrize(("number", "index"), [(26, 26), (999, 999), (1_000, 1), (1_999, 1), (26_000, 26)])
def test_what_instance_numbers_say_of_the_class(number: int, index: int, tmp_path: Path) -> None:
    """From 1,000 on: 1,000 times the class, and which of its objects it is; below, the class."""
    label, wrong = (np.full((1, 1), value, np.uint16) for value in (index, index + 1))
    names = {"photo": np.zeros((1, 1, 3), np.uint8), "label": label, "wrong": wrong, "inst": np.uint16([[number]])}
    for name, pixels in names.items():
        (tmp_path / name).write_bytes(png(pixels))
    sources = {"leftImg8bit": Source(tmp_path), "gtFine": Source(tmp_path)}

    def frame(label: str) -> cityscapes.Frame:
        return cityscapes.Frame("f", dict(zip(cityscapes.FOLDERS, ("photo", label, "inst"), strict=True)))

    cityscapes.check_frame(frame("label"), sources)
    with pytest.raises(UserError, match=f"instance {number}, which is of class {index};"):
        cityscapes.check_frame(frame("wrong"), sources)


def test_a_tree_without_any_frame(tmp_path: Path) -> None:
    flags = plant_cities(tmp_path / "tree", {"gtFine/readme": b"", "leftImg8bit/readme": b""})
    message = r"tree/gtFine has no train frames .* should be leftImg8bit/train/CITY/\*_leftImg8bit.png and gtFine/"
    refused(prepare_cityscapes, flags, message)


def test_damaged_cityscapes(tmp_path: Path) -> None:
    flags = [*pack_cities(tmp_path / "zips", CITIES), "--out", str(tmp_path / "out")]
    archive = tmp_path / "zips/gtFine_trainvaltest.zip"
    whole = archive.read_bytes()
    place = f"gtFine/train/aachen/{TRAIN[0]}_gtFine_labelIds.png"
    damaged(archive, place)
    refused(prepare_cityscapes, flags, r"1 could not be prepared: .*000019_gtFine_labelIds.png is damaged \(Bad CRC-32")
    assert len(content(tmp_path / "out")) == 12 - 3 + 2  # one frame's files; what was made with, what failed
    archive.write_bytes(whole)
    prepare_cityscapes(flags)
    assert len(content(tmp_path / "out")) == 12 + 1
    archive.write_bytes(whole[:-100])
    refused(prepare_cityscapes, flags, r"gtFine_trainvaltest.zip \(.* bytes\) is no zip archive, or one whose download")
    archive.write_bytes(whole.replace(b"README", b"\0" * 6))  # no name
    prepare_cityscapes([*flags, "--out", str(tmp_path / "other")])
    zipped(archive, {**{n: held for n, held in CITIES.items() if "gtFine/" in n}, place: b""})
    refused(
        prepare_cityscapes, [*flags, "--out", str(tmp_path / "new")], r"^1 could .*labelIds.png .* empty \(0 bytes\)"
    )
    archive.unlink()
    refused(prepare_cityscapes, flags, r"lacks gtFine_trainvaltest.zip \(label maps, 241 MB, https://www.cityscapes")


@pytest.mark.real_data
def test_sample_of_cityscapes_packed_as_official(real_data: Path, tmp_path: Path) -> None:
    sample = content(real_data / "cityscapes_sample")
    flags = [*pack_cities(tmp_path / "zips", sample), "--out", str(tmp_path / "out"), "--parts", "train"]
    prepare_cityscapes(flags)
    made = content(tmp_path / "out")
    del made["prepared.json"]
    assert len(made) == 24 and made == {name: held for name, held in sample.items() if "/train/" in name}


# --------------------------------------------------------------------------------------------------------- Facades


def facade(letter: str, count: int) -> dict[str, bytes]:
    """An archive's images, of 2 x 2 pixels, whose palettes are in colours that mean nothing here."""
    folder = {"b": "base", "x": "extended"}[letter]
    files = {}
    for number in range(1, count + 1):
        label = Image.fromarray(np.array([[1, 2], [number, 12]], np.uint8), "P")
        label.putpalette(bytes(range(255, -1, -1)) * 3)
        files[f"{folder}/cmp_{letter}{number:04d}.jpg"] = jpeg(2, 2, number)
        files[f"{folder}/cmp_{letter}{number:04d}.png"] = encoded(label, "PNG")
        said = "<object>\n<label>\n2\n</label>\n<labelname>\nfacade\n</labelname>\n</object>\n"
        files[f"{folder}/cmp_{letter}{number:04d}.xml"] = said.encode()
    return files


def pack_facades(folder: Path, **archives: Mapping[str, bytes]) -> list[str]:
    """Archives in a new folder, and flags."""
    folder.mkdir()
    for name, files in archives.items():
        zipped(folder / f"CMP_facade_DB_{name}.zip", files)
    return ["--downloads", str(folder), "--out", str(folder.parent / "out"), *ONE]


def test_facades_are_copied_and_some_held_back(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base, extended = facade("b", 3), facade("x", 4)
    flags = [*pack_facades(tmp_path / "zips", base=base, extended=extended), "--val", "2"]
    refused(facades.main, [f for f in flags if f != "--partial"], "base images 3 of 378 .*; extended images 4 of 228")
    facades.main(flags)
    printed = capsys.readouterr().out
    assert "has its images: 5 train and 2 val" in printed and "otherwise" not in printed
    assert len(loaded(train_command(printed), 8, "crop")) == 5
    made = content(tmp_path / "out")
    maps = {Path(name).stem: held for name, held in made.items() if "_label/" in name}
    photos = {Path(name).stem: held for name, held in made.items() if "_img/" in name}
    originals = {Path(name).name: held for name, held in {**base, **extended}.items()}
    assert maps == {name[:-4]: held for name, held in originals.items() if name.endswith(".png")}
    assert photos == {name[:-4]: held for name, held in originals.items() if name.endswith(".jpg")}
    train, val = ({Path(name).stem for name in made if name.startswith(part)} for part in ("train", "val"))
    assert len(train) == 5 and len(val) == 2 and not train & val
    facades.main(flags)
    assert content(tmp_path / "out") == made
    refused(facades.main, [*flags, "--seed", "1"], "was made with seed 0, not 1: give a new folder, or delete that one")
    facades.main([*flags, "--seed", "1", "--out", str(tmp_path / "other")])
    assert {Path(name).stem for name in content(tmp_path / "other") if name.startswith("val")} != val
    refused(facades.main, [*flags, "--val", "7"], "--val 7 leaves none of 7 images to train on; pass fewer")
    with pytest.raises(UserError, match="'0' is not a whole number of at least 1"):
        facades.main([*flags, "--val", "0"])


def test_one_archive_of_facades(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = [*pack_facades(tmp_path / "zips", base=facade("b", 3)), "--val", "1"]
    whole = [f for f in flags if f != "--partial"]
    refused(facades.main, whole, r"lacks CMP_facade_DB_extended.zip \(228 more, ")
    facades.main(flags)
    assert f"note: CMP Facades in {tmp_path / 'zips'}: base images 3 of 378" in capsys.readouterr().out
    # The other archive, when it comes, would move images between the parts.
    unzipped(tmp_path / "zips")
    zipped(tmp_path / "zips/CMP_facade_DB_extended.zip", facade("x", 2))
    refused(facades.main, flags, "was made with .*images 3, not 5: give a new folder")
    refused(facades.main, [*flags, "--downloads", str(tmp_path / "none")], "none is no folder; give the one that the")


def test_wrong_facades_are_told_and_others_are_done(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = facade("b", 5)
    files["base/cmp_b0002.png"] = png(np.full((2, 2), 13, np.uint8))
    files["base/cmp_b0003.png"] = png(np.full((2, 9), 1, np.uint8))
    files["base/cmp_b0004.jpg"] = files["base/cmp_b0004.jpg"][:300]
    files["base/cmp_b0005.xml"] = files["base/cmp_b0005.xml"].replace(b"facade", b"tower")
    flags = [*pack_facades(tmp_path / "zips", base=files), "--val", "1"]
    with pytest.raises(UserError) as error:
        facades.main(flags)
    assert "3 could not be prepared" in str(error.value)
    assert "cmp_b0002.png has id 13, but classes are 1 .. 12" in str(error.value)
    assert "cmp_b0003.png is 9 x 2" in str(error.value) and "they are not one picture" in str(error.value)
    assert "cmp_b0004.jpg cannot be read as an image" in str(error.value)
    said = "note: the archives call classes otherwise than data/class_tables/facades.json: 2 'tower' ('facade')"
    assert said in capsys.readouterr().out
    assert sorted(Path(name).stem for name in content(tmp_path / "out") if "_label" in name) == [
        "cmp_b0001",
        "cmp_b0005",
    ]


def test_facades_that_lack_a_file_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = without(facade("b", 6), "1.png", "2.png", "4.jpg")
    flags = [*pack_facades(tmp_path / "zips", base=files, extended=facade("x", 1)), "--val", "1"]
    lack = [
        "1 of 6 base images has no photo (base/cmp_b0004.png)",
        "2 of 6 base images have no label map (base/cmp_b0001.jpg, base/cmp_b0002.jpg)",
    ]
    with pytest.raises(UserError) as error:
        facades.main([flag for flag in flags if flag != "--partial"])
    assert f"{'; '.join(lack)}: download or unpack it again, or pass --partial" in str(error.value)
    facades.main(flags)
    printed = capsys.readouterr().out
    assert all(f"{text}: left out" in printed for text in lack)
    made = sorted(Path(name).name for name in content(tmp_path / "out") if "/" in name)
    stems = ("cmp_b0003", "cmp_b0005", "cmp_b0006", "cmp_x0001")
    assert made == [f"{stem}.{ending}" for stem in stems for ending in ("jpg", "png")]
    zipped(tmp_path / "zips/CMP_facade_DB_base.zip", {"README": b""})
    refused(facades.main, flags, r"base.zip has no base images with all their files, which should be cmp_b\*.jpg and a")


def test_held_back_facades_are_of_both_archives() -> None:
    """106 of 378 and 228: 66 of the base one if they were spread evenly, give or take 3 standard deviations (4.5)."""
    names = [f"cmp_{letter}{n:04d}" for letter, count in (("b", 378), ("x", 228)) for n in range(1, count + 1)]
    for seed in range(4):
        held_back = validation_part(names, 106, seed)
        assert len(held_back) == 106
        assert abs(sum(name.startswith("cmp_b") for name in held_back) - 66) <= 13


def test_names_of_facades() -> None:
    """Those that CMP's own list has for ids 1 .. 12."""
    names = "background facade window door cornice sill balcony blind deco molding pillar shop".split()
    assert facades.TABLE.names == {0: "unknown", **dict(enumerate(names, start=1))}


# ----------------------------------------------------------------------------------------------------------- Helen

RESIZED = "SmithCVPR2013_dataset_resized"
# Two pixels in a row: left 200 of nose (6) and 100 of skin (1); right 128 of upper lip (7) and of hair (10).
MASKS = {1: [100, 0], 6: [200, 0], 7: [0, 128], 10: [0, 128]}


def face(stem: str) -> dict[str, bytes]:
    """A photo and its eleven masks."""
    files = {f"{RESIZED}/images/{stem}.jpg": jpeg(2, 1)}
    for number in range(11):
        mask = np.array([MASKS.get(number, [0, 0])], np.uint8)
        files[f"{RESIZED}/labels/{stem}/{stem}_lbl{number:02d}.png"] = png(mask)
    return files


def helen_files(**lists: Sequence[str]) -> dict[str, bytes]:
    """What the archive has."""
    files = {}
    for name, stems in lists.items():
        lines = "".join(f"{number} , {stem}\n" for number, stem in enumerate(stems, start=1))
        files[f"{RESIZED}/{name}.txt"] = lines.encode()
        for stem in stems:
            files |= face(stem)
    return files


FACES = helen_files(exemplars=["100032540_1", "100040721_2"], tuning=["10405146_1"], testing=["107936171_1"])


def pack_helen(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """The archive, and flags."""
    folder.mkdir(exist_ok=True)
    zipped(folder / f"{RESIZED}.zip", files)
    return ["--downloads", str(folder), "--out", str(folder.parent / "out"), *ONE]


def test_helen_has_the_strongest_class_of_each_pixel(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    # A mask of 0 and 255 alone may be saved with one bit: it is 255 all the same.
    some = f"{RESIZED}/labels/100040721_2/100040721_2_lbl02.png"
    flags = pack_helen(tmp_path / "zips", {**FACES, some: encoded(Image.new("1", (2, 1), 1), "PNG")})
    refused(
        helen.main, flags[:-1], "exemplars images 2 of 2,000 .*; tuning images 1 of 230 .*; testing images 1 of 100"
    )
    helen.main(flags)
    printed = capsys.readouterr().out
    assert "has its images: 2 train and 2 val" in printed
    assert "--no_flip" in train_command(printed)  # left and right eyes are classes of their own
    assert [item["label"][0, 0, :2].tolist() for item in loaded(train_command(printed), 8, "crop")] == [[6, 7], [2, 2]]
    out = tmp_path / "out"
    assert ids(out / "val_label/10405146_1.png") == [[6, 7]]
    assert sorted(path.name for path in (out / "val_img").iterdir()) == ["10405146_1.jpg", "107936171_1.jpg"]
    assert (out / "train_img/100032540_1.jpg").read_bytes() == FACES[f"{RESIZED}/images/100032540_1.jpg"]
    table = ClassTable.load(str(out / "classes.json"))
    assert len(table.names) == 11 and (table.name(0), table.name(6), table.name(10)) == ("background", "nose", "hair")
    made = content(out)
    helen.main(flags)
    assert content(out) == made


def test_pixel_that_no_mask_has_is_background() -> None:
    assert helen.strongest([np.zeros((1, 1), np.uint8)] * 11, "a").tolist() == [[0]]


LISTED = f"{RESIZED}/tuning.txt"
WRONG_FACES = [
    (without(FACES, "testing.txt"), r"lacks testing.txt; SmithCVPR2013_dataset_resized.zip has it"),
    ({**FACES, LISTED: b"1 , a_1\nb_1\n"}, r"tuning.txt, line 2: 'b_1' is not of the form `1 , 100032540_1`"),
    ({**FACES, LISTED: b"1 , 100040721_2"}, r"tuning.txt, line 1: 100040721_2 is in .*exemplars.txt already"),
    (
        {**FACES, LISTED: b"1 , ../../../x"},
        r"1 of 1 tuning faces has no photo \(\.\./\.\./\.\./x\); 1 of 1 tuning faces has no whole set of masks",
    ),
]


@pytest.mark.parametrize(("files", "message"), WRONG_FACES)
def test_wrong_lists_of_helen(files: Mapping[str, bytes], message: str, tmp_path: Path) -> None:
    refused(helen.main, pack_helen(tmp_path / "zips", files)[:-1], message)
    assert not (tmp_path / "out").exists()


def test_faces_that_lack_a_file_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = {**FACES, **helen_files(testing=["107936171_1", "107968741_1"])}
    files = without(files, "100032540_1_lbl03.png", "100032540_1_lbl10.png", "images/107936171_1.jpg")
    flags = pack_helen(tmp_path / "zips", files)
    masks = "whole set of masks *_lbl00.png .. *_lbl10.png"
    lack = f"1 of 2 exemplars faces has no {masks} ({RESIZED}/images/100032540_1.jpg)"
    with pytest.raises(UserError) as error:
        helen.main(flags[:-1])
    assert f"{lack}: download {RESIZED}.zip again, or unpack it whole, or pass --partial" in str(error.value)
    helen.main(flags)
    printed = capsys.readouterr().out
    assert f"{lack}: left out" in printed
    mask = f"{RESIZED}/labels/107936171_1/107936171_1_lbl00.png"
    assert f"1 of 2 testing faces has no photo ({mask}): left out" in printed
    made = {name for name in content(tmp_path / "out") if "_label/" in name}
    assert made == {"train_label/100040721_2.png", "val_label/10405146_1.png", "val_label/107968741_1.png"}
    flags = pack_helen(tmp_path / "zips", without(FACES, "images/10405146_1.jpg"))
    refused(helen.main, flags, "has no tuning faces with all their files, which should be images/NAME.jpg and label")


def test_blank_lines_in_lists_of_helen(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", {**FACES, LISTED: b"\r\n1 , 10405146_1\r\n\n   \n"})
    unzipped(tmp_path)
    assert helen.listed(Source(tmp_path)) == {
        "exemplars": ["100032540_1", "100040721_2"], "tuning": ["10405146_1"], "testing": ["107936171_1"]
    }  # fmt: skip


def test_wrong_faces_are_told_and_others_are_done(tmp_path: Path) -> None:
    place = f"{RESIZED}/labels/{{0}}/{{0}}_lbl05.png".format
    wrong = {
        place("100032540_1"): png(np.zeros((2, 2), np.uint8)),
        place("100040721_2"): b"no picture",
        f"{RESIZED}/images/10405146_1.jpg": jpeg(2, 9),
    }
    with pytest.raises(UserError) as error:
        helen.main(pack_helen(tmp_path / "zips", {**FACES, **wrong}))
    assert "3 could not be prepared" in str(error.value)
    assert "and the other masks of its photo are of several sizes: 2 x 1, 2 x 2" in str(error.value)
    assert "100040721_2_lbl05.png cannot be read as an image" in str(error.value)
    assert "10405146_1.jpg is 2 x 9 but" in str(error.value)
    assert [name for name in content(tmp_path / "out") if "_label" in name] == ["val_label/107936171_1.png"]


# ----------------------------------------------------------------------------------------------------- NYU Depth v2

NAMES = ["book", "bottle", "cabinet", "wall"]
NYU_LABEL = np.array([[[0, 4, 4], [4, 2, 2]], [[2, 2, 2], [2, 3, 0]], [[1, 1, 1], [1, 1, 1]]], np.uint16)  # [N, H, W]
NYU_INSTANCE = np.array([[[0, 1, 1], [2, 1, 1]], [[1, 1, 2], [3, 1, 7]], [[1] * 3, [2] * 3]], np.uint8)


def pack_nyu(folder: Path, names: Sequence[str] = NAMES, **changed: np.ndarray | None) -> list[str]:
    """nyu_depth_v2_labeled.mat, which is HDF5 with axes as MATLAB has them, and flags; three images of 3 x 2 pixels.

    Image n is red: n in the upper left corner, and green: 9 below it.
    """
    h5py = pytest.importorskip("h5py")
    images = np.zeros((3, 2, 3, 3), np.uint8)  # [N, H, W, 3]
    images[:, 0, 0, 0], images[:, 1, 0, 1] = [1, 2, 3], 9
    held = {"images": images.transpose(0, 3, 2, 1), "labels": NYU_LABEL.transpose(0, 2, 1)}
    held = {**held, "instances": NYU_INSTANCE.transpose(0, 2, 1), **changed}
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        for name, values in held.items():
            if values is not None:
                file.create_dataset(name, data=values, compression="gzip")
        cells = file.create_dataset("names", (1, len(names)), h5py.ref_dtype)
        for place, name in enumerate(names):
            text = np.array([ord(letter) for letter in name], np.uint16)[:, None]
            cells[0, place] = file.create_dataset(f"#refs#/{place}", data=text).ref
    return ["--downloads", str(folder), "--out", str(folder.parent / "out"), *ONE]


def split_nyu(folder: Path, train: Sequence[int], test: Sequence[int]) -> None:
    """splits.mat."""
    savemat(folder / "splits.mat", {"trainNdxs": np.array(train)[:, None], "testNdxs": np.array(test)[:, None]})


def test_nyu_has_the_official_split_and_the_most_frequent_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Of images 1 and 2, bottle has 6 pixels, wall 3 and cabinet 1; all 6 of book are of image 3."""
    flags = [*pack_nyu(tmp_path / "mat"), "--classes", "2"]
    refused(
        nyu.main,
        flags,
        r"lacks splits.mat \(official split; --split pix2pixhd does without, a few kB, ht\S+/projects/indoor_seg_sup",
    )
    split_nyu(tmp_path / "mat", [1, 2], [3, 1449])
    whole = [flag for flag in flags if flag != "--partial"]
    refused(nyu.main, whole, r"NYU Depth v2 in \S+labeled.mat: train images 2 of 795 .*; val images 1 of 654")
    nyu.main(flags)
    printed = capsys.readouterr().out
    out = tmp_path / "out"
    assert ClassTable.load(str(out / "classes.json")).names == {0: "bottle", 1: "wall"}
    assert ids(out / "train_label/0001.png") == [[255, 1, 1], [1, 0, 0]]
    assert ids(out / "train_label/0002.png") == [[0, 0, 0], [0, 255, 255]]
    assert ids(out / "val_label/0003.png") == [[255] * 3] * 2
    # Objects are pairs of label and instance, in that order: (bottle, 1), (wall, 1), (wall, 2).
    assert ids(out / "train_inst/0001.png") == [[0, 2, 2], [3, 1, 1]]
    assert ids(out / "train_inst/0002.png") == [[1, 1, 2], [3, 4, 0]]
    assert ids(out / "val_inst/0003.png") == [[1] * 3, [2] * 3]
    assert Image.open(out / "val_inst/0003.png").mode.startswith("I")  # 16 bits
    photo = np.asarray(Image.open(out / "val_img/0003.png"))
    assert photo[:, 0].tolist() == [[3, 0, 0], [0, 9, 0]] and photo.sum() == 12
    items = loaded(train_command(printed), 8, "crop")
    assert [item["label"][0, 0, :3].tolist() for item in items] == [[2, 1, 1], [0, 0, 0]]  # 2: unknown
    made = content(out)
    nyu.main(flags)
    assert content(out) == made
    refused(nyu.main, [*flags, "--classes", "3"], "was made with classes 2, not 3")
    split_nyu(tmp_path / "mat", [1, 3], [2])
    refused(nyu.main, flags, "was made with splits.mat '")


def test_nyu_without_a_list(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    assert {part: (n[0], n[-1], len(n)) for part, n in nyu.first_and_last(1449).items()} == {
        "train": (1, 1200, 1200),
        "val": (1201, 1449, 249),
    }
    monkeypatch.setitem(nyu.OFFICIAL, "pix2pixhd", {"train": 2, "val": 1})
    nyu.main([*pack_nyu(tmp_path / "mat")[:-1], "--split", "pix2pixhd"])
    printed = capsys.readouterr().out
    assert "note: --classes 40: training images have pixels of only 3, which are taken" in printed
    assert "--label_nc 3" in " ".join(train_command(printed))
    assert sorted(path.name for path in tmp_path.glob("out/*_img/*")) == ["0001.png", "0002.png", "0003.png"]


def test_nyu_with_mapped_classes(tmp_path: Path) -> None:
    """Two labels are one class, one is none."""
    flags = [*pack_nyu(tmp_path / "mat"), "--mapping", str(tmp_path / "map.mat")]
    split_nyu(tmp_path / "mat", [1, 2], [3])
    names = np.array([["wall"], ["stuff"]], object).T
    savemat(tmp_path / "map.mat", {"mapClass": np.array([[2.0, 2, 0, 1]]), "className": names})
    nyu.main(flags)
    assert ClassTable.load(str(tmp_path / "out/classes.json")).names == {0: "wall", 1: "stuff"}
    assert ids(tmp_path / "out/train_label/0001.png") == [[255, 0, 0], [0, 1, 1]]
    assert ids(tmp_path / "out/train_label/0002.png") == [[1] * 3, [1, 255, 255]]
    with pytest.raises(UserError, match="--classes: not allowed with argument --mapping"):
        nyu.main([*flags, "--classes", "3"])
    for changed, message in (
        (
            {"mapClass": [[1, 2]]},
            "mapClass has 2 values and className 2 names; it must have a number of 0 .. 2 for each of 4",
        ),
        ({"mapClass": [[1, 2, 3, 1]]}, "it must have a number of 0 .. 2 for each of 4 labels"),
        ({"mapClass": [[1, 2, 0.5, 1]]}, "it must have a number of 0 .. 2"),
        ({"className": [[1, 2]]}, "and each class a name"),
        ({"mapClass": None}, "is no MATLAB file with mapClass and className .it has no 'mapClass'"),
    ):
        held = {"mapClass": [[1, 2, 1, 1]], "className": names, **changed}
        savemat(tmp_path / "map.mat", {name: values for name, values in held.items() if values is not None})
        refused(nyu.main, flags, message)
    savemat(tmp_path / "map.mat", {"mapClass": np.array([[1, 2, 1, 1]]), "className": names})
    refused(nyu.main, flags, "was made with mapping '")
    (tmp_path / "map.mat").write_bytes(b"no such file")
    refused(nyu.main, flags, "map.mat is no MATLAB file with mapClass and className")
    (tmp_path / "map.mat").unlink()
    refused(nyu.main, flags, "map.mat is no file; give the path of the downloaded one")


def test_wrong_nyu(tmp_path: Path, monkeypatch) -> None:
    flags = pack_nyu(tmp_path / "mat", images=None)
    split_nyu(tmp_path / "mat", [1, 2], [3])
    refused(nyu.main, flags, r"images, labels and instances cannot be read \(.*images.*download the file again")
    pack_nyu(tmp_path / "mat", labels=NYU_LABEL)
    refused(
        nyu.main, flags, r"has images uint8 \[3, 3, 3, 2\], labels uint16 \[3, 2, 3\], instances .*, but nyu_depth_v2"
    )
    pack_nyu(tmp_path / "mat", instances=NYU_INSTANCE.transpose(0, 2, 1).astype(np.uint16))
    refused(nyu.main, flags, r"instances uint16 \[3, 3, 2\], but nyu_depth_v2")
    pack_nyu(tmp_path / "mat", names=NAMES[:3])
    refused(nyu.main, flags, r"1 could not be prepared: .*image 1 has label 4, but names are those of 1 .. 3")
    pack_nyu(tmp_path / "mat", names=NAMES[:1])
    refused(
        nyu.main,
        [*flags, "--out", str(tmp_path / "3")],
        r"image 1 has label 4, but names are those of 1 .. 1; download",
    )
    assert not (tmp_path / "3").exists()
    pack_nyu(tmp_path / "mat", labels=np.zeros((3, 3, 2), np.uint16))
    refused(nyu.main, [*flags, "--out", str(tmp_path / "2")], "no pixel of the training part has a label")
    whole = (tmp_path / "mat/nyu_depth_v2_labeled.mat").read_bytes()
    (tmp_path / "mat/nyu_depth_v2_labeled.mat").write_bytes(whole[:-99])
    refused(nyu.main, flags, r"labeled.mat \([\d,]+ bytes\) cannot be opened as HDF5 \(.*was its download cut short")
    refused(nyu.main, [*flags, "--link"], "--link: photos are in nyu_depth_v2_labeled.mat, which is one file")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    refused(nyu.main, flags, "h5py is not installed: pip install -r requirements-nyu.txt")


def damaged_nyu(path: Path, kind: str, number: int) -> None:
    """Spoil what the file has of an image; HDF5's checksum tells it."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        values = file[kind][()]
        del file[kind]
        file.create_dataset(kind, data=values, chunks=(1, *values.shape[1:]), fletcher32=True)
        offset, before = file[kind].id.get_chunk_info(number - 1).byte_offset, file.userblock_size
    held, picture = path.read_bytes(), values[number - 1].tobytes()
    # Some versions count from the file's beginning, others from behind MATLAB's heading.
    (place,) = {p for p in (offset, offset + before) if held[p:].startswith(picture)}
    path.write_bytes(held[:place] + b"\xff\xff" + held[place + 2 :])


@pytest.mark.parametrize("kind", ["images", "labels", "instances"])
def test_damaged_picture_of_nyu(kind: str, tmp_path: Path) -> None:
    """The others are done, and of it nothing is; with the file downloaded again all is as if it had been whole."""
    flags = [*pack_nyu(tmp_path / "mat"), "--classes", "2"]
    split_nyu(tmp_path / "mat", [1, 2], [3])
    nyu.main([*flags, "--out", str(tmp_path / "whole")])
    path = tmp_path / "mat/nyu_depth_v2_labeled.mat"
    whole = path.read_bytes()
    damaged_nyu(path, kind, 2)
    refused(nyu.main, flags, rf"^1 could not be prepared: .*{kind} of image 2 cannot be read")
    made = sorted(name for name in content(tmp_path / "out") if "/" in name)
    places = ("img", "inst", "label")
    assert made == [f"{part}_{place}/{n}.png" for part, n in (("train", "0001"), ("val", "0003")) for place in places]
    path.write_bytes(whole)  # of another size
    nyu.main(flags)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_label_maps_are_made_anew_where_damage_hid_which_classes_are_frequent(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Of image 1 alone wall has 3 pixels and bottle 2; with image 2 bottle has 6 and wall 3."""
    flags = [*pack_nyu(tmp_path / "mat"), "--classes", "1"]
    split_nyu(tmp_path / "mat", [1, 2], [3])
    path = tmp_path / "mat/nyu_depth_v2_labeled.mat"
    whole = path.read_bytes()
    damaged_nyu(path, "labels", 2)
    refused(nyu.main, flags, "labels of image 2 cannot be read")
    assert ids(tmp_path / "out/train_label/0001.png") == [[255, 0, 0], [0, 255, 255]]
    assert (tmp_path / "out" / LEDGER_NAME).exists()
    path.write_bytes(whole)
    nyu.main(flags)
    assert "other classes are most frequent: label maps anew" in capsys.readouterr().out
    assert ids(tmp_path / "out/train_label/0001.png") == [[255] * 3, [255, 0, 0]]
    assert not (tmp_path / "out" / LEDGER_NAME).exists()


def test_labels_of_nyu_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is lost is made again: one instance map alone, and nothing else."""
    flags = [*pack_nyu(tmp_path / "mat"), "--classes", "2"]
    split_nyu(tmp_path / "mat", [1, 2], [3])
    nyu.main(flags)
    made = content(tmp_path / "out")
    assert PIXELS_NAME in made
    (tmp_path / "out/train_inst/0001.png").unlink()
    (tmp_path / "out/train_label/0001.png").write_bytes(b"kept")
    monkeypatch.setattr(nyu, "count_labels", None)
    nyu.main(flags)
    assert content(tmp_path / "out") == {**made, "train_label/0001.png": b"kept"}


@pytest.mark.parametrize(("train", "test"), [([0, 1], [2]), ([1, 2], [2]), ([1.5], [2]), ([], [2]), (["a"], [2])])
def test_wrong_split_of_nyu(train: list, test: list, tmp_path: Path) -> None:
    split_nyu(tmp_path, train, test)
    with pytest.raises(UserError, match="trainNdxs and testNdxs must be numbers from 1 on, each once"):
        nyu.official_split(tmp_path / "splits.mat", 3)


def crash(path: Path, variable_names: Sequence[str]) -> None:
    """End the process as a fault in memory does."""
    os._exit(1)


def test_reader_that_crashes(tmp_path: Path, monkeypatch) -> None:
    """As scipy's does on some damaged files: the command does not."""
    split_nyu(tmp_path, [1], [2])
    monkeypatch.setattr(matlab, "loadmat", crash)
    monkeypatch.setattr(matlab, "ProcessPoolExecutor", ProcessPoolExecutor)
    with pytest.raises(UserError, match=r"is no MATLAB file with trainNdxs and testNdxs \(its reader crashed\)"):
        nyu.official_split(tmp_path / "splits.mat", 3)


def test_objects_are_pairs_of_label_and_instance() -> None:
    """255 of one label and 0 of the next are two objects; what has no label is none, whatever its instance."""
    labels, instances = np.array([[1, 2, 0, 2, 1]], np.uint16), np.array([[255, 0, 7, 1, 255]], np.uint8)
    numbers = object_numbers(labels, instances, "a")
    assert (numbers.tolist(), numbers.dtype) == ([[1, 2, 0, 3, 1]], np.uint16)
    assert object_numbers(labels[:, :1], instances[:, :1], "a").tolist() == [[1]]


def test_objects_that_are_too_many() -> None:
    labels, instances = np.divmod(np.arange(256, 256 + 65_536).reshape(256, 256), 256)
    with pytest.raises(UserError, match="image 7 has 65,536 objects, more than 65,535"):
        object_numbers(labels, instances, "image 7")
    assert object_numbers(labels[:, 1:], instances[:, 1:], "image 7").max() == 65_280
