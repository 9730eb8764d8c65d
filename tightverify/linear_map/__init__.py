"""Linear maps, of which affine nodes are sums: by what their numbers are, not always a matrix.

A map A takes m numbers to n. Bounds ask for two products: `push`, values A x forward (interval arithmetic), and `pull`, rows
r A backward (CROWN's and DeepPoly's back-substitution). Both sums have a longest length, `fan_in` and `fan_out`, from which
the rounding allowance is counted (`Graph.rounding`).

A kind of map is a final class here: the kinds answer the same questions, so that whoever reads a map need not know which one
it is. Maps are frozen and may be shared by nodes, as time steps share their weights.
"""

from tightverify.linear_map.base import LinearMap
from tightverify.linear_map.convolution import Axis, Convolution
from tightverify.linear_map.dense import Dense, side_by_side
from tightverify.linear_map.elementwise import Diagonal, Identity

__all__ = ["Axis", "Convolution", "Dense", "Diagonal", "Identity", "LinearMap", "side_by_side"]
