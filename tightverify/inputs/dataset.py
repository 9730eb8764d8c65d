"""What a run asks about: inputs of one shape or of many, each with a name or a number, with labels or without.

`DataSet` is what arrays and clips have in common, and all that runs and records know of them. To add a kind (questions of a
file, texts), write a class that has these few things.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol, Self

import torch
from torch import Tensor

from tightverify.api import certify as certifying
from tightverify.api.certify import Deliver
from tightverify.models.answers import rightly_answered
from tightverify.models.model import Model
from tightverify.region import Perturbation
from tightverify.settings import Settings
from tightverify.spec import Property, classify_as
from tightverify.stages.progress import Callback, Step, no_callback
from tightverify.statements import Statement


@dataclass(frozen=True, eq=False)
class Group:
    """Inputs x (n, *shape) of one shape, the network for these, and their places (n,) in the data set."""

    model: Model
    x: Tensor
    places: Tensor


class DataSet(Protocol):
    """Inputs that were checked, and a network for each: N of them, in an order that all that follows keeps to."""

    @property
    def y(self) -> Tensor | None:
        """(N,): the labels; None for the network's own answers, or where rows are asked for."""

    @property
    def rows(self) -> Property | Statement | None:
        """What is asked of the outputs of each input in place of a label."""

    @property
    def numbers(self) -> Tensor:
        """(N,): the inputs' places among those given, before any were left out."""

    @property
    def names(self) -> tuple[str | None, ...]:
        """What each input is called beside its number, as a clip by its file."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Each input's shape, without the batch."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know about the inputs and the network."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: Tensor | slice) -> Self:
        """Some of the inputs."""

    def groups(self) -> Iterator[Group]:
        """All inputs, those of one shape together."""

    def check(self, region: Perturbation, top: int) -> None:
        """Say before any work what is wrong with an input's region or label."""

    def balls(self, region: Perturbation) -> list[tuple[float, float]]:
        """Radius and norm of each input's own region; a radius is infinite where it is no ball."""


def prepared(
    data: DataSet, region: Perturbation, settings: Settings, top: int = 1, callback: Callback = no_callback
) -> Callable[[Deliver], None]:
    """What decides all inputs, group by group, and delivers each result at once; it names its input's place.

    All is checked before this returns.
    """

    def begun(group: Group) -> Callable[[Deliver], None]:
        labels = None if data.y is None else data.y[group.places]
        reported, names = at_places(callback, group.places), data.numbers[group.places]
        own = region.chosen(names, group.x.dim())
        spec = None if data.rows is None else data.rows[group.places]
        rows = (spec.rows, spec.offsets) if isinstance(spec, Property) else spec
        work = certifying.prepared(group.model, group.x, labels, own, settings, rows, top, reported, names)

        def run(deliver: Deliver) -> None:
            work.run(lambda result: deliver(replace(result, index=int(group.places[result.index]))))

        return run

    if not len(data):
        return lambda _deliver: None
    data.check(region, top)
    groups = data.groups()
    first = begun(next(groups))

    def run(deliver: Deliver) -> None:
        for each in chain([first], map(begun, groups)):
            each(deliver)

    return run


def at_places(callback: Callback, places: Tensor) -> Callback:
    """A callback that is told the inputs' places in place of those within their group."""

    def reported(step: Step) -> None:
        callback(replace(step, inputs=places[step.inputs]))

    return no_callback if callback is no_callback else reported


def right(data: DataSet, top: int) -> Tensor:
    """(N,): which inputs their network classifies as their labels say."""
    found = torch.ones(len(data), dtype=torch.bool)
    for group in data.groups() if data.y is not None and len(data) else ():
        assert data.y is not None
        spec = classify_as(data.y[group.places], group.model.graph.output_size, top)
        found[group.places] = rightly_answered(group.model, spec, group.x)
    return found


def correct(data: DataSet, top: int, limit: int, batch: int) -> tuple[DataSet, int]:
    """The first inputs that the model classifies as their labels say, and how many others came before the last of them."""
    if data.y is None:
        return data[:limit], 0
    found: list[int] = []
    for start in range(0, len(data), batch):
        found.extend((start + torch.nonzero(right(data[start : start + batch], top)).flatten()).tolist())
        if len(found) >= limit:
            break
    chosen = torch.tensor(found[:limit], dtype=torch.long)
    seen = int(chosen[-1]) + 1 if len(found) >= limit else len(data)
    return data[chosen], seen - len(chosen)
