"""Records as JSON lines, table and summary."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import asdict
from io import FileIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tightverify import json_lines
from tightverify.branch.node import Branch, Split
from tightverify.errors import InputError, UsageError
from tightverify.json_lines import JsonLines, add_line
from tightverify.report.records import Record, read_records, write_records
from tightverify.report.tables import summary, table
from tightverify.verify import Result, Verdict


def record(index: int, verdict: Verdict, eps: float = 0.1, model: str = "net", margin: float = 0.5) -> Record:
    point = torch.tensor([[0.1, 0.2]]) if verdict is Verdict.COUNTEREXAMPLE else None
    margins = torch.tensor([margin, math.inf, -math.inf, math.nan], dtype=torch.float64)
    result = Result(verdict, margins, margin, "linear", 0.25, point, index=index, label=3)
    return Record.of(result, model, eps, math.inf, "linear")


MIXED = [record(k, verdict) for k, verdict in enumerate(Verdict)]


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_records(path, MIXED)
    assert read_records(path) == [Record(**json.loads(json.dumps(asdict(r))) | {"margins": r.margins}) for r in MIXED]
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert [line["verdict"] for line in lines] == [verdict.name for verdict in Verdict]
    assert lines[0]["margins"] == [0.5, None, None, None]
    assert lines[0]["norm"] == "inf"
    assert lines[1]["counterexample"] == torch.tensor([[0.1, 0.2]]).tolist()


def test_numbers_that_json_has_no_word_for_are_none(tmp_path: Path) -> None:
    tree = (Branch(0, 0, None, (-math.inf, 1.0)), Branch(1, 0, Split(-2, 0, 0.0, True), (2.0, math.inf), "proved"))
    result = Result(Verdict.UNKNOWN, torch.tensor([-math.inf, 1.0]), -math.inf, "pieces", 0.1, None, tree)
    with JsonLines(tmp_path / "out.jsonl") as lines:
        lines.write(asdict(Record.of(result, "m", math.inf, math.inf, "linear")))
    (record,) = read_records(tmp_path / "out.jsonl")
    assert [branch["margins"] for branch in record.tree] == [[None, 1.0], [2.0, None]]
    assert record.tree[1]["split"] == {"node": -2, "neuron": 0, "value": 0.0, "above": True}
    assert (record.margin, record.margins) == (None, (None, 1.0))


def test_each_line_is_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with JsonLines(path) as lines:
        for count, one in enumerate(MIXED, start=1):
            lines.write(asdict(one))
            assert len(read_records(path)) == count


def test_a_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_records(path, MIXED)
    with pytest.raises(UsageError, match="exists already"):
        JsonLines(path)
    assert len(read_records(path)) == len(MIXED)
    write_records(path, MIXED[:1], replace=True)
    assert len(read_records(path)) == 1


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        JsonLines(tmp_path / "nowhere" / "results.jsonl")
    if Path("/dev/full").exists():
        with pytest.raises(UsageError, match="first 0 lines are in it"), JsonLines(Path("/dev/full"), replace=True) as lines:
            lines.write(asdict(MIXED[0]))


def test_what_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for text in ("not json", "[1, 2]", '{"index": 1}', '{"index": 1, "margins": []}'):
        write_records(path, MIXED[:1], replace=True)
        with path.open("a") as file:
            file.write(text + "\n")
        with pytest.raises(InputError, match="line 2"):
            read_records(path)


def test_a_last_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_records(path, MIXED)
    whole = path.read_bytes()
    for missing in (1, 2, 50):
        path.write_bytes(whole[:-missing])
        if missing == 1:  # nothing of the line itself
            assert len(read_records(path)) == len(MIXED)
            continue
        with pytest.raises(InputError, match=f"line {len(MIXED)} of .* was cut short .* cut_short=True"):
            read_records(path)
        with pytest.warns(UserWarning, match=f"line {len(MIXED)} of .* left out"):
            assert read_records(path, cut_short=True) == read_records_of(whole, tmp_path)[:-1]
    path.write_bytes(whole.replace(b"{", b"(", 1)[:-5])
    with pytest.raises(InputError, match=r"line 1 of .* is not a record"):
        read_records(path, cut_short=True)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match=r"line 1 of .* is not a record"):
        read_records(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_records(tmp_path / "nothing.jsonl")


def read_records_of(content: bytes, folder: Path) -> list[Record]:
    (folder / "other.jsonl").write_bytes(content)
    return read_records(folder / "other.jsonl")


def test_a_line_is_added_after_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    for before, kept in (("", []), ('{"a": 1}\n', [1]), ('{"a": 1}', [1]), ('{"a": 1}\n{"a": 2', [1]), ('{"a"', [])):
        path.write_text(before)
        add_line(path, {"a": 3})
        assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == [*kept, 3]


def test_one_run_alone_writes_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with JsonLines(path) as lines:
        lines.write(asdict(MIXED[0]))
        with pytest.raises(UsageError, match="another run is writing to"):
            JsonLines(path, replace=True)
        lines.write(asdict(MIXED[1]))
        assert len(read_records(path)) == 2
    write_records(path, MIXED[:1], replace=True)
    assert len(read_records(path)) == 1


def test_a_line_that_did_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: FileIO, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "results.jsonl"
    with JsonLines(path) as lines:
        lines.write(asdict(MIXED[0]))
        with monkeypatch.context() as patch:
            patch.setattr(json_lines, "write_all", full)
            with pytest.raises(UsageError, match="the first 1 lines are in it"):
                lines.write(asdict(MIXED[1]))
        lines.write(asdict(MIXED[2]))
    assert [record.index for record in read_records(path)] == [0, 2]
    monkeypatch.setattr(json_lines, "write_all", full)
    with pytest.raises(UsageError, match="make room"):
        JsonLines(tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()


def test_the_table_says_all(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=100).print(table(MIXED))
    text = capsys.readouterr().out
    for word in ("input", "label", "eps", "verdict", "worst margin", "stage", "time", "+0.5000", "linear", "250 ms"):
        assert word in text
    assert all(verdict.name in text for verdict in Verdict)


def test_the_summary_counts() -> None:
    text = summary([*MIXED, record(9, Verdict.ROBUST, margin=-math.inf)], 12.34)
    assert text.startswith("6 inputs: 2 ROBUST, 1 COUNTEREXAMPLE, 1 UNKNOWN, 1 TIMED_OUT, 1 MISCLASSIFIED; certified 33.3 %; ")
    assert text.endswith("mean worst margin +0.5000; 12.3 s")
    assert summary([], 0.0) == "0 inputs: none done; 0.0 s"
    assert summary([MIXED[0]], 1.0).startswith("1 input: 1 ROBUST; certified 100.0 %")
