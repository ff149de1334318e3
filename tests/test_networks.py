"""Networks: what golden numbers do not say."""

from argparse import Namespace
from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.networks import build_discriminator, build_encoder, build_generator
from models.networks.architecture import SPADEResnetBlock
from models.networks.discriminator import MultiscaleDiscriminator
from models.networks.generator import Pix2PixHDGenerator, SPADEGenerator
from models.networks.initialization import INIT_TYPES, init_weights
from models.networks.normalization import SPADE, NormSpec, SynchronizedBatchNorm2d, parse_norm
from models.networks.semantics import SPADE_IMPLS, LabelMap, encode_label_map, instance_edges, one_hot
from models.networks.spectral import spectral_everywhere
from options.train_options import TrainOptions
from tests.deterministic import fill, filled, generator, image, label_map
from util.errors import UserError


def parse(*argv: object) -> Namespace:
    flags = "--dataset_mode custom --label_nc 4 --ngf 4 --ndf 4 --crop_size 64 --gpu_ids -1".split()
    return TrainOptions().parse([*flags, *map(str, argv)])


def layout(opt: Namespace, height: int, width: int, n: int = 2) -> torch.Tensor:
    label, instance = label_map("label", n, 4, height, width), label_map("instance", n, 9, height, width)
    return encode_label_map(label, None if opt.no_instance else instance, 4).dense(torch.float32)


# --------------------------------------------------------------------------------------------------------- norm strings


@pytest.mark.parametrize(
    ("text", "spade", "spec"),
    [
        ("spectralspadesyncbatch3x3", True, NormSpec(True, "sync_batch", 3)),
        ("spadebatch5x5", True, NormSpec(False, "batch", 5)),
        ("spectralspadeinstance1x1", True, NormSpec(True, "instance", 1)),
        ("spectralsync_batch", False, NormSpec(True, "sync_batch")),
        ("instance", False, NormSpec(False, "instance")),
        ("none", False, NormSpec(False, "none")),
    ],
)
def test_norm_strings(text: str, spade: bool, spec: NormSpec) -> None:
    assert parse_norm(text, spade) == spec
    with pytest.raises(ValueError, match="such as"):
        parse_norm(text, not spade)


@pytest.mark.parametrize(
    "text", ["spadesyncbatch3x5", "spadesyncbatch4x4", "spadesync_batch3x3", "spectralspade3x3", ""]
)
def test_wrong_spade_norms(text: str) -> None:
    with pytest.raises(ValueError, match="odd K"):
        parse_norm(text, spade=True)


