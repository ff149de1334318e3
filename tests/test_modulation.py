"""SPADE by tables of patterns is SPADE: against the plain formula, which dense semantics get.

Letters: N batch, S semantic channels, C channels, h w size, K codes, U patterns.
"""

import shutil
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck

from models.networks import modulation, patterns
from models.networks.architecture import SLOPE, SPADEResnetBlock
from models.networks.base_network import BaseNetwork
from models.networks.generator import STRIDES, Pix2PixHDGenerator, SPADEGenerator
from models.networks.modulation import compile_kernels, modulate
from models.networks.moments import Statistics, moments_of_batch, moments_of_images
from models.networks.normalization import (
    SPADE,
    NormSpec,
    without_tracking,
)
from models.networks.patterns import Patterns
from models.networks.semantics import LabelMap, Semantics, dense_of, encode_label_map
from models.networks.spectral import spectral_everywhere
from tests.deterministic import filled, generator, label_map, normal
from util.errors import UserError

CLASSES = 3
EPS = 1e-5


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hidden layers of 3 channels; blocks of 600 pixels, so that small maps have several and a rest."""
    monkeypatch.setattr("models.networks.normalization.HIDDEN", 3)
    monkeypatch.setattr(patterns, "BLOCK_ROWS", 600)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layouts(height: int, width: int, n: int = 2, impl: str = "pattern", edges: bool = True) -> LabelMap:
    label, instance = (label_map(name, n, count, height, width) for name, count in (("label", 3), ("instance", 9)))
    return encode_label_map(label, instance if edges else None, CLASSES, impl)


def forms(own: LabelMap) -> dict[str, Semantics]:
    """The same layouts for each way of computing; the dense tensor, which is the reference, first."""
    maps = {impl: LabelMap(own.label, own.edges, own.classes, impl) for impl in ("pattern", "auto", "dense")}
    return {"tensor": dense_of(own, torch.float64), **maps}


def check(own: dict[str, Tensor], plain: dict[str, Tensor], rel: float = 1e-9) -> None:
    """Equal up to `rel` of each tensor's largest value, and to rounding of the largest of all.

    Gradients of biases in front of a norm are rounding errors and nothing else.
    """
    assert list(own) == list(plain)
    floor = 1e-12 * max(value.abs().max().item() for value in plain.values())
    for key, value in plain.items():
        assert own[key].shape == value.shape, key
        assert (own[key] - value).abs().max().item() <= rel * value.abs().max().item() + floor, key


# ------------------------------------------------------------------------------------------------------------ one pass


def few_patterns() -> Patterns:
    """2 x 3 x 4 pixels of four ids, of which 3 never comes up."""
    return Patterns(torch.from_numpy(generator("ids").integers(0, 3, (2, 3, 4))), 4, kernel=1)


def statistics_of(kind: str, x: Tensor) -> Statistics | None:
    if kind == "none":
        return None
    return (moments_of_batch if kind == "batch" else moments_of_images)(x.detach()).statistics(EPS)


def plainly(x: Tensor, kind: str, table: Patterns, scale: Tensor, shift: Tensor, slope: float) -> Tensor:
    """The formula, in PyTorch's own functions."""
    if kind != "none":
        x = F.batch_norm(x, None, None, training=True, eps=EPS) if kind == "batch" else F.instance_norm(x, eps=EPS)
    index = table.index.view(len(x), *x.shape[2:])
    return F.leaky_relu(x * scale[index].permute(0, 3, 1, 2) + shift[index].permute(0, 3, 1, 2), slope)


