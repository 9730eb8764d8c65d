"""An ONNX graph's nodes in order, each worked out on constants or turned into neurons.

What depends on constants alone is what onnx's own reference makes of it, in the file's own precision: onnxruntime folds
it into constants as well. What depends on the input goes through the tables of operators; adding one is a function and a
line in its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto

from tightverify.errors import ModelError, TightVerifyError, UnsupportedError
from tightverify.models.builder import ZERO, Builder, Symbols
from tightverify.models.composed import SPECTRA
from tightverify.models.from_onnx import whole
from tightverify.models.from_onnx.bodies import EXPANDED, body, versions
from tightverify.models.from_onnx.comparisons import COMPARISONS
from tightverify.models.from_onnx.contracting import CONTRACTING
from tightverify.models.from_onnx.control import ADVICE, CONTROL, Scope
from tightverify.models.from_onnx.curved import CURVED
from tightverify.models.from_onnx.folding import constants_of, fold
from tightverify.models.from_onnx.node import Activations, Call, Constant, Tokens, Value, describe
from tightverify.models.from_onnx.normalising import NORMALISING
from tightverify.models.from_onnx.operators import COMPUTING
from tightverify.models.from_onnx.recurrent import RECURRENT
from tightverify.models.from_onnx.resizing import RESIZING
from tightverify.models.from_onnx.sequences import Held, Listed, handled
from tightverify.models.from_onnx.shapes import FACTS, SHAPES
from tightverify.models.from_onnx.tokens import LookUp
from tightverify.models.from_onnx.windows import WINDOWS
from tightverify.models.sizes import MISFITS, TooLarge, in_short

OPERATORS: dict[str, Callable[[Call], Symbols | list[Symbols]]] = {
    **SHAPES,
    **COMPUTING,
    **COMPARISONS,
    **CONTRACTING,
    **CURVED,
    **NORMALISING,
    **RESIZING,
    **WINDOWS,
    **RECURRENT,
}

MOVERS = {"Compress", "DepthToSpace", "GatherElements", "GatherND", "SpaceToDepth", "Trilu"}
"""Operators that only move their first input's numbers about, or put zeros in their places, by what the others are."""

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
NEVER_FOLDED = {"Dropout", *RECURRENT}
"""Operators that the tables treat on constants too: the reference knows only some of their attributes."""

ORDER_KEEPING = "remove it from the end of the model: it does not change which output is the largest"
QUANTISED = "weights alone may be quantised, activations not: export those without quantisation, in float32 or float64"
REFUSED = {
    **dict.fromkeys(("ArgMax", "Hardmax"), ORDER_KEEPING),
    "SequenceMap": ADVICE,
    **dict.fromkeys(("STFT", "DFT"), SPECTRA),
    **dict.fromkeys(RANDOM, "export the model after `model.eval()`, so that it computes the same every time"),
}
"""What to do about operators that people often bring."""


def walk(graph: GraphProto, opset: int, builder: Builder, inputs: Mapping[str, Held], look_up: LookUp) -> dict[str, Held]:
    """Every tensor of the graph by its name; token numbers go through `look_up`. `inputs` are all that it sees."""
    known: dict[str, Held] = dict(inputs)
    known.update(constants_of(graph))
    results = {output.name for output in graph.output}
    for node in graph.node:
        if node.op_type in CONTROL:
            scope = Scope(known, builder, lambda body, given: walk(body, opset, builder, given, look_up))
            steps = CONTROL[node.op_type](node, scope)
            known.update({name: value for name, value in zip(node.output, steps, strict=False) if name})
            continue
        for name in node.input:
            if name and name not in known:
                raise UnsupportedError(
                    f"{describe(node)} reads '{name}', an output that is not supported of the operator that makes it; "
                    "export the model without it"
                )
        read = [known[name] if name else None for name in node.input]
        listed = handled(node, read, builder)
        if listed is not None:
            known.update(zip(node.output, listed, strict=False))
            continue
        with_tokens = [value for value in read if not isinstance(value, Listed)]
        values = [value for value in with_tokens if not isinstance(value, Tokens)]
        if len(values) < len(read):
            folded = partial(fold, node, opset)
            known.update(zip(node.output, look_up.values(node, with_tokens, folded), strict=False))
            continue
        made = evaluate(node, opset, builder, values, bool(results.intersection(node.output)))
        known.update({name: value for name, value in zip(node.output, made, strict=False) if name})
    return known


