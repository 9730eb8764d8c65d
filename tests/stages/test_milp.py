"""Mixed-integer programs of networks: exact for straight pieces, sound for all, refined where they err."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import solvers
import tightverify as tv
from solvers.leaves import ProofTree, leaf_bound
from tests.api.test_api import FEATURES as MODEL_FEATURES
from tests.api.test_api import FRAMES, classifier
from tests.bounds.test_bounds import NETWORKS, centres, normal, probes
from tests.stages.test_lp import CLOSED_ONLY
from tightverify.bounds.fitted import Effort, Fitting
from tightverify.bounds.linear import linear_bounds
from tightverify.graph import Apply, Graph, Input
from tightverify.models.builder import Builder
from tightverify.ops import OPS, Log, Maximum, Table
from tightverify.refine import milp, mixed
from tightverify.refine.cells import CellPlanes, cell_planes
from tightverify.refine.converge import Cutter, Cutting
from tightverify.refine.cutoff_tightening import LIMIT, CutoffTightened, cutoff_tightened
from tightverify.refine.milp import Deciding, Progress, decide, refined
from tightverify.refine.mixed import MixedProgram, breakpoints, mixed_program
from tightverify.refine.network_lp import places_of
from tightverify.refine.proof import cutoff_tightening_of
from tightverify.refine.relaxed import Relaxed, relaxed
from tightverify.region import LinfBall, Region

DOUBLE = torch.float64
EFFORT = Effort(Fitting(("tightest",), 2), 1, 5)
STRAIGHT = ["rnn relu", "rnn relu, max"]


def prepared(graph: Graph, region: Region, row: Tensor) -> tuple[Relaxed, Cutter, list[Progress]]:
    one = relaxed(graph, region, EFFORT, linear_bounds(graph, region).intervals)[0]
    cutter = Cutter.over(one, {graph.output: row}, Cutting(rounds=2))
    start = list(cutter.converge({graph.output: row}))[-1]
    return one, cutter, list(decide(one, start, cutter.session.problem, math.inf, Deciding()))


def by_patterns(weights: list[np.ndarray], x: np.ndarray, eps: float, row: np.ndarray) -> float:
    """The least `row @ output` of a ReLU RNN over the box, by one linear program for each pattern of signs."""
    w, b, u, c, head, d = weights
    frames, features = x.shape
    hidden = len(b)
    least = math.inf
    for pattern in product((0.0, 1.0), repeat=frames * hidden):
        state, offset = np.zeros((hidden, frames * features)), np.zeros(hidden)
        rows, low = [], []
        for t in range(frames):
            here = np.zeros((hidden, frames * features))
            here[:, t * features : (t + 1) * features] = w
            pre, constant = here + u @ state, b + c + u @ offset
            on = np.array(pattern[t * hidden : (t + 1) * hidden])
            rows.append((2 * on - 1)[:, None] * pre)
            low.append(-(2 * on - 1) * constant)
            state, offset = on[:, None] * pre, on * constant
        flat = x.ravel()
        cost, constant = row @ head @ state, row @ (head @ offset + d)
        problem = solvers.Problem(
            cost,
            np.concatenate(rows),
            np.concatenate(low),
            np.inf,
            flat - eps,
            flat + eps,
            None,
            row @ (head @ offset + d),
        )
        solution = solvers.solve(problem)
        if solution.status is solvers.Status.OPTIMAL:
            least = min(least, solution.objective)
    return least


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_relu_networks_are_decided_as_by_trying_every_pattern(seed: int) -> None:
    torch.manual_seed(seed)
    layer, head = nn.RNN(2, 3, nonlinearity="relu", batch_first=True).double(), nn.Linear(3, 2).double()
    module = nn.Sequential()
    module.layer, module.head = layer, head
    weights = [p.detach().numpy() * 1.5 for p in (layer.weight_ih_l0, layer.bias_ih_l0, layer.weight_hh_l0, layer.bias_hh_l0)]  # type: ignore[operator]
    weights += [head.weight.detach().numpy(), head.bias.detach().numpy()]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)
    x = torch.rand((1, 2, 2), dtype=DOUBLE)
    graph = tv.load(Recurrent(layer, head), shape=(2, 2)).graph
    row = torch.tensor([1.0, -1.0], dtype=DOUBLE)
    for sign in (1.0, -1.0):
        *_, last = prepared(graph, LinfBall(0.8).around(x), sign * row)[2]
        wanted = by_patterns(weights, x[0].numpy(), 0.8, sign * row.numpy())
        assert last.exact
        assert last.bound == pytest.approx(wanted, abs=1e-5)
        assert last.bound <= wanted + 1e-9


class Recurrent(nn.Module):
    """A layer and a head."""

    def __init__(self, layer: nn.RNN, head: nn.Linear) -> None:
        super().__init__()
        self.layer, self.head = layer, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


def steep_relu(seed: int) -> tuple[Graph, Region, dict[int, Tensor]]:
    """Three frames of four units, a region, a row."""
    model, x = relu_model(seed)
    return model.graph, LinfBall(0.6).around(x[:1]), {model.graph.output: torch.tensor([1.0, -1.0, 0.0], dtype=DOUBLE)}


@pytest.mark.parametrize("seed", range(4))
def test_intervals_hold_what_the_network_does_where_a_row_is_at_most_a_limit(seed: int) -> None:
    graph, region, row = steep_relu(seed)
    one, cutter, steps = prepared(graph, region, row[graph.output])
    values = graph.evaluate(probes(graph, region))
    reached = (values[graph.output] @ row[graph.output]).flatten()
    neurons = torch.cat([values[number] for number in cutter.program.columns], dim=-1).flatten(0, -2).numpy()
    for quantile in (0.02, 0.3):
        limit = float(torch.quantile(reached, quantile))
        found = cutoff_tightened(steps[0].mixed, limit)
        assert not found.nothing
        there = neurons[(reached <= limit).numpy()]
        assert (there >= found.program.lower).all()
        assert (there <= found.program.upper).all()
        before, after = (program.upper - program.lower for program in (cutter.program, found.program))
        assert (after <= before).all()
        assert after.sum() < before.sum()
        others = neurons[(reached > limit).numpy()]
        assert quantile > 0.1 or ((others < found.program.lower) | (others > found.program.upper)).any()
        rebound = mixed_program(one, found.program, found.holds(cutter.session.problem), found.breaks)
        assert rebound.binaries <= steps[0].mixed.binaries
        least = leaf_bound(rebound.problem, leaves=10_000)
        assert least == pytest.approx(steps[-1].bound, abs=1e-5)  # where it is attained is still there
    assert cutoff_tightened(steps[0].mixed, steps[0].bound - 0.1).nothing
    unchanged = cutoff_tightening_of(CutoffTightened(cutter.program, steps[0].mixed.breaks))
    assert unchanged.places.shape == (0, 2)


@pytest.mark.covering
@pytest.mark.parametrize("patience", [0.0, 1.0, math.inf])
@pytest.mark.parametrize("seed", range(3))
def test_rows_are_decided_alike_over_narrowed_intervals(seed: int, patience: float) -> None:
    graph, region, row = steep_relu(seed)
    one, cutter, steps = prepared(graph, region, row[graph.output])
    start = list(cutter.converge(row))[-1]
    least = steps[-1].bound
    for enough in (least - 0.02, least - 1e-4, least + 1e-4, least + 0.02):
        *_, last = decide(one, start, cutter.session.problem, enough, Deciding(patience=patience))
        assert last.bound <= least + 1e-6
        assert (last.bound > enough) == (enough < least)


def test_no_more_is_proved_of_a_row_than_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, region, row = steep_relu(0)
    one, cutter, steps = prepared(graph, region, row[graph.output])
    start = list(cutter.converge(row))[-1]
    monkeypatch.setattr(milp, "cutoff_tightened", lambda mixed, limit, *_: CutoffTightened(mixed.network, mixed.breaks, limit))
    ends = []
    for below in (0.3, 0.1, 0.03):
        enough = steps[-1].bound - below
        *_, last = decide(one, start, cutter.session.problem, enough, Deciding(patience=0.0))
        limit = enough + LIMIT * (enough - start.proved)
        assert enough < last.bound <= limit
        ends.append(last.bound == limit)
    assert any(ends)


def straight() -> Graph:
    """Leaky ReLUs, one of them concave, clamps and maxima."""
    generator = torch.Generator().manual_seed(4)
    builder = Builder()
    x = builder.input((2, 2))
    first = builder.matmul(x.ravel(), normal(generator, 6, 4), normal(generator, 6))
    bent = [builder.apply(OPS[k], first[2 * i : 2 * i + 2]) for i, k in enumerate((3, 4, 5))]
    joined = np.concatenate([*bent, builder.largest(np.stack([first[:2], first[3:5]]), 0)])
    return builder.graph(builder.matmul(joined, normal(generator, 2, 8), normal(generator, 2)))


@pytest.mark.parametrize("network", [*STRAIGHT, "straight"])
def test_functions_of_straight_pieces_are_exact(network: str) -> None:
    """The bound is the value that the network itself has at the point found: nothing lies between."""
    graph = straight() if network == "straight" else NETWORKS[network](1.0, 3)
    x = centres(1, 15)[:, :2] if network == "straight" else centres(1, 15)
    region = LinfBall(0.4).around(x)
    row = torch.zeros(graph.output_size, dtype=DOUBLE)
    row[0], row[1] = 1.0, -1.0
    for sign in (1.0, -1.0):
        _, cutter, steps = prepared(graph, region, sign * row)
        last = steps[-1]
        assert last.exact
        assert last.point is not None
        inputs = torch.zeros(graph.input_size, dtype=DOUBLE)
        for number, node in enumerate(graph.nodes):
            if isinstance(node, Input):
                inputs[node.block] = torch.from_numpy(last.point[cutter.program.columns[number]].copy())
        value = float(graph.forward(inputs[None])[0] @ (sign * row))
        assert last.bound == pytest.approx(value, abs=1e-5)
        assert last.bound <= value + 1e-9
        assert last.bound <= float((graph.evaluate(probes(graph, region))[graph.output] @ (sign * row)).min()) + 1e-9


def refined_program(network: str, rounds: int = 2) -> tuple[Graph, Region, Cutter, MixedProgram]:
    """A program whose smooth functions were cut a few times."""
    graph = NETWORKS[network](1.0, 43)
    region = LinfBall(0.3).around(centres(1, 15))
    one = relaxed(graph, region, EFFORT, linear_bounds(graph, region).intervals)[0]
    row = {graph.output: torch.eye(graph.output_size, dtype=DOUBLE)[0]}
    cutter = Cutter.over(one, row, Cutting(rounds=2))
    start = list(cutter.converge(row))[-1]
    point = start.point
    assert point is not None
    program = mixed_program(one, start.program, cutter.session.problem, breakpoints(one, start.program))
    for _ in range(rounds):
        breaks = refined(one, program, start, point, 6)
        program = mixed_program(one, start.program, cutter.session.problem, breaks, point)
        found = solvers.solve(program.problem.relaxed()).primal
        point = point if found is None else found  # broken planes may leave nothing
    return graph, region, cutter, program


def holds(graph: Graph, region: Region, program: MixedProgram) -> bool:
    """Whether the network's own neurons, with the binaries that they choose, satisfy every row, at many points."""
    values = graph.evaluate(probes(graph, region)[0][:200])
    neurons = torch.cat([values[number] for number in program.network.columns], dim=1).numpy()
    binaries: list[np.ndarray] = []
    for column, breaks in program.breaks.items():
        piece = np.searchsorted(np.array(breaks), neurons[:, column])
        binaries.append(np.eye(len(breaks) + 1)[piece, 1:])
    for node in graph.nodes:
        if isinstance(node, Apply) and isinstance(node.op, Maximum):
            u, v = (neurons[:, places_of(program.network.columns, operand)] for operand in node.operands)
            binaries.append((v > u).astype(float))
    everything = np.concatenate([neurons, *binaries], axis=1)
    assert everything.shape[1] == program.problem.shape[1]
    reached = everything @ program.problem.rows.T.toarray()
    size = 1e-11 * (1 + abs(reached).max())
    low, high = program.problem.row_lower - size, program.problem.row_upper + size
    return bool(((reached >= low) & (reached <= high)).all())


