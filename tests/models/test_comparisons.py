"""What is true or not in a network, and what is chosen by it: masks, comparisons, choices; bounds hold both outcomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import NodeProto, TensorProto
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import Arrays, agree, build, node, normal, save
from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.model import Model
from tightverify.ops import Step
from tightverify.relax.planes import Planes
from tightverify.values import Interval

FRAMES, FEATURES = 4, 3


def as_number(name: str = "t") -> NodeProto:
    return node("Cast", name, "y", to=TensorProto.DOUBLE)


PAIR = [node("Slice", "x zero one last", "a"), node("Slice", "x one two last", "b")]
PLACES = {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "last": np.array([1])}
BY_NODES: dict[str, tuple[list[NodeProto], Arrays]] = {
    **{name: ([*PAIR, node(name, "a b", "t"), as_number()], PLACES) for name in ("Greater", "Less")},
    **{name: ([*PAIR, node(name, "a b", "t"), as_number()], PLACES) for name in ("GreaterOrEqual", "LessOrEqual", "Equal")},
    **{
        name: ([*PAIR, node("Greater", "a k", "p"), node("Less", "b k", "q"), node(name, "p q", "t"), as_number()], PLACES)
        for name in ("And", "Or", "Xor")
    },
    "And, constant": (
        [node("Greater", "x k", "p"), node("And", "p m", "t"), as_number()],
        {"m": np.array([True, False, True])},
    ),
    "Cast to a truth": ([node("Cast", "x", "t", to=TensorProto.BOOL), as_number()], {}),
    "Cast to whole numbers": (
        [
            node("Mul", "x four", "a"),
            node("Cast", "a", "i", to=TensorProto.INT64),
            node("Sub", "seven i", "j"),
            node("Greater", "j seven", "g"),
            node("Where", "g j seven", "w"),
            node("Neg", "w", "t"),
            as_number(),
        ],
        {"four": np.array(4.0), "seven": np.array(7)},
    ),
    "Not": ([node("Less", "x k", "p"), node("Not", "p", "t"), as_number()], {}),
    "Where": ([node("Tanh", "x", "h"), node("Greater", "x k", "p"), node("Where", "p h x")], {}),
    "Where, constants": (
        [node("Greater", "x k", "p"), node("Where", "p one_ two_")],
        {"one_": normal(3), "two_": np.array(2.0)},
    ),
}


@pytest.mark.parametrize("name", BY_NODES)
def test_operators_agree_with_onnxruntime(name: str, tmp_path: Path) -> None:
    nodes, constants = BY_NODES[name]
    model = tv.load(save(tmp_path, build(nodes, ["N", FEATURES], {"k": np.array(0.1), **constants})))
    x = torch.cat(
        [torch.tensor([[0.1, 0.1, -2.0], [0.0, 0.5, 0.5], [-1.0, -1.0, 0.1]]).double(), torch.from_numpy(normal(20, 3))]
    )
    wanted = model.original(x)
    assert float(wanted.std()) > 0.1
    assert torch.allclose(model.graph.forward(x), wanted)
    holds_samples(model, x, 0.2)


def holds_samples(model: Model, x: Tensor, eps: float) -> None:
    found = tv.bounds(model, x, tv.LinfBall(eps))
    generator = torch.Generator().manual_seed(0)
    for share in (0.0, 0.3, 1.0):
        moved = torch.randn((200, *x.shape), generator=generator, dtype=torch.float64).clamp(-1, 1) * eps * share
        y = model.graph.forward((x + moved).flatten(0, 1).flatten(1)).view(200, len(x), -1)
        assert ((y >= found.lower - 1e-9) & (y <= found.upper + 1e-9)).all()


def masked(folder: Path) -> Model:
    """The sum over frames of tanh(x W), those passed over that are all 0, as Keras' Masking."""
    nodes = [
        node("Equal", "x zero", "e"), node("Not", "e", "n"), node("Cast", "n", "f", to=TensorProto.DOUBLE),
        node("ReduceSum", "f last", "s", keepdims=1), node("Greater", "s zero", "g"),
        node("MatMul", "x w", "a"), node("Tanh", "a", "t"), node("Add", "t shift", "h"),
        node("Where", "g h zero", "m"), node("ReduceSum", "m time", "y", keepdims=0),
    ]  # fmt: skip
    constants = {
        "zero": np.array(0.0),
        "last": np.array([2]),
        "time": np.array([1]),
        "w": normal(FEATURES, 2),
        "shift": normal(2),
    }
    return agree(save(folder, build(nodes, ["N", FRAMES, FEATURES], constants)))


