"""Every backend under one contract: the named problems, sessions, limits, interruption, words."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import solvers
from solvers import BACKENDS, Backend, BackendError, Problem, Solution, Status, load, solve
from tests.helpers.solver_contract import assert_feasible, assert_optimal_pair, linear, mixed_integer
from tests.helpers.solver_problems import LINEAR, MIXED, Named, hard_knapsacks, random_program

NAMES = [backend.name for backend in BACKENDS]


def available(name: str, problem: Problem | None = None) -> Backend:
    backend = solvers.backend(name)
    fault = backend.missing() or (backend.refuses(problem) if problem is not None else None)
    if fault is not None:
        pytest.skip(fault)
    return backend


@pytest.mark.parametrize("case", LINEAR, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_linear(name: str, case: Named) -> None:
    available(name, case.problem)
    linear(name, case)


@pytest.mark.parametrize("case", MIXED, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_mixed_integer(name: str, case: Named) -> None:
    available(name, case.problem)
    mixed_integer(name, case)


@pytest.mark.parametrize("name", NAMES)
def test_a_session_answers_as_a_fresh_solve(name: str) -> None:
    problem = random_program(0, 12, 5)
    available(name, problem)
    random = np.random.default_rng(1)
    session = load(problem, name)
    session.solve()
    changes = (
        {"cost": random.normal(size=5)},
        {"lower": np.full(5, -0.75), "upper": np.full(5, 1.5)},
        {"row_lower": problem.row_lower - 0.25},
        {"row_lower": np.full(12, -np.inf), "row_upper": problem.row_upper + 0.5},  # rows that were ranges are none
        {"row_lower": problem.row_lower - 1.0, "row_upper": np.maximum(problem.row_lower + 1, problem.row_upper)},
        {"upper": np.full(5, 1.0), "cost": -np.ones(5)},
        {"row_upper": np.full(12, np.inf)},
    )
    expected = problem
    for change in changes:
        expected = expected.changed(**change)
        check_same(session.solve(**change), expected)
    session.add_rows(random.normal(size=(3, 5)), [-1, -np.inf, -0.5], [np.inf, 2, 0.5])
    check_same(session.solve(), session.problem)
    assert session.problem.shape == (15, 5)
    cost = random.normal(size=5)
    check_same(session.solve(cost=cost), session.problem)
    low = np.concatenate([expected.row_lower, [-1, -2, -0.25]])
    check_same(session.solve(row_lower=low), session.problem)


def check_same(solution: Solution, problem: Problem) -> None:
    fresh = solve(problem)
    assert fresh.status is solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(fresh.objective, abs=1e-7)
    assert_feasible(problem, solution.primal)
    assert_optimal_pair(solution)


@pytest.mark.parametrize("name", NAMES)
def test_a_session_finds_its_way_back_from_an_infeasible_question(name: str) -> None:
    problem = random_program(2, 10, 4)
    available(name, problem)
    session = load(problem, name)
    first = session.solve()
    assert session.solve(lower=np.full(4, 5.0), upper=np.full(4, 6.0)).status is Status.INFEASIBLE
    again = session.solve(lower=problem.lower, upper=problem.upper)
    assert again.objective == pytest.approx(first.objective)
    assert first.problem is problem


@pytest.mark.parametrize("name", [name for name in NAMES if solvers.backend(name).capabilities.mixed_integer])
def test_a_mixed_integer_session(name: str) -> None:
    available(name)
    problem = next(case.problem for case in MIXED if case.name == "knapsack")
    session = load(problem, name)
    assert session.solve().objective == pytest.approx(-21)
    assert session.solve(cost=[-8, -12, -6, -9]).objective == pytest.approx(-27)
    assert session.solve(row_upper=[7]).objective == pytest.approx(-15)
    session.add_rows([[0, 0, 1, 1]], -np.inf, 1)
    assert session.solve().objective == pytest.approx(-12)


@pytest.mark.parametrize("name", ["highs", "gurobi"])
def test_warm_start(name: str) -> None:
    available(name)
    problem = random_program(3, 60, 80)
    session = load(problem, name)
    first = session.solve()
    assert session.solve().iterations == 0
    basis = pickle.loads(pickle.dumps(first)).basis
    assert (len(basis.variables), len(basis.rows)) == (80, 60)
    assert sum(k == 0 for k in basis.variables + basis.rows) == 60
    for other in ("highs", "gurobi"):
        if solvers.backend(other).missing() is None:
            begun = load(problem, other).solve(basis=basis)
            assert begun.objective == pytest.approx(first.objective)
            assert begun.iterations < first.iterations / 4


def test_a_basis_is_refused_where_it_cannot_be_used() -> None:
    problem = random_program(3, 6, 4)
    basis = solve(problem).basis
    with pytest.raises(BackendError, match=r"scipy cannot start from a basis; .* choose highs"):
        load(problem, "scipy").solve(basis=basis)


@pytest.mark.parametrize("name", [name for name in NAMES if solvers.backend(name).capabilities.mixed_integer])
def test_time_limit(name: str) -> None:
    available(name)
    problem = hard_knapsacks()
    session = load(problem, name, time_limit=1.0)
    for _ in range(2 if name in ("highs", "gurobi") else 1):  # the limit is each solve's own
        began = time.perf_counter()
        solution = session.solve()
        took = time.perf_counter() - began
        assert solution.status in (Status.TIME_LIMIT, Status.UNKNOWN)
        assert 0.5 < took < 6
        if name in ("highs", "gurobi", "scipy"):
            assert solution.status is Status.TIME_LIMIT
            assert solution.claimed_bound < -1000
            assert_feasible(problem, solution.primal)
            assert solution.claimed_bound <= solution.objective


def test_time_limit_of_a_linear_program_keeps_the_best_bound() -> None:
    problem = random_program(5, 250, 500, 0.1)
    optimum = solve(problem).objective
    session = load(problem)
    ended = session.solve(time_limit=0.01)
    assert ended.status is Status.TIME_LIMIT
    assert np.isnan(ended.claimed_bound) or ended.claimed_bound <= optimum + 1e-6
    assert ended.safe_bound <= optimum
    assert session.solve(time_limit=100).objective == pytest.approx(optimum)


@pytest.mark.parametrize("name", ["highs", "gurobi"])
def test_interruption(name: str) -> None:
    available(name)
    session = load(hard_knapsacks(), name, time_limit=30.0)
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    # A shell starts what runs in its background with interrupts ignored; solvers leave a program its choice.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        began = time.perf_counter()
        solution = session.solve()
        assert time.perf_counter() - began < 15
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, former)
    assert solution.status is Status.INTERRUPTED
    assert solution.claimed_bound < -1000
    assert session.solve(time_limit=0.5).status is Status.TIME_LIMIT


def test_a_programs_own_handler_is_called_in_the_end() -> None:
    calls: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _: calls.append(number))
    try:
        threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        assert solve(hard_knapsacks(), time_limit=30.0).status is Status.INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, former)
    assert calls == [signal.SIGINT]


def test_a_solve_in_another_thread() -> None:
    answers: list[Solution] = []
    thread = threading.Thread(target=lambda: answers.append(solve(random_program(6, 30, 300, 1.0))))
    thread.start()
    thread.join()
    assert answers[0].status is Status.OPTIMAL


def wide(variables: int) -> Problem:
    return Problem(-np.ones(variables), np.ones((1, variables)), -np.inf, 1, 0, 1)


def test_gurobis_restricted_licence() -> None:
    available("gurobi")
    assert solve(wide(1900), "gurobi").objective == pytest.approx(-1)
    words = r"restricted licence allows 2000 variables .* this problem has 5130 variables .* choose highs"
    session = load(wide(5130), "gurobi")
    with pytest.raises(BackendError, match=words):
        session.solve()


@pytest.mark.parametrize("name", NAMES)
def test_backends_say_who_they_are(name: str) -> None:
    backend = available(name)
    assert NAMES.count(name) == 1
    assert backend.name == name
    assert any(letter.isdigit() for letter in backend.version)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", "there is no solver 'nosuch'; choose one of highs"),
        ("pyomo:nosuch", "Pyomo reaches no solver 'nosuch' here: install it"),
    ],
)
def test_a_solver_that_is_not_there(name: str, words: str) -> None:
    if name.startswith("pyomo"):
        available("pyomo:appsi_highs")
    with pytest.raises(BackendError, match=words):
        solve(wide(3), name)


@pytest.mark.parametrize(
    ("name", "package", "words"),
    [
        ("highs", "highspy", "highspy is not installed: pip install highspy"),
        ("gurobi", "gurobipy", "gurobipy is not installed: pip install gurobipy"),
        ("pyomo:glpk", "pyomo", "Pyomo is not installed: pip install pyomo"),
    ],
)
def test_a_package_that_is_not_installed(name: str, package: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda wanted, *rest: None if wanted == package else find(wanted, *rest))
    with pytest.raises(BackendError, match=words):
        load(wide(3), name)


def test_what_is_not_in_a_table_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    from solvers.backends import gurobi, highs, pyomo, scipy

    for module, name in ((highs, "highs"), (gurobi, "gurobi"), (scipy, "scipy"), (pyomo, "pyomo:appsi_highs")):
        if solvers.backend(name).missing() is None:
            monkeypatch.setattr(module, "STATUS", {})
            solution = solve(wide(3), name)
            assert solution.status is Status.UNKNOWN
            assert not solution.claimed_bound > -1 + 1e-6


@pytest.mark.parametrize("name", ["highs", "gurobi"])
def test_log_on_request(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    available(name)
    problem = random_program(7, 30, 40)
    assert solve(problem, name).log == ""
    told = solve(problem, name, log=True).log
    assert {"highs": "HiGHS", "gurobi": "Optimize a model"}[name] in told
    assert capfd.readouterr().out == ""


def test_importing_the_package_imports_no_solver() -> None:
    code = (
        "import sys, solvers; "
        "print([n for n in ('highspy', 'gurobipy', 'pyomo', 'scipy.optimize', 'torch', 'tightverify') if n in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_sessions_are_freed() -> None:
    import gc
    import weakref

    session = load(wide(3))
    session.solve()
    gone = weakref.ref(session._highs)  # type: ignore[attr-defined]
    del session
    gc.collect()
    assert gone() is None


def test_highs_starts_afresh_where_it_goes_in_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without patience every solve but the first is given up and done from scratch: the answer is the same."""
    generator = np.random.default_rng(5)
    rows = generator.normal(size=(60, 40))
    problem = Problem(generator.normal(size=40), rows[:30], -1.0, 1.0, -1.0, 1.0)
    monkeypatch.setattr("solvers.backends.highs.PATIENCE", 0)
    session = load(problem, "highs")
    session.solve()
    session.add_rows(rows[30:], -0.1, 0.1)
    again = session.solve()
    assert again.status is Status.OPTIMAL
    assert again.objective == pytest.approx(solve(session.problem, "highs").objective)
