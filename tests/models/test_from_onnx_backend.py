"""Every node test of the onnx package: what is imported agrees with the output expected, what is not is refused in a sentence.

How cases become models, `experiments.onnx_backend` says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.backend.test.case.test_case import TestCase as Case

from experiments.onnx_backend import SHORT, SUPPORTED, cases, is_supported, models, operators
from tightverify.errors import ModelError
from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.model import AGREEMENT
from tightverify.models.sizes import LARGEST

MANY = {"Attention": 6}
"""Of operators that have very many cases, how many are tried every time."""
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
    """Of an operator with very many cases the first few; all others are of the slow tests."""
    chosen = [case for case in cases() if operators(case) == {operator}][: MANY.get(operator)]
    assert chosen
    assert sum(agreeing(case, tmp_path / "model.onnx") for case in chosen) >= LEAST.get(operator, 0)


def test_node_tests_of_several_operators(tmp_path: Path) -> None:
    """An operator in terms of others, all of which are supported."""
    chosen = [case for case in cases() if is_supported(case) and len(operators(case)) > 1]
    assert sum(agreeing(case, tmp_path / "model.onnx") for case in chosen) >= 40


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("operator", MANY)
def test_node_tests_of_operators_that_have_many(operator: str, tmp_path: Path) -> None:
    chosen = [case for case in cases() if operators(case) == {operator}][MANY[operator] :]
    assert sum(agreeing(case, tmp_path / "model.onnx") for case in chosen) >= 100


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_other_node_tests(tmp_path: Path) -> None:
    """Nearly all of them refused; some import where what is not supported is worked out on constants."""
    chosen = [case for case in cases() if not is_supported(case)]
    assert sum(agreeing(case, tmp_path / "model.onnx") for case in chosen) >= 40
