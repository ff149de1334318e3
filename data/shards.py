"""Tar shards on disk: their index, the table of their items, and reading any item by its number.

A folder of shards has index.json (small: what the data set is, its shards), items.bin (the sizes of every item's files
and what they were called) and train-000000.tar, train-000001.tar, ... In a shard item 17 is the members
000017.image.jpg, 000017.instance.png and 000017.label.png one after the other, plain USTAR, as WebDataset has them.
"""

import collections
import hashlib
import io
import json
import os
import re
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data.path_table import PathTable
from util.errors import UserError

FORMAT = 1
INDEX_NAME, ITEMS_NAME, CLASSES_NAME = "index.json", "items.bin", "classes.json"
MEMBERS = ("image", "instance", "label")  # in the order of a shard
FLAGS = ("label_nc", "contain_dontcare_label", "unknown_id", "no_instance", "class_table", "label_palette")
BLOCK, RECORD = 512, 10240  # bytes that a member and a whole tar file are multiples of
LARGEST = 8**11 - 1  # bytes of a member, as tar's headers count them
OPEN_FILES = 32  # shards that a process keeps open
PACK_AGAIN = "copy the folder again, or pack it anew with datasets/pack_shards.py"


@dataclass(frozen=True)
class Shard:
    """A tar file of the folder."""

    name: str
    items: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """What index.json says."""

    dataset_mode: str  # the data set that was packed
    phase: str
    flags: dict[str, Any]  # FLAGS of its command line, which decide what ids mean
    seed: int | None  # that items were shuffled by; None: they are in the order of the data set
    items: int
    members: list[str]  # those of MEMBERS that every item has
    extensions: list[str]  # of the files; items.bin counts from 0
    items_sha256: str
    source: str  # a digest of what was packed and how: another one is another data set
    shards: list[Shard]

    def to_text(self) -> str:
        """The file's text."""
        content = {"format": FORMAT, **asdict(self)}
        shards = ",\n".join(f"  {json.dumps(shard)}" for shard in content.pop("shards"))
        return f'{json.dumps(content, indent=1)[:-2]},\n "shards": [\n{shards}\n ]\n}}\n'


