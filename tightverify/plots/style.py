"""One style for all pictures: size, fonts, title, legend beside the axes, grid; and files of them, PNG, PDF or SVG.

A picture is drawn into axes, the user's own or new ones, and these are returned. Nothing here is global: neither pyplot nor a
backend is used, and the settings of matplotlib are as they were afterwards. matplotlib is imported with the first picture.
"""

from __future__ import annotations

import logging
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from tightverify.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = Literal["screen", "column"]
SIZES: dict[str, tuple[float, float]] = {"screen": (7.2, 4.2), "column": (3.5, 3.1)}
"""Inches: for a screen or the width of a page, and for a column of a paper."""
FORMATS = ("png", "pdf", "svg")
DOTS = 150
"""Dots per inch, where a picture is made of dots."""
NARROW = 5.0
"""Inches below which a picture has smaller letters, and its legend under the axes."""
FAR = 30.0
"""Points from the axes down to a legend under them: numbers and a label are between."""
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
        found = figure(inches).add_subplot() if axes is None else axes
        yield found
        dress(found)


@contextmanager
def panels(
    given: Sequence[Axes] | None, rows: int, columns: int, size: tuple[float, float], **shared: Any
) -> Iterator[list[Axes]]:
    """Several axes to draw in, row by row, under this style; new ones if there are none."""
    if given is not None and len(given) != rows * columns:
        raise UsageError(f"{len(given)} axes were given for a picture of {rows * columns}; give as many, or none")
    with mpl().rc_context(rules(size[0] if given is None else whole(given[0]).get_size_inches()[0])):
        found = list(figure(size).subplots(rows, columns, squeeze=False, **shared).flat) if given is None else list(given)
        yield found
        for axes in found:
            dress(axes)


def dress(axes: Axes) -> None:
    """The style's lines and letters for axes that were made under another."""
    rules = mpl().rcParams
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for axis, name in ((axes.xaxis, "xtick"), (axes.yaxis, "ytick")):
        axis.label.set_fontsize(rules["axes.labelsize"])
        axis.set_tick_params(which="both", labelsize=rules[f"{name}.labelsize"], width=rules["axes.linewidth"])
        axis.grid(visible=True, which="major", color=rules["grid.color"], linewidth=rules["grid.linewidth"])
        if isinstance(axis.get_major_locator(), mpl().ticker.AutoLocator) and whole(axes).get_size_inches()[0] < NARROW:
            axis.set_major_locator(mpl().ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_axisbelow(True)


def whole(axes: Axes) -> Figure:
    """The figure that axes are of, also where they are of a part of it."""
    found: Figure = axes.get_figure(root=True)  # type: ignore[assignment]
    return found


def log_seconds(axes: Axes) -> None:
    """Seconds along x, by their logarithm, numbers in full: 0.2, 1, 50."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticker = mpl().ticker
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0,) if high > 500 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


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


def title(axes: Axes, words: str, detail: str = "") -> None:
    """What is shown, and below it, smaller, of what: model, region, method."""
    size = mpl().rcParams["axes.titlesize"]
    lines = wrapped(detail, whole(axes).get_size_inches()[0], size - 1)
    room = lines.count("\n") + 1 if lines else 0
    axes.set_title(drawable(words), loc="left", fontweight="bold", pad=6 + (2 + 1.3 * (size - 1) * room) * (room > 0))
    if lines:
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom", "ha": "left"}
        axes.annotate(lines, (0, 1), (0, 4), fontsize=size - 1, color="#444444", linespacing=1.25, **place)


def over_title(figure: Figure, words: str, detail: str = "") -> None:
    """The same, over all axes of a picture."""
    size = mpl().rcParams["axes.titlesize"]
    lines = wrapped(detail, figure.get_size_inches()[0], size)
    figure.suptitle("\n".join(filter(None, [drawable(words), lines])), x=0.01, ha="left", fontsize=size + 0.5)


def wrapped(detail: str, inches: float, size: float) -> str:
    """Lines that a picture is wide enough for; a letter is about half as wide as high."""
    return "\n".join(textwrap.wrap(drawable(detail), max(20, int(0.82 * 72 * inches / (0.55 * size)))))


def legend(axes: Axes, handles: Sequence[Artist] | None = None, names: str | None = None, aside: float = 0.0) -> None:
    """The legend outside of the axes: on their right, some points `aside`, or where the picture is narrow under them.

    Long words are broken, and where there are more entries than there is room for the last says how many are left out.
    """
    found = list(axes.get_legend_handles_labels()[0]) if handles is None else list(handles)
    if not found:
        return
    width, height = whole(axes).get_size_inches() * 72
    small, wide = mpl().rcParams["legend.fontsize"], width >= NARROW * 72
    most = int(height / (1.6 * small)) - 4 if wide else 8
    if len(found) > most:
        others = mpl().lines.Line2D([], [], linestyle="none", label=f"and {len(found) - most + 1} more")
        found = [*found[: most - 1], others]
    letters = int((0.35 if wide else 0.85) * width / (0.6 * small))
    longest = max(len(str(handle.get_label())) for handle in found)
    for handle in found:
        handle.set_label(textwrap.fill(str(handle.get_label()), letters))
    if wide:
        move = mpl().transforms.ScaledTranslation((8 + aside) / 72, 0, whole(axes).dpi_scale_trans)
        place: dict[str, Any] = {"bbox_to_anchor": (1.0, 1.0), "bbox_transform": axes.transAxes + move}
    else:
        down = mpl().transforms.ScaledTranslation(0, -FAR / 72, whole(axes).dpi_scale_trans)
        place = {"bbox_to_anchor": (0.0, 0.0), "bbox_transform": axes.transAxes + down}
        place |= {"ncols": 2 if len(found) > 2 and longest < 0.4 * letters else 1, "columnspacing": 1.0}
    axes.legend(handles=found, title=names, alignment="left", handlelength=3.0, loc="upper left", borderaxespad=0.0, **place)


def drawable(name: str) -> str:
    """Any name as it can be drawn: what the font has no sign for as numbers, dollars not as the start of a formula."""
    signs = known_signs()
    return "".join(
        sign if ord(sign) in signs or sign == "\n" else sign.encode("ascii", "backslashreplace").decode() for sign in name
    ).replace("$", r"\$")


@cache
def known_signs() -> frozenset[int]:
    """What the font has a sign for."""
    fonts = mpl().font_manager
    return frozenset(fonts.get_font(fonts.findfont(PLAIN["font.family"])).get_charmap())


def save(picture: Axes | Figure | Sequence[Axes], path: str | Path) -> Path:
    """Write a picture, given as its axes, some of them or the figure: .png, .pdf or .svg, replaced if it is there."""
    path = Path(path)
    if path.suffix.lower().lstrip(".") not in FORMATS:
        wanted = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"{path} names no kind of picture that is drawn here; give a name that ends in one of {wanted}")
    first = picture[0] if isinstance(picture, Sequence) else picture
    drawn: Figure = first if isinstance(first, mpl().figure.Figure) else whole(first)  # type: ignore[arg-type]
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix.lower())
    try:
        with mpl().rc_context(rules(drawn.get_size_inches()[0])):
            drawn.savefig(path, metadata=undated)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a folder that can be") from error
    return path
