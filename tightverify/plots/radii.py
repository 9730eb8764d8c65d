"""Which parts of an input are fragile: radii as a map over frames and features, along a waveform, and along a pen's stroke.

Each picture is of one input, and shows for each of its values the radius that was proved of its part (`Radii.maps`): dark is
fragile, darker still is where nothing was proved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tightverify.errors import UsageError
from tightverify.plots.segments import SHADES, UNDER
from tightverify.plots.style import drawing, mpl, whole
from tightverify.plots.words import title
from tightverify.radius.parts import time_axis
from tightverify.radius.records import Radii

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES, FLAT, SQUARE = (7.2, 4.2), (7.2, 3.2), (5.6, 5.0)
LINES = 0.75
"""The part of the colours that lines have."""
WIDE = 20.0
"""The ratio of radii from which colours go by their logarithm."""


def radius_map(found: Radii, index: int = 0, shape: Sequence[int] | None = None, axes: Axes | None = None) -> Axes:
    """The radii of an input's parts over its frames, along x, and its features.

    `shape` (rows, columns) lays the input's values out as an image instead.
    """
    radii = radii_of(found, index)
    if shape is not None and math.prod(shape) != radii.numel():
        raise UsageError(f"the shape {tuple(shape)} was given for {radii.numel()} values; give rows and columns of so many")
    image = radii.flatten(1).T if shape is None and radii.dim() > 1 else radii.reshape(tuple(shape or (1, -1)))
    with drawing(axes, INCHES) as drawn:
        scale, colours = coloured(radii)
        drawn.imshow(image.numpy(), cmap=colours, norm=scale, aspect="auto" if shape is None else "equal", origin="upper")
        drawn.grid(visible=False)
        for axis, size in ((drawn.xaxis, image.shape[1]), (drawn.yaxis, image.shape[0])):
            axis.set_major_locator(mpl().ticker.MaxNLocator(min(size, 8), integer=True))
        across, up = ("column", "row") if shape is not None else ("frame", "feature") if radii.dim() > 1 else ("value", "")
        drawn.set(xlabel=across, ylabel=up)
        if not up:
            drawn.set_yticks([])
        said(drawn, found, index, scale, colours)
    return drawn


def wave(found: Radii, clip: Any, index: int = 0, rate: int | None = None, axes: Axes | None = None) -> Axes:
    """A waveform, each segment of it in the colour of its radius; time in seconds if there is a sampling `rate`."""
    samples, radii = torch.as_tensor(clip, dtype=torch.float64).flatten(), radii_of(found, index)
    if len(samples) != radii.numel() or radii.numel() != radii.shape[time_axis(tuple(radii.shape))]:
        shape = tuple(radii.shape)
        raise UsageError(f"radii of inputs of shape {shape} and {len(samples)} samples were given; wanted one waveform")
    times = torch.arange(len(samples), dtype=torch.float64) / (rate or 1)
    with drawing(axes, FLAT) as drawn:
        scale, colours = coloured(radii, LINES)
        track(drawn, torch.stack([times, samples], 1), radii.flatten(), scale, colours, 1.2)
        drawn.grid(visible=False, axis="x")
        drawn.set(xlabel="seconds" if rate else "samples", ylabel="sample values", xlim=(0.0, float(times[-1])))
        said(drawn, found, index, scale, colours)
    return drawn


def stroke(
    found: Radii, x: Any, index: int = 0, moves: tuple[int, int] = (0, 1), lifted: int | None = 2, axes: Axes | None = None
) -> Axes:
    """A pen's way, each of its points in the colour of its frame's radius.

    x (frames, features) are the pen's moves since the frame before, at the places `moves` across and down; a value above 1/2
    at the place `lifted` says that the pen is lifted after that point.
    """
    points, radii = torch.as_tensor(x, dtype=torch.float64), radii_of(found, index)
    if points.shape != radii.shape or points.dim() != 2:
        shapes = f"{tuple(radii.shape)} and moves {tuple(points.shape)}"
        raise UsageError(f"radii of inputs of shape {shapes} were given; wanted the same")
    way, of_frame = torch.cumsum(points[:, list(moves)], 0), radii.amin(1)
    ends = torch.zeros(len(points), dtype=torch.bool) if lifted is None else points[:, lifted] > 0.5
    with drawing(axes, SQUARE) as drawn:
        scale, colours = coloured(radii, LINES)
        starts = [0, *(k + 1 for k in torch.nonzero(ends).flatten().tolist()), len(points)]
        for start, stop in pairwise(starts):
            track(drawn, way[start:stop], of_frame[start:stop], scale, colours, 3.0)
        shades = colours(scale(clean(of_frame, scale)))
        drawn.scatter(way[:, 0], way[:, 1], c=shades, s=14, edgecolors="#444444", linewidths=0.3, zorder=3)
        drawn.grid(visible=False)
        drawn.set(xlabel="across", ylabel="down")
        drawn.set_aspect("equal", adjustable="datalim")
        drawn.invert_yaxis()
        said(drawn, found, index, scale, colours)
    return drawn


def radii_of(found: Radii, index: int) -> Tensor:
    """The radii of an input's values."""
    if not 0 <= index < len(found):
        raise UsageError(f"input {index} was asked for; there are radii of inputs 0 to {len(found) - 1}")
    if found[index].misclassified:
        raise UsageError(f"input {index} is misclassified: it has no radii to be drawn; choose another")
    return found.maps[index]


