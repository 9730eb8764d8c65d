"""`tightverify.certify` and `tightverify.stream`: verdicts on inputs.

Everything that a user hands over is checked here, once, before any work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Unpack

import torch
from torch import Tensor

from tightverify.api.checks import as_labels, asked_of, fitting, given_inputs, region_for, usable
from tightverify.api.gathering import Progress, gathered
from tightverify.api.load import AnyModel, load, name_of
from tightverify.api.results import Results, questions
from tightverify.budget import Budget
from tightverify.calling import each_plainly, plainly
from tightverify.disk import alone_in
from tightverify.errors import UsageError
from tightverify.former import renamed
from tightverify.graph import Graph
from tightverify.models.answers import answers, rightly_answered
from tightverify.models.model import Model
from tightverify.refine.network_lp import check_program_solver
from tightverify.region import Perturbation, Region
from tightverify.relax.fitted.programs import check_solver
from tightverify.settings import Options, Settings, merged
from tightverify.spec import Property, classify_as
from tightverify.stages import stages_of
from tightverify.stages.problem import Problem
from tightverify.stages.progress import Callback, no_callback
from tightverify.statements import Statement
from tightverify.verify import Ending, Keep, Result, keeper, misclassified

Rows = tuple[Any, Any] | Statement | None
Deliver = Callable[[Result], None]
"""Takes a result when its input is decided."""
Batch = Callable[[Deliver], None]
"""Some inputs that are decided together."""


@renamed
@plainly
def certify(
    model: AnyModel,
    x: Any,
    labels: Any,
    region: Perturbation | Mapping[str, Perturbation],
    *,
    settings: Settings | None = None,
    rows: Rows = None,
    top: int = 1,
    batch_axis: int | Mapping[str, int] | None = None,
    progress: Progress = None,
    callback: Callback = no_callback,
    **options: Unpack[Options],
) -> Results:
    """Decide for every input whether the model keeps its answer on the region around it.

    `x` is (N, time, features) or (N, features); of a model of which several inputs are perturbed it has an array for each by
    its name, and `region` a region: `{"x": LinfBall(0.01), "noise": L2Ball(0.1)}`. `labels` are (N,), or None for the model's
    own answers. `rows=(C, d)` asks for `C y + d > 0` instead of a label, `rows=tv.SameSide(0.5)` (`Above`, `Below`, `Within`)
    about outputs and a number, `top=k` for the label among the k greatest outputs. How to run is said by `settings`, or by
    keywords of the same names (`method="complete", time_limit=60`), which count where both are given.

    `progress(done, total)` is called whenever an input is done; `progress=True` shows a bar. What comes back is a sequence of
    results, to count, to save and to look at. A call that is interrupted, or ended by an error, loses nothing: the error has
    the `results` that were done.

    `callback(step)` is called after every stage, after every round of `combine`, and whenever a part of a batch is done, with a
    `stages.progress.Step`: stage, round, which inputs, the margins known of them by now, which are open, and the seconds that
    each has used. Misclassified inputs have no steps, decided ones none after that (unless `thorough`).
    """
    settings = merged(settings, options)
    x = given_inputs(x)
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    region = region_for(loaded, region)
    work = prepared(loaded, x, labels, region, settings, rows, top, callback)
    asked = questions(name_of(model, loaded), region, work.regions.balls, settings.method, top)
    with alone_in(**settings.folders):
        return gathered(work.run, asked, progress, loaded.name)


@renamed
@plainly
def stream(
    model: AnyModel,
    x: Any,
    labels: Any,
    region: Perturbation | Mapping[str, Perturbation],
    settings: Settings | None = None,
    rows: Rows = None,
    top: int = 1,
    *,
    callback: Callback = no_callback,
    names: Tensor | None = None,
    **options: Unpack[Options],
) -> Iterator[Result]:
    """The results one after the other, in the order of the inputs, as batches are finished; all is checked before the first.

    Settings and the `callback` are as in `certify`. `names` (N,) are the numbers of the files of trees and evidence, if these
    are not the inputs' places.
    """
    x = given_inputs(x)
    model = load(model, inputs=x)
    work = prepared(model, x, labels, region, merged(settings, options), rows, top, callback, names)
    return each_plainly(work.results())


def prepared(
    model: Model,
    x: Any,
    labels: Any,
    region: Perturbation | Mapping[str, Perturbation],
    settings: Settings,
    rows: Rows = None,
    top: int = 1,
    callback: Callback = no_callback,
    names: Tensor | None = None,
) -> Work:
    """The work, of which everything is checked and nothing is begun; arguments are as in `stream`."""
    settings, region = usable_settings(settings), region_for(model, region)
    x, classes = fitting(model, given_inputs(x)), model.graph.output_size
    files = torch.arange(len(x)) if names is None else names
    regions = region.around(x)
    if rows is not None:
        stated = asked_of(model, x, rows)
        return Work(model, x, regions, settings, files, callback, None, lambda part: stated[part])
    kept = answers(model, x) if labels is None else as_labels(labels, len(x))
    classify_as(torch.stack([kept.min(), kept.max()]), classes, top)  # speaks up before the first batch
    return Work(model, x, regions, settings, files, callback, kept, lambda part: classify_as(kept[part], classes, top))


def usable_settings(settings: Settings) -> Settings:
    """The settings, if their method, solvers and device are there."""
    stages_of(settings.method)
    check_solver(settings.solver)
    check_program_solver(settings.lp_solver)
    usable(settings.device)
    return settings


@dataclass(frozen=True, eq=False)
class Work:
    """Inputs to be decided, batch by batch; `files` are the numbers of the files kept of them."""

    model: Model
    x: Tensor
    regions: Region
    settings: Settings
    files: Tensor
    callback: Callback
    labels: Tensor | None
    spec_of: Callable[[slice], Property]

    @plainly
    def run(self, deliver: Deliver) -> None:
        """Decide all inputs; each result is delivered as soon as its input is decided, whatever its place."""
        for each in self._batches():
            each(deliver)

    def results(self) -> Iterator[Result]:
        """All results in the order of the inputs, a batch at a time, of which none is begun before it is asked for."""
        return chain.from_iterable(map(in_order, self._batches()))

    def _batches(self) -> list[Batch]:
        """The batches, to be decided one after the other."""
        graph, keep = self.model.graph.to(self.settings.device), keeper(self.settings)
        size = self.settings.batch if self.settings.evidence is None else 1
        parts = (slice(start, min(start + size, len(self.x))) for start in range(0, len(self.x), size))
        return [partial(self._decide, graph, keep, part) for part in parts]

    def _decide(self, graph: Graph, keep: Keep, part: slice, deliver: Deliver) -> None:
        """One batch: the misclassified inputs are set aside at once, the others decided."""
        spec, labels, numbers = self.spec_of(part), self.labels, torch.arange(part.start, part.stop)

        def end(number: int, ending: Ending) -> None:
            deliver(Result(index=number, label=None if labels is None else int(labels[number]), **vars(ending)))

        right = torch.ones(len(numbers), dtype=torch.bool)
        if labels is not None:
            right = rightly_answered(self.model, spec, self.x[part])
        for number in numbers[~right].tolist():
            end(number, misclassified(spec.rows.shape[1]))
        problem = Problem(
            self.model, graph, self.regions[part], spec, self.settings, numbers, self.files[part], self.callback,
            budget=Budget(memory=self.settings.memory),
        )  # fmt: skip
        if bool(right.any()):
            keep(problem[torch.nonzero(right).flatten()], end)
        problem.unwritten.say()


def in_order(batch: Batch) -> Iterator[Result]:
    """A batch's results in the order of its inputs, and only then what could not be written meanwhile."""
    found: list[Result] = []
    unwritten: UsageError | None = None
    try:
        batch(found.append)
    except UsageError as error:
        unwritten = error
    yield from sorted(found, key=lambda result: result.index)
    if unwritten is not None:
        raise unwritten
