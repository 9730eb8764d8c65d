"""Loop, Scan and If, where everything that decides about them is constant: steps are walked one after the other.

Their bodies see all tensors around them. How often a loop runs, and which branch is taken, has to be known without the
network's input: a loop that ends where a number of it falls below another is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from onnx import GraphProto, NodeProto, helper

from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.builder import Builder, Symbols
from tightverify.models.from_onnx.node import Activations, Tokens, Value, describe
from tightverify.models.from_onnx.sequences import Held, Listed

MOST_STEPS = 1_000_000
ADVICE = "export the model with its loops unrolled and its branches decided, for one fixed input shape"

Known = dict[str, Held]
Walk = Callable[[GraphProto, Mapping[str, Held]], Known]
"""Walks a body, given its inputs and all that it sees."""


@dataclass(frozen=True, eq=False)
class Scope:
    """What a node's bodies see, and how they are walked."""

    known: Mapping[str, Held]
    builder: Builder
    walk: Walk

    def run(self, body: GraphProto, inputs: Sequence[Held]) -> list[Held]:
        """A body's outputs."""
        names = [entry.name for entry in body.input]
        if len(names) != len(inputs):
            raise ModelError(f"a body takes {len(names)} inputs and is given {len(inputs)}; export the model again")
        found = self.walk(body, {**self.known, **dict(zip(names, inputs, strict=True))})
        return [found[output.name] for output in body.output]

    def constant(self, node: NodeProto, k: int, usual: int | bool) -> int | bool:
        """Input k, which decides about the node; `usual` if it is not given."""
        if k >= len(node.input) or not node.input[k]:
            return usual
        return decided(node, self.known[node.input[k]])

    def stacked(self, node: NodeProto, steps: Sequence[Held], axis: int) -> Value:
        """The values of all steps, side by side along a new axis."""
        if not steps:
            raise UnsupportedError(
                f"{describe(node)} runs no step, so that the shape of what it gathers is not known; {ADVICE}"
            )
        if all(isinstance(step, np.ndarray) for step in steps):
            return np.stack([np.asarray(step) for step in steps], axis)
        return Activations(np.stack([self.symbols(node, step) for step in steps], axis))

    def symbols(self, node: NodeProto, value: Held) -> Symbols:
        if isinstance(value, Tokens):
            raise UnsupportedError(f"{describe(node)} gathers token numbers, which is not supported; look words up before it")
        if isinstance(value, Listed):
            raise UnsupportedError(
                f"{describe(node)} gathers sequences of tensors, which is not supported; join them before it"
            )
        if isinstance(value, Activations):
            return value.numbers
        return self.builder.constant(torch.from_numpy(np.array(value)))


def decided(node: NodeProto, value: Held) -> int | bool:
    """A constant of one number."""
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise UnsupportedError(f"{describe(node)} depends on the numbers of the network's input; {ADVICE}")
    found: int | bool = value.reshape(()).item()
    return found


def body_of(node: NodeProto, name: str) -> GraphProto:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if not isinstance(attributes.get(name), GraphProto):
        raise ModelError(f"{describe(node)} lacks its {name}; export the model again")
    found: GraphProto = attributes[name]
    return found


def branch(node: NodeProto, scope: Scope) -> list[Held]:
    taken = "then_branch" if scope.constant(node, 0, False) else "else_branch"
    return scope.run(body_of(node, taken), [])


def loop(node: NodeProto, scope: Scope) -> list[Held]:
    """Inputs are the most steps, whether there is a first one, and states; a body gives whether there is another, too."""
    body, most = body_of(node, "body"), scope.constant(node, 0, MOST_STEPS)
    goes_on: int | bool = scope.constant(node, 1, True)
    states: list[Held] = [scope.known[name] for name in node.input[2:]]
    gathered: list[list[Held]] = [[] for _ in range(len(body.output) - 1 - len(states))]
    for step in count():
        if step >= most or not goes_on:
            break
        if step >= MOST_STEPS:
            raise UnsupportedError(f"{describe(node)} runs more than {MOST_STEPS} steps; {ADVICE}")
        again, *made = scope.run(body, [np.array(step, dtype=np.int64), np.array(True), *states])
        goes_on = step + 1 < most and decided(node, again)
        states = made[: len(states)]
        for steps, value in zip(gathered, made[len(states) :], strict=True):
            steps.append(value)
    wanted = node.output[len(states) :]
    return [*states, *(scope.stacked(node, s, 0) if name else np.empty(0) for s, name in zip(gathered, wanted, strict=False))]


def scan(node: NodeProto, scope: Scope) -> list[Held]:
    """Inputs are states, and sequences of which each step takes the next part."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if "" in node.input or "directions" in attributes:
        raise UnsupportedError(f"{describe(node)} is that of opset 8, which is not supported; export the model for a later one")
    body, several = body_of(node, "body"), int(attributes["num_scan_inputs"])
    values = [scope.known[name] for name in node.input]
    states, sequences = values[: len(values) - several], values[len(values) - several :]
    outputs = len(body.output) - len(states)
    in_axes, in_turned = listed(attributes, "scan_input", several)
    out_axes, out_turned = listed(attributes, "scan_output", outputs)
    parts = [split(node, scope, *each) for each in zip(sequences, in_axes, in_turned, strict=True)]
    gathered: list[list[Held]] = [[] for _ in range(outputs)]
    for step in zip(*parts, strict=True):
        made = scope.run(body, [*states, *step])
        states = made[: len(states)]
        for steps, value in zip(gathered, made[len(states) :], strict=True):
            steps.append(value)
    whole = [
        scope.stacked(node, s[::-1] if back else s, axis) for s, axis, back in zip(gathered, out_axes, out_turned, strict=True)
    ]
    return [*states, *whole]


def listed(attributes: Mapping[str, object], name: str, number: int) -> tuple[list[int], list[int]]:
    """The axes, and whether they are gone along backwards."""
    axes, turned = attributes.get(f"{name}_axes"), attributes.get(f"{name}_directions")
    return list(axes or [0] * number), list(turned or [0] * number)  # type: ignore[call-overload]


def split(node: NodeProto, scope: Scope, value: Held, axis: int, back: int) -> list[Value]:
    """The parts along an axis."""
    numbers = value if isinstance(value, np.ndarray) else scope.symbols(node, value)
    parts = list(np.moveaxis(numbers, axis, 0))
    parts = parts[::-1] if back else parts
    return [part if isinstance(value, np.ndarray) else Activations(part) for part in parts]


CONTROL: dict[str, Callable[[NodeProto, Scope], list[Held]]] = {"If": branch, "Loop": loop, "Scan": scan}
"""Nodes with bodies, by name."""
