"""Functions of neurons as training bounds them: an operation of the verifier, whose planes are differentiable in its boxes.

The intervals of those that networks are full of are worked out here in a few steps, without an allowance for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops import SIGMOID_TANH, SIGMOID_TIMES, GruUpdate, LeakyRelu, Operation, Sigmoid, Tanh
from tightverify.values import Interval

Ends = Callable[..., Interval]


@dataclass(frozen=True, eq=False)
class Function:
    """An operation, and how its interval is found."""

    op: Operation
    interval: Ends


def increasing(op: Operation, value: Callable[[Tensor], Tensor] | None = None) -> Function:
    """A function that never falls."""
    of = value or op.forward
    return Function(op, lambda x: Interval(of(x.lower), of(x.upper)))


def plain(op: Operation) -> Function:
    """Any operation, by its own interval."""
    return Function(op, op.interval)


def positive_times(s_low: Tensor, s_high: Tensor, y: Interval) -> Interval:
    """Products of what is between 0 and 1 with what has either sign."""
    lower = torch.minimum(s_low * y.lower, s_high * y.lower)
    return Interval(lower, torch.maximum(s_low * y.upper, s_high * y.upper))


def gated(x: Interval, y: Interval) -> Interval:
    return positive_times(torch.sigmoid(x.lower), torch.sigmoid(x.upper), y)


def mean_of(gate: Interval, new: Interval, old: Interval) -> Interval:
    """`(1 - z) n + z h` is linear in z: its extremes are at the gate's ends."""
    low, high = torch.sigmoid(gate.lower), torch.sigmoid(gate.upper)
    lower = torch.minimum(torch.lerp(new.lower, old.lower, low), torch.lerp(new.lower, old.lower, high))
    return Interval(lower, torch.maximum(torch.lerp(new.upper, old.upper, low), torch.lerp(new.upper, old.upper, high)))


RELU = increasing(LeakyRelu(), torch.relu)
SIGMOID = increasing(Sigmoid(), torch.sigmoid)
TANH = increasing(Tanh(), torch.tanh)
GATE_OF_TANH = Function(SIGMOID_TANH, lambda x, y: gated(x, y.map(torch.tanh)))
GATE = Function(SIGMOID_TIMES, gated)
UPDATE = Function(GruUpdate(), mean_of)
