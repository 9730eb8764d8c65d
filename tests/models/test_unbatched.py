"""Files and modules whose input has no batch axis are run one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import SINGLE, build, layer, node, normal
from tightverify.errors import ModelError
from tightverify.models.from_onnx.file import from_onnx

X = torch.from_numpy(normal(3, 5, 3).astype(np.float32))


def saved(folder: Path, axes: list[int | str], opset: int = 17, extra: str = "") -> Path:
    """A GRU over frames (time, features), read out at its last state, (classes,)."""
    inputs, weights, usual = layer("GRU")
    nodes = [
        node("Unsqueeze", "x", "u", axes=[1]) if opset < 13 else node("Unsqueeze", "x one", "u"),
        node("GRU", inputs.replace("x", "u", 1), "- h", **usual),
        node("Reshape", "h flat", "f"),
        node("MatMul", "f w", "y"),
    ]
    if extra:
        nodes[-1].output[0] = "r"
        nodes.append(node(extra, "r", "y", axis=-1))
    constants = weights | {"w": normal(4, 2), "flat": np.array([4])}
    model = build(nodes, axes, constants if opset < 13 else constants | {"one": np.array([1])}, SINGLE)
    model.opset_import[0].version = opset
    onnx.save(model, str(folder / "model.onnx"))
    return folder / "model.onnx"


@pytest.mark.parametrize("axes", [[5, 3], ["time", 3], ["rows", "columns"]])
@pytest.mark.parametrize("opset", [11, 17])
def test_a_file_without_a_batch(axes: list[int | str], opset: int, tmp_path: Path) -> None:
    path = saved(tmp_path, axes, opset)
    model = tv.load(path, (5, 3))
    session = model.original
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(np.stack([plain.run(None, {"x": one.numpy()})[0] for one in X]))
    assert torch.allclose(session(X), theirs)
    assert torch.allclose(model.graph.forward(X.double().flatten(1)), theirs.double(), atol=1e-5)
    assert "the file's input has no batch axis: inputs are run one by one" in model.notes
    found = tv.certify(path, X, None, tv.LinfBall(1e-4), method="linear")
    assert {one.verdict for one in found} == {tv.Verdict.ROBUST}


def test_a_softmax_of_one_row_is_bounded(tmp_path: Path) -> None:
    bounds = tv.bounds(saved(tmp_path, [5, 3], extra="Softmax"), X, tv.LinfBall(0.01))
    assert bool(((bounds.lower > 0) & (bounds.upper < 1)).all())


def test_an_axis_named_as_a_batch_is_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not fit its input of shape"):
        from_onnx(saved(tmp_path, ["N", 3]), (5, 3))


def test_without_its_shape_a_batch_of_that_length_may_be_meant(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="if it has none, give its whole shape as that of one input"):
        from_onnx(saved(tmp_path, [5, 3]))


class Lonely(nn.Module):
    """A GRU over frames (time, features), which would take a batch for its frames."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(x)[0][-1])


class Lonelier(Lonely):
    """One that fails with a batch."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 2
        return super().forward(x)


@pytest.mark.parametrize("kind", [Lonely, Lonelier])
def test_modules_without_a_batch_axis(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind()
    model = tv.load(module, (5, 3))
    assert model.notes == ("the module's input has no batch axis: inputs are run one by one",)
    with torch.no_grad():
        expected = torch.stack([module(x) for x in X])
    torch.testing.assert_close(model.original(X), expected)
    torch.testing.assert_close(model.graph.forward(X.double().flatten(1)).float(), expected)
