"""Ctrl-C and SIGTERM, with which schedulers announce that a run has to end: it may finish what it is at."""

import signal
import sys
import threading
import time
from types import FrameType, TracebackType

PATIENCE = 2.0  # seconds; launchers pass a signal on that processes got already


class Interruption:
    """Inside, SIGINT and SIGTERM are noted in `asked`; a second Ctrl-C ends at once, as it does outside."""

    def __init__(self) -> None:
        self.asked = False
        self._first = 0.0

    def __enter__(self) -> "Interruption":
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # others cannot
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
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
            name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
            print(
                f"{name}: this iteration is finished, then saved; Ctrl-C after {PATIENCE:.0f} s ends at once",
                file=sys.stderr,
            )
