"""Writing files so that nothing is ever half there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from util.errors import UserError


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file so that its name never leads to half of it, whatever interrupts: bytes, or what `content` writes.

    Raises:
        UserError: the disk is full or the folder is not writable; what was there before is still there.
    """
    write_beside(path, content)
    os.replace(beside(path), path)


def beside(path: Path) -> Path:
    """Where the next content of `path` is written before it takes its place."""
    return path.with_name(f"{path.name}.tmp")


def write_beside(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write the next content of `path`, whole and on the disk, to `beside(path)`.

    Raises:
        UserError: the disk is full or the folder is not writable; nothing is left beside.
    """
    try:
        with open(beside(path), "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        beside(path).unlink(missing_ok=True)
        raise UserError(f"{path} could not be written: {error}; what was there before is untouched") from error
