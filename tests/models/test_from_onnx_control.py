"""Loop, Scan and If of ONNX files: unrolled as onnxruntime runs them, refused where the input's numbers decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

import tightverify as tv
from tests.helpers.onnx_models import agree, build, node, normal, save
from tightverify.errors import TightVerifyError, UnsupportedError

TIME, FEATURES, UNITS, CLASSES = 5, 3, 2, 4
WEIGHTS = {"W": normal(FEATURES, UNITS, seed=1), "U": normal(UNITS, UNITS, seed=2), "V": normal(UNITS, CLASSES, seed=3)}


SHAPES: dict[str, list[int]] = {"i": [], "go": [], "h": [1, UNITS], "f": [1, FEATURES], "s": []}
"""Of bodies' inputs: onnxruntime wants to know."""


def value(name: str, kind: int = TensorProto.DOUBLE) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, SHAPES.get(name))


def constant(name: str, array: object) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array)))


def body(nodes: list[NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> GraphProto:
    """Its nodes have no names: those of all bodies must differ."""
    nameless = [helper.make_node(n.op_type, n.input, n.output) for n in nodes]
    for made, given in zip(nameless, nodes, strict=True):
        made.attribute.extend(given.attribute)
    return helper.make_graph(nameless, "body", inputs, outputs)


STEP = [node("MatMul", "f W", "a"), node("MatMul", "h U", "b"), node("Add", "a b", "c"), node("Tanh", "c", "new")]


def loop_body(*more: NodeProto, goes_on: str = "on", gathers: bool = True) -> GraphProto:
    """One step of a tanh cell over frames (TIME, 1, FEATURES) that it sees around it."""
    nodes = [
        node("Gather", "frames i", "f", axis=0),
        *STEP,
        node("Identity", "new", "kept"),
        node("Identity", "go", "on"),
        *more,
    ]
    outputs = [value(goes_on, TensorProto.BOOL), value("new"), *([value("kept")] if gathers else [])]
    return body(nodes, [value("i", TensorProto.INT64), value("go", TensorProto.BOOL), value("h")], outputs)


def around(*nodes: NodeProto) -> list[NodeProto]:
    """Frames first, a state of zeros, and an output of what `last` (1, UNITS) holds."""
    first = [node("Transpose", "x", "frames", perm=[1, 0, 2]), constant("zero", np.zeros((1, UNITS)))]
    return [*first, *nodes, node("MatMul", "last V", "y")]


def agrees(nodes: list[NodeProto], folder: Path) -> tv.Model:
    """The import, equal to onnxruntime; its bounds hold what is sampled."""
    model = agree(save(folder, fixed(nodes)))
    x = torch.rand((1, TIME, FEATURES), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = tv.bounds(model, x, tv.LinfBall(0.2))
    points = tv.LinfBall(0.2).around(x).sample(200, torch.Generator().manual_seed(1))[0].view(-1, TIME, FEATURES)
    outputs = model.original(points)
    assert bool(((outputs >= found.lower) & (outputs <= found.upper)).all())
    return model


def fixed(nodes: list[NodeProto]) -> onnx.ModelProto:
    """A batch of one, as the state of zeros has it."""
    return build(nodes, [1, TIME, FEATURES], WEIGHTS)


def test_a_loop_of_constant_length(tmp_path: Path) -> None:
    nodes = around(
        constant("most", np.int64(TIME)), constant("yes", True), node("Loop", "most yes zero", "last all", body=loop_body())
    )
    model = agrees(nodes, tmp_path)
    assert sum(type(each).__name__ == "Apply" for each in model.graph.nodes) == TIME


def test_what_a_loop_gathers(tmp_path: Path) -> None:
    nodes = around(
        constant("most", np.int64(TIME)),
        node("Loop", "most - zero", "end all", body=loop_body()),
        node("ReduceMax", "all", "last", axes=[0], keepdims=0),
    )
    agrees(nodes, tmp_path)


def test_a_loop_that_a_condition_ends(tmp_path: Path) -> None:
    """Until the step's number is 2: three steps of the five that there could be."""
    less = [constant("two", np.int64(2)), node("Less", "i two", "again")]
    nodes = around(constant("yes", True), node("Loop", "- yes zero", "last all", body=loop_body(*less, goes_on="again")))
    model = agrees(nodes, tmp_path)
    assert sum(type(each).__name__ == "Apply" for each in model.graph.nodes) == 3


def test_no_step_at_all(tmp_path: Path) -> None:
    none = node("Loop", "most yes h0", "last", body=loop_body(gathers=False))
    nodes = around(
        constant("most", np.int64(0)), constant("yes", True), node("ReduceMean", "frames", "m", axes=[0], keepdims=0),
        node("MatMul", "m W", "h0"), none,
    )  # fmt: skip
    agrees(nodes, tmp_path)


def test_a_loop_whose_end_depends_on_the_input(tmp_path: Path) -> None:
    sums = [node("ReduceSum", "new", "s", keepdims=0), constant("one", 1.0), node("Less", "s one", "again")]
    nodes = around(
        constant("most", np.int64(TIME)), constant("yes", True),
        node("Loop", "most yes zero", "last all", body=loop_body(*sums, goes_on="again")),
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"Less|depends on the numbers of the network's input"):
        tv.load(save(tmp_path, fixed(nodes)))


@pytest.mark.parametrize("way", [0, 1], ids=["forwards", "backwards"])
def test_scans(way: int, tmp_path: Path) -> None:
    ways = {"scan_input_directions": [way], "scan_output_directions": [way]}
    inner = body([*STEP, node("Identity", "new", "kept")], [value("h"), value("f")], [value("new"), value("kept")])
    nodes = around(
        node("Scan", "zero frames", "end all", body=inner, num_scan_inputs=1, **ways),
        node("ReduceMean", "all", "mean", axes=[0], keepdims=0),
        constant("weights", np.arange(1.0, TIME + 1).reshape(-1, 1, 1)), node("Mul", "all weights", "weighted"),
        node("ReduceMax", "weighted", "most", axes=[0], keepdims=0),
        node("Add", "mean most", "last"),
    )  # fmt: skip
    agrees(nodes, tmp_path)


@pytest.mark.parametrize("taken", [True, False])
def test_the_branch_that_is_taken(taken: bool, tmp_path: Path) -> None:
    """The other one may hold what is not supported."""
    good = body([node("ReduceMean", "frames", "m", axes=[0], keepdims=0), node("MatMul", "m W", "r")], [], [value("r")])
    bad = body(
        [node("ReduceMean", "frames", "m2", axes=[0], keepdims=0), node("MatMul", "m2 W", "q"), node("Sin", "q", "r2")],
        [],
        [value("r2")],
    )
    branches = {"then_branch": good if taken else bad, "else_branch": bad if taken else good}
    nodes = around(constant("which", taken), node("If", "which", "last", **branches))
    agrees(nodes, tmp_path)
    other = around(constant("which", not taken), node("If", "which", "last", **branches))
    with pytest.raises(UnsupportedError, match="Sin"):
        tv.load(save(tmp_path, fixed(other)))


@pytest.mark.parametrize("length", [TIME, 3])
def test_sequences_turned_round(length: int, tmp_path: Path) -> None:
    weights = {"n": np.array([length]), "w": normal(TIME * FEATURES, CLASSES, seed=5)}
    nodes = [
        node("ReverseSequence", "x n", "r", batch_axis=0, time_axis=1),
        node("Flatten", "r", "f"), node("Tanh", "f", "t"), node("MatMul", "t w", "y"),
    ]  # fmt: skip
    agree(save(tmp_path, build(nodes, [1, TIME, FEATURES], weights)))


KERAS = (
    "masking_tf2onnx",
    "embedding_tf2onnx",
    "lstm_act_tf2onnx",
    "gru_after_tf2onnx",
    "gru_before_tf2onnx",
    "rnn_tf2onnx",
    "bilstm_tf2onnx",
    "backwards_tf2onnx",
    "stacked_gru_bi_export",
)


@pytest.mark.data
@pytest.mark.parametrize("name", KERAS)
def test_keras_networks(name: str, data: Path) -> None:
    """They agree with onnxruntime at their own inputs, and give what Keras gave."""
    path = data / "wild" / "keras" / f"tensorflow_{name}.onnx"
    arrays = np.load(path.with_suffix(".npz"))
    x = torch.from_numpy(arrays["x"])
    model = tv.load(path, inputs=x)
    x = x if model.embedding is None else model.embedding(x)
    assert torch.allclose(model.graph.forward(x.double().flatten(1)), torch.from_numpy(arrays["y"]).double(), atol=1e-4)


PUBLISHED: dict[str, dict[str, Any]] = {
    "precise_sounds_cough_cv": {},
    "rv_20classes_rnn4_fc32x5_T20": {},
    "silero_vad_16k_op15": {"shape": (576,), "fix": {"state": 0, "sr": 16000}},
    "silero_vad_openvino_16k": {"fix": {"state": 0}},
    "dtln_1": {"fix": {"input_3": 0}},
}


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name: str, data: Path) -> None:
    model = tv.load(data / "wild" / f"{name}.onnx", **PUBLISHED[name])
    x = 0.3 * torch.randn((1, *model.graph.input_shape), generator=torch.Generator().manual_seed(0), dtype=model.dtype)
    statement = tv.SameSide(0.5) if model.graph.output_size == 1 else None
    (result,) = tv.certify(model, x, None, tv.LinfBall(1e-5), rows=statement, method="linear", restarts=0)
    assert result.verdict is tv.Verdict.ROBUST


def test_loops_on_constants_are_no_part_of_a_network(tmp_path: Path) -> None:
    """A table that a file makes by a loop is a constant like others."""
    count = body(
        [node("Cast", "i", "v", to=TensorProto.DOUBLE), node("Identity", "go", "on"), node("Identity", "s", "s2")],
        [value("i", TensorProto.INT64), value("go", TensorProto.BOOL), value("s")],
        [value("on", TensorProto.BOOL), value("s2"), value("v")],
    )
    nodes = [
        constant("most", np.int64(FEATURES)), constant("s0", 0.0), node("Loop", "most - s0", "end table", body=count),
        node("Mul", "x table", "t"), node("ReduceMean", "t", "y", axes=[1], keepdims=0),
    ]  # fmt: skip
    model = tv.load(save(tmp_path, build(nodes, ["N", TIME, FEATURES], {})))
    x = torch.ones((1, TIME, FEATURES), dtype=torch.float64)
    assert model.graph.forward(x.flatten(1))[0].tolist() == [0.0, 1.0, 2.0]


def test_broken_bodies_are_said(tmp_path: Path) -> None:
    nodes = around(constant("most", np.int64(2)), node("Loop", "most -", "last", body=loop_body()))
    with pytest.raises(TightVerifyError):
        tv.load(save(tmp_path, fixed(nodes)))
