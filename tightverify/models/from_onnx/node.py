"""One node of an ONNX file as an operator's function sees it.

A tensor is either a numpy array, a constant of the file, or `Activations`: the numbers of neurons that depend on the input.
What a function never asked for (an attribute, an input) is refused at its end, so nothing in a file is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper
from torch import Tensor

from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.builder import Builder, Symbols

Constant = NDArray[Any]
NEWEST = 1000
"""An opset later than all."""
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, eq=False)
class Activations:
    """A tensor of neurons; the batch axis of the file is there and has length 1.

    If they are `whole` numbers, that is ONNX's number of their type, else 0.
    """

    numbers: Symbols
    whole: int = 0


@dataclass(frozen=True, eq=False)
class Tokens:
    """A tensor of token numbers: their places in the sentence, and what has been made of each number by itself.

    The batch axis is there too.
    """

    places: Symbols
    made: Callable[[Constant], Constant] = lambda numbers: numbers


Value = Constant | Activations


def describe(node: NodeProto) -> str:
    """Which node it is, for messages: operator, name if it has one, first output."""
    named = f"node '{node.name}', which makes '{node.output[0]}'" if node.name else f"which makes '{node.output[0]}'"
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    return f"the operator {domain}{node.op_type} ({named})"


class Call:
    """A node, its inputs' values, and the builder that takes what it computes."""

    def __init__(self, node: NodeProto, builder: Builder, values: list[Value | None], opset: int = NEWEST) -> None:
        self.builder, self.opset = builder, opset
        self.place = describe(node)
        self.outputs = len(node.output)
        self._node = node
        self._values = values
        self._attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._unread = set(self._attributes)
        self._unseen = {k for k, value in enumerate(values) if value is not None}

    @property
    def count(self) -> int:
        """How many inputs the node lists."""
        return len(self._values)

    def name(self, k: int) -> str:
        return str(self._node.input[k])

    def unsupported(self, what: str, advice: str) -> UnsupportedError:
        return UnsupportedError(f"{self.place}: {what} is not supported; {advice}")

    def finish(self) -> None:
        """Refuse what was not read."""
        if self._unread:
            raise self.unsupported(f"its attribute {min(self._unread)}", "export the model without it")
        if self._unseen:
            raise self.unsupported(f"its input '{self.name(min(self._unseen))}'", "export the model without it")

    def shapes(self) -> str:
        """The inputs' shapes, for messages."""
        known = [value.numbers if isinstance(value, Activations) else value for value in self._values]
        return ", ".join("none" if value is None else str(value.shape) for value in known)

    def has(self, name: str) -> bool:
        return name in self._attributes

    def attribute(self, name: str) -> Any:
        """An attribute's value, None if the node has none of that name."""
        self._unread.discard(name)
        return self._attributes.get(name)

    def integer(self, name: str, default: int) -> int:
        value = self.attribute(name)
        return default if value is None else int(value)

    def number(self, name: str, default: float) -> float:
        """A finite float attribute; ONNX keeps these as float32, its defaults too."""
        value = self.attribute(name)
        number = float(np.float32(default)) if value is None else float(value)
        if not np.isfinite(number):
            raise ModelError(f"{self.place} has {name} = {number}; wanted a finite number: mend the model and export it again")
        return number

    def text(self, name: str, default: str) -> str:
        value = self.attribute(name)
        return default if value is None else bytes(value).decode()

    def texts(self, name: str) -> tuple[str, ...] | None:
        value = self.attribute(name)
        return None if value is None else tuple(bytes(part).decode() for part in value)

    def integers(self, name: str, k: int | None = None) -> tuple[int, ...] | None:
        """A list of integers: the attribute or, as later opsets have it, the constant input k; None if there is neither."""
        value = self.attribute(name)
        if value is None and k is not None and self.given(k):
            value = self.constant(k)
        return None if value is None else tuple(int(part) for part in np.ravel(value))

    def given(self, k: int) -> bool:
        """Whether the node has an input k."""
        return k < len(self._values) and self._values[k] is not None

    def value(self, k: int) -> Value:
        """Input k, constant or not."""
        self._unseen.discard(k)
        value = self._values[k] if k < len(self._values) else None
        if value is None:
            raise ModelError(f"{self.place} lacks its input {k}; export the model again")
        return value

    def constant(self, k: int) -> Constant:
        """Input k, which has to be constant."""
        value = self.value(k)
        if isinstance(value, Activations):
            raise self.unsupported(
                f"an input '{self.name(k)}' that depends on the network's input", "only a constant can stand there: make it one"
            )
        return value

    def weights(self, k: int) -> Tensor:
        """Input k, constant, finite and of float32 or float64, as float64."""
        values = self.floats(k)
        if not np.isfinite(values).all():
            raise ModelError(
                f"{self.place}: its constant '{self.name(k)}' holds NaN or infinite numbers; "
                "wanted finite ones: let masks have -1e9 in place of -inf, or mend the model's weights, and export it again"
            )
        return torch.from_numpy(values)

    def floats(self, k: int) -> NDArray[np.float64]:
        """Input k, constant and of float32 or float64, as float64; infinite where a bound may be."""
        values = self.constant(k)
        if values.dtype not in FLOATS:
            raise self.unsupported(
                f"the constant '{self.name(k)}' of type {values.dtype}", "export the model in float32 or float64"
            )
        return np.array(values, dtype=np.float64)

    def scalar(self, k: int) -> float:
        """Input k, a single constant number that may be infinite."""
        values = self.floats(k)
        if values.size != 1:
            raise self.unsupported(f"the input '{self.name(k)}' of shape {values.shape}", "give one number there")
        if np.isnan(values).any():
            raise ModelError(f"{self.place}: its constant '{self.name(k)}' is NaN; wanted a number: export the model again")
        return float(values.ravel()[0])

    def numbers(self, k: int) -> Symbols:
        """Input k as neurons, constant ones if it is constant."""
        value = self.value(k)
        if isinstance(value, Activations):
            return value.numbers
        return self.builder.constant(self.weights(k))


def type_name(element_type: int) -> str:
    """How ONNX calls a tensor type, for messages."""
    names: dict[int, str] = {number: name for name, number in onnx.TensorProto.DataType.items()}
    return names.get(element_type, f"number {element_type}")


def is_float(element_type: int) -> bool:
    """Whether a tensor type of ONNX is float32 or float64."""
    return element_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
