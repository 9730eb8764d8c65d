"""A torch module as a program of ATen operators that the import reads.

Most modules come out of `torch.export` in operators that are read as they are. Others are decomposed into core operators first,
which takes several times as long as all the rest of an import.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from operator import getitem
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.decomp_utils import CustomDecompTable
from torch.export.graph_signature import InputKind

from tightverify.errors import ModelError
from tightverify.models.from_torch.operators import OPERATORS
from tightverify.models.from_torch.traced import Traced

KEPT = {
    "celu",
    "elu",
    "adaptive_avg_pool1d",
    "adaptive_max_pool1d",
    "avg_pool1d",
    "group_norm",
    "hardsigmoid",
    "instance_norm",
    "hardswish",
    "layer_norm",
    "lerp",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "max_pool1d",
    "mish",
    "prelu",
    "rms_norm",
    "roll",
    "softmax",
    "softplus",
    "softshrink",
    "std",
    "std_mean",
    "var",
    "var_mean",
}
"""Operators that are better kept whole: they are imported as one, or refused by the name that the user wrote."""

Program = ExportedProgram | Traced

BY_WEIGHTS = {torch.ops.aten.matmul.default, torch.ops.aten.linear.default}
"""Operators that are read as they are where the matrix and the shift are constants: core operators say which product else."""


def export(module: nn.Module, x: Tensor, source: str) -> ExportedProgram:
    """The module as operators that are read as they are, or else as core ATen operators, recurrent layers and `KEPT` whole."""
    try:
        with torch.no_grad(), silence():
            program: ExportedProgram = torch.export.export(module, (x,), strict=False)
            return program if all_read(program) else program.run_decompositions(decompositions())
    except Exception as error:
        raise ModelError(
            f"{source} cannot be exported by torch.export ({reason_of(error)}): let its Python code depend on "
            "shapes only, never on the numbers in tensors, and pack no sequences but those of full length"
        ) from error


def decompositions() -> CustomDecompTable:
    """Torch's own, without operators that are kept whole."""
    table = torch.export.default_decompositions()
    for operator in list(table):
        name = str(operator).split(".")[1]
        if name in KEPT or any(kind in name for kind in ("lstm", "gru", "rnn_")):
            del table[operator]
    return table


def all_read(program: Program) -> bool:
    """Whether a program changes nothing in place, and all that depends on its input is made by operators that are read."""
    inputs = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT}
    reached: set[fx.Node] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in inputs:
            reached.add(node)
        elif node.op not in ("placeholder", "output"):
            depends = not reached.isdisjoint(node.all_input_nodes)
            if not is_read(node, depends, reached):
                return False
            reached |= {node} if depends else set()
    return True


def refused_behind(program: Program, first: fx.Node) -> list[fx.Node]:
    """The calls behind one whose operators are not read, of those that depend on the input."""
    inputs = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT}
    reached: set[fx.Node] = set()
    found: list[fx.Node] = []
    behind = False
    for node in program.graph.nodes:
        if node.name in inputs or not reached.isdisjoint(node.all_input_nodes):
            reached.add(node)
            unread = isinstance(node.target, torch._ops.OpOverload) and str(node.target) not in OPERATORS
            found += [node] if behind and unread else []
        behind = behind or node is first
    return found


def is_read(node: fx.Node, depends: bool, reached: set[fx.Node]) -> bool:
    """Whether one call is read as it is; what does not depend on the input is worked out by torch, whatever it is."""
    if node.target is getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload) or node.target._schema.is_mutable:
        return False
    if depends and node.target in BY_WEIGHTS:
        weight = cast(fx.Node, node.args[1])
        return reached.isdisjoint(node.all_input_nodes[1:]) and cast(Tensor, weight.meta["val"]).dim() == 2
    return not depends or node.target is torch.ops.aten.embedding.default or str(node.target) in OPERATORS


@contextmanager
def silence() -> Iterator[None]:
    """Export warns of what is no concern of the user's, and logs and prints what is raised anyway."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    unread = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(unread), redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def reason_of(error: Exception) -> str:
    """An error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
