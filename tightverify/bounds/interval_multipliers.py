"""Intervals as constraints of their own: the multipliers with which a row makes use of them.

Split constraints enter beta-CROWN's bounds the same way (Wang et al. 2021); here both ends of every interval do.

A part of a region is where neurons y keep to intervals [l, u] that they leave elsewhere. For any numbers m, one for each
neuron,

    r @ z   >=   r @ z + sum of m y - max(m, 0) u - min(m, 0) l      on that part,

for m (y - u) <= 0 where m > 0, and m (y - l) <= 0 where m < 0: so that back-substitution of the rows r and m together, less a
constant, bounds r there, whatever m is. The best m are the multipliers of linear programming. Where y is at the primal point
(`bounds.mixtures`) says how to better them: m moves by `rho y` and is drawn back by rho times the interval's nearest point, the
proximal step for the support function of [l, u]. It stays 0 while y keeps to its interval.

Where there is an output constraint (`bounds.contradiction`: a row of the property is at most a limit), a multiplier g >= 0 of
its own does the same: `r @ z >= r @ z + g (row @ y - limit)` there. The bound is concave in g, and whether the row is above the
limit at the primal point says on which side of g the best one lies: g is multiplied or divided by a factor that shrinks at
every turn.

Rounding. What `m` begins is paid for like the row itself, by graph.rounding |m| (M + s) (`bounds.linear`), M and s being the
magnitude and the scale of y: half of it for back-substitution, half of it for the constant, a sum of no more terms than are
counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tightverify.bounds.contradiction import OutputConstraint
from tightverify.graph import Graph
from tightverify.values import Interval, times

STRIDE = 3.0
"""A multiplier's first step is so many times the coefficients around it, for a neuron that is off by its interval's width."""
SHORTER = 0.3
LEAST_WIDTH = 1e-6
FACTOR = 3.0
"""by which the multiplier of an output constraint moves at first"""


@dataclass(frozen=True, eq=False)
class IntervalConstraint:
    """A node whose neurons keep to an interval (B, n), and their magnitude and scale together."""

    interval: Interval
    size: Tensor
    usable: Tensor

    @classmethod
    def of(cls, interval: Interval, scale: Tensor) -> IntervalConstraint:
        """Neurons whose intervals are infinite get no multipliers."""
        size = interval.magnitude + scale
        usable = torch.isfinite(size)
        return cls(interval.map(lambda ends: torch.where(usable, ends, 0.0)), torch.where(usable, size, 0.0), usable)

    def kept(self, multipliers: Tensor) -> Tensor:
        """(B, R, n): those of neurons that may have any."""
        return torch.where(torch.isfinite(multipliers) & self.usable[:, None], multipliers, 0.0)


@dataclass(eq=False)
class Multipliers:
    """Rows' multipliers (B, R, n) of interval constraints, bettered step by step."""

    graph: Graph
    interval_constraints: Mapping[int, IntervalConstraint]
    rows: Mapping[int, Tensor]
    values: dict[int, Tensor] = field(default_factory=dict)
    scales: dict[int, Tensor] = field(default_factory=dict)
    kept: dict[int, Tensor] = field(default_factory=dict)
    best: Tensor | None = None
    stride: Tensor = field(default_factory=lambda: torch.tensor(STRIDE, dtype=torch.float64))
    output_constraint: OutputConstraint | None = None
    output_multipliers: Tensor = field(default_factory=lambda: torch.zeros(()))
    """(B, R): the multipliers of the output constraint, if there is one"""
    best_output_multipliers: Tensor = field(default_factory=lambda: torch.zeros(()))
    factor: Tensor = field(default_factory=lambda: torch.tensor(FACTOR, dtype=torch.float64))
    over: Tensor | None = None

    @property
    def together(self) -> dict[int, Tensor]:
        """The rows and the multipliers: what back-substitution begins with."""
        both = dict(self.rows)
        for number, value in self.values.items():
            both[number] = value + both[number] if number in both else value
        if self.output_constraint is not None:
            row = self.output_multipliers[..., None] * self.output_constraint.row[:, None]
            output = self.graph.output
            both[output] = row + both[output] if output in both else row
        return both

    @property
    def count(self) -> int:
        """R, how many rows there are for each region."""
        return next(iter(self.rows.values())).shape[1]

    @property
    def last(self) -> int:
        """The last node that back-substitution may come by."""
        return max(self.rows) if self.output_constraint is None else max(*self.rows, self.graph.output)

    @property
    def looked_at(self) -> set[int]:
        """The nodes whose values at the primal point say how to go on."""
        return (
            set(self.interval_constraints)
            if self.output_constraint is None
            else {*self.interval_constraints, self.graph.output}
        )

    @property
    def constant(self) -> Tensor | float:
        """(B, R): what is to be added to the bound, the multipliers' rounding paid for."""
        total: Tensor | float = 0.0
        for number, value in self.values.items():
            interval_constraints = self.interval_constraints[number]
            positive = value.clamp(min=0)
            ends = times(positive, interval_constraints.interval.upper) + times(
                value - positive, interval_constraints.interval.lower
            )
            total = total - ends - self.graph.rounding * times(value.abs(), interval_constraints.size)
        if self.output_constraint is not None:
            total = total - self.output_multipliers * self.output_constraint.price(self.graph)[:, None]
        return total

    def better(self, step: int, bound: Tensor, trail: Mapping[int, Tensor], found: Mapping[int, Tensor]) -> None:
        """Move on from back-substitution: its bound (B, R), its rows over operations, the nodes' values at its primal point.

        Rows whose bound fell go back to the multipliers of their best one, and take shorter steps from there.
        """
        if self.best is None:
            self.best = bound
            stride = torch.full_like(bound, STRIDE)[..., None]
        else:
            fell = bound < self.best
            self.best = torch.maximum(self.best, bound)
            stride = torch.where(fell[..., None], SHORTER * self.stride, self.stride)
            for number, value in self.values.items():
                self.values[number] = torch.where(fell[..., None], self.kept.get(number, torch.zeros_like(value)), value)
        self.kept, self.stride = dict(self.values), stride
        for number, interval_constraints in self.interval_constraints.items():
            if number not in found:
                continue
            value = found[number]
            lower, upper = interval_constraints.interval.lower[:, None], interval_constraints.interval.upper[:, None]
            if number not in self.scales:
                if number not in self.values and bool(((value >= lower) & (value <= upper)).all()):
                    continue
                self.scales[number] = self.scale(number, trail)
                self.values.setdefault(number, torch.zeros_like(value))
            width = (upper - lower).clamp(min=LEAST_WIDTH)
            rho = stride / (1 + step) ** 0.5 * self.scales[number] / width
            moved = self.values[number] / rho + value
            moved = rho * (moved - torch.minimum(torch.maximum(moved, lower), upper))
            self.values[number] = interval_constraints.kept(moved)
        if self.output_constraint is not None:
            self._better_output(bound, found[self.graph.output])

    def _better_output(self, bound: Tensor, outputs: Tensor) -> None:
        """Move on with the multipliers of the output constraint; the outputs (B, R, K) are those at the primal point."""
        assert self.output_constraint is not None
        assert self.best is not None
        self.best_output_multipliers = torch.where(bound >= self.best, self.output_multipliers, self.best_output_multipliers)
        over = self.output_constraint.exceeded(outputs)
        if self.over is not None:
            self.factor = torch.where(over == self.over, self.factor, self.factor.sqrt())
        self.over = over
        self.output_multipliers = torch.where(
            over, self.output_multipliers * self.factor, self.output_multipliers / self.factor
        )

    def scale(self, number: int, trail: Mapping[int, Tensor]) -> Tensor:
        """(B, R, 1): how large the coefficients are by which a row reads a node."""
        near = [row for reader, row in trail.items() if any(o.source == number for o in self.graph.nodes[reader].operands)]
        near = near or [self.rows[max(self.rows)]]
        most = near[0].abs().mean(-1, keepdim=True)
        for row in near[1:]:
            most = torch.maximum(most, row.abs().mean(-1, keepdim=True))
        return most.clamp(min=1e-300)
