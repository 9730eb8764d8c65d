"""A VNN-LIB file as cases: each a conjunction of linear constraints, exact; one of them is to be satisfied.

VNN-LIB 1.0 (Demarchi, Guidotti, Pulina, Tacchella 2023) is a part of SMT-LIB: real constants X_i and Y_j are declared, and
linear comparisons of them asserted, joined by `and` and `or`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from math import prod
from pathlib import Path

from tightverify.errors import InputError, UnsupportedError

MOST_CASES = 100_000
TOKEN = re.compile(r"[()]|[^\s()]+")
NAME = re.compile(r"[XY]_(0|[1-9]\d*)")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
WANTED = "wanted VNN-LIB 1.0: (declare-const X_0 Real), (assert (<= X_0 0.5)), ..."

Expression = str | list["Expression"]


@dataclass(frozen=True)
class Linear:
    """A sum of coefficients times variables, and a constant."""

    terms: dict[str, Fraction] = field(default_factory=dict)
    constant: Fraction = Fraction(0)

    def plus(self, other: Linear, factor: Fraction) -> Linear:
        terms = dict(self.terms)
        for name, coefficient in other.terms.items():
            terms[name] = terms.get(name, Fraction(0)) + factor * coefficient
        return Linear({name: c for name, c in terms.items() if c}, self.constant + factor * other.constant)

    def times(self, factor: Fraction) -> Linear:
        return Linear().plus(self, factor)


@dataclass(frozen=True)
class Constraint:
    """A linear expression that is to be 0 or less; if `strict`, less."""

    linear: Linear
    strict: bool = False

    @property
    def variables(self) -> str:
        """X, Y, both or neither: of which kind its variables are."""
        return "".join(sorted({name[0] for name in self.linear.terms}))


Case = tuple[Constraint, ...]


@dataclass(frozen=True)
class Formula:
    """How many inputs and outputs are declared, and the cases."""

    inputs: int
    outputs: int
    cases: tuple[Case, ...]


def read_formula(path: Path) -> Formula:
    """A file's formula; a name that ends in .gz is unpacked."""
    try:
        packed = path.read_bytes()
        text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; {WANTED}") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); {WANTED}") from error
    try:
        return formula_of(text)
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def formula_of(text: str) -> Formula:
    """The formula that a text states."""
    declared: dict[str, None] = {}
    cases: list[Case] = [()]
    for command in expressions(text):
        match command:
            case ["vnnlib-version", *_] | ["declare-network", *_]:
                raise UnsupportedError("a query of VNN-LIB 2.0; queries of 1.0 are read")
            case ["declare-const", str(name), "Real"] | ["declare-fun", str(name), [], "Real"]:
                if not NAME.fullmatch(name) or name in declared:
                    raise InputError(f"{name} is declared; wanted each of X_0, X_1, ..., Y_0, Y_1, ... once")
                declared[name] = None
            case ["assert", condition]:
                cases = both(cases, disjuncts(condition, declared))
            case [str(word), *_] if word in ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"):
                continue
            case _:
                raise InputError(f"{words_of(command)} is no command of VNN-LIB; {WANTED}")
    counts = [sum(name[0] == kind for name in declared) for kind in "XY"]
    for kind, count in zip("XY", counts, strict=True):
        missing = next((f"{kind}_{k}" for k in range(count) if f"{kind}_{k}" not in declared), None)
        if missing or not count:
            raise InputError(f"{missing or f'{kind}_0'} is not declared; {WANTED}")
    return Formula(counts[0], counts[1], tuple(cases))


def expressions(text: str) -> Iterator[Expression]:
    """What stands in parentheses, one command after the other; what follows a semicolon is a comment."""
    stack: list[list[Expression]] = []
    for token in TOKEN.findall(re.sub(r";[^\n]*", "", text)):
        if token == "(":
            stack.append([])
        elif token != ")":
            if not stack:
                raise InputError(f"{token} stands outside all parentheses; {WANTED}")
            stack[-1].append(token)
        elif not stack:
            raise InputError(f"a parenthesis is closed that was not opened; {WANTED}")
        else:
            done = stack.pop()
            if stack:
                stack[-1].append(done)
            else:
                yield done
    if stack:
        raise InputError(f"{len(stack)} parentheses are open at the end: the file may be cut short; {WANTED}")


def both(first: Sequence[Case], second: Sequence[Case]) -> list[Case]:
    """The cases in which one of each holds."""
    return list(joined((first, second)))


def joined(several: Sequence[Sequence[Case]]) -> Iterator[Case]:
    """One case of each, in all ways."""
    if prod(map(len, several)) > MOST_CASES:
        raise UnsupportedError(f"it comes to more than {MOST_CASES} cases; split it")
    return (sum(chosen, ()) for chosen in product(*several))


def disjuncts(condition: Expression, declared: dict[str, None]) -> list[Case]:
    """The cases in which a condition holds."""
    match condition:
        case ["and", *parts]:
            return list(joined([disjuncts(part, declared) for part in parts]))
        case ["or", *parts]:
            return [case for part in parts for case in disjuncts(part, declared)]
        case [("<=" | ">=" | "<" | ">" | "=") as sign, first, second]:
            difference = linear(first, declared).plus(linear(second, declared), Fraction(-1))
            signs = {"<=": (1,), "<": (1,), ">=": (-1,), ">": (-1,), "=": (1, -1)}[sign]
            return [tuple(Constraint(difference.times(Fraction(each)), sign in ("<", ">")) for each in signs)]
    raise UnsupportedError(f"{words_of(condition)} is not supported; comparisons of two sums, and, or are")


def linear(expression: Expression, declared: dict[str, None]) -> Linear:
    """A sum, difference, or product with numbers."""
    if isinstance(expression, str):
        if NUMBER.fullmatch(expression):
            return Linear(constant=Fraction(expression))
        if expression not in declared:
            raise InputError(f"{expression} is neither a number nor declared; {WANTED}")
        return Linear({expression: Fraction(1)})
    sign, parts = expression[0], [linear(part, declared) for part in expression[1:]]
    if sign == "+" and parts:
        return total(parts)
    if sign == "-" and parts:
        return parts[0].times(Fraction(-1)) if len(parts) == 1 else parts[0].plus(total(parts[1:]), Fraction(-1))
    if sign == "*" and parts and sum(bool(part.terms) for part in parts) <= 1:
        found = next((part for part in parts if part.terms), Linear(constant=Fraction(1)))
        return found.times(prod((part.constant for part in parts if not part.terms), start=Fraction(1)))
    raise UnsupportedError(f"{words_of(expression)} is not supported; sums, differences and products with numbers are")


def total(parts: Sequence[Linear]) -> Linear:
    found = Linear()
    for part in parts:
        found = found.plus(part, Fraction(1))
    return found


def words_of(expression: Expression) -> str:
    """An expression as it is written, not all of a long one."""
    text = expression if isinstance(expression, str) else f"({' '.join(map(words_of, expression[:5]))})"
    return text if len(text) <= 60 else f"{text[:57]}..."
