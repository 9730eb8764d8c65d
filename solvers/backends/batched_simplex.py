"""The dual simplex method on thousands of tiny programs at once, in numpy:

    minimise cost @ x  subject to  rows @ x >= least,      with its dual      maximise least @ y,  rows.T @ y = cost,  y >= 0.

A vertex is a working set of n rows B = rows[working] and the point with B x = least[working]; its multipliers y = B^-T cost are
kept >= 0. Each step takes in the most violated row q: with q = alpha @ B, y stays a dual point along y - t alpha, y_q = t, up
to the first y_r at 0; row r leaves. If no alpha is above 0, then q - alpha @ B = 0 sums rows with weights >= 0 to 0 @ x >= a
positive number: no point is feasible. If no row is violated, y proves x optimal (Lemke 1954; Chvatal 1983, chapter 10).

The first 2 n rows are x >= lower and -x >= -upper, so that the signs of the cost choose a first vertex. Where the bound chosen
is infinite, it stands at -M for an M above all numbers: points are `near + M far`, compared by `far` first. Such a row, once
out, never comes back. One left at the end with a multiplier above 0 gives a ray `far` along which the cost falls without end;
one with multiplier 0 lets M be any number that is large enough.

A claim counts only when it is proved anew from its working set by a fresh inverse. What is not proved is solved again with a
fresh inverse at every step and Bland's rule (first violated row, first row to leave), which cannot cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from solvers.problem import Floats

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

ROUNDING = 1e-12
"""A difference counts as 0 below this part of the sum of its terms' magnitudes."""
FAST_STEPS = 100
CAREFUL_STEPS = 5000


class Outcome(IntEnum):
    OPEN = 0
    OPTIMAL = 1
    INFEASIBLE = 2
    UNBOUNDED = 3


@dataclass(frozen=True, eq=False)
class Standard:
    """N programs; rows and their bounds may be shared by all. `least` is -inf where a row demands nothing."""

    cost: Floats
    """(N, n)"""
    rows: Floats
    """(N, K, n), or (K, n) for all"""
    least: Floats
    """(N, K), or (K,) for all"""

    def take(self, kept: Mask | Indices | slice) -> Standard:
        return Standard(
            cost=self.cost[kept],
            rows=self.rows if self.rows.ndim == 2 else self.rows[kept],
            least=self.least if self.least.ndim == 1 else self.least[kept],
        )

    def rows_at(self, index: Indices) -> Floats:
        """The rows of indices (N,) or (N, n)."""
        return self.rows[index] if self.rows.ndim == 2 else self.rows[_along(index), index]

    def least_at(self, index: Indices) -> Floats:
        return self.least[index] if self.least.ndim == 1 else self.least[_along(index), index]

    def times(self, points: Floats) -> Floats:
        """rows @ points, (N, K)"""
        if self.rows.ndim == 2:
            return points @ self.rows.T
        return np.asarray((self.rows @ points[:, :, None])[:, :, 0])

    def magnitudes(self, points: Floats) -> Floats:
        """abs(rows) @ abs(points)"""
        return Standard(self.cost, np.abs(self.rows), self.least).times(np.abs(points))


@dataclass(frozen=True, eq=False)
class Vertices:
    working: Indices
    """(N, n)"""
    inverse: Floats
    """of rows[working], (N, n, n)"""
    near: Floats
    far: Floats | None
    """The points are near + M far, (N, n) each; no `far` where no program has an infinite bound in its working set."""
    multipliers: Floats

    def take(self, kept: Mask) -> Vertices:
        far = None if self.far is None else self.far[kept]
        return Vertices(self.working[kept], self.inverse[kept], self.near[kept], far, self.multipliers[kept])


@dataclass(frozen=True, eq=False)
class Claims:
    """What the steps end with, in numbers that may have drifted."""

    outcome: NDArray[np.int8]
    working: Indices
    entering: Indices
    """The row that no point satisfies together with the working set, of INFEASIBLE ones."""
    steps: Indices


@dataclass(frozen=True, eq=False)
class Proved:
    outcome: NDArray[np.int8]
    points: Floats
    working: Indices
    weights: Floats
    """The multipliers of the working rows; of INFEASIBLE ones those that, with 1 for `entering`, sum the rows to 0."""
    entering: Indices
    steps: Indices


