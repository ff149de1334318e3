"""One process at a time in a folder."""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_TAKEN: dict[str, int] = {}  # folders that this process has, and their file descriptors


def take(folder: Path, wait: bool = False) -> bool:
    """Keep other processes that ask out of a folder, until `leave` or until this one ends, however it does.

    Args:
        wait: until it can be had.

    Returns:
        Whether this process has it now; also where there are no locks, as on Windows and some file systems.
    """
    key = str(folder.resolve())
    if fcntl is None or key in _TAKEN:
        return True
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        _TAKEN[key] = handle
    except BlockingIOError:
        return False
    except OSError:  # there are no locks
        pass
    finally:
        if key not in _TAKEN:
            os.close(handle)
    return True


def leave(folder: Path) -> None:
    """Let others in; nothing where it was not taken."""
    if (handle := _TAKEN.pop(str(folder.resolve()), None)) is not None:
        os.close(handle)


def _leave_to_parent() -> None:
    """In a process that was forked, as a loader's workers are: they may outlive the one whose lock it is."""
    while _TAKEN:
        os.close(_TAKEN.popitem()[1])


if fcntl is not None:
    os.register_at_fork(after_in_child=_leave_to_parent)
