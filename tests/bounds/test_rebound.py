"""Another bounding pass over what matters most: it holds and never loosens; the scores that say what matters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.bounds.test_bounds import NETWORKS, REGIONS, centres, probes, sign_rows, violations
from tests.bounds.test_mixtures import LESS, combined
from tightverify.bounds.fitted import Effort, Fitting
from tightverify.bounds.rebound import rebound
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.scores import BranchingScores, branching_scores, summed_scores, weightiest
from tightverify.budget import UNLIMITED
from tightverify.graph import Apply

MORE = Effort(Fitting(("tightest", "edges", "ring"), 6), 2, 5)


def blamed_for(bounds: LinearBounds, count: Tensor | None = None) -> BranchingScores:
    """What is to blame for the rows of both signs, or for those that count."""
    rows = {bounds.graph.output: sign_rows(bounds.graph, "cpu")}
    lower, primal_point = bounds.at_primal_point(rows, 5)
    return summed_scores(bounds, primal_point, torch.ones_like(lower, dtype=torch.bool) if count is None else count)


def passed_again(bounds: LinearBounds, part: float) -> LinearBounds:
    """Another pass over the part of the neurons that matters most, with polygons of more directions and more planes."""
    scores = blamed_for(bounds)
    anew = {
        number: torch.zeros_like(scores.losses[number], dtype=torch.bool).scatter(1, chosen, True)
        for number, chosen in weightiest(scores.losses, part).items()
    }
    return rebound(bounds, weightiest(scores.gains, part), anew, MORE, UNLIMITED)


@pytest.mark.covering
@pytest.mark.parametrize("part", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_pass_over_what_matters_holds_and_never_loosens(network: str, part: float) -> None:
    graph = NETWORKS[network](1.0, 3)
    region = REGIONS["linf"].around(centres(2))
    bounds = combined(LESS)(graph, region)
    more = passed_again(bounds, part)
    points = probes(graph, region, 200)
    assert not violations(graph, region, points, lambda _graph, _region: more)
    for before, after in zip(bounds.intervals, more.intervals, strict=True):
        assert (after.lower >= before.lower).all()
        assert (after.upper <= before.upper).all()
    if network == "lstm 2 layers":
        assert any(
            (after.width < before.width - 1e-6).any() for before, after in zip(bounds.intervals, more.intervals, strict=True)
        )


@pytest.mark.parametrize(("network", "part"), [("lstm 2 layers", 0.3), ("gru 2 layers", 1.0)])
def test_polygons_cut_anew_hold_the_operands(network: str, part: float) -> None:
    """Every polygon, cut anew or not, holds what its two operands are at sampled inputs; those cut anew are smaller."""
    graph = NETWORKS[network](1.0, 3)
    region = REGIONS["linf"].around(centres(2))
    bounds = combined(LESS)(graph, region)
    more = passed_again(bounds, part)
    smaller = 0
    for number, polygons in more.polygons.items():
        node = graph.nodes[number]
        assert isinstance(node, Apply)
        for k in range(2):
            values = graph.evaluate(region.sample(300, torch.Generator().manual_seed(k))[k])
            operands = torch.stack([operand.read(values) for operand in node.operands], dim=-1)
            corners = polygons.vertices.view(2, node.size, -1, 2)[k]
            edges = corners.roll(-1, 1) - corners
            away = operands[:, :, None] - corners
            left_of = edges[..., 0] * away[..., 1] - edges[..., 1] * away[..., 0]
            assert (left_of >= -1e-12).all(), number
        smaller += int((polygons.areas < bounds.polygons[number].areas * (1 - 1e-6)).sum())
    assert smaller > 0


def test_what_is_blamed_adds_up_over_the_rows_that_count() -> None:
    graph = NETWORKS["lstm 2 layers"](1.0, 3)
    bounds = combined(LESS)(graph, REGIONS["linf"].around(centres(2)))
    lower, primal_point = bounds.at_primal_point({graph.output: sign_rows(graph, "cpu")}, 5)
    count = torch.zeros_like(lower, dtype=torch.bool)
    count[0, [0, 2]] = True
    count[1, 2] = True
    found = summed_scores(bounds, primal_point, count)
    first, third = (branching_scores(bounds, primal_point, torch.full((2,), k)) for k in (0, 2))
    for number, losses in found.losses.items():
        assert torch.allclose(losses[0], first.losses[number][0] + third.losses[number][0])
        assert torch.allclose(losses[1], third.losses[number][1])
    assert any((gains > 0).any() for gains in found.gains.values())
    assert not summed_scores(bounds, primal_point, torch.zeros_like(count)).gains


def test_the_weightiest_neurons_are_those_of_all_nodes_together() -> None:
    shares = {3: torch.tensor([[5.0, 0.0, 4.0], [1.0, 0.0, 9.0]]), 7: torch.tensor([[3.0, 0.0, 0.0], [2.0, 0.5, 0.0]])}
    few = weightiest(shares, 0.3)
    assert few[3].tolist() == [[0, 2], [2, 0]]
    assert few[7].tolist() == [[0], [0]]
    assert list(weightiest(shares, 0.1)) == [3]
    most = weightiest(shares, 1.0)
    assert [len(most[number][0]) for number in (3, 7)] == [2, 2]
    assert weightiest({}, 0.5) == {}
    assert weightiest({3: torch.zeros(1, 4)}, 0.5) == {}
