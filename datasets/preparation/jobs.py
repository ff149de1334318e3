"""Work on many files over all cores, with a bar: what cannot be done is told at the end, all else is done."""

import errno
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import TypeVar

from tqdm import tqdm

from util.errors import Interrupted, UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # which no other file would escape
CHUNK = 4  # jobs that a process takes at a time


def run_all(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    unit: str = "file",
    what: str = "",
    keep: Callable[[Result], None] | None = None,
) -> tuple[list[Result | None], list[str]]:
    """`work(job)` for all jobs, each in one of several processes.

    Args:
        work: a function of a module, or functools.partial of one, whose arguments can be pickled.
        unit: what the bar counts.
        what: a word in front of the bar.
        keep: takes each result as it comes, in the order of the jobs, in this process.

    Returns:
        The results in the order of the jobs, None for those that raised a UserError, and what these said.

    Raises:
        OSError: the disk is full, or the folder is not writable.
        Interrupted: a process was killed from outside.
    """
    results: list[Result | None] = []
    failures: list[str] = []
    tried = functools.partial(_tried, work)
    with tqdm(total=len(jobs), unit=unit, desc=what or None, disable=None) as bar:

        def take(outcome: tuple[Result | None, str | None]) -> None:
            result, failure = outcome
            results.append(result)
            if failure is not None:
                failures.append(failure)
            elif keep is not None:
                keep(result)
            bar.update()

        if workers == 1 or len(jobs) <= CHUNK:
            for job in jobs:
                take(tried(job))
            return results, failures
        before = signal.signal(signal.SIGTERM, _stop)
        pool = ProcessPoolExecutor(min(workers, len(jobs)), initializer=_begin_work)
        try:
            for outcome in pool.map(tried, jobs, chunksize=CHUNK):
                take(outcome)
        except BrokenProcessPool:
            raise Interrupted(
                "a process that prepares files is gone, often for want of memory: fewer --workers take less; what was "
                "done is whole, and the same command goes on"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
            signal.signal(signal.SIGTERM, before)
    return results, failures


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _begin_work() -> None:
    """Leave it to the first process what Ctrl-C means, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    first = multiprocessing.parent_process()

    def follow() -> None:
        if first is not None:
            first.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _tried(work: Callable[[Job], Result], job: Job) -> tuple[Result | None, str | None]:
    try:
        return work(job), None
    except UserError as error:
        return None, str(error)
    except OSError as error:
        if error.errno in OF_THE_DISK:
            raise
        return None, f"{error.filename or job}: {error.strerror or error}"
