"""What both commands for ADE20K share: which of its scenes are outdoors."""

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from options.flags import add_switch
from util.errors import UserError, first_few
from util.files import digest, write_atomically

LIST = Path(__file__).resolve().parent.parent / "ade20k_scenes.json"
SAYS = {"outdoor": True, "exterior": True, "indoor": False, "interior": False}  # parts of a category's name
OUTDOOR_GROUPS = ("nature_landscape", "urban")
LEFT_OUT_NAME = "left_out_scenes.txt"
SHOWN = 10  # categories that are left out; the file has all


@dataclass(frozen=True)
class Place:
    """What an image shows: a category of scenes (`street`), and the group that it is in where there are groups."""

    category: str
    group: str = ""


@dataclass(frozen=True)
class Scenes:
    """Categories of scenes that are outdoors, and those that are not."""

    outdoor: frozenset[str]
    indoor: frozenset[str]
    path: Path

    @classmethod
    def load(cls, path: Path) -> "Scenes":
        """The categories that a file lists.

        Raises:
            UserError: it is not there, or no such list.
        """
        try:
            held = json.loads(path.read_text(encoding="utf-8-sig"))
            if not isinstance(held, dict) or set(held) != {"outdoor", "indoor"}:
                raise ValueError('it has not "outdoor" and "indoor" alone')
            for names in held.values():
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    raise ValueError("they are not lists of names")
            outdoor, indoor = (frozenset(map(_plain, held[key])) for key in ("outdoor", "indoor"))
            if outdoor & indoor:
                raise ValueError(f"{first_few(sorted(outdoor & indoor))} are in both")
        except OSError as error:
            raise UserError(f"--scenes {path} cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            example = '{"outdoor": ["beach", "street"], "indoor": ["bedroom"]}'
            raise UserError(f"--scenes {path} is no list of scenes ({error}); it is JSON such as {example}") from None
        return cls(outdoor, indoor, path)

    @property
    def key(self) -> str:
        """What differs where the lists do, for people to see."""
        return f"outdoor, by lists {digest((sorted(self.outdoor), sorted(self.indoor)))}"

    def is_outdoor(self, place: Place) -> bool | None:
        """Whether a place is outdoors; None where neither its category nor its group says so.

        A list goes before what the name says (`casino_outdoor`), which goes before the group.
        """
        category = _plain(place.category)
        if category in self.outdoor or category in self.indoor:
            return category in self.outdoor
        said = {SAYS[word] for word in category.split("_") if word in SAYS}
        if len(said) == 1:
            return said.pop()
        return True if place.group in OUTDOOR_GROUPS else None


def _plain(category: str) -> str:
    """A category as lists have it: `bus_station/indoor` and `Bus station__indoor` are `bus_station_indoor`."""
    return re.sub(r"[^a-z0-9]+", "_", category.lower()).strip("_")


def add_scene_flags(parser: argparse.ArgumentParser, how: str) -> None:
    """The flags that choose outdoor scenes; `how`: what says what an image shows."""
    add_switch(parser, "--outdoor", f"images of outdoor scenes alone, by {how}")
    parser.add_argument(
        "--scenes",
        metavar="FILE",
        type=Path,
        help=f"for --outdoor: JSON lists of outdoor and indoor categories (default: datasets/{LIST.name})",
    )


def scenes_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Scenes | None:
    """The lists that the flags ask for; None without --outdoor.

    Raises:
        UserError: they cannot be read, or are of no use.
    """
    if args.scenes and not args.outdoor:
        parser.error("--scenes is what --outdoor chooses by: give it too")
    return Scenes.load(args.scenes or LIST) if args.outdoor else None


@dataclass(frozen=True)
class Outdoor:
    """Which images are of outdoor scenes, and the categories of those that nothing is known of."""

    names: dict[str, set[str]]  # by part
    left_out: Counter[str]  # images by category

    @classmethod
    def choose(cls, parts: Mapping[str, Mapping[str, Place]], scenes: Scenes) -> "Outdoor":
        """Sort images out, and print how many there are of each kind.

        Args:
            parts: by part, by image.

        Raises:
            UserError: a part has none that are outdoors.
        """
        names: dict[str, set[str]] = {}
        left_out: Counter[str] = Counter()
        for part, places in parts.items():
            found = {image: scenes.is_outdoor(place) for image, place in places.items()}
            names[part] = {image for image, outdoor in found.items() if outdoor}
            unknown = [image for image, outdoor in found.items() if outdoor is None]
            left_out.update(places[image].category or "(none)" for image in unknown)
            inside = len(found) - len(names[part]) - len(unknown)
            print(
                f"{part}: images by scene: {len(names[part]):,} outdoors, {inside:,} indoors, {len(unknown):,} of "
                "categories in neither list"
            )
            if not names[part]:
                raise UserError(f"--outdoor: no {part} image is of a category that {scenes.path} has as outdoor")
        return cls(names, left_out)

    def write(self, folder: Path) -> None:
        """Say which categories were left out, and write all into a file."""
        path = folder / LEFT_OUT_NAME
        path.unlink(missing_ok=True)
        if not self.left_out:
            return
        lines = [f"{category} {count}" for category, count in self.left_out.most_common()]
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
        print(
            f"left out, since neither list has their categories, {self.left_out.total():,} in all: "
            f"{first_few(lines, SHOWN)}; {path} has the list, and --scenes FILE gives lists of your own"
        )