def solve(programs: Standard) -> Proved:
    """Solve all; what stays OPEN could not be settled."""
    claims = climb(programs, FAST_STEPS, careful=False)
    proved = prove(programs, claims)
    left = np.flatnonzero(proved.outcome == Outcome.OPEN)
    if len(left):
        rest = programs.take(left)
        again = prove(rest, climb(rest, CAREFUL_STEPS, careful=True))
        for name in ("outcome", "points", "working", "weights", "entering"):
            getattr(proved, name)[left] = getattr(again, name)
        proved.steps[left] += again.steps
    return proved


def climb(programs: Standard, limit: int, *, careful: bool) -> Claims:
    """Step from the first vertices until each program has a claim; those that have one leave the batch."""
    count = len(programs.cost)
    state = _first(programs)
    claims = Claims(
        np.zeros(count, dtype=np.int8), state.working.copy(), np.zeros(count, dtype=np.intp), np.zeros(count, dtype=np.intp)
    )
    alive = np.arange(count)

    def retire(done: Mask, outcome: Outcome, entering: Indices, step: int) -> None:
        where = alive[done]
        claims.outcome[where] = outcome
        claims.working[where] = state.working[done]
        claims.entering[where] = entering[done]
        claims.steps[where] = step

    for step in range(limit):
        if careful or state.far is not None:
            entering, violated = _price_exactly(programs, state, first=careful)
        else:
            entering, violated = _price(programs, state)
        if not violated.all():
            retire(~violated, Outcome.OPTIMAL, entering, step)
            alive, programs, state, entering = (
                alive[violated],
                programs.take(violated),
                state.take(violated),
                entering[violated],
            )
        row = programs.rows_at(entering)
        alpha = _combination(state.inverse, row)
        leaving, blocked = _leaving(programs, state, row, alpha, careful=careful)
        if not blocked.all():
            retire(~blocked, Outcome.INFEASIBLE, entering, step)
            alive, programs, state = alive[blocked], programs.take(blocked), state.take(blocked)
            row, alpha, entering, leaving = row[blocked], alpha[blocked], entering[blocked], leaving[blocked]
        if not len(alive):
            break
        state = _exchange(programs, state, entering, leaving, row, alpha)
        if careful:
            state = fresh(programs, state.working)
    else:
        claims.steps[alive] = limit
    return claims


def fresh(programs: Standard, working: Indices) -> Vertices:
    """The vertices of working sets, from scratch, with one step of iterative refinement; NaN where they are singular."""
    basis = programs.rows_at(working)
    height = programs.least_at(working)
    inverse = _inverse(basis)
    inverse += inverse @ (np.eye(inverse.shape[1]) - basis @ inverse)  # leaves errors of the size of `_paths` roundings
    artificial = np.isneginf(height)
    near = _refined(basis, inverse, np.where(artificial, 0.0, height))
    far = _refined(basis, inverse, np.where(artificial, -1.0, 0.0)) if artificial.any() else None
    multipliers = _refined(basis.transpose(0, 2, 1), inverse.transpose(0, 2, 1), programs.cost)
    scale = _combination(_paths(basis, inverse), np.abs(programs.cost))
    multipliers[(np.abs(multipliers) <= ROUNDING * scale) & ((multipliers < 0) | artificial)] = 0.0
    return Vertices(working, inverse, near, far, multipliers)


def prove(programs: Standard, claims: Claims) -> Proved:
    """Check claims from their working sets alone; OPEN where that fails."""
    state = fresh(programs, claims.working)
    artificial = np.isneginf(programs.least_at(claims.working))
    outcome = np.zeros(len(claims.outcome), dtype=np.int8)
    feasible = ~violations(programs, state)[0].any(axis=1) & np.isfinite(state.near).all(axis=1)
    best = feasible & (state.multipliers >= 0).all(axis=1) & (claims.outcome == Outcome.OPTIMAL)
    falls = (artificial & (state.multipliers > 0)).any(axis=1)
    outcome[best & ~falls] = Outcome.OPTIMAL
    outcome[best & falls] = Outcome.UNBOUNDED
    points, weights = state.near, state.multipliers
    away = np.flatnonzero(best & ~falls & artificial.any(axis=1))
    if state.far is not None and len(away):
        points[away] = _brought_near(programs.take(away), state.near[away], state.far[away])
    empty = np.flatnonzero(claims.outcome == Outcome.INFEASIBLE)
    if len(empty):
        holds, weights[empty] = _farkas(
            programs.take(empty), claims.working[empty], state.inverse[empty], claims.entering[empty]
        )
        outcome[empty[holds]] = Outcome.INFEASIBLE
    return Proved(outcome, points, claims.working, weights, claims.entering, claims.steps)


