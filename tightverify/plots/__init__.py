"""Pictures of results, of traces and of relaxations, in one style: each function takes axes or makes some, and returns them."""

from tightverify.plots.cactus import cactus
from tightverify.plots.curve import curve
from tightverify.plots.margins import margins
from tightverify.plots.style import SIZES, figure, save
from tightverify.plots.trace import trace

__all__ = ["SIZES", "cactus", "curve", "figure", "margins", "save", "trace"]
