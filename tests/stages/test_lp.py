"""The program cut to convergence, and the stage that asks it: above every mixture, below the network, told by value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import solvers
import tightverify as tv
from tests.api.test_api import FEATURES as MODEL_FEATURES
from tests.api.test_api import FRAMES, classifier
from tests.bounds.test_bounds import NETWORKS, centres, normal, probes
from tightverify.bounds.back_substitution import back_substitute
from tightverify.bounds.fitted import Effort, Fitting
from tightverify.bounds.linear import linear_bounds
from tightverify.budget import Budget
from tightverify.errors import OutOfTimeError, UsageError
from tightverify.graph import Apply, Graph
from tightverify.models.builder import Builder
from tightverify.ops import OPS, SIGMOID_TIMES, Floor, Log, NonZero, Reciprocal, SquareRoot, Step, SumOfSquares, Truncation
from tightverify.ops.difference import Difference
from tightverify.ops.gap import Gap
from tightverify.ops.gru_update import WeightedMean
from tightverify.refine import converge
from tightverify.refine.converge import Converged, Cutter, Cutting
from tightverify.refine.multipliers import mixtures
from tightverify.refine.network_lp import NetworkProgram, Places, Rows, check_program_solver, network_lp
from tightverify.refine.obbt import obbt, weightiest
from tightverify.refine.relaxed import Relaxed, relaxed
from tightverify.refine.separate import Asked, supporting
from tightverify.region import LinfBall, Region
from tightverify.relax.planes import Plane
from tightverify.relax.traits import Support

DOUBLE = torch.float64
NETS = ["rnn tanh", "rnn relu", "lstm", "gru", "gru reset before", "lstm 2 layers", "rnn relu, max", "mixed"]
FINE = Cutting(rounds=30, least_cut=1e-6, least_gain=1e-8)
COARSE = Cutting(rounds=3, least_cut=1e-4)


@cache
def prepared(network: str, directions: int = 4, eps: float = 0.2, seed: int = 43) -> tuple[Graph, Region, Relaxed]:
    graph = NETWORKS[network](1.0, seed)
    region = LinfBall(eps).around(centres(2, 15))
    effort = Effort(Fitting(("tightest", "edges", "corners"), directions), 2, 20)
    every = relaxed(graph, region, effort, linear_bounds(graph, region).intervals)
    return graph, region[1:], every[1]


def margin(graph: Graph, sign: float = 1.0) -> Tensor:
    row = torch.zeros(graph.output_size, dtype=DOUBLE)
    row[0], row[1] = sign, -sign
    return row


def converged(one: Relaxed, row: Tensor) -> list[Converged]:
    rows = {one.graph.output: row}
    return list(Cutter.over(one, rows, FINE).converge(rows))


@cache
def once(network: str, sign: float) -> list[Converged]:
    """What several tests look at."""
    graph, _, one = prepared(network)
    return converged(one, margin(graph, sign))


@pytest.mark.parametrize("network", NETS)
def test_the_converged_value_is_above_mixtures_and_below_the_network(network: str) -> None:
    graph, region, one = prepared(network)
    values = graph.evaluate(probes(graph, region))[graph.output]
    for sign in (1.0, -1.0):
        row = margin(graph, sign)
        found = once(network, sign)
        best = one.bounds.lower({graph.output: row[None, None]}, 60)
        assert found[-1].proved >= float(best) - 1e-6
        assert found[-1].proved <= float((values @ row).min()) + 1e-9
        assert found[-1].settled
        assert found[-1].violation < 1e-4
        claims = [each.value for each in found[-1].rounds]
        assert all(later >= earlier - 1e-7 for earlier, later in pairwise(claims))
        assert found[-1].proved == pytest.approx(max(claims), abs=1e-6)


def test_all_planes_at_once_are_not_above_the_converged_value() -> None:
    graph, _, one = prepared("lstm 2 layers", directions=0)
    row = margin(graph)
    every = network_lp(one.bounds, 0, {graph.output: row})
    found = converged(one, row)[-1]
    assert every.proved(solvers.solve(every.problem)) <= found.proved + 1e-6
    assert found.program.problem.shape[0] < every.problem.shape[0]


def holds(network: str, program: NetworkProgram) -> bool:
    """Whether the network's own neurons satisfy every row, at many points."""
    graph, region, _ = prepared(network)
    values = graph.evaluate(probes(graph, region)[0][:300])
    neurons = torch.cat([values[number] for number in program.columns], dim=1).numpy()
    reached = neurons @ program.problem.rows.T.toarray()
    size = 1e-11 * (1 + abs(reached).max())
    low, high = program.problem.row_lower - size, program.problem.row_upper + size
    return bool(((reached >= low) & (reached <= high)).all())


