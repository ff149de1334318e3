"""A folder is one process's at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from util import locks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no flock")

ROOT = Path(__file__).parent.parent


def taken_by_another(folder: Path) -> bool:
    """What `take` says in another process, which then ends."""
    script = f"from pathlib import Path; from util import locks; print(locks.take(Path({str(folder)!r})))"
    return subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True) == "True\n"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    assert locks.take(tmp_path) and locks.take(tmp_path)
    assert not taken_by_another(tmp_path)
    locks.leave(tmp_path)
    assert taken_by_another(tmp_path)
    assert locks.take(tmp_path)  # the other has ended
    locks.leave(tmp_path)


def test_what_a_process_forked_does_not_keep_its_lock(tmp_path: Path) -> None:
    """As a loader's workers, which outlive for some seconds a process that was killed."""
    assert locks.take(tmp_path)
    ready, says = os.pipe()
    goes_on, end = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(end)
        os.write(says, b".")
        os.read(goes_on, 1)  # until the parent closes its end
        os._exit(0)
    try:
        os.read(ready, 1)
        assert not taken_by_another(tmp_path)  # it is still the parent's
        locks.leave(tmp_path)
        assert taken_by_another(tmp_path)
    finally:
        os.close(end)
        os.waitpid(pid, 0)
        for handle in (ready, says, goes_on):
            os.close(handle)
