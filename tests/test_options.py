"""Flags: defaults, who wins, what is kept in files, and mistakes."""

import json
import re
from pathlib import Path

import pytest

from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.errors import UserError

# The defaults that users of the released SPADE know. None: ours follows from other flags or the machine.
TRAIN_DEFAULTS = {
    "name": "label2coco", "gpu_ids": [0], "checkpoints_dir": "./checkpoints", "model": "pix2pix", "phase": "train",
    "norm_G": "spectralspadesyncbatch3x3", "norm_D": "spectralinstance", "norm_E": "spectralinstance",
    "batchSize": 1, "aspect_ratio": 1.0, "output_nc": 3, "dataroot": "./datasets/cityscapes/", "dataset_mode": "coco",
    "serial_batches": False, "no_flip": False, "nThreads": None, "max_dataset_size": None, "load_from_opt_file": False,
    "cache_filelist_write": False, "cache_filelist_read": False, "no_pairing_check": False, "coco_no_portraits": False,
    "display_winsize": 400, "display_freq": 100, "print_freq": 100, "save_latest_freq": 5000, "save_epoch_freq": 10,
    "no_html": False, "tf_log": False,
    "debug": False, "netG": "spade", "ngf": 64, "init_type": "xavier", "init_variance": 0.02,
    "z_dim": 256, "num_upsampling_layers": "normal", "resnet_n_downsample": 4, "resnet_n_blocks": 9,
    "resnet_kernel_size": 3, "resnet_initial_kernel_size": 7, "no_instance": False, "use_vae": False,
    "netD": "multiscale", "netD_subarch": "n_layer", "num_D": 2, "n_layers_D": 4, "ndf": 64, "continue_train": False,
    "which_epoch": "latest", "niter": 50, "niter_decay": 0, "optimizer": "adam", "beta1": 0.0, "beta2": 0.999,
    "no_TTUR": False, "lr": 0.0002, "D_steps_per_G": 1, "gan_mode": "hinge", "lambda_feat": 10.0, "lambda_vgg": 10.0,
    "lambda_kld": 0.05, "no_ganFeat_loss": False, "no_vgg_loss": False,
}  # fmt: skip


def train(*argv: str):
    return TrainOptions().parse(argv)


def test_defaults_are_those_users_know() -> None:
    opt = train()
    assert {name: getattr(opt, name) for name in TRAIN_DEFAULTS} == TRAIN_DEFAULTS
    assert TestOptions().parse([]).results_dir == "./results/"
    assert TestOptions().parse([]).how_many is None


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("coco", ("resize_and_crop", 286, 256, 182, True, False, 1, "normal")),
        ("ade20k", ("resize_and_crop", 286, 256, 150, True, True, 1, "normal")),
        ("cityscapes", ("fixed", 512, 512, 35, False, False, 16, "more")),
        ("facades", ("resize_and_crop", 286, 256, 13, False, True, 1, "normal")),
        ("custom", ("resize_and_crop", 286, 256, 13, False, False, 1, "normal")),
    ],
)
def test_defaults_of_each_data_set(mode: str, expected: tuple) -> None:
    names = "preprocess_mode load_size crop_size label_nc contain_dontcare_label no_instance batchSize"
    names += " num_upsampling_layers"
    opt = train("--dataset_mode", mode)
    assert tuple(getattr(opt, name) for name in names.split()) == expected
    assert opt.aspect_ratio == (2.0 if mode == "cityscapes" else 1.0)
    assert opt.semantic_nc == opt.label_nc + opt.contain_dontcare_label + (not opt.no_instance)
    test = TestOptions().parse(["--dataset_mode", mode])
    assert test.load_size == test.crop_size == (512 if mode == "cityscapes" else 256)
    assert (test.phase, test.serial_batches, test.no_flip, test.isTrain) == ("test", True, True, False)