def read_index(folder: str | Path, name: str = INDEX_NAME) -> Index | None:
    """The index of a folder of shards; None where there is none.

    Raises:
        UserError: it is damaged, or not of this format.
    """
    path = Path(folder, name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(f"{path} is of format {content['format']!r}, this code reads {FORMAT}: pack it anew")
        del content["format"]
        index = Index(**{**content, "shards": [Shard(**shard) for shard in content["shards"]]})
        _check_index(index)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is no index of shards, or a damaged one ({what}); {PACK_AGAIN}") from None
    return index


def _check_index(index: Index) -> None:
    """Types and ranges of what decides which files are read, and how much of them."""
    texts = [index.dataset_mode, index.phase, index.items_sha256, index.source, *index.members, *index.extensions]
    texts += [text for shard in index.shards for text in (shard.name, shard.sha256)]
    counts = [index.items, *(count for shard in index.shards for count in (shard.items, shard.bytes))]
    if not all(isinstance(text, str) for text in texts) or not isinstance(index.flags, dict):
        raise ValueError("a value is not of its type")
    if not index.flags.keys() <= set(FLAGS):
        raise ValueError(f"it sets the flags {', '.join(index.flags)}; those of shards are {', '.join(FLAGS)}")
    if not all(type(count) is int and count > 0 for count in counts):
        raise ValueError("a count is not a whole number above 0")
    for shard in index.shards:
        if not re.fullmatch(r"\w[\w-]*\.tar", shard.name):
            raise ValueError(f"a shard is called {shard.name!r}")
    if index.items != sum(shard.items for shard in index.shards):
        raise ValueError("its shards do not have as many items as it counts")
    if index.members != [member for member in MEMBERS if member in index.members] or "label" not in index.members:
        raise ValueError(f"an item has the members {index.members!r}")
    if not all(re.fullmatch(r"[a-z0-9]+", extension) for extension in index.extensions):
        raise ValueError(f"extensions are {index.extensions!r}")
    for flag in ("class_table", "label_palette"):
        table = index.flags.get(flag)
        if table is not None and (not isinstance(table, str) or re.search(r"[/\\]", table)):
            raise ValueError(f"the {flag.replace('_', ' ')} is {table!r}, not a name")


# -------------------------------------------------------------------------------------------------------- items.bin


@dataclass
class Items:
    """The files of all items, shard after shard."""

    sizes: np.ndarray  # int64 [items, members], bytes
    extensions: np.ndarray  # uint8 [items, members], places in Index.extensions
    names: PathTable  # of the original files that the items report as their path

    def to_bytes(self) -> bytes:
        """The content of items.bin: the three arrays one after the other."""
        return self.sizes.astype("<i8").tobytes() + self.extensions.tobytes() + self.names.bytes.tobytes()

    @classmethod
    def from_bytes(cls, content: bytes, index: Index) -> "Items":
        """
        Raises:
            ValueError: there are fewer or more than the index says, or a name leads out of a folder.
        """
        shape = index.items, len(index.members)
        count = shape[0] * shape[1]
        if len(content) < 9 * count:
            raise ValueError("it was cut short")
        sizes = np.frombuffer(content, "<i8", count).reshape(shape)
        extensions = np.frombuffer(content, np.uint8, count, 8 * count).reshape(shape)
        names = np.frombuffer(content, np.uint8, offset=9 * count)
        items = cls(sizes.astype(np.int64), extensions.copy(), PathTable.from_bytes(names.copy()))
        if len(items.names) != index.items or names[-1] != 0:
            raise ValueError(f"it names {len(items.names)} items")
        if sizes.min() < 0 or sizes.max() > LARGEST or extensions.max() >= len(index.extensions):
            raise ValueError("a size or an extension is out of range")
        check_names(items.names)
        return items


def check_names(names: PathTable) -> None:
    """Refuse names of items that lead anywhere but down: they become names of results.

    Raises:
        ValueError: a name begins at the root, or has an empty part, `.` or `..`.
    """
    if re.search(rb"[\0/\\]\.{0,2}[\0/\\]", b"\0" + names.bytes.tobytes()):
        bad = next(name for name in names if re.search(r"(^|[/\\])\.{0,2}($|[/\\])", name))
        raise ValueError(f"an item is called {bad!r}")


def member_name(number: int, member: str, extension: str) -> str:
    """The name in its shard of a file of item `number` (from 0 in each shard)."""
    return f"{number:06d}.{member}.{extension}"


def padded(size: np.ndarray | int) -> np.ndarray | int:
    """The bytes that members of these sizes take in a tar file, headers included."""
    return BLOCK + -(-size // BLOCK) * BLOCK


def tar_size(members: int) -> int:
    """The bytes of a tar file whose members take `members` bytes: two empty blocks end it, whole records hold it."""
    return -(-(members + 2 * BLOCK) // RECORD) * RECORD


def is_header(block: bytes, name: str, size: int) -> bool:
    """Whether a block is in front of a plain file of this name and size in a tar file."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        return False
    return (info.name, info.size, info.type) == (name, size, tarfile.REGTYPE)


# ---------------------------------------------------------------------------------------------------------- webdataset


def webdataset() -> Any:
    """The library.

    Raises:
        UserError: it is not installed.
    """
    try:
        import webdataset.tariterators
        import webdataset.writer
    except ImportError:
        raise UserError(
            "tar shards are read and written with webdataset, which is not installed: "
            "pip install -r requirements-webdataset.txt"
        ) from None
    return webdataset


def tar_writer(file: BinaryIO) -> Any:
    """webdataset's writer of samples, with nothing of this machine in what it writes, and no encoders."""
    return webdataset().writer.TarWriter(file, encoder=False, mtime=0, user="", group="", mode=0o444)


def samples_of(content: bytes) -> list[dict[str, Any]]:
    """The samples that bytes of a tar file hold: `__key__`, and file contents by names such as `label.png`."""
    library = webdataset().tariterators
    files = ({**file, "__url__": ""} for file in library.tar_file_iterator(io.BytesIO(content)))
    return list(library.group_by_keys(files))


# ------------------------------------------------------------------------------------------------------------- reading


class Shards:
    """Items of a folder of shards by index, the files as they were before packing. Processes may share an object."""

    def __init__(self, folder: str) -> None:
        """
        Raises:
            UserError: webdataset is missing, or the folder is not one of shards, or not whole.
        """
        webdataset()
        self.folder = folder
        index = read_index(folder)
        if index is None:
            raise UserError(
                f"there is no {INDEX_NAME} in {folder}: --dataroot of --dataset_mode shards is a folder that "
                "datasets/pack_shards.py has made and finished"
            )
        self.index = index
        self.items = self._read_items()
        counts = np.array([shard.items for shard in index.shards])
        self.first = np.concatenate([[0], np.cumsum(counts)])  # item of each shard, and the number of all
        self.ends = np.cumsum(padded(self.items.sizes).sum(1))  # in all shards together, without their ends
        for number, shard in enumerate(index.shards):
            self._check_size(number, self._stat(shard.name).st_size)
            members = self.ends[self.first[number + 1] - 1] - self._start(self.first[number])
            if tar_size(int(members)) != shard.bytes:
                raise UserError(f"{self._path(ITEMS_NAME)} does not fit {shard.name}; {PACK_AGAIN}")
        self._files: collections.OrderedDict[int, BinaryIO] = collections.OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return self.index.items

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_files": collections.OrderedDict()}

    def read(self, index: int) -> dict[str, tuple[str, bytes]]:
        """The files of an item by MEMBERS: a name for messages, and the bytes.

        Raises:
            UserError: the shard is missing, cut short, or not the one that the index describes.
        """
        number = int(np.searchsorted(self.first, index, side="right")) - 1
        shard, place = self.index.shards[number], index - int(self.first[number])
        start = self._start(index) - self._start(self.first[number])
        content = self._read(number, start, int(self.ends[index]) - self._start(index))
        expected, at = {}, 0
        for member, size, extension in zip(
            self.index.members, self.items.sizes[index].tolist(), self.items.extensions[index], strict=True
        ):
            name = member_name(place, member, self.index.extensions[extension])
            # Before the library sees it: so no header can ask for more than the index allows, or for another format.
            if not is_header(content[at : at + BLOCK], name, size):
                raise self._does_not_match(shard.name, name)
            expected[member] = name
            at += padded(size)
        (sample,) = samples_of(content)
        original = self.items.names[index]
        return {
            member: (f"{self._path(shard.name)}/{name} (of {original})", sample[name.partition(".")[2]])
            for member, name in expected.items()
        }

    def order(self, rng: np.random.Generator, size: int, window: int) -> np.ndarray:
        """The first `size` items, shards in random order, the items of each `window` of them mixed: indices [size]."""
        groups = rng.permutation(int(np.searchsorted(self.first, size)))
        parts = []
        for place in range(0, len(groups), window):
            together = [
                np.arange(self.first[shard], min(self.first[shard + 1], size))
                for shard in groups[place : place + window]
            ]
            parts.append(rng.permutation(np.concatenate(together)))
        return np.concatenate(parts)

    def _start(self, index: int) -> int:
        return int(self.ends[index - 1]) if index else 0

    def _read_items(self) -> Items:
        path = self._path(ITEMS_NAME)
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError:
            raise UserError(f"{path} is not there, which tells where items are; {PACK_AGAIN}") from None
        if hashlib.sha256(content).hexdigest() != self.index.items_sha256:
            raise UserError(f"{path} is not the one that {INDEX_NAME} describes, or damaged; {PACK_AGAIN}")
        try:
            return Items.from_bytes(content, self.index)
        except ValueError as error:
            raise UserError(f"{path} does not fit {INDEX_NAME} ({error}); {PACK_AGAIN}") from None

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _stat(self, name: str) -> os.stat_result:
        try:
            return os.stat(self._path(name))
        except FileNotFoundError:
            raise UserError(f"{self._path(name)} is not there, but {INDEX_NAME} lists it; {PACK_AGAIN}") from None

    def _check_size(self, number: int, size: int) -> None:
        shard = self.index.shards[number]
        if size != shard.bytes:
            what = "cut short" if size < shard.bytes else "not the file of this index"
            raise UserError(
                f"{self._path(shard.name)} has {size} bytes, but {INDEX_NAME} says {shard.bytes}: it is {what}; "
                f"{PACK_AGAIN}"
            )

    def _does_not_match(self, name: str, member: str) -> UserError:
        return UserError(
            f"{self._path(name)} does not have {member} where {INDEX_NAME} and {ITEMS_NAME} say: it is of another "
            f"packing, or damaged; {PACK_AGAIN}"
        )

    def _read(self, number: int, start: int, count: int) -> bytes:
        if self._process != os.getpid():  # a process does not move another's place in a file
            self._files, self._process = collections.OrderedDict(), os.getpid()
        file = self._files.get(number)
        if file is None:
            self._stat(self.index.shards[number].name)  # says what to do where it is not there
            file = open(self._path(self.index.shards[number].name), "rb", buffering=0)  # noqa: SIM115
            self._files[number] = file
            self._check_size(number, os.fstat(file.fileno()).st_size)
            if len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(number)
        file.seek(start)
        parts, left = [], count
        while left > 0:
            part = file.read(left)
            if not part:
                self._check_size(number, os.fstat(file.fileno()).st_size)
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
