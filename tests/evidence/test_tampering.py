"""What does not follow is refused: evidence with one entry changed, forged, left out, or about something else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tightverify as tv
from tests.helpers.evidence_check import Check, Refused
from tests.helpers.evidence_runs import Kept
from tightverify.evidence import (
    PROPERTY,
    BackSubstitution,
    Bounded,
    BoundingPass,
    Branch,
    CutoffTightening,
    Empty,
    Ending,
    Entry,
    Leaves,
    Pairs,
    Polygon,
    Program,
    Question,
)


def raised(values: Any, share: float = 0.1) -> Any:
    """Arrays with everything that is finite a little higher."""
    return values + share * (1 + np.abs(values))


def shrunk(polygon: Polygon) -> Polygon:
    middle = polygon.vertices.mean(1, keepdims=True)
    return replace(polygon, vertices=middle + 0.8 * (polygon.vertices - middle))


def steeper(pairs: Pairs) -> Pairs:
    lower = pairs.lower.copy()
    lower[..., -1] += 0.2
    return replace(pairs, lower=lower)


def supposes(entry: BackSubstitution) -> Any:
    """Which of a back-substitution's multipliers are those of a row that is supposed to fail."""
    return entry.multiplied[:, 1] == PROPERTY


CHANGES: dict[str, tuple[str, type, Callable[[Any], Entry]]] = {
    "a plane's offset": ("lstm combine", Pairs, steeper),
    "a plane's slope": ("gru linear", Pairs, lambda e: replace(e, upper=e.upper - 0.3 * (np.arange(e.upper.shape[-1]) == 0))),
    "an interval": ("lstm linear", Bounded, lambda e: replace(e, lower=e.lower + 0.1 * (e.upper - e.lower))),
    "an interval of a part": ("lstm complete", Bounded, lambda e: replace(e, upper=e.upper - 0.1 * (e.upper - e.lower))),
    "a polygon": ("lstm planes", Polygon, shrunk),
    "a back-substitution's rows": ("gru linear", BackSubstitution, lambda e: replace(e, weights=1.5 * e.weights)),
    "a back-substitution's bound": (
        "lstm combine",
        BackSubstitution,
        lambda e: replace(e, bound=e.bound + 1e-6, proved=e.proved + 1e-6),
    ),
    "multipliers": ("lstm complete", BackSubstitution, lambda e: replace(e, multipliers=-e.multipliers - 1)),
    "what is supposed": (
        "lstm complete",
        BackSubstitution,
        lambda e: replace(e, multipliers=np.where(supposes(e), -0.1, e.multipliers)),
    ),
    "a part's side": ("lstm complete", BoundingPass, lambda e: replace(e, above=not e.above)),
    "a part's value": ("gru complete", BoundingPass, lambda e: replace(e, value=e.value + (-0.01 if e.above else 0.01))),
    "a coordinate's value": (
        "mlp complete, l2",
        BoundingPass,
        lambda e: replace(e, value=e.value + (-0.01 if e.above else 0.01)),
    ),
    "a limit": ("tanh combine", BoundingPass, lambda e: replace(e, value=e.value + 0.1)),
    "what a limit proves": ("tanh combine", Branch, lambda e: replace(e, margins=raised(e.margins))),
    "a share's value": ("gru planes, noise", BoundingPass, lambda e: replace(e, value=e.value + (-0.1 if e.above else 0.1))),
    "a share's side": ("mlp linear, gain", BoundingPass, lambda e: replace(e, above=not e.above)),
    "a piece's margins": ("gru planes, noise", Branch, lambda e: replace(e, margins=raised(e.margins, 10.0))),
    "a generator": ("mlp linear, gain", Question, lambda e: replace(e, generators=1.3 * e.generators)),
    "groups": ("lstm planes, frames", Question, lambda e: replace(e, groups=np.arange(len(e.groups), dtype=np.int32))),
    "an energy's plane": ("speech complete", Pairs, steeper),
    "an energy's interval": ("speech linear, gain", Bounded, lambda e: replace(e, upper=e.upper - 0.1 * (e.upper - e.lower))),
    "a branch's parent": ("lstm complete", Branch, lambda e: replace(e, parent=e.parent - 1)),
    "a branch's margins": ("gru complete", Branch, lambda e: replace(e, margins=raised(e.margins, 10.0))),
    "a branch's end": ("gru complete", Branch, lambda e: replace(e, closed="empty")),
    "an empty part": ("mlp complete, l1", Empty, lambda e: replace(e, lower=e.lower - 1000, upper=e.upper + 1000)),
    "a program's multipliers": ("gru lp", Program, lambda e: replace(e, dual=-e.dual)),
    "a program's bound": ("gru lp", Program, lambda e: replace(e, bound=e.bound + 0.01)),
    "a neuron's bound": ("gru tightened", Program, lambda e: replace(e, bound=e.bound + 0.01)),
    "a neuron's side": ("gru tightened", Program, lambda e: replace(e, cost=-e.cost)),
    "a program's row": ("gru lp", Program, lambda e: replace(e, row_lower=e.row_lower + 1)),
    "a leaf's bound": ("relu milp", Leaves, lambda e: replace(e, bounds=e.bounds + 0.01)),
    "a leaf": ("relu milp", Leaves, lambda e: replace(e, upper=e.lower)),
    "a narrowed end": ("relu narrowed", CutoffTightening, lambda e: replace(e, ends=e.ends + np.where(e.above, -0.01, 0.01))),
    "what was narrowed": ("relu narrowed", CutoffTightening, lambda e: replace(e, above=~e.above)),
    "a narrowing's multipliers": ("relu narrowed", CutoffTightening, lambda e: replace(e, dual=-e.dual)),
    "a narrowing's limit": ("relu narrowed", CutoffTightening, lambda e: replace(e, limit=e.limit + 1.0)),
    "a program's limit": ("relu narrowed", Program, lambda e: replace(e, limit=math.inf)),
    "the margins": ("lstm planes", Ending, lambda e: replace(e, margins=e.margins + 1e-3)),
    "the verdict": ("lstm planes", Ending, lambda e: replace(e, verdict="ROBUST", margins=e.margins - 1.0)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_tampered_with_is_refused(what: str, kept: Callable[[str], Kept]) -> None:
    """One entry of the kind, in the middle, is changed; in some file that has one, this must be noticed."""
    name, kind, change = CHANGES[what]
    _, files, numbers = kept(name)
    noticed = 0
    for entries in files:
        places = [k for k, entry in enumerate(entries) if isinstance(entry, kind)]
        if what == "multipliers":
            places = [k for k in places if len(entries[k].multipliers)]  # type: ignore[union-attr]
        if what == "what is supposed":
            places = [k for k in places if supposes(entries[k]).any()]  # type: ignore[arg-type]
        if what == "the verdict":
            places = [k for k in places if entries[k].verdict != "ROBUST"]  # type: ignore[union-attr]
        if what == "a program's limit":
            places = [k for k in places if entries[k].limit < math.inf]  # type: ignore[union-attr]
        if what.startswith("a neuron's"):
            places = [k for k in places if entries[k].node != PROPERTY]  # type: ignore[union-attr]
        if kind is BoundingPass:
            places = [k for k in places if entries[k].parent >= 0]  # type: ignore[union-attr]
        if what == "a coordinate's value":
            places = [k for k in places if entries[k].node == 0]  # type: ignore[union-attr]
        if kind is Branch:
            places = places[-1:] if what != "a branch's end" else [k for k in places if entries[k].closed == "proved"][:1]  # type: ignore[union-attr]
        if not places:
            continue
        place = places[len(places) // 2]
        with pytest.raises(Refused):
            Check([*entries[:place], change(entries[place]), *entries[place + 1 :]], numbers)
        noticed += 1
    assert noticed


def moved(program: Program) -> Program:
    return replace(program, row_lower=program.row_lower + 5, row_upper=program.row_upper + 5)


def crossed(leaves: Leaves) -> Leaves:
    """One leaf in place of all, which holds no choice."""
    one, first = np.ones_like(leaves.lower[:1]), leaves.places[:, 0] == 0
    some = replace(leaves, places=leaves.places[first], dual=leaves.dual[first], infeasible=leaves.infeasible[:1])
    return replace(some, lower=one, upper=0 * one, bounds=leaves.bounds[:1] - 1e6)


def of_a_part(program: Program, parts: list[BoundingPass]) -> list[Entry]:
    part = BoundingPass(max(part.bounding_pass for part in parts) + 1, "lp", program.bounding_pass, 0, 0, 0.5, True)
    return [part, replace(program, bounding_pass=part.bounding_pass)]


def without_choice(program: Program) -> Program:
    count = int(program.columns[-1])
    upper = np.append(program.upper[:count], program.upper[count:] + 1)
    return replace(program, upper=upper) if len(program.upper) > count else program


FORGED: dict[str, tuple[str, type, Callable[[Any], Entry], str]] = {
    "rows of what is held": ("relu narrowed", Program, lambda e: moved(e) if e.limit < math.inf else e, "row that the network"),
    "a choice that is none": ("relu milp", Program, without_choice, "between 0 and 1"),
    "a leaf of no choice": ("relu milp", Leaves, crossed, "about no choices"),
    "choices between": (
        "relu milp",
        Leaves,
        lambda e: replace(e, upper=e.upper / 2, bounds=e.bounds - 1e6),
        "about no choices",
    ),
    "a point outside": ("lstm wide", Ending, lambda e: replace(e, point=e.point + 10.0), "not in the region"),
    "a branch that comes twice": ("lstm complete", Branch, lambda e: replace(e, number=min(e.number, 1)), "one number"),
    "a tree of a part": ("gru complete", Branch, lambda e: replace(e, number=0), "has no root"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_proves_nothing_is_refused(what: str, kept: Callable[[str], Kept]) -> None:
    """All entries of the kind are changed: the first check that looks at them says what is wrong."""
    name, kind, change, words = FORGED[what]
    _, files, numbers = kept(name)
    forged = [[change(entry) if isinstance(entry, kind) else entry for entry in entries] for entries in files]
    several = [new for new, old in zip(forged, files, strict=True) if any(a is not b for a, b in zip(new, old, strict=True))]
    for entries in several:
        with pytest.raises(Refused, match=words):
            Check(entries, numbers)
    assert several


def test_programs_of_a_part_prove_nothing_of_the_whole(kept: Callable[[str], Kept]) -> None:
    _, (entries,), numbers = kept("gru lp")
    place = next(k for k, entry in enumerate(entries) if isinstance(entry, Program))
    program = entries[place]
    assert isinstance(program, Program)
    forged = of_a_part(program, [entry for entry in entries if isinstance(entry, BoundingPass)])
    with pytest.raises(Refused, match="about a part"):
        Check([*entries[:place], *forged, *entries[place + 1 :]], numbers)


def test_programs_of_a_neuron_prove_no_row(kept: Callable[[str], Kept]) -> None:
    _, files, numbers = kept("gru tightened")
    entries = next(entries for entries in files if any(isinstance(entry, Program) for entry in entries))
    place = next(k for k, entry in enumerate(entries) if isinstance(entry, Program) and entry.node != PROPERTY)
    program = entries[place]
    assert isinstance(program, Program)
    none = np.zeros((1, 0))
    leaf = Leaves(none, none, np.zeros((0, 2), dtype=np.int32), np.zeros(0), np.array([-1e9]), np.array([False]))
    with pytest.raises(Refused, match="proves a row"):
        Check([*entries[: place + 1], leaf], numbers)
    with pytest.raises(Refused, match="some inputs only"):
        Check([*entries[:place], replace(program, limit=0.5)], numbers)


def test_a_point_that_breaks_nothing_is_no_counterexample(kept: Callable[[str], Kept]) -> None:
    results, (entries,), numbers = kept("lstm wide")
    question, last = entries[0], entries[-1]
    assert isinstance(question, Question)
    assert isinstance(last, Ending)
    assert results[0].verdict is tv.Verdict.COUNTEREXAMPLE
    with pytest.raises(Refused, match="breaks nothing"):
        Check([*entries[:-1], replace(last, point=question.centre)], numbers)


def test_a_part_that_is_left_out_is_missed(kept: Callable[[str], Kept]) -> None:
    _, files, numbers = kept("gru complete")
    for entries in (entries for entries in files if any(isinstance(entry, Branch) for entry in entries)):
        last = max(k for k, entry in enumerate(entries) if isinstance(entry, Branch))
        with pytest.raises(Refused):
            Check([*entries[:last], *entries[last + 1 :]], numbers)
