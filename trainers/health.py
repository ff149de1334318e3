"""Losses and gradients that are no finite numbers, and what becomes of the step that they belong to: --on_nan."""

import math
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from trainers.gradients import total
from util.distributed import Reading, gather
from util.errors import UserError, first_few

ON_NAN = ("stop", "skip")
MOST_IN_A_ROW = 10  # iterations that may be skipped one after the other
SHOWN_PATHS = 8


NO_NETWORKS: Mapping[str, nn.Module] = MappingProxyType({})


@dataclass
class _Step:
    """What is known of one optimiser step before it is looked at."""

    iteration: int
    losses: list[str]
    values: Reading  # of the losses, and the sum of them and all gradients
    own: dict[str, Tensor]  # losses of this process's part of the batch
    paths: Sequence[str]


class Health:
    """Looks at every optimiser step's losses and gradients.

    To look at a number means to wait for the device. So where a bad step ends the run (`stop`), a step is looked at one
    step later, and all that are open by `settle`, before anything is saved. Where it is skipped, the optimiser waits.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.late = 1 if policy == "stop" else 0  # steps that may be open
        self.in_a_row = 0  # iterations with a skipped step, up to this one
        self._open: deque[_Step] = deque()
        self._bad_here = False  # a step of the present iteration was skipped

    def snapshot(self, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """What a forward pass changes, should it have to be taken back: buffers, and copies of them."""
        return [(b, b.clone()) for b in model.buffers()] if self.policy == "skip" else []

    def is_sound(
        self,
        iteration: int,
        losses: dict[str, Tensor],
        own: dict[str, Tensor],
        sum_of_all: Tensor,
        paths: Sequence[str],
        taken_back: Iterable[tuple[Tensor, Tensor]],
    ) -> bool:
        """Whether the optimiser may make this step; if not, `taken_back` (from `snapshot`) is.

        `sum_of_all`: of losses and gradients (`total`).

        Raises:
            UserError: an earlier step, or this one, ends the run; the message says which losses, iteration and files.
        """
        values = Reading(torch.stack([*losses.values(), sum_of_all]))
        self._open.append(_Step(iteration, list(losses), values, own, paths))
        problem = None
        while len(self._open) > self.late and problem is None:
            problem = self._problem(self._open.popleft())
        if problem is None:
            return True
        if self.policy == "stop":
            raise UserError(self._advice(problem))
        self._bad_here = True
        if self.in_a_row + 1 >= MOST_IN_A_ROW:
            raise UserError(self._advice(f"{problem}; it is the {MOST_IN_A_ROW}th iteration in a row"))
        print(f"warning: {problem}: this step is skipped (--on_nan skip)", file=sys.stderr)
        with torch.no_grad():
            for buffer, before in taken_back:
                buffer.copy_(before)
        return False

    def end_iteration(self) -> None:
        """Count."""
        self.in_a_row = self.in_a_row + 1 if self._bad_here else 0
        self._bad_here = False

    def settle(self, networks: Mapping[str, nn.Module] = NO_NETWORKS) -> None:
        """Look at the steps that nobody has looked at, and at all weights: before something is saved.

        Raises:
            UserError: as `is_sound`.
        """
        while self._open:
            problem = self._problem(self._open.popleft())
            if problem is not None:
                raise UserError(self._advice(problem))
        for letter, net in networks.items():
            if not total(list(net.parameters())).isfinite():
                raise UserError(self._advice(f"network {letter} has weights that are not finite"))

    @staticmethod
    def _problem(step: _Step) -> str | None:
        """What is not finite in a step, the same answer in all processes; None: nothing."""
        values = step.values.tolist()
        if all(map(math.isfinite, values)):
            return None
        bad = {name: value for name, value in zip(step.losses, values, strict=False) if not math.isfinite(value)}
        what = ", ".join(f"loss {name} is {value}" for name, value in bad.items())
        if not bad:
            what = f"the gradient of {' + '.join(step.losses)} is not finite"
        own = [loss.item() for loss in step.own.values()]
        at_fault = not bad or not all(map(math.isfinite, own))
        paths = [path for part in gather(list(step.paths) if at_fault else [], everywhere=True) for path in part]
        return f"{what} in iteration {step.iteration + 1}, whose batch has {first_few(paths, SHOWN_PATHS)}"

    @staticmethod
    def _advice(problem: str) -> str:
        return (
            f"{problem}. What was saved before is whole: look at these files, or go on from there (--continue_train) "
            "with a lower --lr, with --amp off, or with --on_nan skip, which leaves out such steps"
        )
