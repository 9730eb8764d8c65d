"""Everything that a run can be told, as one frozen record: each setting with its default, what it is for, and its check.

The command line's options and the keywords of `certify` and its like are made from these fields: to add an option, add a field
(and its type to the `Options` below, by which keywords are typed).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

from tightverify.errors import UnknownOptionError, UsageError
from tightverify.former import OPTIONS as FORMER
from tightverify.former import rename
from tightverify.methods import ALIASES, LINES, SENTENCES, WITHOUT_EVIDENCE, either
from tightverify.option import Group, Range, option, option_of

T = TypeVar("T")

MOST_DIRECTIONS = 16
MOST_ROUNDS = 3
WINDOW = 4
"""Frames that the method `window` goes back through if nothing else is said."""
COUNT, POSITIVE = Range(0), Range(1)


def refuse_unknown(options: Mapping[str, object], names: list[str]) -> None:
    """Say that there is no setting of a name, and which was meant."""
    for name in options:
        if name not in names:
            import difflib  # only what is used: it starts slowly

            near = difflib.get_close_matches(name, names, 1)
            meant = f"did you mean {near[0]}?" if near else f"choose of {', '.join(names)}"
            raise UnknownOptionError(f"there is no option {name!r}; {meant}")


def well_named(cls: type[T]) -> type[T]:
    """The class, whose keywords may be former names, and whose unknown ones are refused by the nearest that there is."""
    plain: Callable[..., None] = cls.__init__

    @wraps(plain)
    def init(self: T, *given: Any, **named: Any) -> None:
        rename(named, FORMER, cls.__name__)
        refuse_unknown(named, [each.name for each in fields(cast(Any, cls))])
        plain(self, *given, **named)

    type.__setattr__(cls, "__init__", init)
    return cls


@well_named
@dataclass(frozen=True, repr=False)
class Settings:
    """How to run: nothing here changes what a verdict means, only how long one looks for it.

    Each field is a keyword of `certify`, `stream`, `certify_clips` and `segments` too, and an option of the command line.
    """

    method: str = field(default="linear", metadata=option(Group.METHOD, f"How to bound: {either(SENTENCES)}."))
    time_limit: float = field(
        default=math.inf,
        metadata=option(Group.LIMITS, "Seconds per input; no limit if not given.", Range(0, above=True)),
    )
    device: str = field(default="cpu", metadata=option(Group.COMPUTING, "Where to compute.", offered=("cpu", "cuda")))
    seed: int = field(default=0, metadata=option(Group.SEARCH, "Seed of the search's random starts.", Range(0, 2**63 - 1)))
    restarts: int = field(default=4, metadata=option(Group.SEARCH, "Starts of the search; 0 for none.", COUNT))
    attack_steps: int = field(
        default=40, metadata=option(Group.SEARCH, "Steps of the search from each start.", COUNT, python_only=True)
    )
    memory: int = field(
        default=2**24,
        metadata=option(
            Group.COMPUTING,
            "Bytes of the largest temporary of a bound's computation; inputs are cut into parts that keep to it.",
            POSITIVE,
            python_only=True,
        ),
    )
    directions: int | None = field(
        default=None,
        metadata=option(
            Group.PLANES,
            f"How many sums of a gate's operands to bound too: even, 0 to {MOST_DIRECTIONS}; by method.",
            Range(0, MOST_DIRECTIONS, even=True),
        ),
    )
    solver: str = field(default="batched", metadata=option(Group.PLANES, "What fits planes: batched, highs, gurobi, ..."))
    thorough: bool = field(
        default=False,
        metadata=option(Group.METHOD, "Send decided inputs on through all stages, for bounds rather than verdicts."),
    )
    window: int | None = field(
        default=None,
        metadata=option(
            Group.METHOD,
            f"Frames, or operations in a row, that neurons' rows go back through: {WINDOW} in window, else all if not given.",
            COUNT,
        ),
    )
    lines: str = field(
        default="default",
        metadata=option(
            Group.METHOD, "Which lines bound functions in crown-ibp, lbp, crown-lbp, window and linear.", offered=tuple(LINES)
        ),
    )
    rounds: int = field(default=2, metadata=option(Group.COMBINE, "Rounds of combine, at most.", Range(1, MOST_ROUNDS)))
    without_pairs: bool = field(
        default=False,
        metadata=option(
            Group.COMBINE, "Take no neurons of one operand two and two: as with --evidence, which has no place for it."
        ),
    )
    splits: int = field(default=1000, metadata=option(Group.COMPLETE, "Splits of a region by complete, at most.", COUNT))
    leaf_memory: int = field(
        default=2**30,
        metadata=option(
            Group.COMPLETE,
            "About how many bytes open parts of a region may take, before those are split first that hardly grow in number.",
            POSITIVE,
            python_only=True,
        ),
    )
    trees: Path | None = field(
        default=None,
        metadata=option(Group.COMPLETE, "Folder in which complete keeps its search trees, and goes on from them."),
    )
    lp_solver: str = field(default="highs", metadata=option(Group.PROGRAMS, "What solves the programs of lp and milp."))
    obbt: int = field(
        default=0,
        metadata=option(Group.PROGRAMS, "Neurons that lp bounds by programs of their own, for a row that is open.", COUNT),
    )
    processes: int = field(
        default=1, metadata=option(Group.PROGRAMS, "Processes over which lp spreads the programs of --obbt.", POSITIVE)
    )
    dump: Path | None = field(
        default=None, metadata=option(Group.PROGRAMS, "Folder for the programs of lp and milp, as MPS files.")
    )
    evidence: Path | None = field(
        default=None,
        metadata=option(
            Group.EVIDENCE, "Folder for all that led to each input's verdict, a file for each; inputs are worked on one by one."
        ),
    )
    batch: int = field(default=100, metadata=option(Group.COMPUTING, "Inputs worked on together.", POSITIVE))

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", ALIASES.get(self.method, self.method))
        if self.evidence is not None and self.method in WITHOUT_EVIDENCE:
            raise UsageError(
                f"evidence has no words for the bounds of the method {self.method}; choose linear or another, or leave it out"
            )
        if self.evidence is not None and self.window is not None:
            raise UsageError("evidence has no words for rows that stop at a window; leave out one of the two")
        if self.lines not in LINES:
            raise UsageError(f"the lines {self.lines!r} do not exist; choose {either(LINES)}")
        for name in ("trees", "dump", "evidence"):
            if isinstance(folder := getattr(self, name), str):
                object.__setattr__(self, name, Path(folder))
        for each in fields(self):
            option_of(each).check(each.name, getattr(self, each.name), each.default)

    def __repr__(self) -> str:
        """What differs from the defaults."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = [f"{each.name}={told[each.name]!r}" for each in fields(self) if told[each.name] != each.default]
        return f"Settings({', '.join(changed)})"

    @property
    def stopping(self) -> int | None:
        """After how many frames rows stop at stored functions of the input, if they do."""
        stopping = {"lbp": 0, "crown-lbp": 0, "window": WINDOW if self.window is None else self.window}
        return stopping.get(self.method, self.window)

    @property
    def folders(self) -> dict[str, Path | None]:
        """Those whose files would be of no use if two runs had a part in them."""
        return {"evidence": self.evidence, "trees": self.trees, "programs": self.dump}


