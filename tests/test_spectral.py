"""Spectral norm and folded weights: PyTorch's own spectral norm, and modules whose weights have just changed."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.utils import spectral_norm

from models.networks import folding, onednn
from models.networks.folding import folded, may_fold
from models.networks.normalization import SPADE, NormSpec
from models.networks.semantics import LabelMap, encode_label_map
from models.networks.spectral import (
    SpectralConv2d,
    _SpectralConv,
    as_matrix,
    from_memory_order,
    in_memory_order,
    memory_format_of,
    spectral,
    spectral_everywhere,
    weight_of,
    without_power_iteration,
)
from tests.deterministic import filled, label_map

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SHAPES = {  # channels in and out, kernel, stride, padding, size of x: the output is smaller than the weight, or not
    "weight smaller": ((3, 4, 3, 1, 1), (2, 3, 9, 8)),
    "output smaller": ((3, 4, 3, 1, 1), (1, 3, 3, 4)),
    "weight smaller, stride 2": ((2, 5, 4, 2, 2), (2, 2, 11, 13)),
    "output smaller, stride 2": ((2, 5, 4, 2, 0), (1, 2, 5, 6)),
    "weight smaller, 1 x 1": ((6, 4, 1, 1, 0), (2, 6, 5, 3)),
    "output smaller, 1 x 1": ((6, 4, 1, 1, 0), (1, 6, 2, 2)),
    "one channel in": ((1, 4, 3, 1, 1), (1, 1, 4, 3)),
    "one channel out": ((4, 1, 3, 1, 1), (1, 4, 3, 3)),
    "neither square": ((3, 4, (3, 2), (2, 1), (1, 0)), (2, 3, 7, 6)),
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pair(shape: tuple, bias: bool = True, memory: str = "contiguous") -> tuple[nn.Conv2d, SpectralConv2d]:
    """PyTorch's and our own spectral norm of the same convolution, from the same u and v."""
    torch.manual_seed(1)
    conv = nn.Conv2d(*shape, bias=bias).double()
    released, own = spectral_norm(copy.deepcopy(conv)), spectral(copy.deepcopy(conv))
    own.load_state_dict(released.state_dict())
    return released, own.to(memory_format=FORMATS[memory])


def run(conv: nn.Conv2d, x: Tensor, seed: int = 3) -> dict[str, Tensor]:
    """The output and all gradients of a pass, then u and v."""
    x = x.clone().requires_grad_()
    y = conv(x)
    leaves = {"x": x, **dict(conv.named_parameters())}
    grads = torch.autograd.grad(y, list(leaves.values()), randn(*y.shape, seed=seed))
    # weight_orig comes last in one of the two
    return {"y": y, **dict(sorted(zip(leaves, grads, strict=True))), **dict(conv.named_buffers())}


# ------------------------------------------------------------------------------------------------------- spectral norm


