"""The search for large differences of two networks: gradient descent on each output's, whose finds are replayed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.attack import Search, descend, into_dtype
from tightverify.budget import Budget
from tightverify.models.answers import run_original
from tightverify.models.model import Model
from tightverify.region import Perturbation
from tightverify.settings import Settings
from tightverify.spec import Property

SHARE = 0.25
"""Of an input's time, so much goes to the search at most; what proves has the rest."""


@dataclass(frozen=True, eq=False)
class Largest:
    """(N, K) the largest |differences| found, (N, n) where each input's largest is, and the (N) seconds that it took."""

    values: Tensor
    points: Tensor
    seconds: list[float]


def largest_differences(both: Model, x: Tensor, region: Perturbation, settings: Settings) -> Largest:
    """The largest differences found around each input, each replayed through both users' own models.

    A search goes down each row of `difference_rows` at least once, unless the input's time runs out before.
    """
    outputs, regions = both.graph.output_size // 2, region.around(x)
    points = x.flatten(1).to(torch.float64, copy=True)
    found = Largest(torch.zeros(len(x), outputs, dtype=torch.float64), points, [0.0] * len(x))
    rows = difference_rows(outputs)[None]
    spec = Property(rows, torch.zeros(1, 2 * outputs, dtype=torch.float64), 2 * outputs)
    search = Search(4 * outputs + settings.restarts, settings.attack_steps, settings.seed)
    for k in range(len(x) if settings.restarts else 0):
        began = time.monotonic()
        one, budget = regions[k : k + 1], Budget(began + SHARE * settings.time_limit)
        for candidate in descend(both.graph, one, spec, search, budget):
            moved, inside = into_dtype(one, candidate, both.dtype)
            if bool(inside[0]):
                value = run_original(both, moved.to(both.dtype).view(1, *x.shape[1:]))[0, outputs:].abs().nan_to_num()
                if value.max() > found.values[k].max():
                    found.points[k] = moved[0]
                found.values[k] = torch.maximum(found.values[k], value)
        found.seconds[k] = time.monotonic() - began
    return found


def difference_rows(outputs: int) -> Tensor:
    """(2 K, 2 K): -d and d of each output, over the outputs (y, d)."""
    identity = torch.eye(outputs, dtype=torch.float64)
    return torch.cat([torch.zeros(2 * outputs, outputs, dtype=torch.float64), torch.cat([-identity, identity])], dim=1)
