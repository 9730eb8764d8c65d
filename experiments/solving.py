"""Solvers side by side: thousands of small fits, one large linear program, and what a proved bound costs and loses.

    python -m experiments.solving [--fits 1000] [--repeats 5]

Prints the tables of docs/experiments/solving.md; ends with exit code 1 if a wanted figure is not reached. Run it with nothing
else running.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import partial

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy import sparse

import solvers
from experiments.figures import Figures, table_of, timed
from experiments.pages import Experiment, report
from solvers.backends.batched import Batch, solve_batch
from solvers.safe import safe_bound

Floats = NDArray[np.float64]
SIDE = 10
"""samples along each side of the unit square"""
FEW = 50
"""fits through backends that take their time"""
LIMIT = 20.0
"""seconds for one solve of the large program"""


@dataclass(frozen=True)
class Fits:
    """Planes a u + b v + c of the least mean above sigmoid(x) tanh(y) at samples of boxes scaled to the unit square."""

    cost: Floats
    rows: Floats
    values: Floats
    """(fits, samples)"""
    bound: float = 10.0

    @staticmethod
    def random(count: int) -> Fits:
        rng = np.random.default_rng(0)
        u, v = (axis.ravel() for axis in np.meshgrid(*[np.linspace(0, 1, SIDE)] * 2))
        rows = np.stack([u, v, np.ones_like(u)], axis=1)
        corner, size = rng.uniform(-4, 3, (count, 2, 1)), rng.uniform(0.1, 3, (count, 2, 1))
        x, y = corner[:, 0] + size[:, 0] * u, corner[:, 1] + size[:, 1] * v
        return Fits(rows.mean(axis=0), rows, np.tanh(y) / (1 + np.exp(-x)))

    def problem(self, k: int) -> solvers.Problem:
        return solvers.Problem(self.cost, self.rows, self.values[k], np.inf, -self.bound, self.bound)

    def exact(self) -> Floats:
        """The optima by highspy with tolerances of 1e-10: with its own, 1e-7, it takes a plane for one that lies above."""
        import highspy

        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        for kind in ("primal", "dual"):
            highs.setOptionValue(f"{kind}_feasibility_tolerance", 1e-10)
        none, empty, width = np.zeros(0, dtype=np.int32), np.zeros(0), len(self.cost)
        highs.addCols(width, self.cost, np.full(width, -self.bound), np.full(width, self.bound), 0, none, none, empty)
        found = []
        for values in self.values:
            highs.deleteRows(highs.getNumRow(), np.arange(highs.getNumRow(), dtype=np.int32))
            starts = np.arange(len(values), dtype=np.int32) * width
            columns = np.tile(np.arange(width, dtype=np.int32), len(values))
            upper = np.full(len(values), np.inf)
            highs.addRows(len(values), values, upper, columns.size, starts, columns, self.rows.ravel())
            highs.run()
            found.append(highs.getInfo().objective_function_value)
        return np.array(found)

    def batch(self) -> Batch:
        return Batch(self.cost, self.rows, self.values, np.inf, -self.bound, self.bound)


def small(count: int, figures: Figures) -> None:
    """(a) and (c): milliseconds a fit, and the proved bounds."""
    fits = Fits.random(count)
    table = table_of(
        f"{SIDE * SIDE} rows, 3 variables; one session each, `batched` also all in one call",
        *("backend", "fits", "ms per fit", "time / highs", "largest error of the objectives"),
    )
    reference = fits.exact()
    solutions, objectives, ms = through(fits, "highs", count)
    table.add_row("highs", str(count), f"{ms:.3f}", "1", f"{np.abs(objectives - reference).max():.1e}")
    figures.at_most("highs: ms per fit", ms, 0.4)
    batched, found = min((timed(lambda: solve_batch(fits.batch())) for _ in range(3)), key=lambda pair: pair[0])
    apart = float(np.abs(found.objective - reference).max())
    batched *= 1e3 / count
    table.add_row("batched, one call", str(count), f"{batched:.4f}", f"{batched / ms:.3f}", f"{apart:.1e}")
    figures.at_least("batched: times faster than highs", ms / batched, 10)
    figures.at_most("batched: error of the objectives", apart, 1e-9)
    for backend in solvers.BACKENDS:
        if backend.name == "highs":
            continue
        if backend.missing() is not None:
            table.add_row(backend.name, "", "not here", "", "")
            continue
        few = min(FEW, count)
        _, objectives, other = through(fits, backend.name, few)
        apart = float(np.abs(objectives - reference[:few]).max())
        table.add_row(backend.name, str(few), f"{other:.3f}", f"{other / ms:.1f}", f"{apart:.1e}")
    report(table)
    proved(solutions, ms, figures)


def through(fits: Fits, name: str, count: int) -> tuple[list[solvers.Solution], Floats, float]:
    """The fits' solutions, their objectives, and milliseconds a fit, by one session of a backend."""
    session = solvers.load(fits.problem(0), name)
    session.solve()
    took, found = timed(lambda: [session.solve(row_lower=values) for values in fits.values[:count]])
    return found, np.array([solution.objective for solution in found]), 1e3 * took / count


