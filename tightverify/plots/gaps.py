"""How far planes are away from their function: means over boxes as bars, and maps over one box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tightverify.plots.names import BLACK, looks
from tightverify.plots.planes import Mesh, function_words
from tightverify.plots.style import drawing, mpl, panels, whole
from tightverify.plots.words import legend, over_title, title
from tightverify.tightness.functions import FunctionTightness
from tightverify.tightness.tables import box_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 40
"""Boxes of which bars are drawn."""
LETTER = 0.1
"""Inches of a letter of a box's name, and what is between names."""


def gaps(found: FunctionTightness, ax: Axes | None = None) -> Axes:
    """The mean gaps above (up) and below (down) the function, a group of bars for each box, whose largest sum of both is 1."""
    count, per = min(MOST_BARS, len(found.boxes)), len(found.relaxations)
    sums = [one.mean_below + one.mean_above for one in found.gaps]
    most = [max(sums[box * per : (box + 1) * per]) or 1.0 for box in range(count)]
    own = looks(found.relaxations)
    names = [box_name(ends).replace(" x ", "\nx ") for ends in found.boxes[:count].tolist()]
    longest = max(len(line) for name in names for line in name.split("\n"))
    with drawing(ax, (max(7.2, 2.8 + count * max(0.2 * per, LETTER * longest)), 4.2)) as axes:
        for k, name in enumerate(found.relaxations):
            several = found.gaps[k : count * per : per]
            at = [box + 0.8 * (k + 0.5) / per - 0.4 for box in range(count)]
            above = [one.mean_above / top for one, top in zip(several, most, strict=True)]
            below = [-one.mean_below / top for one, top in zip(several, most, strict=True)]
            label = f"{name} (sampled)" if name == found.relaxations[-1] else name
            axes.bar(at, above, 0.7 / per, color=own[name].colour, label=label)
            axes.bar(at, below, 0.7 / per, color=own[name].colour, alpha=0.6)
        axes.axhline(0, color=BLACK, linewidth=0.8)
        axes.set_xticks(range(count), names)
        axes.set(xlabel="box", ylabel="mean gap below (down) and above (up),\nshare of the box's largest")
        title(axes, "Gaps between planes and function", function_words(found.function))
        legend(axes)
    axes.grid(visible=False, axis="x")
    return axes


def gap_maps(found: FunctionTightness, box: int = 0, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The distance from a function of two operands to the planes above and below it over a box; two rows of axes."""
    mesh, ends = Mesh.of(found, box), found.boxes[box].tolist()
    columns = {
        kind: (mesh.best(planes.upper[box], above=True) - mesh.values, mesh.values - mesh.best(planes.lower[box], above=False))
        for kind, planes in found.planes.items()
    }
    top = max(float(gap.max()) for sides in columns.values() for gap in sides) or 1.0
    inches = (2.1 * len(columns) + 1.4, 5.0)
    with panels(axes, 2, len(columns), inches, sharex=True, sharey=True) as several:
        for k, (kind, sides) in enumerate(columns.items()):
            for row, (gap, side) in enumerate(zip(sides, ("above", "below"), strict=True)):
                panel = several[row * len(columns) + k]
                how: dict[str, Any] = {"vmin": 0, "vmax": top, "cmap": "cividis", "shading": "gouraud", "rasterized": True}
                image = panel.pcolormesh(mesh.x.numpy(), mesh.y.numpy(), gap.numpy(), **how)
                panel.set(xlim=ends[:2], ylim=ends[2:])
                panel.set_title(f"{kind}, {side}", loc="center")
                for axis in (panel.xaxis, panel.yaxis):
                    axis.set_major_locator(mpl().ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
                panel.set_xlabel("x" if row == 1 else "")
                panel.set_ylabel("y" if k == 0 else "")
        whole(several[0]).colorbar(image, ax=several, label="gap to the function", pad=0.02)
        if axes is None:
            words = f"{function_words(found.function)} on {box_name(found.boxes[box].tolist())}"
            over_title(whole(several[0]), "Gaps between planes and function", words)
    for panel in several:
        panel.grid(visible=False)
    return several
