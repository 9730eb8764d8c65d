"""Evidence: what `certify` writes down follows, entry by entry, by a check that shares no code with what found it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tightverify as tv
from tests.helpers.evidence_check import Check, Numbers, Refused
from tests.helpers.evidence_runs import RUNS, Kept, certified, network
from tightverify.cli.main import main
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import InputError, UsageError
from tightverify.evidence import (
    BackSubstitution,
    Bounded,
    BoundingPass,
    Branch,
    CutoffTightening,
    Empty,
    Ending,
    Leaves,
    Pairs,
    Polygon,
    Program,
    Question,
    read_evidence,
)

FRAMEWISE = tv.L2Ball(0.9, per="frame")


LONGEST = "speech complete"


@pytest.mark.parametrize("name", [*(name for name in RUNS if name != LONGEST), pytest.param(LONGEST, marks=pytest.mark.slow)])
def test_evidence_follows_from_the_network_alone(name: str, kept: Callable[[str], Kept]) -> None:
    results, files, numbers = kept(name)
    for result, entries in zip(results, files, strict=True):
        check = Check(entries, numbers)
        assert check.back_substitutions == sum(isinstance(entry, BackSubstitution) for entry in entries)
        end = entries[-1]
        assert isinstance(end, Ending)
        assert (end.verdict, end.stage, end.margin) == (result.verdict.name, result.stage, result.margin)
        trees = [[branch.number for branch in tree] for tree in check.trees()]
        if result.tree:
            assert trees[-1] == [branch.number for branch in result.tree]
        else:  # what `combine` proves by contradiction is not searched any further
            assert all(branch.parent == 0 for tree in check.trees() for branch in tree)
        if result.counterexample is not None:
            assert np.array_equal(end.point, result.counterexample.flatten().numpy())
    proved = {result.stage for result in results if result.verdict is tv.Verdict.ROBUST}
    assert RUNS[name][-1] in {*proved, ""}


@pytest.mark.parametrize("name", ["lstm planes", "lstm combine", "gru complete", "gru lp", "relu milp", "relu narrowed"])
def test_runs_find_the_same_without_evidence(name: str, kept: Callable[[str], Kept]) -> None:
    for with_it, without in zip(kept(name)[0], certified(name, None), strict=True):
        assert with_it.verdict is without.verdict
        assert torch.equal(with_it.margins, without.margins)
        assert with_it.tree == without.tree


def test_evidence_has_every_tree_of_an_input(kept: Callable[[str], Kept]) -> None:
    """Pieces that `linear` bounds are cut before planes are fitted, and again in the end: evidence has both trees.

    Those of proofs by contradiction are between them."""
    name = "lstm combine, noise"
    results, files, numbers = kept(name)
    grown = [(entries, Check(entries, numbers).trees()) for entries in files]
    assert any(len(trees) >= 2 for _, trees in grown)
    for result, other in zip(results, certified(name, None), strict=True):
        assert (result.verdict, result.tree, result.stage) == (other.verdict, other.tree, other.stage)
        assert torch.equal(result.margins, other.margins)
    entries, trees = next((entries, trees) for entries, trees in grown if len(trees) >= 2)
    first, *_, second = trees
    for tree in trees:
        leaf = next(k for k, entry in enumerate(entries) if entry is tree[-1])
        with pytest.raises(Refused):
            Check([*entries[:leaf], *entries[leaf + 1 :]], numbers)
    root = next(k for k, entry in enumerate(entries) if entry is second[0])
    with pytest.raises(Refused):
        Check([*entries[:root], replace(second[0], number=len(first)), *entries[root + 1 :]], numbers)


def test_all_kinds_of_entries_are_in_some_file(kept: Callable[[str], Kept]) -> None:
    found = {type(entry) for name in RUNS for entries in kept(name)[1] for entry in entries}
    assert found >= {
        Question,
        BoundingPass,
        Bounded,
        Pairs,
        Polygon,
        BackSubstitution,
        Branch,
        Empty,
        Program,
        CutoffTightening,
        Leaves,
        Ending,
    }
    again = [e for entries in kept("lstm complete")[1] for e in entries if isinstance(e, BackSubstitution)]
    assert any(len(entry.multipliers) for entry in again)
    assert any(entry.mixed and entry.steps.max() > 1 for entry in again)


@pytest.mark.parametrize(
    "region", [tv.L2Ball(1.8), tv.L1Ball(5.0, clip=(-1, 2)), tv.LinfBall(0.9, clip=(0, 1), frames=[1]), FRAMEWISE]
)
def test_regions_are_written_as_they_are(region: tv.Perturbation, tmp_path: Path) -> None:
    model, x = network("lstm")
    tv.certify(model, x[:1], None, region, method="planes", thorough=True, evidence=tmp_path)
    asked = read_evidence(tmp_path / "0.npz")[0]
    assert isinstance(asked, Question)
    one = region.around(x[:1])
    assert (asked.norm, asked.radius) == (f"{one.norm:g}", float(one.radius[0]))
    assert asked.groups.tolist() == ([0, 0, 0, 1, 1, 1, 2, 2, 2] if region is FRAMEWISE else [])
    for values, expected in ((asked.lower, one.box.lower), (asked.upper, one.box.upper), (asked.centre, one.centre)):
        assert np.array_equal(values, expected[0].numpy())
    assert [node["size"] for node in asked.nodes] == [node.size for node in model.graph.nodes]
    assert Check(read_evidence(tmp_path / "0.npz"), Numbers.of(model.graph)).back_substitutions


def test_files_are_named_by_the_inputs_of_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = held_out()
    inputs, folder, out = tmp_path / "inputs.npz", tmp_path / "evidence", tmp_path / "out.jsonl"
    np.savez(inputs, x=x[:4], y=y[:4])
    command = ["certify", str(NETWORKS["GRU"]), str(inputs), "--eps", "0.04", "--skip-wrong", "--quiet", "--out", str(out)]
    assert main([*command, "--evidence", str(folder)]) == 0
    numbers = [json.loads(line)["index"] for line in out.read_text().splitlines()]
    assert sorted(int(path.stem) for path in folder.glob("*.npz")) == numbers == [0, 2, 3]
    for number in numbers:
        asked = read_evidence(folder / f"{number}.npz")[0]
        assert isinstance(asked, Question)
        assert asked.input == number
    capsys.readouterr()
    out.unlink()
    assert main([*command, "--evidence", str(folder)]) == 2
    assert "exists already; give another name to --evidence" in capsys.readouterr().err
    assert main([*command, "--evidence", str(folder), "--force"]) == 0


def test_what_cannot_be_kept_or_read_is_said(tmp_path: Path) -> None:
    model, x = network("gru")
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="evidence cannot be written to"):
            tv.certify(model, x, None, tv.LinfBall(0.1), evidence=folder)
    for wrong in ("file", "none"):
        with pytest.raises(InputError, match="cannot be read as evidence"):
            read_evidence(tmp_path / wrong)


def test_what_was_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any, **_others: Any) -> Sequence[Any]:
        raise KeyboardInterrupt

    model, x = network("gru")
    monkeypatch.setattr("tightverify.stages.bounding.linear_bounds", broken)
    with pytest.raises(KeyboardInterrupt):
        tv.certify(model, x, None, tv.LinfBall(0.5), evidence=tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_can_be_read_without_the_package(tmp_path: Path) -> None:
    """As docs/evidence.md does it."""
    model, x = network("lstm")
    tv.certify(model, x[:1], None, tv.LinfBall(0.5), evidence=tmp_path)
    text = (Path(__file__).resolve().parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[2].split("```")[0].replace("folder/0.npz", str(tmp_path / "0.npz"))
    found: list[tuple[str, dict[str, Any]]] = []
    lines = [*code.splitlines(), "    found.append((kind, fields))"]
    exec("\n".join(lines), {"found": found})
    for (kind, values), entry in zip(found, tv.read_evidence(tmp_path / "0.npz"), strict=True):
        assert kind == type(entry).__name__
        for name, value in vars(entry).items():
            if isinstance(value, np.ndarray) and value.size:
                assert np.array_equal(values[name], value)
