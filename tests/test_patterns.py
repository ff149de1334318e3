"""Label maps as ids: which windows of them differ, and convolutions of them, against brute force.

Letters: N batch, h w size, K codes, k kernel, T = k * k taps of a window, M = N * h * w pixels, U different windows.
"""

import copy
import gc
import itertools
import weakref
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from models.networks import patterns
from models.networks.patterns import ROUND_ROWS, GatherSum, Patterns, Segments, distinct, starts_of, window_ids
from models.networks.semantics import LabelMap, dense_of, encode_label_map, instance_edges, resize_nearest
from tests.deterministic import generator, label_map


def noise(codes: int, n: int, height: int, width: int) -> Tensor:
    return torch.from_numpy(generator(f"{codes} codes").integers(0, codes, (n, height, width)))


def regions(codes: int, n: int, height: int, width: int) -> Tensor:
    return label_map(f"{codes} regions", n, codes, height, width)[:, 0]


def checkerboard(height: int, width: int) -> Tensor:
    return (torch.arange(height)[:, None] + torch.arange(width))[None] % 2


MAPS = {  # ids, and how many there are
    "regions": (regions(5, 2, 13, 17), 5),
    "noise": (noise(3, 2, 9, 8), 3),
    "one region": (torch.zeros(1, 9, 10, dtype=torch.long), 1),
    "an id that is never seen": (torch.full((1, 9, 9), 1), 3),
    "checkerboard": (checkerboard(9, 11), 2),
    "stripes": (checkerboard(1, 9).repeat(1, 8, 1), 2),
    "one pixel of another id": (F.pad(torch.ones(1, 1, 1, dtype=torch.long), (3, 7, 6, 2)), 2),
    "one pixel wide": (regions(3, 2, 12, 12)[:, :, :1], 3),
    "one pixel high": (regions(3, 2, 12, 12)[:, 4:5], 3),
    "two pixels wide": (regions(3, 2, 9, 2), 3),
    "one pixel": (torch.tensor([[[0]], [[1]], [[0]]]), 2),
    "a border in only one image": (torch.stack([torch.zeros(8, 8).long(), regions(2, 1, 8, 8)[0]]), 2),
    "codes that overflow 3 x 3": (noise(200, 1, 12, 12), 200),
    "few differences among many codes": (100 + regions(90, 2, 10, 10), 190),
}


def neighbourhoods(ids: Tensor, count: int, kernel: int, stride: int = 1, padding: int | None = None) -> Tensor:
    """The ids around each place, one by one: long [N, h', w', T], `count` outside."""
    padding = kernel // 2 if padding is None else padding
    padded = F.pad(ids, (padding,) * 4, value=count)
    return padded.unfold(1, kernel, stride).unfold(2, kernel, stride).flatten(3)


def same_partition(a: Tensor, b: Tensor) -> bool:
    """Whether two numberings [M] tell the same places apart."""
    pairs = torch.stack([a, b]).unique(dim=1).shape[1]
    return pairs == len(a.unique()) == len(b.unique())


def numbered(rows: Tensor) -> Tensor:
    """Rows [..., T] numbered [M]."""
    return rows.flatten(0, -2).unique(dim=0, return_inverse=True)[1]


# ------------------------------------------------------------------------------------------------------------- windows


def test_windows_by_hand() -> None:
    """In 0 0 1, one pixel high, each window of 3 x 3 has only a middle row: - 0 0, 0 0 1 and 0 1 -."""
    numbers, members = window_ids(torch.tensor([[[0, 0, 1]]]), count=2, kernel=3)
    assert [members[i].view(3, 3)[1].tolist() for i in numbers[0, 0]] == [[2, 0, 0], [0, 0, 1], [0, 1, 2]]
    assert all(members[i].view(3, 3)[row].eq(2).all() for i in numbers[0, 0] for row in (0, 2))
    assert members[:2].tolist() == [[0] * 9, [1] * 9]  # windows of one id alone, seen or not


