"""Bounds from mixtures of planes: they hold, also in exact arithmetic, more work never loosens them, damage is caught."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tests.bounds.test_bounds import NETWORKS, REGIONS, SCALES, SOME_OFTEN, centres, probes, sign_rows, violations
from tests.helpers import exact
from tests.test_mutations import Breaker, earlier_node, install
from tightverify.bounds import mixtures
from tightverify.bounds.column_generation import generated, inside
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.plane_choice import Answer, PlaneChoice
from tightverify.bounds.result import LinearBounds
from tightverify.errors import SoundnessFault
from tightverify.graph import Apply, Graph
from tightverify.region import LinfBall, Region
from tightverify.relax.planes import Plane
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval

EFFORT = Effort(Fitting(("tightest", "edges", "corners"), 4), 2, 5)


LESS = Effort(Fitting(("tightest", "edges"), 2), 2, 5)


FITS_VARY = 2e-2
"""Fits stop at a percent or so from the best plane: other batches differ in the last bits, and may stop at other planes."""


NETS = ["lstm 2 layers", "gru reset before", "rnn tanh", "mixed"]


def combined(effort: Effort) -> Callable[[Graph, Region], LinearBounds]:
    def compute(graph: Graph, region: Region) -> LinearBounds:
        return combined_bounds(graph, region, effort, linear_bounds(graph, region).intervals)

    return compute


@pytest.mark.covering
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", NETWORKS)
def test_combined_bounds_hold_everything_that_is_found(network: str, scale: str) -> None:
    graph = NETWORKS[network](SCALES[scale], len(network))
    for name in ("l2",) if scale == "steep" else ("linf",):
        region = REGIONS[name].around(centres(2))
        assert not violations(graph, region, probes(graph, region, 200), combined(EFFORT if scale == "usual" else LESS)), name


@pytest.mark.parametrize("network", SOME_OFTEN)
def test_more_steps_never_loosen(network: str) -> None:
    graph = NETWORKS[network](1.0, 3)
    region = REGIONS["linf"].around(centres(2))
    bounds = combined(LESS)(graph, region)
    rows = {graph.output: sign_rows(graph, "cpu")}
    found = [bounds.lower(rows, steps) for steps in (0, 1, 5, 20)]
    for fewer, more in pairwise(found):
        assert (more >= fewer - 1e-12).all()
    assert torch.equal(bounds.lower(rows), bounds.lower(rows, LESS.steps))
    few = {graph.output: sign_rows(graph, "cpu")[:, :2]}
    assert torch.equal(bounds.lower(few, 10**6), bounds.lower(few, mixtures.MOST_STEPS))


def bounds_at(steps: int, gap: Callable[[int], float]) -> list[Tensor]:
    return [torch.tensor([[-gap(step)]], dtype=torch.float64) for step in range(steps + 1)]


@pytest.mark.parametrize(
    ("steps", "gap", "ends"),
    [
        (6, lambda _: -1.0, False),  # proved, but it is too early to ask
        (8, lambda _: -1.0, True),
        (8, lambda step: 1 / (step + 1), False),  # as slow as it ever is, and it goes to 0
        (16, lambda step: 1 / (step + 1), False),
        (8, lambda step: 5 + 1 / (step + 1), True),  # it goes to 5
        (8, lambda _: 0.1, True),  # it stands still
        (8, lambda _: math.inf, True),
    ],
)
def test_steps_end_where_rows_are_proved_or_out_of_reach(steps: int, gap: Callable[[int], float], ends: bool) -> None:
    nothing = torch.zeros((1, 1), dtype=torch.float64)
    assert mixtures.settled(bounds_at(steps, gap), nothing) is ends
    moving = bounds_at(steps, lambda step: 1 / (step + 1))
    both = [torch.cat(pair, 1) for pair in zip(bounds_at(steps, gap), moving, strict=True)]
    assert not mixtures.settled(both, torch.zeros((1, 2), dtype=torch.float64)), "every row counts"


@pytest.mark.parametrize("network", NETS)
def test_fewer_steps_are_taken_and_bounds_hold(network: str) -> None:
    graph = NETWORKS[network](1.0, 3)
    bounds = combined(LESS)(graph, REGIONS["linf"].around(centres(2)))
    rows = {graph.output: sign_rows(graph, "cpu")[:, :2]}
    few, many = bounds.lower(rows, mixtures.FEWEST_STEPS), bounds.lower(rows, 40)
    below, _ = bounds.at_primal_point(rows, 40, target=torch.full_like(few, -1e6))
    beyond, _ = bounds.at_primal_point(rows, 40, target=torch.full_like(few, 1e6))
    assert torch.equal(below, few)
    assert torch.equal(beyond, few)
    near, _ = bounds.at_primal_point(rows, 40, target=many)
    assert ((few <= near) & (near <= many)).all()


@pytest.mark.parametrize("network", SOME_OFTEN)
def test_every_node_is_no_looser_than_what_was_known(network: str) -> None:
    graph = NETWORKS[network](1.0, 3)
    region = REGIONS["linf"].around(centres(2))
    known = linear_bounds(graph, region).intervals
    for before, after in zip(known, combined_bounds(graph, region, LESS, known).intervals, strict=True):
        assert (after.lower >= before.lower).all()
        assert (after.upper <= before.upper).all()


@pytest.mark.covering
@pytest.mark.parametrize("name", ["linf", "l2"])
@pytest.mark.parametrize("network", NETS)
def test_inputs_of_a_batch_do_not_mix(network: str, name: str) -> None:
    """The same planes for one input of three. (A fit of planes by itself may end at another one of equal worth.)"""
    graph = NETWORKS[network](1.0, 13)
    region = REGIONS[name].around(centres(3, 2))
    rows = {graph.output: sign_rows(graph, "cpu")}
    whole = combined(LESS)(graph, region)
    expected = whole.lower(rows, 10)
    for k in range(3):
        one = slice(k, k + 1)
        alone = replace(
            whole,
            region=region[one],
            intervals=tuple(interval.map(lambda ends, one=one: ends[one]) for interval in whole.intervals),  # type: ignore[misc]
            scales=tuple(scale[one] for scale in whole.scales),
            planes={n: tuple(p.map(lambda part, one=one: part[one]) for p in pairs) for n, pairs in whole.planes.items()},  # type: ignore[misc]
        )
        assert torch.allclose(alone.lower(rows, 10), expected[one], rtol=1e-9, atol=1e-9)
        fresh = combined(LESS)(graph, region[one]).lower(rows, 10)
        assert torch.allclose(fresh, expected[one], rtol=FITS_VARY, atol=FITS_VARY)


@pytest.mark.parametrize("network", NETS)
def test_rows_do_not_mix(network: str) -> None:
    graph = NETWORKS[network](1.0, 13)
    bounds = combined(LESS)(graph, REGIONS["linf"].around(centres(2, 2)))
    rows = sign_rows(graph, "cpu")
    together = bounds.lower({graph.output: rows}, 10)
    for k in range(0, rows.shape[1], 5):
        assert torch.allclose(bounds.lower({graph.output: rows[:, k : k + 1]}, 10)[:, 0], together[:, k], rtol=1e-9, atol=1e-9)


@pytest.mark.covering
@pytest.mark.parametrize("scale", [1.0, 150.0])
@pytest.mark.parametrize("network", NETWORKS)
def test_many_steps_hold_in_exact_arithmetic(network: str, scale: float) -> None:
    """At vertices of a thin box, where there is no room for float errors."""
    graph = NETWORKS[network](scale, 19)
    region = LinfBall(1e-13).around(centres(1, 3))
    bounds = combined(LESS)(graph, region)
    rows = sign_rows(graph, "cpu")
    lower = bounds.lower({graph.output: rows}, 100)[0]
    for corner in (region.box.lower[0], region.box.upper[0], region.centre[0]):
        truth = exact.values(graph, corner)
        assert not exact.outside(truth, bounds.intervals)
        for row, bound in zip(rows[0].tolist(), lower.tolist(), strict=True):
            assert not exact.is_below(exact.linear(row, truth[graph.output]), bound)


@pytest.mark.parametrize("network", NETS)
def test_planes_of_an_earlier_node_are_caught(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of PROVER's optimised version: one layer's or frame's planes used for another's, in bounds that are mixed."""
    graph = NETWORKS[network](1.0, 31)
    region = LinfBall(0.25).around(centres(3, 5))
    points = probes(graph, region, 300)
    assert not violations(graph, region, points, combined(LESS))
    with monkeypatch.context() as patch:
        install(patch, Breaker(1, earlier_node, onwards=True))
        assert violations(graph, region, points, combined(LESS))

    def mistaken(graph: Graph, region: Region) -> LinearBounds:
        """Sound to the last: then the planes of each operation are filed under the next of as many operands and neurons."""
        bounds = combined(LESS)(graph, region)
        kinds: dict[tuple[int, int], int] = {}
        moved = dict(bounds.planes)
        for number in bounds.planes:
            node = graph.nodes[number]
            assert isinstance(node, Apply)
            before = kinds.get((node.op.arity, node.size))
            if before is not None:
                moved[number] = bounds.planes[before]
            kinds[node.op.arity, node.size] = number
        return replace(bounds, planes=moved)

    assert any(fault.startswith("row") for fault in violations(graph, region, points, mistaken))


