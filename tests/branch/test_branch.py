"""Branch and bound: halves hold what they should, the search is sound and decides more, what is damaged is noticed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.api.test_api import FEATURES, FRAMES, Classifier, classifier
from tests.bounds.test_bounds import NETWORKS, REGIONS, centres
from tightverify.api.certify import stream
from tightverify.bounds import rebound as bounding_passes
from tightverify.bounds.constraints import PART
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.branch.leaf import Leaf, halves, together
from tightverify.branch.saved import Saved
from tightverify.branch.search import Branching, Tree
from tightverify.budget import UNLIMITED, Budget
from tightverify.errors import OutOfTimeError, SoundnessFault, UsageError
from tightverify.evidence import PROPERTY
from tightverify.graph import Apply, Graph
from tightverify.region import LinfBall, Region
from tightverify.settings import Settings
from tightverify.spec import Property, classify_as
from tightverify.stages.problem import BoundsSoFar
from tightverify.values import Interval
from tightverify.verify import Verdict

DOUBLE = torch.float64


ROOT = Effort(Fitting(("tightest", "corners"), 2), 1, 3)


CHILD = Effort(Fitting(("tightest", "corners"), 0), 1, 3)


NETS = ["lstm 2 layers", "gru 2 layers", "rnn tanh", "rnn relu", "mixed"]


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


def faults(graph: Graph, bounds: LinearBounds, values: list[Tensor], of: Tensor) -> int:
    """How often points, by their nodes' values and which region each is of, lie outside anything that was bounded there."""
    count = 0
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


def halved(bounds: LinearBounds, node: int, neurons: Tensor, at: Tensor) -> LinearBounds:
    """Both halves, all neurons of later nodes bounded anew."""
    every = {
        number: torch.arange(bounds.graph.nodes[number].size).expand(len(bounds.region), -1) for number in bounds.graph.bounded
    }
    cuts = [(node, neuron, value) for neuron, value in zip(neurons.tolist(), at.tolist(), strict=True)]
    return halves(bounds, cuts, every, CHILD, UNLIMITED)


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
        bounds = halved(bounds, node, neurons, at)
        found += faults(graph, bounds, values, of)
    return found


@pytest.mark.parametrize("name", NETS)
def test_every_point_is_held_by_its_half(name: str) -> None:
    for perturbation in ("linf", "l2 clipped"):
        assert followed(name, perturbation, 3) == 0, perturbation


def test_halves_are_never_looser_and_gain() -> None:
    bounds = root("lstm 2 layers")
    rows = {bounds.graph.output: torch.eye(bounds.graph.output_size, dtype=DOUBLE)[None]}
    before = bounds.lower(rows, 20)
    node, neurons, at = some_splits(bounds, 2)
    found = halved(bounds, node, neurons, at)
    for number, interval in enumerate(bounds.intervals):
        assert (found.intervals[number].lower >= interval.lower.repeat_interleave(2, 0)).all()
        assert (found.intervals[number].upper <= interval.upper.repeat_interleave(2, 0)).all()
    assert float((found.lower(rows, 20) - before.repeat_interleave(2, 0)).mean()) > 0


def test_batches_are_put_together_as_they_were_taken_apart() -> None:
    bounds = root("gru 2 layers", count=3)
    node, neurons, at = some_splits(bounds, 1)
    cut = halved(bounds, node, neurons, at)
    rebound = together([bounds[1:2], cut[2:3], cut[5:6]])
    rows = {bounds.graph.output: torch.eye(bounds.graph.output_size, dtype=DOUBLE)[None]}
    expected = torch.cat([replace(bounds, constraints=PART).lower(rows)[1:2], cut.lower(rows)[[2, 5]]])
    assert torch.allclose(rebound.lower(rows), expected, atol=1e-6)


