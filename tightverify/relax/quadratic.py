"""Energies: sums, with weights >= 0, of squares of linear forms, `E_n(x) = sum_k w_nk (a_k @ x + b_k)^2`.

A band of a spectrum is one: the forms are the real and imaginary parts of its bins, the weights those of its filter. E_n is
convex with Hessian 2 Q_n, `Q_n = sum_k w_nk a_k a_k'`, and so, exactly, for every x and p

    E_n(x) = E_n(p) + g @ (x - p) + (x - p)' Q_n (x - p),    g = 2 sum_k w_nk (a_k @ p + b_k) a_k.

* Below: the tangent at any p, because Q_n is positive semidefinite.
* Above, over the box `|x - c| <= h` around its centre: the parallel of the tangent at c, raised by sum_i s_ni h_i^2 for any s
  with `diag(s_n) - Q_n` positive semidefinite: then `d' Q_n d <= sum_i s_ni d_i^2`. With `s_ni = sum_j |Q_nij|` that is so
  (Gershgorin: |d_i d_j| <= (d_i^2 + d_j^2) / 2), and for equal h it is the best bound that looks at the |Q_nij| only. The s of
  the least sum (`relax.majorant`) is another quarter below that.

Bounding each form by its own interval raises the plane by `sum_k w_nk (|a_k| @ h)^2`. For equal h that is never less, and in
mel bands of 10 to 40 bins 5 to 20 times as much: no x moves all bins by all they can move at once. Where only few coordinates
move it may be less, and is taken.

The least value over a box comes from a descent: `x - g / (2 s)`, clamped, is the minimiser of an upper bound of E_n by the same
s, so that such a step goes down, and momentum makes it fast. Whatever point p it ends at, the tangent's least value over the
box is a lower bound of E_n, and at the minimiser it is exact.

Rounding. Let S_k = |a_k| @ M + |b_k| for M >= |x| on the box, T_n = sum_k w_nk S_k^2. A form's value is off by at most g S_k,
with g = gamma(N), N counting the terms of every sum and the roundings that made the coefficients. So values of E_n are off by
3 g T_n at most, slopes by as much in `|slope error| @ M`, products of slopes with c, p or h by g T_n each: `ALLOWANCE` g T_n
exceeds the sum of all of these. Coefficients count with `size >= |a|`, a sum of the absolute values of all that made them.

Underflow. A form is off by TINY, its square by TINY (1 + S_k), which a weight multiplies; a slope by
TINY (1 + sum_k (1 + w_nk) |a_k|), which M multiplies: together no more than `underflow`. Of the curvatures, which the squares
of h multiply, what underflows is paid for where they are made, and the squares' own underflow by TINY s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tightverify.relax.majorant import diagonal_majorant
from tightverify.relax.planes import Plane, Planes
from tightverify.values import TINY, Interval, above, below, gamma

ALLOWANCE = 16
DESCENTS = 30
STEADY = 0.9
"""Where the tangent at the centre proves this share of the value there, no better point is looked for."""


@dataclass(frozen=True, eq=False)
class Forms:
    """The forms `matrix @ x + shift` (K of m coordinates) and the weights (n, K), all >= 0.

    The entries of `matrix` and `shift` may be off by gamma(roundings) times those of `size` and `shift_size`, which are at
    least their absolute values; a weight by gamma(roundings) times itself.
    """

    matrix: Tensor
    shift: Tensor
    weights: Tensor
    size: Tensor
    shift_size: Tensor
    roundings: int

    def value(self, x: Tensor) -> Tensor:
        """(..., n) at points (..., m)."""
        forms = x @ self.matrix.T.to(x.dtype) + self.shift.to(x.dtype)
        return forms.square() @ self.weights.T.to(x.dtype)

    def to(self, device: str) -> Forms:
        matrix, shift, weights = (part.to(device) for part in (self.matrix, self.shift, self.weights))
        return Forms(matrix, shift, weights, self.size.to(device), self.shift_size.to(device), self.roundings)

    @property
    def noise(self) -> float:
        """The share of T_n that pays for all rounding."""
        return ALLOWANCE * gamma(sum(self.matrix.shape) + self.roundings + 16)

    @cached_property
    def curvatures(self) -> Tensor:
        """(2, n, m): s by row sums and s of the least sum, rounding included."""
        rows = []
        for weights in self.weights:
            used = weights > 0
            part, size = self.matrix[used], self.size[used]
            rounding = self.noise * (weights[used, None] * size * size.sum(1, keepdim=True)).sum(0)
            rounding = rounding + TINY * (1 + size.sum() * (1 + weights.sum()))
            hessian = (part.T * weights[used]) @ part
            sums = hessian.abs().sum(1) + rounding
            least = diagonal_majorant(hessian, rounding)
            rows.append(torch.stack([sums, sums if least is None or least.sum() > sums.sum() else least]))
        return torch.stack(rows, dim=1)

    def reach(self, box: Interval) -> Tensor:
        """(B, n): what T_n says that rounding may amount to."""
        sizes = box.magnitude @ self.size.T + self.shift_size
        underflow = TINY * (1 + (1 + sizes) @ (1 + self.weights.T) + box.magnitude.sum(1, keepdim=True))
        return self.noise * (sizes.square() @ self.weights.T) + underflow

    def tangents(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n) values and (B, n, m) slopes at points (B, n, m) of their own for each energy, or (B, 1, m) for all."""
        weighted = points @ self.matrix.T + self.shift
        value = (weighted.square() * self.weights).sum(-1)
        return value, 2 * (weighted * self.weights) @ self.matrix


