"""Lines of functions of one operand: they hold, touch the envelopes where that was asked, and mix to what a peer proves."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from experiments.data import mnist_test
from tightverify.relax import curves
from tightverify.relax.curve_planes import CurveLines
from tightverify.relax.curves import Curve
from tightverify.relax.envelope_lines import PLACES
from tightverify.relax.fitted.family import KINDS, Domain
from tightverify.relax.polygons import Polygons
from tightverify.relax.traits import OperandSet, Search

CURVES: list[tuple[Curve, float]] = [
    (curves.Tanh(), -5.0),
    (curves.Sigmoid(), -9.0),
    (curves.TwoSlopes(0.0, 1.0), -3.0),
    (curves.TwoSlopes(1.0, 0.2), -3.0),
    (curves.Clip(-1.0, 2.0), -4.0),
    (curves.Parabola(), -2.0),
    (curves.Logarithm(), 0.05),
    (curves.Root(), 0.01),
    (curves.Hyperbola(), 0.1),
]
KINDS_OF_LINES = tuple(PLACES)


def operands(lowest: float, count: int = 60) -> OperandSet:
    generator = torch.Generator().manual_seed(0)
    low = lowest + 5 * torch.rand(count, generator=generator, dtype=torch.float64)
    width = 10.0 ** (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)
    return OperandSet.of_boxes(torch.stack([low, low + width], dim=1))


def samples(over: OperandSet) -> Tensor:
    return torch.lerp(over.low, over.high, torch.linspace(0, 1, 2001, dtype=torch.float64))


@pytest.mark.parametrize(("curve", "lowest"), CURVES, ids=[str(curve) for curve, _ in CURVES])
def test_lines_hold_and_touch(curve: Curve, lowest: float) -> None:
    over = operands(lowest)
    lower, upper = CurveLines(curve).planes(over, KINDS_OF_LINES, Search())
    x = samples(over)
    y = curve.value(x)[:, None]
    below = y - lower[..., :1] * x[:, None] - lower[..., 1:]
    above = upper[..., :1] * x[:, None] + upper[..., 1:] - y
    for gaps in (below, above):
        assert float(gaps.amin()) >= 0
        assert float(gaps.amin(2).amax()) < 1e-4 * float(1 + y.abs().amax())


@pytest.mark.parametrize(("curve", "lowest"), CURVES[:5], ids=[str(curve) for curve, _ in CURVES[:5]])
def test_the_line_at_a_point_is_the_lowest_there(curve: Curve, lowest: float) -> None:
    over = operands(lowest, 20)
    x = samples(over)
    y = curve.value(x)
    for share in (0.0, 0.1, 0.37, 0.5, 0.8, 1.0):
        point = torch.lerp(over.low, over.high, share)
        _, upper = CurveLines(curve).at(over, point[..., None], Search())
        height = upper[:, 0, 0] * point[:, 0] + upper[:, 0, 1]
        # The concave envelope at a point is the highest chord of samples on either side of it.
        left, right = x[:, ::10], x[:, ::10]
        left, right = (torch.minimum(left, point), torch.maximum(right, point))
        weight = torch.where(right[:, None] > left[:, :, None], (point[..., None] - left[:, :, None]), 0.0)
        weight = weight / (right[:, None] - left[:, :, None]).clamp(min=1e-12)
        chords = curve.value(left)[:, :, None] * (1 - weight) + curve.value(right)[:, None] * weight
        highest = torch.maximum(chords.flatten(1).amax(1), curve.value(point[:, 0]))
        assert float((height - highest).amin()) >= -1e-9
        assert float((height - highest).amax()) < 5e-3 * float(1 + y.abs().amax())


def test_lines_at_the_ends_of_a_segment_differ() -> None:
    """A segment has no area, and its edges lie along it: points on the way to its ends are still points of it."""
    segment = Polygons.of_intervals(torch.tensor([[-1.0, 2.0]], dtype=torch.float64))
    points = segment.towards(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64), 0.8)
    assert torch.allclose(points[0, :, 0], torch.tensor([1.7, -0.7], dtype=torch.float64))
    found = KINDS["edges"](Domain(curves.Tanh(), curves.One(), segment))
    assert float((found.upper[0, 0] - found.upper[0, 1]).abs().amax()) > 0.1


class Frames(nn.Module):
    def __init__(self, rnn: nn.RNN, units: int, frames: int) -> None:
        super().__init__()
        self.rnn, self.out, self.frames = rnn, nn.Linear(units, 10), frames

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


CELLS = {
    "mnist_rnn_tanh_07f_032h_1l": (7, 32, "tanh"),
    "mnist_rnn_tanh_04f_064h_1l": (4, 64, "tanh"),
    "mnist_rnn_relu_07f_064h_1l": (7, 64, "relu"),
}


@pytest.mark.covering
@pytest.mark.data
@pytest.mark.parametrize(("method", "theirs"), [("linear", "CROWN"), ("combine", "aCROWN-fix20")])
@pytest.mark.parametrize("name", CELLS)
def test_one_round_proves_what_others_prove(name: str, method: str, theirs: str, data: Path) -> None:
    """Target by target: fixed lines are no better than `linear`, optimised ones no better than `combine`."""
    frames, units, kind = CELLS[name]
    module = Frames(nn.RNN(784 // frames, units, nonlinearity=kind, batch_first=True), units, frames).double().eval()
    with np.load(data / "cells" / f"{name}.npz") as arrays:
        module.load_state_dict({key: torch.tensor(arrays[key], dtype=torch.float64) for key in arrays.files})
    published: dict[int, dict[int, float]] = defaultdict(dict)
    with (data.parent / "baselines" / "auto_lirpa_cells.csv").open() as file:
        for line in csv.DictReader(file):
            if line["model"] == name and line["method"] == theirs:
                published[int(line["test_index"])][int(line["target"])] = float(line["margin"])
    chosen = sorted(published)[:20:4]
    images, labels = mnist_test()
    x, y = images[chosen].view(len(chosen), frames, -1), labels[chosen]
    results = tv.certify(module, x, y, tv.LinfBall(0.01, clip=(0, 1)), method=method, rounds=1, restarts=0, thorough=True)
    for result, index in zip(results, chosen, strict=True):
        margins = [published[index][target] for target in range(10) if target != result.label]
        assert float((result.margins - torch.tensor(margins)).amin()) > -ROUNDED


ROUNDED = 1e-6
"""Published margins have so many places."""
