"""Commands that prepare data sets from official downloads: what all share, and COCO-Stuff."""

import errno
import functools
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.preparation.archives import Archive, Part, Source, find
from datasets.preparation.coco import Annotations, legacy_instance_map, legacy_mask_of, mask_of, pycocotools_mask
from datasets.preparation.jobs import CHUNK, WAITING, run_all
from datasets.preparation.output import Output, check_counts, copy, say_next, shell_command
from datasets.prepare_coco import main as prepare_coco
from tests.locked import held_by_another, taken_by_another
from tests.official import coco_archives, coco_entry, ids, jpeg, png, run_lengths, train_command, unzipped, zipped
from util.errors import Interrupted, UserError
from util.files import put

ROOT = Path(__file__).parent.parent


# --------------------------------------------------------------------------------------------------------- archives


PART = Part("photos", "set*.zip", "1 GB", "http://example.org/set.zip", ("photos", "unpacked/photos"), "*/7.jpg")


def test_parts_are_found_packed_or_unpacked(tmp_path: Path) -> None:
    other = Part("labels", "labels.zip", "2 MB", "http://example.org/labels.zip")
    with pytest.raises(UserError, match=r"lacks set\*.zip \(photos, 1 GB, .*\); labels.zip \(labels, 2 MB, .*unpacked"):
        find(tmp_path, [PART, other])
    with pytest.raises(UserError, match="is no folder"):
        find(tmp_path / "none", [PART])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/7.jpg").touch()
    assert find(tmp_path, [PART]) == [Source(tmp_path)]  # unpacked among others
    (tmp_path / "unpacked/photos").mkdir(parents=True)
    assert find(tmp_path, [PART]) == [Source(tmp_path / "unpacked/photos")]
    (tmp_path / "set_0.zip").mkdir()  # no archive, whatever it is called
    zipped(tmp_path / "SET_1.ZIP", {})
    assert find(tmp_path, [PART]) == [Archive(tmp_path / "SET_1.ZIP")]
    zipped(tmp_path / "set_2.zip", {})
    with pytest.raises(UserError, match="may all be the photos; leave one of them"):
        find(tmp_path, [PART])


@pytest.mark.parametrize("packed", [True, False])
def test_members_by_name(tmp_path: Path, packed: bool) -> None:
    """Whatever folder is in front; hidden files and what Macs add are left out; 10 comes after 9."""
    names = ["a/10.PNG", "a/9.png", "a/9.txt", "__MACOSX/a/9.png", "a/._9.png", ".hidden/8.png"]
    zipped(tmp_path / "set.zip", {name: name.encode() for name in names})
    source = Archive(tmp_path / "set.zip")
    if not packed:
        zipfile.ZipFile(tmp_path / "set.zip").extractall(tmp_path / "set")
        source = Source(tmp_path / "set")
    assert source.names() == ["a/9.png", "a/9.txt", "a/10.PNG"]
    assert list(source.select(r"(\d+)\.png").items()) == [("9", "a/9.png"), ("10", "a/10.PNG")]
    assert source.read("a/10.PNG") == b"a/10.PNG"
    with pytest.raises(UserError, match=r"has both a/9.png and a/9.txt: which of them is meant"):
        source.select(r"(\d+)\.\w+")


def test_folders_that_are_links(tmp_path: Path) -> None:
    """They are followed, as people put parts on several disks, but not round and round."""
    (tmp_path / "disk/val").mkdir(parents=True)
    (tmp_path / "disk/val/1.png").touch()
    (tmp_path / "set").mkdir()
    (tmp_path / "set/val").symlink_to(tmp_path / "disk/val")
    (tmp_path / "set/again").symlink_to(tmp_path / "set")
    assert Source(tmp_path / "set").names() == ["val/1.png"]


