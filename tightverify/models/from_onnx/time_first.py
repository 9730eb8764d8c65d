"""Recurrent operators of `layout = 1`, which onnxruntime does not run, as those of `layout = 0` between transposes.

Under layout 1 the batch comes first in all that they read and give: X (batch, time, features), states and Y_h and Y_c (batch,
directions, H), Y (batch, time, directions, H).
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper

RECURRENT = ("LSTM", "GRU", "RNN")
READ = {0: (1, 0, 2), 5: (1, 0, 2), 6: (1, 0, 2)}
"""How X, initial_h and initial_c lie under layout 0, by their places among the inputs."""
MADE = {0: (2, 0, 1, 3), 1: (1, 0, 2), 2: (1, 0, 2)}
"""How Y, Y_h and Y_c of layout 0 lie under layout 1."""


def time_first(model: ModelProto) -> ModelProto:
    """The same model, all of its recurrent operators of layout 0; the very one where they are so already."""
    if not any(of_batch_first(node) for graph in graphs_of(model.graph) for node in graph.node):
        return model
    found = ModelProto()
    found.CopyFrom(model)
    for graph in graphs_of(found.graph):
        nodes = [each for node in graph.node for each in (turned(node) if of_batch_first(node) else [node])]
        del graph.node[:]
        graph.node.extend(nodes)
    return found


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph's bodies of loops and branches, innermost first, and itself."""
    for node in graph.node:
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                yield from graphs_of(body)
    yield graph


def of_batch_first(node: NodeProto) -> bool:
    """Whether it is a recurrent operator of layout 1."""
    return node.op_type in RECURRENT and any(a.name == "layout" and a.i != 0 for a in node.attribute)


def turned(node: NodeProto) -> list[NodeProto]:
    """The operator of layout 0 between transposes, under the names of what it makes."""
    inner, before, after = NodeProto(), list[NodeProto](), list[NodeProto]()
    inner.CopyFrom(node)
    del inner.attribute[:]
    inner.attribute.extend(a for a in node.attribute if a.name != "layout")
    made = next(name for name in node.output if name)
    for k, name in enumerate(node.input):
        if name and k in READ:
            inner.input[k] = f"{made}.time_first.{k}"
            before.append(helper.make_node("Transpose", [name], [inner.input[k]], perm=READ[k]))
    for k, name in enumerate(node.output):
        if name:
            inner.output[k] = f"{name}.time_first"
            after.append(helper.make_node("Transpose", [inner.output[k]], [name], perm=MADE[k]))
    return [*before, inner, *after]
