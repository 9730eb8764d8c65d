"""The envelopes of F(x) G(y) over a box, from samples: the largest convex function below it, the least concave one above.

The convex hull of points of the surface lies between the hulls of all of it, so that the gaps told here are at most the
exact ones, and come close to them as the samples are dense where the function bends. At a corner the envelopes are the
function. Subtracting an affine function from a surface subtracts it from both envelopes: the hull is that of what least
squares leave, scaled to the unit cube, so that thin and huge boxes are no different from others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from torch import Tensor

from tightverify.relax.curves import Symmetric

EVENLY = 97
"""points of an axis from end to end; an odd number, so that the middle is one"""
BEND = torch.linspace(-6.0, 6.0, 65, dtype=torch.float64)
"""where sigmoid and tanh bend"""
FLAT = 1e-13
STEEP = 1e-6
PANELS = torch.linspace(-40.0, 40.0, 65, dtype=torch.float64)
"""outside of these, sigmoid and tanh are constant to the last digit"""
NODES, WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(16))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Envelope:
    """How far the envelopes are from the function: in the mean over the box, and at its centre."""

    mean_below: float
    mean_above: float
    centre_below: float
    centre_above: float


def curve_mean(curve: Symmetric, low: Tensor, high: Tensor) -> Tensor:
    """(N,): the curve's means over intervals, by Gauss-Legendre quadrature on pieces where it is all but a polynomial."""
    inner = torch.minimum(torch.maximum(PANELS.to(low), low[:, None]), high[:, None])
    ends = torch.cat([low[:, None], inner, high[:, None]], dim=1)
    half = (ends[:, 1:] - ends[:, :-1]) / 2
    values = curve.value((ends[:, :-1] + half)[..., None] + half[..., None] * NODES.to(low))
    total = (half * (values * WEIGHTS.to(low)).sum(-1)).sum(1)
    return torch.where(high > low, total / (2 * half.sum(1)), curve.value(low))


def axis(low: float, high: float) -> Tensor:
    """Points from end to end: evenly, and closer where the curves bend."""
    points = torch.cat([torch.linspace(low, high, EVENLY, dtype=torch.float64), BEND[(low < BEND) & (high > BEND)]])
    points = points.sort().values
    near = 1e-9 * (high - low)
    apart = (points.diff(prepend=points[:1]) > near) & (high - points > near)
    ends = points.new_tensor([low, high])
    return torch.cat([ends[:1], points[apart], ends[1:]]) if high > low else ends[:1]


def envelope(first: Symmetric, second: Symmetric, box: Tensor, mean: float) -> Envelope:
    """The envelopes over a box (x_lower, x_upper, y_lower, y_upper) on which the function has a known mean."""
    low, high = box[0::2], box[1::2]
    x, y = (axis(float(one), float(other)) for one, other in zip(low, high, strict=True))
    values = (first.value(x)[:, None] * second.value(y)).flatten().numpy()
    wide = (high > low).numpy()
    grid = torch.cartesian_prod(x, y)
    half = torch.where(high > low, (high - low) / 2, 1.0)
    places = ((grid - (low + (high - low) / 2)) / half).numpy()[:, wide]
    affine = np.column_stack([places, np.ones(len(places))])
    plane = np.linalg.lstsq(affine, values, rcond=None)[0]
    residual = values - affine @ plane
    scale = float(np.abs(residual).max())
    if not wide.any() or scale <= FLAT * float(np.abs(values).max()):
        return Envelope(0.0, 0.0, 0.0, 0.0)
    middle = float(first.value(low + (high - low) / 2)[0] * second.value(low + (high - low) / 2)[1])
    below, above = hull(np.column_stack([places, residual / scale]))
    gaps = (
        mean - (plane[-1] + scale * below[0]),
        (plane[-1] + scale * above[0]) - mean,
        middle - (plane[-1] + scale * below[1]),
        (plane[-1] + scale * above[1]) - middle,
    )
    return Envelope(*(max(0.0, float(gap)) for gap in gaps))


def hull(points: Floats) -> tuple[tuple[float, float], tuple[float, float]]:
    """The mean and the height at 0 of the lower and of the upper side of the hull of points over [-1, 1]^d."""
    found = ConvexHull(points)
    corners = points[found.simplices]
    edges = corners[:, 1:, :-1] - corners[:, :1, :-1]
    extents = np.abs(np.linalg.det(edges)) / math.factorial(edges.shape[2])
    upright, offset = found.equations[:, -2], found.equations[:, -1]
    sides = []
    for sign in (-1.0, 1.0):
        extent = np.where(sign * upright > 0, extents, 0.0)
        steep = sign * upright > STEEP
        heights = -offset[steep] / upright[steep]
        mean = float(extent @ corners[:, :, -1].mean(1) / extent.sum())
        sides.append((mean, float(heights.max() if sign < 0 else heights.min())))
    return sides[0], sides[1]