def test_few_windows_differ_in_one_region() -> None:
    """Along a side of 7 pixels: first, middle, last. Windows of windows see two borders: 0, 1, 2 .. 4, 5, 6."""
    table = Patterns(torch.zeros(1, 7, 7, dtype=torch.long), 1, kernel=3)
    assert (table.hidden, len(table)) == (3 * 3, 5 * 5)
    index = table.index.view(7, 7)
    assert index[2:5, 2:5].eq(0).all()  # windows of the one id are number 0
    assert index[0, 2:5].unique().numel() == 1
    assert Patterns(torch.zeros(1, 7, 7, dtype=torch.long), 1, kernel=1).hidden == 1


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("name", MAPS)
def test_windows(name: str, kernel: int) -> None:
    """Numbers tell apart what neighbourhoods do, and `members` are the neighbourhoods."""
    ids, count = MAPS[name]
    numbers, members = window_ids(ids, count, kernel)
    around = neighbourhoods(ids, count, kernel)
    assert torch.equal(members[numbers], around)
    assert same_partition(numbers.flatten(), numbered(around))
    alone = around.eq(around[..., :1]).all(-1)
    assert torch.equal(numbers[alone], ids[alone])
    assert members[:count].eq(torch.arange(count)[:, None]).all()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (4, 2, 2), (4, 1, 2), (4, 1, 1), (2, 1, 0), (3, 1, 0), (1, 2, 0)]
)
@pytest.mark.parametrize("name", ["regions", "noise", "one region", "checkerboard", "few differences among many codes"])
def test_windows_of_other_convolutions(name: str, kernel: int, stride: int, padding: int) -> None:
    ids, count = MAPS[name]
    numbers, members = window_ids(ids, count, kernel, stride, padding)
    around = neighbourhoods(ids, count, kernel, stride, padding)
    assert numbers.shape == around.shape[:3]
    assert torch.equal(members[numbers], around)
    assert same_partition(numbers.flatten(), numbered(around))
    assert len(members) == len(numbers.unique())


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("name", MAPS)
def test_patterns(name: str, kernel: int) -> None:
    """The partition is that of whole neighbourhoods of 2 k - 1; rows and taps stand for the right ids and windows."""
    ids, count = MAPS[name]
    table, taps = Patterns(ids, count, kernel), torch.arange(kernel**2)
    assert table.hidden == len(table.first.index)
    around = neighbourhoods(ids, count, kernel)  # [N, h, w, T]
    rows = torch.where(around == count, count * kernel**2, around * kernel**2 + taps)
    assert torch.equal(table.first.index[table.windows], rows)
    assert table.first.rows == count * kernel**2 + 1

    index = table.index.view(ids.shape)
    assert same_partition(index.flatten(), numbered(neighbourhoods(ids, count, 2 * kernel - 1)))
    windows = neighbourhoods(table.windows, table.hidden, kernel)
    assert torch.equal(table.second.index[index], windows * kernel**2 + taps)
    assert table.height % ROUND_ROWS == 0 and table.hidden < table.height <= table.hidden + ROUND_ROWS
    assert table.second.rows == table.height * kernel**2
    assert len(table) == len(table.second.index) > index.max()
    assert torch.equal(table.hidden_at.index, table.windows)


def test_batches_share_their_windows() -> None:
    """Twice the same image has no more patterns than once, under the same numbers."""
    ids, count = MAPS["regions"]
    once, twice = Patterns(ids[:1], count, 3), Patterns(ids[:1].repeat(2, 1, 1), count, 3)
    assert len(once) == len(twice)
    assert torch.equal(twice.index[0], once.index[0])
    assert torch.equal(twice.index[0], twice.index[1])


@pytest.mark.parametrize(("kernel", "count"), [(3, 126), (3, 127), (3, 128), (3, 500), (5, 4), (5, 5), (5, 40)])
def test_windows_of_many_codes(kernel: int, count: int) -> None:
    """127^9 < 2^63 < 128^9 and 5^25 < 2^63 < 6^25: beyond, keys are ranked on the way. The largest codes come up."""
    ids = noise(count, 1, 12, 12)
    ids[0, :6, :6] = count - 1
    ids[0, 6:9, 6:9] = count - 2
    numbers, members = window_ids(ids, count, kernel)
    around = neighbourhoods(ids, count, kernel)
    assert torch.equal(members[numbers], around)
    assert same_partition(numbers.flatten(), numbered(around))


def test_keys_do_not_overflow() -> None:
    """In base 2^32 three columns need 96 bits: those of 64 would not see the first column."""
    columns = [torch.tensor(column) for column in ([0, 1, 0, 2**32 - 1], [5, 5, 5, 2**32 - 1], [6, 6, 6, 2**32 - 1])]
    number, rows = distinct(columns, 2**32 - 1 + 1)
    assert number[0] == number[2]
    assert number.unique().numel() == 3
    for column in columns:
        assert torch.equal(column[rows[number]], column)


def test_keys_just_fit() -> None:
    """Up to the largest key nothing is ranked, and the order is that of the columns; one more, and it is."""
    columns = [torch.tensor([2**31 - 1, 0, 2**31 - 1]), torch.tensor([2**31 - 1, 0, 0])]
    number, rows = distinct(columns, 2**31)
    assert number.tolist() == [2, 0, 1]
    assert rows.tolist() == [1, 2, 0]


def test_starts() -> None:
    """Owner 0 has two items, 1 none, 2 one, 3 none."""
    assert starts_of(torch.tensor([0, 2, 0]), 4).tolist() == [0, 2, 2, 3]


