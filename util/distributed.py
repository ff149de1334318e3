"""The one place that knows about devices and processes.

A run is P processes of ranks 0 .. P - 1, one for each GPU, or on CPUs as many as torchrun starts. All hold the same
networks and do the same steps, each on its part of every batch; what concerns the whole batch is summed over them. Only
rank 0 writes and prints. In a run of one process, everything here that speaks of others does nothing.
"""

import contextlib
import datetime
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from util import launch
from util.allocator import keep_freed_memory
from util.errors import UserError
from util.watch import Watch

COLLECTIVES: Counter[str] = Counter()  # what this process has taken part in since it began: "calls" and "bytes"

SLACK = 30.0  # seconds
FOR_EVER = datetime.timedelta(days=365)

_watch: Watch | None = None
_on_cpu: Any = None  # the group for what lies in the CPU's memory


# ------------------------------------------------------------------------------------------------------------- devices


def pick_device(gpu_ids: list[int]) -> torch.device:
    """The device of this process: one of `gpu_ids`, or the CPU where the list is empty (`--gpu_ids -1`).

    As many ids as processes on this machine are theirs, in order; otherwise the processes take the machine's GPUs in
    turn, whatever the ids.

    Raises:
        UserError: a GPU was asked for that is not there.
    """
    if not gpu_ids:
        keep_freed_memory()
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count == 0:
        why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "nvidia-smi shows what is there"
        asked = ",".join(map(str, gpu_ids))
        raise UserError(f"--gpu_ids {asked}, but PyTorch sees no GPU here ({why}); --gpu_ids -1 runs on the CPU")
    here, own_ids = launch.local_rank(), launch.local_size() == len(gpu_ids)
    if launch.world_size() > 1 and not own_ids:
        return torch.device("cuda", here % count)
    own = gpu_ids[here if own_ids else 0]
    missing = [i for i in gpu_ids if i >= count]
    if missing:
        raise UserError(f"--gpu_ids {missing[0]}, but PyTorch sees {count} GPUs; ids start at 0, -1 is the CPU")
    return torch.device("cuda", own)


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on `device`; everything else as it is."""
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}


# ----------------------------------------------------------------------------------------------------------- processes


def rank() -> int:
    """The place of this process among all."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes take part."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextlib.contextmanager
def processes(gpu_ids: list[int], timeout: float) -> Iterator[None]:
    """Inside, all processes of the run are there; around everything else that a script does.

    Several `gpu_ids` start a process for each, all with this command line, and this one only waits for them. Where the
    environment says that this is one of several (torchrun, or those), they find each other first.

    Args:
        timeout: seconds without a sign of life after which a process counts as lost.

    Raises:
        SystemExit: with the processes' status, after several were started.
        UserError: the processes did not find each other.
        Interrupted: one of them is lost; the message says which.
    """
    global _watch
    if launch.world_size() == 1:
        if len(gpu_ids) > 1:
            pick_device(gpu_ids)  # before anything is started
            raise SystemExit(launch.start(len(gpu_ids)))
        yield
        return
    # Of a collective inside an iteration. The watch speaks first, since it can tell who is missing.
    patience = datetime.timedelta(seconds=1.5 * timeout + SLACK)
    store = _found(patience)
    _watch = Watch(launch.rank(), launch.world_size(), timeout, store)
    try:
        with _watch:
            _make_groups(gpu_ids, store, patience)
            with _others_silent():
                yield
    finally:
        _watch = None
    dist.destroy_process_group()  # not after an error, when it might wait for processes that are gone


def _found(patience: datetime.timedelta) -> dist.Store:
    """A store of all processes, once they are there."""
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=patience))
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"rank {launch.rank()} of {launch.world_size()} did not find the others at {address} "
            f"({str(error).splitlines()[0]}); start all of them within {patience.total_seconds():.0f} s, and see that "
            "this address can be reached"
        ) from None
    # torchrun keeps its store over --max-restarts, with the addresses of processes that are no more.
    return dist.PrefixStore(f"attempt {launch.attempt()}", store)


