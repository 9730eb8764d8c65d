"""Threads: one for small work, no more than the machine has to spare, and always the user's own choice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.api.test_api import FEATURES, FRAMES, classifier
from tightverify import threads
from tightverify.cli import command
from tightverify.cli.options import say_if_busy
from tightverify.console import say

HUGE = threads.PAYS
X = torch.rand((2, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of eight idle cores, all of which torch takes."""
    before = torch.get_num_threads()
    for name in threads.CHOSEN:
        monkeypatch.setenv(name, "")  # and put back afterwards, whatever a command line chooses
    monkeypatch.setattr(threads, "cores", lambda: frozenset(range(8)))
    monkeypatch.setattr(threads, "physical", lambda _: 8)
    monkeypatch.setattr(threads, "load_of_others", lambda: 0.0)
    monkeypatch.setattr(threads, "quota", lambda: float("inf"))
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


class Counting(nn.Module):
    """Notes how many threads its outputs are computed with."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = classifier(nn.LSTM)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(torch.get_num_threads())
        return self.inner(x)


def seen_by_certify(network: Counting, **more: Any) -> set[int]:
    model = tv.load(network, (FRAMES, FEATURES))
    network.seen.clear()
    steps: list[int] = []
    tv.certify(model, X, None, tv.LinfBall(0.1), callback=lambda _: steps.append(torch.get_num_threads()), **more)
    assert steps
    return {*network.seen, *steps}


def test_small_networks_take_one_thread_and_give_back_the_others() -> None:
    assert seen_by_certify(Counting()) == {1}
    assert torch.get_num_threads() == 8
    tv.bounds(Counting(), X, tv.LinfBall(0.1))
    assert torch.get_num_threads() == 8


def test_runs_that_keep_evidence_take_one_thread_too(tmp_path: Path) -> None:
    """They are decided later than others: when their endings are asked for."""
    assert seen_by_certify(Counting(), batch=1, evidence=tmp_path) == {1}
    assert torch.get_num_threads() == 8


def test_a_failed_run_gives_them_back_too() -> None:
    def fail(_: object) -> None:
        assert torch.get_num_threads() == 1
        raise RuntimeError("a callback that fails")

    with pytest.raises(RuntimeError, match="a callback that fails"):
        tv.certify(Counting(), X, None, tv.LinfBall(0.1), callback=fail)
    assert torch.get_num_threads() == 8


@pytest.mark.parametrize("count", [3, 7])
def test_a_number_that_was_set_is_kept(count: int) -> None:
    torch.set_num_threads(count)
    assert seen_by_certify(Counting()) == {count}
    assert torch.get_num_threads() == count


@pytest.mark.parametrize("name", threads.CHOSEN)
def test_a_number_in_the_environment_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8")
    assert seen_by_certify(Counting()) == {8}


def test_a_number_on_the_command_line_is_kept() -> None:
    run = command.threads(lambda: seen_by_certify(Counting()))
    assert run(threads=8) == {8}
    assert os.environ["OMP_NUM_THREADS"] == "8"


@pytest.mark.parametrize(
    ("numbers", "load", "quota", "most"),
    [
        (HUGE - 1, 0.0, 99.0, 1),
        (HUGE, 0.0, 99.0, 8),
        (HUGE, 2.5, 99.0, 5),
        (HUGE, 30.0, 99.0, 1),
        (HUGE, 0.0, 2.0, 2),
        (HUGE, 0.0, 0.5, 1),
    ],
)
def test_large_work_takes_what_is_spare(
    numbers: int, load: float, quota: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "load_of_others", lambda: load)
    monkeypatch.setattr(threads, "quota", lambda: quota)
    with threads.threads_for(numbers):
        assert torch.get_num_threads() == most
    assert torch.get_num_threads() == 8
    with threads.threads_for(numbers, "cuda"):
        assert torch.get_num_threads() == 8


@pytest.mark.parametrize(("load", "quota", "words"), [(5.0, 99.0, "load of 5.0 on 8 cores"), (0.0, 1.5, "limited to 1.5 of 8")])
def test_a_busy_machine_is_told_of_once(
    load: float, quota: float, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say_if_busy(quiet=False)
    say("nothing")
    assert capsys.readouterr().err == "nothing\n"
    monkeypatch.setattr(threads, "load_of_others", lambda: load)
    monkeypatch.setattr(threads, "quota", lambda: quota)
    say_if_busy(quiet=True)
    assert capsys.readouterr() == ("", "")
    say_if_busy(quiet=False)
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith("note: ")
    assert told.count(words) == told.count("\n") == 1


def limit_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> float:
    monkeypatch.undo()
    paths = [folder / name for name in ("max", "used", "period")]
    for path in paths:
        path.unlink(missing_ok=True)
        if path.name in files:
            path.write_text(files[path.name])
    monkeypatch.setattr(threads, "QUOTA", paths[0])
    monkeypatch.setattr(threads, "OLD_QUOTA", tuple(paths[1:]))
    return threads.quota()


def test_the_limits_of_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert limit_of(tmp_path, monkeypatch, max="150000 100000\n") == 1.5
    assert limit_of(tmp_path, monkeypatch, max="max 100000\n") == float("inf")
    assert limit_of(tmp_path, monkeypatch, used="200000\n", period="100000\n") == 2.0
    assert limit_of(tmp_path, monkeypatch, used="-1\n", period="100000\n") == float("inf")
    assert limit_of(tmp_path, monkeypatch, max="odd\n") == float("inf")
    assert limit_of(tmp_path, monkeypatch) == float("inf")
