"""Whole numbers that depend on the input: what may be made of them, as what it comes to in real numbers.

Their types wrap around, divide otherwise and round otherwise than real numbers do, so that whatever might is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from tightverify.errors import UnsupportedError
from tightverify.models.from_onnx.comparisons import COMPARISONS
from tightverify.models.from_onnx.node import Activations, Value, describe, type_name
from tightverify.models.from_onnx.shapes import FACTS, LIMITS

MOVED = {
    "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
}  # fmt: skip
SHIFTED = {"Add", "Sub"}
"""By constants below `FAR`, of INT64 only: it would take more than 2^32 of them to get from numbers below 2^53 to its end."""
FAR = 2**31
TRUTHS = COMPARISONS.keys() - {"Where"}
SUPPORTED = {*MOVED, *SHIFTED, *TRUTHS, *FACTS, "Cast", "Where", "Neg"}


def type_of(values: Sequence[Value | None]) -> int:
    """The type of the whole numbers among what a node reads, 0 if there are none."""
    return next((value.whole for value in values if isinstance(value, Activations) and value.whole), 0)


def made(node: NodeProto, read: int) -> int:
    """The type of whole numbers that a node makes, given that of those that it reads; 0 for others."""
    if node.op_type == "Cast":
        kind = next((int(a.i) for a in node.attribute if a.name == "to"), 0)
        return kind if kind in LIMITS else 0
    return 0 if node.op_type in TRUTHS else read


def admitted(node: NodeProto, values: list[Value | None], kind: int) -> list[Value | None]:
    """What a node reads, whole constants beside whole numbers in float64; refused is what might come to something else."""
    refusal = UnsupportedError(
        f"{describe(node)} of {type_name(kind)} numbers that depend on the input is not supported; "
        "compute in float32 or float64"
    )
    if node.op_type not in SUPPORTED:
        raise refusal
    if node.op_type not in {*SHIFTED, "Concat", "Where"}:
        return values
    found = [as_float(value) for value in values]
    constants = [value for value in found if isinstance(value, np.ndarray) and value.dtype == np.float64]
    if any(bool((np.abs(value) > FAR).any()) for value in constants):
        raise refusal
    if node.op_type in SHIFTED and (kind != TensorProto.INT64 or len(constants) != 1 or len(values) != 2):
        raise refusal
    return found


def as_float(value: Value | None) -> Value | None:
    """Whole constants in float64, others as they are."""
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype.kind == "i" else value
