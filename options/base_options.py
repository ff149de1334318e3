"""Flags that training and testing share, who wins where several say something, and the files options are kept in.

Precedence, weakest first: flag default < train/test < system < network < data set (of shards: what their index says) <
saved option file < typed.
"""

import argparse
import difflib
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from data import DATASETS
from data.base_dataset import CROPPING_MODES, MODES
from models.networks import DISCRIMINATORS, ENCODERS, GENERATORS
from models.networks.initialization import INIT_TYPES
from models.networks.semantics import SPADE_IMPLS
from options.flags import HelpFormatter, add_switch, natural, nonnegative_float, parse_bool, positive, positive_float
from trainers import SYSTEMS
from util.checkpoint import file_about
from util.class_table import ClassTable
from util.errors import EXIT_USER_ERROR, UserError
from util.files import write_atomically
from util.precision import AMP_TYPES

# What decides a checkpoint's networks, beside every flag that a class of model, generator, encoder or discriminator
# declares. --continue_train refuses other values.
STRUCTURE = [
    "model",
    "netG",
    "netD",
    "netE",
    "norm_G",
    "norm_D",
    "norm_E",
    "spectral_all",
    "ngf",
    "nef",
    "z_dim",
    "use_vae",
    "output_nc",
    "label_nc",
    "contain_dontcare_label",
    "no_instance",
]
# What test.py takes from a checkpoint's opt.json: the structure, and what its layouts are like.
LAYOUTS = [
    "unknown_id",
    "crop_size",
    "crop_height",
    "aspect_ratio",
    "preprocess_mode",
    "dataset_mode",
    "packed_from",
    "label_palette",
]
# What --load_from_opt_file leaves alone when training: the run's place and machine, and what to start from.
NEVER_TAKEN = [
    "name",
    "checkpoints_dir",
    "results_dir",
    "gpu_ids",
    "process_timeout",
    "nThreads",
    "load_from_opt_file",
    "continue_train",
    "overwrite",
    "which_epoch",
    "pretrained_G",
    "debug",
    "cache_filelist_read",
    "cache_filelist_write",
]


CLASSES_NAME = "classes.json"  # the class table that a checkpoint folder keeps


class _Parser(argparse.ArgumentParser):
    """argparse without its page of usage in front of every mistake."""

    raises = False
    flags_elsewhere: Callable[[], tuple[str, set[str]]]  # the other script, and its flags

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments:"):
            message += self._nearest(message.split()[2:])
        if self.raises:
            raise UserError(message)
        self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {message} (--help lists every flag)\n")

    def _nearest(self, arguments: list[str]) -> str:
        """'; did you mean --batchSize?', where one of these unknown flags is close to a known one."""
        script, elsewhere = self.flags_elsewhere()
        for flag in (argument.split("=")[0] for argument in arguments):
            if flag in elsewhere:
                return f"; {flag} is a flag of {script}"
        known = {name.lower(): name for name in self._option_string_actions if name.startswith("--")}
        for argument in arguments:
            flag = argument.split("=")[0].lower()
            close = difflib.get_close_matches(flag, known, n=1, cutoff=0.75)
            if argument.startswith("-") and close:
                return f"; did you mean {known[close[0]]}?"
        return ""


