"""Queries of VNN-LIB 2.0: networks are declared with their tensors, and assertions compare numbers of these.

The numbers of all inputs, in the order of their declarations, become X_0, X_1, ...; those of hidden nodes and outputs Y_0, Y_1,
...: what is left is a formula as version 1.0 has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from tightverify.errors import InputError, UnsupportedError
from tightverify.inputs.vnnlib.query import Query, query_of
from tightverify.inputs.vnnlib.syntax import (
    Expression,
    Formula,
    all_of,
    disjuncts,
    expressions,
    named,
    text_of,
    words_of,
)
from tightverify.models.sizes import fits

NAME = re.compile(r"[A-Za-z]\w*")
KINDS = ("declare-input", "declare-hidden", "declare-output")
RELATIONS = ("equal-to", "isomorphic-to")
REAL = "real"
FLOATS = ("float16", "bfloat16", "float32", "float64")
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
TYPES = (REAL, *FLOATS, *WHOLE)
WANTED = (
    "wanted VNN-LIB 2.0: (declare-network N (declare-input X real [1,4]) (declare-output Y real [1,2])), "
    "(assert (<= X[0,0] 1)), ..."
)


@dataclass(frozen=True)
class Variable:
    """A tensor of a network: its name, element type and shape, and its name in the file if the query gives it."""

    name: str
    type: str
    shape: tuple[int, ...]
    onnx: str | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def written(self) -> str:
        """As it is declared."""
        return f"{self.name} {self.type} [{','.join(map(str, self.shape))}]"

    def elements(self) -> Iterator[str]:
        """How its numbers are called, in the order in which they lie in memory."""
        if not self.shape:
            yield from (self.name,)
        for index in product(*map(range, self.shape)) if self.shape else ():
            yield f"{self.name}[{','.join(map(str, index))}]"


@dataclass(frozen=True)
class Network:
    """A declaration: `relation` to an earlier network `other`, or neither."""

    name: str
    relation: str
    other: str
    inputs: tuple[Variable, ...]
    hidden: tuple[Variable, ...]
    outputs: tuple[Variable, ...]

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (*self.inputs, *self.hidden, *self.outputs)


@dataclass(frozen=True, eq=False)
class Declared:
    """The networks, and what is asked of them."""

    networks: tuple[Network, ...]
    query: Query

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return tuple(variable for network in self.networks for variable in network.inputs)

    @property
    def floating(self) -> bool:
        """Whether tensors are declared of types of floats."""
        return any(variable.type != REAL for network in self.networks for variable in network.variables)


def read_declared(path: Path, real: bool) -> Declared:
    """What a file asks; floats are read as real numbers only where the user says so."""
    with named(path):
        return declared_of(text_of(path), real)


def declared_of(text: str, real: bool) -> Declared:
    """The networks that a text declares, and the query."""
    networks: list[Network] = []
    asserted: list[Expression] = []
    for command in expressions(text):
        match command:
            case ["vnnlib-version", str(version)]:
                if version.strip("<>").split(".")[0] != "2":
                    raise UnsupportedError(f"it is of VNN-LIB {version}; wanted 2.0")
            case ["declare-network", str(name), *parts]:
                networks.append(network_of(name, parts, networks))
            case ["assert", condition]:
                asserted.append(joined(condition))
            case ["declare-const" | "declare-fun", *_]:
                raise InputError("it is a query of VNN-LIB 1.0: tightverify vnnlib MODEL.onnx QUERY answers those")
            case _:
                raise InputError(f"{words_of(command)} is no command of VNN-LIB 2.0; {WANTED}")
    if not networks:
        raise InputError(f"no network is declared; {WANTED}")
    check(networks, real)
    inputs, others, places = numbered(networks)
    cases = all_of(disjuncts(condition, places) for condition in asserted)
    return Declared(tuple(networks), query_of(Formula(inputs, others, tuple(cases), tuple(list(places)[:inputs]))))


def numbered(networks: list[Network]) -> tuple[int, int, dict[str, str]]:
    """How many inputs and other numbers there are, and which X_i or Y_j each is."""
    inputs = [element for network in networks for variable in network.inputs for element in variable.elements()]
    others = [
        element for network in networks for variable in (*network.hidden, *network.outputs) for element in variable.elements()
    ]
    places = {element: f"X_{k}" for k, element in enumerate(inputs)}
    places.update({element: f"Y_{k}" for k, element in enumerate(others)})
    return len(inputs), len(others), places


def joined(expression: Expression) -> Expression:
    """Names and the places after them as one word, without spaces: X [0, 1] is X[0,1]; of a single number X[] is X."""
    if isinstance(expression, str):
        return expression
    found: list[Expression] = []
    for part in expression:
        if isinstance(part, str) and part.startswith("["):
            if not found or not isinstance(found[-1], str) or not NAME.fullmatch(found[-1]):
                raise InputError(f"{part} stands after no name in {words_of(expression)}; {WANTED}")
            place = "".join(part.split())
            found[-1] += "" if place == "[]" else place
        else:
            found.append(joined(part))
    return found


def network_of(name: str, parts: list[Expression], before: list[Network]) -> Network:
    """A network's declaration."""
    relation = other = ""
    found: dict[str, list[Variable]] = {kind: [] for kind in KINDS}
    for part in parts:
        match part:
            case [str(word), str(of)] if word in RELATIONS and not relation:
                relation, other = word, of
            case [str(kind), str(variable), str(type_), str(shape), *onnx] if kind in KINDS:
                found[kind].append(variable_of(variable, type_, shape, onnx, part))
            case _:
                raise InputError(f"{words_of(part)} is no part of a network's declaration; {WANTED}")
    network = Network(name, relation, other, *(tuple(found[kind]) for kind in KINDS))
    if not NAME.fullmatch(name) or name in [each.name for each in before]:
        raise InputError(f"the network's name {name} is taken, or is no name; give each network its own")
    if not network.inputs or not network.outputs:
        raise InputError(f"the network {name} has no {'output' if network.inputs else 'input'}; {WANTED}")
    if any(variable.onnx is None for variable in network.hidden):
        raise InputError(f"a hidden node of {name} has no name; give the one that it has in the file, in quotes")
    if relation and other not in [each.name for each in before]:
        raise InputError(f"{name} is {relation} {other}, which is not declared before it; declare it first")
    return network


