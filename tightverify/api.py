"""The Python interface: `load`, `certify`, `stream`, `bounds`.

Everything that a user hands over is checked here, once, before any work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from tightverify.bounds.fitted import Fitting, combined_bounds, fitted_bounds
from tightverify.bounds.interval import claim, interval_bounds
from tightverify.bounds.linear import LinearBounds, largest_temporary, linear_bounds, parts
from tightverify.branch.saved import earlier_evidence, fingerprint, tree_file
from tightverify.calling import each_plainly, own, plainly
from tightverify.disk import alone_in, make_folder
from tightverify.errors import InputError, UsageError
from tightverify.evidence import Record, evidence_file, question
from tightverify.graph import Graph
from tightverify.models.model import Model
from tightverify.refine.lp import check_program_solver
from tightverify.region import Perturbation, Region
from tightverify.relax.programs import check_solver
from tightverify.settings import Settings
from tightverify.spec import Property, classify_as, linear_property
from tightverify.stages import stages_of
from tightverify.stages.combine import MIXTURE_SHARE, efforts
from tightverify.stages.problem import Problem, Watch, unwatched
from tightverify.threads import threads_for
from tightverify.values import Interval
from tightverify.verify import Ending, Result, decide, misclassified

AnyModel = torch.nn.Module | str | Path | Model
Rows = tuple[Any, Any] | None
Keep = Callable[[Problem], Iterator[Ending]]
"""Decides a batch, and maybe keeps evidence of that."""


@plainly
def load(model: AnyModel, shape: tuple[int, ...] | None = None, batch_axis: int | None = None, inputs: Any = None) -> Model:
    """Import a torch module or an ONNX file once, to use it in many calls.

    `shape` is the shape of one input, without the batch axis; an ONNX file may state it itself. `batch_axis` is the axis
    of the model's input along which a batch goes: 0 if not given, or what an ONNX file says. `inputs` (N, *shape) are some
    that the model is for: they say the shape, and where the import is compared with the model should that have no value at
    random inputs (a logarithm).
    """
    if isinstance(model, Model):
        return model
    if inputs is not None:
        inputs = as_inputs(inputs)
        if shape is not None and tuple(shape) != tuple(inputs.shape[1:]):
            raise InputError(
                f"the inputs have shape {tuple(inputs.shape)}; wanted (N, {', '.join(map(str, shape))}) by `shape`"
            )
        shape = tuple(inputs.shape[1:])
    if isinstance(model, torch.nn.Module):
        if shape is None:
            raise UsageError("a torch module does not say what inputs it takes; give shape=(time, features) of one input")
        from tightverify.models.torch_module import from_torch  # only what is used: onnxruntime and export start slowly

        return from_torch(model, tuple(shape), 0 if batch_axis is None else batch_axis, inputs)
    if isinstance(model, (str, Path)):
        from tightverify.models.onnx_file import from_onnx

        return from_onnx(model, None if shape is None else tuple(shape), batch_axis, inputs)
    raise UsageError(f"a model of type {type(model).__name__} was given; wanted a torch module, or the path of an ONNX file")


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
    watch: Watch = unwatched,
) -> list[Result]:
    """Decide for every input whether the model keeps its answer on the region around it.

    `x` is (N, time, features) or (N, features), `labels` (N,) or None for the model's own answers. `rows=(C, d)` asks for
    `C y + d > 0` instead of a label; `top=k` for the label among the k greatest outputs. `time_limit` is in seconds per
    input. `directions`, `solver`, `rounds`, `splits`, `trees`, `thorough`, `lp_solver`, `tighten`, `processes`, `dump` and
    `evidence` are as in `Settings`. `progress(done, total)` is called after every batch.

    `watch(step)` is called after every stage, after every round of `combine`, and whenever a part of a batch is done, with a
    `stages.problem.Step`: stage, round, which inputs, the margins known of them by now, which are open, and the seconds that
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
    watch: Watch = unwatched,
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

    def wanted_of(part: slice) -> Property:
        return classify_as(chosen[part], classes, top)

    return each_plainly(_batches(model, graph, x, regions, settings, chosen, wanted_of, batch, watch, keep, files))


