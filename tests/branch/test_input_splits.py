"""Splits of the input's coordinates: parts of balls, where they are worth it, and what holds on the parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

import tightverify as tv
from tests.branch.test_branch import CHILD, ROOT, faults, halved
from tightverify.api.certify import stream
from tightverify.bounds.fitted import combined_bounds
from tightverify.bounds.interval import enclose
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.branch import leaf as leaves
from tightverify.branch import search
from tightverify.branch.input_splits import coordinate_gains
from tightverify.branch.node import split_in
from tightverify.budget import UNLIMITED
from tightverify.graph import Apply
from tightverify.region import Ball, Region
from tightverify.settings import Settings
from tightverify.spec import classify_as
from tightverify.values import Interval

DOUBLE = torch.float64
BALLS = {"linf": tv.LinfBall(0.8), "l1": tv.L1Ball(1.0), "l2": tv.L2Ball(0.9), "linf wide": tv.LinfBall(1.5)}


def network(inputs: int = 2, used: int | None = None) -> nn.Module:
    """Steep layers over few coordinates; only the first `used` ones have weights that are not 0."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(inputs, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3)).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)
        module[0].weight[:, used or inputs :] = 0  # type: ignore[operator]
    return module


def points(count: int, inputs: int = 2) -> Tensor:
    return torch.rand((count, inputs), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


def some_parts(norm: float) -> Ball:
    """Parts of balls whose boxes are cut at random, so that many leave the centre out."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=DOUBLE)

    centre, radius = draw(60, 4), draw(60) + 0.2
    lower, upper = centre - radius[:, None], centre + radius[:, None]
    at, which = lower + draw(60, 4) * (upper - lower), draw(60, 4)
    lower, upper = torch.where(which < 0.3, at, lower), torch.where(which > 0.7, at, upper)
    return Ball(centre, Interval(lower, upper), radius, norm)


def true_least(region: Ball, number: int, row: np.ndarray) -> float:
    """The least value on a part, by programs of SciPy's; infinite where it finds none."""
    centre, low, high = (v[number].numpy() for v in (region.centre, region.box.lower, region.box.upper))
    radius, n = float(region.radius[number]), len(centre)
    if region.norm == 1:
        eye = np.eye(n)
        rows = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, n)), np.ones((1, n))]])
        limits = np.concatenate([centre, -centre, [radius]])
        boxes = [*zip(low, high, strict=True), *[(0, None)] * n]
        answer = linprog(np.concatenate([row, np.zeros(n)]), rows, limits, bounds=boxes)
        return float(answer.fun) if answer.status == 0 else math.inf
    ball = {"type": "ineq", "fun": lambda x: radius**2 - ((x - centre) ** 2).sum(), "jac": lambda x: -2 * (x - centre)}
    boxes = list(zip(low, high, strict=True))
    start, options = centre.clip(low, high), {"ftol": 1e-12, "maxiter": 500}
    answer = minimize(lambda x: row @ x, start, jac=lambda _: row, bounds=boxes, constraints=[ball], options=options)
    return float(answer.fun) if answer.success else math.inf


@pytest.mark.parametrize("norm", [1.0, 2.0])
def test_the_least_value_on_a_part_of_a_ball(norm: float) -> None:
    region = some_parts(norm)
    rows = torch.randn((60, 3, 4), generator=torch.Generator().manual_seed(4), dtype=DOUBLE)
    found, compared = region.minimise(rows), 0
    nothing = torch.linalg.vector_norm(region.nearest - region.centre, ord=norm, dim=1) > region.radius
    for number, k in product(range(60), range(3)):
        if not nothing[number]:
            least = true_least(region, number, rows[number, k].numpy())
            assert found[number, k] <= least + 1e-7
            if math.isfinite(least):
                assert found[number, k] >= least - 1e-6
                compared += 1
    assert compared > 100