def gradients(outs: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
    seeds = [randn(*y.shape, seed=30 + i) for i, y in enumerate(outs)]
    return list(torch.autograd.grad(list(outs), list(leaves), seeds))


def test_modulation_by_hand() -> None:
    """x 1 and 3 are normalised to -1 and 1; times 2 and 10, plus 1 and 20: -1, which the slope makes -0.25, and 30."""
    table = Patterns(torch.tensor([[[0, 1]]]), 2, kernel=1)
    x, norm = torch.tensor([[[[1.0, 3.0]]]]), Statistics(torch.tensor([[2.0]]), torch.tensor([[1.0]]), 2)
    scale, shift = torch.tensor([[2.0], [10.0]]), torch.tensor([[1.0], [20.0]])
    a, b = modulate(x, norm, table, [(scale, shift), (shift, scale)], [0.25, 1])
    assert a.flatten().tolist() == [-0.25, 30]
    assert b.flatten().tolist() == [1, 30]
    (a,) = modulate(x, None, table, [(scale, shift)], [1])
    assert a.flatten().tolist() == [3, 50]


CASES = [
    ("batch", [1.0]),
    ("batch", [SLOPE, 1.0]),
    ("instance", [SLOPE]),
    ("instance", [1.0, 0.5]),
    ("none", [SLOPE]),
    ("none", [1.0, SLOPE]),
]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("engine", [5, 12, 100, "whole"])
@pytest.mark.parametrize(("kind", "slopes"), CASES)
def test_modulation(
    kind: str, slopes: list[float], engine: int | str, memory: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients are those of the formula, in blocks of that many pixels and as a whole."""
    if engine == "whole":
        monkeypatch.setattr(modulation, "in_one_kernel", lambda x: True)
        monkeypatch.setattr(modulation, "_compile", False)
    else:
        monkeypatch.setattr(patterns, "BLOCK_ROWS", engine)
    table = few_patterns()
    tables = [(randn(4, 2, seed=10 + i), randn(4, 2, seed=20 + i)) for i in range(len(slopes))]
    x = (randn(2, 2, 3, 4) + 1.5).to(memory_format=memory)
    leaves = [leaf.requires_grad_() for leaf in (x, *(row for pair in tables for row in pair))]
    outs = modulate(x, statistics_of(kind, x), table, tables, slopes)
    plain = [plainly(x, kind, table, *pair, slope) for pair, slope in zip(tables, slopes, strict=True)]
    own, wanted = [*outs, *gradients(outs, leaves)], [*plain, *gradients(plain, leaves)]
    torch.testing.assert_close(own, wanted, rtol=1e-11, atol=1e-12)
    if memory == torch.channels_last:
        assert all(y.is_contiguous(memory_format=memory) for y in outs)


@pytest.mark.parametrize(("kind", "slopes"), CASES)
def test_gradient_of_the_modulation(kind: str, slopes: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same against differences, with statistics that move with x."""
    monkeypatch.setattr(patterns, "BLOCK_ROWS", 5)
    table = few_patterns()
    leaves = [randn(2, 2, 3, 4), *(randn(4, 2, seed=10 + i) for i in range(2 * len(slopes)))]

    def run(x: Tensor, *flat: Tensor) -> tuple[Tensor, ...]:
        return modulate(x, statistics_of(kind, x), table, list(zip(flat[::2], flat[1::2], strict=True)), slopes)

    assert gradcheck(run, [leaf.requires_grad_() for leaf in leaves])


@pytest.mark.parametrize("kind", ["batch", "instance", "none"])
def test_gradients_are_computed_where_they_are_wanted(kind: str) -> None:
    table, x, pair = few_patterns(), randn(2, 2, 3, 4), (randn(4, 2, seed=1), randn(4, 2, seed=2))
    whole = [leaf.clone().requires_grad_() for leaf in (x, *pair)]
    wanted = gradients(modulate(whole[0], statistics_of(kind, x), table, [tuple(whole[1:])], [SLOPE]), whole)
    for place in range(3):
        leaves = [x, *pair]
        leaves[place] = leaf = leaves[place].clone().requires_grad_()
        (grad,) = gradients(modulate(leaves[0], statistics_of(kind, x), table, [tuple(leaves[1:])], [SLOPE]), [leaf])
        assert torch.equal(grad, wanted[place])


def test_moments() -> None:
    """Biased variances: over both images 1, 3, 5, 7 have mean 4 and variance 5, each alone 2 and 6, and 1."""
    x = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])
    batch, images = moments_of_batch(x), moments_of_images(x)
    assert (batch.mean.tolist(), batch.variance.tolist()) == ([[4]], [[5]])
    assert (images.mean.tolist(), images.variance.tolist()) == ([[2], [6]], [[1], [1]])
    assert moments_of_batch(x.bfloat16()).mean.dtype == torch.float32
    torch.testing.assert_close(batch.statistics(0.5).rstd, torch.tensor([[5.5**-0.5]]))