@pytest.mark.parametrize("memory", FORMATS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_equals_that_of_pytorch(name: str, bias: bool, memory: str) -> None:
    """Three passes in training and one in evaluation: outputs, gradients, u and v."""
    shape, size = SHAPES[name]
    released, own = pair(shape, bias, memory)
    before = own.weight_u.clone()
    for i in range(4):
        if i == 3:
            released.eval()
            own.eval()
        x = randn(*size, seed=i).to(memory_format=FORMATS[memory])
        a, b = run(released, x), run(own, x)
        assert list(a) == list(b)
        for key, value in a.items():
            torch.testing.assert_close(b[key], value, rtol=1e-10, atol=1e-12, msg=f"{key} of pass {i}")
        with torch.no_grad():
            torch.testing.assert_close(own(x), b["y"], rtol=1e-12, atol=1e-13) if i == 3 else None
    assert not torch.equal(before, own.weight_u) or len(before) == 1
    assert own.weight_orig.stride() == nn.Parameter(released.weight_orig.to(memory_format=FORMATS[memory])).stride()


@pytest.mark.parametrize("memory", FORMATS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "name", ["weight smaller", "output smaller", "output smaller, stride 2", "weight smaller, 1 x 1"]
)
def test_gradient(name: str, bias: bool, memory: str) -> None:
    """Against differences of conv(x, weight / (u' weight v)) + bias."""
    (fin, fout, kernel, stride, padding), size = SHAPES[name]
    x, weight = randn(*size), randn(fout, fin, kernel, kernel, seed=1).to(memory_format=FORMATS[memory])
    u, v = F.normalize(randn(fout, seed=2), dim=0), F.normalize(randn(weight[0].numel(), seed=3), dim=0)
    leaves = [x, weight, randn(fout, seed=4)] if bias else [x, weight]

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        sigma = torch.dot(u, torch.mv(as_matrix(weight), v)).detach()
        return _SpectralConv.apply(x, weight, bias, sigma, u, v, (stride, stride), (padding, padding))

    assert gradcheck(conv, [leaf.requires_grad_() for leaf in leaves])
    y = conv(*leaves)
    assert y.grad_fn.divides_output == (name.startswith("output")) == (y.numel() < weight.numel())


def test_gradients_are_computed_where_they_are_wanted() -> None:
    """D's weights are frozen in the generator's step; the first layer's x needs no gradient."""
    for size in ((1, 3, 3, 3), (2, 3, 9, 9)):
        _, own = pair((3, 4, 3, 1, 1))
        own.eval()
        x = randn(*size)
        whole = run(own, x)
        for kept in ("x", "weight_orig", "bias"):
            own.requires_grad_(False)
            leaf = x.clone() if kept == "x" else getattr(own, kept)
            leaf.requires_grad_()
            y = own(leaf if kept == "x" else x)
            (grad,) = torch.autograd.grad(y, leaf, randn(*y.shape, seed=3))
            torch.testing.assert_close(grad, whole[kept], rtol=1e-12, atol=1e-13)


def test_norm_by_hand() -> None:
    """diag(4, 1) and u = v = (1, 0) stay as they are: the norm is 4."""
    conv = spectral(nn.Conv2d(2, 2, 1, bias=False))
    with torch.no_grad():
        conv.weight_orig.copy_(torch.diag(torch.tensor([4.0, 1.0])).view(2, 2, 1, 1))
        conv.weight_u.copy_(torch.tensor([1.0, 0.0]))
    out = conv(torch.tensor([8.0, 8.0]).view(1, 2, 1, 1))
    assert out.flatten().tolist() == [8, 2]
    assert conv.weight_v.tolist() == [1, 0]
    assert weight_of(conv).flatten().tolist() == [1, 0, 0, 0.25]


def test_the_state_is_that_of_pytorch() -> None:
    """Keys and their order, and a file of either loads into the other."""
    for bias in (True, False):
        conv = nn.Conv2d(3, 4, 3, bias=bias)
        released, own = spectral_norm(copy.deepcopy(conv)), spectral(copy.deepcopy(conv))
        assert list(own.state_dict()) == list(released.state_dict())
        assert [tuple(v.shape) for v in own.state_dict().values()] == [
            tuple(v.shape) for v in released.state_dict().values()
        ]
        assert [name for name, _ in own.named_parameters()] == [name for name, _ in released.named_parameters()]
        for source, target in ((released, own), (own, released)):
            source(torch.ones(1, 3, 4, 4))
            target.load_state_dict(source.state_dict())
            source.eval()
            target.eval()
            torch.testing.assert_close(target(torch.ones(1, 3, 4, 4)), source(torch.ones(1, 3, 4, 4)))


def test_the_random_start_is_that_of_pytorch() -> None:
    convs = []
    for wrap in (spectral_norm, spectral):
        torch.manual_seed(3)
        convs.append(wrap(nn.Conv2d(3, 4, 3)))
        convs.append(torch.rand(1))
    released, after, own, also = convs
    for key, value in released.state_dict().items():
        assert torch.equal(own.state_dict()[key], value), key
    assert torch.equal(after, also)


def test_copies_are_independent() -> None:
    _, own = pair((3, 4, 3, 1, 1))
    other, x = copy.deepcopy(own), randn(1, 3, 5, 5)
    assert torch.equal(own(x), other(x))
    own(x)
    assert not torch.equal(own.weight_u, other.weight_u)


def test_other_layers_keep_pytorchs_norm() -> None:
    for layer in (nn.Linear(3, 2), nn.ConvTranspose2d(3, 2, 3)):
        made = spectral(layer)
        assert made is layer
        assert "weight_orig" in made.state_dict()
        assert weight_of(made) is made.weight
    net = nn.Sequential(nn.Conv2d(1, 2, 3), spectral(nn.Conv2d(2, 2, 3)), nn.Sequential(nn.Linear(2, 2)), nn.ReLU())
    already = net[1]
    spectral_everywhere(net)
    assert [isinstance(net[0], SpectralConv2d), net[1] is already, "weight_orig" in net[2][0].state_dict()] == [
        True
    ] * 3


def test_without_power_iteration() -> None:
    """Inside, a pass in training changes nothing, and gives what evaluation gives; afterwards it iterates again."""
    _, own = pair((3, 4, 3, 1, 1))
    net, x = nn.Sequential(own), randn(2, 3, 5, 5)
    net(x)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with without_power_iteration(net):
        inside = net(x)
        with without_power_iteration(net):
            pass
        net(x)  # still
        assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    torch.testing.assert_close(inside, net.eval()(x))
    with pytest.raises(ZeroDivisionError), without_power_iteration(net):
        raise ZeroDivisionError
    net.train()(x)
    assert not torch.equal(own.weight_u, before["0.weight_u"])


@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.ConvTranspose2d(3, 4, 3)])
def test_without_the_power_iteration_of_pytorchs_norm(layer: nn.Module) -> None:
    """Layers that keep PyTorch's norm stand still inside alike, and iterate again afterwards."""
    net, x = nn.Sequential(spectral(copy.deepcopy(layer).double())), randn(2, 3, 3, 3)
    net(x)
    before = net[0].weight_u.clone()
    with without_power_iteration(net):
        net(x).sum().backward()
        with without_power_iteration(net):
            net(x)
        net(x)
    assert torch.equal(net[0].weight_u, before)
    net(x)
    assert not torch.equal(net[0].weight_u, before)