def test_archives_cut_short_or_damaged_or_hostile(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    zipped(path, {"1.png": b"one" * 100, "2.png": b"two" * 100})
    whole = path.read_bytes()
    path.write_bytes(whole[:400])
    with pytest.raises(UserError, match=r"set.zip \(400 bytes\) is no zip archive, or one whose download was cut"):
        Archive(path).names()
    path = tmp_path / "damaged.zip"
    path.write_bytes(whole.replace(b"two", b"tw0", 1))
    assert Archive(path).read("1.png") == b"one" * 100
    with pytest.raises(UserError, match=r"damaged.zip: 2.png is damaged \(Bad CRC-32.*download the archive again"):
        Archive(path).read("2.png")
    path = tmp_path / "hostile.zip"
    for name in ("../../1.png", "/etc/1.png"):
        zipped(path, {name: b""})
        os.utime(path, ns=(0, len(name)))  # so that it is read again
        with pytest.raises(UserError, match="leads out of it"):
            Archive(path).names()


# ------------------------------------------------------------------------------------------------------------- jobs


def halved(number: int) -> int:
    """Half of an even number."""
    if number % 2:
        raise UserError(f"{number} is odd")
    return number // 2


def no_room(number: int, code: int = errno.ENOSPC) -> None:
    """What a full disk does."""
    raise OSError(code, os.strerror(code), "file")


def killed(number: int) -> int:
    """What the kernel does when memory is short."""
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_done_is_told_and_all_else_is_done(workers: int) -> None:
    results, failures = run_all(halved, range(12), workers)
    assert results == [0, None, 1, None, 2, None, 3, None, 4, None, 5, None]
    assert failures == ["1 is odd", "3 is odd", "5 is odd", "7 is odd", "9 is odd", "11 is odd"]
    for code, said in ((errno.ENOSPC, "No space left"), (errno.EACCES, "Permission denied")):
        with pytest.raises(OSError, match=said):
            run_all(functools.partial(no_room, code=code), range(12), workers)
    failures = run_all(functools.partial(no_room, code=errno.EIO), range(2), workers)[1]
    assert failures == ["file: Input/output error"] * 2


def test_a_killed_process_is_no_endless_wait() -> None:
    with pytest.raises(Interrupted, match="fewer --workers take less; what was done is whole"):
        run_all(killed, range(40), 2)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes as Linux has them")
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)],
    ids=lambda value: str(value),
)
def test_processes_end_with_the_first(number: int, status: int, tmp_path: Path) -> None:
    """However that one ends, none is left over; Ctrl-C, which a terminal sends to all of them, is one line."""
    code = (
        "import os, pathlib, time\n"
        "from datasets.preparation.jobs import run_all\n"
        "from util.errors import run_main\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "def work(job):\n"
        "    (folder / str(os.getpid())).touch()\n"
        "    time.sleep(0.05)\n"
        "run_main(lambda: run_all(work, range(10_000), 2))\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    (os.killpg if number == signal.SIGINT else os.kill)(first.pid, number)
    said = first.communicate(timeout=60)[1]
    assert first.returncode == status
    assert "Traceback" not in said
    while any(Path("/proc", path.name).exists() for path in tmp_path.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_ctrl_c_while_jobs_are_handed_out_is_no_endless_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between steps of the pool, and means again what it meant before once that is gone."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    submit, handed = ProcessPoolExecutor.submit, []

    def interrupted(pool: ProcessPoolExecutor, *job: object) -> Future:
        handed.append(job)
        with pool._shutdown_lock:  # as where it comes in the middle of a step
            os.kill(os.getpid(), signal.SIGINT)
        return submit(pool, *job)

    run_all(halved, range(0, 40, 2), 2)
    assert {number: signal.getsignal(number) for number in before} == before
    monkeypatch.setattr(ProcessPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(halved, range(0, 40, 2), 2)
    assert len(handed) == 2  # who asks twice does not wait
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_ctrl_c_in_the_last_moment_is_heeded(workers: int, number: int) -> None:
    """Else a command would go on with its next part."""
    done = []

    def keep(result: int) -> None:
        done.append(result)
        if len(done) == 20:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        run_all(halved, range(0, 40, 2), workers, keep=keep)
    assert len(done) == 20


def test_a_million_jobs_are_not_handed_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    submit, handed, done = ProcessPoolExecutor.submit, [], []
    monkeypatch.setattr(ProcessPoolExecutor, "submit", lambda *job: handed.append(len(done)) or submit(*job))
    run_all(halved, range(0, 400, 2), 2, keep=done.append)
    ahead = [CHUNK * (place + 1) - count for place, count in enumerate(handed)]
    assert max(ahead) == CHUNK * WAITING * 2


# ----------------------------------------------------------------------------------------------------------- output


def test_a_folder_holds_what_one_command_made(tmp_path: Path) -> None:
    zipped(tmp_path / "set.zip", {})
    out, sources = str(tmp_path / "out"), [Archive(tmp_path / "set.zip")]
    Output.begin(out, "a.py", {"flag": 1}, sources)
    Output.begin(out, "a.py", {"flag": 1}, sources).finish({"train": 3})
    assert json.loads((tmp_path / "out/prepared.json").read_text())["images"] == {"train": 3}
    with pytest.raises(UserError, match="was made by a.py; give a new folder"):
        Output.begin(out, "b.py", {"flag": 1}, sources)
    with pytest.raises(UserError, match="was made with flag 1, not 2"):
        Output.begin(out, "a.py", {"flag": 2}, sources)
    zipped(tmp_path / "set.zip", {"another": b"release"})
    with pytest.raises(UserError, match=r"was made with another set.zip: give a new folder, or delete that one"):
        Output.begin(out, "a.py", {"flag": 1}, sources)
    (tmp_path / "out/prepared.json").write_text("{")
    with pytest.raises(UserError, match="prepared.json is damaged"):
        Output.begin(out, "a.py", {"flag": 1}, sources)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/holiday.jpg").touch()
    with pytest.raises(UserError, match=r"holds files that this command did not make \(holiday.jpg\)"):
        Output.begin(str(tmp_path / "mine"), "a.py", {})


def test_what_an_archive_is_known_by(tmp_path: Path) -> None:
    """By its files' names: one that is downloaded again, or unpacked meanwhile, is no other. Parts come one by one."""
    out, sources = str(tmp_path / "out"), [Archive(tmp_path / "a.zip"), Archive(tmp_path / "b.zip")]
    zipped(tmp_path / "a.zip", {"1.png": b"damaged"})
    zipped(tmp_path / "b.zip", {"2.png": b""})
    Output.begin(out, "a.py", {}, sources[:1]).finish({"val": 1})
    zipped(tmp_path / "a.zip", {"1.png": b"mended, and of another size"})
    Output.begin(out, "a.py", {}, [Source(tmp_path / "unpacked"), sources[1]]).finish({"train": 2})
    assert json.loads((tmp_path / "out/prepared.json").read_text())["images"] == {"val": 1, "train": 2}
    for source, files in zip(sources, ({"1.jpg": b""}, {"2.png": b"", "3.png": b""}), strict=True):
        zipped(source.path, files)
        with pytest.raises(UserError, match=f"was made with another {source.path.name}"):
            Output.begin(out, "a.py", {}, [source])


@pytest.mark.skipif(sys.platform == "win32", reason="has no flock")
def test_one_process_fills_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    Output.begin(str(out), "a.py", {}).finish({"train": 1})
    with held_by_another(out), pytest.raises(UserError, match="out is being filled by process 12 on elsewhere; wait"):
        Output.begin(str(out), "a.py", {})
    output = Output.begin(str(out), "a.py", {})
    assert not taken_by_another(out)
    output.finish({"train": 1})
    with pytest.raises(UserError, match="was made by a.py"):
        Output.begin(str(out), "b.py", {})
    assert sorted(path.name for path in out.iterdir()) == ["prepared.json"]
    assert taken_by_another(out)


def test_failures_are_told_and_kept(tmp_path: Path) -> None:
    output = Output.begin(str(tmp_path), "a.py", {})
    with pytest.raises(UserError, match=r"5 could not be prepared: 0 is bad; 1 is bad; 2 is bad; .*not_prepared.txt"):
        output.finish({"train": 3}, [f"{i} is bad" for i in range(5)])
    assert (tmp_path / "not_prepared.txt").read_text().splitlines()[4] == "4 is bad"
    assert json.loads((tmp_path / "prepared.json").read_text())["images"] == {}
    output.finish({"train": 3})
    assert not (tmp_path / "not_prepared.txt").exists()


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a/b.png"
    put(b"old", path)

    def cut_short(self: Path, content: bytes) -> None:
        with open(self, "wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", cut_short)
    with pytest.raises(OSError, match=r"No space left on device: .*a/b.png'"):
        put(b"new", path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["b.png"]


def test_what_is_in_a_files_way(tmp_path: Path) -> None:
    """A link where it is written first, as another program may leave it, is not followed; empty files are refused."""
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "a.png.tmp").symlink_to(tmp_path / "mine.png")
    put(b"new", tmp_path / "a.png")
    assert [(tmp_path / name).read_bytes() for name in ("mine.png", "a.png")] == [b"mine", b"new"]
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UserError, match=r"empty.jpg is empty \(0 bytes\); copy or download it again"):
        copy(Source(tmp_path), "empty.jpg", tmp_path / "b.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/prepared.json.tmp").touch()  # of a run that was killed as it began
    Output.begin(str(tmp_path / "out"), "a.py", {})


def test_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.jpg").write_bytes(b"one")
    copy(Source(tmp_path / "photos"), "1.jpg", tmp_path / "out/1.jpg", link=True)
    assert (tmp_path / "out/1.jpg").readlink() == tmp_path / "photos/1.jpg"
    monkeypatch.chdir(tmp_path)
    copy(Source(Path("photos")), "1.jpg", tmp_path / "out/1.jpg", link=True)  # wherever the command was given
    assert (tmp_path / "out/1.jpg").read_bytes() == b"one"
    copy(Source(tmp_path / "photos"), "1.jpg", tmp_path / "out/1.jpg")  # in the link's place
    assert not (tmp_path / "out/1.jpg").is_symlink()
    zipped(tmp_path / "set.zip", {"1.jpg": b"one"})
    with pytest.raises(UserError, match="is in an archive; unpack it, or drop the flag"):
        copy(Archive(tmp_path / "set.zip"), "1.jpg", tmp_path / "out/2.jpg", link=True)


def test_official_numbers_of_images(capsys: pytest.CaptureFixture) -> None:
    official = {"train": 10, "val": 5}
    check_counts("Set", {"train": 10, "val": 5}, official, partial=False)
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"Set: train images 9 of 10 \(1 missing\): download"):
        check_counts("Set", {"train": 9, "val": 5}, official, partial=False)
    with pytest.raises(UserError, match=r"val images 6 of 5 \(1 too many\)"):
        check_counts("Set", {"val": 6}, official, partial=False)
    check_counts("Set", {"train": 9}, official, partial=True)
    assert "note: Set: train images 9 of 10 (1 missing)" in capsys.readouterr().out
    with pytest.raises(UserError, match="train images 0 of 10"):
        check_counts("Set", {"train": 0}, official, partial=True)


def test_commands_can_be_pasted() -> None:
    words = ["python", "train.py", "--name", "a b", "--flag", "--list", "x", "y", "--dataroot", "d" * 90]
    text = shell_command(words)
    assert shlex.split(text.replace("\\\n", "")) == words
    assert max(map(len, text.splitlines())) <= 110
    assert "--name 'a b'" in text


# ------------------------------------------------------------------------------------------------------ COCO-Stuff


def tiny_coco(folder: Path) -> None:
    """One training and two validation images; image 2 of 6 x 4 pixels has an object and a crowd."""
    square = [2, 0, 4, 0, 4, 2, 2, 2]  # x, y corners: columns 2 and 3 of rows 0 and 1
    crowd = {"size": [4, 6], "counts": [16, 8]}  # run lengths down the columns: columns 4 and 5
    scene = (jpeg(6, 4), png(np.full((4, 6), 9, np.uint8)))
    name = "{:012d}".format
    things = {"val": [coco_entry(2, crowd, crowd=True), coco_entry(2, [square])]}
    coco_archives(folder, {"train": {name(1): scene}, "val": {name(2): scene, name(30): scene}}, things)


def test_coco_comes_out_of_its_archives(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tiny_coco(tmp_path / "zips")
    flags = ["--downloads", str(tmp_path / "zips"), "--out", str(tmp_path / "coco"), "--workers", "2"]
    with pytest.raises(UserError, match=r"train images 1 of 118,287 \(118,286 missing\); val images 2 of 5,000"):
        prepare_coco(flags)
    assert not (tmp_path / "coco").exists()
    prepare_coco([*flags, "--partial"])
    words = train_command(capsys.readouterr().out)
    assert words[words.index("--dataroot") + 1] == str(tmp_path / "coco")
    found = sorted(str(path.relative_to(tmp_path / "coco")) for path in tmp_path.glob("coco/*/*"))
    assert found == sorted(
        f"{part}_{kind}/{stem:012d}.{'jpg' if kind == 'img' else 'png'}"
        for part, stem in (("train", 1), ("val", 2), ("val", 30))
        for kind in ("img", "label", "inst")
    )
    photo = (tmp_path / "coco/val_img/000000000002.jpg").read_bytes()
    assert photo == zipfile.ZipFile(tmp_path / "zips/val2017.zip").read("val2017/000000000002.jpg")
    # Mended (SPADE): the crowd, which comes first, is there, and no object is 0, 1, ..., as classes are.
    assert (
        ids(tmp_path / "coco/val_inst/000000000002.png")
        == [[9, 9, 257, 257, 256, 256]] * 2 + [[9, 9, 9, 9, 256, 256]] * 2
    )


def test_legacy_coco_is_as_released(tmp_path: Path) -> None:
    """Objects from 0 on, crowds neither drawn nor counted; a pixel is of a polygon if its lower right corner is."""
    tiny_coco(tmp_path / "zips")
    unzipped(tmp_path / "zips")
    zips = tmp_path / "zips"
    (zips / "train2017/train2017").rename(zips / "photos")
    (zips / "train2017").rmdir()
    (zips / "photos").rename(zips / "train2017")
    flags = ["--downloads", str(zips), "--out", str(tmp_path / "coco"), "--partial", "--link", "--workers", "1"]
    prepare_coco([*flags, "--legacy"])
    made = tmp_path / "coco/val_inst/000000000002.png"
    assert Image.open(made).mode == "L"
    assert ids(made) == [[9, 0, 0, 9, 9, 9]] + [[9] * 6] * 3
    assert (tmp_path / "coco/val_img/000000000002.jpg").is_symlink()
    assert legacy_instance_map(np.array([[7, 8]], np.uint8), [np.array([[0, 1]])] * 300).tolist() == [[7, 299 % 256]]
    with pytest.raises(UserError, match=r"was made with legacy True, not False: give a new folder, or delete that one"):
        prepare_coco(flags)


def test_polygons_of_legacy_coco() -> None:
    """Pixel (x, y) is in if (x + 1, y + 1) is: a triangle of the corners (0, 0), (4, 0), (0, 4) has three of them."""
    triangle, whole = [0, 0, 4, 0, 0, 4], [0, 0, 4, 0, 4, 4, 0, 4]
    assert legacy_mask_of([triangle], 4, 4).astype(int).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]
    assert legacy_mask_of([whole], 4, 4).astype(int).tolist() == [[1, 1, 1, 0]] * 3 + [[0] * 4]
    assert legacy_mask_of([triangle, [3, 3, 4, 3, 4, 4, 3, 4]], 4, 4).sum() == 4
    assert legacy_mask_of({"size": [1, 2], "counts": [1, 1]}, 1, 2).tolist() == [[False, True]]
    assert mask_of([triangle], 4, 4).sum() > legacy_mask_of([triangle], 4, 4).sum()


@pytest.mark.real_data
def test_released_instance_maps_lie_half_a_pixel_off(real_data: Path) -> None:
    """What --legacy does to polygons, as far as released maps show it: objects at the first row or column, none at the
    last; and where they differ from the label map, which has a thing's class there, they do so to the upper left."""
    reach, fits = np.zeros(4, int), []
    for path in sorted((real_data / "coco_stuff_sample").glob("*_inst/*.png")):
        label = np.array(ids(path.parent.parent / path.parent.name.replace("inst", "label") / path.name))
        instance = np.array(ids(path))
        for number in np.unique(instance[instance != label]):
            mask = (instance == number) & (instance != label)
            reach += [mask[0].any(), mask[:, 0].any(), mask[-1].any(), mask[:, -1].any()]
            classes, pixels = np.unique(label[mask], return_counts=True)
            thing = np.pad(label == classes[pixels.argmax()], 1)
            if mask.sum() >= 400:
                shifts = [
                    (np.count_nonzero(mask & ~thing[1 + d :, 1 + d :][: len(mask), : mask.shape[1]])) for d in (-1, 1)
                ]
                fits.append(shifts[1] < shifts[0])
    assert reach.tolist() == [6, 9, 0, 0]
    assert (len(fits), sum(fits)) == (90, 89)


@pytest.mark.real_data
def test_legacy_instance_maps_are_those_of_the_sample(real_data: Path, tmp_path: Path) -> None:
    """The sample, packed as COCO is, with what its released instance maps show as objects, gives these maps again."""
    sample = real_data / "coco_stuff_sample"
    parts: dict[str, dict[str, tuple[bytes, bytes]]] = {}
    things: dict[str, list[dict]] = {}
    for part in ("train", "val"):
        for path in sorted((sample / f"{part}_img").iterdir()):
            label = np.asarray(Image.open(sample / f"{part}_label/{path.stem}.png"))
            inst = np.asarray(Image.open(sample / f"{part}_inst/{path.stem}.png"))
            numbers = inst[inst != label]
            for number in range(int(numbers.max()) + 1):  # one that others cover wholly has no pixel
                mask = (inst == number) & (inst != label)
                rle = {"size": list(mask.shape), "counts": run_lengths(mask)}
                things.setdefault(part, []).append(coco_entry(int(path.stem), rle))
            label_file = sample / f"{part}_label/{path.stem}.png"
            parts.setdefault(part, {})[path.stem] = (path.read_bytes(), label_file.read_bytes())
    coco_archives(tmp_path / "zips", parts, things)
    for flags in (["--legacy"], []):
        out = tmp_path / f"coco{len(flags)}"
        prepare_coco(["--downloads", str(tmp_path / "zips"), "--out", str(out), "--partial", *flags])
    made = sorted(tmp_path.glob("coco1/*_inst/*.png"))
    assert len(made) == 21
    for path in made:
        released = sample / path.parent.name / path.name
        assert ids(path) == ids(released)
        ours, label = (np.array(ids(p)) for p in (tmp_path / "coco0" / path.parent.name / path.name, released))
        assert (ours[ours < 256] == label[ours < 256]).all()
    assert max(np.array(ids(path)).max() for path in tmp_path.glob("coco0/*_inst/*.png")) == 256 + 19


def test_damaged_coco_archives(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """What is whole is prepared; the same command with the archive mended does what is left, and nothing twice."""
    zips, out = tmp_path / "zips", tmp_path / "coco"
    tiny_coco(zips)
    flags = ["--downloads", str(zips), "--out", str(out), "--partial", "--workers", "1"]
    whole = (zips / "val2017.zip").read_bytes()
    start = whole.index(b"\xff\xd8")
    (zips / "val2017.zip").write_bytes(whole[: start + 90] + b"????" + whole[start + 94 :])
    with pytest.raises(UserError, match=r"1 could not be prepared: .*val2017.zip: val2017/000000000002.jpg is damaged"):
        prepare_coco(flags)
    assert "python train.py" not in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    assert len(before) == 6
    prepare_coco([*flags, "--parts", "train"])
    assert "val2017/000000000002.jpg is damaged" in (out / "not_prepared.txt").read_text()  # train tells nothing of it
    (out / "val_inst/000000000030.png").write_bytes(b"")  # as after a power failure
    (zips / "val2017.zip").write_bytes(whole)
    prepare_coco(flags)
    after = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    assert len(after) == 9
    again = sorted(path.name for path in before if after[path] != before[path])
    assert again == ["000000000030.jpg", "000000000030.png", "000000000030.png"]  # which are looked at together
    assert not (out / "not_prepared.txt").exists()
    prepare_coco(flags)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == after


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda held: held.pop("images"), "is no COCO annotation file, or a damaged one: it has no 'images'"),
        (lambda held: held["images"].clear(), "has no train images with all their files, which should be train2017/"),
        (lambda held: held["images"][0].update(id="1"), "is no COCO annotation file, .*: id '1' is no whole number"),
        (lambda held: held["images"][0].update(width=None), "width None is no whole number"),
        (lambda held: held.update(annotations=[coco_entry(1, [[0, 0, 1, 1, 2]])]), "have a polygon of an odd number"),
        (lambda held: held.update(annotations=[[]]), "lists and objects are where they should not be"),
        (lambda held: held.update(annotations=[coco_entry(1, {"size": [6, 4], "counts": [24]})]), r"of \[6, 4\], not"),
        (lambda held: held["images"][0].update(width=8), "is 6 x 4 but its image is 8 x 4"),
        (
            lambda held: held.update(annotations=[coco_entry(1, {"size": [4, 6], "counts": [9]})]),
            "run lengths",
        ),
        (lambda held: held.update(annotations=[coco_entry(1, [["a"] * 6])]), "is no COCO annotation file"),
        (lambda held: held.update(annotations=[{"image_id": 1}]), "it has no 'segmentation'"),
    ],
)
def test_annotations_that_do_not_fit(change: object, words: str, tmp_path: Path) -> None:
    tiny_coco(tmp_path)
    archive = tmp_path / "annotations_trainval2017.zip"
    name = "annotations/instances_train2017.json"
    held = json.loads(zipfile.ZipFile(archive).read(name))
    change(held)
    zipped(archive, {name: json.dumps(held).encode()})
    flags = ["--downloads", str(tmp_path), "--out", str(tmp_path / "out"), "--partial", "--parts", "train"]
    with pytest.raises(UserError, match=words):
        prepare_coco(flags)