def proved(solutions: list[solvers.Solution], ms: float, figures: Figures) -> None:
    took, bounds = timed(lambda: np.array([safe_bound(s.problem, s.dual) for s in solutions if s.dual is not None]))
    objectives = np.array([solution.objective for solution in solutions])
    loss = float(((objectives - bounds) / np.maximum(1, np.abs(objectives))).max())
    cost = 1e3 * took / len(solutions)
    table = table_of(
        "safe_bound on the small fits, from highs's duals", "ms per fit", "share of a solve", "largest relative loss"
    )
    table.add_row(f"{cost:.3f}", f"{cost / ms:.0%}", f"{loss:.1e}")
    report(table)
    figures.at_most("safe_bound, small fits: relative loss", loss, 1e-7)
    figures.at_most("safe_bound, small fits: share of a solve", 100 * cost / ms, 20, " %")


@dataclass(frozen=True)
class Large:
    """A feasible, bounded program with 3000 rows, 6000 variables and 1 % fill; 250 rows are equations."""

    cost: Floats
    rows: sparse.csr_array
    row_lower: Floats
    row_upper: Floats

    @staticmethod
    def random(height: int = 3000, width: int = 6000, equations: int = 250) -> Large:
        rng = np.random.default_rng(0)
        rows = sparse.random_array(
            (height, width), density=0.01, format="csr", rng=rng, data_sampler=lambda size: rng.normal(size=size)
        )
        activity = rows @ rng.uniform(-0.5, 0.5, width)
        slack = np.where(np.arange(height) < equations, 0.0, 14.0)
        return Large(rng.normal(size=width), rows, activity - slack, activity + slack)

    def ours(self) -> solvers.Problem:
        return solvers.Problem(self.cost, self.rows, self.row_lower, self.row_upper, -1, 1)

    def by_hand(self) -> float:
        """highspy with the same arrays and options, the answer taken out as arrays."""
        import highspy

        height, width = self.rows.shape
        program = highspy.HighsLp()
        program.num_row_, program.num_col_ = height, width
        program.col_cost_ = self.cost
        program.col_lower_, program.col_upper_ = -np.ones(width), np.ones(width)
        program.row_lower_, program.row_upper_ = self.row_lower, self.row_upper
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = self.rows.indptr
        program.a_matrix_.index_ = self.rows.indices
        program.a_matrix_.value_ = self.rows.data
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.setOptionValue("threads", 1)
        highs.passModel(program)
        highs.run()
        found = highs.getSolution()
        np.array(found.col_value), np.array(found.row_dual)
        return float(highs.getInfo().objective_function_value)


