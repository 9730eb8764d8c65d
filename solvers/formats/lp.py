"""The LP format (CPLEX's), readable by people. Every number is written with all its digits.

All columns stand in the objective, so that their order is kept. A row with two bounds is written as two rows, since readers
differ on `low <= row <= high` (some misread it in silence); one without bounds is named `..._free` and is above the least
number that there is, since some readers take no infinity there.

Read are the objective, rows, bounds, general and binary columns; quadratic terms, semi-continuous columns, special ordered
sets and whatever else are refused by name. A row with two bounds stands on one line.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from solvers.errors import ProblemError
from solvers.formats.builder import CONSTANT, LOW, UP, ProblemBuilder
from solvers.problem import Problem

TERMS_PER_LINE = 8
LARGEST = sys.float_info.max
FREE = "_free"
Term = tuple[str, float]


def lines(problem: Problem) -> Iterator[str]:
    """The file, line by line."""
    columns = [f"x{j}" for j in range(problem.shape[1])]
    costs = list(zip(columns, problem.cost.tolist(), strict=True))
    with_constant = bool(problem.offset) or not columns
    if with_constant:
        costs.append((CONSTANT, problem.offset))
    yield "Minimize"
    yield from _expression("cost", costs)
    yield "Subject To"
    for i, (low, high) in enumerate(zip(problem.row_lower.tolist(), problem.row_upper.tolist(), strict=True)):
        part = slice(problem.rows.indptr[i], problem.rows.indptr[i + 1])
        terms = [(columns[j], float(v)) for j, v in zip(problem.rows.indices[part], problem.rows.data[part], strict=True)]
        yield from _row(f"r{i}", terms or [(costs[0][0], 0.0)], low, high)
    yield "Bounds"
    for name, low, high in zip(columns, problem.lower.tolist(), problem.upper.tolist(), strict=True):
        yield from _bounds(name, low, high)
    if with_constant:
        yield f" {CONSTANT} = 1.0"
    if problem.is_mixed_integer:
        yield "Generals"
        yield from (f" {name}" for name, whole in zip(columns, problem.integer, strict=True) if whole)
    yield "End"


def _expression(name: str, terms: list[Term], end: str = "") -> Iterator[str]:
    for k in range(0, len(terms), TERMS_PER_LINE):
        part = " ".join(f"{_signed(value)} {column}" for column, value in terms[k : k + TERMS_PER_LINE])
        yield f" {f'{name}: ' if k == 0 else ''}{part}{end if k + TERMS_PER_LINE >= len(terms) else ''}"


def _signed(value: float) -> str:
    return f"{'-' if math.copysign(1, value) < 0 else '+'} {abs(value)!r}"


def _row(name: str, terms: list[Term], low: float, high: float) -> Iterator[str]:
    if low == high:
        yield from _expression(name, terms, f" = {low!r}")
    elif low == -math.inf and high == math.inf:
        yield from _expression(name + FREE, terms, f" >= {-LARGEST!r}")
    elif high == math.inf:
        yield from _expression(name, terms, f" >= {low!r}")
    elif low == -math.inf:
        yield from _expression(name, terms, f" <= {high!r}")
    else:
        yield from _expression(name + LOW, terms, f" >= {low!r}")
        yield from _expression(name + UP, terms, f" <= {high!r}")


def _bounds(name: str, low: float, high: float) -> Iterator[str]:
    if low == high:
        yield f" {name} = {low!r}"
    elif low == -math.inf and high == math.inf:
        yield f" {name} free"
    elif high < math.inf:
        yield f" {low!r} <= {name} <= {high!r}"
    elif low != 0:
        yield f" {name} >= {low!r}"


TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<compare><=|=<|>=|=>|<|>|=)"
    r"|(?P<mark>[-+:\[\]^*/])"
    r"|(?P<name>[^\s\d<>=\-+:\[\]^*/.][^\s<>=\-+:\[\]^*/]*)"
    r"|(?P<other>\S)"
)
HEADING = re.compile(
    r"\s*(?:(?P<min>minimi[sz]e|minimum|min)|(?P<max>maximi[sz]e|maximum|max)"
    r"|(?P<rows>subject\s+to|such\s+that|st|s\.t\.|st\.)|(?P<bounds>bounds?)|(?P<general>generals?|gen|integers?|int)"
    r"|(?P<binary>binary|binaries|bin)|(?P<end>end)"
    r"|(?P<refused>semi-continuous|semis?|sos[12]?|sec|pwlobj|lazy\s+constraints|user\s+cuts|general\s+constraints|multi-.*))"
    r"(?=\s|$)(?!\s*:)(?!\s*[<>=])",
    re.IGNORECASE,
)
INFINITIES = ("inf", "infinity")
MIRROR = {"<": ">", ">": "<", "=": "="}
KINDS = {"name": "name", "compare": "<=, >= or ="}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(source: Iterable[str]) -> Problem:
    """The problem of a file's lines."""
    builder = ProblemBuilder()
    parts: list[tuple[str, list[_Token]]] = []
    for number, raw in enumerate(source, 1):
        line = raw.split("\\")[0].rstrip()
        heading = HEADING.match(line)
        if heading is not None and heading.lastgroup is not None:
            section = heading.lastgroup
            line = line[heading.end() :]
            if section == "refused":
                raise ProblemError(f"line {number}: section {heading[0].strip()!r} is not read")
            parts.append((section, []))
            if section == "end":
                break
        found = [_Token(str(match.lastgroup), match[0], number) for match in TOKEN.finditer(line)]
        if found and not parts:
            raise ProblemError(f"line {number}: {line.strip()[:40]!r} stands before Minimize or Maximize; this is no LP file")
        if found:
            parts[-1][1].extend(found)
    if not parts or parts[-1][0] != "end":
        raise ProblemError("it ends without End: it was cut short, or is no LP file")
    if parts[0][0] not in ("min", "max"):
        raise ProblemError("it does not begin with Minimize or Maximize")
    for section, tokens in parts:
        _Section(builder, tokens).read(section)
    return builder.problem()


