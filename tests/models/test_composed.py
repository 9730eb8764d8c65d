"""Functions made of several operations: each importer has them as its own runtime does, and bounds hold samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import NodeProto
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import DOUBLE, SINGLE, Arrays, agree, build, node, normal, save
from tightverify.models.model import Model

FEATURES = 6
X = 2 * torch.randn((4, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def holds_samples(model: Model, looser: float = 4.0) -> None:
    """On balls around inputs, and within some times what the samples span, on average."""
    x = X.to(model.dtype).double()
    found = tv.bounds(model, x, tv.LinfBall(0.1))
    moved = 0.1 * (2 * torch.rand((500, *X.shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1)
    moved = torch.where(moved.abs() > 0.06, 0.1 * moved.sign(), moved)
    y = model.graph.forward((x + moved).flatten(0, 1)).view(500, len(X), -1)
    assert ((y >= found.lower - 1e-9) & (y <= found.upper + 1e-9)).all()
    assert found.width.mean() <= looser * (y.amax(0) - y.amin(0)).mean() + 1e-9


class Last(nn.Module):
    """A function of the input and of a layer norm's and a PReLU's weights."""

    def __init__(self, function: Callable[[Tensor, Any], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.prelu, self.function = nn.LayerNorm(FEATURES), nn.PReLU(FEATURES), function
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
        with torch.no_grad():
            self.norm.weight.normal_()
            self.prelu.weight.copy_(torch.tensor([0.25, -0.5, 0.0, 1.0, 1.5, 0.1]))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self)


def attended(x: Tensor, _own: Any) -> Tensor:
    frames = x.view(-1, 3, 2)
    return (torch.softmax(frames @ frames.transpose(1, 2), -1) @ frames).flatten(1)


TORCH: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "celu": lambda x, _: F.celu(x, 0.7),
    "exp": lambda x, _: x.exp(),
    "expm1": lambda x, _: torch.expm1(x),
    "log1p": lambda x, _: torch.log1p(x.square()),
    "log sigmoid": lambda x, _: F.logsigmoid(x),
    "softshrink": lambda x, _: F.softshrink(x, 0.3),
    "sign": lambda x, _: x.sign() * x,
    "power mean": lambda x, _: F.lp_pool1d(x[:, None] + 4, 2, 2).flatten(1),
    "softplus": lambda x, _: F.softplus(x),
    "softplus, steep, cut": lambda x, _: F.softplus(x, 2.0, 1.0),
    "elu": lambda x, _: F.elu(x, 0.7),
    "selu": lambda x, _: F.selu(x),
    "gelu": lambda x, _: F.gelu(x),
    "gelu by tanh": lambda x, _: F.gelu(x, approximate="tanh"),
    "erf": lambda x, _: x.erf(),
    "mish": lambda x, _: F.mish(x),
    "softsign": lambda x, _: F.softsign(x),
    "softmax": lambda x, _: torch.softmax(x, 1) + 0.5 * x,
    "softmax of two": lambda x, _: torch.softmax(x.view(-1, 3, 2), 2).flatten(1),
    "log-softmax": lambda x, _: torch.log_softmax(x, 1) + 0.5 * x,
    "layer norm": lambda x, own: own.norm(x),
    "prelu": lambda x, own: own.prelu(x),
    "attention": attended,
    "attention, torch's": lambda x, own: own.attention(*(x.view(-1, 3, 2),) * 3, need_weights=False)[0].flatten(1),
}


@pytest.mark.parametrize("name", TORCH)
def test_modules(name: str) -> None:
    module = Last(TORCH[name]).eval()
    model = tv.load(module, (FEATURES,))
    with torch.no_grad():
        assert torch.allclose(model.graph.forward(X), module(X), atol=1e-9)
    holds_samples(model)


def test_torch_cuts_a_softplus_off() -> None:
    """On either side of the threshold, and where a region holds both."""
    model = tv.load(Last(TORCH["softplus, steep, cut"]).eval(), (FEATURES,))
    x = torch.linspace(0.4, 0.6, 201, dtype=torch.float64)[:, None].expand(-1, FEATURES)
    found = tv.bounds(model, x[100:101], tv.LinfBall(0.1))
    y = F.softplus(x, 2.0, 1.0)
    assert (y.diff(dim=0) < 0).any(), "it jumps down"
    assert ((y >= found.lower) & (y <= found.upper)).all()


FLAT = node("Softmax", "x", "s", axis=1)
ONNX: dict[str, tuple[list[NodeProto], Arrays, Any, int]] = {
    "Abs": ([node("Abs", "x")], {}, DOUBLE, 17),
    "Exp": ([node("Exp", "x")], {}, DOUBLE, 17),
    "Sign": ([node("Sign", "x")], {}, SINGLE, 17),
    "Softplus": ([node("Softplus", "x")], {}, SINGLE, 17),
    "Softsign": ([node("Softsign", "x")], {}, SINGLE, 17),
    "Erf": ([node("Erf", "x")], {}, SINGLE, 17),
    "Gelu": ([node("Gelu", "x")], {}, SINGLE, 20),
    "Gelu by tanh": ([node("Gelu", "x", approximate="tanh")], {}, SINGLE, 20),
    "Elu": ([node("Elu", "x", alpha=0.7)], {}, SINGLE, 17),
    "Selu": ([node("Selu", "x")], {}, SINGLE, 17),
    "Celu": ([node("Celu", "x", alpha=1.5)], {}, SINGLE, 17),
    "Mish": ([node("Mish", "x")], {}, SINGLE, 18),
    "HardSwish": ([node("HardSwish", "x")], {}, SINGLE, 17),
    "PRelu": ([node("PRelu", "x w")], {"w": np.array([0.2, -0.5, 0.0, 1.0, 1.5, 0.1])}, SINGLE, 17),
    "Softmax": ([node("Softmax", "x", "s"), node("Add", "s x")], {}, DOUBLE, 17),
    "LogSoftmax": ([node("LogSoftmax", "x", "s"), node("Add", "s x")], {}, DOUBLE, 17),
    "LayerNormalization": ([node("LayerNormalization", "x w b")], {"w": normal(6), "b": normal(6, seed=2)}, DOUBLE, 17),
    "MatMul": (
        [node("Reshape", "x s", "r"), node("Transpose", "r", "t", perm=[0, 2, 1]), node("MatMul", "r t", "m"),
         node("Reshape", "m f", "y")],
        {"s": np.array([-1, 2, 3]), "f": np.array([-1, 4])}, DOUBLE, 17,
    ),
    "Softmax, several axes": (
        [node("Reshape", "x s", "r"), node("Softmax", "r", "m", axis=1), node("Reshape", "m f", "z"), node("Add", "z x")],
        {"s": np.array([-1, 2, 3]), "f": np.array([-1, 6])}, DOUBLE, 11,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONNX)
def test_operators(name: str, tmp_path: Path) -> None:
    nodes, constants, kind, opset = ONNX[name]
    model = agree(save(tmp_path, build(nodes, ["N", FEATURES], constants, kind, opset)))
    holds_samples(model)


def test_differences_beyond_all_exponentials() -> None:
    """Masks add -1e9 to what is not to count."""
    mask = torch.tensor([0.0, -1e9, 0.0, 0.0, 0.0, -800.0])
    model = tv.load(Last(lambda x, _: torch.softmax(300 * x + mask, 1) + 0.1 * x).eval(), (FEATURES,))
    for eps in (0.1, 5.0):
        found = tv.bounds(model, X, tv.LinfBall(eps))
        moved = eps * (2 * torch.rand((200, *X.shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1)
        y = torch.softmax(300 * (X + moved) + mask, -1) + 0.1 * (X + moved)
        assert ((y >= found.lower - 1e-9) & (y <= found.upper + 1e-9)).all()
        assert torch.isfinite(found.width).all()


class LogSoftmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.log_softmax(x, 1)


def test_a_log_softmax_of_numbers_far_apart_claims_nothing_wrong() -> None:
    """Its exponentials overflow where differences are above 709."""
    x = torch.tensor([[0.0, 600.0, 0.0], [0.0, 800.0, 0.0]], dtype=torch.float64)
    network = tv.load(LogSoftmax(), (3,))
    for method in ("interval", "linear", "combine"):
        found = tv.bounds(network, x, tv.LinfBall(0.5), method=method)
        truth = 2 * torch.log_softmax(x, 1)
        assert bool(((found.lower <= truth) & (truth <= found.upper)).all())
        assert bool(torch.isfinite(found.lower[0]).all())


class Normalised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=1, eps=0.5)


def test_a_norm_below_its_epsilon_is_the_epsilon() -> None:
    network = tv.load(Normalised(), (3,))
    x = torch.tensor([[0.0, 0.0, 0.0], [0.1, -0.2, 0.0], [3.0, 0.0, 4.0]], dtype=torch.float64)
    wanted = nn.functional.normalize(x, dim=1, eps=0.5)
    assert torch.allclose(network.graph.forward(x), wanted, atol=1e-12)
    found = tv.bounds(network, x, tv.LinfBall(0.01))
    assert bool(((found.lower <= wanted) & (wanted <= found.upper)).all())
    assert bool((found.width < 0.3).all())