def _batches(
    model: Model,
    graph: Graph,
    x: Tensor,
    regions: Region,
    settings: Settings,
    labels: Tensor | None,
    wanted_of: Callable[[slice], Property],
    batch: int,
    watch: Watch,
    keep: Keep,
    files: Tensor,
) -> Iterator[Result]:
    """Batch by batch: set the misclassified inputs aside, decide the others, hand out both in their order."""
    for start in range(0, len(x), batch):
        part = slice(start, min(start + batch, len(x)))
        wanted = wanted_of(part)
        right = torch.ones(part.stop - start, dtype=torch.bool)
        if labels is not None:
            right = rightly_answered(model, wanted, x[part])
        problem = Problem(model, graph, regions[part], wanted, settings, torch.arange(start, part.stop), files[part], watch)
        decided = iter(keep(problem[torch.nonzero(right).flatten()]) if bool(right.any()) else ())
        for place, number in enumerate(range(start, part.stop)):
            label = None if labels is None else int(labels[number])
            ending = next(decided) if bool(right[place]) else misclassified(wanted.rows.shape[1])
            yield Result(index=number, label=label, **vars(ending))
        next(decided, None)  # what is wrong with its evidence is said when nothing that was decided can be lost by it


def keeper(settings: Settings) -> Keep:
    """How batches are decided: where evidence is wanted, with a record of each input, in a file of its name."""
    folder = settings.evidence
    if folder is None:
        return decide
    make_folder(folder, "evidence")

    def keep(problem: Problem) -> Iterator[Ending]:
        number = int(problem.files[0])
        mark = fingerprint(problem.graph, problem.region, problem.wanted)
        asked = question(number, problem.model.source, mark, settings.method, problem.graph, problem.region, problem.wanted)
        trees = settings.trees
        earlier = None if trees is None else earlier_evidence(tree_file(trees, number), mark)
        endings: list[Ending] = []
        try:
            with Record(evidence_file(folder, number), earlier) as record:
                if not record.goes_on:
                    record.add(asked)
                endings.extend(decide(replace(problem, record=record)))
                record.add(endings[0].evidence())
        except UsageError:
            yield from endings
            raise
        yield from endings

    return keep


