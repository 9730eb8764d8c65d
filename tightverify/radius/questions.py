"""What radii are asked for: for each question an input, what shall hold of its outputs, and a family of regions around it.

Questions are worked on together, each at a size of its own: one batch of regions, one call of a method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightverify.api.certify import Work
from tightverify.errors import RegionError
from tightverify.models.answers import run_original
from tightverify.models.model import Model
from tightverify.radius.family import Family
from tightverify.region import Perturbation, Region
from tightverify.settings import Settings
from tightverify.spec import Property
from tightverify.stages.progress import no_callback
from tightverify.verify import Result

Deliver = Callable[[int, Result], None]
"""Takes the place of a question and what was found of it, as soon as that is known."""
GUESSES = 4
"""So often the first guess of a size is corrected by how far the region of that size gets."""


@dataclass(frozen=True, eq=False)
class Questions:
    """`inputs` (Q,) says which of x (N, ...) each question is about, `wanted` (Q, R, K) what shall hold there."""

    model: Model
    x: Tensor
    inputs: Tensor
    spec: Property
    families: Sequence[Family]

    def __len__(self) -> int:
        return len(self.inputs)

    def regions(self, places: Sequence[int], sizes: Sequence[float]) -> Region:
        """The regions of some questions, each of its own size, as one batch."""
        found = [self._region(place, size) for place, size in zip(places, sizes, strict=True)]
        return found[0].joined(found[1:]) if len(found) > 1 else found[0]

    def _region(self, place: int, size: float) -> Region:
        number = self.inputs[place : place + 1]
        region = self.families[place].at(size)
        if not isinstance(region, Perturbation):
            what = type(region).__name__
            raise RegionError(
                f"the family made a {what} of {size:g}; wanted a region around each input, such as LinfBall(0.01)"
            )
        return region.chosen(number, self.x.dim()).around(self.x[number])

    def decide(self, places: Sequence[int], sizes: Sequence[float], settings: Settings, deliver: Deliver) -> None:
        """Verdicts on some questions, each at its own size, handed out as they come."""
        chosen = torch.tensor(places, dtype=torch.long)
        spec = self.spec[chosen]
        work = Work(
            self.model, self.x[self.inputs[chosen]], self.regions(places, sizes), settings, chosen, no_callback, None,
            lambda part: spec[part],
        )  # fmt: skip
        work.run(lambda result: deliver(places[result.index], result))

    def at_inputs(self) -> Tensor:
        """(Q,): the row value that decides, at the inputs themselves, by the user's own model."""
        return self.spec.worst(self.spec.margins(run_original(self.model, self.x)[self.inputs]))

    def guesses(self) -> list[float]:
        """The sizes at which the property would break if the network were linear around each input."""
        places, most = range(len(self)), [family.most for family in self.families]
        graph, centre = self.model.graph, self.x[self.inputs].to(torch.float64).flatten(1)
        moving = centre.clone().requires_grad_(True)
        with torch.enable_grad():
            margins = self.spec.worst(self.spec.margins(graph.forward(moving)))
            (rows,) = torch.autograd.grad(margins.sum() + 0 * moving.sum(), moving)
        rows, margins, sizes = rows.nan_to_num()[:, None], margins.detach(), [min(1.0, each) for each in most]
        for _ in range(GUESSES):
            falls = (rows[:, 0] * centre).sum(1) - self.regions(places, sizes).minimise(rows.clone())[:, 0]
            for place, (fall, margin) in enumerate(zip(falls.tolist(), margins.tolist(), strict=True)):
                if fall > 0 and margin > 0 and math.isfinite(margin / fall):
                    sizes[place] = min(most[place], max(1e-12, sizes[place] * margin / fall))
        return sizes

    def __getitem__(self, places: Tensor) -> Questions:
        families = [self.families[place] for place in places.tolist()]
        return replace(self, inputs=self.inputs[places], spec=self.spec[places], families=families)
