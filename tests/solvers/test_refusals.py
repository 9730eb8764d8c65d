"""Solvers that do not take a program: its row stays open, with what was proved before, and the result says why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import solvers
import tightverify as tv
from solvers import BackendError, Problem
from solvers.backends.highs import _HighsSession
from tests.helpers.onnx_models import HEAD, build, head, node, normal, save
from tightverify.cli.main import main
from tightverify.errors import UsageError
from tightverify.relax.fitted.programs import EASY, side_by_side
from tightverify.report.records import read_records

DOUBLE = torch.float64
X = torch.full((2, 2), 0.1, dtype=DOUBLE)
ROWS = torch.eye(2, dtype=DOUBLE)
PROGRAMS = "complete", "lp", "milp"


class Widened(nn.Module):
    """Weights that are far too large for a solver, and others that make up for them."""

    def __init__(self, size: float, function: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.function = nn.Linear(2, 3).double(), nn.Linear(3, 2).double(), function
        with torch.no_grad():
            self.first.weight.mul_(size)
            self.second.weight.div_(size)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


def offsets(model: tv.Model, region: tv.region.Perturbation) -> Tensor:
    """What makes both rows hold at all samples by a little: no bound proves that at once."""
    found = region.around(X)
    outputs = model.graph.forward(torch.cat([found.sample(500, torch.Generator().manual_seed(2)), found.centre[:, None]], 1))
    return 0.01 - outputs.amin((0, 1))


def asked(method: str, module: nn.Module, **options: Any) -> tuple[Sequence[tv.Result], Sequence[tv.Result]]:
    """What `combine` finds, and the method."""
    model, region = tv.load(module.to(DOUBLE), (2,)), tv.LinfBall(0.5)
    rows = ROWS, offsets(model, region)
    first = tv.certify(model, X, None, region, method="combine", rows=rows, restarts=0, rounds=1)
    options = {"rounds": 1, "time_limit": 5, **options}
    return first, tv.certify(model, X, None, region, method=method, rows=rows, restarts=0, **options)


@pytest.mark.covering
@pytest.mark.usefixtures("rounds_alone")
@pytest.mark.parametrize("lp_solver", ["highs", "scipy"])
@pytest.mark.parametrize("size", [1e20, 1e250])
@pytest.mark.parametrize("method", PROGRAMS)
def test_weights_that_are_too_large(method: str, size: float, lp_solver: str) -> None:
    first, found = asked(method, Widened(size, nn.ReLU()), lp_solver=lp_solver)
    for before, result in zip(first, found, strict=True):
        assert result.verdict in (tv.Verdict.UNKNOWN, tv.Verdict.TIMED_OUT)
        assert result.margin >= before.margin
        if lp_solver == "highs":
            assert "highs takes coefficients below 1e+15, this problem has" in result.note
            assert f"the stage {result.stage} left row" in result.note


@pytest.mark.covering
@pytest.mark.usefixtures("rounds_alone")
@pytest.mark.parametrize("taken", [0, 1, 4])
@pytest.mark.parametrize("call", ["__init__", "_extend", "_change", "_run"])
@pytest.mark.parametrize("method", PROGRAMS)
def test_whenever_a_solver_refuses(method: str, call: str, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS takes so many calls, and then no more."""
    usual, count = getattr(_HighsSession, call), 0

    def refusing(self: Any, *given: Any) -> Any:
        nonlocal count
        count += not any(one is EASY for one in given)  # which tries whether the solver is there
        if count > taken:
            raise BackendError("no more of this")
        return usual(self, *given)

    monkeypatch.setattr(_HighsSession, call, refusing)
    first, found = asked(method, Widened(1.0, nn.ReLU() if method == "complete" else nn.Tanh()), obbt=2)
    refused = count > taken
    for before, result in zip(first, found, strict=True):
        assert result.margin >= before.margin
        assert not result.note or result.note.endswith("open: no more of this")
    assert not refused or all(result.verdict is not tv.Verdict.UNKNOWN or result.note for result in found)


