"""Products of a neuron with a share of itself, and whole powers, are one operation however they are spelt."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import NodeProto
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import SINGLE, Arrays, agree, build, node, save
from tightverify.graph import Apply
from tightverify.models.model import Model
from tightverify.ops import Gelu, GeluByTanh, HardSwish, Mish, Operation, Power, Silu, Softsign
from tightverify.ops.product import Product

FEATURES = 5
WEIGHTS = torch.tensor([0.5, -1.5, 1.0, 2.0, 0.25], dtype=torch.float64)


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.function = nn.Linear(FEATURES, FEATURES).double(), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x))


def operations(model: Model) -> list[Operation]:
    return [node.op for node in model.graph.nodes if isinstance(node, Apply)]


SPELLINGS: dict[str, tuple[Callable[[Tensor], Tensor], Operation]] = {
    "silu": (F.silu, Silu()),
    "x sigmoid(x)": (lambda x: x * torch.sigmoid(x), Silu()),
    "sigmoid(b x) 2 x": (lambda x: torch.sigmoid(WEIGHTS * x) * (2 * x), Silu()),
    "quick gelu": (lambda x: x * torch.sigmoid(1.702 * x), Silu()),
    "gelu": (F.gelu, Gelu()),
    "gelu by erf": (lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))), Gelu()),
    "gelu by erf, halved inside": (lambda x: x * (0.5 + 0.5 * torch.erf(math.sqrt(0.5) * x)), Gelu()),
    "gelu of another width": (lambda x: 0.5 * x * (1 + torch.erf(3 * x)), Gelu()),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), GeluByTanh()),
    "gelu by tanh, spelt": (
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3)))),
        GeluByTanh(),
    ),
    "gelu by tanh, in another order": (lambda x: x * (0.5 + 0.5 * torch.tanh(0.8 * x + 0.035962 * x * x * x)), GeluByTanh()),
    "mish": (F.mish, Mish()),
    "x tanh(softplus(x))": (lambda x: x * torch.tanh(F.softplus(x, threshold=40.0)), Mish()),
    "hardswish": (F.hardswish, HardSwish()),
    "x hardsigmoid(x)": (lambda x: x * F.hardsigmoid(x), HardSwish()),
    "x relu6(x + 3) / 6": (lambda x: x * F.relu6(x + 3) / 6, HardSwish()),
    "softsign": (F.softsign, Softsign()),
    "x / (1 + |x|)": (lambda x: x / (1 + x.abs()), Softsign()),
    "softsign of a multiple": (lambda x: F.softsign(-2 * x), Softsign()),
    "x / (2 + |3 x|)": (lambda x: x / (2 + (3 * x).abs()), Softsign()),
    "x^3": (lambda x: x**3, Power(3)),
    "x x x": (lambda x: x * x * x, Power(3)),
    "x^4 by x": (lambda x: x * x.square() * x, Power(4)),
    "x^5": (lambda x: x**5, Power(5)),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings(name: str) -> None:
    function, wanted = SPELLINGS[name]
    module = Function(function)
    model = tv.load(module, (FEATURES,))
    found = [GeluByTanh() if isinstance(op, GeluByTanh) else op for op in operations(model)]
    assert found == [wanted]
    x = 2 * torch.randn((30, FEATURES), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(model.graph.forward(x), module(x), atol=1e-11)


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "another neuron's share": lambda x: x * torch.sigmoid(x.roll(1, -1)),
    "a share of something else": lambda x: x * torch.sigmoid(x + 1),
    "no share": lambda x: x * (0.5 + torch.sigmoid(x)),
    "uneven": lambda x: x * (0.4 + 0.5 * torch.erf(x)),
    "tanh of another": lambda x: x * torch.tanh(F.softplus(2 * x)),
    "no size": lambda x: x / (1 + torch.maximum(x, -0.5 * x)),
    "halves that are not": lambda x: x * ((torch.erf(x) + 1) + 1e-17),
    "halves that rounding makes": lambda x: x * (torch.erf(x) + 0.1 + 0.9),
    "a tanh and one and a little": lambda x: x * (torch.tanh(0.7978845608 * x + 0.03567740814 * x**3) + 1 + 1e-17),
    "a gate that hardly moves": lambda x: x * torch.sigmoid(1e-12 * x),
    "a scale that would overflow": lambda x: 1e10 * x * torch.sigmoid(1e-300 * x),
    "another cube": lambda x: x * (0.5 + 0.5 * torch.tanh(0.8 * (x + 0.1 * x**3))),
    "a tanh of the cube alone": lambda x: x * (0.5 + 0.5 * torch.tanh(x**3)),
    "relu6 of a multiple": lambda x: x * F.relu6(2 * x + 3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_looks_alike_stays_a_product(name: str) -> None:
    module = Function(OTHERS[name])
    model = tv.load(module, (FEATURES,))
    assert any(isinstance(op, Product) for op in operations(model))
    x = 2 * torch.randn((30, FEATURES), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(model.graph.forward(x), module(x), atol=1e-11)


def test_what_rounding_lost_of_a_gate_counts() -> None:
    """Times a large number it is no small one: bounds of a point hold what the module computes there."""
    for name, point in (("halves that are not", -1e12), ("halves that rounding makes", -1e9)):
        function = OTHERS[name]
        model = tv.load(nn.Sequential(nn.Identity(), Shifted(function)), (1,))
        x = torch.full((1, 1), point, dtype=torch.float64)
        found = tv.bounds(model, x, tv.LinfBall(0.0))
        assert float(found.lower) <= point * 1e-17 <= float(found.upper) or float(found.width) >= abs(point) * 1e-17


class Shifted(nn.Module):
    """A function of a number and a weight of 0, which says that the module is of float64."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.zeros(1, dtype=torch.float64)), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x + self.weight)


