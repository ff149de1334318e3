"""Which ids a label map may have, and what they mean."""

from argparse import Namespace
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from util.errors import UserError

MOST = 1 << 16  # ids from here on are of no class, whatever the number of classes is


@dataclass(frozen=True)
class IdRules:
    """The rules of one data set under one command line. They are small, for sending them to other processes."""

    label_nc: int
    has_unknown: bool
    unknown_id: int | None  # in files
    zero_is_unknown: bool  # ADE20K: ids run to label_nc itself
    is_train: bool  # the number of a trained network's classes is what it is

    @classmethod
    def from_options(cls, opt: Namespace, zero_is_unknown: bool) -> "IdRules":
        """The rules that a command line asks for."""
        return cls(opt.label_nc, bool(opt.contain_dontcare_label), opt.unknown_id, zero_is_unknown, opt.isTrain)

    @property
    def highest(self) -> int:
        """The largest id of a class in files."""
        return self.label_nc if self.zero_is_unknown and self.has_unknown else self.label_nc - 1

    def wrong_of(self, ids: np.ndarray) -> np.ndarray:
        """Which of the ids, of any shape, stand for no class and not for unknown: bool of that shape."""
        wrong = ids > self.highest
        if ids.dtype.kind == "i":
            wrong |= ids < 0
        if self.has_unknown:
            wrong &= ids != self.unknown_id
        return wrong

    def check(self, ids: np.ndarray, path: str) -> None:
        """Refuse a label map [H, W] that has ids past the last class, wherever they are.

        Raises:
            UserError: it has; the message says what would help.
        """
        # Mended (SPADE): ids past the last class reached the network as they were and indexed out of range.
        if ids.max() <= self.highest and ids.min() >= 0:
            return
        wrong = self.wrong_of(ids)
        if wrong.any():
            raise UserError(f"{path} has {self.problem(np.unique(ids[wrong]).tolist())}")

    def classes(self, ids: np.ndarray) -> Tensor:
        """Class ids [1, H, W] in 0 .. label_nc (label_nc: unknown) of checked ids [H, W], in a small type."""
        highest = self.label_nc if self.has_unknown else self.highest
        label = ids.astype(_small_type(highest))  # in which a large id of unknown pixels may be any other at first
        if self.has_unknown and self.unknown_id is not None:
            label[ids == self.unknown_id] = self.label_nc
        return torch.from_numpy(label)[None]

    def problem(self, wrong: list[int]) -> str:
        """What a message says about wrong ids, in ascending order: which rule they break, and what would help."""
        listed = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        classes = [i for i in wrong if i != self.unknown_id]
        ways_out = []
        if self.unknown_id in wrong and self.is_train:
            ways_out.append(f"id {self.unknown_id} means unknown: pass --contain_dontcare_label")
        elif self.unknown_id in wrong:
            ways_out.append(
                "unknown pixels need a model trained with --contain_dontcare_label (type it if this one was, and its "
                "folder has no opt.json)"
            )
        elif 255 in wrong and self.has_unknown:
            ways_out.append("if 255 means unknown, pass --unknown_id 255")
        elif wrong == [self.label_nc] and self.has_unknown:
            ways_out.append(f"if it means unknown, pass --unknown_id {self.label_nc}")
        elif classes and min(classes) >= 0 and max(classes) < MOST and self.is_train and wrong != [self.label_nc]:
            ways_out.append(f"pass --label_nc {max(classes) + self.label_nc - self.highest} or more")
        if wrong == [self.label_nc] and self.label_nc != self.unknown_id:
            larger = f", or pass --label_nc {self.label_nc + 1} (0 is then empty)" if self.is_train else ""
            ways_out.append(f"if ids start at 1, subtract 1{larger}")
        ways_out.append("correct the file")
        known = "" if self.is_train else ", and the model knows no others"
        rule = f"--label_nc {self.label_nc} allows 0 .. {self.highest}{known}"
        return f"ids {listed}, but {rule}: {', or '.join(ways_out)}"


def _small_type(highest: int) -> type[np.integer]:
    """The smallest integers that hold 0 .. `highest` and that torch can compute with."""
    return next(dtype for dtype in (np.uint8, np.int16, np.int32) if highest <= np.iinfo(dtype).max)
