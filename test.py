"""Synthesise images with a trained model: python test.py --name NAME --dataset_mode MODE --dataroot FOLDER ..."""

import sys
from argparse import Namespace
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from data import create_dataloader
from models import load_model
from models.base_model import BaseModel
from models.recalibration import recalibrate_as_asked
from models.styles import Styles
from options.test_options import TestOptions
from util.checkpoint import averages_in, require_checkpoint
from util.distributed import busy_with, pick_device, processes, rank, said_by_the_first, to_device
from util.errors import run_main
from util.precision import autocast, check_amp
from util.results import Results


def main(argv: list[str] | None = None) -> None:
    """Write an image for every layout, or one in each style that is asked for, and a page that shows them.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    with said_by_the_first():
        opt = TestOptions().parse(argv)
    with processes(opt.gpu_ids, opt.process_timeout):
        test(opt)


def test(opt: Namespace) -> None:
    """What `main` says, in each process: it synthesises every P-th batch, and the first writes the page of all."""
    device = pick_device(opt.gpu_ids)
    check_amp(opt.amp, device)
    folder = Path(opt.checkpoints_dir, opt.name)
    require_checkpoint(folder, opt.which_epoch, opt.weights)
    loader = create_dataloader(opt)
    model = load_model(opt, device)
    if opt.weights == "plain" and opt.which_epoch in averages_in(folder):
        print("note: these are the plain weights; --weights ema takes their moving average", file=sys.stderr)
    with autocast(opt.amp, device):
        synthesise(opt, model, loader, device)


def synthesise(opt: Namespace, model: BaseModel, loader: DataLoader, device: torch.device) -> None:
    """Write what `main` says, with a model that is ready."""
    recalibrate_as_asked(opt, model, loader.dataset)
    styles = Styles(opt, model)

    results = Results(opt, loader.dataset.path)
    results.show_styles(styles.photos)
    places, done = loader.batch_sampler.own_places(), 0
    busy_with("synthesising")
    with results, tqdm(total=len(places), unit="img", disable=None if rank() == 0 else True) as bar:
        for batch in loader:
            batch = to_device(batch, device)
            model.set_noise(opt.seed, first=int(places[done]))
            with model.one_batch():
                fakes = {name: model.generate(batch, z) for name, z in styles.of(batch)}
            visuals, legends = model.visuals(batch, fakes), model.legend(batch)
            for i, path in enumerate(batch["path"]):
                pictures = {name: pictures[i] for name, pictures in visuals.items()}
                results.add(int(places[done + i]), path, pictures, legends[i], styles.captions)
            done += len(batch["path"])
            bar.update(len(batch["path"]))
    if rank() > 0:
        return
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
