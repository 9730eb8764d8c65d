"""Operators that the standard defines by others, and sequences of tensors, are imported for what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto, TensorProto, helper

import tightverify as tv
from tests.helpers.onnx_models import SINGLE, agree, build, node, normal, save
from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.from_onnx.bodies import EXPANDED
from tightverify.models.from_onnx.file import ONE_BY_ONE, from_onnx

FEATURES = {"q": normal(6, 4, seed=1), "k": normal(6, 4, seed=2), "v": normal(6, 6, seed=3)}
ATTENTION = [
    *(node("MatMul", f"x {name}", f"x{name}") for name in FEATURES),
    node("Attention", "xq xk xv", "a", q_num_heads=2, kv_num_heads=2),
]
ROTATED = [node("MatMul", "x q", "a0"), node("RotaryEmbedding", "a0 cos sin places", "a", num_heads=2)]
ROTATIONS = {"cos": normal(4, 1), "sin": normal(4, 1, seed=1), "places": np.arange(4)[None]}
BODIES: dict[str, tuple[list[NodeProto], int]] = {
    "Attention": (ATTENTION, 23),
    "CenterCropPad": ([node("CenterCropPad", "x crop", "a", axes=[1])], 18),
    "MeanVarianceNormalization": ([node("MeanVarianceNormalization", "x", "a", axes=[1, 2])], 13),
    "RotaryEmbedding": (ROTATED, 23),
    "Shrink": ([node("Shrink", "x", "a", lambd=0.2, bias=0.1)], 9),
    "Swish": ([node("Swish", "x", "a")], 24),
    "ThresholdedRelu": ([node("ThresholdedRelu", "x", "a", alpha=0.5)], 17),
    "Compress": ([node("Compress", "x mask", "a", axis=1)], 11),
    "DepthToSpace": ([node("Reshape", "x image", "i"), node("DepthToSpace", "i", "a", blocksize=2, mode="CRD")], 13),
    "SpaceToDepth": ([node("Reshape", "x square", "i"), node("SpaceToDepth", "i", "a", blocksize=2)], 13),
    "Trilu": ([node("Trilu", "x", "a", upper=0)], 14),
    "Mean": ([node("MatMul", "x v", "m"), node("Mean", "m x m", "a")], 13),
}
"""What makes a of x (4, 6), and the opset; those that only move numbers about among them."""


@pytest.mark.parametrize("kind", BODIES)
def test_what_the_standard_defines_by_others(kind: str, tmp_path: Path) -> None:
    nodes, opset = BODIES[kind]
    constants = {**FEATURES, **ROTATIONS, "crop": np.array([2]), "mask": np.array([True, False, True, True])}
    constants |= {"image": np.array([0, 4, 3, 2]), "square": np.array([0, 1, 4, 6])}
    read = {name for each in nodes for name in each.input}
    given = {name: value for name, value in constants.items() if name in read}
    path = save(tmp_path, build([*nodes, node("Flatten", "a")], ["N", 4, 6], given, SINGLE, opset=opset))
    model = agree(path)
    x = torch.from_numpy(normal(1, 4, 6, seed=5)).float()
    found = tv.bounds(model, x, tv.LinfBall(0.01))
    near = model.original((x + 0.02 * torch.rand(50, 4, 6) - 0.01)[:50]).double()
    assert bool(((near >= found.lower - 1e-5) & (near <= found.upper + 1e-5)).all())


def test_all_that_are_said_to_be_supported_are_tried() -> None:
    assert set(EXPANDED) <= BODIES.keys()


SPLIT = [node("SplitToSequence", "x one", "s", axis=1, keepdims=0), node("SequenceLength", "s", "count")]
EACH = helper.make_graph(
    [
        node("Gather", "x step", "frame", axis=1),
        node("MatMul", "frame v", "made"),
        node("SequenceInsert", "held made", "longer"),
        node("Identity", "more", "again"),
    ],
    "body",
    [
        helper.make_tensor_value_info("step", TensorProto.INT64, []),
        helper.make_tensor_value_info("more", TensorProto.BOOL, []),
        helper.make_tensor_sequence_value_info("held", TensorProto.FLOAT, None),
    ],
    [
        helper.make_tensor_value_info("again", TensorProto.BOOL, []),
        helper.make_tensor_sequence_value_info("longer", TensorProto.FLOAT, None),
    ],
)
SEQUENCES: dict[str, list[NodeProto]] = {
    "split, one taken": [*SPLIT, node("SequenceAt", "s last")],
    "one left out": [*SPLIT, node("SequenceErase", "s last", "t"), node("ConcatFromSequence", "t", axis=1)],
    "the last left out": [*SPLIT, node("SequenceErase", "s", "t"), node("ConcatFromSequence", "t", axis=1)],
    "one more, before the last": [
        *SPLIT,
        node("SequenceAt", "s zero", "first"),
        node("SequenceInsert", "s first last", "t"),
        node("ConcatFromSequence", "t", axis=1),
    ],
    "pieces": [node("SplitToSequence", "x pieces", "s", axis=1), node("SequenceAt", "s zero", "a"), node("Flatten", "a")],
    "longer pieces": [node("SplitToSequence", "x three", "s", axis=1), node("SequenceAt", "s one", "a"), node("Flatten", "a")],
    "constructed": [
        node("Gather", "x zero", "a", axis=1),
        node("Gather", "x one", "b", axis=1),
        node("SequenceConstruct", "a b fixed", "s"),
        node("Identity", "s", "t"),
        node("ConcatFromSequence", "t", "stacked", axis=1, new_axis=1),
        node("Flatten", "stacked"),
    ],
    "in a loop": [
        node("SequenceEmpty", "", "none"),
        node("Loop", "four yes none", "s", body=EACH),
        node("ConcatFromSequence", "s", axis=1),
    ],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_of_tensors(name: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {"zero": np.array(0), "one": np.array(1), "three": np.array(3), "last": np.array(-1)}
    constants |= {"four": np.array(4), "yes": np.array(True), "pieces": np.array([3, 1]), "fixed": np.ones((1, 6))}
    agree(save(tmp_path, build(SEQUENCES[name], ["N", 4, 6], constants | FEATURES, SINGLE)))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([*SPLIT, node("Relu", "s")], "Relu.* reads a sequence of tensors"),
        ([*SPLIT, node("SequenceAt", "s nine")], "reads position 9 of 4"),
        ([node("SequenceEmpty", "", "s"), node("ConcatFromSequence", "s", axis=0)], "puts no tensors together"),
        ([node("MatMul", "x v", "a"), node("SplitToSequence", "a nine", "y")], "is a sequence of tensors; join them"),
    ],
)
def test_what_is_refused_of_sequences(nodes: list[NodeProto], words: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {"one": np.array(1), "nine": np.array(9)}
    model = build(nodes, ["N", 4, 6], constants | FEATURES, SINGLE)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises((UnsupportedError, ModelError), match=words):
        from_onnx(path)


def test_a_file_that_runs_on_no_batch_is_run_one_by_one(tmp_path: Path) -> None:
    nodes = [node("Concat", "x more", "a", axis=2), node("Flatten", "a")]
    path = save(tmp_path, build(nodes, ["N", 4, 6], {"more": normal(1, 4, 1)}, SINGLE))
    model = agree(path)
    assert ONE_BY_ONE in model.notes
    assert tv.certify(model, torch.rand(3, 4, 6), None, tv.LinfBall(1e-9))[2].verdict is not None


def test_a_definition_that_the_package_cannot_write_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_given: Any, **_more: Any) -> None:
        raise RuntimeError("GetType: Type unknown")

    monkeypatch.setattr("tightverify.models.from_onnx.bodies.inline_selected_functions", fails)
    path = save(tmp_path, build([node("Shrink", "x", "a"), node("Flatten", "a")], ["N", 4, 6], {}, SINGLE))
    with pytest.raises(UnsupportedError, match=r"Shrink .* is not supported; build that part"):
        from_onnx(path)