def violations(programs: Standard, state: Vertices) -> tuple[Mask, Floats]:
    """Which rows are violated beyond the rounding of their own terms, and by how much: those at infinity before the others."""
    basis_height = programs.least_at(state.working)
    sizes = _paths(programs.rows_at(state.working), state.inverse)
    finite = np.where(np.isneginf(basis_height), 0.0, np.abs(basis_height))
    reach = np.abs(state.near) + _apply(sizes, finite)
    amount = programs.least - programs.times(state.near)
    bad = amount > ROUNDING * (np.abs(programs.least) + programs.magnitudes(reach))
    if state.far is None:
        return bad, amount
    slope = programs.times(state.far)
    noise = ROUNDING * programs.magnitudes(np.abs(state.far) + _apply(sizes, np.where(np.isneginf(basis_height), 1.0, 0.0)))
    falling = np.asarray((slope < -noise) & ~np.isneginf(programs.least))
    first = np.asarray(falling.any(axis=1))[:, None]
    return np.where(first, falling, bad & (slope <= noise)), np.where(first, -slope, amount)


def _first(programs: Standard) -> Vertices:
    """The bounds that the signs of the cost choose."""
    count, size = programs.cost.shape
    column = np.arange(size)
    low = np.broadcast_to(programs.least[..., :size], (count, size))
    high = np.broadcast_to(programs.least[..., size : 2 * size], (count, size))
    upper = (programs.cost < 0) | ((programs.cost == 0) & np.isneginf(low) & ~np.isneginf(high))
    height = np.where(upper, high, low)
    signs = np.where(upper, -1.0, 1.0)
    artificial = np.isneginf(height)
    return Vertices(
        working=column + size * upper,
        inverse=signs[:, :, None] * np.eye(size),
        near=signs * np.where(artificial, 0.0, height),
        far=-signs * artificial if artificial.any() else None,
        multipliers=np.abs(programs.cost),
    )


def _price(programs: Standard, state: Vertices) -> tuple[Indices, Mask]:
    """The most violated rows, and whether they are violated at all; for points without infinite parts."""
    amounts = programs.times(state.near)
    np.subtract(programs.least, amounts, out=amounts)
    entering = np.argmax(amounts, axis=1)
    amount = amounts[np.arange(len(entering)), entering]
    terms = np.einsum("pi,pi->p", np.abs(programs.rows_at(entering)) + 1e-3, np.abs(state.near))
    size = np.abs(programs.least_at(entering)) + terms
    return entering, amount > ROUNDING * size


def _price_exactly(programs: Standard, state: Vertices, *, first: bool) -> tuple[Indices, Mask]:
    bad, amount = violations(programs, state)
    entering = np.argmax(bad if first else np.where(bad, amount, -np.inf), axis=1)
    return entering, np.asarray(bad.any(axis=1))


def _leaving(programs: Standard, state: Vertices, row: Floats, alpha: Floats, *, careful: bool) -> tuple[Indices, Mask]:
    """The places in the working sets where the dual ratio test stops, and whether it does."""
    if careful:
        sizes = _combination(_paths(programs.rows_at(state.working), state.inverse), np.abs(row))
    else:
        sizes = np.einsum("pij->pj", np.abs(state.inverse))
    blocks = alpha > ROUNDING * sizes
    ratio = np.where(blocks, np.maximum(state.multipliers, 0.0) / np.where(blocks, alpha, 1.0), np.inf)
    least = ratio[np.arange(len(ratio)), np.argmin(ratio, axis=1)]
    tied = blocks & (ratio <= (1 + 1e-13) * least[:, None])
    return np.argmax(np.where(tied, -state.working if careful else alpha, -np.inf), axis=1), least < np.inf


