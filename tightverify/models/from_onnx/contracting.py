"""ONNX's Einsum, whose equation names the axes of its operands and of its result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from torch import Tensor

from tightverify.models.builder import Symbols
from tightverify.models.contraction import Names, contract
from tightverify.models.from_onnx.node import Activations, Call

TERM = re.compile(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*")


def einsum(call: Call) -> Symbols:
    equation = call.text("equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    names = terms.split(",")
    if len(names) != call.count or any(TERM.fullmatch(term) is None for term in (*names, result)):
        raise call.unsupported(f"the equation '{equation}' of {call.count} inputs", "name the axes of each input: 'ij,jk->ik'")
    operands = [numbers_or_weights(call, k) for k in range(call.count)]
    read = [axes(call, term, x.ndim) for term, x in zip(names, operands, strict=True)]
    most = max((sum(not name.isalpha() for name in one) for one in read), default=0)
    if not arrow:
        counts = Counter("".join(names).replace(".", ""))
        result = "..." * (most > 0) + "".join(sorted(name for name, count in counts.items() if count == 1))
    if most and "..." not in result:
        raise call.unsupported(f"the equation '{equation}', whose result lacks its '...',", "name all axes, or keep these")
    if len(set(result.replace(".", ""))) < len(result.replace(".", "")) or set(result) - set(terms):
        raise call.unsupported(f"the result '{result}' of '{terms}'", "name axes of the inputs, each once")
    wanted = axes(call, result, len(result.replace("...", "")) + most)
    return contract(call.builder, operands, read, wanted)


def numbers_or_weights(call: Call, k: int) -> Symbols | Tensor:
    """Input k: neurons, or constants."""
    value = call.value(k)
    return value.numbers if isinstance(value, Activations) else call.weights(k)


def axes(call: Call, term: str, count: int) -> Names:
    """The names of a tensor's axes, those of '...' counted from the back."""
    before, dots, behind = term.partition("...")
    more = count - len(before) - len(behind)
    if more < 0 or (more and not dots):
        raise call.unsupported(f"the term '{term}' for a tensor of {count} axes", "name as many as it has")
    return (*before, *(str(k) for k in range(more, 0, -1)), *behind)


CONTRACTING: dict[str, Callable[[Call], Symbols]] = {"Einsum": einsum}
