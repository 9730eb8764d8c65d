"""A function between its planes, over one box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tightverify.plots.names import BLACK, LOOKS, looks
from tightverify.plots.style import drawing, figure, mpl, rules, whole
from tightverify.plots.words import legend, over_title, title
from tightverify.tightness.functions import FunctionTightness, heights
from tightverify.tightness.tables import box_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS, LINES = 41, 9
"""Points of a grid along each side of a box, and lines of the function drawn along each."""
PANEL = (2.7, 3.1)
"""Inches of a surface."""
WORDS = {
    "sigmoid_tanh": "sigmoid(x) tanh(y)",
    "sigmoid_times": "sigmoid(x) y",
    "tanh_times": "tanh(x) y",
    "multiply": "x y",
    "sigmoid": "sigmoid(x)",
    "tanh": "tanh(x)",
}


def function_words(name: str) -> str:
    return WORDS.get(name, name)


@dataclass(frozen=True, eq=False)
class Mesh:
    """A grid over a box of two operands, (P, P): its coordinates, and the function there."""

    x: Tensor
    y: Tensor
    values: Tensor

    @classmethod
    def of(cls, found: FunctionTightness, box: int) -> Mesh:
        x_low, x_high, y_low, y_high = found.boxes[box].tolist()
        first, second = found.curves
        ends = (x_low, x_high), (y_low, y_high)
        x, y = torch.meshgrid(*(torch.linspace(*pair, POINTS, dtype=torch.float64) for pair in ends), indexing="ij")
        return cls(x, y, first.value(x) * second.value(y))

    def best(self, planes: Tensor, above: bool) -> Tensor:
        """The nearest of planes (K, 3) above or below the function, at each point."""
        places = torch.stack([self.x.flatten(), self.y.flatten()], dim=1)[None]
        several = heights(planes[None], places)[0]
        return (several.amin(0) if above else several.amax(0)).view_as(self.x)


def planes(found: FunctionTightness, box: int = 0, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """A function between its planes: axes in 3 dimensions for each kind of planes, in 2 for one operand."""
    if found.boxes.shape[1] == 2:
        return [lines(found, box, None if axes is None else axes[0])]
    kinds = list(found.planes)
    inches = (PANEL[0] * len(kinds) + 0.3, PANEL[1] + 0.9)
    with mpl().rc_context(rules(inches[0] if axes is None else whole(axes[0]).get_size_inches()[0])):
        drawn = figure(inches) if axes is None else whole(axes[0])
        several: list[Any] = list(axes or ())
        if axes is None:
            several = [drawn.add_subplot(1, len(kinds), k + 1, projection="3d") for k in range(len(kinds))]
        mesh = Mesh.of(found, box)
        for panel, kind in zip(several, kinds, strict=True):
            surface(panel, found, box, kind, mesh)
        ends = [panel.get_zlim() for panel in several]
        for panel in several:
            panel.set_zlim(min(low for low, _ in ends), max(high for _, high in ends))
        if axes is None:
            words = f"{function_words(found.function)} on {box_name(found.boxes[box].tolist())}"
            over_title(drawn, "A function between its planes", words)
            patch, line = mpl().patches.Patch, mpl().lines.Line2D
            above, below = (LOOKS[side].colour for side in ("above", "below"))
            keys = [patch(color=above, alpha=0.5, label="least upper plane"), line([], [], color=BLACK, label="function")]
            keys.append(patch(color=below, alpha=0.5, label="greatest lower plane"))
            drawn.legend(handles=keys, loc="outside lower center", ncols=3)
    return several


def surface(axes: Any, found: FunctionTightness, box: int, kind: str, mesh: Mesh) -> None:
    """The function as a net of lines, through which both planes are seen; the lower one drawn first, the upper one last."""
    x, y = mesh.x.numpy(), mesh.y.numpy()
    both = found.planes[kind]
    axes.computed_zorder = False
    sides = ("below", mesh.best(both.lower[box], above=False)), ("above", mesh.best(both.upper[box], above=True))
    for order, (side, height) in zip((1, 3), sides, strict=True):
        axes.plot_surface(
            x,
            y,
            height.numpy(),
            color=LOOKS[side].colour,
            alpha=0.45,
            rcount=12,
            ccount=12,
            linewidth=0,
            shade=False,
            zorder=order,
        )
    step = (POINTS - 1) // (LINES - 1)
    axes.plot_wireframe(x, y, mesh.values.numpy(), color=BLACK, linewidth=0.6, rstride=step, cstride=step, zorder=2)
    small = mpl().rcParams["xtick.labelsize"] - 2
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(mpl().ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_tick_params(labelsize=small, pad=-2)
        axis.pane.set_facecolor("white")
    volume = next(one.volume for one in found.gaps if one.box == box and one.relaxation == kind)
    axes.set_xlabel("x", labelpad=-6)
    axes.set_ylabel("y", labelpad=-6)
    axes.set_title(f"{kind}\nvolume {volume:.4g}", linespacing=1.3)
    axes.view_init(elev=18, azim=-60)
    axes.set_box_aspect(None, zoom=1.12)


def lines(found: FunctionTightness, box: int, ax: Axes | None) -> Axes:
    """A function of one operand, and its lines."""
    low, high = found.boxes[box].tolist()
    curve, _ = found.curves
    x = torch.linspace(low, high, 201, dtype=torch.float64)
    places = torch.stack([x, torch.zeros_like(x)], dim=1)[None]
    own = looks(list(found.planes))
    with drawing(ax) as axes:
        for kind, plane_set in found.planes.items():
            for side in (plane_set.lower, plane_set.upper):
                for number, line in enumerate(heights(side[box : box + 1], places)[0]):
                    first = number == 0 and side is plane_set.lower
                    axes.plot(
                        x.numpy(), line.numpy(), color=own[kind].colour, linestyle=own[kind].line, label=kind if first else None
                    )
        axes.plot(x.numpy(), curve.value(x).numpy(), color=BLACK, linewidth=2.2, label="function")
        axes.set(xlabel="x", ylabel=function_words(found.function), xlim=(low, high))
        title(axes, "A function between its planes", f"{function_words(found.function)} on {box_name((low, high))}")
        legend(axes)
    return axes
