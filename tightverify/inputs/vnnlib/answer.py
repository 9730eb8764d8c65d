"""`tightverify.vnnlib`: whether a query can be satisfied, with the input that does it, or the proof that none does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from tightverify.api.certify import Work, usable_settings
from tightverify.api.load import AnyModel, LoadOptions, load
from tightverify.calling import plainly
from tightverify.errors import InputError
from tightverify.inputs.vnnlib.combined import with_sum
from tightverify.inputs.vnnlib.networks import Declared, read_declared
from tightverify.inputs.vnnlib.query import Query, read_query
from tightverify.inputs.vnnlib.syntax import factors_of
from tightverify.inputs.vnnlib.together import together
from tightverify.inputs.vnnlib.witness import satisfying, tried
from tightverify.models.extended import extended
from tightverify.models.model import Model
from tightverify.models.streaming import State
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
    """The outcome; of `sat` the input that satisfies the query, and what the model gives for it; the seconds, and the cases.

    `note` says why nothing could be proved of some.
    """

    outcome: Outcome
    x: Tensor | None
    y: Tensor | None
    seconds: float
    cases: int
    open: int
    note: str = ""

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
    model: AnyModel | Mapping[str, str | Path],
    query: str | Path | Query | Declared,
    *,
    settings: Settings | None = None,
    real: bool = False,
    batch_axis: int | None = None,
    fix: Mapping[str, Any] | None = None,
    output: int | str | None = None,
    frame: int | str | None = None,
    unroll: int | None = None,
    state: State | None = None,
    progress: bool = False,
    **options: Unpack[Options],
) -> Answer:
    """Whether some input satisfies a query of VNN-LIB: a file, maybe packed with gzip.

    The time limit is that of the query, all of its cases together; the method is `complete` if no other is given.

    A query of version 1.0 is about one model, read as `load` does: X_i and Y_j are its inputs and outputs in the order in which
    they lie in memory. One of version 2.0 is about networks that it declares: `model` has the ONNX file of each, by its name.
    What is proved is proved of real numbers: queries whose tensors are of float types are read so only if `real`.
    """
    began = time.monotonic()
    settings = usable_settings(merged(settings or Settings(method="complete"), options))
    if isinstance(model, Mapping):
        declared = query if isinstance(query, Declared) else read_declared(Path(as_path(query)), real)
        return answered(declared.query, together(declared, model), settings, began)
    if isinstance(query, Declared):
        raise InputError("the query declares networks; give the file of each by its name: {'N': 'model.onnx'}")
    asked = query if isinstance(query, Query) else read_query(Path(query))
    how: LoadOptions = {"batch_axis": batch_axis, "fix": fix, "output": output, "frame": frame}
    how |= {"unroll": unroll, "state": state, "progress": progress}
    loaded = load(model, **how)
    return answered(asked, loaded, settings, began)


def as_path(query: str | Path | Query) -> str | Path:
    """The file of a query about networks."""
    if isinstance(query, Query):
        raise InputError("the query is about one model, and several are given by their names; give that model")
    return query


def answered(asked: Query, model: Model, settings: Settings, began: float) -> Answer:
    """Whether some input satisfies a query about a model."""
    check_sizes(asked, model)
    loaded = extended(model, [factors(name, model.graph.input_size) for name in asked.extras])
    undecided = torch.ones(len(asked), dtype=torch.bool)
    late = False
    for number, result in results(asked, loaded, settings, began):
        witness = None
        if result is None:
            witness = tried(model, loaded.graph, asked, number)
        elif result.verdict is Verdict.COUNTEREXAMPLE and result.counterexample is not None:
            witness = satisfying(model, asked, number, result.counterexample)
        if witness is not None:
            return Answer(Outcome.SAT, *witness, time.monotonic() - began, len(asked), int(undecided.sum()))
        if result is None:
            continue
        undecided[number] = result.verdict is not Verdict.ROBUST or bool(asked.cut[number])
        late = late or (result.verdict is Verdict.TIMED_OUT)
    left = int(undecided.sum())
    outcome = Outcome.UNSAT if not left else Outcome.TIMEOUT if late else Outcome.UNKNOWN
    cut = next(filter(None, asked.cut), "")
    note = f"{cut}: inputs that satisfy the query were sought near 0, and nothing was proved" if cut else ""
    return Answer(outcome, None, None, time.monotonic() - began, len(asked), left, note)


def factors(name: str, inputs: int) -> tuple[int, ...]:
    """Where a product's variables stand among inputs and, after them, outputs."""
    return tuple(int(factor[2:]) + (inputs if factor[0] == "Y" else 0) for factor in factors_of(name))


def check_sizes(query: Query, model: Model) -> None:
    """Speak up where a query is about another model."""
    model.refuse_left_out("a query asks about the outputs' numbers")
    declared = (query.lower.shape[1], query.outputs)
    has = (model.graph.input_size, model.graph.output_size)
    if declared != has:
        raise InputError(
            f"the query is about {declared[0]} inputs and {declared[1]} outputs; {model.name} has {has[0]} and {has[1]}"
        )


def results(query: Query, model: Model, settings: Settings, began: float) -> Iterator[tuple[int, Result | None]]:
    """Verdicts of cases by their numbers: of all by a quick method, then of open ones, each with its share of the time.

    Before each of these there is none: it is time to try some points.
    """
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
        yield number, None
        left = max(began + settings.time_limit - time.monotonic(), 1e-3) / (len(numbers) - place)
        alone = with_sum(query, number, model.graph)
        for _, result in decided(alone, torch.tensor([0]), model, replace(settings, time_limit=left)):
            yield number, result


def decided(query: Query, numbers: Tensor, model: Model, settings: Settings) -> Iterator[tuple[int, Result]]:
    shape = (-1, *model.graph.input_shape)
    lower, upper = (bound[numbers].view(shape) for bound in (query.lower, query.upper))
    middle = lower + (upper - lower) / 2
    asked = query.refuted[numbers]
    work = Work(model, middle, Box(lower, upper).around(middle), settings, numbers, no_callback, None, lambda part: asked[part])
    for result in work.results():
        yield int(numbers[result.index]), result
