"""Every node test of the onnx package: what is imported agrees with the output expected, what is not is refused in a sentence.

A case has several inputs and outputs. Each input of floats in turn is the network's, with the others made constants, and each
output of floats its output, in three ways: as a row of numbers that is reshaped first; as it is, where its first axis can be a
batch of one (its second axis are frames then); and as a dynamic batch, where all that is asked is that nothing crashes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase as Case

from tests.helpers.onnx_models import Arrays
from tightverify.errors import ModelError
from tightverify.models.from_onnx.control import CONTROL
from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.from_onnx.walk import FACTS, OPERATORS  # type: ignore[attr-defined]
from tightverify.models.model import AGREEMENT
from tightverify.models.sizes import LARGEST

KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}
WAYS = ("row", "batch of one", "dynamic")
SUPPORTED = sorted({*CONTROL, *OPERATORS, *FACTS})
LEAST = {
    "Add": 4,
    "AveragePool": 30,
    "Conv": 8,
    "ConvTranspose": 10,
    "Div": 3,
    "GroupNormalization": 2,
    "InstanceNormalization": 2,
    "Log": 2,
    "LpNormalization": 4,
    "LSTM": 4,
    "RMSNormalization": 10,
    "Reciprocal": 2,
    "ReduceL1": 8,
    "ReduceL2": 8,
    "ReduceSumSquare": 8,
    "Slice": 7,
    "Sqrt": 2,
    "Tile": 2,
}
"""So many imports at least of these agree: were all refused, nothing would be shown."""
SHORT = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}
"""Expected outputs of these are written with so few digits."""


@cache
def cases() -> tuple[Case, ...]:
    """All that there are, made by the package itself, which overflows on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(collect_testcases())


def operators(case: Case) -> set[str]:
    return {str(operator.op_type) for operator in case.model.graph.node}


def is_supported(case: Case) -> bool:
    """Whether all of its operators are, those of constants alone among them."""
    return operators(case) <= {*SUPPORTED, "Constant"}


def arrays_of(values: Sequence[object], names: list[str]) -> Arrays:
    return {name: np.asarray(value) for name, value in zip(names, values, strict=False)}


def models(case: Case) -> Iterator[tuple[str, ModelProto, Arrays, Arrays]]:
    """Which import it is, the model, its input and its expected output."""
    given, expected = case.data_sets[0]
    if not all(isinstance(value, np.ndarray | np.generic) for value in (*given, *expected)):
        return  # sequences and optional values
    inputs = arrays_of(given, [entry.name for entry in case.model.graph.input])
    outputs = arrays_of(expected, [entry.name for entry in case.model.graph.output])
    for entry, x in inputs.items():
        for result, y in outputs.items():
            if x.dtype in KINDS and y.dtype in KINDS and x.size:
                others = {name: value for name, value in inputs.items() if name != entry}
                for way in WAYS if x.ndim > 1 and len(x) == 1 else (WAYS[0], WAYS[2]):
                    named = f"{case.name}, input {entry}, output {result}, {way}"
                    yield named, model_of(case, (entry, x), (result, y), others, way), {entry: x}, {result: y}


def model_of(case: Case, entry: tuple[str, np.ndarray], result: tuple[str, np.ndarray], others: Arrays, way: str) -> ModelProto:
    (name, x), (output, y) = entry, result
    graph = case.model.graph
    constants = others | {"the_shape": np.array(x.shape, dtype=np.int64), "the_row": np.array([1, -1])}
    nodes, axes, ends = list(graph.node), list(x.shape), output
    if way == "row":
        nodes.insert(0, helper.make_node("Reshape", ["the_input", "the_shape"], [name]))
        name, axes = "the_input", [1, *(x.shape or (1,))]
    if way == "dynamic":
        axes = ["batch", *x.shape[1:]] if x.ndim else []
    else:
        nodes.append(helper.make_node("Reshape", [output, "the_row"], ["the_output"]))
        ends = "the_output"
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, KINDS[x.dtype], axes)],
        [helper.make_tensor_value_info(ends, KINDS[y.dtype], None)],
        [*(numpy_helper.from_array(value, key) for key, value in constants.items()), *graph.initializer],
    )
    version = max(8, case.model.ir_version)
    return helper.make_model(made, opset_imports=case.model.opset_import, ir_version=version, functions=case.model.functions)


def agreeing(case: Case, path: Path) -> int:
    """How many of a case's imports agree with what is expected; the others have to be refused."""
    found = 0
    for named, model, inputs, outputs in models(case):
        path.write_bytes(model.SerializeToString())
        try:
            network = from_onnx(path)
        except ModelError as error:
            refused_well(named, error)
            continue
        assert all(matrix.numel() <= LARGEST for matrix in network.graph.matrices()), named
        if named.endswith("dynamic"):
            continue  # Several inputs of this shape were compared with onnxruntime on import, and no output is expected.
        (x,), (y,) = inputs.values(), outputs.values()
        ours = network.graph.forward(torch.from_numpy(x.astype(np.float64).reshape(1, -1)))[0].numpy()
        allowed = SHORT.get(case.name, AGREEMENT[torch.float32])
        np.testing.assert_allclose(ours, y.ravel(), rtol=allowed, atol=allowed, equal_nan=True, err_msg=named)
        found += 1
    return found


def refused_well(named: str, error: ModelError) -> None:
    """In one sentence, which does not call a bug what is none."""
    words = str(error).strip()
    assert "\n" not in words, named
    assert len(words) > 40, named
    assert "bug" not in words, f"{named}: {words}"
    assert not isinstance(error.__cause__, TypeError | MemoryError), f"{named}: {words}"


@pytest.mark.parametrize("operator", SUPPORTED)
def test_node_tests_of_supported_operators(operator: str, tmp_path: Path) -> None:
    chosen = [case for case in cases() if operators(case) == {operator}]
    assert chosen
    assert sum(agreeing(case, tmp_path / "model.onnx") for case in chosen) >= LEAST.get(operator, 0)


def test_node_tests_of_several_operators(tmp_path: Path) -> None:
    """An operator in terms of others, all of which are supported."""
    chosen = [case for case in cases() if is_supported(case) and len(operators(case)) > 1]
    assert sum(agreeing(case, tmp_path / "model.onnx") for case in chosen) >= 40


@pytest.mark.slow
def test_all_other_node_tests(tmp_path: Path) -> None:
    """Nearly all of them refused; some import where what is not supported is worked out on constants."""
    chosen = [case for case in cases() if not is_supported(case)]
    assert sum(agreeing(case, tmp_path / "model.onnx") for case in chosen) >= 40
