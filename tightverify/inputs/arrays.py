"""Inputs of one shape, as arrays of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from tightverify.api.checks import as_labels, fitting, given_inputs
from tightverify.api.load import load
from tightverify.inputs.dataset import Group
from tightverify.inputs.importing import PLAIN, Importing
from tightverify.inputs.npz import read_inputs, read_several
from tightverify.models.model import Model
from tightverify.region import Perturbation
from tightverify.spec import Property, classify_as
from tightverify.statements import Statement


@final
@dataclass(frozen=True, eq=False)
class Arrays:
    """A model and inputs x (N, *shape) that fit it, checked: the `DataSet` of arrays; `numbers` are positions in their file."""

    model: Model
    x: Tensor
    y: Tensor | None
    numbers: Tensor
    rows: Property | Statement | None = None

    def __getitem__(self, chosen: Tensor | slice) -> Arrays:
        y = None if self.y is None else self.y[chosen]
        rows = None if self.rows is None else self.rows[chosen]
        return replace(self, x=self.x[chosen], y=y, numbers=self.numbers[chosen], rows=rows)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def names(self) -> tuple[None, ...]:
        return (None,) * len(self)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return (tuple(self.x.shape[1:]),) * len(self)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.model.notes

    def groups(self) -> Iterator[Group]:
        yield Group(self.model, self.x, torch.arange(len(self)))

    def check(self, region: Perturbation, top: int) -> None:
        self._own(region).around(self.x)
        if self.y is not None:
            classify_as(torch.stack([self.y.min(), self.y.max()]), self.model.graph.output_size, top)

    def balls(self, region: Perturbation) -> list[tuple[float, float]]:
        return self._own(region).around(self.x).balls

    def _own(self, region: Perturbation) -> Perturbation:
        """What a region says of these inputs."""
        return region.chosen(self.numbers, self.x.dim())


def read_arrays(
    model: Path,
    inputs: Path,
    importing: Importing = PLAIN,
    top: int = 1,
    classes: Sequence[str] = (),
    vocabulary: Sequence[str] = (),
    names: Sequence[str] = (),
) -> Arrays:
    """Both files, every input and label checked, those that a limit will leave out among them.

    `names` are those of several perturbed inputs, which are arrays of these names.
    """
    given, labels = read_several(inputs, names, classes) if names else read_inputs(inputs, classes)
    several = given_inputs(given)
    y = None if labels is None else as_labels(labels, len(next(iter(several.values())) if names else several))
    loaded = load(model, inputs=several, vocabulary=vocabulary, **importing.keywords)
    x = fitting(loaded, several)
    if y is not None:
        classify_as(torch.stack([y.min(), y.max()]), loaded.graph.output_size, top)
    return Arrays(loaded, x, y, torch.arange(len(x)))
