"""Which photos of a folder make a data set: by their files, by others that are nearly the same, by what they show."""

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.twins import SIDE, normalised
from datasets.preparation.photo_facts import Facts
from util.errors import UserError, first_few

LANDSCAPES = Path(__file__).with_name("landscapes.json")
BLANK = 2.0  # standard deviation of grey levels, of 255, below which there is nothing to see
COLORLESS = 2.0  # mean difference of channels, of 255, below which a photo is black and white
BLOCK = 1024  # photos that are compared at a time with all that stay: 50,000 x 1024 correlations are 200 MB
REASONS = {
    "unreadable": "cannot be read",
    "licence": "of another licence than --licences, or of none that is known",
    "small": "too small (--smallest)",
    "shape": "too wide or too high (--widest)",
    "blank": "of one colour",
    "colorless": "black and white (--colored)",
    "copy": "the same file as another",
    "twin": "nearly the same as another (--twins)",
    "classes": "of other classes (--landscapes, --at_least, --at_most)",
}


@dataclass(frozen=True)
class LeftOut:
    """Why a photo is not in the data set."""

    reason: str  # of REASONS
    why: str  # in words, of this photo


# ------------------------------------------------------------------------------------------------------------ the file


def by_file(facts: Facts, smallest: int, widest: float, colored: bool) -> LeftOut | None:
    """Why a photo is left out for what its file is; None where it stays."""
    if facts.problem:
        return LeftOut("unreadable", facts.problem)
    short, long = sorted(facts.size)
    size = f"{facts.width} x {facts.height}"
    if short < smallest:
        return LeftOut("small", f"{size} is smaller than {smallest}")
    if long > widest * short:
        return LeftOut("shape", f"{size} is {long / short:.2f} to 1, more than {widest:g} to 1")
    if facts.levels.std() < BLANK:
        return LeftOut("blank", "it is of one colour")
    if colored and facts.color < COLORLESS:
        return LeftOut("colorless", "it is black and white")
    return None


def is_licensed(licence: str, patterns: Sequence[str]) -> bool:
    """Whether a licence is one of these, which may have * and ?; case does not matter, nor whether - _ or a space
    stands between words."""
    return any(fnmatch.fnmatchcase(_plain(licence), _plain(pattern)) for pattern in patterns)


def _plain(licence: str) -> str:
    return re.sub(r"[\s_-]+", "-", licence.casefold().strip())


# --------------------------------------------------------------------------------------------------------------- twins


def copies(photos: Iterable[Facts]) -> dict[str, LeftOut]:
    """The photos whose files are the same, byte by byte, as one before."""
    first: dict[str, str] = {}
    found = {}
    for facts in photos:
        kept = first.setdefault(facts.sha256, facts.original)
        if kept != facts.original:
            found[facts.original] = LeftOut("copy", f"the same file as {kept}")
    return found


def twins(photos: Sequence[Facts], correlation: float) -> dict[str, LeftOut]:
    """The photos that are nearly the same as one that stays, or as its mirror image.

    Of photos that are alike the one with most pixels stays, of equals the first. Each is compared with those that stay,
    not with those that are left out, so that no two that stay are alike, and of a long row of photos, of which each is
    like the next, some stay.

    Args:
        correlation: of small grey pictures, above which two are nearly the same.
    """
    order = sorted(range(len(photos)), key=lambda i: -photos[i].width * photos[i].height)  # stable
    levels = normalised([photos[i].levels for i in order]) if order else np.zeros((0, SIDE * SIDE), np.float32)
    stays, found = np.zeros(0, np.int64), {}
    with tqdm(total=len(order), unit="photo", desc="comparing", disable=None) as bar:
        for start in range(0, len(order), BLOCK):
            block = levels[start : start + BLOCK]
            before, of = _most_alike(block, levels[stays])
            within = _likeness(block, block)  # [block, block]
            new: list[int] = []  # places in the block
            for i in range(len(block)):
                value, other = before[i], stays[of[i]] if len(stays) else -1
                if new and within[i, new].max() > value:
                    nearest = new[int(within[i, new].argmax())]
                    value, other = within[i, nearest], start + nearest
                if value > correlation:
                    photo, name = (photos[order[place]].original for place in (start + i, other))
                    found[photo] = LeftOut("twin", f"nearly the same as {name} ({value:.3f})")
                else:
                    new.append(i)
            stays = np.concatenate([stays, start + np.array(new, np.int64)])
            bar.update(len(block))
    return found


