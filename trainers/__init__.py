"""Systems by name: a model and its trainer, registered together.

A new system is a `BaseModel`, a `BaseTrainer` and a line in `SYSTEMS`; train.py, test.py and the pages need no change.
"""

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.base_model import BaseModel
from models.pix2pix_model import Pix2PixModel
from trainers.base_trainer import BaseTrainer
from trainers.pix2pix_trainer import Pix2PixTrainer
from util import locks
from util.checkpoint import checkpoints_in
from util.distributed import broadcast, rank
from util.errors import UserError


@dataclass(frozen=True)
class System:
    """What a name under --model stands for."""

    model: type[BaseModel]
    trainer: type[BaseTrainer]

    def defaults(self, is_train: bool) -> dict[str, Any]:
        """Values that this system sets for flags that are not typed."""
        return self.model.defaults(is_train)


SYSTEMS = {"pix2pix": System(Pix2PixModel, Pix2PixTrainer)}


@contextlib.contextmanager
def alone(opt: Namespace) -> Iterator[None]:
    """Inside, no other run trains --name: two would mix their checkpoints.

    Raises:
        UserError: another does.
    """
    folder = Path(opt.checkpoints_dir, opt.name)
    if rank() == 0 and not opt.continue_train:
        folder.mkdir(parents=True, exist_ok=True)
    if not broadcast(rank() > 0 or not folder.exists() or locks.take(folder)):
        raise UserError(
            f"{folder} is being trained by another process; wait until it is done, or end it, or give another --name"
        )
    try:
        yield
    finally:
        locks.leave(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing came to be in it


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


def create_trainer(opt: Namespace) -> BaseTrainer:
    """The trainer of the system that `--model` names, with its model.

    Raises:
        UserError: the options ask for a device or a file that is not there.
    """
    return SYSTEMS[opt.model].trainer(opt)
