"""A page on which people compare systems by what they synthesise: the preference study of Park et al. 2019, Table 2.

    python evaluate.py study results/A/test_latest/images/synthesized_image \\
        results/B/test_latest/images/synthesized_image \\
        --layouts results/A/test_latest/images/input_label --out study.html

Each question shows a layout and what two systems made of it, side by side, and asks which of the two looks more like a
picture of that layout (section 4 of the paper: 500 questions for each comparison, five workers each). The page is one
file that loads nothing from elsewhere. Participants open it in a browser and send back the CSV that it saves;
`python evaluate.py study-results` reads those. docs/study.md shows how to run a study.

Every pair of systems is asked about on the same layouts. Which picture stands on the left, and the order of the
questions, the page draws for each participant from what they type as their id: half of a pair's questions have its
first system on the left. Check items ask about a picture of the layout against one that the same system made of a
clearly different layout.
"""

import base64
import hashlib
import io
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from data.base_dataset import open_image, read_image
from data.image_folder import list_images
from options.flags import command_parser, natural, positive, positive_float
from util.errors import UserError, first_few, run_main
from util.files import megabytes, write_atomically

PAGE = Path(__file__).with_name("page.html")
REAL, CHECK = "real", "check"
MATCH, MISMATCH = "match", "mismatch"  # what a check item's pictures are, in the place of their systems' names
QUALITY = 92  # of JPEGs, whose colours keep their full resolution: lossy WebP would halve it
LARGE = 200_000_000  # bytes of a page that phones and slow lines may not bear
SYNTHESIZED = "synthesized_image"  # test.py's folder, whose name says nothing of the system
POOL = 200  # layouts that check items are taken from: all of a large set need not be read
GRID = 24  # points a side at which layouts are compared
APART = 48  # summed difference of red, green and blue from which two colours are two classes, JPEG's noise aside
ALIKE = 0.5  # share of points that differ, below which a check item may not be obvious


@dataclass(frozen=True)
class Paired:
    """Paths by stem: of the layouts, and of each system's pictures."""

    layouts: dict[str, str]
    systems: dict[str, dict[str, str]]

    @property
    def stems(self) -> list[str]:
        """Of what the systems made, in natural order."""
        return list(next(iter(self.systems.values())))


@dataclass(frozen=True)
class Question:
    """A layout's stem, two pictures by path, and what the CSV calls them; `kind` is REAL or CHECK."""

    id: str
    kind: str
    layout: str
    pictures: tuple[str, str]
    names: tuple[str, str]


# ------------------------------------------------------------------------------------------------------ what is there


def named_systems(folders: Sequence[str], names: Sequence[str] | None) -> dict[str, str]:
    """Name to folder. Without `names` test.py's folders have the name of the experiment, others their own.

    Raises:
        UserError: there are fewer than two, two are one folder, or names are missing, empty or not unique.
    """
    if len(folders) < 2:
        raise UserError(f"{len(folders)} folder of pictures leaves nothing to compare; give two or more")
    twice = [f for f, count in Counter(str(Path(f).resolve()) for f in folders).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]} is given twice; give each system's folder once")
    if names is None:
        names = [_name_of(folder) for folder in folders]
    if len(names) != len(folders):
        raise UserError(f"--names has {len(names)} names for {len(folders)} folders; give one for each")
    alike = [name for name, count in Counter(names).items() if count > 1]
    if alike:
        raise UserError(f"two systems would be called {alike[0]}; tell them apart with --names")
    for name in names:
        if not name.strip() or not name.isprintable():
            raise UserError(f"--names: {name!r} is no name; give letters that can be printed")
    return dict(zip(names, folders, strict=True))


