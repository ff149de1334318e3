"""Whether a discriminator knows its training photos by heart.

    python -m experiments overfitting --data DIR --out DIR [--scale cpu] --runs spade diffaugment

Prints what a run's last discriminator says, on average, of a hundred training photos, of as many validation photos and
of what its generator makes of these training layouts; all with their layouts, cropped, mirrored and augmented as in
training. And r_v of Karras et al. 2020 ("Training Generative Adversarial Networks with Limited Data", section 3.1), how
far down validation photos are from training photos to synthesised images: 0 if it tells nothing but photos from images,
1 if photos that it has not seen are to it as images are, which is what differentiable augmentation is against.
"""

import itertools
import sys

import torch
from torch import Tensor

from data import create_dataloader
from experiments.labelmefacade import Place, make_parser, place_of, train_words
from experiments.tables import table
from models import create_model
from options.train_options import TrainOptions
from util.checkpoint import load_network, network_file, require_checkpoint
from util.distributed import pick_device, to_device

ITEMS = 100  # of each set at most: as many as there are validation photos


@torch.no_grad()
def scores(place: Place, run: str) -> tuple[float, float, float]:
    """D's mean output, over patches and scales, on training photos, validation photos and synthesised images.

    Raises:
        UserError: the run has no checkpoint.
    """
    folder, words = place.out / "checkpoints" / run, train_words(place, run, ["--batchSize", "1"])[1:]
    require_checkpoint(folder, "latest")
    opt = TrainOptions(raises=True).parse(words)
    device, model = pick_device(opt.gpu_ids), create_model(opt)
    for letter, net in model.networks().items():
        load_network(net, network_file(folder, "latest", letter))
    model.to(device).eval()
    means = {}
    for part in ("train", "val"):
        model.set_noise(opt.seed)
        opt.label_dir, opt.image_dir = (str(place.data / f"{part}_{kind}") for kind in ("label", "img"))
        outputs = []
        for batch in itertools.islice(create_dataloader(opt), ITEMS):
            batch = to_device(batch, device)
            seen = model.augmented(model.semantics(batch), model.generate(batch), model.photo(batch))
            outputs.append([mean_of(prediction) for prediction in model.discriminate(*seen)])
        means[part] = [sum(column) / len(outputs) for column in zip(*outputs, strict=True)]  # synthesised, photos
    return means["train"][1], means["val"][1], means["train"][0]


def mean_of(prediction: list[list[Tensor]]) -> float:
    """Over the patches of each scale, then over the scales; a scale's last stage is what it says."""
    return sum(stages[-1].mean().item() for stages in prediction) / len(prediction)


def overfitting(train: float, val: float, synthesised: float) -> float:
    """r_v of the mean outputs."""
    return (train - val) / (train - synthesised)


def main() -> None:
    """Print the table of the runs that the command line names.

    Raises:
        UserError: the data set or a run is not there.
    """
    args = make_parser("overfitting", __doc__).parse_args(sys.argv[1:])
    place, rows = place_of(args), []
    for run in args.runs:
        outputs = scores(place, run)
        rows.append([run, *(f"{output:.2f}" for output in outputs), f"{overfitting(*outputs):.2f}"])
    print(table(["D's output", "training photos", "validation photos", "synthesised", "r_v"], rows))
