"""Names of result files."""

from collections.abc import Callable
from pathlib import Path


def unique_stems() -> Callable[[str], str]:
    """A function from input paths to names without extension, each given once.

    The stem of the file; where two files share it, the later one's folders stand in front: `b_street` for b/street.png.
    """
    given: set[str] = set()

    def stem(path: str) -> str:
        parts = Path(path).with_suffix("").parts
        name, depth = parts[-1], 1
        while name.casefold() in given:  # some file systems take A.png and a.png for one
            depth += 1
            if depth > len(parts):
                name = f"{name}_"
            else:
                name = "_".join(part.strip("/\\:") for part in parts[-depth:])
        given.add(name.casefold())
        return name

    return stem
