"""What every trainer shares: device, seeds, learning rate, saving and resuming."""

import secrets
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from models import create_model
from models.networks.spectral import without_power_iteration
from trainers.gradients import sum_gradients, total
from trainers.health import Health
from trainers.moving_average import MovingAverage
from util import manifest
from util.checkpoint import (
    NOTHING,
    PREVIOUS,
    average_of,
    checkpoints_in,
    copy_set,
    load_network,
    newest_whole,
    read_state,
    remove_oldest,
    remove_replaced,
    save_set,
)
from util.class_table import PresentClass
from util.distributed import (
    Reading,
    broadcast,
    busy_with,
    pick_device,
    rank,
    require_same,
    to_device,
    wait_for_all,
    world_size,
)
from util.errors import UserError
from util.files import write_atomically
from util.interruption import Interruption
from util.picture_kinds import EVALUATION, SYNTHESIZED
from util.precision import autocast, check_amp
from util.provenance import provenance
from util.seeding import seed_everything


def lr_at(epoch: int, lr: float, niter: int, niter_decay: int) -> float:
    """Rate during 1-based `epoch`: flat for niter + 1 epochs (SPADE steps at an epoch's end), then linear."""
    return lr * (1 - max(0, epoch - 1 - niter) / max(1, niter_decay))


