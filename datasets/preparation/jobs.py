"""Work on many files over all cores, with a bar: what cannot be done is told at the end, all else is done."""

import collections
import errno
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import TypeVar

from tqdm import tqdm

from util.errors import Interrupted, UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
Outcome = tuple[Result | None, str | None]  # of a job: its result, or why there is none
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # which no other file would escape
CHUNK = 4  # jobs that a process takes at a time
WAITING = 4  # chunks for each process that it has or will have next
ASKED = 0.5  # seconds after which Ctrl-C is heeded where no job ends before


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
        KeyboardInterrupt: Ctrl-C or SIGTERM came; what was begun is whole.
    """
    results: list[Result | None] = []
    failures: list[str] = []
    tried = functools.partial(_tried, work)
    with tqdm(total=len(jobs), unit=unit, desc=what or None, disable=None) as bar:

        def take(outcome: Outcome) -> None:
            result, failure = outcome
            results.append(result)
            if failure is not None:
                failures.append(failure)
            elif keep is not None:
                keep(result)
            bar.update()

        with _Stop() as stop:
            if workers == 1 or len(jobs) <= CHUNK:
                for job in jobs:
                    take(tried(job))
                    stop.heed()
                return results, failures
            pool = ProcessPoolExecutor(min(workers, len(jobs)), initializer=_begin_work)
            try:
                for outcome in _in_order(pool, tried, jobs, WAITING * workers, stop):
                    take(outcome)
            except BrokenProcessPool:
                raise Interrupted(
                    "a process that prepares files is gone, often for want of memory: fewer --workers take less; what "
                    "was done is whole, and the same command goes on"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)
            stop.heed()  # which came while the last were taken
    return results, failures


def _in_order(
    pool: ProcessPoolExecutor,
    tried: Callable[[Job], Outcome],
    jobs: Sequence[Job],
    ahead: int,
    stop: "_Stop",
) -> Iterator[Outcome]:
    """Outcomes in the order of the jobs, of which the pool has `ahead` chunks at most: not a million at once."""
    chunks = (jobs[first : first + CHUNK] for first in range(0, len(jobs), CHUNK))
    waiting: collections.deque[Future] = collections.deque()
    while True:
        for chunk in itertools.islice(chunks, ahead - len(waiting)):
            waiting.append(pool.submit(_each, tried, chunk))
        if not waiting:
            return
        while not wait([waiting[0]], timeout=ASKED).done:
            stop.heed()
        stop.heed()
        yield from waiting.popleft().result()


def _each(tried: Callable[[Job], Outcome], jobs: Sequence[Job]) -> list[Outcome]:
    return [tried(job) for job in jobs]


class _Stop:
    """Ctrl-C and SIGTERM: heeded between jobs, and between the steps of a pool.

    An exception in the middle of one could leave a lock of its queues behind, for which all would wait for ever. Who
    asks again does not wait for what has begun.
    """

    def __enter__(self) -> "_Stop":
        self._came = False
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = True

    def heed(self) -> None:
        """Stop, if it was asked for.

        Raises:
            KeyboardInterrupt: it was.
        """
        if self._came:
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


def _tried(work: Callable[[Job], Result], job: Job) -> Outcome:
    try:
        return work(job), None
    except UserError as error:
        return None, str(error)
    except OSError as error:
        if error.errno in OF_THE_DISK:
            raise
        return None, f"{error.filename or job}: {error.strerror or error}"
