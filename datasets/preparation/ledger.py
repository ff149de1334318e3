"""What was found out about files, kept as it is found, so that a run that was cut short need not find it out again."""

import json
import threading
from pathlib import Path
from typing import Any, BinaryIO


class Ledger:
    """A file that has a line of JSON for each file that was looked at; of two on one file the later holds.

    Lines that make no sense, such as the last one after a power failure, count as not there.
    """

    def __init__(self, path: Path, key: str) -> None:
        """`key`: the field that an entry is found by."""
        self._path, self._key = path, key
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self.entries: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                entry = _parsed(line)
                if isinstance(entry, dict) and isinstance(entry.get(key), str):
                    self.entries[entry[key]] = entry

    def add(self, entry: dict[str, Any]) -> None:
        """Write an entry down; threads may do so at once.

        Raises:
            OSError: the disk is full or the folder is not writable.
        """
        line = json.dumps(entry).encode() + b"\n"  # in ASCII, whatever characters names have
        with self._lock:
            if self._file is None:
                self._file = self._opened()
            self._file.write(line)
            self._file.flush()
            self.entries[entry[self._key]] = entry

    def _opened(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self._path, "ab+")  # noqa: SIM115
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        return file


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