@pytest.mark.parametrize("network", NETS)
def test_the_true_network_satisfies_every_row_that_was_added(network: str) -> None:
    program = once(network, 1.0)[-1].program
    assert holds(network, program)
    assert len(program.neuron) == program.problem.shape[0] > 0


@pytest.mark.parametrize("network", ["lstm", "gru", "rnn tanh", "rnn relu", "mixed"])
def test_multipliers_are_mixtures_with_which_a_walk_proves_the_same(network: str) -> None:
    graph, region, one = prepared(network, directions=0)
    for sign in (1.0, -1.0):
        rows = {graph.output: margin(graph, sign)}
        cutter = Cutter.over(one, rows, FINE, boxed=False)
        found = list(cutter.converge(rows))[-1]
        assert found.solution is not None
        planes = mixtures(one, found.program, found.solution)
        walked = float(back_substitute(graph, region, planes, {graph.output: rows[graph.output][None, None]}))
        assert walked <= found.solution.objective + 1e-6
        if network not in ("rnn relu", "mixed"):  # there neurons gain by planes of both sides at once, here next to nothing
            assert walked == pytest.approx(found.solution.objective, abs=1e-6 if network != "gru" else 1e-5)


def test_mixtures_of_a_boxed_program_hold_too() -> None:
    graph, region, one = prepared("lstm 2 layers")
    row, found = margin(graph), once("lstm 2 layers", 1.0)[-1]
    assert found.solution is not None
    planes = mixtures(one, found.program, found.solution)
    walked = float(back_substitute(graph, region, planes, {graph.output: row[None, None]}))
    assert walked <= float((graph.evaluate(probes(graph, region))[graph.output] @ row).min())
    with pytest.raises(UsageError, match="no multipliers"):
        mixtures(one, found.program, replace(found.solution, dual=None))


def gate(number: int) -> tuple[Relaxed, Graph]:
    """One operation of its own over a box, two neurons."""
    op = OPS[number]
    builder = Builder()
    x = builder.input((op.arity, 2))
    graph = builder.graph(builder.apply(op, *(x[k] for k in range(op.arity))))
    centre = torch.full((1, op.arity, 2), 2.0 if isinstance(op, Log) else 0.3, dtype=DOUBLE)
    centre[..., 1] += 0.25
    region = LinfBall(1.1).around(centre)
    effort = Effort(Fitting(("tightest",), 2), 1, 1)
    return relaxed(graph, region, effort, linear_bounds(graph, region).intervals)[0], graph


CLOSED_ONLY = (SquareRoot, Reciprocal, Step, NonZero, Floor, Truncation, SumOfSquares, Difference, WeightedMean, Gap)
"""Operations that keep the planes of their closed form: nothing is known to support their envelopes elsewhere."""


@pytest.mark.parametrize("number", range(len(OPS)), ids=[f"{op.name} {k}" for k, op in enumerate(OPS)])
def test_supporting_planes_hold_and_touch_the_envelope(number: int) -> None:
    one, graph = gate(number)
    place = next(k for k, node in enumerate(graph.nodes) if isinstance(node, Apply))
    op = OPS[number]
    generator = torch.Generator().manual_seed(number)
    boxes = one.boxes(place)
    low, high = torch.stack([box.lower for box in boxes], 1), torch.stack([box.upper for box in boxes], 1)
    dense = low + (high - low) * torch.rand((20_000, 2, op.arity), generator=generator, dtype=DOUBLE)
    dense[:10_000] = torch.where(torch.rand(dense[:10_000].shape, generator=generator) < 0.4, low, dense[:10_000])
    values = op.forward(*dense.unbind(2))
    for upper in (True, False):
        points = low + (high - low) * torch.rand((2, op.arity), generator=generator, dtype=DOUBLE)
        far = torch.full((2,), 100.0 if upper else -100.0, dtype=DOUBLE)
        asked = Asked(place, torch.arange(2), points, torch.tensor([upper] * 2), far)
        (support,) = supporting(one, [asked], 1e-7)
        if isinstance(op, CLOSED_ONLY):
            assert support is None
            continue
        assert support is not None
        sign = 1.0 if upper else -1.0
        slack = sign * ((dense * support.planes[:, :-1]).sum(2) + support.planes[:, -1] - values)
        assert (slack >= 0).all()
        height = sign * ((points * support.planes[:, :-1]).sum(1) + support.planes[:, -1])
        assert (height >= sign * op.forward(*points.unbind(1)) - 1e-12).all()
        assert (slack.amin(0) <= 0.05).all()
        assert (asked.beyond(support) >= asked.excess(support) - 1e-12).all()


def flipped(support: Support | None) -> Support | None:
    if support is None:
        return None
    planes = support.planes.clone()
    planes[:, -1] *= -1
    return replace(support, planes=planes)