def large(repeats: int, figures: Figures) -> None:
    """(b): overhead over highspy by hand, re-solves, the proved bound, other backends."""
    case = Large.random()
    hand, ours = [], []
    for _ in range(repeats):
        hand.append(timed(case.by_hand)[0])
        seconds, solution = timed(lambda: solvers.solve(case.ours()))
        ours.append(seconds)
    table = table_of(
        f"one program, 3000 x 6000, 1 % fill; alternating, {repeats} times", "", "shortest, s", "median, s", "/ by hand"
    )
    table.add_row("highspy by hand", f"{min(hand):.3f}", f"{np.median(hand):.3f}", "1")
    table.add_row("solvers, highs", f"{min(ours):.3f}", f"{np.median(ours):.3f}", f"{min(ours) / min(hand):.3f}")
    figures.at_most("large: overhead over highspy by hand", 100 * (min(ours) / min(hand) - 1), 5, " %")
    for backend in solvers.BACKENDS:
        if backend.name != "highs":
            other_backend(backend, case.ours(), solution.objective, min(hand), table)
    report(table)
    resolves(case, figures)
    took, bound = min((timed(lambda: safe_bound(solution.problem, solution.dual)) for _ in range(repeats)), key=lambda p: p[0])
    loss = (solution.objective - bound) / max(1, abs(solution.objective))
    figures.at_most("large: safe_bound's share of a solve", 100 * took / min(ours), 20, " %")
    figures.at_most("large: safe_bound's relative loss", loss, 1e-7)


def other_backend(backend: solvers.Backend, problem: solvers.Problem, wanted: float, hand: float, table: Table) -> None:
    fault = backend.missing() or backend.refuses(problem)
    if fault is not None:
        table.add_row(backend.name, "", "", fault)
        return
    try:
        took, found = timed(lambda: solvers.solve(problem, backend.name, time_limit=LIMIT))
    except solvers.BackendError as error:
        table.add_row(backend.name, "", "", str(error))
        return
    right = found.status is solvers.Status.OPTIMAL and abs(found.objective - wanted) <= 1e-6 * abs(wanted)
    table.add_row(f"{backend.name} (once)", f"{took:.3f}", "", f"{took / hand:.2f}" if right else found.status.value)


def resolves(case: Large, figures: Figures) -> None:
    """Seconds for another cost, through a session and from scratch."""
    problem = case.ours()
    session = solvers.load(problem)
    session.solve()
    width = problem.shape[1]
    near = problem.cost.copy()
    near[:60] *= 1.05
    questions = {"cost changed by 5 % in 1 % of its entries": [near]}
    questions["one variable, up or down"] = [sign * np.eye(1, width, j)[0] for j in (5,) for sign in (1.0, -1.0)]
    table = table_of("another cost", "", "session, s", "from scratch, s", "times cheaper")
    for name, costs in questions.items():
        if name.startswith("one"):
            session.solve(cost=costs[-1] * -1, time_limit=LIMIT)
        warm, cold, cut = 0.0, 0.0, ""
        for cost in costs:
            seconds, found = timed(partial(session.solve, cost=cost, time_limit=LIMIT))
            warm += seconds
            seconds, fresh = timed(partial(solvers.solve, problem.changed(cost=cost), time_limit=LIMIT))
            cold += seconds
            if found.status is not solvers.Status.OPTIMAL:
                warm = math.inf  # no answer is no gain
            if fresh.status is not solvers.Status.OPTIMAL:
                cut = "more than "  # the time limit cut the solve from scratch short
            elif abs(found.objective - fresh.objective) > 1e-6 * max(1, abs(fresh.objective)):
                raise SystemExit(f"the session found {found.objective}, a fresh solve {fresh.objective}")
        table.add_row(name, f"{warm / len(costs):.3f}", f"{cut}{cold / len(costs):.3f}", f"{cut}{cold / warm:.1f}")
        figures.at_least(f"large: times cheaper, {name}", cold / warm, 5)
    report(table)


@click.command(cls=Experiment)
@click.option("--fits", default=1000, show_default=True, help="How many small fits.")
@click.option("--repeats", default=5, show_default=True, help="How often the large program is solved each way.")
def main(fits: int, repeats: int) -> None:
    figures = Figures()
    small(fits, figures)
    large(repeats, figures)
    report(figures.table)
    sys.exit(1 if figures.missed else 0)


if __name__ == "__main__":
    main()
