"""Regions cut into pieces: every piece counts, proofs hold on all of the region, what cannot be proved stops soon."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.sounds import Listener, recordings
from tightverify.bounds.linear import linear_bounds
from tightverify.branch.node import split_in
from tightverify.branch.zonotope_splits import Pieces, over_pieces
from tightverify.errors import OutOfTimeError
from tightverify.inputs.clips import AnyLength, certify_clips
from tightverify.region import Zonotope

DOUBLE = torch.float64


def plain_worst(margins: Tensor, _owners: Tensor) -> Tensor:
    return margins.amin(1)


def test_the_worst_piece_decides() -> None:
    """Bounds by hand: each piece's is its own least share, less its width; the second input never gets better."""
    region = tv.AddedNoise(torch.ones(4, dtype=DOUBLE), (-1.0, 1.0)).around(torch.zeros(2, 4, dtype=DOUBLE))
    seen: list[int] = []

    def bound(pieces: Pieces) -> Tensor:
        seen.append(len(pieces.owners))
        share, half = pieces.region.centre[:, 0], pieces.region.generators[:, 0, 0]
        assert torch.allclose(pieces.ends[:, :, 0], torch.stack([share - half, share + half], 1))
        first = 1.2 + (share - half) - half
        return torch.where(pieces.owners == 0, first, -3.0)[:, None]

    start = torch.full((2, 1), -2.0, dtype=DOUBLE)
    trees = over_pieces(region, start, bound, plain_worst, 6)
    found = trees.done
    # Shares -1 to 1; a piece is proved as soon as it is narrower than 0.2 at the low end.
    assert found[0, 0] == pytest.approx(1.2 - 1 - 0.125)
    assert found[1, 0] == -2.0
    assert seen[:3] == [2, 4, 2 + 4]  # both inputs; of the first one piece is not proved
    assert max(seen[3:]) == 2  # then only the first one's
    assert over_pieces(region, start, bound, plain_worst, 0).done.tolist() == [[1.2 - 1 - 1], [-2.0]]
    # The trees say the same: both halves of whatever was cut, and the least of their leaves' margins.
    for tree, margins in zip(trees.branches, found.tolist(), strict=True):
        assert [branch.number for branch in tree] == list(range(len(tree)))
        parents = [branch.parent for branch in tree[1:]]
        assert all(parents.count(number) in (0, 2) for number in range(len(tree)))
        leaves = [branch for branch in tree if branch.number not in parents]
        assert [min(branch.margins[0] for branch in leaves)] == margins
        assert all((branch.closed == "proved") is (branch.margins[0] > 0) for branch in tree)
    assert (len(trees.branches[0]), len(trees.branches[1])) == (len(split_in(trees.branches[0])) * 2 + 1, 7)


def test_a_cut_that_brings_little_may_be_followed_by_one_that_brings_all() -> None:
    region = tv.Gain(3.0).around(torch.ones(1, 4, dtype=DOUBLE))
    by_width = {1.0: -17.9, 0.5: -16.8, 0.25: -0.4, 0.125: 0.6}

    def bound(pieces: Pieces) -> Tensor:
        halves = (pieces.ends[:, 1, 0] - pieces.ends[:, 0, 0]) / 2
        return torch.tensor([[by_width[half]] for half in halves.tolist()], dtype=DOUBLE)

    assert over_pieces(region, torch.full((1, 1), -20.0, dtype=DOUBLE), bound, plain_worst, 5).done.tolist() == [[0.6]]


def test_nothing_is_proved_by_bounds_that_are_no_numbers() -> None:
    region = tv.Gain(1.0).around(torch.ones(1, 4, dtype=DOUBLE))
    start = torch.full((1, 2), -math.inf, dtype=DOUBLE)

    def bound(pieces: Pieces) -> Tensor:
        return torch.full((len(pieces.owners), 2), -math.inf, dtype=DOUBLE)

    found = over_pieces(region, start, bound, plain_worst, 5).done
    assert found.tolist() == [[-math.inf] * 2]


class Bump(nn.Module):
    """The label's lead is (1 + lift) less the product of two squashed sums of the samples: one walk is loose on it."""

    def __init__(self, lift: float) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 3, bias=False, dtype=DOUBLE), nn.Linear(6, 3, bias=False, dtype=DOUBLE)
        with torch.no_grad():
            self.one.weight.copy_(torch.linspace(-1, 1, 18, dtype=DOUBLE).view(3, 6))
            self.other.weight.copy_(-self.one.weight.flip(0))
        self.lift = lift

    def forward(self, x: Tensor) -> Tensor:
        wave = (torch.tanh(self.one(x)) * torch.sigmoid(self.other(x))).sum(1)
        return torch.stack([torch.full_like(wave, self.lift), wave], 1)


