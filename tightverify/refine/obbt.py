"""OBBT, optimisation-based bound tightening: neurons that matter to an open row are bounded by programs of their own.

A row's program says what a neuron is worth: the multiplier of the equation that makes it is the coefficient with which
back-substitution would arrive at it. Times the neuron's width that is how far the neuron's uncertainty moves the row. The
weightiest neurons are bounded on both sides by the program of the network below them, cut to convergence. Every task is on its
own, so that any number of processes finds the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch

from tightverify import plugins
from tightverify.bounds.recorder import SILENT
from tightverify.budget import UNLIMITED, Budget
from tightverify.evidence import Program
from tightverify.graph import Affine
from tightverify.refine.converge import Converged, Cutter, Cutting
from tightverify.refine.proof import linear_proof
from tightverify.refine.relaxed import Relaxed
from tightverify.values import Interval

Task = tuple[int, int, float]
"""A node, one of its neurons, and 1 for its lower bound, -1 for its upper one, negated."""


def weightiest(relaxed: Relaxed, found: Converged, count: int) -> list[tuple[int, int]]:
    """So many neurons (node, neuron) that operations read, by what they are worth to the row, in the order of the nodes."""
    if found.solution is None or found.solution.dual is None:
        return []
    worth: list[tuple[float, int, int]] = []
    for number in relaxed.graph.bounded:
        if number in found.program.equations and isinstance(relaxed.graph.nodes[number], Affine):
            weights = np.abs(found.solution.dual[found.program.equations[number]])
            width = relaxed.bounds.intervals[number].width[0].numpy()
            worth.extend((float(value), number, neuron) for neuron, value in enumerate(weights * width))
    chosen = sorted(worth, key=lambda entry: (-entry[0], entry[1], entry[2]))[:count]
    return sorted((number, neuron) for value, number, neuron in chosen if value > 0)


def obbt(
    relaxed: Relaxed,
    chosen: Sequence[tuple[int, int]],
    cutting: Cutting,
    processes: int = 1,
    budget: Budget = UNLIMITED,
) -> list[Interval]:
    """Every node's interval, those of the chosen neurons cut down to what their programs prove."""
    tasks = [(number, neuron, sign) for number, neuron in chosen for sign in (1.0, -1.0)]
    intervals, recorder = list(relaxed.bounds.intervals), relaxed.bounds.recorder
    plain = replace(relaxed, bounds=replace(relaxed.bounds, recorder=SILENT))  # who listens does so in this process alone
    every = answers(plain, tasks, cutting, processes, budget, recorder.listens)
    for (number, neuron, sign), (bound, programs) in zip(tasks, every, strict=True):
        for program in programs:
            recorder.proof(partial(of_pass, program))
        old = intervals[number]
        least, most = torch.full_like(old.lower, -torch.inf), torch.full_like(old.upper, torch.inf)
        (least if sign > 0 else most)[0, neuron] = sign * bound
        intervals[number] = old.intersect(Interval(least, most))
    return intervals


WHOSE = -1
"""in place of the number of a bounding pass, which is known to the recorder alone"""
Answer = tuple[float, tuple[Program, ...]]
"""A proved bound, and the program that proves it, as evidence for a bounding pass, if it was asked for."""


def of_pass(program: Program, bounding_pass: int) -> tuple[Program]:
    """A program as evidence for a bounding pass."""
    return (replace(program, bounding_pass=bounding_pass),)


def answers(
    relaxed: Relaxed,
    tasks: Sequence[Task],
    cutting: Cutting,
    processes: int,
    budget: Budget,
    shown: bool = False,
) -> Iterator[Answer]:
    """The answers in the order of the tasks, and what proves them if it is to be `shown`; each looks at the budget first."""
    if processes == 1:
        for task in tasks:
            budget.check()
            yield answer(relaxed, cutting, shown, task)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, prepare, (relaxed, cutting, shown)) as pool:
        waiting = [pool.submit(prepared_answer, task) for task in tasks]
        try:
            for one in waiting:
                budget.check()
                yield one.result()
        finally:
            pool.shutdown(cancel_futures=True)


def answer(relaxed: Relaxed, cutting: Cutting, shown: bool, task: Task) -> Answer:
    """A neuron's lower bound, or that of its negation."""
    number, neuron, sign = task
    row = torch.zeros(relaxed.graph.nodes[number].size, dtype=torch.float64)
    row[neuron] = sign
    *_, found = Cutter.over(relaxed, {number: row}, cutting).converge({number: row})
    return found.proved, linear_proof(found, neuron, WHOSE, number) if shown else ()


PREPARED: list[tuple[Relaxed, Cutting, bool]] = []
"""In a process of the pool: what all its tasks are about."""


def prepare(relaxed: Relaxed, cutting: Cutting, shown: bool) -> None:
    torch.set_num_threads(1)
    plugins.load()  # solvers may be of theirs
    PREPARED[:] = [(relaxed, cutting, shown)]


def prepared_answer(task: Task) -> Answer:
    return answer(*PREPARED[0], task)
