"""The one place that knows about devices and processes."""

import torch

from util.allocator import keep_freed_memory
from util.errors import UserError


def pick_device(gpu_ids: list[int]) -> torch.device:
    """The device of this process: the first of `gpu_ids`, or the CPU where the list is empty (`--gpu_ids -1`).

    Raises:
        UserError: a GPU was asked for that is not there, or several were.
    """
    if not gpu_ids:
        keep_freed_memory()
        return torch.device("cpu")
    if len(gpu_ids) > 1:
        asked = ",".join(map(str, gpu_ids))
        raise UserError(f"--gpu_ids {asked}: several GPUs are not used yet; give one id")
    count = torch.cuda.device_count()
    if count == 0:
        why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "nvidia-smi shows what is there"
        raise UserError(f"--gpu_ids {gpu_ids[0]}, but PyTorch sees no GPU here ({why}); --gpu_ids -1 runs on the CPU")
    if gpu_ids[0] >= count:
        raise UserError(f"--gpu_ids {gpu_ids[0]}, but PyTorch sees {count} GPUs; ids start at 0, -1 is the CPU")
    return torch.device("cuda", gpu_ids[0])


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on `device`; everything else as it is."""
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
