"""A folder is one process's at a time."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.locked import ROOT, taken_by_another
from util import launch, locks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no flock")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert locks.take(folder) and locks.take(folder)
    assert not taken_by_another(folder)
    assert locks.holder(folder) == f"process {os.getpid()} on {launch.host()}"
    locks.leave(folder)
    assert taken_by_another(folder)
    assert locks.take(folder)  # the other has ended
    locks.leave(folder)
    assert [*folder.iterdir()] == []


def test_a_holder_that_was_killed_is_none(tmp_path: Path) -> None:
    """Its file is there yet, and says nothing."""
    (tmp_path / locks.NAME).write_text("process 1234567 on a machine with a long name")
    assert locks.take(tmp_path)
    assert locks.holder(tmp_path) == f"process {os.getpid()} on {launch.host()}"
    locks.leave(tmp_path)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / "a").touch()
    else:
        (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        locks.take(tmp_path / "a")


def test_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems, everybody is let in."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    assert locks.take(tmp_path)
    locks.leave(tmp_path)


def test_a_full_disk_has_no_room_for_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is this process's all the same."""

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", write)
        assert locks.take(tmp_path)
    assert not taken_by_another(tmp_path)
    assert locks.holder(tmp_path) == "another process"
    locks.leave(tmp_path)


def test_processes_that_come_and_go_are_never_two(tmp_path: Path) -> None:
    """Each notes in a file that it is in the folder and that it is out again, and removes the folder where it can."""
    folder, log = tmp_path / "folder", tmp_path / "log"
    script = (
        "import contextlib, os, sys, time; from pathlib import Path; from util import locks\n"
        "folder, log = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "done = 0\n"
        "while done < 200:\n"
        "    if locks.take(folder, patience=60 * (done % 2)):\n"
        "        os.write(log, b'i'); os.write(log, b'o'); locks.leave(folder); done += 1\n"
        "        with contextlib.suppress(OSError): folder.rmdir()\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(log)]
    several = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [each.wait(120) for each in several] == [0] * 3
    assert log.read_text() == "io" * 600


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
