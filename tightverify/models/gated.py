"""A neuron times a share of itself, and a whole power, become one operation: a product knows nothing of what its factors share.

    a x (c sigmoid(b x))            (a c / b) silu(b x)
    a x (c + c erf(b x))            (sqrt 2 a c / b) gelu(sqrt 2 b x)
    a x (c hard_sigmoid(b x))       (a c / b) hard_swish(b x)
    a x (c clamp(x + d, 0, e))      a c e hard_swish(x), whose slope is 1 / e and whose shift is d / e
    a x (c tanh(softplus(x)))       a c mish(x)
    a x (c / (1 + |x|))             a c softsign(x)
    x x^n                           x^(n + 1)

a, b and c are weights, which may differ from neuron to neuron and are allowed the roundings of any weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tightverify.graph import Affine, Apply, Operand, Term
from tightverify.linear_map import Diagonal, Identity
from tightverify.models.ramps import scaled
from tightverify.ops import (
    MULTIPLY,
    Clamp,
    Erf,
    Gelu,
    HardSigmoid,
    HardSwish,
    Maximum,
    Mish,
    Operation,
    Power,
    Reciprocal,
    Sigmoid,
    Silu,
    Softplus,
    Softsign,
    Square,
    Tanh,
)
from tightverify.values import UNIT_ROUNDOFF

if TYPE_CHECKING:
    from tightverify.models.rewrite import Rewriting

HIGHEST = 64


@dataclass(frozen=True, eq=False)
class Share:
    """`shift + factor * op(operand)`"""

    source: int
    op: Operation
    operand: Operand
    factor: Tensor
    shift: Tensor


def recognise_gated(rewriting: Rewriting, number: int) -> None:
    """If a node is such a product, it becomes that operation, scaled."""
    node = rewriting.nodes[number]
    if not isinstance(node, Apply) or node.op is not MULTIPLY:
        return
    for x, other in (node.operands, node.operands[::-1]):
        power = power_of(rewriting, x, other)
        if power is not None:
            rewriting.nodes[number] = Apply(power, (x,), node.size)
            return
        share = share_of(rewriting, other, node.size)
        if share is not None and put_in_place(rewriting, number, x, share):
            return


def power_of(rewriting: Rewriting, x: Operand, other: Operand) -> Power | None:
    """The power that x times another power of it is."""
    node = rewriting.nodes[other.source]
    if not isinstance(node, Apply) or not isinstance(node.op, Square | Power):
        return None
    exponent = 3 if isinstance(node.op, Square) else node.op.exponent + 1
    same = rewriting.same(x, rewriting.select(node.operands[0], other.index))
    return Power(exponent) if same and exponent <= HIGHEST else None


def share_of(rewriting: Rewriting, operand: Operand, size: int) -> Share | None:
    """An operation of one operand, scaled and shifted neuron by neuron."""
    node, shift = rewriting.nodes[operand.source], torch.zeros(size, dtype=torch.float64)
    if isinstance(node, Affine):
        if len(node.terms) != 1 or not node.terms[0].map.elementwise:
            return None
        if not torch.equal(node.bias_size, node.bias.abs()):
            return None
        shift = node.bias[operand.index]
        term = rewriting.rows_of(node.terms[0], operand.index, node.size)
    else:
        term = Term(operand, Identity(size))
    found = scaled(rewriting, term, size)
    if found is None:
        return None
    factor, inner = found
    node = rewriting.nodes[inner.source]
    if not isinstance(node, Apply) or node.op.arity != 1:
        return None
    return Share(inner.source, node.op, rewriting.select(node.operands[0], inner.index), factor, shift)


def put_in_place(rewriting: Rewriting, number: int, x: Operand, share: Share) -> bool:
    """Write the node anew, if it is one of the module's products."""
    size = rewriting.nodes[number].size
    own = scaled(rewriting, Term(x, Identity(size)), size)
    inner = scaled(rewriting, Term(share.operand, Identity(size)), size)
    plain = not bool(share.shift.any())
    made: tuple[Operation, float, float] | None = None
    if own is None:
        return False
    outer, base = own[0] * share.factor, own[1]
    match share.op:
        case Clamp(low=low, high=high) if low == 0 and 0 < high < math.inf and plain:
            shift = shift_of(rewriting, share.operand, base)
            if shift is not None and 0 <= shift <= high:
                return write(rewriting, number, HardSwish(1 / high, shift / high), base, outer * high, None)
        case Tanh() if plain:
            soft = rewriting.inside(share.operand, Softplus)
            if soft is not None and rewriting.same(soft, base):
                return write(rewriting, number, Mish(), base, outer, None)
        case Reciprocal() if plain and is_one_more_than_size(rewriting, share.operand, base):
            rewriting.defined.add(share.source)
            return write(rewriting, number, Softsign(), base, outer, None)
        case Sigmoid() if plain:
            made = Silu(), 1.0, 1.0
        case HardSigmoid(slope=slope, shift=shift) if plain:
            made = HardSwish(slope, shift), 1.0, 1.0
        case Erf() if torch.equal(share.shift, share.factor):
            made = Gelu(), math.sqrt(2), 2.0
    if made is None or inner is None or not rewriting.same(inner[1], base):
        return False
    op, stretch, gain = made
    steepness = inner[0] * stretch
    steepness = torch.where((steepness - 1).abs() <= 2 * UNIT_ROUNDOFF, 1.0, steepness)
    usual = steepness.abs().clamp(max=1.0) > torch.finfo(torch.float64).tiny
    if not bool((usual & torch.isfinite(steepness)).all()):
        return False
    return write(rewriting, number, op, base, outer * gain / steepness, steepness)


