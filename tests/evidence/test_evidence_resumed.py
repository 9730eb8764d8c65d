"""Evidence of what was left and gone on with: searches from their trees, programs and searches that the time cuts short."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tightverify as tv
from tests.helpers.evidence_check import Check, Numbers, Refused
from tests.helpers.evidence_runs import network
from tightverify import stages
from tightverify.branch.search import Branching
from tightverify.errors import OutOfTimeError, UsageError
from tightverify.evidence import PROPERTY, BoundingPass, Branch, Leaves, Margins, Question, Resumed, read_evidence
from tightverify.recording.record import Earlier, Record
from tightverify.refine.converge import Converged, Cutter
from tightverify.refine.milp import Progress

RESUMED: dict[str, tuple[str, float | tv.Perturbation, int, int]] = {
    "gru": ("short gru", 0.72, 0, 1),
    "lstm, top": ("lstm", 1.4, 0, 2),
    "coordinates": ("mlp", tv.L2Ball(0.8), 2, 1),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "coordinates")) for name in RESUMED])
def test_a_search_that_goes_on_has_evidence_of_all_that_was_before(name: str, tmp_path: Path) -> None:
    kind, eps, place, top = RESUMED[name]
    model, x = network(kind)
    numbers, trees = Numbers.of(model.graph), tmp_path / "trees"
    region = tv.LinfBall(eps) if isinstance(eps, float) else eps

    def run(splits: int, folder: Path, directions: int | None = None) -> tv.Result:
        (result,) = tv.certify(
            model,
            x[place : place + 1],
            None,
            region,
            method="complete",
            top=top,
            rounds=1,
            splits=splits,
            restarts=0,
            directions=directions,
            trees=trees,
            evidence=folder,
        )
        return result

    margins, before = [], 0
    for k, splits in enumerate((1, 3, 200)):
        result = run(splits, tmp_path / str(k), directions=4 if k == 1 else None)  # planes of other polygons than before
        margins.append(result.margin)
        entries = read_evidence(tmp_path / str(k) / "0.npz")
        check = Check(entries, numbers)
        assert sum(isinstance(entry, Question) for entry in entries) == 1
        assert len({entry.bounding_pass for entry in entries if isinstance(entry, BoundingPass)}) == sum(
            isinstance(e, BoundingPass) for e in entries
        )
        assert [entry.number for entry in entries if isinstance(entry, Branch)] == [branch.number for branch in result.tree]
        assert check.back_substitutions > before
        before = check.back_substitutions
        assert any(isinstance(entry, Resumed) for entry in entries) is (k > 0)
    assert result.verdict is tv.Verdict.ROBUST
    assert margins == sorted(margins)
    assert not list(tmp_path.rglob("*.part"))
    # What was found before is needed: without it the proof does not hold.
    first = next(k for k, entry in enumerate(entries) if isinstance(entry, Branch) and entry.closed == "proved")
    with pytest.raises((Refused, KeyError)):
        Check([*entries[:first], *entries[first + 1 :]], numbers)
    resumed = next(k for k, entry in enumerate(entries) if isinstance(entry, Resumed))
    entry = entries[resumed]
    assert isinstance(entry, Resumed)
    wrong = replace(entry, whole=entry.bounding_pass)
    if name != "lstm, top":  # whose leaf may be the whole region itself
        with pytest.raises(Refused):
            Check([*entries[:resumed], wrong, *entries[resumed + 1 :]], numbers)


def test_a_part_in_which_nothing_was_found_is_no_line_of_the_file(tmp_path: Path) -> None:
    """As where a search is kept twice and found nothing in between."""
    path, margins = tmp_path / "0.npz", np.array([0.5, -1.0])
    with Record(path, Earlier(tmp_path / "parts")) as record:
        record.add(Margins("interval", margins))
        assert record.keep() == (1, 0)
        assert record.keep() == (2, 0)
        record.add(Margins("linear", margins + 1))
    assert [entry.stage for entry in read_evidence(path) if isinstance(entry, Margins)] == ["interval", "linear"]


def test_time_that_runs_out_leaves_evidence_that_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any moment: a search is stopped at ever later checks of the time, and goes on from there."""
    model, x = network("mlp")
    numbers = Numbers.of(model.graph)

    def run(folder: Path) -> tv.Result:
        return tv.certify(
            model, x[:1], None, tv.LinfBall(0.8), method="complete", rounds=1, splits=40, restarts=0, trees=tmp_path / "trees",
            evidence=folder,
        )[0]  # fmt: skip

    original, left = Branching.split, [0]

    def split(self: Branching, *arguments: Any) -> Any:
        def late() -> bool:
            left[0] -= 1
            if left[0] < 0:
                raise OutOfTimeError("too late")
            return False

        return original(replace(self, budget=replace(self.budget, cancelled=late)), *arguments)

    monkeypatch.setattr(Branching, "split", split)
    verdicts = []
    for k in range(20):
        left[0] = 4 * (k + 1)
        result = run(tmp_path / str(k))
        verdicts.append(result.verdict)
        check = Check(read_evidence(tmp_path / str(k) / "0.npz"), numbers)
        assert check.branches
        if result.verdict is tv.Verdict.ROBUST:
            break
        assert result.verdict is tv.Verdict.TIMED_OUT
        parents = [branch.parent for branch in result.tree if branch.split is not None and branch.split.node != PROPERTY]
        assert all(parents.count(number) == 2 for number in parents), "nothing is split twice"
    assert len(verdicts) > 3
    assert verdicts[-1] is tv.Verdict.ROBUST


