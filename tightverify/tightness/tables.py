"""Rows of plain values as files and as tables for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from tightverify.decimals import at_least

if TYPE_CHECKING:
    from tightverify.tightness.functions import FunctionTightness
    from tightverify.tightness.networks import ModelTightness


def heading(*left: str, right: Sequence[str], title: str) -> Table:
    """An empty table: columns of words, then columns of numbers."""
    grid = Table(title=title, title_justify="left", title_style="bold")
    for name in left:
        grid.add_column(name, no_wrap=True)
    for name in right:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def figure(value: float) -> str:
    """Four digits; "-" for what is no number."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def quotient(value: float, by: float) -> str:
    return figure(value / by) if by > 0 else "-"


def box_name(ends: Sequence[float]) -> str:
    return " x ".join(f"[{low:g}, {high:g}]" for low, high in zip(ends[0::2], ends[1::2], strict=True))


def function_tables(found: FunctionTightness) -> list[Table]:
    """A table for each box, a row for each relaxation; corners are told by their worst."""
    sides = ("mean below", "above", "centre below", "above", "corner below", "above")
    right = ("planes", "volume", "/ envelope", "together", *sides)
    per = len(found.relaxations)
    grids = []
    for box, ends in enumerate(found.boxes.tolist()):
        grid = heading("relaxation", right=right, title=f"{found.function} on {box_name(ends)}")
        several = found.gaps[box * per : (box + 1) * per]
        for gaps in several:
            grid.add_row(
                gaps.relaxation,
                "-" if gaps.planes is None else str(gaps.planes),
                figure(gaps.volume),
                quotient(gaps.volume, several[-1].volume),
                figure(gaps.volume_together),
                *(figure(gap) for gap in (gaps.mean_below, gaps.mean_above, gaps.centre_below, gaps.centre_above)),
                *(figure(max(gap)) for gap in (gaps.corners_below, gaps.corners_above)),
            )
        grids.append(grid)
    return grids


def widths_tables(found: ModelTightness) -> list[Table]:
    """A table for each role in a layer, a row for each frame: mean widths, and their median ratios to the baseline's."""
    others = [name for name in found.relaxations if name != found.baseline]
    right = ("frame", "neurons", *found.relaxations, *(f"median\n{name}\n/ {found.baseline}" for name in others))
    grids: dict[tuple[int, str], Table] = {}
    for group in found.by_place():
        title = f"layer {group.layer}, {group.role}: mean widths"
        grid = grids.setdefault((group.layer, group.role), heading(right=right, title=title))
        means = (figure(group.mean[name]) for name in found.relaxations)
        grid.add_row(str(group.frame), str(group.neurons), *means, *(figure(group.median_ratio[name]) for name in others))
    return list(grids.values())


def margins_table(found: ModelTightness) -> Table:
    """A row for each input, and what the margins come to."""
    grid = heading(right=("input", "label", *found.relaxations), title="worst margins, proved lower bounds")
    for row in found.margin_rows():
        margins = (row[f"margin_{name}"] for name in found.relaxations)
        grid.add_row(str(row["input"]), str(row["label"]), *(at_least(margin, 4) for margin in margins))
    return grid


def summary_table(found: ModelTightness) -> Table:
    """A row for each relaxation, over all inputs."""
    right = ("mean width", "mean margin", "margins above 0", "seconds per input")
    grid = heading("relaxation", right=right, title="over all inputs and bounded neurons")
    for name in found.relaxations:
        margins = found.margins[name]
        grid.add_row(
            name,
            figure(found.mean_width(name)),
            f"{float(margins.mean()):+.4f}",
            f"{int((margins > 0).sum())} of {len(margins)}",
            figure(found.seconds[name] / len(margins)),
        )
    return grid
