"""An operation that has no value somewhere is never lost, whatever reads it: 0 times a logarithm of -1 is no number.

Each network here computes such an operation and hides it: behind a weight of 0, a mask, a product with 0, a square that counts
nothing. Where it may have no value nothing is decided; where it surely has one, the rest of the network decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.evidence_check import Check, Numbers, Refused
from tests.helpers.onnx_models import DOUBLE as DOUBLE_FILE
from tests.helpers.onnx_models import SINGLE, Arrays, build, layer, node, save
from tightverify.api.passes import PASSES, all_intervals
from tightverify.bounds.interval import rows_over
from tightverify.evidence import Bounded, BoundingPass, Ending, Question, read_evidence
from tightverify.methods import WITHOUT_EVIDENCE
from tightverify.models.builder import Builder
from tightverify.ops import OPS, Log, Reciprocal
from tightverify.stages import METHODS
from tightverify.values import Interval

DOUBLE = torch.float64
REGION = tv.LinfBall(0.5)
INSIDE, BESIDE = torch.tensor([[0.2, 0.3]], dtype=DOUBLE), torch.tensor([[0.8, 1.3]], dtype=DOUBLE)
"""Where operations lack a value within reach, though not at the point itself, and where they do not."""


class Hiding(nn.Module):
    """Scores 1 + 0 * what a function makes of x, and a tenth of tanh x_0; so class 0 wins wherever it is a number."""

    def __init__(self, hide: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.hide = hide
        self.register_buffer("precision", torch.zeros(1, dtype=DOUBLE))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([1 + self.hide(x), 0.1 * torch.tanh(x[:, :1])], dim=1)


class Heard(nn.Module):
    """The same with an LSTM between the operation and the weight of 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.LSTM(1, 2, batch_first=True, bidirectional=True).double()

    def forward(self, x: Tensor) -> Tensor:
        heard, _ = self.layer(torch.log(x)[..., None])
        return torch.cat([1 + 0 * heard[:, 0, 2:3], 0.1 * torch.tanh(x[:, :1])], dim=1)


MASK = torch.tensor([0.0, 1.0], dtype=DOUBLE)


def masked_part(x: Tensor) -> Tensor:
    """The neuron without a value is masked; its neighbour of the same node counts a little."""
    return 0.01 * (torch.log(x + torch.tensor([0.0, 5.0], dtype=DOUBLE)) * MASK).sum(1, keepdim=True)


HIDING: dict[str, Callable[[Tensor], Tensor]] = {
    "a weight": lambda x: 0 * (1 / x[:, :1]),
    "a mask over all": lambda x: (torch.log(x) * torch.zeros(2, dtype=DOUBLE)).sum(1, keepdim=True),
    "a mask over a part": masked_part,
    "a matrix": lambda x: torch.sqrt(x) @ torch.zeros((2, 1), dtype=DOUBLE),
    "a summand": lambda x: torch.add(0 * x[:, :1], torch.rsqrt(x[:, :1]), alpha=0.0),
    "a factor": lambda x: (0 * x[:, :1]) * torch.log(x[:, :1]),
    "a numerator": lambda x: (0 * x[:, :1]) / x[:, :1],
    "a step": lambda x: torch.lerp(0 * x[:, :1], x[:, :1] ** -1, 0.0),
    "squares": lambda x: torch.cat([torch.log(x), x, x], 1).square() @ torch.tensor([[0, 0, 1, 1, 1, 1]]).T.double() * 1e-3,
    "a gate": lambda x: 0 * torch.sigmoid(x[:, :1]) * torch.tanh(x[:, :1] ** 0.5),
    "an operation": lambda x: torch.tanh(0 * torch.log(torch.relu(x[:, :1]) - 0.1)),
}


def claims_nothing(model: tv.Model, x: Tensor) -> bool:
    """Whether every method that bounds outputs says that they can be anything."""
    found = [tv.bounds(model, x, REGION, method) for method in PASSES]
    return all(bool((interval.lower == -torch.inf).all() and (interval.upper == torch.inf).all()) for interval in found)


def decides(model: tv.Model, x: Tensor, methods: Any, **options: Any) -> set[tv.Verdict]:
    """The verdicts on class 0 of the two-class models here."""
    labels = None if "rows" in options else torch.tensor([0])
    return {tv.certify(model, x, labels, REGION, method=method, **options)[0].verdict for method in methods}


@pytest.fixture(scope="module")
def weighed() -> tv.Model:
    return tv.load(Hiding(HIDING["a weight"]), shape=(2,))