@pytest.mark.parametrize("memory", FORMATS)
def test_the_weight_is_differentiable(memory: str) -> None:
    """`weight_of`: orig over its norm, with the gradient that PyTorch's own gets."""
    released, own = pair((3, 4, 3, 1, 1), memory=memory)
    released(randn(1, 3, 3, 3))
    weight, seed = weight_of(own), randn(4, 3, 3, 3)
    torch.testing.assert_close(weight, released.weight)
    a, b = (torch.autograd.grad(w, c.weight_orig, seed)[0] for w, c in ((weight, own), (released.weight, released)))
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(own.weight_v, released.weight_v)
    plain = nn.Conv2d(1, 1, 1)
    assert weight_of(plain) is plain.weight


@pytest.mark.parametrize("memory", FORMATS)
@pytest.mark.parametrize("shape", [(4, 3, 2, 3), (4, 3, 1, 1), (4, 1, 3, 3)])
def test_memory_order(shape: tuple[int, ...], memory: str) -> None:
    """As a matrix a weight is read as it lies; what is one value per column follows, and comes back."""
    weight = randn(*shape).to(memory_format=FORMATS[memory])
    v, matrix = randn(weight[0].numel(), seed=1), as_matrix(weight)
    assert matrix.data_ptr() == weight.data_ptr()
    torch.testing.assert_close(matrix @ in_memory_order(v, weight), weight.flatten(1) @ v)
    assert torch.equal(from_memory_order(in_memory_order(v, weight), weight), v)
    both = weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)
    assert memory_format_of(weight) == (torch.contiguous_format if both else FORMATS[memory])


