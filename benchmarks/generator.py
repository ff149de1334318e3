"""A generator's forward pass: python -m benchmarks generator [--rounds N] [--precisions off bf16] [--flags of test.py].

Five sides with the same weights, in turns in one process, tables and encoding of ids inside the time:
  plain, fp32     as the released code computes it (benchmarks/plain.py), with the C library's default memory
  plain, kept     the same, with freed memory kept (util/allocator.py), as test.py and train.py do on a CPU; in half
                  precision under its name
  best plain      the plain formula, channels-last, norms folded once (--spade_impl dense)
  patterns        gamma and beta once for each pattern of ids (--spade_impl, auto unless it is given)
  convolutions    the ordinary convolutions of `patterns` alone: the floor
The weights are random but of a trained network's scale: images spread over [-1, 1].
"""

import copy
import statistics
from argparse import Namespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import batches_of, options_of, parser_of
from benchmarks.plain import make_plain
from benchmarks.sides import compare
from models import create_model
from models.networks.normalization import batch_norms
from models.pix2pix_model import Pix2PixModel
from options.flags import positive
from options.test_options import TestOptions
from util.distributed import pick_device, to_device
from util.errors import run_main
from util.precision import AMP_TYPES, autocast
from util.provenance import machine


def model_of(opt: Namespace, batch: dict[str, Any]) -> Pix2PixModel:
    """A model whose activations and images have the spread of a trained one's, in evaluation mode."""
    torch.manual_seed(0)
    model = create_model(opt)
    for name, weight in model.netG.named_parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight)
        else:
            nn.init.normal_(weight, 0, 0.1)
        if "mlp_gamma" in name or "mlp_beta" in name:
            weight.data.mul_(0.5)
    model.to(pick_device(opt.gpu_ids)).train()
    norms = batch_norms(model.netG)
    for _ in range(5):  # power iterations and running statistics settle
        model.generate(batch)
    for norm in norms:
        norm.momentum = 1.0
    image = model.generate(batch)
    with torch.no_grad():  # 0.5 is the spread of photos
        model.netG.conv_img.weight.mul_(0.5 / torch.atanh(image.clamp(-0.999, 0.999)).std())
    return model.eval()


def sides_of(opt: Namespace, model: Pix2PixModel) -> dict[str, Pix2PixModel]:
    """The model in the three ways of computing SPADE."""
    dense = copy.deepcopy(model)
    dense.opt = Namespace(**{**vars(opt), "spade_impl": "dense"})
    return {"plain": make_plain(copy.deepcopy(model)), "best plain": dense, "patterns": model}


def measure(opt: Namespace, rounds: int) -> None:
    """Print the table for one precision."""
    device = pick_device(opt.gpu_ids)
    batches = [to_device(batch, device) for batch in batches_of(opt)]
    models = sides_of(opt, model_of(opt, batches[0]))
    images: dict[str, dict[int, Tensor]] = {name: {} for name in models}  # by the number of the batch

    def synthesise(name: str, number: int, amp: str = opt.amp) -> Tensor:
        with autocast(amp, device):
            return models[name].generate(batches[number])

    def kept(name: str, number: int) -> None:
        images[name][number] = synthesise(name, number)

    compare(opt, rounds, kept, lambda number: synthesise("plain", number, "off"))
    describe_differences(opt, models, images, batches)


def describe_differences(
    opt: Namespace, models: dict[str, Pix2PixModel], images: dict[str, dict[int, Tensor]], batches: list[dict[str, Any]]
) -> None:
    """Print how far each side's images are from exact ones: float64 for fp32, fp32 for half precision."""
    numbers = sorted(set.intersection(*map(set, images.values())))  # that every side has made
    reference = copy.deepcopy(models["best plain"])
    if opt.amp == "off":
        reference = reference.double()
    exact = {number: reference.generate(batches[number]) for number in numbers}
    for name, own in images.items():
        differences = [(own[number] - exact[number]).abs() for number in numbers]
        mean, largest = statistics.mean(d.mean().item() for d in differences), max(d.max().item() for d in differences)
        than = "float64" if opt.amp == "off" else "fp32"
        print(f"  {name}: differs from {than} by {mean:.1e} in the mean, {largest:.1e} at most")
    spread = statistics.mean(x.std().item() for x in exact.values())
    print(f"  images of {len(numbers)} batches: standard deviation {spread:.2f}\n")


def main() -> None:
    """Measure what the command line names."""
    parser = parser_of("generator", __doc__, "test.py")
    parser.add_argument(
        "--precisions",
        nargs="+",
        help="values of --amp, one table each",
        choices=list(AMP_TYPES),
        default=["off", "bf16"],
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help="timed calls of each side", default=8)
    with options_of(parser, TestOptions(), "val") as (own, opt, _):
        print(machine())
        for amp in own.precisions:
            measure(Namespace(**{**vars(opt), "amp": amp}), own.rounds)


if __name__ == "__main__":
    run_main(main)
