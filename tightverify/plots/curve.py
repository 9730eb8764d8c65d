"""How much of the data is certified as the region grows, and how much is refuted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tightverify.errors import InputError
from tightverify.plots.names import BLACK, LOOKS, Look
from tightverify.plots.series import Outcome, Series, all_known, detail, labels, looks_of, series
from tightverify.plots.style import drawing, mpl, nested
from tightverify.plots.words import drawable, legend, title
from tightverify.report.records import Record
from tightverify.verify import Result, Verdict

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SHOWN = {Verdict.ROBUST: "proved robust", Verdict.COUNTEREXAMPLE: "counterexample found"}


def curve(results: Iterable[Record | Result], ax: Axes | None = None) -> Axes:
    """The share of the inputs that are proved robust, and of those with a counterexample, against eps or another level.

    Inputs in neither are open, or misclassified. A line for each model, region and method; where lines meet, later ones are
    thinner, so that earlier ones are seen beneath.
    """
    several = [one for one in series(all_known(results), by_level=False) if one.levels]
    if not several:
        raise InputError("no result has a region that one number states, such as eps; a curve needs that")
    with drawing(ax) as axes:
        looks = looks_of(several)
        for number, (one, look) in enumerate(zip(several, looks, strict=True)):
            for verdict in SHOWN:
                line(axes, one, verdict, look if len(several) > 1 else LOOKS[verdict.name], len(several) - 1 - number)
        tried = {level for one in several for level in one.levels}
        if len(tried) == 1:
            (level,) = tried
            axes.set_xlim(level - abs(level or 1.0), level + abs(level or 1.0))
        axes.set(xlabel=several[0].unit, ylabel="share of the inputs, %", ylim=(-3, 103))
        title(axes, "Certified share", detail(several))
        legend(axes, keys(several, looks))
    return axes


def share(outcomes: Sequence[Outcome], verdict: Verdict) -> float:
    """The percentage of inputs that got a verdict."""
    return 100 * sum(outcome.verdict == verdict.name for outcome in outcomes) / len(outcomes)


def line(axes: Axes, one: Series, verdict: Verdict, look: Look, later: int) -> None:
    """A share against the level; the more lines come `later`, the wider."""
    proved = verdict is Verdict.ROBUST
    axes.plot(
        one.levels,
        [share(one.at(level), verdict) for level in one.levels],
        linestyle="-" if proved else LOOKS[verdict.name].line,
        marker=look.marker if proved else "x",
        color=look.colour,
        **nested(later),
    )


def keys(several: Sequence[Series], looks: Sequence[Look]) -> list[Artist]:
    """What colours say, and what lines say."""
    entry = mpl().lines.Line2D
    styles = (("-", "o"), (LOOKS[Verdict.COUNTEREXAMPLE.name].line, "x"))
    shown = zip(SHOWN.items(), styles, strict=True)
    if len(several) == 1:
        return [
            entry([], [], color=LOOKS[verdict.name].colour, linestyle=dash, marker=marker, label=words)
            for (verdict, words), (dash, marker) in shown
        ]
    return [
        *(
            entry([], [], color=look.colour, marker=look.marker, label=drawable(label))
            for look, label in zip(looks, labels(several), strict=True)
        ),
        *(entry([], [], color=BLACK, linestyle=dash, marker=marker, label=words) for (_, words), (dash, marker) in shown),
    ]
