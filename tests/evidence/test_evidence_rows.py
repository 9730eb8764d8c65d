"""Rows of programs in evidence follow from what is known, by proof; what is invented, or declared twice, is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flint import fmpq

import tightverify as tv
from tests.helpers.evidence_arithmetic import function_of, matrix_of, range_of
from tests.helpers.evidence_check import Check, Numbers, Refused
from tests.helpers.evidence_lines import rational
from tests.helpers.evidence_proofs import hull, keeps_above
from tests.helpers.evidence_runs import Kept
from tests.stages.test_lp import prepared
from tightverify.evidence import (
    EDGE,
    EQUATION,
    PIECES,
    PLANE,
    BoundingPass,
    Branch,
    CutoffTightening,
    Program,
    Question,
    read_evidence,
)
from tightverify.ops import OPS, Clamp, Log, Operation, Reciprocal, SquareRoot
from tightverify.recording.question import named
from tightverify.refine.network_lp import Rows
from tightverify.values import Interval

Found = Callable[[str], tuple[list[Any], Numbers]]


@pytest.fixture
def found(kept: Callable[[str], Kept]) -> Found:
    """A run's evidence of its first input, and its network's weights."""

    def first(name: str) -> tuple[list[Any], Numbers]:
        _, files, numbers = kept(name)
        return list(files[0]), numbers

    return first


def last_program(entries: list[Any]) -> tuple[int, Program]:
    place = max(k for k, entry in enumerate(entries) if isinstance(entry, Program))
    return place, entries[place]


def with_row(program: Program, low: float, origin: int, held: int) -> Program:
    """The program with the row `cost @ v >= low`, which proves the program's bound at a stroke."""
    mine = np.flatnonzero(program.cost)
    return replace(
        program,
        data=np.append(program.data, program.cost[mine]),
        indices=np.append(program.indices, mine).astype(np.int32),
        indptr=np.append(program.indptr, program.indptr[-1] + len(mine)).astype(np.int32),
        row_lower=np.append(program.row_lower, low),
        row_upper=np.append(program.row_upper, np.inf),
        origins=np.append(program.origins, origin).astype(np.int32),
        held=np.append(program.held, held).astype(np.int32),
        dual=np.append(np.zeros(len(program.dual)), 1.0),
        bound=low,
    )


def with_some_rows(program: Program, rows: list[int]) -> Program:
    """The program with these rows alone: whether a row follows does not depend on others, of which there are hundreds."""
    places = [np.arange(program.indptr[row], program.indptr[row + 1]) for row in rows]
    kept = np.concatenate([np.zeros(0, dtype=np.int64), *places]).astype(np.int64)
    some = np.array(rows, dtype=np.int64)
    return replace(
        program,
        data=program.data[kept],
        indices=program.indices[kept],
        indptr=np.cumsum([0, *map(len, places)]).astype(np.int32),
        row_lower=program.row_lower[some],
        row_upper=program.row_upper[some],
        origins=program.origins[some],
        held=program.held[some],
        dual=program.dual[some] if len(program.dual) else program.dual,
    )


def test_an_invented_row_is_refused_whatever_it_says_it_is(found: Found) -> None:
    """The property's own row, above what is proved of it and below all that samples of the region show."""
    entries, numbers = found("gru lp")
    place, program = last_program(entries)
    question = entries[0]
    check = Check(entries[:place], numbers)
    draw = np.random.default_rng(0).random((2000, len(question.centre)))
    draw[::2] = draw[::2].round()
    values = check.values_at(question.lower + draw * (question.upper - question.lower))[question.output]
    least = float((values @ question.rows[program.row]).min())
    assert program.bound < least
    low = (program.bound + least) / 2
    start = dict(zip(program.members.tolist(), program.columns.tolist(), strict=False))[question.output]
    for origin in (EQUATION, PLANE, EDGE, PIECES, 7, -1):
        for held in (start, start + 1, start - 1, 0, -1, len(program.cost)):
            forged = with_row(with_some_rows(program, []), low, origin, held)
            with pytest.raises(Refused, match=r"row that the network may break|about no neuron"):
                check.with_entry(forged)
    with pytest.raises(Refused, match=r"row that the network may break|about no neuron"):
        check.with_entry(with_row(program, low, EQUATION, start))
    assert check.with_entry(program).programs


@pytest.mark.parametrize("name", ["gru lp", "lstm lp", "speech lp", "odd milp"])
def test_no_row_can_be_moved(name: str, found: Found) -> None:
    """Each kind of row, moved by a little more than its planes may lie apart from what they hold, or said to be another."""
    entries, numbers = found(name)
    place, program = last_program(entries)
    before = Check(entries[:place], numbers)
    assert before.with_entry(program).programs
    matrix = matrix_of(program)
    for origin in np.unique(program.origins):
        row = int(np.flatnonzero(program.origins == origin)[0])
        one = with_some_rows(program, [row])
        size = float(np.abs(matrix[row]).sum() * 10 * (1 + np.abs(program.upper - program.lower).max()))
        low = 0.0 if np.isinf(one.row_lower[0]) else float(one.row_lower[0])
        with pytest.raises(Refused, match="row that the network may break"):
            before.with_entry(replace(one, row_lower=np.array([low + size])))
        for other in {EQUATION, PLANE, EDGE, PIECES} - {int(origin)}:
            if not (origin == EDGE and other == PLANE):  # an edge is a plane that leaves its neuron out
                with pytest.raises(Refused, match="row that the network may break"):
                    before.with_entry(replace(one, origins=np.array([other], dtype=np.int32)))


