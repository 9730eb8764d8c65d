"""Where an import and its file differ, the same network in float64 tells rounding from a fault."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.onnx_models import SINGLE, build, node, save
from tightverify.errors import DifferenceError, UnsupportedError
from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.from_onnx.operators import applied
from tightverify.models.from_onnx.walk import OPERATORS
from tightverify.models.from_onnx.widened import widened
from tightverify.ops import Sigmoid

SUM = [node("Tile", "x s", "t"), node("Relu", "t", "r"), node("ReduceSum", "r k", keepdims=0)]


def test_long_sums_in_float32(tmp_path: Path) -> None:
    constants = {"s": np.array([1, 5000, 1]), "k": np.array([1])}
    path = save(tmp_path, build(SUM, [1, 4, 3], constants, SINGLE))
    with pytest.raises(UnsupportedError, match=r"float32 rounding alone .* convert it to float64") as refusal:
        from_onnx(path)
    assert "bug" not in str(refusal.value)


def test_a_fault_of_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, build([node("Tanh", "x")], [1, 6], {}, SINGLE))
    from_onnx(path)
    monkeypatch.setitem(OPERATORS, "Tanh", partial(applied, Sigmoid()))
    with pytest.raises(DifferenceError, match="report the model as a bug"):
        from_onnx(path)


def test_every_float_is_widened() -> None:
    """Those of bodies, casts and constants too."""
    value = helper.make_tensor_value_info("c", TensorProto.FLOAT, None)
    inner = helper.make_graph([node("Constant", "", "c", value_float=0.5)], "then", [], [value])
    nodes = [
        node("Constant", "", "a", value_floats=[0.5, 0.25]),
        node("Constant", "", "b", value=numpy_helper.from_array(np.array([1.5], dtype=np.float32))),
        node("Cast", "x", "d", to=TensorProto.FLOAT),
        node("If", "t", "y", then_branch=inner, else_branch=inner),
    ]
    found = widened(build(nodes, [1, 2], {"w": np.array([0.5]), "n": np.array([3]), "t": np.array(True)}, SINGLE)).graph
    assert [tensor.data_type for tensor in found.initializer] == [TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL]
    assert {value.type.tensor_type.elem_type for value in (*found.input, *found.output)} == {TensorProto.DOUBLE}
    first, second, cast, branch = found.node
    inside = branch.attribute[0].g
    assert cast.attribute[0].i == TensorProto.DOUBLE
    assert inside.output[0].type.tensor_type.elem_type == TensorProto.DOUBLE
    tensors = [constant.attribute[0].t for constant in (first, second, inside.node[0])]
    assert [tensor.data_type for tensor in tensors] == [TensorProto.DOUBLE] * 3
    assert [numpy_helper.to_array(tensor).tolist() for tensor in tensors] == [[0.5, 0.25], [1.5], 0.5]
