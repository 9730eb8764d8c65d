"""No solver writes to stdout: it is an interface. File descriptor 1 is watched, which libraries write to past `sys.stdout`."""

from __future__ import annotations

import subprocess
import sys

import pytest

import solvers

SOLVE = """
import sys
import numpy as np
from scipy import sparse
import solvers

name = sys.argv[1]
for whole in (False, True):
    problem = solvers.Problem(
        cost=np.array([1.0, 1.0]),
        lower=np.zeros(2),
        upper=np.ones(2),
        rows=sparse.csr_array(np.array([[1.0, 2.0]])),
        row_lower=np.array([1.0]),
        row_upper=np.array([3.0]),
        integer=np.array([whole, False]),
    )
    if whole and not solvers.backend(name).capabilities.mixed_integer:
        continue
    for log in (False, True):
        assert solvers.load(problem, name, log=log).solve().status is solvers.Status.OPTIMAL
print("ours", solvers.backend(name).version != "")
"""


@pytest.mark.parametrize("name", [backend.name for backend in solvers.BACKENDS])
def test_stdout_has_only_our_lines(name: str) -> None:
    missing = solvers.backend(name).missing()
    if missing is not None:
        pytest.skip(missing)
    done = subprocess.run([sys.executable, "-c", SOLVE, name], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ours True\n"
