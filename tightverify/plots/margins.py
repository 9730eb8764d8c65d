"""Worst margins: how they are distributed, or where regions of several sizes were tried how they fall as these grow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tightverify.plots.names import BLACK, Look
from tightverify.plots.series import Series, all_known, detail, few_levels, labels, looks_of, series
from tightverify.plots.style import drawing, nested
from tightverify.plots.words import drawable, legend, title
from tightverify.report.records import Record
from tightverify.verify import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BANDS = 3
"""More bands would hide one another."""
MARGIN = "worst margin, in units of the outputs"


def margins(results: Iterable[Record | Result], ax: Axes | None = None) -> Axes:
    """The worst margins that were proved of the inputs; above 0 an input is proved robust.

    With few levels of the region, the share of the inputs with at most a margin, a line for each level, model and method.
    With more, the median against the level, and for a few lines a band from the first to the third quartile.
    """
    given = all_known(results)
    apart = few_levels(given)
    several = series(given, by_level=apart)
    with drawing(ax) as axes:
        for number, (one, look, label) in enumerate(zip(several, looks_of(several), labels(several), strict=True)):
            if apart:
                distribution(axes, one, look, drawable(label), len(several) - 1 - number)
            else:
                falling(axes, one, look, drawable(label), banded=len(several) <= MOST_BANDS)
        (axes.axvline if apart else axes.axhline)(0, color=BLACK, linewidth=0.8)
        if apart:
            axes.set(xlabel=MARGIN, ylabel="inputs with at most that, %", ylim=(0, 102))
        else:
            axes.set(xlabel=several[0].unit, ylabel=MARGIN)
        shown = "" if apart else ", median" if len(several) > MOST_BANDS else ", median and quartiles"
        title(axes, f"Worst margins{shown}", detail(several))
        legend(axes)
    return axes


def distribution(axes: Axes, one: Series, look: Look, label: str, later: int) -> None:
    """Each margin counts once; inputs of which none was proved stand left of all."""
    found = sorted(outcome.margin for outcome in one.outcomes if outcome.margin is not None)
    without = len(one.outcomes) - len(found)
    shares = [100 * (without + number) / len(one.outcomes) for number in range(1, len(found) + 1)]
    proved = sum(margin > 0 for margin in found)
    axes.step(
        found,
        shares,
        where="post",
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markevery=max(1, len(found) // 8),
        label=f"{label}: {proved} of {len(one.outcomes)} above 0",
        **nested(later),
    )


def falling(axes: Axes, one: Series, look: Look, label: str, banded: bool) -> None:
    """The median at each level, and a band between the quartiles if it is `banded`; nothing proved counts as the least."""
    each = [quartiles([-math.inf if o.margin is None else o.margin for o in one.at(level)]) for level in one.levels]
    low, middle, high = zip(*each, strict=True)
    if banded:
        axes.fill_between(one.levels, low, high, color=look.colour, alpha=0.2, linewidth=0)
    axes.plot(one.levels, middle, color=look.colour, linestyle=look.line, marker=look.marker, label=label)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The first, the second, which is the median, and the third: each one of the values, or the mean of two."""
    ordered = sorted(values)
    half = (len(ordered) + 1) // 2
    return statistics.median(ordered[:half]), statistics.median(ordered), statistics.median(ordered[-half:])
