"""What a run leaves behind: a record per input, as JSON lines, as a table, as one line of summary, and as a picture.

A trace is the way there: what was known of each input after each step, as JSON lines and as a picture.

A record says everything about one input in plain Python values, so that it can be written, read back and drawn without
the network.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.table import Table
from rich.text import Text

from tightverify.decimals import at_least, exactly
from tightverify.errors import UsageError
from tightverify.graph import Apply
from tightverify.json_lines import JsonLines, read_lines
from tightverify.models.model import Model
from tightverify.stages.problem import Step
from tightverify.verify import Result, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = TypeVar("Line", "Record", "TracePoint")
STYLES = {
    Verdict.ROBUST: "bold green",
    Verdict.COUNTEREXAMPLE: "bold red",
    Verdict.UNKNOWN: "yellow",
    Verdict.TIMED_OUT: "yellow",
    Verdict.MISCLASSIFIED: "dim",
}
FLOATING = (1, 10, 11, 16)
"""ONNX's numbers for float32, float16, float64 and bfloat16."""
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
MOST_LINES = 20
"""So many inputs are drawn in the picture of a trace."""


@dataclass(frozen=True)
class Record:
    """One input's outcome. Numbers that are not finite are None.

    `eps` is the radius of the input's own region and `norm` its norm, "inf", "2" or "1": None where it is no ball. `region`
    says how it was stated where that is not by its radius, `limits` what kept changes to less than that (`clip`, `frames`,
    `features`, the first and last of `samples`), and `file` where a clip is from. The label had to stay among the `top`
    greatest outputs. `tree` has the nodes of the search tree of a region that was split. `note` says what kept a stage from
    trying all it could.
    """

    model: str
    index: int
    label: int | None
    eps: float | None
    norm: str | None
    method: str
    verdict: str
    margin: float | None
    margins: tuple[float | None, ...]
    stage: str | None
    seconds: float
    counterexample: Any = None
    region: str | None = None
    file: str | None = None
    tree: Any = None
    limits: Any = None
    top: int = 1
    note: str | None = None

    @classmethod
    def of(
        cls,
        result: Result,
        model: str,
        eps: float,
        norm: float,
        method: str,
        region: str | None = None,
        file: str | None = None,
        limits: Mapping[str, list[float] | list[int]] | None = None,
        top: int = 1,
    ) -> Record:
        return cls(
            model=model,
            index=result.index,
            label=result.label,
            eps=finite(eps),
            norm=f"{norm:g}" if math.isfinite(eps) else None,
            method=method,
            verdict=result.verdict.name,
            margin=finite(result.margin),
            margins=tuple(finite(margin) for margin in result.margins.tolist()),
            stage=result.stage or None,
            seconds=result.seconds,
            counterexample=None if result.counterexample is None else result.counterexample.tolist(),
            region=region,
            file=file,
            tree=[asdict(branch) | {"margins": tuple(map(finite, branch.margins))} for branch in result.tree] or None,
            limits=dict(limits or {}) or None,
            top=top,
            note=result.note or None,
        )


def finite(value: float) -> float | None:
    """The number, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None


def write_records(path: Path, records: Iterable[Record], replace: bool = False) -> None:
    """All records at once."""
    with JsonLines(path, replace) as lines:
        for record in records:
            lines.write(asdict(record))


def read_records(path: str | os.PathLike[str], cut_short: bool = False) -> list[Record]:
    """The records of a file that `certify --out` wrote; `cut_short` lets a last line without its end pass."""
    return read_lines(path, partial(_of_values, Record), "a record of a run", _names(Record), cut_short)


@dataclass(frozen=True)
class TracePoint:
    """What was known of one input after one step of a run; see `Step`. Numbers that are not finite are None."""

    index: int
    stage: str
    round: int
    seconds: float
    open: bool
    margin: float | None
    margins: tuple[float | None, ...]

    @classmethod
    def of(cls, step: Step, numbers: Sequence[int]) -> Iterator[TracePoint]:
        """One for each of the step's inputs; `numbers` are the names of all inputs."""
        each = zip(step.inputs.tolist(), step.open.tolist(), step.worst.tolist(), step.margins.tolist(), strict=True)
        for number, still_open, worst, margins in each:
            found = tuple(finite(margin) for margin in margins)
            yield cls(numbers[number], step.stage, step.round, step.seconds, still_open, finite(worst), found)


