"""The command line: what it prints, what it leaves on the disk, its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tightverify as tv
from tightverify import console
from tightverify.api.certify import Work
from tightverify.cli.main import main
from tightverify.console import called
from tightverify.decimals import at_least, at_most
from tightverify.demo import NETWORKS, digits, held_out
from tightverify.errors import SoundnessFault
from tightverify.report.records import read_records
from tightverify.stages import METHODS

GRU = str(NETWORKS["GRU"])
COMMAND = [sys.executable, "-m", "tightverify"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_a_run_from_end_to_end_as_a_process(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    given = ["certify", GRU, str(folder / "good.npz"), "--eps", "0.03", "--clip", "0", "1", "--batch", "8", "--out", str(out)]
    run = subprocess.run([*COMMAND, *given], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    for word in ("input", "label", "verdict", "worst margin", "stage", "time", "ROBUST", "MISCLASSIFIED", "20 inputs: "):
        assert word in run.stdout
    assert "certifying digits_gru.onnx: 20 of 20" in run.stderr
    assert "Traceback" not in run.stderr
    found = lines(out)
    assert sorted(line["index"] for line in found) == list(range(20))
    _, y = held_out()
    for line in found:
        assert (line["label"], line["eps"], line["norm"], line["method"]) == (y[line["index"]], 0.03, "inf", "linear")
        assert (line["verdict"] == "ROBUST") <= (line["margin"] is not None and line["margin"] > 0)
        assert len(line["margins"]) == 9
        assert (line["verdict"] == "COUNTEREXAMPLE") == (line["counterexample"] is not None)
    assert len(read_records(out)) == 20


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda sent: sent.name)
def test_an_interrupted_run_keeps_what_it_has(folder: Path, tmp_path: Path, sent: signal.Signals) -> None:
    out = tmp_path / "results.jsonl"
    given = ["certify", GRU, str(folder / "all.npz"), "--eps", "0.05", "--batch", "1", "--out", str(out)]
    run = subprocess.Popen(
        [*COMMAND, *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(sent, signal.default_int_handler if sent is signal.SIGINT else signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while (not out.exists() or len(out.read_text().splitlines()) < 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, sent)
    printed, told = run.communicate(timeout=60)
    assert run.returncode == 130, told
    kept = lines(out)
    assert 3 <= len(kept) < 360
    assert [line["index"] for line in kept] == list(range(len(kept)))
    assert f"{len(kept)} of 360 inputs are done; their results are above and in {out}" in told
    assert "interrupted" in told
    assert f"{len(kept)} inputs: " in printed
    assert "Traceback" not in told


def test_a_pipe_that_closes_early_is_no_fault(folder: Path) -> None:
    given = ["bounds", GRU, str(folder / "all.npz"), "--eps", "0.01", "--json", "--method", "interval", "--quiet"]
    run = subprocess.Popen([*COMMAND, *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert json.loads(run.stdout.readline())["index"] == 0
    run.stdout.close()
    assert run.stderr is not None
    assert run.stderr.read() == ""
    assert run.wait(timeout=60) == 141


@pytest.mark.parametrize("how", [("lp", "--rounds", "1"), ("planes", "--solver", "highs", "--thorough")], ids=["lp", "planes"])
def test_stdout_has_records_alone_where_programs_are_solved(folder: Path, how: tuple[str, ...]) -> None:
    given = ["certify", GRU, str(folder / "good.npz"), "--eps", "0.95", "--frames", "7", "--limit", "1", "--out", "-"]
    more = ["--method", *how, "--restarts", "0", "--time-limit", "20"]
    run = subprocess.run([*COMMAND, *given, *more], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert [json.loads(line)["index"] for line in run.stdout.splitlines()] == [0]


@pytest.mark.parametrize("command", ["certify", "bounds"])
def test_devices(folder: Path, tmp_path: Path, command: str, device: str) -> None:
    found: list[Any] = []
    for name in ("cpu", device):
        out = tmp_path / f"{len(found)}.jsonl"
        given = [command, GRU, str(folder / "good.npz"), "--eps", "0.02", "--limit", "5", "--device", name, "--out", str(out)]
        assert main([*given, "--quiet"]) == 0
        found.append(lines(out))
    key = "margins" if command == "certify" else "lower"
    for first, second in zip(*found, strict=True):
        assert first.get("verdict") == second.get("verdict")
        if first.get("verdict") != "MISCLASSIFIED":
            assert first[key] == pytest.approx(second[key], rel=1e-9, abs=1e-9)


def test_a_device_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here, so none that is missing")
    for command in ("certify", "bounds"):
        assert main([command, GRU, str(folder / "good.npz"), "--eps", "0.01", "--device", "cuda", "--quiet"]) == 2
        assert "error: the device 'cuda' cannot be used here" in capsys.readouterr().err


def test_results_are_replaced_only_with_force(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text("precious\n")
    for command in ("certify", "bounds"):
        given = [command, GRU, str(folder / "unlabelled.npz"), "--eps", "0.01", "--limit", "1", "--out", str(out)]
        assert main(given) == 2
        assert "exists already" in capsys.readouterr().err
        assert out.read_text() == "precious\n"
        assert main([*given, "--eps", "-1", "--force"]) == 2
        assert out.read_text() == "precious\n"
    assert main([*given, "--force"]) == 0
    assert len(lines(out)) == 1
    for own in (GRU, str(folder / "unlabelled.npz")):
        before = Path(own).read_bytes()
        assert main([*given[:-1], own, "--force"]) == 2
        assert Path(own).read_bytes() == before
    there = str(tmp_path / "nowhere" / "results.jsonl")
    assert main([*given[:-1], there]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_wrong_ones_are_skipped_on_request(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["certify", GRU, str(folder / "good.npz"), "--eps", "0.005", "--limit", "4", "--batch", "3"]
    for option, numbers in (("--keep-wrong", [0, 1, 2, 3]), ("--skip-wrong", [0, 2, 3, 4])):
        out = tmp_path / f"{option}.jsonl"
        assert main([*given, option, "--out", str(out)]) == 0
        assert sorted(line["index"] for line in lines(out)) == numbers
        assert ("1 misclassified input was left out" in capsys.readouterr().err) == (option == "--skip-wrong")
        assert [line["index"] for line in lines(out) if line["verdict"] == "MISCLASSIFIED"] == [1] * (option == "--keep-wrong")


def test_nothing_left_to_certify(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = held_out()
    np.savez(folder / "all_wrong.npz", x=x[:3], y=(y[:3] + 1) % 10)
    assert main(["certify", GRU, str(folder / "all_wrong.npz"), "--eps", "0.01", "--skip-wrong"]) == 0
    printed, told = capsys.readouterr()
    assert "0 inputs: none done" in printed
    assert "3 misclassified inputs were left out" in told


def test_records_say_what_was_proved(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    options = ["--eps", "0.01", "--clip", "-9", "9", "--frames", "0,2-3", "--top", "2", "--limit", "1", "--out", str(out)]
    assert main(["certify", GRU, str(folder / "good.npz"), *options]) == 0
    (line,) = lines(out)
    assert line["limits"] == {"clip": [-9.0, 9.0], "frames": [0, 2, 3]}
    assert (line["top"], line["eps"]) == (2, 0.01)
    capsys.readouterr()
    given = ["--eps", "0.01", "--norm", "2", "--ball-per", "frame", "--limit", "1", "--out", "-"]
    assert main(["certify", GRU, str(folder / "good.npz"), *given]) == 0
    (line,) = (json.loads(words) for words in capsys.readouterr().out.splitlines())
    assert (line["limits"], line["norm"], line["eps"], line["region"]) == ({"each_frame": []}, "2", 0.01, None)


def test_without_labels_the_model_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["certify", GRU, str(folder / "unlabelled.npz"), "--eps", "0.005", "--norm", "2", "--frames", "0,3-5", "--top", "2"]
    assert main(given) == 0
    printed, told = capsys.readouterr()
    assert "5 inputs: 5 ROBUST" in printed
    assert "has no y" in told


def test_quiet_runs_say_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", GRU, str(folder / "unlabelled.npz"), "--eps", "0.005", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("method", ["interval", "linear"])
def test_bounds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    out = tmp_path / "bounds.jsonl"
    given = ["bounds", GRU, str(folder / "good.npz"), "--eps", "0.01", "--method", method, "--limit", "3", "--batch", "2"]
    assert main([*given, "--json", "--out", str(out)]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == lines(out)
    assert [line["index"] for line in printed] == [0, 1, 2]
    assert all(low < high for line in printed for low, high in zip(line["lower"], line["upper"], strict=True))
    assert main(given) == 0
    table = capsys.readouterr().out
    assert at_least(printed[0]["lower"][0], 6) in table
    assert at_most(printed[0]["upper"][0], 6) in table


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", GRU]) == 0
    text = capsys.readouterr().out
    for word in ("8 frames of 8 features", "float32", "1418", "GRU 1", "gru_update 7", "equal within 1e-05"):
        assert word in text
    assert main(["info", GRU, "--shape", "8,8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operators in the file"]["GRU"] == 1
    for shape in ("8,9", "8", "8,x"):
        assert main(["info", GRU, "--shape", shape]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_the_digits_come_with_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    images, shown = digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.float32
    assert float((images * 16).sum()) == 561718
    assert np.bincount(shown).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("found", [True, False])
def test_how_the_program_is_run_from_here(found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(console, "which", lambda name: f"/usr/bin/{name}" if found else None)
    assert called() == ("tightverify" if found else f"{tmp_path}/.venv/bin/python -m tightverify")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "tightverify").write_text("")
    assert called() == ("tightverify" if found else ".venv/bin/tightverify")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert called() == ("tightverify" if found else f"{tmp_path}/.venv/bin/tightverify")


def test_the_demonstration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tightverify.demo import show

    monkeypatch.setattr(show, "SWEEP", (0.01, 0.05))
    monkeypatch.setattr(show, "SWEPT", 5)
    for _ in range(2):
        assert main(["demo", "--out", str(tmp_path)]) == 0
    printed, told = capsys.readouterr()
    assert "LSTM that reads 8x8 digits" in printed
    assert "certified share against eps" in told
    assert told.splitlines()[-1].endswith(f"{called()} --help)")
    for name in ("digits_lstm", "digits_gru"):
        found = lines(tmp_path / f"{name}.jsonl")
        assert sorted(line["index"] for line in found) == list(range(20))
        assert {"ROBUST", "UNKNOWN", "COUNTEREXAMPLE", "MISCLASSIFIED"} >= {line["verdict"] for line in found}
        assert len({line["verdict"] for line in found}) >= 3
    assert len(lines(tmp_path / "sweep.jsonl")) == 20
    assert (tmp_path / "certified.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2


@pytest.mark.parametrize(("fault", "words"), [(SoundnessFault, "soundness fault"), (ZeroDivisionError, "internal fault")])
def test_our_own_faults(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: type[Exception],
    words: str,
) -> None:
    real = Work.run

    def failing(work: Work, deliver: Callable[..., None]) -> None:
        def first(*given: Any) -> None:
            deliver(*given)
            raise fault("two bounds contradict each other")

        real(work, first)

    monkeypatch.setattr(Work, "run", failing)
    out = tmp_path / "results.jsonl"
    given = ["certify", GRU, str(folder / "unlabelled.npz"), "--eps", "0.01", "--out", str(out)]
    assert main(given) == 3
    printed, told = capsys.readouterr()
    assert "1 input: " in printed
    assert words in told
    assert "Traceback" not in told
    assert len(lines(out)) == 1
    assert main(["--debug", *given, "--force"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_former_names_of_commands_say_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stretches", "--help"]) == 0
    printed, told = capsys.readouterr()
    assert "Usage: tightverify" in printed
    assert "segments now" in told


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("certify", "bounds", "info", "demo"))
    assert main(["certify", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(method in text for method in METHODS)
    assert main(["--version"]) == 0
    assert "0.1.0" in capsys.readouterr().out
    assert main([]) == 2


def test_programs_are_dumped_and_other_regions_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = str(folder / "good.npz")
    common = ["certify", GRU, inputs, "--limit", "1", "--method", "lp", "--rounds", "1", "--restarts", "0"]
    assert main([*common, "--eps", "0.95", "--frames", "7", "--dump", str(tmp_path / "programs")]) == 0
    assert {path.suffix for path in (tmp_path / "programs").iterdir()} == {".mps"}
    assert main([*common, "--eps", "0.01", "--norm", "2"]) == 0
    assert "the stage lp needs a box" in capsys.readouterr().err
    assert main([*common, "--eps", "0.01", "--lp-solver", "batched"]) == 2
    assert "tiny programs" in capsys.readouterr().err


def test_a_region_of_each_input_from_its_file(tmp_path: Path) -> None:
    x, y = held_out()
    radii = np.linspace(0.001, 0.03, 8)
    np.savez(tmp_path / "radii.npz", x=x[:8], y=np.where(np.arange(8) % 3 == 1, (y[:8] + 1) % 10, y[:8]), eps=radii)
    out, options = tmp_path / "out.jsonl", ["--own", "--skip-wrong", "--limit", "4", "--batch", "3", "--method", "interval"]
    assert main(["certify", GRU, str(tmp_path / "radii.npz"), *options, "--out", str(out), "--quiet"]) == 0
    found = {line["index"]: line for line in lines(out)}
    assert sorted(found) == [0, 2, 3, 5]
    for k, line in found.items():
        (alone,) = tv.certify(GRU, x[k : k + 1], y[k : k + 1], tv.LinfBall(radii[k]), method="interval")
        assert (line["eps"], line["verdict"], line["norm"]) == (radii[k], alone.verdict.name, "inf")
        assert line["margin"] == pytest.approx(alone.margin, rel=1e-9)
    assert main(["bounds", GRU, str(tmp_path / "radii.npz"), "--own", "--out", str(tmp_path / "b.jsonl"), "--quiet"]) == 0
    assert [line["eps"] for line in lines(tmp_path / "b.jsonl")] == radii.tolist()


def test_rows_and_names_of_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = held_out()
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "[bold]"]
    (tmp_path / "names.txt").write_text("\n".join(names), encoding="utf-8")
    np.savez(tmp_path / "inputs.npz", x=x[:3], y=np.array(names)[y[:3]])
    C = np.random.default_rng(0).normal(size=(3, 2, 10))
    np.savez(tmp_path / "rows.npz", C=C)
    given, ball = ["certify", GRU, str(tmp_path / "inputs.npz")], ["--eps", "0.01", "--method", "interval"]
    assert main([*given, *ball, "--classes", str(tmp_path / "names.txt"), "--out", str(tmp_path / "named.jsonl")]) == 0
    assert {line["index"]: line["label"] for line in lines(tmp_path / "named.jsonl")} == dict(enumerate(y[:3].tolist()))
    assert all(names[label] in capsys.readouterr().out for label in y[:1])
    asked = [*ball, "--rows", str(tmp_path / "rows.npz"), "--classes", str(tmp_path / "names.txt")]
    assert main([*given, *asked, "--out", str(tmp_path / "rows.jsonl")]) == 0
    assert "the model's own answers" not in capsys.readouterr().err
    alone = tv.certify(GRU, x[:3], None, tv.LinfBall(0.01), rows=(C, None), method="interval")
    for line in lines(tmp_path / "rows.jsonl"):
        assert (line["label"], line["verdict"]) == (None, alone[line["index"]].verdict.name)
        assert line["made"]["reading"] == {"rows": "rows.npz"}
        assert line["margins"] == pytest.approx(alone[line["index"]].margins.tolist(), rel=1e-9)
    for more, words in (
        ([*asked, "--top", "2"], "--top 2 was given beside --rows"),
        ([*asked, "--rows", str(tmp_path / "inputs.npz")], "has no array C, only x, y; wanted an .npz file with C"),
        (ball, f"has the label {names[y[0]]!r}; wanted a class number"),
    ):
        assert main([*given, *more]) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("\n".join([*names[:9], "nine", "ten"]).replace("[bold]", "nine"), encoding="utf-8")
    np.savez(tmp_path / "inputs.npz", x=x[:3], y=y[:3])
    assert main([*given, *ball, "--classes", str(tmp_path / "names.txt")]) == 2
    assert "names.txt names 11 classes; " in capsys.readouterr().err
