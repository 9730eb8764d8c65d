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


@pytest.mark.data
def test_the_speech_network_is_provers_and_bounded_more_tightly(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGHTVERIFY_DATA", str(data))
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    import speech_prover
    from data import prover_speech, rightly_heard, spoken_digits

    import tightverify as tv

    module, clips = prover_speech(), spoken_digits()
    assert len(rightly_heard(module, clips)) == 256
    imported = speech_prover.Imported(module)
    for name, wanted in {"2_theo_0": -0.2, "3_theo_4": 3.97}.items():
        (clip,) = (clip for clip in clips if clip.name == name)
        model = imported.of_length(len(clip.samples))
        margin, _ = speech_prover.bound(model, clip, tv.LinfBall(clip.radius(-70)), "linear")
        assert wanted < margin <= speech_prover.least_found(model, clip, tv.LinfBall(clip.radius(-70)))
    assert speech_prover.hold(module, clips[:2], 200, (-90.0, -70.0)) == 0
