"""Make the sample data set: painted landscapes with label and instance maps. Nothing is downloaded.

    python datasets/make_sample_landscapes.py --out datasets/sample

Writes {train,val}_{img,label,inst}/ with the 14 classes of --class_table sample. The same flags give the same files;
files that are there already are left alone, so that a run that was cut short goes on.
"""

import functools
import multiprocessing
import signal
import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.landscapes import landscape
from options.flags import command_parser, natural, positive
from util.errors import UserError, run_main
from util.files import save_image

KINDS = ("img", "label", "inst")


def write_scene(job: tuple[str, int], out: Path, seed: int, size: int) -> None:
    """Paint scene (split, number) and write its three files, unless they are there."""
    split, number = job
    paths = [out / f"{split}_{kind}" / f"{split}_{number:05d}.png" for kind in KINDS]
    if all(path.exists() for path in paths):
        return
    # Validation scenes are others than the training ones, however many of either are asked for.
    scene = landscape(seed, 2 * number + (split == "val"), size)
    for path, pixels in zip(paths, scene, strict=True):
        save_image(Image.fromarray(pixels), path)


def main(argv: list[str] | None = None) -> None:
    """Write the data set.

    Raises:
        UserError: the folder holds a set made with other flags.
    """
    parser = command_parser("make_sample_landscapes.py", __doc__)
    parser.add_argument("--out", default="datasets/sample", help="folder for the data set (default: %(default)s)")
    parser.add_argument("--train", type=positive, default=500, help="training scenes (default: %(default)s)")
    parser.add_argument("--val", type=positive, default=100, help="validation scenes (default: %(default)s)")
    parser.add_argument("--size", type=positive, default=128, help="pixels a side (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="another seed, other scenes (default: %(default)s)")
    args = parser.parse_args(argv)
    out = Path(args.out)
    made_with = f"seed {args.seed}, size {args.size}\n"
    note = out / "made_with.txt"
    if note.exists() and note.read_text() != made_with:
        raise UserError(
            f"{out} holds a set of {note.read_text().strip()}, not of {made_with.strip()}; choose another --out, or "
            "delete it"
        )
    if not note.exists() and any(out.glob("*_img/*")):
        raise UserError(f"{out} holds pictures that this script did not make; choose another --out")
    for split in ("train", "val"):
        for kind in KINDS:
            (out / f"{split}_{kind}").mkdir(parents=True, exist_ok=True)
    note.write_text(made_with)
    jobs = [(split, i) for split, count in (("train", args.train), ("val", args.val)) for i in range(count)]
    job = functools.partial(write_scene, out=out, seed=args.seed, size=args.size)
    # Ctrl-C goes to all processes; this one answers for all.
    with multiprocessing.Pool(initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        for _ in tqdm(pool.imap_unordered(job, jobs, chunksize=4), total=len(jobs), unit="scene", disable=None):
            pass
    train, val = (len(list((out / f"{split}_img").glob("*.png"))) for split in ("train", "val"))
    print(f"{train} training and {val} validation scenes are in {out}")


if __name__ == "__main__":
    run_main(main)