def read_trace(path: str | os.PathLike[str], cut_short: bool = False) -> list[TracePoint]:
    """The lines of a file that `certify --trace` wrote; `cut_short` lets a last line without its end pass."""
    return read_lines(path, partial(_of_values, TracePoint), "a step of a run", _names(TracePoint), cut_short)


def _of_values(kind: type[Line], values: dict[str, Any]) -> Line:
    return kind(**{**values, "margins": tuple(values["margins"])})


def _names(kind: type[Record] | type[TracePoint]) -> str:
    return ", ".join(sorted(field.name for field in fields(kind)))


def description(model: Model, path: Path) -> dict[str, Any]:
    """What an imported ONNX model is made of, in plain values."""
    import onnx

    graph, file = model.graph, onnx.load(str(path)).graph
    nodes, neurons = Counter[str](), Counter[str]()
    for node in graph.nodes:
        kind = node.op.name if isinstance(node, Apply) else type(node).__name__.lower()
        nodes[kind] += 1
        neurons[kind] += node.size
    weights = [tensor for tensor in file.initializer if tensor.data_type in FLOATING]
    weights += [a.t for node in file.node for a in node.attribute if node.op_type == "Constant" and a.t.data_type in FLOATING]
    shape = graph.input_shape
    frames = f"{shape[0]} frames of {' x '.join(map(str, shape[1:]))} features" if len(shape) > 1 else f"{shape[0]} features"
    return {
        "model": model.source,
        "one input": frames,
        "outputs": graph.output_size,
        "precision": str(model.dtype).removeprefix("torch."),
        "parameters": sum(math.prod(tensor.dims) for tensor in weights),
        "operators in the file": dict(Counter(node.op_type for node in file.node)),
        "nodes, unrolled": dict(nodes),
        "neurons": dict(neurons),
        "agreement": f"import and model were compared on random inputs: equal within {model.agreement:g}",
        "notes": list(model.notes),
    }


def table(records: Sequence[Record], title: str | None = None) -> Table:
    """One row per input."""
    grid = Table(title=title, title_justify="left", title_style="bold")
    region = "region" if any(record.region for record in records) else "eps"
    for heading in ("input", "label", region, "verdict", "worst margin", "stage", "time"):
        grid.add_column(heading, justify="left" if heading in ("verdict", "stage") else "right", no_wrap=True)
    for record in records:
        grid.add_row(
            str(record.index) if record.file is None else Path(record.file).name,
            "-" if record.label is None else str(record.label),
            record.region or ("-" if record.eps is None else exactly(record.eps)),
            Text(record.verdict, style=STYLES[Verdict[record.verdict]]),
            "-" if record.margin is None else at_least(record.margin, 4),
            record.stage or "-",
            duration(record.seconds),
        )
    return grid


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def summary(records: Sequence[Record], seconds: float) -> str:
    """One line: how many of each verdict, the share certified, the mean of the worst margins, the time."""
    found = Counter(record.verdict for record in records)
    verdicts = ", ".join(f"{found[verdict.name]} {verdict.name}" for verdict in Verdict if found[verdict.name])
    parts = [f"{len(records)} input{'' if len(records) == 1 else 's'}: {verdicts or 'none done'}"]
    if records:
        parts.append(f"certified {100 * found[Verdict.ROBUST.name] / len(records):.1f} %")
    margins = [record.margin for record in records if record.margin is not None]
    if margins:
        parts.append(f"mean worst margin {sum(margins) / len(margins):+.4f}")
    return "; ".join([*parts, f"{seconds:.1f} s"])


