"""Synthesise images with a trained model: python test.py --name NAME --dataset_mode MODE --dataroot FOLDER ..."""

import sys
from argparse import Namespace
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from data import create_dataloader
from models import create_model
from models.base_model import BaseModel
from models.recalibration import recalibrate
from models.styles import Styles
from options.test_options import TestOptions
from util.checkpoint import averages_in, load_networks, require_checkpoint
from util.distributed import pick_device, to_device
from util.errors import run_main
from util.precision import autocast, check_amp
from util.results import Results


def main(argv: list[str] | None = None) -> None:
    """Write an image for every layout, or one in each style that is asked for, and a page that shows them.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    opt = TestOptions().parse(argv)
    device = pick_device(opt.gpu_ids)
    check_amp(opt.amp, device)
    folder = Path(opt.checkpoints_dir, opt.name)
    require_checkpoint(folder, opt.which_epoch, opt.weights)
    loader = create_dataloader(opt)
    model = create_model(opt)
    load_networks(model, folder, opt.which_epoch, opt.weights)
    if opt.weights == "plain" and opt.which_epoch in averages_in(folder):
        print("note: these are the plain weights; --weights ema takes their moving average", file=sys.stderr)
    model.to(device).eval()
    with autocast(opt.amp, device):
        synthesise(opt, model, loader, device)


def synthesise(opt: Namespace, model: BaseModel, loader: DataLoader, device: torch.device) -> None:
    """Write what `main` says, with a model that is ready."""
    if opt.recalibrate_bn:
        chosen = Namespace(**{**vars(opt), "how_many": opt.recalibrate_bn, "batchSize": opt.recalibration_batch})
        seen = recalibrate(model, (to_device(batch, device) for batch in create_dataloader(chosen, loader.dataset)))
        fewer = f": there are no more, though --recalibrate_bn asks for {opt.recalibrate_bn}"
        print(
            f"batch norm statistics are those of {seen} layout(s), at most {min(seen, opt.recalibration_batch)} a batch"
            f"{fewer if seen < opt.recalibrate_bn else ''}"
        )
    styles = Styles(opt, model)

    results = Results(opt)
    results.show_styles(styles.photos)
    with results, tqdm(total=loader.batch_sampler.size, unit="img", disable=None) as bar:
        for batch in loader:
            batch = to_device(batch, device)
            model.set_noise(opt.seed, first=len(results.rows))
            with model.one_batch():
                fakes = {name: model.generate(batch, z) for name, z in styles.of(batch)}
            visuals, legends = model.visuals(batch, fakes), model.legend(batch)
            for i, path in enumerate(batch["path"]):
                results.add(
                    path, {name: pictures[i] for name, pictures in visuals.items()}, legends[i], styles.captions
                )
            bar.update(len(batch["path"]))
    leftovers = results.leftovers()
    if leftovers:
        print(
            f"note: {leftovers} images of earlier runs lie among them; where that matters, delete the folder "
            "first, or give another --results_dir",
            file=sys.stderr,
        )
    each = f" in {len(styles)} styles each" if len(styles) > 1 else ""
    print(f"{len(results.rows)} layout(s){each}, images in {results.folder / 'images'}; the page is {results.page}")


if __name__ == "__main__":
    run_main(main)
