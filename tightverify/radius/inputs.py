"""`tightverify.radius`: for every input the largest radius that is proved, and the least that is refuted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor

from tightverify.api.certify import Rows, usable_settings
from tightverify.api.checks import as_labels, asked_of, fitting, given_inputs
from tightverify.api.load import AnyModel, load, name_of
from tightverify.calling import plainly
from tightverify.console import progress as bar
from tightverify.errors import InputError, UsageError
from tightverify.models.answers import answers, rightly_answered
from tightverify.models.model import Model
from tightverify.radius.bracket import Bracket
from tightverify.radius.family import Family, family_of
from tightverify.radius.parts import Parts, parts_of
from tightverify.radius.questions import Questions
from tightverify.radius.records import About, Radii, Radius
from tightverify.radius.search import RadiusSearch
from tightverify.radius.several import Grows, several_family
from tightverify.radius.several_parts import parts_of_several
from tightverify.radius.steps import Callback, RadiusStep, no_callback
from tightverify.region import Perturbation
from tightverify.region.groups import Groups
from tightverify.settings import KEPT, Options, Settings, merged, refuse_others
from tightverify.spec import Property, classify_as

COMPLETE = Settings(method="complete")
TOLERANCE = 0.01
TAKEN = tuple(name for name in Options.__annotations__ if name not in (*KEPT, "thorough"))
"""The settings that count in a search for radii."""
Target = int | str | Sequence[int] | Tensor | None
Growing = str | Callable[[float], Perturbation | Mapping[str, Perturbation]] | Mapping[str, Grows] | None
"""What a user says of how regions grow with a number: of several perturbed inputs by their names."""


class Interrupted(KeyboardInterrupt):
    """A search was interrupted (Ctrl-C); `radii` has the best brackets so far."""

    def __init__(self, radii: Radii) -> None:
        super().__init__("the best brackets so far are the error's `radii`")
        self.radii = radii


@plainly
def radius(
    model: AnyModel,
    x: Any,
    labels: Any = None,
    *,
    norm: float = 2,
    clip: tuple[float, float] | None = None,
    family: Growing = None,
    tolerance: float = TOLERANCE,
    target: Target = None,
    per: str | None = None,
    length: int | None = None,
    groups: Groups | Mapping[str, Groups] | None = None,
    ball_per: Groups | None = None,
    rows: Rows = None,
    top: int = 1,
    settings: Settings | None = None,
    batch_axis: int | Mapping[str, int] | None = None,
    progress: bool | Callable[[int, int], None] = False,
    callback: Callback = no_callback,
    **options: Unpack[Options],
) -> Radii:
    """For every input the largest radius at which the answer is proved to hold, and the least with a counterexample.

    The region is a ball of the `norm` (1, 2 or inf), inside `clip` if given; or of a `family`: a function from a number to a
    region that grows with it (`lambda eps: tv.LinfBall(eps, frames=[3])`), or "db", "snr" or "gain". A family is taken to be
    nested: what is proved at one number counts for all smaller regions. Hulls that show that it is not are refused.

    Of a model of which several inputs are perturbed, `x` has an array for each by its name, and `family` what grows with one
    number for all: balls at the radius 1 (`{"x": tv.LinfBall(1), "state": tv.L2Ball(0.5)}`), functions from the number to a
    region, or one function to regions by name. Without a family every input has the ball of the `norm`.

    `labels` None takes the model's own answers. `target` asks when one other class may come before the label: a class, one for
    each input, or "each" for a radius per other class. `top=k` and `rows=(C, d)` are as in `certify`.

    `per="frame"`, `"word"` (of models that take tokens), `"feature"`, `"value"`, `"segment"` or `"group"` gives a radius for
    each of these when it alone may change, all others being as they are. A segment has `length` frames, or samples of a
    waveform (a sixteenth of all if not given); `groups` are whole numbers of an input's shape, or of one that broadcasts to it,
    equal numbers being a group. Of several perturbed inputs each has its parts, named `"x[3]"`, in the balls that `family` has
    for them, and `groups` by their names; what has no frames, or no groups, is one part.
    `ball_per` asks for one radius of a ball for each frame or feature, all changing at once (`per` of `L2Ball`).

    The search ends when refuted is within the relative `tolerance` of proved, when the `time_limit` per radius is used, or when
    the method finds nothing more. Settings are as in `certify`, but that the method is `complete` if none is given. Ctrl-C
    raises an `Interrupted` that has the `radii` so far. `progress(done, total)` counts radii; `progress=True` shows a bar.
    `callback` is told a `RadiusStep` whenever a size was tried: what is proved and what is refuted by then.
    """
    if not 0 < tolerance < math.inf:
        raise UsageError(f"the tolerance is {tolerance}; wanted a number above 0, such as 0.01 for one hundredth of the radius")
    refuse_others(options, TAKEN, "radii")
    settings = usable_settings(merged(settings, options, COMPLETE))
    x = given_inputs(x)
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    x = fitting(loaded, x)
    asked = Asked.of(loaded, x, labels, target, rows, top)
    part, parts = "target" if isinstance(target, str) else per, None
    if per is not None:
        alone = None if loaded.blocks else family
        others = {"a family": alone, "ball_per": ball_per, 'target="each"': target if isinstance(target, str) else None}
        if other := next((name for name, value in others.items() if value is not None), None):
            raise UsageError(f"per={per!r} was given beside {other}; parts have balls of a norm, and one target: leave one out")
        if loaded.blocks:
            parts, families = parts_of_several(per, family, loaded, float(norm), clip, length, groups)
        else:
            if isinstance(groups, Mapping):
                raise UsageError(f"groups were given by names, and {loaded.source} has one perturbed input; give its groups")
            parts = parts_of(per, tuple(x.shape[1:]), length, groups)
            families = parts.families(float(norm), clip)
        asked = asked.in_parts(parts)
        asked = replace(asked, words=words_of(loaded, x)) if per == "word" else asked
    elif length is not None or groups is not None:
        raise UsageError('a length or groups were given, and no parts are asked for; give per="segment" or per="group" as well')
    elif loaded.blocks:
        families = [several_family(family, loaded, float(norm), clip, ball_per)] * asked.each
    else:
        families = [family_of(family, float(norm), clip, x[0].numel(), ball_per)] * asked.each
    spread = None if parts is None else parts.spread
    about = About(name_of(model, loaded), families[0].words, families[0].unit, settings.method, part, spread)
    return found(loaded, x, asked, families, about, settings, tolerance, progress, callback)


@dataclass(frozen=True, eq=False)
class Asked:
    """What shall hold: of P parts of each of N inputs, rows (N P, R, K). `right` (N,) says where it holds at the input."""

    spec: Property
    labels: Tensor | None
    right: Tensor
    parts: tuple[tuple[int | str, ...], ...]
    words: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, model: Model, x: Tensor, labels: Any, target: Target, rows: Rows, top: int) -> Asked:
        classes, none = model.graph.output_size, ((),) * len(x)
        if rows is not None:
            if labels is not None or target is not None or top != 1:
                raise UsageError("rows were given beside labels, a target or top, of which they ask nothing; leave those out")
            stated = asked_of(model, x, rows)
            return cls(stated, None, rightly_answered(model, stated, x), none)
        kept = answers(model, x) if labels is None else as_labels(labels, len(x))
        stated = classify_as(kept, classes, top)
        right = rightly_answered(model, stated, x)
        if target is None:
            return cls(stated, kept, right, none)
        if top != 1:
            raise UsageError(f"top is {top} beside a target: the label before one class has no top; leave one of them out")
        targets = as_targets(target, kept, classes)
        identity = torch.eye(classes, dtype=torch.float64)
        against = (identity[kept][:, None] - identity[targets]).flatten(0, 1)[:, None]
        parts: tuple[tuple[int | str, ...], ...] = tuple(map(tuple, targets.tolist())) if isinstance(target, str) else none
        return cls(Property(against, torch.zeros(against.shape[:2], dtype=torch.float64), 1), kept, right, parts)

    def in_parts(self, parts: Parts) -> Asked:
        """The same asked of parts of each input."""
        again = torch.arange(len(self.right)).repeat_interleave(len(parts))
        return replace(self, spec=self.spec[again], parts=(parts.names,) * len(self.right))

    @property
    def each(self) -> int:
        """How many radii are asked for of each input."""
        return len(self.spec.rows) // len(self.right)


def words_of(model: Model, x: Tensor) -> tuple[tuple[str, ...], ...]:
    """The words of sentences, given their vectors."""
    if model.embedding is None:
        raise UsageError(f"radii per word were asked for, and {model.source} takes no token numbers; ask for them per frame")
    return tuple(tuple(model.embedding.names(tokens)) for tokens in model.embedding.tokens(x).tolist())


def as_targets(target: Target, labels: Tensor, classes: int) -> Tensor:
    """(N, T): the classes that may come before the label."""
    if isinstance(target, str):
        if target != "each":
            raise UsageError(f"the target is {target!r}; wanted a class, one for each input, or 'each'")
        others = [[k for k in range(classes) if k != label] for label in labels.tolist()]
        return torch.tensor(others)
    given = torch.as_tensor(target)
    targets = as_labels(given.expand(len(labels)) if given.dim() == 0 else given, len(labels))
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise InputError(
            f"targets go from {int(targets.min())} to {int(targets.max())}; the model has classes 0 to {classes - 1}"
        )
    if bool((targets == labels).any()):
        place = int((targets == labels).nonzero()[0])
        raise InputError(f"the target of input {place} is its own label {int(labels[place])}; give another class")
    return targets[:, None]


def found(
    model: Model,
    x: Tensor,
    asked: Asked,
    families: Sequence[Family],
    about: About,
    settings: Settings,
    tolerance: float,
    progress: bool | Callable[[int, int], None],
    callback: Callback,
) -> Radii:
    """The radii of all inputs that are rightly classified, a batch of them at a time."""
    each = asked.each
    right = asked.right.repeat_interleave(each)
    places = torch.nonzero(right).flatten()
    brackets: dict[int, Bracket] = {}
    questions = Questions(model, x, torch.arange(len(x)).repeat_interleave(each), asked.spec, list(families) * len(x))

    def so_far() -> Radii:
        return Radii((record(k, x, asked, families[0], brackets) for k in range(len(x))), about)

    def step(place: int, method: str, size: float) -> None:
        bracket, index, part = brackets[place], *divmod(place, each)
        named = asked.parts[index][part] if asked.parts[index] else None
        tried, proved, refuted = (families[0].number(value) for value in (size, bracket.proved, bracket.refuted))
        callback(RadiusStep(index, named, method, tried, proved, refuted, bracket.seconds))

    try:
        with teller(progress, about.model, len(places)) as tell:
            for several in batches(places.tolist(), questions.families, settings.batch):
                search = RadiusSearch(
                    questions[torch.tensor(several)], settings, tolerance, partial(told_from, tell, len(brackets)),
                    lambda place, *tried, several=several: step(several[place], *tried),
                )  # fmt: skip
                brackets.update(zip(several, search.brackets, strict=True))
                search.run()
    except KeyboardInterrupt as error:
        raise Interrupted(so_far()) from error
    return so_far()


def batches(places: list[int], families: Sequence[Family], most: int) -> Iterator[list[int]]:
    """Questions whose regions are of one kind, at most so many at a time."""
    for kind in dict.fromkeys(families[place].kind for place in places):
        mine = [place for place in places if families[place].kind == kind]
        yield from (mine[start : start + most] for start in range(0, len(mine), most))


def told_from(tell: Callable[[int], None], start: int, done: int) -> None:
    """What was told of a batch, after so many others."""
    tell(start + done)


@contextmanager
def teller(progress: bool | Callable[[int, int], None], what: str, total: int) -> Iterator[Callable[[int], None]]:
    """What is to be called with how many radii are done."""
    done = 0
    if callable(progress):
        yield lambda now: progress(now, total)
        return
    with bar(f"radii of {what}", total, quiet=not progress) as advance:

        def tell(now: int) -> None:
            nonlocal done
            for _ in range(now - done):
                advance()
            done = max(done, now)

        yield tell


def record(index: int, x: Tensor, asked: Asked, family: Family, brackets: dict[int, Bracket]) -> Radius:
    """What is known of one input."""
    label = None if asked.labels is None else int(asked.labels[index])
    shape, places = x.shape[1:], range(index * asked.each, (index + 1) * asked.each)
    if not bool(asked.right[index]):
        blank = Bracket(0.0, 0.0, 0.0, refuted=0.0, point=x[index].to(torch.float64).flatten())
        several = [blank] * asked.each
    else:
        several = [brackets.get(place, Bracket(0.0, 0.0, 0.0)) for place in places]
    points = tuple(None if one.point is None else one.point.view(shape) for one in several)
    numbers = [(family.number(one.proved), family.number(one.refuted), one.seconds) for one in several]
    low, high, took = numbers[0]
    first = Radius(index, label, low, high, points[0], took, not bool(asked.right[index]))
    if not asked.parts[index]:
        return first
    proved, refuted, seconds = (torch.tensor(column, dtype=torch.float64) for column in zip(*numbers, strict=True))
    return replace(
        first,
        proved=proved,
        refuted=refuted,
        seconds=seconds,
        counterexample=points,
        parts=asked.parts[index],
        words=asked.words[index] if asked.words else (),
    )
