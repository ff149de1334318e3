"""Damaged, wrong and hostile images and layouts, through training's loader, with both --on_bad_image policies.

    python -m tests.faults damaged

Each file is the label map or the photo of one pair among good ones. A file may give an item, or one message that names
it. It may not give a traceback, crash, wait for ever or take gigabytes: everything runs in a process that may take
1.5 GB more than it has when it begins and 20 seconds a file, and that is started again for the next file where it ends.
"""

import argparse
import faulthandler
import functools
import io
import json
import os
import pickle
import random
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from data import create_dataloader, create_dataset
from data.base_dataset import ON_BAD_IMAGE, WAYS_ON
from options.train_options import TrainOptions
from util.errors import UserError, printable

ROOT = Path(__file__).parent.parent.parent
WIDTH, HEIGHT, CLASSES = 48, 40, 5
ROLES = ("label", "photo")
MEMORY = 1536 << 20  # bytes that the process may take beyond what it has
SECONDS = 20  # of a file
ITEM, ERROR, EITHER = "item", "error", "either"
HINT = f" ({WAYS_ON})"
HUGE = 100_000  # pixels, both sides, that headers claim


@dataclass(frozen=True)
class Case:
    """A file, and what it has to give as a label map and as a photo: ITEM, ERROR, or EITHER of them."""

    kind: str
    make: Callable[[Path], None]
    label: str = ERROR
    photo: str = ERROR
    name: str = "bad.png"


@dataclass(frozen=True)
class Outcome:
    """What came of a file."""

    kind: str
    role: str
    policy: str
    what: str  # ITEM; or "listing", "reading": the message came then; or "traceback", "no answer"
    text: str = ""  # the message
    skipped: tuple[tuple[str, str], ...] = ()  # file and reason
    path: str = ""


# ------------------------------------------------------------------------------------------------------- good pictures


def ids(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Noise of ids 0 .. 4, so that files are mostly compressed data."""
    return np.random.default_rng(1).integers(0, CLASSES, (height, width)).astype(np.uint8)


def pixels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def saved(picture: Image.Image | np.ndarray, kind: str, **flags: object) -> bytes:
    """A picture as the bytes of a file."""
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **flags)
    return file.getvalue()


def write_good(folder: Path, name: str = "bad.png") -> None:
    """Three good pairs, and a fourth one under that name."""
    for kind, content in (("label", saved(ids(), "PNG")), ("photo", saved(pixels(), "PNG"))):
        (folder / kind).mkdir(parents=True)
        for other in ("a0.png", "a1.png", "a2.png", name):
            (folder / kind / other).write_bytes(content)


# ------------------------------------------------------------------------------------------------------- damaged ones


def flipped(content: bytes, seed: int, count: int, first: int = 0, last: int | None = None) -> bytes:
    """`count` bytes between `first` and `last` replaced by others."""
    rng, changed = random.Random(seed), bytearray(content)
    for _ in range(count):
        changed[rng.randrange(first, len(content) if last is None else last)] ^= rng.randrange(1, 256)
    return bytes(changed)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int,
    height: int,
    bits: int = 8,
    color: int = 0,
    more: bytes = b"",
    data: bytes = b"\0" * 50,
    packed: bytes | None = None,
) -> bytes:
    """A PNG by hand: signature, IHDR, more chunks, IDAT, IEND. `packed`: instead of `data`, which it is compressed."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", packed or zlib.compress(data)) + chunk(b"IEND", b"")


def good_png_with(more: bytes) -> bytes:
    """Ids 0 with further chunks."""
    return png(WIDTH, HEIGHT, more=more, data=(b"\0" * (WIDTH + 1)) * HEIGHT)


