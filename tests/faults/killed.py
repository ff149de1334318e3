"""Training that is killed again and again ends with the weights of a run that was never disturbed."""

import argparse
import contextlib
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.lives import Life, begin, differences, flags_for, losses_of, undisturbed

HEAD = 100  # bytes: more than the line that a run begins its log with
LONGEST = 60.0  # seconds that a process may take to end after another one is gone


@dataclass
class Outcome:
    """What became of a run."""

    kills: int = 0
    while_saving: int = 0
    repeated: int = 0  # iterations that had to be done again
    damage: tuple[str, ...] = ()


def run(
    folder: Path, kills: int, processes: int, seed: int, epochs: int, save_latest_freq: int = 4, longest: float = 1.5
) -> Outcome:
    """Kill a run of `epochs` + 2 epochs at random moments, in its first `longest` seconds each time that it trains;
    half of them are while something is being saved.

    `save_latest_freq`: images between two saves, of which an iteration has 4; 0 saves at every second
    epoch's end, after each 4 iterations.
    """
    os.chdir(folder)
    rng, outcome = random.Random(seed), Outcome()
    flags = flags_for(folder / "data", "whole", "--niter", epochs, "--save_latest_freq", save_latest_freq)
    whole = undisturbed(folder, flags, processes)

    flags[flags.index("--name") + 1] = "killed"
    flags += ["--continue_train", "auto"]
    said = folder / "killed.txt"
    checkpoints = folder / "checkpoints" / "killed"
    while outcome.kills < kills:
        life = begin(flags, processes, said)
        saving = _wait_for_moment(life, checkpoints, rng, longest)
        if saving is None:
            break  # it has ended before
        alone = processes > 1 and rng.random() < 0.5
        life.kill([rng.randrange(processes)] if alone else None)
        statuses = life.wait(LONGEST)
        assert all(status in (-9, 75) for status in statuses), (statuses, said.read_text())
        outcome.kills += 1
        outcome.while_saving += saving
    status = begin(flags, processes, said).wait(600)
    assert status == [0] * processes, said.read_text()

    lines = [line for line in (checkpoints / "loss_log.txt").read_text().splitlines() if line.startswith("(epoch")]
    outcome.repeated = len(lines) - len(losses_of(checkpoints))
    outcome.damage = tuple(differences(whole, checkpoints))
    if losses_of(whole) != losses_of(checkpoints):
        outcome.damage += ("loss_log.txt",)
    if sorted(p.name for p in whole.iterdir()) != sorted(p.name for p in checkpoints.iterdir()):
        outcome.damage += ("names of files",)
    return outcome


def _wait_for_moment(life: Life, checkpoints: Path, rng: random.Random, longest: float) -> bool | None:
    """Wait until it is time to kill; whether something is being saved then, or None where the run has ended."""
    log = checkpoints / "loss_log.txt"
    lines, left_over = _size(log), _being_saved(checkpoints)
    when, after = rng.choice(["starting", "training", "training", "saving", "saving"]), rng.uniform(0, longest)
    begun = time.monotonic() if when == "starting" else None
    while True:
        if os.waitid(os.P_PID, life.pids[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            life.wait(LONGEST)
            return None
        if begun is None and _size(log) > lines + HEAD:  # this life's first line of losses is there
            begun = time.monotonic()
        if begun is not None and time.monotonic() - begun > after:
            saving = bool(_being_saved(checkpoints) - left_over)
            if saving and when == "saving":
                time.sleep(rng.uniform(0, 0.03))
            if saving or when != "saving":
                return saving
        time.sleep(0.0005)


def _being_saved(checkpoints: Path) -> set[tuple[str, int]]:
    """Files that have not taken their places, which may be left by a save that was killed: name and time."""
    found = set()
    for path in checkpoints.glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults killed", description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="moments at which each run is killed")
    parser.add_argument("--epochs", type=int, default=100, help="length of a run; it must outlast its kills")
    parser.add_argument("--save_latest_freq", type=int, default=4, help="images between saves; 0: every second epoch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the runs")
    opt = parser.parse_args()
    for processes in (1, 2):
        folder = opt.folder.absolute() / str(processes)
        folder.mkdir(parents=True)
        began = time.monotonic()
        outcome = run(folder, opt.kills, processes, opt.seed, opt.epochs, opt.save_latest_freq)
        print(
            f"{processes} process(es): killed {outcome.kills} times, {outcome.while_saving} of them while saving, in "
            f"{time.monotonic() - began:.0f} s; {outcome.repeated} iterations were done again; differences from the "
            f"undisturbed run: {', '.join(outcome.damage) or 'none'}"
        )


if __name__ == "__main__":
    main()
