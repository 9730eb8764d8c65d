"""Long modules, written out operator by operator, as a program that `torch.export` would take minutes for.

The module is called once on tensors that have a shape and a type and no numbers, and every operator that this comes to is
written down. Code that depends on the numbers in tensors fails on these, whatever way it takes to them. What an operator makes
of such tensors is asked of torch (its `meta` device) once for all calls that are alike. A program is made only if it is known
of every tensor where it comes from, nothing is changed in place, nothing is drawn by chance, and no function was called that is
better imported whole; all else is left to `torch.export`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec, OutputKind, OutputSpec, TensorArgument
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

LONG = 500
"""Calls of functions from which on a module is read so; shorter ones are exported, which says more of where a call is."""
RECURRENT = ("lstm", "gru", "rnn_")
REFUSED = {torch.Tag.nondeterministic_seeded, torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Elsewhere(Exception):
    """The module is left to `torch.export`."""


@dataclass(frozen=True, eq=False)
class Traced:
    """What an import reads of a `torch.export.ExportedProgram`."""

    graph: fx.Graph
    graph_signature: ExportGraphSignature
    state_dict: Mapping[str, Tensor]
    constants: Mapping[str, Tensor]


def traced(fresh: Callable[[], nn.Module], x: Tensor, whole: Collection[str]) -> Traced | None:
    """The module as operators, if it is a long one and nothing speaks against it; functions of the names `whole` do.

    `fresh` makes copies, as a call may leave something in a module.
    """
    try:
        with torch.no_grad():
            with Functions() as called:
                fresh()(x)
            if called.count < LONG or not called.names.isdisjoint(whole) or any(map(recurrent, called.names)):
                return None
            return written(fresh(), x)
    except Exception:  # whatever it is, export says it better
        return None


def recurrent(name: str) -> bool:
    """Whether a function is a layer that is imported whole."""
    return name.startswith(RECURRENT)


class Functions(TorchFunctionMode):
    """Counts functions of torch, and keeps their names."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.names = 0, set[str]()

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += 1
        self.names.add(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


class Shaped(Tensor):
    """A tensor without numbers, of which only a `Recorder` makes others."""

    @staticmethod
    def like(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Shaped:
        return Tensor._make_wrapper_subclass(Shaped, shape, strides=strides, dtype=dtype, device=torch.device("cpu"))

    @staticmethod
    def of(tensor: Tensor) -> Shaped:
        return Shaped.like(tensor.shape, tensor.stride(), tensor.dtype)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Shaped({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, *_given: Any, **_named: Any) -> Any:
        raise Elsewhere


def written(module: nn.Module, x: Tensor) -> Traced:
    """What a call of the module comes to, on tensors without numbers."""
    recorder, made_of = Recorder(), dict[int, Shaped]()
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    values = {name: recorder.given(made_of.setdefault(id(value), Shaped.of(value)), name) for name, value in held.items()}
    start = recorder.given(Shaped.of(x))
    module.register_forward_hook(lambda called, *_: refuse_changed(called, values))
    with recorder:
        made = torch.func.functional_call(module, values, (start,))
    return recorder.program(made, held)


def refuse_changed(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Leave a module to export that keeps something of a call."""
    now = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    kept = (each for part in module.modules() for name, value in vars(part).items() for each in flat(value) if name[0] != "_")
    if any(now.get(name) is not value for name, value in values.items()) or any(isinstance(each, Shaped) for each in kept):
        raise Elsewhere


class Recorder(TorchDispatchMode):
    """Writes operators down. Tensors are kept as long as it is, so that they are known by their identity."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.first: fx.Node | None = None
        self.nodes: dict[int, tuple[Tensor, fx.Node]] = {}
        self.inputs: list[InputSpec] = []
        self.constants: dict[str, Tensor] = {}
        self.known: dict[object, Any] = {}
        """what operators make, by what they are given"""
        self.left = False

    def given(self, value: Tensor, name: str | None = None) -> Tensor:
        """A parameter or a buffer of the module, or its input, which has no name; one may have several names."""
        if id(value) not in self.nodes:
            self._input(InputKind.USER_INPUT if name is None else InputKind.PARAMETER, name, value)
        return value

    def _input(self, kind: InputKind, target: str | None, value: Tensor) -> fx.Node:
        with self.graph.inserting_before(self.first):
            node = self.graph.placeholder(f"given_{len(self.inputs)}")
        self.inputs.append(InputSpec(kind, TensorArgument(node.name), target))
        return self._keep(node, value)

    def _keep(self, node: fx.Node, value: Tensor) -> fx.Node:
        node.meta["val"] = value
        self.nodes[id(value)] = value, node
        return node

    def __torch_dispatch__(
        self, function: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args, kwargs = tuple(args), dict(kwargs or {})
        names = [type(value) for value in flat((args, kwargs)) if isinstance(value, Tensor)]
        if not REFUSED.isdisjoint(function.tags) or "empty" in function.__name__:
            raise self._elsewhere()
        if Shaped not in names:
            return function(*args, **kwargs)  # of constants alone: they are worked out
        if function._schema.is_mutable:
            raise self._elsewhere()
        made = self._made(function, args, kwargs)
        node = self.graph.call_function(function, self._nodes(args), self._nodes(kwargs))
        self.first = self.first or node
        if isinstance(made, Tensor):
            self._keep(node, made)
            return made
        node.meta["val"] = made
        for k, each in enumerate(made):
            self._keep(self.graph.call_function(getitem, (node, k)), each)
        return made

    def _made(self, function: Any, args: Any, kwargs: Any) -> Any:
        """New tensors, as what torch makes of any of these shapes and types."""
        key = function, described(args), described(kwargs)
        if key not in self.known:
            made = function(*tree_map(without_numbers, args), **tree_map(without_numbers, kwargs))
            several = made if isinstance(made, list | tuple) else [made]
            if not several or not all(isinstance(each, Tensor) for each in several):
                raise self._elsewhere()
            self.known[key] = type(made) if several is made else None, [(one.shape, one.stride(), one.dtype) for one in several]
        kind, several = self.known[key]
        shaped = [Shaped.like(*each) for each in several]
        return shaped[0] if kind is None else kind(shaped)

    def _nodes(self, value: Any) -> Any:
        """Nodes in place of tensors. Those that have their numbers do not depend on the input: they are constants."""
        if isinstance(value, dict):
            return {name: self._nodes(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self._nodes, value))
        if not isinstance(value, Tensor):
            return value
        if isinstance(value, Shaped):
            return self.nodes[id(value)][1]
        if type(value) not in (Tensor, nn.Parameter):
            raise self._elsewhere()
        before = self.nodes.get(id(value))
        if before is not None and torch.equal(self.constants[str(before[1].meta["constant"])], value):
            return before[1]
        name = f"constant_{len(self.constants)}"
        self.constants[name] = value.detach().clone()  # as it is now: it may be changed later
        node = self._input(InputKind.CONSTANT_TENSOR, name, value)
        node.meta["constant"] = name
        return node

    def _elsewhere(self) -> Elsewhere:
        """What is raised where the module is left to export, also should its own code catch that."""
        self.left = True
        return Elsewhere()

    def program(self, made: Any, held: Mapping[str, Tensor]) -> Traced:
        """All that was written down, up to what the module gives."""
        if self.left or not isinstance(made, Shaped):
            raise Elsewhere
        end = self.nodes[id(made)][1]
        self.graph.output((end,))
        outputs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(end.name), None)]
        return Traced(self.graph, ExportGraphSignature(self.inputs, outputs), dict(held), self.constants)


def flat(value: Any) -> list[Any]:
    """What lies in lists, tuples and dictionaries."""
    if isinstance(value, dict):
        return [each for one in value.values() for each in flat(one)]
    return [each for one in value for each in flat(one)] if isinstance(value, list | tuple) else [value]


def described(value: Any) -> Any:
    """What an operator's answer depends on: shapes and types of tensors, all else as it is."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, dict):
        return tuple((name, described(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(described, value))
    return type(value), value


def without_numbers(value: Any) -> Any:
    """A tensor on torch's device for those that have a shape and a type only."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