# ---------------------------------------------------------------------------------------------------------------- sums


def test_gather_sum_by_hand() -> None:
    """Row 2 went to two places, so that its gradient is twice theirs; row 1 to none."""
    lookup = GatherSum(torch.tensor([[0, 2], [2, 3]]), rows=4)
    table = torch.tensor([[1.0], [10.0], [100.0], [1000.0]], requires_grad=True)
    out = lookup(table)
    assert out.tolist() == [[101.0], [1100.0]]
    (out * torch.tensor([[1.0], [5.0]])).sum().backward()
    assert table.grad.tolist() == [[1.0], [0.0], [6.0], [5.0]]


@pytest.mark.parametrize("index", [[[0, 2], [2, 3], [2, 2]], [[1], [1], [0]], [[4, 4, 4]]])
def test_gradient_of_a_gather(index: list[list[int]]) -> None:
    lookup = GatherSum(torch.tensor(index), rows=5)
    table = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.testing.assert_close(lookup(table), table[lookup.index].sum(1))
    assert gradcheck(lookup, (table,))


def test_gradient_of_a_gather_need_not_be_contiguous() -> None:
    lookup, table = GatherSum(torch.tensor([[0], [1], [0]]), rows=2), torch.zeros(2, 2, requires_grad=True)
    lookup(table).backward(torch.tensor([[1.0, 2, 3], [10, 20, 30]]).T)
    assert table.grad.tolist() == [[4.0, 40.0], [2.0, 20.0]]


