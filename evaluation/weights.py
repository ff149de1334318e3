"""Loading weights that others have released, strictly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from util.checkpoint import differences_of, read_state
from util.errors import UserError
from util.released import Released, fetched

SHOWN = 4  # keys that a message lists


@dataclass(frozen=True)
class Weights(Released):
    """A file of a network's weights, or of a part's."""

    part: str = ""  # of the network; empty: all
    ignored: tuple[str, ...] = ()  # ends of names that the file may have beside the network's
    absent: tuple[str, ...] = ("num_batches_tracked",)  # ends of names that it may lack, which change no output


def load_released(net: nn.Module, files: Sequence[Weights], paths: Sequence[str], flag: str) -> None:
    """Load released weights into a network: every key, every shape, but for those that the files' kinds name.

    Args:
        paths: the files, in order; none: those in PyTorch's download cache, which are fetched where they can be.
        flag: the one that `paths` come from, for messages.

    Raises:
        UserError: a file is not there and cannot be fetched, or is not what it should be.
    """
    if paths and len(paths) != len(files):
        names = " and ".join(file.name for file in files)
        raise UserError(f"{flag} names {len(paths)} file(s), and {len(files)} are needed: {names}, in this order")
    for file, path in zip(files, paths or [None] * len(files), strict=True):
        if path and not Path(path).is_file():
            raise UserError(f"{flag} {path}: there is no such file; it should be {file.name} from {file.source}")
        _load(net.get_submodule(file.part), file, Path(path) if path else fetched(file, f"{flag} FILE"))


def _load(net: nn.Module, file: Weights, path: Path) -> None:
    state = read_state(path)
    own = net.state_dict()
    if not isinstance(state, Mapping) or not all(torch.is_tensor(value) for value in state.values()):
        raise UserError(f"{path} holds no state dict; it should be {file.name} from {file.source}")
    loaded: dict[str, Tensor] = {k: v for k, v in state.items() if not k.endswith(file.ignored or ("\0",))}
    for key, value in own.items():
        if key.endswith(file.absent or ("\0",)):
            loaded.setdefault(key, value)
    wrong = differences_of(loaded, own)
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(f"{path} is not {file.name} from {file.source}: {'; '.join(wrong[:SHOWN])}{more}")
    net.load_state_dict(loaded)
