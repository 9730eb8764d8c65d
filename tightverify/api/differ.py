"""`tightverify.differ`: by how much the outputs of two networks differ, on a whole region.

Both become one graph (`models.pair`), whose outputs are the first network's and, beside them, the differences d of the first
to the second. `within` asks for rows `delta - d > 0` and `delta + d > 0` of each output, which the method's stages decide like
any other property. Without it, what comes back is a bracket: a bound that is proved, and the largest difference that a search
found, replayed through both users' own models.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor

from tightverify.api.bounds import bounds
from tightverify.api.certify import prepared, usable_settings
from tightverify.api.checks import as_inputs, as_region, fitting
from tightverify.api.difference_search import difference_rows, largest_differences
from tightverify.api.differences import Comparison, Difference, Differences
from tightverify.api.gathering import Progress, teller
from tightverify.api.load import AnyModel, load
from tightverify.api.passes import PASSES
from tightverify.calling import plainly
from tightverify.errors import InputError, UsageError
from tightverify.models.answers import answers
from tightverify.models.model import Model
from tightverify.models.pair import pair, subtracted
from tightverify.region import Perturbation
from tightverify.settings import Options, Settings, merged
from tightverify.values import above
from tightverify.verify import Result, Verdict

MEANT = {
    Verdict.ROBUST: Comparison.EQUIVALENT,
    Verdict.COUNTEREXAMPLE: Comparison.COUNTEREXAMPLE,
    Verdict.MISCLASSIFIED: Comparison.COUNTEREXAMPLE,
    Verdict.UNKNOWN: Comparison.UNKNOWN,
    Verdict.TIMED_OUT: Comparison.TIMED_OUT,
}

WIDE = 0.5
"""Where differences are bounded by more than such a part of the first network's range, both outputs are subtracted as well."""


LEAST_TIME = 1e-6
"""Seconds that are left of a time that is used up, so that stages end at once, each having said what it can."""