def tiff(width: int, height: int, count: int = 1, following: int = 0) -> bytes:
    """A grey TIFF's header, by hand, whose strip is counted `count` times; `following`: where its next page is."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, count, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, count, WIDTH * HEIGHT)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + b"\0" * 200


def bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + info + b"\0" * 100


def webp(width: int, height: int) -> bytes:
    """An extended WebP whose canvas is as large as it says, with no frame that would fill it."""
    canvas = b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", len(canvas)) + canvas + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def frames(kind: str, **flags: object) -> bytes:
    """Three different pictures in one file."""
    rest = [Image.fromarray((ids() + k) % CLASSES) for k in (1, 2)]
    return saved(ids(), kind, save_all=True, append_images=rest, **flags)


def exif_turned() -> bytes:
    """A camera's photo that is stored lying, and says that it has to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.fromarray(pixels()).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def palette(highest: int) -> bytes:
    picture = Image.fromarray((ids().astype(int) * highest // 4).astype(np.uint8))
    picture.putpalette([value * 7 % 256 for value in range(768)])
    return saved(picture, "PNG", transparency=bytes(range(highest + 1)))


def writing(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def linking(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.symlink_to(target)

    return make


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the whole path may be too long for a socket
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


class Planted:
    """Unpickling it makes a file."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("planted",)


@functools.cache
def cases() -> list[Case]:
    """All files, the same every time."""
    label, photo = saved(ids(), "PNG"), saved(pixels(), "PNG")
    jpeg = saved(pixels(), "JPEG", quality=90)
    progressive = saved(pixels(), "JPEG", quality=90, progressive=True)
    formats = {"TIFF": saved(ids(), "TIFF"), "BMP": saved(ids(), "BMP"), "WebP": saved(pixels(), "WEBP")}
    formats |= {"PPM": saved(ids(), "PPM"), "GIF": saved(ids(), "GIF"), "PNG": photo, "JPEG": jpeg}
    formats["packed TIFF"] = saved(ids(), "TIFF", compression="tiff_lzw")
    found: list[Case] = []

    def add(kind: str, content: bytes, label: str = ERROR, photo: str = ERROR, name: str = "bad.png") -> None:
        found.append(Case(kind, writing(content), label, photo, name))

    # Cut short.
    for share in (0.02, 0.1, 0.5, 0.9):
        add(f"PNG, {share:.0%} of it", label[: int(share * len(label))])
        add(f"JPEG, {share:.0%} of it", jpeg[: int(share * len(jpeg))])
    add("PNG without its end", label[:-12], EITHER, EITHER)
    add("JPEG without its last bytes", jpeg[:-10], ERROR, EITHER)
    add("progressive JPEG, 50% of it", progressive[: len(progressive) // 2])
    for kind in ("TIFF", "BMP", "PPM", "WebP"):
        add(f"{kind}, 50% of it", formats[kind][: len(formats[kind]) // 2])
    add("0 bytes", b"")
    add("1 byte", b"\x89")
    add("4096 zeros, as after a power failure", b"\0" * 4096)

    # Bytes flipped.
    add("PNG, signature", flipped(label, 1, 2, 0, 4))
    add("PNG, header", flipped(label, 2, 1, 16, 24))
    add("JPEG, signature", flipped(jpeg, 3, 1, 0, 2))
    for kind, content in formats.items():
        for seed in range(3):
            add(f"{kind}, 1 byte ({seed})", flipped(content, seed, 1), EITHER, EITHER)
            add(f"{kind}, 8 bytes ({seed})", flipped(content, 10 + seed, 8), EITHER, EITHER)
            add(f"{kind}, 3 bytes of the first 64 ({seed})", flipped(content, 20 + seed, 3, 0, 64), EITHER, EITHER)

    # Sizes and modes.
    add("another size, same shape", saved(ids(HEIGHT * 2, WIDTH * 2), "PNG"), ITEM, ITEM)
    add("another shape", saved(ids(WIDTH, HEIGHT), "PNG"))
    add("1 x 1", saved(ids(1, 1), "PNG"), EITHER, EITHER)
    add("RGB", photo, ERROR, ITEM)
    add("RGBA", saved(Image.fromarray(pixels()).convert("RGBA"), "PNG"), ERROR, ITEM)
    add("grey and alpha", saved(Image.fromarray(ids()).convert("LA"), "PNG"), ERROR, ITEM)
    add("CMYK JPEG", saved(Image.fromarray(pixels()).convert("CMYK"), "JPEG"), ERROR, ITEM)
    add("CMYK TIFF", saved(Image.fromarray(pixels()).convert("CMYK"), "TIFF"), ERROR, ITEM)
    add("grey JPEG", saved(ids(), "JPEG"), ERROR, ITEM)
    add("TIFF of fractions", saved(ids().astype(np.float32), "TIFF"))
    add("1 bit", saved(ids() > 2, "PNG"), ITEM, ITEM)
    add("16 bits, ids 0 .. 4", saved(ids().astype(np.uint16), "PNG"), ITEM, ITEM)
    add("16 bits, ids to 60000", saved(ids().astype(np.uint16) * 15000, "PNG"), ERROR, ITEM)
    add("32 bits, ids below 0", saved(ids().astype(np.int32) - 2, "TIFF"), ERROR, ITEM)
    add("32 bits, ids to 2 billion", saved(ids().astype(np.int32) * 500_000_000, "TIFF"), ERROR, ITEM)
    add("ids of 255", saved(ids() // 4 * 255, "PNG"), ERROR, ITEM)
    add("palette, ids 0 .. 4", palette(4), ITEM, ITEM)
    add("palette, ids to 200", palette(200), ERROR, ITEM)

    # Headers that lie.
    add("PNG of 100000 x 100000", png(HUGE, HUGE))
    add("PNG of 13000 x 13000, hardly any data", png(13000, 13000))
    add("PNG of 2147483647 x 1", png(2**31 - 1, 1))
    add("PNG of 0 x 0", png(0, 0))
    add("PNG of 7 bits", png(WIDTH, HEIGHT, bits=7))
    add("BMP of 100000 x 100000", bmp(HUGE, HUGE))
    add("BMP of 48 x -2147483648", bmp(WIDTH, -(2**31)))
    add("TIFF of 100000 x 100000", tiff(HUGE, HUGE))
    add("TIFF with a billion strips", tiff(WIDTH, HEIGHT, count=10**9))
    add("TIFF whose next page is itself", tiff(WIDTH, HEIGHT, following=8), EITHER, EITHER)
    add("WebP of 100000 x 100000", webp(HUGE, HUGE))
    add("WebP of 16000 x 11000, no frame", webp(16000, 11000))
    add("GIF of 65535 x 65535", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;")
    add("PPM of 100000 x 100000", b"P6 100000 100000 255\n" + b"\0" * 100)
    add("JPEG of 65535 x 65535", jpeg.replace(struct.pack(">HH", HEIGHT, WIDTH), b"\xff\xff\xff\xff", 1))
    add("PNG with a text of 8 MB", good_png_with(chunk(b"tEXt", b"k\0" + b"x" * 8_000_000)), EITHER, EITHER)
    packed = zlib.compress(b"\0" * 200_000_000)
    add("PNG with a text of 200 MB, packed", good_png_with(chunk(b"zTXt", b"k\0\0" + packed)), EITHER, EITHER)
    add("PNG with a profile of 200 MB, packed", good_png_with(chunk(b"iCCP", b"k\0\0" + packed)), EITHER, EITHER)
    add("PNG, 200 MB of data, packed", png(WIDTH, HEIGHT, packed=packed), EITHER, EITHER)

    # Other things under a picture's name.
    add("GIF", formats["GIF"], ITEM, ITEM)
    add("animated GIF", frames("GIF"), EITHER, ITEM)
    add("animated PNG", frames("PNG"), ITEM, ITEM)
    add("animated WebP", frames("WEBP", lossless=True), ERROR, ITEM)
    add("TIFF of three pages", frames("TIFF"), ITEM, ITEM)
    add("photo that says it is turned", exif_turned())
    add("JPEG with damaged EXIF", saved(pixels(), "JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 90), ERROR, EITHER)
    add("JPEG with a damaged profile", saved(pixels(), "JPEG", icc_profile=b"\xff" * 99), ERROR, ITEM)
    add("PNG with hostile text", saved(ids(), "PNG", pnginfo=hostile_text()), ITEM, ITEM)
    add("text", b"street_01 is missing\n")
    add("HTML, as a failed download leaves", b"<!DOCTYPE html><html><script>alert(1)</script></html>")
    add("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>")
    add("PDF", b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n")
    add("EPS, a program", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 40\n%%EndComments\nshowpage\n")
    add("pickle", pickle.dumps(Planted()))
    add("ICO", saved(Image.new("RGB", (32, 32)), "ICO"))
    found.append(Case("folder", Path.mkdir))
    found.append(Case("link to nothing", linking("nothing.png")))
    found.append(Case("link to itself", linking("bad.png")))
    found.append(Case("link to /dev/zero", linking("/dev/zero")))
    found.append(Case("link to a folder", linking("..")))
    found.append(Case("pipe", os.mkfifo))
    found.append(Case("socket", make_socket))

    # Names.
    for kind, stem in {
        "new line": "a\nb",
        "quotes": "a'b\"c`d",
        "script": "<script>alert(1)<&lt;",
        "two dots": "..x..",
        "dots inside": "x..",
        "dash": "--overwrite",
        "backslash": "..\\..\\x",
        "escapes": "\x1b[2J\x07\r",
        "format": "%s{0}{path}%2e%2e",
        "longest": "n" * 251,
        "no UTF-8": os.fsdecode(b"caf\xe9\xff"),
        "right to left": "\u202egnp.x",
    }.items():
        if stem.startswith("."):  # hidden: not listed
            stem = f"a{stem}"
        add(f"good, name: {kind}", label, ITEM, ITEM, f"{stem}.png")
        add(f"cut short, name: {kind}", label[:200], name=f"{stem}.png")
    return found


def hostile_text() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "<script>alert(1)</script>")
    text.add_text("Comment", "\x1b[2J ../../x")
    return text


# ------------------------------------------------------------------------------------------------------------- trying


@functools.cache
def flags_of(policy: str) -> Namespace:
    flags = "--gpu_ids -1 --nThreads 0 --dataset_mode custom --no_instance --serial_batches --batchSize 2"
    sizes = f"--label_nc {CLASSES} --load_size 32 --crop_size 32 --label_dir x --image_dir x"
    return TrainOptions().parse([*flags.split(), *sizes.split(), "--on_bad_image", policy])


def outcome(case: Case, role: str, policy: str, folder: Path) -> Outcome:
    """What training's loader makes of the data set in `folder`, of which one file is the case's."""
    opt = Namespace(
        **{**vars(flags_of(policy)), "label_dir": str(folder / "label"), "image_dir": str(folder / "photo")}
    )
    made = functools.partial(Outcome, case.kind, role, policy, path=str(folder / role / case.name))
    stage = "listing"
    try:
        dataset = create_dataset(opt)
        stage = "reading"
        batches = list(create_dataloader(opt, dataset))
    except UserError as error:
        return made(stage, str(error))
    except Exception as error:
        return made("traceback", f"{type(error).__name__}: {error}")
    for batch in batches:
        label, image = batch["label"], batch["image"]
        if (label.shape, image.shape) != ((2, 1, 32, 32), (2, 3, 32, 32)):
            return made("traceback", f"shapes {tuple(label.shape)} and {tuple(image.shape)}")
        if label.max() >= CLASSES or label.min() < 0 or not bool((image.abs() <= 1).all()):
            return made("traceback", f"ids to {label.max()}, values to {image.abs().max()}")
    if len(batches) != 2:
        return made("traceback", f"{len(batches)} batches of 4 items")
    skipped = [(file, reason) for batch in batches for files in batch.get("skipped", []) for file, reason in files]
    return made(ITEM, skipped=tuple(dict.fromkeys(skipped)))


def work(folder: Path, first: int) -> None:
    """Try the files from number `first` on, within limits; a line of JSON for each try."""
    limited = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limited, limited))
    os.chdir(folder)
    for number, case, role in tries()[first:]:
        place = folder / str(number)
        write_good(place, case.name)
        (place / role / case.name).unlink()
        case.make(place / role / case.name)
        for policy in ON_BAD_IMAGE:
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            done = outcome(case, role, policy, place)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps([number, asdict(done)]), flush=True)
        shutil.rmtree(place)
    if Path("planted").exists():
        raise AssertionError("a pickle was executed")


def tries() -> list[tuple[int, Case, str]]:
    """Each file as each kind, with a number."""
    return [(number, case, role) for number, (case, role) in enumerate((c, r) for c in cases() for r in ROLES)]


def run_all(folder: Path) -> Iterator[Outcome]:
    """The outcomes of all files with both policies, made in `folder`, a new one.

    Raises:
        RuntimeError: the process could not begin, or a pickle was executed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    everything, first = tries(), 0
    while first < len(everything):
        command = [sys.executable, "-m", "tests.faults.damaged", "--folder", str(folder), "--first", str(first)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=600)
        seen: dict[int, int] = {}
        for line in done.stdout.decode().splitlines():
            number, fields = json.loads(line)
            seen[number] = seen.get(number, 0) + 1
            yield Outcome(**{**fields, "skipped": tuple(map(tuple, fields["skipped"]))})
        if done.returncode == 0:
            return
        first = max(seen, default=first)
        if seen.get(first) == len(ON_BAD_IMAGE):
            first += 1
        said = done.stderr.decode(errors="replace")[-2000:]
        if first == len(everything):
            raise RuntimeError(said)
        _, case, role = everything[first]
        for policy in ON_BAD_IMAGE[seen.get(first, 0) :]:
            yield Outcome(case.kind, role, policy, "no answer", f"status {done.returncode}: {said}")
        shutil.rmtree(folder / str(first), ignore_errors=True)
        first += 1


def problems(outcomes: list[Outcome]) -> list[str]:
    """What is not as it has to be."""
    expected = {(case.kind, role): getattr(case, role) for case in cases() for role in ROLES}
    found: list[str] = []
    both: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        both.setdefault((one.kind, one.role), []).append(one)
    found += [f"{key} was not tried" for key in expected.keys() - both.keys()]
    for key, (error, skip) in both.items():
        name = Path(error.path).name
        got = ITEM if error.what == ITEM else ERROR
        if {error.what, skip.what} - {ITEM, "listing", "reading"}:
            found.append(f"{key}: {error.what} {error.text}, {skip.what} {skip.text}")
        elif expected[key] not in (EITHER, got):
            found.append(f"{key}: {expected[key]} expected, but {error.what} {error.text}")
        elif error.what == "listing":  # a pair without its other half: nothing that can be skipped
            if name not in error.text or skip.text != error.text:
                found.append(f"{key}: {error.text}; {skip.text}")
        elif error.what == ITEM:
            if error.skipped or skip != Outcome(**{**asdict(error), "policy": "skip", "skipped": ()}):
                found.append(f"{key}: an item with one policy, and {skip} with the other")
        elif error.path not in error.text:
            found.append(f"{key}: the message does not name the file: {error.text}")
        elif skip.what != ITEM or len(skip.skipped) != 1:
            found.append(f"{key}: {skip.what} {skip.text}, {skip.skipped} skipped")
        else:
            ((file, reason),) = skip.skipped
            pair = [
                str(Path(error.path).parents[1] / role / name) for role in ROLES
            ]  # one may be said not to fit the other
            plain = error.text.replace(pair[0], printable(pair[0])).replace(pair[1], printable(pair[1]))
            if file not in pair or not plain.startswith(reason):  # behind it stands the hint at the flag
                found.append(f"{key}: {file} skipped, {reason!r}; the message is {error.text!r}")
    return found


def main(argv: list[str] | None = None) -> None:
    """Print a table of what the policies make of each file.

    Raises:
        SystemExit: status 1 where something is not as it has to be.
    """
    parser = argparse.ArgumentParser(
        prog="tests.faults damaged", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the process that has the limits
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.folder:
        work(args.folder, args.first)
        return
    with tempfile.TemporaryDirectory() as folder:
        outcomes = list(run_all(Path(folder)))
    print(f"{'file':45} {'as':6} {'skip':8} error")
    for error, skip in zip(outcomes[::2], outcomes[1::2], strict=True):
        did = "replaced" if skip.skipped else skip.what
        said = printable(error.text.replace(error.path, "FILE")).replace(HINT, "")
        print(f"{error.kind:45} {error.role:6} {did:8} {said[:150] or error.what}")
    found = problems(outcomes)
    print(f"{len(cases())} files, as label map and as photo: {len(found)} not as they have to be")
    for problem in found:
        print(f"  {printable(problem)[:600]}")
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
