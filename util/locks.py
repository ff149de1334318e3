"""One process at a time in a folder."""

import atexit
import contextlib
import os
import stat
import time
from pathlib import Path

from util import launch

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BETWEEN = 0.1  # seconds between two tries
NAME = ".lock"  # a file: network file systems tell other machines of locks of files that are written to, not of folders
_TAKEN: dict[str, int] = {}  # folders that this process has, and their file descriptors


def take(folder: Path, patience: float = 0.0) -> bool:
    """Keep other processes that ask out of a folder, until `leave` or until this one ends, however it does.

    Args:
        folder: made where it is not there.
        patience: seconds to wait for it.

    Returns:
        Whether this process has it now; also where there are no locks, as on Windows and some file systems.

    Raises:
        OSError: it is no folder, or cannot be written to.
    """
    key, path = str(folder.resolve()), folder / NAME
    if fcntl is None or key in _TAKEN:
        folder.mkdir(parents=True, exist_ok=True)
        return True
    until = time.monotonic() + patience
    while key not in _TAKEN:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileNotFoundError, FileExistsError):
            if _is_something_else(folder):
                raise
            continue  # another has just left, and removed the folder, in which was nothing else
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _leads_to(path, handle):  # not to one that another has made since this one's holder left
                _TAKEN[key] = handle
                with contextlib.suppress(OSError):  # a full disk: it is this one's also without its name
                    os.ftruncate(handle, 0)
                    os.write(handle, f"process {os.getpid()} on {launch.host()}".encode())
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(BETWEEN)
        except OSError:  # there are no locks
            return True
        finally:
            if key not in _TAKEN:
                os.close(handle)
    return True


def _is_something_else(folder: Path) -> bool:
    try:
        mode = os.lstat(folder).st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISDIR(mode) and not folder.is_dir()


def _leads_to(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def holder(folder: Path) -> str:
    """Who has a folder that could not be taken, as `process 123 on HOST`; the file says so."""
    try:
        return (folder / NAME).read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def leave(folder: Path) -> None:
    """Let others in; nothing where it was not taken."""
    if (handle := _TAKEN.pop(str(folder.resolve()), None)) is not None:
        if _leads_to(folder / NAME, handle):  # unless somebody has removed it
            (folder / NAME).unlink()
        os.close(handle)


def _leave_to_parent() -> None:
    """In a process that was forked, as a loader's workers are: they may outlive the one whose lock it is."""
    while _TAKEN:
        os.close(_TAKEN.popitem()[1])


def _leave_all() -> None:
    for folder in [*_TAKEN]:
        leave(Path(folder))


atexit.register(_leave_all)
if fcntl is not None:
    os.register_at_fork(after_in_child=_leave_to_parent)
