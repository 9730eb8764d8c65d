"""Assignments of VNN-LIB 2.0 as a folder: of every tensor NAME a file NAME.pb, ONNX's TensorProto of its type and shape.

Real numbers are doubles, which all numbers here are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnx import TensorProto, helper

from tightverify.disk import make_folder
from tightverify.inputs.vnnlib.networks import REAL, WHOLE, Declared, values_of

KINDS = {REAL: "DOUBLE", "float32": "FLOAT", "float64": "DOUBLE"}
"""ONNX's names of types that are not called as there, in capitals."""


def files_of(declared: Declared) -> list[str]:
    """The names of the files."""
    return [f"{variable.name}.pb" for network in declared.networks for variable in network.variables]


def write_assignments(folder: Path, declared: Declared, x: Sequence[float], y: Sequence[float]) -> None:
    """The values of all tensors, given those of inputs and of others in the order of their declarations."""
    make_folder(folder, "assignments")
    for variable, values in values_of(declared, x, y):
        kind = getattr(TensorProto, KINDS.get(variable.type, variable.type.upper()))
        exact = [int(value) for value in values] if variable.type in WHOLE else values
        tensor = helper.make_tensor(variable.name, kind, variable.shape, exact)
        (folder / f"{variable.name}.pb").write_bytes(tensor.SerializeToString())
