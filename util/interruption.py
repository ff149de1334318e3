"""Ctrl-C and SIGTERM, with which schedulers announce that a run has to end: it may finish what it is at."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from util.errors import Interrupted

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
PATIENCE = 2.0  # seconds; launchers pass a signal on that processes got already


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Inside, while a run is prepared, there is nothing to finish.

    Raises:
        Interrupted: SIGINT or SIGTERM came.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # it is on its way out
        raise Interrupted(
            f"{SIGNALS[number]} before the first iteration: what was saved before is whole, and the same command "
            "starts again"
        )

    if threading.current_thread() is not threading.main_thread():  # others cannot
        yield
        return
    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_ignored() -> Iterator[None]:
    """Inside, what takes some seconds at the end of a process is not cut short by launchers that end all of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Interruption:
    """Inside, SIGINT and SIGTERM are noted in `asked`; a second Ctrl-C ends at once, as it does outside."""

    def __init__(self, what_follows: str = "this iteration is finished, then saved") -> None:
        self.asked = False
        self._what_follows = what_follows
        self._first = 0.0

    def __enter__(self) -> "Interruption":
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # others cannot
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and number == signal.SIGINT and now - self._first > PATIENCE:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._first = True, now
            print(
                f"{SIGNALS[number]}: {self._what_follows}; Ctrl-C after {PATIENCE:.0f} s ends at once",
                file=sys.stderr,
            )
