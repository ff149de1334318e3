"""Writing files so that nothing is ever half there."""

import errno
import hashlib
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
    take_place(path)
    flush_folder(path.parent)


def take_place(path: Path) -> None:
    """Let what was written beside be what the name leads to."""
    os.replace(beside(path), path)


def flush_folder(folder: Path) -> None:
    """Bring the folder's names to the disk, so that files which took their places have them after a power failure.

    Raises:
        UserError: the disk is full or fails.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # which say that it cannot be done here
            raise UserError(
                f"{folder} could not be written: {error.strerror}; what was there before is untouched"
            ) from None
    finally:
        os.close(handle)


def save_image(image: Image.Image, path: Path, **options: int) -> None:
    """Write a picture so that its name never leads to half of it, without waiting for the disk; `options` are Pillow's.

    Raises:
        OSError: the disk is full or the folder is not writable; what was there before is still there.
    """
    _put(path, lambda next_one: image.save(next_one, Image.registered_extensions()[path.suffix], **options))


def put(content: bytes, path: Path) -> None:
    """Write a file so that its name never leads to half of it, without waiting for the disk.

    Raises:
        OSError: the disk is full or the folder is not writable; what was there before is still there.
    """
    _put(path, lambda next_one: next_one.write_bytes(content))


def _put(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        beside(path).unlink(missing_ok=True)  # a link of that name would lead elsewhere
        write(beside(path))
        os.replace(beside(path), path)
    except OSError as error:  # a full disk: Pillow does not say where
        beside(path).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def beside(path: Path) -> Path:
    """Where the next content of `path` is written before it takes its place."""
    return path.with_name(f"{path.name}.tmp")


class DiskFull(UserError):
    """There is no room for a file."""


def write_beside(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write the next content of `path`, whole and on the disk, to `beside(path)`.

    Raises:
        DiskFull: the disk is full; nothing is left beside.
        UserError: the folder is not writable; nothing is left beside.
    """
    try:
        beside(path).unlink(missing_ok=True)  # a link of that name would lead elsewhere
        with open(beside(path), "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        full = path.parent.is_dir() and shutil.disk_usage(path.parent).free < SPARE
        full = full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        beside(path).unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or ("the disk is full" if full else str(error).splitlines()[0])
        kind = DiskFull if full else UserError
        raise kind(f"{path} could not be written: {why}; what was there before is untouched") from error


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest(values: object) -> str:
    """A short name of plain values, for telling them from others."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def megabytes(count: int) -> str:
    """Bytes for people: '12.3 MB'."""
    return f"{count / 1e6:,.1f} MB"
