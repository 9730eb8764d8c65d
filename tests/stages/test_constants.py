"""Every method takes networks in which something is constant, whatever is asked of them, and what it proves holds."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tightverify as tv
from tests.helpers.constant_networks import CASES, DOUBLE, Case
from tightverify.refine.converge import Cutting
from tightverify.refine.milp import Deciding
from tightverify.region import Perturbation, Region
from tightverify.stages import METHODS, lp, milp

SAMPLES = 200
X = torch.tensor([[[0.25, -0.375], [0.125, 0.625]]], dtype=DOUBLE)
WIDE = torch.tensor([[0.8, 0.0], [0.6, 0.7]], dtype=DOUBLE)
REGIONS: dict[str, Perturbation] = {
    "LinfBall": tv.LinfBall(0.7),
    "L2Ball": tv.L2Ball(0.8),
    "L1Ball, one frame": tv.L1Ball(0.9, frames=[1]),
    "Box": tv.Box(X[0] - WIDE, X[0] + WIDE),
    "AddedNoise": tv.AddedNoise(0.5 - X[0], 0.6),
    "Gain": tv.Gain(3.0),
}


def points(region: Region) -> Tensor:
    drawn = region.sample(SAMPLES, torch.Generator().manual_seed(1))
    return torch.cat([drawn, region.centre[:, None]], dim=1)


def hard_rows(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """A difference and a sum of outputs (B, S, K) that hold at all samples by a little: no bound proves that at once."""
    rows = torch.tensor([[1.0, -1.0], [-0.5, -0.7]], dtype=DOUBLE)
    values = outputs @ rows.T
    least, most = values.amin((0, 1)), values.amax((0, 1))
    return rows, 0.05 * (most - least) - least


def asked(place: int) -> dict[str, str]:
    """Of each method the region that a case is tried with: in turn, but for programs, which take boxes alone.

    Cases next to one another try one half of the methods each.
    """
    every, boxes = list(REGIONS), ["LinfBall", "Box"]
    kinds = [boxes if method in ("lp", "milp") else every for method in METHODS]
    return {method: some[(place + k) % len(some)] for k, (method, some) in enumerate(zip(METHODS, kinds, strict=True))}


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are cut twice, trees of them kept small: how far they would get is not the question."""
    for stage in (lp, milp):
        monkeypatch.setattr(stage, "Cutting", partial(Cutting, rounds=2))
    monkeypatch.setattr(milp, "Deciding", partial(Deciding, leaves=10, cuts=1))


@pytest.mark.usefixtures("briefly", "rounds_alone")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_method_takes_constants(case: Case, tmp_path: Path) -> None:
    model = case.load(tmp_path)
    place = CASES.index(case)
    for method, kind in list(asked(place).items())[place % 2 :: 2]:
        outputs = model.graph.forward(points(REGIONS[kind].around(X)))
        rows, offsets = hard_rows(outputs)
        values = (outputs @ rows.T + offsets).amin((0, 1))
        # No search for counterexamples: it would leave the stages after it nothing to do.
        limit, rounds = 0.5 if method == "milp" else math.inf, 2 if method == "combine" else 1
        settings = tv.Settings(method, limit, restarts=0, directions=2, rounds=rounds, splits=1)
        (result,) = tv.stream(model, X, None, REGIONS[kind], settings, (rows, offsets))
        assert bool(torch.isfinite(result.margins).all()), f"{method} on {kind}"
        assert bool((result.margins <= values + 1e-9).all()), f"{method} on {kind}"
