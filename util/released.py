"""Files of weights that others have released: from PyTorch's download cache, fetched where they can be."""

from dataclasses import dataclass
from pathlib import Path

import torch

from util.distributed import first_on_each_machine
from util.errors import UserError


@dataclass(frozen=True)
class Released:
    """A file of weights."""

    name: str
    source: str  # an address: of the file itself where it ends with its name, else of a page or folder that has it
    megabytes: int
    digest: str = ""  # what its SHA-256 begins with, where that is known

    @property
    def cached(self) -> Path:
        """Where it lies once it was downloaded."""
        return Path(torch.hub.get_dir(), "checkpoints", self.name)


def fetched(file: Released, instead: str) -> Path:
    """The file in the download cache, where it is put if it is not there.

    Args:
        instead: other ways out, for the message: "--flag FILE".

    Raises:
        UserError: it is not there, and cannot be downloaded.
    """
    with first_on_each_machine():
        if not file.cached.exists():
            _fetch(file, instead)
    return file.cached


def _fetch(file: Released, instead: str) -> None:
    why = "it has to be fetched by hand"
    if file.source.endswith(f"/{file.name}"):
        try:
            file.cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(file.source, str(file.cached), hash_prefix=file.digest or None)
            return
        except (OSError, RuntimeError) as error:  # URLError is an OSError; another digest is a RuntimeError
            why = f"it cannot be downloaded ({error})"
    raise UserError(
        f"{file.name} (about {file.megabytes} MB) is not in {file.cached.parent}, and {why}. Get it from {file.source} "
        f"and put it there, or pass {instead}"
    )
