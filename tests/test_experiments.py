"""The experiments' figures that must not be lost again, on the data that they need."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CASES = [case for case in tomllib.loads((EXPERIMENTS / "mnist_lstm.toml").read_text())["case"] if "linear" in case]


@pytest.mark.data
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['model']}-{case['eps']}")
def test_linear_bounds_certify_what_is_wanted(case: dict[str, object], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGHTVERIFY_DATA", str(data))
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    from mnist_lstm import run

    wanted = case["linear"]
    row = run(case, "linear", 20)
    assert row["certified"] >= wanted["certified"]
    assert row["mean"] >= wanted["mean"]
    assert row["certified"] + row["falsified"] <= 20