def test_masks_of_annotations() -> None:
    """Polygons of less than three corners have no pixel; several make one object."""
    square = [0, 0, 2, 0, 2, 2, 0, 2]
    pixel, line = [3, 0, 4, 0, 4, 1, 3, 1], [1, 1, 2, 2]
    assert mask_of([square, pixel, line], 2, 4).astype(int).tolist() == [[1, 1, 0, 1], [1, 1, 0, 0]]
    assert mask_of([], 1, 2).tolist() == [[False, False]]
    for counts in ("", "0", "zzzzzzzzz", "\x7f", [23], [-1, 25], None):
        with pytest.raises(ValueError, match="run lengths|no segmentation"):
            mask_of({"size": [4, 6], "counts": counts}, 4, 6)
    encoded = pycocotools_mask().encode(np.asfortranarray(np.eye(4, 6, dtype=np.uint8)))
    assert (mask_of({"size": [4, 6], "counts": encoded["counts"].decode()}, 4, 6) == np.eye(4, 6)).all()
    things = Annotations.read(json.dumps({"images": [], "annotations": []}).encode(), "file").things
    assert things == {}


def test_a_wrong_release_is_named(tmp_path: Path) -> None:
    tiny_coco(tmp_path)
    (tmp_path / "stuffthingmaps_trainval2017.zip").unlink()
    with pytest.raises(UserError, match=r"lacks stuffthingmaps_trainval2017.zip \(label maps, 0.7 GB, http"):
        prepare_coco(["--downloads", str(tmp_path), "--out", str(tmp_path / "out"), "--partial"])
    zipped(tmp_path / "stuffthingmaps_trainval2017.zip", {"train2017/000000000009.png": b""})
    words = r"1 of 2 train images has no label map \(train2017/000000000001.jpg\).*are the archives of one release"
    with pytest.raises(UserError, match=words):
        prepare_coco(["--downloads", str(tmp_path), "--out", str(tmp_path / "out")])


