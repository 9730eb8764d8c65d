"""Records as pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tightverify.report.records import Record
from tightverify.report.trace import TracePoint, read_trace
from tightverify.verify import Verdict
from tightverify.writing import canvas, drawable, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes


COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


MOST_LINES = 20
"""So many inputs are drawn in the picture of a trace."""


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
