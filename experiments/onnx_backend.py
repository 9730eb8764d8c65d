"""Every node test of the onnx package: what imports and gives the output that is expected, what is refused, what goes wrong.

    python -m experiments.onnx_backend [--operator NAME]

A case has several inputs and outputs. Each input of floats in turn is the network's, with the others made constants, and each
output of floats its output, in three ways: as a row of numbers that is reshaped first; as it is, where its first axis can be a
batch of one (its second axis are frames then); and as a dynamic batch, where all that is asked is that nothing crashes.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase as Case

from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.errors import TightVerifyError
from tightverify.models.from_onnx.bodies import EXPANDED
from tightverify.models.from_onnx.control import CONTROL
from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.from_onnx.shapes import FACTS
from tightverify.models.from_onnx.walk import MOVERS, OPERATORS
from tightverify.models.model import AGREEMENT

Arrays = dict[str, NDArray[Any]]
KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}
WAYS = ("row", "batch of one", "dynamic")
SUPPORTED = sorted({*CONTROL, *EXPANDED, *MOVERS, *OPERATORS, *FACTS})
SHORT = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}
"""Expected outputs of these are written with so few digits."""
AGREES, REFUSED, DIFFERS, CRASHED = "agree", "refused", "differ", "crashed"


@cache
def cases() -> tuple[Case, ...]:
    """All that there are, made by the package itself, which overflows on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(collect_testcases())


def written(case: Case) -> ModelProto:
    """The case's model: all node tests have one."""
    assert case.model is not None
    return case.model


def operators(case: Case) -> set[str]:
    return {str(operator.op_type) for operator in written(case).graph.node}


def is_supported(case: Case) -> bool:
    """Whether all of its operators are, those of constants alone among them."""
    return operators(case) <= {*SUPPORTED, "Constant"}


def arrays_of(values: Sequence[object], names: list[str]) -> Arrays:
    return {name: np.asarray(value) for name, value in zip(names, values, strict=False)}


def models(case: Case) -> Iterator[tuple[str, ModelProto, Arrays, Arrays]]:
    """Which import it is, the model, its input and its expected output."""
    assert case.data_sets
    (given, expected), model = case.data_sets[0], written(case)
    if not all(isinstance(value, np.ndarray | np.generic) for value in (*given, *expected)):
        return  # sequences and optional values
    inputs = arrays_of(given, [entry.name for entry in model.graph.input])
    outputs = arrays_of(expected, [entry.name for entry in model.graph.output])
    for entry, x in inputs.items():
        for result, y in outputs.items():
            if x.dtype in KINDS and y.dtype in KINDS and x.size:
                others = {name: value for name, value in inputs.items() if name != entry}
                for way in WAYS if x.ndim > 1 and len(x) == 1 else (WAYS[0], WAYS[2]):
                    named = f"{case.name}, input {entry}, output {result}, {way}"
                    yield named, model_of(case, (entry, x), (result, y), others, way), {entry: x}, {result: y}


def model_of(
    case: Case, entry: tuple[str, NDArray[Any]], result: tuple[str, NDArray[Any]], others: Arrays, way: str
) -> ModelProto:
    (name, x), (output, y) = entry, result
    model = written(case)
    graph = model.graph
    constants = others | {"the_shape": np.array(x.shape, dtype=np.int64), "the_row": np.array([1, -1])}
    nodes, axes, ends = list(graph.node), list[Any](x.shape), output
    if way == "row":
        nodes.insert(0, helper.make_node("Reshape", ["the_input", "the_shape"], [name]))
        name, axes = "the_input", [1, *(x.shape or (1,))]
    if way == "dynamic":
        axes = ["batch", *x.shape[1:]] if x.ndim else []
    else:
        nodes.append(helper.make_node("Reshape", [output, "the_row"], ["the_output"]))
        ends = "the_output"
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, KINDS[x.dtype], axes)],
        [helper.make_tensor_value_info(ends, KINDS[y.dtype], None)],
        [*(numpy_helper.from_array(value, key) for key, value in constants.items()), *graph.initializer],
    )
    version = max(8, model.ir_version)
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=version, functions=model.functions)


def outcome(case: Case, named: str, model: ModelProto, inputs: Arrays, outputs: Arrays, path: Path) -> tuple[str, str]:
    """What comes of an import, and a sentence where it is refused or goes wrong; nothing of dynamic batches that import."""
    path.write_bytes(model.SerializeToString())
    try:
        network = from_onnx(path)
    except TightVerifyError as error:
        return REFUSED, str(error)
    except Exception as error:  # what the experiment is there to find
        return CRASHED, f"{type(error).__name__}: {error}"
    if named.endswith(WAYS[2]):
        return "", ""  # it was compared with onnxruntime on import, and no output is expected
    (x,), (y,) = inputs.values(), outputs.values()
    ours = network.graph.forward(torch.from_numpy(x.astype(np.float64).reshape(1, -1)))[0].numpy()
    allowed = SHORT.get(case.name, AGREEMENT[torch.float32])
    same = np.allclose(ours, y.ravel(), rtol=allowed, atol=allowed, equal_nan=True)
    return (AGREES, "") if same else (DIFFERS, f"by {np.abs(ours - y.ravel()).max():.3g}")


def group_of(case: Case) -> str:
    """The operator that it is about; of others, whether all of its operators are read."""
    found = operators(case) - {"Constant"}
    if len(found) == 1 and found <= set(SUPPORTED):
        return found.pop()
    return "several operators that are read" if is_supported(case) else "operators that are not read"


@click.command(cls=Experiment)
@click.option("--operator", "names", multiple=True, help="Only cases of an operator; several.")
def main(names: tuple[str, ...]) -> None:
    """The node tests of the onnx package."""
    torch.set_num_threads(1)
    chosen = [(group_of(case), case) for case in cases()]
    counts: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    with TemporaryDirectory() as folder:
        for group, case in sorted(chosen, key=lambda pair: (pair[0].islower(), pair[0][0].islower(), pair[0])):
            if names and group not in names:
                continue
            found = counts.setdefault(group, Counter())
            found["cases"] += 1
            for named, model, inputs, outputs in models(case):
                what, words = outcome(case, named, model, inputs, outputs, Path(folder) / "model.onnx")
                found[what] += 1
                wrong += [f"* {named}: {what}, {words}"] if what in (DIFFERS, CRASHED) else []
    columns = ("cases", AGREES, REFUSED, DIFFERS, CRASHED)
    table = table_of("onnx's node tests: imports of each input and output of floats", "operator", *columns)
    for group, found in counts.items():
        table.add_row(group, *(str(found[column]) for column in columns))
    table.add_row("all", *(str(sum(found[column] for found in counts.values())) for column in columns))
    report(table, *wrong)


if __name__ == "__main__":
    main()
