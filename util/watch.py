"""Signs of life of all processes of a run, so that one that is lost, stopped or hanging gets named, and the others end.

Each process writes a counter and what it is about to do into a store that rank 0 keeps, every few seconds, and reads
the others'. A process whose counter has stood still for too long, by the reader's clock, is lost.
"""

import datetime
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from torch.distributed import DistError, Store, TCPStore

from util import launch
from util.errors import EXIT_INTERRUPTED, SAVED, Interrupted, UserError, readable
from util.interruption import sigterm_ignored

ENDED = "ended"
NO_SIGN = "0|?||starting"
PORT = "port of the signs of life"
LONGEST_INTERVAL = 1.5  # seconds between two signs of life; torchrun kills 30 s after one process is gone
GONE = float("-inf")  # when rank 0, which keeps the store, was heard last, once its end of the connection is closed


@dataclass
class _Sign:
    """What was last heard of a process, and when."""

    text: str
    time: float

    @property
    def fields(self) -> list[str]:
        """Its counter or `ended`; host and pid; status, once it has ended; place or last message."""
        return self.text.split("|", 3)

    @property
    def ended(self) -> bool:
        return self.fields[0] == ENDED

    @property
    def status(self) -> int:
        return int(self.fields[2] or 0)


class Watch:
    """Around a run of several processes.

    Raises, at its end, instead of an error that only says that some other process is gone:
        Interrupted: a process is lost, or a collective took too long; the message says who, or where each one is.
        SystemExit: another process has ended with a message of its own; with that one's status.
    """

    def __init__(self, rank: int, size: int, timeout: float, shared: Store) -> None:
        """`timeout`: seconds without a sign of life; `shared`: where all find the store that rank 0 keeps."""
        self.rank, self.size, self.timeout = rank, size, timeout
        self.interval = min(LONGEST_INTERVAL, timeout / 8)
        self.silence = 4 * self.interval + 1  # after which a process counts as lost once a collective has failed
        self.place = "starting"  # what this process is about to do
        host, patience = os.environ.get("MASTER_ADDR", "127.0.0.1"), datetime.timedelta(seconds=timeout)
        if rank == 0:
            self._store = TCPStore(host, 0, is_master=True, timeout=patience, wait_for_workers=False)
            for r in range(size):  # so that nobody has to wait for another's first sign
                self._store.set(str(r), NO_SIGN)
            shared.set(PORT, str(self._store.port))
        else:
            self._store = TCPStore(host, int(shared.get(PORT)), is_master=False, timeout=patience)
        now = time.monotonic()
        self._signs = [_Sign(NO_SIGN, now) for _ in range(size)]
        self._heard = now
        self._end: str | None = None
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._judge)]

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with sigterm_ignored():
            shown = self._explain(error) if _is_of_others(error) else readable(error)
            own = shown if shown is not None else error
            if isinstance(own, UserError | Interrupted) and self.rank > 0 and not _is_of_others(error):
                # Where all make the same mistake, the first says it.
                said = self._said_by_first(str(own))
                shown = SystemExit(own.code) if said else type(own)(f"rank {self.rank} ({launch.host()}): {own}")
            self._say_end(_status_of(own), "" if own is None else str(own))
            if self.rank == 0:  # it keeps the store, in which the others leave their ends and look for its own
                patience = self.timeout if error is None else 6 * self.interval
                lost = [r for r, _ in self._lost(self.silence)] if error is not None else []
                self._wait_for(lambda: all(s.ended for r, s in enumerate(self._signs) if r not in lost), patience)
            self._stopped.set()
            for thread in self._threads:  # one that still is in the store when Python ends would abort the process
                thread.join(3 * self.interval)
        if shown is not None:
            raise shown from None

    # -------------------------------------------------------------------------------------------------------- signs

    def _beat(self) -> None:
        """Give signs and read the others', until the end. The store may keep this thread waiting for ever."""
        keys, counter, who = [str(r) for r in range(self.size)], 0, f"{launch.host()}, pid {os.getpid()}"
        try:
            while not self._stopped.is_set():
                counter += 1
                end = self._end
                sign = f"{counter}|{who}||{self.place}" if end is None else f"{ENDED}|{who}|{end}"
                self._store.set(keys[self.rank], sign)
                if end is not None and self.rank > 0:
                    return  # rank 0 may end now, and the store with it
                values = [value.decode() for value in self._store.multi_get(keys)]
                now = self._heard = time.monotonic()
                for known, text in zip(self._signs, values, strict=True):
                    if known.text != text:
                        known.text, known.time = text, now
                if end is None:
                    self._wake.wait(self.interval)
                else:  # where it stays set
                    self._stopped.wait(0.05)
        except (DistError, RuntimeError):
            self._heard = GONE

    def _judge(self) -> None:
        """End this process where another is lost, or has failed and left this one waiting."""
        looked = time.monotonic()
        while not self._stopped.wait(self.interval):
            before, looked = looked, time.monotonic()
            if looked - before > self.interval + self.timeout / 2:  # this process itself was stopped, as by Ctrl-Z
                self._heard = looked
                for sign in self._signs:
                    sign.time = looked
            verdict = self._verdict(self.timeout)
            if verdict is None:
                continue
            # Usually its own collective fails now, and says so by itself; what still waits then will wait for ever.
            if isinstance(verdict, SystemExit) and not self._stopped.wait(4 * self.interval):
                verdict = self._verdict(self.timeout) or verdict
            if self._stopped.is_set() or self._end is not None:
                return
            if isinstance(verdict, Interrupted) and self._speaks():
                print(f"interrupted: {verdict}", file=sys.__stderr__, flush=True)
            os._exit(verdict.code)

    def _verdict(self, timeout: float) -> Interrupted | SystemExit | None:
        """What is wrong with the others, if anything."""
        now = time.monotonic()
        if now - self._heard > timeout:
            gone = "is gone" if self._heard == GONE else f"has {_silent(timeout)}"
            return Interrupted(f"{self._name(0, self._signs[0])}, which the others report to, {gone}; {SAVED}")
        failed = [(r, sign) for r, sign in enumerate(self._signs) if sign.ended and sign.status]
        if failed:
            return SystemExit(failed[0][1].status)
        lost = self._lost(timeout)
        if lost:
            names = "; ".join(f"{self._name(r, sign)} has {_silent(timeout)}" for r, sign in lost)
            return Interrupted(f"{names}; {SAVED}")
        return None

    def _lost(self, timeout: float) -> list[tuple[int, _Sign]]:
        """Who has been silent for longer than `timeout` seconds and has not ended: ranks and last signs."""
        now = time.monotonic()
        return [(r, sign) for r, sign in enumerate(self._signs) if not sign.ended and now - sign.time > timeout]

    def _explain(self, error: BaseException) -> Interrupted | SystemExit:
        """What made a collective fail with this error."""
        begun = time.monotonic()
        while time.monotonic() - begun < 2 * self.silence:
            verdict = self._verdict(self.silence)
            if verdict is not None:
                return verdict if self._speaks() or isinstance(verdict, SystemExit) else SystemExit(EXIT_INTERRUPTED)
            time.sleep(self.interval / 4)
        places = "; ".join(f"{self._name(r, sign)}" for r, sign in enumerate(self._signs))
        what = (str(error).splitlines() or [type(error).__name__])[0]
        verdict = Interrupted(
            f"the processes waited for each other in vain, though none is lost: {places} ({what}); {SAVED}"
        )
        return verdict if self._speaks() else SystemExit(EXIT_INTERRUPTED)

    def _speaks(self) -> bool:
        """Whether this process is the one that says it: the first that is left."""
        now = time.monotonic()
        alive = [r for r, sign in enumerate(self._signs) if now - sign.time <= self.silence or r == self.rank]
        return self.rank == alive[0] or (alive[0] == 0 and now - self._heard > self.timeout and self.rank == 1)

    def _said_by_first(self, message: str) -> bool:
        """Whether rank 0 has ended with the same message, as it does where all find the same mistake."""
        said = lambda: self._signs[0].ended and self._signs[0].fields[3] == message  # noqa: E731
        self._wait_for(said)
        return said()

    def _say_end(self, status: int, message: str) -> None:
        self._end = f"{status}|{message}"
        self._wake.set()
        self._threads[0].join(3 * self.interval if self.rank > 0 else 0)

    def _wait_for(self, condition: Callable[[], bool], patience: float | None = None) -> None:
        begun = time.monotonic()
        while not condition() and time.monotonic() - begun < (patience or 5 * self.interval):
            time.sleep(0.02)

    @staticmethod
    def _name(rank: int, sign: _Sign) -> str:
        _, who, _, place = sign.fields
        return f"rank {rank} ({who}; {ENDED if sign.ended else place})"


def _status_of(error: BaseException | None) -> int:
    """What the process will end with."""
    if error is None:
        return 0
    code = getattr(error, "code", 1) or 0
    return code if isinstance(code, int) else 1


def _silent(timeout: float) -> str:
    return f"given no sign of life for {timeout:.0f} s"


def _is_of_others(error: BaseException | None) -> bool:
    """Whether an error says no more than that a collective failed."""
    return isinstance(error, DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "Connection closed"))
    )
