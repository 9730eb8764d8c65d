"""Nodes of one graph written down in another, where what they read has other places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tightverify.graph import Affine, Apply, Node, Operand, Quadratic


def moved(node: Node, numbers: Mapping[int, int]) -> Node:
    """The node with its operands' nodes at their new places."""

    def at(operand: Operand) -> Operand:
        return replace(operand, source=numbers[operand.source])

    match node:
        case Affine():
            return replace(node, terms=tuple(replace(term, operand=at(term.operand)) for term in node.terms))
        case Apply() | Quadratic():
            return replace(node, operands=tuple(map(at, node.operands)))
        case _:
            return node