SEARCH = tuple(each.name for each in fields(Settings) if option_of(each).group is Group.SEARCH)
"""The settings of the search for counterexamples."""
KEPT = ("trees", "dump", "evidence")
"""The settings for what is kept of single questions."""


class ComputingOptions(TypedDict, total=False):
    """What steers any computation of bounds, as keywords."""

    device: str
    memory: int
    batch: int


class FittingOptions(ComputingOptions, total=False):
    """What steers bounds from fitted planes too."""

    directions: int | None
    solver: str


class BoundsOptions(FittingOptions, total=False):
    """What steers bounds of outputs without any property, as keywords."""

    window: int | None
    lines: str


class Options(BoundsOptions, total=False):
    """All settings, as keywords; folders may be given as strings."""

    method: str
    time_limit: float
    seed: int
    restarts: int
    attack_steps: int
    thorough: bool
    rounds: int
    without_pairs: bool
    splits: int
    leaf_memory: int
    trees: str | Path | None
    lp_solver: str
    obbt: int
    processes: int
    dump: str | Path | None
    evidence: str | Path | None


OF_BOUNDS = tuple(name for name in Options.__annotations__ if name not in {*SEARCH, *KEPT, "method", "thorough", "time_limit"})
"""The settings that count where bounds of several methods are compared, not verdicts."""
PROOFS = Settings(restarts=0)
"""The settings where a proof is all that is wanted: no counterexample is looked for."""


def merged(settings: Settings | None, options: Mapping[str, object], default: Settings | None = None) -> Settings:
    """The settings given (else the default ones), changed by the keywords given."""
    if settings is not None and not isinstance(settings, Settings):
        what = type(settings).__name__
        raise UsageError(f"settings is a {what}; wanted Settings(method=..., ...), or each setting as a keyword of its own")
    return replace(settings or default or Settings(), **cast(dict[str, Any], options))


def refuse_others(options: Mapping[str, object], taken: Collection[str], of: str) -> None:
    """Say that a setting has no effect on something that takes fewer."""
    refuse_unknown(options, list(Options.__annotations__))
    for name in options:
        if name not in taken:
            raise UsageError(f"{name} has no effect on {of}; leave it out, or give {either(taken)}")
