"""What a graph is made of, and whether it is well formed."""

from __future__ import annotations

from collections import Counter

import torch

from tightverify.graph import Affine, Apply, Graph


def kinds(graph: Graph) -> Counter[str]:
    """How many nodes of each kind there are."""
    return Counter(node.op.name if isinstance(node, Apply) else type(node).__name__ for node in graph.nodes)


def operations(graph: Graph) -> set[str]:
    return {node.op.name for node in graph.nodes if isinstance(node, Apply)}


def bare(graph: Graph) -> Graph:
    """The graph, after a check that it is well formed: topological order, everything read, sizes that fit."""
    read = {operand.source for node in graph.nodes for operand in node.operands}
    for number, node in enumerate(graph.nodes):
        assert all(operand.source < number for operand in node.operands)
        assert number in read or number == graph.output
        sizes = [torch.arange(graph.nodes[o.source].size)[o.index].numel() for o in node.operands]
        if isinstance(node, Apply):
            assert sizes == [node.size] * node.op.arity
        if isinstance(node, Affine):
            assert bool((node.bias_size >= node.bias.abs()).all())
            for size, term in zip(sizes, node.terms, strict=True):
                assert term.map.shape == (node.size, size)
    return graph
