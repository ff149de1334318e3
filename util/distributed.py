"""The one place that knows about devices and processes."""

import sys

import torch

from util.errors import UserError


def pick_device(gpu_ids: list[int]) -> torch.device:
    """The device of this process: the first of `gpu_ids`, or the CPU where the list is empty (`--gpu_ids -1`).

    The default `--gpu_ids 0` falls back to the CPU with a warning where there is no GPU at all.

    Raises:
        UserError: a GPU was asked for that is not there, or several were.
    """
    if not gpu_ids:
        return torch.device("cpu")
    if len(gpu_ids) > 1:
        asked = ",".join(map(str, gpu_ids))
        raise UserError(f"--gpu_ids {asked}: several GPUs are not used yet; give one id")
    count = torch.cuda.device_count()
    if count == 0 and gpu_ids == [0]:
        print(
            "warning: PyTorch sees no GPU here, running on the CPU (--gpu_ids -1 says so on purpose)", file=sys.stderr
        )
        return torch.device("cpu")
    if gpu_ids[0] >= count:
        raise UserError(f"--gpu_ids {gpu_ids[0]}, but PyTorch sees {count} GPUs; ids start at 0, -1 is the CPU")
    return torch.device("cuda", gpu_ids[0])


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on `device`; everything else as it is."""
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
