"""Rows over a module's output bounded from below: back-substitution, as far as a method goes.

Under interval bounds rows stop at the first operations, at their intervals; under LBP there, at their linear functions; under
CROWN they go on by planes to the input. In all of them the last layers that are linear are taken together with the rows.
"""

from __future__ import annotations

from enum import Enum

from torch import Tensor

from tightverify.errors import UsageError
from tightverify.training.nodes import Form, Node, flat, within
from tightverify.training.slots import Slot, gathered


class Stop(Enum):
    """Where rows stop."""

    INTERVAL = "at an operation's interval"
    FORM = "at an operation's linear functions of the input"
    INPUT = "at the input"


METHODS = {
    "ibp": (False, Stop.INTERVAL),
    "crown-ibp": (False, Stop.INPUT),
    "lbp": (True, Stop.FORM),
    "crown-lbp": (True, Stop.INPUT),
}
"""By name: whether boxes are tightened by forms, and where rows stop."""


def checked(method: str) -> str:
    if method not in METHODS:
        raise UsageError(f"the method {method!r} does not exist for training; choose one of {', '.join(METHODS)}")
    return method


def lower_bounds(output: Node, rows: Tensor, stop: Stop) -> Tensor:
    """(R, B): lower bounds of `rows @ output`, rows (R, B, ...)."""
    total: Tensor | float = 0.0
    over_input: list[Tensor] = []
    waiting: dict[int, tuple[Node, list[Tensor | Slot]]] = {output.number: (output, [rows])}
    while waiting:
        node, parts = waiting.pop(max(waiting))  # made after all its operands
        row = gathered(parts)
        if node.settled and stop is Stop.INTERVAL:
            total = total + within(row, node.interval.lower, node.interval.upper)
        elif node.stops and stop is Stop.FORM:
            total = total + within(row, node.form.lower[1], node.form.upper[1])
            over_input.append(by_form(node.form, row))
        elif node.operands:
            constant, pulled = node.pull(row)
            total = total + constant
            for operand, part in zip(node.operands, pulled, strict=True):
                waiting.setdefault(operand.number, (operand, []))[1].append(part)
        else:
            over_input.append(flat(row))
    if over_input:
        total = total + output.bounding.region.minimise(sum(over_input[1:], over_input[0]))
    assert isinstance(total, Tensor)
    return total


def by_form(form: Form, rows: Tensor) -> Tensor:
    """(R, B, n): rows over a node as rows over the input, by its linear functions."""
    positive, other = (flat(part).transpose(0, 1) for part in (rows.clamp(min=0), rows.clamp(max=0)))
    lower, upper = (flat(side[0]).permute(1, 2, 0) for side in (form.lower, form.upper))
    return (positive @ lower + other @ upper).transpose(0, 1)