@plainly
def differ(
    first: AnyModel,
    second: AnyModel,
    x: Any,
    region: Perturbation,
    within: Any = None,
    *,
    agree: bool = False,
    settings: Settings | None = None,
    batch_axis: int | None = None,
    progress: Progress = None,
    **options: Unpack[Options],
) -> Differences:
    """Bound by how much two networks' outputs differ on the region around each input, or decide whether they stay close.

    `within`, a number or one for each output, asks whether no output ever differs by more: EQUIVALENT if that is proved,
    COUNTEREXAMPLE with a point at which one does. Without it the results have the least `bound` that the method proves and the
    largest difference `found`. `agree=True` asks instead whether the second network gives, on the whole region, the class that
    the first gives at the input itself. Settings are as in `certify`; the method is `combine` if none is given.
    """
    if settings is None and "method" not in options:
        options["method"] = "combine"
    settings, region, x = usable_settings(merged(settings, options)), as_region(region), as_inputs(x)
    if agree and within is not None:
        raise UsageError("within and agree were given together; ask one question at a time")
    one, other = (load(model, batch_axis=batch_axis, inputs=x) for model in (first, second))
    for model in () if agree else (one, other):
        model.refuse_left_out("it is asked by how much outputs differ")
    both = pair(one, other)
    x = fitting(both, x)
    delta = None if within is None else as_limits(within, both.graph.output_size // 2)
    with teller(progress, both.name, len(x)) as tell:
        found = compared(one, other, both, x, region, delta, agree, settings)
        tell(len(x), len(x))
    return Differences(found, f"{one.source} and {other.source}", settings.method, within, agree)


def compared(
    one: Model,
    other: Model,
    both: Model,
    x: Tensor,
    region: Perturbation,
    delta: Tensor | None,
    agree: bool,
    settings: Settings,
) -> list[Difference]:
    """The results of all inputs: what a search finds, and in the time that is left what is proved."""
    searched = largest_differences(both, x, region, settings)
    largest, points = searched.values, searched.points
    settings = shorter(settings, max(searched.seconds))
    if agree:
        labels = answers(one, x.to(one.dtype))
        decided = results_of(other, x.to(other.dtype), labels, region, settings)
        nothing = torch.full((both.graph.output_size // 2,), math.inf, dtype=torch.float64)
        return [
            Difference(
                k, MEANT[r.verdict], nothing, largest[k], x[k] if r.verdict is Verdict.MISCLASSIFIED else r.counterexample,
                r.seconds + searched.seconds[k], r.stage,
            )
            for k, r in enumerate(decided)
        ]  # fmt: skip

    def asked(model: Model, some: list[int], settings: Settings) -> list[Difference]:
        around = region.chosen(torch.tensor(some), x.dim())
        if delta is None:
            return bracket(model, x[some], around, settings, largest[some])
        decided = results_of(model, x[some], None, around, settings, delta)
        return [limited(r, delta, largest[k], points[k].view(x.shape[1:])) for k, r in zip(some, decided, strict=True)]

    found = asked(both, list(range(len(x))), settings)
    wide = [] if both.notes else too_wide(one, x, region, settings, found)
    used = max((found[k].seconds for k in wide), default=0.0)
    if wide and used < settings.time_limit:
        again = asked(subtracted(one, other), wide, shorter(settings, used))
        for k, other_way in zip(wide, again, strict=True):
            found[k] = better(found[k], other_way)
    return [replace(each, seconds=each.seconds + took) for each, took in zip(found, searched.seconds, strict=True)]


def shorter(settings: Settings, seconds: float) -> Settings:
    """The same with so many seconds less."""
    return replace(settings, time_limit=max(settings.time_limit - seconds, LEAST_TIME))


def too_wide(one: Model, x: Tensor, region: Perturbation, settings: Settings, found: list[Difference]) -> list[int]:
    """Inputs that are open, with a difference so large beside the first network's outputs that subtracting may prove more."""
    if settings.evidence is not None:  # it has room for one graph
        return []
    widths = bounds(one, x, region, method="linear", device=settings.device).width
    still = Comparison.BOUNDED, Comparison.UNKNOWN
    return [k for k, r in enumerate(found) if r.verdict in still and bool((r.bound > WIDE * widths[k]).any())]


def better(one: Difference, other: Difference) -> Difference:
    """What two graphs of the same networks have proved of an input, together."""
    chosen = one if other.verdict is Comparison.UNKNOWN else other
    bound = torch.minimum(one.bound, other.bound)
    return replace(chosen, index=one.index, bound=bound, seconds=one.seconds + other.seconds)


def limited(result: Result, delta: Tensor, largest: Tensor, points: Tensor) -> Difference:
    """The result of one input that was to differ by so much at most; the search may have found more than the stages' own."""
    verdict, point = MEANT[result.verdict], result.counterexample
    if verdict in (Comparison.UNKNOWN, Comparison.TIMED_OUT) and bool((largest > delta).any()):
        verdict, point = Comparison.COUNTEREXAMPLE, points
    return Difference(result.index, verdict, bound_of(result, delta), largest, point, result.seconds, result.stage)


def bound_of(result: Result, delta: Tensor) -> Tensor:
    """(K,): what margins of `delta - d` and `delta + d` leave to |d|."""
    return above(delta - torch.minimum(*result.margins.chunk(2)), 0.0)


def bracket(both: Model, x: Tensor, region: Perturbation, settings: Settings, largest: Tensor) -> list[Difference]:
    """What is proved of every output: by one bounding pass where the method is one, else by all of its stages."""
    outputs = both.graph.output_size // 2
    if settings.method in PASSES and settings.time_limit == math.inf and settings.evidence is None:
        names = ("method", "device", "memory", "batch", "directions", "solver")
        start = time.perf_counter()
        chosen = {name: getattr(settings, name) for name in names}
        proved = bounds(both, x, region, **chosen).magnitude[:, outputs:]
        seconds = (time.perf_counter() - start) / len(x)
        every = enumerate(zip(proved, largest, strict=True))
        return [Difference(k, Comparison.BOUNDED, p, f, None, seconds, settings.method) for k, (p, f) in every]
    zero = torch.zeros(outputs, dtype=torch.float64)
    decided = results_of(both, x, None, region, replace(settings, thorough=True, restarts=0), zero)
    return [
        Difference(k, Comparison.BOUNDED, bound_of(r, zero), largest[k], None, r.seconds, r.stage)
        for k, r in enumerate(decided)
    ]


def results_of(
    model: Model, x: Tensor, labels: Tensor | None, region: Perturbation, settings: Settings, delta: Tensor | None = None
) -> list[Result]:
    """The stages' results, in the order of the inputs: of labels, or of differences that shall stay below a limit."""
    rows = None if delta is None else (difference_rows(len(delta)), torch.cat([delta, delta]))
    found: list[Result] = []
    prepared(model, x, labels, region, settings, rows).run(found.append)
    return sorted(found, key=lambda result: result.index)


def as_limits(within: Any, outputs: int) -> Tensor:
    """(K,): by how much each output may differ."""
    try:
        limits = torch.as_tensor(within, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"within cannot be made a tensor ({error}); give a number, or one for each output") from error
    if limits.dim() > 1 or (limits.dim() == 1 and len(limits) != outputs):
        raise InputError(f"within has shape {tuple(limits.shape)}; wanted a number, or one for each of {outputs} outputs")
    if not bool((limits > 0).all() & torch.isfinite(limits).all()):
        raise InputError(f"within is {within}; wanted finite numbers above 0")
    return limits.expand(outputs).clone()
