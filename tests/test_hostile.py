"""What comes from elsewhere (data, checkpoints, names) runs nothing and leads to nothing outside the chosen folders."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

import test as test_script
import train as train_script
from data.base_dataset import read_id_array, read_image
from data.image_folder import list_images
from models.vgg import load_vgg19
from options.test_options import TestOptions
from options.train_options import TrainOptions
from tests.conftest import TINY, write_pairs
from tests.pages import assert_links_work
from util.checkpoint import check_set, newest_whole, save_set
from util.class_table import ClassTable
from util.errors import UserError, run_main
from util.files import save_image, write_atomically
from util.paths import LONGEST, unique_stems

SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"'><img src=x onerror=alert(1)>&lt;"
DEEP = "[" * 100_000  # JSON that runs out of stack


class Planted:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


# -------------------------------------------------------------------------------------------------- nothing is executed


def test_a_file_is_no_program_for_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow knows an EPS by its content and hands it to an interpreter of PostScript."""
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    calls = []
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *args, **flags: calls.append(args) or Image.new("RGB", (9, 9)).im
    )
    with contextlib.suppress(OSError), Image.open(path) as picture:
        picture.load()
    assert len(calls) == 1  # so it would be
    for content in (None, path.read_bytes()):  # a file, and one out of a shard
        with pytest.raises(UserError, match="it is none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"):
            read_image(str(path), content)
        with pytest.raises(UserError, match="it is none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"):
            read_id_array(str(path), content=content)
    assert len(calls) == 1


def test_vgg_weights_in_the_cache_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyTorch's own loader would unpickle whatever lies there."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth"
    file.parent.mkdir()
    torch.save({"features.0.weight": Planted(tmp_path / "planted")}, file)
    with pytest.raises(UserError, match=r"vgg19-dcbb9e9d.pth is damaged, or it holds more than tensors .* Delete it"):
        load_vgg19(None)
    file.write_bytes(pickle.dumps(Planted(tmp_path / "planted")))
    with pytest.raises(UserError, match="Delete it, so that it is fetched again"):
        load_vgg19(None)
    assert not (tmp_path / "planted").exists()


def test_pickles_are_loaded_as_weights_alone() -> None:
    """The one place that unpickles says so; no other file of the code does."""
    root = Path(__file__).parent.parent
    folders = ("benchmarks", "data", "datasets", "evaluation", "models", "options", "trainers", "util")
    code = [path for folder in folders for path in (root / folder).rglob("*.py")] + [
        root / "train.py",
        root / "test.py",
        root / "evaluate.py",
    ]
    words = (
        "torch.load(",
        "pickle.load",
        "np.load(",
        "joblib",
        "yaml.",
        "marshal",
        "shelve",
        "eval(",
        "exec(",
        "os.system",
    )
    found = {
        (path.name, line.strip())
        for path in code
        for line in path.read_text().splitlines()
        for word in words
        if word in line.replace(".eval(", "").replace("def eval(", "")
    }
    assert found == {
        ("checkpoint.py", 'return torch.load(path, map_location="cpu", weights_only=True)'),
        ("references.py", "features = np.load(path, allow_pickle=False)"),
    }


@pytest.mark.parametrize("text", [DEEP, '{"classes": 3}', "3", '{"classes": [1]}', '{"files": 3}', '{"files": ["ab"]}'])
def test_json_that_is_something_else(tmp_path: Path, text: str) -> None:
    """Class tables, lists of files, manifests and options: a message, or as if it were not there."""
    folder = tmp_path / "x"
    folder.mkdir()
    for name in ("table.json", "files.list", "latest_manifest.json", "opt.json"):
        (folder / name).write_text(text)
    (folder / "latest_net_G.pth").touch()
    (folder / "a.png").touch()
    with pytest.raises(UserError, match="is no class table"):
        ClassTable.load(str(folder / "table.json"))
    assert list_images(str(folder), cache_read=True) == [str(folder / "a.png")]
    with pytest.raises(UserError, match="latest_manifest.json is damaged"):
        check_set(folder, "latest")
    if not text.startswith("{"):
        with pytest.raises(UserError, match="opt.json (is not valid JSON|does not hold a JSON object)"):
            TestOptions(raises=True).parse(["--checkpoints_dir", str(tmp_path), "--name", "x"])


# ------------------------------------------------------------------------------------------------- sizes that are lies


