"""Writing files so that nothing is ever half there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from util.errors import UserError

SPARE = 1 << 16  # bytes: a disk with less is full


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file so that its name never leads to half of it, whatever interrupts: bytes, or what `content` writes.

    Raises:
        UserError: the disk is full or the folder is not writable; what was there before is still there.
    """
    write_beside(path, content)
    os.replace(beside(path), path)


def save_image(image: Image.Image, path: Path, **options: int) -> None:
    """Write a picture so that its name never leads to half of it; `options` are Pillow's.

    Raises:
        OSError: the disk is full or the folder is not writable; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        image.save(beside(path), Image.registered_extensions()[path.suffix], **options)
        os.replace(beside(path), path)
    except OSError as error:  # a full disk: Pillow does not say where
        beside(path).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


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
        full = path.parent.is_dir() and shutil.disk_usage(path.parent).free < SPARE
        beside(path).unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or ("the disk is full" if full else str(error).splitlines()[0])
        raise UserError(f"{path} could not be written: {why}; what was there before is untouched") from error
