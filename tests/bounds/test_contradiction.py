"""Proofs by contradiction: what is bounded where a row is supposed to fail holds there, and damage to that is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.api.test_api import FEATURES, FRAMES, classifier
from tests.bounds.test_bounds import NETWORKS, REGIONS, centres
from tests.branch.test_branch import CHILD, NETS, faults, root, some_splits
from tightverify.bounds.constraints import PART
from tightverify.bounds.contradiction import OutputConstraint, together
from tightverify.bounds.fitted import Effort, Fitting
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.rebound import rebound
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.rows import mixed_bounds, multipliers_of
from tightverify.branch import search
from tightverify.branch.leaf import halves, output_constrained, under
from tightverify.branch.search import Branching
from tightverify.budget import UNLIMITED, Budget
from tightverify.evidence import PROPERTY
from tightverify.graph import Graph
from tightverify.region import LinfBall
from tightverify.spec import Property, classify_as
from tightverify.values import Interval
from tightverify.verify import Verdict

DOUBLE = torch.float64
PASS = Effort(Fitting(("tightest",), 2), 2, 3)
SAMPLES = 2000
SHARE = 0.2
"""of the samples, in which the row that is supposed to fail does"""


def every_neuron(bounds: LinearBounds) -> dict[int, Tensor]:
    return {n: torch.arange(bounds.graph.nodes[n].size).expand(len(bounds.region), -1) for n in bounds.graph.bounded}


def every_polygon(bounds: LinearBounds) -> dict[int, Tensor]:
    return {n: torch.ones((len(bounds.region), bounds.graph.nodes[n].size), dtype=torch.bool) for n in bounds.polygons}


def swept(bounds: LinearBounds, times: int = 2) -> LinearBounds:
    for _ in range(times):
        bounds = rebound(bounds, every_neuron(bounds), every_polygon(bounds), PASS, UNLIMITED)
    return bounds


def some_row(graph: Graph, count: int) -> Property:
    """One row with an offset over the outputs of each of so many regions."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn((count, 1, graph.output_size), generator=generator, dtype=DOUBLE)
    return Property(rows, torch.randn((count, 1), generator=generator, dtype=DOUBLE), 1)


def failing(bounds: LinearBounds) -> tuple[LinearBounds, list[Tensor], Tensor]:
    """Parts where a row is below what a fifth of samples reach; those samples by their nodes' values, and whose they are."""
    graph, count = bounds.graph, len(bounds.region)
    wanted = some_row(graph, count)
    points = bounds.region.sample(SAMPLES, torch.Generator().manual_seed(1))
    values = graph.evaluate(points.flatten(0, 1))
    rows = wanted.margins(values[graph.output].view(count, SAMPLES, -1))[..., 0]
    limit = rows.quantile(SHARE, dim=1)
    chosen = (rows <= limit[:, None]).flatten()
    of = torch.arange(count).repeat_interleave(SAMPLES)[chosen]
    parts = under(bounds, torch.zeros(count, dtype=torch.long), limit, rows.amin(1), wanted)
    return parts, [value[chosen] for value in values], of


@pytest.mark.covering
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("perturbation", ["linf", "l2 clipped", "l1"])
def test_every_point_at_which_the_row_fails_is_held(name: str, perturbation: str) -> None:
    before, values, of = failing(root(name, perturbation))
    after = swept(before)
    assert faults(before.graph, after, values, of) == 0
    assert not bool(after.nothing.any())


def cutoff_tightened(before: LinearBounds, after: LinearBounds) -> float:
    """The narrowest that any node's intervals have become in the mean, as a share."""
    graph = before.graph
    return min(float(after.intervals[n].width.sum() / before.intervals[n].width.sum()) for n in graph.bounded)


@pytest.mark.parametrize("name", ["lstm 2 layers", "gru 2 layers", "rnn tanh"])
def test_what_is_supposed_narrows_bounds(name: str) -> None:
    before, _, _ = failing(root(name))
    plain = swept(replace(before, constraints=PART))
    assert cutoff_tightened(plain, swept(before)) < 0.97


