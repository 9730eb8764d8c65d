"""All pictures of a study as files in a folder; what had their names is replaced."""

from __future__ import annotations

from pathlib import Path

from tightverify.plots.bounded import ratios, relaxed_margins, widths
from tightverify.plots.gaps import gap_maps, gaps
from tightverify.plots.planes import planes
from tightverify.plots.saving import save
from tightverify.plots.segments import segments
from tightverify.radius.segments import Segments
from tightverify.tightness.functions import FunctionTightness
from tightverify.tightness.networks import ModelTightness

MOST_BOXES = 8
"""of which planes are drawn"""
THIN = 1e-6
"""share of its operand below which a box is too thin to be drawn"""


def of_function(found: FunctionTightness, folder: Path, kind: str) -> list[Path]:
    """gaps, and for the first boxes planes-K, and gaps-K where there are two operands."""
    written = [save(gaps(found), folder / f"gaps.{kind}")]
    for box in range(min(MOST_BOXES, len(found.boxes))):
        low, high = found.boxes[box, 0::2], found.boxes[box, 1::2]
        if bool((high - low <= THIN * (1 + low.abs())).any()):
            continue
        written.append(save(planes(found, box), folder / f"planes-{box}.{kind}"))
        if found.boxes.shape[1] == 4:
            written.append(save(gap_maps(found, box), folder / f"gaps-{box}.{kind}"))
    return written


def of_model(found: ModelTightness, folder: Path, kind: str) -> list[Path]:
    """margins, and where neurons are bounded widths and ratios."""
    written = [save(relaxed_margins(found), folder / f"margins.{kind}")]
    if found.places:
        written.append(save(widths(found), folder / f"widths.{kind}"))
        written.append(save(ratios(found), folder / f"ratios.{kind}"))
    return written


def of_segments(found: Segments, folder: Path, name: str, rate: int | None) -> Path:
    return save(segments(found, rate), folder / name)
