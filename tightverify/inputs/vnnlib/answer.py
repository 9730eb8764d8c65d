"""`tightverify.vnnlib`: whether a query can be satisfied, with the input that does it, or the proof that none does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from tightverify.api.certify import Work, usable_settings
from tightverify.api.load import AnyModel, load
from tightverify.calling import plainly
from tightverify.errors import InputError
from tightverify.inputs.vnnlib.query import Query, below, box_of, holds, read_query
from tightverify.models.model import Model
from tightverify.region import Box
from tightverify.settings import Options, Settings, merged
from tightverify.stages.progress import no_callback
from tightverify.verify import Result, Verdict

FIRST = "linear"
"""The method that all cases are tried with at once, before those that are open are tried one by one."""


class Outcome(StrEnum):
    """What is answered, in VNN-COMP's words."""

    SAT = "sat"
    UNSAT = "unsat"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"


@dataclass(frozen=True, eq=False)
class Answer:
    """The outcome; of `sat` the input that satisfies the query, and what the model gives for it; the seconds, and the cases."""

    outcome: Outcome
    x: Tensor | None
    y: Tensor | None
    seconds: float
    cases: int
    open: int

    @property
    def text(self) -> str:
        """What VNN-COMP wants in a file: the outcome, and the values of all variables."""
        if self.x is None or self.y is None:
            return f"{self.outcome}\n"
        named = [(f"X_{k}", v) for k, v in enumerate(self.x.flatten().tolist())]
        named += [(f"Y_{k}", v) for k, v in enumerate(self.y.flatten().tolist())]
        return f"{self.outcome}\n(" + "\n ".join(f"({name} {value!r})" for name, value in named) + ")\n"


@plainly
def vnnlib(
    model: AnyModel,
    query: str | Path | Query,
    *,
    settings: Settings | None = None,
    batch_axis: int | None = None,
    **options: Unpack[Options],
) -> Answer:
    """Whether some input satisfies a query of VNN-LIB 1.0: a file, maybe packed with gzip.

    The time limit is that of the query, all of its cases together; the method is `complete` if no other is given. X_i and Y_j
    are the model's inputs and outputs in the order in which they lie in memory.
    """
    began = time.monotonic()
    settings = usable_settings(merged(settings or Settings(method="complete"), options))
    loaded = load(model, batch_axis=batch_axis)
    asked = query if isinstance(query, Query) else read_query(Path(query))
    check_sizes(asked, loaded)
    undecided = torch.ones(len(asked), dtype=torch.bool)
    late = False
    for number, result in results(asked, loaded, settings, began):
        if result.verdict is Verdict.COUNTEREXAMPLE and result.counterexample is not None:
            witness = satisfying(loaded, asked, number, result.counterexample)
            if witness is not None:
                return Answer(Outcome.SAT, *witness, time.monotonic() - began, len(asked), int(undecided.sum()))
        undecided[number] = result.verdict is not Verdict.ROBUST
        late = late or (result.verdict is Verdict.TIMED_OUT)
    left = int(undecided.sum())
    outcome = Outcome.UNSAT if not left else Outcome.TIMEOUT if late else Outcome.UNKNOWN
    return Answer(outcome, None, None, time.monotonic() - began, len(asked), left)


def check_sizes(query: Query, model: Model) -> None:
    """Speak up where a query is about another model."""
    model.refuse_left_out("a query asks about the outputs' numbers")
    declared = (query.lower.shape[1], query.refuted.rows.shape[2])
    has = (model.graph.input_size, model.graph.output_size)
    if declared != has:
        raise InputError(
            f"the query is about {declared[0]} inputs and {declared[1]} outputs; {model.name} has {has[0]} and {has[1]}"
        )


def results(query: Query, model: Model, settings: Settings, began: float) -> Iterator[tuple[int, Result]]:
    """Verdicts of cases by their numbers: of all by a quick method, then of open ones, each with its share of the time."""
    numbers = torch.arange(len(query))
    if len(query) > 1 and settings.method not in (FIRST, "interval"):
        undecided = []
        for number, result in decided(query, numbers, model, replace(settings, method=FIRST)):
            if result.verdict in (Verdict.ROBUST, Verdict.COUNTEREXAMPLE):
                yield number, result
            else:
                undecided.append(number)
        numbers = torch.tensor(undecided, dtype=torch.long)
    for place, number in enumerate(numbers.tolist()):
        left = max(began + settings.time_limit - time.monotonic(), 1e-3) / (len(numbers) - place)
        yield from decided(query, torch.tensor([number]), model, replace(settings, time_limit=left))


def decided(query: Query, numbers: Tensor, model: Model, settings: Settings) -> Iterator[tuple[int, Result]]:
    shape = (-1, *model.graph.input_shape)
    lower, upper = (bound[numbers].view(shape) for bound in (query.lower, query.upper))
    middle = lower + (upper - lower) / 2
    asked = query.refuted[numbers]
    work = Work(model, middle, Box(lower, upper).around(middle), settings, numbers, no_callback, None, lambda part: asked[part])
    for result in work.results():
        yield int(numbers[result.index]), result


def satisfying(model: Model, query: Query, number: int, found: Tensor) -> tuple[Tensor, Tensor] | None:
    """An input of the model's own type within the case's bounds, at which the case holds exactly, and the outputs there."""
    case = query.cases[number]
    bounds = box_of(case, query.lower.shape[1])
    assert bounds is not None
    ends = [(-below(-low), below(high)) for low, high in bounds]  # inside; where no float is, the nearest
    low, high = torch.tensor(ends, dtype=torch.float64).view(-1, 2).unbind(1)
    x = torch.minimum(torch.maximum(found.flatten().to(torch.float64), torch.minimum(low, high)), high).to(model.dtype)
    if model.dtype is torch.float32:
        x = torch.where(x.double() < low, torch.nextafter(x, x.new_tensor(torch.inf)), x)
        x = torch.where(x.double() > high, torch.nextafter(x, x.new_tensor(-torch.inf)), x)
    with torch.no_grad():
        y = model.original(x.view(1, *model.graph.input_shape))[0]
    if not bool(torch.isfinite(y).all()):
        return None
    values = {f"Y_{k}": Fraction(value) for k, value in enumerate(y.flatten().tolist())}
    return (x, y) if all(holds(c, values) for c in case if c.variables == "Y") else None
