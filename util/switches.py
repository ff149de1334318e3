"""Attributes that are switched off for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def switched_off(things: Iterable[object], switch: str) -> Iterator[None]:
    """Let the attribute `switch` of these things be false inside, or 0 where it is a number."""
    before = [(thing, getattr(thing, switch)) for thing in things]
    for thing, value in before:
        setattr(thing, switch, type(value)())
    try:
        yield
    finally:
        for thing, value in before:
            setattr(thing, switch, value)