@pytest.mark.parametrize("size", [1e5, 3e6, 1e9])
def test_gates_with_huge_operands_are_left_to_their_closed_form(size: float) -> None:
    """No polygon is made of them: its edges would cut the network itself off."""
    generator = torch.Generator().manual_seed(3)
    builder = Builder()
    x = builder.input((3,))
    first, second = builder.matmul(x, normal(generator, 2, 3)), builder.matmul(x, size * normal(generator, 2, 3))
    graph = builder.graph(builder.matmul(builder.apply(SIGMOID_TIMES, first, second), normal(generator, 2, 2)))
    region = LinfBall(1.0).around(torch.rand((1, 3), generator=generator, dtype=DOUBLE))
    effort = Effort(Fitting(("tightest",), 4), 1, 1)
    (one,) = relaxed(graph, region, effort, linear_bounds(graph, region).intervals)
    values = graph.forward(region.sample(2000, generator)[0])
    for sign in (1.0, -1.0):
        row = torch.tensor([sign, 0.0], dtype=DOUBLE)
        found = converged(one, row)[-1]
        assert found.solution is not None
        assert found.solution.status is solvers.Status.OPTIMAL
        assert found.proved <= float((values @ row).min()) + 1e-9 * size


def test_inputs_without_a_value_are_passed_by() -> None:
    class Logarithm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.log(x * x).sum((1, 2)), x.sum((1, 2)) + 9], dim=1)

    x = torch.tensor([[[0.5, 2.0]], [[1.5, 2.0]]], dtype=DOUBLE)
    for method in ("lp", "milp"):
        wide, narrow = tv.certify(Logarithm(), x, [1, 1], tv.LinfBall(1.0), method=method, restarts=0, rounds=1)
        assert wide.margin == -math.inf
        assert narrow.margin > 0


def dropped(support: Support | None) -> Support | None:
    return None if support is None else replace(support, planes=support.planes * (support.planes != support.planes[:, -1:]))


