"""Checkpoint files: atomic writes, strict reads.

A checkpoint `latest` or an epoch is one set: `{epoch}_net_{G,D,E}.pth`, plain state dicts under SPADE's names and keys,
and beside them `{epoch}_net_G_ema.pth`, a moving average with the same keys, where training keeps one;
`{epoch}_state.pth`, what else resuming needs; and a manifest (`util/manifest.py`). Beside the sets lie files about the
run, such as opt.json, which describes the weights saved last and is replaced together with them.
"""

import contextlib
import difflib
import hashlib
import os
import pickle
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn

from util import launch, manifest
from util.errors import UserError
from util.files import DiskFull, beside, flush_folder, megabytes, sha256, take_place, write_beside
from util.manifest import Manifest


class Stateful(Protocol):
    """A network, or what is saved like one."""

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> Any: ...


NOTHING: Mapping[str, bytes | None] = MappingProxyType({})
SHOWN_NAMES = 8  # experiments that an error lists, the nearest first
SHOWN_KEYS = 6  # differences that an error lists before it only counts
GONE = hashlib.sha256(b"").hexdigest()  # an empty file beside one about the run stands for its removal
PREVIOUS = "previous"  # the name of what `latest` was before
WEIGHTS = ("plain", "ema")  # what a checkpoint may hold of a network


