"""Recurrent operators of layout 1, the batch first in all that they read and give, are imported and run like torch's layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tests.helpers.onnx_models import GATES, SINGLE, Arrays, build, layer, node, normal, save
from tightverify.models.from_onnx.file import from_onnx

TIME, FEATURES, SIZE, BATCH = 5, 3, 4, 3
ORDERS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where torch has each gate of ONNX's."""


def torch_layer(kind: str, layers: int, both: bool) -> Any:
    torch.manual_seed(3)
    return getattr(torch.nn, kind)(FEATURES, SIZE, layers, bidirectional=both, batch_first=True)


def weights_of(module: Any, kind: str, k: int, both: bool) -> Arrays:
    """Those of a layer of torch's as ONNX has them."""

    def stacked(*names: str) -> Any:
        parts = [[getattr(module, f"{name}_l{k}{end}").detach() for name in names] for end in ("", "_reverse")[: 1 + both]]
        gates = [[torch.cat([each.chunk(GATES[kind])[g] for g in ORDERS[kind]]) for each in part] for part in parts]
        return torch.stack([torch.cat(part) for part in gates]).double().numpy()

    return {f"W{k}": stacked("weight_ih"), f"R{k}": stacked("weight_hh"), f"B{k}": stacked("bias_ih", "bias_hh")}


def states_of(kind: str, layers: int, both: bool) -> Arrays:
    """Initial states (layers, directions, H) by letter."""
    return {letter: normal(layers, 1 + both, SIZE, seed=ord(letter)) for letter in ("hc" if kind == "LSTM" else "h")}


def layers_of(kind: str, layers: int, both: bool, states: Arrays) -> list[NodeProto]:
    """The layers, and all that they give in one row: the last one's Y, then every Y_h and Y_c."""
    attributes = {"hidden_size": SIZE, "direction": "bidirectional" if both else "forward", "layout": 1}
    attributes |= {"linear_before_reset": 1} if kind == "GRU" else {}
    ends = ("h", "c") if kind == "LSTM" else ("h",)
    nodes, x = list[NodeProto](), "x"
    for k in range(layers):
        begin = " - " + " ".join(f"{letter}{k}" for letter in states) if states else ""
        nodes.append(node(kind, f"{x} W{k} R{k} B{k}{begin}", f"Y{k} " + " ".join(f"Y_{e}{k}" for e in ends), **attributes))
        nodes.append(node("Reshape", f"Y{k} whole", f"next{k}"))
        x = f"next{k}"
    parts = [f"Y{layers - 1}", *(f"Y_{e}{k}" for k in range(layers) for e in ends)]
    nodes += [node("Flatten", part, f"flat_{part}") for part in parts]
    return [*nodes, node("Concat", " ".join(f"flat_{part}" for part in parts), axis=1)]


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_layers_of_batch_first_give_what_torch_gives(kind: str, both: bool, layers: int, starts: bool, tmp_path: Path) -> None:
    module, directions = torch_layer(kind, layers, both), 1 + both
    states = states_of(kind, layers, both) if starts else {}
    constants: Arrays = {"whole": np.array([0, 0, -1])}
    for k in range(layers):
        constants |= weights_of(module, kind, k, both) | {f"{name}{k}": each[None, k] for name, each in states.items()}
    nodes = layers_of(kind, layers, both, states)
    model = from_onnx(save(tmp_path, build(nodes, [1, TIME, FEATURES], constants, SINGLE)))
    x = torch.from_numpy(normal(BATCH, TIME, FEATURES, seed=5)).float()
    given = [torch.from_numpy(each).float().flatten(0, 1)[:, None].expand(-1, BATCH, -1) for each in states.values()]
    begin = (tuple(each.contiguous() for each in given) if kind == "LSTM" else given[0].contiguous()) if starts else None
    with torch.no_grad():
        sequence, ends = module(x, begin)
    wanted = [sequence.flatten(1)]
    for k in range(layers):
        rows = slice(k * directions, (k + 1) * directions)
        wanted += [each[rows].swapaxes(0, 1).flatten(1) for each in (ends if kind == "LSTM" else (ends,))]
    theirs = torch.cat(wanted, 1).double()
    torch.testing.assert_close(model.graph.forward(x.double().flatten(1)), theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.original(x).double(), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_what_onnxs_reference_makes_of_batch_first(kind: str, tmp_path: Path) -> None:
    """An operator in a branch, of a batch, and Y_h alone of its outputs."""
    inputs, weights, usual = layer(kind)
    inner = node(kind, inputs, "- h", **usual, layout=1)
    body = helper.make_graph([inner], "then", [], [helper.make_tensor_value_info("h", TensorProto.FLOAT, None)])
    other = helper.make_graph(
        [node("Identity", "never", "n")], "else", [], [helper.make_tensor_value_info("n", TensorProto.FLOAT, None)]
    )
    nodes = [node("If", "yes", "state", then_branch=body, else_branch=other), node("Flatten", "state")]
    constants = weights | {"yes": np.array(True), "never": np.zeros((1, 1, 4))}
    built = build(nodes, ["N", TIME, FEATURES], constants, SINGLE)
    model = from_onnx(save(tmp_path, built))
    x = normal(BATCH, TIME, FEATURES, seed=5).astype(SINGLE)
    made: Any = ReferenceEvaluator(built).run(None, {"x": x})
    theirs = torch.from_numpy(made[0]).double()
    torch.testing.assert_close(model.graph.forward(torch.from_numpy(x).double().flatten(1)), theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.original(torch.from_numpy(x)).double(), theirs, rtol=1e-5, atol=1e-5)