def test_a_choice_is_one_maximum_s_alone(found: Found) -> None:
    entries, numbers = found("odd milp")
    place, program = last_program(entries)
    free = int(program.columns[-1]) + len(program.breaks)
    assert len(program.cost) > free + 1
    indices = np.where(program.indices == free + 1, free, program.indices).astype(np.int32)
    with pytest.raises(Refused, match="row that the network may break"):
        Check([*entries[:place], replace(program, indices=indices)], numbers)


def test_what_was_narrowed_is_of_the_same_variables(found: Found) -> None:
    """With its nodes in another order, a program without rows would take the ends of some neurons for those of others."""
    entries, numbers = found("relu narrowed")
    narrowing = next(k for k, entry in enumerate(entries) if isinstance(entry, CutoffTightening))
    place = next(k for k, entry in enumerate(entries) if k > narrowing and isinstance(entry, Program) and entry.limit < np.inf)
    program, check = entries[place], Check(entries[:place], numbers)
    members, none, nowhere = program.members[::-1].tolist(), np.zeros(0), np.zeros(0, dtype=np.int32)
    ends = [
        np.concatenate(side) for side in zip(*(check.states[program.bounding_pass].intervals[k] for k in members), strict=True)
    ]
    count, sizes = len(ends[0]), [len(check.states[program.bounding_pass].intervals[k][0]) for k in members]
    held = check.cutoff_tightened
    assert held is not None
    cost, first = np.zeros(count), sum(sizes[: members.index(entries[0].output)])
    cost[first : first + entries[0].rows.shape[1]] = entries[0].rows[program.row]
    turned = replace(
        program,
        members=np.array(members, dtype=np.int32),
        columns=np.cumsum([0, *sizes]).astype(np.int32),
        cost=cost,
        data=none,
        indices=nowhere,
        indptr=np.zeros(1, dtype=np.int32),
        row_lower=none,
        row_upper=none,
        lower=np.maximum(ends[0], held.lower[:count]),
        upper=np.minimum(ends[1], held.upper[:count]),
        origins=nowhere,
        held=nowhere,
        dual=none,
        bound=-np.inf,
        breaks=np.zeros((0, 2)),
    )
    with pytest.raises(Refused, match="another program were narrowed"):
        check.with_entry(turned)


def test_a_bounding_pass_s_number_is_declared_once(found: Found) -> None:
    """Else a half of a proved half stands for the half of the whole that was not proved."""
    entries, numbers = found("lstm complete")
    bounding_passes = {entry.bounding_pass: entry for entry in entries if isinstance(entry, BoundingPass)}
    branches = {entry.number: entry for entry in entries if isinstance(entry, Branch)}
    parents = {branch.parent for branch in branches.values() if branch.number}
    leaves = [
        b
        for b in branches.values()
        if b.number not in parents and b.closed == "proved" and bounding_passes[b.bounding_pass].node >= 0
    ]
    proved, left_out = next((a, b) for a in leaves for b in leaves if a.parent == b.parent and a is not b)
    own = bounding_passes[left_out.bounding_pass]
    rest = [entry for entry in entries if getattr(entry, "bounding_pass", -1) != own.bounding_pass]
    with pytest.raises(Refused):
        Check(rest, numbers)
    parent = bounding_passes[own.parent]
    part = replace(own, bounding_pass=own.parent, parent=proved.bounding_pass)  # of the proved half, with what is proved there
    forged = [part, own, parent, replace(left_out, margins=proved.margins)]
    with pytest.raises(Refused, match="declared before"):
        Check([*rest[:-1], *forged, rest[-1]], numbers)
    place = entries.index(own)
    with pytest.raises(Refused, match="declared before"):
        Check([*entries[: place + 1], own, *entries[place + 1 :]], numbers)
    with pytest.raises(Refused, match="asks twice"):
        Check([*entries[:place], entries[0], *entries[place:]], numbers)


# Operations.

POSITIVE = (Log, SquareRoot, Reciprocal)
ids = [f"{op.name} {op.parameters or ''}" for op in OPS]