def coloured(radii: Tensor, lightest: float = 1.0) -> tuple[Any, Any]:
    """A scale over the radii above 0, and the colours of a value on it, the lightest of which would be hard to see as lines."""
    above = radii[(radii > 0) & torch.isfinite(radii)]
    low, high = (float(above.min()), float(above.max())) if len(above) else (0.5, 1.0)
    if high - low <= 1e-9 * high:
        low, high = 0.9 * low, 1.1 * high
    scale = (mpl().colors.LogNorm if high > WIDE * low else mpl().colors.Normalize)(low, high)
    shades = mpl().colormaps[SHADES](torch.linspace(0, lightest, 256).numpy())
    return scale, mpl().colors.ListedColormap(shades).with_extremes(under=UNDER)


def clean(radii: Tensor, scale: Any) -> Any:
    """Radii as a scale takes them: nothing that was proved is less than all others."""
    return torch.where(radii > 0, radii, torch.as_tensor(scale.vmin / 2, dtype=torch.float64)).numpy()


def track(axes: Axes, points: Tensor, radii: Tensor, scale: Any, colours: Any, width: float) -> None:
    """Lines from point to point (P, 2), each in the colour of the point that it leads to."""
    if len(points) > 1:
        lines = torch.stack([points[:-1], points[1:]], 1).numpy()
        shades = colours(scale(clean(radii[1:], scale)))
        axes.add_collection(mpl().collections.LineCollection(lines, colors=shades, linewidths=width))
    axes.autoscale_view()


def said(axes: Axes, found: Radii, index: int, scale: Any, colours: Any) -> None:
    """The bar of colours, and above the picture of what it is."""
    about, one = found.about, found[index]
    extend = "min" if bool((found.maps[index] == 0).any()) else "neither"
    bar = whole(axes).colorbar(mpl().cm.ScalarMappable(scale, colours), ax=axes, extend=extend, pad=0.02)
    bar.ax.minorticks_off()
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.set_label("radius proved", fontsize=mpl().rcParams["ytick.labelsize"])
    answer = f"input {one.index}" if one.label is None else f"input {one.index}, answer {one.label}"
    parts = (about.model, answer, f"{about.family} on one {about.part} alone", f"method {about.method}")
    title(axes, f"Which {about.part} is fragile", " · ".join(filter(None, parts)))
