"""Pictures of what was found: surfaces with their planes, gaps, widths by frame, their ratios, margins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tightverify.errors import UsageError
from tightverify.tightness.functions import FunctionTightness, heights
from tightverify.tightness.networks import Group, ModelTightness
from tightverify.tightness.tables import box_name
from tightverify.writing import folder_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
LOWER, SURFACE, UPPER = COLOURS[0], "#999999", COLOURS[1]
MOST_BOXES = 8
"""of which surfaces are drawn"""
THIN = 1e-6
"""share of its operand below which a box is too thin to be drawn"""
MOST_BARS = 40
POINTS = 41


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def saved(drawing: Figure, folder: Path, name: str) -> Path:
    path = folder_of(folder) / name
    try:
        drawing.savefig(path, dpi=130)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a folder that can be") from error
    return path


def function_pictures(found: FunctionTightness, folder: Path) -> list[Path]:
    """gaps.png, and for the first boxes planes-K.png, and gaps-K.png where there are two operands."""
    written = [saved(gap_bars(found), folder, "gaps.png")]
    for box in range(min(MOST_BOXES, len(found.boxes))):
        low, high = found.boxes[box, 0::2], found.boxes[box, 1::2]
        if bool((high - low <= THIN * (1 + low.abs())).any()):
            continue
        if found.boxes.shape[1] == 2:
            written.append(saved(lines(found, box), folder, f"planes-{box}.png"))
        else:
            written.append(saved(surfaces(found, box), folder, f"planes-{box}.png"))
            written.append(saved(gap_maps(found, box), folder, f"gaps-{box}.png"))
    return written


def gap_bars(found: FunctionTightness) -> Figure:
    """The mean gaps on either side, a group of bars for each box, the largest sum of both sides being 1."""
    count, per = min(MOST_BARS, len(found.boxes)), len(found.relaxations)
    drawing = Figure(figsize=(max(6.0, 1.5 + 0.28 * count * per), 4.5), layout="constrained")
    axes = drawing.add_subplot()
    sums = [gaps.mean_below + gaps.mean_above for gaps in found.gaps]
    most = [max(sums[box * per : (box + 1) * per]) or 1.0 for box in range(count)]
    for k, name in enumerate(found.relaxations):
        gaps = found.gaps[k : count * per : per]
        at = [box + 0.8 * (k + 0.5) / per - 0.4 for box in range(count)]
        label = f"{name} (sampled)" if name == found.relaxations[-1] else name
        above = [one.mean_above / top for one, top in zip(gaps, most, strict=True)]
        below = [-one.mean_below / top for one, top in zip(gaps, most, strict=True)]
        axes.bar(at, above, 0.7 / per, color=colour(k), label=label)
        axes.bar(at, below, 0.7 / per, color=colour(k), alpha=0.6)
    axes.axhline(0, color="black", linewidth=0.8)
    names = [box_name(ends).replace(" x ", "\nx ") for ends in found.boxes[:count].tolist()]
    axes.set_xticks(range(count), names, fontsize="small")
    axes.set(ylabel="mean gap below (down) and above (up), scaled", title=f"{found.function}: how far the planes are away")
    axes.legend(fontsize="small")
    return drawing


def lines(found: FunctionTightness, box: int) -> Figure:
    """A function of one operand, and its lines."""
    low, high = found.boxes[box].tolist()
    curve, _ = found.curves
    x = torch.linspace(low, high, 201, dtype=torch.float64)
    places = torch.stack([x, torch.zeros_like(x)], dim=1)[None]
    drawing = Figure(figsize=(7, 4.5), layout="constrained")
    axes = drawing.add_subplot()
    axes.plot(x, curve.value(x), color="black", linewidth=2, label=found.function)
    for k, (kind, plane_set) in enumerate(found.planes.items()):
        for side in (plane_set.lower, plane_set.upper):
            for number, line in enumerate(heights(side[box : box + 1], places)[0]):
                axes.plot(x, line, color=colour(k), label=kind if number == 0 and side is plane_set.lower else None)
    axes.set(xlabel="x", title=f"{found.function} on {box_name((low, high))}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return drawing


def mesh(found: FunctionTightness, box: int) -> tuple[Tensor, Tensor, Callable[[Tensor, bool], Tensor], Tensor]:
    """x and y of a grid over a box, the best of planes (K, 3) at its points, and the function there."""
    x_low, x_high, y_low, y_high = found.boxes[box].tolist()
    first, second = found.curves
    ends = (x_low, x_high), (y_low, y_high)
    x, y = torch.meshgrid(*(torch.linspace(*pair, POINTS, dtype=torch.float64) for pair in ends), indexing="ij")
    places = torch.stack([x.flatten(), y.flatten()], dim=1)[None]

    def best(planes: Tensor, above: bool) -> Tensor:
        several = heights(planes[None], places)[0]
        return (several.amin(0) if above else several.amax(0)).view_as(x)

    return x, y, best, first.value(x) * second.value(y)


def surfaces(found: FunctionTightness, box: int) -> Figure:
    """The surface between its planes, a panel for each relaxation."""
    x, y, best, values = mesh(found, box)
    drawing = Figure(figsize=(4.2 * len(found.planes), 4.6), layout="constrained")
    for k, (kind, plane_set) in enumerate(found.planes.items()):
        axes: Any = drawing.add_subplot(1, len(found.planes), k + 1, projection="3d")
        layers = (best(plane_set.lower[box], False), LOWER), (values, SURFACE), (best(plane_set.upper[box], True), UPPER)
        for height, shade in layers:
            alpha = 0.9 if shade == SURFACE else 0.35
            axes.plot_surface(x.numpy(), y.numpy(), height.numpy(), color=shade, alpha=alpha, rcount=20, ccount=20)
        volume = next(gaps.volume for gaps in found.gaps if gaps.box == box and gaps.relaxation == kind)
        axes.set(xlabel="x", ylabel="y", title=f"{kind}: volume {volume:.4g}")
        axes.view_init(elev=18, azim=-60)
    drawing.suptitle(f"{found.function} on {box_name(found.boxes[box].tolist())}")
    return drawing


def gap_maps(found: FunctionTightness, box: int) -> Figure:
    """The distance from the function to its planes, below and above, on one scale."""
    x, y, best, values = mesh(found, box)
    columns = {
        kind: (values - best(plane_set.lower[box], False), best(plane_set.upper[box], True) - values)
        for kind, plane_set in found.planes.items()
    }
    top = max(float(gap.max()) for sides in columns.values() for gap in sides)
    drawing = Figure(figsize=(3.4 * len(columns) + 1, 6), layout="constrained")
    panels = drawing.subplots(2, len(columns), squeeze=False, sharex=True, sharey=True)
    for k, (kind, sides) in enumerate(columns.items()):
        for row, (gap, side) in enumerate(zip(sides, ("below", "above"), strict=True)):
            image = panels[row][k].pcolormesh(x, y, gap, vmin=0, vmax=top or 1.0, cmap="viridis", shading="auto")
            panels[row][k].set_title(f"{kind}, {side}", fontsize="medium")
    drawing.colorbar(image, ax=panels, label="gap")
    drawing.suptitle(f"{found.function} on {box_name(found.boxes[box].tolist())}")
    return drawing


def model_pictures(found: ModelTightness, folder: Path) -> list[Path]:
    """margins.png, and where neurons are bounded widths.png and ratios.png."""
    written = [saved(margins(found), folder, "margins.png")]
    if found.places:
        written.append(saved(widths(found.by_place(), found.relaxations), folder, "widths.png"))
        written.append(saved(ratios(found), folder, "ratios.png"))
    return written


def widths(groups: Sequence[Group], relaxations: Sequence[str]) -> Figure:
    """Mean widths by frame: a panel for each role in a layer."""
    kinds = list(dict.fromkeys((group.layer, group.role) for group in groups))
    columns = min(3, len(kinds))
    rows = -(-len(kinds) // columns)
    drawing = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    panels: list[Axes] = list(drawing.subplots(rows, columns, squeeze=False).flat)
    for axes, (layer, role) in zip(panels, kinds, strict=False):
        members = [group for group in groups if (group.layer, group.role) == (layer, role)]
        for k, name in enumerate(relaxations):
            axes.plot(
                [g.frame for g in members], [g.mean[name] for g in members], "o-", color=colour(k), markersize=3, label=name
            )
        axes.set(title=f"layer {layer}: {role}", xlabel="frame", ylabel="mean width", yscale="log")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    return drawing


def ratios(found: ModelTightness) -> Figure:
    """How the neurons' widths compare with the baseline's: the share of them by ratio."""
    drawing = Figure(figsize=(7, 4.5), layout="constrained")
    axes = drawing.add_subplot()
    for k, name in enumerate(found.relaxations):
        values = found.ratios(name)
        if name != found.baseline and len(values):
            axes.ecdf(values.numpy(), color=colour(k), label=f"{name}: median {float(values.median()):.3g}")
    axes.axvline(1.0, color="black", linewidth=0.8, label=found.baseline)
    axes.set(xscale="log", xlabel=f"width / width of {found.baseline}", ylabel="share of neurons and inputs", ylim=(0, 1.02))
    axes.set_title("Widths of the bounded neurons")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return drawing


def margins(found: ModelTightness) -> Figure:
    """The worst margin of each input, in the order of the baseline's."""
    drawing = Figure(figsize=(7, 4.5), layout="constrained")
    axes = drawing.add_subplot()
    order = torch.argsort(found.margins[found.baseline])
    for k, name in enumerate(found.relaxations):
        proved = int((found.margins[name] > 0).sum())
        label = f"{name}: {proved} above 0"
        axes.plot(range(len(order)), found.margins[name][order], "o-", color=colour(k), markersize=3, label=label)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(
        xlabel=f"inputs, by the margin of {found.baseline}", ylabel="worst margin", title="Proved lower bounds of the margins"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return drawing
