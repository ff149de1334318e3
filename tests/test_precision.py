"""--amp: which precision which machine has."""

import pytest
import torch

from util.errors import UserError
from util.precision import check_amp

CPU = torch.device("cpu")


def test_a_cpu_has_no_fp16() -> None:
    with pytest.raises(UserError, match="--amp fp16 needs a GPU"):
        check_amp("fp16", CPU)


@pytest.mark.parametrize(("bf16", "amx", "warned"), [(False, False, True), (True, False, False), (False, True, False)])
def test_a_cpu_without_bf16_is_slow_at_it(
    bf16: bool, amx: bool, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    check_amp("bf16", CPU)
    assert ("--amp bf16 is slow" in capsys.readouterr().err) == warned


def test_a_pytorch_that_cannot_tell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """2.4, the oldest that is supported."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    check_amp("bf16", CPU)
    assert capsys.readouterr().err == ""
