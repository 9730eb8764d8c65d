"""Neurons taken two and two: rows are split and put together again, bounds hold and gain, nothing mixes, evidence has none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tightverify as tv
from tests.bounds.test_bounds import NETWORKS, REGIONS, centres, probes, sign_rows, violations
from tests.helpers import exact
from tightverify.bounds.bounding_pass import BoundingPass
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.pairs import Pairs, matched
from tightverify.bounds.result import LinearBounds
from tightverify.branch.leaf import together
from tightverify.branch.passes import CONSTRAINED, PAIRED, proved_above
from tightverify.budget import UNLIMITED
from tightverify.graph import Graph
from tightverify.region import LinfBall, Region
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons
from tightverify.spec import classify_as
from tightverify.values import Interval

KINDS = "tightest", "edges", "corners"
ALONE, PAIRS = (Effort(Fitting(KINDS, 4, pairs=pairs), 3, 8) for pairs in (False, True))
NETS = ["rnn tanh", "rnn relu, max", "mixed"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bounded(graph: Graph, region: Region, effort: Effort = PAIRS) -> LinearBounds:
    return combined_bounds(graph, region, effort, linear_bounds(graph, region).intervals)


def pairs_of(members: Tensor) -> Pairs:
    nothing = torch.zeros(members.shape, dtype=torch.float64)
    plane = Plane((nothing, nothing), nothing)
    box = Interval(nothing, nothing)
    return Pairs(members, (Planes(plane, plane),), (box, box), Polygons(nothing.new_zeros((members.numel() // 2, 4, 2))))


def test_rows_are_split_and_put_together_again() -> None:
    members = torch.tensor([[0, 5, 3, 1], [4, 1, 2, 0]])  # (0, 3) and (5, 1), (4, 2) and (1, 0)
    row, y = random(2, 6, 6), random(2, 1, 6, seed=1)
    row[0, 0, :] = 0.0
    row[1, 1, 4] = row[1, 1, 2]
    split = pairs_of(members).split(row)
    one, other = split.operands(y)
    sums, differences = one[..., :2] + other[..., :2], one[..., 2:] - other[..., 2:]
    again = (split.rest * y).sum(-1) + (split.shared * torch.cat([sums, differences], dim=-1)).sum(-1)
    assert torch.allclose(again, (row * y).sum(-1), atol=1e-14)
    assert (split.rest.abs().gather(2, split.places).unflatten(2, (2, -1)) == 0).any(2).all(), "of each pair one keeps nothing"
    assert torch.equal(split.onto_operands(split.shared, 0 * split.shared).gather(2, split.places)[..., 2:], 0 * row[..., :2])
    alone, together = random(2, 6, 6, seed=2), random(2, 6, 4, seed=3)
    values = split.values(alone, together)
    mixed = (split.rest * alone).sum(-1) + (split.shared * together).sum(-1)
    assert torch.allclose((row * values).sum(-1), mixed, atol=1e-13)


def test_each_neuron_is_in_one_pair_and_the_best_come_first() -> None:
    scores = random(3, 7, 7).abs()
    scores = scores + scores.mT
    members = matched(scores, 64)
    assert members.shape == (3, 6)
    assert all(len(set(one)) == 6 for one in members.tolist())
    first, second = members.chunk(2, dim=1)
    worth = scores[torch.arange(3)[:, None], first, second]
    assert (worth[:, :-1] >= worth[:, 1:]).all()
    assert torch.equal(worth[:, 0], torch.where(torch.eye(7, dtype=torch.bool), 0.0, scores).flatten(1).amax(1))
    assert matched(scores, 2).shape == (3, 4)


@pytest.mark.covering
@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("network", NETS)
def test_bounds_hold_everything_that_is_found(network: str, scale: float) -> None:
    graph = NETWORKS[network](scale, 5)
    region = REGIONS["linf" if scale == 1.0 else "l2"].around(centres(2))
    assert bounded(graph, region).pairs
    assert not violations(graph, region, probes(graph, region, 200), bounded)


class Twice(torch.nn.Module):
    """tanh of neurons that are read several times each, of a layer or of an operation."""

    def __init__(self, curve: bool) -> None:
        super().__init__()
        self.curve, self.first, self.last = curve, torch.nn.Linear(4, 3), torch.nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = 3 * self.first(x)
        return self.last(torch.tanh((torch.relu(h) if self.curve else h)[:, [0, 0, 2, 1, 1, 0]]))


@pytest.mark.parametrize("curve", [False, True])
def test_neurons_that_read_the_same_operand_and_operations_of_operations(curve: bool) -> None:
    torch.manual_seed(2)
    graph = tv.load(Twice(curve).double(), (4,)).graph
    region = LinfBall(0.3).around(random(2, 4))
    assert bounded(graph, region).pairs
    assert not violations(graph, region, probes(graph, region, 100), bounded)


def test_broken_planes_of_pairs_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = NETWORKS["rnn tanh"](1.0, 5)
    region = REGIONS["linf"].around(centres(2))
    points = probes(graph, region, 200)

    def turned(self: Pairs, row: Tensor, original=Pairs.split):
        split = original(self, row)
        split.shared.neg_()
        return split

    with monkeypatch.context() as patch:
        patch.setattr(Pairs, "split", turned)
        assert violations(graph, region, points, bounded)


@pytest.mark.parametrize("network", ["rnn tanh", "rnn relu, max"])
def test_pairs_gain(network: str) -> None:
    graph = NETWORKS[network](1.0, 3)
    region = LinfBall(0.3).around(centres(3))
    rows = {graph.output: sign_rows(graph, "cpu")}
    alone, pairs = (bounded(graph, region, effort).lower(rows, 8) for effort in (ALONE, PAIRS))
    assert float((pairs - alone).mean()) > 0.001
    assert float((pairs - alone).amin()) > -0.05


def test_inputs_of_a_batch_do_not_mix() -> None:
    graph = NETWORKS["rnn tanh"](1.0, 13)
    region = REGIONS["linf"].around(centres(3, 2))
    rows = {graph.output: sign_rows(graph, "cpu")}
    whole = bounded(graph, region)
    expected = whole.lower(rows, 10)
    for k in range(3):
        assert torch.allclose(whole[k : k + 1].lower(rows, 10), expected[k], rtol=1e-9, atol=1e-9)
        assert torch.allclose(bounded(graph, region[k : k + 1]).lower(rows, 10), expected[k], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("network", NETS)
def test_bounds_hold_in_exact_arithmetic(network: str) -> None:
    graph = NETWORKS[network](1.0, 19)
    region = LinfBall(1e-13).around(centres(1, 3))
    bounds = bounded(graph, region)
    rows = sign_rows(graph, "cpu")
    lower = bounds.lower({graph.output: rows}, 30)[0]
    for corner in (region.box.lower[0], region.box.upper[0]):
        truth = exact.values(graph, corner)
        assert not exact.outside(truth, bounds.intervals)
        for row, bound in zip(rows[0].tolist(), lower.tolist(), strict=True):
            assert not exact.is_below(exact.linear(row, truth[graph.output]), bound)


def test_proofs_by_contradiction_take_them_and_hold() -> None:
    graph = NETWORKS["rnn tanh"](1.0, 3)
    region = LinfBall(0.3).around(centres(3))
    spec = classify_as(graph.forward(region.centre).argmax(1), graph.output_size)
    bounds = bounded(graph, region)
    margins = bounds.lower({graph.output: spec.rows}, 8) + spec.offsets
    proved = proved_above(bounds, spec, margins, torch.full((3,), 10.0, dtype=torch.float64), UNLIMITED)
    points = probes(graph, region, 300)
    found = spec.margins(graph.forward(points)).amin(1)
    assert (proved >= margins).all()
    assert (proved <= found + 1e-9).all()
    assert PAIRED.fitting.pairs
    assert not CONSTRAINED.fitting.pairs


@pytest.mark.parametrize("lacking", [0, 1])
def test_parts_with_fewer_pairs_are_put_together(lacking: int) -> None:
    graph = NETWORKS["rnn tanh"](1.0, 3)
    bounds = bounded(graph, REGIONS["linf"].around(centres(2)))
    leaves = [bounds[k : k + 1] for k in range(2)]
    _, *others = bounds.pairs
    leaves[lacking] = replace(leaves[lacking], pairs={number: leaves[lacking].pairs[number] for number in others})
    both = together(leaves)
    assert list(both.pairs) == others
    assert torch.isfinite(both.lower({graph.output: sign_rows(graph, "cpu")}, 3)).all()


def test_evidence_has_no_place_for_them() -> None:
    graph = NETWORKS["rnn tanh"](1.0, 3)
    region = REGIONS["linf"].around(centres(1))

    class Listening:
        listens = True

        def __getattr__(self, _name: str):
            return lambda *_args, **_kwargs: self

    listening = BoundingPass(graph, region, 3, Listening())  # type: ignore[arg-type]
    assert not listening.run(UNLIMITED, PAIRS.fitting.relaxation).pairs


def test_the_second_round_of_combine_gains_by_pairs() -> None:
    torch.manual_seed(3)
    rnn = torch.nn.RNN(4, 8, batch_first=True)

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = rnn, torch.nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    module = Last()
    x = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0))
    labels = module(x).argmax(1)
    model = tv.load(module, (5, 4))
    options = {"method": "combine", "thorough": True}
    one, two = (tv.certify(model, x, labels, tv.LinfBall(0.2), rounds=rounds, **options) for rounds in (1, 2))  # type: ignore[arg-type]
    for first, second in zip(one, two, strict=True):
        assert second.margin > first.margin + 0.001
