"""A sum of two functions of the same neurons that is a ramp becomes one operation: two by themselves are less tight.

`leaky_relu(z) - c relu(z - r)` has the slope of the leaky ReLU below 0, 1 up to r > 0, and 1 - c above. It is
`r ramp(z / r)`, whose cap is 1: r may differ from neuron to neuron, and is allowed the roundings of any weight. For its slope
to be exact, c must be a number of 24 binary digits, as float32 has, and no product of others; else all stays as it was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tightverify.graph import Affine, Apply, Operand, Term
from tightverify.linear_map import Diagonal
from tightverify.ops import LeakyRelu, Ramp

if TYPE_CHECKING:
    from tightverify.models.rewrite import Rewriting

DIGITS = 2**24


def recognise_ramp(rewriting: Rewriting, number: int) -> None:
    """If a node is such a sum, it becomes a ramp of the neurons that both read, its bias as it is."""
    node = rewriting.nodes[number]
    if not isinstance(node, Affine) or len(node.terms) != 2:
        return
    for first, second in (node.terms, node.terms[::-1]):
        bent, over = scaled(rewriting, first, node.size), scaled(rewriting, second, node.size)
        if bent is not None and over is not None and bool((bent[0] == 1).all()):
            made = ramp_of(rewriting, bent[1], over[1], -over[0])
            if made is not None:
                operand, map = made
                rewriting.nodes[number] = Affine((Term(operand, map),), node.bias, node.bias_size)
                return


def scaled(rewriting: Rewriting, term: Term, size: int) -> tuple[Tensor, Operand] | None:
    """The factors and the neurons of a term that scales each by itself, through sums of one such term without a bias.

    It stops where a product of factors would be rounded.
    """
    if not term.map.elementwise:
        return None
    factors, operand = weights_of(term, size), term.operand
    while True:
        inner = rewriting.nodes[operand.source]
        if not isinstance(inner, Affine) or len(inner.terms) != 1 or bool(inner.bias_size.any()):
            return factors, operand
        term = rewriting.rows_of(inner.terms[0], operand.index, inner.size)
        if not term.map.elementwise:
            return factors, operand
        weights = weights_of(term, size)
        if not bool(((factors.abs() == 1) | (weights.abs() == 1)).all()):
            return factors, operand
        factors, operand = factors * weights, term.operand


def weights_of(term: Term, size: int) -> Tensor:
    """What a term that scales each neuron by itself scales it by."""
    return term.map.weights if len(term.map.weights) else torch.ones(size, dtype=torch.float64)


def ramp_of(rewriting: Rewriting, bent: Operand, over: Operand, steepness: Tensor) -> tuple[Operand, Diagonal] | None:
    """The ramp that `bent - steepness * over` is, as neurons and what they are scaled by."""
    leaky, above = rewriting.nodes[bent.source], rewriting.nodes[over.source]
    z, shifted = rewriting.inside(bent, LeakyRelu), rewriting.inside(over, LeakyRelu)
    if z is None or shifted is None or not isinstance(leaky, Apply) or not isinstance(above, Apply):
        return None
    assert isinstance(leaky.op, LeakyRelu)
    slope, c = leaky.op.slope, float(steepness[0])
    cap = cap_between(rewriting, z, shifted)
    one_ramp = 0 <= slope <= 1 and above.op == LeakyRelu(0.0) and bool((steepness == c).all())
    if cap is None or not one_ramp or not 0 <= c <= 1 or c * DIGITS != round(c * DIGITS):
        return None
    zero = torch.zeros_like(cap)
    rewriting.nodes.append(Affine((Term(z, Diagonal(1 / cap)),), zero, zero))
    rewriting.nodes.append(Apply(Ramp(slope, 1.0, 1.0 - c), (Operand(len(rewriting.nodes) - 1),), len(cap)))
    return Operand(len(rewriting.nodes) - 1), Diagonal(cap)


def cap_between(rewriting: Rewriting, z: Operand, shifted: Operand) -> Tensor | None:
    """The caps r, ordinary numbers above 0, if the second operand is `z - r`."""
    inner = rewriting.nodes[shifted.source]
    if not isinstance(inner, Affine) or len(inner.terms) != 1 or inner.terms[0].map.sign != 1:
        return None
    term = rewriting.rows_of(inner.terms[0], shifted.index, inner.size)
    cap = -inner.bias[shifted.index]
    plain = torch.equal(inner.bias_size, inner.bias.abs())  # its error is as small as itself
    inverse = 1 / cap
    usual = bool((torch.isfinite(inverse) & (cap > 0) & (inverse > torch.finfo(torch.float64).tiny)).all())
    return cap if plain and usual and rewriting.same(z, term.operand) else None
