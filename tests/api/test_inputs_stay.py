"""What users hand over is theirs: no call changes their inputs, labels, rows or models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.api.test_api import classifier

Call = Callable[[nn.Module, Tensor, Tensor], Any]


def certified(method: str) -> Call:
    region = tv.LinfBall(0.3, clip=(0, 1))
    return lambda model, x, y: tv.certify(model, x, y, region, method=method, time_limit=2, thorough=method != "complete")


CALLS: dict[str, Call] = {
    **{method: certified(method) for method in ("linear", "window", "combine", "complete", "lp")},
    "bounds": lambda model, x, _: tv.bounds(model, x, tv.L2Ball(0.2), every_node=True),
    "radius": lambda model, x, y: tv.radius(model, x, y, method="linear"),
    "radius per frame": lambda model, x, _: tv.radius(model, x, per="frame", method="linear", norm=1),
    "differ": lambda model, x, _: tv.differ(model, other(model), x, tv.LinfBall(0.1)),
    "differ within": lambda model, x, _: tv.differ(model, other(model), x, tv.LinfBall(0.1), within=1e-6, method="linear"),
    "agree": lambda model, x, _: tv.differ(model, other(model), x, tv.LinfBall(0.1), agree=True, method="linear"),
    "rows": lambda model, x, _: tv.certify(model, x, None, tv.LinfBall(0.1), rows=tv.Above(-100.0)),
}


def other(model: nn.Module) -> nn.Module:
    """The same network, its weights moved a little."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(1.01)
    return found


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.float64) for name in CALLS), ("linear", torch.float32), ("bounds", torch.float32)]
)
def test_no_call_changes_what_is_handed_over(name: str, dtype: torch.dtype) -> None:
    model = classifier(nn.GRU).to(dtype)
    x = torch.rand((2, 4, 3), generator=torch.Generator().manual_seed(0), dtype=dtype)
    y = model(x).argmax(1)
    kept = [value.detach().clone() for value in (x, y, *model.parameters())]
    CALLS[name](model, x, y)
    for before, after in zip(kept, (x, y, *model.parameters()), strict=True):
        assert torch.equal(before, after)
