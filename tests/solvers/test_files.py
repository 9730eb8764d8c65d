"""Files: what was written comes back value for value, other tools read the same, bad files are refused in a sentence."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import highspy
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from solvers import Problem, ProblemError, read, write

ENDINGS = ("mps", "lp", "mps.gz", "lp.gz")
INF = np.inf
VECTORS = ("cost", "row_lower", "row_upper", "lower", "upper", "integer", "offset")

PROBLEMS = {
    "two-sided rows": Problem([1, 1], [[1, 2], [0.1, 0.3]], [-1, 0.1], [4, 0.30000000000000004]),
    "two-sided rows, ranges not exact": Problem(
        [1, 1], np.ones((4, 2)), [-1, -1e300, 1e-300, -0.1], [1e-20, 1.7e308, 1e300, 0.7], lower=-1
    ),
    "equality": Problem([1, -1], [[1, 1]], 2, 2),
    "free row": Problem([1, 1], [[1, 2], [3, 4], [1, 1]], [-INF, 1, -INF], [INF, INF, INF]),
    "free row above the least number": Problem([1], [[1], [1]], [-np.finfo(float).max, -INF], INF),
    "free variables": Problem([1, -1], [[1, 1]], -1, 1, -INF, INF),
    "fixed": Problem([1, 1], [[1, 1]], 0, 9, [0.1, -3], [0.1, -3]),
    "upper bounds below 0": Problem([1, 1, 1], [[1, 1, 1]], -50, 5, [-INF, -9, -INF], [-5, -1, 0]),
    "infinite bounds": Problem([1, 1, 1], None, lower=[-INF, 1, 0], upper=[3, INF, INF]),
    "large bounds are finite": Problem([1, 1], [[1, 1]], -1e30, 1e30, -1e25, 1e22),
    "whole": Problem([1, 1, -1, 2], [[1, 1, 1, 1]], 1, 9, [0, 0, -INF, -3], [1, INF, 4, INF], [True, True, True, False]),
    "whole ones apart": Problem([1, 1, 1], [[1, 1, 1]], 1, 9, integer=[True, False, True]),
    "constant": Problem([1, 2], [[1, 1]], 1, 2, offset=-7.3),
    "empty rows": Problem([1, 1], [[0, 0], [1, 1], [0, 0]], [-1, 0, -INF], [5, 1, 0]),
    "empty columns": Problem([0, 1, 0], [[0, 1, 0]], 1, 2, [-1, 0, 2], [INF, 1, 3]),
    "no rows": Problem([1, -1], upper=3),
    "no columns": Problem([], np.zeros((2, 0)), [-1, -INF], [1, 0], offset=2),
    "nothing": Problem([]),
    "many terms": Problem(np.arange(100.0), np.arange(1.0, 301.0).reshape(3, 100) / 7, -1, 1e4),
    "extreme": Problem([5e-324, -1e300], [[1e-15, 1e-300], [1.7e308, -0.1]], [1e-310, -INF], [INF, 1e300], offset=1e-200),
}


def assert_same(found: Problem, wanted: Problem) -> None:
    assert found.shape == wanted.shape
    for name in VECTORS:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    np.testing.assert_array_equal(found.rows.toarray(), wanted.rows.toarray())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_round_trip(name: str, ending: str, tmp_path: Path) -> None:
    write(PROBLEMS[name], tmp_path / f"p.{ending}")
    assert_same(read(tmp_path / f"p.{ending}"), PROBLEMS[name])


numbers = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def pairs(draw: st.DrawFn, count: int) -> np.ndarray:
    """Bounds in order, some of them infinite, some equal."""
    found = np.empty((count, 2))
    for row in found:
        low, high = sorted((draw(numbers), draw(numbers)))
        row[:] = draw(st.sampled_from([(low, high), (low, low), (-INF, high), (low, INF), (-INF, INF), (0, INF)]))
    return found


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    height, count = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    rows = np.zeros((height, count))
    for place in np.ndindex(rows.shape):
        rows[place] = draw(st.sampled_from([0.0, 0.0, 1.0]) | numbers)
    cost = [draw(numbers) for _ in range(count)]
    integer = [draw(st.booleans()) for _ in range(count)]
    sides, bounds = draw(pairs(height)), draw(pairs(count))
    offset = draw(st.just(0.0) | numbers)
    return Problem(cost, rows, *sides.T, *bounds.T, np.array(integer, dtype=bool), offset)  # type: ignore[call-arg]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems(), ending=st.sampled_from(["mps", "lp"]))
def test_round_trip_of_any_problem(problem: Problem, ending: str, tmp_path: Path) -> None:
    write(problem, tmp_path / f"p.{ending}")
    assert_same(read(tmp_path / f"p.{ending}"), problem)


def random_problem(seed: int) -> Problem:
    """Feasible and bounded: around a point x that is whole where it must be; with every kind of row and bound."""
    rng = np.random.default_rng(seed)
    m, n = 12, 8
    rows = np.where(rng.random((m, n)) < 0.5, np.round(rng.normal(size=(m, n)), 3), 0)
    integer = rng.random(n) < 0.4
    x = np.where(integer, rng.integers(-4, 4, n), np.round(rng.normal(size=n), 2))
    activity = rows @ x
    kind = np.arange(m) % 5
    row_lower = np.where(np.isin(kind, (0, 2)), activity - 1.25, -INF)
    row_upper = np.where(np.isin(kind, (1, 2)), activity + 0.75, INF)
    row_lower[3], row_upper[3] = activity[3], activity[3]
    lower, upper = x - rng.integers(1, 6, n), x + rng.integers(0, 5, n)
    lower[0], upper[0] = x[0] - 3, INF  # cost 1 keeps it down
    cost = np.round(rng.normal(size=n), 2)
    cost[0] = 1
    return Problem(cost, rows, row_lower, row_upper, lower, upper, integer, offset=2.5)


def optimum_by_highs(path: Path) -> float:
    solver = highspy.Highs()
    solver.silent()
    solver.readModel(str(path))
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return float(solver.getInfo().objective_function_value)


def optimum_by_arrays(problem: Problem) -> float:
    """By scipy, from the arrays, without any file."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    found = milp(
        problem.cost,
        integrality=problem.integer.astype(int),
        bounds=Bounds(problem.lower, problem.upper),
        constraints=LinearConstraint(sparse.csc_array(problem.rows), problem.row_lower, problem.row_upper),
        options={"mip_rel_gap": 0.0},
    )
    assert found.status == 0
    return float(found.fun) + problem.offset


