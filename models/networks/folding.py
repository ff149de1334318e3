"""What evaluation computes from weights once and keeps as long as they stay as they are."""

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

T = TypeVar("T")

_KEPT: weakref.WeakKeyDictionary[nn.Module, dict[str, tuple[Hashable, Any, list[Tensor]]]] = weakref.WeakKeyDictionary()


def folded(module: nn.Module, name: str, sources: Sequence[Tensor], make: Callable[[], T], *key: Hashable) -> T:
    """`make()`, or what it gave last time for this module and name, if all `sources` and `key` are as they were then.

    A tensor has changed when it lies elsewhere, or was written to: optimisers, load_state_dict, copy_ and all other
    in-place operations count (not those on `.data`, which PyTorch does not count).
    """
    now = (key, tuple((t.data_ptr(), t.dtype, t.shape, t.stride(), t._version) for t in sources))
    kept = _KEPT.setdefault(module, {})
    made = kept.get(name)
    if made is None or made[0] != now:
        with torch.inference_mode(False), torch.no_grad():  # so that gradients may go through what is made of it
            # The sources are kept too: as long as they are, nothing else can lie where they do.
            made = kept[name] = (now, make(), [t.detach() for t in sources])
    return made[1]


def forget(module: nn.Module) -> None:
    """Free what was kept for a module that trains."""
    if not is_traced():
        _KEPT.pop(module, None)


def _count_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """What fused optimisers write PyTorch does not count by itself. Weights without a gradient they leave alone."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.grad is not None:
                increment_version(weight)


register_optimizer_step_post_hook(_count_step)


def is_traced() -> bool:
    """Whether PyTorch follows the Python code to make a graph of it, for which it is to be plain."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def may_fold(module: nn.Module, sources: Sequence[Tensor]) -> bool:
    """Whether what is made of these weights may be kept: in evaluation, where no gradient goes into them.

    Not if they were made in inference mode, where PyTorch does not count what is written to them; nor while the network
    is traced, or if the tensors are of other classes than PyTorch's usual ones: those of an export have no memory.
    """
    if module.training or is_traced():
        return False
    if any(type(t) not in (Tensor, nn.Parameter) or t.is_inference() for t in sources):
        return False
    return not (torch.is_grad_enabled() and any(t.requires_grad for t in sources))
