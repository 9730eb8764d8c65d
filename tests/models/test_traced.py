"""Long modules are read without `torch.export`, as it would read them, or are left to it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.models.from_torch import traced
from tightverify.models.from_torch.export import KEPT, all_read


class Module(nn.Module):
    """A module with two layers, of which a function makes the rest."""

    def __init__(self, call: Callable[[Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.back, self.head = nn.Linear(3, 12), nn.Linear(4, 12, bias=False), nn.Linear(4, 2)
        self.shift: Tensor
        self.register_buffer("shift", torch.rand(4))
        self.plain = torch.rand(4)
        self.call = call
        self.double()
        self.plain = self.plain.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def gru(module: Module, x: Tensor) -> Tensor:
    """Written out, operator by operator."""
    h = torch.zeros(len(x), 4, dtype=x.dtype)
    for t in range(x.shape[1]):
        (ar, az, an), (br, bz, bn) = module.layer(x[:, t]).chunk(3, -1), module.back(h).chunk(3, -1)
        n = torch.tanh(an + torch.sigmoid(ar + br) * bn)
        h = n + torch.sigmoid(az + bz) * (h - n)
    found: Tensor = module.head(h)
    return found


def changed_constant(module: Module, x: Tensor) -> Tensor:
    """A constant is read, changed, and read again."""
    step = torch.ones(4, dtype=x.dtype)
    y = module.layer(x[:, 0])[:, :4] * step
    step += 2
    return torch.tanh(y) * step + module.plain.sum() + module.shift


def stacked(module: Module, x: Tensor) -> Tensor:
    y = torch.stack([module.layer(x[:, t]) for t in range(x.shape[1])], 1)
    return torch.cat([y.mean(1), y.amax(1), torch.relu(y).flatten(1)], -1)


READ = {"gru": gru, "changed constant": changed_constant, "stacked": stacked}


def kept_in_attribute(module: Module, x: Tensor) -> Tensor:
    module.plain = module.layer(x[:, 0])
    return module.plain


def kept_in_buffer(module: Module, x: Tensor) -> Tensor:
    module.shift = module.layer(x[:, 0])
    return module.shift


def caught(module: Module, x: Tensor) -> Tensor:
    """Code that goes on whatever is raised."""
    y = module.layer(x[:, 0])
    try:
        return y.clone().add_(1)
    except Exception:
        return y


def written_into(_module: Module, x: Tensor) -> Tensor:
    made = torch.zeros(1, 4, dtype=x.dtype)
    made[:, :3] = x[:, 0]
    return made


LEFT: dict[str, Callable[[Module, Tensor], Tensor]] = {
    "if": lambda module, x: module.layer(x[:, 0]) if x.sum() > 0 else module.layer(x[:, 1]),
    "item": lambda module, x: module.layer(x[:, 0]) * x[0, 0, 0].item(),
    "tolist": lambda module, x: module.layer(x[:, 0]) * x.tolist()[0][0][0],
    "numpy": lambda module, x: module.layer(x[:, 0]) * float(x.numpy().sum()),
    "nonzero": lambda module, x: module.layer(x[:, 0]) * len(x.nonzero()),
    "equal": lambda module, x: module.layer(x[:, 0]) * torch.equal(x, -x),
    "argument": lambda module, x: module.layer(x[:, int(x.argmax()) % 2]),
    "weights": lambda module, x: module.layer(x[:, 0]) * float(module.shift.sum()),
    "chance": lambda module, x: module.layer(x[:, 0]) + torch.rand(12, dtype=x.dtype),
    "empty": lambda module, x: module.layer(x[:, 0]) + torch.empty(12, dtype=x.dtype),
    "in place": lambda module, x: module.layer(x[:, 0]).mul_(2),
    "written into": written_into,
    "attribute": kept_in_attribute,
    "buffer": kept_in_buffer,
    "caught": caught,
    "softmax": lambda module, x: torch.softmax(module.layer(x[:, 0]), -1),
    "lstm": lambda _, x: nn.LSTM(3, 2, batch_first=True).double()(x)[0][:, -1],
    "two": lambda _, x: (x, x),  # type: ignore[dict-item,return-value]
}


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "LONG", 1)


def program(call: Callable[[Module, Tensor], Tensor]) -> traced.Traced | None:
    module = Module(call).eval()
    return traced.traced(lambda: deepcopy(module), torch.rand(1, 3, 3, dtype=torch.float64), KEPT)


@pytest.mark.parametrize("name", READ)
def test_long_modules_are_read_as_export_reads_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Module(READ[name]).eval()
    exported = tv.load(module, (3, 3))
    monkeypatch.setattr(traced, "LONG", 1)
    found = program(READ[name])
    assert found is not None
    assert all_read(found)
    read = tv.load(module, (3, 3))
    x = torch.rand(5, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(read.graph.forward(x.flatten(1)), module(x), atol=1e-12)
    kinds = [[type(node).__name__ for node in model.graph.nodes] for model in (read, exported)]
    assert kinds[0] == kinds[1]
    one, other = (tv.bounds(model, x, tv.LinfBall(0.1)) for model in (read, exported))
    assert torch.allclose(one.lower, other.lower, atol=1e-9)
    assert torch.allclose(one.upper, other.upper, atol=1e-9)


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.usefixtures("long")
def test_others_are_left_to_export(name: str) -> None:
    assert program(LEFT[name]) is None


def test_short_ones_are_exported() -> None:
    assert program(gru) is None


@pytest.mark.usefixtures("long")
def test_what_is_refused_is_said_with_its_place() -> None:
    module = Module(lambda module, x: torch.cumprod(module.layer(x[:, 0]), -1)).eval()
    with pytest.raises(tv.errors.UnsupportedError, match=r"aten.cumprod .*test_traced.py line"):
        tv.load(module, (3, 3))
