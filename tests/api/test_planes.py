"""`tightverify.planes`: what it takes, and what it says of what it does not take."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import solvers
import tightverify
from tightverify.api.planes import PlaneFit, planes
from tightverify.errors import UsageError


@pytest.mark.parametrize(
    "boxes",
    [
        [[-1, 2, 0, 3]],
        np.array([[-1, 2, 0, 3]]),
        torch.tensor([[-1, 2, 0, 3]]),
        torch.tensor([[-1, 2, 0, 3]], dtype=torch.float32, requires_grad=True),
        ((-1.0, 2.0, -0.0, 3.0),),
    ],
    ids=["list", "numpy", "integers", "float32", "tuples"],
)
def test_boxes_of_any_make(boxes: object) -> None:
    usual = planes("sigmoid_tanh", torch.tensor([[-1, 2, 0, 3]], dtype=torch.float64))
    found = planes("sigmoid_tanh", boxes)
    assert found.lower.dtype == torch.float64
    assert torch.equal(found.lower, usual.lower)
    assert torch.equal(found.upper, usual.upper)


def test_no_boxes_have_no_planes() -> None:
    found = tightverify.planes("multiply", torch.zeros((0, 4)), solver="batched")
    assert found.lower.shape == (0, 3)
    assert found.gap.shape == (0, 2)


BOX = [[-1.0, 2.0, 0.0, 3.0]]


SQUARE = [[[-1.0, 0.0], [2.0, 0.0], [2.0, 3.0], [-1.0, 3.0]]]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: planes("sigmoid_tanh", [[2.0, -1.0, 0.0, 3.0]]), "bounds of box 0 are crossed"),
        (lambda: planes("sigmoid_tanh", [[float("nan"), 2.0, 0.0, 3.0]]), "the boxes hold a NaN"),
        (lambda: planes("sigmoid_tanh", [[-1.0, float("inf"), 0.0, 3.0]]), "the boxes hold a NaN or an infinite number"),
        (lambda: planes("sigmoid_tanh", [[-1.0, 2.0]]), r"boxes have shape \(1, 2\); wanted N x 4"),
        (lambda: planes("tanh", BOX), r"boxes have shape \(1, 4\); wanted N x 2"),
        (lambda: planes("sigmoid_tanh", BOX[0]), r"boxes have shape \(4,\)"),
        (lambda: planes("sigmoid_tanh", "a box"), "the boxes cannot be made a tensor"),
        (lambda: planes("sine", BOX), "cannot be fitted to 'sine'; choose one of .*sigmoid_tanh"),
        (lambda: planes("log", [[1.0, 2.0]]), "cannot be fitted to 'log'"),
        (lambda: planes("sigmoid_tanh", BOX, tolerance=0), "the tolerance is 0; it must be above 0"),
        (lambda: planes("sigmoid_tanh", BOX, tolerance=float("nan")), "the tolerance is nan"),
        (lambda: planes("sigmoid_tanh", BOX, at=[[5.0, 1.0]]), "a point of box 0 is outside"),
        (lambda: planes("tanh", [[0.0, 1.0]], at=[2.0]), "a point of box 0 is outside"),
        (lambda: planes("sigmoid_tanh", BOX, at=[[0.0, 1.0], [0.0, 1.0]]), r"points have shape \(2, 2\) for 1 boxes"),
        (lambda: planes("sigmoid_tanh", BOX, at=[[0.0, float("nan")]]), "the points hold a NaN"),
        (lambda: planes("sigmoid_tanh", BOX, over=[SQUARE[0][::-1]]), "polygon 0 is not convex, or runs clockwise"),
        (lambda: planes("sigmoid_tanh", BOX, over=[[*SQUARE[0], [0.0, 1.0]]]), "polygon 0 is not convex"),
        (lambda: planes("sigmoid_tanh", [[-1.0, 1.0, 0.0, 3.0]], over=SQUARE), "polygon 0 goes beyond its box"),
        (lambda: planes("sigmoid_tanh", BOX, over=SQUARE * 2), r"polygons have shape \(2, 4, 2\) for 1 boxes"),
        (lambda: planes("tanh", [[0.0, 1.0]], over=SQUARE), "a function of one operand has no polygons"),
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], PlaneFit], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        call()


def test_solvers_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(solvers.backend("gurobi")), "missing", lambda _: "gurobi is not installed")
    with pytest.raises(UsageError, match="gurobi is not installed"):
        planes("sigmoid_tanh", BOX, solver="gurobi")
    with pytest.raises((UsageError, solvers.SolverError), match="nobody"):
        planes("sigmoid_tanh", BOX, solver="nobody")