def shares(records: Iterable[Record], verdict: Verdict) -> dict[str, list[tuple[float, float]]]:
    """For every model, (eps, percentage of its inputs that got the verdict), by growing eps."""
    groups: dict[str, dict[float, list[bool]]] = {}
    for record in records:
        if record.eps is not None:
            groups.setdefault(record.model, {}).setdefault(record.eps, []).append(record.verdict == verdict.name)
    return {
        model: [(eps, 100 * sum(hits) / len(hits)) for eps, hits in sorted(by_eps.items())] for model, by_eps in groups.items()
    }


def picture(records: Sequence[Record], path: Path, title: str) -> None:
    """A PNG of the certified share against eps, and of the share with a counterexample: one colour per model."""
    figure, axes = canvas()
    certified, broken = shares(records, Verdict.ROBUST), shares(records, Verdict.COUNTEREXAMPLE)
    for number, model in enumerate(certified):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(*zip(*certified[model], strict=True), "o-", color=colour, label=f"{model}: proved robust")
        axes.plot(*zip(*broken[model], strict=True), "x--", color=colour, label=f"{model}: counterexample found")
    axes.set(xlabel="eps", ylabel="share of the inputs, %", title=title, ylim=(-3, 103))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    save(figure, path)


def trace_picture(trace: str | os.PathLike[str], path: Path) -> None:
    """A PNG of the deciding margin against the seconds of each input, the first ones of a trace: one colour per stage."""
    lines: dict[int, list[TracePoint]] = {}
    for point in read_trace(trace):
        lines.setdefault(point.index, []).append(point)
    colours: dict[str, str] = {}
    figure, axes = canvas()
    for index, points in sorted(lines.items())[:MOST_LINES]:
        for point in points:
            colours.setdefault(point.stage, COLOURS[len(colours) % len(COLOURS)])
        _trace_line(axes, index, [point for point in points if point.margin is not None], colours)
    for stage, colour in colours.items():
        axes.plot([], [], "o-", color=colour, markersize=4, label=stage)
    axes.plot([], [], "kx", label="counterexample")
    axes.axhline(0, color="black", linewidth=0.8, linestyle="--")
    named = f"the first {MOST_LINES} of {len(lines)} inputs" if len(lines) > MOST_LINES else f"{len(lines)} inputs"
    axes.set(xlabel="seconds of the input", ylabel="worst margin proved", title=f"{drawable(Path(trace).name)}: {named}")
    if axes.texts:  # an input was drawn: no time is 0
        axes.set_xscale("log")
    axes.set_yscale("asinh", linear_width=0.5)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    figure.legend(fontsize="small", loc="outside right upper")
    save(figure, path)


def _trace_line(axes: Axes, index: int, points: Sequence[TracePoint], colours: dict[str, str]) -> None:
    """One input's steps, each joined to the one before in its own stage's colour, and the input's number at the end."""
    places = [(point.seconds, point.margin) for point in points if point.margin is not None]
    for k, (place, point) in enumerate(zip(places, points, strict=True)):
        times, margins = zip(places[max(0, k - 1)], place, strict=True)
        axes.plot(times, margins, "o-", color=colours[point.stage], linewidth=1.0, markersize=3, markevery=[-1])
    if points:
        if not points[-1].open and places[-1][1] <= 0:
            axes.plot(*places[-1], "kx")
        axes.annotate(str(index), places[-1], (4, 0), textcoords="offset points", fontsize="x-small", va="center")


def drawable(name: str) -> str:
    """A file's name as matplotlib can draw it: bytes that are not UTF-8 as numbers, dollars not as the start of a formula."""
    return name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def canvas() -> tuple[Figure, Axes]:
    """An empty picture, and what to draw in."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    return figure, figure.add_subplot()


def save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a folder that can be") from error
