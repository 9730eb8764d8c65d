"""A model whose outputs are its own, and after them products of its inputs and outputs, or single ones of these.

A constraint that joins inputs, or inputs and outputs, or multiplies them, is a row over these, bounded like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.graph import Affine, Apply, Graph, Input, Node, Operand, Term
from tightverify.linear_map import Dense
from tightverify.models.model import Model
from tightverify.models.rewrite import ordered
from tightverify.models.sizes import fits
from tightverify.ops import MULTIPLY, Square

Factors = tuple[int, ...]
"""Of a product, where they stand among the inputs and, after them, the outputs."""


def extended(model: Model, extras: Sequence[Factors]) -> Model:
    """The model with these products after its outputs."""
    if not extras:
        return model
    outputs = model.graph.output_size

    def original(x: Tensor) -> Tensor:
        y = model.original(x).to(torch.float64)
        both = torch.cat([x.to(y).flatten(1), y], dim=1)
        values = [both[:, list(factors)].prod(1) for factors in extras]
        return torch.cat([y, torch.stack(values, dim=1)], dim=1)

    fits(outputs + len(extras), outputs + model.graph.input_size, what="what constraints are about")
    return replace(model, graph=with_extras(model.graph, extras), original=original)


def with_extras(graph: Graph, extras: Sequence[Factors]) -> Graph:
    """The graph of more outputs."""
    nodes = list(graph.nodes)
    zero = torch.zeros(1, dtype=torch.float64)
    inputs = place_inputs(nodes, graph.input_size)
    whole = [*inputs, *(Operand(graph.output, slice(k, k + 1)) for k in range(graph.output_size))]
    made = []
    for factors in extras:
        first, *others = (whole[place] for place in factors)
        product = first
        for number, other in enumerate(others):
            same = number == 0 and other == first
            nodes.append(Apply(Square(), (first,), 1) if same else Apply(MULTIPLY, (product, other), 1))
            product = Operand(len(nodes) - 1)
        made.append(product)
    size = graph.output_size + len(made)
    columns = torch.eye(size, dtype=torch.float64)
    terms = [Term(Operand(graph.output), Dense(columns[:, : graph.output_size].contiguous()))]
    terms += [Term(each, Dense(columns[:, graph.output_size + k, None].contiguous())) for k, each in enumerate(made)]
    nodes.append(Affine(tuple(terms), zero.expand(size).contiguous(), zero.expand(size).contiguous()))
    kept = [len(nodes) - 1, *(k for k, node in enumerate(nodes) if isinstance(node, Apply) and node.op.partial)]
    return ordered(nodes, len(nodes) - 1, kept, graph.input_shape)


def place_inputs(nodes: list[Node], size: int) -> list[Operand]:
    """Every input's neuron; for those that no node has, nodes are added."""
    found: dict[int, Operand] = {}
    for number, node in enumerate(nodes):
        if isinstance(node, Input):
            found.update({node.start + k: Operand(number, slice(k, k + 1)) for k in range(node.size)})
    for place in range(size):
        if place not in found:
            found[place] = Operand(len(nodes))
            nodes.append(Input(place, 1))
    return [found[place] for place in range(size)]
