"""What relaxations do to a network: widths by frame, how they compare, and the margins that they prove.

Intervals are often so much wider than everything else that the others would lie on one another: axes are those of the others,
and what leaves them is marked at the edge.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from tightverify.plots.names import BLACK, Look, looks
from tightverify.plots.style import drawing, logarithmic, mpl, panels, whole
from tightverify.plots.words import legend, over_title, title
from tightverify.tightness.networks import Group, ModelTightness

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

FAR = "interval"
"""The relaxation that axes are not made for, where there are others."""
ROOM = 0.06
"""Share of an axis that is left free at either end."""
COLUMNS = 3
LETTERS = 26
"""The width of a title in letters, where several axes stand side by side."""


def near(found: ModelTightness) -> list[str]:
    """The relaxations that axes are made for."""
    return [name for name in found.relaxations if name != FAR] or [FAR]


def about(found: ModelTightness) -> str:
    """Model, region and inputs, as far as they are known."""
    return " · ".join(filter(None, [found.model, found.region, f"{len(found.labels)} inputs"]))


def limits(values: Iterable[float], log: bool = False) -> tuple[float, float] | None:
    """The ends of an axis that has all of these values; None if there are none."""
    there = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not there:
        return None
    low, high = min(there), max(there)
    if log:
        factor = max(high / low, 1.1) ** ROOM
        return low / factor, high * factor
    room = ROOM * (high - low or max(abs(high), 1.0))
    return low - room, high + room


def off_axis(axes: Axes, places: Sequence[float], values: Sequence[float], look: Look) -> bool:
    """Mark at the upper or lower edge, by triangles that point there, where values are beyond it; whether any are."""
    low, high = axes.get_ylim()
    found = False
    for edge, marker, beyond in ((1.0, "^", [v > high for v in values]), (0.0, "v", [v < low for v in values])):
        there = [place for place, is_beyond in zip(places, beyond, strict=True) if is_beyond]
        if not there:
            continue
        found = True
        axes.plot(
            there,
            [edge] * len(there),
            color=look.colour,
            marker=marker,
            linestyle="none",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    return found


def widths(found: ModelTightness, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The mean widths of bounded neurons by frame: axes for each role in a layer."""
    groups = found.by_place()
    kinds = list(dict.fromkeys((group.layer, group.role) for group in groups))
    rows = -(-len(kinds) // COLUMNS) if axes is None else 1
    columns = -(-len(kinds) // rows)
    own, beyond = looks(found.relaxations), False
    with panels(axes, rows, columns, (max(7.2, 2.6 * columns + 1.6), 2.3 * rows + 1.0)) as several:
        for number, (panel, (layer, role)) in enumerate(zip(several, kinds, strict=False)):
            members = [group for group in groups if (group.layer, group.role) == (layer, role)]
            beyond |= by_frame(panel, members, found, own)
            panel.set_title(textwrap.fill(f"layer {layer}: {role}", LETTERS), loc="left")
            panel.set_xlabel("frame")
            panel.set_ylabel("mean width" if number % columns == 0 else "")
        for panel in several[len(kinds) :]:
            panel.set_visible(False)
        keys = [key(own[name], name + (" (▲ beyond)" if beyond and name == FAR else "")) for name in found.relaxations]
        if axes is None:
            over_title(whole(several[0]), "Widths of the bounded neurons", about(found))
            whole(several[0]).legend(handles=keys, loc="outside lower center", ncols=5, handlelength=3.0)
        else:
            legend(several[len(kinds) - 1], keys)
    return several[: len(kinds)]


def by_frame(axes: Axes, members: Sequence[Group], found: ModelTightness, own: dict[str, Look]) -> bool:
    """The mean widths of one role in a layer; whether some are beyond the axes."""
    frames, beyond = [group.frame for group in members], False
    ends = limits((group.mean[name] for group in members for name in near(found)), log=True)
    axes.set_ylim(ends or (0.1, 1.0))
    logarithmic(axes, "y")
    for name in found.relaxations:
        means, look = [group.mean[name] for group in members], own[name]
        axes.plot(frames, means, color=look.colour, linestyle=look.line, marker=look.marker)
        beyond |= off_axis(axes, frames, means, look)
    axes.xaxis.set_major_locator(mpl().ticker.MaxNLocator(5, integer=True))
    return beyond


def key(look: Look, label: str) -> Artist:
    entry: Artist = mpl().lines.Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker, label=label)
    return entry


def ratios(found: ModelTightness, ax: Axes | None = None) -> Axes:
    """How the neurons' widths compare with the baseline's: the share of neurons, on all inputs, with at most a ratio."""
    own, base = looks(found.relaxations), found.baseline
    by_name = {name: found.ratios(name) for name in found.relaxations if name != base and len(found.ratios(name))}
    with drawing(ax) as axes:
        for name, values in by_name.items():
            label = f"{name}: median {float(values.median()):.3g}"
            axes.ecdf(values.numpy(), color=own[name].colour, linestyle=own[name].line, label=label)
        axes.axvline(1.0, color=own[base].colour, linewidth=1.0, label=f"{base}: 1")
        others = [value for name, values in by_name.items() if name != FAR for value in values.aminmax()]
        every = [value for values in by_name.values() for value in values.aminmax()]
        axes.set_xlim(limits([1.0, *map(float, others or every)], log=True))
        logarithmic(axes, "x")
        axes.set(xlabel=f"width / width by {base}", ylabel="neurons and inputs with at most that, %", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(mpl().ticker.PercentFormatter(1.0, symbol=""))
        title(axes, f"Widths compared with {base}", about(found))
        legend(axes)
    return axes


def relaxed_margins(found: ModelTightness, ax: Axes | None = None) -> Axes:
    """The worst margin that each relaxation proves of each input, by the baseline's; above 0 it is proved robust."""
    own, order = looks(found.relaxations), torch.argsort(found.margins[found.baseline])
    with drawing(ax) as axes:
        places = list(range(1, len(order) + 1))
        ends = limits([0.0, *(value for name in near(found) for value in found.margins[name].tolist())])
        if ends is not None:
            axes.set_ylim(*ends)
        for name in found.relaxations:
            values, look = found.margins[name][order].tolist(), own[name]
            beyond = off_axis(axes, places, values, look)
            label = f"{name}: {sum(value > 0 for value in values)} above 0" + (" (▼ beyond)" if beyond else "")
            axes.plot(places, values, color=look.colour, linestyle=look.line, marker=look.marker, label=label)
        axes.axhline(0, color=BLACK, linewidth=0.8)
        axes.set(xlabel=f"inputs, by the margin of {found.baseline}", ylabel="worst margin, in units of the outputs")
        axes.xaxis.set_major_locator(mpl().ticker.MaxNLocator(8, integer=True))
        title(axes, "Worst margins proved", about(found))
        legend(axes)
    return axes
