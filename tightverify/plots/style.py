"""One style for all pictures: sizes, letters, lines, grid, scales.

A picture is drawn into axes, the user's own or new ones, and these are returned. Nothing here is global: neither pyplot nor a
backend is used, and the settings of matplotlib are as they were afterwards. matplotlib is imported with the first picture.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from tightverify.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = Literal["screen", "column"]
SIZES: dict[str, tuple[float, float]] = {"screen": (7.2, 4.2), "column": (3.5, 3.1)}
"""Inches: for a screen or the width of a page, and for a column of a paper."""
DOTS = 150
"""Dots per inch, where a picture is made of dots."""
NARROW = 5.0
"""Inches below which a picture has smaller letters, and its legend under the axes."""
STEEP = 5.0
"""Margins beyond that are drawn as their logarithms, with all smaller ones to scale."""
PLAIN: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.hashsalt": "tightverify",
}


@cache
def mpl() -> ModuleType:
    """matplotlib, without what it logs when it finds no folder for its caches: that is nothing to a user of ours."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import matplotlib.figure
        import matplotlib.font_manager
    finally:
        logger.setLevel(level)
    return matplotlib


def figure(size: Size | tuple[float, float] = "screen") -> Figure:
    """An empty picture, of a named size or of some inches."""
    inches = SIZES[size] if isinstance(size, str) else size
    with mpl().rc_context(rules(inches[0])):
        found: Figure = mpl().figure.Figure(figsize=inches, dpi=DOTS, layout="constrained")
    return found


def rules(inches: float) -> dict[str, Any]:
    """matplotlib's settings for a picture of some width."""
    letters = 8.0 if inches < NARROW else 10.0
    small = letters - 1.0
    return {
        **PLAIN,
        "font.size": letters,
        "axes.labelsize": letters,
        "axes.titlesize": letters,
        "figure.titlesize": letters + 1,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "legend.fontsize": small,
        "lines.linewidth": 1.2 if inches < NARROW else 1.6,
        "lines.markersize": 3.5 if inches < NARROW else 5.0,
    }


@contextmanager
def drawing(axes: Axes | None, size: Size | tuple[float, float] = "screen") -> Iterator[Axes]:
    """Axes to draw in, new ones if there are none, under this style."""
    inches = SIZES[size] if isinstance(size, str) else size
    width = inches[0] if axes is None else whole(axes).get_size_inches()[0]
    with mpl().rc_context(rules(width)):
        found = figure(inches).add_subplot() if axes is None else dressed(axes)
        yield found
        few_numbers(found)


@contextmanager
def panels(
    given: Sequence[Axes] | None, rows: int, columns: int, size: tuple[float, float], **shared: Any
) -> Iterator[list[Axes]]:
    """Several axes to draw in, row by row, under this style; new ones if there are none."""
    if given is not None and len(given) != rows * columns:
        raise UsageError(f"{len(given)} axes were given for a picture of {rows * columns}; give as many, or none")
    with mpl().rc_context(rules(size[0] if given is None else whole(given[0]).get_size_inches()[0])):
        found = list(
            figure(size).subplots(rows, columns, squeeze=False, **shared).flat if given is None else map(dressed, given)
        )
        yield found
        for axes in found:
            few_numbers(axes)


def dressed(axes: Axes) -> Axes:
    """Axes that were made under another style with this one's lines and letters."""
    rules = mpl().rcParams
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for axis, name in ((axes.xaxis, "xtick"), (axes.yaxis, "ytick")):
        axis.label.set_fontsize(rules["axes.labelsize"])
        axis.set_tick_params(which="both", labelsize=rules[f"{name}.labelsize"], width=rules["axes.linewidth"])
        axis.grid(visible=True, which="major", color=rules["grid.color"], linewidth=rules["grid.linewidth"])
    axes.set_axisbelow(True)
    return axes


def few_numbers(axes: Axes) -> None:
    """Where a picture is narrow, so few numbers along an axis that there is room between them."""
    if whole(axes).get_size_inches()[0] < NARROW:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_locator(), mpl().ticker.AutoLocator):
                axis.set_major_locator(mpl().ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def whole(axes: Axes) -> Figure:
    """The figure that axes are of, also where they are of a part of it."""
    found: Figure = axes.get_figure(root=True)  # type: ignore[assignment]
    return found


def nested(later: int) -> dict[str, Any]:
    """The width of a line and the size of its markers, the larger the more lines come `later`: it is seen under them."""
    rules, wider = mpl().rcParams, 1 + 0.6 * min(later, 3)
    return {"linewidth": rules["lines.linewidth"] * wider, "markersize": rules["lines.markersize"] * wider}


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """The logarithm along one axis, whose ends are those it has by now; a few numbers in full: 0.2, 1, 50."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = (axes.get_xlim if which == "x" else axes.get_ylim)()
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    ticker, ratio = mpl().ticker, high / low
    log = ticker.LogLocator(subs=(1.0,) if ratio > 500 else (1.0, 2.0, 5.0), numticks=8)
    axis.set_major_locator(ticker.MaxNLocator(5) if ratio < 5 else log)
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(ticker.NullLocator())


def asinh_margins(axes: Axes, values: Sequence[float]) -> None:
    """Margins along y: to scale near 0, by their logarithm where they are large."""
    most = max((abs(value) for value in values), default=0.0)
    if most <= STEEP:
        return
    axes.set_yscale("asinh", linear_width=1.0)
    exponents = range(0, int(math.log10(most)) + 1, 1 + int(math.log10(most)) // 4)
    ticker = mpl().ticker
    axes.yaxis.set_major_locator(ticker.FixedLocator([0.0, *(side * 10.0**k for k in exponents for side in (-1, 1))]))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
