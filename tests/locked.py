"""Folders as other processes have them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from util import locks


@contextlib.contextmanager
def held_by_another(folder: Path) -> Iterator[None]:
    """Inside, a folder cannot be taken: flock's locks are of open files, so that this one is a stranger's."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / locks.NAME
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.write(handle, b"process 12 on elsewhere")
    try:
        yield
    finally:
        path.unlink()
        os.close(handle)


def could_be_taken(folder: Path) -> bool:
    """Whether a process that asks now would get it."""
    import fcntl

    try:
        handle = os.open(folder / locks.NAME, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