def searched(most_leaves: int, splits: int, count: int = 3) -> tuple[list[tuple[int, ...]], Tensor]:
    model = tv.load(classifier(), shape=(FRAMES, FEATURES))
    x = torch.rand((3, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)[:count]
    region = LinfBall(0.25).around(x)
    wanted = classify_as(model.graph.forward(region.centre).argmax(1), 5)
    roots = combined_bounds(model.graph, region, ROOT, linear_bounds(model.graph, region).intervals)
    branching = Branching(wanted, CHILD, Budget(memory=2**22), most_leaves)
    trees = branching.start(roots, torch.full((count, 4), -math.inf, dtype=DOUBLE))
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
        output_constraint = sum(branch.split is not None and branch.split.node == PROPERTY for branch in tree.branches)
        assert len(tree.branches) == 1 + output_constraint + 2 * (tree.splits - bool(output_constraint))
    return sizes, history[-1]


def test_search_is_sound_and_only_gets_better() -> None:
    searched(10_000, 3, count=2)


@pytest.mark.slow
def test_little_memory_goes_deep_first() -> None:
    wide, _ = searched(10_000, 5, count=1)
    narrow, _ = searched(2, 5, count=1)
    assert max(map(sum, narrow)) <= max(map(sum, wide))


Hard = tuple[Classifier, Tensor, Tensor, float]


@pytest.fixture(scope="module")
def hard() -> Hard:
    """A network and inputs at a radius at which `combine` leaves some open."""
    network = classifier(nn.RNN)
    x = torch.rand((8, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)[[0, 2, 3, 7]]
    return network, x, network(x).argmax(1), 0.37


def test_every_input_of_a_batch_has_its_share_of_the_time(hard: Hard) -> None:
    """Little memory makes each input a part of its own: a hard one leaves the later ones their time."""
    network, x, _, _ = hard
    x = x[:3, :2]  # two frames, whose splits take next to nothing on the slowest machine
    settings = Settings(
        "complete", time_limit=2.0, splits=10**6, memory=1, restarts=0, rounds=1, directions=2, without_pairs=True
    )
    network_at = tv.load(network, (2, FEATURES))
    results = list(stream(network_at, x, network(x).argmax(1), LinfBall(0.4), settings))
    assert all(result.verdict is Verdict.TIMED_OUT for result in results)
    assert all(len(result.tree) > 1 for result in results)


@pytest.mark.usefixtures("rounds_alone")
def test_complete_decides_more_than_combine(hard: Hard) -> None:
    network, x, labels, eps = hard
    x, labels = x[1:3], labels[1:3]
    combine = tv.certify(network, x, labels, LinfBall(eps), method="combine", rounds=1)
    complete = tv.certify(network, x, labels, LinfBall(eps), method="complete", rounds=1, splits=120)
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
    network = classifier(nn.RNN)
    x = torch.rand((3, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
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
    trees = Branching(classify_as(torch.tensor([0, 1]), bounds.graph.output_size), CHILD, Budget(memory=2**22), 1000).start(
        bounds, torch.full((2, bounds.graph.output_size - 1), -math.inf, dtype=DOUBLE)
    )
    branching = Branching(classify_as(torch.tensor([0, 1]), bounds.graph.output_size), CHILD, Budget(memory=2**22), 1000)
    for _ in branching.go(trees, 5):
        pass
    splits = [branch.split for tree in trees for branch in tree.branches if branch.split is not None]
    assert splits
    assert {split.value for split in splits if split.node in bounds.graph.bounded} == {0.0}


def test_top_two_and_no_splits(hard: Hard) -> None:
    network, x, labels, eps = hard
    found = tv.certify(network, x[:3], labels[:3], LinfBall(eps), method="complete", rounds=1, splits=6, top=2)
    best = tv.certify(network, x[:3], labels[:3], LinfBall(eps), method="combine", rounds=1, top=2)
    assert all(after.margin >= before.margin for before, after in zip(best, found, strict=True))
    none = tv.certify(network, x[:3], labels[:3], LinfBall(eps), method="complete", rounds=1, splits=0)
    assert not any(result.tree for result in none)
    with pytest.raises(UsageError, match="splits is -1"):
        Settings(splits=-1)


def test_each_part_may_be_decided_by_rows_of_its_own() -> None:
    """Of two rows one is needed: each holds on a part, neither on the whole."""
    tree = Tree(torch.full((2,), math.inf, dtype=DOUBLE))
    bounds = root("rnn tanh", count=1)
    for margins, worst in (([0.3, -1.0], 0.3), ([-1.0, 0.2], 0.2)):
        tree.enter(Leaf(0, 1, (), bounds, torch.tensor(margins, dtype=DOUBLE), worst, (), {}, {}), "proved")
    wanted = Property(torch.eye(2, dtype=DOUBLE)[None], torch.zeros((1, 2), dtype=DOUBLE), 1)
    known = BoundsSoFar(tree.margins[None], torch.zeros(1, dtype=torch.bool), torch.zeros((1, 1), dtype=DOUBLE))
    assert not known.proved(wanted).any()
    found = known.with_least(torch.tensor([0]), torch.tensor([tree.least], dtype=DOUBLE))
    assert found.proved(wanted).all()
    assert found[torch.tensor([0])].to("cpu").worst(wanted).tolist() == [0.2]
    tree.enter(Leaf(0, 2, (), bounds, torch.tensor([-2.0, -0.1], dtype=DOUBLE), -0.1, (), {}, {}), "")
    assert tree.least == -0.1, "an open part counts"


def test_a_search_goes_on_where_it_was_left(hard: Hard, tmp_path: Path) -> None:
    network, x, labels, eps = hard
    some, kept = slice(0, 1), tmp_path / "trees"

    def run(splits: int, trees: Path | None = None, region: tv.LpBall | None = None) -> Sequence[tv.Result]:
        return tv.certify(
            network, x[some], labels[some], region or LinfBall(eps), method="complete", rounds=1, splits=splits, trees=trees
        )

    whole = run(4)
    first = run(2, kept)
    files = sorted(kept.iterdir())
    assert [file.name for file in files] == [f"{r.index}.npz" for r in first if r.tree]
    assert files
    rebound = run(4, kept)
    for before, after, once in zip(first, rebound, whole, strict=True):
        assert after.verdict is once.verdict
        assert after.margin >= before.margin
        assert after.tree[: len(before.tree)] == before.tree
        assert abs(after.margin - once.margin) < 0.1
    done = run(4, kept)
    assert [result.verdict for result in done] == [result.verdict for result in rebound]
    with pytest.raises(UsageError, match="another network, region or property"):
        run(5, kept, LinfBall(eps * 0.9999))
    files[0].write_text("no tree")
    with pytest.raises(UsageError, match="is no search tree"):
        run(5, kept)


def test_an_empty_part_that_holds_the_centre_is_a_fault(hard: Hard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that contradict one another close a part; where the centre's own neurons lie in it, that can only be a fault."""
    _, x, _, _ = hard
    network = classifier(nn.LSTM)
    labels = network(x).argmax(1)
    original = bounding_passes.enclose  # type: ignore[attr-defined]

    def elsewhere(graph: Graph, number: int, known: list[Interval], region: Region) -> Interval:
        return original(graph, number, known, region).map(lambda ends: ends + 100.0)

    monkeypatch.setattr(bounding_passes, "enclose", elsewhere)
    with pytest.raises(SoundnessFault, match="holds its centre came out empty"):
        tv.certify(network, x[:1], labels[:1], LinfBall(0.6), method="complete", rounds=1, splits=8, top=2)


def test_time_that_runs_out_while_a_tree_is_read_back_proves_nothing(
    hard: Hard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, x, labels, _ = hard

    def run() -> tv.Result:
        ball = LinfBall(0.4)
        return tv.certify(network, x[:1], labels[:1], ball, method="complete", rounds=1, splits=6, trees=tmp_path, restarts=0)[
            0
        ]

    def late(*_: object) -> LinearBounds:
        raise OutOfTimeError("too late")

    before, kept = run(), (tmp_path / "0.npz").read_bytes()
    monkeypatch.setattr(Saved, "bounds", late)
    after = run()
    assert before.verdict is not Verdict.ROBUST
    assert after.verdict is Verdict.TIMED_OUT
    assert after.margin <= 0
    assert (tmp_path / "0.npz").read_bytes() == kept
