"""Train, evaluate and test on LabelMeFacade, run by run.

    python -m experiments labelmefacade --data DIR --out DIR [--scale cpu] [--runs spade spade-vae] [-- TRAIN_FLAGS]

DIR has {train,val}_{img,label}/ with ids 0 (various) to 8. For each run: train.py, with what it measures on the way,
evaluate.py for plain and for averaged weights, and test.py's pages; --out gets checkpoints/, results/ and
records/RUN.json. The segmenter is trained first, on the real training photos. The commands are printed. A run that was
stopped goes on when the same command is given again, and one that has its record is left out. Several commands with the
same --out, of different runs, can go side by side.
"""

import argparse
import json
import math
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.metrics import OF_SEGMENTER
from evaluation.segmenters import trained
from experiments.runs import COMMON, RUNS, SCALES, Scale
from options.flags import command_parser
from options.train_options import TrainOptions
from util import launch, locks
from util.curves import read_losses
from util.errors import EXIT_INTERRUPTED, EXIT_STOPPED, Interrupted, UserError
from util.files import write_atomically
from util.metrics_file import MetricsFile
from util.provenance import machine, provenance

ROOT = Path(__file__).resolve().parent.parent
CLASSES = Path(__file__).with_name("labelmefacade.json")
STYLES = 6  # random styles of each layout on the page of a run with a VAE
CURVE = ("miou", "pixel_accuracy", "mean_accuracy")  # what is measured on the way, too


@dataclass(frozen=True)
class Place:
    """Where data and results are, and the flags that say so."""

    data: Path
    out: Path
    scale: Scale

    @property
    def segmenter(self) -> Path:
        """The file of train-segmenter."""
        return self.out / f"segmenter_{self.scale.size}.pth"

    def folders(self, part: str, prefix: str = "") -> list[str]:
        """A part's folders as flags; the prefix is --val_ where the script has others too."""
        flags = {f"--{prefix}label_dir": f"{part}_label", f"--{prefix}image_dir": f"{part}_img"}
        return [word for flag, name in flags.items() for word in (flag, str(self.data / name))]

    def classes(self) -> list[str]:
        """Their number, names and colours."""
        return ["--label_nc", "9", "--class_table", str(CLASSES)]

    def preprocessing(self) -> list[str]:
        """As the paper: to 286 / 256 of the size, then a crop of it."""
        load_size = round(self.scale.size * 286 / 256)
        return ["--dataset_mode", "custom", "--load_size", str(load_size), "--crop_size", str(self.scale.size)]

    def measuring(self) -> list[str]:
        """By what, and against which photos: those of the training set, which are many."""
        words = ["--segmenter", str(self.segmenter), "--no_fid", "--reference", str(self.data / "train_img")]
        return [*words, "--features_dir", str(self.out / "features"), "--results_dir", str(self.out / "results")]


def train_segmenter(place: Place) -> None:
    """On the training photos, unless it is there; by one command where several have this --out."""
    if not locks.take(place.out):
        print(f"waiting for another command, which trains the segmenter of {place.out}", flush=True)
        locks.take(place.out, patience=math.inf)
    try:
        _train_segmenter(place)
    finally:
        locks.leave(place.out)


def _train_segmenter(place: Place) -> None:
    if place.segmenter.exists() and trained.read(place.segmenter).is_finished:
        return
    words = ["evaluate.py", "train-segmenter", "--out", str(place.segmenter), "--epochs"]
    words += [str(place.scale.segmenter_epochs), "--ignore_ids", "0", *place.preprocessing(), *place.classes()]
    call([*words, *place.folders("train"), *place.folders("val", "val_"), *place.scale.device.split()])


def train_words(place: Place, run: str, more: list[str]) -> list[str]:
    """A run's command."""
    words = ["train.py", "--name", run, "--checkpoints_dir", str(place.out / "checkpoints"), *place.preprocessing()]
    words += [*place.classes(), *place.folders("train"), *place.folders("val", "val_")]
    words += ["--eval_freq", str(place.scale.eval_freq), "--segmenter", str(place.segmenter), "--no_fid"]
    words += ["--features_dir", str(place.out / "features"), *place.scale.device.split()]
    return [*words, *flags_of(place, run, more), "--continue_train", "auto"]


