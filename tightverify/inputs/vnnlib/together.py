"""The networks of a query of VNN-LIB 2.0 as one model: its input are the numbers of all inputs, one after the other, its
outputs those of all hidden nodes and outputs. Each file is run by onnxruntime, with its hidden nodes among its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto
from torch import Tensor

from tightverify.errors import InputError, ModelError, UnsupportedError
from tightverify.inputs.vnnlib.networks import Declared, Network, Variable
from tightverify.models.builder import Builder, Symbols
from tightverify.models.from_onnx.asked import narrows
from tightverify.models.from_onnx.entries import Axes, axes_of, entries_of, shown
from tightverify.models.from_onnx.file import finite
from tightverify.models.from_onnx.node import Activations, Tokens, is_float, type_name
from tightverify.models.from_onnx.reading import brief, read, standard_opset
from tightverify.models.from_onnx.runtime import session
from tightverify.models.from_onnx.sequences import Held, Listed
from tightverify.models.from_onnx.tokens import LookUp
from tightverify.models.from_onnx.walk import walk
from tightverify.models.model import Model, checked

EXACT = 2**53
"""Whole numbers up to here are floats."""
DOUBLE = "tensor(double)"
"""How onnxruntime calls the type."""


@dataclass(frozen=True, eq=False)
class File:
    """A network's file: the names in it of the query's tensors, inputs and others, and what runs it."""

    path: Path
    network: Network
    model: ModelProto
    inputs: tuple[str, ...]
    others: tuple[str, ...]
    runtime: onnxruntime.InferenceSession

    def run(self, x: NDArray[Any], start: int) -> tuple[list[NDArray[Any]], int]:
        """The others' numbers for one input of all, of which its own begin at a place; and where they end."""
        kinds = {entry.name: np.float64 if entry.type == DOUBLE else np.float32 for entry in self.runtime.get_inputs()}
        feeds = {}
        for variable, name in zip(self.network.inputs, self.inputs, strict=True):
            feeds[name] = x[start : start + variable.size].astype(kinds[name]).reshape(variable.shape)
            start += variable.size
        try:
            found = self.runtime.run(list(self.others), feeds)
        except Exception as error:
            raise ModelError(
                f"{self.path}: onnxruntime cannot run it ({brief(error)}); check the shapes that are declared"
            ) from error
        return [as_floats(np.asarray(each)) for each in found], start


