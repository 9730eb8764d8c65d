"""Several inputs of a model, each in a region of its own, all at once: a product of these.

The inputs lie one after the other in a flat one. Boxes side by side are a box; any other regions are put beside one another,
pair by pair (`region.beside`), so that the least value of a linear function is the sum of those over each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from tightverify.errors import RegionError
from tightverify.region.ball import Ball
from tightverify.region.base import Region
from tightverify.region.beside import Beside, side_by_side
from tightverify.region.perturbation import Perturbation


@dataclass(frozen=True, eq=False)
class Several(Perturbation):
    """Inputs `names` of `shapes`, without the batch, one after the other, and what may happen to each."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    regions: tuple[Perturbation, ...]

    @classmethod
    def of(cls, regions: Mapping[str, Perturbation], shapes: Mapping[str, Sequence[int]]) -> Several:
        """A region for each of the inputs, in the order of their shapes."""
        if regions.keys() != shapes.keys():
            raise RegionError(
                f"regions for {', '.join(map(repr, regions)) or 'no input'} were given; wanted one for each of the inputs "
                f"{', '.join(map(repr, shapes))}: fix those that stay as they are"
            )
        return cls(tuple(shapes), tuple(map(tuple, shapes.values())), tuple(regions[name] for name in shapes))

    def around(self, x: Tensor) -> Region:
        sizes = [math.prod(shape) for shape in self.shapes]
        if x.dim() != 2 or x.shape[1] != sum(sizes):
            raise RegionError(f"regions are about inputs of {sum(sizes)} numbers in all, and these have shape {tuple(x.shape)}")
        parts = zip(self.names, self.shapes, self.regions, torch.split(x, sizes, 1), strict=True)
        return reduce(product, [around(name, region, own.reshape(len(x), *shape)) for name, shape, region, own in parts])

    def chosen(self, places: Tensor, dims: int) -> Several:
        pairs = zip(self.regions, self.shapes, strict=True)
        return replace(self, regions=tuple(region.chosen(places, len(shape) + 1) for region, shape in pairs))

    def count(self, dims: int) -> int | None:
        counts = [region.count(len(shape) + 1) for region, shape in zip(self.regions, self.shapes, strict=True)]
        return next((count for count in counts if count is not None), None)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.names

    @property
    def words(self) -> str:
        return ", ".join(f"{name}: {region.described}" for name, region in zip(self.names, self.regions, strict=True))

    @property
    def boxes(self) -> bool:
        return all(region.boxes for region in self.regions)


def around(name: str, region: Perturbation, x: Tensor) -> Region:
    """The regions of one of the inputs; what is wrong with them is said of it by its name."""
    try:
        return region.around(x)
    except RegionError as error:
        raise RegionError(f"the region of '{name}': {error}") from error


def product(one: Region, other: Region) -> Region:
    """Both regions at once, of coordinates side by side."""
    if one.finite is not None or other.finite is not None:
        raise RegionError("words replaced by others are about the only perturbed input of a model; fix its other inputs")
    if one.separable and other.separable:
        return Ball.boxes(torch.cat([one.centre, other.centre], 1), side_by_side(one.box, other.box))
    return Beside.of(one, other)
