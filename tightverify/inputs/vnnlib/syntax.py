"""A VNN-LIB file as cases: each a conjunction of constraints, exact; one of them is to be satisfied.

VNN-LIB 1.0 (Demarchi, Guidotti, Pulina, Tacchella 2023) is a part of SMT-LIB: real constants X_i and Y_j are declared, and
comparisons of them asserted, joined by `and` and `or`. Version 2.0 (see `networks`) declares networks with tensors, whose
numbers stand for X_i and Y_j here. Products of variables are variables of their own, such as X_0*Y_1.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from itertools import chain, product
from math import prod
from pathlib import Path

from tightverify.errors import InputError, UnsupportedError

MOST_CASES = 100_000
TOKEN = re.compile(r'[()]|"[^"]*"|\[[^\]]*\]|[^\s()\[\]"]+')
NAME = re.compile(r"[XY]_(0|[1-9]\d*)")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
TIMES = "*"
"""What joins the variables of a product to a name."""
MOST_FACTORS, MOST_TERMS = 8, 10_000
WANTED = "wanted VNN-LIB: (declare-const X_0 Real), (assert (<= X_0 0.5)), ... of 1.0, or (declare-network ...) of 2.0"

Expression = str | list["Expression"]


@dataclass(frozen=True)
class Linear:
    """A sum of coefficients times variables, or products of them, and a constant."""

    terms: dict[str, Fraction] = field(default_factory=dict)
    constant: Fraction = Fraction(0)

    def plus(self, other: Linear, factor: Fraction) -> Linear:
        terms = dict(self.terms)
        for name, coefficient in other.terms.items():
            terms[name] = terms.get(name, Fraction(0)) + factor * coefficient
        return Linear({name: c for name, c in terms.items() if c}, self.constant + factor * other.constant)

    def times(self, factor: Fraction) -> Linear:
        return Linear().plus(self, factor)

    def multiplied(self, other: Linear) -> Linear:
        """The product of both."""
        found = self.times(other.constant).plus(Linear(other.terms), self.constant)
        if len(self.terms) * len(other.terms) > MOST_TERMS:
            raise UnsupportedError(f"a product of sums comes to more than {MOST_TERMS} terms; write fewer")
        for first, second in product(self.terms, other.terms):
            factors = sorted(factors_of(first) + factors_of(second))
            if len(factors) > MOST_FACTORS:
                raise UnsupportedError(f"a product has more than {MOST_FACTORS} variables; write fewer")
            found = found.plus(Linear({TIMES.join(factors): self.terms[first] * other.terms[second]}), Fraction(1))
        return found


@dataclass(frozen=True)
class Constraint:
    """An expression that is to be 0 or less; if `strict`, less."""

    linear: Linear
    strict: bool = False

    @property
    def of_inputs(self) -> bool:
        """Whether it is about inputs alone, without products."""
        terms = self.linear.terms
        return bool(terms) and all(name[0] == "X" and TIMES not in name for name in terms)

    @property
    def bounds_one(self) -> bool:
        """Whether it bounds a single input."""
        return len(self.linear.terms) == 1 and self.of_inputs


Case = tuple[Constraint, ...]


@dataclass(frozen=True)
class Formula:
    """How many inputs and outputs are declared, the cases, and how inputs are called if not X_i."""

    inputs: int
    outputs: int
    cases: tuple[Case, ...]
    called: tuple[str, ...] = ()


def read_formula(path: Path) -> Formula:
    """A file's formula; a name that ends in .gz is unpacked."""
    with named(path):
        return formula_of(text_of(path))


