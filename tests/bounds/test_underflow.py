"""Coefficients that underflow: chains of layers whose weights reach from 2^-500 to 2^500, against exact rational arithmetic."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import tightverify as tv
from solvers import Problem
from solvers.safe import safe_bound
from tightverify.region import Ball
from tightverify.region.ball import length

BOUNDS = ("interval", "crown-ibp", "lbp", "crown-lbp", "window", "linear", "planes", "combine")
METHODS = (*BOUNDS, "complete", "lp", "milp")


class Chain(torch.nn.Module):
    """Layers of given weights, with ReLU between them where asked."""

    def __init__(self, weights: list[torch.Tensor], relu: bool = False) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(weights)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for k, weight in enumerate(self.weights):
            x = torch.relu(x) if self.relu and k else x
            x = x @ weight.T
        return x

    def exactly(self, point: list[float]) -> list[Fraction]:
        values = [Fraction(value) for value in point]
        for k, weight in enumerate(self.weights):
            values = [max(value, Fraction(0)) for value in values] if self.relu and k else values
            rows = [[Fraction(entry) for entry in row] for row in weight.tolist()]
            values = [sum((a * b for a, b in zip(row, values, strict=True)), Fraction(0)) for row in rows]
        return values


def scalars(*factors: float) -> list[torch.Tensor]:
    return [torch.tensor([[factor]], dtype=torch.float64) for factor in factors]


def random_chain(generator: np.random.Generator) -> tuple[Chain, float]:
    """A chain whose values stay within the floats, and the radius of the inputs around 0."""
    size = int(generator.integers(-500, 500))
    radius = math.ldexp(1.0, size)
    weights = []
    for _ in range(int(generator.integers(2, 9))):
        exponents = generator.integers(-500, 500, size=(2, 2))
        exponents = exponents - max(0, size + int(exponents.max()) - 900)
        size += int(exponents.max()) + 1
        signs = generator.choice([-1.0, 1.0], size=(2, 2))
        weights.append(torch.from_numpy(signs * np.ldexp(1 + generator.random((2, 2)), exponents.astype(np.int32))))
    return Chain(weights, relu=bool(generator.integers(2))), radius


CASES = {
    "two layers": (scalars(1e-200, 1e-150), 1e300),
    "many layers": (scalars(*[1e6] * 50, *[1e-8] * 42), 1.0),
    "down and up": (scalars(1e-200, 1e-200, 1e200, 1e200), 1.0),
}


@pytest.mark.parametrize("case", CASES)
def test_bounds_hold_what_coefficients_that_underflow_give(case: str) -> None:
    weights, radius = CASES[case]
    chain = Chain(weights)
    model = tv.load(chain, (1,))
    for method in BOUNDS:
        found = tv.bounds(model, torch.zeros(1, 1, dtype=torch.float64), tv.LinfBall(radius), method)
        for end in (-radius, radius):
            (value,) = chain.exactly([end])
            assert at_most(float(found.lower), value)
            assert at_most(-float(found.upper), -value)


@pytest.mark.parametrize("case", CASES)
def test_no_method_proves_what_underflows(case: str) -> None:
    """The chain's value falls below 0 by twice what the property adds to it."""
    weights, radius = CASES[case]
    chain = Chain(weights)
    (value,) = chain.exactly([radius])
    rows = torch.ones(1, 1, dtype=torch.float64), torch.tensor([float(value) / 2], dtype=torch.float64)
    model, x = tv.load(chain, (1,)), torch.zeros(1, 1, dtype=torch.float64)
    for method, norm in zip(METHODS, itertools.cycle((torch.inf, 2, 1)), strict=False):
        (result,) = tv.certify(model, x, None, tv.LpBall(radius, norm), method=method, rows=rows, splits=5)
        assert result.verdict is not tv.Verdict.ROBUST


def test_random_chains_hold_exact_values() -> None:
    generator = np.random.default_rng(5)
    for _ in range(8):
        chain, radius = random_chain(generator)
        model, region = tv.load(chain, (2,)), tv.LinfBall(radius)
        x = torch.zeros(1, 2, dtype=torch.float64)
        values = [chain.exactly(list(p)) for p in itertools.product((-radius, 0.0, radius, radius / 3), repeat=2)]
        for method in BOUNDS:
            found = tv.bounds(model, x, region, method)
            for k, value in ((k, value) for outputs in values for k, value in enumerate(outputs)):
                assert at_most(float(found.lower[0, k]), value)
                assert at_most(-float(found.upper[0, k]), -value)
        rows = torch.eye(2, dtype=torch.float64), torch.full((2,), 2.0**-200, dtype=torch.float64)
        for method in METHODS:
            (result,) = tv.certify(model, x, None, region, method=method, rows=rows, splits=5, restarts=0)
            assert at_most(result.margin, min(map(min, values)) + Fraction(2.0**-200))


def test_safe_bounds_hold_where_products_underflow() -> None:
    """The optimum over a box is known exactly: every bound that multipliers prove is below it."""
    generator = np.random.default_rng(7)
    for _ in range(200):
        count, height = 3, 2
        matrix, cost, dual = (
            generator.choice([-1.0, 1.0], size=shape) * np.ldexp(1.0, generator.integers(-500, 500, size=shape))
            for shape in ((height, count), count, height)
        )
        reach = np.ldexp(1.0, generator.integers(-500, 500, size=count))
        problem = Problem(cost, matrix, -np.inf, np.inf, -reach, reach)
        lowest = -sum((Fraction(float(abs(c))) * Fraction(float(r)) for c, r in zip(cost, reach, strict=True)), Fraction(0))
        pairs = [zip(np.abs(row), reach, strict=True) for row in matrix]
        rows = [sum((Fraction(float(a)) * Fraction(float(r)) for a, r in pair), Fraction(0)) for pair in pairs]
        sides = np.array([math.nextafter(to_float(row), math.inf) for row in rows])
        sided = problem.changed(row_lower=-sides, row_upper=sides)
        assert at_most(safe_bound(sided, dual), lowest)


def test_lengths_of_tiny_and_huge_steps() -> None:
    steps = torch.tensor([[3e-200, 4e-200], [3e200, 4e200], [0.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(length(steps), torch.tensor([5e-200, 5e200, 0.0], dtype=torch.float64), rtol=1e-12, atol=0)


def test_regions_of_tiny_boxes_keep_their_minimum() -> None:
    centre = torch.zeros(1, 2, dtype=torch.float64)
    reach = torch.full((1, 2), 1e-200, dtype=torch.float64)
    region = Ball(centre, tv.Interval(-reach, reach), torch.tensor([1e-200], dtype=torch.float64), 2)
    row = torch.tensor([[[3e-100, 4e-100]]], dtype=torch.float64)
    assert float(region.minimise(row)) <= -5e-300 * (1 - 1e-12)


def at_most(bound: float, value: Fraction) -> bool:
    """Whether a bound, maybe infinite, is at most a value."""
    return bound == -math.inf or (math.isfinite(bound) and Fraction(bound) <= value)


def to_float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
