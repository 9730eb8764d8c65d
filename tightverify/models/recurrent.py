"""Recurrent layers unrolled over time, for every importer alike.

Weights are given gate by gate in the order that the cell's docstring names, so that an importer's only duty is to cut its
own layout into these. Sequences are symbolic tensors (time, features) of a single input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tightverify.models.builder import Builder, Symbols
from tightverify.ops import Operation, Sigmoid, Tanh

Activation = Callable[[Builder, Symbols], Symbols]


def applied(op: Operation) -> Activation:
    """An operation as the function of a cell."""
    return lambda builder, x: builder.apply(op, x)


SIGMOID, TANH = applied(Sigmoid()), applied(Tanh())


@dataclass(frozen=True, eq=False)
class Weights:
    """One direction of one layer: (gates * H, F), (gates * H, H) and biases (gates * H,), zeros where a layer has none."""

    input: Tensor
    hidden: Tensor
    input_bias: Tensor
    hidden_bias: Tensor

    @property
    def size(self) -> int:
        return self.hidden.shape[1]

    def gate(self, k: int) -> Weights:
        return self.gates(k, k + 1)

    def gates(self, start: int, stop: int) -> Weights:
        part = slice(start * self.size, stop * self.size)
        return Weights(self.input[part], self.hidden[part], self.input_bias[part], self.hidden_bias[part])


def pre_activation(builder: Builder, weights: Weights, x: Symbols, hidden: Symbols) -> Symbols:
    """`W x + b + U h + c`."""
    from_input = builder.matmul(x, weights.input, weights.input_bias)
    return builder.combine([(from_input, 1.0), (builder.matmul(hidden, weights.hidden, weights.hidden_bias), 1.0)])


class Cell(ABC):
    """One step of a recurrent layer; its state is a tuple of vectors, the first of which is its output."""

    weights: Weights

    @abstractmethod
    def step(self, builder: Builder, x: Symbols, state: tuple[Symbols, ...]) -> tuple[Symbols, ...]: ...


@dataclass(frozen=True, eq=False)
class RnnCell(Cell):
    """`h = f(W x + b + U h + c)`."""

    weights: Weights
    activation: Activation

    def step(self, builder: Builder, x: Symbols, state: tuple[Symbols, ...]) -> tuple[Symbols, ...]:
        return (self.activation(builder, pre_activation(builder, self.weights, x, state[0])),)


@dataclass(frozen=True, eq=False)
class LstmCell(Cell):
    """Gates in the order input, forget, cell, output; the state is (hidden, cell).

    `projection` (P, H) makes the hidden state of what the cell gives; `peepholes` (3, H) are what the input, the forget and the
    output gate read of the cell (the last one of the new cell); `coupled`: what is not written is kept, without a forget gate.
    """

    weights: Weights
    gate: Activation = SIGMOID
    proposal: Activation = TANH
    result: Activation = TANH
    projection: Tensor | None = None
    peepholes: Tensor | None = None
    coupled: bool = False

    def step(self, builder: Builder, x: Symbols, state: tuple[Symbols, ...]) -> tuple[Symbols, ...]:
        hidden, cell = state
        gates = pre_activation(builder, self.weights, x, hidden)
        i, f, g, o = np.split(gates, 4)
        write = self.gate(builder, self._peeping(builder, 0, i, cell))
        keep = builder.combine([(write, -1.0)], 1.0) if self.coupled else self.gate(builder, self._peeping(builder, 1, f, cell))
        written = builder.multiply(write, self.proposal(builder, g))
        cell = builder.combine([(builder.multiply(keep, cell), 1.0), (written, 1.0)])
        given = builder.multiply(self.gate(builder, self._peeping(builder, 2, o, cell)), self.result(builder, cell))
        return given if self.projection is None else builder.matmul(given, self.projection), cell

    def _peeping(self, builder: Builder, k: int, gate: Symbols, cell: Symbols) -> Symbols:
        return gate if self.peepholes is None else builder.combine([(gate, 1.0), (cell, self.peepholes[k])])


@dataclass(frozen=True, eq=False)
class GruCell(Cell):
    """Gates in the order reset, update, new.

    `reset_after`: the reset gate multiplies `U h + c` (torch, and ONNX with linear_before_reset = 1), else h itself
    (ONNX's default): `n = tanh(W x + b + U (r * h) + c)`.
    """

    weights: Weights
    reset_after: bool = True
    gate: Activation = SIGMOID
    proposal: Activation = TANH

    def step(self, builder: Builder, x: Symbols, state: tuple[Symbols, ...]) -> tuple[Symbols, ...]:
        (hidden,) = state
        size = self.weights.size
        both = self.gate(builder, pre_activation(builder, self.weights.gates(0, 2), x, hidden))
        reset, update = both[:size], both[size:]
        new = self.weights.gate(2)
        if self.reset_after:
            recurrent = builder.multiply(reset, builder.matmul(hidden, new.hidden, new.hidden_bias))
        else:
            recurrent = builder.matmul(builder.multiply(reset, hidden), new.hidden, new.hidden_bias)
        proposal = builder.combine([(builder.matmul(x, new.input, new.input_bias), 1.0), (recurrent, 1.0)])
        candidate = self.proposal(builder, proposal)
        kept = builder.multiply(update, hidden)
        fresh = builder.multiply(builder.combine([(update, -1.0)], 1.0), candidate)
        return (builder.combine([(fresh, 1.0), (kept, 1.0)]),)


def run(
    builder: Builder, cell: Cell, sequence: Symbols, state: tuple[Symbols, ...], reverse: bool
) -> tuple[Symbols, tuple[Symbols, ...]]:
    """The outputs at every time step (time, H) and the last state; reversed layers start at the end."""
    steps: list[Symbols] = []
    for x in sequence[::-1] if reverse else sequence:
        state = cell.step(builder, x, state)
        steps.append(state[0])
    return np.stack(steps[::-1] if reverse else steps), state


def no_bias(weight: Tensor) -> Tensor:
    """The bias of a layer that has none."""
    return torch.zeros(len(weight), dtype=torch.float64)