def test_halves_of_parts_hold_their_points() -> None:
    before, values, of = failing(root("lstm 2 layers"))
    parts = swept(before, 1)
    node, neurons, at = some_splits(parts, 4)
    matter = {number: places[:, :4] for number, places in every_neuron(parts).items()}
    cuts = [(node, neuron, value) for neuron, value in zip(neurons.tolist(), at.tolist(), strict=True)]
    found = halves(parts, cuts, matter, CHILD, UNLIMITED)
    above = values[node].gather(1, neurons[of][:, None])[:, 0] > at[of]
    assert faults(before.graph, found, values, 2 * of + above.long()) == 0
    assert found.output_constraint is not None
    assert found.output_constraint.limit.tolist() == parts.output_constraint.limit.repeat_interleave(2).tolist()


def test_any_shares_are_sound_and_negative_ones_are_not() -> None:
    before, values, of = failing(root("lstm 2 layers"))
    graph = before.graph
    rows = {graph.output: torch.eye(graph.output_size, dtype=DOUBLE)[None].expand(2, -1, -1)}
    generator = torch.Generator().manual_seed(0)
    above = []
    for sign in (1.0, -1.0):
        shares = sign * torch.rand((2, graph.output_size), generator=generator, dtype=DOUBLE)
        multipliers = multipliers_of(before, rows, before.output_constraint, output_multipliers=shares)
        lower = mixed_bounds(before, multipliers, 0)
        above.append(int((lower[of] > values[graph.output]).sum()))
    assert above[0] == 0
    assert above[1] > 0


def cheaper(price: Callable[[OutputConstraint, Graph], Tensor]) -> Callable[[OutputConstraint, Graph], Tensor]:
    return lambda self, graph: price(self, graph) - self.reach


def without_offset(price: Callable[[OutputConstraint, Graph], Tensor]) -> Callable[[OutputConstraint, Graph], Tensor]:
    return lambda self, graph: price(replace(self, offset=torch.zeros_like(self.offset)), graph) - 2 * self.offset.abs()


def sign_flipped(price: Callable[[OutputConstraint, Graph], Tensor]) -> Callable[[OutputConstraint, Graph], Tensor]:
    return lambda self, graph: -price(self, graph) - self.reach