def text_of(path: Path) -> str:
    """What a file says, unpacked if its name ends in .gz."""
    try:
        packed = path.read_bytes()
        return (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; wanted a query of VNN-LIB") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); wanted a query of VNN-LIB") from error


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What is wrong with a query is said with its file."""
    try:
        yield
    except (UnsupportedError, InputError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def formula_of(text: str) -> Formula:
    """The formula that a text states."""
    declared: dict[str, str] = {}
    asserted: list[list[Case]] = []
    for command in expressions(text):
        match command:
            case ["vnnlib-version", *_] | ["declare-network", *_]:
                raise UnsupportedError("a query of VNN-LIB 2.0: tightverify verify QUERY --network NAME=MODEL.onnx answers it")
            case ["declare-const", str(name), "Real"] | ["declare-fun", str(name), [], "Real"]:
                if not NAME.fullmatch(name) or name in declared:
                    raise InputError(f"{name} is declared; wanted each of X_0, X_1, ..., Y_0, Y_1, ... once")
                declared[name] = name
            case ["assert", condition]:
                asserted.append(disjuncts(condition, declared))
            case [str(word), *_] if word in ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"):
                continue
            case _:
                raise InputError(f"{words_of(command)} is no command of VNN-LIB; {WANTED}")
    counts = [sum(name[0] == kind for name in declared) for kind in "XY"]
    for kind, count in zip("XY", counts, strict=True):
        missing = next((f"{kind}_{k}" for k in range(count) if f"{kind}_{k}" not in declared), None)
        if missing or not count:
            raise InputError(f"{missing or f'{kind}_0'} is not declared; {WANTED}")
    return Formula(counts[0], counts[1], tuple(all_of(asserted)))


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


def all_of(several: Iterable[Sequence[Case]]) -> list[Case]:
    """The cases in which one of each holds; what has one case only stands in all of them, at the cost of its length."""
    common: list[Constraint] = []
    cases: list[Case] = [()]
    for some in several:
        if len(some) == 1:
            common.extend(some[0])
        else:
            cases = list(joined((cases, some)))
    return [(*common, *case) for case in cases]


def joined(several: Sequence[Sequence[Case]]) -> Iterator[Case]:
    """One case of each, in all ways."""
    if prod(map(len, several)) > MOST_CASES:
        raise UnsupportedError(f"it comes to more than {MOST_CASES} cases; split it")
    return (tuple(chain.from_iterable(chosen)) for chosen in product(*several))


def disjuncts(condition: Expression, declared: Mapping[str, str]) -> list[Case]:
    """The cases in which a condition holds."""
    match condition:
        case ["and", *parts]:
            return all_of(disjuncts(part, declared) for part in parts)
        case ["or", *parts]:
            return [case for part in parts for case in disjuncts(part, declared)]
        case ["!=", first, second]:
            return disjuncts(["or", ["<", first, second], [">", first, second]], declared)
        case [("<=" | ">=" | "<" | ">" | "=" | "==") as sign, first, second]:
            difference = linear(first, declared).plus(linear(second, declared), Fraction(-1))
            signs = {"<=": (1,), "<": (1,), ">=": (-1,), ">": (-1,)}.get(sign, (1, -1))
            return [tuple(Constraint(difference.times(Fraction(each)), sign in ("<", ">")) for each in signs)]
    raise UnsupportedError(f"{words_of(condition)} is not supported; comparisons of two sums, and, or are")


def linear(expression: Expression, declared: Mapping[str, str]) -> Linear:
    """A sum, difference, or product."""
    if isinstance(expression, str):
        if NUMBER.fullmatch(expression):
            return Linear(constant=Fraction(expression))
        if expression not in declared:
            raise InputError(f"{expression} is neither a number nor declared; {WANTED}")
        return Linear({declared[expression]: Fraction(1)})
    sign, parts = expression[0], [linear(part, declared) for part in expression[1:]]
    if sign == "+" and parts:
        return total(parts)
    if sign == "-" and parts:
        return parts[0].times(Fraction(-1)) if len(parts) == 1 else parts[0].plus(total(parts[1:]), Fraction(-1))
    if sign == "*" and parts:
        return reduce(Linear.multiplied, parts)
    raise UnsupportedError(f"{words_of(expression)} is not supported; sums, differences and products are")


def factors_of(name: str) -> list[str]:
    """The variables of a product, or the one that it is."""
    return name.split(TIMES)


def total(parts: Sequence[Linear]) -> Linear:
    found = Linear()
    for part in parts:
        found = found.plus(part, Fraction(1))
    return found


def words_of(expression: Expression) -> str:
    """An expression as it is written, not all of a long one."""
    text = expression if isinstance(expression, str) else f"({' '.join(map(words_of, expression[:5]))})"
    return text if len(text) <= 60 else f"{text[:57]}..."
