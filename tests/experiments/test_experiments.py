"""The experiments' figures that must not be lost again, on the data that they need."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import soundfile
import torch
from click.testing import CliRunner

from tightverify.cli.main import main
from tightverify.report.records import read_records

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CASES = [case for case in tomllib.loads((EXPERIMENTS / "mnist_lstm.toml").read_text())["case"] if "linear" in case]


@pytest.mark.data
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['model']}-{case['eps']}")
def test_linear_bounds_certify_what_is_wanted(case: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGHTVERIFY_DATA", str(data))
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    from experiments.mnist_lstm import run

    wanted = case["linear"]
    row = run(case, "linear", 20)
    assert row["certified"] >= wanted["certified"]
    assert row["mean"] >= wanted["mean"]
    assert row["certified"] + row["falsified"] <= 20


@pytest.mark.data
def test_the_speech_network_is_provers_and_bounded_more_tightly(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGHTVERIFY_DATA", str(data))
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    import tightverify as tv
    from experiments import speech_prover
    from experiments.data import prover_speech, rightly_heard, spoken_digits

    module, clips = prover_speech(), spoken_digits()
    assert len(rightly_heard(module, clips)) == 256
    imported = speech_prover.Imported(module)
    for name, wanted in {"2_theo_0": -0.2, "3_theo_4": 3.97}.items():
        (clip,) = (clip for clip in clips if clip.name == name)
        model = imported.of_length(len(clip.samples))
        margin, _ = speech_prover.bound(model, clip, tv.LinfBall(clip.radius(-70)), "linear")
        assert wanted < margin <= speech_prover.least_found(model, clip, tv.LinfBall(clip.radius(-70)))
    assert speech_prover.hold(module, clips[:2], 200, (-90.0, -70.0)) == 0


@pytest.mark.parametrize("layer", ["lstm", "gru"])
def test_speech_networks_go_from_their_file_to_a_verdict(layer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    from experiments.speech_network import RATE, Digits, padded, to_onnx

    torch.manual_seed(0)
    network = Digits(layer).eval()
    path = to_onnx(network, tmp_path / "digits.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    clips = [((torch.rand(length) - 0.5) * 32768).round() / 32768 for length in (655, 1100)]
    (tmp_path / "clips").mkdir()
    lines = ["file,label"]
    with torch.no_grad():
        together = network.of_padded(*padded(clips))
        for k, clip in enumerate(clips):
            soundfile.write(tmp_path / "clips" / f"{k}.wav", clip.numpy(), RATE)
            scores = network(clip[None])
            assert torch.allclose(together[k], scores[0], atol=1e-5)
            assert torch.allclose(torch.from_numpy(session.run(None, {"wave": clip[None].numpy()})[0]), scores, atol=1e-5)
            lines.append(f"{k}.wav,{int(scores.argmax())}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    out = tmp_path / "out.jsonl"
    given = [str(path), str(tmp_path / "clips"), "--db", "-100", "--labels", str(tmp_path / "labels.csv"), "--out", str(out)]
    assert main(["certify", *given]) == 0
    assert [record.verdict for record in read_records(out)] == ["ROBUST", "ROBUST"]


def test_verdicts_are_come_to_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    from experiments import again, few_inputs

    def one_case() -> None:
        torch.manual_seed(1)
        few_inputs.case("two tanh layers", few_inputs.layers(2), (2,), 3.0, 0.05)

    monkeypatch.setattr(again, "OUT", tmp_path)
    monkeypatch.setattr(few_inputs, "POINTS", 2)
    monkeypatch.setattr(few_inputs, "CASES", {})
    monkeypatch.setattr(few_inputs, "cases", one_case)
    run = CliRunner()
    found = run.invoke(again.main, ["few", "--time-limit", "20"])
    assert found.exit_code == 0, found.output
    path = tmp_path / "again-few-10-1.jsonl"
    lines = again.lines_of(path)  # type: ignore[attr-defined]
    assert {line["case"] for line in lines} == {f"two tanh layers, {ball}" for ball in few_inputs.BALLS}
    assert all(line["verdict"] == line["again"] and not line["falsified"] for line in lines)
    assert run.invoke(again.main, ["few"]).exit_code == 0
    assert again.lines_of(path) == lines, "what is there is not run again"  # type: ignore[attr-defined]
    for wrong in (
        {"verdict": "ROBUST", "again": "COUNTEREXAMPLE"},
        {"verdict": "ROBUST", "again": "ROBUST", "falsified": True},
    ):
        path.write_text(json.dumps({**lines[0], **wrong}) + "\n")
        assert run.invoke(again.main, ["few", "--show"]).exit_code == 1
