"""What everything is drawn with: one table from names to a colour, a marker and a kind of line.

A method, the stage that it is named after, a kind of planes and a verdict look the same in every picture. Colours are those of
Okabe and Ito ("Color Universal Design", 2008), with four of Tol's muted ones, which people who are colour-blind tell apart;
markers and lines differ where two colours are alike in grey. What has no name here (a model) takes the next entry of a cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BLACK, GREY = "#000000", "#7F7F7F"
BLUE, SKY, GREEN, OCHRE, VERMILLION, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
WINE, OLIVE, INDIGO, TEAL = "#882255", "#999933", "#332288", "#44AA99"


@dataclass(frozen=True)
class Look:
    """How one thing is drawn."""

    colour: str
    marker: str = "o"
    line: str | tuple[float, tuple[float, ...]] = "-"


DASHED, SHORT, LONG = (0.0, (4.0, 1.5)), (0.0, (2.0, 1.0)), (0.0, (7.0, 1.5))
DOTTED, DASH_DOT, TWO_DOTS = (0.0, (1.0, 1.2)), (0.0, (5.0, 1.5, 1.0, 1.5)), (0.0, (5.0, 1.2, 1.0, 1.2, 1.0, 1.2))

LOOKS: dict[str, Look] = {
    # methods and stages
    "interval": Look(GREY, "v", DOTTED),
    "linear": Look(BLUE, "o", "-"),
    "crown-ibp": Look(SKY, "<", SHORT),
    "lbp": Look(OLIVE, ">", DASHED),
    "crown-lbp": Look(INDIGO, "p", DASH_DOT),
    "window": Look(BLACK, "H", LONG),
    "attack": Look(BLACK, "x", DOTTED),
    "planes_boxes": Look(SKY, "s", SHORT),
    "planes": Look(GREEN, "^", DASHED),
    "combine": Look(OCHRE, "D", LONG),
    "complete": Look(VERMILLION, "P", DASH_DOT),
    "branch": Look(VERMILLION, "P", DASH_DOT),
    "lp": Look(PURPLE, "X", TWO_DOTS),
    "milp": Look(WINE, "d", DASH_DOT),
    "pieces": Look(OLIVE, "h", SHORT),
    # kinds of planes: those of a method look as it does
    "closed": Look(BLUE, "o", "-"),
    "tightest": Look(GREEN, "^", DASHED),
    "constant": Look(GREY, "v", DOTTED),
    "mccormick": Look(OCHRE, "D", LONG),
    "r2": Look(VERMILLION, "P", DASH_DOT),
    "tangent": Look(SKY, "s", SHORT),
    "corners": Look(PURPLE, "X", TWO_DOTS),
    "edges": Look(WINE, "d", DASH_DOT),
    "triangles": Look(OLIVE, "<", SHORT),
    "ring": Look(INDIGO, ">", LONG),
    "envelope": Look(BLACK, "*", "-"),
    # verdicts
    "ROBUST": Look(GREEN, "o", "-"),
    "COUNTEREXAMPLE": Look(VERMILLION, "x", DASHED),
    "UNKNOWN": Look(OCHRE, "s", DASH_DOT),
    "TIMED_OUT": Look(SKY, "d", LONG),
    "MISCLASSIFIED": Look(GREY, "v", DOTTED),
    # the two sides of a function
    "below": Look(BLUE, "v", "-"),
    "above": Look(VERMILLION, "^", "-"),
}

CYCLE = (
    Look(BLUE, "o", "-"),
    Look(VERMILLION, "s", DASHED),
    Look(GREEN, "^", DASH_DOT),
    Look(PURPLE, "D", LONG),
    Look(BLACK, "v", DOTTED),
    Look(SKY, "P", SHORT),
    Look(OCHRE, "X", TWO_DOTS),
    Look(INDIGO, "<", "-"),
    Look(OLIVE, ">", DASHED),
    Look(WINE, "h", DASH_DOT),
    Look(TEAL, "d", LONG),
)


def numbered(number: int) -> Look:
    """What the thing of a number is drawn with, where things have no looks of their own."""
    return CYCLE[number % len(CYCLE)]


def looks(names: Sequence[str]) -> dict[str, Look]:
    """What each name is drawn with: the table's, or one of the cycle that no other of these has the colour of."""
    found = {name: LOOKS[name] for name in names if name in LOOKS}
    taken = {look.colour for look in found.values()}
    free = [look for look in CYCLE if look.colour not in taken] or list(CYCLE)
    for number, name in enumerate(name for name in dict.fromkeys(names) if name not in LOOKS):
        found[name] = free[number % len(free)]
    return {name: found[name] for name in names}
