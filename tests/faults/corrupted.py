"""Damaged checkpoints: a resumed run says so, goes on from the one before, and ends with the same weights."""

import argparse
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.lives import begin, differences, flags_for, undisturbed

DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "one bit flipped": lambda path: path.write_bytes(_flipped(path.read_bytes())),
    "removed": lambda path: path.unlink(),
}


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def stopped_run(folder: Path) -> list[str]:
    """A run that SIGTERM ended in the middle of the third of four epochs, as checkpoints/stopped, and one that went on
    to its end, as checkpoints/whole; returns the flags of the first."""
    os.chdir(folder)
    flags = flags_for(folder / "data", "whole", "--niter", 2, "--save_latest_freq", 4)
    undisturbed(folder, flags)
    flags[flags.index("--name") + 1] = "stopped"
    life = begin(flags, 1, folder / "stopped.txt")
    log = folder / "checkpoints" / "stopped" / "loss_log.txt"
    while not log.exists() or "(epoch: 3, " not in log.read_text():
        time.sleep(0.001)
    life.kill(number=signal.SIGTERM)
    assert life.wait() == [75], (folder / "stopped.txt").read_text()
    return flags


def outcomes(
    folder: Path, flags: list[str], every: int = 1, only: str = ""
) -> Iterator[tuple[str, str, list[int], str, list[str]]]:
    """File, damage, status, what was said, and differences from the undisturbed run's end, of every `every`-th pair."""
    stopped = folder / "checkpoints" / "stopped"
    pairs = [(path.name, damage) for path in sorted(stopped.glob(f"{only}*")) if path.is_file() for damage in DAMAGES]
    for number, (name, damage) in enumerate(pairs):
        if number % every:
            continue
        copy = folder / "checkpoints" / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(stopped, copy)
        DAMAGES[damage](copy / name)
        said = folder / "damaged.txt"
        said.unlink(missing_ok=True)
        again = [*flags, "--continue_train"]
        again[again.index("--name") + 1] = "damaged"
        status = begin(again, 1, said).wait()
        yield name, damage, status, said.read_text(), differences(folder / "checkpoints" / "whole", copy)


def verdict(name: str, damage: str, status: list[int], said: str, different: list[str]) -> str:
    """What became of it, in words; it begins with LOST where something was lost or nothing said."""
    warned = [line for line in said.splitlines() if line.startswith(("warning: checkpoints", "warning: /"))]
    if status == [0] and not different:
        if not name.startswith("latest_"):
            return "no matter: same end"
        if warned and "Going on from" in warned[0] and name in warned[0]:
            return "said so, went on from the one before: same end"
        if damage == "removed" and name == "latest_manifest.json":
            return "taken as it is: same end"
        return "LOST: nothing was said"
    last = said.strip().splitlines()[-1]
    if status == [2] and last.startswith(("error: ", "train.py: error: ")) and "Traceback" not in said:
        return f"refused, nothing was changed: {last}"
    return f"LOST: status {status}, {len(different)} differences: {last}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults corrupted", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the runs")
    parser.add_argument("--only", default="", help="files whose names begin with this")
    opt = parser.parse_args()
    folder = opt.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name, damage, *result in outcomes(folder, stopped_run(folder), only=opt.only):
        print(f"{name:24} {damage:16} {verdict(name, damage, *result)}", flush=True)


if __name__ == "__main__":
    main()
