"""Names of result files."""

import hashlib
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

LONGEST = 200  # bytes of a name: file systems take 255, and endings such as `_s00.png.tmp` come behind


def unique_stems() -> Callable[[str], str]:
    """A function from input paths to names without extension, each given once, which lead to no other folder.

    The stem of the file; where two files share it, the later one's folders stand in front: `b_street` for b/street.png.
    One that is too long ends in a digest of itself.
    """
    given: set[str] = set()

    def stem(path: str) -> str:
        parts = Path(os.path.splitext(path)[0]).parts
        name, depth = parts[-1], 1
        while _alike(_short(name)) in given:
            depth += 1
            if depth > len(parts):
                name = f"{name}_"
            else:
                name = "_".join(part.strip("/\\:") for part in parts[-depth:])
        name = _short(name)
        given.add(_alike(name))
        return name

    return stem


def _alike(name: str) -> str:
    """What some file systems compare: they take A.png and a.png for one, and an accent as a character of its own."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _short(name: str) -> str:
    if len(os.fsencode(name)) <= LONGEST:
        return name
    ending = f"_{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"
    while len(os.fsencode(name + ending)) > LONGEST:
        name = name[:-1]
    return name + ending
