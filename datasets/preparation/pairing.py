"""Which annotation belongs to which photo."""

import functools
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data.image_folder import EXTENSIONS, list_images
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
        self._by_place: dict[tuple[PurePosixPath, str], list[str]] = {}  # many thousand folders may have a frame_1.png
        self.folders: set[str] = set()  # the names of all that files are in
        for name in names:
            path = PurePosixPath(name)
            self._by_stem.setdefault(_alike(path.stem), []).append(name)
            self._by_place.setdefault((path.parent, _alike(path.stem)), []).append(name)
            self.folders.update(_folders(name))

    def find(self, name: str) -> list[str]:
        """The files that may be meant: none, one, or several of which none fits better than the others.

        Args:
            name: with `/` between folders; others than the file's may be in front. It may lack an ending.
        """
        path = PurePosixPath(name)
        stem = _alike(path.stem)
        if path.suffix.lower() not in EXTENSIONS and _alike(path.name) in self._by_stem:
            stem = _alike(path.name)
        there = self._by_place.get((path.parent, stem)) or self._by_stem.get(stem, [])
        fits = _best(there, functools.partial(_likeness, name))
        if len({PurePosixPath(file).parent for file in fits}) > 1:
            return fits  # an ending does not tell folders apart
        return _best(fits, lambda file: _same_name(path, PurePosixPath(file)))

    def longest_start(self, name: str) -> str | None:
        """The longest stem that a file's stem begins with, if there is any."""
        stem = _alike(PurePosixPath(name).stem)
        return next((stem[:end] for end in range(len(stem) - 1, 0, -1) if stem[:end] in self._by_stem), None)


def _best(files: Sequence[str], worth: Callable[[str], tuple]) -> list[str]:
    worths = [worth(file) for file in files]
    most = max(worths, default=None)
    return [file for file, its in zip(files, worths, strict=True) if its == most]


def _folders(name: str) -> list[str]:
    """The names of the folders in front of a file, as they are compared, the one that it lies in first."""
    return [_alike(part) for part in reversed(PurePosixPath(name).parent.parts)]


def _likeness(name: str, file: str) -> tuple[bool, int]:
    """How much the folders of what is called `name` speak for a file: larger is better."""
    return PurePosixPath(name).parent == PurePosixPath(file).parent, _shared(_folders(name), _folders(file))


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many folders are the same, from the one on that the file lies in."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def _same_name(ours: PurePosixPath, theirs: PurePosixPath) -> tuple[bool, bool, bool]:
    return ours.name == theirs.name, ours.stem == theirs.stem, _alike(ours.suffix) == _alike(theirs.suffix)


def _alike(text: str) -> str:
    """An accent may be a character of its own, as in names that a Mac made."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


@dataclass(frozen=True)
class AnnotatedPhoto:
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
class Matches:
    """Which annotation belongs to which photo, and what belongs to none."""

    found: list[AnnotatedPhoto] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # a line for each file
    problems: list[str] = field(default_factory=list)  # the same in short
    elsewhere: list[str] = field(default_factory=list)  # of what is found, what calls its photo's folder otherwise

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


@dataclass(frozen=True)
class Claim:
    """What was found for an annotation, and may be another one's."""

    annotated: AnnotatedPhoto
    called: tuple[str, ...]  # what the annotation calls its photo; where these are several, one will do

    @property
    def likeness(self) -> tuple[bool, int]:
        """How much speaks for it: larger is better."""
        return max(_likeness(name, self.annotated.photo) for name in self.called)


def settle(claims: Sequence[Claim], photos: Names, kind: str, matches: Matches) -> list[Claim]:
    """The claims that hold both ways, so that none takes another folder's photo of the same name; others are noted.

    One does not hold where another claim fits the photo better; nor where the folders differ, and the annotation's is
    one that photos are in, or the photo's is one that annotations name. So the annotation cam1/7 takes cam0/7.jpg
    neither if there are other photos in cam1, nor if there are other annotations of cam0. Where nothing else says what
    folders are called, as of masks/7.png and frames/7.jpg, it does.

    Args:
        kind: what an annotation is called: "label map".
    """
    best: dict[str, tuple[bool, int]] = {}
    for claim in claims:
        best[claim.annotated.photo] = max(claim.likeness, best.get(claim.annotated.photo, claim.likeness))
    known = Names(name for claim in claims for name in claim.called).folders
    kept, lost = [], []
    for claim in claims:
        photo, name = claim.annotated.photo, claim.annotated.name
        ways = [_first_difference(called, photo) for called in claim.called]
        is_another = all(way and (way[0] in photos.folders or (way[0] and way[1] in known)) for way in ways)
        if is_another or claim.likeness < best[photo]:
            lost.append(claim.annotated)
            continue
        kept.append(claim)
        if not any(agree(called, photo) for called in claim.called):
            matches.elsewhere.append(f"{photo} by {name}")
    reasons = [f"{each.name} is not taken for that of {each.photo}, which is in another folder" for each in lost]
    why = "of whose name there are photos in other folders alone"
    matches.leave_out(kind, why, [each.name for each in lost], reasons)
    return kept