def test_pictures_up_to_twice_pillows_limit_are_read_without_a_word(tmp_path: Path) -> None:
    """With a limit of 1000 pixels 2000 are read and 2001 are not. Pillow's own limit, 89,478,485, is in force."""
    for name, size in (("large", (40, 50)), ("larger", (2001, 1))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    script = """
import sys
from PIL import Image
from data.base_dataset import read_id_array, read_image
assert Image.MAX_IMAGE_PIXELS == 89_478_485
Image.MAX_IMAGE_PIXELS = 1000
assert read_image(sys.argv[1] + "/large.png").size == (40, 50)
assert read_id_array(sys.argv[1] + "/large.png").shape == (50, 40)
for read in (read_image, read_id_array):
    try:
        read(sys.argv[1] + "/larger.png")
    except ValueError as error:
        print(error)
"""
    command = [sys.executable, "-W", "default::Warning:PIL", "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert (done.returncode, done.stderr) == (0, "")
    said = "it says that it has 2,001 pixels, and more than 2,000 are not read; scale it down, or leave it out"
    assert done.stdout == f"{tmp_path}/larger.png cannot be read as an image: {said}\n" * 2


# --------------------------------------------------------------------------------------------------- inside the folders


@pytest.mark.parametrize("name", ["/etc/hostname.png", "../secret.png", "sub/../../secret.png", "..", 3])
def test_a_list_of_files_leads_nowhere_else(tmp_path: Path, name: object) -> None:
    """A data folder that somebody made does not decide what is read beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "secret.png")
    (folder / "a.png").touch()
    found = list_images(str(folder), cache_write=True)
    cache = folder / "files.list"
    for key, other in (("files", [name]), ("folders", {str(name): 0})):
        content = json.loads(cache.read_text())
        content[key] = other
        (folder / "changed").write_text(json.dumps(content))
        os.replace(folder / "changed", cache)
        if key == "files":  # the folder's time has changed; the list says that it has not
            content["folders"] = {".": os.stat(folder).st_mtime_ns}
            cache.write_text(json.dumps(content))
        assert list_images(str(folder), cache_read=True) == found
    content = {"recursive": False, "folders": {".": os.stat(folder).st_mtime_ns}, "files": ["b..png"]}
    cache.write_text(json.dumps(content))
    assert list_images(str(folder), cache_read=True) == [str(folder / "b..png")]  # which is a name like others


@pytest.mark.parametrize("script", [TrainOptions, TestOptions])
def test_a_name_stays_in_its_folder(script: type, tmp_path: Path) -> None:
    options = script(raises=True)
    for name in ("../x", "a/../../x", "a/../b", "/tmp/x", "..", "."):
        with pytest.raises(UserError, match="leads out of --checkpoints_dir"):
            options.parse(["--name", name, "--checkpoints_dir", str(tmp_path)])
    for flag in ("--phase", "--which_epoch"):
        for value in ("../x", "a/b", "..\\x", ""):
            with pytest.raises(UserError, match=f"{flag} .*: it is a word or a number"):
                options.parse([flag, value])
    assert options.parse(["--name", "group/a..b"]).name == "group/a..b"


def test_a_manifest_moves_no_files_elsewhere(tmp_path: Path) -> None:
    """It says which files take their places, `X.tmp` that of `X`."""
    folder, other = tmp_path / "run", tmp_path / "other.pth"
    save_set(folder, "latest", {}, {"iteration": 1})
    (tmp_path / "other.pth.tmp").write_bytes(b"new")
    other.write_bytes(b"old")
    manifest = folder / "latest_manifest.json"
    content = json.loads(manifest.read_text())
    digest = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"  # of b"new"
    for name in ("../other.pth", str(other), "latest_/../../other.pth", "other.pth"):
        manifest.write_text(json.dumps({**content, "files": {name: digest}}))
        with pytest.raises(UserError, match="latest_manifest.json is damaged"):
            check_set(folder, "latest")
        save_set(folder, "latest", {}, {"iteration": 1})  # which replaces it
    assert other.read_bytes() == b"old" and (tmp_path / "other.pth.tmp").exists()


@pytest.mark.parametrize("field", ["about", "replaces"])
@pytest.mark.parametrize("name", ["*", "../x", "[0-9]", "a/b", ".."])
def test_a_manifest_names_files_of_its_folder_alone(tmp_path: Path, field: str, name: str) -> None:
    """Those that resuming would move, or delete."""
    (tmp_path / "1_net_G.pth").touch()
    content = {"files": {}, field: {name: "0"} if field == "about" else [name]}
    (tmp_path / "latest_manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="latest_manifest.json is damaged"):
        newest_whole(tmp_path, "latest")
    assert (tmp_path / "1_net_G.pth").exists()


def test_files_that_are_written_follow_no_planted_link(tmp_path: Path) -> None:
    """What is written beside its name first is no link's target, nor is what has the name."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    for name in ("a.json", "a.json.tmp", "a.png", "a.png.tmp"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).symlink_to(outside)
    write_atomically(tmp_path / "run" / "a.json", b"{}")
    save_image(Image.new("L", (2, 2)), tmp_path / "run" / "a.png")
    assert outside.read_bytes() == b"mine"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["a.json", "a.png"]
    assert not any(path.is_symlink() for path in (tmp_path / "run").iterdir())


def test_names_of_results_stay_apart_and_inside(tmp_path: Path) -> None:
    """Names that are too long keep their beginning; those that some file systems take for one are two."""
    stem = unique_stems()
    paths = ["x/../..png", "/", "..", "../a.png", "/a.png", "a\\..\\b.png", ".png", "..png", "a\nb.png", "x/Ü.png"]
    paths += [
        "x/u\u0308.png",
        "\u00df.png",
        "ss.png",
        "b/con.png",
        "n" * 251 + ".png",
        "n" * 250 + "m.png",
        "é" * 120 + ".png",
    ]
    paths += ["n" * 251 + ".jpg", os.fsdecode(b"\xff" * 240) + ".png"]
    stems = [stem(path) for path in paths if path != "/"]
    assert len({s.casefold() for s in stems}) == len(stems)
    for name in stems:
        assert len(os.fsencode(name)) <= LONGEST and "/" not in name
        save_image(Image.new("L", (1, 1)), tmp_path / "images" / f"{name}_s99.png")
    assert len(list((tmp_path / "images").iterdir())) == len(stems)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert stem("x/street.png") == "street"


# ------------------------------------------------------------------------------------------------------ what is shown


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


KNOWN = set(
    "html head meta style title body h1 h2 p kbd span nav a b section div figure img figcaption ul li i".split()
)
DRAWN = set("svg line text path script".split())


def check_page(page: Path) -> str:
    """Only elements of our own, of which one script, and nothing that runs; returns the text."""
    elements = Elements(page)
    assert {tag for tag, _ in elements.found} <= KNOWN | DRAWN
    assert [tag for tag, _ in elements.found].count("script") == 1
    for tag, attributes in elements.found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for link in (attributes.get("href"), attributes.get("src")):
            assert link is None or not link.lower().startswith(("javascript", "data", "http")), link
    assert_links_work(page)
    return elements.text


@pytest.mark.skipif(sys.platform != "linux", reason="these characters are no part of names elsewhere")
def test_names_are_text_on_all_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Of the run, its classes, its files, its command, on training's page and on those of results."""
    monkeypatch.chdir(tmp_path)
    data = write_pairs(tmp_path / "data", 2, split="train")
    hostile = [IMAGE, "javascript:alert(1)"]
    for kind, ending in (("label", ".png"), ("inst", ".png"), ("img", ".jpg")):
        for i, name in enumerate(hostile):
            (data / f"train_{kind}" / f"picture{i}{ending}").rename(data / f"train_{kind}" / f"{name}{ending}")
    called = f"{SCRIPT}{IMAGE[:-1]}"  # up to a semicolon: the first of several names
    classes = [{"id": i, "name": called} for i in range(5)]
    Path("t.json").write_text(json.dumps({"title": SCRIPT, "classes": classes}))
    name = f"run{IMAGE}"
    argv = ["--name", name, "--dataroot", str(data), "--gpu_ids", "-1"]
    learn = [
        *TINY,
        *argv,
        "--label_nc",
        "5",
        "--class_table",
        "t.json",
        "--display_freq",
        "1",
        "--print_freq",
        "1",
        "--use_vae",
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *learn])
    train_script.main(learn)
    text = check_page(Path("checkpoints", name, "web", "index.html"))
    assert f"{name}: training" in text and called in text

    ends = ["--interpolate", str(data / "train_img" / f"{IMAGE}.jpg"), "1", "--steps", "2"]
    show = [*argv, "--phase", "train", *ends]
    monkeypatch.setattr(sys, "argv", ["test.py", *show])
    test_script.main(show)
    folder = Path("results", name, "train_latest")
    text = check_page(folder / "index.html")
    for part in (f"{name}: train", called, f"{IMAGE}.jpg", hostile[1]):
        assert part in text
    made = sorted(path.name for path in (folder / "images" / "synthesized_image").iterdir())
    assert made == sorted(f"{name}_s{k:02d}.png" for name in hostile for k in range(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "data", "results", "t.json"]


def test_layouts_of_the_longest_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """255 bytes with the ending, which leave no room for the ending of a file that is being written."""
    monkeypatch.chdir(tmp_path)
    data = write_pairs(tmp_path / "data", 1)
    train_script.main([*TINY, "--dataroot", str(data), "--label_nc", "5", "--name", "x", "--no_html", "--no_instance"])
    Path("l").mkdir()
    for last in "ab":
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(Path("l", "n" * 250 + last + ".png"))
    test_script.main(["--gpu_ids", "-1", "--name", "x", "--label_dir", "l"])
    assert len(list(Path("results/x/test_latest/images/synthesized_image").iterdir())) == 2
    assert_links_work(Path("results/x/test_latest/index.html"))


def test_a_terminal_is_told_and_not_steered(capsys: pytest.CaptureFixture) -> None:
    """A name may hold what clears a screen or turns text around; line ends of a message are its own."""

    def fail() -> None:
        raise UserError("\x1b[2Ja\rb\u202ec is wrong:\n  café")

    with pytest.raises(SystemExit):
        run_main(fail)
    assert capsys.readouterr().err == "error: \\x1b[2Ja\\rb\\u202ec is wrong:\n  café\n"
