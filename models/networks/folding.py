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

_KEPT: weakref.WeakKeyDictionary[nn.Module, dict[str, tuple[Hashable, object]]] = weakref.WeakKeyDictionary()


def folded(module: nn.Module, name: str, sources: Sequence[Tensor], make: Callable[[], T], *key: Hashable) -> T:
    """`make()`, or what it gave last time for this module and name, if all `sources` and `key` are as they were then.

    A tensor has changed when it is another one, lies elsewhere, or was written to: optimisers, load_state_dict, copy_
    and all other in-place operations count (not those on `.data` or in inference mode, which PyTorch does not count).
    """
    now = (key, tuple((id(t), t.data_ptr(), t.dtype, version_of(t)) for t in sources))
    kept = _KEPT.setdefault(module, {})
    if name not in kept or kept[name][0] != now:
        with torch.inference_mode(False), torch.no_grad():  # so that gradients may go through what is made of it
            kept[name] = (now, make())
    return kept[name][1]


def forget(module: nn.Module) -> None:
    """Free what was kept for a module that trains."""
    _KEPT.pop(module, None)


def _count_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """What fused optimisers write PyTorch does not count by itself."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            increment_version(weight)


register_optimizer_step_post_hook(_count_step)


def may_fold(module: nn.Module, sources: Sequence[Tensor]) -> bool:
    """Whether what is made of these weights may be kept: in evaluation, where no gradient goes into them."""
    return not module.training and not (torch.is_grad_enabled() and any(t.requires_grad for t in sources))


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written to; -1 for all tensors made in inference mode, which do not count."""
    return -1 if tensor.is_inference() else tensor._version
