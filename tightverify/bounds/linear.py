"""Linear bounds by back-substitution: a row over some neurons becomes a linear function of the input below it.

To bound `row @ y` from below, go from y back to the input: an affine node is replaced by its definition, an operation by
its lower plane where its coefficient is positive and by its upper plane where it is negative. What arrives at the input
is minimised over the region exactly. Upper bounds are lower bounds of the negated row, in the same call.

Every bound that planes are made over is itself computed this way, first things first: node by node the interval from
its operands, then back-substitution of all its neurons, then the intersection of the two, then the planes of the
operations that read it. A frame's bounds thus use the best that is known of all earlier frames.

Rounding. Let c be the computed coefficients of some node on the way. One step forms the source's coefficients as sums
of products of c and the node's matrix or slopes. The computed sums differ from the exact ones by at most g |c| |A| in
absolute value, g = `graph.rounding`, which counts every product and sum of the longest column, every reader whose
contributions are added up, and every node's contribution to the constant. As the sources' values are within their
known magnitudes M, the function of the sources that was computed is off by at most g |c| (|A| M + |b|) there. Through a
chain of affine nodes these errors obey s = |A| (M + s) + |b|: the `scale` of a node, g |c| s being the error of all
affine steps below it until the next operations or the input. An operation passes |c| times its slopes on (formed from both
planes' slopes, hence counted for both), so its planes are made with their offsets moved apart by
g (|offset| + |slope| (M + s)), summed over both planes and all operands: from then on they pay for everything below
them. The rows that it starts from pay g |row| (M + s) at the end. g is twice what is needed, and the scale of an input covers
the rounding of the region's own minimum (`Region.rounding_scale`).

Underflow. A coefficient that underflows is off by less than `TINY`, however small it is, and what is below it meets values as
large as M: each coefficient that is computed, one for each neuron of the nodes that it comes by, is off by a function of
at most TINY M there, and of TINY s in all affine steps below. So rows over nodes up to n pay
TINY (1 + the sum of M + s over all neurons up to there), whatever they are: `NodeBounds.met`. Scales are sizes that
coefficients multiply, so each is raised by TINY: what its own sums lose. A mixture's slopes may underflow as well, which its
planes pay for by TINY (1 + M + s), like every slope that is formed of others (`padded`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tightverify.bounds.bounding_pass import BoundingPass, Relaxation, closed_form
from tightverify.bounds.recorder import NOBODY, PassRecorder, Recorder
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.window import WindowPass
from tightverify.budget import UNLIMITED, Budget
from tightverify.graph import Graph
from tightverify.region import Region
from tightverify.values import Interval


def linear_bounds(
    graph: Graph,
    region: Region,
    budget: Budget = UNLIMITED,
    relaxation: Relaxation = closed_form,
    known: Sequence[Interval] | None = None,
    mixtures: int = 0,
    recorder: Recorder = NOBODY,
    window: int | None = None,
) -> LinearBounds:
    """A bounding pass over all nodes. The `budget` is looked at before each one; `known` are intervals that hold.

    With a `window` of so many frames intermediate rows go no further back than that.
    """
    return new_pass(graph, region, window, mixtures, recorder.begin(region)).run(budget, relaxation, known)


def new_pass(graph: Graph, region: Region, window: int | None, mixtures: int, recorder: PassRecorder) -> BoundingPass:
    """Such a pass that has come by no node yet."""
    if window is None:
        return BoundingPass(graph, region, mixtures, recorder)
    return WindowPass.over(graph, region, window, mixtures, recorder)
