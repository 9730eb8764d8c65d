"""Bounds that are proved, whatever a solver says (after Neumaier and Shcherbina, Safe bounds in linear and mixed-integer
linear programming, 2004).

Let y be any multipliers of the rows. For every feasible x

    cost @ x  =  y @ (rows @ x) + r @ x  >=  sum_i (y_i row_lower_i if y_i > 0 else y_i row_upper_i) + sum_j min over
                                             [lower_j, upper_j] of r_j x_j,        r = cost - rows.T @ y.

A y_i whose side of the row is infinite is taken as 0, so is one that is NaN or infinite. That is weak duality: a wrong,
swapped or truncated dual makes the bound weaker, never wrong. Rounding is paid for: r is computed with an error of at
most e_j, gamma times the absolute values that enter it (`gamma` is twice what the theory asks), so that
min r_j x_j >= min(r_j lower_j, r_j upper_j) - e_j max(|lower_j|, |upper_j|); every product is rounded down; the sum is
`math.fsum`'s, exact but for one rounding, and is rounded down once more.

Underflow. A sum of products that underflow loses less than TINY, however many they are. In a reduced cost that is part of e_j,
and so is multiplied by how large the variable can be, as it must be. A product of the last sum loses at most 2^-1075, which the
step down to the next float takes off it, be it subnormal.

Where a variable has no bound on a side, r_j must surely have the sign that keeps the variable from running there. Where
rounding leaves that in doubt, r_j is worked out in rational numbers; if its sign is wrong all the same, the multipliers are
drawn a little towards 0, which is enough where the cost itself has the right sign; if that fails nothing is proved
(-inf). A caller who knows bounds that some optimum keeps gives them as `lower` and `upper`.

Infeasibility is proved the same way: if for cost 0 some y has a bound above 0, no point is feasible.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvers.problem import Floats, Problem

UNIT_ROUNDOFF = 2.0**-53
MOST_EXACT = 300
"""How many reduced costs are worked out in rational numbers at the most."""
MOST_DRAWN = 1e-6
"""How far multipliers are drawn towards 0 at the most, relative to their size."""
TINY = 1e-290
"""More than underflow can take from a sum of up to 10^17 products."""


def safe_bound(problem: Problem, dual: ArrayLike, lower: ArrayLike | None = None, upper: ArrayLike | None = None) -> float:
    """A proved lower bound on the optimum of the problem (of its relaxation, if variables are to be whole).

    `lower` and `upper` are bounds known beforehand to hold at some optimum, beside the problem's own.
    """
    low = problem.lower if lower is None else np.maximum(problem.lower, lower)
    high = problem.upper if upper is None else np.minimum(problem.upper, upper)
    with np.errstate(all="ignore"):
        multipliers, side = usable(problem, dual)
        reduced, error = reduced_costs(problem, multipliers)
        if np.isfinite(low).all() and np.isfinite(high).all():
            variables = boxed_terms(reduced, error, low, high)
        else:
            variables, multipliers = open_terms(problem, multipliers, low, high)
        terms = [*round_down(multipliers * side).tolist(), *variables.tolist(), problem.offset]
    try:
        total = math.fsum(terms)
    except (OverflowError, ValueError):  # ValueError: infinities of both signs
        return -math.inf
    return math.nextafter(total, -math.inf) if math.isfinite(total) else -math.inf


def proves_infeasible(problem: Problem, ray: ArrayLike) -> bool:
    """Whether multipliers prove that no point satisfies all rows and bounds."""
    return safe_bound(problem.changed(cost=np.zeros(problem.shape[1])), ray) > problem.offset


def usable(problem: Problem, dual: ArrayLike) -> tuple[Floats, Floats]:
    """The multipliers and the sides of the rows that they count for, 0 in place of those that can prove nothing."""
    given = np.zeros(problem.shape[0])
    values = np.asarray(dual, dtype=np.float64).ravel()[: len(given)]
    given[: len(values)] = values
    side = np.where(given > 0, problem.row_lower, problem.row_upper)
    useless = ~np.isfinite(given * side)
    given[useless], side[useless] = 0.0, 0.0
    return given, side


def reduced_costs(problem: Problem, multipliers: Floats) -> tuple[Floats, Floats]:
    """`cost - rows.T @ y`, and how far each entry may be from the exact one."""
    columns, count = problem.rows.indices, problem.shape[1]
    products = problem.rows.data * multipliers[problem.entry_rows]
    reduced = problem.cost - np.bincount(columns, products, count)
    size = np.abs(problem.cost) + np.bincount(columns, np.abs(products), count)
    return reduced, np.asarray((2.0 * UNIT_ROUNDOFF) * (problem.column_lengths + 4) * size + TINY, dtype=np.float64)


def runs_away(reduced: Floats, error: Floats, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
    """Which variables may run to an infinite side, as far as the reduced costs are known."""
    upward = np.isposinf(upper) & ~(reduced - error >= 0)
    downward = np.isneginf(lower) & ~(reduced + error <= 0)
    return np.asarray(upward | downward)


def certain(problem: Problem, multipliers: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """`reduced_costs`, by rational numbers where rounding leaves a sign in doubt that matters."""
    reduced, error = reduced_costs(problem, multipliers)
    used = problem.rows.indices[multipliers[problem.entry_rows] != 0]
    error[np.bincount(used, minlength=problem.shape[1]) == 0] = 0.0  # no multiplier in the column: r is the cost
    doubtful = np.flatnonzero(runs_away(reduced, error, lower, upper) & (np.abs(reduced) <= error) & (error < 1e300))
    if 0 < len(doubtful) <= MOST_EXACT:
        columns = problem.rows[:, doubtful].tocsc()
        for k, j in enumerate(doubtful):
            entries = slice(columns.indptr[k], columns.indptr[k + 1])
            exact = Fraction(float(problem.cost[j])) - sum(
                Fraction(float(a)) * Fraction(float(multipliers[i]))
                for a, i in zip(columns.data[entries], columns.indices[entries], strict=True)
            )
            reduced[j] = float(exact)
            error[j] = 0.0 if exact == 0 else 2 * UNIT_ROUNDOFF * abs(reduced[j]) + TINY
    return reduced, error


def drawn_in(cost: Floats, multipliers: Floats, reduced: Floats, error: Floats, escapes: NDArray[np.bool_]) -> Floats:
    """The multipliers times 1 - d, with d about the least for which `r + d (cost - r)` has the sign of the cost there."""
    missing = 2 * (error + np.abs(reduced))[escapes]
    share = float(np.max(missing / np.abs(cost - reduced)[escapes], initial=0.0))
    return multipliers * (1 - share) if share <= MOST_DRAWN else multipliers


def boxed_terms(reduced: Floats, error: Floats, lower: Floats, upper: Floats) -> Floats:
    """For each variable a lower bound on `r x` between finite bounds, for every r within the error of the computed one."""
    either = round_down(np.minimum(reduced * lower, reduced * upper))
    return round_down(either - round_up(error * np.maximum(np.abs(lower), np.abs(upper))))


def open_terms(problem: Problem, multipliers: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """The same where some bounds are infinite, -inf where a variable may run there; and the multipliers, maybe drawn in."""
    reduced, error = certain(problem, multipliers, lower, upper)
    escapes = runs_away(reduced, error, lower, upper)
    if escapes.any():
        multipliers = drawn_in(problem.cost, multipliers, reduced, error, escapes)
        reduced, error = certain(problem, multipliers, lower, upper)
    # With one infinite side r x is bounded only if r has the sign that keeps it away from there.
    above = (reduced - error >= 0) & np.isfinite(lower)
    below = (reduced + error <= 0) & np.isfinite(upper)
    at_lower = round_down(round_down(reduced * lower) - round_up(error * np.abs(lower)))
    at_upper = round_down(round_down(reduced * upper) - round_up(error * np.abs(upper)))
    one_sided = np.where(above, at_lower, np.where(below, at_upper, -np.inf))
    finite = np.isfinite(lower) & np.isfinite(upper)
    terms = np.where(finite, boxed_terms(reduced, error, lower, upper), one_sided)
    return np.where((reduced == 0) & (error == 0), 0.0, terms), multipliers


def round_down(values: Floats) -> Floats:
    """Surely at most the exact result of the operation that gave the values; what is 0 by underflow becomes a tiny step."""
    return np.nextafter(values, -np.inf)


def round_up(values: Floats) -> Floats:
    return np.nextafter(values, np.inf)
