"""MPS, the free format: names and numbers parted by blanks. Every number is written with all its digits.

A row with two bounds is an entry of RANGES where `rhs + range` is exactly its other bound, two rows where none is.
A row without bounds is a further N row. Bounds are written out where readers differ: an integer column without an upper
bound gets PL, a column without a lower one MI. The word FREE after the name makes CBC read it as free.

Read are NAME, OBJSENSE, ROWS, COLUMNS with MARKER lines, RHS, RANGES, BOUNDS and ENDATA, also in the fixed format if no
name holds a blank; anything else is refused by name. As in HiGHS, an integer column without any bound is 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from solvers.errors import ProblemError
from solvers.formats.builder import CONSTANT, LOW, UP, ProblemBuilder
from solvers.problem import Problem

SECTIONS = ("NAME", "OBJSENSE", "ROWS", "COLUMNS", "RHS", "RANGES", "BOUNDS", "ENDATA")
WITHOUT_VALUE = ("FR", "MI", "PL", "BV")


def lines(problem: Problem) -> Iterator[str]:
    """The file, line by line."""
    rows = [_row(f"r{i}", *pair) for i, pair in enumerate(zip(problem.row_lower, problem.row_upper, strict=True))]
    yield "NAME problem FREE"
    yield "ROWS"
    yield " N cost"
    yield from (f" {kind} {name}" for parts in rows for kind, name, _, _ in parts)
    yield "COLUMNS"
    yield from _columns(problem, [[name for _, name, _, _ in parts] for parts in rows])
    yield "RHS"
    yield from (f" RHS {name} {side!r}" for parts in rows for _, name, side, _ in parts if side)
    yield "RANGES"
    yield from (f" RNG {name} {width!r}" for parts in rows for _, name, _, width in parts if width is not None)
    yield "BOUNDS"
    yield from _bounds(problem)
    yield "ENDATA"


def _row(name: str, low: float, high: float) -> list[tuple[str, str, float, float | None]]:
    """(kind, name, right-hand side, range) of the one or two rows that say a row."""
    low, high = float(low), float(high)
    if low == high:
        return [("E", name, low, None)]
    if low == -math.inf:
        return [("N", name, 0.0, None)] if high == math.inf else [("L", name, high, None)]
    if high == math.inf:
        return [("G", name, low, None)]
    width = high - low
    if width < math.inf and low + width == high:
        return [("G", name, low, width)]
    if width < math.inf and high - width == low:
        return [("L", name, high, width)]
    return [("G", name + LOW, low, None), ("L", name + UP, high, None)]


def _columns(problem: Problem, names: list[list[str]]) -> Iterator[str]:
    columns = problem.rows.tocsc()
    whole = False
    for j, cost in enumerate(problem.cost):
        if problem.integer[j] != whole:
            whole = not whole
            yield f" M{j} 'MARKER' {_marker(whole)}"
        yield f" x{j} cost {float(cost)!r}"
        part = slice(columns.indptr[j], columns.indptr[j + 1])
        for i, value in zip(columns.indices[part], columns.data[part], strict=True):
            yield from (f" x{j} {name} {float(value)!r}" for name in names[i])
    if whole:
        yield f" M{len(problem.cost)} 'MARKER' {_marker(False)}"
    if problem.offset:
        yield f" {CONSTANT} cost {problem.offset!r}"


def _marker(whole: bool) -> str:
    return "'INTORG'" if whole else "'INTEND'"


def _bounds(problem: Problem) -> Iterator[str]:
    for j, (low, high, whole) in enumerate(zip(problem.lower.tolist(), problem.upper.tolist(), problem.integer, strict=True)):
        if low == high:
            yield f" FX BND x{j} {low!r}"
        elif low == -math.inf and high == math.inf:
            yield f" FR BND x{j}"
        else:
            if low == -math.inf:
                yield f" MI BND x{j}"
            elif low != 0:
                yield f" LO BND x{j} {low!r}"
            if high < math.inf:
                yield f" UP BND x{j} {high!r}"
            elif whole:
                yield f" PL BND x{j}"
    if problem.offset:
        yield f" FX BND {CONSTANT} 1.0"


def parse(source: Iterable[str]) -> Problem:
    """The problem of a file's lines."""
    reader = _Reader()
    for number, line in enumerate(source, 1):
        fields = line.split()
        if not fields or line.startswith("*"):
            continue
        try:
            if not line[0].isspace():
                reader.begin(fields)
            else:
                reader.entry(fields)
        except ProblemError as error:
            raise ProblemError(f"line {number}: {error}") from error
        if reader.section == "ENDATA":
            return reader.problem()
    raise ProblemError("it ends without ENDATA: it was cut short, or is no MPS file")