def _make_groups(gpu_ids: list[int], store: dist.Store, patience: datetime.timedelta) -> None:
    """Connect this process with all others."""
    global _on_cpu
    device = pick_device(gpu_ids)
    launch.use_loopback()
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        if launch.local_size() <= torch.cuda.device_count():
            backend = "cpu:gloo,cuda:nccl"  # NCCL refuses two processes on one GPU; gloo goes through the CPU's memory
    own, size = launch.rank(), launch.world_size()
    dist.init_process_group(backend, store=store, rank=own, world_size=size, timeout=patience)
    # Saves, downloads and a process's share of a test set may take any time: here others wait for whoever is alive.
    _on_cpu = dist.new_group(backend="gloo", timeout=FOR_EVER)


@contextlib.contextmanager
def _others_silent() -> Iterator[None]:
    """Inside, what ranks above 0 print is dropped: all would say the same. Their loaders' workers, whose files are no
    other rank's, keep stderr (`speak_again`)."""
    if dist.get_rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def said_by_the_first() -> Iterator[None]:
    """Around what processes find out before they have found each other: each machine's first says what is wrong."""
    if launch.local_rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            yield
        except UserError as error:
            raise SystemExit(error.code) from None


def speak_again() -> None:
    """Let this process, a loader's worker, print to stderr whatever its rank."""
    sys.stderr = sys.__stderr__


class Reading:
    """Numbers on their way from the device to the host: looking at them waits for them, not for what came after."""

    def __init__(self, values: Tensor) -> None:
        self._host, self._event = values, None
        if values.is_cuda:
            self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._host.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def tolist(self) -> list[float]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()


def busy_with(what: str) -> None:
    """Say what this process is about to do, for the message should it be lost there."""
    if _watch is not None:
        _watch.place = what


# --------------------------------------------------------------------------------------------------------- collectives


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of all processes' `values`, in their place, the same bits everywhere."""
    if world_size() > 1:
        COLLECTIVES["calls"] += 1
        COLLECTIVES["bytes"] += values.numel() * values.element_size()
        dist.all_reduce(values)
    return values


def gather(value: Any, everywhere: bool = False) -> list[Any]:
    """All processes' values by rank, on rank 0 or everywhere, else an empty list; anything that can be pickled.

    This, and all below, waits for others as long as they give signs of life.
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    if everywhere:
        dist.all_gather_object(values, value, group=_on_cpu)
        return values
    dist.gather_object(value, values if rank() == 0 else None, group=_on_cpu)
    return values if rank() == 0 else []


def wait_for_all() -> None:
    """Go on when all processes are here."""
    if world_size() > 1:
        dist.barrier(group=_on_cpu)


@contextlib.contextmanager
def first_on_each_machine() -> Iterator[None]:
    """The first process of each machine goes inside first, the others when it is through: for what is done once."""
    if launch.local_rank() > 0:
        wait_for_all()
    yield
    if launch.local_rank() == 0:
        wait_for_all()


def require_same(value_of: Callable[[], str], what: str) -> None:
    """Stop where a value is not the same in all processes; in one it is not asked for.

    Raises:
        UserError: `what`, the values and the machines that have them.
    """
    if world_size() == 1:
        return
    values = gather((value_of(), launch.host()), everywhere=True)
    different = sorted({value for value, _ in values})
    if len(different) > 1:
        where = {v: sorted({host for value, host in values if value == v}) for v in different}
        listed = "; ".join(f"{v} on {', '.join(where[v])}" for v in different)
        raise UserError(f"{what} is not the same for all processes ({listed}): they have to see the same folder")


def broadcast(value: Any) -> Any:
    """Rank 0's value, everywhere."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, group=_on_cpu)
    return values[0]