def test_masks_of_frames(tmp_path: Path) -> None:
    """Exactly as if there were none where no frame can be all 0, and both ways where one can."""
    model = masked(tmp_path)
    w, shift = torch.from_numpy(normal(FEATURES, 2)), torch.from_numpy(normal(2))
    x = 0.5 + torch.rand((2, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    without = tv.load(Plain(w, shift), (FRAMES, FEATURES))
    for eps in (0.01, 0.1):
        own, plain = (tv.bounds(each, x, tv.LinfBall(eps)) for each in (model, without))
        assert torch.allclose(own.lower, plain.lower, atol=1e-9)
        assert torch.allclose(own.upper, plain.upper, atol=1e-9)
    x[:, 2:] = 0
    assert torch.allclose(model.original(x), torch.tanh(x[:, :2] @ w).sum(1) + 2 * shift)
    holds_samples(model, x, 0.1)
    (result, _) = tv.certify(model, x, None, tv.LinfBall(1e-6), method="complete", time_limit=5)
    with_both = torch.stack([x[0], torch.where(x[0] == 0, 1e-7, x[0])])
    assert (result.verdict is tv.Verdict.ROBUST) <= (len(set(model.original(with_both).argmax(1).tolist())) == 1)


class Plain(nn.Module):
    def __init__(self, w: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.w, self.shift = nn.Parameter(w), nn.Parameter(shift)

    def forward(self, x: Tensor) -> Tensor:
        return (torch.tanh(x @ self.w) + self.shift).sum(1)


def test_a_jump_in_the_box_is_never_ignored() -> None:
    """Whatever side the box leans to; an end on the jump is on its left."""
    ends = [(-1.0, 1.0), (-1e-300, 5.0), (-5.0, 1e-300), (0.0, 1.0), (-1.0, 0.0), (0.0, 0.0), (5e-324, 1.0), (-2.0, -1.0)]
    low, high = torch.tensor(ends, dtype=torch.float64).T[:, None]
    box = Interval(low, high)
    interval, planes = Step().interval(box), Step().relax(box)
    assert interval.lower.tolist() == [[0, 0, 0, 0, 0, 0, 1, 0]]
    assert interval.upper.tolist() == [[1, 1, 1, 1, 0, 0, 1, 0]]
    for share in torch.linspace(0, 1, 101, dtype=torch.float64):
        check(planes, low + share * (high - low))
    tiny = torch.full_like(low, 5e-324)
    check(planes, torch.minimum(torch.maximum(tiny, low), high))


def check(planes: Planes, x: Tensor) -> None:
    value = Step().forward(x)
    assert (planes.lower.at(x) <= value).all()
    assert (value <= planes.upper.at(x)).all()


class Choosing(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


BY_TORCH: dict[str, Callable[[Tensor], Tensor]] = {
    "gt": lambda x: (x > 0.125).to(x.dtype),
    "ge": lambda x: (x[:, :1] >= x[:, 1:]).to(x.dtype),
    "lt": lambda x: (x < x.flip(1)).to(x.dtype),
    "le": lambda x: (x <= 0.125) * x,
    "ne": lambda x: (x != 0.125).to(x.dtype),
    "eq": lambda x: (x == x[:, :1]).to(x.dtype),
    "where": lambda x: torch.where(x > 0.125, x.tanh(), 2 * x),
    "masked": lambda x: x.masked_fill(x < 0.125, -3.0),
    "logic": lambda x: (((x > 0.125) & ~(x > 0.4)) | torch.logical_and(x < 0, x > -1)).to(x.dtype),
    "any": lambda x: (x != 0).any(1, keepdim=True) * x,
    "all": lambda x: (x > 0).all(1, keepdim=True) * x,
}


@pytest.mark.parametrize("name", BY_TORCH)
def test_modules_that_compare(name: str) -> None:
    module = Choosing(BY_TORCH[name])
    model = tv.load(module, (FEATURES,))
    x = torch.tensor([[0.125, 0.125, -2.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(model.graph.forward(x), module(x).double())
    holds_samples(model, x, 0.2)


def test_what_is_still_refused(tmp_path: Path) -> None:
    whole = [node("Greater", "x k", "p"), node("Cast", "p", "i", to=TensorProto.INT16), node("Cast", "i", "y", to=11)]
    with pytest.raises(UnsupportedError, match="cast of activations to INT16"):
        tv.load(save(tmp_path, build(whole, ["N", FEATURES], {"k": np.array(0.125)})))
    infinite = [node("Greater", "x k", "p"), node("Where", "p x low")]
    with pytest.raises(ModelError, match="infinite"):
        tv.load(save(tmp_path, build(infinite, ["N", FEATURES], {"k": np.array(0.125), "low": np.array(-np.inf)})))
