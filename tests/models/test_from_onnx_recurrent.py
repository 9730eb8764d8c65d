"""Recurrent operators, as the standard has them and as exporters write them, are imported for what they compute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto

from tests.helpers.onnx_models import GATES, HEAD, SINGLE, Arrays, agree, build, from_state, head, layer, node, normal, save
from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.from_onnx import recurrent as onnx_recurrent
from tightverify.models.from_onnx.file import from_onnx

# Recurrent operators as they stand in the standard


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("LSTM", {}),
        ("GRU", {"linear_before_reset": 0}),
        ("GRU", {"linear_before_reset": 1}),
        ("RNN", {}),
        ("RNN", {"activations": ["Relu"]}),
        ("LSTM", {"activations": ["Sigmoid", "relu", "Relu"]}),
        (
            "LSTM",
            {"activations": ["HardSigmoid", "Tanh", "LeakyRelu"], "activation_alpha": [0.3, 0.1], "activation_beta": [0.6]},
        ),
        ("GRU", {"activations": ["HardSigmoid", "Affine"], "activation_alpha": [0.25, 0.7], "activation_beta": [0.4, 0.1]}),
        ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [1.7], "activation_beta": [0.6]}),
        ("RNN", {"activations": ["HardSigmoid"]}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"clip": 0.5}),
        ("GRU", {"clip": 0.5}),
        ("RNN", {"clip": 1.5}),
    ],
)
def test_recurrent_operators(kind: str, attributes: dict[str, Any], direction: str, bias: bool, tmp_path: Path) -> None:
    inputs, weights, usual = layer(kind, direction, bias=bias)
    directions = 1 + (direction == "bidirectional")
    if "activations" in attributes:
        attributes = {name: values * directions for name, values in attributes.items()}
    operator = node(kind, inputs, "- h", **usual, **attributes)
    path = save(tmp_path, build(from_state(operator), [5, "N", 3], weights | head(4 * directions), SINGLE))
    agree(path, batch=1)


@pytest.mark.parametrize("attributes", [{}, {"clip": 0.4}, {"input_forget": 1}])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_peepholes(direction: str, attributes: dict[str, Any], tmp_path: Path) -> None:
    """Weights that are large enough for cells beyond the clip, which does not keep these."""
    inputs, weights, usual = layer("LSTM", direction)
    directions = 1 + (direction == "bidirectional")
    large = {name: 4 * values for name, values in weights.items()} | {"P": normal(directions, 12, seed=9)}
    operator = node("LSTM", inputs + " - - - P", "- h", **usual, **attributes)
    agree(save(tmp_path, build(from_state(operator), [5, "N", 3], large | head(4 * directions), SINGLE)), batch=1)


def test_every_output_of_an_lstm(tmp_path: Path) -> None:
    """Y, Y_h and Y_c, all in one row."""
    inputs, weights, usual = layer("LSTM", "bidirectional")
    nodes = [
        node("LSTM", inputs, "all h c", **usual),
        node("Transpose", "all", "all_by_input", perm=[2, 0, 1, 3]),
        node("Transpose", "h", "h_by_input", perm=[1, 0, 2]),
        node("Transpose", "c", "c_by_input", perm=[1, 0, 2]),
        *(node("Flatten", f"{part}_by_input", f"{part}_flat") for part in ("all", "h", "c")),
        node("Concat", "all_flat h_flat c_flat", "y", axis=1),
    ]
    model = agree(save(tmp_path, build(nodes, [5, "N", 3], weights, SINGLE)), batch=1)
    assert model.graph.output_size == 5 * 8 + 8 + 8


def test_an_rnn_with_a_function_for_each_direction(tmp_path: Path) -> None:
    inputs, weights, usual = layer("RNN", "bidirectional")
    operator = node("RNN", inputs, "- h", **usual, activations=["Relu", "Tanh"])
    agree(save(tmp_path, build(from_state(operator), [4, "N", 3], weights | head(8), SINGLE)), batch=1)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_constant_initial_states(kind: str, tmp_path: Path) -> None:
    inputs, weights, usual = layer(kind)
    states = {"h0": normal(1, 1, 4, seed=7), "c0": normal(1, 1, 4, seed=8)}
    operator = node(kind, inputs + " - h0" + (" c0" if kind == "LSTM" else ""), "- h", **usual)
    agree(save(tmp_path, build(from_state(operator), [5, 1, 3], weights | states | head(4), SINGLE)), batch=1, batch_axis=1)


def test_initial_states_that_depend_on_the_input(tmp_path: Path) -> None:
    """An encoder whose last state starts a decoder."""
    inputs, weights, usual = layer("GRU")
    more = {"V": normal(1, 12, 4, seed=21), "S": normal(1, 12, 4, seed=22)}
    nodes = [
        node("GRU", inputs, "all first", **usual),
        node("Squeeze", "all one", "sequence"),
        node("GRU", "sequence V S - - first", "- h", hidden_size=4, direction="reverse"),
        node("Squeeze", "h zero", "features"),
        HEAD,
    ]
    axes = {"zero": np.array([0]), "one": np.array([1])}
    agree(save(tmp_path, build(nodes, [5, "N", 3], weights | more | axes | head(4), SINGLE)), batch=1)


def test_sequence_lengths_that_say_nothing_new_are_read_and_others_refused(tmp_path: Path) -> None:
    inputs, weights, usual = layer("LSTM")
    operator = node("LSTM", inputs + " lengths", "- h", **usual)
    for length in (5, 4):
        constants = weights | head(4) | {"lengths": np.array([length], dtype=np.int32)}
        path = save(tmp_path, build(from_state(operator), [5, 1, 3], constants, SINGLE))
        if length == 5:
            agree(path, batch=1, batch_axis=1)
        else:
            with pytest.raises(UnsupportedError, match=r"LSTM.*my_lstm.*sequence_lens.*lengths.*\[4\] for 5 time steps"):
                from_onnx(path, batch_axis=1)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_read_in_the_wrong_order_are_noticed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, weights, usual = layer(kind)
    path = save(tmp_path, build(from_state(node(kind, inputs, "- h", **usual)), [5, "N", 3], weights | head(4), SINGLE))
    gates = range(GATES[kind])
    monkeypatch.setitem(onnx_recurrent.ORDERS, kind, tuple(gates))
    with pytest.raises(ModelError, match="does not compute what the model computes"):
        from_onnx(path)


def test_the_reset_gate_on_the_wrong_side_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, weights, usual = layer("GRU")
    operator = node("GRU", inputs, "- h", **usual, linear_before_reset=1)
    path = save(tmp_path, build(from_state(operator), [5, "N", 3], weights | head(4), SINGLE))
    cell = onnx_recurrent.GruCell  # type: ignore[attr-defined]
    monkeypatch.setattr(onnx_recurrent, "GruCell", lambda w, after, *rest: cell(w, not after, *rest))
    with pytest.raises(ModelError, match="does not compute what the model computes"):
        from_onnx(path)


@pytest.mark.parametrize(
    ("kind", "attributes", "inputs", "named"),
    [
        ("LSTM", {"clip": -1.0}, "", "clip"),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Softsign"]}, "", "Softsign"),
        ("GRU", {"activations": ["Sigmoid", "ThresholdedRelu"]}, "", "ThresholdedRelu"),
        ("RNN", {"activations": ["Softplus"]}, "", "Softplus"),
        ("RNN", {"clip": 0.0}, "", "clip"),
    ],
)
def test_recurrent_variants_are_refused_by_name(
    kind: str, attributes: dict[str, Any], inputs: str, named: str, tmp_path: Path
) -> None:
    usual_inputs, weights, usual = layer(kind)
    operator = node(kind, usual_inputs + inputs, "- h", **usual, **attributes)
    path = save(tmp_path, build(from_state(operator), [5, "N", 3], weights | head(4), SINGLE))
    with pytest.raises(UnsupportedError, match=rf"{kind} \(node 'my_{kind.lower()}'.*{named}"):
        from_onnx(path)


# Graphs as exporters write them


class Recurrent(torch.nn.Module):
    def __init__(self, kind: str, take: str = "last", **options: Any) -> None:
        super().__init__()
        self.layers = getattr(torch.nn, kind)(3, 4, **options)
        self.linear = torch.nn.Linear(4 * (1 + self.layers.bidirectional), 3)
        self.take = take

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequence = self.layers(x)[0]
        time = int(self.layers.batch_first)
        if self.take == "last":
            return self.linear(sequence.select(time, -1))
        if self.take == "mean":
            return self.linear(sequence.mean(time))
        return self.linear(sequence.amax(time))


class Started(torch.nn.Module):
    """An LSTM that starts from learned states."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.LSTM(3, 4, batch_first=True)
        self.h, self.c = (torch.nn.Parameter(torch.randn(1, 1, 4)) for _ in range(2))
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.h.expand(-1, x.shape[0], -1).contiguous(), self.c.expand(-1, x.shape[0], -1).contiguous()
        return self.linear(self.layers(x, states)[1][0][-1])