def variable_of(name: str, type_: str, shape: str, onnx: list[Expression], part: Expression) -> Variable:
    """A tensor's declaration."""
    lengths = [word for word in re.split(r"[\s,]+", shape.strip("[]").strip()) if word]
    quoted = [word[1:-1] for word in onnx if isinstance(word, str) and word.startswith('"')]
    fine = NAME.fullmatch(name) and shape.startswith("[") and all(map(str.isdecimal, lengths))
    if not fine or len(quoted) != len(onnx) or len(onnx) > 1:
        raise InputError(f"{words_of(part)} is no declaration of a tensor; {WANTED}")
    if type_.lower() not in TYPES:
        raise UnsupportedError(f"{name} is of type {type_}; wanted one of {', '.join(TYPES)}")
    axes = fits(*map(int, lengths), what=f"the tensor {name}")
    return Variable(name, type_.lower(), axes, quoted[0] if quoted else None)


def check(networks: list[Network], real: bool) -> None:
    """Names that are taken, types that are not answered for, and networks that are not alike though they are said to be."""
    variables = [variable for network in networks for variable in network.variables]
    names = [variable.name for variable in variables]
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise InputError(f"{twice} is declared twice; give each tensor a name of its own")
    for network in networks:
        for variable in network.inputs:
            if variable.type in WHOLE:
                raise UnsupportedError(
                    f"the input {variable.name} is of type {variable.type}; wanted {REAL}, or one of {', '.join(FLOATS)}"
                )
    floating = next((variable for variable in variables if variable.type != REAL), None)
    if floating is not None and not real:
        raise UnsupportedError(
            f"{floating.name} is of type {floating.type}, and what is proved is proved of real numbers: declare it {REAL}, or "
            "say --real to have the query read so"
        )
    for network in networks:
        other = next((each for each in networks if each.name == network.other), network)
        if shapes(network) != shapes(other):
            raise InputError(f"{network.name} is {network.relation} {other.name}, but their inputs or outputs differ in shape")


def shapes(network: Network) -> list[list[tuple[int, ...]]]:
    """Those of its inputs, and of its outputs."""
    return [[variable.shape for variable in part] for part in (network.inputs, network.outputs)]


def assignments(declared: Declared, x: Sequence[float], y: Sequence[float]) -> str:
    """The values of all tensors in the order of their declarations, as the standard has them on the command line."""
    lines = list[str]()
    for variable, values in values_of(declared, x, y):
        lines += [variable.written, *(number(value, variable.type in WHOLE) for value in values)]
    return "\n".join(lines)


def values_of(declared: Declared, x: Sequence[float], y: Sequence[float]) -> Iterator[tuple[Variable, list[float]]]:
    """All tensors in the order of their declarations, with their values, given those of inputs and those of others."""
    inputs, others = iter(x), iter(y)
    for network in declared.networks:
        for variable in network.variables:
            values = inputs if variable in network.inputs else others
            yield variable, [next(values) for _ in range(variable.size)]


def number(value: float, whole: bool) -> str:
    """As it is written: exactly, and 0 without a sign."""
    return str(int(value)) if whole else repr(value + 0.0)
