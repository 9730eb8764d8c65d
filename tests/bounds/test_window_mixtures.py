"""Mixtures, planes and polygons over windows: they hold all that the network does, on parts too, and cost by its length."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.bounds.test_bounds import NETWORKS, REGIONS, centres, probes, sign_rows, violations
from tests.bounds.test_mixtures import FITS_VARY
from tests.bounds.test_window import exactly
from tests.branch.test_branch import CHILD, faults, halved, some_splits
from tightverify.bounds import back_substitution, stops
from tightverify.bounds.back_substitution import Pending
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds, fitted_bounds
from tightverify.bounds.forms import Form, Side
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.memory import kept_numbers, parts
from tightverify.bounds.rebound import rebound
from tightverify.bounds.result import LinearBounds
from tightverify.branch.leaf import output_constrained, together
from tightverify.branch.passes import bounded_again
from tightverify.budget import UNLIMITED, Budget
from tightverify.errors import SoundnessFault, UsageError
from tightverify.graph import Graph
from tightverify.region import Box, LinfBall, Region
from tightverify.spec import classify_as

DOUBLE = torch.float64
EFFORT = Effort(Fitting(("tightest", "edges"), 2), 2, 5)
PAIRED = Effort(Fitting(("tightest",), 0, pairs=True), 2, 5)
NETS = ["rnn tanh", "gru reset before", "lstm 2 layers", "mixed"]


def windowed(graph: Graph, region: Region, frames: int | None, effort: Effort = EFFORT) -> LinearBounds:
    first = linear_bounds(graph, region, window=frames)
    return combined_bounds(graph, region, effort, first.intervals, window=frames)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old inputs fold in networks of three frames too."""
    monkeypatch.setattr(stops, "KEPT", 1)
    monkeypatch.setattr(stops, "WINDOWS", 1)


@pytest.mark.covering
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("region", "frames"), [("linf", 0), ("l2", 1)])
@pytest.mark.parametrize("network", NETWORKS)
def test_windows_hold_everything_that_is_found(network: str, region: str, frames: int) -> None:
    graph, effort = NETWORKS[network](1.0, len(network)), PAIRED if network == "rnn tanh" else EFFORT
    around = REGIONS[region].around(centres(2))
    assert not violations(
        graph, around, probes(graph, around, 200), lambda graph, region: windowed(graph, region, frames, effort)
    )


@pytest.mark.usefixtures("short")
def test_planes_in_windows_hold_everything_that_is_found() -> None:
    graph = NETWORKS["gru 2 layers"](1.0, 2)
    region = REGIONS["linf"].around(centres(2))
    assert not violations(
        graph, region, probes(graph, region), lambda graph, region: fitted_bounds(graph, region, Fitting(), window=0)
    )


@pytest.mark.parametrize("network", NETS)
def test_a_window_over_all_frames_changes_nothing(network: str) -> None:
    graph = NETWORKS[network](1.0, len(network))
    region, rows = REGIONS["linf"].around(centres(2)), {graph.output: sign_rows(graph, "cpu")}
    whole, wanted = windowed(graph, region, 9), windowed(graph, region, None)
    assert torch.allclose(whole.lower(rows), wanted.lower(rows), rtol=FITS_VARY, atol=FITS_VARY)


@pytest.mark.parametrize("network", ["lstm", "gru 2 layers"])
def test_windows_never_loosen_what_is_known_and_gain(network: str) -> None:
    graph = NETWORKS[network](0.7, 3)
    region, rows = REGIONS["linf"].around(centres(3)), {graph.output: sign_rows(graph, "cpu")}
    known = linear_bounds(graph, region, window=1)
    found = combined_bounds(graph, region, EFFORT, known.intervals, window=1)
    for was, now in zip(known.intervals, found.intervals, strict=True):
        assert bool((now.lower >= was.lower).all() & (now.upper <= was.upper).all())
    assert float((found.lower(rows) - known.lower(rows)).mean()) > 0