@pytest.mark.parametrize("network", ["lstm", "gru", "rnn tanh", "rnn relu, max", "mixed"])
def test_the_network_satisfies_the_program_with_its_own_binaries(network: str) -> None:
    graph, region, cutter, program = refined_program(network)
    assert program.binaries > 0
    assert holds(graph, region, program)
    relaxation = solvers.solve(program.problem.relaxed()).objective
    assert relaxation >= solvers.solve(cutter.session.problem).objective - 1e-6


@pytest.mark.parametrize("damage", ["upper", "lower", "everywhere"])
def test_broken_planes_of_cells_are_seen(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> CellPlanes:
        found = cell_planes(*given)  # type: ignore[arg-type]
        lower, upper = found.lower_offset, found.upper_offset
        if damage == "everywhere":  # the offsets of the cells taken for those of the whole boxes
            return CellPlanes(found.lower, lower, lower, found.upper, upper, upper)
        if damage == "upper":
            return CellPlanes(found.lower, lower, found.lower_everywhere, -found.upper, upper, found.upper_everywhere)
        return CellPlanes(found.lower, lower + 0.3, found.lower_everywhere, found.upper, upper, found.upper_everywhere)

    monkeypatch.setattr(mixed, "cell_planes", broken)
    graph, region, _, program = refined_program("lstm", 1)
    assert not holds(graph, region, program)


@pytest.mark.parametrize("number", range(len(OPS)), ids=[f"{op.name} {k}" for k, op in enumerate(OPS)])
def test_planes_of_cells_hold_there_and_everywhere(number: int) -> None:
    op = OPS[number]
    shift = 2.0 if isinstance(op, Log) else 0.0
    box = torch.tensor([[-1.2, 1.7] * op.arity], dtype=DOUBLE) + shift
    cell = torch.tensor([[-0.4, 0.9] * op.arity], dtype=DOUBLE) + shift
    if op.traits.cells is None:
        jumping = isinstance(op, Table) and not op.straight.continuous
        assert jumping or isinstance(op, (Maximum, *CLOSED_ONLY))
        return
    found = cell_planes(op.traits.cells, cell, box, cell[:, 0::2])
    generator = torch.Generator().manual_seed(number)
    for where, lower, upper in (
        (cell, found.lower_offset, found.upper_offset),
        (box, found.lower_everywhere, found.upper_everywhere),
    ):
        draw = torch.rand((20_000, op.arity), generator=generator, dtype=DOUBLE)
        points = where[0, 0::2] + (where[0, 1::2] - where[0, 0::2]) * torch.where(draw < 0.1, 0.0, draw)
        values = op.forward(*points.unbind(1))
        assert (points @ found.lower[0] + lower <= values).all()
        assert (points @ found.upper[0] + upper >= values).all()
    assert (found.lower_everywhere <= found.lower_offset + 1e-9).all()
    assert (found.upper_everywhere >= found.upper_offset - 1e-9).all()


def test_refining_raises_the_bound_and_stays_below_the_network() -> None:
    graph = NETWORKS["lstm"](1.0, 43)
    region = LinfBall(0.3).around(centres(1, 15))
    row = torch.eye(graph.output_size, dtype=DOUBLE)[0]
    one = relaxed(graph, region, EFFORT, linear_bounds(graph, region).intervals)[0]
    cutter = Cutter.over(one, {graph.output: row}, Cutting())
    start = list(cutter.converge({graph.output: row}))[-1]
    least = float((graph.evaluate(probes(graph, region))[graph.output] @ row).min())
    wanted = start.proved + 0.5 * (least - start.proved)
    *_, last = decide(one, start, cutter.session.problem, wanted, Deciding())
    assert start.proved < wanted < last.bound <= least + 1e-9


def test_the_tree_proves_what_is_wanted_in_either_order() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(4, 5))
    problem = solvers.Problem(generator.normal(size=5), rows, rows.sum(1) * 0.4 - 1, np.inf, 0, 2, np.ones(5, dtype=np.bool_))
    best = solvers.solve(problem).objective
    assert leaf_bound(problem, best) == pytest.approx(best, abs=1e-6)
    for deep in (True, False):
        tree = ProofTree(problem, best - 0.01, deep=deep)
        while tree.open:
            tree.step()
        assert best - 0.01 < tree.bound <= best + 1e-9
        never = ProofTree(problem, math.inf, deep=deep)
        while never.open:
            never.step()
        assert never.bound == pytest.approx(best, abs=1e-6)