@pytest.mark.parametrize("rows", [1, 4, 5, 12, 100])
def test_segments(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over the pixels of each pattern, in two steps, block by block and at once; no block spans two images."""
    monkeypatch.setattr(patterns, "BLOCK_ROWS", rows)
    index = regions(4, 3, 3, 4).flatten(1)
    index[index == 2] = 5  # so that 2 and 4 have no pixels
    values = torch.randn(3, 12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    segments = Segments(index, 7)
    expected = torch.zeros(7, 2, dtype=torch.float64).index_add_(0, index.flatten(), values.flatten(0, 1))
    at_once = F.embedding_bag(segments.order, values.flatten(0, 1), segments.starts, mode="sum")
    torch.testing.assert_close(segments.total(at_once), expected)

    blocks = patterns.blocks_of(3, 12)
    assert sorted((image.start, row) for image, part in blocks for row in range(12)[part]) == [
        (image, row) for image in range(3) for row in range(12)
    ]
    assert max(part.stop - part.start for _, part in blocks) == min(rows, 12)
    assert all(image.stop == image.start + 1 for image, _ in blocks)
    bounds = tuple(itertools.accumulate((part.stop - part.start for _, part in blocks), initial=0))
    sums = torch.full((len(segments), 2), torch.nan, dtype=torch.float64)
    for (image, part), (order, starts, place) in zip(blocks, segments.within(bounds), strict=True):
        sums[place] = F.embedding_bag(order, values[image, part].flatten(0, 1), starts, mode="sum")
    torch.testing.assert_close(segments.total(sums), expected)
    assert len(segments) == sum(len(index[image, part].unique()) for image, part in blocks)
    (order, starts, place), _ = segments.within((0, 24, 36))  # pieces of two images and of one
    torch.testing.assert_close(
        F.embedding_bag(order, values[:2].flatten(0, 1), starts, mode="sum"), sums[place], rtol=0, atol=1e-12
    )


# ---------------------------------------------------------------------------------------------------------- label maps


def layouts(n: int = 2, height: int = 13, width: int = 18, impl: str = "pattern", edges: bool = True) -> LabelMap:
    label, instance = label_map("a", n, 4, height, width), label_map("b", n, 9, height, width)
    return encode_label_map(label, instance if edges else None, 4, impl)


def test_codes_by_hand() -> None:
    """Codes 2 id + edge that come up are numbered in order: 0, 3 and 4 here."""
    label, edges = torch.tensor([[[[0, 1], [2, 0]]]]), torch.tensor([[[[False, True], [False, False]]]])
    codes, present = LabelMap(label, edges, 3).codes
    assert present.tolist() == [0, 3, 4]
    assert codes.tolist() == [[[0, 1], [2, 0]]]
    assert LabelMap(label, None, 3).codes[1].tolist() == [0, 2, 4]


def test_small_ids_do_not_overflow() -> None:
    """Twice an id of 200 is more than 8 bits hold; instance ids of 32 bits differ in the high ones alone."""
    label = torch.tensor([[[[0, 127, 128], [200, 181, 200]]]], dtype=torch.uint8)
    instance = torch.tensor([[[[0, 0, 65536], [0, 0, 65536]]]], dtype=torch.int32)
    small = encode_label_map(label, instance, 201)
    large = encode_label_map(label.long(), instance.long(), 201)
    assert small.codes[1].tolist() == [0, 255, 257, 363, 400, 401]
    assert torch.equal(small.codes[0], large.codes[0])
    assert torch.equal(small.dense(torch.float32), large.dense(torch.float32))
    assert small.dense(torch.float32)[0, :201].argmax(0).tolist() == label[0, 0].tolist()
    weight = torch.randn(2, 202, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small.convolve(weight, 1, 1), F.conv2d(small.dense(torch.float32), weight, padding=1))


@pytest.mark.parametrize("size", [(13, 18), (6, 9), (1, 1), (26, 36), (5, 31), (13, 9)])
def test_resizing_is_that_of_the_dense_form(size: tuple[int, int]) -> None:
    own = layouts()
    small = resize_nearest(own, size)
    dense = F.interpolate(own.dense(torch.float32), size)
    assert torch.equal(small.dense(torch.float32), dense)
    assert torch.equal(resize_nearest(own.dense(torch.float32), size), dense)
    assert small is own.resized(size)  # kept
    assert (small.shape, small.impl) == (dense.shape, "pattern")
    assert (small is own) == (size == (13, 18))


@pytest.mark.parametrize("edges", [True, False])
def test_label_maps_stand_for_dense_semantics(edges: bool) -> None:
    own = layouts(edges=edges)
    dense = dense_of(own, torch.float64)
    assert dense.dtype == torch.float64
    assert (own.shape, len(own)) == (dense.shape, 2)
    assert dense[:, :4].sum(1).eq(1).all()
    assert (dense.shape[1] == 5) == edges
    if edges:
        assert torch.equal(dense[:, 4:], instance_edges(label_map("b", 2, 9, 13, 18)).double())
    moved = own.to("cpu")
    assert torch.equal(moved.dense(torch.float64), dense)
    assert moved.impl == own.impl
    assert own.patterns(3) is own.patterns(3)
    assert own.patterns(3) is not own.patterns(1)


def test_auto_takes_tables_where_few_windows_differ() -> None:
    """Of 15 x 15 pixels of one region, and of their 8 x 8 averages, 9 differ; of noise all do. Only auto asks."""
    one = torch.zeros(1, 1, 15, 15, dtype=torch.long)
    many = noise(50, 1, 15, 15)[None]
    for impl, chosen in (("auto", [True, False]), ("pattern", [True, True]), ("dense", [False, False])):
        maps = [LabelMap(label, None, 50, impl) for label in (one, many)]
        assert [m.by_pattern(3) for m in maps] == chosen
        assert [m.by_window() for m in maps] == chosen


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 2), (3, 1, 1), (1, 1, 0), (5, 1, 2), (3, 2, 0)])
@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_convolution_of_a_label_map(halvings: int, kernel: int, stride: int, padding: int, edges: bool) -> None:
    """Equal to that of the dense form, or of its averages, with the gradient of the weight; odd sizes too."""
    own = layouts(height=21, width=26, edges=edges)
    x = own.dense(torch.float64)
    for _ in range(halvings):
        x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
    weight = torch.randn(3, x.shape[1], kernel, kernel, generator=torch.Generator().manual_seed(0)).double()
    weight.requires_grad_()
    expected, out = F.conv2d(x, weight, None, stride, padding), own.convolve(weight, stride, padding, halvings)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).double()
    a, b = (torch.autograd.grad(y, weight, seed)[0] for y in (out, expected))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_gradient_of_a_convolution_of_a_label_map() -> None:
    own = layouts(height=5, width=6)
    weight = torch.randn(2, 5, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight.requires_grad_()
    assert gradcheck(lambda w: own.convolve(w, 2, 1), (weight,))
    assert gradcheck(lambda w: own.convolve(w, 1, 1, halvings=1), (weight,))


def test_label_maps_can_be_copied() -> None:
    own = layouts()
    own.patterns(3).segments  # noqa: B018
    other = copy.deepcopy(own)
    assert torch.equal(other.dense(torch.float64), own.dense(torch.float64))
    assert other.patterns(3) is not own.patterns(3)


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Python frees what nothing refers to, and only that: what refers to itself waits for the collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_tables_are_freed_with_their_layouts(without_collector: None) -> None:
    own = layouts()
    own.resized((6, 9)).patterns(3).segments.within((0, 108))
    assert own.resized((13, 18)) is own
    held = [weakref.ref(own), weakref.ref(own.resized((6, 9)).patterns(3))]
    del own
    assert [ref() for ref in held] == [None, None]


def test_pyramids_are_freed_with_their_layouts(without_collector: None) -> None:
    own = layouts()
    own.convolve(torch.ones(1, 5, 4, 4), 2, 2, halvings=1)
    held = weakref.ref(own.halved(1))
    del own
    assert held() is None
