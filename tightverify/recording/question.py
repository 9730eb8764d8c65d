"""What is asked of one input, in plain values under names that stay: nothing in a file is called after a class.

Nodes have the names of their kinds, operations and linear maps their own (`Operation.name`, `LinearMap.name`) and their
parameters, and weights their hashes (`evidence.fingerprint`), so that code can be moved and renamed, and yet two networks that
differ in one bit ask two questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from tightverify.evidence import Question, digest, fingerprint
from tightverify.graph import Affine, Apply, Graph, Input, Node, Operand, Quadratic
from tightverify.linear_map import LinearMap
from tightverify.ops import Operation
from tightverify.recording.record import plain
from tightverify.region import Region
from tightverify.spec import Property

Hash = Callable[[Tensor], str]


def question(number: int, model: str, method: str, graph: Graph, region: Region, spec: Property) -> Question:
    """What is asked of one input: the graph, a region and a property of one each."""

    place = region.written
    asked = Question(
        input=number,
        model=model,
        fingerprint="",
        method=method,
        norm=place.norm,
        radius=place.radius,
        centre=place.centre,
        lower=place.lower,
        upper=place.upper,
        generators=place.generators,
        slack=place.slack,
        groups=place.groups,
        vectors=place.vectors,
        most=place.most,
        rows=plain(spec.rows[0]),
        offsets=plain(spec.offsets[0]),
        needed=spec.needed,
        output=graph.output,
        shape=list(graph.input_shape),
        nodes=described(graph),
    )
    return replace(asked, fingerprint=fingerprint(asked))


def mark_of(graph: Graph, region: Region, spec: Property) -> str:
    """The fingerprint of what is asked of one input, to the last bit."""
    return question(0, "", "", graph, region, spec).fingerprint


def described(graph: Graph) -> list[dict[str, Any]]:
    """The nodes in plain values: what each is, its size, which neurons of which nodes it reads, and hashes of its weights."""
    known: dict[int, str] = {}

    def hashed(weights: Tensor) -> str:
        if id(weights) not in known:  # the same weights at every time step
            known[id(weights)] = digest(plain(weights))
        return known[id(weights)]

    return [
        {"size": node.size, "reads": [read(graph, operand) for operand in node.operands], **of_kind(node, hashed)}
        for node in graph.nodes
    ]


def of_kind(node: Node, hashed: Hash) -> dict[str, Any]:
    """What a node's kind has that others have not."""
    match node:
        case Input():
            return {"kind": "input", "start": node.start}
        case Affine():
            maps = [{**mapped(term.map), "weights": hashed(term.map.weights)} for term in node.terms]
            return {"kind": "affine", "maps": maps, "bias": hashed(node.bias), "bias_size": hashed(node.bias_size)}
        case Apply():
            return {"kind": "operation", **named(node.op)}
        case Quadratic():
            names = ("matrix", "shift", "weights", "size", "shift_size")
            parts = {name: hashed(getattr(node.forms, name)) for name in names}
            return {"kind": "energy", "forms": {**parts, "roundings": node.forms.roundings}}


def mapped(of: LinearMap) -> dict[str, Any]:
    """A linear map's name, its shape and its parameters."""
    return {"map": of.name, "shape": list(of.shape), **of.parameters}


def named(op: Operation) -> dict[str, Any]:
    """An operation's name and its parameters, None for those that are infinite, which JSON has no number for."""

    def plain(value: float | tuple[float, ...]) -> float | list[float] | None:
        if isinstance(value, tuple):
            return list(value)
        return value if math.isfinite(value) else None

    return {"op": op.name, **{name: plain(value) for name, value in op.parameters.items()}}


def read(graph: Graph, operand: Operand) -> dict[str, Any]:
    """The neurons that an operand reads: from, to and step, or their places."""
    if isinstance(operand.index, slice):
        return {"node": operand.source, "slice": list(operand.index.indices(graph.nodes[operand.source].size))}
    return {"node": operand.source, "places": operand.index.tolist()}
