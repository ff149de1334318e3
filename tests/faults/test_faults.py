"""The fault tests in a short form; `python -m tests.faults` has the long ones, docs/reliability.md what they gave."""

import sys
from pathlib import Path

import pytest

from tests.faults import corrupted, full_disk, killed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, kills, and mounts file systems")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # and back again, wherever the test goes


@pytest.mark.parametrize(("processes", "kills", "epochs"), [(1, 5, 7), (2, 3, 5)])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path, processes: int, kills: int, epochs: int) -> None:
    outcome = killed.run(tmp_path, kills, processes, seed=1, epochs=epochs, longest=0.6)
    assert outcome.kills == kills
    assert outcome.damage == ()


def test_damaged_checkpoints_are_passed_over(tmp_path: Path) -> None:
    """A few of the files and damages; the newest network files and their manifest among them."""
    flags = corrupted.stopped_run(tmp_path)
    verdicts = {
        (name, damage): corrupted.verdict(name, damage, *result)
        for only, every in (("latest_net_G.", 3), ("latest_state", 4), ("latest_manifest", 4), ("opt.json", 4))
        for name, damage, *result in corrupted.outcomes(tmp_path, flags, every, only)
    }
    assert verdicts[("latest_net_G.pth", "truncated")] == "said so, went on from the one before: same end"
    assert [key for key, verdict in verdicts.items() if verdict.startswith("LOST")] == []
    assert len(verdicts) == 5


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    try:
        ((_, said, different),) = full_disk.run(tmp_path, [2.5])
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
