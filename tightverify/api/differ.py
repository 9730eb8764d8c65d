"""`tightverify.differ`: by how much the outputs of two networks differ, on a whole region.

Both become one graph (`models.pair`), whose outputs are the first network's and, beside them, the differences d of the first
to the second. `within` asks for rows `delta - d > 0` and `delta + d > 0` of each output, which the method's stages decide like
any other property. Without it, what comes back is a bracket: a bound that is proved, and the largest difference that a search
found, replayed through both users' own models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Unpack

import torch
from torch import Tensor

from tightverify.api.bounds import bounds
from tightverify.api.certify import Rows, prepared, usable_settings
from tightverify.api.checks import as_inputs, as_region, as_rows, fitting
from tightverify.api.difference_search import Largest, difference_rows, largest_differences
from tightverify.api.differences import Comparison, Difference, Differences
from tightverify.api.gathering import Progress, teller
from tightverify.api.load import AnyModel, load
from tightverify.api.passes import PASSES
from tightverify.calling import plainly
from tightverify.errors import InputError, UsageError
from tightverify.models.answers import answers
from tightverify.models.model import Model
from tightverify.models.pair import Layout, pair, subtracted
from tightverify.models.second_input import of_second_input, second_input
from tightverify.region import Perturbation, TwoInputs
from tightverify.settings import BoundsOptions, Options, Settings, merged
from tightverify.spec import Property, linear_property
from tightverify.values import Interval, above
from tightverify.verify import Result, Verdict

MEANT = {
    Verdict.ROBUST: Comparison.EQUIVALENT,
    Verdict.COUNTEREXAMPLE: Comparison.COUNTEREXAMPLE,
    Verdict.MISCLASSIFIED: Comparison.COUNTEREXAMPLE,
    Verdict.UNKNOWN: Comparison.UNKNOWN,
    Verdict.TIMED_OUT: Comparison.TIMED_OUT,
}

How = Callable[[Model, Model, Layout], Model]
"""Makes one graph of two networks."""

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
    rows: Any = None,
    inputs_within: Any = None,
    settings: Settings | None = None,
    batch_axis: int | None = None,
    progress: Progress = None,
    **options: Unpack[Options],
) -> Differences:
    """Bound by how much two networks' outputs differ on the region around each input, or decide whether they stay close.

    `within`, a number or one for each output, asks whether no output ever differs by more: EQUIVALENT if that is proved,
    COUNTEREXAMPLE with a point at which one does. Without it the results have the least `bound` that the method proves and the
    largest difference `found`. `agree=True` asks instead whether the second network gives, on the whole region, the class that
    the first gives at the input itself; `rows=(C, d)` whether `C (y, y', y - y') + d > 0`, of the first network's outputs y,
    the second's y' and their differences, side by side.

    With `inputs_within`, a number or an array of the inputs' shape (or one that broadcasts to it), the second network's input
    may be any whose numbers are each at most so far from the first's. Settings are as in `certify`; the method is `combine` if
    none is given.
    """
    if settings is None and "method" not in options:
        options["method"] = "combine"
    settings, region, x = usable_settings(merged(settings, options)), as_region(region), as_inputs(x)
    given = {"within": within is not None, "agree": agree, "rows": rows is not None}
    if sum(given.values()) > 1:
        names = " and ".join(name for name, one in given.items() if one)
        raise UsageError(f"{names} were given together; ask one question at a time")
    one, other = (load(model, batch_axis=batch_axis, inputs=x) for model in (first, second))
    for model in () if agree else (one, other):
        model.refuse_left_out("it is asked by how much outputs differ")
    gap, limits, stated = as_gap(inputs_within, x), as_limits(within, one), as_asked(rows, one, x)
    asked = Asked(one, other, x, region, gap, settings, limits, stated, agree)
    with teller(progress, asked.both.name, len(x)) as tell:
        found = compared(asked)
        tell(len(x), len(x))
    models = f"{one.source} and {other.source}"
    return Differences(found, models, settings.method, within, agree, rows is not None, inputs_within)


@dataclass(frozen=True, eq=False)
class Asked:
    """Two networks, the inputs and the region around each, how far apart both networks' inputs may be, and the question."""

    one: Model
    other: Model
    x: Tensor
    region: Perturbation
    gap: Tensor | None
    settings: Settings
    limits: Tensor | None
    rows: Property | None
    agree: bool

    @cached_property
    def both(self) -> Model:
        return pair(self.one, self.other, self.layout())

    def layout(self, all_three: bool = False) -> Layout:
        return Layout(self.gap is not None, all_three)

    @cached_property
    def inputs(self) -> Tensor:
        """The inputs as pairs read them."""
        x = fitting(self.one, self.x).to(self.both.dtype)
        return x if self.gap is None else torch.stack([x, torch.zeros_like(x)], 1)

    @cached_property
    def around(self) -> Perturbation:
        """The region as pairs read it."""
        return self.region if self.gap is None else TwoInputs(self.region, self.gap)

    def some(self, chosen: list[int]) -> tuple[Tensor, Perturbation]:
        """Some of the inputs, and what is around them."""
        return self.inputs[chosen], self.around.chosen(torch.tensor(chosen), self.inputs.dim())

    def points(self, point: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """A point as both networks read it; the second is None where it is the same."""
        if point is None or self.gap is None:
            return point, None
        held = point.view(1, *self.inputs.shape[1:]).to(self.both.dtype)
        return held[0, 0].to(torch.float64), second_input(held)[0].to(torch.float64)


def compared(asked: Asked) -> list[Difference]:
    """The results of all inputs: what a search finds, and in the time that is left what is proved."""
    if asked.settings.evidence is not None and asked.gap is not None and not asked.region.boxes:
        raise UsageError("evidence has no words for inputs that differ beside a region that is no box; leave evidence out")
    searched = largest_differences(asked.both, asked.inputs, asked.around, asked.settings)
    settings = shorter(asked.settings, max(searched.seconds))
    if asked.agree:
        found = agreement(asked, searched, settings)
    else:
        found = decided(asked, searched, settings, list(range(len(asked.x))), pair)
        wide = [] if asked.both.notes else too_wide(asked, settings, found)
        used = max((found[k].seconds for k in wide), default=0.0)
        if wide and used < settings.time_limit:
            again = decided(asked, searched, shorter(settings, used), wide, subtracted)
            for k, other_way in zip(wide, again, strict=True):
                found[k] = better(found[k], other_way)
    return [replace(each, seconds=each.seconds + took) for each, took in zip(found, searched.seconds, strict=True)]


def shorter(settings: Settings, seconds: float) -> Settings:
    """The same with so many seconds less."""
    return replace(settings, time_limit=max(settings.time_limit - seconds, LEAST_TIME))


def decided(asked: Asked, searched: Largest, settings: Settings, some: list[int], how: How) -> list[Difference]:
    """What is proved of some inputs, by the graph that is made of both networks."""
    x, around = asked.some(some)
    model = how(asked.one, asked.other, asked.layout(asked.rows is not None))
    largest = searched.values[some]
    if asked.rows is not None:
        rows = asked.rows[torch.tensor(some)]
        found = results_of(model, x, None, around, settings, (rows.rows, rows.offsets))
        return [by_rows(asked, result, most) for result, most in zip(found, largest, strict=True)]
    if asked.limits is None:
        return bracket(model, x, around, settings, largest)
    limits = asked.limits
    found = results_of(model, x, None, around, settings, (difference_rows(len(limits)), torch.cat([limits, limits])))
    return [limited(asked, r, limits, searched, k) for k, r in zip(some, found, strict=True)]


def agreement(asked: Asked, searched: Largest, settings: Settings) -> list[Difference]:
    """Whether the second network gives the classes that the first one gives at the inputs."""
    labels = answers(asked.one, fitting(asked.one, asked.x))
    model = asked.other if asked.gap is None else of_second_input(asked.other)
    nothing = torch.full((searched.values.shape[1],), math.inf, dtype=torch.float64)
    found = []
    for k, r in enumerate(results_of(model, asked.inputs.to(model.dtype), labels, asked.around, settings)):
        met = asked.inputs[k].to(torch.float64) if r.verdict is Verdict.MISCLASSIFIED else r.counterexample
        point, second = asked.points(met)
        found.append(
            Difference(k, MEANT[r.verdict], nothing, searched.values[k], point, r.seconds, r.stage, second_point=second)
        )
    return found


def too_wide(asked: Asked, settings: Settings, found: list[Difference]) -> list[int]:
    """Inputs that are open, with a difference so large beside the first network's outputs that subtracting may prove more."""
    if settings.evidence is not None:  # it has room for one graph
        return []
    linear = partial(bounds, method="linear", device=settings.device)
    widths = linear(asked.one, asked.x, asked.region).width
    proved = [result.bound for result in found]
    if asked.rows is not None:
        proved = list(differences_of(asked.both, linear(asked.both, asked.inputs, asked.around)))
    still = Comparison.BOUNDED, Comparison.UNKNOWN
    return [k for k, r in enumerate(found) if r.verdict in still and bool((proved[k] > WIDE * widths[k]).any())]


def better(one: Difference, other: Difference) -> Difference:
    """What two graphs of the same networks have proved of an input, together."""
    chosen = one if other.verdict is Comparison.UNKNOWN else other
    bound, seconds = torch.minimum(one.bound, other.bound), one.seconds + other.seconds
    margins = None if one.margins is None or other.margins is None else torch.maximum(one.margins, other.margins)
    return replace(chosen, index=one.index, bound=bound, margins=margins, seconds=seconds)


def by_rows(asked: Asked, result: Result, largest: Tensor) -> Difference:
    """The result of one input about whose outputs rows were asked."""
    point, second = asked.points(result.counterexample)
    nothing = torch.full_like(largest, math.inf)
    return Difference(
        result.index, MEANT[result.verdict], nothing, largest, point, result.seconds, result.stage, result.margins, second
    )


def limited(asked: Asked, result: Result, limits: Tensor, searched: Largest, k: int) -> Difference:
    """The result of one input that was to differ by so much at most; the search may have found more than the stages' own."""
    verdict, met, largest = MEANT[result.verdict], result.counterexample, searched.values[k]
    if verdict in (Comparison.UNKNOWN, Comparison.TIMED_OUT) and bool((largest > limits).any()):
        verdict, met = Comparison.COUNTEREXAMPLE, searched.points[k].view(asked.inputs.shape[1:])
    point, second = asked.points(met)
    bound = bound_of(result, limits)
    return Difference(result.index, verdict, bound, largest, point, result.seconds, result.stage, second_point=second)


def bound_of(result: Result, delta: Tensor) -> Tensor:
    """(K,): what margins of `delta - d` and `delta + d` leave to |d|."""
    return above(delta - torch.minimum(*result.margins.chunk(2)), 0.0)


def differences_of(both: Model, interval: Interval) -> Tensor:
    """(N, K): by how much outputs (y, d) differ at most."""
    return interval.magnitude[:, both.graph.output_size // 2 :]


def bracket(both: Model, x: Tensor, region: Perturbation, settings: Settings, largest: Tensor) -> list[Difference]:
    """What is proved of every output: by one bounding pass where the method is one, else by all of its stages."""
    if settings.method in PASSES and settings.time_limit == math.inf and settings.evidence is None:
        names = ("method", *BoundsOptions.__annotations__)
        start = time.perf_counter()
        chosen = {name: getattr(settings, name) for name in names}
        proved = differences_of(both, bounds(both, x, region, **chosen))
        seconds = (time.perf_counter() - start) / len(x)
        every = enumerate(zip(proved, largest, strict=True))
        return [Difference(k, Comparison.BOUNDED, p, f, None, seconds, settings.method) for k, (p, f) in every]
    zero = torch.zeros(both.graph.output_size // 2, dtype=torch.float64)
    rows = difference_rows(len(zero)), torch.cat([zero, zero])
    found = results_of(both, x, None, region, replace(settings, thorough=True, restarts=0), rows)
    return [
        Difference(k, Comparison.BOUNDED, bound_of(r, zero), largest[k], None, r.seconds, r.stage) for k, r in enumerate(found)
    ]


def results_of(
    model: Model, x: Tensor, labels: Tensor | None, region: Perturbation, settings: Settings, rows: Rows = None
) -> list[Result]:
    """The stages' results, in the order of the inputs: of labels, or of rows."""
    found: list[Result] = []
    prepared(model, x, labels, region, settings, rows).run(found.append)
    return sorted(found, key=lambda result: result.index)


def as_limits(within: Any, model: Model) -> Tensor | None:
    """(K,): by how much each output may differ, if that is asked."""
    if within is None:
        return None
    outputs = model.graph.output_size
    limits = as_numbers("within", within, "give a number, or one for each output")
    if limits.dim() > 1 or (limits.dim() == 1 and len(limits) != outputs):
        raise InputError(f"within has shape {tuple(limits.shape)}; wanted a number, or one for each of {outputs} outputs")
    if not bool((limits > 0).all() & torch.isfinite(limits).all()):
        raise InputError(f"within is {within}; wanted finite numbers above 0")
    return limits.expand(outputs).clone()


def as_gap(inputs_within: Any, x: Tensor) -> Tensor | None:
    """(N or 1, *shape): how far each number of the second input may be from the first's, if they may differ."""
    if inputs_within is None:
        return None
    limits = as_numbers("inputs_within", inputs_within, "give a number, or an array of the inputs' shape")
    try:
        limits = limits.expand_as(x) if limits.dim() == x.dim() else limits.expand(1, *x.shape[1:])
    except RuntimeError as error:
        raise InputError(
            f"inputs_within has shape {tuple(limits.shape)}, the inputs {tuple(x.shape)}; give a number, or an array of that "
            "shape, or of one that broadcasts to it"
        ) from error
    if not bool((limits >= 0).all() & torch.isfinite(limits).all()):
        raise InputError("inputs_within has a number that is negative, infinite or NaN; wanted finite numbers, 0 or more")
    return limits.contiguous()


def as_asked(rows: Any, model: Model, x: Tensor) -> Property | None:
    """The rows over both networks' outputs and their differences, if such are asked."""
    if rows is None:
        return None
    C, d = as_rows(rows)
    wanted = 3 * model.graph.output_size
    if C.shape[-1:] != (wanted,):
        raise InputError(
            f"the rows have shape {tuple(C.shape)}; wanted {wanted} numbers in each: of the first model's "
            f"{model.graph.output_size} outputs, the second's, and their differences"
        )
    return linear_property(C, d, len(x), wanted)


def as_numbers(name: str, given: Any, wanted: str) -> Tensor:
    try:
        return torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} cannot be made a tensor ({error}); {wanted}") from error