def pair_up(systems: dict[str, str], layouts: str) -> Paired:
    """The pictures of all systems and their layouts, by stem.

    Raises:
        UserError: a folder is missing or empty, has two files of a stem, or lacks one that another system has.
    """
    made = {name: _by_stem(folder, f"the folder of {name},") for name, folder in systems.items()}
    drawn = _by_stem(layouts, "--layouts")
    every = list(dict.fromkeys(stem for files in made.values() for stem in files))
    for name, files in made.items():
        missing = [stem for stem in every if stem not in files]
        if missing:
            other = next(n for n in made if missing[0] in made[n])
            raise UserError(
                f"{systems[name]} lacks {len(missing)} of {len(every)} pictures that others have, such as {other}'s "
                f"{first_few(missing)}; all systems are compared on the same layouts, so run test.py with the same "
                "ones for each, or take out what is not in all folders"
            )
    missing = [stem for stem in every if stem not in drawn]
    if missing:
        styles = all(re.sub(r"_s\d+$", "", stem) in drawn for stem in missing)
        why = (
            "pictures of several styles (--num_samples) cannot be asked about; synthesise one of each layout"
            if styles
            else "give results/NAME/test_latest/images/input_label of a run on the same layouts"
        )
        raise UserError(f"--layouts {layouts} has no picture of the name {first_few(missing)}; {why}")
    if len(every) < 2:
        raise UserError(f"there is 1 layout, {every[0]}; a study needs at least 2")
    stems = [stem for stem in made[next(iter(made))] if stem in drawn]
    return Paired(
        {stem: drawn[stem] for stem in stems},
        {name: {stem: files[stem] for stem in stems} for name, files in made.items()},
    )


def require_alike(paired: Paired, stems: Sequence[str]) -> None:
    """Check by the files' heads that what is shown together has one shape, and that layouts are in colour.

    A note says where sizes differ.

    Raises:
        UserError: a file is no image, shapes differ, or a layout has one channel.
    """
    noted = False
    for stem in stems:
        with open_image(paired.layouts[stem]) as layout:
            if layout.mode not in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
                raise UserError(
                    f"{paired.layouts[stem]} has one channel (Pillow mode {layout.mode}), as maps of class ids have, "
                    "which people cannot read; give the coloured layouts, results/NAME/test_latest/images/input_label"
                )
            sizes = {"the layout": layout.size}
        for name, files in paired.systems.items():
            with open_image(files[stem]) as picture:
                sizes[name] = picture.size
        shapes = [width / height for width, height in sizes.values()]
        told = ", ".join(f"{name} {width} x {height}" for name, (width, height) in sizes.items())
        if max(shapes) > 1.02 * min(shapes):
            raise UserError(
                f"pictures of {stem} have different shapes ({told}), so they do not show the same; "
                "synthesise with the same --preprocess_mode, --crop_size and --aspect_ratio"
            )
        if len({sizes[name] for name in paired.systems}) > 1 and not noted:
            print(f"note: pictures differ in size ({stem}: {told}); they are shown equally large")
            noted = True


def _name_of(folder: str) -> str:
    """NAME of results/NAME/test_latest/images/synthesized_image, else the folder's own."""
    parts = Path(folder).resolve().parts
    return parts[-4] if parts[-1] == SYNTHESIZED and len(parts) > 4 else parts[-1]


def _by_stem(folder: str, what: str) -> dict[str, str]:
    if not Path(folder).is_dir():
        raise UserError(f"{what} {folder} is not a folder")
    found: dict[str, str] = {}
    for path in list_images(folder):
        other = found.setdefault(Path(path).stem, path)
        if other != path:
            raise UserError(f"{other} and {path} have one name but for the ending; take one of them out")
    if not found:
        raise UserError(f"{what} {folder} holds no pictures; run test.py first")
    return found


# ---------------------------------------------------------------------------------------------------------- questions


def real_questions(paired: Paired, stems: Sequence[str]) -> list[list[Question]]:
    """For each pair of systems a question about each of these layouts."""
    numbers = itertools.count(1)
    return [
        [
            Question(
                f"q{next(numbers):04d}",
                REAL,
                stem,
                (paired.systems[first][stem], paired.systems[second][stem]),
                (first, second),
            )
            for stem in stems
        ]
        for first, second in itertools.combinations(paired.systems, 2)
    ]


