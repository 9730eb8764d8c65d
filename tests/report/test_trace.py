"""What a run tells on its way: every step to a callback from Python, the file and the picture of `--trace`, and progress."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import tightverify as tv
from tests.helpers.onnx_models import SINGLE, build, from_state, head, layer, node, normal, save
from tests.helpers.refusals import assert_one_sentence
from tightverify import console, plots
from tightverify.api.passes import PASSES
from tightverify.cli.main import main
from tightverify.errors import InputError, UsageError
from tightverify.report.records import read_records
from tightverify.report.trace import TracePoint, read_trace
from tightverify.runs import Outlook
from tightverify.stages import METHODS
from tightverify.stages.problem import BoundsSoFar, Problem
from tightverify.stages.progress import Step

EPS = 0.2
"""At this radius the inputs end in every way there is: by intervals, lines and mixtures, refuted and open."""
WRONG = [2, 9]
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GRU, and twelve inputs of which two are misclassified."""
    folder = tmp_path_factory.mktemp("trace")
    names, weights, attributes = layer("GRU", scale=2.0)
    network = build(from_state(node("GRU", names, "- h", **attributes)), [3, "batch", 3], weights | head(4), dtype=SINGLE)
    model = tv.load(save(folder, network))
    x = normal(12, 3, 3, seed=7).astype(SINGLE)
    y = model.original(torch.from_numpy(x)).argmax(1).numpy()
    y[WRONG] = (y[WRONG] + 1) % 3
    np.savez(folder / "inputs.npz", x=x, y=y)
    return folder


@pytest.fixture(scope="module")
def given(folder: Path) -> tuple[tv.Model, Any, Any]:
    arrays = np.load(folder / "inputs.npz")
    return tv.load(folder / "model.onnx"), arrays["x"], arrays["y"]


def certified(given: tuple[tv.Model, Any, Any], **options: Any) -> tuple[Sequence[tv.Result], list[Step]]:
    steps: list[Step] = []
    return tv.certify(*given, tv.LinfBall(options.pop("eps", EPS)), callback=steps.append, **options), steps


def histories(steps: Iterable[Step]) -> dict[int, list[TracePoint]]:
    """Every input's own steps, in their order."""
    found: dict[int, list[TracePoint]] = {}
    for step in steps:
        for point in TracePoint.of(step, range(100)):
            found.setdefault(point.index, []).append(point)
    return found


def rises(points: list[TracePoint]) -> bool:
    """Whether no margin falls and no time runs backwards."""
    known = [[-math.inf if margin is None else margin for margin in (*point.margins, point.margin)] for point in points]
    times = [point.seconds for point in points]
    falls = [new < old for before, after in pairwise(known) for old, new in zip(before, after, strict=True)]
    return not any(falls) and times == sorted(times)


@pytest.mark.usefixtures("rounds_alone")
@pytest.mark.parametrize(
    ("method", "batch"), [("interval", 100), ("linear", 5), ("planes", 2), ("combine", 100), ("combine", 3)]
)
def test_every_step_is_told(given: tuple[tv.Model, Any, Any], method: str, batch: int) -> None:
    results, steps = certified(given, method=method, batch=batch)
    found = histories(steps)
    assert sorted(found) == [result.index for result in results if result.verdict is not tv.Verdict.MISCLASSIFIED]
    assert [result.index for result in results if result.index not in found] == WRONG
    stages = [name for name, _ in METHODS[method]]
    for index, points in found.items():
        last, result = points[-1], results[index]
        assert rises(points)
        assert last.margin == result.margin
        assert last.margins == tuple(result.margins.tolist())
        assert (last.stage, last.seconds <= result.seconds) == (result.stage, True)
        assert all(point.open for point in points[:-1])
        assert last.open == (result.verdict is tv.Verdict.UNKNOWN)
        at = [(stages.index(point.stage), point.round) for point in points]
        assert at == sorted(set(at))
        assert all((point.round > 0) == (point.stage == "combine") for point in points)


@pytest.mark.usefixtures("rounds_alone")
def test_the_method_combine_shows_its_rounds(given: tuple[tv.Model, Any, Any]) -> None:
    results, steps = certified(given, method="combine")
    assert {result.verdict.name for result in results} >= {"ROBUST", "COUNTEREXAMPLE", "UNKNOWN", "MISCLASSIFIED"}
    rounds = [step.inputs.tolist() for step in steps if step.stage == "combine"]
    assert len(rounds) > 1
    for before, after in pairwise(rounds):
        assert set(after) <= set(before)
    assert {step.stage for step in steps} == {name for name, _ in METHODS["combine"]}


