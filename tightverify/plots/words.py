"""Titles and legends: what a picture shows, of what, and which line is which; and names of any kind as letters."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tightverify.plots.style import NARROW, PLAIN, mpl, whole

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR = 30.0
"""Points from the axes down to a legend under them: numbers and a label are between."""

TIED = "\N{NO-BREAK SPACE}"
ABOVE: dict[str, Any] = {"ncols": 3, "handlelength": 3.0, "borderaxespad": 0.0, "borderpad": 0.0}


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
    """The same, over all axes of a picture, which are laid out in what is left below."""
    size = mpl().rcParams["figure.titlesize"]
    width, height = figure.get_size_inches() * 72
    lines = wrapped(detail, width / 72, size - 1)
    room = 1.5 * size + 1.35 * (size - 1) * (lines.count("\n") + 1 if lines else 0) + 4
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0, 1, 1 - room / height))  # type: ignore[call-arg]
    place: dict[str, Any] = {"va": "top", "ha": "left"}
    figure.text(4 / width, 1 - 4 / height, drawable(words), fontsize=size, fontweight="bold", **place)
    figure.text(4 / width, 1 - 1.5 * size / height, lines, fontsize=size - 1, color="#444444", linespacing=1.25, **place)


def wrapped(detail: str, inches: float, size: float) -> str:
    """Lines that a picture is wide enough for, whole parts on each where they fit; a letter is about half as wide as high."""
    letters = max(20, int(0.82 * 72 * inches / (0.55 * size)))
    parts = [part.replace(" ", TIED) if len(part) < letters else part for part in drawable(detail).split(" · ")]
    return "\n".join(textwrap.wrap(" · ".join(parts), letters)).replace(TIED, " ")


def legend(axes: Axes, handles: Sequence[Artist] | None = None, aside: float = 0.0, above: bool = False) -> None:
    """The legend outside of the axes: on their right, some points `aside`, under them where the picture is narrow, or `above`.

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
    if above:
        up = mpl().transforms.ScaledTranslation(0, 4 / 72, whole(axes).dpi_scale_trans)
        axes.legend(handles=found, loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=axes.transAxes + up, **ABOVE)
        return
    if wide:
        move = mpl().transforms.ScaledTranslation((8 + aside) / 72, 0, whole(axes).dpi_scale_trans)
        place: dict[str, Any] = {"bbox_to_anchor": (1.0, 1.0), "bbox_transform": axes.transAxes + move}
    else:
        down = mpl().transforms.ScaledTranslation(0, -FAR / 72, whole(axes).dpi_scale_trans)
        place = {"bbox_to_anchor": (0.0, 0.0), "bbox_transform": axes.transAxes + down}
        place |= {"ncols": 2 if len(found) > 2 and longest < 0.4 * letters else 1, "columnspacing": 1.0}
    axes.legend(handles=found, handlelength=3.0, loc="upper left", borderaxespad=0.0, **place)


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
