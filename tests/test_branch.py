"""Branch and bound: cuts, halves, the search, the method `complete`: sound whatever is split, and further than `combine`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from test_api import FEATURES, FRAMES, Classifier, classifier
from test_bounds import NETWORKS, REGIONS, centres
from torch import Tensor, nn

import tightverify as tv
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import LinearBounds, linear_bounds
from tightverify.branch import leaf as leaves
from tightverify.branch.leaf import halves, together
from tightverify.branch.search import Branching
from tightverify.cuts import Cuts
from tightverify.errors import SoundnessFault, UsageError
from tightverify.graph import Apply, Graph
from tightverify.region import LinfBall, Region
from tightverify.settings import Settings
from tightverify.spec import classify_as
from tightverify.verify import Verdict

DOUBLE = torch.float64
ROOT = Effort(Fitting(("tightest", "corners"), 2), 1, 3)
CHILD = Effort(Fitting(("tightest", "corners"), 0), 1, 3)
NETS = ["lstm 2 layers", "gru 2 layers", "rnn tanh", "rnn relu", "mixed"]


def cut_region(count: int, cuts: int, seed: int) -> Region:
    """Boxes around random points, cut by half-spaces that go by near their middles."""
    generator = torch.Generator().manual_seed(seed)
    region = LinfBall(0.3).around(torch.rand((count, 4, 3), generator=generator, dtype=DOUBLE))
    rows = torch.randn((count, cuts, 12), generator=generator, dtype=DOUBLE)
    depth = 0.2 * torch.randn((count, cuts), generator=generator, dtype=DOUBLE)
    return replace(region, cuts=Cuts(rows, depth - (rows * region.centre[:, None]).sum(-1) - 0.2))


def exact_minimum(region: Region, number: int, row: Tensor) -> float:
    assert region.cuts is not None
    ends = np.stack([region.box.lower[number].numpy(), region.box.upper[number].numpy()], axis=1)
    matrix, right = region.cuts.rows[number].numpy(), -region.cuts.offsets[number].numpy()
    found = linprog(row.numpy(), A_ub=matrix, b_ub=right, bounds=ends)
    return float(found.fun) if found.status == 0 else math.inf


@pytest.mark.parametrize("cuts", [1, 3, 8])
def test_cut_minimum_is_below_the_exact_one_and_near(cuts: int) -> None:
    region = cut_region(6, cuts, cuts)
    rows = torch.randn((6, 10, 12), generator=torch.Generator().manual_seed(9), dtype=DOUBLE)
    found, without = region.minimise(rows), region.uncut.minimise(rows)
    assert (found >= without - 1e-9).all()
    lost, gained = 0.0, 0.0
    for number in range(6):
        for k in range(10):
            least = exact_minimum(region, number, rows[number, k])
            assert found[number, k] <= least + 1e-9
            if math.isfinite(least):
                lost += least - float(found[number, k])
                gained += least - float(without[number, k])
    assert lost < 0.25 * gained


def test_any_multipliers_are_sound_but_negative_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    region = cut_region(4, 3, 1)
    rows = torch.randn((4, 10, 12), generator=torch.Generator().manual_seed(9), dtype=DOUBLE)

    def above(sign: float) -> int:
        def some(_self: Cuts, rows: Tensor, _box: object) -> Tensor:
            return sign * torch.rand((4, rows.shape[1], 3), generator=torch.Generator().manual_seed(2), dtype=DOUBLE)

        monkeypatch.setattr(Cuts, "multipliers", some)
        found = region.minimise(rows)
        exact = [[exact_minimum(region, n, rows[n, k]) for k in range(10)] for n in range(4)]
        return int((found > torch.tensor(exact) + 1e-9).sum())

    assert above(1.0) == 0
    assert above(-1.0) > 0


def test_cut_regions_hold_their_points_and_no_others() -> None:
    region = cut_region(5, 2, 4)
    points = region.uncut.sample(200, torch.Generator().manual_seed(3))
    assert region.cuts is not None
    for k in range(200):
        inside = region.contains(points[:, k])
        value = (region.cuts.rows * points[:, k, None]).sum(-1) + region.cuts.offsets
        assert torch.equal(inside, (value < 0).all(-1))
    both = replace(region, cuts=Cuts(torch.zeros_like(region.cuts.rows), torch.zeros_like(region.cuts.offsets)))
    assert both.contains(region.centre).all(), "cuts of zeros say nothing"


def root(name: str, perturbation: str = "linf", count: int = 2) -> LinearBounds:
    graph = NETWORKS[name](1.0, 3)
    region = REGIONS[perturbation].around(centres(count))
    return combined_bounds(graph, region, ROOT, linear_bounds(graph, region).intervals)


def some_splits(bounds: LinearBounds, seed: int) -> tuple[int, Tensor, Tensor]:
    """A node, a neuron of it for each region, and a value inside its interval."""
    generator = torch.Generator().manual_seed(seed)
    graph = bounds.graph
    node = graph.bounded[int(torch.randint(len(graph.bounded), (1,), generator=generator))]
    neurons = torch.randint(graph.nodes[node].size, (len(bounds.region),), generator=generator)
    which = torch.arange(len(neurons))
    box = bounds.intervals[node].map(lambda ends: ends[which, neurons])
    share = 0.2 + 0.6 * torch.rand(len(neurons), generator=generator, dtype=DOUBLE)
    return node, neurons, box.lower + share * box.width


def faults(graph: Graph, bounds: LinearBounds, values: list[Tensor], of: Tensor, points: Tensor) -> int:
    """How often points of regions, (P, N) and which region each is of, lie outside anything that was bounded there."""
    region = bounds.region
    assert region.cuts is not None
    count = int(((region.cuts.rows[of] * points[:, None]).sum(-1) + region.cuts.offsets[of] > 1e-9).sum())
    for number, node in enumerate(graph.nodes):
        interval = bounds.intervals[number]
        count += int((values[number] < interval.lower[of] - 1e-12).sum() + (values[number] > interval.upper[of] + 1e-12).sum())
        if isinstance(node, Apply):
            operands = [operand.read(values) for operand in node.operands]
            for pair in bounds.planes[number]:
                lower, upper = pair.lower.map(lambda part: part[of]), pair.upper.map(lambda part: part[of])
                count += int((lower.at(*operands) > values[number] + 1e-12).sum())
                count += int((upper.at(*operands) < values[number] - 1e-12).sum())
    rows = torch.eye(graph.output_size, dtype=DOUBLE)[None]
    count += int((bounds.lower({graph.output: rows})[of] > values[graph.output] + 1e-12).sum())
    return count


def followed(name: str, perturbation: str, depth: int, seed: int = 0) -> int:
    """Faults at sampled points, each sent down the halves that it lies in."""
    bounds = root(name, perturbation)
    graph = bounds.graph
    found = 0
    points = bounds.region.sample(300, torch.Generator().manual_seed(seed)).flatten(0, 1)
    of = torch.arange(len(bounds.region)).repeat_interleave(300)
    values = graph.evaluate(points)
    for level in range(depth):
        node, neurons, at = some_splits(bounds, 10 * seed + level)
        above = values[node].gather(1, neurons[of][:, None])[:, 0] > at[of]
        of = 2 * of + above.long()
        bounds = halves(bounds, node, neurons, at, CHILD, lambda: None)
        found += faults(graph, bounds, values, of, points)
    return found


@pytest.mark.parametrize("name", NETS)
def test_every_point_is_held_by_its_half(name: str) -> None:
    for perturbation in ("linf", "l2 clipped"):
        assert followed(name, perturbation, 3) == 0, perturbation


Damage = Callable[[Cuts], Cuts]


@pytest.mark.parametrize(
    "damage",
    [
        lambda cut: Cuts(-cut.rows, cut.offsets),
        lambda cut: Cuts(cut.rows, cut.offsets + 0.3),
        lambda cut: Cuts(cut.rows.flip(0), cut.offsets.flip(0)),
    ],
    ids=["sign", "offset", "halves exchanged"],
)
def test_damaged_cuts_are_noticed(damage: Damage, monkeypatch: pytest.MonkeyPatch) -> None:
    original = leaves.with_cut
    monkeypatch.setattr(leaves, "with_cut", lambda region, cut: original(region, damage(cut)))
    assert followed("lstm 2 layers", "linf", 2) > 0


def test_halves_are_never_looser_and_gain() -> None:
    bounds = root("lstm 2 layers")
    rows = {bounds.graph.output: torch.eye(bounds.graph.output_size, dtype=DOUBLE)[None]}
    before = bounds.lower(rows)
    node, neurons, at = some_splits(bounds, 2)
    found = halves(bounds, node, neurons, at, CHILD, lambda: None)
    for number, interval in enumerate(bounds.intervals):
        assert (found.intervals[number].lower >= interval.lower.repeat_interleave(2, 0)).all()
        assert (found.intervals[number].upper <= interval.upper.repeat_interleave(2, 0)).all()
    assert float((found.lower(rows) - before.repeat_interleave(2, 0)).mean()) > 0


def test_batches_are_put_together_as_they_were_taken_apart() -> None:
    bounds = root("gru 2 layers", count=3)
    node, neurons, at = some_splits(bounds, 1)
    cut = halves(bounds, node, neurons, at, CHILD, lambda: None)
    again = together([bounds[1:2], cut[2:3], cut[5:6]])
    rows = {bounds.graph.output: torch.eye(bounds.graph.output_size, dtype=DOUBLE)[None]}
    expected = torch.cat([bounds.lower(rows)[1:2], cut.lower(rows)[[2, 5]]])
    assert torch.allclose(again.lower(rows), expected, atol=1e-6)


def searched(most_leaves: int, splits: int) -> tuple[list[tuple[int, ...]], Tensor]:
    model = tv.load(classifier(), shape=(FRAMES, FEATURES))
    x = torch.rand((3, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    region = LinfBall(0.25).around(x)
    wanted = classify_as(model.graph.forward(region.centre).argmax(1), 5)
    roots = combined_bounds(model.graph, region, ROOT, linear_bounds(model.graph, region).intervals)
    branching = Branching(wanted, CHILD, lambda: None, most_leaves)
    trees = branching.start(roots, torch.full((3, 4), -math.inf, dtype=DOUBLE))
    history = [torch.stack([tree.margins for tree in trees])]
    sizes = []
    for _ in branching.go(trees, splits):
        history.append(torch.stack([tree.margins for tree in trees]))
        sizes.append(tuple(len(tree.open) for tree in trees))
    for before, after in pairwise(history):
        assert (after >= before).all(), "what is proved never falls"
    sampled = wanted.margins(model.graph.forward(region.sample(2000, torch.Generator().manual_seed(0)))).amin(1)
    assert (history[-1] <= sampled).all()
    assert (wanted.worst(history[-1]) > wanted.worst(history[0]) - 1e-12).all()
    for tree in trees:
        parents = {branch.parent for branch in tree.branches if branch.number}
        ends = [branch for branch in tree.branches if branch.number not in parents or branch.closed]
        assert len(ends) == len(tree.open) + len(tree.stuck) + sum(bool(branch.closed) for branch in tree.branches)
        assert len(tree.branches) == 2 * tree.splits + 1
    return sizes, history[-1]


def test_search_is_sound_and_only_gets_better() -> None:
    searched(10_000, 8)


def test_little_memory_goes_deep_first() -> None:
    wide, _ = searched(10_000, 12)
    narrow, _ = searched(2, 12)
    assert max(map(sum, narrow)) <= max(map(sum, wide))


Hard = tuple[Classifier, Tensor, Tensor, float]


@pytest.fixture(scope="module")
def hard() -> Hard:
    """A network and inputs at a radius at which `combine` leaves some open."""
    network = classifier(nn.LSTM)
    x = torch.rand((8, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    return network, x, network(x).argmax(1), 0.25


def test_complete_decides_more_than_combine(hard: Hard) -> None:
    network, x, labels, eps = hard
    combine = tv.certify(network, x, labels, LinfBall(eps), method="combine", rounds=1)
    complete = tv.certify(network, x, labels, LinfBall(eps), method="complete", rounds=1, splits=24)
    for before, after in zip(combine, complete, strict=True):
        if before.verdict is not Verdict.UNKNOWN:
            assert after.verdict is before.verdict
        assert after.margin >= before.margin
    opened = [result.verdict is Verdict.UNKNOWN for result in combine]
    assert any(opened), "the test wants something open"
    assert sum(result.verdict is Verdict.UNKNOWN for result in complete) < sum(opened)
    split = [result for result in complete if result.tree]
    assert split
    assert all(result.stage == "branch" for result in split)


def test_time_limit_keeps_what_is_proved(hard: Hard, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x, labels, eps = hard
    batches: list[int] = []
    original = Branching.split

    def slow(self: Branching, *arguments: object) -> object:
        batches.append(1)
        if len(batches) > 2:
            raise tv.errors.OutOfTimeError("the time limit ran out")
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Branching, "split", slow)
    found = tv.certify(network, x, labels, LinfBall(eps), method="complete", rounds=1)
    stopped = [result for result in found if result.verdict is Verdict.TIMED_OUT]
    assert stopped
    assert all(math.isfinite(result.margin) and result.tree for result in stopped)


def test_counterexamples_are_found_from_where_halves_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = classifier(nn.GRU)
    x = torch.rand((6, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    labels = network(x).argmax(1)
    blind = {"complete": tuple(s for s in tv.stages.METHODS["complete"] if s[0] != "attack")}
    monkeypatch.setattr(tv.stages, "METHODS", blind)
    found = tv.certify(network, x, labels, LinfBall(1.5), method="complete", rounds=1, splits=12)
    broken = [result for result in found if result.verdict is Verdict.COUNTEREXAMPLE]
    assert broken
    for result in broken:
        assert result.counterexample is not None
        assert int(network(result.counterexample[None]).argmax()) != result.label
        assert float((result.counterexample - x[result.index]).abs().max()) <= 1.5


def test_relu_networks_are_split_where_they_bend() -> None:
    bounds = root("rnn relu")
    trees = Branching(classify_as(torch.tensor([0, 1]), bounds.graph.output_size), CHILD, lambda: None, 1000).start(
        bounds, torch.full((2, bounds.graph.output_size - 1), -math.inf, dtype=DOUBLE)
    )
    branching = Branching(classify_as(torch.tensor([0, 1]), bounds.graph.output_size), CHILD, lambda: None, 1000)
    for _ in branching.go(trees, 5):
        pass
    splits = [branch.split for tree in trees for branch in tree.branches if branch.split is not None]
    assert splits
    assert all(split.value == 0.0 for split in splits)


def test_top_two_and_no_splits(hard: Hard) -> None:
    network, x, labels, eps = hard
    found = tv.certify(network, x[:3], labels[:3], LinfBall(eps), method="complete", rounds=1, splits=6, top=2)
    best = tv.certify(network, x[:3], labels[:3], LinfBall(eps), method="combine", rounds=1, top=2)
    assert all(after.margin >= before.margin for before, after in zip(best, found, strict=True))
    none = tv.certify(network, x[:3], labels[:3], LinfBall(eps), method="complete", rounds=1, splits=0)
    assert not any(result.tree for result in none)
    with pytest.raises(UsageError, match="splits is -1"):
        Settings(splits=-1)


def test_a_search_goes_on_where_it_was_left(hard: Hard, tmp_path: Path) -> None:
    network, x, labels, eps = hard
    some, kept = slice(0, 1), tmp_path / "trees"

    def run(splits: int, trees: Path | None = None, region: tv.LpBall | None = None) -> list[tv.Result]:
        return tv.certify(
            network, x[some], labels[some], region or LinfBall(eps), method="complete", rounds=1, splits=splits, trees=trees
        )

    whole = run(14)
    first = run(4, kept)
    files = sorted(kept.iterdir())
    assert [file.name for file in files] == [f"{r.index}.npz" for r in first if r.tree]
    assert files
    again = run(14, kept)
    for before, after, once in zip(first, again, whole, strict=True):
        assert after.verdict is once.verdict
        assert after.margin >= before.margin
        assert after.tree[: len(before.tree)] == before.tree
        assert abs(after.margin - once.margin) < 0.1
    done = run(14, kept)
    assert [result.verdict for result in done] == [result.verdict for result in again]
    with pytest.raises(UsageError, match="another network, region or property"):
        run(5, kept, LinfBall(eps * 1.01))
    files[0].write_text("no tree")
    with pytest.raises(UsageError, match="is no search tree"):
        run(5, kept)


def test_an_empty_part_that_holds_the_centre_is_a_fault(hard: Hard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts that leave nothing close a part; where the centre's own neurons lie in it, that can only be a fault."""
    network, x, labels, eps = hard
    original = leaves.with_cut

    def nothing(region: Region, cut: Cuts) -> Region:
        return original(region, Cuts(cut.rows, cut.offsets + 100.0))

    monkeypatch.setattr(leaves, "with_cut", nothing)
    with pytest.raises(SoundnessFault, match="holds its centre came out empty"):
        tv.certify(network, x[:1], labels[:1], LinfBall(eps), method="complete", rounds=1, splits=8)