@pytest.mark.parametrize("name", ["weight smaller", "output smaller"])
def test_half_precision(name: str) -> None:
    """Under autocast the output is bfloat16 and gradients are float32, u and v too; near those without."""
    shape, size = SHAPES[name]
    _, own = pair(shape)
    own, x = own.float(), randn(*size).float()
    other = copy.deepcopy(own)
    exact = run(other, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(own, x, seed=3)
    assert found["y"].dtype == torch.bfloat16
    for key, value in exact.items():
        assert (found[key] - value).norm() <= (0 if key in ("weight_u", "weight_v") else 0.02) * value.norm(), key
        assert key == "y" or found[key].dtype == torch.float32


# -------------------------------------------------------------------------------------------------------------- folding


def counted(make: Callable[[], object]) -> tuple[Callable[[], object], list[int]]:
    calls: list[int] = []
    return lambda: calls.append(1) or make(), calls


def test_folded_by_hand() -> None:
    """Made once for a state of its sources, a name, a key and a module; without gradient."""
    module, a, b = nn.Linear(1, 1), torch.ones(2, requires_grad=True), torch.ones(2)
    make, calls = counted(lambda: 2 * a)

    def ask(
        name: str = "twice", sources: tuple[Tensor, ...] = (a, b), key: object = 1, owner: nn.Module = module
    ) -> int:
        assert not folded(owner, name, sources, make, key).requires_grad
        return len(calls)

    assert [ask(), ask()] == [1, 1]
    b.add_(1)
    assert [ask(), ask()] == [2, 2]
    assert [ask(name="other"), ask()] == [3, 3]
    assert [ask(key=2), ask(key=2)] == [4, 4]
    assert [ask(key=2, sources=(a, b.clone())), ask(key=2)] == [5, 6]
    assert [ask(owner=nn.Linear(1, 1)), ask(key=2)] == [7, 7]
    b.data = torch.zeros(2)
    assert ask(key=2) == 8


def test_what_is_folded_goes_with_its_module() -> None:
    module = nn.Linear(1, 1)
    before = len(folding._KEPT)
    folded(module, "x", [module.weight], lambda: torch.ones(1))
    assert len(folding._KEPT) == before + 1
    del module
    assert len(folding._KEPT) == before


def test_when_to_fold() -> None:
    module = nn.Linear(1, 1)
    sources = list(module.parameters())
    assert not may_fold(module, sources)  # in training
    module.eval()
    assert not may_fold(module, sources)  # gradients are wanted
    with torch.no_grad():
        assert may_fold(module, sources)
    module.requires_grad_(False)
    assert may_fold(module, sources)
    module.bias.requires_grad_(True)
    assert not may_fold(module, sources)
    with torch.no_grad():
        assert not may_fold(module, [torch.rand(2).as_subclass(Subclass)])  # perhaps without memory


class Subclass(Tensor):
    """A class of tensors that is not PyTorch's own."""


def test_a_step_counts_for_the_weights_that_it_changes() -> None:
    """A graph through a weight without a gradient is whole after a step, as without this module."""
    used, other = nn.Linear(2, 2), nn.Linear(2, 2)
    step = torch.optim.Adam([*used.parameters(), *other.parameters()], fused=True)
    x = torch.ones(1, 2, requires_grad=True)
    later = other(other(x)).sum()
    used(x).sum().backward()
    versions = [p._version for p in (used.weight, other.weight)]
    step.step()
    assert used.weight._version > versions[0]
    assert other.weight._version == versions[1]
    later.backward()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.networks.normalization.HIDDEN", 4)


class Modulated(nn.Module):
    """A convolution and a SPADE, as a residual block has them; `folds` counts what was made of their weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.conv = spectral(nn.Conv2d(3, 2, 3, padding=1))
        self.spade = SPADE(2, 4, NormSpec(False, "batch", 3))
        self.double().load_state_dict(filled(self.state_dict()))
        self.to(memory_format=torch.channels_last).eval()
        self.folds: list[str] = []
        for owner, name in ((SPADE, "_fold"), (SpectralConv2d, "normalised_weight")):
            made = getattr(owner, name)
            counts = lambda *args, made=made, name=name: self.folds.append(name) or made(*args)  # noqa: E731
            monkeypatch.setattr(owner, name, counts)

    def forward(self, x: Tensor, semantics: LabelMap | Tensor) -> Tensor:
        return self.spade(self.conv(x), semantics)

    def check(self, folds: list[str]) -> None:
        """What was folded since the last time, and that the image is that of the weights as they are."""
        own = encode_label_map(label_map("a", 2, 3, 9, 8), label_map("b", 2, 5, 9, 8), 3, "pattern")
        x = randn(2, 3, 9, 8).to(self.conv.weight_orig.dtype)
        fresh = SPADE.plain(self.spade, released(self.conv)(x), own.dense(x.dtype))
        with torch.no_grad():
            before = len(self.folds)
            image = self(x, own)
            assert self.folds[before:] == folds
            torch.testing.assert_close(image, fresh)
            assert torch.equal(self(x, own), image)  # and nothing is made again
            assert self.folds[before:] == folds


def released(conv: SpectralConv2d) -> nn.Conv2d:
    """PyTorch's own, in evaluation mode, from the state of ours."""
    made = spectral_norm(nn.Conv2d(3, 2, 3, padding=1)).to(conv.weight_orig.dtype)
    made.load_state_dict(conv.state_dict())
    return made.eval()


BOTH = ["normalised_weight", "_fold"]


def another_state(net: Modulated) -> None:
    net.load_state_dict({key: 1.5 * value for key, value in net.state_dict().items()})


def assigned_state(net: Modulated) -> None:
    net.load_state_dict({key: 1.5 * value for key, value in net.state_dict().items()}, assign=True)


def optimiser_step(optimizer: type[torch.optim.Optimizer], **options: object) -> Callable[[Modulated], None]:
    def step(net: Modulated) -> None:
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        optimizer(net.parameters(), lr=0.1, **options).step()

    return step


def a_pass_in_training(net: Modulated) -> None:
    """Statistics, u and v move."""
    net.train()
    with torch.no_grad():
        net(*(x.to(net.conv.weight_orig.dtype) for x in (randn(2, 3, 4, 4) + 1, torch.zeros(2, 4, 4, 4))))
    net.eval()


@torch.no_grad()
def in_place(net: Modulated) -> None:
    net.spade.mlp_beta.bias.copy_(torch.tensor([5.0, 6.0]))


@torch.no_grad()
def statistics_alone(net: Modulated) -> None:
    net.spade.param_free_norm.running_var.mul_(2)


@torch.no_grad()
def u_alone(net: Modulated) -> None:
    net.conv.weight_u.copy_(F.normalize(torch.tensor([1.0, 1.0]), dim=0))


def another_tensor(net: Modulated) -> None:
    net.conv.weight_orig = nn.Parameter(2 * net.conv.weight_orig.detach() + 1)


def behind_pytorchs_back(net: Modulated) -> None:
    """Writes that no version counts."""
    net.conv.weight_orig.data.mul_(2).add_(1)
    net.spade.mlp_gamma.weight.detach().numpy()[:] *= 2
    net.eval()


CHANGES = {
    "load_state_dict": (another_state, BOTH),
    "load_state_dict that assigns": (assigned_state, BOTH),
    "SGD": (optimiser_step(torch.optim.SGD), BOTH),
    "Adam": (optimiser_step(torch.optim.Adam), BOTH),
    "Adam, fused": (optimiser_step(torch.optim.Adam, fused=True), BOTH),
    "Adam, for-each": (optimiser_step(torch.optim.Adam, foreach=True), BOTH),
    "training": (a_pass_in_training, BOTH),
    "copy_": (in_place, ["_fold"]),
    "statistics": (statistics_alone, ["_fold"]),
    "u": (u_alone, ["normalised_weight"]),
    "another tensor": (another_tensor, ["normalised_weight"]),
    "float": (lambda net: net.float(), BOTH),
    "nothing": (lambda net: None, []),
    "training mode and back": (lambda net: net.train().eval(), BOTH),
    ".data, and eval() to say so": (behind_pytorchs_back, BOTH),
    "gradients off and on": (lambda net: net.requires_grad_(False).requires_grad_(True), []),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # which oneDNN packs
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_folded_is_forgotten_with_its_weights(
    name: str, dtype: torch.dtype, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (name, dtype) == ("float", torch.float32):
        pytest.skip("float32 it is already")
    net = Modulated(monkeypatch).to(dtype)
    net.check(BOTH)
    change, folds = CHANGES[name]
    change(net)
    net.check(folds)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_in_evaluation(dtype: torch.dtype, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They reach weights that want them, which then are not folded, and x where weights do not; both are exact."""
    net = Modulated(monkeypatch).to(dtype)
    own = encode_label_map(label_map("a", 2, 3, 9, 8), None, 4, "pattern")
    x = randn(2, 3, 9, 8).to(dtype).requires_grad_()
    plain = released(net.conv)
    leaves = [x, plain.weight_orig, net.spade.mlp_gamma.weight]
    wanted = torch.autograd.grad(net.spade.plain(plain(x), own.dense(x.dtype)).square().sum(), leaves)
    leaves[1] = net.conv.weight_orig
    with torch.no_grad():
        net(x, own)  # what is folded here must not be used below
    before = len(net.folds)
    for grad, value in zip(torch.autograd.grad(net(x, own).square().sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(grad, value)
    assert len(net.folds) == before
    net.requires_grad_(False)
    (grad,) = torch.autograd.grad(net(x, own).square().sum(), [x])
    torch.testing.assert_close(grad, wanted[0])


def test_each_precision_has_its_own_folded_weights(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation with autocast and without, in turns: neither uses the other's weights."""
    net = Modulated(monkeypatch).float()
    own = encode_label_map(label_map("a", 2, 3, 9, 8), None, 4, "pattern")
    x = randn(2, 3, 9, 8).float()
    with torch.no_grad():
        plain = net.spade.plain(released(net.conv)(x), own.dense(x.dtype))
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                half = net(x, own)
            assert half.dtype == torch.bfloat16
            assert 1e-4 < (half - plain).norm() / plain.norm() < 0.02
            torch.testing.assert_close(net(x, own), plain)
    assert net.folds.count("_fold") == 4
    # Where the CPU computes in bfloat16 itself; else autocast converts the weight that is there.
    in_half = onednn.serves(x.bfloat16())
    assert net.folds.count("normalised_weight") == (4 if in_half else 2)


def test_a_large_mean_costs_no_accuracy_in_half_precision(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features 30 standard deviations from zero: the mean is not rounded apart from what it is taken from."""
    net = Modulated(monkeypatch).float()
    own = encode_label_map(label_map("a", 2, 3, 9, 8), None, 4, "pattern")
    spade, x = net.spade, randn(2, 2, 9, 8).float()
    spade.param_free_norm.running_mean.fill_(30)
    spade.param_free_norm.running_var.fill_(1)
    x = (x + 30).bfloat16().float()
    with torch.no_grad():
        plain = spade.plain(x, own.dense(x.dtype))
        with torch.autocast("cpu", torch.bfloat16):
            half = spade(x, own)
    assert (half - plain).norm() / plain.norm() < 0.01
