"""Constraints of a case that cannot hold together though each can alone: one that they imply is added, their sum with weights.

If all of `c_k <= 0` hold, so does `sum of w_k c_k <= 0` for weights of 0 or more: wherever that is refuted, the case is. The
weights are those that a linear program finds best for the model taken as linear about the box's middle; they are rounded to a
few binary digits, and the sum is exact, so that nothing rests on them.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from tightverify.errors import UnsupportedError
from tightverify.graph import Graph
from tightverify.inputs.vnnlib.query import Query, joint, places_of, row_of
from tightverify.inputs.vnnlib.syntax import Constraint, Linear
from tightverify.spec import Property

DIGITS = 2**12
"""Weights are whole numbers of this part of 1."""
MOST_ROWS = 200


def with_sum(query: Query, number: int, graph: Graph) -> Query:
    """The one case of a number, with a sum of its constraints among them if that may help."""
    only = torch.tensor([number])
    case = query.cases[number]
    alone = replace(query, lower=query.lower[only], upper=query.upper[only], refuted=query.refuted[only], cases=(case,), cut=())
    rows = joint(case)
    if not 2 <= len(rows) <= MOST_ROWS:
        return alone
    scales = [max(map(abs, constraint.linear.terms.values())) for constraint in rows]
    found = weights(alone, graph, [float(scale) for scale in scales])
    if found is None:
        return alone
    total = Linear()
    for constraint, scale, weight in zip(rows, scales, found, strict=True):
        total = total.plus(constraint.linear, Fraction(max(round(float(weight) * DIGITS), 0), DIGITS) / scale)
    try:
        return replace(alone, refuted=with_row(alone, Constraint(total))) if total.terms else alone
    except UnsupportedError:
        return alone  # its coefficients have too many digits


@torch.enable_grad()
def weights(query: Query, graph: Graph, scales: list[float]) -> NDArray[np.float64] | None:
    """The best weights of the one case's rows, each divided by its scale, if the model is taken as linear."""
    count = len(scales)
    middle = ((query.lower + query.upper) / 2)[0].requires_grad_()
    outputs = graph.forward(middle[None])[0]
    matrix, offsets = query.refuted.rows[0, :count], query.refuted.offsets[0, :count]
    sizes = matrix.abs().amax(1)
    margins = ((matrix @ outputs) + offsets) / sizes
    if not margins.requires_grad:
        return None
    slopes = torch.stack([torch.autograd.grad(margin, middle, retain_graph=True)[0] for margin in margins])
    if not bool(torch.isfinite(slopes).all() and torch.isfinite(margins).all()):
        return None
    reach = ((query.upper - query.lower) / 2)[0]
    rows = np.hstack([(slopes * reach).numpy(), -np.ones((count, 1))])
    limits = [(-1.0, 1.0)] * len(reach) + [(None, None)]
    costs = np.append(np.zeros(len(reach)), 1.0)
    found = linprog(costs, A_ub=rows, b_ub=-margins.detach().numpy(), bounds=limits, method="highs")
    return -np.asarray(found.ineqlin.marginals) if found.status == 0 else None


def with_row(query: Query, constraint: Constraint) -> Property:
    """The one case's property, refuted by one more row too."""
    row, offset = row_of(constraint, places_of(query.outputs, query.extras))
    rows = torch.cat([query.refuted.rows, torch.tensor(row, dtype=torch.float64)[None, None]], dim=1)
    offsets = torch.cat([query.refuted.offsets, torch.tensor([[offset]], dtype=torch.float64)], dim=1)
    return Property(rows, offsets, 1)
