"""The processes that read data for this one: how many, and what signals mean to them."""

import atexit
import functools
import multiprocessing
import os
import signal

from util import launch
from util.distributed import speak_again


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Loader processes for this one: its share of the cores that may be used, less one for itself, at most 8."""
    return min(8, max(0, cores() // launch.local_size() - 1))


def begin_work(worker: int) -> None:
    """In a loader's process: be heard, and leave it to the main process what Ctrl-C and SIGTERM mean, which schedulers
    and launchers send to all processes alike."""
    speak_again()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@functools.cache  # once
def end_work_at_exit() -> None:
    """Kill the loader's processes when this one ends with them at work: Python would wait for them, and they for it."""

    def kill() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would say that one was killed
        for child in multiprocessing.active_children():
            child.kill()

    atexit.register(kill)