def check_items(paired: Paired, count: int, rng: np.random.Generator) -> tuple[list[Question], float]:
    """Questions with an obvious answer, which stands first, and how far the least different of their layouts differ.

    Of `POOL` random layouts those are asked about that differ most from another one; the systems take turns. There are
    fewer than `count` where layouts and systems do not give so many different ones.
    """
    stems = paired.stems
    pool = [stems[i] for i in rng.permutation(len(stems))[:POOL]]
    difference = layout_differences([paired.layouts[stem] for stem in pool])
    np.fill_diagonal(difference, -np.inf)
    asked = np.argsort(-difference.max(1), kind="stable")
    names = list(paired.systems)
    used = np.zeros(len(pool))
    items, least = [], 1.0
    for k in range(min(count, len(pool) * len(names))):
        turn, place = divmod(k, len(pool))
        own = asked[place]
        other = int(np.argmax(difference[own] - 0.1 * used))  # one that is new, unless it is much less different
        used[other] += 1
        least = min(least, float(difference[own, other]))
        files = paired.systems[names[(place + turn) % len(names)]]
        pictures = files[pool[own]], files[pool[other]]
        items.append(Question(f"c{k + 1:02d}", CHECK, pool[own], pictures, (MATCH, MISMATCH)))
    return items, least


def layout_differences(paths: Sequence[str]) -> np.ndarray:
    """Share of points [N, N], in 0 .. 1, at which two layouts have different colours.

    Raises:
        UserError: a file cannot be read.
    """
    size = (GRID, GRID)
    grids = np.stack([np.asarray(read_image(p).resize(size, Image.Resampling.NEAREST), np.int16) for p in paths])
    return np.stack([(np.abs(grids - grid).sum(-1) > APART).mean((1, 2)) for grid in grids])


# --------------------------------------------------------------------------------------------------------------- page


def embedded(path: str, max_side: int, flat: bool) -> tuple[str, int, int]:
    """A picture as a data URI, with its width and height, scaled down to at most `max_side` pixels a side.

    Flat ones (layouts) stay exact where they have at most 256 colours. Nothing but pixels is kept: what programs write
    into files could name the system.

    Raises:
        UserError: the file cannot be read.
    """
    picture = Image.fromarray(np.asarray(read_image(path)))  # without text, profile and comment
    scale = max_side / max(picture.size)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.NEAREST if flat else Image.Resampling.LANCZOS)
    content = io.BytesIO()
    if flat and picture.getcolors(256):
        numbers = np.asarray(picture).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)  # of colours
        colors, index = np.unique(numbers, return_inverse=True)
        exact = Image.fromarray(index.reshape(numbers.shape).astype(np.uint8))
        exact.putpalette(colors.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())
        exact.save(content, "PNG", optimize=True)
        kind = "png"
    else:
        picture.save(content, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}", *picture.size


def study_of(
    paired: Paired,
    groups: Sequence[Sequence[Question]],
    checks: Sequence[Question],
    max_side: int,
    seconds: float | None = None,
    per_participant: int | None = None,
) -> dict[str, Any]:
    """What the page's script reads (page.js says what is what).

    Names of systems and layouts are in `key` alone, in Base64, which the page opens when it saves answers.

    Raises:
        UserError: a file cannot be read, or two systems made the same picture.
    """
    every = [*itertools.chain.from_iterable(groups), *checks]
    layouts = [paired.layouts[question.layout] for question in every]
    paths = dict.fromkeys([*layouts, *(path for question in every for path in question.pictures)])
    place = {path: i for i, path in enumerate(paths)}
    drawn = set(layouts)
    pictures = [embedded(p, max_side, p in drawn) for p in tqdm(paths, "pictures", disable=None, leave=False)]
    for question in every:
        first, second = question.pictures
        if question.kind == REAL and pictures[place[first]][0] == pictures[place[second]][0]:
            raise UserError(
                f"{first} and {second} are the same picture, between which nobody can choose; "
                "give folders that were made by different systems"
            )
    key = [[q.id, q.kind, q.layout, *q.names] for q in every]
    number = {question.id: i for i, question in enumerate(every)}
    study = {
        "seconds": seconds,
        "per_participant": per_participant,
        "pictures": pictures,
        "questions": [
            [place[layout], *(place[path] for path in question.pictures)]
            for layout, question in zip(layouts, every, strict=True)
        ],
        "groups": [[number[question.id] for question in group] for group in groups],
        "checks": [number[question.id] for question in checks],
        "key": base64.b64encode(json.dumps(key).encode()).decode(),
    }
    return {"id": hashlib.sha256(json.dumps(study).encode()).hexdigest()[:12], **study}


