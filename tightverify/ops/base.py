"""What an operation is: a function of one, two or three operands, applied neuron by neuron.

An operation has no state. It answers for itself: its value, its interval over boxes, and the planes that hold it over
boxes; everything in the project that treats nonlinear functions reads these answers and nothing else. All tensors are
(B, n), float64 wherever a bound is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from tightverify.relax.curves import Curve, Symmetric
from tightverify.relax.planes import Planes
from tightverify.values import Interval


class Operation(ABC):
    """A function of `arity` operands, called by its name."""

    name: str
    arity: int
    curves: tuple[Symmetric, Symmetric] | None = None
    """F and G where the operation is F(x) G(y) for smooth curves, G = 1 for one of one operand"""
    curve: Curve | None = None
    """f where the operation is f(x) for a curve that is not smooth, or convex, or concave"""

    @property
    def parameters(self) -> dict[str, float]:
        """The numbers that, with the name, say which function it is: what evidence tells of it."""
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
