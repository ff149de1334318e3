"""Folders as other processes have them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from util import locks

ROOT = Path(__file__).parent.parent


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


def taken_by_another(folder: Path) -> bool:
    """What `take` says in another process, which then ends."""
    script = f"from pathlib import Path; from util import locks; print(locks.take(Path({str(folder)!r})))"
    return subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True) == "True\n"
