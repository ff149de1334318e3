"""What oneDNN computes with packed weights is what PyTorch computes with plain ones."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from models.networks import folding, onednn
from models.networks.conv import Conv2d
from models.networks.spectral import spectral

pytestmark = pytest.mark.skipif(not onednn.serves(torch.zeros(1)), reason="this build of PyTorch has no oneDNN")

# Kernel, stride, padding, channels in and out.
CONVOLUTIONS = {
    "3 x 3": (3, 1, 1, 5, 7),
    "1 x 1": (1, 1, 0, 16, 32),
    "4 x 4, stride 2": (4, 2, 2, 3, 8),
    "7 x 7, no padding": (7, 1, 0, 4, 6),
    "neither square": ((3, 2), (2, 1), (1, 0), 3, 4),
    "one channel": (3, 1, 1, 1, 1),
}
PRECISIONS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # and what they differ by, of the largest number


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(own: Tensor, exact: Tensor, relative: float) -> None:
    assert own.shape == exact.shape
    assert (own - exact).abs().max() <= relative * exact.abs().max()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_packed_convolutions(name: str, bias: bool, dtype: torch.dtype) -> None:
    """The module in evaluation against the same formula in float64, on images of two sizes and two numbers."""
    if not onednn.serves(torch.zeros(1, dtype=dtype)):
        pytest.skip(f"this CPU has no {dtype}")
    kernel, stride, padding, channels, out = CONVOLUTIONS[name]
    conv = Conv2d(channels, out, kernel, stride, padding, bias=bias).eval()
    exact = copy.deepcopy(conv).double()
    for seed, shape in enumerate([(2, channels, 16, 12), (1, channels, 9, 20), (2, channels, 16, 12)]):
        x = randn(*shape, seed=seed)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = conv(x)
        assert y.dtype == dtype
        check(y, exact(x.double()).detach(), PRECISIONS[dtype])


@pytest.mark.parametrize("channels, parts", [(128, 1), (129, 2), (1024, 8), (600, 5)])
def test_long_sums_are_made_of_shorter_ones(channels: int, parts: int) -> None:
    """9 products a channel, at most 1152 in a row; fewer errors than PyTorch's own convolution."""
    conv, x = Conv2d(channels, 16, 3, padding=1).eval(), randn(1, channels, 8, 8)
    exact = copy.deepcopy(conv).double()(x.double()).detach()
    with torch.no_grad():
        y = conv(x)
    assert len(folding._KEPT[conv]["packed"][1]) == parts
    check(y, exact, 2e-6)


def test_packing_happens_once_and_where_no_gradient_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = []
    pack = onednn.packed_conv_weight
    monkeypatch.setattr(onednn, "packed_conv_weight", lambda *args: packed.append(1) or pack(*args))
    conv, x = Conv2d(4, 4, 3, padding=1), randn(1, 4, 8, 8)
    with torch.no_grad():
        conv(x)  # in training
        conv.eval()
        conv.double()(x.double())  # which oneDNN has not
        conv.float()
    conv(x)
    conv.requires_grad_(False)(x.clone().requires_grad_()).sum().backward()
    assert not packed
    conv(x), conv(x)
    with torch.no_grad():
        conv(x.clone().requires_grad_())
    assert len(packed) == 1
    with torch.no_grad():
        conv.weight.mul_(2)
    y = conv(x)
    assert len(packed) == 2
    check(y, F.conv2d(x, conv.weight, conv.bias, padding=1), 1e-5)


@pytest.mark.parametrize("own", [Conv2d, lambda *args, **kw: spectral(Conv2d(*args, **kw))])
def test_a_bias_alone_may_want_a_gradient(own: Callable) -> None:
    conv, x = own(4, 3, 3, padding=1).eval().requires_grad_(False), randn(2, 4, 8, 8)
    conv.bias.requires_grad_(True)
    conv(x).sum().backward()
    assert conv.bias.grad.tolist() == [2 * 8 * 8] * 3


@pytest.mark.parametrize(
    "setting", [{"dilation": 2}, {"groups": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}]
)
def test_unusual_convolutions_are_pytorchs(setting: dict) -> None:
    conv, x = Conv2d(4, 4, 3, **setting), randn(1, 4, 9, 9)
    with torch.no_grad():
        assert torch.equal(conv.eval()(x), conv.train()(x))


@pytest.mark.parametrize("own", [Conv2d, lambda *args, **kw: spectral(Conv2d(*args, **kw))])
def test_forward_derivatives_and_vmap_see_the_convolution(own: Callable) -> None:
    """The derivative of a convolution along t is the convolution of t, without the bias."""
    conv, x, t = own(4, 3, 3, padding=1).eval().requires_grad_(False), randn(2, 4, 8, 8), randn(2, 4, 8, 8, seed=1)
    with torch.no_grad():
        along = conv(t) - conv.bias[:, None, None]
        check(torch.func.jvp(conv, (x,), (t,))[1], along, 1e-5)
        check(torch.func.vmap(conv)(torch.stack([x, t]))[1], conv(t), 1e-5)
    with forward_ad.dual_level():
        check(forward_ad.unpack_dual(conv(forward_ad.make_dual(x, t))).tangent, along, 1e-5)