class BaseOptions:
    """Turns command lines into options. Subclasses add the flags of their script."""

    is_train: bool
    prog: str

    def __init__(self, raises: bool = False) -> None:
        """`raises`: report mistakes as UserError, for use inside other programs, instead of ending the process."""
        self._raises = raises

    def parse(self, argv: Iterable[str] | None = None) -> Namespace:
        """The options of a command line.

        Reads at most the checkpoint's opt.json and the index of --dataset_mode shards, and looks whether the
        checkpoint's class table and the files of styles are there; touches no other data and no device, writes and
        prints nothing.

        Args:
            argv: the command line without the program's name; None for the process's own.

        Raises:
            SystemExit: status 2 with a line on stderr where a flag is unknown, misspelt, of the wrong type or
                contradicts another; status 0 after printing `--help`.
        """
        self._classes: str | None = None  # text of the class table, once read
        argv = list(sys.argv[1:] if argv is None else argv)
        asks_help = {"-h", "--help"} & set(argv)
        self.typed = typed = self._typed([a for a in argv if a not in ("-h", "--help")])
        self.parser = parser = self._build_parser()

        def decided(flag: str) -> Any:  # before the defaults of system, networks and data set
            return typed.get(flag, saved.get(flag, parser.get_default(flag)))

        def prefer(defaults: dict[str, Any]) -> None:
            parser.set_defaults(**{k: v for k, v in defaults.items() if k in self._declared})

        saved: dict[str, Any] = {}
        saved = self._saved_options(decided)
        # One after the other: a system may choose the network and the data set whose defaults come next.
        prefer(SYSTEMS[decided("model")].defaults(self.is_train))
        for table, flag in ((GENERATORS, "netG"), (ENCODERS, "netE"), (DISCRIMINATORS, "netD")):
            if flag in self._declared:
                prefer(table[decided(flag)].defaults())
        prefer(DATASETS[decided("dataset_mode")].defaults(self.is_train))
        prefer(self._found_defaults(decided))
        prefer(saved)
        if asks_help:
            parser.print_help()
            raise SystemExit(0)
        opt = parser.parse_args(argv)
        self._chosen = dict(vars(opt))
        self._complete(opt, typed)
        return opt

    def describe(self, opt: Namespace) -> str:
        """The options as text for people: a line each, with the default where it differs."""
        lines = ["----------------- Options ---------------"]
        for name, value in sorted({**vars(opt), "gpu_ids": self._chosen["gpu_ids"]}.items()):
            default = self.parser.get_default(name)
            note = f"\t[default: {default}]" if name in self.typed and self.typed[name] != default else ""
            lines.append(f"{name:>25}: {value!s:<30}{note}")
        return "\n".join([*lines, "----------------- End -------------------"])

    def read_classes(self, opt: Namespace) -> None:
        """Read the class table once, before training: the file may be elsewhere when the first weights are saved.

        Raises:
            UserError: there is no such table.
        """
        if self._classes is None:
            table = ClassTable.load(opt.class_table)
            self._classes = table.save_text() if opt.class_table else ""
            highest = opt.label_nc - 1 + bool(opt.contain_dontcare_label)
            if max(table.names, default=0) > highest:
                print(
                    f"note: --class_table {opt.class_table} names ids up to {max(table.names)}, but --label_nc "
                    f"{opt.label_nc} allows 0 .. {highest}",
                    file=sys.stderr,
                )

    def as_given(self, opt: Namespace) -> dict[str, Any]:
        """What opt.json says."""
        # What followed from other flags is not kept as if it had been chosen: it follows anew where the file is read.
        return {**vars(opt), **self._chosen}

    def files(self, opt: Namespace) -> dict[str, bytes | None]:
        """What the checkpoint folder keeps: opt.txt (for people), opt.json (for programs), classes.json; None: none."""
        # The class table is copied, since the file that --class_table named may be elsewhere when the weights are used.
        self.read_classes(opt)
        return {
            "opt.txt": (self.describe(opt) + "\n").encode(errors="backslashreplace"),
            "opt.json": (json.dumps(self.as_given(opt), indent=1, sort_keys=True) + "\n").encode(),
            CLASSES_NAME: self._classes.encode() if self._classes else None,
        }

    def save(self, opt: Namespace) -> None:
        """Write `files` into the checkpoint folder."""
        folder = Path(opt.checkpoints_dir, opt.name)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files(opt).items():
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                write_atomically(folder / name, content)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags that only this script has."""
        raise NotImplementedError

    def trainers(self) -> list[type]:
        """The classes of trainers whose flags it has."""
        return [s.trainer for s in SYSTEMS.values()] if self.is_train else []

    def takes_saved_options(self, decided: Callable[[str], Any]) -> bool:
        """Whether a saved opt.json has a say; `decided(flag)` is a flag's value so far."""
        raise NotImplementedError

    def filter_saved(self, saved: dict[str, Any]) -> dict[str, Any]:
        """What of a saved opt.json counts."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------- the parser

    def _build_parser(self) -> _Parser:
        parser = _Parser(prog=self.prog, description=self.__doc__, allow_abbrev=False, formatter_class=HelpFormatter)
        parser.raises = self._raises
        parser.flags_elsewhere = self._flags_elsewhere
        _add_shared_options(parser, self.is_train)
        self.add_options(parser)
        networks = [s.model for s in SYSTEMS.values()] + list(GENERATORS.values()) + list(ENCODERS.values())
        networks += DISCRIMINATORS.values() if self.is_train else []
        before = set(_names(parser))
        _add_class_options(parser, networks)
        self.structure = {*STRUCTURE, *(set(_names(parser)) - before)}
        _add_class_options(parser, [*self.trainers(), *DATASETS.values()])
        parser.set_defaults(isTrain=self.is_train)
        self._declared = set(_names(parser))
        return parser

    def _flags_elsewhere(self) -> tuple[str, set[str]]:
        """train.py and its flags, for test.py, and the other way round."""
        from options.test_options import TestOptions  # here, since both are built on this module
        from options.train_options import TrainOptions

        other = TestOptions() if self.is_train else TrainOptions()
        return other.prog, set(other._build_parser()._option_string_actions)

    def _typed(self, argv: list[str]) -> dict[str, Any]:
        """Only what the command line itself says; checks spelling, types and choices on the way."""
        parser = self._build_parser()
        for action in parser._actions:
            action.default = argparse.SUPPRESS
        parser._defaults.clear()
        return vars(parser.parse_args(argv))

    def read_saved(self, checkpoints_dir: str, name: str) -> dict[str, Any] | None:
        """What opt.json of an experiment holds; None where there is none."""
        path = file_about(Path(checkpoints_dir, name), "opt.json")
        if path is None:
            return None
        try:
            saved = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            self.parser.error(f"{path} is not valid JSON ({error}); restore it, or delete it and type the flags")
        if not isinstance(saved, dict):
            self.parser.error(f"{path} does not hold a JSON object of flags; delete it and type the flags")
        return saved

    def _saved_options(self, decided: Callable[[str], Any]) -> dict[str, Any]:
        path = Path(decided("checkpoints_dir"), decided("name"), "opt.json")
        if not self.takes_saved_options(decided):
            return {}
        saved = self.read_saved(decided("checkpoints_dir"), decided("name"))
        if saved is None:
            if self.is_train:
                self.parser.error(f"--load_from_opt_file: {path} is not there; drop the flag or check --name")
            return {}
        taken = {k: v for k, v in self.filter_saved(saved).items() if v is not None}
        self._check_values(taken, path)
        return taken

    def _found_defaults(self, decided: Callable[[str], Any]) -> dict[str, Any]:
        """What the data itself says, where it does."""
        try:
            found = DATASETS[decided("dataset_mode")].found_defaults(decided("dataroot"), self.is_train)
        except UserError as error:
            self.parser.error(str(error))
        self._check_values(found, f"the index in {decided('dataroot')}")
        return found

    def _check_values(self, values: dict[str, Any], where: Path | str) -> None:
        for action in self.parser._actions:
            if action.dest in values and not _fits(action, values[action.dest]):
                self.parser.error(f"{where}: {action.dest} {values[action.dest]!r} is no value of --{action.dest}")

    # ------------------------------------------------------------------------------------------- derived and checked

    def _complete(self, opt: Namespace, typed: dict[str, Any]) -> None:
        """Fill in what follows from several flags, and refuse combinations that cannot work."""
        fail = self.parser.error
        if not opt.name:
            fail("--name is empty; it names the experiment's folder")
        if Path(opt.name).anchor or not Path(opt.name).parts or ".." in Path(opt.name).parts:
            fail(
                f"--name {opt.name} leads out of --checkpoints_dir; it is the experiment's folder in it, such as street"
            )
        for flag in ("phase", "which_epoch"):  # parts of names of files and folders
            if flag in opt and (set("/\\") & set(getattr(opt, flag)) or not getattr(opt, flag)):
                fail(f"--{flag} {getattr(opt, flag)}: it is a word or a number, with no folders in it")
        folder, plain = Path(opt.checkpoints_dir), Path(opt.name).name
        if plain and not (folder / opt.name).exists() and (folder / plain).is_dir():
            fail(f"--name {opt.name}: there is no such folder in {opt.checkpoints_dir}; is it --name {plain}?")
        if opt.unknown_id is None and opt.label_nc <= 255:
            opt.unknown_id = 255
        if opt.nef is None:
            opt.nef = opt.ngf
        if opt.label_palette and opt.class_table != opt.label_palette:
            if {"class_table", "label_palette"} <= set(typed):
                fail(
                    f"--class_table {opt.class_table} and --label_palette {opt.label_palette}: a palette is the class "
                    "table; give one of them (--label_palette alone reads maps in the colours of --class_table)"
                )
            if "class_table" in typed:
                opt.label_palette = ""  # which stands for it
            else:
                opt.class_table = opt.label_palette
        try:
            opt.gpu_ids = _gpu_ids(opt.gpu_ids)
            self.complete_model(opt)
        except ValueError as error:
            fail(str(error))
        if "unknown_id" in typed and not opt.contain_dontcare_label:
            fail(f"--unknown_id {opt.unknown_id} needs --contain_dontcare_label, the class that unknown pixels get")
        if "crop_height" in typed and opt.preprocess_mode not in CROPPING_MODES:
            fail(f"--crop_height needs a mode that crops ({', '.join(CROPPING_MODES)}), not {opt.preprocess_mode}")
        own = DATASETS[opt.dataset_mode].folder_flags
        folders = [name for name in ("label_dir", "image_dir", "instance_dir") if name in typed and name not in own]
        if folders and (self.is_train or not opt.label_dir):
            needed = "--dataset_mode custom" if self.is_train else "--label_dir or --dataset_mode custom"
            fail(f"--{folders[0]} needs {needed}; --dataset_mode {opt.dataset_mode} finds its files under --dataroot")

    def complete_model(self, opt: Namespace) -> None:
        """Add what follows for the model, and check.

        Raises:
            ValueError: flags contradict each other.
        """
        SYSTEMS[opt.model].model.complete_options(opt)

    def _take_kept_classes(self, opt: Namespace, typed: dict[str, Any]) -> None:
        """Let the class table be the one that the checkpoint keeps, unless the command line names another."""
        kept = file_about(Path(opt.checkpoints_dir, opt.name), CLASSES_NAME)
        if kept is not None and not {"class_table", "label_palette"} & set(typed):
            opt.class_table = str(kept)
            if opt.label_palette:  # trained on painted maps: the table is the copy
                opt.label_palette = str(kept)


def _gpu_ids(text: str | list[int]) -> list[int]:
    """'0,1' to [0, 1]; '-1' to [].

    Raises:
        ValueError: anything else.
    """
    if isinstance(text, list):
        return text
    try:
        ids = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--gpu_ids {text}: give ids such as 0 or 0,1,2, or -1 for the CPU") from None
    if ids == [-1]:
        return []
    if any(i < 0 for i in ids) or len(set(ids)) < len(ids):
        raise ValueError(f"--gpu_ids {text}: ids start at 0 and differ; -1 alone is the CPU")
    return ids


def _fits(action: argparse.Action, value: Any) -> bool:
    """Whether a saved value could have been typed."""
    if action.type is parse_bool:
        return isinstance(value, bool)
    if action.nargs == "+":
        allowed = action.choices
        return isinstance(value, list) and all(isinstance(v, str) and (not allowed or v in allowed) for v in value)
    try:
        kept = value == (action.type or str)(str(value))
    except (ValueError, argparse.ArgumentTypeError):
        return False
    return kept and (action.choices is None or value in action.choices)


def _names(parser: argparse.ArgumentParser) -> list[str]:
    return [a.dest for a in parser._actions if a.dest != "help"]


def _add_class_options(parser: argparse.ArgumentParser, classes: Iterable[type]) -> None:
    """One argument group for each class that declares flags; what several inherit is declared once."""
    seen = set()
    for cls in classes:
        for owner in reversed(cls.__mro__):
            if "add_options" in vars(owner) and owner not in seen:
                seen.add(owner)
                owner.add_options(parser.add_argument_group(getattr(owner, "options_title", owner.__name__)))


def _add_shared_options(parser: argparse.ArgumentParser, is_train: bool) -> None:
    group = parser.add_argument_group("experiment")
    group.add_argument(
        "--name", default="label2coco", help="name of the experiment; its folder under --checkpoints_dir"
    )
    group.add_argument(
        "--gpu_ids", default="0", help="ids of GPUs, such as 0,1,2,3, a process for each; or -1 for the CPU"
    )
    group.add_argument(
        "--process_timeout",
        type=positive_float,
        default=600.0,
        help="seconds without a sign of life after which one of several processes counts as lost and the run ends",
    )
    group.add_argument("--checkpoints_dir", default="./checkpoints", help="folder of all experiments")
    group.add_argument("--model", default="pix2pix", choices=list(SYSTEMS), help="system; pix2pix is SPADE")
    group.add_argument(
        "--norm_G",
        default="spectralinstance",
        help="generator's norms: [spectral]spade{syncbatch,batch,instance}KxK for spade, as --norm_D for pix2pixhd",
    )
    for net, what in (("D", "discriminator"), ("E", "encoder")):
        group.add_argument(
            f"--norm_{net}",
            default="spectralinstance",
            help=f"{what}'s norms: [spectral]{{instance,batch,sync_batch,none}}",
        )
    group.add_argument("--phase", default="train", help="part of the data set: train, val; test reads the val folders")
    group.add_argument("--seed", type=natural, default=0, help="fixes weights, order, crops, flips and styles")

    batch_help = "images per optimiser step, all GPUs together" if is_train else "layouts that are synthesised at once"
    group = parser.add_argument_group("size")
    group.add_argument("--batchSize", type=positive, default=1, help=batch_help)
    group.add_argument(
        "--preprocess_mode", default="scale_width_and_crop", choices=MODES, help="how images are resized and cropped"
    )
    group.add_argument("--load_size", type=positive, default=1024, help="pixels: size that the scaling modes resize to")
    group.add_argument(
        "--crop_size",
        type=positive,
        default=512,
        help="pixels: width of the crop, and its height without --crop_height",
    )
    group.add_argument(
        "--crop_height", type=positive, help="pixels: height of the crop in cropping modes (default: crop_size)"
    )
    group.add_argument(
        "--aspect_ratio",
        type=positive_float,
        default=1.0,
        help="width / height in mode fixed and of the style's latent map",
    )
    group.add_argument("--label_nc", type=positive, default=182, help="number of label classes, unknown not counted")
    add_switch(group, "--contain_dontcare_label", "add a class for unknown pixels, with id label_nc")
    group.add_argument(
        "--unknown_id",
        type=natural,
        help="id in label files that means unknown (default: 255 where label_nc <= 255, else none)",
    )
    group.add_argument("--output_nc", type=positive, default=3, help="channels of the synthesised image")

    group = parser.add_argument_group("input")
    group.add_argument("--dataroot", default="./datasets/cityscapes/", help="folder of the data set")
    group.add_argument(
        "--dataset_mode", default="coco", choices=list(DATASETS), help="layout and rules of the data set"
    )
    add_switch(group, "--serial_batches", "take items in order instead of shuffling them")
    add_switch(group, "--no_flip", "do not mirror images at random")
    group.add_argument(
        "--nThreads", type=natural, help="loader worker processes, 0 for none (default: chosen from the machine)"
    )
    group.add_argument("--max_dataset_size", type=positive, help="use at most this many items (default: all)")
    add_switch(group, "--load_from_opt_file", "take defaults from the experiment's opt.json (test.py always does)")
    add_switch(group, "--cache_filelist_write", "keep the list of files in each data folder's files.list")
    add_switch(group, "--cache_filelist_read", "read files.list instead of scanning, unless the folder has changed")

    group = parser.add_argument_group("networks")
    group.add_argument("--netG", default="spade", choices=list(GENERATORS), help="generator")
    # Mended (SPADE): a wrong --netD ended the program with status 0; choices= makes it an error.
    if is_train:
        group.add_argument("--netD", default="multiscale", choices=list(DISCRIMINATORS), help="discriminator")
    group.add_argument("--netE", default="conv", choices=list(ENCODERS), help="style encoder, built with --use_vae")
    group.add_argument("--ngf", type=positive, default=64, help="generator's width: channels of its last stage")
    group.add_argument(
        "--nef", type=positive, help="encoder's width (default: ngf; released: the flag, 16, had no effect)"
    )
    group.add_argument("--z_dim", type=positive, default=256, help="length of the style vector")
    group.add_argument("--init_type", default="xavier", choices=list(INIT_TYPES), help="how weights start")
    group.add_argument("--init_variance", type=nonnegative_float, default=0.02, help="gain of --init_type")
    add_switch(
        group, "--spectral_all", "spectral norm on every convolution and linear layer (paper's text, not its code)"
    )
    add_switch(group, "--no_instance", "feed no channel of instance edges")
    add_switch(group, "--use_vae", "style encoder: the generator takes a style vector instead of a layout at its start")

    group = parser.add_argument_group("speed")
    group.add_argument(
        "--spade_impl",
        default="auto",
        choices=SPADE_IMPLS,
        help="how SPADE computes gamma and beta: once for each pattern of ids (pattern), at every pixel (dense), or "
        "what is cheaper at each resolution (auto); the numbers are the same up to rounding",
    )
    group.add_argument(
        "--amp",
        default="off",
        choices=list(AMP_TYPES),
        help="half precision (bf16, fp16) for convolutions and products; off is fp32; weights, losses and statistics "
        "of norms always are",
    )
    add_switch(
        group,
        "--compile",
        "compile what SPADE does at each pixel into one kernel (done unasked on a GPU with Triton; on a CPU it takes "
        "g++ and gains next to nothing)",
    )

    group = parser.add_argument_group("display")
    group.add_argument("--display_winsize", type=positive, default=400, help="pixels: width of images on the web pages")
