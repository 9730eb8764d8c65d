"""The backends, in order of preference. A new one is its file and one line here, and is under every test."""

from __future__ import annotations

from solvers.base import Backend
from solvers.batched import Batched
from solvers.errors import BackendError
from solvers.gurobi import Gurobi
from solvers.highs import Highs
from solvers.pyomo import Pyomo
from solvers.scipy import Scipy

BACKENDS: tuple[Backend, ...] = (
    Highs(),
    Gurobi(),
    Scipy(),
    Pyomo("appsi_highs"),
    Pyomo("glpk"),
    Pyomo("cbc"),
    Batched(),
)


def backend(name: str) -> Backend:
    """The backend of a name; any solver that Pyomo can reach is `pyomo:` and its name there."""
    for candidate in BACKENDS:
        if candidate.name == name:
            return candidate
    if name.startswith("pyomo:"):
        return Pyomo(name.removeprefix("pyomo:"))
    raise BackendError(f"there is no solver {name!r}; choose one of {', '.join(b.name for b in BACKENDS)}, or pyomo:NAME")
