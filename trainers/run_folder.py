"""The folder of a run: whose it is, and what may be replaced there."""

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from util import launch, locks
from util.checkpoint import checkpoints_in
from util.distributed import broadcast, rank
from util.errors import UserError

AFTER_RESTART = 120.0  # seconds in which a network file system gives up the lock of a machine that was lost


@contextlib.contextmanager
def alone(opt: Namespace) -> Iterator[None]:
    """Inside, no other run trains --name: two would mix their checkpoints. The first process holds the lock.

    Raises:
        UserError: another does, or --name is no folder.
    """
    folder = Path(opt.checkpoints_dir, opt.name)
    problem, made = None, []
    if rank() == 0:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        problem = _not_free(folder, opt.continue_train)
    if problem := broadcast(problem):
        raise UserError(problem)
    try:
        yield
    finally:
        locks.leave(folder)
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()  # where nothing came to be in it


def _not_free(folder: Path, must_exist: bool) -> str | None:
    """Take the folder; else why it cannot be had. Where it must exist and does not, others say so."""
    if must_exist and not folder.exists():
        return None
    try:
        if locks.take(folder, AFTER_RESTART if launch.attempt() else 0.0):
            return None
    except FileExistsError:
        return f"{folder} is not a folder; give another --name, or remove it"
    holder = locks.holder(folder)
    elsewhere = not holder.endswith(f" on {launch.host()}")
    gone = f"; remove {folder / locks.NAME} if that machine is gone" if elsewhere else ""
    return f"{folder} is being trained by {holder}; wait until it is done, or end it, or give another --name{gone}"


def refuse_to_overwrite(opt: Namespace) -> None:
    """Stop where the run would replace another's checkpoints unasked.

    Raises:
        UserError: --name holds checkpoints, and neither --continue_train nor --overwrite is given.
    """
    folder = Path(opt.checkpoints_dir, opt.name)
    held = checkpoints_in(folder)
    if held and not (opt.continue_train or opt.overwrite):
        raise UserError(
            f"{folder} holds a run (checkpoints {', '.join(held)}): --continue_train goes on with it, --overwrite "
            "starts anew and replaces it, another --name keeps both"
        )