@pytest.mark.parametrize("region", [tv.Gain(6.0), tv.AddedNoise(torch.cos(torch.arange(6.0)), (-1.0, 1.0)), tv.Shift(1.0)])
def test_pieces_prove_what_one_walk_cannot(region: tv.region.Perturbation) -> None:
    x = torch.linspace(0.2, 1.4, 6, dtype=DOUBLE)[None]
    zonotope = region.around(x)
    assert isinstance(zonotope, Zonotope)
    points = zonotope.at(torch.linspace(-1, 1, 4001, dtype=DOUBLE).view(1, -1, 1))[0]
    top = float(Bump(0.0)(points)[:, 1].detach().max())
    network = tv.load(Bump(top), (6,))
    bounds = linear_bounds(network.graph, zonotope)
    gap = -float(bounds.lower({network.graph.output: torch.tensor([[[1.0, -1.0]]], dtype=DOUBLE)}))
    assert gap > 0
    lifted = Bump(top + 0.3 * gap)
    (result,) = tv.certify(lifted, x, [0], region)
    assert (result.verdict, result.stage) == (tv.Verdict.ROBUST, "pieces")
    assert result.margin <= 0.3 * gap + 1e-9
    (result,) = tv.certify(lifted, x, [0], region, method="interval")
    assert result.stage == "attack"
    (result,) = tv.certify(Bump(top - 0.01 * gap), x, [0], region, thorough=True)
    assert result.verdict is tv.Verdict.COUNTEREXAMPLE
    assert result.margin <= -0.01 * gap + 1e-9


@pytest.fixture(scope="module")
def listener() -> AnyLength:
    return AnyLength(Listener().eval().double())


LINES = {"gain": tv.Gain(20.0), "noise": tv.AddedNoise(torch.sin(torch.arange(200.0)), 3.0), "shift": tv.Shift(-1.0)}


@pytest.mark.parametrize(
    ("method", "moved"),
    [*(("linear", moved) for moved in LINES), ("planes", "gain"), ("planes", "shift"), ("combine", "noise")],
)
def test_margins_over_pieces_hold_all_along_the_line(method: str, moved: str, listener: AnyLength) -> None:
    region, clips = LINES[moved], [clip.double() for clip in recordings()[2:4]]
    results = certify_clips(listener, clips, None, region, tv.Settings(method, thorough=True, rounds=1))
    for clip, result in zip(clips, results, strict=True):
        assert result.stage == "pieces"
        line = region.around(clip[None])
        assert isinstance(line, Zonotope)
        points = line.at(torch.linspace(-1, 1, 801, dtype=DOUBLE).view(1, -1, 1))[0]
        outputs = listener.at(tuple(clip.shape)).original(points)
        assert result.label is not None
        others = [k for k in range(3) if k != result.label]
        true = (outputs[:, [result.label]] - outputs[:, others]).amin(0)
        assert bool((result.margins <= true + 1e-9).all())


@pytest.mark.parametrize("known", [-2.0, -0.5, -0.25])
def test_better_bounds_of_the_whole_do_not_stop_the_cutting(known: float) -> None:
    """Those over pieces may be below them for long, and pass them in the end."""
    region = tv.Gain(1.0).around(torch.ones(1, 4, dtype=DOUBLE))

    def bound(pieces: Pieces) -> Tensor:
        return 0.1 - (pieces.ends[:, 1] - pieces.ends[:, 0]) / 2

    found = over_pieces(region, torch.full((1, 1), known, dtype=DOUBLE), bound, plain_worst, 5).done
    assert found.item() == pytest.approx(0.1 - 1 / 16)


@pytest.mark.parametrize("method", ["planes", "combine", "lp"])
def test_what_pieces_decide_waits_for_no_planes(method: str) -> None:
    """A cut is cheap: it comes before the stages that take seconds, and again after them for what they leave open."""
    x, region = torch.linspace(0.2, 1.4, 6, dtype=DOUBLE)[None], tv.Gain(6.0)
    top = float(
        Bump(0.0)(region.around(x).at(torch.linspace(-1, 1, 4001, dtype=DOUBLE).view(1, -1, 1))[0])[:, 1].detach().max()
    )
    for lift, decided in ((0.05, True), (-0.001, False)):
        steps: list[str] = []
        settings: dict[str, Any] = {"method": method, "restarts": 0, "callback": lambda step, to=steps: to.append(step.stage)}
        (result,) = tv.certify(Bump(top + lift), x, [0], region, **settings)
        assert (result.verdict is tv.Verdict.ROBUST) is decided
        assert ("planes" in steps) is not decided
        assert steps[-1] == result.stage == "pieces"
        assert steps.count("pieces") == 1 + (not decided)


def test_pieces_that_were_bounded_in_time_count() -> None:
    region = tv.Gain(1.0).around(torch.ones(1, 4, dtype=DOUBLE))
    calls: list[int] = []

    def bound(pieces: Pieces) -> Tensor:
        calls.append(len(pieces.owners))
        if len(calls) == 3:
            raise OutOfTimeError("too late")
        return 0.1 - (pieces.ends[:, 1] - pieces.ends[:, 0]) / 2

    trees = over_pieces(region, torch.full((1, 1), -2.0, dtype=DOUBLE), bound, plain_worst, 5)
    assert (trees.late, len(trees.branches[0])) == (True, 3)
    assert trees.done.item() == pytest.approx(0.1 - 0.5)


def test_time_runs_out_among_pieces() -> None:
    x = torch.linspace(0.2, 1.4, 6, dtype=DOUBLE)[None]
    (result,) = tv.certify(Bump(1.5), x, [0], tv.Gain(20.0), time_limit=1e-9, restarts=0)
    assert result.verdict is tv.Verdict.TIMED_OUT
