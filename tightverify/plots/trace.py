"""The margin of each input as a run went on, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tightverify.plots.names import BLACK, GREY, LOOKS, Look, looks
from tightverify.plots.series import all_known, common, series
from tightverify.plots.style import asinh_margins, drawing, logarithmic, mpl, whole
from tightverify.plots.words import legend, title
from tightverify.report.records import Record
from tightverify.report.trace import TracePoint
from tightverify.verify import Result

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_LINES = 20
"""So many inputs are drawn."""


def trace(points: Iterable[TracePoint], ax: Axes | None = None, results: Iterable[Record | Result] = ()) -> Axes:
    """The worst margin proved of each of the first inputs against its seconds, in the colour of the stage that proved it.

    Numbers on the right name the inputs; a dotted line leads there from where the work on one ended. The run's `results` say in
    the title of what model, region and method it is.
    """
    lines: dict[int, list[TracePoint]] = {}
    for point in points:
        lines.setdefault(point.index, []).append(point)
    drawn = dict(sorted(lines.items())[:MOST_LINES])
    stages = looks(list(dict.fromkeys(point.stage for several in drawn.values() for point in several)))
    with drawing(ax) as axes:
        asinh_margins(axes, [point.margin for several in drawn.values() for point in several if point.margin is not None])
        ends = {index: end for index, several in drawn.items() if (end := one(axes, several, stages)) is not None}
        if ends:
            axes.set_xscale("log")
            logarithmic(axes, "x")
        axes.axhline(0, color=BLACK, linewidth=0.8)
        axes.set(xlabel="seconds of the input", ylabel="worst margin, in units of the outputs")
        few = f"the first {MOST_LINES} of {len(lines)} inputs" if len(lines) > MOST_LINES else f"{len(lines)} inputs"
        known = all_known(results)
        title(axes, "Margins as the run went on", " · ".join([*(common(series(known, by_level=True)) if known else []), few]))
        digits = max((len(str(index)) for index in ends), default=0)
        legend(axes, keys(stages, any(refuted(several) for several in drawn.values())), aside=8 + 5 * digits)
        if ends:
            numbers(axes, ends)
    return axes


def one(axes: Axes, points: Sequence[TracePoint], stages: dict[str, Look]) -> tuple[float, float] | None:
    """One input's steps, each joined to the one before in its own stage's look; where they end."""
    places = [(point.seconds, point.margin, stages[point.stage]) for point in points if point.margin is not None]
    for before, (seconds, margin, look) in zip([*places[:1], *places], places, strict=False):
        axes.plot(
            (before[0], seconds),
            (before[1], margin),
            color=look.colour,
            linewidth=1.0,
            marker=look.marker,
            markersize=0.7 * mpl().rcParams["lines.markersize"],
            markevery=[-1],
        )
    if not places:
        return None
    if refuted(points):
        broken = LOOKS["COUNTEREXAMPLE"]
        axes.plot(*places[-1][:2], color=broken.colour, marker=broken.marker, markeredgewidth=1.6, linestyle="none", zorder=4)
    return places[-1][:2]


def refuted(points: Sequence[TracePoint]) -> bool:
    """Whether the work ended without a proof."""
    last = points[-1]
    return not last.open and not (last.margin is not None and last.margin > 0)


def numbers(axes: Axes, ends: dict[int, tuple[float, float]]) -> None:
    """The inputs' numbers on the right of the axes, by their margins, none over another; as many as there is room for."""
    whole(axes).draw_without_rendering()  # only then are the axes as high as they will be
    size = mpl().rcParams["ytick.labelsize"] - 1
    apart = 1.3 * size * whole(axes).dpi / 72 / axes.get_window_extent().height
    to_axes, right = axes.transScale + axes.transLimits, axes.get_xlim()[1]
    order = sorted(ends, key=lambda index: ends[index][1])
    order = order[:: math.ceil(len(order) * apart) or 1]
    axes.set_xlim(right=right)
    wanted = [float(to_axes.transform(ends[index])[1]) for index in order]
    for index, place, moved in zip(order, wanted, spread(wanted, apart), strict=True):
        seconds, margin = ends[index]
        axes.plot((seconds, right), (margin, margin), color=GREY, linewidth=0.5, linestyle=":", zorder=1)
        axes.plot((1.0, 1.02), (place, moved), transform=axes.transAxes, color=GREY, linewidth=0.5, clip_on=False)
        axes.text(1.025, moved, str(index), transform=axes.transAxes, fontsize=size, va="center")


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Rising places, moved as little as it takes for each to be so far from the next, and for all to be from 0 to 1.

    Neighbours that are too near move as one group, about their mean.
    """
    groups: list[tuple[float, int]] = []  # the mean of where each group's places were, and how many they are

    def middle(group: tuple[float, int]) -> float:
        half = apart * (group[1] - 1) / 2
        return min(max(group[0], half), 1 - half)

    for place in places:
        groups.append((place, 1))
        while len(groups) > 1 and middle(groups[-1]) - middle(groups[-2]) < apart * (groups[-1][1] + groups[-2][1]) / 2:
            (later, more), (earlier, some) = groups.pop(), groups.pop()
            groups.append(((earlier * some + later * more) / (some + more), some + more))
    return [middle(group) + apart * (number - (group[1] - 1) / 2) for group in groups for number in range(group[1])]


def keys(stages: dict[str, Look], broken: bool) -> list[Artist]:
    entry = mpl().lines.Line2D
    found = [entry([], [], color=look.colour, marker=look.marker, label=stage) for stage, look in stages.items()]
    if broken:
        look = LOOKS["COUNTEREXAMPLE"]
        found.append(entry([], [], color=look.colour, marker=look.marker, linestyle="none", label="counterexample"))
    return found
