"""Groups of an input's coordinates: its frames, its features, or any that a user numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tightverify.errors import RegionError

Groups = str | Sequence[Any] | Tensor | NDArray[Any]
"""One of `AXES`, or whole numbers of the shape of an input, or of one that broadcasts to it: equal numbers are a group."""
AXES = {"frame": 1, "feature": -1}
"""The axis of a batch along which each place is a group."""

EACH = "each_"
"""What limits are called that say which coordinates have a ball of their own (`Perturbation.limits`)."""


def checked_groups(groups: Groups | None) -> str | Tensor | None:
    """What a user handed over, a name or numbers."""
    if groups is None or (isinstance(groups, str) and groups in AXES):
        return groups
    wanted = f"give one of {', '.join(AXES)}, or whole numbers of an input's shape, equal ones within each group"
    if isinstance(groups, str):
        raise RegionError(f"groups per {groups!r} were asked for; {wanted}")
    try:
        numbers = torch.as_tensor(groups)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RegionError(f"the groups cannot be made numbers; {wanted}") from error
    if numbers.is_floating_point() or numbers.is_complex() or not numbers.numel():
        raise RegionError(f"the groups are {tuple(numbers.shape)} numbers of the type {numbers.dtype}; {wanted}")
    return numbers


def stated_groups(groups: Groups | None) -> dict[str, list[int]]:
    """Groups in plain values: a name says it all, of numbers the shape counts as well."""
    if groups is None or isinstance(groups, str):
        return {} if groups is None else {f"{EACH}{groups}": []}
    numbers = torch.as_tensor(groups)
    return {f"{EACH}of_{'x'.join(map(str, numbers.shape))}": numbers.long().flatten().tolist()}


def group_words(name: str, numbers: Sequence[float]) -> str:
    """The same in a few words after a ball's name."""
    return f" in each of {len(set(numbers))} groups" if numbers else f" in each {name.removeprefix(EACH)}"


def group_numbers(groups: Groups, shape: Sequence[int]) -> Tensor:
    """(n,): the group of each coordinate of a flat input of a shape, from 0 on."""
    if isinstance(groups, str):
        if groups == "frame" and len(shape) < 2:
            raise RegionError(f"groups per frame were asked for, and an input has shape {tuple(shape)} and no frames")
        axis = 0 if groups == "frame" else len(shape) - 1
        along = [-1 if place == axis else 1 for place in range(len(shape))]
        return torch.arange(shape[axis]).view(along).expand(*shape).flatten()
    numbers = torch.as_tensor(groups)
    try:
        given = numbers.expand(*shape)
    except RuntimeError as error:
        raise RegionError(
            f"the groups have shape {tuple(numbers.shape)}, an input {tuple(shape)}; give numbers of its shape, or of one that "
            "broadcasts to it, such as (frames, 1)"
        ) from error
    found: Tensor = torch.unique(given.flatten(), return_inverse=True)[1]
    return found
