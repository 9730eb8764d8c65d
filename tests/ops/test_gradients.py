"""Planes and intervals are differentiable in their boxes, and have finite derivatives at points as well."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tightverify.ops import (
    MULTIPLY,
    SIGMOID_TANH,
    SIGMOID_TIMES,
    TANH_TIMES,
    Clamp,
    Elu,
    Gelu,
    GruUpdate,
    HardSwish,
    LeakyRelu,
    Maximum,
    Mish,
    Operation,
    Power,
    Ramp,
    Sigmoid,
    Silu,
    Softplus,
    Softsign,
    Tanh,
)
from tightverify.values import Interval

CURVES = [Tanh(), Sigmoid(), LeakyRelu(), LeakyRelu(0.1), Clamp(-1.0, 1.0), Ramp(0.1, 1.0, 0.1), Softplus(), Elu(), Softsign()]
PIECEWISE = [Gelu(), Silu(), Mish(), HardSwish(), Power(3), Power(4)]
SMOOTH: list[Operation] = [*CURVES, *PIECEWISE, SIGMOID_TANH, SIGMOID_TIMES, TANH_TIMES, MULTIPLY, GruUpdate(), Maximum()]


def answers(op: Operation, ends: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Of boxes by their lower ends and widths."""
    boxes = [Interval(ends[2 * k], ends[2 * k] + ends[2 * k + 1]) for k in range(op.arity)]
    planes, interval = op.relax(*boxes), op.interval(*boxes)
    sides = [part for plane in (planes.lower, planes.upper) for part in (*plane.slopes, plane.offset)]
    return (*sides, interval.lower, interval.upper)


@pytest.mark.parametrize("op", SMOOTH, ids=repr)
def test_derivatives(op: Operation) -> None:
    generator = torch.Generator().manual_seed(1)
    ends = []
    for _ in range(op.arity):
        ends.append(torch.randn((2, 3), generator=generator, dtype=torch.float64).requires_grad_())
        ends.append((1.5 * torch.rand((2, 3), generator=generator, dtype=torch.float64) + 0.1).requires_grad_())
    assert torch.autograd.gradcheck(lambda *given: answers(op, given), ends, eps=1e-7, atol=1e-3, nondet_tol=0.0)


@pytest.mark.parametrize("op", SMOOTH, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_at_points_are_numbers(op: Operation, dtype: torch.dtype) -> None:
    for value in (-40.0, -1.0, 0.0, 0.3, 1.0, 40.0):
        ends = [torch.full((1, 1), value * (k % 2 == 0), dtype=dtype, requires_grad=True) for k in range(2 * op.arity)]
        total = torch.stack([part.sum() for part in answers(op, tuple(ends))]).sum()
        assert all(bool(torch.isfinite(slope).all()) for slope in torch.autograd.grad(total, ends))
