"""What may be asked of a model's outputs in place of a label, by one number: for detectors, and for what is no classifier."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tightverify.errors import InputError
from tightverify.spec import Property


@dataclass(frozen=True)
class Statement(ABC):
    """About all outputs of an input, by what they are at the input itself."""

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(f"{type(self).__name__} was given {self.value}; wanted a finite number")

    def __getitem__(self, chosen: object) -> Self:
        """The same, of some of the inputs."""
        return self

    @property
    def switch(self) -> str:
        """The command line's option."""
        return next(f"--{name}" for name, kind in STATEMENTS.items() if kind is type(self))

    @abstractmethod
    def at(self, outputs: Tensor) -> Property:
        """What is asked of inputs whose outputs (N, K) these are."""


class Above(Statement):
    """Every output stays above the number."""

    def at(self, outputs: Tensor) -> Property:
        return sided(torch.ones_like(outputs, dtype=torch.float64), self.value)


class Below(Statement):
    """Every output stays below the number."""

    def at(self, outputs: Tensor) -> Property:
        return sided(-torch.ones_like(outputs, dtype=torch.float64), self.value)


class SameSide(Statement):
    """Every output stays on the side of the number on which it is: a detector keeps its answer."""

    def at(self, outputs: Tensor) -> Property:
        return sided(torch.where(outputs >= self.value, 1.0, -1.0).to(torch.float64), self.value)


class Within(Statement):
    """Every output moves by less than the number: for regression."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value <= 0:
            raise InputError(f"Within was given {self.value}; wanted a number above 0")

    def at(self, outputs: Tensor) -> Property:
        y = outputs.to(torch.float64)
        offsets = torch.cat([self.value - y, self.value + y], dim=1)
        return Property(
            rows_of(torch.cat([torch.ones_like(y), -torch.ones_like(y)], dim=1), y.shape[1]), lower(offsets), 2 * y.shape[1]
        )


def sided(signs: Tensor, value: float) -> Property:
    """Each output times its sign (N, K) is above the number times it."""
    return Property(rows_of(signs, signs.shape[1]), -value * signs, signs.shape[1])


def rows_of(signs: Tensor, outputs: int) -> Tensor:
    """(N, R, K): a row for each sign (N, R), of one output after the other, and once more from the first."""
    identity = torch.eye(outputs, dtype=torch.float64).repeat(signs.shape[1] // outputs, 1)
    return signs[:, :, None] * identity


def lower(values: Tensor) -> Tensor:
    """Floats that are below sums that were rounded to these."""
    return torch.nextafter(values, values.new_tensor(-torch.inf))


STATEMENTS: dict[str, type[Statement]] = {"side": SameSide, "above": Above, "below": Below, "within": Within}
"""By the names that the command line has for them."""
