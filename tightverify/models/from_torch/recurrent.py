"""Torch's recurrent layers and cells, whole: their weights cut into gates for `recurrent`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tightverify.models.builder import Symbols
from tightverify.models.from_torch.call import Call
from tightverify.models.recurrent import TANH, Cell, GruCell, LstmCell, RnnCell, Weights, applied, no_bias, run
from tightverify.ops import LeakyRelu

MakeCell = Callable[[Weights], Cell]


def _weights(call: Call, tensors: list[object]) -> Weights:
    """Torch's order: input, hidden, and a bias for each, or none."""
    if any(isinstance(tensor, np.ndarray) for tensor in tensors):
        raise call.refuse("with weights that depend on the input is not supported", "make the weights parameters")
    kernel, recurrent, *biases = (None if tensor is None else call.exact(tensor) for tensor in tensors)
    if kernel is None or recurrent is None:
        raise call.refuse("without weights is not supported", "give both weights")
    input_bias, hidden_bias = biases or (None, None)
    return Weights(
        kernel,
        recurrent,
        no_bias(kernel) if input_bias is None else input_bias,
        no_bias(kernel) if hidden_bias is None else hidden_bias,
    )


def layers(make: MakeCell, states: int) -> Callable[[Call], object]:
    """`num_layers` layers, one or two directions each; outputs, then the last state of each kind (layers, batch, H)."""

    def build(call: Call) -> object:
        call.number("dropout")  # Of training only.
        if call.flag("train"):
            raise call.refuse("in training mode is not supported", "put the model in evaluation mode")
        directions = 2 if call.flag("bidirectional") else 1
        cells = _cells(call, make, call.integer("num_layers") * directions)
        given = call.values("hx") if states > 1 else [call["hx"]]
        initial = [call.neurons(value) for value in given]
        first = call.flag("batch_first")
        x = call.symbols("input")
        outputs, last = _stack(call, cells, directions, np.moveaxis(x, 1, 0) if first else x, initial)
        return (np.moveaxis(outputs, 0, 1) if first else outputs, *last)

    return build


def _cells(call: Call, make: MakeCell, count: int) -> list[Cell]:
    """For each layer and direction; of an LSTM with projections (proj_size) the matrix comes behind the others."""
    params = call.values("params")
    usual = 4 if call.flag("has_biases") else 2
    each = len(params) // count
    if each * count != len(params) or each not in ((usual, usual + 1) if make is LstmCell else (usual,)):
        raise call.refuse(f"with {len(params)} weights is not supported", "use a layer of torch.nn")
    found = [params[k * each : (k + 1) * each] for k in range(count)]
    if each == usual:
        return [make(_weights(call, own)) for own in found]
    return [LstmCell(_weights(call, own[:usual]), projection=call.exact(own[usual])) for own in found]


def _stack(call: Call, cells: list[Cell], directions: int, x: Symbols, initial: list[Symbols]) -> tuple[Symbols, list[Symbols]]:
    """A sequence (time, batch, F) through all layers; each entry of the batch is a sequence of its own."""
    last = [np.empty_like(state) for state in initial]
    for start in range(0, len(cells), directions):
        outputs = []
        for k in range(start, start + directions):
            steps = []
            for entry in range(x.shape[1]):
                state = tuple(states[k, entry] for states in initial)
                hidden, state = run(call.builder, cells[k], x[:, entry], state, reverse=k > start)
                steps.append(hidden)
                for kind, final in zip(last, state, strict=True):
                    kind[k, entry] = final
            outputs.append(np.stack(steps, axis=1))
        x = np.concatenate(outputs, axis=-1)
    return x, last


def cell(make: MakeCell, states: int) -> Callable[[Call], object]:
    """One step for each row of a batch (N, F)."""

    def build(call: Call) -> object:
        weights = _weights(call, [call[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")])
        given = call.values("hx") if states > 1 else [call["hx"]]
        initial = [call.neurons(value) for value in given]
        made = make(weights)
        rows = [
            made.step(call.builder, row, tuple(state[k] for state in initial)) for k, row in enumerate(call.symbols("input"))
        ]
        result = tuple(np.stack(kind) for kind in zip(*rows, strict=True))
        return result if states > 1 else result[0]

    return build


def _rnn_tanh(weights: Weights) -> Cell:
    return RnnCell(weights, TANH)


def _rnn_relu(weights: Weights) -> Cell:
    return RnnCell(weights, applied(LeakyRelu()))


RECURRENT: dict[str, Callable[[Call], object]] = {
    "aten.lstm.input": layers(LstmCell, 2),
    "aten.gru.input": layers(GruCell, 1),
    "aten.rnn_tanh.input": layers(_rnn_tanh, 1),
    "aten.rnn_relu.input": layers(_rnn_relu, 1),
    "aten.lstm_cell.default": cell(LstmCell, 2),
    "aten.gru_cell.default": cell(GruCell, 1),
    "aten.rnn_tanh_cell.default": cell(_rnn_tanh, 1),
    "aten.rnn_relu_cell.default": cell(_rnn_relu, 1),
}
"""Operators by name."""
