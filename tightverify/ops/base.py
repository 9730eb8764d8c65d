"""What an operation is: a function of one, two or three operands, applied neuron by neuron.

An operation has no state. It answers for itself: its value, its interval over boxes, the planes that hold it over boxes, and
in its `traits` whatever else is known of it; everything in the project that treats nonlinear functions reads these answers and
nothing else: nothing outside this folder asks which operation it has before it. All tensors are (B, n), float64 wherever a
bound is made.

What it is exactly, in real numbers, is told by its name and its parameters: so evidence states it, and checks look it up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property

from torch import Tensor

from tightverify.relax.curve_planes import curve_traits
from tightverify.relax.curves import Curve
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.piecewise import Piecewise
from tightverify.relax.piecewise_lines import lines_at, value_range
from tightverify.relax.piecewise_lines import tight_lines as tight_piecewise_lines
from tightverify.relax.piecewise_traits import piecewise_traits
from tightverify.relax.planes import Planes
from tightverify.relax.tight import tight_lines, within_range
from tightverify.relax.traits import Traits
from tightverify.values import Interval


class Operation(ABC):
    """A function of `arity` operands, called by its name."""

    name: str
    arity: int

    @property
    def traits(self) -> Traits:
        """What else it knows of itself: an operation that states none is bounded by its interval and its closed form alone."""
        return Traits()

    @property
    def parameters(self) -> Mapping[str, float | tuple[float, ...]]:
        """The numbers, or lists of numbers, that, with the name, say which function it is: what evidence tells of it."""
        return {}

    @abstractmethod
    def forward(self, *operands: Tensor) -> Tensor: ...

    @abstractmethod
    def interval(self, *boxes: Interval) -> Interval:
        """An interval that surely holds the function's values over the boxes, rounding included."""

    def undefined(self, *boxes: Interval) -> Tensor | None:
        """(B, n): where the boxes hold a point at which the function has no value; None if it has one everywhere."""
        return None

    @property
    def partial(self) -> bool:
        """Whether it has no value at some points: it then says itself where it is `undefined`."""
        return type(self).undefined is not Operation.undefined

    @abstractmethod
    def relax(self, *boxes: Interval) -> Planes:
        """Planes that surely hold the function over the boxes, rounding included."""

    def alternatives(self, *boxes: Interval) -> tuple[Planes, ...]:
        """Other such planes, each the better ones for some rows, if it knows any: for rows that are worth a try of each."""
        return ()

    @property
    def rising(self) -> Curve | None:
        """The curve that it is, if it has one operand and never falls."""
        return None

    def tight(self, *boxes: Interval) -> Planes:
        """Planes that hold it and never leave its range over the boxes, but for rounding; constants where none is at hand."""
        return within_range(self.tight_candidates(*boxes), boxes, self.interval(*boxes))

    def tight_candidates(self, *boxes: Interval) -> tuple[Planes, ...]:
        """Planes that hold it, among which `tight` looks for such."""
        if self.rising is not None:
            return (tight_lines(self.rising, boxes[0]),)
        return self.relax(*boxes), *self.alternatives(*boxes)

    def adaptive(self, *boxes: Interval) -> Planes:
        """The planes of CROWN's adaptive choice: of a curve the lines of the least mean distance; else its own."""
        return self.relax(*boxes) if self.rising is None else tightest_lines(self.rising, boxes[0])

    def by_lines(self, lines: str, *boxes: Interval) -> Planes:
        """The planes of a strategy, by its name in `methods.LINES`."""
        return {"default": self.relax, "tight": self.tight, "adaptive": self.adaptive}[lines](*boxes)


class CurveOperation(Operation):
    """A function of one operand that is its curve, whatever the numbers in it are: convex, then concave."""

    arity = 1

    @property
    @abstractmethod
    def curve(self) -> Curve: ...

    @property
    def rising(self) -> Curve:
        return self.curve

    @cached_property
    def traits(self) -> Traits:
        return curve_traits(self.curve)

    def forward(self, *operands: Tensor) -> Tensor:
        return self.curve.value(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(self.curve, boxes[0])

    def relax(self, *boxes: Interval) -> Planes:
        return tightest_lines(self.curve, boxes[0])


class PiecewiseOperation(Operation):
    """A function of one operand that is convex, concave or straight piece by piece."""

    arity = 1

    @property
    @abstractmethod
    def curve(self) -> Piecewise: ...

    @cached_property
    def traits(self) -> Traits:
        return piecewise_traits(self.curve)

    def forward(self, *operands: Tensor) -> Tensor:
        return self.curve.value(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return value_range(self.curve, boxes[0])

    def relax(self, *boxes: Interval) -> Planes:
        return lines_at(self.curve, boxes[0], boxes[0].centre)

    def tight_candidates(self, *boxes: Interval) -> tuple[Planes, ...]:
        return tight_piecewise_lines(self.curve, boxes[0]), self.relax(*boxes)
