"""Queries of VNN-LIB 2.0: networks with their tensors, several at once, hidden nodes, and what is refused in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tightverify as tv
from tests.helpers.refusals import assert_one_sentence
from tightverify.cli.main import main
from tightverify.errors import InputError, ModelError, TightVerifyError, UnsupportedError
from tightverify.inputs.vnnlib.networks import assignments, declared_of

Shape = Sequence[int | str]
PLAIN = """(vnnlib-version <2.0>)
(declare-network N (declare-input X real [2]) (declare-output Y real [2]))
"""


def saved(path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, Shape], outputs: dict[str, Shape], **kinds: int) -> Path:
    """A small file of float32, or of other types by names."""
    of = lambda shapes: [helper.make_tensor_value_info(k, kinds.get(k, TensorProto.FLOAT), v) for k, v in shapes.items()]  # noqa: E731
    constants = [numpy_helper.from_array(np.array([2.0, -1.0], dtype=np.float32), "weights")]
    graph = helper.make_graph(nodes, "small", of(inputs), of(outputs), constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """y = relu(h), h = x * (2, -1), without a batch."""
    nodes = [helper.make_node("Mul", ["x", "weights"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    return saved(tmp_path / "scaled.onnx", nodes, {"x": [2]}, {"y": [2]})


@pytest.fixture
def difference(tmp_path: Path) -> Path:
    """y = a - b, z = a + b of two inputs, and how many numbers a has."""
    nodes = [
        helper.make_node("Sub", ["a", "b"], ["y"]),
        helper.make_node("Add", ["a", "b"], ["z"]),
        helper.make_node("Shape", ["a"], ["n"]),
    ]
    return saved(tmp_path / "two.onnx", nodes, {"a": ["n", 1], "b": [1, 1]}, {"y": [1, 1], "z": [1, 1], "n": [2]}, n=7)


def box(*limits: tuple[str, float, float]) -> str:
    return " ".join(f"(assert (and (>= {name} {low}) (<= {name} {high})))" for name, low, high in limits)


def answered(text: str, real: bool = True, **files: Path) -> tuple[str, list[str]]:
    """The outcome, and the lines that are printed of it."""
    declared = declared_of(text, real)
    found = tv.vnnlib(files, declared, method="linear")
    if found.x is None or found.y is None:
        return str(found.outcome), []
    return str(found.outcome), assignments(declared, found.x.flatten().tolist(), found.y.flatten().tolist()).splitlines()


def test_tensors_need_no_batch_and_constraints_join_any_of_their_numbers(scaled: Path) -> None:
    inside = PLAIN + box(("X[0]", 0, 1), ("X[1]", 0, 1))
    assert answered(inside + "(assert (>= Y[0] 2.01))", N=scaled)[0] == "unsat"
    assert answered(inside + "(assert (>= Y[1] (+ X[1] 0.1)))", N=scaled)[0] == "unsat"
    assert answered(inside + "(assert (>= (- Y[0] X[ 0 ]) (* X [1] 1.5)))(assert (== X[1] 0.5))", N=scaled)[0] == "sat"
    outcome, lines = answered(inside + "(assert (>= Y[0] 2))", N=scaled)
    assert (outcome, lines[0], lines[1], lines[3:]) == ("sat", "X real [2]", "1.0", ["Y real [2]", "2.0", "0.0"])


def test_hidden_nodes_are_named_as_in_the_file(scaled: Path) -> None:
    text = PLAIN.replace("(declare-output", '(declare-hidden H real [2] "h") (declare-output')
    inside = text + box(("X[0]", 0, 1), ("X[1]", 0, 1))
    assert answered(inside + "(assert (<= H[1] -1.01))", N=scaled)[0] == "unsat"
    outcome, lines = answered(inside + "(assert (<= H[1] -1))", N=scaled)
    assert outcome == "sat"
    assert lines[lines.index("H real [2]") + 2] == "-1.0"
    with pytest.raises(ModelError, match="no node makes 'g', which the query wants as a hidden node"):
        answered(inside.replace('"h"', '"g"') + "(assert (<= H[1] -1))", N=scaled)


def test_several_inputs_and_outputs_of_other_types(difference: Path) -> None:
    declared = """(declare-network N (declare-input A real [1,1]) (declare-input B real [1,1]) (declare-output Y real [1,1])
        (declare-output Z real [1,1]) (declare-output n int64 [2]))"""
    inside = declared + box(("A[0,0]", 0, 1), ("B[0,0]", 2, 3))
    assert answered(inside + "(assert (>= Y[0,0] -0.9))", N=difference)[0] == "unsat"
    assert answered(inside + "(assert (>= n[1] 2))", N=difference)[0] == "unsat"
    outcome, lines = answered(inside + "(assert (<= (+ Y[0,0] Z[0,0]) 0))", N=difference)
    assert (outcome, lines[lines.index("A real [1,1]") + 1], lines[-2:]) == ("sat", "0.0", ["1", "1"])
    named = """(declare-network N (declare-input B real [1,1] "b") (declare-input A real [1,1] "a")
        (declare-output Z real [1,1] "z") (declare-output n int64 [2] "n") (declare-output Y real [1,1] "y"))"""
    assert answered(named + inside.removeprefix(declared) + "(assert (>= Y[0,0] -0.9))", N=difference)[0] == "unsat"


def test_several_networks(scaled: Path) -> None:
    """Of the same file, another, or one that is said to be alike."""
    both = PLAIN + "(declare-network M {} (declare-input U real [2]) (declare-output V real [2]))"
    inside = both + box(("X[0]", 0, 1), ("X[1]", 0, 1), ("U[0]", 2, 3), ("U[1]", 0, 1))
    below, above = "(assert (<= V[0] Y[0]))", "(assert (== V[0] (* Y[0] 3)))"
    assert answered(inside.format("(equal-to N)") + below, N=scaled)[0] == "unsat"
    for relation in ("(isomorphic-to N)", ""):
        assert answered(inside.format(relation) + below, N=scaled, M=scaled)[0] == "unsat"
    assert answered(inside.format("(equal-to N)") + above.replace("==", ">="), N=scaled)[0] == "sat"
    with pytest.raises(InputError, match="the network M has no file"):
        answered(inside.format("(isomorphic-to N)") + below, N=scaled)
    with pytest.raises(InputError, match="no file is wanted for M"):
        answered(inside.format("(equal-to N)") + below, N=scaled, M=scaled)
    other = saved(scaled.with_name("other.onnx"), [helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, {"y": [2]})
    with pytest.raises(InputError, match="differ in structure"):
        answered(inside.format("(isomorphic-to N)") + below, N=scaled, M=other)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (
            PLAIN.replace("X real", "X float32"),
            UnsupportedError,
            "X is of type float32, and what is proved is proved of real numbers",
        ),
        (PLAIN.replace("X real", "X int64"), UnsupportedError, "the input X is of type int64"),
        (PLAIN.replace("X real", "X complex"), UnsupportedError, "X is of type complex; wanted one of real"),
        (PLAIN.replace("<2.0>", "<3.0>"), UnsupportedError, "of VNN-LIB <3.0>; wanted 2.0"),
        (PLAIN + PLAIN.partition(")")[2], InputError, "the network's name N is taken"),
        (PLAIN.replace("Y real", "X real"), InputError, "X is declared twice"),
        (PLAIN.replace("(declare-output Y real [2])", ""), InputError, "the network N has no output"),
        (
            PLAIN.replace("(declare-output", "(equal-to M) (declare-output"),
            InputError,
            "N is equal-to M, which is not declared",
        ),
        (
            PLAIN.replace("(declare-output", "(declare-hidden H real [2]) (declare-output"),
            InputError,
            "a hidden node of N has no name",
        ),
        (PLAIN.replace("X real [2]", "X real [a]"), InputError, "no declaration of a tensor"),
        (PLAIN + "(assert (<= X[2] 1))", InputError, "X[2] is neither a number nor declared"),
        (PLAIN + "(assert (<= X 1))", InputError, "X is neither a number nor declared"),
        (PLAIN + "(assert (<= [1] 1))", InputError, "[1] stands after no name"),
        ("(declare-const X_0 Real)", InputError, "tightverify vnnlib MODEL.onnx QUERY"),
        ("(vnnlib-version <2.0>)", InputError, "no network is declared"),
        ("(solve)", InputError, "(solve) is no command of VNN-LIB 2.0"),
    ],
)
def test_what_is_not_read_is_said(text: str, kind: type[TightVerifyError], words: str) -> None:
    with pytest.raises(kind) as caught:
        declared_of(text, False)
    assert words in str(caught.value)


def test_files_that_are_not_what_is_declared_are_refused(scaled: Path, difference: Path) -> None:
    asked = PLAIN + box(("X[0]", 0, 1), ("X[1]", 0, 1)) + "(assert (<= Y[0] 0))"
    for old, new, words in (
        ("X real [2]", "X real [1,2]", r"X is declared of shape \[1, 2\]; in .* it has \(2\)"),
        ("Y real [2]", "Y real [2,1]", r"Y is declared of shape \[2, 1\]; in .* it has \(2\)"),
        ("X real [2]", 'X real [2] "u"', "has no input 'u'; it has 'x'"),
    ):
        text = asked.replace(old, new).replace("X[0]", "X[0,0]" if "[1,2]" in new else "X[0]")
        text = text.replace("X[1]", "X[0,1]" if "[1,2]" in new else "X[1]").replace(
            "Y[0]", "Y[0,0]" if "2,1" in new else "Y[0]"
        )
        with pytest.raises(InputError, match=words):
            answered(text, N=scaled)
    with pytest.raises(InputError, match=r"1 inputs are declared, and .* has 2"):
        answered(asked, N=difference)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_the_commands(scaled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "q.vnnlib"
    text = PLAIN.replace("real", "float32") + box(("X[0]", 1, 1), ("X[1]", 0, 0))
    path.write_text(text + "(assert (>= Y[0] 2))")
    assert run("verify", path, "--network", f"N={scaled}", "--timeout", 20) == 2
    assert_one_sentence(capsys, "declare it real, or say --real", tmp_path / "never")
    assert run("verify", path, "--network", f"N={scaled}", "--timeout", 20, "--real", "--quiet") == 0
    assert capsys.readouterr() == ("sat\nX float32 [2]\n1.0\n0.0\nY float32 [2]\n2.0\n0.0\n", "")
    path.write_text(text + "(assert (>= Y[0] 2.5))")
    assert run("verify", path, "--network", f"N={scaled}", "--real") == 0
    out, err = capsys.readouterr()
    assert out == "unsat\n"
    assert "were read as real numbers" in err
    assert run("verify", path, "--network", scaled) == 2
    assert_one_sentence(capsys, "write NAME=MODEL.onnx", tmp_path / "never")
    assert run("vnnlib", scaled, path) == 2
    assert_one_sentence(capsys, "tightverify verify QUERY --network NAME=MODEL.onnx", tmp_path / "never")


def test_what_is_supported_is_said_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for name in ("onnx-operators", "vnnlib-versions", "onnx-element-types", "multiple-network-theories", "unsat-proofs"):
        assert run("supports", f"--{name}") == 0
        said[name] = capsys.readouterr().out.splitlines()
    assert {"LSTM", "Relu", "Shape", "Loop"} <= set(said.pop("onnx-operators"))
    assert said == {
        "vnnlib-versions": ["2.0", "2.0"],
        "onnx-element-types": ["real"],
        "multiple-network-theories": ["SNET", "MENET", "MINET", "MNET"],
        "unsat-proofs": ["false"],
    }
    assert run("supports") == 2


def test_assignments_are_serialised(scaled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "query.vnnlib", tmp_path / "found"
    text = PLAIN.replace("Y real", "Y float64") + "(assert (>= X[0] 1)) (assert (<= X[0] 1)) (assert (== X[1] 0.25))"
    path.write_text(text + "(assert (>= Y[0] 1))")
    words = ("verify", path, "--network", f"N={scaled}", "--real", "--quiet", "--serialise-assignments", folder)
    assert run(*words) == 0
    assert capsys.readouterr() == ("sat\n", "")
    read = {each.name: onnx.TensorProto.FromString(each.read_bytes()) for each in folder.iterdir()}
    assert {name: numpy_helper.to_array(tensor).tolist() for name, tensor in read.items()} == {
        "X.pb": [1.0, 0.25],
        "Y.pb": [2.0, 0.0],
    }
    assert all(tensor.data_type == TensorProto.DOUBLE for tensor in read.values())
    assert run(*words) == 2
    assert_one_sentence(capsys, "--force", tmp_path / "never")
    assert run(*words, "--force") == 0
