"""Which annotation belongs to which photo."""

import functools
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data.image_folder import list_images
from datasets.preparation.annotations import Drawing
from util.errors import UserError, first_few


def files_below(folder: Path, apart: Iterable[Path] = ()) -> list[str]:
    """Pictures below a folder, in natural order, by their paths below it with `/` between.

    Hidden files and folders are left out, and the folders `apart`, if they are below it.

    Raises:
        UserError: it is no folder.
    """
    others = [other.resolve() for other in apart if not folder.resolve().is_relative_to(other.resolve())]

    @functools.cache
    def counts(place: str) -> bool:
        inside = Path(os.path.relpath(place, folder)).parts
        hidden = any(part.startswith(".") for part in inside if part != ".")
        return not hidden and not any(Path(place).resolve().is_relative_to(other) for other in others)

    paths = [path for path in list_images(str(folder), recursive=True) if counts(os.path.dirname(path))]
    return [Path(os.path.relpath(path, folder)).as_posix() for path in paths]


class Names:
    """Finds a file by what annotations call it: one of the same name, in folders that are the most alike.

    Endings need not agree, nor do capital letters where nothing else tells files apart.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = {}
        for name in names:
            self._by_stem.setdefault(_alike(PurePosixPath(name).stem), []).append(name)

    def find(self, name: str) -> list[str]:
        """The files that may be meant: none, one, or several of which none fits better than the others.

        Args:
            name: with `/` between folders; others than the file's may be in front.
        """
        fits = [(_likeness(name, file), file) for file in self._by_stem.get(_alike(PurePosixPath(name).stem), [])]
        best = max((fit for fit, _ in fits), default=None)
        return [file for fit, file in fits if fit == best]

    def longest_start(self, name: str) -> str | None:
        """The longest stem that a file's stem begins with, if there is any."""
        stem = _alike(PurePosixPath(name).stem)
        return next((stem[:end] for end in range(len(stem) - 1, 0, -1) if stem[:end] in self._by_stem), None)


def _likeness(name: str, file: str) -> tuple[bool, int, bool, bool]:
    """How much speaks for a file: larger is better."""
    ours, theirs = PurePosixPath(name), PurePosixPath(file)
    folders = 0
    for a, b in zip(reversed(ours.parent.parts), reversed(theirs.parent.parts), strict=False):
        if _alike(a) != _alike(b):
            break
        folders += 1
    return name == file, folders, ours.stem == theirs.stem, _alike(ours.suffix) == _alike(theirs.suffix)


def _alike(text: str) -> str:
    """An accent may be a character of its own, as in names that a Mac made."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


@dataclass(frozen=True)
class Annotated:
    """A photo and its annotation, by paths below the folders: a drawing, or a label map."""

    photo: str
    drawing: Drawing | None = None
    file: str = ""  # the Labelme file or the label map
    instance_map: str = ""

    @property
    def name(self) -> str:
        """What messages call the annotation."""
        return self.file or (self.drawing.name if self.drawing else "")


@dataclass
class Pairs:
    """Which annotation belongs to which photo, and what belongs to none."""

    found: list[Annotated]
    left_out: list[str] = field(default_factory=list)  # a line for each file
    problems: list[str] = field(default_factory=list)  # the same in short

    def leave_out(self, kind: str, why: str, names: Sequence[str], reasons: Sequence[str] = ()) -> None:
        """Note files that cannot be used.

        Args:
            kind: what one is: "photo".
            why: "without an annotation".
            reasons: of each by itself, with its name.
        """
        if names:
            plural = "s" if len(names) > 1 else ""
            examples = first_few(reasons, 1) if reasons else first_few(names)
            self.problems.append(f"{len(names):,} {kind}{plural} {why} ({examples})")
            self.left_out += reasons or [f"{name}: {kind} {why}" for name in names]


def pair_drawings(drawings: Sequence[tuple[Drawing, str]], photos: Sequence[str], by_file: bool) -> Pairs:
    """Drawings and their photos.

    Args:
        drawings: each with its own file's path, if it has one.
        by_file: drawings belong to the photos of their files' names.

    Raises:
        UserError: it is not clear what belongs together.
    """
    names = Names(photos)
    pairs, alone = Pairs([]), []
    for drawing, file in drawings:
        called = names.find(drawing.name) if drawing.name and not (by_file and file) else []
        own = names.find(file) if file else []
        if len(called) == 1 and len(own) == 1 and called != own:
            raise UserError(
                f"{file} says that it belongs to {drawing.name} (imagePath), and there is {own[0]} too: was it copied "
                "from another file? Mend its imagePath; or pass --by_file_name if the files' own names are right"
            )
        if len(called) > 1 and len(own) != 1:
            raise UserError(_unclear(drawing.name, called))
        if len(own) > 1 and not called:
            raise UserError(_unclear(file, own))
        photo = called if len(called) == 1 else own
        if photo:
            pairs.found.append(Annotated(photo[0], drawing, file))
        else:
            alone.append(file or drawing.name)
    pairs.leave_out("annotation", "without a photo", alone)
    return pairs


def pair_maps(
    photos: Sequence[str], label_maps: str, label_suffix: str, instance_maps: str | None, instance_suffix: str
) -> Pairs:
    """Label maps, instance maps and their photos.

    Args:
        label_suffix: what the names of label maps end in, beside the photos'. Files of other names are left alone.

    Raises:
        UserError: it is not clear what belongs together.
    """
    names, pairs = Names(photos), Pairs([])
    maps = _maps_of(names, label_maps, label_suffix, "label", pairs)
    objects = _maps_of(names, instance_maps, instance_suffix, "instance", pairs) if instance_maps else {}
    if instance_maps:
        alone = [maps[photo] for photo in maps if photo not in objects]
        pairs.leave_out("label map", "without an instance map", alone)
        maps = {photo: file for photo, file in maps.items() if photo in objects}
    pairs.found = [Annotated(photo, None, file, objects.get(photo, "")) for photo, file in maps.items()]
    return pairs


def _maps_of(names: Names, folder: str, suffix: str, kind: str, pairs: Pairs) -> dict[str, str]:
    """Maps by photo; those that have none are noted."""
    files: dict[str, str] = {}
    alone = []
    for file in files_below(Path(folder)):
        path = PurePosixPath(file)
        if suffix and not path.stem.endswith(suffix):
            continue  # as where several kinds of maps lie beside each other
        stem = path.stem.removesuffix(suffix)
        photo = names.find(str(path.with_name(f"{stem}{path.suffix}"))) if stem else []
        if len(photo) > 1:
            raise UserError(_unclear(file, photo))
        if photo and photo[0] in files:
            raise UserError(f"{photo[0]} has two {kind} maps: {files[photo[0]]} and {file}; take one of them out")
        if photo:
            files[photo[0]] = file
        else:
            alone.append(file)
    if not files:
        where = f"{folder}{f' that end in {suffix}' if suffix else ''}"
        hint = _hint(names, alone, f"--{kind}_suffix")
        raise UserError(f"none of the {kind} maps in {where} has the name of a photo{hint}")
    pairs.leave_out(f"{kind} map", "without a photo", alone)
    return files


def _unclear(name: str, photos: Sequence[str]) -> str:
    return f"{name} may belong to {first_few(photos)}: take those out of --images that it does not belong to"


def _hint(names: Names, files: Sequence[str], flag: str) -> str:
    for file in files:
        start = names.longest_start(file)
        if start:
            suffix = PurePosixPath(file).stem[len(start) :]
            return f"; if {file} belongs to {start}, pass {flag}={suffix}"
    return f", such as {files[0]}" if files else ": there are no pictures"
