"""Long imports say how far they are, if somebody wants to know."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tightverify as tv
from tests.helpers.onnx_models import build, node, normal, save
from tightverify.cli.main import main
from tightverify.models import progress


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(progress, "AFTER", 0.0)
    nodes = [node("MatMul", "x w", "h0"), *(node("Tanh", f"h{k}", f"h{k + 1}") for k in range(8)), node("Identity", "h8")]
    return save(tmp_path, build(nodes, ["N", 2], {"w": normal(2, 2)}))


def test_a_long_import_says_how_far_it_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tv.load(path)
    assert capsys.readouterr().err == ""
    tv.load(path, progress=True)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == f"importing {path}: 1 nodes of its graph are made, 0 s so far"
    assert rest == []
    tv.load(torch.nn.Sequential(*(torch.nn.Tanh() for _ in range(4))), (2,), progress=True)
    assert "importing the module Sequential: 1 nodes" in capsys.readouterr().err


def test_the_command_line_says_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(path)]) == 0
    assert f"importing {path}" in capsys.readouterr().err
