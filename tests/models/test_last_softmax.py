"""A softmax at the end of a model is left out: labels are verified as without it, and nothing else can be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.errors import ModelError, UnsupportedError

FRAMES, FEATURES, CLASSES = 3, 2, 4
X = torch.rand((3, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """A GRU, a linear layer, and what it `ends` with."""

    def __init__(self, ends: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head, self.ends = nn.GRU(FEATURES, 4, batch_first=True), nn.Linear(4, CLASSES), ends

    def forward(self, x: Tensor) -> Tensor:
        return self.ends(self.head(self.cell(x)[0][:, -1]))


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "Softmax": nn.Softmax(dim=-1),
    "LogSoftmax": nn.LogSoftmax(dim=1),
    "torch.softmax": lambda y: torch.softmax(y, 1),
    "Tensor.log_softmax": lambda y: y.log_softmax(dim=-1),
    "functional.softmax": lambda y: nn.functional.softmax(y, dim=1),
}
PLAIN = Network(lambda y: y).eval()


def verdicts(model: tv.Model | nn.Module, eps: float) -> list[tuple[str, int | None]]:
    return [(r.verdict.name, r.label) for r in tv.certify(model, X, None, tv.LinfBall(eps), method="linear")]


@pytest.mark.parametrize("name", ENDS)
def test_labels_are_verified_as_without_it(name: str) -> None:
    model = tv.load(Network(ENDS[name]).eval(), (FRAMES, FEATURES))
    assert "softmax" in model.left_out
    assert any("left out" in note for note in model.notes)
    with torch.no_grad():
        assert torch.allclose(model.original(X), PLAIN(X), atol=1e-6), "batches of any size"
    for eps in (1e-3, 4.0):
        assert verdicts(model, eps) == verdicts(PLAIN, eps)
    found = tv.certify(model, X, None, tv.LinfBall(4.0), method="linear")
    refuted = [result for result in found if result.counterexample is not None]
    assert refuted
    for result in refuted:
        assert result.counterexample is not None
        with torch.no_grad():
            chances = Network(ENDS[name]).eval()(result.counterexample[None].to(X.dtype))[0]
        assert int(chances.argmax()) != result.label


def test_numbers_of_outputs_cannot_be_asked_about() -> None:
    model = tv.load(Network(ENDS["Softmax"]).eval(), (FRAMES, FEATURES))
    for rows in (tv.Above(0.1), (torch.eye(CLASSES), None)):
        with pytest.raises(UnsupportedError, match="softmax at the end of the module Network was left out"):
            tv.certify(model, X, None, tv.LinfBall(0.1), rows=rows)


def test_a_softmax_elsewhere_is_an_operation() -> None:
    network = Network(lambda y: torch.softmax(y, 1) + 1).eval()
    model = tv.load(network, (FRAMES, FEATURES))
    assert not model.left_out
    with torch.no_grad():
        assert torch.allclose(model.graph.forward(X.double().flatten(1)), network(X).double(), atol=1e-6)


def test_a_softmax_over_the_batch_is_refused() -> None:
    with pytest.raises(ModelError, match="depend on what else is in the batch"):
        tv.load(Network(lambda y: torch.softmax(y, 0)).eval(), (FRAMES, FEATURES))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 17])
def test_files_end_before_it(name: str, opset: int, tmp_path: Path) -> None:
    paths = [tmp_path / "with.onnx", tmp_path / "without.onnx"]
    for path, network in zip(paths, (Network(ENDS[name]).eval(), PLAIN), strict=True):
        torch.onnx.export(
            network, (X[:1],), str(path), dynamo=False, verbose=False, opset_version=opset,
            input_names=["x"], dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    ended, plain = map(tv.load, paths)
    assert ended.left_out == name
    assert not plain.left_out
    assert torch.allclose(ended.original(X), plain.original(X), atol=1e-6)
    assert verdicts(ended, 1e-3) == verdicts(plain, 1e-3)
    with pytest.raises(UnsupportedError, match="was left out"):
        tv.radius(ended, X, None, rows=tv.Within(0.1))


def test_differences_are_not_those_of_what_was_left_out() -> None:
    """Log-chances may move by twice as much as what they are made of."""
    model, other = (tv.load(Network(ENDS[name]).eval(), (FRAMES, FEATURES)) for name in ("LogSoftmax", "Softmax"))
    plain = tv.load(PLAIN, (FRAMES, FEATURES))
    for pair in ((model, other), (plain, model), (model, plain)):
        for within in (0.1, None):
            with pytest.raises(UnsupportedError, match="was left out"):
                tv.differ(*pair, X, tv.LinfBall(0.01), within=within, method="linear")
    assert tv.differ(model, other, X, tv.LinfBall(1e-4), agree=True, method="linear").counts == {"EQUIVALENT": len(X)}


def test_bounds_are_not_those_of_what_was_left_out() -> None:
    model = tv.load(Network(ENDS["Softmax"]).eval(), (FRAMES, FEATURES))
    with pytest.raises(UnsupportedError, match="was left out"):
        tv.bounds(model, X, tv.LinfBall(0.01))
