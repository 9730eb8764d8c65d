"""ATen operators on what is true or not: 1 and 0, made of steps; where a region holds points on both sides, so do bounds.

What is compared is compared as real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor

from tightverify.models.builder import Symbols
from tightverify.models.choices import chosen
from tightverify.models.from_torch.call import Call
from tightverify.models.from_torch.moves import MOVES
from tightverify.ops import NonZero, Step

Handler = Callable[[Call], object]


def exceeds(call: Call, first: str, second: str) -> Symbols:
    """Whether one argument is the larger."""
    difference = call.builder.combine([(call.symbols(first), 1.0), (call.symbols(second), -1.0)])
    return call.builder.apply(Step(), difference)


def opposite(call: Call, x: Symbols) -> Symbols:
    return call.builder.combine([(x, -1.0)], 1.0)


def greater(call: Call) -> Symbols:
    return exceeds(call, "self", "other")


def less(call: Call) -> Symbols:
    return exceeds(call, "other", "self")


def equality(equal: bool) -> Handler:
    """Neurons are finite, and not equal to what is not, as attention asks of its masks."""

    def build(call: Call) -> object:
        if isinstance(call["other"], float) and not math.isfinite(call["other"]):
            return torch.full(call.symbols("self").shape, not equal)
        difference = call.builder.combine([(call.symbols("self"), 1.0), (call.symbols("other"), -1.0)])
        apart = call.builder.apply(NonZero(), difference)
        return opposite(call, apart) if equal else apart

    return build


def negated(of: Callable[[Call], Symbols]) -> Handler:
    return lambda call: opposite(call, of(call))


def negation(call: Call) -> Symbols:
    if cast(Tensor, call.node.all_input_nodes[0].meta["val"]).is_floating_point():
        raise call.refuse("of numbers is not supported", "compare them with 0 first")
    return opposite(call, call.symbols("self"))


def both(call: Call) -> Symbols:
    return call.builder.multiply(call.symbols("self"), call.symbols("other"))


def either(call: Call) -> Symbols:
    return call.builder.combine([(call.symbols("self"), 1.0), (call.symbols("other"), 1.0), (both(call), -1.0)])


def some(call: Call) -> Symbols:
    """Whether any is true along some axes, or all of them: the largest."""
    x = call.symbols("self")
    if not x.size:
        raise call.refuse("of nothing is not supported", "ask of at least one")
    given = call["dim"] if "dim" in call.arguments else None
    axes = tuple(range(x.ndim)) if given is None else tuple(axis % x.ndim for axis in call.integers("dim"))
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    found = call.builder.largest(x.transpose([*axes, *rest]).reshape(-1, *(x.shape[axis] for axis in rest)), 0)
    return np.expand_dims(found, axes) if "keepdim" in call.arguments and call.flag("keepdim") else found


def choice(call: Call) -> object:
    """Of what lies on the two sides of the condition, where that is not constant."""
    if not call.symbolic("condition"):
        return MOVES["aten.where.self"](call)
    return chosen(call.builder, call.symbols("condition"), call.symbols("self"), call.symbols("other"))


def of_two(name: str, handler: Handler) -> dict[str, Handler]:
    return {f"aten.{name}.{kind}": handler for kind in ("Scalar", "Tensor")}


TRUTHS: dict[str, Handler] = {
    **of_two("gt", greater),
    **of_two("lt", less),
    **of_two("ge", negated(less)),
    **of_two("le", negated(greater)),
    **of_two("ne", equality(False)),
    **of_two("eq", equality(True)),
    **dict.fromkeys(("aten.logical_not.default", "aten.bitwise_not.default"), negation),
    **dict.fromkeys(("aten.logical_and.default", "aten.bitwise_and.Tensor", "aten.__and__.Tensor"), both),
    **dict.fromkeys(("aten.logical_or.default", "aten.bitwise_or.Tensor", "aten.__or__.Tensor"), either),
    **dict.fromkeys(("aten.any.default", "aten.any.dim", "aten.any.dims"), some),
}
"""Operators that give truths."""
COMPARISONS: dict[str, Handler] = {**TRUTHS, "aten.where.self": choice}