def test_precedence(tmp_path: Path) -> None:
    """flag default < train/test < system < network < data set < saved file < typed."""
    place = ["--checkpoints_dir", str(tmp_path), "--name", "x"]
    assert TestOptions().parse(place).norm_G == "spectralspadesyncbatch3x3"  # network over flag (spectralinstance)
    assert TestOptions().parse(place).preprocess_mode == "resize_and_crop"  # data set over test (scale_width_and_crop)
    saved = {"norm_G": "spadebatch5x5", "preprocess_mode": "fixed", "label_nc": 7, "ngf": 8, "crop_size": 128}
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "opt.json").write_text(json.dumps(saved))
    opt = TestOptions().parse([*place, "--ngf", "16"])
    assert (opt.norm_G, opt.preprocess_mode, opt.label_nc) == ("spadebatch5x5", "fixed", 7)  # file over data set
    assert opt.ngf == 16  # typed over file
    assert opt.load_size == opt.crop_size == 128  # at test the load size is the crop size
    assert train(*place).label_nc == 182  # training reads the file only when asked
    assert train(*place, "--load_from_opt_file").label_nc == 7


def test_a_saved_network_brings_its_own_defaults(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "opt.json").write_text('{"netG": "pix2pixhd", "dataset_mode": "cityscapes"}')
    opt = TestOptions().parse(["--checkpoints_dir", str(tmp_path), "--name", "x"])
    assert (opt.norm_G, opt.label_nc) == ("instance", 35)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"netG": "from_the_future"}', "netG 'from_the_future' is no value of --netG"),
        ('{"ngf": "wide"}', "ngf 'wide'"),
        ('{"use_vae": 1}', "use_vae 1"),
        ('{"ngf": 8', "not valid JSON"),
        ("[1]", "JSON object"),
    ],
)
def test_a_spoilt_saved_file_is_named(tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "opt.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        TestOptions().parse(["--checkpoints_dir", str(tmp_path), "--name", "x"])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("kinds", [["colour"], "color", [1]])
def test_a_saved_list_has_values_that_could_be_typed(tmp_path: Path, kinds: object) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "opt.json").write_text(json.dumps({"diffaugment": kinds}))
    with pytest.raises(ValueError, match=f"diffaugment {re.escape(repr(kinds))} is no value of --diffaugment"):
        TrainOptions(raises=True).parse(["--checkpoints_dir", str(tmp_path), "--name", "x", "--load_from_opt_file"])


def test_what_is_never_taken_from_a_saved_file(tmp_path: Path) -> None:
    options = TrainOptions()
    opt = options.parse(
        f"--checkpoints_dir {tmp_path} --name x --dataset_mode custom --label_dir L --image_dir I --phase val --seed 5 "
        "--batchSize 9 --serial_batches --no_flip --dataroot R --lr 0.1 --ngf 8 --gpu_ids -1".split()
    )
    options.save(opt)
    test = TestOptions().parse(["--checkpoints_dir", str(tmp_path), "--name", "x"])
    assert (test.phase, test.batchSize, test.dataroot, test.label_dir) == ("test", 1, "./datasets/cityscapes/", None)
    assert (test.ngf, test.dataset_mode, test.gpu_ids) == (8, "custom", [0])
    again = train("--checkpoints_dir", str(tmp_path), "--name", "x", "--load_from_opt_file", "--label_dir", "M")
    assert (again.lr, again.ngf, again.no_flip) == (0.1, 8, True)
    assert (again.batchSize, again.phase, again.seed, again.label_dir, again.image_dir) == (9, "val", 5, "M", "I")
    assert again.gpu_ids == [0]  # the machine's business
    bare = TestOptions().parse(["--checkpoints_dir", str(tmp_path), "--name", "x", "--load_from_opt_file", "false"])
    assert (bare.ngf, bare.dataset_mode) == (64, "coco")


