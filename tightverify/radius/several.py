"""Families of regions for several perturbed inputs of a model: one for each, all of which grow with the same number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tightverify.api.checks import region_for
from tightverify.errors import RegionError, UsageError
from tightverify.models.model import Model
from tightverify.radius.family import MOST, Family
from tightverify.region import LpBall, Perturbation
from tightverify.region.groups import Groups

Grows = Perturbation | Callable[[float], Perturbation]
"""What an input's region is at each number: a ball, so many times as large, or what a function says."""
MORE = 1 + 1e-9
"""Rounding does not make a ball that holds a whole range smaller than it."""


def several_family(given: Any, model: Model, norm: float, clip: tuple[float, float] | None, ball_per: Groups | None) -> Family:
    """What a user says of a model's perturbed inputs: regions by name, a function to these, or the same ball for each."""
    given = or_balls(given, model, norm, clip, ball_per)
    if isinstance(given, Mapping):
        return by_name({str(name): each for name, each in given.items()}, model)
    if not callable(given):
        names = ", ".join(f"{block.name!r}: LinfBall(1)" for block in model.blocks)
        raise UsageError(
            f"the family {given!r} was given for {model.source}, of which several inputs are perturbed; give {{{names}}}"
        )
    return Family(getattr(given, "__name__", "family"), lambda number: region_for(model, given(number)))


def or_balls(given: Any, model: Model, norm: float, clip: tuple[float, float] | None, ball_per: Groups | None) -> Any:
    """What a user says, or the same ball for each input."""
    if given is None:
        return {block.name: LpBall(1.0, norm, clip, per=ball_per) for block in model.blocks}
    if clip is not None or ball_per is not None:
        what = "a clip was" if clip is not None else "groups of a ball each were"
        raise UsageError(f"{what} given beside a family; let the regions themselves have it")
    return given


def check_names(given: Mapping[str, Any], model: Model) -> None:
    """Speak up where not every input has a family."""
    names = [block.name for block in model.blocks]
    if given.keys() != set(names):
        raise RegionError(
            f"a family of {', '.join(map(repr, given)) or 'no input'} was given; wanted one for each of the inputs "
            f"{', '.join(map(repr, names))}: fix those that stay as they are"
        )


def by_name(given: Mapping[str, Any], model: Model) -> Family:
    """Regions of the inputs at each number, as one."""
    check_names(given, model)
    names = [block.name for block in model.blocks]
    for name, each in given.items():
        if not isinstance(each, Perturbation) and not callable(each):
            raise RegionError(
                f"the family of '{name}' is a {type(each).__name__}; wanted a ball at the radius 1, such as LinfBall(0.5), or "
                "a function from a number to a region"
            )
    most = max(most_of(given[block.name], block.size) for block in model.blocks)
    if most == 0:
        raise RegionError("the balls of all inputs have the radius 0 and do not grow; give one of them a radius above 0")
    words = ", ".join(f"{name}: {words_of(given[name])}" for name in names)
    return Family(words, lambda number: region_for(model, {name: at(given[name], number) for name in names}), most=most)


def at(each: Grows, number: float) -> Perturbation:
    """An input's region at a number."""
    return each.times(number) if isinstance(each, Perturbation) else each(number)


def most_of(each: Grows, values: int) -> float:
    """The number beyond which an input's region grows no more, or is not tried."""
    return min(MOST, each.whole(values) * MORE) if isinstance(each, Perturbation) else MOST


def words_of(each: Grows) -> str:
    """An input's part of the family."""
    return f"{each.described} at 1" if isinstance(each, Perturbation) else getattr(each, "__name__", "family")
