"""Radii of a data set: inputs of one shape together, those of several lengths group by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tightverify.inputs.dataset import DataSet, Group
from tightverify.radius.inputs import Interrupted, radius
from tightverify.radius.records import About, Radii, Radius
from tightverify.radius.steps import Callback, RadiusStep, no_callback
from tightverify.spec import Property


def radii_of(data: DataSet, callback: Callback = no_callback, **asked: Any) -> Radii:
    """The radii of all inputs, in their order, each under its number and its name; what is asked is as in `radius`."""
    found: dict[int, Radius] = {}
    about: list[About] = []

    def so_far() -> Radii:
        alone = replace(about[0], spread=about[0].spread if len(about) == 1 else None)  # which is of one shape
        return Radii((found[place] for place in sorted(found)), alone)

    for group in data.groups():
        numbers = data.numbers[group.places].tolist()

        def named_step(step: RadiusStep, numbers: list[int] = numbers) -> None:
            callback(replace(step, index=numbers[step.index]))

        try:
            labels = None if data.y is None else data.y[group.places]
            stated = None if data.rows is None else data.rows[group.places]
            rows = (stated.rows, stated.offsets) if isinstance(stated, Property) else stated
            some = radius(group.model, group.x, labels, rows=rows, callback=named_step, **asked)
        except Interrupted as error:
            about.append(error.radii.about)
            found.update(named(data, group, error.radii))
            raise Interrupted(so_far()) from error
        about.append(some.about)
        found.update(named(data, group, some))
    return so_far()


def named(data: DataSet, group: Group, radii: Radii) -> Mapping[int, Radius]:
    """By their places in the data set."""
    places = group.places.tolist()
    return {
        place: replace(each, index=int(data.numbers[place]), file=data.names[place])
        for place, each in zip(places, radii, strict=True)
    }
