"""torch's recurrent layers and cells on bounds, frame by frame, by the operations that the verifier has for them.

An LSTM's gates are `sigmoid(f) c`, `sigmoid(i) tanh(g)` and `sigmoid(o) tanh(c)`, each one operation; a GRU's update
`n + z (h - n)` is one of three operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tightverify.errors import UnsupportedError
from tightverify.training.functions import GATE, GATE_OF_TANH, RELU, SIGMOID, TANH, UPDATE, Function
from tightverify.training.interval_recurrent import interval_layer
from tightverify.training.maps import Dense, Map
from tightverify.training.nodes import Enclosed, Node, Weighing
from tightverify.training.operators import add, applied, dropout, moved, multiply, negated, refuse, sliced
from tightverify.training.slots import Slot
from tightverify.training.tracing import OPERATORS, Bounded

State = tuple[Any, ...]
"""What a cell keeps from frame to frame: each part bounds, numbers, or None for zeros."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Of one layer in one direction; biases are None without."""

    inner: Tensor
    state: Tensor
    inner_bias: Tensor | None
    state_bias: Tensor | None
    parts: dict[tuple[int, int], Dense] = field(default_factory=dict)

    @property
    def joint_bias(self) -> Tensor | None:
        return None if self.inner_bias is None or self.state_bias is None else self.inner_bias + self.state_bias

    @cached_property
    def map(self) -> Dense:
        return Dense(self.state)

    def part(self, start: int, stop: int) -> Dense:
        """Of some of the gates; the same one for every frame."""
        if (start, stop) not in self.parts:
            size = self.state.shape[1]
            self.parts[start, stop] = Dense(self.state[start * size : stop * size])
        return self.parts[start, stop]


Step = Callable[[Node, State, Weights], State]
"""From what the weights make of a frame, and the state, to the next state, whose first part is the output."""


def summed(x: Node, bias: Tensor | None, *terms: tuple[Any, Map]) -> Bounded:
    """Neurons, a bias, and maps of states that may be numbers or None."""
    live: list[tuple[Node, Map | None]] = [(x, None)]
    for state, map in terms:
        if isinstance(state, Bounded):
            live.append((state.node, map))
        elif state is not None:
            part = map.push(state)
            bias = part if bias is None else bias + part
    return Bounded.of(Weighing(x.bounding, live, bias))


def parts_of(x: Bounded, count: int) -> list[Bounded]:
    size = x.shape[-1] // count
    return [sliced(x, k * size, (k + 1) * size) for k in range(count)]


def gated(gate: Bounded, other: Any) -> Bounded:
    """`sigmoid(gate) * other`, of bounds or numbers."""
    if isinstance(other, Bounded):
        return applied(GATE, gate, other)
    return multiply(applied(SIGMOID, gate), other)


def lstm_step(x: Node, state: State, weights: Weights) -> State:
    h, c = state
    i, f, g, o = parts_of(summed(x, None, (h, weights.map)), 4)
    new = applied(GATE_OF_TANH, i, g)
    new = new if c is None else add(gated(f, c), new)
    return applied(GATE_OF_TANH, o, new), new


def rnn_step(function: Function) -> Step:
    def step(x: Node, state: State, weights: Weights) -> State:
        return (applied(function, summed(x, None, (state[0], weights.map))),)

    return step


def gru_step(x: Node, state: State, weights: Weights) -> State:
    (h,) = state
    size = weights.state.shape[1]
    frame = Bounded.of(x)
    gates = sliced(frame, 0, 2 * size)
    first, rest = (None, None) if weights.state_bias is None else weights.state_bias.split([2 * size, size])
    r, z = parts_of(summed(gates.node, first, (h, weights.part(0, 2))), 2)
    new = sliced(frame, 2 * size, 3 * size)
    kept = inner_state(h, weights.part(2, 3), rest)
    if kept is not None:
        new = add(new, gated(r, kept))
    n = applied(TANH, new)
    if h is None:
        return (applied(GATE, negated(z), n),)
    if not isinstance(h, Bounded):
        return (add(gated(z, h), applied(GATE, negated(z), n)),)
    return (applied(UPDATE, z, n, h),)


def inner_state(h: Any, map: Dense, bias: Tensor | None) -> Any:
    """A map of a state and a bias, of bounds or numbers."""
    if isinstance(h, Bounded):
        return Bounded.of(Weighing(h.node.bounding, [(h.node, map)], bias))
    if h is None:
        return bias
    product = map.push(h)
    return product if bias is None else product + bias