def quadratic_planes(
    forms: Forms, box: Interval, at: Tensor | None = None, radius: Tensor | None = None, swings: Tensor | None = None
) -> Planes:
    """The parallel plane above, and the tangent below at the centre, or at points (B, n, m) of the box; slopes (B, n, m).

    Where more is known than the box: `radius` (B,) is how far from its centre x can be in the norm 2, `swings` (B, K) how far
    each form can be from its value there.
    """
    centre = box.centre
    value, slopes = forms.tangents(centre[:, None])
    allowance = forms.reach(box)
    constant = value - (slopes @ centre[..., None])[..., 0]
    upper = Plane((slopes,), constant + rise(forms, box, radius, swings) + allowance)
    if at is None:
        return Planes(Plane((slopes,), constant - allowance), upper)
    at_value, at_slopes = forms.tangents(at)
    return Planes(Plane((at_slopes,), at_value - (at_slopes * at).sum(-1) - allowance), upper)


def rise(forms: Forms, box: Interval, radius: Tensor | None = None, swings: Tensor | None = None) -> Tensor:
    """(B, n): at least `d' Q d` for all d from the box's centre into the box: the best of the docstring's bounds.

    `diag(s) - Q` being positive semidefinite, max s |d|^2 is one more where the radius is known.
    """
    centre = box.centre
    half = torch.maximum(box.upper - centre, centre - box.lower)
    sums, least = half.square() @ forms.curvatures.mT
    found = torch.minimum(torch.minimum(sums, least), (half @ forms.size.T).square() @ forms.weights.T)
    if radius is not None:
        found = torch.minimum(found, radius.square()[:, None] * forms.curvatures.amax(2).amin(0))
    if swings is not None:
        found = torch.minimum(found, swings.square() @ forms.weights.T)
    forms_move = 1 + half @ forms.size.T
    return found * (1 + forms.noise) + TINY * (1 + forms.curvatures.sum((0, 2)) + forms_move @ forms.weights.T)


def quadratic_range(forms: Forms, box: Interval, at: Tensor | None = None, swings: Tensor | None = None) -> Interval:
    """The energies over a box, rounded outward; below by the tangents at points (B, n, m) as well.

    Where `swings` (B, K) are known, by each form's own range too: squares of it, weighted.
    """
    centre = box.centre
    value, slopes = forms.tangents(centre[:, None])
    half = torch.maximum(box.upper - centre, centre - box.lower)
    swing = (slopes.abs() @ half[..., None])[..., 0]
    allowance = forms.reach(box)
    least, most = value - swing, value + swing + rise(forms, box)
    if at is not None:
        at_value, at_slopes = forms.tangents(at)
        ends = torch.where(at_slopes > 0, box.lower[:, None], box.upper[:, None])
        least = torch.maximum(least, at_value + (at_slopes * (ends - at)).sum(-1))
    if swings is not None:
        size = (centre @ forms.matrix.T + forms.shift).abs()
        least = torch.maximum(least, (size - swings).clamp(min=0).square() @ forms.weights.T)
        most = torch.minimum(most, (size + swings).square() @ forms.weights.T)
    return Interval(below(least, allowance).clamp(min=0), above(most, allowance))


def lowest_points(forms: Forms, box: Interval, steps: int = DESCENTS) -> Tensor | None:
    """(B, n, m): points of the box where the energies are nearly least; None where the centre's tangents say nearly as much."""
    centre = box.centre
    value, slopes = forms.tangents(centre[:, None])
    half = torch.maximum(box.upper - centre, centre - box.lower)
    if bool(((slopes.abs() @ half[..., None])[..., 0] <= (1 - STEADY) * value).all()):
        return None
    pace = 1 / (2 * forms.curvatures[1])
    lower, upper = box.lower[:, None], box.upper[:, None]
    here = ahead = centre[:, None].expand(-1, len(forms.weights), -1)
    for step in range(steps):
        _, slopes = forms.tangents(ahead)
        there = torch.minimum(torch.maximum(ahead - pace * slopes, lower), upper)
        ahead = there + step / (step + 3) * (there - here)
        here = there
    return here
