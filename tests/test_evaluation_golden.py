"""The numbers that the reference implementations of the evaluation compute (float64, CPU)."""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation import resizing
from evaluation.confusion import ALL, PRESENT, SEEN, UNKNOWN, Confusion
from evaluation.frechet import Gaussian, frechet_distance
from evaluation.inception import FIDInception
from evaluation.segmenters import SEGMENTERS, build, deeplab, drn, upernet
from tests.deterministic import differences, fill, image, label_map, normal

FOLDER = Path(__file__).parent / "golden"
GOLDEN = json.loads((FOLDER / "eval.json").read_text())
KEYS = json.loads((FOLDER / "eval_keys.json").read_text())
FORWARD, PICTURE = 1e-9, 1e-6


@pytest.fixture(autouse=True)
def without_gradients() -> Any:
    with torch.no_grad():
        yield


def picture(name: str, height: int, width: int, golden: dict[str, int]) -> Tensor:
    """An RGB image, uint8 [1, 3, H, W]; the golden file says what its bytes are."""
    pixels = ((image(name, 1, height, width) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    bytes_of = pixels.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
    assert (int(pixels.sum()), zlib.crc32(bytes_of)) == (golden["sum"], golden["crc32_NHWC"])
    return pixels


def same_classes(read_classes: Tensor, golden: dict[str, Any]) -> bool:
    flat = read_classes.flatten()
    weighted = (flat * (torch.arange(len(flat)) % 9973)).sum().item()
    probes = flat[torch.linspace(0, len(flat) - 1, 16).round().long()].tolist()
    return (list(read_classes.shape), weighted, probes) == (golden["shape"], golden["weighted"], golden["probes"])


def keys_of(net: nn.Module, with_counts: bool = True) -> dict[str, list[int]]:
    state = net.state_dict().items()
    return {k: list(v.shape) for k, v in state if with_counts or not k.endswith("num_batches_tracked")}


# ---------------------------------------------------------------------------------------------------------- segmenters


def test_parameters() -> None:
    """Names and shapes of the public checkpoints."""
    net = build("upernet101")
    for part, file in ((net.encoder, "encoder_epoch_50.pth"), (net.decoder, "decoder_epoch_50.pth")):
        assert keys_of(part, with_counts=False) == KEYS["upernet101"][file]
    assert keys_of(build("deeplabv2")) == KEYS["deeplabv2"]
    assert keys_of(build("drn_d_105"), with_counts=False) == KEYS["drn_d_105"]
    assert keys_of(FIDInception()) == KEYS["fid_inception"]


def test_deeplab() -> None:
    golden, net = GOLDEN["deeplabv2_resnet101_msc"], fill(build("deeplabv2").double())
    (case,) = golden["cases"]
    x = image("deeplab_input", 1, 65, 65)
    h = x
    for name, part in net.base.named_children():
        h = part(h)
        assert not differences(h, case["stages"].get(name, case["base_logits"]), FORWARD)
    assert not differences(net(x), case["msc_logits"], FORWARD)
    logits = F.interpolate(net(x), (65, 65), mode="bilinear", align_corners=False)
    assert not differences(logits.softmax(1), case["softmax_upsampled_to_input"], FORWARD)
    assert same_classes(logits.argmax(1), case["argmax_upsampled_to_input"])

    pipeline = golden["pipeline"]
    pixels = picture("deeplab_u8", 64, 64, pipeline["u8"])
    prepared = deeplab.prepared(pixels, torch.float64)
    assert not differences(prepared, pipeline["network_input"], FORWARD)
    assert not differences(net(prepared), pipeline["msc_logits"], FORWARD)
    assert not differences(deeplab.scores(net, pixels, (48, 80)), pipeline["logits_upsampled_to_48x80"], FORWARD)
    assert same_classes(SEGMENTERS["deeplabv2"].read(net, pixels, (48, 80)), pipeline["argmax_48x80"])


def test_upernet() -> None:
    golden, net = GOLDEN["upernet101"], build("upernet101").double()
    fill(net.encoder), fill(net.decoder)
    (case,) = golden["cases"]
    seen: dict[str, Tensor] = {}
    decoder = net.decoder
    parts = {"ppm_last_conv": decoder.ppm_last_conv, "fpn_out_2": decoder.fpn_out[2], "fpn_out_0": decoder.fpn_out[0]}
    for name, part in {**parts, "fusion": decoder.conv_last[0]}.items():
        part.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out))
    x = image("upernet_input", 1, 96, 64)
    maps = net.encoder(x)
    for own, wanted in zip(maps, case["encoder"], strict=True):
        assert not differences(own, wanted, FORWARD)
    logits = decoder(maps)
    for name, wanted in case["decoder"].items():
        assert not differences({**seen, "logits": logits}[name], wanted, FORWARD)
    assert not differences(logits.log_softmax(1), case["log_softmax_native"], FORWARD)
    for size in ((96, 64), (75, 50)):
        probabilities = F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(1)
        assert not differences(probabilities, case[f"softmax_segSize_{size[0]}x{size[1]}"], FORWARD)
        assert same_classes(probabilities.argmax(1), case[f"argmax_segSize_{size[0]}x{size[1]}"])

    pipeline = golden["pipeline"]
    pixels = picture("upernet_u8", 96, 64, pipeline["u8"])
    for short_side, wanted in pipeline["resized"].items():
        assert not differences(upernet.prepared(pixels, int(short_side)), wanted["network_input"], PICTURE)
    mean = upernet.scores(net, pixels, (96, 64), (64, 100))
    assert not differences(mean, pipeline["mean_softmax_of_short_sides_64_and_100_at_96x64"], PICTURE)
    assert same_classes(mean.argmax(1), pipeline["argmax"])