@pytest.mark.parametrize("name", [*HIDING, "an LSTM"])
def test_hidden_operations_leave_nothing_decided(name: str) -> None:
    model = tv.load(Heard() if name == "an LSTM" else Hiding(HIDING[name]), shape=(2,))
    assert claims_nothing(model, INSIDE)
    assert decides(model, INSIDE, ["interval", "linear", "lp"]) == {tv.Verdict.UNKNOWN}
    assert decides(model, BESIDE, ["linear"]) == {tv.Verdict.ROBUST}


def test_every_method_minds_what_only_a_weight_of_0_reads(weighed: tv.Model) -> None:
    assert decides(weighed, INSIDE, METHODS) == {tv.Verdict.UNKNOWN}
    assert decides(weighed, BESIDE, METHODS) == {tv.Verdict.ROBUST}


def test_outputs_that_are_constant_but_for_it_are_not_decided() -> None:
    """As in `cat([1 + 0 * (1 / (x + 10)), 0 * x])`: no node of the output reads the input at all."""

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([1 + 0 * (1 / (x + 10)), 0 * x], dim=1)

    model = tv.load(Constant().double(), shape=(1,))
    centres = torch.tensor([[-9.8], [0.0]], dtype=torch.get_default_dtype())
    for method in METHODS:
        found = [result.verdict for result in tv.certify(model, centres, torch.tensor([0, 0]), REGION, method=method)]
        assert found == [tv.Verdict.UNKNOWN, tv.Verdict.ROBUST], method


def test_outputs_that_are_constant_may_tie() -> None:
    """Nothing leads from the input to the output: searches and mixtures have no way to go."""

    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([0 * x, 0 * x], dim=1)

    model = tv.load(Nothing(), shape=(1,))
    assert decides(model, torch.zeros((1, 1)), METHODS) == {tv.Verdict.UNKNOWN}


