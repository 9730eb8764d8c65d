"""The picture of a clip's stretches: the waveform, dark where the network is fragile, above the certified radii in decibels."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tightverify.errors import UsageError
from tightverify.radius.segments import Segments, decibels
from tightverify.writing import folder_of

FRAGILE, WAVE = "OrRd_r", "#222222"


def picture(found: Segments, folder: Path, name: str, rate: int | None = None) -> Path:
    """Draw it into a PNG; the axis of time is in seconds if there is a sampling rate, in samples if not."""
    path = folder_of(folder) / name
    try:
        drawn(found, rate).savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a folder that can be") from error
    return path


def drawn(found: Segments, rate: int | None) -> Figure:
    unit = 1 / rate if rate else 1.0
    edges = [edge * unit for edge in found.edges]
    levels = found.levels
    finite = [level for level in levels if math.isfinite(level)] or [-1.0, 0.0]
    scale, shades = Normalize(min(finite) - 1, max(finite) + 1), colormaps[FRAGILE]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for start, stop, level in zip(edges, edges[1:], levels, strict=False):
        above.axvspan(start, stop, color=shades(scale(max(level, scale.vmin or 0.0))), linewidth=0)
    above.plot([k * unit for k in range(len(found.clip))], found.clip.tolist(), color=WAVE, linewidth=0.6)
    above.set(ylabel="samples", title=f"Class {found.label}: where the network is fragile", xlim=(edges[0], edges[-1]))
    floor = min(finite) - 3
    heights = [max(level, floor) - floor for level in levels]
    widths = [stop - start for start, stop in pairwise(edges)]
    below.bar(edges[:-1], heights, widths, floor, align="edge", color="#1f77b4", edgecolor="white", label="proved")
    broken = [(k, radius) for k, radius in enumerate(found.refuted.tolist()) if math.isfinite(radius)]
    for place, (k, radius) in enumerate(broken):
        height = decibels(radius / found.size)
        below.plot(edges[k : k + 2], [height] * 2, color="#d62728", label=None if place else "refuted")
    below.set(
        xlabel="seconds" if rate else "samples", ylabel=f"radius, dB to the {'peak' if math.isinf(found.norm) else 'norm'}"
    )
    below.grid(axis="y", alpha=0.3)
    below.legend(fontsize="small")
    figure.colorbar(ScalarMappable(scale, shades), ax=above, label="dB")
    return figure
