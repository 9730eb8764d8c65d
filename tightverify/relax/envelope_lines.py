"""The convex hull of a function of one operand over an interval, by the lines that support its envelopes: as traits.

There is such a line for each point of the interval, and any slope becomes a valid line by an offset. A bounding pass mixes some
of them, evenly spread: for ReLU the lines of slope 0 and 1 and the chord, whose mixtures are all lines that alpha-CROWN (Xu et
al. 2021) chooses from; for tanh and sigmoid a few tangents. More of them are made where a row or a program is attained.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from tightverify.relax.planes import Plane
from tightverify.relax.traits import Cells, Envelope, FittedPlanes, OperandSet, PlanePairs, Search, Support, where_upper
from tightverify.values import Interval

PLACES = {"tightest": (0.5,), "corners": (0.0, 1.0), "edges": (0.2, 0.8, 0.35, 0.65), "ring": (0.1, 0.9)}
"""Where the lines of a kind touch the envelopes, as shares of the interval's width; other kinds have none."""


class EnvelopeLines(FittedPlanes, Cells, Envelope):
    """The lines that support its envelopes; lower lines are upper lines of the mirror image x -> -f(-x)."""

    places: tuple[str, ...] = tuple(PLACES)
    """the kinds that have lines which the others have not"""

    @property
    @abstractmethod
    def mirror(self) -> EnvelopeLines: ...

    @abstractmethod
    def upper_line(self, box: Interval, points: Tensor) -> Plane:
        """The line that supports the concave envelope over boxes at points."""

    @abstractmethod
    def upper_offset(self, slope: Tensor, box: Interval) -> Tensor:
        """The least offset, rounded up, with which lines of these slopes lie above."""

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        shares = operands.ends.new_tensor([share for kind in kinds if kind in self.places for share in PLACES.get(kind, ())])
        return self.at(operands, torch.lerp(operands.low, operands.high, shares)[..., None], search)

    def at(self, operands: OperandSet, points: Tensor, search: Search) -> PlanePairs:
        low, high = operands.low.expand(points.shape[:2]), operands.high.expand(points.shape[:2])
        return self._pair(Interval(low, high), points[..., 0])

    def offsets(self, operands: OperandSet, lower: Tensor, upper: Tensor, search: Search) -> tuple[Tensor, Tensor]:
        box = operands.interval(0)
        return -self.mirror.upper_offset(lower[:, 0], box.mirror()), self.upper_offset(upper[:, 0], box)

    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        lower_lines, upper_lines = self._pair(operands.interval(0), points[:, 0])
        planes = where_upper(upper, upper_lines, lower_lines)
        return Support(planes, planes[:, 0] * points[:, 0] + planes[:, 1])

    def _pair(self, box: Interval, points: Tensor) -> PlanePairs:
        """(..., 2) and (..., 2): slopes and offsets of the lines below and above, at points of boxes."""
        below, above = self.mirror.upper_line(box.mirror(), -points), self.upper_line(box, points)
        lower = torch.stack([below.slopes[0], -below.offset], dim=-1)
        return lower, torch.stack([above.slopes[0], above.offset], dim=-1)