class _Reader:
    """Entries of the sections, one after the other."""

    def __init__(self) -> None:
        self.builder = ProblemBuilder()
        self.section = ""
        self.rows: dict[str, int] = {}
        self.kinds: list[str] = []
        self.objective: str | None = None
        self.whole = False
        self.bounded: set[int] = set()
        self.lowered: set[int] = set()
        self.sides: dict[int, float] = {}
        self.ranges: dict[int, float] = {}

    def begin(self, fields: list[str]) -> None:
        if fields[0] not in SECTIONS:
            raise ProblemError(f"section {fields[0][:40]!r} is none of {', '.join(SECTIONS)}, all that is read")
        self.section = fields[0]
        if self.section == "OBJSENSE" and len(fields) > 1:
            self.entry(fields[1:])

    def entry(self, fields: list[str]) -> None:
        if self.section in ("COLUMNS", "RHS", "RANGES"):
            self._pairs(fields)
        elif self.section == "BOUNDS":
            self._bound(fields)
        elif self.section == "ROWS":
            self._row(fields)
        elif self.section == "OBJSENSE":
            word = fields[0].upper()
            if word not in ("MIN", "MAX", "MINIMIZE", "MAXIMIZE", "MINIMISE", "MAXIMISE"):
                raise ProblemError(f"the sense of the objective is {fields[0]!r}; wanted MIN or MAX")
            self.builder.maximise = word.startswith("MAX")
        else:
            raise ProblemError(f"an entry in section {self.section or 'none'}, which holds none")

    def _row(self, fields: list[str]) -> None:
        if len(fields) != 2 or fields[0] not in ("N", "L", "G", "E"):
            raise ProblemError(f"{' '.join(fields)!r} is no row; wanted N, L, G or E, and a name without blanks")
        kind, name = fields
        if name == self.objective or name in self.rows:
            raise ProblemError(f"row {name!r} is declared twice")
        if kind == "N" and self.objective is None:
            self.objective = name
            return
        self.rows[name] = self.builder.row(name, -math.inf, math.inf)
        self.kinds.append(kind)

    def _pairs(self, fields: list[str]) -> None:
        if "'MARKER'" in fields:
            self.whole = fields[-1] == "'INTORG'"
            if fields[-1] not in ("'INTORG'", "'INTEND'"):
                raise ProblemError(f"marker {fields[-1]} is neither 'INTORG' nor 'INTEND'; special ordered sets are not read")
            return
        named = len(fields) % 2 == 1
        if len(fields) < 2 + named or (self.section == "COLUMNS" and not named):
            raise ProblemError(f"{' '.join(fields)!r} is no name with pairs of row and number")
        for row, text in zip(fields[named::2], fields[named + 1 :: 2], strict=True):
            self._pair(fields[0], row, _number(text))

    def _pair(self, name: str, row: str, value: float) -> None:
        if row != self.objective and row not in self.rows:
            raise ProblemError(f"row {row!r} is not among the ROWS")
        if self.section == "COLUMNS":
            column = self.builder.column(name, self.whole)
            if row == self.objective:
                self.builder.cost[column] = value
            else:
                self.builder.enter(self.rows[row], column, value)
        elif row != self.objective:
            (self.sides if self.section == "RHS" else self.ranges)[self.rows[row]] = value
        elif self.section == "RHS":
            self.builder.offset = -value

    def _bound(self, fields: list[str]) -> None:
        kind = fields[0]
        wanted = 2 if kind in WITHOUT_VALUE else 3
        if kind not in (*WITHOUT_VALUE, "LO", "UP", "FX", "LI", "UI"):
            raise ProblemError(f"bounds of type {kind!r} are not read (SC is for semi-continuous columns)")
        if not wanted <= len(fields) <= wanted + 1 + (wanted == 2):
            raise ProblemError(f"{' '.join(fields)!r} is no bound; wanted type, set, column and number")
        if wanted == 2:
            column = self.builder.known(fields[2] if len(fields) > 2 else fields[1])
            value = 0.0
        else:
            column = self.builder.known(fields[-2])
            value = _number(fields[-1])
        builder = self.builder
        self.bounded.add(column)
        if kind not in ("UP", "UI", "PL"):
            self.lowered.add(column)
        if kind in ("LI", "UI", "BV"):
            builder.integer[column] = True
        if kind in ("LO", "LI", "FX", "BV"):
            builder.lower[column] = value
        if kind in ("UP", "UI", "FX", "BV"):
            builder.upper[column] = 1.0 if kind == "BV" else value
        if kind in ("MI", "FR"):
            builder.lower[column] = -math.inf
        if kind in ("PL", "FR"):
            builder.upper[column] = math.inf

    def problem(self) -> Problem:
        if self.objective is None:
            raise ProblemError("it has no N row, and so no objective")
        builder = self.builder
        for row, kind in enumerate(self.kinds):
            side, width = self.sides.get(row, 0.0), self.ranges.get(row)
            if kind == "N":
                continue
            builder.row_lower[row] = side if kind in "GE" else -math.inf
            builder.row_upper[row] = side if kind in "LE" else math.inf
            if width is not None and (kind == "G" or (kind == "E" and width >= 0)):
                builder.row_upper[row] = side + abs(width)
            elif width is not None:
                builder.row_lower[row] = side - abs(width)
        for name, column in builder.columns.items():
            if builder.integer[column] and column not in self.bounded:
                builder.upper[column] = 1.0
            if builder.upper[column] < 0 and column not in self.lowered:
                raise ProblemError(
                    f"column {name!r} has an upper bound below 0 and no lower one, which some read as 0 and some as none; "
                    "add an MI or LO line"
                )
        return builder.problem()


def _number(text: str) -> float:
    try:
        return float(text.replace("D", "e").replace("d", "e"))
    except ValueError:
        raise ProblemError(f"{text[:40]!r} is no number") from None
