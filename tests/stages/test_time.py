"""Time limits: every input has a clock of its own, every stage a share; all on a clock that moves by one at every look."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.api.test_api import classifier
from tests.helpers.evidence_check import Check
from tests.helpers.evidence_network import Numbers
from tightverify import budget as budgets
from tightverify import stages
from tightverify.bounds.result import LinearBounds
from tightverify.budget import Budget
from tightverify.evidence import read_evidence
from tightverify.refine.converge import Converged, Cutter
from tightverify.region import Region
from tightverify.stages import METHODS, bounding, branch, combine, one_input

EPS, LIMIT = 0.35, 400.0
BETWEEN = 20.0
"""Looks at the clock by stages before the last: an order of magnitude fewer than by any bounding pass."""


class Ticking:
    """A clock that moves by one each time that it is looked at: the same on a machine of any speed."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    ticking = Ticking()
    monkeypatch.setattr(budgets, "time", ticking)
    return ticking


@pytest.fixture(scope="module")
def model() -> tv.Model:
    return tv.load(classifier(nn.LSTM), (4, 3))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand((3, 4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)[:2]


def run(model: tv.Model, x: Tensor, method: str, limit: float = LIMIT, **more: Any) -> Sequence[tv.Result]:
    settings = tv.Settings(method, limit, restarts=0, directions=2, splits=6, **more)
    return list(tv.stream(model, x, None, tv.LinfBall(EPS), settings))


def margins(results: Sequence[tv.Result]) -> Tensor:
    return torch.tensor([result.margin for result in results])


def for_ever(budget: Budget) -> None:
    while True:
        budget.check()


@pytest.mark.parametrize(("method", "last"), [("complete", "branch"), ("lp", "lp")])
def test_a_stage_leaves_the_later_ones_their_time(
    model: tv.Model, x: Tensor, method: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`combine` never ends, to all surprise: it takes its share, and the last stage is no worse than alone in what is left."""
    x = x[:1]
    before = run(model, x, "planes", math.inf)
    monkeypatch.setattr(stages, "PREPARATIONS", {})
    monkeypatch.setattr(combine, "bounding_pass", lambda problem, *_: for_ever(problem.budget))
    found = run(model, x, method)
    monkeypatch.setitem(METHODS, "alone", tuple(pair for pair in METHODS[method] if pair[0] == last))
    alone = run(model, x, "alone", LIMIT / 2 - 50)
    assert all(result.stage == last and result.seconds < LIMIT + 50 for result in found)
    assert bool((margins(found) >= margins(alone) - 1e-6).all())
    assert bool((margins(found) > margins(before) + 0.01).all())
    if method == "complete":
        assert all(len(result.tree) > 1 for result in found)


@pytest.mark.parametrize("limit", [30.0, 90.0, 200.0, *(pytest.param(t, marks=pytest.mark.slow) for t in (60.0, 120.0, 160.0))])
def test_a_search_is_no_worse_for_what_should_prepare_it(
    model: tv.Model, x: Tensor, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where time is too short for both, the search has all that linear bounds leave, and goes on from these."""
    found = run(model, x[:1], "complete", limit + BETWEEN)
    monkeypatch.setitem(METHODS, "alone", METHODS["complete"][-1:])
    alone = run(model, x[:1], "alone", limit)
    assert found[0].stage == "branch"
    assert found[0].margin >= alone[0].margin - 1e-9
    assert len(found[0].tree) >= len(alone[0].tree)
    if limit > 60:
        assert len(alone[0].tree) > 0, "there is something to compare with"


@pytest.mark.covering
@pytest.mark.parametrize("limit", [60.0, 120.0, 200.0])
@pytest.mark.parametrize("moved", [0.0, 1e-7, 2e-7])
def test_a_search_after_linear_bounds_has_all_that_they_leave(
    model: tv.Model, x: Tensor, limit: float, moved: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends exactly as one does for which nothing else was to prepare it: both begin with the same last bits."""
    x = x[:1] + moved * torch.linspace(-1, 1, x[0].numel(), dtype=x.dtype).view(1, *x.shape[1:])
    found, stages = run(model, x, "complete", limit + BETWEEN), dict(METHODS["complete"])
    monkeypatch.setitem(METHODS, "after linear", tuple((name, stages[name]) for name in ("interval", "linear", "branch")))
    (after,) = run(model, x, "after linear", limit)
    assert found[0].margin >= after.margin
    assert len(found[0].tree) >= len(after.tree)


@pytest.mark.parametrize("method", ["combine", "complete"])
def test_no_limit_is_no_share(x: Tensor, method: str) -> None:
    model = tv.load(classifier(nn.RNN), (4, 3))
    found, late = run(model, x[:1], method, math.inf), run(model, x[:1], method, 1e9)
    assert torch.equal(found[0].margins, late[0].margins)
    assert found[0].verdict is late[0].verdict is not tv.Verdict.TIMED_OUT


def test_a_part_of_a_batch_has_its_own_time_alone(model: tv.Model, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, seen = bounding.fitted_bounds, []  # type: ignore[attr-defined]

    def slow(graph: Any, region: Region, fitting: Any, budget: Budget, *rest: Any) -> LinearBounds:
        seen.append(region)
        if len(seen) == 1:
            for_ever(budget)
        return honest(graph, region, fitting, budget, *rest)

    free = run(model, x, "planes", math.inf, memory=1)
    monkeypatch.setattr(bounding, "fitted_bounds", slow)
    found = run(model, x, "planes", memory=1)
    assert len(seen) == len(x)
    assert [result.verdict for result in found] == [tv.Verdict.TIMED_OUT] + [result.verdict for result in free[1:]]
    assert bool((margins(found)[1:] == margins(free)[1:]).all())


@pytest.mark.parametrize("memory", [1, 2**24], ids=["parts of one", "one part"])
def test_an_input_leaves_the_others_their_programs(
    model: tv.Model, x: Tensor, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, first = Cutter.converge, []

    def slow(self: Cutter, rows: Any, enough: float, budget: Budget) -> Iterator[Converged]:
        first.append(self)
        if self is first[0]:
            for_ever(budget)
        yield from honest(self, rows, enough, budget)

    before = run(model, x, "combine", math.inf, rounds=1)
    monkeypatch.setattr(Cutter, "converge", slow)
    found = run(model, x, "lp", 4 * LIMIT, rounds=1, memory=memory)
    assert bool((margins(found)[1:] > margins(before)[1:] + 1e-3).all())
    assert found[0].verdict is tv.Verdict.TIMED_OUT


@pytest.mark.parametrize(("method", "module", "name"), [("complete", branch, "combined_bounds"), ("lp", one_input, "relaxed")])
def test_what_is_too_dear_is_made_do_without(
    model: tv.Model, x: Tensor, method: str, module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best bounds of the whole regions take for ever: there is a search, and there are programs, all the same."""
    honest = getattr(module, name)

    def slow(*given: Any) -> Any:
        effort, budget = given[2], given[4]
        if effort is not combine.QUICK:
            for_ever(budget)
        return honest(*given)

    monkeypatch.setattr(module, name, slow)
    monkeypatch.setitem(METHODS, "alone", METHODS[method][-1:])
    before, found = run(model, x[:1], "planes", math.inf), run(model, x[:1], "alone")
    refuted = torch.tensor([result.verdict is tv.Verdict.COUNTEREXAMPLE for result in found])
    assert bool((refuted | (margins(found) > margins(before))).all())


def test_bounds_hold_wherever_the_time_runs_out(model: tv.Model, x: Tensor) -> None:
    """Of whatever is cut short the rest goes on: no better than samples, and no worse than the cheap stages."""
    cheap, points = (
        margins(run(model, x[:1], "linear", math.inf)),
        tv.LinfBall(EPS).around(x[:1]).sample(2000, torch.Generator()),
    )
    outputs = model.original(points.view(-1, 4, 3)).view(1, -1, 5)
    label = model.original(x[:1]).argmax(1)
    leads = outputs.gather(2, label[:, None, None].expand(-1, outputs.shape[1], 1)) - outputs
    least = leads.scatter(2, label[:, None, None].expand(-1, outputs.shape[1], 1), math.inf).amin((1, 2))
    for limit in (60, 240):
        found = margins(run(model, x[:1], "complete", float(limit)))
        assert bool((found >= cheap).all())
        assert bool((found <= least).all())


@pytest.mark.parametrize(("method", "limit"), [("complete", 90.0), ("complete", 150.0), ("complete", 300.0), ("lp", 150.0)])
def test_evidence_follows_wherever_the_time_runs_out(
    model: tv.Model, x: Tensor, method: str, limit: float, tmp_path: Path
) -> None:
    """What a stage had begun is in the evidence that those after it go on from."""
    (result,) = run(model, x[1:2], method, limit, evidence=tmp_path)
    entries = read_evidence(tmp_path / "0.npz")
    Check(entries, Numbers.of(model.graph))
    assert entries[-1].margin == result.margin  # type: ignore[union-attr]
