"""The list of stages: what each method runs, in order. Cheap ones come first; each sees only what is still open.

To add a stage, write it in a file here and name it in `METHODS`.
"""

from __future__ import annotations

from tightverify.errors import UsageError
from tightverify.region import Zonotope
from tightverify.stages.bounding import interval_stage, linear_stage, planes_stage
from tightverify.stages.branch import branch_stage
from tightverify.stages.combine import combine_stage, first_round_stage
from tightverify.stages.lp import lp_stage
from tightverify.stages.milp import milp_stage, surely_ends
from tightverify.stages.pieces import pieces_stage
from tightverify.stages.problem import Problem, Stage
from tightverify.stages.search import attack_stage

METHODS: dict[str, tuple[tuple[str, Stage], ...]] = {
    "interval": (("interval", interval_stage), ("attack", attack_stage)),
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
        ("combine", combine_stage),
        ("lp", lp_stage),
    ),
    "milp": (
        ("interval", interval_stage),
        ("linear", linear_stage),
        ("attack", attack_stage),
        ("combine", combine_stage),
        ("milp", milp_stage),
    ),
}


def stages_of(method: str) -> tuple[tuple[str, Stage], ...]:
    """The stages of a method, by its name."""
    if method not in METHODS:
        raise UsageError(f"the method {method!r} does not exist; choose one of {', '.join(METHODS)}")
    return METHODS[method]


def stages_for(problem: Problem) -> tuple[tuple[str, Stage], ...]:
    """The stages of a problem's method.

    Where a few unknown shares move the inputs, bounds over pieces come after them. Where mixed-integer programs are sure to end
    they stand in for branch and bound, whose halves they outdo by far.
    """
    stages = stages_of(problem.settings.method)
    if problem.region.separable and surely_ends(problem.graph):
        stages = tuple(("milp", milp_stage) if stage is branch_stage else (name, stage) for name, stage in stages)
    if isinstance(problem.region, Zonotope) and linear_stage in dict(stages).values():
        stages = (*stages, ("pieces", pieces_stage))
    return stages


def passed_by(method: str, boxes: bool, words: str) -> list[str]:
    """What a user should know of stages that have nothing to say about regions that are no boxes."""
    silent = [name for name, stage in stages_of(method) if stage in BOXES_ONLY and not boxes]
    return [f"the stage {name} needs a box: it passes the region {words} by" for name in silent]


BOXES_ONLY = (lp_stage, milp_stage)
"""Stages whose programs hold boxes of inputs only; other regions are left as they were."""
