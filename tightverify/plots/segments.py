"""Where in time a network is fragile: a clip's waveform over what is proved and refuted of each of its segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from tightverify.plots.names import LOOKS
from tightverify.plots.style import mpl, panels, whole
from tightverify.plots.words import legend, title
from tightverify.radius.segments import Segments, decibels
from tightverify.region.perturbation import BALLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = (7.2, 5.0)
SHADES, UNDER, WAVE, SEEN = "YlOrRd_r", "#4A0010", "#222222", 0.65
"""Dark is fragile; darker still is a segment of which no level was proved."""
INNER = (0.1, 0.9)
"""Colours are spread over the levels but for a tenth at either end: one far from all others would leave them alike."""
LEAST_SPAN = 1.0
"""Decibels that the colours are spread over at least."""


def segments(found: Segments, rate: int | None = None, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The waveform, dark where the network is fragile, above the radii proved and refuted; in two axes, one above the other.

    Time is in seconds if there is a sampling `rate`, in samples if not. A radius is that of a change on one segment alone.
    """
    times = [edge / rate if rate else float(edge) for edge in found.edges]
    ball = BALLS.get(f"{found.norm:g}", f"L{found.norm:g} ball")
    count = len(found.edges) - 1
    with panels(axes, 2, 1, INCHES, sharex=True) as (above, below):
        shade(above, times, found.levels, f"proved, dB to the {size_of(found)}")
        above.plot([k / rate if rate else k for k in range(len(found.clip))], found.clip.tolist(), color=WAVE, linewidth=0.5)
        above.set(ylabel="sample values", xlim=(times[0], times[-1]))
        about = (
            found.model,
            f"answer {found.label}",
            f"{ball} on one of {count} segments",
            found.method and f"method {found.method}",
        )
        title(above, "Where in time the network is fragile", " · ".join(filter(None, about)))
        radii(below, times, found)
        below.set(xlabel="seconds" if rate else "samples", ylabel=f"radius, dB to the {size_of(found)}")
        legend(below, above=True)
    for each in (above, below):
        each.grid(visible=False, axis="x")
    return [above, below]


def size_of(found: Segments) -> str:
    return "peak" if math.isinf(found.norm) else "norm"


def shade(axes: Axes, times: Sequence[float], levels: Sequence[float], label: str) -> None:
    """A background in the colour of each segment's level, and the bar that says which level has which."""
    finite = sorted(level for level in levels if math.isfinite(level)) or [-1.0, 0.0]
    low, high = (finite[round(share * (len(finite) - 1))] for share in INNER)
    missing = max(0.0, LEAST_SPAN - (high - low)) / 2
    scale = mpl().colors.Normalize(low - missing, high + missing)
    colours = mpl().colormaps[SHADES].with_extremes(under=UNDER)
    for (start, stop), level in zip(pairwise(times), levels, strict=True):
        colour = colours(scale(max(level, low - missing))) if math.isfinite(level) else UNDER
        axes.axvspan(start, stop, color=colour, linewidth=0, alpha=SEEN)
    least, most = finite[0] < low or len(finite) < len(levels), finite[-1] > high
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((least, most), "neither")
    bar = whole(axes).colorbar(mpl().cm.ScalarMappable(scale, colours), ax=axes, extend=extend, pad=0.02, alpha=SEEN)
    bar.set_label(label, fontsize=mpl().rcParams["ytick.labelsize"])


def radii(axes: Axes, times: Sequence[float], found: Segments) -> None:
    """The level of each segment as a step, proved and refuted; nothing is known between them."""
    proved, refuted = LOOKS["ROBUST"], LOOKS["COUNTEREXAMPLE"]
    levels = [level if math.isfinite(level) else math.nan for level in found.levels]
    least = [decibels(radius / found.size) if math.isfinite(radius) else math.nan for radius in found.refuted.tolist()]
    width = 1.6 * mpl().rcParams["lines.linewidth"]
    for values, look, words in ((levels, proved, "proved robust"), (least, refuted, "counterexample found")):
        if any(map(math.isfinite, values)):
            axes.stairs(values, times, baseline=None, color=look.colour, linestyle=look.line, linewidth=width, label=words)
    without = [(start + stop) / 2 for (start, stop), level in zip(pairwise(times), levels, strict=True) if math.isnan(level)]
    if without:
        low = axes.get_ylim()[0]
        axes.plot(
            without, [low] * len(without), linestyle="none", marker="v", color=UNDER, label="nothing proved", clip_on=False
        )
