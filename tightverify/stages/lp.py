"""The stage `lp`: margins that are still open by the program of the whole relaxed network, cut to convergence.

For each open input the planes are made anew, over the intervals and polygons of the last round that `combine` takes; then each
row that is not proved is bounded by a linear program over all operations' convex hulls at once (`refine.converge`), until its
bound is above 0 or nothing is left to cut. Where `Settings.tighten` asks for it, the neurons that matter most to a row that
stays open are bounded by programs of their own, everything is relaxed again, and the row is tried once more.

A row whose program the solver does not take stays open, with what is proved by then, and a note that says why.

The program's own worst input is tried as a counterexample. A ball of the norm 1 or 2 is no polyhedron of few sides: such
regions are passed by, and what was known of their inputs stays as it is.
"""

from __future__ import annotations

from tightverify.stages.combine import efforts
from tightverify.stages.one_input import OneInput, input_by_input

lp_stage = input_by_input(efforts, OneInput.improvements)
"""Every open row by the program over all convex hulls."""
