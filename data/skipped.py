"""The files that a run could not use, --on_bad_image skip: listed at each epoch's end, and kept in a file."""

import contextlib
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from util.distributed import gather, rank
from util.errors import printable
from util.provenance import command

FILE_NAME = "skipped_files.txt"
SHOWN = 20  # files that the list of an epoch names


class SkippedFiles:
    """Takes `skipped` out of batches, where items replace others. As a context it lists what is left after an error.

    skipped_files.txt has a line for each file and epoch: epoch, file, reason, with tabs between, all of it printable.
    """

    def __init__(self, opt: Namespace, folder: Path, say: Callable[[str], None]) -> None:
        """`folder`: of the run. `say` prints a line, on the first of several processes."""
        self._skips = opt.on_bad_image == "skip"
        self._path, self._say = folder / FILE_NAME, say
        self._epoch = 1
        self._new: list[tuple[int, str, str]] = []  # epoch, file, reason; of this process's share, not yet written
        self._written: dict[str, str] = {}  # file to reason, of this epoch, on the first process
        self._begun = False  # whether the file says which run its next lines are of

    def taken_from(self, batches: Iterable[dict[str, Any]], epoch: int) -> Iterator[dict[str, Any]]:
        """The batches of 1-based `epoch` as trainers take them."""
        self._epoch = epoch
        for batch in batches:
            for files in batch.pop("skipped", ()):
                self._new += [(epoch, file, reason) for file, reason in files]
            yield batch

    def write(self) -> None:
        """Append to the file what is new; all processes call it together.

        Raises:
            OSError: the disk is full, or the folder is not writable.
        """
        if self._skips:
            new, self._new = self._new, []
            self._append([line for share in gather(new) for line in share])

    def list_epoch(self) -> None:
        """Print what the epoch had, and write what is new; all processes call it together.

        Raises:
            OSError: as `write`.
        """
        self.write()
        self._list()

    def __enter__(self) -> "SkippedFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error the others may never answer: each process writes its own share. The error is what to report.
        with contextlib.suppress(*() if error is None else (OSError,)):
            new, self._new = self._new, []
            self._append(new)
            self._list()

    def _append(self, lines: list[tuple[int, str, str]]) -> None:
        """Append each file once."""
        text = ""
        for epoch, file, reason in lines:
            if file not in self._written:
                self._written[file] = reason
                text += f"{epoch}\t{printable(file)}\t{reason}\n"
        if not text:
            return
        if not self._begun:
            text = f"# {time.strftime('%c')}: {printable(command())}\n# epoch\tfile\treason\n{text}"
            self._begun = True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(text)  # at once, so that processes do not write into each other's lines

    def _list(self) -> None:
        files, self._written = self._written, {}
        if not files or rank() != 0:
            return
        be = "file" if len(files) == 1 else "files"
        lines = [
            f"epoch {self._epoch}: {len(files)} {be} could not be used, and other items came instead ({self._path})"
        ]
        lines += [f"  {reason}" for reason in list(files.values())[:SHOWN]]
        if len(files) > SHOWN:
            lines.append(f"  and {len(files) - SHOWN} more")
        self._say("\n".join(lines))