# --------------------------------------------------------------------------------------------------- whole generators


def net(
    norm: NormSpec, depth: str = "normal", styles: bool = True, latent_hw: tuple[int, int] = (2, 1)
) -> SPADEGenerator:
    """As the builders make it: channels-last; every entry of its state drawn by its name."""
    style = dict(z_dim=3, latent_hw=latent_hw) if styles else {}
    G = SPADEGenerator(CLASSES + 1, ngf=2, norm=norm, upsampling=depth, **style).double()
    G.load_state_dict(filled(G.state_dict()))
    return G.to(memory_format=torch.channels_last)


def everything(
    G: BaseNetwork, semantics: Semantics, training: bool = True, weights: bool = True, z: Tensor | None = None
) -> dict[str, Tensor]:
    """The image, all gradients (`weights`: of parameters too) and all buffers after a pass; G is left as it was."""
    state = {key: value.clone() for key, value in G.state_dict().items()}
    G.train(training).requires_grad_(weights)
    leaves = {"z": z.clone().requires_grad_()} if z is not None else {}
    out = G(semantics, *leaves.values())
    leaves |= G.named_parameters() if weights else {}
    grads = dict(zip(leaves, gradients([out], list(leaves.values())), strict=True))
    found = {"image": out.detach(), **grads, **{key: value.clone().double() for key, value in G.named_buffers()}}
    G.load_state_dict(state)
    return found


