"""Training runs as processes that can be killed: forked from this one, so that each is there in a moment.

This process has imported everything and computed nothing, so what it forks is as a fresh process is.
"""

import contextlib
import multiprocessing
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
import torch._dynamo  # Adam does when it is first made, which takes as long as importing the rest

import train as train_script
from tests.conftest import write_pairs
from util import launch
from util.errors import run_main

FLAGS = (
    "--gpu_ids -1 --dataset_mode custom --label_nc 5 --ngf 2 --ndf 2 --nef 2 --z_dim 8 --num_D 1 --n_layers_D 2 "
    "--crop_size 64 --load_size 72 --no_vgg_loss --no_html --display_freq 0 --batchSize 4 --accumulate 2 --use_vae "
    "--ema_decay 0.9 --nThreads 2 --print_freq 4 --save_epoch_freq 2 --niter_decay 2 --process_timeout 20"
).split()


def flags_for(data: Path, name: str, *more: object) -> list[str]:
    """A command line with crops, flips, two loader processes, a VAE, micro-batches and a moving average; batches of 4
    of 10 images, so that an epoch has two iterations and a rest."""
    if not data.exists():
        write_pairs(data, 10)
    folders = [f"--{kind}_dir={data}/train_{short}" for kind, short in (("label", "label"), ("image", "img"))]
    return [*FLAGS, *folders, f"--instance_dir={data}/train_inst", "--name", name, *map(str, more)]


@dataclass
class Life:
    """One start of a run, of one or more processes."""

    pids: list[int]
    said: Path

    def kill(self, ranks: Sequence[int] | None = None, number: int = signal.SIGKILL) -> None:
        """Send a signal to some processes, by default to all."""
        for rank in range(len(self.pids)) if ranks is None else ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pids[rank], number)

    def wait(self, seconds: float = 120) -> list[int]:
        """The status of each process, negative for a signal; kills and complains about those that do not end."""
        until, statuses = time.monotonic() + seconds, {}
        while len(statuses) < len(self.pids):
            for pid in self.pids:
                if pid not in statuses and (done := os.waitpid(pid, os.WNOHANG))[0]:
                    statuses[pid] = os.waitstatus_to_exitcode(done[1])
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"{self.pids} did not end within {seconds} s; they said:\n{self.said.read_text()}")
            time.sleep(0.005)
        return [statuses[pid] for pid in self.pids]


def begin(
    argv: Sequence[str],
    processes: int,
    said: Path,
    script: ModuleType = train_script,
    environments: Sequence[dict[str, str]] = (),
    errors: Path | None = None,
    folder: Path | None = None,
) -> Life:
    """Start train.py, or another script, in the present folder or another; what it prints goes to `said`.

    `environments`: of each process, where they are not all there is of a run.
    `errors`: where what it prints to stderr goes instead.
    """
    port = launch.free_port()
    environments = environments or [launch.environment(rank, processes, port) for rank in range(processes)]
    sys.stdout.flush()
    pids = []
    for environment in environments:
        pid = os.fork()
        if pid == 0:
            _live(script, list(argv), environment, said, errors or said, folder or Path())
        pids.append(pid)
    return Life(pids, said)


def _live(
    script: ModuleType, argv: list[str], environment: dict[str, str], said: Path, errors: Path, folder: Path
) -> None:
    """In the forked process: be the script, and end."""
    status = 1
    try:
        os.environ.update(environment)
        for stream, path in ((1, said), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os.chdir(folder)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1)
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1)
        sys.argv = [f"{script.__name__}.py", *argv]
        torch.set_num_threads(1)
        run_main(script.main)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for child in multiprocessing.active_children():  # the loader's
            child.kill()
        os._exit(status)


def undisturbed(folder: Path, flags: Sequence[str], processes: int = 1) -> Path:
    """checkpoints/whole in `folder`, the present one: what a run of these flags, named so, gives where nothing goes
    wrong; where it is there, it is not made again."""
    made_with, said, text = folder / "whole_made_with.txt", folder / "whole.txt", f"{processes}: {shlex.join(flags)}"
    if not made_with.exists():
        assert begin(flags, processes, said).wait(600) == [0] * processes, said.read_text()
        made_with.write_text(text)
    assert made_with.read_text() == text, "another run is there"
    return folder / "checkpoints" / "whole"


def tensors_of(folder: Path, epoch: str = "latest") -> dict[str, torch.Tensor]:
    """Every tensor and number of a checkpoint that resuming depends on, by file and key."""
    found: dict[str, torch.Tensor] = {}

    def add(key: str, value: object) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name != "provenance":
                    add(f"{key}/{name}", inner)
        elif isinstance(value, list | tuple):
            for place, inner in enumerate(value):
                add(f"{key}/{place}", inner)
        else:
            found[key] = value if torch.is_tensor(value) else torch.tensor(float(hash(value) % 2**32))

    for path in sorted(folder.glob(f"{epoch}_*.pth")):
        add(path.name, torch.load(path, weights_only=True))
    return found


def differences(one: Path, other: Path, epoch: str = "latest") -> list[str]:
    """What is not the same, bit for bit, in two checkpoints."""
    a, b = tensors_of(one, epoch), tensors_of(other, epoch)
    return sorted(set(a) ^ set(b)) + [key for key in a if key in b and not torch.equal(a[key], b[key])]


def losses_of(folder: Path) -> dict[tuple[str, str], str]:
    """The last line of losses that was written for each place of a run: (epoch, image) to text, without times."""
    lines = {}
    for line in (folder / "loss_log.txt").read_text().splitlines():
        if line.startswith("(epoch: ") and ") " in line:
            head, losses = line.split(") ", 1)
            epoch, images, *_ = head.removeprefix("(epoch: ").split(", ")
            lines[epoch, images] = losses
    return lines