def test_sizes_of_upernet() -> None:
    """What a 256 x 256 image is resized to, and its numbers; a long image keeps to 1000."""
    golden = GOLDEN["upernet101"]["pipeline"]["resized_from_256x256"]
    pixels = picture("upernet_u8", 256, 256, golden["u8"])
    assert list(golden["sizes"]) == [str(side) for side in upernet.SHORT_SIDES]
    for short_side, wanted in golden["sizes"].items():
        assert not differences(upernet.prepared(pixels, int(short_side)), wanted["network_input"], PICTURE)
    assert upernet.input_size(256, 512, 600) == (512, 1024)  # 500 x 1000, then up to multiples of 32


@pytest.mark.parametrize("case", GOLDEN["drn_d_105"]["cases"], ids=lambda case: case["input"].split(")")[0])
def test_drn(case: dict[str, Any]) -> None:
    net, (_, _, *size) = fill(build("drn_d_105").double()), case["input_summary"]["shape"]
    x = image("drn_input", 1, *size)
    h = x
    for i, part in enumerate(net.base):
        h = part(h)
        assert not differences(h, case["stages"][f"base_{i}"], FORWARD)
    assert not differences(net.seg(h), case["seg_logits"], FORWARD)
    assert not differences(net.up(net.seg(h)), case["stages"]["up"], FORWARD)
    assert not differences(net(x), case["log_softmax"], FORWARD)
    assert same_classes(net(x).argmax(1), case["argmax"])


def test_drn_from_a_picture() -> None:
    golden, net = GOLDEN["drn_d_105"]["pipeline"], fill(build("drn_d_105").double())
    pixels = picture("drn_u8", 64, 64, golden["u8"])
    x = drn.prepared(pixels, torch.float64)
    assert not differences(x, golden["network_input"], FORWARD)
    assert not differences(net.seg(net.base(x)), golden["seg_logits"], FORWARD)
    assert not differences(drn.scores(net, pixels, (64, 64)), golden["log_softmax"], FORWARD)
    assert same_classes(SEGMENTERS["drn_d_105"].read(net, pixels), golden["argmax"])


def test_drn_upsamples_bilinearly() -> None:
    golden = GOLDEN["drn_d_105"]["bilinear_up_weight_as_initialised"]
    weight = build("drn_d_105").up.weight
    assert not differences(weight, golden["summary"], PICTURE)
    assert torch.allclose(weight[3, 0].diag(), torch.tensor(golden["diag"]))


# ------------------------------------------------------------------------------------------------------------ distances


def inception(gain: float = 1.0) -> FIDInception:
    net = fill(FIDInception().double().eval())
    for value in net.state_dict().values():
        if value.ndim >= 2:
            value *= gain
    return net


@pytest.mark.parametrize("case", GOLDEN["fid_inception"]["pytorch_fid_cases"], ids=lambda case: case["input"][:32])
def test_inception(case: dict[str, Any]) -> None:
    count, side = case["pool3_2048"]["shape"][0], json.loads(f"[{case['input'].split('(')[2].split(')')[0][13:]}]")[1:]
    x = resizing.from_unit((image("fid_image", count, *side) + 1) / 2)
    assert not differences(x, case["after_resize_and_scale"], FORWARD)
    net = inception()
    features = net(x)
    assert not differences(features, case["pool3_2048"], FORWARD)
    assert features[0, :8].tolist() == pytest.approx(case["pool3_first8"], rel=1e-9, abs=1e-15)
    maps: dict[str, Tensor] = {}
    for name, after in (("dims64", net.maxpool1), ("dims192", net.maxpool2), ("dims768", net.Mixed_6e)):
        after.register_forward_hook(lambda _, __, out, name=name: maps.__setitem__(name, out.mean((2, 3))))
    net(x)
    for name, pooled in maps.items():
        assert not differences(pooled, case[f"{name}_pooled"], FORWARD)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("pytorch_fid_uint8", resizing.pytorch_fid),
        ("torch_fidelity_variant", resizing.torch_fidelity),
        ("clean_fid_variant", resizing.clean_fid),
    ],
)
def test_inception_from_a_picture(name: str, rule: Callable[..., Tensor]) -> None:
    golden = GOLDEN["fid_inception"]
    pixels = picture("fid_u8", 64, 64, golden["pytorch_fid_uint8"]["u8"])
    x = rule(pixels, torch.float64)
    if "network_input" in golden[name]:
        assert not differences(x, golden[name]["network_input"], FORWARD)
    if rule is resizing.torch_fidelity:  # which computes in single precision, whatever its weights are
        assert not differences(inception().float()(x.float()), golden[name]["pool3_2048"], PICTURE)
    else:
        assert not differences(inception()(x), golden[name]["pool3_2048"], FORWARD)


