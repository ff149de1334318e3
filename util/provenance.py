"""Where a result came from."""

import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

from util import launch

STARTING = ("--continue_train", "--overwrite", "--pretrained_G", "--which_epoch")  # flags that say how a run begins


def command() -> str:
    """What this process was called with, to be pasted into a shell."""
    return shlex.join(sys.argv)


def resuming_command() -> str:
    """The command that goes on with this training run, which `command` began, where it was saved."""
    kept, drops_value = [], False
    for argument in sys.argv[1:]:
        if argument.startswith("--"):
            flag, _, value = argument.partition("=")
            drops_value = flag in STARTING and not value
            if flag not in STARTING:
                kept.append(argument)
        elif not drops_value:  # else the value of a flag that only starts a run
            kept.append(argument)
    script = [sys.argv[0], *kept, "--continue_train"]
    if launch.world_size() > launch.local_size():  # how machines find each other is nothing that a process knows
        return f"torchrun (its own flags as before) {shlex.join(script)}"
    if launch.by_torchrun():
        return shlex.join(["torchrun", "--nproc_per_node", str(launch.local_size()), *script])
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return shlex.join([python, *script])


@functools.cache  # what the process was started from does not change while it runs
def provenance() -> dict[str, str]:
    """The command, versions and git commit of this process, to be kept with its results."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = "unknown"
    return {
        "command": command(),
        "python": sys.version.split()[0],
        **{package: metadata.version(package) for package in ("torch", "torchvision", "numpy", "pillow")},
        "cuda": str(torch.version.cuda),
        "commit": commit,
    }


def machine() -> str:
    """The machine and the versions, in a line."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    has = [name for name in ("avx512f", "avx512_bf16", "amx_bf16") if f" {name}" in flags]
    model = next((line.split(":")[1].strip() for line in flags.splitlines() if line.startswith("model name")), "")
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()}"
    return (
        f"{model or platform.processor()} ({', '.join(has) or 'no AVX-512'}), {threads}, {gpu}; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