@pytest.mark.parametrize("damage", [cheaper, without_offset, sign_flipped])
def test_a_wrong_price_is_noticed(
    damage: Callable[..., Callable[[OutputConstraint, Graph], Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutputConstraint, "price", damage(OutputConstraint.price))
    before, values, of = failing(root("lstm 2 layers"))
    assert faults(before.graph, swept(before), values, of) > 0


def test_a_row_of_another_input_is_noticed() -> None:
    before, values, of = failing(root("lstm 2 layers"))
    assert before.output_constraint is not None
    other = replace(
        before.output_constraint, row=before.output_constraint.row.flip(0), offset=before.output_constraint.offset.flip(0)
    )
    assert faults(before.graph, swept(replace(before, constraints=replace(before.constraints, output=other))), values, of) > 0


def test_bounds_of_a_row_under_its_own_supposition_are_those_of_the_part() -> None:
    before, values, of = failing(root("rnn tanh"))
    after = swept(before)
    assert after.output_constraint is not None
    lower, _ = after.at_primal_point({after.graph.output: after.output_constraint.row[:, None]}, 5)
    reached = (values[after.graph.output] * after.output_constraint.row[of]).sum(1)
    assert (lower[of, 0] <= reached).all()


def open_trees(splits: int, top: int = 1) -> tuple[list[search.Tree], Property, Tensor]:
    model = tv.load(classifier(), shape=(FRAMES, FEATURES))
    x = torch.rand((2, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    region = LinfBall(0.3).around(x)
    wanted = classify_as(model.graph.forward(region.centre).argmax(1), 5, top)
    roots = linear_bounds(model.graph, region, relaxation=Fitting(("tightest", "corners"), 2).relaxation, mixtures=1)
    branching = Branching(wanted, CHILD, Budget(memory=2**22), 1000)
    trees = branching.start(roots, torch.full((2, 4), -torch.inf, dtype=DOUBLE))
    for _ in branching.go(trees, splits):
        pass
    outputs = model.graph.forward(region.sample(3000, torch.Generator().manual_seed(0)))
    return trees, wanted, wanted.margins(outputs).amin(1)


def test_the_first_split_is_by_open_rows_and_margins_are_sound() -> None:
    trees, _, sampled = open_trees(2)
    assert any(tree.splits > 1 for tree in trees)
    for tree, reached in zip(trees, sampled, strict=True):
        whole = tree.branches[0]
        first = [branch for branch in tree.branches if branch.parent == 0 and branch.number]
        assert {b.split.neuron for b in first if b.split} == {k for k, m in enumerate(whole.margins) if m <= 0}
        assert all(b.split is not None and b.split.node == PROPERTY and b.split.value > 0 for b in first)
        assert (tree.margins <= reached).all()
        proved = torch.tensor(whole.margins, dtype=DOUBLE) > 0
        assert torch.equal(tree.margins[proved], torch.tensor(whole.margins, dtype=DOUBLE)[proved])


def test_nothing_is_supposed_where_not_all_rows_are_needed() -> None:
    trees, _, _ = open_trees(2, top=2)
    nodes = {branch.split.node for tree in trees for branch in tree.branches if branch.split is not None}
    assert PROPERTY not in nodes


def test_margins_of_rows_proved_by_contradiction_are_their_limits() -> None:
    torch.manual_seed(2)
    network = classifier(nn.RNN)
    x = torch.rand((4, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = tv.certify(network, x, None, LinfBall(0.36), method="complete", rounds=1, splits=3)
    proved = [result for result in found if result.verdict is Verdict.ROBUST and result.stage == "branch"]
    assert proved
    for result in proved:
        limits = [branch.split.value for branch in result.tree if branch.split is not None and branch.split.node == PROPERTY]
        assert 0 < result.margin <= min(limits)
        assert bool(torch.isfinite(result.margins).all())


def test_batches_of_parts_are_put_together() -> None:
    before, _, _ = failing(root("lstm 2 layers"))
    assert before.output_constraint is not None
    halves_of_it = [before.output_constraint.map(lambda value, k=k: value[k : k + 1]) for k in range(2)]  # type: ignore[misc]
    again_whole = together(halves_of_it)
    assert again_whole is not None
    assert torch.equal(again_whole.row, before.output_constraint.row)
    assert together([]) is None


def test_limits_are_shares_of_what_is_wanting() -> None:
    bounds = root("rnn tanh")
    wanted = some_row(bounds.graph, 2)
    margins = torch.tensor([[-2.0], [-1e-3]], dtype=DOUBLE)
    parts = output_constrained(bounds, torch.tensor([1, 0]), torch.tensor([0, 0]), wanted, margins)
    assert parts.output_constraint is not None
    assert parts.output_constraint.limit.tolist() == pytest.approx([1e-5, 2e-2])
    assert torch.equal(parts.output_constraint.row, wanted.rows[[1, 0], 0])


def test_a_region_of_one_point_at_which_the_row_holds_is_left_empty() -> None:
    """A region without extent: what is supposed is false, and found to be."""
    graph = NETWORKS["lstm 2 layers"](1.0, 3)
    region = REGIONS["linf"].around(centres(1))
    point = replace(region, box=Interval(region.centre, region.centre))
    bounds = linear_bounds(graph, point, relaxation=Fitting(("tightest",), 2).relaxation, mixtures=1)
    wanted = some_row(graph, 1)
    value = wanted.margins(graph.forward(point.centre)[:, None])[:, 0, 0]
    parts = under(bounds, torch.zeros(1, dtype=torch.long), value - 1.0, value - 2.0, wanted)
    after = swept(parts, 1)
    lower, _ = after.at_primal_point({graph.output: wanted.rows}, 2)
    assert bool(after.nothing.all()) or float(lower + wanted.offsets) > float(value) - 1.0