def optimum_by_glpsol(path: Path) -> float:
    kind = "--lp" if path.suffix == ".lp" else "--freemps"
    told = path.with_suffix(".out")
    subprocess.run(["glpsol", kind, str(path), "-o", str(told)], check=True, capture_output=True)
    found = re.search(r"Objective:\s+\S+ = (\S+)", told.read_text())
    assert found is not None
    return float(found[1])


def optimum_by_cbc(path: Path) -> float:
    told = path.with_suffix(".out")
    subprocess.run(
        ["cbc", str(path), "ratioGap", "0", "allowableGap", "0", "solve", "solution", str(told)],
        check=True,
        capture_output=True,
    )
    found = re.match(r"Optimal - objective value (\S+)", told.read_text())
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("tool", ["highs", "glpsol", "cbc"])
@pytest.mark.parametrize("ending", ["mps", "lp"])
@pytest.mark.parametrize("seed", range(4))
def test_other_tools_find_the_same_optimum(seed: int, ending: str, tool: str, tmp_path: Path) -> None:
    if tool != "highs" and shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed; Debian's packages glpk-utils and coinor-cbc have glpsol and cbc")
    problem = random_problem(seed)
    path = tmp_path / f"p.{ending}"
    write(problem, path)
    found = {"highs": optimum_by_highs, "glpsol": optimum_by_glpsol, "cbc": optimum_by_cbc}[tool](path)
    assert found == pytest.approx(optimum_by_arrays(problem), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("ending", ["mps", "lp"])
@pytest.mark.parametrize(
    ("problem", "optimum"),
    [
        (Problem([1.0], [[1.0]], -50, 50, -INF, -5), -50),
        (Problem([-1.0], [[1.0]], -50, 7.5, integer=[True]), -7),
        (Problem([1.0], [[1.0], [1.0]], [-INF, -3], [INF, 8], -INF, INF, offset=-2), -5),
    ],
    ids=["upper bound below 0", "whole without upper bound", "free row and constant"],
)
def test_classic_traps(problem: Problem, optimum: float, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"p.{ending}"
    write(problem, path)
    assert optimum_by_highs(path) == optimum
    for tool, solve in (("glpsol", optimum_by_glpsol), ("cbc", optimum_by_cbc)):
        if shutil.which(tool) is not None:
            assert solve(path) == optimum


FOREIGN_MPS = """* a comment
NAME          TEST
OBJSENSE
    MAX
ROWS
 N  COST
 L  LIM1
 G  LIM2
 E  EQ
 E  EQ2
COLUMNS
    X         COST         1.0   LIM1         1.0
    X         LIM2         1.0
    MARK      'MARKER'                 'INTORG'
    Y         COST         2.0   LIM1         1.0
    Z         COST        -1.0   EQ           1.0
    MARK      'MARKER'                 'INTEND'
    W         EQ2          1D1
RHS
    RHS       LIM1         4.0   LIM2         1.0
    RHS       COST        -5.0
RANGES
    RNG       LIM1         2.5   LIM2         4.0
    RNG       EQ           2.0   EQ2         -3.0
BOUNDS
 UP BND       X            4.0
 LO BND       Y           -1.0
 BV BND       W
ENDATA
"""


def test_mps_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "p.mps"
    path.write_text(FOREIGN_MPS)
    rows = [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 10]]
    wanted = Problem(
        [-1, -2, 1, 0], rows, [1.5, 1, 0, -3], [4, 5, 2, 0], [0, -1, 0, 0], [4, INF, 1, 1], [False, True, True, True], -5
    )
    assert_same(read(path), wanted)
    assert optimum_by_highs(path) == -optimum_by_arrays(wanted)


FOREIGN_LP = r"""\ a comment
Maximize
 obj: 2x + 3 y - z
   + 10
Subject To
 c1: x + y
   + z <= 10
 c2: x - y >= -2 \ another
 -1 <= x + 2 z <= 8.5
 c4: 2 >= y
 c5: x + 2 y + x = 5
Bounds
 x <= 4
 -inf <= y <= 2.5e0
 z free
 -3 <= w
Integer
 x
Binary
 b
End
"""


def test_lp_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "p.lp"
    path.write_text(FOREIGN_LP)
    rows = [[1, 1, 1, 0, 0], [1, -1, 0, 0, 0], [1, 0, 2, 0, 0], [0, 1, 0, 0, 0], [2, 2, 0, 0, 0]]
    wanted = Problem(
        [-2, -3, 1, 0, 0],
        rows,
        [-INF, -2, -1, -INF, 5],
        [10, INF, 8.5, 2, 5],
        [0, -INF, -INF, -3, 0],
        [4, 2.5, INF, INF, 1],
        [True, False, False, False, True],
        -10,
    )
    assert_same(read(path), wanted)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.mps", None, "p.mps cannot be read"),
        ("p.txt", "", "wanted one of .mps, .lp"),
        ("p.gz", "", "wanted one of .mps, .lp"),
        ("p.mps", "", "without ENDATA"),
        ("p.mps", FOREIGN_MPS[:400], "cut short|no number|no name"),
        ("p.mps", FOREIGN_MPS.replace("ENDATA\n", ""), "without ENDATA"),
        ("p.mps", FOREIGN_LP, "line 1: section .* is none of"),
        ("p.mps", FOREIGN_MPS.replace(" UP BND", " SC BND"), "line 26: .*semi-continuous"),
        ("p.mps", FOREIGN_MPS.replace("BOUNDS", "QUADOBJ"), "'QUADOBJ' is none of"),
        ("p.mps", FOREIGN_MPS.replace("BOUNDS", "SOS"), "'SOS' is none of"),
        ("p.mps", FOREIGN_MPS.replace("'INTORG'", "'SOSORG'"), "special ordered sets"),
        ("p.mps", FOREIGN_MPS.replace("X            4.0", "X           -4.0"), "column 'X' has an upper bound below 0"),
        ("p.mps", FOREIGN_MPS.replace("LIM2         1.0", "LIM3         1.0"), "row 'LIM3' is not among"),
        ("p.mps", FOREIGN_MPS.replace("LIM2         4.0", "LIM2         4.x"), "'4.x' is no number"),
        ("p.mps", FOREIGN_MPS.replace("LIM2         4.0", "LIM2         nan"), "NaN"),
        ("p.mps", FOREIGN_MPS.replace(" N  COST\n", ""), "not among the ROWS"),
        ("p.mps", FOREIGN_MPS.replace(" G  LIM2\n", " G  LIM1\n"), "declared twice"),
        ("p.mps", FOREIGN_MPS.replace("X         LIM2", "X         LIM1"), "names one column twice"),
        ("p.mps", FOREIGN_MPS.replace("BND       X", "BND       Q"), "column 'Q' has a bound"),
        ("p.lp", "", "without End"),
        ("p.lp", FOREIGN_MPS, "before Minimize"),
        ("p.lp", FOREIGN_LP[:120], "without End"),
        ("p.lp", FOREIGN_LP.replace("- z\n", "- z + [ x ^ 2 ] / 2\n"), "line 3: .*quadratic"),
        ("p.lp", FOREIGN_LP.replace("Binary", "Semi-continuous"), "'Semi-continuous' is not read"),
        ("p.lp", FOREIGN_LP.replace("Binary", "SOS"), "'SOS' is not read"),
        ("p.lp", FOREIGN_LP.replace("<= 8.5", ""), None),
        ("p.lp", FOREIGN_LP.replace("2 z <= 8.5", "2 z\n <= 8.5"), "line 10: .*wanted a row"),
        ("p.lp", FOREIGN_LP.replace(">= -2", ">= -2 + z"), "new line"),
        ("p.lp", FOREIGN_LP.replace(">= -2", ">= z"), "line 8: at 'z': wanted a number"),
        ("p.lp", FOREIGN_LP.replace("x - y", "x y"), "line 8: at 'y': wanted"),
        ("p.lp", FOREIGN_LP.replace("<= 4", "<= -4"), "crossed"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(name: str, text: str | None, words: str | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    if words is None:
        read(path)
        return
    with pytest.raises(ProblemError, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("ending", ["mps", "lp", "mps.gz", "lp.gz"])
def test_no_truncated_file_is_read(ending: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole.{ending}"
    write(PROBLEMS["whole"], whole)
    data = whole.read_bytes()
    part = tmp_path / f"part.{ending}"
    for size in range(len(data) - 2):
        part.write_bytes(data[:size])
        with pytest.raises(ProblemError):
            read(part)


@pytest.mark.parametrize("ending", ENDINGS)
def test_noise_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"p.{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(500))
    with pytest.raises(ProblemError, match=f"p.{ending}"):
        read(path)


def test_an_unwritable_path_is_an_error_of_this_package(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="cannot be written"):
        write(PROBLEMS["whole"], tmp_path / "nowhere" / "p.mps")
