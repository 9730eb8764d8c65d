"""Models of which several inputs are perturbed, each in a region of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import DOUBLE, build, node, normal
from tightverify.errors import InputError, ModelError, RegionError, TightVerifyError, UnsupportedError

TIME, FEATURES, HIDDEN, COUNT = 3, 2, 4, 3


class Conditioned(nn.Module):
    """An LSTM with a first state, and something that is added to its outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 3)
        self.double()

    def forward(self, x: Tensor, h0: Tensor, shift: Tensor, gain: float = 1.0) -> Tensor:
        made, _ = self.layer(x, (h0, torch.zeros_like(h0)))
        found: Tensor = self.head(made[:, -1]) * gain + shift
        return found


def draw(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = {"x": draw(COUNT, TIME, FEATURES, seed=1), "h0": draw(COUNT, 1, HIDDEN, seed=2), "shift": draw(COUNT, 3, seed=3)}
SHAPES = {name: tuple(values.shape[1:]) for name, values in X.items()}
AXES = {"h0": 1}


def module(gain: float = 1.0, **given: Tensor) -> Tensor:
    values = {**X, **given}
    with torch.no_grad():
        made: Tensor = Conditioned().eval()(values["x"], values["h0"].movedim(0, 1), values["shift"], gain)
    return made


@pytest.fixture(scope="module")
def loaded() -> tv.Model:
    return tv.load(Conditioned(), SHAPES, AXES)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`y = tanh(x W) + state`, both with a dynamic batch, and a constant to add."""
    nodes = [node("MatMul", "x w", "a"), node("Tanh", "a", "t"), node("Mul", "t state", "s"), node("Add", "s more", "y")]
    model = build(nodes, ["N", 2], {"w": normal(2, 3)}, DOUBLE)
    for name in ("state", "more"):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N", 3]))
    found = tmp_path_factory.mktemp("blocks") / "model.onnx"
    onnx.save(model, str(found))
    return found


def test_a_module_of_several_inputs_is_read_as_it_is(loaded: tv.Model) -> None:
    flat = torch.cat([values.flatten(1) for values in X.values()], 1)
    assert torch.allclose(loaded.original(flat), module(), atol=1e-12)
    assert torch.allclose(loaded.graph.forward(flat), module(), atol=1e-12)
    apart = loaded.apart(flat)
    assert all(torch.equal(apart[name], X[name]) for name in X)
    assert torch.equal(loaded.apart(flat[0])["h0"], X["h0"][0])
    assert "x 3 x 2, h0 1 x 4, shift 3" in repr(loaded)


REGIONS = {"x": tv.LinfBall(0.05), "h0": tv.L2Ball(0.1), "shift": tv.LinfBall(0.02)}


def test_bounds_hold_all_of_the_regions_at_once(loaded: tv.Model) -> None:
    found = tv.bounds(loaded, X, REGIONS)
    generator = torch.Generator().manual_seed(0)
    moved = {name: 2 * torch.rand((200, *X[name].shape), generator=generator, dtype=torch.float64) - 1 for name in X}
    lengths = moved["h0"].flatten(2).norm(dim=2)[..., None, None]
    for k in range(200):
        made = module(
            x=X["x"] + 0.05 * moved["x"][k].sign(),
            h0=X["h0"] + 0.1 * moved["h0"][k] / lengths[k],
            shift=X["shift"] + 0.02 * moved["shift"][k].sign(),
        )
        assert bool(((made >= found.lower) & (made <= found.upper)).all())
    alone = tv.bounds(Conditioned(), X, {**REGIONS, "h0": tv.L2Ball(0.0)}, batch_axis=AXES)
    assert bool((alone.lower > found.lower).all())


def test_verdicts_are_about_all_inputs(loaded: tv.Model) -> None:
    small = tv.certify(loaded, X, None, {name: tv.LinfBall(1e-3) for name in X})
    assert small.counts["ROBUST"] == COUNT
    large = {"x": tv.LinfBall(1e-3), "h0": tv.LinfBall(1e-3), "shift": tv.L2Ball(3.0)}
    found = tv.certify(loaded, X, None, large)
    assert found.counts["COUNTEREXAMPLE"] == COUNT
    point = found[0].counterexample
    assert point is not None
    apart = loaded.apart(point)
    assert float((apart["x"] - X["x"][0]).abs().max()) <= 1e-3 + 1e-15
    assert float((apart["shift"] - X["shift"][0]).norm()) <= 3.0
    made = module(x=apart["x"][None], h0=apart["h0"][None], shift=apart["shift"][None])
    assert int(made.argmax()) != int(module()[0].argmax())


def test_evidence_is_written_where_all_are_boxes(loaded: tv.Model, tmp_path: Path) -> None:
    boxes = {name: tv.LinfBall(1e-3) for name in X}
    assert tv.certify(loaded, X, None, boxes, evidence=tmp_path / "boxes").counts["ROBUST"] == COUNT
    assert len(list((tmp_path / "boxes").iterdir())) >= COUNT
    with pytest.raises(RegionError, match="evidence has no words for a box beside a ball of norm 2"):
        tv.certify(loaded, X, None, {**boxes, "h0": tv.L2Ball(1e-3)}, evidence=tmp_path / "balls")


def test_a_file_of_several_inputs(path: Path) -> None:
    x = {"x": normal(4, 2), "state": normal(4, 3, seed=1)}
    model = tv.load(path, inputs=x, fix={"more": 0.25})
    wanted = torch.from_numpy(np.tanh(x["x"] @ normal(2, 3)) * x["state"] + 0.25)
    flat = torch.from_numpy(np.concatenate([x["x"], x["state"]], 1))
    assert torch.allclose(model.original(flat), wanted)
    assert torch.allclose(model.graph.forward(flat), wanted)
    assert {"axis 0 of the file's input 'state' was taken to be the batch", "fixed inputs: more = 0.25"} <= set(model.notes)
    found = tv.certify(model, x, None, {"x": tv.LinfBall(1e-6), "state": tv.LinfBall(1e-6)})
    assert found.counts["ROBUST"] == 4


@pytest.mark.parametrize(
    ("shape", "fix", "error", "words"),
    [
        ({"x": (2,), "stat": (3,)}, {}, ModelError, "no input 'stat' that its output depends on"),
        ({"x": (2,), "state": (3,)}, {"state": 0.0, "more": 0.0}, ModelError, "'state' is fixed and perturbed"),
        ({"x": (2,), "state": (3,)}, {}, UnsupportedError, "values are wanted for the others: --fix more=0"),
        ({"x": (2,), "state": (4,)}, {"more": 0.0}, ModelError, "does not fit its input of shape"),
    ],
)
def test_what_a_file_does_not_take_is_said(path: Path, shape: Any, fix: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        tv.load(path, shape, fix=fix)


@pytest.mark.parametrize(
    ("shape", "axes", "words"),
    [
        ({**SHAPES, "y": (1,)}, AXES, "no input 'y'; it has x, h0, shift, gain"),
        ({"x": SHAPES["x"], "shift": SHAPES["shift"]}, None, "values are wanted for the others: fix={'h0': array}"),
        (SHAPES, {"h0": 3}, r"shape \(1, 4\) and batch axis 3 do not fit"),
        ({**SHAPES, "shift": 3}, AXES, "wanted a shape of positive lengths for each perturbed input"),
        (SHAPES, {"h": 1}, "batch_axis names 'h', which is no perturbed input"),
    ],
)
def test_what_a_module_does_not_take_is_said(shape: Any, axes: Any, words: str) -> None:
    with pytest.raises(TightVerifyError, match=words):
        tv.load(Conditioned(), shape, axes)


def test_what_is_wrong_with_inputs_and_regions_is_said(loaded: tv.Model) -> None:
    ball = tv.LinfBall(0.1)
    with pytest.raises(RegionError, match=r"several inputs are perturbed; give {'x': region, 'h0': region, 'shift': region}"):
        tv.certify(loaded, X, None, ball)
    with pytest.raises(RegionError, match="regions for 'x' were given; wanted one for each of the inputs 'x', 'h0', 'shift'"):
        tv.certify(loaded, X, None, {"x": ball})
    with pytest.raises(InputError, match=r"inputs 'x' were given; .* takes 'x' .N, 3, 2., 'h0'"):
        tv.certify(loaded, {"x": X["x"]}, None, REGIONS)
    with pytest.raises(InputError, match="3 of 'x', 2 of 'h0', 3 of 'shift'; give equally many"):
        tv.certify(loaded, {**X, "h0": X["h0"][:2]}, None, REGIONS)
    with pytest.raises(InputError, match="the inputs 'h0' have shape"):
        tv.certify(loaded, {**X, "h0": X["h0"][..., :2]}, None, REGIONS)
    with pytest.raises(InputError, match="'h0': input 0 holds a NaN"):
        tv.certify(loaded, {**X, "h0": X["h0"] * torch.nan}, None, REGIONS)
    with pytest.raises(RegionError, match="regions were given by names, which only `certify`, `stream` and `bounds` take"):
        tv.differ(loaded, loaded, torch.zeros(1, 13), REGIONS)  # type: ignore[arg-type]
    plain = tv.load(nn.Linear(2, 2).double(), (2,))
    with pytest.raises(RegionError, match="regions were given by names, and the module Linear has one perturbed input"):
        tv.certify(plain, torch.zeros(1, 2), None, {"x": ball})
    with pytest.raises(InputError, match="the module Linear was loaded for one perturbed input"):
        tv.certify(plain, {"x": torch.zeros(1, 2)}, None, ball)