def render(study: dict[str, Any]) -> bytes:
    """The page: template, style, script and study in one file."""
    parts = {
        "STYLE": PAGE.with_suffix(".css").read_text(encoding="utf-8"),
        "SCRIPT": PAGE.with_suffix(".js").read_text(encoding="utf-8"),
        "STUDY": json.dumps(study, separators=(",", ":")).replace("<", "\\u003c"),  # so that no </script> ends it
    }
    page = PAGE.read_text(encoding="utf-8")
    return re.sub(r"@@([A-Z]+)@@", lambda found: parts[found[1]], page).encode()


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def main(argv: list[str] | None = None) -> None:
    """Write the page, and say how large it is.

    Raises:
        UserError: a folder is missing, files do not pair up, or the page cannot be written.
    """
    parser = command_parser("evaluate.py study", __doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="synthesised pictures of each system")
    parser.add_argument("--layouts", required=True, metavar="DIR", help="coloured layouts, as in images/input_label")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what results call the systems (by their folders)")
    parser.add_argument("--out", required=True, metavar="FILE.html", help="where to write the page")
    parser.add_argument("--questions", type=positive, default=500, help="for each pair of systems (%(default)s)")
    parser.add_argument("--per_participant", type=positive, metavar="N", help="each answers N of the questions (all)")
    parser.add_argument("--seconds", type=positive_float, help="how long pictures are shown (no limit)")
    parser.add_argument("--check_items", type=natural, default=10, help="with an obvious answer (%(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="another seed, other layouts (%(default)s)")
    parser.add_argument("--max_side", type=positive, default=512, help="pixels of an embedded picture (%(default)s)")
    args = parser.parse_args(argv)

    systems = named_systems(args.folders, args.names)
    out = Path(args.out)
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise UserError(f"--out {out} is a web page: give a file whose name ends in .html")
    paired = pair_up(systems, args.layouts)
    rng = np.random.default_rng(args.seed)
    stems = [paired.stems[i] for i in sorted(rng.permutation(len(paired.stems))[: args.questions])]
    if len(stems) < args.questions:
        print(f"note: there are {len(stems):,} layouts, so each pair has that many questions, not {args.questions:,}")
    groups = real_questions(paired, stems)
    total = sum(map(len, groups))
    if args.per_participant and args.per_participant > total:
        raise UserError(f"--per_participant {args.per_participant} is more than the {total:,} questions; leave it out")
    require_alike(paired, stems)
    out.parent.mkdir(parents=True, exist_ok=True)

    checks, least = check_items(paired, args.check_items, rng) if args.check_items else ([], 1.0)
    if len(checks) < args.check_items:
        print(f"note: {_counted(len(paired.stems), 'layout')} give {_counted(len(checks), 'check item')}")
    if least < ALIKE:
        print(
            f"note: the layouts of some check items differ in only {least:.0%} of their points, so answers may not be "
            "obvious; more layouts to choose from, or fewer --check_items, would help"
        )
    study = study_of(paired, groups, checks, args.max_side, args.seconds, args.per_participant)
    page = render(study)
    write_atomically(out, page)
    print(
        f"{out}: study {study['id']} of {', '.join(systems)}; {_counted(len(stems), 'question')} for each of "
        f"{_counted(len(groups), 'pair')}, {_counted(len(checks), 'check item')}; {megabytes(len(page))}"
    )
    if len(page) > LARGE:
        print(
            f"warning: the page has more than {megabytes(LARGE)}, which phones may not open; fewer --questions or a "
            "smaller --max_side make it smaller",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run_main(main)
