"""Pictures of results, of traces and of relaxations, in one style: each function takes axes or makes some, and returns them."""

from tightverify.plots.bounded import ratios, relaxed_margins, widths
from tightverify.plots.cactus import cactus
from tightverify.plots.curve import curve
from tightverify.plots.differences import differences, place_differences
from tightverify.plots.gaps import gap_maps, gaps
from tightverify.plots.margins import margins
from tightverify.plots.planes import planes
from tightverify.plots.radii import radius_map, stroke, wave
from tightverify.plots.saving import save
from tightverify.plots.segments import segments
from tightverify.plots.style import SIZES, figure
from tightverify.plots.trace import trace

__all__ = [
    "SIZES",
    "cactus",
    "curve",
    "differences",
    "figure",
    "gap_maps",
    "gaps",
    "margins",
    "place_differences",
    "planes",
    "radius_map",
    "ratios",
    "relaxed_margins",
    "save",
    "segments",
    "stroke",
    "trace",
    "wave",
    "widths",
]
