"""Lists of image files: natural order, and a cache that notices changed folders."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.path_table import PathTable
from util.errors import UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp"}
CACHE_NAME = "files.list"
NUMBER = re.compile(r"\d+")
OTHER = 4
KINDS = np.zeros(256, np.uint8)  # of a byte of a name: what cuts it into texts and numbers, or is not ASCII
KINDS[[*b"0123456789"]], KINDS[ord(".")], KINDS[[*b"/\\"]], KINDS[128:], KINDS[0] = 1, 2, 3, OTHER, 5


def natural_order(paths: Iterable[str]) -> PathTable:
    """Paths sorted with their numbers by value: img2 before img10."""
    if isinstance(paths, PathTable) and paths.natural:
        return paths
    paths = list(paths)
    if _are_alike(PathTable(paths)):
        return PathTable(sorted(paths), natural=True)
    folders: dict[str, str] = {}

    def key(path: str) -> tuple[str, str]:
        folder, name = path[: path.rfind(os.sep) + 1], path[path.rfind(os.sep) + 1 :]
        if folder not in folders:
            folders[folder] = NUMBER.sub(_sortable, folder)
        # Without the extension, so that a.png and a.b.png stand as a.jpg and a.b.jpg do.
        stem = NUMBER.sub(_sortable, os.path.splitext(name)[0])
        return f"{folders[folder]}{stem}\0", path  # the path decides a1 and a01

    return PathTable([path for _, path in sorted(map(key, paths))], natural=True)


def _sortable(number: re.Match) -> str:
    """A number as text that sorts by value: how many digits it has, then these.

    The 0 in front ends the text before it, as the one at a key's end ends the last: a text that begins another is less.
    """
    digits = str(int(number[0]))
    return f"\0{chr(len(digits))}{digits}"


def _are_alike(paths: PathTable) -> bool:
    """Whether names differ in nothing but letters and digits at fixed places, so that plain order is natural order."""
    length = len(paths.bytes) // max(1, len(paths))
    if not len(paths) or length * len(paths) != len(paths.bytes):
        return False
    kinds = KINDS[paths.bytes].reshape(len(paths), length)
    return bool((kinds == kinds[0]).all()) and not (kinds[0] == OTHER).any()


def list_images(root: str, recursive: bool = False, cache_read: bool = False, cache_write: bool = False) -> PathTable:
    """Image files under `root` in natural order; hidden files are left out.

    With `cache_read` the list comes from root/files.list where that is there and no folder in it has changed since;
    with `cache_write` a scan leaves that file behind. What it lists lies under `root`; links there are followed.

    Raises:
        UserError: `root` is no folder.
    """
    if not os.path.isdir(root):
        raise UserError(f"{root} is not a folder; check the path that was given, as by --dataroot or --label_dir")
    cached = _read_cache(root, recursive) if cache_read else None
    if cached is not None:
        return cached
    found, folders, endings = [], [], tuple(EXTENSIONS)
    for folder, subfolders, names in os.walk(root, followlinks=True):
        if folder != root and leads_up(folder):
            subfolders.clear()
            continue
        folders.append(folder)
        subfolders[:] = sorted(subfolders) if recursive else []
        inside = os.path.join(folder, "")
        found += [inside + name for name in names if not name.startswith(".") and name.lower().endswith(endings)]
    found = natural_order(found)
    if cache_write:
        _write_cache(root, recursive, folders, found)
    return found


def leads_up(folder: str) -> bool:
    """Whether a folder is a link to one above it, in which a walk would go round for ever."""
    above, target = os.path.realpath(os.path.dirname(folder)), os.path.realpath(folder)
    return os.path.commonpath([above, target]) == target


def _leads_down(name: str) -> bool:
    """Whether a name that is joined to a folder stays in it."""
    return not os.path.isabs(name) and not os.path.splitdrive(name)[0] and ".." not in Path(name).parts


def _write_cache(root: str, recursive: bool, folders: list[str], files: PathTable) -> None:
    path = Path(root, CACHE_NAME)
    try:
        path.touch()  # first, since creating a file changes its folder's time and writing into it does not
        content = {
            "recursive": recursive,
            "folders": {os.path.relpath(f, root): os.stat(f).st_mtime_ns for f in folders},
            "files": [f[len(os.path.join(root, "")) :] for f in files],
        }
        path.write_text(json.dumps(content))
    except OSError as error:
        raise UserError(f"--cache_filelist_write: {path} cannot be written ({error.strerror}); drop the flag") from None


def _read_cache(root: str, recursive: bool) -> PathTable | None:
    """The cached list, or None where there is none that still holds."""
    try:
        content = json.loads(Path(root, CACHE_NAME).read_text())
        if not all(map(_leads_down, (*content["folders"], *content["files"]))):
            return None  # whoever made the folder decides about nothing outside it
        unchanged = content["recursive"] == recursive and all(
            os.stat(os.path.join(root, folder)).st_mtime_ns == time for folder, time in content["folders"].items()
        )
        return PathTable([os.path.join(root, name) for name in content["files"]]) if unchanged else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # no cache, another program's files.list, or one cut short: scan
