"""The stage `branch`: regions are split at values of neurons or coordinates, best first, until all is proved or refuted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from tightverify.attack import Search, attack
from tightverify.bounds.fitted import Effort, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.recorder import NOBODY, Recorder
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.window import further
from tightverify.branch.saved import Saved, save, tree_file
from tightverify.branch.search import Branching, Tree
from tightverify.budget import Budget, Clock
from tightverify.errors import OutOfTimeError, UsageError
from tightverify.recording.question import mark_of
from tightverify.region import SplitBy
from tightverify.stages.combine import MIXTURE_SHARE, PREPARING, QUICK, efforts
from tightverify.stages.problem import BoundsSoFar, Problem, missing, or_else
from tightverify.values import Interval

CHILD = QUICK
"""How halves are bounded: polygons are those of the whole region."""
DIRECTIONS = 8
"""of the polygons over the whole region: all its parts have them"""
PASS_SHARE = 4
"""The largest temporary of a bounding pass is one of about so many."""
LEAST_ROOT = 12.0
"""The best bounds of whole regions take at least so many times as long as linear bounds: from 12 to 60 were measured."""
ATTACK_STEPS = 12
LEAF_NUMBERS = 250
"""About so many numbers are kept of a leaf for each neuron: planes, polygons, intervals."""


def branch_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Each open input's region is split until all of it is proved, a counterexample is found, or splits or time run out.

    A tree that cannot be read or written loses no other input's verdict, nor its own: that is said when the batch is decided.
    """
    settings = problem.settings
    if settings.splits == 0 or SplitBy.NEURONS not in problem.region.splits:
        return known  # what few unknown numbers move is cut along these (`stages.zonotope_splits`)
    for part, some in problem.parts(or_else(settings.directions, DIRECTIONS), MIXTURE_SHARE):
        trees: list[Tree] = []
        inputs = torch.arange(len(known.margins))[part]
        kept = Kept(None, [], NOBODY)
        try:
            roots = root_bounds(some, known[part])
            leaves = most_leaves(some, settings.leaf_memory)
            branching = Branching(some.spec, CHILD, some.budget.portion(PASS_SHARE), leaves)
            past = Kept.of(some)
            trees = branching.start(roots, known.margins[part], new=not some.recorder.goes_on)
            with some.unwritten.noting():
                past.resume(branching, trees, roots)
                kept = past  # from now on: a tree that was not resumed must not replace the one that is kept
            splits = settings.splits if kept is past else 0
            for number, (points, owners) in enumerate(branching.go(trees, splits), start=1):
                known = attacked(some, known, inputs, trees, points, owners)
                known = entered(known, inputs, some, trees)
                some.report(known[part], number, tuple(len(tree.open) + len(tree.stuck) for tree in trees))
                over = torch.tensor([not branching.goes_on(tree, splits) for tree in trees])
                some[over].finish(known[part][over])
                with suppress(UsageError):  # there may be room when it is tried again, in the end at the latest
                    kept.save(trees, last=False)
        except OutOfTimeError:
            known = known.with_stopped(part)
        with some.unwritten.noting():
            kept.save(trees)
        known = entered(known, inputs, some, trees)
        some.finish(known[part])
    return known


SAVED_EVERY = 30.0


@dataclass
class Kept:
    """Where the trees of some inputs are kept, if anywhere: a file for each, written now and then and in the end."""

    folder: Path | None
    files: list[tuple[Path, str]]
    recorder: Recorder
    saved: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, problem: Problem) -> Kept:
        folder = problem.settings.trees
        if folder is None:
            return cls(None, [], NOBODY)
        one = [slice(k, k + 1) for k in range(len(problem.region))]
        marks = [mark_of(problem.graph, problem.region[k], problem.spec[k]) for k in one]
        files = [(tree_file(folder, number), mark) for number, mark in zip(problem.files.tolist(), marks, strict=True)]
        return cls(folder, files, problem.recorder)

    def resume(self, branching: Branching, trees: Sequence[Tree], roots: LinearBounds) -> None:
        for k, (path, mark) in enumerate(self.files):
            if path.exists():
                branching.resume(trees[k], k, Saved(path, mark), roots[k : k + 1])

    def save(self, trees: Sequence[Tree], last: bool = True) -> None:
        """Write the trees, if it is time for it or the end (`last`)."""
        if trees and (last or time.monotonic() - self.saved > SAVED_EVERY):
            evidence = self.recorder.keep()
            for tree, (path, mark) in zip(trees, self.files, strict=False):
                save(path, tree, mark, evidence)
            self.saved = time.monotonic()