@pytest.mark.parametrize("kind", ["syncbatch", "batch", "instance"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("spectral", ["", "spectral"])
@pytest.mark.parametrize("depth", ["normal", "more", "most"])
def test_every_spade_generator(kind: str, kernel: int, spectral: str, depth: str) -> None:
    norm = f"{spectral}spade{kind}{kernel}x{kernel}"
    opt = parse("--norm_G", norm, "--num_upsampling_layers", depth, "--crop_size", 256, "--no_instance")
    G = build_generator(opt)
    assert G.head_0.norm_0.mlp_gamma.weight.shape[-1] == kernel
    assert hasattr(G.head_0.conv_0, "weight_orig") == bool(spectral)
    assert not hasattr(G.head_0.norm_0.mlp_gamma, "weight_orig")  # inside SPADE never
    assert ("head_0.norm_0.param_free_norm.running_mean" in G.state_dict()) == (kind != "instance")
    output = G(layout(opt, 256, 128, n=1))
    assert output.shape == (1, 3, 256, 128)
    assert output.abs().max() <= 1


@pytest.mark.parametrize("norm", ["instance", "batch", "sync_batch", "none"])
@pytest.mark.parametrize("spectral", ["", "spectral"])
def test_every_plain_norm(norm: str, spectral: str) -> None:
    """Mended (SPADE): pix2pixhd crashed on every norm string without `spectral`, its own default among them."""
    opt = parse("--netG", "pix2pixhd", "--resnet_n_blocks", 1, "--norm_G", spectral + norm, "--norm_D", spectral + norm)
    G, D = build_generator(opt), build_discriminator(opt)
    semantics = layout(opt, 64, 96)
    fake = G(semantics)
    assert fake.shape == (2, 3, 64, 96)
    assert [len(stages) for stages in D(torch.cat([semantics, fake], 1))] == [5, 5]
    assert (G.model[1].bias if norm == "none" else G.model[1][0].bias) is None or norm == "none"
    assert ("discriminator_0.model1.0.1.weight" in D.state_dict()) == (norm in ("batch", "sync_batch"))
    assert not any("model0" in key and "weight_orig" in key for key in D.state_dict())


# ---------------------------------------------------------------------------------------------------------------- SPADE


def test_spade_by_hand() -> None:
    """gamma 1 and beta 3 everywhere: instance-normalised x, doubled, plus three."""
    spade = SPADE(1, 2, NormSpec(False, "instance", 1))
    for name, parameter in spade.named_parameters():
        nn.init.zeros_(parameter)
        if name in ("mlp_gamma.bias", "mlp_beta.bias"):
            nn.init.constant_(parameter, 1.0 if "gamma" in name else 3.0)
    x = torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float64)  # mean 2, variance 1
    out = spade.double()(x, torch.zeros(1, 2, 1, 2, dtype=torch.float64))
    normalised = 1 / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(out, torch.tensor([[[[3 - 2 * normalised, 3 + 2 * normalised]]]], dtype=torch.float64))


def test_block_learns_its_skip_only_where_the_width_changes() -> None:
    spec = NormSpec(True, "sync_batch", 3)
    assert SPADEResnetBlock(8, 8, 3, spec).conv_s is None
    assert SPADEResnetBlock(8, 4, 3, spec).conv_s.bias is None


def test_sync_batch_norm_counts_no_batches() -> None:
    """Quirk kept (SPADE): the released synchronised batch norm tracks statistics but never counts batches."""
    norm, plain = SynchronizedBatchNorm2d(3), nn.BatchNorm2d(3)
    x = image("x", 2, 5, 5).float()
    torch.testing.assert_close(norm(x), plain(x))
    torch.testing.assert_close(norm.running_var, plain.running_var)
    assert (norm.num_batches_tracked.item(), plain.num_batches_tracked.item()) == (0, 1)


@pytest.mark.parametrize("norm", ["spectralspadesyncbatch3x3", "spadebatch3x3", "spectralspadeinstance3x3"])
def test_a_single_latent_pixel_is_explained(norm: str) -> None:
    opt = parse("--crop_size", 32, "--norm_G", norm)
    with pytest.raises(UserError, match="--crop_size"):
        build_generator(opt)(layout(opt, 32, 32, n=1))


# -------------------------------------------------------------------------------------------------------- discriminator


def judged(D: nn.Module, images: torch.Tensor, *inputs: torch.Tensor | LabelMap) -> dict[str, torch.Tensor]:
    """All stages of all scales, gradients of the images and of all weights, and buffers; D is left as it was."""
    state = {key: value.clone() for key, value in D.state_dict().items()}
    stages = [stage for scale in D(*inputs) for stage in scale]
    leaves = {"images": images, **dict(D.named_parameters())}
    total = sum((stage * stage.detach().cos()).sum() for stage in stages)
    grads = torch.autograd.grad(total, list(leaves.values()))
    found = {f"stage {i}": stage.detach() for i, stage in enumerate(stages)} | dict(zip(leaves, grads, strict=True))
    found |= {key: value.clone() for key, value in D.named_buffers()}
    D.load_state_dict(state)
    return found


@pytest.mark.parametrize("norm", ["spectralinstance", "batch"])
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(("num_D", "height", "width"), [(1, 40, 33), (2, 40, 48), (3, 45, 67)])
@pytest.mark.parametrize("images_per_layout", [1, 2])
def test_discriminator_of_a_label_map(
    images_per_layout: int, num_D: int, height: int, width: int, everywhere: bool, norm: str
) -> None:
    """The layout's part of the first convolution, computed on ids, is that of the dense form; odd sizes too."""
    label, instance = label_map("label", 2, 4, height, width), label_map("instance", 2, 9, height, width)
    D = MultiscaleDiscriminator(5 + 3, ndf=3, n_layers=3, norm=parse_norm(norm, spade=False), num_D=num_D)
    if everywhere:
        spectral_everywhere(D)
    D = D.double().to(memory_format=torch.channels_last)
    D.load_state_dict(filled(D.state_dict()))
    images = image("images", 2 * images_per_layout, height, width).requires_grad_()
    dense = encode_label_map(label, instance, 4).dense(torch.float64)
    plain = judged(D, images, torch.cat([dense.repeat(images_per_layout, 1, 1, 1), images], 1))
    ways: list[LabelMap | torch.Tensor] = [encode_label_map(label, instance, 4, impl) for impl in SPADE_IMPLS]
    for semantics in (*ways, dense):
        own = judged(D, images, images, semantics)
        assert list(own) == list(plain)
        for key, value in plain.items():
            torch.testing.assert_close(own[key], value, rtol=1e-9, atol=1e-11 * value.abs().max().item(), msg=key)


def test_discriminator_of_noise() -> None:
    """Where every window differs nothing is gained by looking at ids: auto concatenates, and pattern does not."""
    noise = torch.from_numpy(generator("noise").integers(0, 4, (1, 1, 32, 32)))
    D = MultiscaleDiscriminator(4 + 3, ndf=3, n_layers=3, norm=parse_norm("none", spade=False), num_D=2)
    seen: list[int] = []
    D.discriminator_0.model0.register_forward_pre_hook(lambda first, inputs: seen.append(inputs[0].shape[1]))
    outs = [D(image("x", 1, 32, 32).float(), LabelMap(noise, None, 4, impl)) for impl in ("auto", "dense", "pattern")]
    assert seen == [7, 7]
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0])


