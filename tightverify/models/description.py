"""What a model is made of, in plain values."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from tightverify.graph import Apply
from tightverify.models.model import Model

FLOATING = (1, 10, 11, 16)
"""ONNX's numbers for float32, float16, float64 and bfloat16."""


def description(model: Model, path: Path, uncompared: str | None = None) -> dict[str, Any]:
    """What an imported ONNX model is made of, in plain values; `uncompared` says why there was no comparison."""
    import onnx

    from tightverify.models.from_onnx.entries import axes_of, entries_of, shown

    graph, file = model.graph, onnx.load(str(path)).graph
    nodes, neurons = Counter[str](), Counter[str]()
    for node in graph.nodes:
        kind = node.op.name if isinstance(node, Apply) else type(node).__name__.lower()
        nodes[kind] += 1
        neurons[kind] += node.size
    weights = [tensor for tensor in file.initializer if tensor.data_type in FLOATING]
    weights += [a.t for node in file.node for a in node.attribute if node.op_type == "Constant" and a.t.data_type in FLOATING]
    shape = graph.input_shape
    frames = f"{shape[0]} frames of {' x '.join(map(str, shape[1:]))} features" if len(shape) > 1 else f"{shape[0]} features"
    frames = model.shape_words if model.blocks else frames
    asked = f"--region {','.join(f'{block.name}=inf:0.01' for block in model.blocks)}"
    return {
        "model": model.source,
        "inputs in the file": {value.name: shown(axes_of(value)) for value in entries_of(file)},
        "outputs in the file": {value.name: shown(axes_of(value)) for value in file.output},
        "one input": frames,
        **({"perturbed at once": f"for arrays of these names, with regions for each: {asked}"} if model.blocks else {}),
        "outputs": graph.output_size,
        "precision": str(model.dtype).removeprefix("torch."),
        "parameters": sum(math.prod(tensor.dims) for tensor in weights),
        "operators in the file": dict(Counter(node.op_type for node in file.node)),
        "nodes, unrolled": dict(nodes),
        "neurons": dict(neurons),
        "agreement": uncompared or f"import and model were compared on random inputs: equal within {model.agreement:g}",
        "notes": list(model.notes),
    }