def test_thorough_runs_tell_of_decided_inputs_too(given: tuple[tv.Model, Any, Any]) -> None:
    results, steps = certified(given, method="planes", thorough=True)
    for index, points in histories(steps).items():
        assert [point.stage for point in points] == ["interval", "linear", "attack", "planes"]
        assert [point.open for point in points] == sorted((point.open for point in points), reverse=True)
        assert rises(points)
        assert points[-1].margin == results[index].margin


def test_parts_of_a_batch_are_told_as_they_end(given: tuple[tv.Model, Any, Any]) -> None:
    steps: list[Step] = []
    settings = tv.Settings("linear", memory=1)
    results = list(tv.stream(*given, tv.LinfBall(EPS), settings, callback=steps.append))
    linear = [step for step in steps if step.stage == "linear"]
    assert len(linear) > 1
    assert all(len(step.inputs) == 1 for step in linear)
    assert all(points[-1].margin == results[index].margin for index, points in histories(steps).items())


@pytest.mark.usefixtures("rounds_alone")
def test_steps_are_not_changed_afterwards(given: tuple[tv.Model, Any, Any]) -> None:
    copies: list[torch.Tensor] = []
    steps: list[Step] = []

    def watch(step: Step) -> None:
        steps.append(step)
        copies.append(step.margins.clone())

    tv.certify(*given, tv.LinfBall(EPS), method="combine", callback=watch)
    assert all(torch.equal(step.margins, copy) for step, copy in zip(steps, copies, strict=True))


def test_a_time_limit_ends_the_history(given: tuple[tv.Model, Any, Any]) -> None:
    results, steps = certified(given, method="combine", time_limit=0.1)
    late = [result for result in results if result.verdict is tv.Verdict.TIMED_OUT]
    assert late
    found = histories(steps)
    for result in late:
        assert (found[result.index][-1].stage, found[result.index][-1].margin) == (result.stage, result.margin)
        assert found[result.index][-1].open


def test_what_a_stage_forgets_to_tell_is_told_when_it_ends(
    given: tuple[tv.Model, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
        some = torch.arange(0, len(known.margins), 2)
        problem[some].report(known[some], 1)
        margins = known.margins.clone()
        margins[::4] = -1.0
        return replace(known, margins=margins)

    monkeypatch.setitem(METHODS, "forgetful", (("forgetful", forgetful),))
    results, steps = certified(given, method="forgetful")
    assert [step.inputs.tolist() for step in steps] == [[0, 3, 5, 7, 10], [0, 1, 4, 5, 6, 8, 10, 11]]
    assert all(
        points[-1].margin == pytest.approx(results[k].margin) or points[-1].margin is None
        for k, points in histories(steps).items()
    )


def run(folder: Path, trace: Path, *options: str) -> int:
    files = [str(folder / "model.onnx"), str(folder / "inputs.npz")]
    return main(["certify", *files, "--eps", str(EPS), "--trace", str(trace), *options])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("rounds_alone")
@pytest.mark.parametrize("skip", ["--skip-wrong", "--keep-wrong"])
def test_a_traced_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], skip: str) -> None:
    out, trace = tmp_path / "results.jsonl", tmp_path / "trace.jsonl"
    options = ["--method", "combine", "--directions", "2", "--batch", "2", "--limit", "6", "--out", str(out), skip]
    assert run(folder, trace, *options) == 0
    printed, told = capsys.readouterr()
    assert "6 inputs: " in printed
    assert "trace" not in printed
    assert f"every step: {trace}, drawn in {tmp_path / 'trace.png'}" in told
    assert (tmp_path / "trace.png").read_bytes().startswith(PNG)
    records = {record.index: record for record in read_records(out)}
    assert sorted(records) == ([0, 1, 3, 4, 5, 6] if skip == "--skip-wrong" else [0, 1, 2, 3, 4, 5])
    found: dict[int, list[TracePoint]] = {}
    for point in read_trace(trace):
        found.setdefault(point.index, []).append(point)
    assert sorted(found) == sorted(index for index, record in records.items() if record.verdict != "MISCLASSIFIED")
    for index, points in found.items():
        assert rises(points)
        assert (points[-1].margin, points[-1].margins) == (records[index].margin, records[index].margins)
        assert points[-1].stage == records[index].stage
    assert set(lines(trace)[0]) == {"index", "stage", "round", "seconds", "open", "margin", "margins"}


