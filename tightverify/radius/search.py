"""The search for radii: cheap proofs first, then counterexamples, then the method that was asked for, in between.

Every question has a bracket: proved up to a size, refuted from another on. What is proved is only ever a size whose own region
was proved; what is refuted has a counterexample that was replayed. All questions that are open are worked on as one batch, each
at its own size. Whatever ends the search, the brackets stand as they are: it can be stopped at any time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tightverify.attack import Search
from tightverify.budget import Budget
from tightverify.radius.bracket import USUAL_GROWTH, Bracket
from tightverify.radius.breaking import Found, holds, look, nearest
from tightverify.radius.questions import Questions
from tightverify.settings import Settings
from tightverify.stages import stages_of
from tightverify.values import Interval
from tightverify.verify import Result, Verdict

CHEAP = ("linear", "combine")
"""Methods that come before others, if their stages are among theirs; of `combine`, the first round."""
STEADY = ("interval", "crown-ibp", "lbp", "crown-lbp", "window", "linear", "planes")
"""Methods whose margins are the best that they find, whether these are above 0 or not: their slopes can be relied on."""
COARSE = 0.05
"""To what share radii of cheap methods are found, where another comes after them."""
TRIES, DEAR_TRIES = 30, 8
"""Sizes that a method is tried at, at most, and one whose margins are not steady."""
BEFORE_TRIES = 2
"""Tries of a slow method that another comes after; more only as long as it has failed at none."""
BEFORE_PART = 0.25
"""Of what time is left, the most that one try of a slow method takes that another comes after."""
LAST_GROWTH = 1.2
"""By what a size grows at most from what cheaper methods proved to the first try of the last one, where that is slow."""
FAILURES = 2
"""So many failures of the last method are planned for: a try has a third of the time that is left, then a half, then all."""
ATTACK = "attack"
"""What the search for counterexamples is called where methods are."""
ATTACKS, WIDER, NARROWER = 12, 1.6, (0.9, 0.97)
"""Sizes at which counterexamples are looked for; by what these grow where none was found, and shrink where one was."""

Told = Callable[[int], None]
"""Is told how many questions are done."""
Tried = Callable[[int, str, float], None]
"""Is told of a question, by its place, that a method has tried a size."""


def nothing_tried(_place: int, _method: str, _size: float) -> None:
    """Tells nobody."""


def methods_for(method: str) -> list[str]:
    """The methods that work on a radius, one after the other: cheaper ones that it contains, and itself."""
    wanted = {name for name, _ in stages_of(method)}
    return [*(name for name in CHEAP if name in wanted and name != method), method]


@dataclass(eq=False)
class RadiusSearch:
    """The radii of all questions, to a tolerance relative to their size, in so many seconds for each."""

    questions: Questions
    settings: Settings
    tolerance: float
    told: Told
    tried: Tried = nothing_tried
    brackets: list[Bracket] = field(default_factory=list)

    def __post_init__(self) -> None:
        centres, guesses = self.questions.at_inputs().tolist(), self.questions.guesses()
        most = [family.most for family in self.questions.families]
        self.brackets = [Bracket(*each) for each in zip(centres, guesses, most, strict=True)]

    def run(self) -> None:
        """Close all brackets as far as the methods and the time allow."""
        methods = methods_for(self.settings.method)
        for place, method in enumerate(methods):
            last = place == len(methods) - 1
            self.climb(method, last)
            if place == 0:
                self.attack()
        self.told(len(self.brackets))

    def open(self) -> list[int]:
        """The questions whose brackets are not closed, and that have time left."""
        return [place for place in range(len(self.brackets)) if self.left(place) > 0 and not self.narrow(place)]

    def left(self, place: int) -> float:
        return self.settings.time_limit - self.brackets[place].seconds

    def narrow(self, place: int) -> bool:
        """Whether the true radius is known to the tolerance."""
        bracket = self.brackets[place]
        return bracket.closed(self.tolerance, bracket.refuted)

    def climb(self, method: str, last: bool) -> None:
        """Try sizes by a method until it proves one, and not another that is larger by the tolerance."""
        slopes, tolerance = method in STEADY, self.tolerance if last else max(self.tolerance, COARSE)
        settings = replace(self.settings, method=method, thorough=slopes)
        settings = settings if last else replace(settings, rounds=1)
        settings = settings if last and not slopes else replace(settings, restarts=0)
        for bracket in self.brackets:
            bracket.begin()
        for step in range(TRIES if slopes else DEAR_TRIES):
            places = [k for k in self.open() if self.brackets[k].centre > 0 and not self.brackets[k].closed(tolerance)]
            if step >= BEFORE_TRIES and not (slopes or last):
                places = [k for k in places if not self.brackets[k].failures]
            self.told(len(self.brackets) - len(places) if last else 0)
            if not places:
                return
            sizes = [self.brackets[k].next(slopes, LAST_GROWTH if last else USUAL_GROWTH) for k in places]
            parts = [1.0 if slopes else self.part_of_time(k) if last else BEFORE_PART for k in places]
            limit = min(part * self.left(k) for part, k in zip(parts, places, strict=True))
            self.try_sizes(places, sizes, replace(settings, time_limit=limit))

    def part_of_time(self, place: int) -> float:
        """Of the time left, what the last method's next try may take: proofs are quick, and cost no later try its time."""
        return 1 / max(1, FAILURES + 1 - self.brackets[place].failures)

    def try_sizes(self, places: Sequence[int], sizes: Sequence[float], settings: Settings) -> None:
        """Verdicts at some sizes, entered as they come."""
        size_of = dict(zip(places, sizes, strict=True))
        hulls = self.questions.regions(places, sizes).box
        for k, place in enumerate(places):
            self.brackets[place].check_nested(size_of[place], Interval(hulls.lower[k], hulls.upper[k]))

        def enter(place: int, result: Result) -> None:
            bracket, size = self.brackets[place], size_of[place]
            bracket.seconds += result.seconds
            bracket.learn(size, result.margin, robust=result.verdict is Verdict.ROBUST)
            if result.counterexample is not None:
                (found,) = nearest(self.questions, [place], [size], result.counterexample.to(torch.float64).view(1, -1))
                bracket.refute(found.size, found.point)
            self.check(place)
            self.tried(place, settings.method, size)

        self.questions.decide(places, sizes, settings, enter)

    def check(self, place: int) -> None:
        """Speak up where what is proved and what is refuted meet."""
        bracket = self.brackets[place]
        if bracket.point is not None and bracket.proved > 0:
            bracket.check(holds(self.questions, place, bracket.proved, bracket.point))

    def attack(self) -> None:
        """Look for counterexamples: in larger regions until there is one, then in smaller ones until there is none."""
        search = Search(self.settings.restarts, self.settings.attack_steps, self.settings.seed)
        sizes = {k: max(bracket.guess, WIDER * bracket.proved) for k, bracket in enumerate(self.brackets)}
        steps = dict.fromkeys(sizes, 0)
        for _ in range(ATTACKS if search.restarts else 0):
            places = [k for k in self.open() if steps[k] < len(NARROWER)]
            if not places:
                return
            sizes |= {k: min(sizes[k], self.brackets[k].most) for k in places}
            for place, found in zip(places, self.looked(places, [sizes[k] for k in places], search), strict=True):
                bracket = self.brackets[place]
                if found is not None:
                    bracket.refute(found.size, found.point)
                    self.check(place)
                elif math.isfinite(bracket.refuted):
                    steps[place] += 1
                elif sizes[place] >= bracket.most:
                    steps[place] = len(NARROWER)
                    continue
                self.tried(place, ATTACK, sizes[place])
                if steps[place] < len(NARROWER):
                    smaller = NARROWER[steps[place]] * bracket.refuted
                    sizes[place] = smaller if math.isfinite(bracket.refuted) else WIDER * sizes[place]

    def looked(self, places: Sequence[int], sizes: Sequence[float], search: Search) -> list[Found | None]:
        began = time.monotonic()
        left = min(map(self.left, places)) * len(places)
        points: list[Tensor | None] = [self.brackets[k].point for k in places]
        found = look(self.questions, places, sizes, points, search, Budget(deadline=began + left))
        for place in places:
            self.brackets[place].seconds += (time.monotonic() - began) / len(places)
        return found
