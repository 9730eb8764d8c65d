"""ONNX's LSTM, GRU and RNN: their layout cut into the gates of `recurrent`, attribute by attribute.

X is (time, batch, features), W (directions, gates * H, F), R (directions, gates * H, H), B (directions, 2 * gates * H), states
(directions, batch, H); Y is (time, directions, batch, H). Under `layout = 1` the batch is first in X, states and all outputs.
ONNX's order of gates is input, output, forget, cell for LSTM and update, reset, new for GRU.

`clip` is what onnxruntime makes of it: what gates and proposals are functions of is kept within the limit, an LSTM's cell is
not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tightverify.errors import ModelError
from tightverify.models import composed
from tightverify.models.builder import ZERO, Symbols
from tightverify.models.clamps import clamped
from tightverify.models.from_onnx.node import Activations, Call
from tightverify.models.recurrent import SIGMOID, TANH, Activation, Cell, GruCell, LstmCell, RnnCell, Weights, applied, run
from tightverify.ops import LeakyRelu, Operation, Tanh

ORDERS = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where in ONNX's layout each gate of our cells stands."""
ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
"""The default functions of one direction."""


def scaled(before: float, op: Operation, after: float) -> Activation:
    """`after * op(before * x)`"""
    return lambda builder, x: builder.combine([(builder.apply(op, builder.combine([(x, before)])), after)])


def hard_sigmoid(slope: float, shift: float) -> Activation:
    return lambda builder, x: composed.hard_sigmoid(builder, x, slope, shift)


def affine(slope: float, shift: float) -> Activation:
    return lambda builder, x: builder.combine([(x, slope)], shift)


FUNCTIONS: dict[str, Callable[..., Activation]] = {
    "tanh": lambda: TANH,
    "sigmoid": lambda: SIGMOID,
    "relu": lambda: applied(LeakyRelu(0.0)),
    "leakyrelu": lambda slope: applied(LeakyRelu(slope)),
    "hardsigmoid": hard_sigmoid,
    "affine": affine,
    "scaledtanh": lambda size, slope: scaled(slope, Tanh(), size),
}
"""By their names in lower case: ONNX says that case is no matter."""
NUMBERS = {"leakyrelu": (0.01,), "hardsigmoid": (0.2, 0.5), "affine": (1.0, 0.0), "scaledtanh": (1.0, 1.0)}
"""The defaults of alpha and beta, for those that take any."""
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""For each direction, whether it starts at the end."""


def recurrent(kind: str, call: Call) -> list[Symbols]:
    """The outputs Y, Y_h and, for LSTM, Y_c."""
    name = call.text("direction", "forward")
    directions = DIRECTIONS.get(name)
    if directions is None:
        raise call.unsupported(f"the attribute direction = {name}", f"use one of {', '.join(DIRECTIONS)}")
    batch_first = call.integer("layout", 0) != 0
    x = call.numbers(0).swapaxes(0, 1) if batch_first else call.numbers(0)
    refuse_lengths(call, len(x))
    functions = activation_functions(kind, call, len(directions))
    weights = directions_of(kind, call, len(directions))
    cells = cells_of(kind, call, weights, functions)
    states = initial_states(kind, call, (len(directions), x.shape[1], weights[0].size), batch_first)
    sequences: list[Symbols] = []
    ends: list[list[Symbols]] = []
    for cell, backwards in zip(cells, directions, strict=True):
        direction = len(sequences)
        runs = [
            run(call.builder, cell, x[:, item], tuple(state[direction, item] for state in states), backwards)
            for item in range(x.shape[1])
        ]
        sequences.append(np.stack([outputs for outputs, _ in runs], axis=1))
        ends.append([np.stack(parts) for parts in zip(*(last for _, last in runs), strict=True)])
    made = [np.stack(sequences, axis=1), *(np.stack(parts) for parts in zip(*ends, strict=True))]
    return [np.moveaxis(each, -2, 0) for each in made] if batch_first else made


def refuse_lengths(call: Call, time: int) -> None:
    """sequence_lens may only say what the shape says already."""
    if call.given(4) and (call.constant(4) != time).any():
        raise call.unsupported(
            f"sequence_lens ('{call.name(4)}') = {call.constant(4).tolist()} for {time} time steps",
            "leave it away: every input is taken at its full length",
        )


def activation_functions(kind: str, call: Call, directions: int) -> list[list[Activation]]:
    """The functions of each direction."""
    defaults = ACTIVATIONS[kind]
    given = call.texts("activations")
    names = defaults * directions if given is None else given
    if len(names) != len(defaults) * directions:
        raise ModelError(
            f"{call.place} has {len(names)} activations; wanted {len(defaults)} for each direction: export the model again"
        )
    alphas, betas = (iter(call.attribute(f"activation_{name}") or ()) for name in ("alpha", "beta"))
    found: list[Activation] = []
    for k, name in enumerate(names):
        make = FUNCTIONS.get(name.lower())
        if make is None:
            raise call.unsupported(
                f"the activation {name} (number {k + 1} of the attribute activations)",
                f"use one of {', '.join(FUNCTIONS)} there",
            )
        # Numbers are listed for those functions alone that take some.
        usual = NUMBERS.get(name.lower(), ())
        found.append(make(*(float(next(each, number)) for each, number in zip((alphas, betas), usual, strict=False))))
    return [found[k : k + len(defaults)] for k in range(0, len(found), len(defaults))]


def clipped(limit: float, function: Activation) -> Activation:
    """A function of what is kept within -limit and limit."""
    return lambda builder, x: function(builder, clamped(builder, x, -limit, limit))


def cells_of(kind: str, call: Call, weights: list[Weights], functions: list[list[Activation]]) -> list[Cell]:
    """The cell of each direction."""
    if call.has("clip"):
        if kind == "LSTM":
            functions = [[*(clipped(limit_of(call), each) for each in several[:2]), several[2]] for several in functions]
        else:
            functions = [[clipped(limit_of(call), each) for each in several] for several in functions]
    pairs = list(zip(weights, functions, strict=True))
    if kind == "GRU":
        after = call.integer("linear_before_reset", 0) != 0
        return [GruCell(own, after, *several) for own, several in pairs]
    if kind == "RNN":
        return [RnnCell(own, *several) for own, several in pairs]
    coupled, peepholes = call.integer("input_forget", 0) != 0, peepholes_of(call, len(weights), weights[0].size)
    return [
        LstmCell(own, gate, proposal, result, peepholes=peeping, coupled=coupled)
        for (own, (gate, proposal, result)), peeping in zip(pairs, peepholes, strict=True)
    ]


def limit_of(call: Call) -> float:
    limit = call.number("clip", math.inf)
    if not limit > 0:
        raise call.unsupported(f"the attribute clip = {limit:g}", "give it a number above 0")
    return limit


def peepholes_of(call: Call, directions: int, size: int) -> list[Tensor | None]:
    """For each direction those of the input, the forget and the output gate (3, H); ONNX has the output gate's second."""
    if not call.given(7):
        return [None] * directions
    if isinstance(call.value(7), Activations):
        raise call.unsupported(f"peepholes (the input P, '{call.name(7)}') that depend on the input", "make them constants")
    P = call.weights(7)
    if P.shape != (directions, 3 * size):
        raise ModelError(
            f"{call.place} has peepholes of shape {tuple(P.shape)}; wanted {(directions, 3 * size)}: mend the model"
        )
    return [None if not bool(own.any()) else own.reshape(3, size)[[0, 2, 1]] for own in P]


