"""How threads on a CPU wait for each other."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from util.openmp import ASLEEP, wait_asleep

ROOT = Path(__file__).parent.parent


def test_what_somebody_chose_is_left() -> None:
    environment: dict[str, str] = {"PATH": "/bin"}
    wait_asleep(environment)
    assert environment == {"PATH": "/bin", **ASLEEP}
    environment = {"OMP_WAIT_POLICY": "active"}
    wait_asleep(environment)
    assert environment == {"OMP_WAIT_POLICY": "active"}


@pytest.mark.parametrize("script", ["train.py", "test.py", "evaluate.py", "datasets/label_photos.py"])
def test_it_is_said_before_pytorch_is_imported(script: str) -> None:
    names = []
    for node in ast.parse((ROOT / script).read_text()).body:
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
    assert next(name for name in names if name.split(".")[0] not in sys.stdlib_module_names) == "util.openmp"


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP shows what it read")
def test_openmp_hears_it() -> None:
    chosen = {name: value for name, value in os.environ.items() if name not in ASLEEP}
    command = [sys.executable, "-c", "import util.openmp, torch"]
    done = subprocess.run(
        command, env={**chosen, "OMP_DISPLAY_ENV": "verbose"}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "GOMP_SPINCOUNT = '1000'" in done.stderr
