"""How many inputs are decided within a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tightverify.plots.series import all_known, detail, few_levels, labels, looks_of, series
from tightverify.plots.style import drawing, logarithmic, mpl, nested
from tightverify.plots.words import drawable, legend, title
from tightverify.report.records import Record
from tightverify.verify import Result, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECIDED = (Verdict.ROBUST.name, Verdict.COUNTEREXAMPLE.name)
LEAST = 1e-4
"""Seconds below which none are told apart."""


def cactus(results: Iterable[Record | Result], ax: Axes | None = None) -> Axes:
    """How many inputs are proved robust or refuted within so many seconds each, a line for each model, region and method.

    Where many levels of a region were tried they count together. Misclassified inputs count as given, and are never decided:
    there is nothing to verify.
    """
    given = all_known(results)
    several = series(given, by_level=few_levels(given))
    slowest = max(LEAST, *(outcome.seconds for one in several for outcome in one.outcomes))
    with drawing(ax) as axes:
        for number, (one, look, label) in enumerate(zip(several, looks_of(several), labels(several), strict=True)):
            times = sorted(max(LEAST, o.seconds) for o in one.outcomes if o.verdict in DECIDED)
            count = len(times)
            axes.step(
                [*times[:1], *times, slowest],
                [*([0] if times else []), *range(1, count + 1), count],
                where="post",
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                markevery=slice(1, count + 1, max(1, count // 8)),
                label=f"{drawable(label)}: {count} of {len(one.outcomes)}",
                **nested(len(several) - 1 - number),
            )
        axes.set_xscale("log")
        logarithmic(axes, "x")
        axes.set(xlabel="seconds per input", ylabel="inputs decided")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(mpl().ticker.MaxNLocator(integer=True))
        title(axes, "Decided inputs against time", detail(several))
        legend(axes)
    return axes