@pytest.mark.usefixtures("short")
def test_a_flipped_side_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = back_substitution.through_form

    def flipped(form: Form, row: Tensor, pending: Pending) -> Tensor:
        return honest(Form(form.upper, form.lower), row, pending)

    graph = NETWORKS["rnn relu"](1.0, 4)
    region = REGIONS["linf"].around(centres(2))
    points = probes(graph, region)
    monkeypatch.setattr(back_substitution, "through_form", flipped)
    with suppress(SoundnessFault):  # where it contradicts what interval arithmetic says
        assert violations(graph, region, points, lambda graph, region: windowed(graph, region, 0))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("network", ["lstm 2 layers", "rnn relu"])
def test_halves_and_what_is_put_together_hold_their_points(network: str) -> None:
    graph = NETWORKS[network](1.0, 3)
    bounds = windowed(graph, REGIONS["linf"].around(centres(2)), 0)
    points = bounds.region.sample(300, torch.Generator().manual_seed(0)).flatten(0, 1)
    values, of = graph.evaluate(points), torch.arange(2).repeat_interleave(300)
    for level in range(3):
        node, neurons, at = some_splits(bounds, level)
        of = 2 * of + (values[node].gather(1, neurons[of][:, None])[:, 0] > at[of]).long()
        bounds = halved(bounds, node, neurons, at)
        bounds = together([bounds[k : k + 1] for k in range(len(bounds.region))])
        assert faults(graph, bounds, values, of) == 0
    another = windowed(graph, bounds.region[:1], 0)
    with pytest.raises(SoundnessFault):
        together([bounds[:1], another])


@pytest.mark.parametrize("frames", [0, 1, 9])
def test_parts_on_which_a_row_fails_hold_their_points(frames: int) -> None:
    """Near the output with its constraint, further below without it."""
    graph = NETWORKS["lstm"](1.5, 3)
    region = LinfBall(0.8).around(centres(1))
    wanted = classify_as(graph.forward(region.centre).argmax(1), graph.output_size)
    bounds = windowed(graph, region, frames)
    margins = bounds.lower({graph.output: wanted.rows}) + wanted.offsets
    rows = torch.arange(margins.shape[1])
    fails = torch.nonzero(margins[0] < 0).flatten()
    part = output_constrained(bounds, torch.zeros_like(rows)[fails], rows[fails], wanted, margins)
    found, _ = bounded_again(part, UNLIMITED, (replace(CHILD, part=1.0),))
    points = region.sample(3000, torch.Generator().manual_seed(0))[0]
    values = graph.evaluate(points)
    limit = part.output_constraint.limit
    for k, row in enumerate(fails.tolist()):
        there = wanted.margins(values[graph.output][None])[0][:, row] <= limit[k]
        of = torch.full((int(there.sum()),), k)
        if bool(there.any()):
            assert faults(graph, found, [value[there] for value in values], of) == 0


@pytest.mark.usefixtures("short")
def test_rounding_is_paid_for() -> None:
    """Over points, where bounds are nearly exact: a wrong last bit would show, in rational arithmetic."""
    for seed in range(5):
        graph, x = NETWORKS["rnn relu"](1.0 + seed, seed), centres(1, seed)
        values = exactly(graph, [Fraction(value) for value in x.flatten().tolist()])
        found = windowed(graph, Box(x, x).around(x), 0)
        for interval, exact in zip(found.intervals, values, strict=True):
            for lower, value, upper in zip(interval.lower[0].tolist(), exact, interval.upper[0].tolist(), strict=True):
                assert lower <= value <= upper


def test_a_further_round_stops_as_well() -> None:
    graph = NETWORKS["gru"](0.7, 3)
    region = REGIONS["linf"].around(centres(2))
    bounds, points = windowed(graph, region, 1), probes(graph, region)
    every = {number: torch.arange(graph.nodes[number].size).expand(2, -1) for number in graph.bounded}
    assert not violations(
        graph, region, points, lambda *_given: rebound(bounds[torch.tensor([0, 1])], every, {}, EFFORT, UNLIMITED)
    )


