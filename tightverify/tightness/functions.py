"""Relaxations of one function compared over boxes: how much room their planes leave, beside the envelopes' own.

`volume` is that between the best single plane on either side; the mean of a plane over a box is its height at the centre, and
the function's own mean is a product of two means, so that it is exact to rounding. Where a relaxation has several planes,
`volume_together` is that between the best of them at every point, of a grid that does not make it too small; gaps at the
centre and at the corners are those to the nearest plane there. The envelopes' figures are sampled: see `envelope`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import solvers
from tightverify.api.planes import as_boxes, curves_of
from tightverify.calling import plainly
from tightverify.errors import UsageError
from tightverify.ops import Operation
from tightverify.relax.curves import Symmetric
from tightverify.relax.fitted.family import KINDS, Domain, PlaneSet
from tightverify.relax.polygons import Polygons
from tightverify.tightness.envelope import curve_mean, envelope
from tightverify.writing import write_rows

DEFAULT_KINDS = ("closed", "mccormick", "r2", "tightest")
ENVELOPE = "envelope"
GRID = 96
FUNCTION_FILES = ("relaxations.csv",)


@dataclass(frozen=True)
class Gaps:
    """One relaxation over one box: volumes, and distances from the function to its planes, below and above.

    Corners go round counter-clockwise from the lowest ones; a function of one operand has two. The envelope has no `planes`.
    """

    box: int
    relaxation: str
    planes: int | None
    volume: float
    volume_together: float
    mean_below: float
    mean_above: float
    centre_below: float
    centre_above: float
    corners_below: tuple[float, ...]
    corners_above: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class FunctionTightness:
    """What was found of a function over N boxes: (N, 4), or (N, 2) for one operand."""

    function: str
    curves: tuple[Symmetric, Symmetric]
    """F and G: the function is F(x) G(y), G being 1 for one operand."""
    boxes: Tensor
    gaps: tuple[Gaps, ...]
    planes: dict[str, PlaneSet]
    """By kind, the planes (N, K, 3) themselves."""

    @property
    def relaxations(self) -> tuple[str, ...]:
        return (*self.planes, ENVELOPE)

    def rows(self) -> list[dict[str, Any]]:
        """A line of plain values for each box and relaxation."""
        return [self._row(gaps) for gaps in self.gaps]

    def _row(self, gaps: Gaps) -> dict[str, Any]:
        names = ("x_lower", "x_upper", "y_lower", "y_upper")
        ends = dict(zip(names, self.boxes[gaps.box].tolist(), strict=False))
        values = asdict(gaps)
        corners = {
            f"corner_{k + 1}_{side}": gap for side in ("below", "above") for k, gap in enumerate(values.pop(f"corners_{side}"))
        }
        return {"function": self.function, "box": values.pop("box"), **ends, **values, **corners}

    def save(self, folder: str | Path, format: str = "png") -> list[Path]:
        """Write relaxations.csv, and gaps and the first boxes as png, pdf or svg; what had these names is replaced."""
        from tightverify.plots.files import of_function  # drawn when it is asked for, by a layer above

        return [write_rows(Path(folder), FUNCTION_FILES[0], self.rows()), *of_function(self, Path(folder), format)]


@plainly
def of_function(
    function: str | Operation,
    boxes: Any,
    kinds: Sequence[str] | None = None,
    *,
    solver: str = "highs",
) -> FunctionTightness:
    """Compare kinds of planes for a function over boxes, N x 4 (x_lower, x_upper, y_lower, y_upper), N x 2 for one operand."""
    arity, (first, second) = curves_of(function)
    name = function if isinstance(function, str) else function.name
    ends = as_boxes(boxes, arity)
    if not len(ends):
        raise UsageError("there are no boxes; give at least one")
    chosen = chosen_kinds(kinds, arity)
    refuse_missing(solver)
    polygons = Polygons.of_boxes(ends) if arity == 2 else Polygons.of_intervals(ends)
    domain = Domain(first, second, polygons, solver)
    sheaves = {kind: KINDS[kind](domain) for kind in chosen}
    measure = Measure.of(first, second, ends)
    by_kind = [measure.planes(kind, plane_set) for kind, plane_set in sheaves.items()] + [measure.envelopes()]
    gaps = tuple(gaps for same in zip(*by_kind, strict=True) for gaps in same)
    return FunctionTightness(name, (first, second), ends, gaps, sheaves)


def chosen_kinds(kinds: Sequence[str] | None, arity: int) -> tuple[str, ...]:
    """The kinds asked for, each once; those that are usually compared if none were."""
    if kinds is None:
        return tuple(kind for kind in DEFAULT_KINDS if arity == 2 or kind != "mccormick")
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong or not kinds:
        given = f"planes of the kind {wrong[0]!r} do not exist" if wrong else "no kinds of planes were given"
        raise UsageError(f"{given}; choose of {', '.join(KINDS)}")
    return tuple(dict.fromkeys(kinds))


def refuse_missing(solver: str) -> None:
    """Say what a solver wants that is not here."""
    try:
        reason = solvers.backend(solver).missing()
    except solvers.BackendError as error:
        raise UsageError(str(error)) from error
    if reason is not None:
        raise UsageError(reason)


@dataclass(frozen=True, eq=False)
class Measure:
    """What planes over N boxes are measured by: the function, the boxes (N, 4), their means, places and values there."""

    first: Symmetric
    second: Symmetric
    arity: int
    boxes: Tensor
    area: Tensor
    mean: Tensor
    places: Tensor
    """(N, 1 + corners, 2): the centre, then the corners"""

    @classmethod
    def of(cls, first: Symmetric, second: Symmetric, ends: Tensor) -> Measure:
        arity = ends.shape[1] // 2
        boxes = ends if arity == 2 else torch.cat([ends, torch.zeros_like(ends)], dim=1)
        low, high = boxes[:, 0::2], boxes[:, 1::2]
        corners = Polygons.of_boxes(boxes).vertices[:, : 2 * arity]
        centre = low + (high - low) / 2
        area = (high - low)[:, :arity].prod(1)
        mean = curve_mean(first, low[:, 0], high[:, 0]) * curve_mean(second, low[:, 1], high[:, 1])
        return cls(first, second, arity, boxes, area, mean, torch.cat([centre[:, None], corners], dim=1))

    def value(self, places: Tensor) -> Tensor:
        return self.first.value(places[..., 0]) * self.second.value(places[..., 1])

    def planes(self, kind: str, plane_set: PlaneSet) -> list[Gaps]:
        """The gaps that a kind of planes leaves, by box."""
        values = self.value(self.places)
        below = values - heights(plane_set.lower, self.places).amax(1)
        above = heights(plane_set.upper, self.places).amin(1) - values
        centre = self.places[:, :1]
        means = (
            self.mean - heights(plane_set.lower, centre).amax(1)[:, 0],
            heights(plane_set.upper, centre).amin(1)[:, 0] - self.mean,
        )
        volume = self.area * (means[0] + means[1])
        together = volume if plane_set.lower.shape[1] == 1 else self.area * self.mean_together(plane_set)
        return [
            Gaps(
                box,
                kind,
                plane_set.lower.shape[1],
                float(volume[box]),
                float(together[box]),
                float(means[0][box]),
                float(means[1][box]),
                float(below[box, 0]),
                float(above[box, 0]),
                tuple(below[box, 1:].tolist()),
                tuple(above[box, 1:].tolist()),
            )
            for box in range(len(self.boxes))
        ]

    def mean_together(self, plane_set: PlaneSet) -> Tensor:
        """(N,): the mean height between the best of several planes. Midpoints never make that of a concave function smaller."""
        steps = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
        unit = torch.cartesian_prod(steps, steps)
        found = []
        for k, box in enumerate(self.boxes):
            places = (box[0::2] + unit * (box[1::2] - box[0::2]))[None]
            upper, lower = (
                heights(plane_set.upper[k : k + 1], places).amin(1),
                heights(plane_set.lower[k : k + 1], places).amax(1),
            )
            found.append((upper - lower).mean())
        return torch.stack(found)

    def envelopes(self) -> list[Gaps]:
        """The gaps that the envelopes leave, by box."""
        found = []
        for number, box in enumerate(self.boxes):
            gaps = envelope(self.first, self.second, box, float(self.mean[number]))
            volume = float(self.area[number]) * (gaps.mean_below + gaps.mean_above)
            nothing = (0.0,) * (2 * self.arity)
            sides = (gaps.mean_below, gaps.mean_above, gaps.centre_below, gaps.centre_above)
            found.append(Gaps(number, ENVELOPE, None, volume, volume, *sides, nothing, nothing))
        return found


def heights(planes: Tensor, places: Tensor) -> Tensor:
    """(N, K, M): planes (N, K, 3) at places (N, M, 2)."""
    return planes[:, :, :2] @ places.mT + planes[:, :, 2:]