def test_continuing_with_other_networks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Weights fit a generator with an upsampling more, or another norm, and mean something else there."""
    place = ["--checkpoints_dir", str(tmp_path), "--name", "x"]
    options = TrainOptions()
    options.save(options.parse([*place, "--lr", "0.1"]))
    for flags in (["--num_upsampling_layers", "more"], ["--norm_G", "spectralspadebatch3x3"], ["--num_D", "3"]):
        with pytest.raises(SystemExit):
            train(*place, "--continue_train", *flags)
        assert f"the checkpoint is of {flags[0]}" in capsys.readouterr().err
    opt = options.parse([*place, "--continue_train", "--batchSize", "4"])
    assert options.changes(opt) == ["--batchSize 4 (was 1)", "--lr 0.0002 (was 0.1)"]


def test_what_followed_from_other_flags_follows_anew(tmp_path: Path) -> None:
    place = ["--checkpoints_dir", str(tmp_path), "--name", "x"]
    options = TrainOptions()
    options.save(options.parse([*place, "--debug"]))
    opt = train(*place, "--load_from_opt_file", "--no_TTUR", "--ngf", "32", "--label_nc", "300")
    assert (opt.beta1, opt.nef, opt.unknown_id, opt.niter) == (0.5, 32, None, 50)


def test_the_load_size_at_test_is_the_crops(tmp_path: Path) -> None:
    """A crop larger than the resized layout would be black around it."""
    assert TestOptions().parse(["--crop_size", "512"]).load_size == 512
    assert TestOptions().parse(["--crop_size", "32", "--crop_height", "64"]).load_size == 32
    assert TestOptions().parse(["--crop_size", "32", "--load_size", "48"]).load_size == 48


def test_files(tmp_path: Path) -> None:
    options = TrainOptions()
    opt = options.parse(["--checkpoints_dir", str(tmp_path), "--name", "x", "--ngf", "8"])
    assert not (tmp_path / "x").exists()  # parsing writes nothing
    options.save(opt)
    kept = json.loads((tmp_path / "x" / "opt.json").read_text())
    followed = {
        "nef",
        "beta1",
        "unknown_id",
        "gpu_ids",
    }  # kept as given, so that they follow anew where the file is read
    assert {k: v for k, v in kept.items() if k not in followed} == {
        k: v for k, v in vars(opt).items() if k not in followed
    }
    assert (kept["nef"], kept["beta1"], kept["unknown_id"]) == (None, None, None)
    lines = (tmp_path / "x" / "opt.txt").read_text().splitlines()
    assert f"{'ngf':>25}: {'8':<30}\t[default: 64]" in lines
    assert f"{'ndf':>25}: {'64':<30}" in lines


def test_parsing_prints_nothing(capsys: pytest.CaptureFixture) -> None:
    train("--dataset_mode", "custom")
    assert capsys.readouterr() == ("", "")


def test_help_is_complete(capsys: pytest.CaptureFixture) -> None:
    """Mended (SPADE): flags of networks and data sets were missing from --help."""
    with pytest.raises(SystemExit) as stop:
        train("--dataset_mode", "cityscapes", "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    options = TrainOptions()
    options.parse([])
    for name in {*TRAIN_DEFAULTS, *options._declared}:
        assert f"--{name} " in text, name
    assert "multi-scale discriminator" in text  # grouped
    assert "width of the crop, and its height without --crop_height (default: 512)" in " ".join(text.split())


def test_switches_can_be_switched_off() -> None:
    opt = train("--dataset_mode", "ade20k", "--no_instance", "false", "--contain_dontcare_label", "false", "--no_flip")
    assert (opt.no_instance, opt.contain_dontcare_label, opt.no_flip) == (False, False, True)
    assert opt.semantic_nc == 151


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--nfg 8", "--nfg"),
        ("--crop 8", "--crop"),  # no abbreviations
        ("--no_flip maybe", "neither true nor false"),
        ("--netD wrong", "'multiscale'"),
        ("--netG spade --norm_G spectralinstance", "such as spectralspadesyncbatch3x3"),
        ("--norm_G spectralspadesyncbatch2x2", "odd K"),
        ("--norm_D syncbatch", "sync_batch"),
        ("--gpu_ids 0,x", "-1 for the CPU"),
        ("--batchSize 0", "--batchSize: '0' is not a whole number of at least 1"),
        ("--batchSize 6 --accumulate 4", "--batchSize 4 or 8 would do, or --accumulate 1, 2, 3, 6"),
        ("--batchSize 3 --accumulate 4", "--batchSize 4 would do, or --accumulate 1, 3"),
        ("--accumulate 0", "at least 1"),
        ("--seed -1", "at least 0"),
        ("--niter 0 --niter_decay 0", "at least one"),
        ("--netG pix2pixhd --use_vae", "takes no style"),
        ("--continue_train --pretrained_G f.pth", "one of them"),
        ("--label_dir d", "--dataset_mode custom"),
        ("--preprocess_mode fixed --crop_height 64", "needs a mode that crops"),
        ("--beta1 2", "at least 0 and below 1"),
        ("--lr -1", "at least 0"),
        ("--aspect_ratio nan", "above 0"),
        ("--netG pix2pixhd --resnet_kernel_size 4", "must be odd"),
        ("--num_upsampling_layers most --ngf 1", "2 or more"),
        ("--dataset_mode custom --instance_dir I --no_instance", "--instance_dir names some: give one of them"),
        ("--unknown_id 3 --label_nc 9 --contain_dontcare_label false", "needs --contain_dontcare_label"),
        ("--image_dir d", "--dataset_mode custom"),
        ("--debug --continue_train", "one of them"),
        ("--load_from_opt_file --name nothing_there", "opt.json is not there"),
    ],
)
def test_mistakes_are_named_in_one_line(argv: str, words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        train(*argv.split())
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert words in message
    assert message.count("\n") == 1


def test_flags_that_follow_from_others() -> None:
    assert train("--no_TTUR").beta1 == 0.5
    assert train("--no_TTUR", "--beta1", "0.1").beta1 == 0.1
    assert train("--ngf", "32").nef == 32  # the released flag had no effect: the width was ngf
    assert train("--ngf", "32", "--nef", "16").nef == 16
    assert train("--gpu_ids", "0,2").gpu_ids == [0, 2]
    assert train("--gpu_ids", "-1").gpu_ids == []
    assert TestOptions().parse(["--how_many", "inf"]).how_many is None  # the released default
    assert train().unknown_id == 255
    assert train("--label_nc", "300").unknown_id is None  # 255 is a class then
    assert train("--num_upsampling_layers", "most").size_multiple == 128
    assert train("--netG", "pix2pixhd").size_multiple == 16


def test_debug_is_one_short_epoch() -> None:
    """Mended (SPADE): --debug had no effect."""
    opt = train("--debug", "--batchSize", "2", "--niter", "50", "--niter_decay", "50")
    assert (opt.niter, opt.niter_decay, opt.print_freq, opt.display_freq) == (1, 0, 1, 1)
    assert opt.max_dataset_size == 20


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--bathSize 2", "--batchSize"),
        ("--batchsize 2", "--batchSize"),
        ("--BATCHSIZE=1234567", "--batchSize"),
        ("--gpu_id 0", "--gpu_ids"),
        ("--dataset coco", "--dataset_mode"),
        ("--continue", "--continue_train"),
        ("--frobnicate", None),
        ("--num_samples 4", "--num_samples is a flag of test.py"),
        ("--no_vgg", "--no_vgg_loss"),
    ],
)
def test_unknown_flags_are_errors_that_name_the_nearest(typed: str, meant: str | None) -> None:
    with pytest.raises(UserError, match="unrecognized arguments: --") as error:
        TrainOptions(raises=True).parse(typed.split())
    said = str(error.value)
    if meant and " " in meant:
        assert meant in said
    else:
        assert (f"did you mean {meant}?" in said) if meant else ("did you mean" not in said)
    with pytest.raises(UserError, match="; --niter is a flag of train.py"):
        TestOptions(raises=True).parse(["--niter", "4"])


def test_a_path_as_a_name(tmp_path: Path) -> None:
    """Shells complete checkpoints/demo."""
    (tmp_path / "checkpoints" / "demo").mkdir(parents=True)
    place = ["--checkpoints_dir", str(tmp_path / "checkpoints"), "--name"]
    with pytest.raises(UserError, match="no such folder in .*; is it --name demo"):
        TestOptions(raises=True).parse([*place, "checkpoints/demo"])
    assert TestOptions(raises=True).parse([*place, "group/run1"]).name == "group/run1"


def test_numbers_are_no_flags() -> None:
    with pytest.raises(UserError) as error:
        TrainOptions(raises=True).parse(["--niter", "3", "batchSize"])
    assert "did you mean" not in str(error.value)