def micro_batches(batch: dict[str, Any], count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """A batch of N items as `count` of N / count: the place of each one's first item, and the part.

    Tensors [N, ...], lists and whatever else slices by item are split alike.

    Raises:
        ValueError: N is no multiple of `count`.
    """
    items = len(next(iter(batch.values())))
    if items % count:
        raise ValueError(f"{items} items do not split into {count} micro-batches of one size")
    size = items // count
    for first in range(0, items, size):
        yield first, {name: values[first : first + size] for name, values in batch.items()}


def lay_out_state(optimizer: Optimizer) -> None:
    """Give every tensor of an optimiser's state the device and the strides of its parameter.

    Fused kernels walk through memory and do not look at strides; `load_state_dict` leaves those that the file had.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value):
                value = value.to(parameter.device)
                alike = value.shape == parameter.shape  # else it is the count of steps
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value) if alike else value


class BaseTrainer:
    """Trains one system. Subclasses give `build_optimizers` and `update`, and may declare flags with `add_options`."""

    def __init__(self, opt: Namespace) -> None:
        self.opt = opt
        self.device = pick_device(opt.gpu_ids)
        check_amp(opt.amp, self.device)
        seed_everything(opt.seed)
        self.model = create_model(opt).to(self.device).train()
        self.optimizers = self.build_optimizers()
        # fp16 has no small numbers: losses are multiplied by as much as its largest allow, and gradients divided by it.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=opt.amp == "fp16")
        self.averages = self._build_averages()
        self.health = Health(opt.on_nan)
        self.interruption = Interruption()
        self.iteration = 0  # steps done since the run began
        self.run = ""  # which run this is, once it has saved something
        self.evaluated: dict[str, Any] = {}  # what --eval_freq has found so far (`evaluation.while_training`)
        self._replaces = checkpoints_in(self.folder) if opt.overwrite else []
        self._latest_is_whole = True
        self._shown: tuple[dict[str, Any], Tensor] | None = None
        self._losses: dict[str, Tensor] = {}
        self._sound = True  # whether the gradients that are there may be used
        self._asked: list[Reading | None] = [None, None]  # how many processes were asked to stop, as of two iterations
        self.set_learning_rate(1)

    # ------------------------------------------------------------------------------------ what a system fills in

    def build_optimizers(self) -> dict[str, Optimizer]:
        """The optimisers by name; their state is saved and restored with the networks."""
        raise NotImplementedError

    def update(self, batch: dict[str, Any]) -> None:
        """The system's optimiser steps, in its order, on a batch that is on the device: `descend`, or `accumulate` and
        `record` where one backward pass serves several optimisers."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------ what is shared

    def make_optimizer(self, parameters: list, lr_scale: float = 1.0) -> Optimizer:
        """The optimiser that --optimizer names, at `lr_scale` times the learning rate in force."""
        opt = self.opt
        groups = [{"params": parameters, "lr_scale": lr_scale}]
        if opt.optimizer == "sgd":
            return SGD(groups, lr=opt.lr * lr_scale, momentum=opt.beta1)
        # Fused: one pass over the memory of each weight, where the plain kind makes ten.
        return Adam(groups, lr=opt.lr * lr_scale, betas=(opt.beta1, opt.beta2), eps=1e-8, fused=True)

    def set_learning_rate(self, epoch: int) -> None:
        """Give every optimiser its rate for 1-based `epoch`."""
        # Mended (SPADE): the decay restarted from the full rate on --continue_train.
        lr = lr_at(epoch, self.opt.lr, self.opt.niter, self.opt.niter_decay)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr * group.setdefault("lr_scale", 1.0)

    def step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One iteration on one batch; returns its losses, detached scalars by name."""
        # Reseeding by iteration makes dropout, styles and the like the same in a resumed run, with no state to keep.
        # Processes have different rows of a batch, which dropout has to treat differently.
        busy_with(f"iteration {self.iteration + 1}")
        seed_everything(self.opt.seed, self.iteration, *([rank()] if rank() else []))
        self.model.set_noise(self.opt.seed, self.iteration)
        self._asked = [self._asked[-1], None]
        with self.model.one_batch():
            self.update(to_device(batch, self.device))
        self.health.end_iteration()
        self.iteration += 1
        return self.latest_losses()

    def descend(
        self, name: str, batch: dict[str, Any], losses_of: Callable[[dict[str, Any]], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """A step of optimiser `name` on a whole batch; returns what `accumulate` does, recorded."""
        self.optimizers[name].zero_grad(set_to_none=True)
        losses = self.accumulate(batch, losses_of, [name])
        self.advance(name)
        return self.record(losses)

    def advance(self, name: str) -> None:
        """Let optimiser `name` make its step with the gradients that are there, unless --on_nan skips them."""
        if self._sound:
            self.scaler.step(self.optimizers[name])
            self.scaler.update()

    def accumulate(
        self,
        batch: dict[str, Any],
        losses_of: Callable[[dict[str, Any]], dict[str, Tensor]],
        names: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Add the gradients of a whole batch's losses, from --accumulate micro-batches one after the other, and those
        of all processes.

        Args:
            batch: this process's part.
            losses_of: a micro-batch to its losses, scalars by name: means over it, or sums for `model.sum_losses`.
            names: the optimisers whose gradients are wanted (default: all).

        Returns:
            The losses of the whole batch, detached, the same in all processes.

        Raises:
            UserError: they, or a gradient, are not finite (`Health`).
        """
        model, parts, shares = self.model, self.opt.accumulate, world_size()
        own: dict[str, Tensor] = {}
        before = self.health.snapshot(model)
        draws = model.draws
        for first, part in micro_batches(batch, parts):
            # The noise is that of the whole batch. Of its micro-batch, each process has a part, in the order of ranks.
            size = len(next(iter(part.values())))
            model.place_noise(draws, shares * first + rank() * size)
            # The norms' power iteration is one for the whole batch, as without micro-batches.
            with autocast(self.opt.amp, self.device), nullcontext() if first == 0 else without_power_iteration(model):
                losses = losses_of(part)
            losses = {k: loss if k in model.sum_losses else loss / (parts * shares) for k, loss in losses.items()}
            self.scaler.scale(sum(losses.values())).backward()
            for k, loss in losses.items():
                own[k] = own[k] + loss.detach() if k in own else loss.detach()
        model.place_noise(model.draws, 0)
        parameters = [
            weight
            for name in (self.optimizers if names is None else names)
            for group in self.optimizers[name].param_groups
            for weight in group["params"]
        ]
        whole = self._over_processes(parameters, own)
        # --amp fp16 expects gradients that are not finite: its scaler looks for them and leaves such steps out.
        gradients = [] if self.scaler.is_enabled() else [p.grad for p in parameters if p.grad is not None]
        sum_of_all = total([*whole.values(), *gradients])
        self._sound = self.health.is_sound(self.iteration, whole, own, sum_of_all, batch.get("path", ()), before)
        return whole

    def _over_processes(self, parameters: list[Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum gradients and losses over processes, and whether one was asked to stop."""
        if world_size() == 1:
            return own
        asked = torch.full_like(next(iter(own.values())), float(self.interruption.asked))
        sums = sum_gradients(parameters, torch.stack([asked, *own.values()]).to(parameters[0].dtype))
        asked, *whole = sums.unbind()
        self._asked[-1] = Reading(asked)
        return dict(zip(own, whole, strict=True))

    def should_stop(self) -> bool:
        """Whether any process was asked to stop (Ctrl-C, SIGTERM); all get the same answer after the same iteration.

        Of several processes on GPUs it is the answer of an iteration before, so that nothing has to be waited for.
        """
        if world_size() == 1:
            return self.interruption.asked
        asked = self._asked[-1 if self.device.type == "cpu" else 0]
        return asked is not None and asked.tolist() > 0

    def update_averages(self) -> None:
        """`update` calls this after the generator's step, so that --ema_decay averages its weights."""
        for average in self.averages.values() if self._sound else ():
            average.update()

    def record(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keep the newest values of these losses for `latest_losses`; returns them detached."""
        detached = {name: loss.detach() for name, loss in losses.items()}
        self._losses = {**self._losses, **detached}
        return detached

    def latest_losses(self) -> dict[str, Tensor]:
        """The newest value of every loss so far; a loss that the last step did not compute keeps its older value."""
        return self._losses

    def keep_for_showing(self, batch: dict[str, Any], fake: Tensor) -> None:
        """`update` calls this with the images it made, so that `visuals` shows them beside their own batch."""
        self._shown = (batch, fake.detach())

    def visuals(self, batch: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[PresentClass]]:
        """Pictures of one item, name to uint8 [H, W, 3], and the classes it shows.

        The item is the first of the last batch that was synthesised in training, as it came out then, and beside it as
        evaluation mode makes it: with running statistics, as test.py will. Where none was made since the run began or
        was resumed, it is the first of `batch`, in evaluation mode alone.
        """
        batch, fake = self._shown or (to_device(batch, self.device), None)
        first = {name: value[:1] for name, value in batch.items()}
        fakes = {} if fake is None else {SYNTHESIZED: fake[:1]}
        with autocast(self.opt.amp, self.device):
            fakes[EVALUATION] = self.model.eval().generate(first)  # changes no statistics
        self.model.train()
        pictures = self.model.visuals(first, fakes)
        return {name: pixels[0] for name, pixels in pictures.items()}, self.model.legend(first)[0]

    def weights_of(self, letter: str, kind: str) -> Mapping[str, Tensor]:
        """The state dict of a network: its `plain` weights, or `ema`, their moving average, where it has one."""
        averaged = kind == "ema" and letter in self.averages
        return (self.averages if averaged else self.model.networks())[letter].state_dict()

    @property
    def folder(self) -> Path:
        """Where this run's checkpoints are."""
        return Path(self.opt.checkpoints_dir, self.opt.name)

    def has_checkpoints(self) -> bool:
        """Whether this run's folder holds any weights already."""
        return bool(checkpoints_in(self.folder))

    def save(self, epoch: str, position: dict[str, int], about: Mapping[str, bytes | None] = NOTHING) -> None:
        """Write checkpoint `epoch`, to be resumed at `position`: `latest`, or a number, which becomes latest too.

        `about`: files about the run that change together with its weights (`save_set`).
        """
        self.health.settle(self.model.networks())
        busy_with(f"saving {epoch}")
        if rank() == 0:
            self._write(epoch, position, about)
        wait_for_all()

    def _write(self, epoch: str, position: dict[str, int], about: Mapping[str, bytes | None]) -> None:
        state = {
            "position": position,
            "iteration": self.iteration,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "optimizer": self.opt.optimizer,
            "scaler": self.scaler.state_dict(),
            "skipped_in_a_row": self.health.in_a_row,
            "averages": {letter: average.updates for letter, average in self.averages.items()},
            "losses": {name: value.item() for name, value in self._losses.items()},
            "evaluated": self.evaluated,
            "provenance": provenance(),
        }
        averages = {average_of(letter): average for letter, average in self.averages.items()}
        nets = {**self.model.networks(), **averages}
        self.run = self.run or secrets.token_hex(8)
        # --overwrite: the folder holds this run's checkpoints alone. And a damaged set is not worth keeping.
        keep = PREVIOUS if self._latest_is_whole and not self._replaces else ""
        keep_here = keep if epoch == "latest" else ""
        save_set(self.folder, epoch, nets, state, about, keep_here, self.run, self._replaces)
        if epoch != "latest":
            copy_set(self.folder, epoch, "latest", keep)
        remove_replaced(self.folder, "latest")
        self._replaces, self._latest_is_whole = [], True
        if epoch != "latest" and self.opt.keep_checkpoints:
            remove_oldest(self.folder, self.opt.keep_checkpoints)
        self._write_position(position)

    def resume(self) -> dict[str, int] | None:
        """Restore --which_epoch: networks, optimisers and the position, which is returned.

        A folder of networks without training state (released weights) gives the weights and, where it is known, the
        epoch; the optimisers then start fresh. None: start with the first epoch.

        Raises:
            UserError: there is nothing to resume, or it does not fit.
        """
        epoch, letters = self.opt.which_epoch, list(self.model.networks())
        if rank() == 0:
            epoch = newest_whole(self.folder, epoch)  # which also finishes interrupted saves
        epoch = broadcast(epoch)
        self.run = manifest.read_if_whole(self.folder, epoch).run
        self._latest_is_whole = epoch == self.opt.which_epoch
        networks = {letter: self.folder / f"{epoch}_net_{letter}.pth" for letter in letters}
        require_same(
            lambda: " ".join(f"{p.name} {p.stat().st_size if p.exists() else 'missing'}" for p in networks.values()),
            f"checkpoint {epoch} in {self.folder}",
        )
        for letter, net in self.model.networks().items():
            load_network(net, networks[letter])
        path = self.folder / f"{epoch}_state.pth"
        if not path.exists():
            print(f"warning: {path} is not there: the weights go on, the optimisers start fresh", file=sys.stderr)
            self._resume_averages(epoch, {})
            return self._position_without_state(epoch)
        state = read_state(path)
        # Mended (SPADE): both optimisers were forgotten, and the position inside the epoch.
        if state["optimizer"] != self.opt.optimizer:
            raise UserError(f"{path} is of --optimizer {state['optimizer']}, not {self.opt.optimizer}: go on with that")
        for name, optimizer in self.optimizers.items():
            asked = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            try:
                optimizer.load_state_dict(state["optimizers"][name])
            except (KeyError, ValueError) as error:
                raise UserError(f"{path}: optimiser {name} does not fit these flags ({error})") from None
            for group, flags in zip(optimizer.param_groups, asked, strict=True):
                group.update(flags)  # the command line's rates and betas, which may differ from the saved ones
            lay_out_state(optimizer)
        self._resume_averages(epoch, state.get("averages", {}))
        if saved := state.get("scaler"):  # empty without --amp fp16
            self.scaler.load_state_dict(saved)
        self.iteration = state["iteration"]
        self.health.in_a_row = state.get("skipped_in_a_row", 0)
        self.evaluated = state.get("evaluated", {})
        self._losses = {name: torch.tensor(value) for name, value in state["losses"].items()}
        return state["position"]

    def load_pretrained(self, path: str) -> None:
        """Start from a generator's file; every other network stays fresh.

        Raises:
            UserError: the file is missing or does not fit.
        """
        letter = self.model.pretrained_network
        if letter is None:
            raise UserError(
                f"--pretrained_G: --model {self.opt.model} has no generator to start that way; drop the flag"
            )
        load_network(self.model.networks()[letter], path)

    def describe_networks(self) -> str:
        """A line for each network with its number of parameters; with --debug its structure too."""
        lines = []
        for letter, net in self.model.networks().items():
            count = sum(p.numel() for p in net.parameters())
            lines.append(f"network {letter} [{type(net).__name__}]: {count:,} parameters ({count / 1e6:.1f} million)")
            if self.opt.debug:
                lines.append(str(net))
        return "\n".join(lines)

    def _build_averages(self) -> dict[str, MovingAverage]:
        """The moving averages by the letters of their networks."""
        if self.opt.ema_decay and not self.model.averaged_networks:
            raise UserError(f"--ema_decay: --model {self.opt.model} has no network to average; drop the flag")
        nets = self.model.networks() if self.opt.ema_decay else {}
        return {k: MovingAverage(n, self.opt.ema_decay) for k, n in nets.items() if k in self.model.averaged_networks}

    def _resume_averages(self, epoch: str, updates: dict[str, int]) -> None:
        """Go on with a checkpoint's averages; `updates`: how many went into each."""
        for letter, average in self.averages.items():
            if letter in updates:
                load_network(average, self.folder / f"{epoch}_net_{average_of(letter)}.pth")
                average.updates = updates[letter]
            else:
                print(f"note: checkpoint {epoch} has no moving average of {letter}: it starts here", file=sys.stderr)
        if updates and not self.averages:
            print(f"note: the moving average of checkpoint {epoch} ends here (--ema_decay 0)", file=sys.stderr)

    def _position_without_state(self, epoch: str) -> dict[str, int] | None:
        """Where released weights stand: after epoch N, or for `latest` where iter.txt says."""
        if epoch.isdigit():
            return {"epoch": int(epoch) + 1, "images_in_epoch": 0, "images_seen": 0}
        try:
            first = int((self.folder / "iter.txt").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return {"epoch": first, "images_in_epoch": 0, "images_seen": 0}

    def _write_position(self, position: dict[str, int]) -> None:
        """iter.txt, for people and for tools that know SPADE: epoch, and images done in it."""
        write_atomically(self.folder / "iter.txt", f"{position['epoch']}\n{position['images_in_epoch']}\n".encode())
