"""How flags are declared: switches that can be switched off again, and help that shows every default."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

from util.errors import UserError


class _CommandParser(argparse.ArgumentParser):
    """argparse without its page of usage in front of every mistake."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message} (--help lists its flags)")


def command_parser(prog: str, text: str) -> argparse.ArgumentParser:
    """The parser of a small command: one whose flags are none of train.py's or test.py's.

    Args:
        text: the module's docstring, which --help shows as it is.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    return _CommandParser(prog=prog, description=text, allow_abbrev=False, formatter_class=formatter)


def parse_bool(text: str) -> bool:
    """'true' or 'false' to a bool.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def parse_bool_or_auto(text: str) -> bool | str:
    """'true' or 'false' to a bool, 'auto' as it is.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return text if text == "auto" else parse_bool(text)


def positive(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return _at_least(1, text)


def positive_or_inf(text: str) -> int | None:
    """A whole number of at least 1; `inf` is None, no limit.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return None if text == "inf" else _at_least(1, text)


def at_least_2(text: str) -> int:
    """A whole number of at least 2.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return _at_least(2, text)


def natural(text: str) -> int:
    """A whole number of at least 0.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return _at_least(0, text)


def positive_float(text: str) -> float:
    """A finite number above 0.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return _number(text, lambda value: value > 0, "a number above 0")


def nonnegative_float(text: str) -> float:
    """A finite number of at least 0.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return _number(text, lambda value: value >= 0, "a number of at least 0")


def fraction(text: str) -> float:
    """A number of at least 0 and below 1.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return _number(text, lambda value: 0 <= value < 1, "a number of at least 0 and below 1")


def _number(text: str, allowed: Callable[[float], bool], rule: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not allowed(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {rule}")
    return value


def _at_least(lowest: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = lowest - 1
    if value < lowest:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {lowest}")
    return value


def add_switch(group: argparse._ActionsContainer, name: str, help: str) -> None:
    """A flag that is false until given. `--flag false` switches off what a data set or an option file switched on."""
    group.add_argument(name, nargs="?", const=True, default=False, type=parse_bool, metavar="true|false", help=help)


class HelpFormatter(argparse.HelpFormatter):
    """Adds each flag's default in force, and leaves 'no default' (None, false) out."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        silent = any(action.default is none for none in (None, False, argparse.SUPPRESS)) or "%(default)s" in text
        return text if silent else f"{text} (default: %(default)s)"
