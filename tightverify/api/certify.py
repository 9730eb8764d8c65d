"""The Python interface: `load`, `certify`, `stream`, `bounds`.

Everything that a user hands over is checked here, once, before any work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightverify.api.checks import as_inputs, as_labels, at_least_one, fitting, usable
from tightverify.api.load import AnyModel, load
from tightverify.calling import each_plainly, plainly
from tightverify.disk import alone_in
from tightverify.graph import Graph
from tightverify.models.answers import answers, rightly_answered
from tightverify.models.model import Model
from tightverify.refine.network_lp import check_program_solver
from tightverify.region import Perturbation, Region
from tightverify.relax.fitted.programs import check_solver
from tightverify.settings import Settings
from tightverify.spec import Property, classify_as, linear_property
from tightverify.stages import stages_of
from tightverify.stages.problem import Problem
from tightverify.stages.progress import Callback, no_callback
from tightverify.verify import Keep, Result, keeper, misclassified

Rows = tuple[Any, Any] | None


@plainly
def certify(
    model: AnyModel,
    x: Any,
    labels: Any,
    region: Perturbation,
    *,
    method: str = "linear",
    rows: Rows = None,
    top: int = 1,
    time_limit: float = float("inf"),
    batch: int = 100,
    batch_axis: int | None = None,
    device: str = "cpu",
    seed: int = 0,
    restarts: int = 4,
    directions: int | None = None,
    solver: str = "batched",
    rounds: int = 2,
    splits: int = 1000,
    trees: Path | None = None,
    thorough: bool = False,
    lp_solver: str = "highs",
    tighten: int = 0,
    processes: int = 1,
    dump: str | Path | None = None,
    evidence: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Callback = no_callback,
) -> list[Result]:
    """Decide for every input whether the model keeps its answer on the region around it.

    `x` is (N, time, features) or (N, features), `labels` (N,) or None for the model's own answers. `rows=(C, d)` asks for
    `C y + d > 0` instead of a label; `top=k` for the label among the k greatest outputs. `time_limit` is in seconds per
    input. `directions`, `solver`, `rounds`, `splits`, `trees`, `thorough`, `lp_solver`, `tighten`, `processes`, `dump` and
    `evidence` are as in `Settings`. `progress(done, total)` is called after every batch.

    `watch(step)` is called after every stage, after every round of `combine`, and whenever a part of a batch is done, with a
    `stages.progress.Step`: stage, round, which inputs, the margins known of them by now, which are open, and the seconds that
    each has used. Misclassified inputs have no steps, decided ones none after that (unless `thorough`).
    """
    results: list[Result] = []
    settings = Settings(
        method,
        time_limit,
        device,
        seed,
        restarts,
        directions=directions,
        solver=solver,
        rounds=rounds,
        splits=splits,
        trees=trees,
        thorough=thorough,
        lp_solver=lp_solver,
        tighten=tighten,
        processes=processes,
        dump=None if dump is None else Path(dump),
        evidence=None if evidence is None else Path(evidence),
    )
    x = as_inputs(x)
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    with alone_in(**settings.folders):
        for result in stream(loaded, x, labels, region, settings, rows, top, batch, watch):
            results.append(result)
            if progress is not None and (len(results) % batch == 0 or len(results) == len(x)):
                progress(len(results), len(x))
    return results


@plainly
def stream(
    model: Model,
    x: Any,
    labels: Any,
    region: Perturbation,
    settings: Settings,
    rows: Rows = None,
    top: int = 1,
    batch: int = 100,
    watch: Callback = no_callback,
    names: Tensor | None = None,
) -> Iterator[Result]:
    """The results one after the other, as batches are finished; everything is checked before the first.

    `watch` is told every step of the way, as in `certify`. `names` (N,) are the numbers of the files of trees and
    evidence, if these are not the inputs' places.
    """
    stages_of(settings.method)
    check_solver(settings.solver)
    check_program_solver(settings.lp_solver)
    x = fitting(model, as_inputs(x))
    batch = at_least_one(batch) if settings.evidence is None else 1
    graph = model.graph.to(usable(settings.device))
    classes = graph.output_size
    regions = region.around(x)
    files, keep = torch.arange(len(x)) if names is None else names, keeper(settings)
    if rows is not None:
        stated = linear_property(rows[0], rows[1], len(x), classes)
        return each_plainly(
            _batches(model, graph, x, regions, settings, None, lambda part: stated[part], batch, watch, keep, files)
        )
    chosen = answers(model, x) if labels is None else as_labels(labels, len(x))
    classify_as(torch.stack([chosen.min(), chosen.max()]), classes, top)  # speaks up before the first batch

    def spec_of(part: slice) -> Property:
        return classify_as(chosen[part], classes, top)

    return each_plainly(_batches(model, graph, x, regions, settings, chosen, spec_of, batch, watch, keep, files))


def _batches(
    model: Model,
    graph: Graph,
    x: Tensor,
    regions: Region,
    settings: Settings,
    labels: Tensor | None,
    spec_of: Callable[[slice], Property],
    batch: int,
    watch: Callback,
    keep: Keep,
    files: Tensor,
) -> Iterator[Result]:
    """Batch by batch: set the misclassified inputs aside, decide the others, hand out both in their order."""
    for start in range(0, len(x), batch):
        part = slice(start, min(start + batch, len(x)))
        wanted = spec_of(part)
        right = torch.ones(part.stop - start, dtype=torch.bool)
        if labels is not None:
            right = rightly_answered(model, wanted, x[part])
        problem = Problem(model, graph, regions[part], wanted, settings, torch.arange(start, part.stop), files[part], watch)
        decided = iter(keep(problem[torch.nonzero(right).flatten()]) if bool(right.any()) else ())
        for place, number in enumerate(range(start, part.stop)):
            label = None if labels is None else int(labels[number])
            ending = next(decided) if bool(right[place]) else misclassified(wanted.rows.shape[1])
            yield Result(index=number, label=label, **vars(ending))
        problem.unwritten.say()