def test_rows_of_zeros_hold_only_of_numbers(weighed: tv.Model) -> None:
    rows = torch.zeros((1, 2), dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    assert decides(weighed, INSIDE, METHODS, rows=rows) == {tv.Verdict.UNKNOWN}
    assert decides(weighed, BESIDE, METHODS, rows=rows) == {tv.Verdict.ROBUST}
    box = Interval(torch.tensor([[-torch.inf, 1.0]], dtype=DOUBLE), torch.tensor([[torch.inf, 2.0]], dtype=DOUBLE))
    found = rows_over(torch.tensor([[[0.0, 0.0], [0.0, 1.0]]], dtype=DOUBLE), box)[0]
    assert found[0] == -torch.inf
    assert 1 - 1e-12 < found[1] <= 1


def test_what_top_k_wants_is_not_decided_either() -> None:
    class Three(Hiding):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([super().forward(x), x[:, :1] + 3], dim=1)

    model = tv.load(Three(HIDING["a weight"]), shape=(2,))
    assert decides(model, INSIDE, METHODS, top=2) == {tv.Verdict.UNKNOWN}
    assert decides(model, BESIDE, METHODS, top=2) == {tv.Verdict.ROBUST}


def test_models_that_are_no_number_at_many_inputs_are_imported() -> None:
    """Import compares at inputs below 0 too, where this model gives NaN for what the graph takes for 1."""

    class Everywhere(Hiding):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0 * torch.log(x[:, 1:])

    model = tv.load(Everywhere(HIDING["a mask over all"]), shape=(2,))
    assert bool(model.original(-BESIDE).isnan().any())
    assert decides(model, BESIDE, ["linear"]) == {tv.Verdict.ROBUST}


def test_operations_on_constants_without_a_value_stay() -> None:
    builder = Builder()
    x = builder.input((2,))
    never = builder.apply(Reciprocal(), builder.combine([(x, 0.0)]))
    graph = builder.graph(builder.combine([(x, 1.0), (never, 0.0)]))
    region = REGION.around(BESIDE)
    for bounding_pass in PASSES.values():
        assert all(
            bool((end.isinf()).all())
            for interval in all_intervals(graph, bounding_pass(graph, region, tv.Settings()))[-1:]
            for end in (interval.lower, interval.upper)
        )
    assert builder.apply(Log(), builder.constant(torch.ones(2, dtype=DOUBLE))).tolist() == [-1, -1]


def test_operations_say_themselves_that_they_are_partial() -> None:
    """Somewhere in a box around 0, or in one that reaches beyond all whole numbers that floats count."""
    size = torch.tensor([[1.0, 1e18]], dtype=DOUBLE)
    for op in OPS:
        there = op.undefined(*[Interval(-size, size)] * op.arity)
        assert op.partial == (there is not None and bool(there.any())), op.name


@pytest.mark.parametrize("method", [method for method in METHODS if method not in WITHOUT_EVIDENCE])
def test_evidence_counts_what_only_a_weight_of_0_reads(method: str, weighed: tv.Model, tmp_path: Path) -> None:
    tv.certify(weighed, BESIDE, torch.tensor([0]), REGION, method=method, evidence=tmp_path)
    entries = read_evidence(tmp_path / "0.npz")
    assert isinstance(entries[-1], Ending)
    assert entries[-1].verdict == "ROBUST"
    Check(entries, Numbers.of(weighed.graph))


def test_evidence_that_leaves_out_an_operation_proves_nothing(weighed: tv.Model, tmp_path: Path) -> None:
    """All is true of the nodes that it tells of: a constant 1, tanh of the input, and the outputs."""
    tv.certify(weighed, INSIDE, torch.tensor([0]), REGION, method="interval", evidence=tmp_path)
    question, *_, end = read_evidence(tmp_path / "0.npz")
    assert isinstance(question, Question)
    assert isinstance(end, Ending)
    assert [kind.get("op") for kind in question.nodes] == [None, "reciprocal", None, "tanh", None, None]
    one = np.ones(1)
    ends = {
        0: (question.lower, question.upper),
        2: (one, one),
        3: (-one, one),
        4: (-0.2 * one, 0.2 * one),
        5: (np.array([1.0, -0.2]), np.array([1.0, 0.2])),
    }
    told = [Bounded(0, number, lower, upper) for number, (lower, upper) in ends.items()]
    bounding_pass, proved = (
        BoundingPass(0, "interval", -1, -1, -1, 0.0, False),
        replace(end, verdict="ROBUST", margins=np.full(1, 0.5)),
    )
    with pytest.raises(Refused, match="the margins do not follow"):
        Check([question, bounding_pass, *told, proved], Numbers.of(weighed.graph))


# ONNX: x is (N, 3, 2), y the sum of 1 and what is hidden, beside a tenth of the tanh of x_00

ENDING = [
    node("Flatten", "hidden", "flat"),
    node("ReduceSum", "flat one", "summed"),
    node("Add", "summed unit", "first"),
    node("Flatten", "x", "inputs"),
    node("Slice", "inputs zero one one", "some"),
    node("Tanh", "some", "bent"),
    node("Mul", "bent tenth", "second"),
    node("Concat", "first second", "y", axis=1),
]
NEEDED = {"one": np.array([1]), "zero": np.array([0]), "unit": np.array(1.0), "tenth": np.array(0.1)}
RECURRENT, WEIGHTS, ATTRIBUTES = layer("LSTM", "bidirectional", features=2)
FILES: dict[str, tuple[list[NodeProto], Arrays]] = {
    "Mul": ([node("Log", "x", "a"), node("Mul", "a no", "hidden")], {"no": np.array(0.0)}),
    "Mul of a part": (
        [node("Add", "x far", "a"), node("Sqrt", "a", "b"), node("Mul", "b no", "hidden")],
        {"far": np.array([0.0, 5.0]), "no": np.array([0.0, 1e-3])},
    ),
    "MatMul": ([node("Reciprocal", "x", "a"), node("MatMul", "a no", "hidden")], {"no": np.zeros((2, 2))}),
    "Gemm": (
        [node("Flatten", "x", "a"), node("Pow", "a half", "b"), node("Gemm", "b no", "hidden", alpha=0.0)],
        {"half": np.array(0.5), "no": np.ones((6, 2))},
    ),
    "Div": ([node("Mul", "x no", "a"), node("Div", "a x", "hidden")], {"no": np.array(0.0)}),
    "LSTM": (
        [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            node("Log", "t", "a"),
            node("LSTM", RECURRENT.replace("x", "a"), "sequence last", **ATTRIBUTES),
            node("Transpose", "last", "b", perm=[1, 0, 2]),
            node("Mul", "b no", "hidden"),
        ],
        {**WEIGHTS, "no": np.array(0.0)},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_onnx_hides_nothing(name: str, tmp_path: Path) -> None:
    nodes, constants = FILES[name]
    dtype = SINGLE if name == "LSTM" else DOUBLE_FILE  # onnxruntime has recurrent layers in float32 alone
    model = tv.load(save(tmp_path, build([*nodes, *ENDING], ["N", 3, 2], {**NEEDED, **constants}, dtype)))
    inside, beside = (x.expand(1, 3, 2).contiguous() for x in (INSIDE, BESIDE))
    assert claims_nothing(model, inside)
    assert decides(model, inside, METHODS if name == "Mul" else ["interval", "linear", "lp"]) == {tv.Verdict.UNKNOWN}
    assert decides(model, beside, METHODS if name == "Mul" else ["linear"]) == {tv.Verdict.ROBUST}
