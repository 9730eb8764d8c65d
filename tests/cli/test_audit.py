"""An audit as it goes: killed several times, a full disk once, in two parts, gone on with, summed up, as if undisturbed."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tightverify.cli.main import main
from tightverify.demo import NETWORKS, held_out
from tightverify.report.records import Record, read_all, read_records

INPUTS, PARTS = 300, 2
FULL_AFTER = 60_000
"""Bytes that a file may have on the disk that is full."""
FROM_RUN_TO_RUN = "seconds", "written", "made"


def command(inputs: Path, out: Path, part: int) -> list[str]:
    given = [str(NETWORKS["GRU"]), str(inputs), "--eps", "0.02", "--batch", "10", "--quiet"]
    shard = f"{part}/{PARTS}"
    return [sys.executable, "-m", "tightverify", "certify", *given, "--shard", shard, "--out", str(out), "--resume"]


def lines(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def killed(words: list[str], out: Path, after: int, sent: signal.Signals) -> None:
    """A run that a signal ends once so many more lines are in its file, in the midst of whatever it does."""
    before = lines(out)
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while run.poll() is None and lines(out) < before + after and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(sent)
    run.wait(timeout=100)


def on_a_full_disk(words: list[str]) -> str:
    """What a run says for which a file may have so many bytes only."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AFTER, FULL_AFTER))

    run = subprocess.run(words, capture_output=True, text=True, timeout=200, preexec_fn=limit, check=False)
    assert run.returncode == 2, run.stderr
    return run.stderr


def same(record: Record) -> dict[str, Any]:
    """All that a disturbed run must agree on with an undisturbed one."""
    return {name: value for name, value in vars(record).items() if name not in (*FROM_RUN_TO_RUN, "margin", "margins")}


@pytest.mark.timeout(1500)  # a dozen processes begin, one after the other: on a busy machine each may take a minute
@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_an_audit_loses_nothing_and_repeats_nothing(kills: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(0)
    x, y = held_out()
    inputs, whole, parts = tmp_path / "inputs.npz", tmp_path / "whole.jsonl", [tmp_path / f"{k}.jsonl" for k in (1, 2)]
    np.savez(inputs, x=x[:INPUTS], y=y[:INPUTS])
    given = ["certify", str(NETWORKS["GRU"]), str(inputs), "--eps", "0.02", "--quiet", "--out", str(whole)]
    assert main(given) == 0
    for kill in range(kills):
        part = chance.choice((1, 2))
        sent = signal.SIGTERM if kill == kills - 1 else signal.SIGKILL
        killed(command(inputs, parts[part - 1], part), parts[part - 1], chance.randrange(1, 15), sent)
    assert "cannot be written any further" in on_a_full_disk(command(inputs, parts[0], 1))
    with parts[1].open("ab") as file:
        file.write(b'{"model": "digits_gru.onnx", "ind')  # as a crash of the machine may leave it
    for part in (1, 2):
        again = command(inputs, parts[part - 1], part)
        assert main(again[3:]) == 0
    found = [record for path in parts for record in read_all(path)]
    wanted = {record.index: record for record in read_records(whole)}
    assert sorted(record.index for record in found) == list(range(INPUTS)), "none twice, none lost"
    for record in found:
        assert same(record) == same(wanted[record.index])
        assert record.margin == pytest.approx(wanted[record.index].margin, abs=1e-9)
        assert record.margins == pytest.approx(wanted[record.index].margins, abs=1e-9)
    capsys.readouterr()
    sums = []
    for paths in ([whole], parts):
        assert main(["summary", *map(str, paths), "--json"]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        sums.append({name: value for name, value in json.loads(line).items() if "seconds" not in name})
    assert sums[0] == {name: pytest.approx(value) if "margin" in name else value for name, value in sums[1].items()}
    together = tmp_path / "together.jsonl"
    together.write_text("".join(path.read_text() for path in parts))
    assert main(["compare", str(whole), str(together)]) == 0
    assert f"{INPUTS} inputs: {INPUTS} same" in capsys.readouterr().out
