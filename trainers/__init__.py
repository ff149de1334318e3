"""Systems by name: a model and its trainer, registered together.

A new system is a `BaseModel`, a `BaseTrainer` and a line in `SYSTEMS`; train.py, test.py and the pages need no change.
"""

from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from models.base_model import BaseModel
from models.pix2pix_model import Pix2PixModel
from trainers.base_trainer import BaseTrainer
from trainers.pix2pix_trainer import Pix2PixTrainer


@dataclass(frozen=True)
class System:
    """What a name under --model stands for."""

    model: type[BaseModel]
    trainer: type[BaseTrainer]

    def defaults(self, is_train: bool) -> dict[str, Any]:
        """Values that this system sets for flags that are not typed."""
        return self.model.defaults(is_train)


SYSTEMS = {"pix2pix": System(Pix2PixModel, Pix2PixTrainer)}


def create_trainer(opt: Namespace) -> BaseTrainer:
    """The trainer of the system that `--model` names, with its model.

    Raises:
        UserError: the options ask for a device or a file that is not there.
    """
    return SYSTEMS[opt.model].trainer(opt)