@pytest.mark.parametrize(("low", "high"), [(1e8, 3e8), (500.0, 1000.0), (127.0, 255.0), (3.0, 6.0)])
def test_a_wide_clamp_s_gate_holds_exact_values(low: float, high: float) -> None:
    """`x clamp(x + low, 0, high)`, whose operation has rounded numbers, near where the clamp begins."""
    model = tv.load(Shifted(lambda x: x * torch.clamp(x + low, 0, high)), (1,))
    assert [type(op) for op in operations(model)] == [HardSwish]
    x = -low + torch.cat([torch.rand(200, 1, generator=torch.Generator().manual_seed(0)), torch.ones(1, 1)]).double()
    found = tv.bounds(model, x, tv.LinfBall(0.0))
    for point, lower, upper in zip(
        x.flatten().tolist(), found.lower.flatten().tolist(), found.upper.flatten().tolist(), strict=True
    ):
        value = Fraction(point) * max(Fraction(point) + Fraction(low), Fraction(0))
        assert Fraction(lower) <= value <= Fraction(upper)


@pytest.mark.parametrize("name", ["x sigmoid(x)", "x x x", "x / (1 + |x|)", "quick gelu", "softsign of a multiple"])
def test_spellings_after_a_layer_without_a_bias(name: str) -> None:
    function, wanted = SPELLINGS[name]
    module = nn.Sequential(nn.Linear(FEATURES, FEATURES, bias=False).double(), Shifted(function))
    assert operations(tv.load(module, (FEATURES,))) == [wanted]