class _Section:
    """The tokens of one section, read from left to right."""

    def __init__(self, builder: ProblemBuilder, tokens: list[_Token]) -> None:
        self.builder = builder
        self.tokens = tokens
        self.at = 0

    def read(self, section: str) -> None:
        if section in ("min", "max"):
            self._objective(section == "max")
        while self.at < len(self.tokens):
            if section == "rows":
                self._row()
            elif section == "bounds":
                self._bound()
            else:
                self._whole(section == "binary")

    def _objective(self, maximise: bool) -> None:
        self.builder.maximise = maximise
        if not self.tokens:
            return
        self._label()
        terms, constant = self._sum()
        for name, value in _together(terms).items():
            self.builder.cost[self.builder.column(name)] = value
        self.builder.offset = constant
        if self.at < len(self.tokens):
            self._fail("wanted the end of the objective")

    def _row(self) -> None:
        line = self._peek().line
        name = self._label() or f"row {len(self.builder.rows)}"
        begins = self.at
        terms, constant = self._sum()
        if self.at == begins:
            self._fail("wanted a row")
        compare = self._compare()
        if terms:
            low, high = _sides(compare, self._number() - constant)
        else:
            low, high = _sides(MIRROR[compare], constant)
            terms, moved = self._sum(line)
            if moved or not terms:
                self._fail("a row that begins with a number stands on one line, as in 1 <= 2 x + y <= 3")
            if self._on(line):
                below, above = _sides(self._compare(), self._number())
                low, high = max(low, below), min(high, above)
        self._end_line()
        if name.endswith(FREE) and low == -LARGEST:
            low = -math.inf
        row = self.builder.row(name, low, high)
        for column, value in _together(terms).items():
            self.builder.enter(row, self.builder.column(column), value)

    def _bound(self) -> None:
        line = self._peek().line
        if self._at_number():
            first = self._number()
            compare = MIRROR[self._compare()]
            column = self.builder.column(self._take("name").text)
            self._set(column, compare, first)
            if not self._on(line):
                return
        else:
            column = self.builder.column(self._take("name").text)
        if self._on(line) and self._peek().text.lower() == "free":
            self.at += 1
            self._set(column, ">", -math.inf)
            self._set(column, "<", math.inf)
        else:
            self._set(column, self._compare(), self._number())
        self._end_line()

    def _set(self, column: int, compare: str, value: float) -> None:
        if compare in ">=":
            self.builder.lower[column] = value
        if compare in "<=":
            self.builder.upper[column] = value

    def _whole(self, binary: bool) -> None:
        column = self.builder.column(self._take("name").text)
        self.builder.integer[column] = True
        if binary:
            self.builder.lower[column], self.builder.upper[column] = 0.0, 1.0

    def _label(self) -> str | None:
        """A name and its colon, if they come next."""
        ahead = self.tokens[self.at : self.at + 2]
        if [token.text for token in ahead[1:]] != [":"]:
            return None
        name = self._take("name").text
        self.at += 1
        return name

    def _sum(self, line: int | None = None) -> tuple[list[Term], float]:
        """Signs, numbers and names up to anything else, or to the end of a line: the terms, and the sum of plain numbers."""
        terms: list[Term] = []
        constant = 0.0
        first = True
        while (
            self.at < len(self.tokens) and line in (None, self._peek().line) and self._peek().kind in ("mark", "number", "name")
        ):
            if self._label_follows():
                break
            sign, signed = self._signs()
            if not (signed or first):
                self._fail("wanted + or - between two terms")
            first = False
            value = self._plain() if self._at_number() else None
            if self.at < len(self.tokens) and self._peek().kind == "name" and not self._label_follows():
                terms.append((self._take("name").text, sign * (1.0 if value is None else value)))
            elif value is None:
                self._fail("wanted a number or a name")
            else:
                constant += sign * value
        return terms, constant

    def _label_follows(self) -> bool:
        return self.tokens[self.at].kind == "name" and [t.text for t in self.tokens[self.at + 1 : self.at + 2]] == [":"]

    def _signs(self) -> tuple[float, bool]:
        sign, signed = 1.0, False
        while self.at < len(self.tokens) and self._peek().text in ("+", "-"):
            sign, signed = -sign if self._peek().text == "-" else sign, True
            self.at += 1
        return sign, signed

    def _at_number(self) -> bool:
        token = self._peek()
        return token.kind == "number" or token.text in ("+", "-") or token.text.lower() in INFINITIES

    def _plain(self) -> float:
        text = self._peek().text
        if not self._at_number() or text in ("+", "-"):
            self._fail("wanted a number")
        self.at += 1
        return math.inf if text.lower() in INFINITIES else float(text)

    def _number(self) -> float:
        sign, _ = self._signs()
        return sign * self._plain()

    def _compare(self) -> str:
        text = self._take("compare").text
        return "=" if text == "=" else text.replace("=", "")

    def _on(self, line: int) -> bool:
        """Whether the line goes on."""
        return self.at < len(self.tokens) and self.tokens[self.at].line == line

    def _end_line(self) -> None:
        if self._on(self.tokens[self.at - 1].line):
            self._fail("wanted a new line; on the right stands one number")

    def _peek(self) -> _Token:
        if self.at >= len(self.tokens):
            last = self.tokens[-1]
            raise ProblemError(f"line {last.line}: after {last.text[:40]!r} something is missing")
        return self.tokens[self.at]

    def _take(self, kind: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            self._fail(f"wanted a {KINDS[kind]}")
        self.at += 1
        return token

    def _fail(self, wanted: str) -> NoReturn:
        token = self._peek()
        if token.text in ("[", "]", "^", "*", "/"):
            wanted = "products and quadratic terms are not read"
        raise ProblemError(f"line {token.line}: at {token.text[:40]!r}: {wanted}")


def _sides(compare: str, value: float) -> tuple[float, float]:
    """The bounds that `row compare value` sets."""
    return (value if compare in ">=" else -math.inf), (value if compare in "<=" else math.inf)


def _together(terms: list[Term]) -> dict[str, float]:
    """Coefficients by name, in the order in which the names appear."""
    sums: dict[str, float] = {}
    for name, value in terms:
        sums[name] = sums[name] + value if name in sums else value
    return sums
