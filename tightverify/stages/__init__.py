"""The list of stages: what each method runs, in order. Cheap ones come first; each sees only what is still open.

To add a stage, write it in a file here and name it in `METHODS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tightverify.errors import UsageError
from tightverify.region import SplitBy
from tightverify.stages.attack import attack_stage
from tightverify.stages.bounding import (
    crown_ibp_stage,
    crown_lbp_stage,
    interval_stage,
    lbp_stage,
    linear_stage,
    planes_stage,
    window_stage,
)
from tightverify.stages.branch import branch_stage
from tightverify.stages.combine import combine_stage, first_round_stage, rounds_stage
from tightverify.stages.lp import lp_stage
from tightverify.stages.milp import milp_stage, surely_ends
from tightverify.stages.problem import Problem, Stage
from tightverify.stages.sentences import sentences_stage
from tightverify.stages.zonotope_splits import pieces_stage

METHODS: dict[str, tuple[tuple[str, Stage], ...]] = {
    "interval": (("interval", interval_stage), ("attack", attack_stage)),
    "crown-ibp": (("interval", interval_stage), ("crown-ibp", crown_ibp_stage), ("attack", attack_stage)),
    "lbp": (("interval", interval_stage), ("lbp", lbp_stage), ("attack", attack_stage)),
    "crown-lbp": (("interval", interval_stage), ("crown-lbp", crown_lbp_stage), ("attack", attack_stage)),
    "window": (("interval", interval_stage), ("window", window_stage), ("attack", attack_stage)),
    "linear": (("interval", interval_stage), ("linear", linear_stage), ("attack", attack_stage)),
    "planes": (
        ("interval", interval_stage),
        ("linear", linear_stage),
        ("attack", attack_stage),
        ("planes", planes_stage),
    ),
    "combine": (
        ("interval", interval_stage),
        ("linear", linear_stage),
        ("attack", attack_stage),
        ("planes", planes_stage),
        ("combine", combine_stage),
    ),
    "complete": (
        ("interval", interval_stage),
        ("linear", linear_stage),
        ("attack", attack_stage),
        ("planes", planes_stage),
        ("combine", first_round_stage),
        ("branch", branch_stage),
    ),
    "lp": (
        ("interval", interval_stage),
        ("linear", linear_stage),
        ("attack", attack_stage),
        ("planes", planes_stage),
        ("combine", rounds_stage),
        ("lp", lp_stage),
    ),
    "milp": (
        ("interval", interval_stage),
        ("linear", linear_stage),
        ("attack", attack_stage),
        ("combine", rounds_stage),
        ("milp", milp_stage),
    ),
}


SHARES: dict[Stage, float] = {
    attack_stage: 0.5,
    combine_stage: 0.5,
    rounds_stage: 0.5,
    first_round_stage: 0.5,
    pieces_stage: 0.5,
}
"""The most that a stage takes of the time that is left, where others come after it.

The others have none: what comes after one of them needs more time than it, and would bring nothing in the rest of too little.
"""


PREPARATIONS: dict[Stage, float] = {planes_stage: 12.0, first_round_stage: 70.0}
"""About how many times as long as `linear` what prepares a search takes: from 7 to 15, and from 20 to 85, were measured."""
SEARCHES = branch_stage, milp_stage


def share_of(problem: Problem, stage: Stage, later: Sequence[Stage], left: float) -> float:
    """How much of the time that is left, so many seconds of each input, a stage may take before those that come after it.

    Where what prepares a search is not likely to be done in its share, by the time that linear bounds took (`Problem.pace`),
    it takes nothing: the search begins at once, from these bounds, as if it were alone. So with a short limit `complete` is no
    worse than its last stage alone, but for the search for counterexamples, which has half of the time at most. With a longer
    one the preparations take at most half of what is left, and the search goes on from their intervals: what it proves then
    may be more than what it would alone in all the time, or less.
    """
    working = [other for other in later if has_work(other, problem)]
    share = SHARES.get(stage, 1.0) if working else 1.0
    if stage in PREPARATIONS and first_round_stage in (stage, *working) and any(other in SEARCHES for other in working):
        cost = sum(PREPARATIONS.get(each, 0.0) for each in (stage, *working))
        return share if cost * problem.pace <= SHARES[first_round_stage] * left else 0.0
    return share


def has_work(stage: Stage, problem: Problem) -> bool:
    """Whether a stage has anything to say of such regions."""
    if stage is branch_stage:
        return problem.settings.splits > 0 and SplitBy.NEURONS in problem.region.splits
    return stage not in BOXES_ONLY or problem.region.separable


def stages_of(method: str) -> tuple[tuple[str, Stage], ...]:
    """The stages of a method, by its name."""
    if method not in METHODS:
        raise UsageError(f"the method {method!r} does not exist; choose one of {', '.join(METHODS)}")
    return METHODS[method]


def stages_for(problem: Problem) -> tuple[tuple[str, Stage], ...]:
    """The stages of a problem's method.

    Regions of few points are decided point by point, before anything that takes longer. Where a few unknown shares move the
    inputs, bounds over pieces decide most of what is open after `attack`, in a fraction of the time of what comes next; what
    they leave open is cut again in the end, when more is known. Where mixed-integer programs
    are sure to end they stand in for branch and bound, whose halves they outdo by far.
    """
    stages = stages_of(problem.settings.method)
    if problem.region.separable and surely_ends(problem.graph):
        stages = tuple(("milp", milp_stage) if stage is branch_stage else (name, stage) for name, stage in stages)
    if problem.region.finite is not None:
        stages = (*stages[:1], ("sentences", sentences_stage), *stages[1:])
    if SplitBy.GENERATORS in problem.region.splits and linear_stage in dict(stages).values():
        last = ("pieces", pieces_stage)
        place = next((k for k, (_, stage) in enumerate(stages, start=1) if stage is attack_stage), len(stages))
        early = (last,) if place < len(stages) else ()
        stages = (*stages[:place], *early, *stages[place:], last)
    return stages


def passed_by(method: str, boxes: bool, words: str) -> list[str]:
    """What a user should know of stages that have nothing to say about regions that are no boxes."""
    silent = [name for name, stage in stages_of(method) if stage in BOXES_ONLY and not boxes]
    return [f"the stage {name} needs a box: it passes the region {words} by" for name in silent]


BOXES_ONLY = (lp_stage, milp_stage)
"""Stages whose programs hold boxes of inputs only; other regions are left as they were."""
