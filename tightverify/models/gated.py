"""A neuron times a share of itself, and a whole power, become one operation: a product knows nothing of what its factors share.

    a x (c sigmoid(b x))            (a c / b) silu(b x)
    a x (c + c erf(b x))            (sqrt 2 a c / b) gelu(sqrt 2 b x)
    a x (c hard_sigmoid(b x))       (a c / b) hard_swish(b x)
    a x (c clamp(x + d, 0, e))      a c e hard_swish(x), whose slope is 1 / e and whose shift is d / e
    a x (c tanh(softplus(x)))       a c mish(x)
    a x (c + c tanh(p x + q x^3))   (2 a c / b) gelu_by_tanh(b x) for b = p / sqrt(2 / pi), near the usual q
    a x (c / (s + b |x|))           (a c / b) softsign(b x / s)
    a x (c x^n)                     a c x^(n + 1)

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
from tightverify.models.ramps import scaled, weights_of
from tightverify.ops import (
    MULTIPLY,
    Clamp,
    Erf,
    Gelu,
    GeluByTanh,
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
LEAST = 1 / 64
"""What a neuron is scaled by, at least: what an operation may be off by is divided by it."""
CUBIC = 0.0447, 0.0448
"""What the cube counts in GELU's approximation, 0.044715, as it may come out of weights in float32."""


@dataclass(frozen=True, eq=False)
class Sum:
    """`sum of factor * operand, + shift`, neuron by neuron; the shift is NaN where it would be rounded."""

    terms: tuple[tuple[Tensor, Operand], ...]
    shift: Tensor


@dataclass(frozen=True, eq=False)
class Share:
    """`factor * op(inner) + shift`"""

    read: Operand
    op: Operation
    inner: Sum
    factor: Tensor
    shift: Tensor


def recognise_gated(rewriting: Rewriting, number: int) -> None:
    """If a node is such a product, it becomes that operation, scaled."""
    node = rewriting.nodes[number]
    if not isinstance(node, Apply) or node.op is not MULTIPLY:
        return
    for x, other in (node.operands, node.operands[::-1]):
        own = scaled(rewriting, Term(x, Identity(node.size)), node.size)
        if own is None:
            continue
        factor, base = own
        outer = expanded(rewriting, other, base, node.size)
        if len(outer.terms) != 1:
            continue
        share, read = outer.terms[0]
        power = power_of(rewriting, read, base)
        if power is not None and not bool(outer.shift.any()):
            write(rewriting, number, power, base, factor * share)
            return
        made = rewriting.nodes[read.source]
        if isinstance(made, Apply) and made.op.arity == 1:
            inner = expanded(rewriting, rewriting.select(made.operands[0], read.index), base, node.size)
            if put_in_place(rewriting, number, factor, base, Share(read, made.op, inner, share, outer.shift)):
                return


def power_of(rewriting: Rewriting, read: Operand, base: Operand) -> Operation | None:
    """The power that the base times a power of it, or times itself, is."""
    if rewriting.same(read, base):
        return Square()
    node = rewriting.nodes[read.source]
    if not isinstance(node, Apply) or not isinstance(node.op, Square | Power):
        return None
    exponent = 3 if isinstance(node.op, Square) else node.op.exponent + 1
    same = rewriting.same(base, rewriting.select(node.operands[0], read.index))
    return Power(exponent) if same and exponent <= HIGHEST else None


def expanded(rewriting: Rewriting, operand: Operand, base: Operand, size: int) -> Sum:
    """What a neuron is of the base and of what is no sum, neuron by neuron."""
    shift, found = torch.zeros(size, dtype=torch.float64), []
    left = [(torch.ones(size, dtype=torch.float64), operand)]
    while left:
        factor, read = left.pop()
        node = rewriting.nodes[read.source]
        if rewriting.same(read, base) or not isinstance(node, Affine) or not adds_neurons(node):
            found.append((factor, read))
            continue
        shift = exact_sum(shift, exact_product(factor, node.bias[read.index]))
        for term in (rewriting.rows_of(term, read.index, node.size) for term in node.terms):
            left.append((factor * weights_of(term, size), term.operand))
    return Sum(tuple(found), shift)


def exact_product(x: Tensor, y: Tensor) -> Tensor:
    """NaN where neither is a power of two: the product may be rounded."""
    powers = (torch.frexp(x).mantissa.abs() == 0.5) | (torch.frexp(y).mantissa.abs() == 0.5) | (x == 0) | (y == 0)
    return torch.where(powers, x * y, torch.nan)


def exact_sum(x: Tensor, y: Tensor) -> Tensor:
    """NaN where the sum is rounded, by Knuth's two-sum."""
    total = x + y
    share = total - x
    return torch.where((x - (total - share)) + (y - share) == 0, total, torch.nan)


def adds_neurons(node: Affine) -> bool:
    """Whether a sum is one of neurons, each by a factor, and of numbers as they are written."""
    plain = torch.equal(node.bias_size, node.bias.abs())
    return plain and bool(node.terms) and all(term.map.elementwise for term in node.terms)


