"""All that keeps a file from being imported is said at once: operators with their first nodes and numbers, and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.helpers.refusals import assert_one_sentence
from tightverify.cli.main import main
from tightverify.models.from_onnx.survey import survey

WEIGHTS = {"W": np.ones((1, 8, 3)), "R": np.ones((1, 8, 2)), "zero": np.array([0]), "flat": np.array([1, 7])}
SINES = [
    helper.make_node("Sin", ["x"], ["a"], name="wave"),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("Cos", ["b"], ["c"], name="other"),
    helper.make_node("Sin", ["c"], ["d"]),
]
LAYER = [
    helper.make_node("LSTM", ["x", "W", "R"], ["", "e"], hidden_size=2, activations=["Sigmoid", "Tanh", "Sin"], name="layer"),
    helper.make_node("Squeeze", ["e", "zero"], ["y"]),
]


def saved(folder: Path, nodes: list[NodeProto], axes: list[int | str], *others: str, constants: Any = None) -> Path:
    float_ = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", float_, axes)]
    inputs += [helper.make_tensor_value_info(name, float_, [1]) for name in others]
    constants = [
        numpy_helper.from_array(np.asarray(v, np.float32 if v.ndim > 1 else np.int64), k)
        for k, v in (constants or WEIGHTS).items()
    ]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", float_, None)], constants)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_every_operator_is_named_with_its_first_node_and_their_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, [*SINES, helper.make_node("Identity", ["d"], ["y"])], ["t", "n", 3])
    found = survey(path, (4, 3), batch_axis=1)
    assert {name: count for name, (count, _) in found.refused.items()} == {"Sin": 2, "Cos": 1}
    assert "node 'wave', which makes 'a'" in found.words[0]
    assert main(["info", str(path)]) == 2
    assert_one_sentence(capsys, "In the way are: Sin, 2 nodes: is not supported", tmp_path / "never")


def test_what_refuses_an_attribute_is_found_where_the_shape_is_known(tmp_path: Path) -> None:
    path = saved(tmp_path, LAYER, ["t", "n", 3])
    assert "activation Sin" in survey(path, (4, 3), batch_axis=1).refused["LSTM"][1]
    guessed = survey(path, batch_axis=1)
    assert guessed.options == ["--shape 20,3"]
    assert not guessed.refused
    assert guessed.doubtful


FILTERED = [
    helper.make_node("Unsqueeze", ["x", "one"], ["u"]),
    helper.make_node("Conv", ["u", "k"], ["c"], strides=[128]),
    helper.make_node("MatMul", ["c", "v"], ["m"]),
    helper.make_node("ReduceMean", ["m"], ["y"], axes=[1], keepdims=0),
]
BY_FRAMES = [helper.make_node("MatMul", ["x", "v"], ["m"]), helper.make_node("ReduceMean", ["m"], ["y"], axes=[1], keepdims=0)]
FLAT = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "v"], ["y"])]


@pytest.mark.parametrize(
    ("nodes", "axes", "rows", "wanted"),
    [
        (FILTERED, ["n", "samples"], 2, "--shape 480"),
        (BY_FRAMES, ["n", "time", "f"], 13, "--shape 20,13"),
        (FLAT, ["n", "time", 13], 377, "--shape 29,13"),
    ],
    ids=["samples", "features", "frames"],
)
def test_a_shape_that_fits_is_found(
    nodes: list[NodeProto], axes: list[int | str], rows: int, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the usual length of what a file leaves open fits nothing in it."""
    constants = {"k": np.ones((1, 1, 256)), "v": np.ones((rows, 3)), "one": np.array([1])}
    path = saved(tmp_path, nodes, axes, constants=constants)
    found = survey(path)
    assert (found.options, found.doubtful) == ([wanted], False)
    assert main(["info", str(path)]) == 2
    command = capsys.readouterr().err.partition("All that is needed is said so: tightverify ")[2].strip()
    assert main(command.split()) == 0


def test_an_output_that_depends_on_no_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, [helper.make_node("Identity", ["W"], ["y"])], ["n", 3])
    assert main(["info", str(path)]) == 2
    assert_one_sentence(capsys, "its output 'y' does not depend on its input; choose an output that does", tmp_path / "never")


def test_what_reads_the_refused_is_not_blamed_for_it(tmp_path: Path) -> None:
    path = saved(tmp_path, [*SINES, helper.make_node("Reshape", ["d", "flat"], ["y"])], [1, 4])
    assert set(survey(path).refused) == {"Sin", "Cos"}


def test_options_that_are_missing_are_given_together(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "sr"], ["u"]), helper.make_node("Mul", ["u", "k"], ["y"])]
    found = survey(saved(tmp_path, nodes, ["n", "t", 3], "k", "sr"))
    assert (found.options, found.refused) == (["--shape 20,3", "--fix k=0,sr=16000", "--frame last"], {})
