"""Multipliers of intervals that hold on parts only: all are sound, good ones reach the linear program, damage is noticed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import solvers
from tests.branch.test_branch import DOUBLE, halved, root, some_splits
from tightverify.bounds.back_substitution import back_substitute
from tightverify.bounds.constraints import WHOLE
from tightverify.bounds.interval_multipliers import IntervalConstraint, Multipliers
from tightverify.bounds.result import LinearBounds
from tightverify.refine.network_lp import network_lp
from tightverify.values import Interval


def some_part(name: str = "lstm 2 layers", depth: int = 3) -> tuple[LinearBounds, list[Tensor], Tensor]:
    """Bounds on parts of a region; points of it by their nodes' values, and in which part each lies."""
    bounds = root(name, count=1)
    values = bounds.graph.evaluate(bounds.region.sample(3000, torch.Generator().manual_seed(7))[0])
    of = torch.zeros(3000, dtype=torch.long)
    for level in range(depth):
        node, neurons, at = some_splits(bounds, 20 + level)
        of = 2 * of + (values[node].gather(1, neurons[of][:, None])[:, 0] > at[of]).long()
        bounds = halved(bounds, node, neurons, at)
    return bounds, values, of


def above_samples(change: Callable[[Multipliers], None]) -> int:
    """How many bounds on parts lie above sampled values there, for multipliers that were changed."""
    bounds, values, of = some_part()
    graph = bounds.graph
    rows = {graph.output: torch.eye(graph.output_size, dtype=DOUBLE)[None]}
    multipliers = Multipliers(graph, bounds.constraints.intervals(graph, bounds.intervals, bounds.scales, graph.output), rows)
    change(multipliers)
    selection = {number: pairs[1 if len(pairs) > 1 else 0] for number, pairs in bounds.planes.items()}
    lower = back_substitute(graph, bounds.region, selection, multipliers.together) + multipliers.constant
    return int((lower[of] > values[graph.output]).sum())


def at_random(multipliers: Multipliers) -> None:
    generator = torch.Generator().manual_seed(5)
    for number, held in multipliers.interval_constraints.items():
        shape = (len(held.size), len(multipliers.rows[multipliers.graph.output][0]), held.size.shape[1])
        multipliers.values[number] = 0.3 * torch.randn(shape, generator=generator, dtype=DOUBLE)


def test_any_multipliers_are_sound() -> None:
    assert above_samples(at_random) == 0


@pytest.mark.parametrize("damage", ["ends exchanged", "inside", "sign"])
def test_damaged_multipliers_are_noticed(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Multipliers.constant.fget  # type: ignore[attr-defined]

    def damaged(self: Multipliers) -> Tensor:
        held = {}
        for number, one in self.interval_constraints.items():
            lower, upper = one.interval.lower, one.interval.upper
            if damage == "ends exchanged":
                lower, upper = upper, lower
            if damage == "inside":
                lower, upper = lower + 0.8 * (upper - lower), upper - 0.8 * (upper - lower)
            held[number] = replace(one, interval=Interval(lower, upper))
        found: Tensor = original(replace(self, interval_constraints=held))
        return -found if damage == "sign" else found

    monkeypatch.setattr(Multipliers, "constant", property(damaged))
    assert above_samples(at_random) > 0


def test_multipliers_reach_the_linear_program() -> None:
    """On parts, intervals are worth much; a few steps bring nearly all that the program over the same planes can."""
    reached, possible = 0.0, 0.0
    for name in ("lstm 2 layers", "rnn tanh"):
        bounds, _, _ = some_part(name)
        rows = torch.eye(bounds.graph.output_size, dtype=DOUBLE)
        without = replace(bounds, constraints=WHOLE).lower({bounds.graph.output: rows[None]}, 40)
        found = bounds.lower({bounds.graph.output: rows[None]}, 40)
        for number in range(len(bounds.region)):
            if bool(bounds.nothing[number]):
                continue
            for k, row in enumerate(rows):
                program = network_lp(bounds, number, {bounds.graph.output: row})
                optimum = program.proved(solvers.solve(program.problem))
                if not math.isfinite(optimum):
                    continue
                assert found[number, k] <= optimum + 1e-7
                reached += float(found[number, k] - without[number, k])
                possible += optimum - float(without[number, k])
    assert reached > 0.8 * possible > 0


def test_neurons_without_an_interval_get_no_multiplier() -> None:
    ends = torch.tensor([[1.0, torch.inf, 2.0]], dtype=DOUBLE)
    held = IntervalConstraint.of(Interval(-ends, ends), torch.ones_like(ends))
    assert held.usable.tolist() == [[True, False, True]]
    assert bool(torch.isfinite(held.interval.upper).all() and torch.isfinite(held.size).all())
    assert held.kept(torch.ones((1, 2, 3), dtype=DOUBLE))[0].tolist() == [[1, 0, 1], [1, 0, 1]]