def agree(called: str, photo: str) -> bool:
    """Whether what is called so may lie where the photo does, as far as both say: no folder is another one."""
    way = _first_difference(called, photo)
    return way is None or not all(way)


def _first_difference(called: str, photo: str) -> tuple[str, str] | None:
    """The first folders that are not the same, "" where none is in front; None where one path is the other's end."""
    ours, theirs = _folders(called), _folders(photo)
    place = _shared(ours, theirs)
    if ours == theirs or (place and place == min(len(ours), len(theirs))):
        return None
    return "".join(ours[place : place + 1]), "".join(theirs[place : place + 1])


def pair_drawings(drawings: Sequence[tuple[Drawing, str]], photos: Sequence[str], by_file: bool) -> Matches:
    """Drawings and their photos.

    Args:
        drawings: each with its own file's path, if it has one.
        by_file: drawings belong to the photos of their files' names.

    Raises:
        UserError: it is not clear what belongs together.
    """
    names, matches = Names(photos), Matches()
    claims, alone = [], []
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
            ways = tuple(name for name, found in ((drawing.name, called), (file, own)) if found)
            claims.append(Claim(AnnotatedPhoto(photo[0], drawing, file), ways))
        else:
            alone.append(file or drawing.name)
    matches.found = [claim.annotated for claim in settle(claims, names, "annotation", matches)]
    matches.leave_out("annotation", "without a photo", alone)
    return matches


def pair_maps(
    photos: Sequence[str], label_maps: str, label_suffix: str, instance_maps: str | None, instance_suffix: str
) -> Matches:
    """Label maps, instance maps and their photos.

    Args:
        label_suffix: what the names of label maps end in, beside the photos'. Files of other names are left alone.

    Raises:
        UserError: it is not clear what belongs together.
    """
    names, matches = Names(photos), Matches()
    maps = _maps_of(names, label_maps, label_suffix, "label", matches)
    objects = _maps_of(names, instance_maps, instance_suffix, "instance", matches) if instance_maps else {}
    if instance_maps:
        alone = [maps[photo] for photo in maps if photo not in objects]
        matches.leave_out("label map", "without an instance map", alone)
        maps = {photo: file for photo, file in maps.items() if photo in objects}
    matches.found = [AnnotatedPhoto(photo, None, file, objects.get(photo, "")) for photo, file in maps.items()]
    return matches


def _maps_of(names: Names, folder: str, suffix: str, kind: str, matches: Matches) -> dict[str, str]:
    """Maps by photo; those that have none are noted."""
    claims, alone = [], []
    for file in files_below(Path(folder)):
        path = PurePosixPath(file)
        if suffix and not path.stem.endswith(suffix):
            continue  # as where several kinds of maps lie beside each other
        stem = path.stem.removesuffix(suffix)
        called = str(path.with_name(f"{stem}{path.suffix}")) if stem else ""
        photo = names.find(called) if called else []
        if len(photo) > 1:
            raise UserError(_unclear(file, photo))
        if photo:
            claims.append(Claim(AnnotatedPhoto(photo[0], None, file), (called,)))
        else:
            alone.append(file)
    if not claims:
        where = f"{folder}{f' that end in {suffix}' if suffix else ''}"
        hint = _hint(names, alone, f"--{kind}_suffix")
        raise UserError(f"none of the {kind} maps in {where} has the name of a photo{hint}")
    files: dict[str, str] = {}
    for each in (claim.annotated for claim in settle(claims, names, f"{kind} map", matches)):
        if each.photo in files:
            both = f"{files[each.photo]} and {each.file}"
            raise UserError(f"{each.photo} has two {kind} maps: {both}; take one of them out")
        files[each.photo] = each.file
    matches.leave_out(f"{kind} map", "without a photo", alone)
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
