"""Mistakes of the user's that a message can explain: no traceback, exit code 2."""

import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2


class UserError(ValueError):
    """The message names the value, the rule it breaks and the way out."""


def run_main(main: Callable[[], None]) -> None:
    """Run a script's `main` and end the process: 0 when done, 2 with one message on a user's error."""
    try:
        main()
    except UserError as error:
        # A DataLoader worker wraps the message in its own traceback; the part after the last marker is ours.
        print(f"error: {str(error).rsplit('UserError: ', 1)[-1].strip()}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        print(f"error: {error.filename}: {error.strerror}; choose another place or change its rights", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    sys.exit(0)