def evaluate(node: NodeProto, opset: int, builder: Builder, values: list[Value | None], last: bool) -> list[Value]:
    """A node's outputs."""
    refuse(node, last)
    constants = [value for value in values if not isinstance(value, Activations)]
    if len(constants) == len(values) and node.op_type not in NEVER_FOLDED:
        return list(fold(node, opset, constants))
    if node.op_type in MOVERS and len(constants) == len(values) - 1 and isinstance(values[0], Activations):
        return [moved(node, opset, values[0], constants)]
    refuse_unknown(node, opset)
    if node.op_type not in OPERATORS and node.op_type not in FACTS:
        return expanded(node, opset, builder, values)
    kind = whole.type_of(values)
    if kind:
        values = whole.admitted(node, values, kind)
    call = Call(node, builder, values, opset)
    try:
        if node.op_type in FACTS:
            made: list[Value] = [FACTS[node.op_type](call)]
        else:
            numbers = OPERATORS[node.op_type](call)
            parts = numbers if isinstance(numbers, list) else [numbers]
            made = [Activations(np.asarray(part), whole.made(node, kind)) for part in parts]
    except TooLarge as error:
        raise UnsupportedError(f"{call.place} is too large: {error}") from error
    except TightVerifyError:
        raise
    except MISFITS as error:
        raise ModelError(
            f"{call.place} does not fit its inputs of shapes {call.shapes()} ({in_short(error)}); check `shape` and "
            "`batch_axis`"
        ) from error
    call.finish()
    return made


def moved(node: NodeProto, opset: int, x: Activations, others: Sequence[Constant | None]) -> Value:
    """What is found out of an operator by the places of its numbers, counted from 1, which it moves; 0 where it puts zeros."""
    places = np.arange(1, x.numbers.size + 1, dtype=np.float64).reshape(x.numbers.shape)
    (found,) = fold(node, opset, [places, *others])
    numbers = np.append(np.array([ZERO]), x.numbers.ravel())
    return Activations(numbers[found.astype(np.int64)], x.whole)


def expanded(node: NodeProto, opset: int, builder: Builder, values: list[Value | None]) -> list[Value]:
    """What the standard's definition of an operator by others makes."""
    inner = body(node, opset, values)
    if node.op_type in MOVERS or inner is None:
        raise unknown(node)
    given = {name: value for name, value in zip(node.input, values, strict=True) if name and value is not None}
    try:
        known = walk(inner.graph, inner.opset_import[0].version, builder, given, LookUp(builder, 0))
    except ModelError as error:
        raise type(error)(f"{describe(node)} is defined by others, of which {error}") from error
    made = [known[name] if name else np.empty(0) for name in node.output]
    return [value for value in made if not isinstance(value, (Tokens, Listed))]


def refuse(node: NodeProto, last: bool) -> None:
    """An operator that no table has, or has only where nothing depends on the input."""
    if node.domain not in ("", "ai.onnx"):
        raise UnsupportedError(f"{describe(node)} is not a standard one; export the model with standard ONNX operators only")
    branches = any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)
    if node.op_type in REFUSED or branches:
        advice = REFUSED.get(node.op_type, ADVICE)
        if advice is ORDER_KEEPING and not last:
            advice = "only at the end of a model could it be left away; here the model has to be built without it"
        raise UnsupportedError(f"{describe(node)} is not supported; {advice}")


def refuse_unknown(node: NodeProto, opset: int) -> None:
    """An operator on activations that no table has, nor the standard a definition of by others."""
    known = node.op_type in (*OPERATORS, *FACTS, *MOVERS)
    if not known and (quantises(node) or not versions(node, opset)):
        raise unknown(node)


def quantises(node: NodeProto) -> bool:
    return "Quant" in node.op_type or node.op_type.startswith("QLinear") or node.op_type.endswith("Integer")


def unknown(node: NodeProto) -> UnsupportedError:
    """What there is in place of an operator."""
    near = get_close_matches(node.op_type, [*OPERATORS, *FACTS, *EXPANDED, *MOVERS], n=2, cutoff=0.7)
    nearest = f" (there are {' and '.join(near)})" if near else ""
    others = f"build that part of the model from those that `tightverify supports --onnx-operators` lists{nearest}"
    advice = QUANTISED if quantises(node) else others
    return UnsupportedError(f"{describe(node)} is not supported; {advice}")