def is_one_more_than_size(rewriting: Rewriting, operand: Operand, base: Operand) -> bool:
    """Whether it is `1 + |base|`, the size being the larger one of the number and its negative."""
    node = rewriting.nodes[operand.source]
    if not isinstance(node, Affine) or len(node.terms) != 1 or node.terms[0].map.sign != 1:
        return False
    size = rewriting.rows_of(node.terms[0], operand.index, node.size).operand
    largest = rewriting.nodes[size.source]
    if not isinstance(largest, Apply) or not isinstance(largest.op, Maximum) or not bool((node.bias == 1).all()):
        return False
    x, other = (rewriting.select(read, size.index) for read in largest.operands)
    negative = rewriting.signed_terms(other)
    plain = bool((node.bias_size == 1).all()) and len(negative) == 1 and negative[0][1] == -1
    return plain and rewriting.same(x, base) and rewriting.same(negative[0][0], base)


def shift_of(rewriting: Rewriting, operand: Operand, base: Operand) -> float | None:
    """The number d, one for all, if an operand is `base + d`."""
    node = rewriting.nodes[operand.source]
    if rewriting.same(operand, base):
        return 0.0
    if not isinstance(node, Affine) or len(node.terms) != 1 or node.terms[0].map.sign != 1:
        return None
    shift = node.bias[operand.index]
    plain = torch.equal(node.bias_size, node.bias.abs()) and bool((shift == shift[0]).all())
    reads = rewriting.rows_of(node.terms[0], operand.index, node.size).operand
    return float(shift[0]) if plain and rewriting.same(reads, base) else None


def write(rewriting: Rewriting, number: int, op: Operation, base: Operand, outer: Tensor, steepness: Tensor | None) -> bool:
    """`outer * op(steepness * base)` in the node's place."""
    zero = torch.zeros_like(outer)
    if steepness is not None and not bool((steepness == 1).all()):
        rewriting.nodes.append(Affine((Term(base, Diagonal(steepness)),), zero, zero))
        base = Operand(len(rewriting.nodes) - 1)
    applied = Apply(op, (base,), len(outer))
    if bool((outer == 1).all()):
        rewriting.nodes[number] = applied
    else:
        rewriting.nodes.append(applied)
        rewriting.nodes[number] = Affine((Term(Operand(len(rewriting.nodes) - 1), Diagonal(outer)),), zero, zero)
    return True
