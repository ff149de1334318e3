"""Manifests of checkpoints: `{epoch}_manifest.json` says which files a set has, by SHA-256, and where it comes from."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from util.errors import UserError
from util.files import flush_folder, take_place, write_beside


@dataclass(frozen=True)
class Manifest:
    """What is known of a set; of one without a manifest, such as released weights, nothing."""

    files: dict[str, str] = field(default_factory=dict)  # names to digests
    about: dict[str, str] = field(default_factory=dict)  # the same for files about the run, saved together with it
    iteration: int = 0  # how many the run had done
    run: str = ""  # the same for all sets of a run, however often it was resumed
    job: str = ""  # `launch.job()` of the processes that saved it
    order: int = 0  # 1 for a folder's first save, and so on: times can be wrong
    replaces: list[str] = field(default_factory=list)  # sets of another run, which this one's removes (--overwrite)


def name_of(epoch: str) -> str:
    """The manifest's file of checkpoint `epoch`."""
    return f"{epoch}_manifest.json"


def read(folder: Path, epoch: str) -> Manifest:
    """The manifest of a set; an empty one where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / name_of(epoch)
    try:
        held = json.loads(path.read_text())
        known = Manifest(
            files={str(k): str(v) for k, v in held["files"].items()},
            about={str(k): str(v) for k, v in held.get("about", {}).items()},
            iteration=int(held.get("iteration", 0)),
            run=str(held.get("run", "")),
            job=str(held.get("job", "")),
            order=int(held.get("order", 0)),
            replaces=[str(other) for other in held.get("replaces", [])],
        )
        # These become names of files that are written.
        strange = [name for name in known.files if not name.startswith(f"{epoch}_") or not _is_plain(name)]
        strange += [name for name in [*known.about, *known.replaces] if not _is_plain(name)]
        if strange:
            raise ValueError(f"it lists {strange[0]!r}")
        return known
    except FileNotFoundError:
        return Manifest()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to use the set's files as they are") from None


def read_if_whole(folder: Path, epoch: str) -> Manifest:
    """The same; a damaged one is as good as none."""
    try:
        return read(folder, epoch)
    except UserError:
        return Manifest()


def newest(folder: Path) -> Manifest:
    """That of the set which was saved last."""
    epochs = [path.name.removesuffix(name_of("")) for path in folder.glob(name_of("*"))]
    return max((read_if_whole(folder, epoch) for epoch in epochs), key=lambda known: known.order, default=Manifest())


def write_next(folder: Path, epoch: str, manifest: Manifest) -> None:
    """Write the next manifest of a set beside the present one.

    Raises:
        UserError: the disk is full or the folder is not writable; nothing is left beside.
    """
    flush_folder(folder)
    text = json.dumps({"epoch": epoch, **asdict(manifest)}, indent=1) + "\n"
    write_beside(folder / name_of(epoch), text.encode())


def decide(folder: Path, epoch: str) -> None:
    """Let it take its place: before this the old set is whole, after it the new one, whose files may still lie beside.

    Raises:
        UserError, OSError: the disk fails.
    """
    take_place(folder / name_of(epoch))
    flush_folder(folder)


def _is_plain(name: str) -> bool:
    """Whether it is a name inside the folder, and nothing that stands for several."""
    return Path(name).name == name and not name.startswith(".") and not set(name) & set("\\*?[")
