"""The backends, in order of preference. A new one is its file and one line here, and is under every test.

One of another package joins by `BACKENDS.append`.
"""

from __future__ import annotations

from solvers.backends.batched import Batched
from solvers.backends.gurobi import Gurobi
from solvers.backends.highs import Highs
from solvers.backends.pyomo import Pyomo
from solvers.backends.scipy import Scipy
from solvers.base import Backend
from solvers.errors import BackendError

BACKENDS: list[Backend] = [
    Highs(),
    Gurobi(),
    Scipy(),
    Pyomo("appsi_highs"),
    Pyomo("glpk"),
    Pyomo("cbc"),
    Batched(),
]


def backend(name: str) -> Backend:
    """The backend of a name; any solver that Pyomo can reach is `pyomo:` and its name there."""
    for candidate in BACKENDS:
        if candidate.name == name:
            return candidate
    if name.startswith("pyomo:"):
        return Pyomo(name.removeprefix("pyomo:"))
    raise BackendError(f"there is no solver {name!r}; choose one of {', '.join(b.name for b in BACKENDS)}, or pyomo:NAME")
