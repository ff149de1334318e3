"""Many paths as two arrays, which processes that are forked share for good.

A list of str does not stay shared: each reading of a path writes its count of references, so that every process soon
has a copy of all of them.
"""

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

CHUNK = 4096  # paths that are decoded at once when a table is gone through


class PathTable(Sequence[str]):
    """An immutable sequence of paths: their bytes one after the other, and where each starts.

    `natural`: they are known to be in natural order, and need not be sorted again.
    """

    def __init__(self, paths: Iterable[str] = (), natural: bool = False) -> None:
        """
        Raises:
            ValueError: a path has a character that no file name can have (0, or half of a surrogate pair).
        """
        paths = paths if isinstance(paths, list | tuple) else list(paths)
        joined = os.fsencode("\0".join(paths) + "\0") if paths else b""  # a name that is no UTF-8 survives this
        self._set(np.frombuffer(joined, np.uint8), natural)
        if len(self) != len(paths):
            raise ValueError("a path holds the character 0")

    @classmethod
    def from_bytes(cls, names: np.ndarray, natural: bool = False) -> "PathTable":
        """The table of names in the file system's encoding, uint8, each followed by a 0."""
        table = cls()
        table._set(names, natural)
        return table

    def _set(self, names: np.ndarray, natural: bool) -> None:
        ends = np.flatnonzero(names == 0)
        self.bytes = names  # uint8: each path and a 0
        self._starts = np.concatenate([[0], ends + 1]).astype(np.int64)  # one more than paths
        self.natural = natural

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int | slice) -> "str | PathTable":
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return PathTable([self[i] for i in range(start, stop, step)], self.natural and step > 0)
            first, last = self._starts[[start, max(start, stop)]]
            return PathTable.from_bytes(self.bytes[first:last], self.natural)
        if not -len(self) <= index < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        index %= len(self)
        return os.fsdecode(self.bytes[self._starts[index] : self._starts[index + 1] - 1].tobytes())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK):
            first, last = self._starts[[start, min(start + CHUNK, len(self))]]
            yield from os.fsdecode(self.bytes[first : last - 1].tobytes()).split("\0")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PathTable):
            return np.array_equal(self.bytes, other.bytes)
        return isinstance(other, list | tuple) and len(self) == len(other) and all(map(str.__eq__, self, other))

    __hash__ = None  # it compares equal to lists

    def __add__(self, other: Iterable[str]) -> "PathTable":
        more = other if isinstance(other, PathTable) else PathTable(other)
        return PathTable.from_bytes(np.concatenate([self.bytes, more.bytes]), self.natural and not len(more))

    def __repr__(self) -> str:
        return f"PathTable({list(self[:3])}{' and more' if len(self) > 3 else ''}, {len(self)} paths)"

    def where(self, mask: Iterable[bool]) -> "PathTable":
        """The paths for which `mask` is true, in the order they have."""
        mask = np.fromiter(mask, bool, len(self))
        return PathTable.from_bytes(self.bytes[np.repeat(mask, np.diff(self._starts))], self.natural)