def train(place: Place, run: str, more: list[str]) -> float:
    """Train a run, or go on with it; returns the seconds that this took."""
    begun = time.monotonic()
    call(train_words(place, run, more))
    return time.monotonic() - begun


def check(place: Place, run: str, more: list[str]) -> None:
    """Refuse, before hours of training runs, flags that train.py or a record could not do with.

    Raises:
        UserError: they are wrong, or leave out what a record has.
    """
    opt = TrainOptions(raises=True).parse(train_words(place, run, more)[1:])
    for flag in ("eval_freq", "print_freq"):
        if not getattr(opt, flag):
            raise UserError(f"--{flag} 0, but records hold what is measured and printed on the way; leave the flag out")


def flags_of(place: Place, run: str, more: list[str]) -> list[str]:
    """What a run is: all but places and the machine."""
    return [*place.scale.train.split(), *COMMON.split(), *RUNS[run].split(), *more]


def made_of(place: Place, run: str, layouts: Path) -> list[str]:
    """What test.py is told of a run and of a folder of layouts."""
    words = ["--name", run, "--checkpoints_dir", str(place.out / "checkpoints"), "--label_dir", str(layouts)]
    return [*words, *place.scale.device.split()]


def made_of_validation(place: Place, run: str) -> list[str]:
    """What it and evaluate.py are told of the validation layouts and their photos, which are styles too."""
    return [*made_of(place, run, place.data / "val_label"), "--image_dir", str(place.data / "val_img")]


def evaluate(place: Place, run: str, weights: str) -> dict[str, Any]:
    """What evaluate.py writes of the last checkpoint."""
    call(["evaluate.py", *made_of_validation(place, run), "--weights", weights, "--shuffled", *place.measuring()])
    return read_metrics(place.out / "results" / run, f"evaluation_test_latest{'_ema' if weights == 'ema' else ''}")


def evaluate_photos(place: Place, run: str) -> dict[str, Any]:
    """What it writes of the validation photos themselves, at the size that a run's page has them in."""
    name = f"photos of {run}"  # its own, in case others are measured at the same time
    words = ["evaluate.py", "--name", name, "--synthesized", str(results_of(place, run) / "images/real_image")]
    words += [*place.preprocessing(), "--load_size", str(place.scale.size), *place.classes(), *place.folders("val")]
    call([*words, *place.scale.device.split(), *place.measuring()])
    return read_metrics(place.out / "results" / name, "evaluation_test_latest")


def read_metrics(folder: Path, name: str) -> dict[str, Any]:
    """The content of metrics.json."""
    return json.loads((folder / name / "metrics.json").read_text(encoding="utf-8"))


def results_of(place: Place, run: str) -> Path:
    """Where test.py puts a run's page."""
    return place.out / "results" / run / "test_latest"


def write_pages(place: Place, run: str) -> None:
    """All layouts; with a VAE also in random styles."""
    averaged = ["--weights", "ema", "--results_dir"]
    call(["test.py", *made_of_validation(place, run), *averaged, str(place.out / "results")])
    if "--use_vae" in RUNS[run]:
        words = ["test.py", *made_of(place, run, place.data / "val_label"), *averaged, str(place.out / "styles")]
        call([*words, "--num_samples", str(STYLES)])


def call(words: list[str]) -> None:
    """Run one of our scripts, as it would be typed.

    Raises:
        UserError: it failed.
        Interrupted: it was asked to stop, and has saved what there is to save.
    """
    print(f"$ {shlex.join(['python', *words])}", flush=True)
    status = launch.start(1, [sys.executable, str(ROOT / words[0]), *words[1:]])  # which leaves Ctrl-C to it
    if status in (EXIT_INTERRUPTED, EXIT_STOPPED):
        raise Interrupted(f"{words[0]} was interrupted; the same command goes on")
    if status:
        raise UserError(f"{words[0]} ended with status {status}; mend that and give the same command again")


