"""Attributes that are switched off for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def switched_off(things: Iterable[object], switch: str) -> Iterator[None]:
    """Let the attribute `switch` of those things where it is true be false inside."""
    on = [thing for thing in things if getattr(thing, switch)]
    for thing in on:
        setattr(thing, switch, False)
    try:
        yield
    finally:
        for thing in on:
            setattr(thing, switch, True)
