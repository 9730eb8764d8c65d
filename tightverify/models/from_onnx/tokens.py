"""What a file may do with token numbers before they are vectors: move them about, and `Gather` the rows of one constant table.

In place of token numbers go their places in the sentence, in place of the gathered vectors the neurons of the input. Whatever
else a file would make of the numbers is refused: it would not be seen behind the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
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


@dataclass(eq=False)
class LookUp:
    """The constants in which a file looks its words up: there has to be one."""

    builder: Builder
    length: int
    name: str = ""
    table: Constant | None = None
    vectors: Symbols | None = None

    def values(self, node: NodeProto, read: Sequence[Value | Tokens | None]) -> Sequence[Value | Tokens]:
        """What an operator makes of what it reads, token numbers among it."""
        if node.op_type == "Gather" and isinstance(read[1], Tokens) and isinstance(read[0], np.ndarray):
            return [Activations(self._vectors(node, read[0])[read[1].places])]
        if node.op_type == "Cast" and any(a.name == "to" and a.i in WHOLE for a in node.attribute):
            return [value for value in read if value is not None]
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
        return [Tokens(each) for each in (moved if isinstance(moved, list) else [moved])]

    def _vectors(self, node: NodeProto, table: Constant) -> Symbols:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if axis != 0 or table.ndim != 2 or table.dtype not in FLOATS:
            raise UnsupportedError(
                f"{describe(node)} looks words up along axis {axis} of a {table.dtype} constant of shape {table.shape}; wanted "
                "a table of float32 or float64, a row for each word"
            )
        if self.vectors is None:
            self.name, self.table = str(node.input[0]), table
            self.vectors = self.builder.input((self.length, table.shape[1]))
        elif self.name != node.input[0]:
            raise UnsupportedError(f"{describe(node)} looks words up in another table than before; join the two into one")
        return self.vectors


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