@pytest.mark.parametrize("damage", [flipped, dropped, None], ids=["flipped", "dropped", "other side"])
def test_a_wrong_plane_is_seen(
    damage: Callable[[Support | None], Support | None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset flipped or dropped, or planes taken for those of the other side: the network breaks such rows."""
    graph, _, one = prepared("lstm")

    def broken(*given: object) -> list[Support | None]:
        return [damage(support) if damage else support for support in supporting(*given)]  # type: ignore[arg-type]

    if damage is None:
        honest = Rows.plane

        def swapped(self: Rows, number: int, node: Apply, plane: Plane, below: bool, which: Places | None = None) -> None:
            honest(self, number, node, plane, below if which is None else not below, which)

        monkeypatch.setattr(Rows, "plane", swapped)
    monkeypatch.setattr(converge, "supporting", broken)
    rows = {graph.output: margin(graph)}
    cutter = Cutter.over(one, rows, Cutting(rounds=1))
    list(cutter.converge(rows))
    assert not holds("lstm", cutter.program)


def test_neurons_that_matter_are_tightened_alike_by_any_number_of_processes() -> None:
    graph, region, one = prepared("rnn tanh")
    found = once("rnn tanh", 1.0)[-1]
    chosen = weightiest(one, found, 2)
    assert len(chosen) == 2
    assert all(number in graph.bounded for number, _ in chosen)
    alone, together = (obbt(one, chosen, COARSE, processes) for processes in (1, 2))
    values = graph.evaluate(probes(graph, region))
    for number, (new, other, old) in enumerate(zip(alone, together, one.bounds.intervals, strict=True)):
        assert torch.equal(new.lower, other.lower)
        assert torch.equal(new.upper, other.upper)
        assert (new.lower >= old.lower).all()
        assert (new.upper <= old.upper).all()
        assert (values[number] >= new.lower - 1e-12).all()
        assert (values[number] <= new.upper + 1e-12).all()
    assert any((new.width < old.width).any() for new, old in zip(alone, one.bounds.intervals, strict=True))

    with pytest.raises(OutOfTimeError):
        obbt(one, chosen, COARSE, 1, Budget(deadline=0.0))


X = torch.rand((6, FRAMES, MODEL_FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


@pytest.fixture(scope="module")
def model() -> tv.Model:
    return tv.load(classifier(), shape=(FRAMES, MODEL_FEATURES))


@pytest.mark.usefixtures("rounds_alone")
def test_the_stage_proves_more_than_combine_and_nothing_less(model: tv.Model) -> None:
    region, x = tv.LinfBall(0.05), X[1:2]
    before = tv.certify(model, x, None, region, method="combine", thorough=True, rounds=1, restarts=0)
    after = tv.certify(model, x, None, region, method="lp", thorough=True, rounds=1, restarts=0)
    for one, two in zip(before, after, strict=True):
        assert (two.margins >= one.margins - 1e-9).all()
        assert two.stage == "lp"
    assert any((two.margins > one.margins + 1e-5).any() for one, two in zip(before, after, strict=True))
    samples = region.around(x).sample(300, torch.Generator().manual_seed(1)).view(len(x), 300, *x.shape[1:])
    for result, points in zip(after, samples, strict=True):
        with torch.no_grad():
            outputs = model.original(points)
        others = [k for k in range(outputs.shape[1]) if k != result.label]
        assert (outputs[:, [result.label]] - outputs[:, others] >= result.margins - 1e-9).all()


@pytest.mark.usefixtures("rounds_alone")
def test_the_programs_point_refutes_where_there_is_no_search(model: tv.Model) -> None:
    results = tv.certify(model, X[1:3], None, tv.LinfBall(0.3), method="lp", restarts=0, rounds=1)
    refuted = [result for result in results if result.verdict is tv.Verdict.COUNTEREXAMPLE]
    assert refuted
    for result in refuted:
        assert result.counterexample is not None
        assert result.stage == "lp"
        with torch.no_grad():
            assert int(model.original(result.counterexample[None])[0].argmax()) != result.label
        assert float((result.counterexample - X[1 + result.index]).abs().max()) <= 0.3


@pytest.mark.parametrize("ball", [tv.L2Ball(0.3), tv.L1Ball(0.5)])
def test_regions_that_are_no_boxes_are_passed_by(model: tv.Model, ball: tv.LpBall) -> None:
    before, after = (tv.certify(model, X[:2], None, ball, method=method, rounds=1) for method in ("combine", "lp"))
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one.margins, two.margins)
        assert one.verdict is two.verdict


def test_programs_are_written_and_read_back(model: tv.Model, tmp_path: Path) -> None:
    folder = tmp_path / "some" / "where"
    tv.certify(model, X[1:2], None, tv.LinfBall(0.05), method="lp", rounds=1, restarts=0, thorough=True, dump=folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"input0-row{row}-lp.mps" for row in range(4)]
    problem = solvers.read(folder / names[0])
    assert solvers.solve(problem).status is solvers.Status.OPTIMAL
    (folder / "file").write_text("")
    with pytest.raises(UsageError, match="programs cannot be written to"):
        tv.certify(model, X[1:2], None, tv.LinfBall(0.05), method="lp", rounds=1, thorough=True, dump=folder / "file")


def test_time_runs_out_between_solves(model: tv.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    solves: list[int] = []
    honest = Cutter.converge

    def slow(self: Cutter, *given: object) -> object:
        solves.append(1)
        yield next(iter(honest(self, *given)))  # type: ignore[arg-type]
        raise OutOfTimeError("now")

    monkeypatch.setattr(Cutter, "converge", slow)
    (result,) = tv.certify(model, X[1:2], None, tv.LinfBall(0.1), method="lp", restarts=0, rounds=1)
    assert solves == [1]
    assert result.verdict in (tv.Verdict.TIMED_OUT, tv.Verdict.COUNTEREXAMPLE)
    assert math.isfinite(result.margin)


def test_top_k_needs_fewer_rows(model: tv.Model) -> None:
    results = tv.certify(model, X[:3], None, tv.LinfBall(0.2), method="lp", top=2, restarts=0, rounds=1)
    for result in results:
        assert (result.verdict is tv.Verdict.ROBUST) == (int((result.margins > 0).sum()) >= 3)


def test_only_solvers_of_large_programs_are_taken(model: tv.Model) -> None:
    with pytest.raises(UsageError, match="tiny programs"):
        check_program_solver("batched")
    with pytest.raises(UsageError, match="nonsense"):
        tv.certify(model, X, None, tv.LinfBall(0.1), method="lp", lp_solver="nonsense")
    for wrong in ({"obbt": -1}, {"processes": 0}):
        with pytest.raises(UsageError):
            tv.certify(model, X, None, tv.LinfBall(0.1), method="lp", **wrong)  # type: ignore[arg-type]
    settled = tv.certify(model, X[1:2], None, tv.LinfBall(0.05), method="lp", lp_solver="scipy", rounds=1, restarts=0)
    assert math.isfinite(settled[0].margin)


def test_tightening_in_the_stage_does_not_lose(model: tv.Model) -> None:
    plain, more = (
        tv.certify(model, X[1:2], None, tv.LinfBall(0.06), method="lp", restarts=0, rounds=1, obbt=count)[0] for count in (0, 4)
    )
    assert more.margin >= plain.margin - 1e-9