def overweight(old: Plane, new: Plane, weight: Tensor) -> Plane:
    """Weights that add up to more than 1."""
    slopes = tuple(a + weight * b for a, b in zip(old.slopes, new.slopes, strict=True))
    return Plane(slopes, old.offset + weight * new.offset)


def underweight(old: Plane, new: Plane, weight: Tensor) -> Plane:
    """Weights that add up to less than 1: an interval times 0.9 does not hold what the interval holds."""
    return mixtures_blended(old, new, weight).map(lambda part: 0.9 * part)


mixtures_blended = mixtures.blended


def choosing(change: Callable[[Tensor], Tensor]) -> Callable[[PlaneChoice, Tensor, Sequence[Tensor]], Answer]:
    """Planes of sides that were not asked for."""
    tightest = PlaneChoice.tightest
    return lambda choice, upper, point: tightest(choice, change(upper), point)


DAMAGE: dict[str, tuple[object, str, object]] = {
    "overweight": (mixtures, "blended", overweight),
    "underweight": (mixtures, "blended", underweight),
    "lower planes alone": (PlaneChoice, "tightest", choosing(torch.zeros_like)),
    "the other side": (PlaneChoice, "tightest", choosing(torch.bitwise_not)),
}


@pytest.mark.covering
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("network", NETS)
def test_wrong_mixtures_are_caught(network: str, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By intervals or rows: each plane is right, the mixture is not."""
    graph = NETWORKS[network](1.0, 31)
    region = LinfBall(0.02).around(centres(3, 12))
    points = probes(graph, region, 300)
    effort = Effort(LESS.fitting, 4, 4)
    assert not violations(graph, region, points, combined(effort))
    monkeypatch.setattr(*DAMAGE[damage])
    assert violations(graph, region, points, combined(effort))


def test_intervals_that_do_not_hold_are_a_fault() -> None:
    """`known` intervals that contradict what is found are never repaired."""
    graph = NETWORKS["lstm"](1.0, 3)
    region = REGIONS["linf"].around(centres(1))
    wrong = [Interval(box.lower + 100, box.upper + 100) for box in linear_bounds(graph, region).intervals]
    with pytest.raises(SoundnessFault, match="contradict"):
        combined_bounds(graph, region, LESS, wrong)


@pytest.mark.parametrize("network", ["lstm 2 layers", "rnn tanh", "mixed", "gru reset before"])
def test_planes_made_where_rows_pull_hold_and_never_loosen(network: str) -> None:
    graph = NETWORKS[network](1.0, 3)
    region = REGIONS["linf"].around(centres(2))
    bounds = combined(LESS)(graph, region)
    rows = {graph.output: sign_rows(graph, "cpu")}
    found, more = generated(bounds, rows, 5, 2, LESS.fitting)
    assert (found >= bounds.lower(rows, 5)).all()
    assert not violations(graph, region, probes(graph, region, 200), lambda _graph, _region: more)
    if network != "gru reset before":
        assert float((found - bounds.lower(rows, 5)).mean()) > 0


def test_points_are_moved_inside() -> None:
    polygons = Polygons.of_boxes(torch.tensor([[-1.0, 1.0, 0.0, 4.0]], dtype=torch.float64))
    points = torch.tensor([[[5.0, 2.0], [0.5, 3.0], [0.0, 2.0], [-1.0, 9.0]]], dtype=torch.float64)
    found = inside(polygons, points)
    assert (found[..., 0].abs() < 1).all()
    assert ((found[..., 1] > 0) & (found[..., 1] < 4)).all()
    assert torch.equal(found[0, 1:3], points[0, 1:3])
    line = inside(
        Polygons.of_intervals(torch.tensor([[1.0, 2.0]], dtype=torch.float64)), torch.tensor([[[0.0], [1.5]]]).double()
    )
    assert line[0, 0, 0] > 1
    assert line[0, 1, 0] == 1.5
