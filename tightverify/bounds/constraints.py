"""What bounds hold under, beside the region: nothing, or on a part of it the constraints of that part.

A part of a region is where neurons keep to intervals that they leave elsewhere; then all intervals are constraints, with
multipliers of their own (`bounds.interval_multipliers`). It may be a part on which a row of the property is at most a limit
(`bounds.contradiction`): then that is one more. Where an interval contradicts another, nothing is left of the part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tightverify.bounds import contradiction
from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.interval_multipliers import IntervalConstraint
from tightverify.graph import Affine, Graph
from tightverify.values import FrozenMapping, Interval


@dataclass(frozen=True, eq=False)
class Constraints:
    """Whether the intervals are those of a `part` of each region, what else holds there, and what is left of it."""

    part: bool = False
    output: OutputConstraint | None = None
    """what holds of a row of the property, on each part"""
    output_multipliers: FrozenMapping[int, Tensor] = field(default_factory=FrozenMapping)
    """(B, 2 n) of nodes: the multipliers of the output constraint that bounded the neurons, and their negations, best"""
    crossed: tuple[Tensor, ...] = ()
    """(B,) each: where bounds contradicted one another, so that nothing is left"""

    def map(self, change: Callable[[Tensor], Tensor]) -> Constraints:
        """The same change of the batch, made to every tensor."""
        return Constraints(
            self.part,
            None if self.output is None else self.output.map(change),
            self.output_multipliers.map(change),
            tuple(change(crossed) for crossed in self.crossed),
        )

    def intervals(
        self, graph: Graph, intervals: Sequence[Interval], scales: Sequence[Tensor], last: int
    ) -> dict[int, IntervalConstraint]:
        """The nodes up to a last one whose intervals are constraints."""
        return {
            number: IntervalConstraint.of(intervals[number], scales[number])
            for number in (graph.bounded if self.part else ())
            if number <= last and isinstance(graph.nodes[number], Affine)
        }


WHOLE = Constraints()
"""The whole region: nothing else holds."""
PART = Constraints(part=True)
"""A part of it, where the intervals hold."""


def together(several: Sequence[Constraints], nothing: Sequence[Tensor]) -> Constraints:
    """Those of single regions as a batch, and of which of these `nothing` is left.

    Multipliers of the output constraint are kept where all have them, of as many neurons.
    """
    first = several[0]
    outputs = [one.output for one in several if one.output is not None]
    multipliers = {
        number: torch.cat([one.output_multipliers[number] for one in several])
        for number, values in first.output_multipliers.items()
        if all(number in one.output_multipliers and one.output_multipliers[number].shape == values.shape for one in several)
    }
    return Constraints(
        any(one.part for one in several),
        contradiction.together(outputs),
        FrozenMapping(multipliers),
        (torch.cat(list(nothing)),),
    )
