"""`tightverify differ`: rounding, tables, records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tightverify.api.load import load
from tightverify.cli.main import main
from tightverify.demo import NETWORKS
from tightverify.errors import UsageError
from tightverify.models.rounding import rounded

GRU = NETWORKS["GRU"]


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("how", ["float16", "bfloat16", "int8", "int4", "pruned:0.2"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_rounded_weights_are_few_and_near(how: str, per_channel: bool) -> None:
    before, after = weights(onnx.load(str(GRU))), weights(rounded(Path(GRU), how, per_channel))
    step = {"float16": 2**-11, "bfloat16": 2**-8, "int8": 0.5 / 127, "int4": 0.5 / 7, "pruned:0.2": 1.0}[how]
    assert before.keys() == after.keys()
    moved = {name for name in before if before[name].dtype == np.float32 and (before[name] != after[name]).any()}
    assert moved
    for name in moved:
        assert np.abs(after[name] - before[name]).max() <= 1.01 * step * np.abs(before[name]).max()
        if how in ("int8", "int4") and not per_channel:
            assert len(np.unique(after[name])) <= {"int8": 255, "int4": 15}[how]
        if how.startswith("pruned"):
            assert 0.15 <= (after[name] == 0).mean() <= 0.25


def test_a_rounding_that_does_not_exist() -> None:
    for how in ("int3", "pruned:2", "pruned:many", "pruned"):
        with pytest.raises(UsageError, match="no rounding"):
            rounded(Path(GRU), how)


def test_several_roundings_in_one_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    given = [str(GRU), str(folder / "good.npz"), "--round", "float16", "--round", "int8", "--eps", "0.005", "--limit", "1"]
    main(["differ", *given, "--method", "linear", "--out", str(out), "--quiet"])
    printed = capsys.readouterr().out
    assert "float16" in printed
    assert "BOUNDED" in printed
    half, bytes_ = (json.loads(line) for line in out.read_text().splitlines())
    assert max(half["found"]) <= max(half["bound"]) < max(bytes_["bound"])
    assert half["models"][1] == "float16"


def test_tables_in_place_of_activations(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["differ", str(GRU), str(folder / "good.npz"), "--round", "table:64:linear", "--eps", "0.005", "--limit", "1"]
    main([*given, "--method", "linear", "--quiet"])
    printed = capsys.readouterr().out
    assert "table:64:linear" in printed
    assert "BOUNDED" in printed
    assert main([*given, "--save", str(tmp_path / "t.onnx"), "--quiet"]) == 2
    assert "a model with tables is not written" in capsys.readouterr().err


def test_a_second_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "int8.onnx"
    common = ["--eps", "0.005", "--limit", "1", "--method", "linear", "--quiet"]
    main(["differ", str(GRU), str(folder / "good.npz"), "--round", "int8", "--save", str(saved), *common])
    first = capsys.readouterr().out
    main(["differ", str(GRU), str(saved), str(folder / "good.npz"), "--within", "100", *common])
    assert "EQUIVALENT" in capsys.readouterr().out
    assert "BOUNDED" in first


def test_rows_and_inputs_that_differ(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, rows = tmp_path / "out.jsonl", tmp_path / "rows.npz"
    outputs = load(GRU).graph.output_size
    C = np.concatenate([np.zeros((2, 2 * outputs)), np.eye(outputs)[:2]], axis=1)
    np.savez(rows, C=C, d=np.full(2, 100.0))
    common = [str(GRU), str(folder / "good.npz"), "--round", "int8", "--eps", "0.005", "--limit", "1", "--method", "linear"]
    main(["differ", *common, "--rows", str(rows), "--inputs-within", "0.001", "--out", str(out), "--quiet"])
    assert "EQUIVALENT" in capsys.readouterr().out
    (record,) = (json.loads(line) for line in out.read_text().splitlines())
    assert min(record["margins"]) > 50
    assert record["inputs_within"] == 0.001
    np.savez(rows, C=C[:, :3], d=np.zeros(2))
    assert main(["differ", *common, "--rows", str(rows), "--quiet"]) == 2
    assert f"wanted {3 * outputs} numbers in each" in capsys.readouterr().err
    main(["differ", *common, "--quiet"])
    alone = capsys.readouterr().out
    main(["differ", *common, "--inputs-within", "0.001", "--quiet"])
    assert capsys.readouterr().out != alone


def test_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["differ", str(GRU), str(folder / "good.npz"), "--round", "int8", "--eps", "0.005", "--limit", "1"]
    given += ["--method", "linear", "--plot", str(tmp_path / "out")]
    main(given)
    assert "written:" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["differences.png", "where-0.png"]
    assert main(given) == 2
    assert "differences.png exists" in capsys.readouterr().err
    assert main([*given, "--force", "--agree"]) == 2
    assert "--plot was given beside --agree" in capsys.readouterr().err


def test_wrong_numbers_of_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["differ", str(GRU), str(folder / "good.npz"), "--eps", "0.01"]) == 2
    assert "2 files were given" in capsys.readouterr().err