def test_the_command_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line on stderr, and in every record."""
    layers = [node("Gemm", "x W b", "z"), node("Relu", "z", "r"), node("Mul", "r small", "features"), HEAD]
    weights = {"W": normal(2, 3, seed=1) * 1e20, "b": normal(3, seed=2), "small": np.full(3, 1e-20)} | head(3)
    path = save(tmp_path, build(layers, ["N", 2], weights, np.float64))
    inputs, out = tmp_path / "x.npz", tmp_path / "out.jsonl"
    np.savez(inputs, x=X.numpy())
    asked = ["--method", "lp", "--rounds", "1", "--restarts", "0", "--out", str(out)]
    assert main(["certify", str(path), str(inputs), "--eps", "9", *asked]) == 0
    records = read_records(out)
    assert all(record.verdict == "UNKNOWN" and "highs takes coefficients below" in (record.note or "") for record in records)
    words = capsys.readouterr().err
    assert f"note: input 0: {records[0].note}; 2 inputs have notes" in words


def test_decided_inputs_have_no_note() -> None:
    _, found = asked("lp", nn.Linear(2, 2))
    assert {(result.verdict, result.note) for result in found} == {(tv.Verdict.ROBUST, "")}


@pytest.mark.parametrize("solver", ["highs", "scipy"])
def test_planes_without_an_answer(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of several programs is refused: the others have their planes, that one none."""
    usual = solvers.solve

    def choosy(problem: Problem, name: str) -> solvers.Solution:
        if np.abs(problem.rows.data).max() > 1e6:
            raise BackendError("that is too much")
        return usual(problem, name)

    monkeypatch.setattr(solvers, "solve", choosy)
    rows = np.stack([np.array([[0.5, 1.0], [-0.5, 1.0]]), np.array([[1e7, 1.0], [-0.5, 1.0]])])
    planes, weights = side_by_side(rows, np.ones((2, 2)), np.full((2, 2), -9.0), np.full((2, 2), 9.0), solver)
    assert planes[0, 1] == pytest.approx(1)
    assert weights[0].sum() == pytest.approx(1)
    assert not planes[1].any()
    assert not weights[1].any()


@pytest.mark.covering
@pytest.mark.parametrize("size", [1e20, 1e150, 1e300])
@pytest.mark.parametrize("solver", ["batched", "highs", "scipy"])
@pytest.mark.parametrize("method", ["planes", "combine"])
def test_planes_of_large_operands(method: str, solver: str, size: float) -> None:
    class Gates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = Widened(1.0, nn.Identity()).first
            with torch.no_grad():
                self.gate.weight.mul_(size)

        def forward(self, x: Tensor) -> Tensor:
            y = self.gate(x)
            return (y[:, :2].sigmoid() * y[:, 1:].tanh()) @ torch.tensor([[1.0, -1.0], [0.5, 1.0]], dtype=DOUBLE)

    _, found = asked(method, Gates(), solver=solver)
    assert all(result.verdict is tv.Verdict.UNKNOWN for result in found)


def test_highs_says_what_it_does_not_take() -> None:
    def problem(size: float) -> Problem:
        return Problem(np.ones(2), np.array([[size, 1.0]]), -np.inf, 1, 0, 1)

    assert solvers.solve(problem(np.nextafter(1e15, 0)), "highs").status is solvers.Status.OPTIMAL
    words = r"highs takes coefficients below 1e\+15, this problem has 1e\+15: scale it, or choose another solver"
    with pytest.raises(BackendError, match=words):
        solvers.load(problem(1e15), "highs")
    session = solvers.load(problem(1.0), "highs")
    with pytest.raises(BackendError, match="this problem has 3e"):
        session.add_rows(np.array([[0.0, 3e20]]), 0, 1)
    assert session.solve().status is solvers.Status.OPTIMAL


def test_a_solver_without_a_licence_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is installed, but its sessions do not open: that is for the user to mend, and no reason to leave rows open."""

    def unlicensed(*_given: Any) -> None:
        raise BackendError("highs gives no licence")

    monkeypatch.setattr(_HighsSession, "__init__", unlicensed)
    for option in ("solver", "lp_solver"):
        with pytest.raises(UsageError, match="highs gives no licence"):
            tv.certify(nn.Linear(2, 2).double(), X, None, tv.LinfBall(0.5), method="lp", **{option: "highs"})  # type: ignore[arg-type]