def directions_of(kind: str, call: Call, directions: int) -> list[Weights]:
    """Each direction's weights, gates in our order."""
    order = ORDERS[kind]
    gates = len(order)
    W, R = call.weights(1), call.weights(2)
    size = R.shape[-1]
    B = call.weights(3) if call.given(3) else torch.zeros(directions, 2 * gates * size, dtype=torch.float64)
    shapes = (W.shape[:-1], R.shape[:-1], B.shape)
    if shapes != ((directions, gates * size),) * 2 + ((directions, 2 * gates * size),):
        raise ModelError(
            f"{call.place} has weights of shapes {tuple(W.shape)}, {tuple(R.shape)} and {tuple(B.shape)}, which do not fit "
            f"{directions} direction(s) of {gates} gates: export the model again"
        )
    if call.integer("hidden_size", size) != size:
        raise ModelError(f"{call.place}: hidden_size does not fit its weights of {size} units; export the model again")

    def ordered(rows: Tensor) -> Tensor:
        return torch.cat([rows[k * size : (k + 1) * size] for k in order])

    half = gates * size
    return [Weights(ordered(W[d]), ordered(R[d]), ordered(B[d, :half]), ordered(B[d, half:])) for d in range(directions)]


def initial_states(kind: str, call: Call, shape: tuple[int, int, int], batch_first: bool) -> list[Symbols]:
    """The hidden state and, for LSTM, the cell's, (directions, batch, H) each; zeros where the file gives none."""
    directions, batch, size = shape
    wanted = (batch, directions, size) if batch_first else shape
    states = []
    for k in (5, 6) if kind == "LSTM" else (5,):
        state = call.numbers(k) if call.given(k) else np.full(wanted, ZERO, dtype=np.int64)
        if state.shape != wanted:
            raise ModelError(
                f"{call.place} starts from '{call.name(k)}' of shape {state.shape}; wanted {wanted}: if that is the batch that "
                "the model was exported with, export it with a batch of 1 or a dynamic one"
            )
        states.append(state.swapaxes(0, 1) if batch_first else state)
    return states


RECURRENT: dict[str, Callable[[Call], list[Symbols]]] = {kind: partial(recurrent, kind) for kind in ORDERS}
