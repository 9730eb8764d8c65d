"""The output of an ONNX file that is asked about, and the file without what makes others only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from tightverify.errors import ModelError, UsageError

Output = int | str
"""Its name, or its number."""


def chosen_output(graph: GraphProto, output: Output | None, path: Path) -> str:
    """The output's name: that which the user says, else the first."""
    names = [value.name for value in graph.output]
    if not names:
        raise ModelError(f"{path} has no output; export the model again")
    if output is None:
        return str(names[0])
    if isinstance(output, str) and output in names:
        return output
    number = int(output) if isinstance(output, int) or output.isdecimal() else -1
    if not 0 <= number < len(names):
        raise UsageError(
            f"{path} has no output {output!r}; wanted one of {', '.join(map(repr, names))}, or its number from 0 on"
        )
    return str(names[number])


def only(model: ModelProto, *results: str) -> ModelProto:
    """The model of some outputs, in this order, without nodes and inputs that they do not depend on."""
    found = ModelProto()
    found.CopyFrom(model)
    needed, kept = set(results), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(read_by(node))
    del found.graph.node[:], found.graph.input[:], found.graph.output[:]
    found.graph.node.extend(reversed(kept))
    found.graph.input.extend(entry for entry in model.graph.input if entry.name in needed)
    values = {value.name: value for value in model.graph.output}
    found.graph.output.extend(values[name] for name in dict.fromkeys(results))
    return found


def read_by(node: NodeProto) -> Iterator[str]:
    """All names that a node reads, and those that its bodies do, of which some are their own."""
    yield from node.input
    for attribute in node.attribute:
        bodies = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
        for body in bodies:
            yield from (value.name for value in body.output)
            for inner in body.node:
                yield from read_by(inner)
