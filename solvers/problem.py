"""A linear or mixed-integer program as frozen arrays:

    minimise cost @ x + offset  subject to  row_lower <= rows @ x <= row_upper,  lower <= x <= upper,  x_j whole for some j.

Infinite bounds say that there is none. The arrays are copied, checked and made read-only on construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from solvers.errors import ProblemError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Problem:
    """m rows and n variables; `rows` may be given as anything that scipy makes a CSR matrix of, a bound as one number."""

    cost: Floats
    rows: sparse.csr_array
    row_lower: Floats
    row_upper: Floats
    lower: Floats
    upper: Floats
    integer: NDArray[np.bool_]
    offset: float

    def __init__(
        self,
        cost: ArrayLike,
        rows: Any = None,
        row_lower: ArrayLike = -np.inf,
        row_upper: ArrayLike = np.inf,
        lower: ArrayLike = 0.0,
        upper: ArrayLike = np.inf,
        integer: ArrayLike | None = None,
        offset: float = 0.0,
    ) -> None:
        costs = _vector("cost", cost, None)
        count = len(costs)
        matrix = _matrix(rows, count)
        height = matrix.shape[0]
        self._set(
            cost=costs,
            rows=matrix,
            row_lower=_vector("row_lower", row_lower, height),
            row_upper=_vector("row_upper", row_upper, height),
            lower=_vector("lower", lower, count),
            upper=_vector("upper", upper, count),
            integer=_mask(integer, count),
            offset=float(offset),
        )
        self._check_cost()
        self._check_rows()
        self._check_bounds()

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _check_cost(self) -> None:
        if not np.isfinite(self.cost).all() or not np.isfinite(self.offset):
            raise ProblemError("the cost holds a NaN or an infinite number; every coefficient must be finite")

    def _check_rows(self) -> None:
        if not np.isfinite(self.rows.data).all():
            raise ProblemError("the rows hold a NaN or an infinite number; every coefficient must be finite")

    def _check_bounds(self) -> None:
        for kind, low, high in (("variable", self.lower, self.upper), ("row", self.row_lower, self.row_upper)):
            if (low <= high).all() and low.max(initial=-np.inf) < np.inf and high.min(initial=np.inf) > -np.inf:
                continue  # all is well, at the least cost: sessions come here at every question
            if np.isnan(low).any() or np.isnan(high).any():
                raise ProblemError(f"a {kind}'s bound is NaN; give a number, or an infinity for no bound")
            if (low == np.inf).any() or (high == -np.inf).any():
                raise ProblemError(f"a {kind}'s lower bound is +inf, or its upper bound -inf; nothing lies there")
            crossed = np.flatnonzero(low > high)
            if len(crossed):
                k = crossed[0]
                pair = f"{float(low[k])} above {float(high[k])}"
                raise ProblemError(f"the bounds of {kind} {k} are crossed: {pair}; swap them")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, variables)"""
        return (len(self.row_lower), len(self.cost))

    @cached_property
    def entry_rows(self) -> NDArray[np.int64]:
        """The row of each coefficient in `rows.data`."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.rows.indptr))

    @cached_property
    def column_lengths(self) -> NDArray[np.int64]:
        """How many coefficients each column has."""
        return np.bincount(self.rows.indices, minlength=self.shape[1])

    @property
    def is_mixed_integer(self) -> bool:
        return bool(self.integer.any())

    def relaxed(self) -> Problem:
        """The same without the demand that variables be whole."""
        return self.changed(integer=None)

    def changed(self, **changes: Any) -> Problem:
        """A copy with other arrays in some places; if only costs and bounds change, what stays is shared."""
        if not changes.keys() <= {"cost", "lower", "upper", "row_lower", "row_upper"}:
            fields = {name: getattr(self, name) for name in Problem.__dataclass_fields__}
            return Problem(**{**fields, **changes})
        copy = object.__new__(Problem)
        vectors = {name: _vector(name, value, len(getattr(self, name))) for name, value in changes.items()}
        copy._set(**{**vars(self), **vectors})
        copy._check_cost()
        copy._check_bounds()
        return copy

    def with_rows(self, rows: Any, row_lower: ArrayLike, row_upper: ArrayLike) -> Problem:
        """A copy with more rows at the end."""
        more = self.changed(rows=rows, row_lower=row_lower, row_upper=row_upper)
        return self.changed(
            rows=sparse.vstack([self.rows, more.rows], format="csr"),
            row_lower=np.concatenate([self.row_lower, more.row_lower]),
            row_upper=np.concatenate([self.row_upper, more.row_upper]),
        )


def _vector(name: str, values: ArrayLike, size: int | None) -> Floats:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name} cannot be made an array of numbers ({error})") from error
    if size is not None and array.ndim == 0:
        array = np.full(size, float(array))
    if array.ndim != 1 or (size is not None and len(array) != size):
        wanted = "one axis" if size is None else f"({size},)"
        raise ProblemError(f"{name} has shape {array.shape}; wanted {wanted}")
    array.flags.writeable = False
    return array


def _matrix(rows: Any, count: int) -> sparse.csr_array:
    if rows is None:
        rows = sparse.csr_array((0, count), dtype=np.float64)
    try:
        matrix = sparse.csr_array(rows, dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"the rows cannot be made a sparse matrix ({error})") from error
    if matrix.ndim != 2 or matrix.shape[1] != count:
        raise ProblemError(f"the rows have shape {matrix.shape}; wanted (m, {count}), a column for each cost")
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    return matrix


def _mask(integer: ArrayLike | None, count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=np.bool_) if integer is None else np.array(integer)
    if mask.dtype != np.bool_ or mask.shape != (count,):
        raise ProblemError(f"integer has shape {mask.shape} and type {mask.dtype}; wanted ({count},) of True and False")
    mask.flags.writeable = False
    return mask
