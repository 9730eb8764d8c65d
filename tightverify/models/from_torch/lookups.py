"""Torch's look-ups in tables by what depends on the input: `bucketize`, `searchsorted`, casts to whole numbers, places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tightverify.models.builder import Symbols
from tightverify.models.from_torch.call import Call
from tightverify.models.from_torch.moves import move
from tightverify.models.lookups import count_below, look_up
from tightverify.ops import Truncation

LIMITS = {torch.int32: 2.0**31, torch.int64: 2.0**53}
"""Below which numbers casts to whole numbers are."""
PLACES = {
    *("aten.bucketize.Tensor", "aten.searchsorted.Tensor", "aten._to_copy.default"),
    *("aten.clamp.default", "aten.clamp_min.default", "aten.clamp_max.default", "aten.view.default"),
}
"""What may give whole numbers, as places in tables are: nothing that could overflow."""
ADVICE = "find the place by `bucketize`, or by `floor`, `clamp` and `.long()` of a number, so that it surely lies in the table"


def bucketize(edges: str) -> Callable[[Call], Symbols]:
    def build(call: Call) -> Symbols:
        call.read.update(("out_int32", "right", "side"))
        return count_below(call.builder, call.symbols("self"), call.constant(edges))

    return build


def index(call: Call) -> object:
    """A move where the places are constant; a table's values where the table is, and its one place depends on the input."""
    places = [place for place in call.values("indices") if isinstance(place, np.ndarray)]
    if not places:
        return move("indices")(call)
    if call.symbolic("self"):
        raise call.refuse("with indices that depend on the input is not supported", "make `indices` a constant")
    table = call.constant("self")
    found = look_up(call.builder, table, places[0]) if table.dim() == len(call.values("indices")) == 1 else None
    if found is None:
        raise call.refuse("with indices that depend on the input is not supported here", ADVICE)
    return found


def whole(call: Call) -> Symbols:
    """A cast to whole numbers of one of `LIMITS`, cut towards 0."""
    dtype = call["dtype"]
    assert isinstance(dtype, torch.dtype)
    return call.builder.apply(Truncation(LIMITS[dtype]), call.symbols("self"))


LOOKUPS: dict[str, Callable[[Call], object]] = {
    "aten.bucketize.Tensor": bucketize("boundaries"),
    "aten.searchsorted.Tensor": bucketize("sorted_sequence"),
    "aten.index.Tensor": index,
}
"""Operators by name."""