# ---------------------------------------------------------------------------------------------------------------- sizes


def test_without_a_vae_the_latent_follows_the_layout() -> None:
    G = build_generator(parse()).eval()
    for height, width in ((64, 64), (64, 160), (32, 96)):
        assert G(layout(parse(), height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize(
    ("argv", "height", "width", "words"),
    [
        ((), 70, 64, "64 x 70 .* multiples of 32: the nearest are 64 wide and 64 or 96 high"),
        (("--num_upsampling_layers", "more"), 32, 64, "multiples of 64: the nearest are 64 wide and 64 high"),
        (
            ("--netG", "pix2pixhd", "--resnet_n_blocks", 1),
            64,
            40,
            "multiples of 16: the nearest are 32 or 48 wide and 64 high",
        ),
        (("--use_vae",), 64, 96, "fixes the size to 64 x 64"),
    ],
)
def test_sizes_that_do_not_fit_name_those_that_do(argv: tuple, height: int, width: int, words: str) -> None:
    """Mended (SPADE): such layouts were squeezed without a word."""
    opt = parse(*argv)
    with pytest.raises(UserError, match=words):
        build_generator(opt)(layout(opt, height, width))


def test_latent_size_with_a_vae() -> None:
    """sw = crop_size / stride, sh = round(sw / aspect_ratio), or crop_height / stride where that is given."""
    assert build_generator(parse("--use_vae", "--crop_size", 128, "--aspect_ratio", 2)).latent_hw == (2, 4)
    assert build_generator(parse("--use_vae", "--crop_size", 64, "--crop_height", 96)).latent_hw == (3, 2)
    opt = parse("--use_vae", "--crop_size", 64, "--crop_height", 96, "--z_dim", 16)
    G, E = build_generator(opt), build_encoder(opt)
    mu, logvar = E(image("photo", 2, 96, 64).float())
    assert mu.shape == logvar.shape == (2, 16)  # Mended (SPADE): other z_dim than 256 crashed
    assert G(layout(opt, 96, 64), mu).shape == (2, 3, 96, 64)


def test_encoder_width_is_its_own_where_typed() -> None:
    """Mended (SPADE): --nef had no effect, the width was ngf."""
    E = build_encoder(parse("--use_vae", "--nef", 6))
    assert E.layer1[0].weight_orig.shape[0] == 6
    assert build_encoder(parse("--use_vae")).layer1[0].weight_orig.shape[0] == 4


def test_small_crops_keep_six_encoder_layers() -> None:
    """Mended (SPADE): below crop 256 the sixth layer was dropped and the encoder crashed."""
    E = build_encoder(parse("--use_vae", "--crop_size", 64))
    assert E.layer6[0].weight_orig.shape == (32, 32, 3, 3)
    assert E(torch.zeros(2, 3, 64, 64))[0].shape == (2, 256)


def test_styles_reach_the_image() -> None:
    opt = parse("--use_vae", "--init_type", "kaiming")
    G = build_generator(opt).eval()
    semantics = layout(opt, 64, 64)
    with torch.no_grad():
        a, b = G(semantics, torch.zeros(2, 256)), G(semantics, torch.ones(2, 256))
        assert not torch.equal(a, b)
        c = G(semantics)
        assert torch.equal(c, G(semantics))  # drawn, and always the same
        assert not torch.equal(c[0], c[1])
    with pytest.raises(UserError, match="takes no style"):
        build_generator(parse())(semantics, torch.zeros(2, 256))


# ------------------------------------------------------------------------------------------------------- initialisation


@pytest.mark.parametrize("init_type", INIT_TYPES)
def test_initialisation(init_type: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(50, 30, 3), nn.BatchNorm2d(30), nn.ConvTranspose2d(30, 20, 3), nn.Linear(1000, 100))
    before = net[0].weight.clone()
    init_weights(net, init_type, gain=0.02)
    fan_in, fan_out = 50 * 9, 30 * 9
    std = {
        "normal": 0.02,
        "xavier": 0.02 * (2 / (fan_in + fan_out)) ** 0.5,
        "xavier_uniform": (2 / (fan_in + fan_out)) ** 0.5,
        "kaiming": (2 / fan_in) ** 0.5,
        "orthogonal": 0.02 * fan_in**-0.5,  # 30 orthogonal rows of length 450, each of norm 0.02
        "none": before.std().item(),
    }[init_type]
    assert net[0].weight.std().item() == pytest.approx(std, rel=0.03)
    assert net[1].weight.std().item() == pytest.approx(0.02, rel=0.5)
    assert net[1].weight.mean().item() == pytest.approx(1.0, abs=0.02)
    assert all(net[i].bias.eq(0).all() for i in ((1,) if init_type == "none" else range(4)))
    assert torch.equal(before, net[0].weight) == (init_type == "none")


def test_initialisation_reaches_spectrally_normalised_weights() -> None:
    G = build_generator(parse("--init_type", "normal", "--init_variance", 0.5))
    assert G.head_0.conv_0.weight_orig.std().item() == pytest.approx(0.5, rel=0.05)
    assert G.head_0.conv_0.bias.eq(0).all()


def test_spectral_all_covers_every_layer() -> None:
    """The paper's text normalises all layers; the released code leaves out SPADE's own and the first and last."""
    opt = parse("--spectral_all", "--use_vae")
    for net in (build_generator(opt), build_discriminator(opt), build_encoder(opt)):
        keys = net.state_dict()
        assert not [k for k in keys if k.endswith("weight") and keys[k].ndim > 1]
    assert build_generator(opt)(layout(opt, 64, 64)).shape == (2, 3, 64, 64)


# ------------------------------------------------------------------------------------------------------------ semantics


def test_one_hot_and_edges_by_hand() -> None:
    label = torch.tensor([[[[0, 2], [1, 1]]]])
    assert one_hot(label, 3, torch.float32)[0].tolist() == [[[1, 0], [0, 0]], [[0, 0], [1, 1]], [[0, 1], [0, 0]]]
    instance = torch.tensor([[[[5, 5, 5, 9], [5, 5, 5, 9], [5, 5, 5, 5]]]])
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert instance_edges(instance)[0, 0].int().tolist() == expected
    dense = encode_label_map(label, torch.zeros_like(label), 3).dense(torch.float64)
    assert dense.shape == (1, 4, 2, 2)
    assert dense[:, 3].eq(0).all()


def test_everything_works_in_double() -> None:
    opt = parse("--use_vae")
    G, E = build_generator(opt).double(), build_encoder(opt).double()
    mu, _ = E(image("photo", 2, 64, 64))
    assert G(layout(opt, 64, 64).double(), mu).dtype == torch.float64


def test_networks_take_plain_values() -> None:
    """No Namespace is needed to build one."""
    G = SPADEGenerator(semantic_nc=5, ngf=4, norm=parse_norm("spadeinstance3x3", spade=True))
    assert fill(G)(torch.zeros(1, 5, 64, 64)).shape == (1, 3, 64, 64)
    assert Pix2PixHDGenerator(5, 4, parse_norm("instance", spade=False), n_downsample=2, n_blocks=1).stride == 4


@pytest.mark.parametrize(
    ("label", "instance", "words"),
    [
        ([[[[0, 255]]]], None, r"label has the id 255, but 3 classes have ids 0 \.\. 2: .*--contain_dontcare_label"),
        ([[[[0, -1]]]], None, r"label has the id -1, but"),
        ([[[[0, 3]]]], [[[[0, 9]]]], r"label has the id 3, but"),
        ([[[[0.0, 1.0]]]], None, r"label is torch.float32, but ids are integers: label.long\(\)"),
        ([[[[0, 1]]]], [[[[0.0, 1.0]]]], r"instance is torch.float32, but ids are integers"),
        ([[[0, 1]]], None, r"label has the shape \[1, 1, 2\], but layouts are \[N, 1, H, W\].*label\[None, None\]"),
        ([[[[0, 1]], [[0, 1]]]], None, r"label has the shape \[1, 2, 1, 2\], but"),
        ([[[[]]]], None, r"label .*, but"),
        (
            [[[[0, 1]]]],
            [[[[0, 1, 2]]]],
            r"instance has the shape \[1, 1, 1, 3\], label \[1, 1, 1, 2\]: make them equal",
        ),
    ],
)
def test_ids_that_are_no_layout(label: list, instance: list | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        encode_label_map(torch.tensor(label), None if instance is None else torch.tensor(instance), 3)


def test_ids_that_are_no_tensor_and_ways_that_are_none() -> None:
    ids = torch.zeros(1, 1, 2, 2, dtype=torch.long)
    with pytest.raises(UserError, match=r"label is a ndarray, but ids are tensors: torch.as_tensor\(label\)"):
        encode_label_map(ids.numpy(), None, 3)
    with pytest.raises(UserError, match="instance is a list, but"):
        encode_label_map(ids, ids.tolist(), 3)
    with pytest.raises(UserError, match="impl is 'patterns', but it is one of auto, pattern, dense"):
        encode_label_map(ids, None, 3, "patterns")


def test_layouts_are_not_changed_by_what_is_written_to_ids() -> None:
    ids = torch.tensor([[[[0, 1]]]])
    layouts = encode_label_map(ids, None, 2)
    ids[:] = 0
    assert layouts.label.tolist() == [[[[0, 1]]]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64])
def test_the_highest_id_is_a_layout(dtype: torch.dtype) -> None:
    ids = torch.tensor([[[[0, 2]]]], dtype=dtype)
    assert encode_label_map(ids, ids, 3).dense().tolist() == [[[[1, 0]], [[0, 0]], [[0, 1]], [[1, 1]]]]


EXPORTER = pytest.mark.skipif(torch.__version__.startswith("2.4."), reason="its exporter knows no autocast")


def traced(G: torch.nn.Module, x: torch.Tensor) -> Callable:
    return torch.jit.trace(G, (x,), check_trace=False)


def exported(G: torch.nn.Module, x: torch.Tensor) -> Callable:
    return torch.export.export(G, (x,)).module()


@pytest.mark.filterwarnings("ignore")  # of tracing, about sizes that become constants
@pytest.mark.parametrize(
    ("graph_of", "frozen"),
    [
        (traced, True),
        (traced, False),
        pytest.param(exported, True, marks=EXPORTER),  # as load_generator gives it
        pytest.param(exported, False, marks=[EXPORTER, pytest.mark.prove]),
    ],
)
def test_a_generator_of_dense_semantics_as_a_graph(graph_of: Callable, frozen: bool) -> None:
    norm = parse_norm("spectralspadesyncbatch3x3", spade=True)
    G = fill(SPADEGenerator(semantic_nc=5, ngf=4, norm=norm)).eval().to(memory_format=torch.channels_last)
    G.requires_grad_(not frozen)
    x = encode_label_map(label_map("label", 1, 4, 64, 64), torch.zeros(1, 1, 64, 64, dtype=torch.long), 4).dense()
    with torch.no_grad():
        torch.testing.assert_close(graph_of(G, x)(x), G(x))
