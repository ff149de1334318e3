"""No file of a data set brings a run down: see damaged.py."""

import sys
from pathlib import Path

import pytest

from tests.faults.damaged import cases, problems, run_all


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory, pipes and names as Linux has them")
def test_no_file_breaks_the_loader(tmp_path: Path) -> None:
    outcomes = list(run_all(tmp_path / "tries"))
    assert problems(outcomes) == []
    assert len(outcomes) == 4 * len(cases()) and len(cases()) >= 50
