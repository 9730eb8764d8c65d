"""Models of several inputs and outputs on the command line: --fix, --output, --frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers.onnx_models import SINGLE, build, node, normal
from tightverify.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`y = tanh(x W) + state` for each of three frames, a sigmoid of it, and inputs."""
    folder = tmp_path_factory.mktemp("several")
    nodes = [node("MatMul", "x w", "a"), node("Tanh", "a", "t"), node("Add", "t state"), node("Sigmoid", "y", "z")]
    model = build(nodes, ["N", 3, 2], {"w": normal(2, 4)}, SINGLE, output="y z")
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 1, 4]))
    onnx.save(model, str(folder / "model.onnx"))
    np.savez(folder / "inputs.npz", x=normal(2, 3, 2).astype(np.float32))
    np.savez(folder / "state.npz", state=10 * np.eye(4, dtype=np.float32)[None, 2:3])
    np.savez(folder / "two.npz", a=np.zeros(4), b=np.zeros(4))
    return folder


def test_info_says_what_to_fix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "model.onnx")
    assert main(["info", path]) == 2
    told = capsys.readouterr().err
    assert "'x' (N, 3, 2) and 'state' (N, 1, 4)" in told
    assert "--fix state=0 " in told
    assert f"All that is needed is said so: tightverify info {path} --fix state=0 --frame last" in told
    assert main(["info", path, "--fix", "state=0", "--frame", "last", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["outputs"], facts["inputs in the file"]) == (4, {"x": "(N, 3, 2)", "state": "(N, 1, 4)"})
    assert list(facts["outputs in the file"]) == ["y", "z"]
    assert {"fixed inputs: state = 0", "of its 2 outputs, 'y' was taken"} <= set(facts["notes"])


def test_info_knows_several_perturbed_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "model.onnx")
    assert main(["info", path]) == 2
    assert "at once: --shape x=3,2 --shape state=1,4 --frame last" in capsys.readouterr().err
    both = ["--shape", "x=3,2", "--shape", "state=1,4"]
    assert main(["info", path, *both]) == 2
    assert f"is said so: tightverify info {path} {' '.join(both)} --frame last" in capsys.readouterr().err
    assert main(["info", path, *both, "--frame", "last", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["one input"] == "x 3 x 2, state 1 x 4"
    assert "--region x=inf:0.01,state=inf:0.01" in facts["perturbed at once"]
    for options, told in (
        (["--shape", "x=3,2"], f"tightverify info {path} --shape x=3,2 --fix state=0 --frame last"),
        (["--shape", "x=3,2", "--shape", "1,4"], "x=3,2, 1,4 are 2 shapes; write NAME=8,28"),
        (["--shape", "x=3,2", "--shape", "x=3,2"], "two shapes of one name"),
        (["--shape", "x=3,none"], "'3,none' cannot be read as a shape"),
        (["--shape", "z=3,2"], "has no input 'z'"),
    ):
        assert main(["info", path, *options]) == 2
        assert told in capsys.readouterr().err


def test_certify_knows_what_was_fixed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state that lifts one class makes it the answer, surely."""
    files, out = [str(folder / "model.onnx"), str(folder / "inputs.npz")], tmp_path / "results.jsonl"
    fixed = ["--fix", f"state={folder / 'state.npz'}", "--frame", "1", "--output", "y"]
    assert main(["certify", *files, "--eps", "0.5", "--method", "linear", "--out", str(out), *fixed]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["label"] for record in records] == [2, 2]
    assert [record["verdict"] for record in records] == ["ROBUST", "ROBUST"]
    said = json.dumps(records[0])
    assert "state.npz" in said
    assert main(["bounds", *files, "--eps", "0.1", "--fix", "state=1.5", "--frame", "all", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [len(line["lower"]) for line in lines] == [12, 12]
    assert min(lines[0]["lower"]) >= 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fix", "state"], "--fix state cannot be read; wanted NAME=NUMBER"),
        (["--fix", "state=zeros"], "--fix state=zeros cannot be read"),
        (["--fix", "state=0,state=1"], "twice for 'state'"),
        (["--fix", "state=gone.npz"], "gone.npz does not exist; wanted an array state"),
        (["--fix", "state={folder}/two.npz"], "has the arrays a, b, and none for the input 'state'"),
        (["--fix", "state={folder}/inputs.npz"], "of shape (2, 3, 2); wanted (1, 1, 4)"),
        (["--fix", "state=0"], "choose a frame, --frame last"),
        (["--fix", "state=0", "--frame", "3"], "3 frames, and frame 3"),
        (["--fix", "state=0", "--frame", "first"], "'first'; wanted last, all"),
        (["--fix", "state=0", "--output", "w"], "no output 'w'; wanted one of 'y', 'z'"),
    ],
)
def test_what_is_refused(options: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [option.format(folder=folder) for option in options]
    assert main(["bounds", str(folder / "model.onnx"), str(folder / "inputs.npz"), "--eps", "0.1", *given]) == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    assert words in told
    assert told.count("\n") == 1


def test_certify_perturbs_several_inputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, state = normal(2, 3, 2).astype(np.float32), normal(2, 1, 4, seed=1).astype(np.float32)
    np.savez(tmp_path / "both.npz", x=x, state=state, y=np.zeros(2, int))
    files = [str(folder / "model.onnx"), str(tmp_path / "both.npz"), "--frame", "last"]
    out = tmp_path / "results.jsonl"
    assert main(["certify", *files, "--region", "x=inf:0.01,state=2:0.1", "--above", "-9", "--out", str(out)]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["verdict"] for record in records] == ["ROBUST", "ROBUST"]
    assert "x: L∞ ball 0.01, state: L2 ball 0.1" in json.dumps(records[0], ensure_ascii=False)
    assert main(["bounds", *files, "--region", "x=inf:0,state=inf:0.5", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    widths = np.array(lines[0]["upper"]) - np.array(lines[0]["lower"])
    assert np.allclose(widths, 1.0, atol=1e-5)
    for words, told in (
        ("x=inf:0.1,other=inf:1", "has no array other"),
        ("x=inf", "--region x=inf cannot be read (Got unexpected extra argument (inf)); wanted NAME=NORM:EPS"),
        ("x=2:much", "--region x=2:much cannot be read (Invalid value for '--eps': 'much' is not a valid float)"),
        ("x=eps 0.1 db -80,state=2:1", "--region x=eps 0.1 db -80: --eps and --db was given for the region"),
        ("x=gain 3 frames 0,1,state=2:1", "--region x=gain 3 frames 0,1: --frames was given beside --gain"),
        ("x=own,state=2:1", "neither x_eps nor x_lower and x_upper beside x"),
        ("x=inf:1 frames 0", "cannot be read"),
        ("x=inf:0.1", "values are wanted for the others"),
    ):
        assert main(["certify", *files, "--region", words]) == 2
        assert told in capsys.readouterr().err
    assert main(["certify", *files, "--region", "x=inf:0.1,state=inf:1", "--norm", "2"]) == 2
    assert "--norm was given beside --region" in capsys.readouterr().err


def test_an_inputs_region_is_said_by_the_options_of_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, state = normal(2, 3, 2).astype(np.float32), normal(2, 1, 4, seed=1).astype(np.float32)
    bounds: dict[str, Any] = {
        "state_lower": state - 0.5,
        "state_upper": state + np.float32(0.25),
        "x_eps": np.array([0.0, 0.25]),
    }
    np.savez(tmp_path / "both.npz", x=x, state=state, **bounds)
    files = [str(folder / "model.onnx"), str(tmp_path / "both.npz"), "--frame", "last", "--quiet"]
    assert main(["bounds", *files, "--region", "x=eps 0.1 frames 0,1,state=own", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert np.allclose(np.array(lines[0]["upper"]) - np.array(lines[0]["lower"]), 0.75, atol=1e-5), "the last frame stays"
    assert main(["bounds", *files, "--region", "x=own", "--region", "state=inf:0.5", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    widths = [np.array(line["upper"]) - np.array(line["lower"]) for line in lines]
    assert np.allclose(widths[0], 1.0, atol=1e-5)
    assert bool((widths[1] > 1.1).all())
    for words in ("x=db -80", "x=snr 60 clip -9 9", "x=gain 1", "x=eps 0.1 norm 2 ball-per frame"):
        assert main(["certify", *files, "--region", f"{words},state=1:0", "--above", "-9", "--json"]) == 0
        assert capsys.readouterr().out.count('"ROBUST"') == 2


def test_radii_of_several_inputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, state = normal(2, 3, 2).astype(np.float32), normal(2, 1, 4, seed=1).astype(np.float32)
    np.savez(tmp_path / "both.npz", x=x, state=state)
    given = ["radius", str(folder / "model.onnx"), str(tmp_path / "both.npz"), "--frame", "last", "--method", "linear"]

    def proved(*options: str, out: str) -> float:
        assert main([*given, "--out", str(tmp_path / out), "--restarts", "0", *options]) == 0
        return float((tmp_path / out / "radii.csv").read_text().splitlines()[1].split(",")[2])

    one = proved("--region", "x=inf:1,state=2:0.5", out="one")
    half = proved("--region", "x=inf:2", "--region", "state=eps 1 norm 2", out="half")
    assert 0 < half < one
    assert abs(half - one / 2) < 0.02 * one
    np.savez(tmp_path / "both.npz", x=x, state=state, x_groups=np.array([[3], [3], [8]]))
    how = ["--region", "x=inf:1,state=2:0.5", "--per", "group", "--restarts", "0", "--out", str(tmp_path / "groups")]
    assert main([*given, *how]) == 0
    lines = [line.split(",") for line in (tmp_path / "groups" / "radii.csv").read_text().splitlines()]
    assert [line[2] for line in lines[:4]] == ["group", "x[3]", "x[8]", "state"]
    assert min(float(line[3]) for line in lines[1:4]) > one
    np.savez(tmp_path / "both.npz", x=x, state=state)
    for words, told in (
        (["--region", "x=db -80,state=2:1"], "-80 dB does not grow with a number; give a function"),
        (["--region", "x=inf:1,state=2:1", "--per", "group"], "no groups were given"),
        (["--region", "x=inf:1,state=2:1", "--family", "db"], "--family was given beside --region"),
    ):
        assert main([*given, "--out", str(tmp_path / "refused"), *words]) == 2
        assert told in capsys.readouterr().err


def test_streams_are_unrolled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        node("MatMul", "x w", "a"),
        node("Add", "a state", "b"),
        node("Tanh", "b", "stateN"),
        node("MatMul", "stateN v", "y"),
    ]
    model = build(nodes, ["N", 2], {"w": normal(2, 4), "v": normal(4, 3)}, SINGLE, output="y stateN")
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 4]))
    onnx.save(model, str(tmp_path / "model.onnx"))
    np.savez(tmp_path / "inputs.npz", x=normal(2, 3, 2).astype(np.float32))
    files = [str(tmp_path / "model.onnx"), str(tmp_path / "inputs.npz")]
    how = ["--fix", "state=0", "--unroll", "3", "--frame", "last"]
    assert main(["info", files[0], *how, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["one input"] == "3 frames of 2 features"
    assert "unrolled over 3 calls: stateN goes back into state" in facts["notes"]
    assert main(["certify", *files, *how, "--state", "stateN=state", "--eps", "1e-6", "--frames", "0", "--json"]) == 0
    assert '"ROBUST"' in capsys.readouterr().out
    assert main(["certify", *files, *how, "--state", "stateN", "--eps", "1e-6"]) == 2
    assert "--state stateN cannot be read; wanted OUTPUT=INPUT" in capsys.readouterr().err


def test_differ_reads_each_inputs_own_region(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "inputs.npz", x=normal(1, 3, 2).astype(np.float32), eps=np.array([0.01]))
    words = ["differ", str(folder / "model.onnx"), str(tmp_path / "inputs.npz"), "--round", "int8", "--fix", "state=0"]
    assert main([*words, "--frame", "last", "--method", "linear", "--own", "--quiet"]) == 0
    assert "int8" in capsys.readouterr().out
    assert main([*words, "--region", "x=inf:0.1"]) == 2
    assert "which certify, bounds and radius take; give --eps" in capsys.readouterr().err