class HandWritten(torch.nn.Module):
    """A GRU written out, then a plain unit, then the mean of products and squares."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.unit = torch.nn.Linear(7, 12), torch.nn.Linear(8, 4, bias=False)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            reset, update, new = self.cell(torch.cat([x[:, t], h], 1)).split(4, 1)
            gate = torch.sigmoid(update)
            n = torch.tanh(new + torch.sigmoid(reset) * h)
            h = (1 - gate) * n + gate * h
            outputs.append(torch.relu(self.unit(torch.cat([h, n * h], 1))) ** 2 / 2)
        return self.linear(torch.stack(outputs, 1).mean(1) - h)


class Convolutional(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv1d(3, 4, 3, padding=1, stride=2)
        self.norm = torch.nn.BatchNorm1d(4)
        self.second = torch.nn.Conv1d(4, 6, 2, groups=2, dilation=2)
        self.linear = torch.nn.Linear(6, 3)
        for tensor in (self.norm.weight, self.norm.bias, self.norm.running_mean):
            torch.nn.init.normal_(tensor)
        torch.nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.leaky_relu(self.norm(self.first(x)), 0.1)
        x = torch.nn.functional.max_pool1d(torch.sigmoid(self.second(x)), 2)
        return self.linear(x.mean(-1))


def export(module: torch.nn.Module, path: Path, shape: tuple[int, ...], batch: int, modern: bool) -> Path:
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    x = torch.randn(shape).to(next(module.parameters()).dtype)
    logging.disable(logging.WARNING)
    try:
        if modern:
            dynamic: Any = {"dynamic_shapes": ({batch: torch.export.Dim("batch", min=1)},)}
        else:
            dynamic = {"dynamic_axes": {"x": {batch: "batch"}}, "input_names": ["x"]}
        torch.onnx.export(module.eval(), (x,), str(path), dynamo=modern, verbose=False, **dynamic)
    finally:
        logging.disable(logging.NOTSET)
    return path


TORCH_MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "LSTM": lambda: Recurrent("LSTM", batch_first=True),
    "LSTM, two layers, bidirectional": lambda: Recurrent("LSTM", "mean", num_layers=2, bidirectional=True, batch_first=True),
    "LSTM, time first, no bias": lambda: Recurrent("LSTM", bias=False),
    "LSTM with states": Started,
    "GRU": lambda: Recurrent("GRU", "max"),
    "GRU, two layers, bidirectional": lambda: Recurrent("GRU", num_layers=2, bidirectional=True, batch_first=True),
    "RNN": lambda: Recurrent("RNN", "mean", num_layers=2, batch_first=True),
    "RNN, relu": lambda: Recurrent("RNN", nonlinearity="relu", bidirectional=True),
    "written by hand": HandWritten,
    "written by hand, float64": lambda: HandWritten().double(),
    "convolutions": Convolutional,
}
MODERN = ("LSTM, two layers, bidirectional", "LSTM with states", "GRU", "written by hand, float64", "convolutions")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "modern"), [(name, False) for name in TORCH_MODELS] + [(name, True) for name in MODERN])
def test_what_torch_exports(name: str, modern: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = TORCH_MODELS[name]()
    batch = 1 if isinstance(module, Recurrent) and not module.layers.batch_first else 0
    shape = (2, 3, 16) if isinstance(module, Convolutional) else (6, 2, 3) if batch else (2, 6, 3)
    path = export(module, tmp_path / "model.onnx", shape, batch, modern)
    model = agree(path, batch=batch)
    assert model.dtype == next(module.parameters()).dtype
    assert model.graph.input_shape == tuple(n for k, n in enumerate(shape) if k != batch)


def keras_layer(kind: str, number: int, features: int, before_reset: int) -> tuple[list[NodeProto], Arrays]:
    """A layer that returns its sequence, (batch, time, features) in and out, as tf2onnx writes it."""
    weights = {
        f"W{number}": normal(2, 4 * GATES[kind], features, seed=number) * 0.8,
        f"R{number}": normal(2, 4 * GATES[kind], 4, seed=number + 1) * 0.8,
        f"B{number}": normal(2, 8 * GATES[kind], seed=number + 2),
    }
    options: dict[str, Any] = {"hidden_size": 4}
    if kind == "GRU":
        options |= {"linear_before_reset": before_reset, "activations": ["Sigmoid", "Tanh"]}
    nodes = [node("Transpose", "x" if number == 0 else "z0", f"t{number}", perm=[1, 0, 2])]
    for k, direction in enumerate(("forward", "reverse")):
        parts = [f"{name}{number}_{direction}" for name in "WRB"]
        nodes += [node("Slice", f"{part[0]}{number} from{k} to{k} first", part) for part in parts]
        out = f"{direction}{number}"
        nodes += [
            node(kind, f"t{number} {' '.join(parts)}", f"{out}_all", direction=direction, **options),
            node("Squeeze", f"{out}_all axis", f"{out}_steps"),
        ]
    return [
        *nodes,
        node("Concat", f"forward{number}_steps reverse{number}_steps", f"c{number}", axis=-1),
        node("Transpose", f"c{number}", f"z{number}", perm=[1, 0, 2]),
    ], weights


@pytest.mark.parametrize(("kind", "before_reset"), [("LSTM", 0), ("GRU", 0), ("GRU", 1)])
def test_what_keras_converters_write(kind: str, before_reset: int, tmp_path: Path) -> None:
    """Two bidirectional layers as a forward and a reverse operator each, then a MatMul and an Add on the last step."""
    first, second = keras_layer(kind, 0, 3, before_reset), keras_layer(kind, 1, 8, before_reset)
    nodes = [
        *first[0],
        *second[0],
        node("Gather", "z1 last", "features", axis=1),
        node("MatMul", "features kernel", "product"),
        node("Add", "product bias", "y"),
    ]
    constants = {f"{name}{k}": np.array([k + (name == "to")]) for name in ("from", "to") for k in (0, 1)}
    constants |= {"first": np.array([0]), "axis": np.array([1]), "last": np.array(-1)}
    constants |= {"kernel": normal(8, 3), "bias": normal(3)}
    path = save(tmp_path, build(nodes, ["unk__7", 5, 3], first[1] | second[1] | constants, SINGLE, opset=13))
    agree(path)
