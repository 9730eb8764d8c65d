"""The names of the methods, and what each does in a sentence. `stages.METHODS` has the stages of each.

Whoever only wants the names, as the command line does, imports nothing else by that.
"""

from __future__ import annotations

from collections.abc import Iterable

SENTENCES = {
    "interval": "interval arithmetic, forward",
    "linear": "linear bounds by back-substitution",
    "planes": "linear bounds from the tightest planes over polygons",
    "combine": "every bound from its own best mixture of planes, in rounds",
    "complete": "proofs by contradiction, and branch and bound",
    "lp": "linear programs of the whole network",
    "milp": "mixed-integer programs of the whole network",
}
BOUNDING = ("interval", "linear", "planes", "combine")
"""Those that bound outputs without any property."""


def either(names: Iterable[str]) -> str:
    """Names in a sentence: a, b or c."""
    *some, last = names
    return f"{', '.join(some)} or {last}" if some else last