def _most_alike(block: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of a block, how much the most alike of others is like it, and its place: [block] each."""
    best, place = np.full(len(block), -2.0, np.float32), np.zeros(len(block), np.int64)
    for first in range(0, len(others), BLOCK):
        likeness = _likeness(block, others[first : first + BLOCK])
        highest = likeness.argmax(1)
        value = likeness[np.arange(len(block)), highest]
        better = value > best
        best[better], place[better] = value[better], first + highest[better]
    return best, place


def _likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlations of N with M photos as they are or mirrored, whichever is more: [N, M]."""
    mirrored = a.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(a.shape)
    return np.maximum(a @ b.T, mirrored @ b.T)


# ------------------------------------------------------------------------------------------------------------- classes


@dataclass(frozen=True)
class Rule:
    """How much of a photo some classes make up together, at least or at most."""

    text: str  # the classes, for messages
    ids: frozenset[int]
    least: float = 0.0
    most: float = 1.0

    def broken_by(self, pixels: Mapping[int, int]) -> str | None:
        """What is wrong with a photo whose classes have so many pixels; None where nothing is."""
        share = sum(count for index, count in pixels.items() if index in self.ids) / sum(pixels.values())
        if share < self.least:
            return f"{self.text}: {share:.3f}, less than {self.least:g}"
        if share > self.most:
            return f"{self.text}: {share:.3f}, more than {self.most:g}"
        return None


def parse_rule(flag: str, text: str, names: Mapping[int, str]) -> Rule:
    """The rule of `--at_least sky-other+clouds=0.2` or of `--at_most`.

    Args:
        names: of the classes, by id.

    Raises:
        UserError: it is none, or there is no such class.
    """
    classes, _, amount = text.rpartition("=")
    try:
        share = float(amount)
    except ValueError:
        share = -1.0
    if not classes or not 0 <= share <= 1:
        raise UserError(f"{flag} {text}: give classes and a share of 0 .. 1, such as {flag} sky-other+clouds=0.2")
    ids = ids_of(flag, classes.split("+"), names)
    return Rule(classes, ids, least=share) if flag == "--at_least" else Rule(classes, ids, most=share)


def ids_of(flag: str, patterns: Sequence[str], names: Mapping[int, str]) -> frozenset[int]:
    """The ids of classes by their names, of which the first is enough where they have several, and which may have * .

    Raises:
        UserError: there is no such class; the message says what there is.
    """
    found: set[int] = set()
    for pattern in patterns:
        own = {i for i, name in names.items() if fnmatch.fnmatchcase(name, pattern) or name.split(";")[0] == pattern}
        own |= {i for i, name in names.items() if fnmatch.fnmatchcase(name.split(";")[0], pattern)}
        if not own:
            first = [name.split(";")[0] for name in names.values()]
            near = [name for name in first if pattern.strip("*") and pattern.strip("*").split("-")[0] in name]
            there = first_few(near or first, 12)
            raise UserError(f"{flag} {pattern}: the segmenter knows no such class; there is {there}")
        found |= own
    return frozenset(found)


def landscape_rules(table: str | None, names: Mapping[int, str]) -> list[Rule]:
    """The rules of --landscapes for the classes of a data set.

    Raises:
        UserError: there are none for it.
    """
    known = json.loads(LANDSCAPES.read_text(encoding="utf-8"))
    if table not in known:
        raise UserError(
            f"--landscapes knows the classes of {' and '.join(known)}, and this segmenter has others: say what a "
            "landscape is with --at_least and --at_most"
        )
    return [
        Rule(
            entry["what"],
            ids_of("--landscapes", entry["classes"], names),
            entry.get("at_least", 0.0),
            entry.get("at_most", 1.0),
        )
        for entry in known[table]
    ]


def by_classes(pixels: Mapping[int, int], rules: Iterable[Rule]) -> LeftOut | None:
    """Why a photo is left out for what it shows; None where it stays."""
    broken = next((text for rule in rules if (text := rule.broken_by(pixels))), None)
    return LeftOut("classes", broken) if broken else None
