"""Runs that go on where others stopped, of parts of the inputs, over several radii and processes; summaries and comparisons."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tightverify import jobs
from tightverify.cli.main import main
from tightverify.cli.options import several
from tightverify.demo import NETWORKS
from tightverify.report.records import Record, latest, read_all, read_records, write_records
from tightverify.report.summaries import changes
from tightverify.verify import Verdict

GRU, LSTM = str(NETWORKS["GRU"]), str(NETWORKS["LSTM"])
GIVEN = ["--eps", "0.03", "--limit", "8", "--quiet"]


def certify(folder: Path, *options: str, inputs: str = "good.npz", model: str = GRU) -> int:
    return main(["certify", model, str(folder / inputs), *options])


def essence(record: Record) -> dict[str, Any]:
    """What two runs agree on."""
    return {**vars(record), "seconds": 0, "written": None, "made": None}


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The records of an undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "out.jsonl"
    assert certify(folder, *GIVEN, "--out", str(out)) == 0
    return sorted(read_records(out), key=lambda record: record.index)


def test_records_say_how_they_were_made(folder: Path, whole: list[Record]) -> None:
    import hashlib

    for record in whole:
        assert record.schema == "tightverify.record.2"
        assert record.made["model_sha256"] == hashlib.sha256(Path(GRU).read_bytes()).hexdigest()
        assert record.made["data_sha256"] == hashlib.sha256((folder / "good.npz").read_bytes()).hexdigest()
        assert (record.made["settings"]["method"], record.made["settings"]["seed"]) == ("linear", 0)
        assert record.made["settings"]["time_limit"] is None
        assert (record.made["regions"][0]["eps"], record.made["regions"][0]["norm"]) == (0.03, "inf")
        assert record.written is not None
        assert record.made["started"] <= record.written


@pytest.mark.parametrize("rest", ["", '{"model": "x', "whole line without its end"], ids=["whole", "cut", "no newline"])
def test_a_run_goes_on(folder: Path, tmp_path: Path, whole: list[Record], rest: str) -> None:
    out = tmp_path / "out.jsonl"
    assert certify(folder, *GIVEN, "--out", str(out), "--only", "0-2", "--trace", str(tmp_path / "trace.jsonl")) == 0
    lines = out.read_text()
    out.write_text(lines[:-1] if rest.startswith("whole") else lines + rest)
    for _ in range(2):
        assert certify(folder, *GIVEN, "--out", str(out), "--resume", "--trace", str(tmp_path / "trace.jsonl")) == 0
        found = read_all(out)
        assert out.read_text().startswith(lines)
        assert [essence(r) for r in sorted(found, key=lambda r: r.index)] == [
            essence(r) | {"margin": pytest.approx(r.margin, abs=1e-9), "margins": pytest.approx(r.margins, abs=1e-9)}
            if r.margin is not None
            else essence(r)
            for r in whole
        ]


def test_a_first_run_may_be_a_resumed_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert certify(folder, "--eps", "0.03", "--limit", "2", "--out", str(out), "--resume") == 0
    assert certify(folder, "--eps", "0.03", "--limit", "3", "--out", str(out), "--resume") == 0
    printed, told = capsys.readouterr()
    assert "going on: 2 of 3 inputs were done before" in told
    assert "3 inputs: " in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "1"], "--seed (0, now 1) differs"),
        (["--method", "interval"], "--method (linear, now interval) differs"),
        (["--eps", "0.03000000000000001"], "the region ("),
        (["--frames", "0"], "the region ("),
        (["--top", "2"], "--top (1, now 2) differs"),
        (["model"], "the model (SHA-256 "),
        (["data"], "the data (SHA-256 "),
        (["--force"], "give one"),
    ],
)
def test_what_is_not_as_it_was_is_refused(
    folder: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    given = ["--eps", "0.03", "--limit", "1", "--quiet", "--out", str(out)]
    assert certify(folder, *given) == 0
    before = out.read_text()
    other = {"model": LSTM if options == ["model"] else GRU, "inputs": "all.npz" if options == ["data"] else "good.npz"}
    for more in ("--resume", "--retry=unknown") if options[0] not in ("--seed", "--method") else ("--resume",):
        assert certify(folder, *given, more, *(options if options[0].startswith("--") else []), **other) == 2
        told = capsys.readouterr().err
        assert words in told
        assert told.count("\n") == 1
    assert out.read_text() == before
    assert certify(folder, *given[:-2], "--resume") == 2
    assert "no file to go on with" in capsys.readouterr().err


def test_a_file_that_does_not_say_how_it_was_made(
    folder: Path, tmp_path: Path, whole: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    old = [{name: value for name, value in vars(r).items() if name not in OF_LATER} for r in whole]
    out.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert [record.index for record in read_records(out)] == list(range(8))
    assert certify(folder, *GIVEN, "--out", str(out), "--resume") == 2
    assert "does not say how its records were made" in capsys.readouterr().err


OF_LATER = ("schema", "attempt", "written", "carried", "made")


def test_what_is_open_is_tried_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    given = ["--eps", "0.03", "--limit", "8", "--quiet", "--out", str(out), "--method"]
    assert certify(folder, *given, "interval") == 0
    first = read_records(out)
    opened = {record.index for record in first if record.verdict == "UNKNOWN"}
    assert 0 < len(opened) < 8
    assert certify(folder, *given, "interval", "--retry", "timed-out") == 0
    assert len(read_all(out)) == 8, "none timed out"
    for _ in range(2):
        assert certify(folder, *given, "linear", "--retry", "unknown") == 0
        again = read_all(out)[8:]
        assert {record.index for record in again} == opened
        assert {record.attempt for record in again} == {2}
    found = read_records(out)
    assert len(found) == 8
    assert {record.index for record in found if record.method == "linear"} == opened
    assert any(record.verdict == "ROBUST" for record in found if record.index in opened)


def test_the_last_record_of_an_input_counts(whole: list[Record], tmp_path: Path) -> None:
    first = whole[0]
    other, more, again = replace(first, method="lp"), replace(first, eps=0.5), replace(first, method="lp", attempt=2)
    assert latest([first, more, other]) == [first, other, more]
    assert latest([first, more, other, again]) == [again, more]
    write_records(tmp_path / "out.jsonl", [first, again])
    assert len(read_records(tmp_path / "out.jsonl")) == 1


def test_parts_of_the_inputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def numbers(*options: str) -> list[int]:
        out = tmp_path / "out.jsonl"
        assert certify(folder, "--eps", "0.01", "--method", "interval", "--quiet", "--force", "--out", str(out), *options) == 0
        return sorted(record.index for record in read_records(out))

    assert numbers("--only", "3,7-9") == [3, 7, 8, 9]
    assert numbers("--only", "3,7-9", "--limit", "2") == [3, 7]
    parts = [numbers("--shard", f"{k}/3", "--limit", "8", "--skip-wrong") for k in (1, 2, 3)]
    assert sorted(number for part in parts for number in part) == numbers("--limit", "8", "--skip-wrong")
    assert {len(part) for part in parts} == {2, 3}
    capsys.readouterr()
    for options, words in (
        (["--only", "20"], "--only names input 20, and there are 20"),
        (["--only", "x"], "cannot be read as positions"),
        (["--shard", "0/3"], "cannot be read as a part"),
        (["--shard", "4/3"], "cannot be read as a part"),
        (["--shard", "3"], "cannot be read as a part"),
    ):
        assert certify(folder, "--eps", "0.01", *options) == 2
        assert words in capsys.readouterr().err


def test_radii_in_words() -> None:
    def read(words: str) -> tuple[float, ...]:
        return several(None, None, words)

    assert read("0.01") == (0.01,)
    assert read("0.02, 0.01") == (0.01, 0.02)
    assert read("0:0.05:0.005") == tuple(k / 200 for k in range(11))
    assert read("0.1:0.3:0.1,0.2,1") == (0.1, 0.2, 0.3, 1.0)
    for wrong in ("", "a", "1:2", "1:2:0", "2:1:1", "1:2:-1", "0:nan:1", "0:inf:1", "0:1:1e-9", "1:2:3:4", "0.1,"):
        with pytest.raises(Exception, match=r"radii"):
            read(wrong)


def test_larger_radii_are_tried_where_smaller_ones_were_proved(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    given = ["--limit", "8", "--quiet", "--out", str(out), "--eps", "0.2,0.01,0.05"]
    assert certify(folder, *given) == 0
    found = read_records(out)
    assert len(found) == 24
    by = {(record.index, record.eps): record for record in found}
    for k in range(8):
        small, middle, large = (by[k, eps] for eps in (0.01, 0.05, 0.2))
        for less, more in ((small, middle), (middle, large)):
            assert more.carried == (less.verdict != "ROBUST")
            if less.verdict in ("COUNTEREXAMPLE", "MISCLASSIFIED"):
                assert (more.verdict, more.counterexample) == (less.verdict, less.counterexample)
            elif more.carried:
                assert (more.verdict, more.margin) == ("UNKNOWN", None)
                assert "was not proved at eps 0.0" in str(more.note)
    assert {record.carried for record in found} == {True, False}
    lines = out.read_text().splitlines()
    out.write_text("\n".join(lines[:11]) + "\n")
    assert certify(folder, *given, "--resume") == 0
    assert len(read_all(out)) == 24
    assert [essence(r) | {"attempt": 1} for r in read_records(out)[:11]] == [essence(r) for r in found[:11]]
    assert {(r.index, r.eps): r.verdict for r in read_records(out)} == {key: r.verdict for key, r in by.items()}


def test_lines_on_stdout_in_place_of_the_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--json"], ["--out", "-"]):
        assert certify(folder, "--eps", "0.01", "--limit", "3", *options, "--quiet") == 0
        printed, told = capsys.readouterr()
        assert sorted(json.loads(line)["index"] for line in printed.splitlines()) == [0, 1, 2]
        assert told == ""
    assert certify(folder, "--eps", "0.01", "--limit", "3", "--json", "--out", str(tmp_path / "out.jsonl")) == 0
    printed, told = capsys.readouterr()
    assert printed == (tmp_path / "out.jsonl").read_text()
    assert "3 inputs: " in told
    assert certify(folder, "--eps", "0.01", "--json", "--out", "-") == 2


def test_a_summary(tmp_path: Path, whole: list[Record], capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    write_records(one, whole[:5])
    write_records(two, [*whole[5:], replace(whole[0], eps=0.5, margin=None, verdict="UNKNOWN")])
    assert main(["summary", str(one), str(two)]) == 0
    printed = capsys.readouterr().out
    for word in ("digits_gru.onnx", "eps 0.03", "eps 0.5", "linear", "certified", "ROBUST", "MISCLASSIFIED"):
        assert word in printed
    assert main(["summary", str(one), str(two), "--json"]) == 0
    near, far = map(json.loads, capsys.readouterr().out.splitlines())
    assert (near["inputs"], near["region"], far["inputs"], far["mean_margin"]) == (8, "eps 0.03", 1, None)
    robust = sum(record.verdict == "ROBUST" for record in whole)
    assert (near["verdicts"]["ROBUST"], near["certified"]) == (robust, robust / 8)
    assert near["least_margin"] == min(record.margin for record in whole if record.margin is not None)


def test_a_comparison(tmp_path: Path, whole: list[Record], capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    write_records(before, whole)

    def compared(records: list[Record], *options: str) -> tuple[int, str]:
        write_records(after, records, replace=True)
        code = main(["compare", str(before), str(after), *options])
        return code, capsys.readouterr().out

    robust = next(k for k, record in enumerate(whole) if record.verdict == "ROBUST")
    assert compared(whole) == (0, compared(whole)[1])
    assert "8 same" in compared(whole)[1]
    for verdict, kind, code in (("UNKNOWN", "worse", 1), ("COUNTEREXAMPLE", "contradictory", 1)):
        changed = [replace(r, verdict=verdict, margin=-1.0) if k == robust else r for k, r in enumerate(whole)]
        found, printed = compared(changed, "--json")
        first = json.loads(printed.splitlines()[0])
        assert (found, first["change"], first["index"]) == (code, kind, whole[robust].index)
        assert f"1 {kind}, 7 same" in compared(changed)[1]
        assert next(iter(changes(changed, whole))).kind in ("better", "contradictory")
    assert compared(whole[1:])[0] == 1
    assert compared([*whole, replace(whole[0], index=50)])[0] == 0


def test_several_processes_find_the_same(folder: Path, tmp_path: Path, whole: list[Record]) -> None:
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    assert certify(folder, *GIVEN, "--out", str(out), "--jobs", "2", "--trace", str(trace)) == 0
    found = sorted(read_all(out), key=lambda record: record.index)
    assert [(r.index, r.verdict, r.label, r.stage) for r in found] == [(r.index, r.verdict, r.label, r.stage) for r in whole]
    for one, other in zip(found, whole, strict=True):
        if other.margin is not None:
            assert one.margins == pytest.approx(other.margins, rel=1e-9, abs=1e-9)
    steps = {json.loads(line)["index"] for line in trace.read_text().splitlines()}
    assert steps == {r.index for r in whole if r.verdict != "MISCLASSIFIED"}


def test_a_process_that_is_killed_costs_nothing(
    folder: Path, tmp_path: Path, whole: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    killed: list[Any] = []
    honest = jobs.Crew._hear

    def hear(self: jobs.Crew, worker: jobs.Worker, heard: Any, deliver: Any) -> None:
        honest(self, worker, heard, deliver)
        if len(killed) < 2:
            killed.append(worker)
            os.kill(worker.process.pid or 0, signal.SIGKILL)

    monkeypatch.setattr(jobs.Crew, "_hear", hear)
    assert certify(folder, *GIVEN, "--out", str(out), "--jobs", "2") == 0
    assert len(killed) == 2
    assert [(r.index, r.verdict) for r in sorted(read_all(out), key=lambda r: r.index)] == [(r.index, r.verdict) for r in whole]


def test_an_input_that_ends_its_process_is_left_open(
    folder: Path, tmp_path: Path, whole: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    honest = jobs.Worker.take

    def take(self: jobs.Worker, group: jobs.Group) -> None:
        honest(self, group)
        if 4 in group:
            os.kill(self.process.pid or 0, signal.SIGKILL)

    monkeypatch.setattr(jobs.Worker, "take", take)
    assert certify(folder, *GIVEN, "--out", str(out), "--jobs", "2", "--only", "3-5") == 0
    found = {record.index: record for record in read_all(out)}
    assert [found[k].verdict for k in (3, 5)] == [whole[k].verdict for k in (3, 5)]
    assert found[4].verdict == Verdict.UNKNOWN.name
    assert "its process ended 3 times" in str(found[4].note)


def test_groups_are_all_inputs_once() -> None:
    for count in (0, 1, 7, 100):
        for batch in (1, 10):
            for many in (1, 2, 5):
                groups = jobs.groups_of(list(range(count)), batch, many)
                assert [number for group in groups for number in group] == list(range(count))
                assert all(0 < len(group) <= batch for group in groups)
    for count in (360, 2000):
        sizes = [len(group) for group in jobs.groups_of(list(range(count)), 100, 2)]
        assert sizes[-1] < 2 * jobs.LEAST, "the last end together"
        assert min(sizes) >= jobs.LEAST, "none takes longer to begin than to decide"
    assert torch.get_num_threads() >= 1
