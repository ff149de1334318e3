"""check_dataset.py, and the look that train.py takes before it begins."""

import io
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from data import create_dataloader, create_dataset
from data.base_dataset import exif_orientation
from data.inspection import QUICK_ITEMS, inspect, look_over, scattered
from data.twins import grey_of, nearest, normalised
from datasets.check_dataset import main as check
from options.train_options import TrainOptions
from tests.conftest import TINY, write_pairs
from tests.pages import Nodes, assert_links_work
from util.errors import UserError

ROOT = Path(__file__).parent.parent


def custom(folder: Path, *more: object, part: str = "train") -> list[str]:
    """The flags of one part of a data set in COCO's folders, as custom data."""
    names = {"label_dir": "label", "image_dir": "img", "instance_dir": "inst"}
    flags = [word for flag, name in names.items() for word in (f"--{flag}", str(folder / f"{part}_{name}"))]
    return ["--dataset_mode", "custom", *flags, *map(str, more)]


def layouts(folder: Path) -> list[str]:
    """The flags of one part without instance maps."""
    return custom(folder)[:6]


def save(path: Path, pixels: object, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype)).save(path)


def photo(seed: int, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """Smooth noise, so that other sizes of it look alike: uint8 [H, W, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def one(folder: Path, label: object, instance: object = None, pixels: np.ndarray | None = None) -> Path:
    """A data set of one item, picture.png."""
    label = np.asarray(label, np.uint8)
    size = label.shape[1], label.shape[0]
    save(folder / "train_label/picture.png", label)
    save(folder / "train_inst/picture.png", label if instance is None else instance, np.uint16)
    save(folder / "train_img/picture.png", photo(0, size) if pixels is None else pixels)
    return folder


def problems(folder: Path, *more: object, quick: bool = False) -> list[tuple[str, str]]:
    """The kinds and texts of what is wrong with a data set's first item."""
    dataset = create_dataset(TrainOptions().parse(custom(folder, "--label_nc", 5, *more)))
    return [(problem.kind, problem.text) for problem in inspect(dataset, 0, quick).problems]


# ------------------------------------------------------------------------------------------------------- inspecting


def test_ids_and_pixels_of_a_label_map(tmp_path: Path) -> None:
    one(tmp_path, [[1, 1, 4], [4, 1, 0]], [[7, 7, 9], [8, 7, 0]])
    found = inspect(create_dataset(TrainOptions().parse(custom(tmp_path, "--label_nc", 5))), 0)
    assert (found.ids.tolist(), found.pixels.tolist()) == ([0, 1, 4], [1, 3, 2])
    assert (found.size, found.photo_size, found.objects, found.contradicting) == ((3, 2), (3, 2), 4, 0)
    assert found.problems == []


def test_wrong_ids_are_counted_and_do_not_stop_the_look(tmp_path: Path) -> None:
    one(tmp_path, [[1, 9, 9, 200]])
    ((kind, text),) = problems(tmp_path)
    assert kind == "ids"
    assert "has ids 9, 200, but --label_nc 5 allows 0 .. 4: pass --label_nc 201 or more" in text
    assert text.endswith("(75.0 % of its pixels)")


def test_an_instance_that_covers_two_classes(tmp_path: Path) -> None:
    """Of 10 pixels instance 300 has 6 of class 1 and 3 of class 2: these contradict. Number 0 is no object."""
    one(tmp_path, [[1] * 6 + [2] * 3 + [4]], [[300] * 9 + [4]])
    ((kind, text),) = problems(tmp_path)
    assert kind == "contradiction"
    assert (
        "contradict each other in 30.0 % of the pixels: instance 300 covers the classes 1 (6 pixels) and 2 (3" in text
    )
    one(tmp_path, [[1] * 6 + [2] * 3 + [4]], [[0] * 9 + [4]])
    assert problems(tmp_path) == []
    one(tmp_path, [[1] * 98 + [2] * 2], [[300] * 100])  # 2 %: edges of objects
    assert problems(tmp_path) == []
    one(tmp_path, [[1] * 97 + [2] * 3], [[300] * 100])
    assert [kind for kind, _ in problems(tmp_path)] == ["contradiction"]
    one(tmp_path, [[1] * 50 + [2] * 50], [[300] * 200, [300] * 200])  # of another size, which is resized in training
    assert problems(tmp_path) == []


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    one(tmp_path, [[1, 2]])
    (tmp_path / "train_label/picture.png").write_bytes(b"no picture")
    (tmp_path / "train_img/picture.png").write_bytes(b"")
    (tmp_path / "train_inst/picture.png").write_bytes(b"no picture")
    assert [kind for kind, _ in problems(tmp_path)] == ["label", "photo", "instance"]
    flags = custom(tmp_path, "--label_nc", 5, "--no_instance")
    opt = TrainOptions().parse([word for word in flags if word != "--instance_dir" and not word.endswith("_inst")])
    assert [problem.kind for problem in inspect(create_dataset(opt), 0).problems] == ["label", "photo"]


def test_sizes_that_do_not_go_together(tmp_path: Path) -> None:
    one(tmp_path, np.ones((30, 40)), np.ones((40, 30)), pixels=photo(0, (30, 40)))
    texts = problems(tmp_path)
    assert [kind for kind, _ in texts] == ["size", "size"]
    assert "train_img/picture.png is 30 x 40 but" in texts[0][1]
    assert "train_inst/picture.png is 30 x 40 but" in texts[1][1]
    one(tmp_path, np.ones((30, 40)), np.ones((60, 80)), pixels=photo(0, (80, 60)))  # of one shape
    assert problems(tmp_path) == []


def test_photos_that_are_blank_or_turned(tmp_path: Path) -> None:
    one(tmp_path, np.ones((30, 40)), pixels=np.full((30, 40, 3), 255, np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "train_img/picture.png"
    Image.open(path).copy().save(path, exif=exif)
    assert [kind for kind, _ in problems(tmp_path)] == ["blank", "turned"]
    assert [kind for kind, _ in problems(tmp_path, quick=True)] == ["turned"]  # pixels are not read


@pytest.mark.parametrize(("exif", "orientation"), [(b"Exif\0\0MM\0*rubbish", 1), (9, 1), (8, 8)])
def test_exif_that_makes_no_sense(exif: object, orientation: int) -> None:
    if not isinstance(exif, bytes):
        held = Image.Exif()
        held[ExifTags.Base.Orientation] = exif
        exif = held.tobytes()
    stream = io.BytesIO()
    Image.new("RGB", (4, 3)).save(stream, "JPEG", exif=exif)
    assert exif_orientation(Image.open(stream)) == orientation


def test_photos_of_the_same_bytes_and_other_sizes_are_no_copies(tmp_path: Path) -> None:
    digests = []
    for size in ((8, 2), (2, 8)):
        one(tmp_path, np.ones(size[::-1]), pixels=np.arange(48, dtype=np.uint8).reshape(size[1], size[0], 3))
        digests.append(inspect(create_dataset(TrainOptions().parse(custom(tmp_path, "--label_nc", 5))), 0).photo_digest)
    assert len(set(digests)) == 2


@pytest.mark.parametrize("quick", [False, True])
def test_tiffs_are_turned_while_they_are_read(tmp_path: Path, quick: bool) -> None:
    """So that their size is the turned one, and there is nothing to warn of."""
    one(tmp_path, np.ones((40, 30)))
    (tmp_path / "train_img/picture.png").unlink()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(photo(0)).save(tmp_path / "train_img/picture.tif", exif=exif)  # 40 x 30, shown as 30 x 40
    assert problems(tmp_path, quick=quick) == []


def test_a_quick_look_reads_no_pixels_of_photos(tmp_path: Path) -> None:
    one(tmp_path, np.ones((30, 40)))
    path = tmp_path / "train_img/picture.png"
    path.write_bytes(path.read_bytes()[:-40])
    assert [kind for kind, _ in problems(tmp_path)] == ["photo"]
    assert problems(tmp_path, quick=True) == []


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1000])
def test_beginnings_are_spread(count: int) -> None:
    """All places once; among the first n no gap is three times as wide as it could be."""
    order = list(scattered(count))
    assert sorted(order) == list(range(count))
    assert order[0] == 0
    for n in range(1, min(count, 64)):
        cuts = [*sorted(order[:n]), count]
        assert max(b - a for a, b in itertools.pairwise(cuts)) <= 3 * count / n + 1


# ---------------------------------------------------------------------------------------------------------- training


def test_training_looks_at_some_files_before_it_begins(tmp_path: Path) -> None:
    """Not only at the first: here the fourth is wrong."""
    folder = write_pairs(tmp_path, 6)
    save(folder / "train_label/picture3.png", np.full((72, 80), 77))
    argv = custom(folder, *TINY, "--label_nc", 5, "--batchSize", 2)
    with pytest.raises(
        UserError, match=r"picture3.png has ids 77, .*correct the file \(--on_bad.*ataset.py lists them"
    ):
        create_dataloader(TrainOptions().parse(argv))
    create_dataloader(TrainOptions().parse([*argv, "--on_bad_image", "skip"]))


def test_training_warns_of_contradictions_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = write_pairs(tmp_path, 3)
    for path in (folder / "train_inst").iterdir():
        save(path, np.full((72, 80), 300), np.uint16)
    create_dataloader(TrainOptions().parse(custom(folder, *TINY, "--label_nc", 5)))
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "train_inst/picture0.png and " in said


def test_the_look_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pairs(tmp_path, 5)
    dataset = create_dataset(TrainOptions().parse(custom(folder, "--label_nc", 5)))
    looked = []
    monkeypatch.setattr(
        "data.inspection.inspect", lambda data, index, quick: looked.append(index) or inspect(data, index)
    )
    look_over(dataset, skips=False)
    assert sorted(looked) == [0, 1, 2, 3, 4]
    monkeypatch.setattr("data.inspection.QUICK_PIXELS", 80 * 72)  # after more than one item of these
    looked.clear()
    look_over(dataset, skips=False)
    assert len(looked) == 2
    assert QUICK_ITEMS == 64


# ------------------------------------------------------------------------------------------------------- the command


def test_a_good_data_set(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "data"
    for number, part in enumerate(("train", "val")):
        for i in range(3):
            label = np.repeat([[0, 1, 255, 1 + number]], 30, 0).repeat(10, 1)
            save(folder / f"{part}_label/{i}.png", label)
            save(folder / f"{part}_img/{i}.png", photo(10 * number + i))
    flags = ["--dataset_mode", "custom", "--label_dir", str(folder / "train_label")]
    flags += ["--image_dir", str(folder / "train_img")]
    validation = ["--val_label_dir", str(folder / "val_label"), "--val_image_dir", str(folder / "val_img")]
    report = tmp_path / "report"
    check([*flags, *validation, "--report", str(report)])
    printed = capsys.readouterr().out
    assert "training: 3 label maps of 40 x 30 pixels, 3 photos" in printed
    assert printed.endswith("no errors\n")
    suit = shlex.split(re.search(r"flags that suit: (.*)", printed)[1])
    assert suit == ["--label_nc", "3", "--contain_dontcare_label", "--no_instance"]
    numbers = json.loads((report / "check.json").read_text())
    assert numbers["training"]["pixels"] == {"0": 900, "1": 1800, "255": 900}
    assert numbers["validation"]["files"] == {"0": 3, "1": 3, "2": 3, "255": 3}
    assert_links_work(report / "index.html")
    assert (report / "problems.txt").read_text() == ""
    check([*flags, *suit, "--report", str(report)])  # what is suggested is right
    assert "no validation part is named" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"^6 errors, listed above"):  # ids 1 and 255 in three files each, in part
        check([*flags, *validation, "--label_nc", "1", "--no_instance", "--report", str(report)])
    assert "error: label maps with ids of no class: 6" in capsys.readouterr().out


def test_a_bad_data_set(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One of each kind; each is found although there are others, and each has its line."""
    folder = tmp_path / "data"
    for i in range(20):
        save(folder / f"train_label/{i}.png", np.full((30, 40), 1))
        save(folder / f"train_img/{i}.png", photo(i))
        save(folder / f"train_inst/{i}.png", np.full((30, 40), 300), np.uint16)
    for i in range(3):
        save(folder / f"val_label/{i}.png", np.full((30, 40), 1))
        save(folder / f"val_img/{i}.png", photo(100 + i))
        save(folder / f"val_inst/{i}.png", np.full((30, 40), 300), np.uint16)
    (folder / "train_img/0.png").unlink()  # unpaired
    save(folder / "train_img/more.png", photo(50))  # unpaired
    (folder / "train_label/1.png").write_bytes(b"x")
    save(folder / "train_label/2.png", np.full((30, 40), 9))
    (folder / "train_img/3.png").write_bytes(b"x")
    (folder / "train_inst/4.png").write_bytes(b"x")
    save(folder / "train_img/5.png", photo(5, (30, 40)))
    save(folder / "train_label/6.png", np.repeat([[1, 2]], 30, 0).repeat(20, 1))  # contradiction
    shutil.copy(folder / "train_img/8.png", folder / "train_img/7.png")  # copy
    shutil.copy(folder / "train_img/9.png", folder / "val_img/1.png")  # leak
    save(folder / "val_img/2.png", photo(10, (80, 60)))  # twin, of another size
    flags = custom(folder, "--label_nc", 5, "--report", tmp_path / "report", "--nThreads", 2)
    for name in ("label", "image", "instance"):
        folders = {"label": "label", "image": "img", "instance": "inst"}
        flags += [f"--val_{name}_dir", str(folder / f"val_{folders[name]}")]
    with pytest.raises(UserError, match=r"^9 errors"):
        check(flags)
    lines = (tmp_path / "report/problems.txt").read_text().splitlines()
    kinds = [line.split("\t")[0] for line in lines]
    assert sorted(kinds) == sorted(
        [*["unpaired"] * 3, "label", "ids", "photo", "instance", "size", "contradiction", "copy", "leak", "twin"]
    )
    by_kind = dict(line.split("\t") for line in lines)
    assert by_kind["unpaired"].startswith(str(folder / "train_inst/0.png"))
    assert by_kind["leak"].endswith("val_img/1.png has the same pixels as " + str(folder / "train_img/9.png"))
    assert "val_img/2.png is nearly " in by_kind["twin"]
    assert "train_img/10.png (correlation 0.9" in by_kind["twin"]
    printed = capsys.readouterr().out
    warning, error = "warning: photos that are there twice: 1", "error: files without a counterpart: 3"
    assert 0 < printed.index(warning) < printed.index(error)
    assert_links_work(tmp_path / "report/index.html")
    headings = Nodes(tmp_path / "report/index.html").headings
    assert "files without a counterpart: 3" in headings
    suspects = [heading for heading in headings if heading.startswith("look at ")]
    assert len(suspects) == 9
    assert "look at validation: 1.png: one of the photos of the training part that are in the validation part too" in (
        suspects
    )
    assert "note: training: 20 label maps, 20 photos, 20 instance maps were found, which pair up by" in printed


def test_ids_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The largest first, with names, and for each part the share of pixels and the number of maps."""
    for part, rows in (("train", [[0, 0, 1, 2]]), ("val", [[0, 0, 0, 3]])):
        for i in range(2):
            save(tmp_path / f"{part}_label/{i}.png", np.repeat(rows, 30, 0).repeat(10, 1))
            save(tmp_path / f"{part}_img/{i}.png", photo(10 * len(part) + i))
    save(tmp_path / "train_label/1.png", np.zeros((30, 40)))
    classes = [{"id": i, "name": name} for i, name in enumerate(("sky; heaven", "se\x1ba", "sand"))]
    (tmp_path / "names.json").write_text(json.dumps({"title": "mine", "classes": classes}))
    more = ["--val_label_dir", str(tmp_path / "val_label"), "--val_image_dir", str(tmp_path / "val_img")]
    check([*layouts(tmp_path), *more, "--class_table", str(tmp_path / "names.json"), "--report", str(tmp_path / "r")])
    printed = capsys.readouterr().out
    table = printed[printed.index("ids, their") :].splitlines()[:5]
    assert [line.split() for line in table[1:]] == [
        "0 sky 75.00 % 2 75.00 % 2".split(),
        r"1 se\x1ba 12.50 % 1 0.00 % 0".split(),
        "2 sand 12.50 % 1 0.00 % 0".split(),
        "3 class 3 0.00 % 0 25.00 % 2".split(),
    ]
    page = (tmp_path / "r/index.html").read_text()
    assert "75.00 % in 2" in page and "validation part alone" in page


def test_ids_that_no_class_can_have(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Negative ones, of 32 bits, and very large ones: no advice that nobody could follow, and a page all the same."""
    flags = [*layouts(tmp_path), "--report", str(tmp_path / "r")]
    save(tmp_path / "train_img/a.png", photo(0))
    for wrong, named in (([-1, 0, 1, 1], "ids -1"), ([0, 1, 300_000, 1], "ids 300000")):
        (tmp_path / "train_label").mkdir(exist_ok=True)
        Image.fromarray(np.repeat([wrong], 30, 0).repeat(10, 1).astype(np.int32)).save(tmp_path / "train_label/a.tif")
        with pytest.raises(UserError, match="1 error,"):
            check(flags)
        printed = capsys.readouterr().out
        assert f"a.tif has {named}, but those of classes are 0 .. 65535: is it a depth" in printed
        assert "flags that suit" not in printed and "--label_nc" not in printed
        with pytest.raises(UserError, match="1 error,"):
            check([*flags, "--label_nc", "2"])
        assert f"has {named}, but --label_nc 2 allows 0 .. 1: correct the file" in capsys.readouterr().out


def test_advice_on_ids(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Masks, ids that no map has, and ids that few maps have."""
    flags = [*layouts(tmp_path), "--report", str(tmp_path / "r")]

    def said(label: list[int], first: list[int] | None = None, *more: str) -> str:
        for i in range(101):
            row = first if first is not None and i == 0 else label
            save(tmp_path / f"train_label/{i}.png", np.repeat([row], 3, 0))
            save(tmp_path / f"train_img/{i}.png", photo(i, (4, 3)))
        check([*flags, *more])
        return capsys.readouterr().out

    masks = said([0, 255, 0, 255])
    assert "note: label maps hold 255 and one other id at most, as masks do: if 255 is a class" in masks
    assert "flags that suit" not in masks
    assert "as masks do" not in said([0, 255, 0, 255], None, "--contain_dontcare_label", "--label_nc", "1")
    rare = said([1, 1, 4, 4], [1, 1, 4, 2])
    assert "note: 2 of the ids 0 .. 4 are in no label map (0, 3), and take memory and time" in rare
    assert "note: in fewer than 1% of the 101 training label maps are the ids 2: 1; are they classes?" in rare
    plain = said([0, 1, 2, 255])
    assert "in no label map" not in plain and "in fewer than" not in plain


def test_photos_beyond_the_layouts_of_the_validation_part(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Evaluation takes them among the real photos; a layout without a photo is an error."""
    folder = write_pairs(tmp_path / "data", 3)
    write_pairs(tmp_path / "other", 2)
    flags = [*custom(folder, "--label_nc", 5)]
    for kind, name in (("label", "label"), ("image", "img"), ("instance", "inst")):
        flags += [f"--val_{kind}_dir", str(tmp_path / f"other/train_{name}")]
    for number, name in enumerate(("picture0.jpg", "picture1.jpg", "more.png")):
        save(tmp_path / "other/train_img" / name, photo(number, (80, 72)))
    check([*flags, "--report", str(tmp_path / "r")])
    printed = capsys.readouterr().out
    assert "warning: photos of the validation part without a layout: they count among the real" in printed
    assert "note: validation: 2 label maps, 3 photos, 2 instance maps were found, which pair up by their" in printed
    (tmp_path / "other/train_img/picture0.jpg").unlink()
    with pytest.raises(UserError, match="2 errors"):  # the label map and the instance map
        check([*flags, "--report", str(tmp_path / "r")])


def test_blank_photos_are_nobodys_copies(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for part in ("train", "val"):
        save(tmp_path / f"{part}_label/a.png", np.ones((30, 40)))
        save(tmp_path / f"{part}_img/a.png", np.full((30, 40, 3), 255))
    more = ["--val_label_dir", str(tmp_path / "val_label"), "--val_image_dir", str(tmp_path / "val_img")]
    check([*layouts(tmp_path), *more, "--report", str(tmp_path / "r")])
    printed = capsys.readouterr().out
    assert "warning: photos of a single colour: 2" in printed
    assert "same pixels" not in printed and "nearly" not in printed


def test_flags_that_lead_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: object) -> None:
    folder = write_pairs(tmp_path / "data", 1)
    flags = [*custom(folder), "--report", str(tmp_path / "r")]
    for more, said in (
        (["--val_image_dir", "v"], "--val_image_dir belongs to --val_label_dir, which is not there"),
        (["--val_dataroot", "v"], "--val_dataroot: --dataset_mode custom has no dataroot; give --val_label_dir"),
        (["--val_label_dir", str(folder / "train_label")], "is what is trained on"),
    ):
        with pytest.raises(SystemExit):
            check([*flags, *more])
        assert said in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):  # before any file of the data set is looked at
        check([*flags, "--report", str(tmp_path / "file")])
    assert "label maps" not in capsys.readouterr().out
    for report, said in (
        (folder / "train_img", "train_img is inside .*train_img, where originals are; give a folder elsewhere"),
        (folder / "train_label/check", "is inside .*train_label"),
        (folder, "data holds files that are no report of a check; give a new folder"),
    ):
        with pytest.raises(UserError, match=said):
            check([*flags, "--report", str(report)])
    assert not list(folder.rglob("*.json"))
    with pytest.raises(UserError, match="v is not a folder"):
        check([*flags, "--val_label_dir", "v"])
    processes = []
    monkeypatch.setattr("datasets.check_dataset.look", lambda part, workers: processes.append(workers))
    check([*flags, "--nThreads", "0"])
    assert processes == [0]


def test_what_is_printed_and_written_of_many_problems(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Three of a kind are printed, all are written, on a line each whatever their names are; the page begins with
    errors, and has as many rows as it says."""
    for i in range(15):
        name = f"{i}.png" if i else "a\nb.png"
        save(tmp_path / f"train_label/{name}", np.full((20, 10 + i), 7 if i < 4 else 1))
        save(tmp_path / f"train_img/{name}", photo(i, (10 + i, 20)) if i < 5 else np.full((20, 10 + i, 3), 9))
    save(tmp_path / "train_label/14.png", np.full((50, 60), 255))
    save(tmp_path / "train_img/14.png", photo(14, (60, 50)))
    flags = [*layouts(tmp_path), "--label_nc", "2", "--contain_dontcare_label", "--report", str(tmp_path / "r")]
    with pytest.raises(UserError, match="4 errors"):
        check(flags)
    printed = capsys.readouterr().out
    assert "training: 15 label maps of 10 x 20 to 60 x 50 pixels (15 sizes), 15 photos" in printed
    assert printed.count(" has ids 7") == 3 and f"and 1 more ({tmp_path}/r/problems.txt)" in printed
    assert "   255  unknown " in printed
    lines = (tmp_path / "r/problems.txt").read_text().splitlines()
    assert len(lines) == 4 + 9 and sum("a\\nb.png has ids 7" in line for line in lines) == 1
    headings = [heading for heading in Nodes(tmp_path / "r/index.html").headings if heading.startswith("look at ")]
    assert len(headings) == 12
    assert ["ids of no class" in heading for heading in headings] == [True] * 4 + [False] * 8


def test_coco_without_instance_maps(pairs: Path, tmp_path: Path) -> None:
    shutil.rmtree(pairs / "train_inst")
    shutil.rmtree(pairs / "val_inst")
    flags = ["--dataset_mode", "coco", "--dataroot", str(pairs), "--report", str(tmp_path / "report")]
    check([*flags, "--no_instance"])
    with pytest.raises(UserError, match="1 error,"):
        check(flags)


def test_maps_of_depth_are_no_label_maps(tmp_path: Path) -> None:
    """4,000 ids: said once, and the page stays small."""
    one(tmp_path, np.zeros((50, 80)))
    save(tmp_path / "train_label/picture.png", np.arange(50 * 80).reshape(50, 80), np.uint16)
    flags = layouts(tmp_path)  # without instance maps
    with pytest.raises(UserError, match="1 error,"):
        check([*flags, "--no_instance", "--report", str(tmp_path / "report")])
    said = (tmp_path / "report/problems.txt").read_text()
    assert "hold 4,000 ids, more than there are classes: are they depth or instance maps" in said
    with pytest.raises(UserError, match="1 error,"):
        check([*flags, "--no_instance", "--label_nc", "9", "--report", str(tmp_path / "other")])
    for report in ("report", "other"):
        assert Nodes(tmp_path / report / "index.html").count < 4000


def test_pairs_by_their_place(tmp_path: Path) -> None:
    """With --no_pairing_check names do not matter, and what is too many at the end has no counterpart."""
    for i in range(3):
        save(tmp_path / f"train_label/l{i}.png", np.ones((30, 40)))
        save(tmp_path / f"train_img/p{i}.png", photo(i))
    save(tmp_path / "train_img/p3.png", photo(3))
    save(tmp_path / "train_img/p4.png", photo(4))
    with pytest.raises(UserError, match="2 errors"):
        check([*layouts(tmp_path), "--no_pairing_check", "--max_dataset_size", "1", "--report", str(tmp_path / "r")])
    lines = (tmp_path / "r/problems.txt").read_text().splitlines()
    assert [Path(line.split("\t")[1].split(" ")[0]).name for line in lines] == ["p3.png", "p4.png"]
    assert json.loads((tmp_path / "r/check.json").read_text())["training"]["items"] == 3


@pytest.mark.parametrize(
    ("ids", "more", "flags"),
    [
        ([0, 1, 255], "", "--label_nc 2 --contain_dontcare_label"),
        ([0, 253, 255], "", "--label_nc 254 --contain_dontcare_label"),
        ([0, 254, 255], "", "--label_nc 256"),  # all of 8 bits
        ([0, 255, 299], "", "--label_nc 300"),
        ([0, 3, 7], "--contain_dontcare_label --unknown_id 7", "--label_nc 4 --contain_dontcare_label --unknown_id 7"),
        ([0, 299, 300], "--contain_dontcare_label --unknown_id 300", "--label_nc 300 --contain_dontcare_label --unkn"),
    ],
)
def test_flags_that_suit(ids: list[int], more: str, flags: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / "train_label/a.png", [ids * 10] * 30, np.uint16)
    save(tmp_path / "train_img/a.png", photo(0, (30, 30)))
    check([*layouts(tmp_path), *more.split(), "--report", str(tmp_path / "r")])
    assert f"flags that suit: {flags}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "said"),
    [((400, 300), "1.33 times as wide"), ((300, 400), "0.75 times as wide"), ((300, 300), "no errors")],
)
def test_advice_on_shapes_and_sizes(
    size: tuple[int, int], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save(tmp_path / "train_label/a.png", np.ones(size[::-1]))
    save(tmp_path / "train_img/a.png", photo(0, size))
    check([*layouts(tmp_path), "--report", str(tmp_path / "r"), "--crop_size", "300"])
    printed = capsys.readouterr().out
    assert said in printed and "are smaller than" not in printed
    check([*layouts(tmp_path), "--report", str(tmp_path / "r"), "--crop_size", "301"])
    assert ("1 of 1 pictures are smaller than --crop_size 301" in capsys.readouterr().out) == (min(size) == 300)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", 2)
    shutil.copy(folder / "train_label/picture1.png", folder / "train_label/picture1.bmp")
    with pytest.raises(UserError, match="1 error,"):
        check(custom(folder, "--label_nc", 5, "--report", tmp_path / "report"))
    assert "picture1.png has the name of " in (tmp_path / "report/problems.txt").read_text()


def test_known_data_sets_and_their_parts(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """COCO: both parts are found; without instance maps training would stop, and so does the check."""
    flags = ["--dataset_mode", "coco", "--dataroot", str(pairs), "--report", str(tmp_path / "report")]
    check(flags)
    printed = capsys.readouterr().out
    assert "training: 4 label maps" in printed and "validation: 2 label maps" in printed
    assert "178 of 183 classes occur in no training label map" in printed
    assert "flags that suit" not in printed
    check([*flags, "--phase", "val"])
    printed = capsys.readouterr().out
    assert printed.startswith("val: 2 label maps") and "training: " not in printed
    shutil.rmtree(pairs / "val_label")
    shutil.rmtree(pairs / "train_inst")
    with pytest.raises(UserError, match="1 error,"):
        check(flags)
    printed = capsys.readouterr().out
    assert "note: no validation part: " in printed
    assert "has no instance maps: make {train,val}_inst" in printed


def test_shards_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("webdataset", reason="needs requirements-webdataset.txt")
    from datasets.pack_shards import main as pack

    folder = write_pairs(tmp_path / "data", 3)
    save(folder / "train_label/picture2.png", np.full((72, 80), 77))
    pack([*custom(folder, "--label_nc", 5), "--out", str(tmp_path / "shards")])
    capsys.readouterr()
    with pytest.raises(UserError, match="1 error,"):
        check(
            ["--dataset_mode", "shards", "--dataroot", str(tmp_path / "shards"), "--report", str(tmp_path / "report")]
        )
    printed = capsys.readouterr().out
    assert re.search(r"\.tar/00000\d\.label\.png \(of picture2\.\w+\) has ids 77", printed)
    assert "note: no validation part is named (--val_dataroot), so none is looked at" in printed
    flags = ["--dataset_mode", "shards", "--dataroot", str(tmp_path / "shards")]
    objects = [
        inspect(create_dataset(TrainOptions().parse([*flags, *more])), 0).objects for more in ([], ["--no_instance"])
    ]
    assert objects[0] > 0 and objects[1] == 0


def test_the_status_says_whether_there_are_errors(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", 1)
    command = [sys.executable, ROOT / "datasets/check_dataset.py", *custom(folder, "--report", tmp_path / "report")]
    done = subprocess.run([*command, "--label_nc", "2"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith("error: 1 error, listed above")) == (2, True)


# ------------------------------------------------------------------------------------------------------------- twins


def test_correlation_of_small_grey_versions() -> None:
    """A brighter version correlates by 1, a negative by -1, a blank one with nothing."""
    a = np.random.default_rng(0).integers(0, 100, (24, 24), np.uint8)
    b = np.random.default_rng(1).integers(0, 100, (24, 24), np.uint8)
    blank = np.full((24, 24), 9, np.uint8)
    vectors = normalised([a, a + 100, 255 - a, blank])
    assert np.allclose(vectors @ vectors.T, [[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 0]], atol=1e-5)
    assert [(i, j) for i, j, _ in nearest([b, a + 50, blank], [a, b], 0.9)] == [(0, 1), (1, 0)]
    assert list(nearest([255 - a], [a, blank], 0.9)) == []
    ((_, _, value),) = nearest([a], [b], -1)
    assert len(list(nearest([a], [b], value))) == 1  # as much as is asked for


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    greys = list(np.random.default_rng(0).integers(0, 256, (23, 24, 24), np.uint8))
    for block in (4096, 5):
        monkeypatch.setattr("data.twins.BLOCK", block)
        assert [(i, j) for i, j, _ in nearest(greys, greys[::-1], 0.5)] == [(i, 22 - i) for i in range(23)]


def test_a_photo_and_a_smaller_one_of_it_are_twins() -> None:
    large, small, other = (grey_of(Image.fromarray(photo(*which))) for which in ((3, (400, 300)), (3,), (4,)))
    assert [(i, j) for i, j, _ in nearest([large], [other, small], 0.97)] == [(0, 1)]


# --------------------------------------------------------------------------------------------------------- real data


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("mode", "folder", "said"),
    [
        ("coco", "coco_stuff_sample", "training: 13 label maps of 500 x 375 to 640 x 480 pixels (9 sizes), 13 photos"),
        ("cityscapes", "cityscapes_sample", "training: 8 label maps of 2048 x 1024 pixels, 8 photos, 30.2 instances"),
    ],
)
def test_official_files_have_no_errors(
    mode: str, folder: str, said: str, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Nor do objects contradict label maps, in COCO's released instance maps neither."""
    check(["--dataset_mode", mode, "--dataroot", str(real_data / folder), "--report", str(tmp_path)])
    printed = capsys.readouterr().out
    assert said in printed
    assert "warning" not in printed


@pytest.mark.prove
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "validation", "classes", "counts"),
    [
        ("labelmefacade_256", "val", 9, (844, 100)),
        ("camvid_256", "val", 12, (367, 101)),
        ("camvid_256", "test", 12, (367, 233)),
    ],
)
def test_street_photos_have_no_errors(
    folder: str,
    validation: str,
    classes: int,
    counts: tuple[int, int],
    real_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """As their READMEs say, no validation photo has a near-twin among the training photos."""
    root = real_data / folder
    flags = ["--label_dir", root / "train_label", "--image_dir", root / "train_img"]
    flags += ["--val_label_dir", root / f"{validation}_label", "--val_image_dir", root / f"{validation}_img"]
    check(["--dataset_mode", "custom", *map(str, flags), "--report", str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"training: {counts[0]} label maps" in printed and f"validation: {counts[1]} label maps" in printed
    assert f"flags that suit: --label_nc {classes} --no_instance" in printed
    assert "warning" not in printed