def root_bounds(problem: Problem, known: BoundsSoFar) -> LinearBounds:
    """Bounds of the whole regions, from the intervals that earlier stages left or by the first rounds of `combine`.

    Where half of the time is not enough for that, they are bounded as halves are: better a search from there than none. That is
    not even tried where it surely fails, by what linear bounds took.
    """
    settings = problem.settings
    effort = efforts(replace(settings, rounds=2, directions=or_else(settings.directions, DIRECTIONS)))[-1]
    intervals: Sequence[Interval] = known.intervals
    pace, clock = problem.pace * len(problem.region), Clock.start(0.0, 1)
    if missing(intervals):
        found = linear_bounds(
            problem.graph,
            problem.region,
            problem.budget,
            known=intervals or None,
            recorder=problem.recorder,
            window=further(settings.window),
        )
        intervals, pace = found.intervals, clock.took
    if LEAST_ROOT * pace <= PREPARING * problem.budget.left:
        with suppress(OutOfTimeError):
            preparing = problem.budget.within(PREPARING)
            return best_of(problem, effort, intervals, preparing)
    return best_of(problem, QUICK, intervals, problem.budget)


def best_of(problem: Problem, effort: Effort, intervals: Sequence[Interval], budget: Budget) -> LinearBounds:
    """Bounds by best mixtures, from intervals that are known."""
    window = problem.settings.window
    return combined_bounds(problem.graph, problem.region, effort, intervals, budget, problem.recorder, window)


def most_leaves(problem: Problem, memory: int) -> int:
    neurons = sum(node.size for node in problem.graph.nodes)
    return max(16, memory // (8 * LEAF_NUMBERS * neurons))


def entered(known: BoundsSoFar, inputs: Tensor, problem: Problem, trees: Sequence[Tree]) -> BoundsSoFar:
    """What the trees have proved by now."""
    if not trees:
        return known
    margins = torch.stack([tree.margins for tree in trees])
    found = {int(number): tuple(tree.branches) for number, tree in zip(problem.numbers, trees, strict=True)}
    together = known.margins.clone()
    together[inputs] = torch.maximum(together[inputs], torch.where(torch.isfinite(margins), margins, -torch.inf))
    known = known.with_least(inputs, margins.new_tensor([tree.least for tree in trees]))
    return replace(known, margins=together, trees={**known.trees, **found})


def attacked(
    problem: Problem, known: BoundsSoFar, inputs: Tensor, trees: Sequence[Tree], points: Tensor, owners: Sequence[int]
) -> BoundsSoFar:
    """A search for counterexamples from the points at which the halves were bounded; what is refuted is split no more."""
    if problem.settings.restarts == 0:
        return known
    which = torch.tensor(owners)
    search = Search(1, ATTACK_STEPS, problem.settings.seed)
    some = problem[which]
    found, at = attack(some.model, some.graph, some.region, some.spec, search, some.budget, points[:, None])
    if not bool(found.any()):
        return known
    refuted, kept = known.refuted.clone(), known.points.clone()
    for k in torch.nonzero(found).flatten().tolist():
        refuted[inputs[owners[k]]], kept[inputs[owners[k]]] = True, at[k]
        trees[owners[k]].give_up()
    return replace(known, refuted=refuted, points=kept)
