"""What a verdict takes: counterexamples that stand alone and in exact arithmetic, and no proof that a point contradicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.attack import breaks
from tightverify.errors import SoundnessFault
from tightverify.models.answers import rightly_answered
from tightverify.spec import classify_as
from tightverify.stages import METHODS
from tightverify.stages.attack import attack_stage
from tightverify.stages.problem import BoundsSoFar, Problem

DOUBLE = torch.float64


def layer(weight: list[list[float]], bias: list[float]) -> tv.Model:
    module = nn.Linear(len(weight[0]), len(bias)).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weight, dtype=DOUBLE))
        module.bias.copy_(torch.tensor(bias, dtype=DOUBLE))
    return tv.load(module, shape=(len(weight[0]),))


def test_what_breaks_beside_others_must_break_alone() -> None:
    model = layer([[1.0], [-1.0]], [0.0, 0.0])

    def unsteady(x: Tensor) -> Tensor:
        return model.original(x) if len(x) == 1 else -model.original(x)

    x, wanted = torch.tensor([[0.5], [0.25], [-0.5]], dtype=DOUBLE), classify_as(torch.zeros(3), 2)
    assert breaks(model, wanted, x).tolist() == [False, False, True]
    assert not breaks(replace(model, original=unsteady), wanted, x).any()
    assert not breaks(model, wanted[:0], x[:0]).any()
    assert rightly_answered(model, wanted, x).tolist() == [True, True, False]
    assert rightly_answered(replace(model, original=unsteady), wanted, x).tolist() == [True, True, True]


@pytest.mark.parametrize(
    ("weights", "offset", "verdict"),
    [
        ([1.0, 1.0, 1.0], -0.5, tv.Verdict.UNKNOWN),
        ([1.0, 1.0, 1.0], -1.5, tv.Verdict.COUNTEREXAMPLE),
        ([1.7e308, 0.0, 1.7e308], 1.0, tv.Verdict.UNKNOWN),
    ],
    ids=["lost", "broken", "overflow"],
)
def test_margins_that_rounding_turns_are_no_counterexamples(weights: list[float], offset: float, verdict: tv.Verdict) -> None:
    """The outputs are 1e16, 1 and -1e16, and so the rows' exact values are 1/2, -1/2 and 1."""
    model, x = layer([[0.0]] * 3, [1e16, 1.0, -1e16]), torch.zeros((1, 1), dtype=DOUBLE)
    rows = torch.tensor([weights], dtype=DOUBLE), torch.tensor([offset], dtype=DOUBLE)
    (found,) = tv.certify(model, x, None, tv.LinfBall(0.1), rows=rows)
    assert found.verdict is verdict


def falsely_proved(_problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    return replace(known, margins=torch.ones_like(known.margins))


@pytest.mark.parametrize("size", [1.0, 1e-9, 1e9])
def test_a_proof_that_a_point_contradicts_is_a_fault(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "wrong", (("wrong", falsely_proved), ("attack", attack_stage)))
    model, x, ball = layer([[size], [-size]], [0.0, 0.0]), torch.tensor([[0.5]], dtype=DOUBLE), tv.LinfBall(1.0)
    with pytest.raises(SoundnessFault, match="breaks what was proved"):
        tv.certify(model, x, [0], ball, method="wrong", thorough=True)
    (right,) = tv.certify(model, x, [0], tv.LinfBall(0.1), method="wrong", thorough=True)
    assert right.verdict is tv.Verdict.ROBUST
