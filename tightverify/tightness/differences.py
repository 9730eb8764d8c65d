"""Where in two networks of one structure their difference arises: what is proved of it, layer by layer and frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from tightverify.api.checks import as_inputs, as_region, fitting
from tightverify.api.load import AnyModel, load
from tightverify.api.passes import PASSES, all_intervals
from tightverify.calling import plainly
from tightverify.errors import UsageError
from tightverify.models.pair import matched
from tightverify.region import Perturbation
from tightverify.settings import Settings
from tightverify.threads import threads_for
from tightverify.tightness.places import places


@dataclass(frozen=True)
class PlaceDifference:
    """The bounded neurons of one role at one frame of a layer, over all inputs: means of what is proved.

    `difference` is the most that a neuron differs by between the networks, `width` how wide its interval is in the first one.
    """

    layer: int
    role: str
    frame: int
    neurons: int
    difference: float
    width: float

    @property
    def relative(self) -> float:
        """The difference for each unit of width; 0 where nothing differs."""
        return self.difference / self.width if self.difference else 0.0


@final
@dataclass(frozen=True, eq=False)
class PlaceDifferences:
    """Of every place, and what was asked."""

    places: tuple[PlaceDifference, ...]
    models: str
    region: str
    method: str
    inputs: int

    def by_role(self) -> dict[tuple[int, str], Sequence[PlaceDifference]]:
        """The places of each layer and role, frame by frame."""
        found: dict[tuple[int, str], list[PlaceDifference]] = {}
        for place in sorted(self.places, key=lambda one: (one.layer, one.role, one.frame)):
            found.setdefault((place.layer, place.role), []).append(place)
        return {key: tuple(several) for key, several in found.items()}


@plainly
def place_differences(
    first: AnyModel, second: AnyModel, x: Any, region: Perturbation, *, method: str = "linear", batch_axis: int | None = None
) -> PlaceDifferences:
    """What one bounding pass proves of two networks' difference at every place: which layer, in what role, at which frame.

    Both have to be of one structure, however their cells are spelt; `method` is one of those of `bounds`.
    """
    if method not in PASSES:
        raise UsageError(f"the method {method!r} does not exist here; choose one of {', '.join(PASSES)}")
    region, x = as_region(region), as_inputs(x)
    one, other = (load(model, batch_axis=batch_axis, inputs=x) for model in (first, second))
    found = matched(one, other)
    regions = region.around(fitting(one, x))
    with threads_for(len(x) * max(node.size for node in found.graph.nodes)):
        intervals = all_intervals(found.graph, PASSES[method](found.graph, regions, Settings(method=method)))
    groups: dict[tuple[int, str, int], list[torch.Tensor]] = {}
    for place in places(found.first):
        at = found.both[place.node]
        width = intervals[at.value].width
        apart = torch.zeros_like(width) if at.difference is None else intervals[at.difference].magnitude
        groups.setdefault((place.layer, place.role, place.frame), []).append(torch.stack([apart, width]))
    means = []
    for (layer, role, frame), several in groups.items():
        together = torch.cat(several, 2)
        apart, width = together.mean((1, 2)).tolist()
        means.append(PlaceDifference(layer, role, frame, together.shape[2], apart, width))
    return PlaceDifferences(tuple(means), f"{one.name} and {other.name}", region.described, method, len(x))