@pytest.mark.parametrize("depth", ["normal", "more", "most"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("kind", ["sync_batch", "batch", "instance"])
def test_tables_are_exact(kind: str, kernel: int, depth: str) -> None:
    """Images, gradients of weights and styles, and buffers, in training and in evaluation, folded or not."""
    stride, n = STRIDES[depth], 1 if depth == "most" else 2
    G, z = net(NormSpec(kernel != 1, kind, kernel), depth), torch.from_numpy(normal("z", (n, 3)))
    semantics = forms(layouts(2 * stride, stride, n))
    check(everything(G, semantics["pattern"], z=z), everything(G, semantics["tensor"], z=z))
    unfolded = depth == "normal"
    plain = everything(G, semantics["tensor"], training=False, weights=unfolded, z=z)
    folded = everything(G, semantics["auto"], training=False, weights=False, z=z)
    check(folded, {key: plain[key] for key in folded})
    if unfolded:
        check(everything(G, semantics["auto"], training=False, z=z), plain)
        check(everything(G, semantics["auto"], z=z), everything(G, semantics["dense"], z=z))


def one_pixel_regions(height: int, width: int) -> LabelMap:
    label = torch.zeros(2, 1, height, width, dtype=torch.long)
    label[0, 0, 0, 0] = label[0, 0, 5, 7] = label[1, 0, -1, -1] = label[1, 0, 9, 0] = label[1, 0, 9, 1] = 1
    return encode_label_map(label, label, CLASSES)


LAYOUTS = {
    "edges": layouts(32, 96),
    "no edges": layouts(64, 32, edges=False),
    "one region": encode_label_map(torch.ones(2, 1, 64, 32).long(), torch.ones(2, 1, 64, 32).long(), CLASSES),
    "one image a region, one noise": encode_label_map(
        torch.cat([torch.zeros(1, 1, 32, 64).long(), torch.from_numpy(generator("n").integers(0, 3, (1, 1, 32, 64)))]),
        None,
        CLASSES,
    ),
    "noise": encode_label_map(*torch.from_numpy(generator("x").integers(0, 3, (2, 2, 1, 32, 64))), CLASSES),
    "one-pixel regions": one_pixel_regions(32, 64),
    "checkerboard": encode_label_map(
        ((torch.arange(32)[:, None] + torch.arange(64)) % 2).expand(2, 1, 32, 64), None, CLASSES
    ),
    "one image": layouts(64, 64, n=1),
}


@pytest.mark.parametrize("kind", ["sync_batch", "instance"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_any_layout(name: str, kind: str) -> None:
    """Without styles, so that the latent map is a convolution of the layout; all four ways are the same."""
    own = LAYOUTS[name]
    G = SPADEGenerator(own.shape[1], ngf=2, norm=NormSpec(True, kind, 3)).double()
    G.load_state_dict(filled(G.state_dict()))
    tensor, *others = forms(own).values()
    plain = everything(G, tensor)
    for semantics in others:
        check(everything(G, semantics), plain)
    check(everything(G, others[0], training=False), everything(G, tensor, training=False))
    assert forms(own)["auto"].by_pattern(3) == (name != "noise")


@pytest.mark.parametrize("kind", ["sync_batch", "instance"])
def test_images_do_not_depend_on_their_batch(kind: str) -> None:
    """In evaluation: each layout alone gives the image that it gives among others."""
    G, own = net(NormSpec(True, kind, 3), styles=False).eval(), layouts(64, 32, n=3)
    with torch.no_grad():
        together = G(own)
        for i in range(3):
            alone = LabelMap(own.label[i : i + 1], own.edges[i : i + 1], CLASSES, "pattern")
            torch.testing.assert_close(G(alone), together[i : i + 1], rtol=0, atol=1e-12)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("training", [True, False])
def test_spectral_norm_inside_spade(training: bool) -> None:
    """--spectral_all: each of SPADE's convolutions makes one power iteration in a pass, as in the plain formula."""
    block = SPADEResnetBlock(4, 3, CLASSES + 1, NormSpec(True, "batch", 3)).double()
    spectral_everywhere(block)
    block.load_state_dict(filled(block.state_dict()))
    tensor, *others = forms(layouts(12, 9)).values()
    x = randn(2, 4, 12, 9)
    results = []
    for semantics in (tensor, *others):
        wrapped = _Applied(block, x)
        results.append(everything(wrapped, semantics, training))
    assert any("mlp_gamma.weight_u" in key for key in results[0])
    for own in results[1:]:
        check(own, results[0])


class _Applied(BaseNetwork):
    """A block of one x, as a network of layouts."""

    def __init__(self, block: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.block, self.x = block, nn.Parameter(x)

    def forward(self, semantics: Semantics) -> Tensor:
        return self.run(self.block, self.x, semantics)


@pytest.mark.parametrize("impl", ["pattern", "dense"])
def test_statistics_are_tracked_once_by_each_norm(impl: str) -> None:
    """norm_0 and norm_s share an x: values 1 and 3 are tracked by a tenth, with the unbiased variance, by both."""
    block = SPADEResnetBlock(1, 2, CLASSES, NormSpec(False, "batch", 3))
    x, own = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2), LabelMap(torch.zeros(1, 1, 1, 2).long(), None, CLASSES, impl)
    for norm in (block.norm_0.param_free_norm, block.norm_s.param_free_norm):
        norm.running_mean.fill_(10)
    block.norm_s.param_free_norm.running_var.fill_(5)
    seen = []
    block.norm_s.param_free_norm.observers.append(lambda x: seen.append(x.flatten().tolist()))
    block(x, own)
    with without_tracking(block):
        block(x, own)
    assert seen == [[1, 3], [1, 3]]
    for norm, variance in ((block.norm_0.param_free_norm, 1.0), (block.norm_s.param_free_norm, 5.0)):
        assert norm.running_mean.item() == pytest.approx(0.9 * 10 + 0.1 * 2)
        assert norm.running_var.item() == pytest.approx(0.9 * variance + 0.1 * 2)
        assert norm.num_batches_tracked.item() == 1


def test_the_released_sync_batch_norm_counts_no_batches() -> None:
    """Quirk kept (SPADE), in tables too."""
    spade = SPADE(2, CLASSES, NormSpec(False, "sync_batch", 3))
    spade(torch.arange(8.0).view(1, 2, 2, 2), LabelMap(torch.zeros(1, 1, 2, 2).long(), None, CLASSES, "pattern"))
    norm = spade.param_free_norm
    assert (norm.num_batches_tracked.item(), norm.running_mean.tolist()) == (0, pytest.approx([0.15, 0.55]))


@pytest.mark.parametrize("kind", ["sync_batch", "instance"])
@pytest.mark.parametrize("impl", ["pattern", "dense"])
def test_a_single_value_is_explained(impl: str, kind: str) -> None:
    spade = SPADE(2, CLASSES, NormSpec(False, kind, 1))
    with pytest.raises(UserError, match="a layout of one latent pixel"):
        spade(torch.ones(1, 2, 1, 1), LabelMap(torch.zeros(1, 1, 1, 1).long(), None, CLASSES, impl))


def test_norms_of_two_in_evaluation() -> None:
    """norm_0 and norm_s see the same x, but each has running statistics of its own."""
    block = SPADEResnetBlock(2, 1, CLASSES, NormSpec(False, "batch", 1)).double().eval()
    block.load_state_dict(filled(block.state_dict()))
    block.norm_s.param_free_norm.running_mean.add_(3)
    x, (tensor, *others) = randn(2, 2, 5, 4), forms(layouts(5, 4, edges=False)).values()
    with torch.no_grad():
        for semantics in others:
            torch.testing.assert_close(block(x, semantics), block(x, tensor), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_half_precision(training: bool) -> None:
    """Under autocast tables are about as near to the numbers in full precision as the plain formula is."""
    block = SPADEResnetBlock(8, 4, CLASSES + 1, NormSpec(True, "batch", 3))
    block.load_state_dict(filled(block.state_dict()))
    semantics, wrapped = forms(layouts(24, 18)), _Applied(block, randn(2, 8, 24, 18).float())
    exact = everything(wrapped, semantics["tensor"].float(), training)
    errors = []
    for impl in ("dense", "pattern"):
        with torch.autocast("cpu", torch.bfloat16):
            found = everything(wrapped, semantics[impl], training)
        assert found["image"].dtype == torch.bfloat16
        keys = ["image", "x", *(key for key in exact if key.endswith(("weight", "weight_orig")))]
        errors.append({key: ((found[key] - exact[key]).norm() / exact[key].norm()).item() for key in keys})
    plain, own = errors
    assert all(own[key] <= 2 * plain[key] + 0.002 for key in keys), errors
    assert max(plain.values()) < 0.1


# -------------------------------------------------------------------------------------------------------------- engines


@pytest.mark.parametrize("kind", ["sync_batch", "instance"])
def test_as_a_whole_as_in_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What GPUs do, on a CPU."""
    G, z = net(NormSpec(True, kind, 3)), torch.from_numpy(normal("z", (2, 3)))
    blocks = [everything(G, layouts(64, 32), training, z=z) for training in (True, False)]
    monkeypatch.setattr(modulation, "in_one_kernel", lambda x: True)
    monkeypatch.setattr(modulation, "_compile", False)
    asked = []
    monkeypatch.setattr(modulation, "kernel", lambda function: asked.append(function) or function)
    for training, expected in zip((True, False), blocks, strict=True):
        check(everything(G, layouts(64, 32), training, z=z), expected)
    assert asked


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="compiling for a CPU needs a C++ compiler")
def test_compiled(capsys: pytest.CaptureFixture) -> None:
    """Two kernels, one for each direction."""
    table, leaves = few_patterns(), [randn(2, 2, 3, 4), randn(4, 2, seed=1), randn(4, 2, seed=2)]
    x, *pair = [leaf.requires_grad_() for leaf in leaves]
    plain = [plainly(x, "batch", table, *pair, SLOPE)]
    from torch._inductor import config

    quickly = {"compile_threads": 1, "cpp_cache_precompile_headers": False, "cpp.vec_isa_ok": False}
    compile_kernels(True)
    try:
        with config.patch({k: v for k, v in quickly.items() if k in config._config}):
            outs = modulate(x, statistics_of("batch", x), table, [tuple(pair)], [SLOPE])
            own = [*outs, *gradients(outs, leaves)]
        assert modulation.in_one_kernel(x)
        assert modulation.kernel(modulation._gradients) is not modulation._gradients
    finally:
        compile_kernels(None)
        modulation._compiled.cache_clear()
    torch.testing.assert_close(own, [*plain, *gradients(plain, leaves)], rtol=1e-11, atol=1e-12)
    assert not modulation.in_one_kernel(x)
    assert "kernels are not compiled" not in capsys.readouterr().err


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """It is said once for each kernel, and the numbers are the same; too little memory is another matter."""
    tries = []

    def compile_nothing(function: object, dynamic: bool) -> object:
        def fail(*args: object) -> None:
            tries.append(function)
            raise RuntimeError("no compiler\nand more")

        return fail

    block = _Applied(SPADEResnetBlock(3, 2, CLASSES + 1, NormSpec(True, "batch", 3)).double(), randn(2, 3, 6, 5))
    plain = everything(block, layouts(6, 5))
    monkeypatch.setattr(torch, "compile", compile_nothing)
    monkeypatch.setattr(modulation, "_compile", True)
    modulation._compiled.cache_clear()
    try:
        for _ in range(2):
            check(everything(block, layouts(6, 5)), plain)
    finally:
        modulation._compiled.cache_clear()
    assert len(tries) == len(set(tries)) == 2
    said = capsys.readouterr().err.splitlines()
    warning = "warning: kernels are not compiled (RuntimeError: no compiler); going on without"
    assert [line.startswith(warning) for line in said] == [True] * 2

    def no_memory(*args: object) -> None:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(torch, "compile", lambda function, dynamic: no_memory)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            everything(block, layouts(6, 5))
    finally:
        modulation._compiled.cache_clear()


# --------------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("impl", ["pattern", "auto", "dense"])
@pytest.mark.parametrize("kind", ["sync_batch", "batch", "instance"])
def test_blocks_computed_again(kind: str, impl: str) -> None:
    """Images, gradients and buffers are the same to the bit: the second time no norm tracks or iterates."""
    G, z = net(NormSpec(True, kind, 3)), torch.from_numpy(normal("z", (2, 3)))
    calls = []
    for block in (G.head_0, G.up_3):
        block.register_forward_pre_hook(lambda *inputs: calls.append(1))
    plain = everything(G, layouts(64, 32, impl=impl), z=z)
    assert len(calls) == 2
    G.checkpoints = True
    again = everything(G, layouts(64, 32, impl=impl), z=z)
    assert len(calls) == 2 + 4
    assert all(torch.equal(again[key], value) for key, value in plain.items())
    everything(G, layouts(64, 32, impl=impl), training=False, z=z)
    with torch.no_grad():
        G.train()(layouts(64, 32, impl=impl), z)
    assert len(calls) == 2 + 4 + 4  # in evaluation and without gradients once
    norms = [module for module in G.modules() if hasattr(module, "tracks")]
    assert all(norm.tracks for norm in norms)
    assert all(layer.iterates for layer in G.modules() if hasattr(layer, "iterates"))


def test_blocks_of_pix2pixhd_computed_again() -> None:
    G = Pix2PixHDGenerator(CLASSES + 1, 2, NormSpec(True, "batch"), n_downsample=1, n_blocks=2).double()
    G.load_state_dict(filled(G.state_dict()))
    plain = everything(G, layouts(16, 24))
    G.checkpoints = True
    again = everything(G, layouts(16, 24))
    assert all(torch.equal(again[key], value) for key, value in plain.items())
