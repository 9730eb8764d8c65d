"""What `certify` returns: a sequence that counts, saves, reads back and shows itself; an interrupted call loses nothing."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.branch.node import Branch, Split
from tightverify.errors import UsageError

X = torch.rand((4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
RADII = [0.001, 0.0, 9.0, 0.002]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


@pytest.fixture(scope="module")
def model() -> tv.Model:
    torch.manual_seed(0)
    return tv.load(Network().double(), shape=(3,))


@pytest.fixture(scope="module")
def found(model: tv.Model) -> tv.Results:
    return tv.certify(model, X, None, tv.LinfBall(RADII, clip=(-20, 20)))


def test_they_are_a_sequence(found: tv.Results) -> None:
    assert [len(found), len(found[1:3]), len(found + found[:1])] == [4, 2, 5]
    assert [each.index for each in found] == [0, 1, 2, 3]
    assert found[-1] is list(found)[3]
    assert found[2] in found
    assert isinstance(found[1:3], tv.Results)
    assert [each.index for each in found[::-1]] == [each.index for each in reversed(found)] == [3, 2, 1, 0]
    assert [each.margin for each in pickle.loads(pickle.dumps(found))] == [each.margin for each in found]
    with pytest.raises(IndexError):
        found[4]


def test_they_count_verdicts(found: tv.Results) -> None:
    assert found.counts == {"ROBUST": 3, "COUNTEREXAMPLE": 1, "UNKNOWN": 0, "TIMED_OUT": 0, "MISCLASSIFIED": 0}
    assert found.certified == 0.75
    assert found[2:3].certified == 0
    assert found.summary().startswith("4 inputs: 3 ROBUST, 1 COUNTEREXAMPLE; certified 75.0 %; mean worst margin ")
    assert found[:0].summary().startswith("0 inputs")


def test_records_say_what_was_asked(found: tv.Results) -> None:
    assert [record.eps for record in found.records] == RADII
    record = found.records[2]
    assert (record.model, record.norm, record.method, record.limits) == (
        "the module Network",
        "inf",
        "linear",
        {"clip": [-20, 20]},
    )
    assert record.counterexample == found[2].counterexample.tolist()


def test_what_is_saved_is_read_back(found: tv.Results, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    found.save(path)
    with pytest.raises(UsageError, match="exists already"):
        found.save(path)
    found.save(str(path), force=True)
    again = tv.read_results(path)
    assert again.records == found.records == tv.read_results(str(path))[:].records
    for before, after in zip(found, again, strict=True):
        assert (before.verdict, before.margin, before.stage, before.index, before.label) == (
            after.verdict, after.margin, after.stage, after.index, after.label,
        )  # fmt: skip
        assert torch.equal(before.margins, after.margins)
        assert (before.counterexample is None) == (after.counterexample is None)
    assert torch.equal(found[2].counterexample, again[2].counterexample)


def test_trees_and_margins_that_are_not_finite_are_read_back(found: tv.Results, tmp_path: Path) -> None:
    tree = (Branch(0, -1, None, (-torch.inf,)), Branch(1, 0, Split(2, 1, 0.5, True), (0.25,), "proved"))
    margins = torch.tensor([-torch.inf, 0.5], dtype=torch.float64)
    result = tv.Result(tv.Verdict.UNKNOWN, margins, -torch.inf, "branch", 1.0, None, tree, "a note", index=0)
    tv.Results([result], found._questions[:1]).save(tmp_path / "one.jsonl")
    (again,) = tv.read_results(tmp_path / "one.jsonl")
    assert (again.tree, again.margin, again.note, again.label) == (tree, -torch.inf, "a note", None)
    assert torch.equal(again.margins, margins)


def test_they_show_themselves_in_some_lines(found: tv.Results) -> None:
    lines = repr(found).splitlines()
    assert lines[0] == "Results("
    assert lines[1].startswith("  Result(0: ROBUST, label ")
    assert lines[-1] == f") {found.summary()}"
    many = found + found + found + found
    assert len(repr(many).splitlines()) == 13
    assert "... 6 more ..." in repr(many)
    shown = (many + many)._repr_html_()
    assert shown.count("<tr>") == 22
    assert "... 12 more ..." in shown
    assert "<th>verdict</th>" in shown


def test_names_in_a_notebook_are_text() -> None:
    found = tv.certify_clips(Network().double(), list(X), None, tv.LinfBall(0.0), names=["<b>", "2", "3", "4"])
    assert "&lt;b&gt;" in found._repr_html_()
    assert [record.file for record in found.records] == ["<b>", "2", "3", "4"]


def test_columns_are_plain_values(found: tv.Results) -> None:
    pandas = pytest.importorskip("pandas")
    frame = found.to_dataframe()
    assert list(frame["verdict"]) == [result.verdict.name for result in found]
    assert list(frame["eps"]) == RADII
    assert list(frame["norm"]) == ["inf"] * 4
    assert not {"counterexample", "margins", "tree"} & set(frame.columns)
    assert len(found[:0].to_dataframe()) == 0
    assert isinstance(frame, pandas.DataFrame)


def test_without_pandas_a_sentence_comes(found: tv.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="needs pandas, which is not installed; install it with: pip install pandas"):
        found.to_dataframe()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_what_is_done_is_kept(model: tv.Model, kind: type[BaseException]) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 3:
            raise kind

    for run in (
        lambda: tv.certify(model, X, None, tv.LinfBall(0.0), batch=2, progress=stop),
        lambda: tv.certify_clips(Network().double(), list(X), None, tv.LinfBall(0.0), progress=stop),
    ):
        with pytest.raises(kind) as caught:
            run()
        assert [result.index for result in caught.value.results] == [0, 1, 2]  # type: ignore[attr-defined]
        told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert "3 of 4 inputs are done: they are the error's `results`" in told
        assert isinstance(caught.value, tv.Interrupted) == (kind is KeyboardInterrupt)


def test_a_bar(model: tv.Model, capsys: pytest.CaptureFixture[str]) -> None:
    tv.certify(model, X, None, tv.LinfBall(0.0), progress=True)
    shown = capsys.readouterr()
    assert (shown.out, "certifying the module Network: 4 of 4" in shown.err) == ("", True)
    tv.certify(model, X, None, tv.LinfBall(0.0), progress=False)
    assert capsys.readouterr().err == ""