@overload
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation,
    method: str = ...,
    *,
    every_node: Literal[False] = ...,
    batch: int = ...,
    batch_axis: int | None = ...,
    device: str = ...,
) -> Interval: ...
@overload
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation,
    method: str = ...,
    *,
    every_node: Literal[True],
    batch: int = ...,
    batch_axis: int | None = ...,
    device: str = ...,
) -> list[Interval]: ...
@plainly
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation,
    method: str = "linear",
    *,
    every_node: bool = False,
    batch: int = 100,
    batch_axis: int | None = None,
    device: str = "cpu",
) -> Interval | list[Interval]:
    """Intervals that surely hold the outputs (N, K) on the region; on request those of every node of the graph."""
    x = as_inputs(x)
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    x = fitting(loaded, x)
    if method not in SWEEPS:
        raise UsageError(f"the method {method!r} does not exist for bounds; choose one of {', '.join(SWEEPS)}")
    graph, regions = loaded.graph.to(usable(device)), region.around(x).to(device)
    directions, share = MEMORY_OF.get(method, (Fitting().directions, 1))
    found: list[list[Interval]] = []
    for start in range(0, len(x), at_least_one(batch)):
        some = regions[start : start + batch]
        pieces = [slice(None)] if method == "interval" else parts(graph, some, Settings().memory // share, directions)
        for piece in pieces:
            with threads_for(largest_temporary(graph, some[piece], Settings().memory), device):
                intervals = SWEEPS[method](graph, some[piece])
            found.append(intervals if every_node else [intervals[graph.output]])
    joined = [
        Interval(torch.cat([interval.lower for interval in same]), torch.cat([interval.upper for interval in same]))
        for same in zip(*found, strict=True)
    ]
    return joined if every_node else joined[0]


def swept(bounds: LinearBounds) -> list[Interval]:
    """Every node's interval by linear bounds, the output's own back-substitution included."""
    graph = bounds.graph
    intervals = claim(graph, bounds.intervals)
    intervals[graph.output] = intervals[graph.output].intersect(bounds.tighten(graph.output))
    return intervals


FIRST = efforts(Settings())[0]
"""What `bounds` takes of `combine`: its first round."""


def combined(graph: Graph, region: Region) -> list[Interval]:
    return swept(combined_bounds(graph, region, FIRST, linear_bounds(graph, region).intervals))


MEMORY_OF = {"combine": (FIRST.fitting.directions, MIXTURE_SHARE)}
"""The directions that a method bounds too, and how many times the memory of a row it takes, where that is more than usual."""
SWEEPS: dict[str, Callable[[Graph, Region], list[Interval]]] = {
    "interval": interval_bounds,
    "linear": lambda graph, region: swept(linear_bounds(graph, region)),
    "planes": lambda graph, region: swept(fitted_bounds(graph, region, Fitting())),
    "combine": combined,
}
"""How `bounds` finds every node's interval, by method."""


def as_inputs(x: Any) -> Tensor:
    """The inputs as a floating tensor, finite and not empty."""
    try:
        tensor = torch.as_tensor(x) if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the inputs cannot be made a tensor ({error}); give numbers of shape (N, time, features)") from error
    if tensor.dim() < 2:
        raise InputError(f"the inputs have shape {tuple(tensor.shape)}; wanted (N, time, features) or (N, features)")
    if len(tensor) == 0:
        raise InputError("there are no inputs: the first axis has length 0; give at least one")
    if tensor.is_complex():
        raise InputError("the inputs are complex numbers; wanted real ones")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).flatten(1).any(1).nonzero()[0])
        raise InputError(f"input {bad} holds a NaN or an infinite value; every value must be a finite number")
    return own(tensor).cpu()


def fitting(model: Model, x: Tensor) -> Tensor:
    """The inputs in the model's own dtype, of the shape that it takes."""
    if tuple(x.shape[1:]) != model.graph.input_shape:
        raise InputError(
            f"the inputs have shape {tuple(x.shape)}; {model.source} takes (N, {', '.join(map(str, model.graph.input_shape))})"
        )
    return x.to(model.dtype)


def as_labels(labels: Any, count: int) -> Tensor:
    """The labels as integers, one per input."""
    try:
        tensor = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the labels cannot be made a tensor ({error}); give class numbers, one per input") from error
    if tuple(tensor.shape) != (count,):
        raise InputError(f"the labels have shape {tuple(tensor.shape)}; wanted one per input, ({count},)")
    if tensor.is_floating_point() and bool((tensor != tensor.round()).any()):
        raise InputError("the labels are not whole numbers; wanted class numbers from 0 on")
    return own(tensor).to(torch.long)


def run_original(model: Model, x: Tensor) -> Tensor:
    """The user's model's own outputs, as float64."""
    with torch.no_grad(), threads_for(len(x) * max(node.size for node in model.graph.nodes)):
        return model.original(x).to(torch.float64)


def rightly_answered(model: Model, wanted: Property, x: Tensor) -> Tensor:
    """(B,): at which inputs the property holds by the user's model, which is asked of those alone where it seems to break."""
    right = ~wanted.broken(wanted.margins(run_original(model, x)))
    for k in torch.nonzero(~right).flatten().tolist():
        one = slice(k, k + 1)
        right[k] = ~wanted[one].broken(wanted[one].margins(run_original(model, x[one])))[0]
    return right


def answers(model: Model, x: Tensor) -> Tensor:
    """The classes that the model itself gives."""
    return run_original(model, x).argmax(1)


def at_least_one(batch: int) -> int:
    """The size of a batch, if it is one."""
    if batch < 1:
        raise UsageError(f"the batch is {batch} inputs; it must be at least 1")
    return batch


def usable(device: str) -> str:
    """The device, if there is one."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {device!r} cannot be used here; choose cpu, or cuda where there is a GPU") from error
    return device
