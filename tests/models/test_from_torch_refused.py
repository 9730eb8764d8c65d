"""Modules that cannot be imported are refused, and the user is told which part of them it is, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.helpers.torch_modules import (
    FEATURES,
    HIDDEN,
    RECURRENT,
    SHAPE,
    TIME,
    Function,
    drawn,
)
from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.from_torch.module import from_torch


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.state = self.state + x.sum(1)
        return self.state


class Counting(nn.Module):
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return x.sum(1) * self.count


class Nested(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Linear(FEATURES, FEATURES), inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x).flatten(1)


class Last(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1) + torch.rand(3)


UNSUPPORTED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "sin": (
        lambda: Function(lambda x: x.sin()),
        ("aten.sin ", "outermost module", "torch_modules.py line", "self.function("),
    ),
    "argmax": (lambda: Function(lambda x: x.argmax(1, keepdim=True) + x), ("aten.argmax ", "leave it out")),
    "noise": (
        lambda: Nested(nn.RReLU()),
        ("aten.empty ", "'part.1'", "RReLU", "test_from_torch_refused.py line", "self.part(x)"),
    ),
    "norm of order 3": (
        lambda: Function(lambda x: torch.linalg.vector_norm(x, ord=3, dim=1)),
        ("aten.linalg_vector_norm ", "order 3"),
    ),
    "std of one": (lambda: Function(lambda x: x[:, :1].std(1)), ("aten.std ", "of 1 numbers")),
    "dropout": (lambda: Function(lambda x: F.dropout(x)), ("aten.dropout ", "only in training")),
    "random": (Random, ("aten.rand ",)),
    "empty": (lambda: Function(lambda x: x + torch.empty(3).fill_(1.0) * torch.empty(3)), ("aten.empty ",)),
    "not of numbers": (lambda: Function(lambda x: torch.logical_not(x).to(x.dtype)), ("aten.logical_not ", "compare them")),
    "zero": (lambda: Function(lambda x: x / torch.tensor([1.0, 0.0, 1.0])), ("aten.div ", "zero")),
    "rounding": (lambda: Function(lambda x: torch.div(x, 2, rounding_mode="floor")), ("aten.div",)),
    "power of less than 0": (lambda: Function(lambda x: (-2.0) ** x), ("aten.pow ", "a base of 0 or less")),
    "infinite power": (lambda: Function(lambda x: x**math.inf), ("aten.pow ", "exponent inf")),
    "slope": (lambda: Nested(nn.LeakyReLU(-0.5)), ("aten.leaky_relu ", "-0.5", "'part.1'")),
    "elu": (lambda: Nested(nn.ELU(-0.5)), ("aten.elu ", "above 0")),
    "clamp": (lambda: Function(lambda x: x.clamp(torch.zeros(3), -torch.ones(3))), ("aten.clamp ", "crossed")),
    "clamp-self": (lambda: Function(lambda x: x.clamp(max=x.tanh())), ("aten.clamp ", "max", "depends on the input")),
    "crossed": (lambda: Function(lambda x: x.clamp(1.0, 0.0)), ("aten.clamp ", "crossed")),
    "positions": (lambda: Function(lambda x: x.max(1)[0] + x.max(1)[1]), ("positions of a maximum", "values only")),
    "spectrum": (
        lambda: Function(lambda x: torch.stft(x.flatten(1), 4, 2, return_complex=True).abs()),
        ("aten._fft_r2c ", "tightverify.speech"),
    ),
    "index": (lambda: Function(lambda x: x.gather(1, x.argmax(1, keepdim=True))), ("aten.argmax ",)),
    "kernel": (lambda: Function(lambda x: F.conv1d(x[:1], x[:1])), ("aten.conv1d ", "weight", "depends on the input")),
    "half": (lambda: Function(lambda x: x.half().to(x.dtype)), ("aten._to_copy ", "torch.float16")),
    "integer": (lambda: Function(lambda x: x.to(torch.int8) + x), ("aten._to_copy ", "torch.int8")),
    "accumulate": (
        lambda: Function(lambda x: x.index_put((torch.tensor([0]),), x[:1], accumulate=True)),
        ("aten.index_put ", "accumulate"),
    ),
    "buffer": (Counting, ("changes count", "BUFFER_MUTATION")),
    "input": (lambda: Function(lambda x: x.add_(1)), ("changes", "USER_INPUT_MUTATION")),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_parts_are_named(name: str) -> None:
    make, words = UNSUPPORTED[name]
    module = make()
    with pytest.raises(UnsupportedError) as caught:
        from_torch(module, SHAPE)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def _branching(x: Tensor) -> Tensor:
    return x.sum(1) if x.sum() > 0 else x.mean(1)


def _spoilt(value: float) -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(TIME * FEATURES, 3))
    with torch.no_grad():
        module[1].weight[0, 0] = value  # type: ignore[operator]
    return module


def _mixed() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(TIME * FEATURES, 3).double(), nn.Linear(3, 3))


class Several(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Outputs(nn.Module):
    def forward(self, x: Tensor) -> list[float]:
        return [float(x.sum())]


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "branch": (lambda: Function(_branching), ("cannot be exported", "shapes only")),
    "outputs": (Outputs, ("list", "return only the class scores")),
    "lstm": (lambda: nn.LSTM(FEATURES, HIDDEN), ("(1, 4, 4)", "one row of numbers", "choose a frame")),
    "inputs": (Several, ("takes x, y", "fix={'y': array}")),
    "shape": (lambda: nn.Linear(7, 2), ("fails on one input of shape (1, 4, 3)", "check the shape")),
    "rank": (lambda: nn.Linear(FEATURES, 2), ("shape (1, 4, 2)", "one row of numbers")),
    "squeezed": (lambda: nn.Sequential(nn.Flatten(0, 2), nn.Linear(TIME * FEATURES, 3)), ("one row of class scores",)),
    "nan": (lambda: _spoilt(float("nan")), ("1.weight", "NaN")),
    "infinite": (lambda: _spoilt(float("inf")), ("1.weight", "infinite")),
    "mixed": (_mixed, ("torch.float64 (1.weight)", "torch.float32 (2.weight)")),
    "half": (lambda: nn.Linear(3, 3).half(), ("torch.float16", "`.float()`")),
    "complex": (lambda: nn.Linear(3, 3, dtype=torch.complex64), ("torch.complex64",)),
    "state": (Stateful, ("keep no state",)),
    "batch": (
        lambda: Function(lambda x: x.view(1, TIME, -1)[..., :FEATURES]),
        ("fails on a batch", "6 input(s) give outputs"),
    ),
    "batch-one": (lambda: Function(lambda x: x.view(1, TIME, FEATURES)), ("fails on a batch",)),
    "batch-mean": (lambda: Function(lambda x: (x - x.mean(0)).sum(1)), ("depend on what else is in the batch",)),
    "mask": (lambda: Function(lambda x: x.masked_fill(torch.tensor([True, False, False]), -torch.inf).amax(2)), ("infinite",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unusable_modules_are_refused(name: str) -> None:
    make, words = REFUSED[name]
    module = make()
    with pytest.raises(ModelError) as caught:
        from_torch(module, SHAPE)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(("shape", "axis"), [((), 0), ((0, 3), 0), ((4, 3), 3), ((4, 3), -1)])
def test_shapes_that_make_no_sense_are_refused(shape: tuple[int, ...], axis: int) -> None:
    with pytest.raises(ModelError, match="do not fit"):
        from_torch(nn.Flatten(), shape, axis)


def test_import_says_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    module, axis = RECURRENT["lstm"]()
    from_torch(drawn(module), SHAPE, axis)
    with pytest.raises(ModelError):
        from_torch(Function(_branching), SHAPE)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


class Held(nn.Module):
    """Values written into a tensor of another type, and read from it."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        held = torch.zeros(x.shape, dtype=self.kind)
        held[:] = x * 1e3
        return torch.as_tensor(self.layer(held.double() * 1e-3))


@pytest.mark.parametrize("kind", [torch.int8, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32])
def test_values_held_in_another_type_are_refused(kind: torch.dtype) -> None:
    with pytest.raises(UnsupportedError, match="is not supported"):
        from_torch(Held(kind), (4,))
    agreed = from_torch(Held(torch.float64), (4,))
    assert agreed.dtype is torch.float64


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found = torch.sin(x).sum(1)
        return torch.atan(found) + torch.atan(2 * found) + torch.special.i0(found) + torch.sin(torch.ones(3))


def test_all_operators_that_are_refused_are_named_at_once() -> None:
    words = r"aten\.sin is not supported .*\. Not supported either are: aten\.atan, 2 times; aten\.(special_)?i0$"
    with pytest.raises(UnsupportedError, match=words):
        from_torch(Odd(), SHAPE)