def save_set(
    folder: Path,
    epoch: str,
    networks: Mapping[str, Stateful],
    state: dict[str, Any],
    about: Mapping[str, bytes | None] = NOTHING,
    keep: str = "",
    run: str = "",
    replaces: Collection[str] = (),
) -> None:
    """Write checkpoint `epoch`: the networks' state dicts, the training state, and their manifest.

    Args:
        about: files about the run, which take their places together with the set; None: to be removed.
        keep: the name under which the set that it replaces is kept, if any.
        run: which run it is of, for the manifest.
        replaces: sets of another run, for `remove_replaced`.

    Raises:
        UserError: the disk is full or the folder is not writable; the set of that name from before is still whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _finish_save(folder, epoch)
    _remove_leftovers(folder)
    contents: dict[str, Any] = {f"{epoch}_net_{letter}.pth": net.state_dict() for letter, net in networks.items()}
    contents[f"{epoch}_state.pth"] = state
    with _all_or_nothing(folder, [*contents, *about], sum(map(size_of, contents.values()))):
        for name, content in contents.items():
            write_beside(folder / name, lambda file, content=content: torch.save(plain(content), file))
        for name, content in about.items():
            write_beside(folder / name, content or b"")
        written = Manifest(
            files={name: sha256(beside(folder / name)) for name in contents},
            about={name: sha256(beside(folder / name)) for name in about},
            iteration=state.get("iteration", 0),
            run=run,
            job=launch.job(),
            order=manifest.newest(folder).order + 1,
            replaces=list(replaces),
        )
        if keep:
            _keep(folder, epoch, keep, written)
            written = replace(written, order=written.order + 1)
        manifest.write_next(folder, epoch, written)
    manifest.decide(folder, epoch)
    _finish_about(folder)
    for name in contents:
        take_place(folder / name)
    flush_folder(folder)
    _remove_others(folder, epoch, contents)


def size_of(content: Any) -> int:
    """Bytes of the tensors in what is saved."""
    if torch.is_tensor(content):
        return content.numel() * content.element_size()
    values = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    return sum(map(size_of, values))


def _keep(folder: Path, epoch: str, name: str, next_one: Manifest) -> None:
    """Let the present set of this name be kept under another, unless the next one says the same."""
    present = manifest.read_if_whole(folder, epoch)
    files = present.files
    if files and next_one.iteration != present.iteration and all((folder / file).exists() for file in files):
        copy_set(folder, epoch, name)


def _finish_save(folder: Path, epoch: str) -> None:
    """Let the files of a save that was interrupted after its manifest take their places."""
    for name, digest in manifest.read_if_whole(folder, epoch).files.items():
        if _waits_beside(folder / name, digest):
            take_place(folder / name)
    _finish_about(folder)


def _finish_about(folder: Path) -> None:
    """The same for the files about the run that belong to the last save."""
    for name, digest in manifest.newest(folder).about.items():
        if _waits_beside(folder / name, digest):
            take_place(folder / name)
            if digest == GONE:
                (folder / name).unlink()


def file_about(folder: Path, name: str) -> Path | None:
    """The file to read what is known about the run from, also where the last save was interrupted; None: none."""
    path = folder / name
    digest = manifest.newest(folder).about.get(name) if beside(path).exists() else None
    if digest is not None and _waits_beside(path, digest):
        return None if digest == GONE else beside(path)
    return path if path.exists() else None


@contextlib.contextmanager
def _all_or_nothing(folder: Path, names: Iterable[str], needed: int = 0) -> Iterator[None]:
    """Around what is written beside these files up to the manifest: where that fails nothing of it stays, so that there
    is room for another attempt. `needed`: bytes of all of it, for the message of a full disk."""
    free = shutil.disk_usage(folder).free
    try:
        yield
    except UserError as error:
        for name in names:
            beside(folder / name).unlink(missing_ok=True)
        if isinstance(error, DiskFull):
            room = f"; a checkpoint needs {megabytes(needed)}, and {megabytes(free)} were free" if needed else ""
            raise DiskFull(f"{error}{room}") from None
        raise


def _remove_leftovers(folder: Path) -> None:
    """Delete what saves that were killed have left beside, unless its manifest waits for it."""
    for temporary in [*folder.glob("*_net_*.pth.tmp"), *folder.glob("*_state.pth.tmp")]:
        path = temporary.with_name(temporary.name.removesuffix(".tmp"))
        epoch = path.name.split("_net_")[0].removesuffix("_state.pth")
        digest = manifest.read_if_whole(folder, epoch).files.get(path.name)
        if digest is None or not _waits_beside(path, digest):
            temporary.unlink()


def copy_set(folder: Path, source: str, target: str, keep: str = "") -> None:
    """Make checkpoint `target` the same as `source`, without a second copy of its bytes where the disk can link.

    `keep`: as of `save_set`.
    """
    _finish_save(folder, target)
    original = manifest.read(folder, source)
    copies = {name: target + name.removeprefix(source) for name in original.files}
    with _all_or_nothing(folder, copies.values()):
        for name, copied in copies.items():
            temporary = beside(folder / copied)
            temporary.unlink(missing_ok=True)
            try:
                os.link(folder / name, temporary)
            except OSError:
                with open(folder / name, "rb") as opened:
                    write_beside(folder / copied, lambda file, opened=opened: shutil.copyfileobj(opened, file))
        if keep:
            _keep(folder, target, keep, original)
        files = {copied: original.files[name] for name, copied in copies.items()}
        order = manifest.newest(folder).order + 1
        manifest.write_next(folder, target, replace(original, files=files, order=order))
    manifest.decide(folder, target)
    for copied in copies.values():
        take_place(folder / copied)
    flush_folder(folder)
    _remove_others(folder, target, copies.values())


def _remove_others(folder: Path, epoch: str, names: Collection[str]) -> None:
    """Delete networks that an older set of this name had and the new one has not, such as a moving average."""
    for path in folder.glob(f"{epoch}_net_*.pth"):
        if path.name not in names:
            path.unlink()


def remove_oldest(folder: Path, count: int) -> list[str]:
    """Delete the numbered checkpoints that were saved first, all but `count`, and return their names.

    Not those of the lowest numbers: a run that went back to an epoch saves low numbers anew.
    """

    def saved(epoch: str) -> tuple[int, int]:
        return manifest.read_if_whole(folder, epoch).order, int(epoch)

    gone = sorted((epoch for epoch in checkpoints_in(folder) if epoch.isdigit()), key=saved)[:-count]
    for epoch in gone:
        remove_set(folder, epoch)
    return gone


def remove_replaced(folder: Path, epoch: str) -> None:
    """Delete the sets of another run that this one replaces, where they are still there (--overwrite)."""
    known = manifest.read_if_whole(folder, epoch)
    for other in known.replaces:
        if manifest.read_if_whole(folder, other).run != known.run:
            remove_set(folder, other)


def remove_set(folder: Path, epoch: str) -> None:
    """Delete checkpoint `epoch`."""
    for path in [*folder.glob(f"{epoch}_net_*.pth"), folder / f"{epoch}_state.pth", folder / manifest.name_of(epoch)]:
        path.unlink(missing_ok=True)


def check_set(folder: Path, epoch: str) -> None:
    """Compare a set with its manifest, and finish replacing it where that was interrupted.

    A set without a manifest (released weights) passes.

    Raises:
        UserError: a file is missing or is not the one that was saved.
    """
    for name, digest in manifest.read(folder, epoch).files.items():
        path = folder / name
        if _waits_beside(path, digest):
            take_place(path)
            continue
        if path.exists() and sha256(path) == digest:
            continue
        what = "damaged or from another save" if path.exists() else "missing"
        raise UserError(
            f"{path} is {what} according to {manifest.name_of(epoch)} (--which_epoch takes another; without the "
            "manifest the files are used as they are)"
        )


def newest_whole(folder: Path, epoch: str) -> str:
    """The checkpoint to resume where `epoch` is asked for: itself, or, where `latest` is damaged or not there, the one
    before it: `previous`, else the newest that is no newer.

    Raises:
        UserError: it is damaged or not there, and no other would do.
    """
    try:
        if epoch not in checkpoints_in(folder) and not manifest.read(folder, epoch).files:
            raise no_checkpoint(folder, epoch)
        check_set(folder, epoch)
        _finish_about(folder)
        remove_replaced(folder, epoch)
        return epoch
    except UserError as error:
        if epoch != "latest":
            raise
        damage = error
    known = manifest.read_if_whole(folder, epoch)
    others = {name: manifest.read_if_whole(folder, name) for name in checkpoints_in(folder) if name != epoch}
    highest = known.iteration  # later ones are of a run that was gone back from
    iterations = {
        name: other.iteration
        for name, other in others.items()
        if 0 < other.iteration <= (highest or other.iteration) and (other.run == known.run or not known.run)
    }
    for other in sorted(iterations, key=lambda name: (name == PREVIOUS, iterations[name]), reverse=True):
        with contextlib.suppress(UserError):
            check_set(folder, other)
            print(f"warning: {damage}. Going on from {folder / other}_* instead", file=sys.stderr)
            return other
    raise damage


def _waits_beside(path: Path, digest: str) -> bool:
    """Whether the save that the manifest speaks of was interrupted before this file took its place."""
    return beside(path).exists() and sha256(beside(path)) == digest


def plain(value: Any) -> Any:
    """A value with all tensors in it on the CPU and contiguous, so that files do not depend on the layout in use."""
    if torch.is_tensor(value):
        value = value.detach().cpu()
        usual = torch.empty(value.shape, device="meta").stride()
        return value if value.stride() == usual else value.clone(memory_format=torch.contiguous_format)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def checkpoints_in(folder: Path) -> list[str]:
    """The epochs of which `folder` holds networks, in order, `latest` last."""
    found = {path.name.split("_net_")[0] for path in folder.glob("*_net_*.pth")}

    def place(epoch: str) -> tuple[bool, bool, int, str]:
        return epoch == "latest", not epoch.isdigit(), int(epoch) if epoch.isdigit() else 0, epoch

    return sorted(found, key=place)


def averages_in(folder: Path) -> list[str]:
    """The epochs of which `folder` holds moving averages, in order, `latest` last."""
    return [epoch for epoch in checkpoints_in(folder) if any(folder.glob(f"{epoch}_net_{average_of('*')}.pth"))]


def require_checkpoint(folder: Path, epoch: str, weights: str = "plain") -> None:
    """Stop where `folder` holds no network of checkpoint `epoch`, or no moving average where `weights` is `ema`.

    Raises:
        UserError: the message lists what there is.
    """
    if epoch not in checkpoints_in(folder):
        raise no_checkpoint(folder, epoch)
    averages = averages_in(folder)
    if weights == "ema" and epoch not in averages:
        there = f"it has those of {', '.join(averages)} (--which_epoch)"
        raise UserError(
            f"--weights ema: {folder} has no moving average of checkpoint {epoch}: "
            f"{there if averages else 'train.py --ema_decay keeps one'}; without the flag the plain weights are used"
        )


def no_checkpoint(folder: Path, epoch: str) -> UserError:
    """The error for a checkpoint that is not there, with those that are."""
    if not folder.is_dir():
        beside = sorted(path.name for path in folder.parent.glob("*") if checkpoints_in(path))
        near = difflib.get_close_matches(folder.name, beside, n=SHOWN_NAMES, cutoff=0) if beside else []
        there = f"{folder.parent} has {', '.join(near)}" if near else f"{folder.parent} has no checkpoints"
        more = ", ..." if len(beside) > len(near) else ""
        return UserError(f"there is no folder {folder} (--checkpoints_dir, --name); {there}{more}")
    others = checkpoints_in(folder)
    there = f"it has {', '.join(others)} (--which_epoch)" if others else "it has none; check --name"
    return UserError(f"{folder} has no checkpoint {epoch}: {there}")


def read_state(path: str | Path) -> Any:
    """What torch.save wrote, on the CPU; nothing in the file is executed.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except pickle.UnpicklingError:  # whose text advises to execute what the file holds
        raise UserError(
            f"{path} is damaged, or it holds more than tensors and plain values, which could run code and is not "
            "loaded; it should be what torch.save(net.state_dict(), file) writes"
        ) from None
    except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or no checkpoint ({_first_line(error)[:80]}); copy it again, or take another "
            "--which_epoch"
        ) from None


