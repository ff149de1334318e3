"""MATLAB files before 7.3. scipy's reader crashes on some damaged ones, so that it works in a process of its own."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.io import loadmat

from util.errors import UserError

Result = TypeVar("Result")


def read_matlab(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Variables of a file.

    Raises:
        UserError: it is not there, damaged or of another kind, or lacks one.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; give the path of the downloaded one")
    try:
        return _apart(_variables, path, names)
    except ValueError as error:
        raise UserError(f"{path} is no MATLAB file with {' and '.join(names)} ({error}); download it again") from None


def read_texts(content: bytes, structure: str, field: str) -> list[str]:
    """The texts of a cell array that is a field of a structure, of a file's content.

    Raises:
        ValueError: it is damaged or of another kind, or lacks them.
    """
    return _apart(_texts, content, structure, field)


def _variables(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    held = loadmat(path, variable_names=names)
    return {name: np.asarray(held[name]) for name in names}


def _texts(content: bytes, structure: str, field: str) -> list[str]:
    held = loadmat(io.BytesIO(content), variable_names=[structure], simplify_cells=True)
    return [str(text) for text in np.atleast_1d(held[structure][field])]


def _apart(read: Callable[..., Result], *given: object) -> Result:
    """What `read(*given)` returns in another process.

    Raises:
        ValueError: of whatever it raises, and of its crash.
    """
    try:
        with ProcessPoolExecutor(1) as pool:
            return pool.submit(read, *given).result()
    except BrokenProcessPool:
        raise ValueError("its reader crashed") from None
    except Exception as error:  # the reader says anything of bytes that it does not expect
        raise ValueError(f"it has no {error}" if isinstance(error, KeyError) else str(error)) from None
