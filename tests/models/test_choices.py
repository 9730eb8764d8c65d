"""Lines chosen by `where` or as extremes are one bent line, as tight as ParamRamp itself; all other choices stay choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import DOUBLE, agree, build, node, save
from tests.models.test_ramps import CAPS, FEATURES, Plain, X, is_tight, operations, ramp
from tightverify.models.model import Model
from tightverify.ops import LeakyRelu, Operation, Ramp
from tightverify.training import ParamRamp

ETA = round(0.1 * 2**16) / 2**16
RAMP, LEAKY, CAP = Ramp(ETA, 1.0, ETA), LeakyRelu(ETA), LeakyRelu(ETA)


def above(z: Tensor, eta: float = ETA) -> Tensor:
    return eta * z + (1 - eta) * CAPS


SPELT: dict[str, tuple[Callable[[Tensor], Tensor], Operation]] = {
    "where in where": (lambda z: torch.where(z < 0, ETA * z, torch.where(z > CAPS, above(z), z)), RAMP),
    "the other way round": (lambda z: torch.where(z >= CAPS, above(z), torch.where(z <= 0, z * ETA, z)), RAMP),
    "from inside": (lambda z: torch.where(z <= CAPS, torch.where(z > 0, z, ETA * z), above(z)), RAMP),
    "not": (lambda z: torch.where(~(z >= 0), ETA * z, torch.where((z < CAPS).logical_not(), above(z), z)), RAMP),
    "by the difference": (lambda z: torch.where(z < 0, ETA * z, torch.where(z - CAPS > 0, above(z), z)), RAMP),
    "from the cap": (lambda z: torch.where(z < 0, ETA * z, torch.where(z > CAPS, CAPS + ETA * (z - CAPS), z)), RAMP),
    "extremes": (lambda z: torch.maximum(ETA * z, torch.minimum(z, above(z))), RAMP),
    "extremes, the other way": (lambda z: torch.minimum(above(z), torch.maximum(z, ETA * z)), RAMP),
    "leaky": (lambda z: torch.minimum(F.leaky_relu(z, ETA), above(z)), RAMP),
    "where, minimum": (lambda z: torch.where(z < 0, ETA * z, torch.minimum(z, above(z))), RAMP),
    "where, maximum": (lambda z: torch.where(z > CAPS, above(z), torch.maximum(z, ETA * z)), RAMP),
    "relu": (lambda z: torch.where(z > CAPS, CAPS, torch.where(z > 0, z, 0.0)), Ramp(0.0, 1.0, 0.0)),
    "two slopes": (lambda z: torch.where(z < 0, 0.5 * z, torch.where(z > CAPS, above(z), z)), Ramp(0.5, 1.0, ETA)),
    "a slope that float32 has not": (
        lambda z: torch.where(z < 0, 0.01 * z, torch.where(z > CAPS, above(z, 0.01), z)),
        Ramp(0.01, 1.0, 0.01),
    ),
    "only below": (lambda z: torch.where(z > 0, z, ETA * z), LEAKY),
    "only below, no float32": (lambda z: torch.where(z > 0, z, 0.01 * z), LeakyRelu(0.01)),
    "only above": (lambda z: torch.where(z > CAPS, above(z), z), CAP),
    "only above, below 0": (lambda z: torch.where(z > -CAPS, ETA * z - (1 - ETA) * CAPS, z), CAP),
}


@pytest.mark.parametrize("name", SPELT)
def test_bent_lines_are_one_operation(name: str) -> None:
    function, op = SPELT[name]
    model = tv.load(Plain(function).eval(), (FEATURES,))
    assert operations(model) == [op]
    holds_samples(model, function)
    is_tight(model, function)


def holds_samples(model: Model, function: Callable[[Tensor], Tensor]) -> None:
    """Values are the same, at where lines meet too, and no bound is crossed."""
    points = torch.cat([X, torch.zeros(1, FEATURES), CAPS[None], -CAPS[None], 1e3 * X]).double()
    assert torch.allclose(model.graph.forward(points), function(points), rtol=1e-12, atol=1e-12)
    for method in ("ibp", "lbp", "crown", "planes"):
        found = tv.bounds(model, X, tv.LinfBall(0.7), method=method)
        drawn = X + 0.7 * (2 * torch.rand((100, *X.shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1)
        y = torch.stack([function(x) for x in drawn])
        assert ((y >= found.lower) & (y <= found.upper)).all()


def test_bounds_are_those_of_the_module() -> None:
    """In a network, float32, whose constants are rounded so far that the lines do not quite meet."""
    torch.manual_seed(0)
    inner = ramp(0.1, CAPS).float()

    class Spelt(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.where(z < 0, 0.1 * z, torch.where(z > inner.cap, 0.1 * z + (1 - 0.1) * inner.cap, z))

    inner.eta = 0.1
    before, after = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, 3)
    nets = [nn.Sequential(before, middle, after).eval() for middle in (inner, Spelt())]
    models = [tv.load(net, (FEATURES,)) for net in nets]
    assert [type(op) for op in operations(models[1])] == [Ramp]
    for method in ("ibp", "lbp", "crown", "planes"):
        own, other = (tv.bounds(model, X.float().double(), tv.LinfBall(0.3), method=method) for model in models)
        assert torch.allclose(own.lower, other.lower, atol=1e-4)
        assert torch.allclose(own.upper, other.upper, atol=1e-4)
        with torch.no_grad():
            y = nets[1].double()(X)
        nets[1].float()
        assert ((y >= other.lower) & (y <= other.upper)).all()


@pytest.mark.parametrize("low", [1.0, ETA])
@pytest.mark.parametrize("way", [1.0, -1.0])
def test_a_jump_that_is_as_small_as_a_rounding_is_paid_for(low: float, way: float) -> None:
    """Just above the caps values are off by it, up or down."""
    jump = way * 1e-7 * CAPS
    function = lambda z: torch.where(z < 0, low * z, torch.where(z > CAPS, above(z) + jump, z))  # noqa: E731
    model = tv.load(Plain(function).eval(), (FEATURES,))
    assert {type(op) for op in operations(model)} == {Ramp if low < 1 else LeakyRelu}
    points = CAPS[None] + torch.tensor([[1e-12], [0.0], [1e-9]], dtype=torch.float64)
    found = tv.bounds(model, CAPS[None], tv.LinfBall(1e-9))
    y = torch.stack([function(x[None]) for x in points])
    assert ((y >= found.lower) & (y <= found.upper)).all()
    assert ((found.upper - found.lower) < 1e-4).all()


def test_channels_of_pictures() -> None:
    made = ParamRamp(3, 0.25)

    class Spelt(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            caps = made.caps(4)
            return torch.where(z < 0, 0.25 * z, torch.where(z > caps, 0.25 * z + 0.75 * caps, z))

    module = nn.Sequential(nn.Conv2d(2, 3, 2), Spelt(), nn.Flatten(), nn.Linear(12, 2)).eval()
    assert operations(tv.load(module, (2, 3, 3))) == [Ramp(0.25, 1.0, 0.25)]


LEFT: dict[str, Callable[[Tensor], Tensor]] = {
    "a jump": lambda z: torch.where(z > CAPS, ETA * z, z),
    "a jump at 0": lambda z: torch.where(z > 0, z, ETA * z - 0.1),
    "another place": lambda z: torch.where(z > 0.1, z, ETA * z),
    "other neurons": lambda z: torch.where(z.flip(1) > 0, z, ETA * z),
    "of other neurons": lambda z: torch.where(z > 0, z, ETA * z.flip(1)),
    "steeper": lambda z: torch.where(z > 0, z, 2 * z),
    "falling": lambda z: torch.where(z > 0, z, -ETA * z),
    "the wrong side": lambda z: torch.where(z < 0, z, torch.where(z < -CAPS, 3 * z, ETA * z)),
    "a cap below 0": lambda z: torch.where(z < 0, ETA * z, torch.minimum(z, ETA * z - (1 - ETA) * CAPS)),
    "a cap below 0, a slope of 1": lambda z: torch.where(z < 0, z, torch.minimum(z, ETA * z - (1 - ETA) * CAPS)),
    "lines that cross again": lambda z: torch.minimum(F.leaky_relu(z, ETA), 0.5 * z + 0.5 * CAPS),
    "several slopes": lambda z: torch.where(z > 0, z, CAPS / 4 * z),
    "extremes of several": lambda z: torch.maximum(ETA * z, z.flip(1)),
    "a line above": lambda z: torch.maximum(ETA * z + 0.1, z),
    "a line below": lambda z: torch.maximum(ETA * z, torch.minimum(z, 0.05 * z + 0.95 * CAPS)),
}


@pytest.mark.parametrize("name", LEFT)
def test_other_choices_stay_choices(name: str) -> None:
    function = LEFT[name]
    model = tv.load(Plain(function).eval(), (FEATURES,))
    assert not operations(model) or {type(op) for op in operations(model)} - {LeakyRelu, Ramp}
    holds_samples(model, function)


def test_onnx_spells_it_by_where_and_by_extremes(tmp_path: Path) -> None:
    arrays = {"caps": CAPS.numpy(), "eta": np.array(ETA), "s": (1 - ETA) * CAPS.numpy(), "zero": np.array(0.0)}
    lines = [node("Mul", "x eta", "a"), node("Add", "a s", "b")]
    inner = [node("Greater", "x caps", "p"), node("Where", "p b x", "c"), node("Less", "x zero", "q")]
    for nodes in (
        [*lines, *inner, node("Where", "q a c", "y")],
        [*lines, node("Min", "x b", "c"), node("Max", "c a", "y")],
    ):
        used = {name: value for name, value in arrays.items() if any(name in one.input for one in nodes)}
        path = save(tmp_path, build(nodes, [1, FEATURES], used, DOUBLE))
        agree(path)
        model = tv.load(path)
        assert operations(model) == [RAMP]
        is_tight(model, SPELT["where in where"][0])