def load_network(net: Stateful, path: str | Path) -> None:
    """Load a state dict strictly: every key, every shape.

    Raises:
        UserError: the file cannot be read, or does not fit; the message names the first differences.
    """
    state = read_state(path)
    own = net.state_dict()
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state dict")
    differences = differences_of(state, own)
    if differences:
        more = f"\n  and {len(differences) - SHOWN_KEYS} more" if len(differences) > SHOWN_KEYS else ""
        listed = "".join(f"\n  {d}" for d in differences[:SHOWN_KEYS])
        folder = Path(path).parent
        bare = "_net_" in Path(path).name and not (folder / "opt.json").exists()
        hint = f"\n({folder} has no opt.json, so the flags it was trained with must be given)" if bare else ""
        raise UserError(
            f"{path} does not fit the {type(net).__name__} that these flags build:{listed}{more}"
            f"{_explanation(net, _shapes_of(state))}{hint}"
        )
    net.load_state_dict(state)


def differences_of(state: Mapping[str, Any], own: Mapping[str, torch.Tensor]) -> list[str]:
    """What keeps a file's state dict from fitting a network's `own`, as text: keys, then shapes."""
    shapes = _shapes_of(state)
    return [
        *(f"{k}: only in the file" for k in state if k not in own),
        *(f"{k}: not in the file" for k in own if k not in shapes),
        *(
            f"{k}: {shapes[k]} in the file, {tuple(v.shape)} in the network"
            for k, v in own.items()
            if k in shapes and shapes[k] != tuple(v.shape)
        ),
    ]


