"""The names of the methods, and what each does in a sentence. `stages.METHODS` has the stages of each.

Whoever only wants the names, as the command line does, imports nothing else by that.
"""

from __future__ import annotations

from collections.abc import Iterable

SENTENCES = {
    "interval": "interval arithmetic, forward",
    "crown-ibp": "rows substituted back over these intervals",
    "lbp": "linear functions of the input, forward",
    "crown-lbp": "rows substituted back over the intervals of these",
    "window": "back-substitution through some frames, linear functions from there on",
    "linear": "linear bounds by back-substitution",
    "planes": "linear bounds from the tightest planes over polygons",
    "combine": "every bound from its own best mixture of planes, in rounds",
    "complete": "proofs by contradiction, and branch and bound",
    "lp": "linear programs of the whole network",
    "milp": "mixed-integer programs of the whole network",
}
ALIASES = {"ibp": "interval", "crown": "linear"}
"""Names that others use for some of them."""
WITHOUT_EVIDENCE = ("lbp", "crown-lbp", "window")
"""Those whose linear functions of the input evidence has no words for."""
BOUNDING = ("interval", "crown-ibp", "lbp", "crown-lbp", "window", "linear", "planes", "combine")
"""Those that bound outputs without any property."""
LINES = {
    "default": "those of the least mean distance, and others for rows that are worth a try of each",
    "tight": "never worse than constants anywhere on the interval",
    "adaptive": "of the least mean distance alone, as CROWN has them",
}
"""The strategies by which closed forms choose lines, and planes."""


def either(names: Iterable[str]) -> str:
    """Names in a sentence: a, b or c."""
    *some, last = names
    return f"{', '.join(some)} or {last}" if some else last