def record(place: Place, run: str, more: list[str], seconds: float) -> dict[str, Any]:
    """All that the tables need, and where it came from."""
    folder = place.out / "checkpoints" / run
    curve = MetricsFile(folder / "metrics.csv", sys.maxsize).history()
    opt, images = json.loads((folder / "opt.json").read_text()), curve[-1][0]
    losses = read_losses(folder / "loss_log.txt", images // (opt["niter"] + opt["niter_decay"]), images)
    plain, averaged = (evaluate(place, run, weights) for weights in ("plain", "ema"))
    photos = evaluate_photos(place, run)
    return {
        "run": run,
        "scale": place.scale.about,
        "flags": shlex.join(flags_of(place, run, more)),
        "images": images,
        "images_per_second": images_per_second(folder / "loss_log.txt"),
        "seconds": round(seconds),  # of the last call; all, where it was not stopped
        "segmenter": plain["segmenter"],
        "machine": machine(),
        "provenance": {k: v for k, v in provenance().items() if k != "command"},
        "curve": [{"images": seen, **{name: values[name] for name in CURVE}} for seen, values in curve],
        "losses": {name: last_mean([v[name] for _, v in losses if name in v]) for name in losses[-1][1]},
        "plain": chosen(plain, plain["accuracies"]),
        "ema": chosen(averaged, averaged["accuracies"]),
        "photos": chosen(photos, photos["accuracies"]),
        "shuffled": chosen({}, averaged["accuracies_of_others"]),
        "classes": plain["classes"],
    }


def chosen(metrics: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one set of images."""
    distances = {name: metrics[name] for name in OF_SEGMENTER if name in metrics}
    return {name: scores[name] for name in (*CURVE, "iou")} | distances


def images_per_second(log: Path) -> float:
    """The median over the lines of losses."""
    parts = log.read_text().split("time: ")[1:]
    found = sorted(float(part.split(")")[0]) for part in parts)
    return round(1 / found[len(found) // 2], 3)


def last_mean(values: list[float]) -> float:
    """The mean over the last tenth."""
    last = values[-max(1, len(values) // 10) :]
    return round(sum(last) / len(last), 4)


def main() -> None:
    """Train the runs that the command line names.

    Raises:
        UserError: the data set is not there, flags are wrong, a script failed, or another command makes the same run.
        Interrupted: a script was interrupted.
    """
    argv = sys.argv[1:]
    own, more = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    args = make_parser("labelmefacade", __doc__).parse_args(own)
    place = place_of(args)
    train_segmenter(place)
    for run in args.runs:
        check(place, run, more)  # which wants to see the segmenter
    for run in args.runs:
        held = place.out / "results" / run  # train.py takes the folder of checkpoints
        if not locks.take(held):
            raise UserError(f"{locks.holder(held)} has {run} of {args.out} in hand; wait until it is done, or end it")
        try:
            make(place, run, more)
        finally:
            locks.leave(held)


def make(place: Place, run: str, more: list[str]) -> None:
    """A run's checkpoints, pages and record, unless the record is there.

    Raises:
        UserError: it is there and of other flags.
    """
    path = place.out / "records" / f"{run}.json"
    if path.exists():
        there, asked = json.loads(path.read_text())["flags"], shlex.join(flags_of(place, run, more))
        if there != asked:
            raise UserError(f"{path} is of other flags ({there}, not {asked}); give another --out")
        print(f"{path} is there already")
        return
    seconds = train(place, run, more)
    write_pages(place, run)
    found = record(place, run, more, seconds)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
    print(f"the record: {path}")


def make_parser(name: str, text: str) -> argparse.ArgumentParser:
    """Flags that say where the data are and which runs are meant."""
    parser = command_parser(f"experiments {name}", text)
    parser.add_argument("--data", required=True, metavar="DIR", help="the data set")
    parser.add_argument("--out", required=True, metavar="DIR", help="where checkpoints, results and records go")
    scales = "; ".join(f"{name}: {scale.about}" for name, scale in SCALES.items())
    parser.add_argument("--scale", choices=list(SCALES), default="cpu", help=f"{scales} (default: %(default)s)")
    runs = f"{', '.join(RUNS)} (default: spade)"
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=["spade"], metavar="RUN", help=runs)
    return parser


def place_of(args: argparse.Namespace) -> Place:
    """Where these flags say that all is.

    Raises:
        UserError: the data set is not there.
    """
    place = Place(Path(args.data).resolve(), Path(args.out).resolve(), SCALES[args.scale])
    folders = [f"{part}_{kind}" for part in ("train", "val") for kind in ("img", "label")]
    for name in folders:
        if not (place.data / name).is_dir():
            raise UserError(f"--data {args.data} has no folder {name}; it is to have {', '.join(folders)}")
    return place
