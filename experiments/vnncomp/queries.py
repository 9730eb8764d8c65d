"""A query in both versions of VNN-LIB: is there an input in a box at which the answer is another one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Query:
    """A box, and comparisons of outputs of which one holds where the answer is another: (i, ">=", j), or of a number."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    outputs: int
    others: tuple[tuple[int, str, int | float], ...]

    @classmethod
    def around(
        cls,
        x: NDArray[np.float64],
        radius: float,
        clip: tuple[float, float] | None,
        y: NDArray[np.float64],
        label: int,
        threshold: float | None,
    ) -> Query:
        """All inputs within a radius: the label stays, or outputs on their side of a threshold."""
        lower, upper = x - radius, x + radius
        if clip is not None:
            lower, upper = np.maximum(lower, clip[0]), np.minimum(upper, clip[1])
        if threshold is None:
            return cls(lower, upper, len(y), tuple((k, ">=", label) for k in range(len(y)) if k != label))
        return cls(
            lower, upper, len(y), tuple((k, "<=" if value > threshold else ">=", threshold) for k, value in enumerate(y))
        )

    @property
    def first(self) -> str:
        """In version 1.0."""
        lines = [f"(declare-const X_{k} Real)" for k in range(len(self.lower))]
        lines += [f"(declare-const Y_{k} Real)" for k in range(self.outputs)]
        lines += self._box([f"X_{k}" for k in range(len(self.lower))])
        return "\n".join([*lines, f"(assert (or {' '.join(f'(and {each})' for each in self._compared('Y_{}'))}))"]) + "\n"

    def second(self, inputs: Sequence[int], outputs: Sequence[int]) -> str:
        """In version 2.0, for tensors of these shapes."""
        x, y = (elements(name, shape) for name, shape in (("X", inputs), ("Y", outputs)))
        shapes = [",".join(map(str, shape)) for shape in (inputs, outputs)]
        lines = [
            "(vnnlib-version <2.0>)",
            f"(declare-network N (declare-input X real [{shapes[0]}]) (declare-output Y real [{shapes[1]}]))",
            *self._box(x),
        ]
        compared = self._compared("{}", y)
        asked = compared[0] if len(compared) == 1 else f"(or {' '.join(compared)})"
        return "\n".join([*lines, f"(assert {asked})"]) + "\n"

    def _box(self, names: Sequence[str]) -> list[str]:
        ends = zip(names, self.lower.tolist(), self.upper.tolist(), strict=True)
        return [f"(assert (>= {name} {decimal(low)}))\n(assert (<= {name} {decimal(high)}))" for name, low, high in ends]

    def _compared(self, form: str, names: Sequence[str] = ()) -> list[str]:
        called = [form.format(names[k] if names else k) for k in range(self.outputs)]
        ends = [(one, sign, called[other] if isinstance(other, int) else str(other)) for one, sign, other in self.others]
        return [f"({sign} {called[one]} {end})" for one, sign, end in ends]


def elements(name: str, shape: Sequence[int]) -> list[str]:
    """How the numbers of a tensor are called, in the order in which they lie in memory."""
    return [f"{name}[{','.join(map(str, index))}]" for index in product(*map(range, shape))]


def decimal(value: float) -> str:
    """A number without an exponent, exactly."""
    return np.format_float_positional(value, trim="0")
