"""From ids to what networks read: label maps, one-hot classes and instance edges.

Letters: N batch, S semantic channels, H W size, h w size inside a network, K different codes.
"""

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks.layout_conv import LayoutPyramid
from models.networks.patterns import Patterns
from util.errors import UserError

# How SPADE is computed: by tables of patterns where that is cheaper, by tables always, or by the plain formula.
SPADE_IMPLS = ("auto", "pattern", "dense")
WORTHWHILE = 0.5  # different windows, as a share of the pixels, up to which tables are cheaper


class LabelMap:
    """A batch of layouts as ids and instance edges; what networks make of it is made once and kept.

    It stands wherever dense semantics [N, S, H, W] do: one channel for each class and one for edges, if there are any.
    """

    def __init__(self, label: Tensor, edges: Tensor | None, classes: int, impl: str = "auto") -> None:
        """
        Args:
            label: integer [N, 1, H, W] in 0 .. classes - 1.
            edges: bool [N, 1, H, W].
            impl: one of `SPADE_IMPLS`.
        """
        self.label, self.edges, self.classes, self.impl = label, edges, classes, impl
        self._resized: dict[tuple[int, int], LabelMap] = {}  # never itself: what refers to itself is freed late
        self._patterns: dict[int, Patterns] = {}
        self._halved: list[LayoutPyramid] = []

    @property
    def shape(self) -> torch.Size:
        """(N, S, H, W), as of the dense form."""
        n, _, h, w = self.label.shape
        return torch.Size((n, self.classes + (self.edges is not None), h, w))

    def __len__(self) -> int:
        return len(self.label)

    @property
    def device(self) -> torch.device:
        """Where the ids are."""
        return self.label.device

    def to(self, device: torch.device | str) -> "LabelMap":
        """The same layouts on another device."""
        return LabelMap(
            self.label.to(device), None if self.edges is None else self.edges.to(device), self.classes, self.impl
        )

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[N, S, H, W] of 0 and 1."""
        dense = one_hot(self.label, self.classes, dtype)
        return dense if self.edges is None else torch.cat([dense, self.edges.to(dtype)], dim=1)

    def resized(self, size: tuple[int, int]) -> "LabelMap":
        """The layouts at [h, w], by nearest neighbour under PyTorch's rule."""
        size = tuple(size)
        if size == self.shape[-2:]:
            return self
        if size not in self._resized:
            rows, columns = (_nearest(old, new, self.device) for old, new in zip(self.shape[-2:], size, strict=True))
            pick = lambda x: None if x is None else x.index_select(2, rows).index_select(3, columns)  # noqa: E731
            self._resized[size] = LabelMap(pick(self.label), pick(self.edges), self.classes, self.impl)
        return self._resized[size]

    def moved(self, moves: Tensor) -> "LabelMap":
        """Layouts moved by whole rows down and columns to the right, long [N, 2]; ids at the border are repeated."""
        first = torch.arange(len(self), device=self.device)[:, None, None]
        rows, columns = (  # [N, H] and [N, W]: what comes to each place
            (torch.arange(side, device=self.device) - move[:, None]).clamp(0, side - 1)
            for side, move in zip(self.shape[-2:], moves.to(self.device, non_blocking=True).unbind(1), strict=True)
        )
        pick = lambda x: None if x is None else x[first, 0, rows[:, :, None], columns[:, None, :]][:, None]  # noqa: E731
        return LabelMap(pick(self.label), pick(self.edges), self.classes, self.impl)

    def patterns(self, kernel: int) -> Patterns:
        """The different windows of these layouts at this size, for SPADE with this kernel."""
        if kernel not in self._patterns:
            codes, present = self.codes
            self._patterns[kernel] = Patterns(codes, len(present), kernel)
        return self._patterns[kernel]

    def by_pattern(self, kernel: int) -> bool:
        """Whether gamma and beta are to be computed once for each pattern; by `impl`, and by the layouts for auto."""
        if self.impl == "auto":
            return self.patterns(kernel).hidden <= WORTHWHILE * self.label.numel()
        return self.impl == "pattern"

    @cached_property
    def codes(self) -> tuple[Tensor, Tensor]:
        """Ids and edges in one number: long [N, H, W] in 0 .. K - 1, and what each stands for, 2 id + edge, [K]."""
        code = 2 * self.label[:, 0].long()
        if self.edges is not None:
            code += self.edges[:, 0]
        seen = torch.zeros(2 * self.classes, dtype=torch.bool, device=self.device)
        seen.scatter_(0, code.reshape(-1), True)  # which refuses ids outside 0 .. classes - 1
        present = seen.nonzero()[:, 0]
        rank = torch.zeros(2 * self.classes, dtype=torch.long, device=self.device)
        rank[present] = torch.arange(len(present), device=self.device)
        return rank[code], present

    def halved(self, times: int) -> LayoutPyramid:
        """The codes, halved by average pooling (3 x 3, stride 2, padding not counted), to be convolved."""
        if not self._halved:
            codes, present = self.codes
            self._halved.append(LayoutPyramid.of_codes(codes, len(present)))
        while len(self._halved) <= times:
            self._halved.append(self._halved[-1].halve())
        return self._halved[times]

    def by_window(self) -> bool:
        """Whether convolutions of the layouts are to be computed once for each window, as `by_pattern` for SPADE."""
        if self.impl == "auto":
            half = self.halved(1)
            return half.count <= WORTHWHILE * half.ids.numel()
        return self.impl == "pattern"

    def convolve(self, weight: Tensor, stride: int, padding: int, halvings: int = 0) -> Tensor:
        """The convolution of the dense map, or of its averages.

        Args:
            weight: [C, S, k, k].
            halvings: how often the map is halved before, by average pooling (3 x 3, stride 2, padding not counted).

        Returns:
            [N, C, h', w'], differentiable in the weight.
        """
        rows = self.code_rows(by_channel(weight))  # [K, k k C]
        return self.halved(halvings).convolve(rows, weight.shape[-1], stride, padding)

    def code_rows(self, channels: Tensor) -> Tensor:
        """What each code adds, from what each channel of the dense map adds: [S, D] to [K, D]; differentiable."""
        codes = self.codes[1]
        rows = channels.index_select(0, codes // 2)
        return rows if self.edges is None else rows + channels[-1] * (codes % 2).to(channels.dtype)[:, None]


def by_channel(weight: Tensor) -> Tensor:
    """A convolution's weight [C_out, C_in, kh, kw] as a row for each input channel, [C_in, kh kw C_out]."""
    return weight.permute(1, 2, 3, 0).flatten(1)


Semantics = Tensor | LabelMap


def dense_of(semantics: Semantics, dtype: torch.dtype) -> Tensor:
    """Semantics as one tensor [N, S, H, W]."""
    return semantics.dense(dtype) if isinstance(semantics, LabelMap) else semantics.to(dtype)


def resize_nearest(semantics: Semantics, size: tuple[int, int]) -> Semantics:
    """[N, S, H, W] to [N, S, h, w] by nearest neighbour, which keeps one-hot maps one-hot."""
    if tuple(semantics.shape[-2:]) == tuple(size):
        return semantics
    return semantics.resized(size) if isinstance(semantics, LabelMap) else F.interpolate(semantics, size)


def _nearest(old: int, new: int, device: torch.device) -> Tensor:
    """The places, long [new], that nearest-neighbour resizing of a side takes; asked of PyTorch itself."""
    return F.interpolate(torch.arange(old, dtype=torch.float32, device=device)[None, None], new)[0, 0].long()


def one_hot(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Class ids [N, 1, H, W] in 0 .. classes - 1 to [N, C, H, W] of 0 and 1."""
    n, _, h, w = label.shape
    return torch.zeros(n, classes, h, w, dtype=dtype, device=label.device).scatter_(1, label.long(), 1.0)


def instance_edges(instance: Tensor) -> Tensor:
    """Instance ids [N, 1, H, W] to bool [N, 1, H, W]: whether the left, right, upper or lower neighbour differs."""
    edges = torch.zeros_like(instance, dtype=torch.bool)
    horizontal = instance[..., :, 1:] != instance[..., :, :-1]
    vertical = instance[..., 1:, :] != instance[..., :-1, :]
    edges[..., :, 1:] |= horizontal
    edges[..., :, :-1] |= horizontal
    edges[..., 1:, :] |= vertical
    edges[..., :-1, :] |= vertical
    return edges


def encode_label_map(label: Tensor, instance: Tensor | None, classes: int, impl: str = "auto") -> LabelMap:
    """Layouts of ids and, where `instance` is given, instance ids: integer [N, 1, H, W] each.

    Ids are copied: what is written to `label` later changes no layouts.

    Raises:
        UserError: ids are not integer tensors, not of this shape, or not in 0 .. classes - 1, or there is no such
            `impl`; the message says what would do.
    """
    if impl not in SPADE_IMPLS:
        raise UserError(f"impl is {impl!r}, but it is one of {', '.join(SPADE_IMPLS)}")
    label = _integers("label", label)
    if instance is not None:
        instance = _integers("instance", instance)
    _check_ids(label, instance, classes)
    return label_map_of(label.clone(), instance, classes, impl)


def label_map_of(label: Tensor, instance: Tensor | None, classes: int, impl: str = "auto") -> LabelMap:
    """The same of ids that were checked as they were read: checking them here, a GPU would be waited for."""
    return LabelMap(label, None if instance is None else instance_edges(instance), classes, impl)


def _integers(name: str, ids: Tensor) -> Tensor:
    """Ids in a type of integers that PyTorch computes with: not uint16, which 16-bit PNGs have, nor uint32."""
    if not torch.is_tensor(ids):
        raise UserError(f"{name} is a {type(ids).__name__}, but ids are tensors: torch.as_tensor({name})")
    if ids.is_floating_point() or ids.is_complex():
        raise UserError(f"{name} is {ids.dtype}, but ids are integers: {name}.long(), if its values are whole")
    return ids.long() if ids.dtype in (torch.uint16, torch.uint32, torch.uint64) else ids


def _check_ids(label: Tensor, instance: Tensor | None, classes: int) -> None:
    if label.ndim != 4 or label.shape[1] != 1 or not label.numel():
        raise UserError(
            f"label has the shape {list(label.shape)}, but layouts are [N, 1, H, W], with at least one of each; "
            "label[None, None] makes them of one map [H, W]"
        )
    if instance is not None and instance.shape != label.shape:
        raise UserError(f"instance has the shape {list(instance.shape)}, label {list(label.shape)}: make them equal")
    lowest, highest = (int(end) for end in label.aminmax())
    if lowest < 0 or highest >= classes:
        raise UserError(
            f"label has the id {lowest if lowest < 0 else highest}, but {classes} classes have ids 0 .. {classes - 1}: "
            "change such ids (unknown pixels, 255 in most files, are id label_nc where --contain_dontcare_label makes "
            "a class of them)"
        )