def boxes_of(op: Operation, seed: int = 0) -> list[Interval]:
    """Boxes (1, n) of an operation's operands: some far from 0, some around it, some that are points."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(op.arity):
        middle = 3 * torch.randn((1, 12), generator=draw, dtype=torch.float64)
        half = torch.rand((1, 12), generator=draw, dtype=torch.float64) * 2
        half[0, :2] = 0.0
        half[0, 2:4] = 1e-6
        middle[0, 4] = 25.0
        if isinstance(op, POSITIVE):
            middle = middle.abs() + half + 1e-3
        found.append(Interval(middle - half, middle + half))
    return found


def domain_of(boxes: list[Interval], neuron: int) -> tuple[tuple[fmpq, ...], ...]:
    low, high = (tuple(rational(float(getattr(box, end)[0, neuron])) for box in boxes) for end in ("lower", "upper"))
    if len(boxes) != 2:
        return low, high
    return tuple(hull([low, (high[0], low[1]), high, (low[0], high[1])]))


@pytest.mark.parametrize("op", OPS, ids=ids)
def test_every_operation_is_known_by_its_name_and_its_parameters(op: Operation) -> None:
    kind = named(op)
    boxes = boxes_of(op)
    share = torch.rand((200, 1, 12), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = [box.lower + share.roll(k, 0) * box.width for k, box in enumerate(boxes)]
    values = op.forward(*points).numpy()
    assert np.allclose(function_of(kind)(*(point.numpy() for point in points)), values, rtol=1e-12, atol=1e-12)
    lower, upper = range_of(kind, [(box.lower[0].numpy(), box.upper[0].numpy()) for box in boxes])
    claimed = op.interval(*boxes)
    assert (lower <= values.min((0, 1)) + 1e-12).all()
    assert (upper >= values.max((0, 1)) - 1e-12).all()
    assert (claimed.lower[0].numpy() <= lower + 1e-12).all()
    assert (claimed.upper[0].numpy() >= upper - 1e-12).all()


@pytest.mark.parametrize("op", OPS, ids=ids)
def test_planes_of_every_operation_are_proved_and_no_closer_ones(op: Operation) -> None:
    kind, boxes = named(op), boxes_of(op)
    name = kind.pop("op"), tuple(sorted(kind.items()))
    planes = op.relax(*boxes)
    share = torch.rand((3000, 1, 12), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = [box.lower + (share.roll(97 * k, 0) * 1.2 - 0.1).clamp(0, 1) * box.width for k, box in enumerate(boxes)]
    values = op.forward(*points)
    for plane, k in ((planes.lower, 1), (planes.upper, -1)):
        at = plane.offset + sum(slope * point for slope, point in zip(plane.slopes, points, strict=True))
        gaps = (k * (values - at)).amin(0)[0]
        for neuron in range(12):
            slopes = tuple(-k * rational(float(slope[0, neuron])) for slope in plane.slopes)
            offset, domain = -k * rational(float(plane.offset[0, neuron])), domain_of(boxes, neuron)
            assert keeps_above(name, fmpq(k), slopes, offset, domain), (neuron, k)
            noise = 1e-6 + 1e-13 * float(values[..., neuron].abs().max())
            closer = offset - rational(float(gaps[neuron].clamp(min=0)) + noise)
            assert not keeps_above(name, fmpq(k), slopes, closer, domain), (neuron, k)


def test_infinite_parameters_can_be_written(tmp_path: Path) -> None:
    assert named(Clamp(-torch.inf, 1.0)) == {"op": "clamp", "low": None, "high": 1.0}
    assert np.array_equal(function_of(named(Clamp(-torch.inf, 1.0)))(np.array([-1e9, 2.0])), [-1e9, 1.0])
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), MinimumOfOne(), torch.nn.Linear(3, 2)).double().eval()
    x = torch.zeros((1, 2), dtype=torch.float64)
    tv.certify(tv.load(module, shape=(2,)), x, None, tv.LinfBall(0.1), evidence=tmp_path)
    asked = read_evidence(tmp_path / "0.npz")[0]
    assert isinstance(asked, Question)
    assert {"op": "clamp", "low": None, "high": 1.0}.items() <= asked.nodes[2].items()


class MinimumOfOne(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, max=1.0)


def test_rows_without_a_finite_side_have_no_slack() -> None:
    """They say nothing: 0 times infinity would make their slack, and with it the program's bound, no number."""
    graph, _, one = prepared("lstm", directions=0)
    number = next(k for k, node in enumerate(graph.nodes) if getattr(getattr(node, "op", None), "arity", 0) == 2)
    start, columns = 0, {}
    for k, node in enumerate(graph.nodes):
        columns[k] = slice(start, start + node.size)
        start += node.size
    rows = Rows(columns)
    which = np.arange(2)
    rows.half_planes(number, graph.nodes[number], which, np.array([[1.0, 1.0], [1.0, 1e-12]]), np.full(2, -np.inf))  # type: ignore[arg-type]
    bounds = one.bounds.intervals
    lower, upper = (np.concatenate([getattr(interval, end)[0].numpy() for interval in bounds]) for end in ("lower", "upper"))
    _, low, high, slack = rows.together(lower, upper)
    assert not np.isnan(np.concatenate([low, high, slack, low - slack, high + slack])).any()
    assert slack[0] == 0
