"""Every command that the documents show is one that the scripts accept, and every link leads somewhere."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from datasets.check_dataset import CheckOptions
from datasets.pack_shards import PackOptions
from evaluation.options import EvaluateOptions
from evaluation.train_segmenter import SegmenterOptions
from options.test_options import TestOptions
from options.train_options import TrainOptions

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


PREPARING = sorted(path.stem for path in (ROOT / "datasets").glob("*.py") if "def main(" in path.read_text())
OWN_OPTIONS = {"check_dataset": CheckOptions, "pack_shards": PackOptions}


def commands(script: str = r"(?:train|test|evaluate)\.py (?!study|compare)") -> list[str]:
    """Lines that call a script, whole, without comments; those with words in brackets are no commands."""
    found = []
    for path in [*DOCUMENTS, ROOT / "Makefile"]:
        text = path.read_text().replace("\\\n", " ")
        for line in text.splitlines():
            match = re.match(rf"(?:    |\t)(?:python|\$\(PY\)|(?:srun )?torchrun .*) ({script}.*)", line)
            if match and "(" not in match[1]:
                found.append(" ".join(match[1].split("  #")[0].split()))
    return found


def test_there_are_commands() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_parse(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sunset.jpg", "photo.jpg"):
        (tmp_path / name).touch()
    for name in re.findall(r"--synthesized (\S+)", command):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "results").mkdir(exist_ok=True)
    for name in ("street.pth", "results/segmenter.pth"):
        (tmp_path / name).touch()
    script, *argv = shlex.split(command)
    if argv[0] == "train-segmenter":
        SegmenterOptions(raises=True).parse(argv[1:])
        return
    styles = {"--style_image", "--num_samples", "--interpolate"} & set(argv)
    options = {"train.py": TrainOptions, "test.py": TestOptions, "evaluate.py": EvaluateOptions}[script](raises=True)
    options.parse([*argv, *(["--use_vae"] if styles else [])])  # which opt.json would say


class Parsed(Exception):
    """A command line was parsed, and nothing else is to be done."""


def parser_of(name: str, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser of a command in datasets/, after it has parsed a command line."""
    parse_args, found = argparse.ArgumentParser.parse_args, []

    def only_parse(parser: argparse.ArgumentParser, words: list[str]) -> None:
        parse_args(parser, words)
        found.append(parser)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    with pytest.raises(Parsed):
        importlib.import_module(f"datasets.{name}").main(argv)
    monkeypatch.undo()
    return found[0]


@pytest.mark.parametrize("command", sorted(set(commands(r"datasets/\w+\.py "))))
def test_commands_of_data_sets_parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, *argv = shlex.split(command)
    name = Path(script).stem
    if name in OWN_OPTIONS:
        OWN_OPTIONS[name](raises=True).parse(argv)
    else:
        parser_of(name, argv, monkeypatch)


def test_each_data_set_has_a_command_that_is_documented() -> None:
    shown = {Path(command.split()[0]).stem for command in commands(r"datasets/\w+\.py ")}
    text = (ROOT / "docs/datasets.md").read_text()
    assert [name for name in PREPARING if name not in shown and f"{name}.py" not in text] == []


NEEDED = {
    "prepare_custom": "--out o --images i --labelme l",
    "label_photos": "--out o --photos p",
    "make_sample_landscapes": "",
    "coco_generate_instance_map": "--annotation_file a --input_label_dir l --output_instance_dir o",
}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links(path: Path) -> None:
    text = path.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert heading in anchors, link


def test_flags_that_the_documents_name_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    known = set()
    for name in PREPARING:
        if name in OWN_OPTIONS:
            parser = OWN_OPTIONS[name](raises=True)._build_parser()
        else:
            parser = parser_of(name, NEEDED.get(name, "--downloads d").split(), monkeypatch)
        known |= {flag for action in parser._actions for flag in action.option_strings}
    for options in (TrainOptions(), TestOptions(), EvaluateOptions(), SegmenterOptions()):
        options.parse(["--dataset_mode", "coco", *(["--out", "x"] if isinstance(options, SegmenterOptions) else [])])
        known |= {name for action in options.parser._actions for name in action.option_strings}
    other = {"--layouts", "--names", "--questions", "--seconds", "--check_items", "--max_side"}  # of studies
    other |= {"--most_failed_checks", "--csv", "--per_participant", "--first"}
    other |= {"--memory", "--rounds", "--precisions", "--files", "--copies", "--machine"}  # of benchmarks
    other |= {"--data", "--runs", "--scale", "--curves"}  # of experiments
    other |= {"--nodes", "--ntasks", "--gpus", "--cpus", "--time", "--signal", "--requeue", "--open"}  # of SLURM
    other |= {"--nnodes", "--nproc_per_node", "--rdzv_backend", "--rdzv_endpoint", "--rdzv_id", "--max"}  # of torchrun
    for path in DOCUMENTS:
        for flag, more in re.findall(r"(?<!-)(--\w+)(\*?)", path.read_text()):
            # --lambda_* stands for all of that beginning
            found = any(name.startswith(flag) for name in known) if more else flag in known | other
            assert found, (path.name, flag)


def test_make_demo_by_hand_is_make_demo() -> None:
    def lines(path: Path, start: str) -> list[str]:
        text = path.read_text().replace("\\\n", " ")
        found = [" ".join(line.split()) for line in text.splitlines() if line.startswith(start)]
        return [line.removeprefix(start.strip()).strip() for line in found]

    recipe = lines(ROOT / "Makefile", "\t$(PY)")
    recipe = [line for line in recipe if not line.startswith(("-m pytest", "-m pip"))]
    by_hand = lines(ROOT / "README.md", "    python")
    assert len(recipe) == 6
    assert [line for line in by_hand if line in recipe] == recipe