def put_in_place(rewriting: Rewriting, number: int, factor: Tensor, base: Operand, share: Share) -> bool:
    """Write the product of `factor * base` and a share anew, if it is one of the module's."""
    outer, inner = factor * share.factor, share.inner
    plain, halves = not bool(share.shift.any()), torch.equal(share.shift, share.factor)
    one = len(inner.terms) == 1 and rewriting.same(inner.terms[0][1], base)
    unshifted = not bool(inner.shift.any())
    match share.op:
        case Clamp(low=low, high=high) if low == 0 and 0 < high < math.inf and plain and one:
            shift = float(inner.shift[0])
            if bool((inner.terms[0][0] == 1).all() & (inner.shift == shift).all()) and 0 <= shift <= high:
                return write(rewriting, number, HardSwish(1 / high, shift / high), base, outer * high)
        case Tanh() if plain and unshifted and applied_to(rewriting, inner, Softplus, base):
            return write(rewriting, number, Mish(), base, outer)
        case Tanh() if halves and unshifted:
            found = by_tanh(rewriting, inner, base)
            return found is not None and write(rewriting, number, found[0], base, 2 * outer, found[1])
        case Reciprocal() if plain and bool((inner.shift > 0).all()):
            size = size_of(rewriting, inner, base)
            if size is not None and write(rewriting, number, Softsign(), base, outer / inner.shift, size / inner.shift):
                if rewriting.covers(share.read):
                    rewriting.defined.add(share.read.source)
                return True
        case Sigmoid() if plain and unshifted and one:
            return write(rewriting, number, Silu(), base, outer, inner.terms[0][0])
        case HardSigmoid(slope=slope, shift=shift) if plain and unshifted and one:
            return write(rewriting, number, HardSwish(slope, shift), base, outer, inner.terms[0][0])
        case Erf() if halves and unshifted and one:
            return write(rewriting, number, Gelu(), base, 2 * outer, math.sqrt(2) * inner.terms[0][0])
    return False


def applied_to(rewriting: Rewriting, inner: Sum, op: type[Operation], base: Operand) -> bool:
    """Whether a sum is this operation of the base, as it is."""
    factor, read = inner.terms[0]
    found = rewriting.inside(read, op)
    return len(inner.terms) == 1 and bool((factor == 1).all()) and found is not None and rewriting.same(found, base)


def size_of(rewriting: Rewriting, inner: Sum, base: Operand) -> Tensor | None:
    """c > 0, if a sum is `c |base|`, made of the larger one of a multiple and its negative, and a shift."""
    factor, read = inner.terms[0]
    node = rewriting.nodes[read.source]
    if len(inner.terms) != 1 or not isinstance(node, Apply) or not isinstance(node.op, Maximum):
        return None
    sides = [expanded(rewriting, rewriting.select(side, read.index), base, len(factor)) for side in node.operands]
    if any(len(side.terms) != 1 or bool(side.shift.any()) for side in sides):
        return None
    (one, x), (other, y) = (side.terms[0] for side in sides)
    opposite = torch.equal(one, -other) and rewriting.same(x, base) and rewriting.same(y, base)
    return factor * one.abs() if opposite and bool((factor > 0).all()) else None


def by_tanh(rewriting: Rewriting, inner: Sum, base: Operand) -> tuple[GeluByTanh, Tensor] | None:
    """GELU's approximation whose tanh has `p x + q x^3` in it, and what x is scaled by."""
    linear = [factor for factor, read in inner.terms if rewriting.same(read, base)]
    cubic = [factor for factor, read in inner.terms if is_cube(rewriting, read, base)]
    if len(inner.terms) != 2 or len(linear) != 1 or len(cubic) != 1:
        return None
    steepness = linear[0] / math.sqrt(2 / math.pi)
    shares = cubic[0] / (math.sqrt(2 / math.pi) * steepness**3)
    alike = (shares / shares[0] - 1).abs() <= 16 * UNIT_ROUNDOFF
    if not bool(alike.all()) or not CUBIC[0] <= float(shares[0]) <= CUBIC[1]:
        return None
    return GeluByTanh(float(shares[0])), steepness


def is_cube(rewriting: Rewriting, read: Operand, base: Operand) -> bool:
    node = rewriting.nodes[read.source]
    if not isinstance(node, Apply) or node.op != Power(3):
        return False
    return rewriting.same(rewriting.select(node.operands[0], read.index), base)


def write(
    rewriting: Rewriting, number: int, op: Operation, base: Operand, outer: Tensor, steepness: Tensor | None = None
) -> bool:
    """`outer / steepness * op(steepness * base)` in the node's place, unless these are no ordinary numbers."""
    zero, one = torch.zeros_like(outer), torch.ones_like(outer)
    steepness = one if steepness is None else torch.where((steepness - 1).abs() <= 2 * UNIT_ROUNDOFF, one, steepness)
    outer = outer / steepness
    usual = (steepness.abs() >= LEAST) & torch.isfinite(steepness) & torch.isfinite(outer)
    if not bool(usual.all()):
        return False
    if not torch.equal(steepness, one):
        rewriting.nodes.append(Affine((Term(base, Diagonal(steepness)),), zero, zero))
        base = Operand(len(rewriting.nodes) - 1)
    applied = Apply(op, (base,), len(outer))
    if torch.equal(outer, one):
        rewriting.nodes[number] = applied
    else:
        rewriting.nodes.append(applied)
        rewriting.nodes[number] = Affine((Term(Operand(len(rewriting.nodes) - 1), Diagonal(outer)),), zero, zero)
    return True