@dataclass(frozen=True)
class Kind:
    """A kind of cell: its step, how many parts its state has, and whether both its biases may be added at once."""

    name: str
    step: Step
    states: int = 1
    joint: bool = True

    def frames(self, x: Bounded, weights: Weights) -> Bounded:
        """What the weights make of all frames."""
        bias = weights.joint_bias if self.joint else weights.inner_bias
        return Bounded.of(Weighing(x.node.bounding, [(x.node, Dense(weights.inner))], bias))


KINDS = (
    Kind("lstm", lstm_step, 2),
    Kind("gru", gru_step, joint=False),
    Kind("rnn_tanh", rnn_step(TANH)),
    Kind("rnn_relu", rnn_step(RELU)),
)


def started(state: Any) -> Any:
    """An initial state; None where it is 0."""
    return state if isinstance(state, Bounded) or bool(state.any()) else None


def layer(kind: Kind, x: Bounded, weights: Weights, state: State, axis: int, backwards: bool) -> tuple[Bounded, State]:
    """The outputs of all frames, in their order, and the last state."""
    inner, outputs = kind.frames(x, weights), []
    if x.node.bounding.intervals_only and all(part is None for part in state):
        bias = None if kind.joint else weights.state_bias
        ends, last = interval_layer(kind.name, inner.node.interval, weights.state, bias, axis, backwards)
        return Bounded.of(Enclosed(x.node, ends)), tuple(Bounded.of(Enclosed(x.node, part)) for part in last)
    times = range(x.size(axis))
    for t in reversed(times) if backwards else times:
        frame = at_frame(inner, axis, t)
        state = kind.step(frame.node, state, weights)
        outputs.append(state[0])
    outputs = outputs[::-1] if backwards else outputs
    back = lambda rows: rows.unbind(axis + 1)  # noqa: E731
    return moved(lambda *values: torch.stack(values, axis), *outputs, back=back), state


def at_frame(x: Bounded, axis: int, t: int) -> Bounded:
    def back(rows: Tensor) -> list[Slot]:
        return [Slot(rows.unsqueeze(axis + 1), axis + 1, t, x.shape[axis])]

    return moved(lambda values: values.select(axis, t), x, back=back)


def joined(outputs: list[Bounded]) -> Bounded:
    """Both directions' neurons side by side."""
    return moved(lambda *values: torch.cat(values, -1), *outputs)


def recurrent(kind: Kind) -> Callable[..., Any]:
    """A layer of torch: its output, and the last states of all layers and directions."""

    def build(
        x: Bounded, first: Any, flat: Sequence[Tensor], has_biases: bool, layers: int, p: float, train: bool, both: bool,
        batch_first: bool = False,
    ) -> Any:  # fmt: skip
        if not isinstance(x, Bounded) or isinstance(has_biases, (list, tuple)):
            raise refuse("packed sequences", "pass padded ones, or one length at a time")
        directions, each = 2 if both else 1, 4 if has_biases else 2
        if len(flat) != layers * directions * each:
            raise refuse("a recurrent layer with projections", "use proj_size = 0 and a linear layer")
        given = first if isinstance(first, (list, tuple)) else (first,)
        axis, lasts = 1 if batch_first else 0, []
        for number in range(layers):
            outputs = []
            for way in range(directions):
                k = number * directions + way
                weights = Weights(*flat[k * each : (k + 1) * each], *(() if has_biases else (None, None)))  # type: ignore[arg-type]
                start = tuple(started(state[k]) for state in given)
                found, last = layer(kind, x, weights, start, axis, way == 1)
                outputs.append(found)
                lasts.append(last)
            x = outputs[0] if directions == 1 else joined(outputs)
            x = dropout(x, p, train) if number < layers - 1 else x
        ends = [torch.stack([last[part] for last in lasts]) for part in range(kind.states)]
        return (x, *ends)

    return build


def cell(kind: Kind) -> Callable[..., Any]:
    """A single step of torch's cells."""

    def build(
        x: Any, state: Any, inner: Tensor, weight: Tensor, inner_bias: Tensor | None = None, state_bias: Tensor | None = None
    ) -> Any:
        weights = Weights(inner, weight, inner_bias, state_bias)
        if not isinstance(x, Bounded):
            raise UnsupportedError("training cannot bound a cell whose input is constant; give it what depends on the input")
        given = tuple(started(part) for part in (state if isinstance(state, (list, tuple)) else (state,)))
        found = kind.step(kind.frames(x, weights).node, given, weights)
        return found if kind.states > 1 else found[0]

    return build


OPERATORS.update({kind.name: recurrent(kind) for kind in KINDS})
OPERATORS.update({f"{kind.name}_cell": cell(kind) for kind in KINDS})
