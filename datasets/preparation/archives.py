"""What a data set's makers publish, where it was downloaded to: zip archives, or the folders that they unpack to.

Nothing is ever written there.
"""

import errno
import functools
import io
import lzma
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from data.image_folder import leads_up, natural_order
from util.errors import UserError
from util.files import digest

LARGEST = 1 << 31  # bytes of a member: more is no picture, and no official list


@dataclass(frozen=True)
class Part:
    """One file that is published: in an archive, or unpacked."""

    what: str  # "training photos"
    archive: str  # name, or a pattern such as ADE20K_*.zip
    size: str  # of the download, in words: "18 GB"
    origin: str  # where it can be had
    folders: tuple[str, ...] = ()  # what it unpacks to, or patterns of these, below the folder of downloads
    spilled: str = ""  # a pattern of files that are there where it was unpacked among others

    def describe(self) -> str:
        """What to download, for a message."""
        return f"{self.archive} ({self.what}, {self.size}, {self.origin})"


@dataclass(frozen=True)
class Source:
    """Files in a folder, by their paths below it with `/` between. It is small, for sending it to other processes."""

    path: Path

    def names(self) -> list[str]:
        """The paths of all files, in natural order, without hidden ones and those of a Mac's archives."""
        return _sorted(self._listed())

    def _listed(self) -> list[str]:
        """The paths of all files."""
        found = []
        for folder, subfolders, files in os.walk(self.path, followlinks=True):
            if folder != str(self.path) and leads_up(folder):
                subfolders.clear()
                continue
            subfolders.sort()
            inside = Path(os.path.relpath(folder, self.path)).as_posix()
            found += [name if inside == "." else f"{inside}/{name}" for name in files]
        return found

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            UserError: it cannot be read, or is damaged.
        """
        try:
            return self.file(name).read_bytes()
        except OSError as error:
            raise UserError(f"{self.where(name)} cannot be read ({error.strerror}); copy it again") from None

    def file(self, name: str) -> Path | None:
        """The file by itself; None where it is a member of an archive."""
        return self.path / name

    def where(self, name: str) -> str:
        """How messages call a file."""
        return str(self.path / name)

    def select(self, pattern: str) -> dict[str, str]:
        """Paths by what a regular expression's first group finds in them, whatever folders are in front.

        Raises:
            UserError: two files share a key.
        """
        expression = re.compile(rf"(?:.*/)?{pattern}", re.IGNORECASE)
        found: dict[str, str] = {}
        matches = {name: match for name in self._listed() if (match := expression.fullmatch(name))}
        for name in _sorted(list(matches)):  # only these, since there may be a million others
            match = matches[name]
            if match[1] in found:
                raise UserError(
                    f"{self.path} has both {found[match[1]]} and {name}: which of them is meant is not clear; leave "
                    "the one that does not belong to the data set out"
                )
            found[match[1]] = name
        return found


@dataclass(frozen=True)
class Archive(Source):
    """The members of a zip archive, which is opened once, or once in each process where these are no forks."""

    def _listed(self) -> list[str]:
        held = _opened(self.path, _version(self.path)).infolist()
        members = [member.filename for member in held if member.filename and not member.is_dir()]  # in damaged ones ""
        for name in members:
            if os.path.isabs(name) or (".." in name and ".." in Path(name).parts):
                raise UserError(f"{self.path} has a member {name!r}, which leads out of it; do not unpack it")
        return members

    def read(self, name: str) -> bytes:
        archive = _opened(self.path, _version(self.path))
        if archive.getinfo(name).file_size > LARGEST:
            raise UserError(f"{self.where(name)} says that it has {archive.getinfo(name).file_size:,} bytes")
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"{self.where(name)} is damaged ({why}); download the archive again") from None

    @property
    def key(self) -> str:
        """What another release has another of: which files are in it."""
        return digest(sorted(self._listed()))

    def file(self, name: str) -> Path | None:
        return None

    def where(self, name: str) -> str:
        return f"{self.path}: {name}"


class _OwnPosition(io.RawIOBase):
    """A file whose position is the process's own: others that a fork makes may read on at other places.

    So they need not read an archive's directory again, which takes 15 s and 0.5 GB where it has 800,000 members.
    """

    def __init__(self, path: Path) -> None:
        self._file, self._position = open(path, "rb", buffering=0), 0  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        content = os.pread(self._file.fileno(), len(buffer), self._position)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._position, os.fstat(self._file.fileno()).st_size)[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = start + offset
        return self._position

    def close(self) -> None:
        self._file.close()
        super().close()


def _version(path: Path) -> int:
    """What is another where an archive was replaced."""
    return os.stat(path).st_mtime_ns


@functools.lru_cache(maxsize=16)
def _opened(path: Path, version: int) -> zipfile.ZipFile:
    try:
        forks = hasattr(os, "pread")
        return zipfile.ZipFile(io.BufferedReader(_OwnPosition(path)) if forks else path)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        size = os.path.getsize(path)
        raise UserError(
            f"{path} ({size:,} bytes) is no zip archive, or one whose download was cut short ({error}); "
            "download it again: wget -c, curl -C - and browsers go on where they were"
        ) from None


def _sorted(names: list[str]) -> list[str]:
    hidden = re.compile(r"(^|/)(\.|__MACOSX/)")
    return list(natural_order([name for name in names if not hidden.search(name)]))


def find(downloads: Path, parts: list[Part]) -> list[Source]:
    """Where the parts of a data set are: the archive if it is there, else the folder that it unpacks to.

    Raises:
        UserError: some are not there, all of which the message names; or a pattern fits several.
    """
    if not downloads.is_dir():
        raise UserError(f"{downloads} is no folder; give the one that the archives were downloaded to")
    found = [_found(downloads, part) for part in parts]
    missing = [part.describe() for part, source in zip(parts, found, strict=True) if source is None]
    if missing:
        folders = [folder for part in parts for folder in part.folders if "*" not in folder]
        unpacked = f"; unpacked they are {', '.join(dict.fromkeys(folders))}" if folders else ""
        raise UserError(f"{downloads} lacks {'; '.join(missing)}{unpacked}")
    return [source for source in found if source is not None]


def find_optional(downloads: Path, part: Part) -> Source | None:
    """Where a part is that can be done without; None where it is not there.

    Raises:
        UserError: a pattern fits several.
    """
    return _found(downloads, part)


def _found(downloads: Path, part: Part) -> Source | None:
    files = [path for path in sorted(downloads.iterdir()) if fnmatch(path.name.lower(), part.archive.lower())]
    files = [path for path in files if path.is_file()]
    if len(files) > 1:
        raise UserError(f"{', '.join(map(str, files))} may all be the {part.what}; leave one of them in {downloads}")
    if files and files[0].suffix.lower() == ".zip":
        return Archive(files[0])
    if files:
        return Source(downloads)  # the archive is a plain file
    for pattern in part.folders:
        folders = sorted(path for path in downloads.glob(pattern) if path.is_dir())
        if len(folders) > 1:
            names = ", ".join(map(str, folders))
            raise UserError(f"{names} may all be the {part.what}; leave one of them in {downloads}")
        if folders:
            return Source(folders[0])
    if part.spilled and next(downloads.glob(part.spilled), None):
        return Source(downloads)
    return None