def test_inception_with_a_signal_that_lives() -> None:
    """Weights times the root of 2, in single precision too."""
    golden = GOLDEN["fid_inception"]["gain_sqrt2"]
    net, x = inception(math.sqrt(2)), resizing.from_unit((image("fid_image", 2, 64, 64) + 1) / 2)
    features = net(x)
    assert not differences(features, golden["pool3_2048"], FORWARD)
    assert features[1, :8].tolist() == pytest.approx(golden["pool3_second_image_first8"], rel=1e-9)
    assert not differences(net.float()(x.float()), golden["pool3_2048"], 1e-3)


@pytest.mark.parametrize("number", range(3))
def test_frechet_distance(number: int) -> None:
    """The second case has fewer vectors than dimensions, where the formulas in use agree to 1e-8 alone."""
    golden = GOLDEN["fid_inception"]["frechet"][number]
    count = 8 if number == 1 else 64
    a = normal("fid_a", (count, 16))
    b = 2 * a + 1 if number == 2 else normal("fid_b", (count, 16))
    own = Gaussian.of(a), Gaussian.of(b)
    for letter, gaussian in zip("ab", own, strict=True):
        if f"mu_{letter}" in golden:
            assert not differences(torch.from_numpy(gaussian.mean), golden[f"mu_{letter}"], FORWARD)
            assert not differences(torch.from_numpy(gaussian.covariance), golden[f"cov_{letter}"], FORWARD)
    tolerance = 1e-6 if number == 1 else 1e-9
    assert frechet_distance(*own) == pytest.approx(golden["pytorch_fid_sqrtm"], rel=tolerance)
    assert frechet_distance(*own[::-1]) == pytest.approx(golden["pytorch_fid_sqrtm"], rel=tolerance)


# ---------------------------------------------------------------------------------------------------------- accuracies


@pytest.mark.parametrize("classes", [182, 150])
def test_accuracies(classes: int) -> None:
    golden = GOLDEN["metrics"][str(classes)]
    truth = label_map(f"gt_{classes}", 3, classes + 1, 48, 64)
    noise = label_map(f"pred_{classes}", 3, classes, 48, 64)
    mask = label_map(f"mask_{classes}", 3, 2, 48, 64)
    seen = torch.where((mask == 1) & (truth != classes), truth, noise)
    truth[:, :, :6, :6] = classes
    assert (int(truth.sum()), int(seen.sum())) == (golden["gt_sum"], golden["pred_sum"])
    matrix = Confusion(classes)
    for known, made in zip(torch.where(truth == classes, UNKNOWN, truth), seen, strict=True):
        matrix.add(known, made)
    deeplab_scores, drn_scores, csail = (matrix.scores(rule) for rule in (PRESENT, SEEN, ALL))
    close = lambda value: pytest.approx(value, rel=1e-9)  # noqa: E731
    wanted = golden["deeplab_pytorch"]
    assert deeplab_scores.miou == close(wanted["Mean IoU"])
    assert deeplab_scores.pixel_accuracy == close(wanted["Pixel Accuracy"])
    assert deeplab_scores.mean_accuracy == close(wanted["Mean Accuracy"])
    assert deeplab_scores.weighted_iou == close(wanted["Frequency Weighted IoU"])
    assert 100 * drn_scores.miou == close(golden["drn"]["mIoU_percent"])
    assert drn_scores.pixel_accuracy_all == close(golden["drn"]["accuracy_over_all_pixels_ignored_counted_wrong"])
    assert csail.miou == close(golden["csail"]["mIoU"]) and csail.pixel_accuracy == close(golden["csail"]["accuracy"])
    assert deeplab_scores.unknown == golden["ignored_pixels"]
    assert int(np.isfinite(drn_scores.iou).sum()) == golden["classes_in_gt_or_pred_on_valid"]