@pytest.mark.parametrize(
    ("name", "eps", "late", "counts"),
    [
        ("steep", 0.5, False, (1, 16)),
        ("steep", 0.6, True, (4, 16)),
        ("short gru", 0.75, False, (4,)),
        pytest.param("short gru", 0.75, True, (1, 4), marks=pytest.mark.slow),
    ],
)
def test_margins_of_rows_that_programs_leave_open_follow(
    name: str, eps: float, late: bool, counts: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trees that were left growing: few leaves are allowed, or the time runs out after so many steps."""
    model, x = network(name)
    numbers = Numbers.of(model.graph)
    original = stages.milp.decide  # type: ignore[attr-defined]

    def decide(most: int) -> Callable[..., Iterator[Progress]]:
        def some(*given: Any) -> Iterator[Progress]:
            *first, deciding, budget = given
            for k, step in enumerate(original(*first, replace(deciding, leaves=10**6 if late else most), budget)):  # type: ignore[call-arg]
                if late and k == most:
                    raise OutOfTimeError("too late")
                yield step

        return some

    x = x[:1]
    margins, seen = [], 0
    for most in counts:
        monkeypatch.setattr(stages.milp, "decide", decide(most))
        folder = tmp_path / str(most)
        (result,) = tv.certify(model, x, None, tv.LinfBall(eps), method="milp", rounds=1, restarts=0, evidence=folder)
        assert result.verdict is (tv.Verdict.TIMED_OUT if late else tv.Verdict.UNKNOWN)
        entries = read_evidence(folder / "0.npz")
        assert Check(entries, numbers).programs
        margins.append(result.margin)
        places = [k for k, entry in enumerate(entries) if isinstance(entry, Leaves)]
        seen += len(places)
        if places and math.isfinite(entries[places[0]].bounds.min()):  # type: ignore[union-attr]
            wrong: Any = entries[places[0]]
            wrong = replace(wrong, bounds=wrong.bounds + 0.5)
            with pytest.raises(Refused):
                Check([*entries[: places[0]], wrong, *entries[places[0] + 1 :]], numbers)
    assert margins == sorted(margins)
    assert margins[-1] < 0
    assert (margins[0] < margins[-1]) is (len(counts) > 1)
    assert seen or eps == 0.6


def test_a_program_that_the_time_cuts_short_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Cutter.converge

    def converge(self: Cutter, *given: Any) -> Iterator[Converged]:
        for k, found in enumerate(original(self, *given)):
            if k == 2:
                raise OutOfTimeError("too late")
            yield found

    monkeypatch.setattr(Cutter, "converge", converge)
    model, x = network("gru")
    (result,) = tv.certify(model, x[2:3], None, tv.LinfBall(0.55), method="lp", rounds=1, restarts=0, evidence=tmp_path)
    assert result.verdict is tv.Verdict.TIMED_OUT
    assert Check(read_evidence(tmp_path / "0.npz"), Numbers.of(model.graph)).programs == 1


@pytest.mark.parametrize("method", ["linear", "milp"])
def test_where_nothing_is_split_no_parts_are_kept(method: str, tmp_path: Path) -> None:
    model, x = network("straight" if method == "milp" else "mlp")
    region, trees = tv.LinfBall(0.6) if method == "milp" else tv.Gain(12.0), tmp_path / "trees"
    results = tv.certify(model, x[:2], None, region, method=method, restarts=0, trees=trees, evidence=tmp_path)
    assert any(result.verdict is tv.Verdict.ROBUST for result in results)
    for k in range(2):
        assert Check(read_evidence(tmp_path / f"{k}.npz"), Numbers.of(model.graph)).back_substitutions
    assert not list(trees.rglob("*"))


def test_a_tree_and_its_evidence_belong_together(tmp_path: Path) -> None:
    model, x = network("mlp")

    def run(evidence: Path | None, splits: int = 1) -> None:
        region, trees = tv.LinfBall(0.8), tmp_path / "trees"
        tv.certify(model, x[:1], None, region, method="complete", rounds=1, splits=splits, trees=trees, evidence=evidence)

    run(tmp_path / "one")
    parts = sorted((tmp_path / "trees" / "0-evidence").iterdir())
    assert [part.name for part in parts] == [f"{k}.npz" for k in range(len(parts))]
    kept = parts[0].read_bytes()
    parts[0].unlink()
    with pytest.raises(UsageError, match="it was removed; remove that tree"):
        run(tmp_path / "two")
    parts[0].write_bytes(kept)
    run(None, 2)
    with pytest.raises(UsageError, match="begun without any"):
        run(tmp_path / "three", 3)
    for path in (tmp_path / "trees").iterdir():
        if path.is_file():
            path.unlink()
    assert not list((tmp_path / "trees").rglob("*.part"))
    run(tmp_path / "four")  # parts of a tree that is gone are replaced
    assert Check(read_evidence(tmp_path / "four" / "0.npz"), Numbers.of(model.graph)).back_substitutions