class Partly(nn.Module):
    """Quotients of which the first two have a value everywhere; the others are read and count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        quotients = 1 / (h.abs() + torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64))
        return h[:, :2] * quotients[:, :2] + 0 * quotients[:, 2:]


def test_a_quotient_without_a_value_stays_beside_one_that_has_one() -> None:
    model, x = tv.load(Partly(), (4,)), torch.zeros(1, 4, dtype=torch.float64)
    assert Softsign() in operations(model)
    found = tv.bounds(model, x, tv.LinfBall(0.5))
    assert not bool(torch.isfinite(found.lower).any() | torch.isfinite(found.upper).any())


HALF = {"h": np.array(0.5), "one": np.array(1.0), "r": np.array(math.sqrt(2)), "three": np.array(3.0), "six": np.array(6.0)}
ONNX: dict[str, tuple[list[NodeProto], Arrays, Operation]] = {
    "Sigmoid": ([node("Sigmoid", "x", "s"), node("Mul", "x s")], {}, Silu()),
    "Erf": (
        [node("Div", "x r", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"), node("Mul", "x a", "m"),
         node("Mul", "m h")], HALF, Gelu(),
    ),
    "HardSigmoid": ([node("HardSigmoid", "x", "s", alpha=0.25, beta=0.5), node("Mul", "x s")], {}, HardSwish(0.25, 0.5)),
    "Softplus": ([node("Softplus", "x", "p"), node("Tanh", "p", "t"), node("Mul", "x t")], {}, Mish()),
    "Pow": ([node("Pow", "x three")], HALF, Power(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ONNX)
def test_spellings_of_files(name: str, tmp_path: Path) -> None:
    nodes, constants, wanted = ONNX[name]
    assert operations(agree(save(tmp_path, build(nodes, ["N", FEATURES], constants, SINGLE)))) == [wanted]


NEARLY: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda x: x * torch.sigmoid(x + 1e-9),
    "gelu": lambda x: x * (0.5 + 0.5 * torch.erf(math.sqrt(0.5) * x + 1e-9)),
    "mish": lambda x: x * torch.tanh(F.softplus(x + 1e-9)),
    "hardswish": lambda x: x * F.hardsigmoid(x + 1e-9),
    "softsign": lambda x: x / (1 + (x + 1e-9).abs()),
    "x^3": lambda x: x * (x + 1e-9).square(),
}
"""Hardly another function, but a product of two that are bounded apart."""


@pytest.mark.parametrize("name", NEARLY)
@pytest.mark.parametrize("eps", [0.1, 1.0])
def test_one_operation_is_tighter_than_a_product(name: str, eps: float) -> None:
    one, product = (tv.load(Function(function), (FEATURES,)) for function in (SPELLINGS[name][0], NEARLY[name]))
    x = torch.linspace(-2, 2, 4 * FEATURES, dtype=torch.float64).view(4, FEATURES)
    found, other = (tv.bounds(model, x, tv.LinfBall(eps)) for model in (one, product))
    moved = x + eps * (2 * torch.rand((20_000, *x.shape), generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 1)
    y = one.graph.forward(moved.flatten(0, 1)).view(-1, 4, FEATURES)
    assert bool(((found.lower <= y) & (y <= found.upper)).all())
    assert float(found.width.mean()) < (0.95 if eps == 1 else 1.001) * float(other.width.mean())


class Recurrent(nn.Module):
    """h = f(W x + U h), of a function that is not one of torch's cells."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.u, self.last = nn.Linear(4, 5).double(), nn.Linear(5, 5).double(), nn.Linear(5, 3).double()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 5)
        for frame in x.unbind(1):
            h = self.function(2 * self.w(frame) + self.u(h))
        return torch.as_tensor(self.last(h))


@pytest.mark.covering
@pytest.mark.parametrize("method", ["combine", "lp", "milp", "complete"])
@pytest.mark.parametrize("name", ["silu", "gelu", "mish", "hardswish", "softsign"])
def test_networks_are_bounded_by_every_method(name: str, method: str) -> None:
    """No method is looser than `linear`, and samples keep to all of them."""
    module = Recurrent(SPELLINGS[name][0]).eval()
    x = torch.randn((2, 3, 4), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        labels = module(x).argmax(1)
        moved = x + 0.2 * (
            2 * torch.rand((2000, *x.shape), generator=torch.Generator().manual_seed(4), dtype=torch.float64) - 1
        )
        y = module(moved.flatten(0, 1)).view(2000, 2, 3)
    attained = (y.gather(2, labels.expand(2000, 2)[..., None]) - y).amin(0)
    model = tv.load(module, (3, 4))
    asked: dict[str, Any] = {"restarts": 0, "thorough": True, "time_limit": 1.0}
    first = tv.certify(model, x, labels, tv.LinfBall(0.2), method="linear", **asked)
    found = tv.certify(model, x, labels, tv.LinfBall(0.2), method=method, **asked)
    for k, result in enumerate(found):
        others = [c for c in range(3) if c != int(labels[k])]
        assert bool((result.margins <= attained[k, others] + 1e-9).all())
        assert bool((result.margins >= first[k].margins - 1e-9).all())