def as_floats(values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers in float64, NaN where a whole number is none."""
    found = values.astype(np.float64).ravel()
    return np.where(np.abs(found) >= EXACT, np.nan, found) if values.dtype.kind in "iu" else found


@dataclass(frozen=True, eq=False)
class Together:
    """All files, run on the same inputs (N, n), one by one."""

    files: tuple[File, ...]

    def __call__(self, x: Tensor) -> Tensor:
        rows = [self.one(row) for row in x.detach().cpu().flatten(1).numpy()]
        return torch.from_numpy(np.stack(rows)).to(x.device)

    def one(self, x: NDArray[Any]) -> NDArray[np.float64]:
        start, parts = 0, list[NDArray[Any]]()
        for file in self.files:
            found, start = file.run(x, start)
            parts += found
        return np.concatenate(parts)


def together(declared: Declared, paths: Mapping[str, str | Path]) -> Model:
    """The networks as one model, compared with their files inside the query's boxes, and at random inputs."""
    files = files_of(declared, paths)
    builder, start, outputs = Builder(), 0, list[Symbols]()
    x = builder.input((sum(variable.size for variable in declared.inputs),))
    narrow = False
    for file in files:
        begun: dict[str, Held] = {}
        for name, variable in zip(file.inputs, file.network.inputs, strict=True):
            begun[name] = Activations(x[start : start + variable.size].reshape(variable.shape))
            start += variable.size
        opset = standard_opset(file.model, file.path)
        known = walk(file.model.graph, opset, builder, begun, LookUp(builder, 1))
        others = (*file.network.hidden, *file.network.outputs)
        outputs += [numbers_of(builder, known, name, each, file) for name, each in zip(file.others, others, strict=True)]
        narrow = narrow or narrows(file.model.graph, known)
    source = " and ".join(dict.fromkeys(str(file.path) for file in files))
    graph = finite(builder.graph(np.concatenate(outputs)), Path(source))
    types = {entry.type for file in files for entry in file.runtime.get_inputs()}
    dtype = torch.float64 if types == {DOUBLE} else torch.float32
    model = Model(graph, Together(files), dtype, source, narrow=narrow)
    return checked(model, samples(declared))


def samples(declared: Declared) -> Tensor:
    """Some inputs that the query is about."""
    lower, upper = declared.query.lower[:4], declared.query.upper[:4]
    shares = torch.rand((4, *lower.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (lower + shares * (upper - lower)).flatten(0, 1)


def numbers_of(builder: Builder, known: Mapping[str, Held], name: str, variable: Variable, file: File) -> Symbols:
    """The neurons of a tensor that the query names, constant ones if it is constant."""
    value = known.get(name)
    if value is None or isinstance(value, (Tokens, Listed)):
        raise ModelError(f"{file.path}: no node makes '{name}', which the query calls {variable.name}; mend the query")
    if isinstance(value, Activations):
        found = value.numbers
    else:
        found = builder.constant(torch.from_numpy(np.asarray(value, dtype=np.float64)))
    if found.shape != variable.shape:
        raise misshapen(variable, found.shape, file.path)
    return found.ravel()


def files_of(declared: Declared, paths: Mapping[str, str | Path]) -> tuple[File, ...]:
    """The networks' files; every network has its own, but for those that are equal to another."""
    needed = {network.name for network in declared.networks if network.relation != "equal-to"}
    missing, needless = sorted(needed - paths.keys()), sorted(paths.keys() - needed)
    if missing or needless:
        what = f"the network {missing[0]} has no file" if missing else f"no file is wanted for {needless[0]}"
        raise InputError(f"{what}; give one for each of {', '.join(sorted(needed))}: --network NAME=MODEL.onnx")
    files: dict[str, File] = {}
    for network in declared.networks:
        own = network.name
        while own not in paths:
            own = next(each.other for each in declared.networks if each.name == own)
        files[network.name] = file_of(network, Path(paths[own]))
        if network.relation == "isomorphic-to":
            refuse_unlike(files[network.name], files[network.other])
    return tuple(files.values())


def refuse_unlike(one: File, other: File) -> None:
    """Networks that are said to be isomorphic have the same operators in the same order."""
    kinds = [[node.op_type for node in file.model.graph.node] for file in (one, other)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{one.network.name} is isomorphic-to {other.network.name}, but {one.path} and {other.path} differ in structure"
        )


def file_of(network: Network, path: Path) -> File:
    """A network's file, if it is what the query declares."""
    model = read(path)
    entries = entries_of(model.graph)
    inputs = matched(network.inputs, entries, path, "input")
    for variable, entry in zip(network.inputs, inputs, strict=True):
        if not is_float(entry.type.tensor_type.elem_type):
            kind = type_name(entry.type.tensor_type.elem_type)
            raise UnsupportedError(f"{path}: its input '{entry.name}' is of type {kind}; wanted FLOAT or DOUBLE")
        axes = axes_of(entry)
        if axes is not None and not fitting(variable.shape, axes):
            raise misshapen(variable, axes, path)
    outputs = matched(network.outputs, list(model.graph.output), path, "output")
    hidden = [str(variable.onnx) for variable in network.hidden]
    shown_too = ModelProto()
    shown_too.CopyFrom(model)
    there = {value.name for value in model.graph.output}
    shown_too.graph.output.extend(ValueInfoProto(name=name) for name in hidden if name not in there)
    made = {name for node in model.graph.node for name in node.output}
    lost = next((name for name in hidden if name not in made), None)
    if lost is not None:
        raise ModelError(f"{path}: no node makes '{lost}', which the query wants as a hidden node; mend the query")
    names = (*hidden, *(value.name for value in outputs))
    return File(path, network, model, tuple(value.name for value in inputs), names, session(shown_too, path))


def fitting(shape: tuple[int, ...], axes: Axes) -> bool:
    """Whether a shape is one that a file's axes allow."""
    return len(shape) == len(axes) and all(isinstance(n, str) or m == n for m, n in zip(shape, axes, strict=True))


def misshapen(variable: Variable, shape: Axes, path: Path) -> InputError:
    return InputError(f"{variable.name} is declared of shape {list(variable.shape)}; in {path} it has {shown(shape)}")


def matched(variables: tuple[Variable, ...], values: list[ValueInfoProto], path: Path, what: str) -> list[ValueInfoProto]:
    """The file's inputs or outputs for those declared, by name if the query gives names, else in order."""
    if len(variables) != len(values):
        raise InputError(f"{len(variables)} {what}s are declared, and {path} has {len(values)}; declare them all")
    by_name = {value.name: value for value in values}
    found = [values[k] if each.onnx is None else by_name.get(each.onnx) for k, each in enumerate(variables)]
    if len({each.onnx is None for each in variables}) > 1:
        raise InputError(
            f"some {what}s of {path} are declared with their names in the file, and some without; name all or none"
        )
    for variable, value in zip(variables, found, strict=True):
        if value is None:
            raise InputError(f"{path} has no {what} '{variable.onnx}'; it has {', '.join(map(repr, by_name))}")
    return [value for value in found if value is not None]
