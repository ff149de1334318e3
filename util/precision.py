"""The one place that decides in which types networks compute.

Weights, optimisers, losses, and the statistics of norms are float32 (or what the weights are); under --amp convolutions
and products run in half precision, by PyTorch's autocast.
"""

import sys
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from util.errors import UserError

# The values of --amp.
AMP_TYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_amp(amp: str, device: torch.device) -> None:
    """Refuse a precision that this device does not have; say where it would be slow.

    Raises:
        UserError: fp16 on a CPU, or bf16 on a GPU without it.
    """
    if device.type == "cpu" and amp == "fp16":
        raise UserError("--amp fp16 needs a GPU; on a CPU (--gpu_ids -1) use --amp bf16 or off")
    if device.type == "cuda" and amp == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f"--amp bf16: {torch.cuda.get_device_name(device)} has no bfloat16; use --amp fp16 or off")
    if device.type == "cpu" and amp == "bf16" and not _cpu_has_bf16():
        print("warning: this CPU has no bfloat16 instructions (avx512_bf16, AMX): --amp bf16 is slow", file=sys.stderr)


def autocast(amp: str, device: torch.device) -> AbstractContextManager:
    """The context in which networks run under --amp; it does nothing for `off`."""
    dtype = AMP_TYPES[amp]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def compute_dtype(like: Tensor) -> torch.dtype:
    """The type in which convolutions and products run here: autocast's, or that of `like`."""
    kind = like.device.type
    casts = torch.is_autocast_enabled(kind) and like.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if casts else like.dtype


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; other types as they are. For losses, and for what is squeezed into [-1, 1]."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _cpu_has_bf16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    known = [getattr(torch.cpu, name) for name in names if hasattr(torch.cpu, name)]
    return not known or any(has() for has in known)  # PyTorch 2.4 cannot tell, and nobody is warned
