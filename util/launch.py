"""Starting one process for each GPU of this machine, and waiting for them; and what the environment says of processes.

Processes know their place by the variables that torchrun sets, so it is all the same whether torchrun starts them or
`start` does.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from util.errors import EXIT_INTERRUPTED

GRACE = 20.0  # seconds that the others get to end by themselves once one process has failed
PR_SET_PDEATHSIG = 1  # prctl's option, from linux/prctl.h


def rank() -> int:
    """The place of this process among all, before they have found each other."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """How many processes there will be."""
    return int(os.environ.get("WORLD_SIZE", 1))


def size_of_run(gpu_ids: list[int]) -> int:
    """How many processes a run with these --gpu_ids will have: torchrun's; else one for each id."""
    return world_size() if world_size() > 1 else max(1, len(gpu_ids))


def local_rank() -> int:
    """The place of this process among those of this machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_size() -> int:
    """How many processes this machine has."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def attempt() -> int:
    """How often torchrun has started these processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def job() -> str:
    """What all processes have in common that torchrun starts and starts again; empty where it starts none.

    Several machines need torchrun's --rdzv_id for that.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if name != "none":
        return name
    try:
        begun = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]  # proc(5): starttime
    except OSError:
        begun = ""
    return f"{host()} {os.getppid()} {begun}"


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def use_loopback() -> None:
    """Let processes of one machine speak to each other without its network, whose names may lead nowhere."""
    names = {name for _, name in socket.if_nameindex()}
    if local_size() == world_size() and "lo" in names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def start(count: int, command: list[str] | None = None) -> int:
    """Run a command (this process's own) `count` times at once, and wait until all have ended.

    SIGTERM is passed on; Ctrl-C reaches them by itself. Where one fails, the others get some time to end, and are then
    killed. They end with this process, whatever ends it.

    Returns:
        The status of the first that failed, 0 if none did; 75 where it was killed.
    """
    command = command or [sys.executable, *sys.orig_argv[1:]]
    port = free_port()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def end_with_parent() -> None:  # so that no run goes on unseen
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    children = [
        subprocess.Popen(command, env=environment(r, count, port), preexec_fn=end_with_parent) for r in range(count)
    ]

    def pass_on(number: int, frame: object) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on), signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return _wait(children)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def _wait(children: list[subprocess.Popen]) -> int:
    first: tuple[int, float] | None = None  # status and time of the first failure
    while any(child.poll() is None for child in children):
        time.sleep(0.1)
        for rank, child in enumerate(children):
            if child.poll() and first is None:
                first = _status(rank, child), time.monotonic()
        if first is not None and time.monotonic() - first[1] > GRACE:
            for child in children:
                if child.poll() is None:
                    child.kill()  # also where it was stopped
            break
    for rank, child in enumerate(children):
        if child.wait() and first is None:
            first = _status(rank, child), time.monotonic()
    return first[0] if first is not None else 0


def _status(rank: int, child: subprocess.Popen) -> int:
    if child.returncode >= 0:
        return child.returncode
    name = signal.Signals(-child.returncode).name
    print(f"error: the process of rank {rank} (pid {child.pid}) was ended by {name}", file=sys.stderr, flush=True)
    return EXIT_INTERRUPTED


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment of one of `count` processes that find each other at this port of this machine."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    threads = str(max(1, (os.cpu_count() or 1) // count))
    # torchrun's would send them to a store that it does not keep for them.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
    return {
        "OMP_NUM_THREADS": threads,
        **outer,
        "MASTER_ADDR": "127.0.0.1",
        **{name: str(value) for name, value in own.items()},
    }


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