@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
def test_what_a_ball_lets_each_coordinate_have(norm: float) -> None:
    region = some_parts(norm)
    reach = region.reach
    inside = region.sample(400, torch.Generator().manual_seed(5))
    near = torch.linalg.vector_norm(inside - region.centre[:, None], ord=norm, dim=2) <= region.radius[:, None]
    held = ((inside >= reach.lower[:, None]) & (inside <= reach.upper[:, None])).all(2)
    assert near.any()
    assert held[near].all()
    nothing = torch.linalg.vector_norm(region.nearest - region.centre, ord=norm, dim=1) > region.radius
    meets = ((reach.lower <= region.box.upper) & (reach.upper >= region.box.lower)).all(1)
    assert torch.equal(nothing, ~meets)
    if norm < math.inf:
        assert nothing.any()
        tighter = (reach.upper < region.box.upper) | (reach.lower > region.box.lower)
        assert (tighter.any(1) & ~nothing).any()


def test_what_has_no_ball_reaches_all_of_its_box() -> None:
    clip = 100 * torch.rand((2, 30), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    for perturbation in (tv.Gain(6.0), tv.Shift(0.5), tv.LinfBall(3.0)):
        region = perturbation.around(clip)
        assert torch.equal(region.reach.lower, region.box.lower)
        assert torch.equal(region.reach.upper, region.box.upper)


def test_an_input_is_narrowed_by_its_ball() -> None:
    model = tv.load(network(), shape=(2,))
    region = tv.L2Ball(1.0).around(torch.zeros((1, 2), dtype=DOUBLE))
    part = region.within(Interval(torch.tensor([[0.8, -1.0]], dtype=DOUBLE), region.box.upper))
    found = enclose(model.graph, 0, [], part)
    assert torch.allclose(found.upper, torch.tensor([[1.0, 0.6]], dtype=DOUBLE), atol=1e-12)
    assert torch.allclose(found.lower, torch.tensor([[0.8, -0.6]], dtype=DOUBLE), atol=1e-12)


def roots(ball: str = "linf", inputs: int = 2, used: int | None = None, count: int = 2) -> LinearBounds:
    graph = tv.load(network(inputs, used), shape=(inputs,)).graph
    region = BALLS[ball].around(points(count, inputs))
    return combined_bounds(graph, region, ROOT, linear_bounds(graph, region).intervals)


def faults_below(ball: str, depth: int) -> int:
    """Faults at sampled points, each sent down the halves of coordinates that it lies in."""
    bounds = roots(ball)
    sampled = bounds.region.sample(400, torch.Generator().manual_seed(0)).flatten(0, 1)
    of = torch.arange(len(bounds.region)).repeat_interleave(400)
    values, found = bounds.graph.evaluate(sampled), 0
    for level in range(depth):
        neurons = torch.full((len(bounds.region),), level % 2)
        at = bounds.intervals[0].map(lambda ends, k=level % 2: ends[:, k]).centre  # type: ignore[misc]
        of = 2 * of + (sampled.gather(1, neurons[of][:, None])[:, 0] > at[of]).long()
        bounds = halved(bounds, 0, neurons, at)
        found += faults(bounds.graph, bounds, values, of)
    return found


@pytest.mark.parametrize("ball", BALLS)
def test_every_point_is_held_by_its_half(ball: str) -> None:
    assert faults_below(ball, 4) == 0


def test_regions_may_be_cut_at_different_nodes_in_one_call() -> None:
    bounds = roots("l2")
    sampled = bounds.region.sample(400, torch.Generator().manual_seed(0)).flatten(0, 1)
    of, values = torch.arange(2).repeat_interleave(400), bounds.graph.evaluate(sampled)
    middle = [interval.centre for interval in bounds.intervals]
    cuts = [(0, 1, float(middle[0][0, 1])), (3, 5, float(middle[3][1, 5]))]
    matter = {number: torch.arange(bounds.graph.nodes[number].size).expand(2, -1) for number in bounds.graph.bounded}
    found = leaves.halves(bounds, cuts, matter, CHILD, UNLIMITED)
    above = torch.stack([values[node][:, neuron] > at for node, neuron, at in cuts])[of, torch.arange(800)]
    assert faults(bounds.graph, found, values, 2 * of + above.long()) == 0
    widths = found.intervals[0].width[:, 1].view(2, 2) / bounds.intervals[0].width[:, 1, None]
    assert torch.allclose(widths, torch.tensor([[0.5, 0.5], [1.0, 1.0]], dtype=DOUBLE))


@pytest.mark.parametrize("damage", ["exchanged", "too narrow"])
def test_damaged_parts_are_noticed(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Ball.within

    def damaged(self: Ball, box: Interval) -> Ball:
        if damage == "too narrow":
            return original(self, Interval(box.lower + 0.1 * box.width, box.upper))
        other = torch.arange(len(self)).view(-1, 2).flip(1).flatten()
        return original(self, Interval(box.lower[other], box.upper[other]))

    monkeypatch.setattr(Ball, "within", damaged)
    assert faults_below("linf", 1) > 0


def test_halves_of_a_coordinate_are_never_looser_and_gain() -> None:
    bounds = roots()
    rows = {bounds.graph.output: torch.eye(3, dtype=DOUBLE)[None]}
    middle = bounds.intervals[0].centre[:, 0]
    found = halved(bounds, 0, torch.zeros(2, dtype=torch.long), middle)
    before, after = bounds.lower(rows, 20).repeat_interleave(2, 0), found.lower(rows, 20)
    assert (after >= before - 1e-3).all()
    assert float((after - before).mean()) > 0.1


def test_coordinates_promise_what_depends_on_them() -> None:
    """All that operations lose comes from the two coordinates that they read, and nothing from the other two."""
    bounds = roots(inputs=4, used=2)
    losses = {
        number: torch.rand((2, node.size), generator=torch.Generator().manual_seed(number), dtype=DOUBLE)
        for number, node in enumerate(bounds.graph.nodes)
        if isinstance(node, Apply)
    }
    (found,) = coordinate_gains(bounds, losses).values()
    assert found.shape == (2, 4)
    assert (found[:, 2:] == 0).all()
    assert (found[:, :2] > 0).all()
    total = torch.stack([loss.sum(1) for loss in losses.values()]).sum(0)
    assert torch.allclose(found.sum(1), total)
    assert not coordinate_gains(bounds, {})


def test_energies_hand_on_to_what_they_read() -> None:
    torch.manual_seed(0)

    class Power(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.forms, self.head = nn.Linear(6, 8), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.forms(x) ** 2
            return torch.as_tensor(self.head(torch.tanh(y[..., :4] + y[..., 4:])))

    graph = tv.load(Power().double(), shape=(6,)).graph
    region = tv.LinfBall(0.2, features=[0, 1, 2]).around(points(2, 6))
    bounds = linear_bounds(graph, region)
    last = max(number for number, node in enumerate(graph.nodes) if isinstance(node, Apply))
    (found,) = coordinate_gains(bounds, {last: torch.ones((2, graph.nodes[last].size), dtype=DOUBLE)}).values()
    assert (found[:, :3] > 0).all()
    assert (found[:, 3:] == 0).all(), "coordinates that may not change promise nothing"
    assert torch.allclose(found.sum(1), torch.full((2,), float(graph.nodes[last].size), dtype=DOUBLE))


def of_coordinates(result: tv.Result) -> int:
    return sum(branch.split is not None and branch.split.node == 0 for branch in result.tree) // 2


@pytest.mark.parametrize(
    ("ball", "top"), [("linf", 1), pytest.param("l1", 1, marks=pytest.mark.slow), ("l2", 1), ("linf wide", 2)]
)
def test_few_coordinates_are_split_rather_than_many_neurons(ball: str, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = network(), points(4)

    def run(splits: int) -> Sequence[tv.Result]:
        return tv.certify(
            module, x, None, BALLS[ball], method="complete", rounds=1, splits=splits, top=top, restarts=0, without_pairs=True
        )

    found = run(60)
    assert any(of_coordinates(result) for result in found)
    assert all(result.verdict is tv.Verdict.ROBUST for result in found)
    sampled = BALLS[ball].around(x).sample(5000, torch.Generator().manual_seed(0))
    margins = classify_as(module(x).argmax(1), 3, top).margins(module(sampled))
    for result, least in zip(found, margins.amin(1), strict=True):
        assert (result.margins <= least + 1e-12).all()
    monkeypatch.setattr(search, "coordinate_gains", lambda *_: {})
    without = run(60)
    more = [len(split_in(b.tree)) - len(split_in(a.tree)) for a, b in zip(found, without, strict=True)]
    assert sum(more) > 0, "neurons alone take more splits"


@pytest.mark.parametrize(("ball", "top"), [("linf", 1), ("l2", 1), ("linf wide", 2)])
def test_a_search_over_coordinates_goes_on_where_it_was_left(ball: str, top: int, tmp_path: Path) -> None:
    module, x = network(), points(1)

    def run(splits: int, trees: Path | None) -> tv.Result:
        return tv.certify(
            module,
            x,
            None,
            BALLS[ball],
            method="complete",
            rounds=1,
            splits=splits,
            trees=trees,
            top=top,
            restarts=0,
            without_pairs=True,
        )[0]

    whole, first = run(60, None), run(1, tmp_path)
    assert first.verdict is not tv.Verdict.ROBUST
    rebound = run(60, tmp_path)
    assert whole.verdict is rebound.verdict is tv.Verdict.ROBUST
    assert rebound.tree[: len(first.tree)] == first.tree
    assert of_coordinates(rebound)


def test_resumed_parts_are_narrowed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves that are read back are bounded over their own parts of the region."""
    seen: list[Region] = []
    original = leaves.within

    def watched(graph: object, region: Region, intervals: list[Interval]) -> Region:
        found = original(graph, region, intervals)  # type: ignore[arg-type]
        seen.append(found)
        return found

    model, x = tv.load(network(), shape=(2,)), points(1)
    ball = BALLS["linf wide"]
    for _ in range(2):
        tv.certify(
            model, x, None, ball, method="complete", rounds=1, splits=1, trees=tmp_path, top=2, restarts=0, without_pairs=True
        )
        monkeypatch.setattr("tightverify.branch.saved.within", watched)
    (whole,) = ball.around(x).box.width
    assert any((region.box.width < whole).any() for region in seen)


def test_parts_of_a_ball_that_are_empty_are_closed() -> None:
    """The corner of a box that a ball of norm 2 does not reach is no part of it, whatever the network says there."""
    bounds = roots("l2", count=1)
    for k in (0, 1):
        assert isinstance(bounds.region, Ball)
        at = bounds.region.centre[:, k] + 0.8 * bounds.region.radius
        bounds = halved(bounds, 0, torch.full((1,), k), at)[1:]
        assert bounds.nothing.tolist() == [k == 1]


@pytest.mark.parametrize(("memory", "most"), [(2**24, 50), (1, 1)])
def test_many_leaves_are_bounded_in_one_call(memory: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there is memory for, but few at first."""
    sizes: list[int] = []
    original = search.halves  # type: ignore[attr-defined]

    def watched(bounds: LinearBounds, *arguments: object) -> LinearBounds:
        sizes.append(len(bounds.region))
        return original(bounds, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search, "halves", watched)
    splits = 200 if most > 1 else 12
    settings = Settings("complete", rounds=1, splits=splits, memory=memory, restarts=0, without_pairs=True)
    model, x = tv.load(network(), shape=(2,)), points(1)
    (found,) = stream(model, x, network()(x).argmax(1), tv.LinfBall(3.0), settings)
    assert len(split_in(found.tree)) == splits
    assert max(sizes[:3]) <= 8
    assert max(sizes) >= most if most > 1 else max(sizes) == 1