def test_files_in_the_way(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, drawn = tmp_path / "trace.jsonl", tmp_path / "trace.png"
    for path in (trace, drawn):
        path.write_text("precious\n")
        assert run(folder, trace) == 2
        assert f"error: {path} exists already; give another name to --trace, or --force" in capsys.readouterr().err
        assert path.read_text() == "precious\n"
        path.unlink()
    drawn.write_text("old\n")
    trace.write_text("old\n")
    assert run(folder, trace, "--force", "--quiet") == 0
    assert capsys.readouterr().err == ""
    assert len(read_trace(trace)) > 10
    assert drawn.read_bytes().startswith(PNG)
    for options in ([str(tmp_path / "trace.png")], [str(trace), "--out", str(trace)], [str(trace), "--out", str(drawn)]):
        assert run(folder, Path(options[0]), *options[1:], "--force") == 2
        assert "must be different files" in capsys.readouterr().err
    before = (folder / "model.onnx").read_bytes()
    assert run(folder, folder / "model.onnx", "--force") == 2
    assert "is to be read and cannot be written" in capsys.readouterr().err
    assert (folder / "model.onnx").read_bytes() == before
    for path in (tmp_path / "nowhere" / "trace.jsonl", Path(".")):
        assert run(folder, path, "--force") == 2
        assert "cannot be written" in capsys.readouterr().err


def test_numbers_that_are_not_finite_become_null(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strange(_problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
        return replace(known, margins=known.margins.new_tensor([math.nan, math.inf]).expand_as(known.margins))

    monkeypatch.setitem(METHODS, "strange", (("strange", strange),))
    trace = tmp_path / "trace.jsonl"
    assert run(folder, trace, "--method", "strange", "--limit", "2", "--quiet") == 0
    assert [(line["margin"], line["margins"], line["open"]) for line in lines(trace)] == [(None, [None, None], True)] * 2
    assert (tmp_path / "trace.png").read_bytes().startswith(PNG)


def test_an_interrupted_run_keeps_its_trace(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def impatient(_problem: Problem, _known: BoundsSoFar) -> BoundsSoFar:
        raise KeyboardInterrupt

    monkeypatch.setitem(METHODS, "short", (METHODS["linear"][0], ("impatient", impatient)))
    trace = tmp_path / "trace.jsonl"
    assert run(folder, trace, "--method", "short") == 130
    assert "3 of 12 inputs are done" in capsys.readouterr().err, "two misclassified ones, and one that intervals prove"
    assert {point.stage for point in read_trace(trace)} == {"interval"}
    assert (tmp_path / "trace.png").read_bytes().startswith(PNG)


def test_pictures_of_other_traces(tmp_path: Path) -> None:
    trace, drawn = tmp_path / "trace.jsonl", tmp_path / "drawn.png"
    point = {"stage": "interval", "round": 0, "seconds": 0.5, "open": True, "margin": -2.0, "margins": [-2.0, 1.0]}
    for numbers in ([], [3], range(30)):
        trace.write_text("".join(json.dumps({"index": number, **point}) + "\n" for number in numbers))
        assert len(read_trace(trace)) == len(numbers)
        plots.save(plots.trace(read_trace(trace)), drawn)
        assert drawn.read_bytes().startswith(PNG)
        drawn.unlink()
    with pytest.raises(UsageError, match="cannot be written"):
        plots.save(plots.trace(read_trace(trace)), tmp_path / "nowhere" / "drawn.png")
    trace = trace.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/$x^{\xe9.jsonl")))  # neither UTF-8 nor a formula
    assert main(["plot", str(trace), "--kind", "trace", "--out", str(drawn), "--force", "--quiet"]) == 0
    for text in ("not json", "[1]", '{"index": 1}', '{"index": 1, "margins": []}'):
        trace.write_text(json.dumps({"index": 0, **point}) + "\n" + text + "\n")
        with pytest.raises(InputError, match="line 2"):
            read_trace(trace)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--directions", "3"], "directions is 3; it must be an even number from 0 to 16"),
        (["--directions", "18"], "directions is 18; it must be an even number from 0 to 16"),
        (["--directions", "-2"], "directions is -2; it must be an even number from 0 to 16"),
        (["--directions", "many"], "--directions"),
        (["--solver", "abacus"], "abacus"),
    ],
)
def test_options_that_are_none(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    trace = tmp_path / "trace.jsonl"
    assert run(folder, trace, "--method", "planes", *options) == 2
    assert_one_sentence(capsys, words, trace)


def test_options_reach_the_settings(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tv.Settings] = []

    def looking(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
        seen.append(problem.settings)
        return known

    monkeypatch.setitem(METHODS, "looking", (("looking", looking),))
    for number, options in enumerate(([], ["--directions", "4", "--solver", "highs", "--thorough"])):
        assert run(folder, tmp_path / f"{number}.jsonl", "--method", "looking", "--quiet", *options) == 0
    assert [(s.directions, s.solver, s.thorough) for s in seen] == [(None, "batched", False), (4, "highs", True)]


def test_help_names_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    for command, methods in (("certify", METHODS), ("bounds", PASSES)):
        assert main([command, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        named = text.split("How to bound: ")[1].split(".")[0]
        assert all(method in named for method in methods)


def test_bounds_by_combine(given: tuple[tv.Model, Any, Any]) -> None:
    model, x, _ = given
    widths = {}
    for method in ("linear", "combine"):
        found = tv.bounds(model, x, tv.LinfBall(EPS), method)
        widths[method] = float((found.upper - found.lower).mean())
        samples = x[:, None] + np.random.default_rng(0).uniform(-EPS, EPS, (len(x), 50, *x.shape[1:]))
        outputs = model.original(torch.from_numpy(samples.astype(SINGLE)).flatten(0, 1)).view(len(x), 50, -1)
        assert bool((outputs >= found.lower[:, None] - 1e-5).all())
        assert bool((outputs <= found.upper[:, None] + 1e-5).all())
    assert widths["combine"] < 0.95 * widths["linear"]
    nodes = tv.bounds(model, x, tv.LinfBall(EPS), "combine", every_node=True)
    assert len(nodes) == len(model.graph.nodes)


def step(worst: list[float], open_ones: list[bool], stage: str = "combine", round: int = 2, seconds: float = 0.25) -> Step:
    margins = torch.tensor(worst, dtype=torch.float64)
    return Step(stage, round, torch.arange(len(worst)), margins[:, None], margins, torch.tensor(open_ones), seconds)


def test_progress_in_words() -> None:
    outlook = Outlook(1.0)
    assert outlook.after(step([-2.0, -0.5, 1.0], [True, True, False])) == (
        "combine round 2, 2 open, margins -2.000 to -0.500, 750 ms left per input"
    )
    assert Outlook(math.inf).after(step([-math.inf], [True], "linear", 0)) == "linear, 1 open, margins -inf to -inf"
    assert outlook.after(step([1.0, 1.0], [False, False], seconds=3.0)) == "combine round 2, 0 open, 0 ms left per input"


def test_long_stages_say_how_far_they_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    assert (
        run(folder, tmp_path / "trace.jsonl", "--limit", "4", "--batch", "2", "--method", "linear", "--time-limit", "60") == 0
    )
    printed, told = capsys.readouterr()
    assert re.search(r"certifying model.onnx: \d of 4.*; interval, \d open, margins ", told)
    assert re.search(r"certifying model.onnx: [2-4] of 4, about \d+ s left.*; interval, ", told)
    assert "60.0 s left per input" in told
    assert "certifying" not in printed


def test_a_terminal_shows_what_goes_on_below_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "Console", lambda **_: Console(file=sys.stderr, force_terminal=True, width=100))
    with console.progress("certifying", 2, quiet=False) as bar:
        bar.note("combine round 2, 7 open")
        bar()
        time.sleep(0.3)  # it is drawn ten times a second
    printed, told = capsys.readouterr()
    assert printed == ""
    assert "combine round 2, 7 open" in told
    with console.progress("certifying", 2, quiet=True) as bar:
        bar.note("combine")
        bar()
    assert capsys.readouterr().err == ""


def test_whoever_does_not_watch_gets_the_same(given: tuple[tv.Model, Any, Any]) -> None:
    watched, _ = certified(given)
    alone = tv.certify(*given, tv.LinfBall(EPS))
    assert [result.verdict for result in watched] == [result.verdict for result in alone]
    assert all(torch.equal(one.margins, other.margins) for one, other in zip(watched, alone, strict=True))
