"""Disks that fill up while something is saved: what was there is whole, and the run goes on when there is room.

Needs the right to mount a tmpfs.
"""

import argparse
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.lives import begin, differences, flags_for, undisturbed
from util.checkpoint import check_set, checkpoints_in


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes at `place`.

    Raises:
        PermissionError: this process may not mount one.
    """
    place.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True).returncode:
        raise PermissionError("mounting a tmpfs is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def run(folder: Path, sets: list[float]) -> Iterator[tuple[float, str, list[str]]]:
    """For disks that hold so many times one checkpoint: that number, what the run said last, and what is different at
    the end from a run that had room, after it got more and went on."""
    os.chdir(folder)
    flags = flags_for(folder / "data", "whole", "--niter", 2, "--save_latest_freq", 4)
    whole = undisturbed(folder, flags)
    size = sum(path.stat().st_size for path in whole.glob("latest_*"))
    for count in sets:
        disk, said = folder / f"disk{count}", folder / f"said{count}.txt"
        with small_disk(disk, int(count * size) + 2**16):
            own = [*flags, "--keep_checkpoints", "1", "--checkpoints_dir", str(disk)]
            status = begin(own, 1, said).wait()
            last = said.read_text().strip().splitlines()[-1]
            assert status == [2], (status, said.read_text())
            kept = disk / "whole"
            assert not list(kept.glob("*.tmp")), "something is left beside"
            for epoch in checkpoints_in(kept):
                check_set(kept, epoch)
            subprocess.run(["mount", "-o", f"remount,size={20 * size}", disk], check=True)
            status = begin([*own, "--continue_train", "auto"], 1, said).wait()
            assert status == [0], said.read_text()
            yield count, last, differences(whole, kept)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults full_disk", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the runs")
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for count, last, different in run(folder, [0.3, 0.95, 1.2, 1.5, 1.95, 2.2, 2.5, 2.95]):
        print(f"room for {count} checkpoints: {last}\n  afterwards differences: {', '.join(different) or 'none'}")


if __name__ == "__main__":
    main()