def _shapes_of(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in state.items() if torch.is_tensor(v)}


def _explanation(net: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The flags whose values, read off the shapes, differ between a file and a network."""
    flags_of = getattr(net, "flags_of", lambda shapes: {})
    here = flags_of({k: tuple(v.shape) for k, v in net.state_dict().items()})
    try:
        in_file = flags_of(shapes)
    except (LookupError, ArithmeticError, ValueError):
        return ""  # its names are ours, and its shapes are such as no flags make
    lines = [
        f"\n  {flag}: {value} in the file, {here[flag]} here"
        for flag, value in in_file.items()
        if flag in here and here[flag] != value
    ]
    return "\nflags that would explain it:" + "".join(lines) if lines else ""


def load_networks(model: nn.Module, folder: Path, epoch: str, weights: str = "plain") -> None:
    """Load `{epoch}_net_{letter}.pth` into every network of a model; optional ones without a file are dropped.

    Args:
        weights: `ema` for the moving averages of those networks that have one.

    Raises:
        UserError: a file is missing or does not fit.
    """
    for letter, net in model.networks().items():
        path = network_file(folder, epoch, letter, weights if letter in model.averaged_networks else "plain")
        if letter in model.optional_networks and not path.exists():
            print(f"warning: {path} is not there; going on without that network", file=sys.stderr)
            model.drop_network(letter)
            continue
        load_network(net, path)


def average_of(letter: str) -> str:
    """What stands in the place of a network's letter in the name of its moving average's file."""
    return f"{letter}_ema"


def network_file(folder: Path, epoch: str, letter: str, weights: str = "plain") -> Path:
    """The file to read a network from, also where the save of its set was interrupted; nothing is written.

    Raises:
        UserError: the folder has no such checkpoint at all, or `weights` is `ema` and this one has none.
    """
    path = folder / f"{epoch}_net_{average_of(letter) if weights == 'ema' else letter}.pth"
    digest = manifest.read(folder, epoch).files.get(path.name)
    if digest is not None and _waits_beside(path, digest):
        return beside(path)
    if not path.exists():
        require_checkpoint(folder, epoch, weights)
    return path


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
