"""The fault tests in a short form; `python -m tests.faults` has the long ones, docs/reliability.md what they gave."""

import sys
from pathlib import Path

import pytest

from tests.faults import corrupted, full_disk, killed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, kills, and mounts file systems")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # and back again, wherever the test goes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests of one process meet, so that a run that is not disturbed is made once."""
    return tmp_path_factory.mktemp("faults")


@pytest.mark.parametrize(("processes", "kills"), [(1, 3), (2, 2)])
def test_a_killed_run_ends_as_an_undisturbed_one(folder: Path, tmp_path: Path, processes: int, kills: int) -> None:
    """With this seed one process is killed while it trains, while it saves and while it starts; of two, both while they
    train, and one alone while they save."""
    outcome = killed.run(tmp_path if processes > 1 else folder, kills, processes, seed=4, epochs=2, longest=0.2)
    assert outcome.kills == kills
    assert outcome.damage == ()


def test_damaged_checkpoints_are_passed_over(folder: Path) -> None:
    """A few of the files and damages; the newest network files and their manifest among them."""
    flags = corrupted.stopped_run(folder)
    verdicts = {
        (name, damage): corrupted.verdict(name, damage, *result)
        for only, every in (("latest_net_G.", 3), ("latest_state", 4), ("latest_manifest", 4), ("opt.json", 4))
        for name, damage, *result in corrupted.outcomes(folder, flags, every, only)
    }
    assert verdicts[("latest_net_G.pth", "truncated")] == "said so, went on from the one before: same end"
    assert [key for key, verdict in verdicts.items() if verdict.startswith("LOST")] == []
    assert len(verdicts) == 5


def test_a_full_disk_loses_nothing(folder: Path) -> None:
    try:
        ((_, said, different),) = full_disk.run(folder, [2.5])
    except PermissionError as error:
        pytest.skip(str(error))
    assert "what was there before is untouched; a checkpoint needs " in said and " MB were free" in said
    assert different == []


def test_the_tests_notice_damage(tmp_path: Path) -> None:
    """A weight that differs in its last bit, and a line of losses that does."""
    import torch

    from tests.faults.lives import differences

    for name, value in (("a", 1.0), ("b", 1.0000001)):
        (tmp_path / name).mkdir()
        torch.save({"weight": torch.tensor([value]), "step": 3}, tmp_path / name / "latest_net_G.pth")
    assert differences(tmp_path / "a", tmp_path / "a") == []
    assert differences(tmp_path / "a", tmp_path / "b") == ["latest_net_G.pth/weight"]
