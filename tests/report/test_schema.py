"""What a record's schema states holds of records, and a record that breaks it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tightverify.cli.main import main
from tightverify.demo import NETWORKS, held_out
from tightverify.report.records import SCHEMA

STATED = json.loads((Path(__file__).resolve().parents[2] / "docs" / "record.schema.json").read_text())
CHECK = jsonschema.Draft202012Validator(STATED)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Records with every verdict but one, of one radius and of those that follow from it."""
    import numpy as np

    folder, (x, y) = tmp_path_factory.mktemp("schema"), held_out()
    np.savez(folder / "inputs.npz", x=x[:8], y=y[:8])
    given = ["certify", str(NETWORKS["GRU"]), str(folder / "inputs.npz"), "--clip", "0", "1", "--quiet"]
    assert main([*given, "--eps", "0.01,0.3,0.5", "--out", str(folder / "out.jsonl")]) == 0
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_records_are_as_stated(lines: list[dict[str, Any]]) -> None:
    jsonschema.Draft202012Validator.check_schema(STATED)
    assert STATED["$id"] == SCHEMA
    for line in lines:
        CHECK.validate(line)
    assert {line["verdict"] for line in lines} >= {"ROBUST", "COUNTEREXAMPLE", "MISCLASSIFIED"}
    assert {line["carried"] for line in lines} == {True, False}


@pytest.mark.parametrize(
    "wrong",
    [{"norm": 2}, {"verdict": "PROBABLY"}, {"attempt": 0}, {"margin": "1"}, {"more": 1}, {"schema": "other"}, {"made": {}}],
    ids=str,
)
def test_what_is_otherwise_is_none(lines: list[dict[str, Any]], wrong: dict[str, Any]) -> None:
    assert not CHECK.is_valid({**lines[0], **wrong})
    without = {name: value for name, value in lines[0].items() if name not in wrong}
    assert CHECK.is_valid(without) == ("more" in wrong)


def test_tables_of_other_programs_read_them(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    (tmp_path / "out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    frame = pandas.read_json(tmp_path / "out.jsonl", lines=True, dtype={"norm": "string"})
    assert len(frame) == len(lines)
    assert list(frame.norm) == ["inf"] * len(lines)
