"""The stage `attack`: the search for counterexamples."""

from __future__ import annotations

from dataclasses import replace

from tightverify.attack import Search, attack
from tightverify.stages.problem import BoundsSoFar, Problem


def attack_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Gradient search for a counterexample, replayed through the original model."""
    search = Search(problem.settings.restarts, problem.settings.attack_steps, problem.settings.seed)
    if search.restarts == 0:
        return known
    found, points = attack(problem.model, problem.graph, problem.region, problem.spec, search, problem.budget)
    known = replace(known, refuted=found, points=points)
    return known.with_stopped(slice(None)) if problem.budget.left < 0 else known
