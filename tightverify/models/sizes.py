"""How large the arrays may be that an import makes of its own: a sentence comes instead of memory that runs out.

What only moves numbers about is indices, and a sum that would be a large matrix of zeros a list of terms, so that hardly
anything but a tensor that is itself too large is refused.
"""

from __future__ import annotations

import math

from torch import Tensor

from tightverify.errors import UnsupportedError

LARGEST = 2**27
"""No tensor or matrix that an import makes has more numbers than this: 1 GiB of float64."""

MISFITS = (ValueError, LookupError, RuntimeError, TypeError, ArithmeticError, MemoryError)
"""What numpy and torch make of shapes that do not go together: without axes a TypeError, empty ones a division by 0."""


class TooLarge(UnsupportedError):
    """What an operator makes would not fit into memory; whoever knows the operator says which it is."""


def fits(*lengths: int, what: str = "it") -> tuple[int, ...]:
    """The lengths, unless an array of them is too large to be made."""
    count = math.prod(lengths)
    if count > LARGEST:
        raise TooLarge(
            f"{what} takes {' x '.join(map(str, lengths))} numbers ({8 * count / 2**30:.3g} GiB); wanted at most {LARGEST} "
            "(1 GiB): make its inputs or its outputs fewer"
        )
    return lengths


def in_short(error: Exception) -> str:
    """Somebody else's message in one line."""
    return " ".join(str(error).split())


def batch_of(x: Tensor) -> str:
    """The shape of inputs, and how it is read."""
    rest = tuple(x.shape[1:])
    return f"the inputs have shape {tuple(x.shape)}, which is {len(x)} of shape {rest}, as the first axis is the batch's"