def test_what_pytorch_refuses_is_refused() -> None:
    conv = Conv2d(4, 4, 3).eval()
    with torch.no_grad():
        for wrong in (torch.ones(1, 4, 8, 8, dtype=torch.long), randn(1, 4, 8, 8).double(), randn(1, 5, 8, 8)):
            with pytest.raises(RuntimeError):
                conv(wrong)


def test_an_address_is_not_taken_for_the_weight_that_lay_there() -> None:
    """New weights often lie where the last ones did, which were freed: 40 of them in turns."""
    conv, x = Conv2d(4, 4, 3, padding=1).eval(), randn(1, 4, 8, 8)
    with torch.no_grad():
        for seed in range(40):
            conv.weight.data = randn(4, 4, 3, 3, seed=seed)
            check(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1), 1e-5)
            check(
                torch.func.functional_call(conv, {"weight": randn(4, 4, 3, 3, seed=99 - seed)}, (x,)),
                F.conv2d(x, randn(4, 4, 3, 3, seed=99 - seed), conv.bias, padding=1),
                1e-5,
            )


def test_weights_made_in_inference_mode_are_not_kept() -> None:
    with torch.inference_mode():
        conv, x = Conv2d(4, 4, 3).eval(), randn(1, 4, 8, 8)
        before = conv(x)
        conv.weight.mul_(2)
        conv.bias.mul_(2)
        check(conv(x), 2 * before, 1e-5)


@pytest.mark.parametrize("enabled", [True, False])
def test_precisions_in_turns(enabled: bool) -> None:
    conv, x = Conv2d(4, 4, 3, padding=1).eval(), randn(1, 4, 8, 8)
    exact = conv.double()(x.double()).detach()
    conv.float()
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=enabled):
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                half = conv(x)
            assert half.dtype == torch.bfloat16
            check(half, exact, 2e-2)
            check(conv(x), exact, 1e-5)


def test_training_frees_what_was_packed() -> None:
    conv, x = Conv2d(4, 4, 3, padding=1).eval(), randn(1, 4, 8, 8)
    with torch.no_grad():
        conv(x)
    assert "packed" in folding._KEPT[conv]
    conv.train()(x)
    assert conv not in folding._KEPT


def test_without_onednn() -> None:
    conv, x = Conv2d(4, 4, 3, padding=1).eval(), randn(1, 4, 8, 8)
    with torch.no_grad():
        packed = conv(x)
        with torch.backends.mkldnn.flags(enabled=False):
            assert not onednn.serves(x)
            check(packed, conv(x), 1e-5)
            rows, weight = randn(5, 3), randn(4, 3, seed=1)
            assert onednn.packed_matrix(weight) is weight
            check(onednn.linear(rows, weight), rows @ weight.t(), 1e-6)


@pytest.mark.parametrize("rows, inside, out", [(1, 1, 1), (5, 3, 4), (64, 128, 576), (200, 128, 9)])
def test_linear(rows: int, inside: int, out: int) -> None:
    """Products and both gradients against float64; and with the matrix packed."""
    a, w, g = randn(rows, inside), randn(out, inside, seed=1), randn(rows, out, seed=2)
    leaves = [t.clone().requires_grad_() for t in (a, w)]
    own = onednn.linear(*leaves)
    own.backward(g)
    check(own.detach(), a.double() @ w.t().double(), 1e-6)
    check(leaves[0].grad, g.double() @ w.double(), 1e-6)
    check(leaves[1].grad, g.t().double() @ a.double(), 1e-6)
    packed = onednn.packed_matrix(w)
    assert packed.is_mkldnn
    check(onednn.linear(a, packed), own.detach(), 1e-6)


@pytest.mark.parametrize("wanted", [0, 1])
def test_one_gradient_of_linear(wanted: int) -> None:
    leaves = [randn(5, 3), randn(4, 3, seed=1)]
    leaves[wanted].requires_grad_()
    onednn.linear(*leaves).sum().backward()
    ones = torch.ones(5, 4)
    check(leaves[wanted].grad, ones @ leaves[1].detach() if wanted == 0 else ones.t() @ leaves[0], 1e-6)


def test_gradients_that_are_no_plain_matrices() -> None:
    """A sum's gradient is one number, expanded; a transposed gradient has its strides the other way round."""
    a, w = randn(6, 3).requires_grad_(), randn(4, 3, seed=1).requires_grad_()
    onednn.linear(a, w).t().mul(randn(4, 6, seed=2)).sum().backward()
    check(a.grad, randn(4, 6, seed=2).t() @ w.detach(), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_of_linear_are_pytorchs(dtype: torch.dtype) -> None:
    a, w = randn(6, 3).to(dtype), randn(4, 3, seed=1).to(dtype)
    assert torch.equal(onednn.linear(a, w), F.linear(a, w))
