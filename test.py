"""Synthesise images with a trained model: python test.py --name NAME --dataset_mode MODE --dataroot FOLDER ..."""

from pathlib import Path

from PIL import Image
from tqdm import tqdm

from data import create_dataloader
from models import create_model
from options.test_options import TestOptions
from util.checkpoint import load_networks
from util.distributed import pick_device, to_device
from util.errors import run_main
from util.html import Row, write_page
from util.paths import unique_stems

SHOWN = ("input_label", "synthesized_image")


def main(argv: list[str] | None = None) -> None:
    """Write an image for every layout, and a page that shows them.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    opt = TestOptions().parse(argv)
    device = pick_device(opt.gpu_ids)
    loader = create_dataloader(opt)
    model = create_model(opt)
    load_networks(model, Path(opt.checkpoints_dir, opt.name), opt.which_epoch)
    model.to(device).eval()

    folder = Path(opt.results_dir, opt.name, f"{opt.phase}_{opt.which_epoch}")
    for name in SHOWN:
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
    stems = unique_stems()
    rows: list[Row] = []
    with tqdm(total=loader.batch_sampler.size, unit="img", disable=None) as bar:
        for batch in loader:
            batch = to_device(batch, device)
            model.set_noise(opt.seed, first=len(rows))
            visuals = model.visuals(batch, model.generate(batch))
            for i, path in enumerate(batch["path"]):
                stem = stems(path)
                links = [(name, f"images/{name}/{stem}.png") for name in SHOWN]
                for name, link in links:
                    Image.fromarray(visuals[name][i]).save(folder / link)
                rows.append(Row(path, links))
            bar.update(len(batch["path"]))
    write_page(folder / "index.html", f"{opt.name}: {opt.phase}, epoch {opt.which_epoch}", rows, opt.display_winsize)
    print(f"{len(rows)} images in {folder / 'images'}; the page is {folder / 'index.html'}")


if __name__ == "__main__":
    run_main(main)
