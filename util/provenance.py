"""Where a result came from."""

import functools
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch


def command() -> str:
    """What this process was called with, to be pasted into a shell."""
    return shlex.join(sys.argv)


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
