"""Which solver the stage `milp` takes for its trees and for narrowing intervals: the one asked for, where that suits."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tightverify as tv
from solvers import Options, Problem, Session, leaves, registry
from solvers.backends.highs import Highs
from tests.stages.test_milp import relu_model


class Renamed(Highs):
    """HiGHS by another name."""

    name = "renamed"

    def __init__(self, warm_start: bool) -> None:
        self.capabilities = replace(Highs.capabilities, warm_start=warm_start)


@pytest.mark.parametrize("warm_start", [True, False])
def test_trees_are_grown_by_the_solver_that_was_asked_for(warm_start: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that begins every solve anew would be slow in a tree: HiGHS stands in there, and nowhere else."""
    opened, usual = set[str](), Highs._open

    def noted(self: Highs, problem: Problem, options: Options) -> Session:
        opened.add(self.name)
        return usual(self, problem, options)

    monkeypatch.setattr(Highs, "_open", noted)
    monkeypatch.setattr(registry, "BACKENDS", (*registry.BACKENDS, Renamed(warm_start)))
    assert leaves.tree_solver("renamed") == ("renamed" if warm_start else "highs")
    model, x = relu_model()
    found = tv.certify(
        model, x, None, tv.LinfBall(0.6), method="milp", restarts=0, rounds=1, solver="batched", lp_solver="renamed"
    )
    assert {result.verdict for result in found} <= {tv.Verdict.ROBUST, tv.Verdict.COUNTEREXAMPLE}
    assert any(result.stage == "milp" for result in found)
    assert opened == ({"renamed"} if warm_start else {"renamed", "highs"})
