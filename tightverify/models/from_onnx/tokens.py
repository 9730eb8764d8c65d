"""What a file may do with token numbers before they are vectors: move them about, and `Gather` the rows of one constant table.

In place of token numbers go their places in the sentence, in place of the gathered vectors the neurons of the input. What is
made of each number by itself must leave it what it is, for all numbers that the table has. Whatever else a file would make of
the numbers is refused: it would not be seen behind the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from tightverify.embedding import Embedding
from tightverify.errors import UnsupportedError
from tightverify.models.builder import Builder, Symbols
from tightverify.models.from_onnx.node import FLOATS, Activations, Call, Constant, Tokens, Value, describe
from tightverify.models.from_onnx.shapes import FACTS, SHAPES

WHOLE = (TensorProto.INT64, TensorProto.INT32)
MOVED = {"Identity", "Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
TABLE = "tightverify.table"
"""The name of the input that takes the constant table's place."""


ELEMENTWISE = {
    "Add", "And", "Cast", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Neg", "Not", "Or", "Sub", "Where"
}  # fmt: skip
"""What may be made of each number by itself: a negative one counted from the table's end, as Keras writes it."""
Fold = Callable[[list[Constant | None]], list[Constant]]
"""What a node makes of constants."""


@dataclass(eq=False)
class LookUp:
    """The constants in which a file looks its words up: there has to be one; `kind` is the type of the numbers."""

    builder: Builder
    length: int
    kind: DTypeLike = np.int64
    name: str = ""
    table: Constant | None = None
    vectors: Symbols | None = None

    def values(self, node: NodeProto, read: Sequence[Value | Tokens | None], fold: Fold) -> Sequence[Value | Tokens]:
        """What an operator makes of what it reads, token numbers among it."""
        if node.op_type == "Gather" and isinstance(read[1], Tokens) and isinstance(read[0], np.ndarray):
            return [Activations(self._vectors(node, read[0], read[1])[read[1].places])]
        if node.op_type in ELEMENTWISE and (places := common_places(read)) is not None:
            return [Tokens(places, partial(each_by_itself, read, fold))]
        others = any(isinstance(value, Tokens) for value in read[1:])
        placed: list[Value | None] = [Activations(value.places) if isinstance(value, Tokens) else value for value in read]
        if node.op_type in FACTS:
            return [FACTS[node.op_type](Call(node, self.builder, placed))]
        if node.op_type not in MOVED or others:
            raise UnsupportedError(
                f"{describe(node)} reads token numbers, which may only be looked up in a constant table (Gather); leave masks "
                "of padding out, and give each sentence at its own length"
            )
        call = Call(node, self.builder, placed)
        moved = SHAPES[node.op_type](call)
        call.finish()
        first = read[0]
        assert isinstance(first, Tokens)
        return [replace(first, places=each) for each in (moved if isinstance(moved, list) else [moved])]

    def _vectors(self, node: NodeProto, table: Constant, tokens: Tokens) -> Symbols:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if axis != 0 or table.ndim != 2 or table.dtype not in FLOATS:
            raise UnsupportedError(
                f"{describe(node)} looks words up along axis {axis} of a {table.dtype} constant of shape {table.shape}; wanted "
                "a table of float32 or float64, a row for each word"
            )
        numbers = np.arange(len(table))
        made = tokens.made(numbers.astype(self.kind))
        if not np.array_equal(np.where(made < 0, made + len(table), made), numbers):
            raise UnsupportedError(f"{describe(node)} looks up rows of other numbers than the words'; number them as the rows")
        if self.vectors is None:
            self.name, self.table = str(node.input[0]), table
            self.vectors = self.builder.input((self.length, table.shape[1]))
        elif self.name != node.input[0]:
            raise UnsupportedError(f"{describe(node)} looks words up in another table than before; join the two into one")
        return self.vectors


def common_places(read: Sequence[Value | Tokens | None]) -> Symbols | None:
    """The places of all token numbers read, if they are the same, and all else is a single constant number."""
    places = [value.places for value in read if isinstance(value, Tokens)]
    others = [value for value in read if not isinstance(value, Tokens)]
    plain = all(isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= places[0].ndim for value in others)
    same = all(np.array_equal(each, places[0]) for each in places)
    return places[0] if plain and same else None


def each_by_itself(read: Sequence[Value | Tokens | None], fold: Fold, numbers: Constant) -> Constant:
    """What a node makes of token numbers, given those that the file begins with."""
    values = [value.made(numbers) if isinstance(value, Tokens) else np.asarray(value).reshape(()) for value in read]
    return fold(list(values))[0]


def takes_tokens(graph: GraphProto, name: str) -> bool:
    """Whether a floating input holds token numbers: nothing reads it before it is cast to whole numbers, which look rows up."""
    constants = {tensor.name for tensor in graph.initializer}
    constants.update(node.output[0] for node in graph.node if node.op_type == "Constant")
    moved, whole, looked_up = {name}, set[str](), False
    for node in graph.node:
        if moved.intersection(node.input):
            if node.op_type == "Cast" and any(a.name == "to" and a.i in WHOLE for a in node.attribute):
                whole.update(node.output)
            elif node.op_type in (*MOVED, "Cast"):
                moved.update(node.output)
            elif node.op_type not in FACTS:
                return False
        elif whole.intersection(node.input):
            looked_up = looked_up or (node.op_type == "Gather" and node.input[0] in constants and node.input[1] in whole)
            whole.update(node.output)
    return looked_up


def embedding_of(model: ModelProto) -> Embedding | None:
    """The table in which a file looks its words up, as far as that is seen without an import: a constant that is gathered."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in constants and node.input[1] not in constants:
            table = numpy_helper.to_array(constants[node.input[0]])
            if table.ndim == 2 and table.dtype in FLOATS:
                return Embedding(torch.from_numpy(np.array(table)))
    return None


def with_table_given(model: ModelProto, name: str, width: int, kind: NDArray[np.generic]) -> ModelProto:
    """The same model, which takes the table of a name as an input, wherever words are looked up in it."""
    found = ModelProto()
    found.CopyFrom(model)
    for node in found.graph.node:
        if node.op_type == "Gather" and node.input[0] == name:
            node.input[0] = TABLE
    type_ = helper.np_dtype_to_tensor_dtype(kind.dtype)
    found.graph.input.append(helper.make_tensor_value_info(TABLE, type_, [None, width]))
    return found


def on_table(run: Callable[[Tensor, dict[str, NDArray[np.generic]]], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A model that takes its table as an input, as a function of token numbers and of the table."""
    return lambda tokens, table: run(tokens, {TABLE: table.detach().cpu().numpy()})
