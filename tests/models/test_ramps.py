"""ParamRamp and clamps with bounds of their own are one operation each, from torch and ONNX, and hold samples tightly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import tightverify as tv
from tests.helpers import exact
from tests.helpers.onnx_models import DOUBLE, SINGLE, agree, build, node, save
from tightverify.errors import ModelError, UsageError
from tightverify.graph import Apply
from tightverify.models.model import Model
from tightverify.ops import Clamp, LeakyRelu, Operation, Ramp
from tightverify.training import ParamRamp

FEATURES = 6
X = 2 * torch.randn((4, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CAPS = torch.tensor([0.5, 1.25, 0.75, 2.0, 0.3, 1.0], dtype=torch.float64)


class Plain(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def operations(model: Model) -> list[Operation]:
    return [one.op for one in model.graph.nodes if isinstance(one, Apply)]


def is_tight(model: Model, function: Callable[[Tensor], Tensor]) -> None:
    """Each output is an increasing function of one input: its bounds are its values at the ends, up to rounding."""
    ends = [function((X + side).to(model.dtype)).double() for side in (-0.7, 0.7)]
    tolerance = 1e-12 if model.dtype == torch.float64 else 1e-5
    for method in ("ibp", "lbp", "crown"):
        found = tv.bounds(model, X.to(model.dtype).double(), tv.LinfBall(0.7), method=method)
        for bound, end in ((found.lower, ends[0]), (found.upper, ends[1])):
            assert torch.allclose(bound, end, atol=tolerance)


def ramp(eta: float, caps: Tensor) -> ParamRamp:
    made = ParamRamp(len(caps), eta).double()
    with torch.no_grad():
        made.cap.copy_(caps)
    return made


@pytest.mark.parametrize("eta", [0.0, 0.01, 0.3, 0.999])
def test_a_param_ramp_is_one_operation(eta: float) -> None:
    inner = ramp(eta, CAPS)
    module = nn.Sequential(inner).eval()
    model = tv.load(module, (FEATURES,))
    assert operations(model) == [Ramp(inner.eta, 1.0, inner.eta)]
    is_tight(model, lambda x: module(x).detach())


def test_equal_caps_and_channels_of_pictures() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 2), ParamRamp(3, 0.25), nn.Flatten(), nn.Linear(12, 2)).eval()
    model = tv.load(module, (2, 3, 3))
    assert operations(model) == [Ramp(0.25, 1.0, 0.25)]


@pytest.mark.parametrize("dynamo", [True, False])
def test_a_param_ramp_exports_to_onnx(dynamo: bool, tmp_path: Path) -> None:
    inner = ramp(0.1, CAPS).float()
    module = nn.Sequential(inner).eval()
    path = tmp_path / "ramp.onnx"
    more: dict[str, Any] = {"verbose": False, "external_data": False} if dynamo else {}
    try:
        torch.onnx.export(module, (torch.zeros(1, FEATURES),), str(path), dynamo=dynamo, **more)
    except ImportError as error:  # the new exporter needs packages of its own
        pytest.skip(str(error))
    onnx.checker.check_model(str(path))
    model = tv.load(path)
    assert operations(model) == [Ramp(inner.eta, 1.0, inner.eta)]
    is_tight(model, lambda x: module(x.float()).detach())


def test_eta_goes_with_the_state() -> None:
    one, other = ParamRamp(3, 0.3, cap=2.0), ParamRamp(3)
    other.load_state_dict(one.state_dict())
    assert other.eta == one.eta == round(0.3 * 2**16) / 2**16
    assert repr(other).startswith("ParamRamp(3, eta=0.3")
    with pytest.raises(UsageError, match="wanted a slope from 0 to 1"):
        other.eta = 1.5


KEPT: dict[str, tuple[Callable[[Tensor], Tensor], list[type[Operation]]]] = {
    "minimum": (lambda x: torch.minimum(x, CAPS), [LeakyRelu]),
    "maximum": (lambda x: torch.maximum(CAPS, x), [LeakyRelu]),
    "relu, minimum": (lambda x: torch.minimum(x.relu(), CAPS), [Clamp]),
    "clamp of clamp": (lambda x: x.clamp(-1, 1.5).clamp(-CAPS, CAPS), [Clamp]),
    "clamp": (lambda x: x.clamp(-CAPS, CAPS + 1), [Clamp]),
    "clamp, some of one value": (lambda x: x.clamp(-CAPS, (CAPS - 1).clamp(min=-0.3)), [Clamp]),
    "clamp at one end": (lambda x: x.clamp(max=CAPS), [LeakyRelu]),
    "equal": (lambda x: torch.minimum(x.relu(), torch.full((FEATURES,), 0.7, dtype=torch.float64)), [Clamp]),
    "by minimum": (lambda x: 0.25 * x + 0.75 * torch.minimum(x.relu(), CAPS), [Clamp]),
    "unequal slopes": (lambda x: F.leaky_relu(x, 0.5) - 0.75 * torch.relu(x - CAPS), [Ramp]),
    "without slope above": (lambda x: F.relu(x) - torch.relu(x - CAPS), [Ramp]),
}


@pytest.mark.parametrize("name", KEPT)
def test_clamps_are_one_operation(name: str) -> None:
    function, kinds = KEPT[name]
    model = tv.load(Plain(function).eval(), (FEATURES,))
    assert [type(op) for op in operations(model)] == kinds
    is_tight(model, function)


LEFT: dict[str, Callable[[Tensor], Tensor]] = {
    "not the same neurons": lambda x: F.leaky_relu(x, 0.5) - 0.75 * torch.relu(x.flip(1) - CAPS),
    "a cap of 0": lambda x: F.leaky_relu(x, 0.5) - 0.75 * torch.relu(x - CAPS.clamp(max=1) + 0.3),
    "steeper": lambda x: F.leaky_relu(x, 0.5) - 1.75 * torch.relu(x - CAPS),
    "a quotient": lambda x: F.leaky_relu(x, 0.5) - torch.relu(x - CAPS) / 3,
    "several slopes": lambda x: F.leaky_relu(x, 0.5) - CAPS / 4 * torch.relu(x - CAPS),
    "scaled": lambda x: F.leaky_relu(x, 0.5) - 0.5 * torch.relu(2 * x - CAPS),
    "apart": lambda x: F.leaky_relu(x, 0.5).abs() - 0.5 * torch.relu(x - CAPS),
}


@pytest.mark.parametrize("name", LEFT)
def test_other_sums_stay_as_they_are(name: str) -> None:
    function = LEFT[name]
    model = tv.load(Plain(function).eval(), (FEATURES,))
    assert Ramp not in {type(op) for op in operations(model)}
    assert torch.allclose(model.graph.forward(X), function(X), atol=1e-12)
    found = tv.bounds(model, X, tv.LinfBall(0.7))
    drawn = X + 0.7 * (2 * torch.rand((300, *X.shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1)
    y = torch.stack([function(x) for x in drawn])
    assert ((y >= found.lower - 1e-9) & (y <= found.upper + 1e-9)).all()


def test_narrow_and_far_bounds() -> None:
    """Widths whose inverse is no number, and bounds of 1e300."""
    low = torch.tensor([0.0, -1e300, 0.5, -2.0, 0.0, 1.0], dtype=torch.float64)
    high = torch.tensor([1e-300, 1e300, 0.5, 3.0, 1e-10, 1.0 + 1e-15], dtype=torch.float64)
    model = tv.load(Plain(lambda x: x.clamp(low, high)).eval(), (FEATURES,))
    assert torch.equal(model.graph.forward(X), X.clamp(low, high))


def test_the_ramp_in_exact_arithmetic() -> None:
    for x, value in ((-2.0, -0.5), (0.5, 0.5), (3.0, 1.0 + 0.125 * 2)):
        assert exact.operation(Ramp(0.25, 1.0, 0.125), exact.ball(x)) == exact.ball(value)
        assert float(Ramp(0.25, 1.0, 0.125).forward(torch.tensor(x))) == value


def test_onnx_spells_it_in_several_ways(tmp_path: Path) -> None:
    caps, c = CAPS.numpy(), np.array(0.75)
    relu = [node("Relu", "x", "p"), node("Min", "p caps", "y")]
    bent = [node("LeakyRelu", "x", "a", alpha=0.25), node("Sub", "x caps", "b"), node("Relu", "b", "d")]
    whole = [*bent, node("Mul", "d c", "e"), node("Sub", "a e", "y")]
    for nodes, kinds in ((relu, [Clamp]), (whole, [Ramp])):
        path = save(tmp_path, build(nodes, [1, FEATURES], {"caps": caps, "c": c}, DOUBLE))
        agree(path)
        assert [type(op) for op in operations(tv.load(path))] == kinds


@pytest.mark.parametrize("name", ["clamp", "minimum", "maximum"])
def test_torch_refuses_bounds_that_are_no_numbers(name: str) -> None:
    limit = torch.tensor([0.0, float("nan"), 1.0], dtype=torch.float64)

    class Kept(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.clamp(x, min=limit) if name == "clamp" else torch.as_tensor(getattr(torch, name)(x, limit))

    with pytest.raises(ModelError, match="NaN"):
        tv.load(Kept(), (3,))


def test_onnx_refuses_bounds_that_are_no_numbers(tmp_path: Path) -> None:
    for wrong in (np.nan, np.inf):
        caps = np.array([1.0, wrong, 1.0, 1.0, 1.0, 1.0], dtype=np.float32)
        path = save(tmp_path, build([node("Min", "x caps", "y")], [1, FEATURES], {"caps": caps}, SINGLE))
        with pytest.raises(ModelError, match="caps"):
            tv.load(path)