def test_coco_of_one_part_and_images_that_are_not_whole(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With --partial these are left out, with a note; the other part may come later, into the same folder."""
    tiny_coco(tmp_path)
    zipped(
        tmp_path / "stuffthingmaps_trainval2017.zip",
        {
            f"{part}2017/{number:012d}.png": png(np.full((4, 6), 9, np.uint8))
            for part, number in (("train", 1), ("val", 2))
        },
    )
    flags = ["--downloads", str(tmp_path), "--out", str(tmp_path / "out"), "--partial", "--workers", "1"]
    prepare_coco([*flags, "--parts", "val"])
    printed = capsys.readouterr().out
    assert "1 of 2 val images has no label map (val2017/000000000030.jpg): left out" in printed
    assert "python train.py" not in printed
    prepare_coco(flags)
    assert json.loads((tmp_path / "out/prepared.json").read_text())["images"] == {"train": 1, "val": 1}
    assert len(list(tmp_path.glob("out/*/*"))) == 6


@pytest.mark.parametrize(
    ("photo", "label", "words"),
    [
        (jpeg(6, 4)[:-60], None, r"0001.jpg cannot be read as an image: .*[Tt]runcated"),
        (jpeg(4, 6), None, "is 4 x 6 but .*is 6 x 4"),
        (
            None,
            png(np.array([[9, 182, 255, 200]] * 4, np.uint8).repeat(2, 1)[:, :6]),
            "has ids 182, but COCO-Stuff's are",
        ),
        (b"", None, r"it is empty \(0 bytes\)"),
    ],
)
def test_coco_of_damaged_or_strange_files(photo: bytes | None, label: bytes | None, words: str, tmp_path: Path) -> None:
    """Neither of the two is written."""
    scene = (jpeg(6, 4) if photo is None else photo, label or png(np.full((4, 6), 9, np.uint8)))
    coco_archives(tmp_path, {"train": {"000000000001": scene}, "val": {}}, {})
    flags = ["--downloads", str(tmp_path), "--out", str(tmp_path / "out"), "--partial", "--parts", "train"]
    with pytest.raises(UserError, match=f"1 could not be prepared: .*{words}"):
        prepare_coco(flags)
    assert list(tmp_path.glob("out/*/*")) == []


def test_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("train_inst", "val_label", "val_inst"):
        (tmp_path / name).mkdir()
    flags = ["--name", "x", "--dataset_mode", "custom", "--label_dir", "L", "--instance_dir", "I", "--batchSize", "4"]
    say_next(tmp_path, {"train": 1_500, "val": 2}, flags)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{tmp_path} has its images: 1,500 train and 2 val; look at them, then train:\n")
    check, train = (shlex.split(line) for line in printed.replace("\\\n", "").splitlines()[1:])
    assert train[2:] == flags
    validation = [f"--val_{kind}_dir {tmp_path}/val_{short}".split() for kind, short in zip(KINDS, SHORT, strict=True)]
    assert check[2:] == [*flags[2:-2], *itertools.chain.from_iterable(validation)]
    say_next(tmp_path, {"val": 2}, flags)
    assert capsys.readouterr().out == f"{tmp_path} has its images: 2 val\n"


KINDS, SHORT = ("label", "image", "instance"), ("label", "img", "inst")


def test_nothing_is_written_into_the_originals(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for out in ("photos", "photos/out", "photos/../photos/out"):
        with pytest.raises(UserError, match="is inside .*photos, where originals are; give a folder elsewhere"):
            Output.begin(str(tmp_path / out), "a.py", {}, [Source(tmp_path / "photos")])
    assert list((tmp_path / "photos").iterdir()) == []
    Output.begin(str(tmp_path / "photos_out"), "a.py", {}, [Source(tmp_path / "photos")])
