"""A method of `certify` as a relaxation to compare: what its stages leave of a network's intervals, and the margins they prove.

The stages run one after the other on every input, the search for counterexamples left out, and none leaves an input that is
proved: it is bounds that are compared, not verdicts. Widths are those of the whole region, also where it is split in the end.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightverify.bounds.interval import interval_bounds
from tightverify.budget import Budget
from tightverify.graph import Graph
from tightverify.models.model import Model
from tightverify.region import Region
from tightverify.settings import Settings
from tightverify.spec import Property
from tightverify.stages import stages_for
from tightverify.stages.attack import attack_stage
from tightverify.stages.problem import BoundsSoFar, Problem
from tightverify.values import Interval


def by_method(settings: Settings, model: Model, graph: Graph, region: Region, spec: Property) -> tuple[list[Interval], Tensor]:
    """The narrowest intervals (B, n) that are known of every node in the end, and the worst margins (B,)."""
    numbers = torch.arange(len(region))
    budget = Budget(memory=settings.memory)
    problem = Problem(model, graph, region, spec, settings, numbers, numbers, budget=budget)
    none = torch.full(spec.rows.shape[:2], -math.inf, dtype=torch.float64, device=region.centre.device)
    known = BoundsSoFar(none, torch.zeros_like(none[:, 0], dtype=torch.bool), region.centre.clone())
    for _, stage in stages_for(problem):
        if stage is not attack_stage:
            known = stage(problem, known)
    first = interval_bounds(graph, region)
    found = known.intervals or first
    return [one.intersect(other) for one, other in zip(first, found, strict=True)], known.worst(spec)