def relu_model(seed: int = 0, frames: int = 3, features: int = 2, hidden: int = 4) -> tuple[tv.Model, Tensor]:
    torch.manual_seed(seed)
    layer, head = nn.RNN(features, hidden, nonlinearity="relu", batch_first=True).double(), nn.Linear(hidden, 3).double()
    with torch.no_grad():
        for parameter in (*layer.parameters(), *head.parameters()):
            parameter.mul_(1.5)
    x = torch.rand((4, frames, features), dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    return tv.load(Recurrent(layer, head), shape=(frames, features)), x


def test_the_stage_decides_relu_networks() -> None:
    model, x = relu_model()
    decided = set()
    for eps in (0.3, 0.6):
        for result in tv.certify(model, x, None, tv.LinfBall(eps), method="milp", restarts=0, rounds=1):
            assert result.verdict in (tv.Verdict.ROBUST, tv.Verdict.COUNTEREXAMPLE)
            decided.add((result.stage, result.verdict.name))
    assert {("milp", "ROBUST"), ("milp", "COUNTEREXAMPLE")} <= decided


@pytest.mark.usefixtures("rounds_alone")
def test_the_stage_keeps_to_its_regions_and_its_time_and_writes_its_programs(tmp_path: Path) -> None:
    model, x = relu_model()
    for ball in (tv.L2Ball(0.6), tv.L1Ball(0.9)):
        before, after = (tv.certify(model, x[:1], None, ball, method=m, rounds=1) for m in ("combine", "milp"))
        assert after[0].margin == pytest.approx(before[0].margin, abs=1e-9)
    tv.certify(model, x, None, tv.LinfBall(0.6), method="milp", restarts=0, rounds=1, dump=tmp_path)
    written = list(tmp_path.glob("input*-row*-milp.mps"))
    assert written
    assert all(solvers.read(path).is_mixed_integer for path in written)
    lstm = tv.load(classifier(), shape=(FRAMES, MODEL_FEATURES))
    far = torch.rand((6, FRAMES, MODEL_FEATURES), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)[1:2]
    (late,) = tv.certify(lstm, far, None, tv.LinfBall(0.05), method="milp", restarts=0, rounds=1, time_limit=0.5)
    assert late.verdict is tv.Verdict.TIMED_OUT


def test_a_node_whose_solve_fails_is_open_still() -> None:
    problem = solvers.Problem(np.array([-1.0]), np.array([[2.0]]), -np.inf, 1.0, 0, 1, np.ones(1, dtype=np.bool_))
    tree = ProofTree(problem, keep=True)
    session = tree._session

    class Failing:
        def solve(self, **_: object) -> solvers.Solution:
            raise MemoryError

    tree._session = Failing()  # type: ignore[assignment]
    with pytest.raises(MemoryError):
        tree.step()
    assert (tree.open, tree.bound, len(tree.cover())) == (1, -math.inf, 1)
    tree._session = session
    while tree.open:
        tree.step()
    assert tree.bound == pytest.approx(0.0)
