"""Where the second of two networks has an input x' of its own, near the first's: both are one of (x, e), with e = x - x'.

A model of such inputs takes (N, 2, *shape). The graph has the coordinates of x first and those of e after them; a network of x'
reads x - e. The region around (x, e) says how far apart the inputs may be (`region.Beside`).

What is replayed are numbers that the models can hold. The x' nearest to x - e may be farther from x than e is long; then the
number next to it, towards x, is taken, which is not: x - e lies between the two. So whatever is replayed is in the region.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.graph import Affine, Graph, Input, Node, Operand, Term
from tightverify.linear_map import Diagonal, Identity
from tightverify.models.model import Model
from tightverify.models.moving import moved


def second_input(x: Tensor) -> Tensor:
    """(N, *shape): x' of inputs (N, 2, *shape), in their own dtype, nowhere farther from x than e."""
    first, gap = x.unbind(1)
    second = first - gap
    one, other = first.to(torch.float64), second.to(torch.float64)
    apart = one - other
    taken = apart - one
    rest = (one - (apart - taken)) - (other + taken)  # what rounding left out of `apart`, exactly
    most = gap.to(torch.float64).abs()
    over = (apart.abs() > most) | ((apart.abs() == most) & (rest * apart > 0))
    return torch.where(over, torch.nextafter(second, first), second)


def behind(node: Input, size: int, nodes: list[Node], known: dict[tuple[int, int], int]) -> int:
    """Writes down x' of an input node, of inputs x of so many coordinates; `known` are the input nodes by start and size."""
    places = []
    for start in (node.start, size + node.start):
        if (start, node.size) not in known:
            known[start, node.size] = len(nodes)
            nodes.append(Input(start, node.size))
        places.append(known[start, node.size])
    minus = Diagonal(torch.full((node.size,), -1.0, dtype=torch.float64))
    zero = torch.zeros(node.size, dtype=torch.float64)
    terms = (Term(Operand(places[0]), Identity(node.size)), Term(Operand(places[1]), minus))
    nodes.append(Affine(terms, zero, zero))
    return len(nodes) - 1


def of_second_input(model: Model) -> Model:
    """The model at x', as one of (x, e)."""
    graph = model.graph
    nodes, numbers, known = list[Node](), dict[int, int](), dict[tuple[int, int], int]()
    for number, node in enumerate(graph.nodes):
        if isinstance(node, Input):
            numbers[number] = behind(node, graph.input_size, nodes, known)
            continue
        nodes.append(moved(node, numbers))
        numbers[number] = len(nodes) - 1

    def original(x: Tensor) -> Tensor:
        return model.original(second_input(x))

    both = Graph(tuple(nodes), numbers[graph.output], (2, *graph.input_shape))
    return Model(both, original, model.dtype, model.source, model.notes, model.narrow, left_out=model.left_out)
