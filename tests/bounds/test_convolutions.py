"""What is bounded through maps that slide is what is bounded through their matrices, by every method and from both formats."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import solvers
import tightverify as tv
from tests.bounds.test_bounds import probes, violations
from tests.helpers.convolutions import NETWORKS, images, saved, seeded, slides, sliding
from tests.helpers.exact import outside, values
from tightverify.bounds.linear import linear_bounds
from tightverify.models.model import Model
from tightverify.refine.network_lp import network_lp

EPS = {"vision": 0.19, "spotter": 0.2}
DIRECT, SEARCHES = ("interval", "linear", "planes"), ("combine", "complete", "lp", "milp")


@cache
def loaded(name: str, dense: bool, folder: Path | None = None) -> Model:
    make, shape = NETWORKS[name]
    module = seeded(make, torch.float32)
    with torch.no_grad():
        for parameter in module.parameters() if name == "vision" else ():
            parameter.mul_(2)
    with sliding(dense):
        model = tv.load(module, shape=shape) if folder is None else tv.load(saved(module, folder / "model.onnx", shape))
    assert bool(slides(model.graph)) != dense
    return model


@cache
def certified(name: str, method: str, dense: bool, folder: Path | None = None) -> tv.Result:
    x, region = images(1, *NETWORKS[name][1]), tv.LinfBall(EPS[name])
    model = loaded(name, dense, folder)
    return tv.certify(model, x, None, region, method=method, rounds=1, splits=2, restarts=0)[0]


@pytest.mark.covering
@pytest.mark.parametrize("method", DIRECT)
@pytest.mark.parametrize("name", EPS)
def test_bounds_are_those_of_the_matrices(name: str, method: str) -> None:
    sliding, dense = (certified(name, method, dense) for dense in (False, True))
    assert sliding.verdict is dense.verdict
    torch.testing.assert_close(sliding.margins, dense.margins, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "method"), [("vision", method) for method in SEARCHES] + [pytest.param("spotter", "lp", marks=pytest.mark.slow)]
)
def test_searches_end_alike(name: str, method: str, tmp_path: Path) -> None:
    """With other last bits they take other steps: eps off by 1e-13 moves their margins by 1e-3, with matrices alone too."""
    sliding, *others = (certified(name, method, *how) for how in ((False,), (True,), (False, tmp_path)))
    for other in others:
        assert sliding.verdict is other.verdict
        torch.testing.assert_close(sliding.margins, other.margins, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", EPS)
def test_searches_begin_alike(name: str) -> None:
    region = tv.LinfBall(EPS[name]).around(images(2, *NETWORKS[name][1]))
    ours, theirs = (linear_bounds(loaded(name, dense).graph, region, mixtures=3).intervals[-1] for dense in (False, True))
    torch.testing.assert_close(ours.lower, theirs.lower, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.upper, theirs.upper, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", EPS)
def test_programs_are_those_of_the_matrices(name: str) -> None:
    region = tv.LinfBall(EPS[name]).around(images(1, *NETWORKS[name][1]))
    row = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64)
    ours, theirs = (
        network_lp(linear_bounds(loaded(name, dense).graph, region), 0, {loaded(name, dense).graph.output: row[0]})
        for dense in (False, True)
    )
    one, other = (program.problem.rows.toarray() for program in (ours, theirs))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    found = [program.proved(solvers.solve(program.problem, "highs")) for program in (ours, theirs)]
    assert found[0] == pytest.approx(found[1], abs=1e-7)


@pytest.mark.parametrize("name", EPS)
def test_bounds_are_those_of_the_other_format(name: str, tmp_path: Path) -> None:
    region = tv.LinfBall(EPS[name]).around(images(2, *NETWORKS[name][1]))
    ours, theirs = (linear_bounds(loaded(name, False, folder).graph, region).intervals[-1] for folder in (None, tmp_path))
    torch.testing.assert_close(ours.lower, theirs.lower, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.upper, theirs.upper, rtol=0, atol=1e-9)


HELD = ["vision", "spotter", "average, numbers only", "max pool", "residual", "joined", "transposed, one axis"]


@pytest.mark.parametrize("name", HELD)
def test_bounds_hold_samples_and_exact_values(name: str) -> None:
    make, shape = NETWORKS[name]
    with sliding():
        graph = tv.load(seeded(make), shape=shape).graph
    region = tv.LinfBall(0.1).around(images(1, *shape))
    assert not violations(graph, region, probes(graph, region, 50))
    point = tv.LinfBall(0.0).around(images(1, *shape))
    assert not outside(values(graph, images(1, *shape).flatten()), linear_bounds(graph, point).intervals)