def _exchange(programs: Standard, state: Vertices, entering: Indices, leaving: Indices, row: Floats, alpha: Floats) -> Vertices:
    """The neighbouring vertices, by a rank-one change of the inverses."""
    every = np.arange(len(entering))
    pivot = alpha[every, leaving]
    column = state.inverse[every, :, leaving] / pivot[:, None]
    inverse = state.inverse - np.einsum("pi,pj->pij", column, alpha)
    inverse[every, :, leaving] = column
    step = np.maximum(state.multipliers[every, leaving], 0.0) / pivot
    multipliers = state.multipliers - step[:, None] * alpha
    multipliers[every, leaving] = step
    working = state.working.copy()
    working[every, leaving] = entering
    amount = programs.least_at(entering) - np.einsum("pi,pi->p", row, state.near)
    near = state.near + amount[:, None] * column
    far = None
    if state.far is not None:
        artificial = np.isneginf(programs.least_at(working))
        far = _apply(inverse, np.where(artificial, -1.0, 0.0)) if artificial.any() else None
    return Vertices(working, inverse, near, far, multipliers)


def _brought_near(programs: Standard, near: Floats, far: Floats) -> Floats:
    """near + M far for the least M >= 0 that satisfies all rows; `far` leaves none of them."""
    slope = programs.times(far)
    amount = programs.least - programs.times(near)
    rising = (amount > 0) & (slope > ROUNDING * programs.magnitudes(far))
    return np.asarray(near + np.where(rising, amount / np.where(rising, slope, 1.0), 0.0).max(axis=1)[:, None] * far)


def _farkas(programs: Standard, working: Indices, inverse: Floats, entering: Indices) -> tuple[Mask, Floats]:
    """Weights >= 0 of the working rows that with the entering row sum to 0 @ x >= something above 0, and whether they do."""
    basis, row = programs.rows_at(working), programs.rows_at(entering)
    height, least = programs.least_at(working), programs.least_at(entering)
    alpha = _combination(inverse, row)
    weights = np.maximum(-alpha, 0.0)
    noise = 10 * ROUNDING * _combination(_paths(basis, inverse), np.abs(row))
    weights[weights <= noise] = 0.0
    rest = row + _combination(basis, weights)
    cancels = np.abs(rest) <= 100 * ROUNDING * (np.abs(row) + _combination(np.abs(basis), np.maximum(weights, noise)))
    terms = np.where(weights > 0, weights * np.where(weights > 0, height, 0.0), 0.0)
    positive = least + terms.sum(axis=1) > ROUNDING * (np.abs(least) + np.abs(terms).sum(axis=1))
    return cancels.all(axis=1) & positive & np.isfinite(alpha).all(axis=1), weights


def _paths(basis: Floats, inverse: Floats) -> Floats:
    """abs(inverse) @ abs(basis) @ abs(inverse): the sizes of the terms that the inverse is a sum of, even where they cancel.

    A millionth of each column's sum is added, for entries that are themselves what is left of others that cancelled.
    """
    sizes = np.abs(inverse)
    return np.asarray(sizes @ (np.abs(basis) @ sizes) + 1e-6 * sizes.sum(axis=1, keepdims=True))


def _inverse(matrices: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    except np.linalg.LinAlgError:
        singular = np.linalg.det(matrices) == 0
        inverse = np.linalg.inv(np.where(singular[:, None, None], np.eye(matrices.shape[1]), matrices))
        inverse[singular] = np.nan
        return inverse


def _refined(matrices: Floats, inverse: Floats, right: Floats) -> Floats:
    solution = _apply(inverse, right)
    return solution + _apply(inverse, right - _apply(matrices, solution))


def _apply(matrices: Floats, vectors: Floats) -> Floats:
    return np.asarray(np.einsum("pij,pj->pi", matrices, vectors))


def _combination(matrices: Floats, weights: Floats) -> Floats:
    """weights @ matrices"""
    return np.asarray(np.einsum("pi,pij->pj", weights, matrices))


def _along(index: Indices) -> Indices:
    return np.arange(len(index)).reshape((-1,) + (1,) * (index.ndim - 1))
