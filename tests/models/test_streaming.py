"""Models of streams, whose state goes in and comes out: unrolled over some calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import SINGLE, build, node, normal
from tightverify.errors import InputError, ModelError, UnsupportedError, UsageError
from tightverify.models.streaming import core, paired

CHUNK, HIDDEN, CALLS = 3, 4, 3


class Detector(nn.Module):
    """A chunk and two states in, a row and two states out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.LSTMCell(CHUNK, HIDDEN), nn.Linear(HIDDEN, 2)
        self.double()

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        state = self.cell(x, (h, c))
        return self.head(state[0]), state


X = torch.randn((2, CALLS, CHUNK), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
FIRST = {name: 0.3 * normal(1, HIDDEN, seed=k) for k, name in enumerate("hc")}


def called(x: Tensor) -> Tensor:
    """(N, K, 2): what the module says of one chunk after the other."""
    detector, found = Detector().eval(), []
    with torch.no_grad():
        for chunks in x:
            state = tuple(torch.from_numpy(FIRST[name]) for name in "hc")
            for chunk in chunks:
                row, state = detector(chunk[None], *state)
                found.append(row[0])
    return torch.stack(found).view(len(x), CALLS, 2)


@pytest.mark.parametrize(("frame", "chosen"), [("last", [2]), (1, [1]), ("all", [0, 1, 2])])
def test_a_module_is_called_for_one_chunk_after_the_other(frame: Any, chosen: list[int]) -> None:
    model = tv.load(Detector(), (CHUNK,), fix=FIRST, unroll=CALLS, state={1: "h", 2: "c"}, frame=frame)
    wanted = called(X)[:, chosen].flatten(1)
    assert model.graph.input_shape == (CALLS, CHUNK)
    assert torch.allclose(model.original(X), wanted, atol=1e-12)
    assert torch.allclose(model.graph.forward(X.flatten(1)), wanted, atol=1e-12)
    assert "unrolled over 3 calls: output 1 goes back into h, output 2 goes back into c" in model.notes


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`stateN = tanh(x W + state U)`, its sum and a rate: as voice activity detectors are called."""
    nodes = [
        node("MatMul", "x w", "a"), node("MatMul", "state u", "b"), node("Sum", "a b", "c"), node("Tanh", "c", "stateN"),
        node("MatMul", "stateN v", "d"), node("Cast", "sr", "rate", to=TensorProto.FLOAT), node("Add", "d rate", "e"),
        node("Sigmoid", "e", "y"),
    ]  # fmt: skip
    weights = {"w": normal(CHUNK, HIDDEN), "u": normal(HIDDEN, HIDDEN, seed=1), "v": normal(HIDDEN, 1, seed=2)}
    model = build(nodes, ["N", CHUNK], weights, SINGLE, output="y stateN")
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", HIDDEN]))
    model.graph.input.append(helper.make_tensor_value_info("sr", TensorProto.INT64, []))
    found = tmp_path_factory.mktemp("streams") / "model.onnx"
    onnx.save(model, str(found))
    return found


FIXED = {"state": 0.0, "sr": 1}


def test_a_file_is_called_for_one_chunk_after_the_other(path: Path) -> None:
    x = X.float()
    model = tv.load(path, fix=FIXED, unroll=CALLS, frame="all", inputs=x)
    session, wanted = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]), []
    for chunks in x.numpy():
        state = np.zeros((1, HIDDEN), np.float32)
        for chunk in chunks:
            y, state = session.run(None, {"x": chunk[None], "state": state, "sr": np.array(1)})
            wanted.append(y[0])
    stacked = torch.from_numpy(np.stack(wanted)).view(2, CALLS)
    assert torch.allclose(model.original(x), stacked, atol=1e-6)
    assert torch.allclose(model.graph.forward(x.double().flatten(1)).float(), stacked, atol=1e-6)
    assert "unrolled over 3 calls: stateN goes back into state" in model.notes
    same = tv.load(path, fix=FIXED, unroll=CALLS, frame="last", state={"1": "state"})
    assert torch.allclose(same.original(x), stacked[:, 2:], atol=1e-6)


def test_a_chunk_of_its_own_may_change(path: Path) -> None:
    model = tv.load(path, fix=FIXED, unroll=CALLS, frame="last")
    x = X.float()
    found = tv.certify(model, x, None, tv.LinfBall(0.01, frames=[0]), rows=tv.Within(0.1))
    assert found.counts["ROBUST"] == 2


def test_an_output_may_itself_be_the_state(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Add", "a h", "b"), node("Softmax", "b", "y")]
    model = build(nodes, ["N", CHUNK], {"w": normal(CHUNK, 2)}, SINGLE)
    model.graph.input.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 2]))
    onnx.save(model, str(tmp_path / "model.onnx"))
    loaded = tv.load(tmp_path / "model.onnx", fix={"h": 0.0}, unroll=2, state={"y": "h"}, frame="last")
    chunks, h = X[:, :2].float(), torch.zeros(2, 2)
    for k in range(2):
        h = (chunks[:, k] @ torch.from_numpy(normal(CHUNK, 2)).float() + h).softmax(1)
    assert torch.allclose(loaded.original(chunks), h, atol=1e-6)
    assert loaded.left_out == ""


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"state": {"stateN": "state"}}, UsageError, "state was given without unroll"),
        ({"unroll": 0}, UsageError, "unroll is 0; wanted the number of calls"),
        ({"unroll": 2}, ModelError, "choose a frame"),
        ({"unroll": 2, "state": {"y2": "state"}}, UsageError, "state names the output 'y2'"),
        ({"unroll": 2, "state": {"stateN": "sr"}}, UsageError, "names the input 'sr' .* is not fixed; those fixed are 'state'"),
        ({"unroll": 2, "inputs": X[:, :1].float()}, InputError, r"wanted \(N, 2, ...\) of a model unrolled over 2 calls"),
        ({"unroll": 2, "shape": {"x": (CHUNK,)}}, UnsupportedError, "for models of one perturbed input of floats"),
    ],
)
def test_what_is_wrong_is_said(path: Path, how: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        tv.load(path, fix=FIXED, **how)


def test_where_states_are_alike_the_user_is_asked() -> None:
    with pytest.raises(ModelError, match="its outputs '1', '2' may go back into its input 'h'; say which one does: --state"):
        tv.load(Detector(), (CHUNK,), fix=FIRST, unroll=2, frame="last")
    with pytest.raises(UsageError, match="none of its inputs is fixed as a first state"):
        tv.load(nn.Linear(2, 2), (2,), unroll=2, frame="last")


@pytest.mark.parametrize(
    ("outputs", "inputs", "found"),
    [
        ({"hn": (1, 4), "cn": (1, 4)}, {"h0": (1, 4), "c0": (1, 4)}, {"h0": "hn", "c0": "cn"}),
        ({"stateN": None}, {"state": (2, "N", 4)}, {"state": "stateN"}),
        ({"out_state": (1, 4), "context": (1, 2)}, {"in_state": (1, 4)}, {"in_state": "out_state"}),
        ({"new_h_1": (1, 4), "new_h_2": (1, 4)}, {"h_1": (1, 4), "h_2": (1, 4)}, {"h_1": "new_h_1", "h_2": "new_h_2"}),
        ({"Identity_1": (1, 4)}, {"input_3": (1, 4)}, {"input_3": "Identity_1"}),
    ],
)
def test_states_are_paired_by_shapes_and_names(outputs: Any, inputs: Any, found: dict[str, str]) -> None:
    assert paired(outputs, inputs, {}, "it") == found


def test_what_cannot_be_paired_is_asked_for() -> None:
    with pytest.raises(ModelError, match="none was found for each of its states"):
        paired({"a": (1, 2)}, {"h": (1, 3)}, {}, "it")
    with pytest.raises(ModelError, match="its outputs 'a', 'b' may go back into its input 'h'"):
        paired({"a": (1, 2), "b": (1, 2)}, {"h": (1, 2)}, {}, "it")
    with pytest.raises(UsageError, match="lets two outputs of it go back into one input"):
        paired({"a": (1, 2), "b": (1, 2)}, {"h": (1, 2)}, {"a": "h", "b": "h"}, "it")
    assert core("lstm1_new_stateN") == core("lstm1_state")
