"""Mistakes of the user's that a message can explain: no traceback, exit code 2."""

import errno
import io
import sys
import unicodedata
from collections.abc import Callable, Sequence

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # can be resumed; sysexits.h calls it a temporary failure
EXIT_STOPPED = 130  # as shells count Ctrl-C
SAVED = "what was saved before is whole: train.py goes on from it with --continue_train auto"
WAYS_OUT = {
    errno.ENOSPC: "make room",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise ulimit -n",
    errno.EPIPE: "what read the output has ended; let it read to the end, or write to a file",
}


class UserError(ValueError):
    """The message names the value, the rule it breaks and the way out: exit code 2."""

    code = EXIT_USER_ERROR


class Interrupted(Exception):
    """The run ended before it was done, by nobody's mistake, and can be resumed: exit code 75."""

    code = EXIT_INTERRUPTED


def first_few(names: Sequence[str], count: int = 3) -> str:
    """Names for a message: 'a, b, c and 4 more'."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def printable(text: str) -> str:
    """Text, such as a file's name, on one line that a terminal shows and does not obey: `a\\nb` for a, new line, b."""
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _shown(message: str) -> str:
    """A message without what a terminal obeys, such as a file's name may hold; line ends stay."""
    obeyed = ("Cc", "Cf")  # control characters, and those that turn the direction of text
    return "".join(printable(c) if unicodedata.category(c) in obeyed and c != "\n" else c for c in message)


def readable(error: BaseException | None) -> "UserError | Interrupted | None":
    """An error as what a person can do about it; None for one that is our own fault, and for none."""
    if isinstance(error, Interrupted):
        return error
    if isinstance(error, UserError):
        # A DataLoader worker wraps the message in its own traceback; the part after the last marker is ours.
        return UserError(str(error).rsplit("UserError: ", 1)[-1].strip())
    if isinstance(error, OSError):  # a full disk, a folder without rights, a name that is too long
        where = f"{error.filename}: " if error.filename else ""
        way_out = WAYS_OUT.get(error.errno, "choose another place, or change its rights")
        return UserError(f"{where}{error.strerror or error}; {way_out}")
    if not isinstance(error, MemoryError | RuntimeError):
        return None
    first = str(error).splitlines()[0] if str(error) else "on this machine"
    if "shared memory" in str(error):  # a loader's process was killed
        ways_out = "give the container more (docker run --shm-size=8g), or pass --nThreads 0"
        return UserError(f"too little shared memory ({first}); {ways_out}")
    if first.startswith("DataLoader worker") and ("killed by signal" in first or "exited unexpectedly" in first):
        why = "often for want of memory: fewer --nThreads take less"
        return Interrupted(f"a process that reads data is gone ({first.strip('. ')}), {why}; {SAVED}")
    if _is_out_of_memory(error):
        ways_out = "a smaller --batchSize, --crop_size or --ngf takes less, docs/questions.md has a table"
        return UserError(f"out of memory ({first}); {ways_out}; what was saved before is whole")
    return None


def run_main(main: Callable[[], None]) -> None:
    """Run a script's `main` and end the process.

    The status is 0 when done, 2 with one message on a user's error, 75 where training was interrupted and can be
    resumed, 130 where Ctrl-C stopped at once.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files may be of characters that a terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted: what was saved before is whole", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    except Exception as error:
        known = readable(error)
        if known is None:
            raise
        kind = "interrupted" if isinstance(known, Interrupted) else "error"
        print(f"{kind}: {_shown(str(known))}", file=sys.stderr)
        sys.exit(known.code)
    sys.exit(0)


def _is_out_of_memory(error: Exception) -> bool:
    """GPUs have a class for it in PyTorch, its CPU allocator has a plain RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in str(error) for words in ("can't allocate memory", "Cannot allocate memory"))
    )