def test_constants_stand_in_for_functions_that_are_worse_in_the_middle() -> None:
    slope, zero = torch.ones(1, 2, 1, dtype=DOUBLE), torch.zeros(1, 2, dtype=DOUBLE)
    form = Form(Side({0: slope}, zero - torch.tensor([[0.1, 3.0]])), Side({0: slope}, zero + torch.tensor([[3.0, 0.1]])))
    constants = Form(Side({}, zero - 1), Side({}, zero + 1))
    found = form.or_constants(constants, {0: torch.zeros(1, 1, dtype=DOUBLE)})
    assert found.lower.slopes[0].flatten().tolist() == [1, 0]
    assert found.upper.slopes[0].flatten().tolist() == [0, 1]
    assert torch.allclose(found.lower.offset, torch.tensor([[-0.1, -1.0]], dtype=DOUBLE))
    assert torch.allclose(found.upper.offset, torch.tensor([[1.0, 0.1]], dtype=DOUBLE))


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(3, 5, batch_first=True, bidirectional=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)[0]
        return torch.as_tensor(self.head(hidden[:, hidden.shape[1] // 2]))


def reader(frames: int) -> tv.Model:
    torch.manual_seed(0)
    return tv.load(Reader().double(), (frames, 3))


@pytest.mark.usefixtures("short")
def test_work_grows_with_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of rows that are handed on, of networks of 8 and of 16 frames read in both directions."""
    counts, honest = [], Pending.add
    for frames in (8, 16):
        seen = 0

        def add(self: Pending, operand: object, rows: Tensor, fresh: bool) -> None:
            nonlocal seen
            seen += rows.shape[1]
            honest(self, operand, rows, fresh)  # type: ignore[arg-type]

        model, x = reader(frames), torch.rand(1, frames, 3, dtype=DOUBLE)
        monkeypatch.setattr(Pending, "add", add)
        windowed(model.graph, LinfBall(0.01).around(x), 0, Effort(Fitting(("tightest",), 2), 1, 5))
        monkeypatch.setattr(Pending, "add", honest)
        counts.append(seen)
    assert counts[1] < 2.3 * counts[0]


@pytest.mark.parametrize("method", ["linear", "planes", "combine", "complete", "lp"])
def test_methods_say_what_they_prove(method: str) -> None:
    model, x = reader(5), torch.rand(3, 5, 3, dtype=DOUBLE)
    region = tv.LinfBall(0.05)
    found = tv.certify(model, x, None, region, method=method, window=1, time_limit=3, splits=3)
    values = model.original(region.around(x).sample(500, torch.Generator()).view(-1, 5, 3)).view(3, 500, 3)
    for result, value in zip(found, values, strict=True):
        others = [k for k in range(3) if k != result.label]
        assert result.margin <= float((value[:, result.label, None] - value[:, others]).amin())
    if method in ("linear", "planes", "combine"):
        held = tv.bounds(model, x, region, method, window=1)
        assert bool((held.lower[:, None] <= values).all() & (values <= held.upper[:, None]).all())


def test_inputs_are_worked_on_together_as_far_as_there_is_room_for_their_forms() -> None:
    graph = reader(6).graph
    region = LinfBall(0.1).around(torch.rand(8, 6, 3, dtype=DOUBLE))
    assert kept_numbers(graph, 0) == 2 * 6 * 3 * sum(getattr(node, "size", 0) for node in graph.nodes if hasattr(node, "op"))
    little = Budget(memory=8 * kept_numbers(graph, 0) // 4)
    assert len(list(parts(graph, region, little, window=0))) == 2 or len(list(parts(graph, region, little))) >= 2
    assert len(list(parts(graph, region, Budget(), window=0))) == 1


def test_what_evidence_cannot_say(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="evidence has no words for rows that stop at a window"):
        tv.Settings("combine", window=4, evidence=str(tmp_path))  # type: ignore[arg-type]
