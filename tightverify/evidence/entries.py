"""What evidence is made of: entries in the order in which a run found them. Shapes: n neurons, R rows, K pairs, k operands.

Everything is one input's. A *bounding pass* is a set of intervals and planes that belong together: those of the whole region,
or of one part of it, which begins as a copy of its parent. An entry changes what its bounding pass has, or says what was proved
with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int32]
Choices = NDArray[np.uint8] | NDArray[np.uint16]
FORMAT = 7
"""Files of another number are not read, nor gone on with: raise it whenever entries, or their fields, say something else."""
PROPERTY = -1
"""Stands for a node whose neurons are the property's rows, offsets included."""
SHARE = -2
"""Stands for a node whose neurons are the unknown shares that move an input."""
UNGROUPED: Places = np.zeros(0, dtype=np.int32)
"""Of a region that is no product of balls."""
EQUATION, PLANE, EDGE, PIECES = range(4)
"""Where a program's row comes from (`Program.origins`)."""


@dataclass(frozen=True, eq=False)
class RegionEntry:
    """A region as a `Question` has it, whose fields of these names say what they are."""

    norm: str
    radius: float
    centre: Floats
    lower: Floats
    upper: Floats
    generators: Floats
    slack: Floats
    groups: Places
    vectors: Floats = field(default_factory=lambda: np.zeros((0, 0, 0)))
    most: int = 0


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked: of `rows @ y + offsets`, so many (`needed`) are above 0 on the region.

    The region is |x - centre| <= radius in a norm, and lower <= x <= upper; where there are `groups` (N,), numbers of groups
    of coordinates, the radius and the norm are those of each group by itself. Where there is a `slack` (N,), it is instead
    centre + t @ generators + r for all shares |t_k| <= 1 and all |r_i| <= slack_i, `generators` being (K, N), and `lower` and
    `upper` are its hull. Where there are `vectors` (T, C, d), it is instead all sequences of T words, word t being one of the C
    vectors of its place, and another than the first of them, the centre's, for at most `most` words. `shape` is the input's.
    `nodes` are the network's, in the order in which all other entries number them, with hashes of their weights; of an
    operation they have its name `op`, and its parameters, None for an infinite one.
    `fingerprint` is a hash of all that is asked (`evidence.fingerprint`).
    """

    input: int
    model: str
    fingerprint: str
    method: str
    norm: str
    radius: float
    centre: Floats
    lower: Floats
    upper: Floats
    generators: Floats
    slack: Floats
    groups: Places
    vectors: Floats
    most: int
    rows: Floats
    offsets: Floats
    needed: int
    output: int
    shape: list[int]
    nodes: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class BoundingPass:
    """A new bounding pass: empty, or of a part of its parent's part, with all that the parent has by now.

    The part is where a neuron is at most a value, or (`above`) at least; `parent` is -1 if it is the whole region. Where `node`
    is an input, backward passes end over what of the region is in its interval. Where `node` is -1 and `parent` is not, the
    part is where the row `neuron` of the property is at most it; where it is -2, the share `neuron` is, or (`above`) at least.
    """

    bounding_pass: int
    stage: str
    parent: int
    node: int
    neuron: int
    value: float
    above: bool


@dataclass(frozen=True, eq=False)
class Resumed:
    """Another run goes on with a bounding pass: from now on it has the planes and polygons of `whole`, one of the whole region.

    So it is with what the last backward passes about operands proved. Its intervals stay.
    """

    bounding_pass: int
    whole: int


@dataclass(frozen=True, eq=False)
class Bounded:
    """From now on this is a node's interval, (n,) each."""

    bounding_pass: int
    node: int
    lower: Floats
    upper: Floats


@dataclass(frozen=True, eq=False)
class Pairs:
    """From now on these are an operation's pairs of planes: `lower` and `upper` (K, n, k + 1), slopes and offset.

    They hold for all operands in their intervals and, where there are any, in all their polygons. Of an energy, k counts all
    neurons of its operands.
    """

    bounding_pass: int
    node: int
    lower: Floats
    upper: Floats


@dataclass(frozen=True, eq=False)
class Polygon:
    """What the two operands of an operation's `neurons` (k,) can be together: vertices (k, V, 2), where `holds` (k,) is true.

    It holds what is in the operands' intervals and satisfies the last backward pass for this operation
    (`BackSubstitution.about`). Other neurons keep what they have.
    """

    bounding_pass: int
    node: int
    neurons: Places
    vertices: Floats
    holds: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BackSubstitution:
    """Rows bounded from below by back-substitution, each with its best choice of planes.

    Row `places[t, 0]` has the coefficient `weights[t]` at neuron `places[t, 2]` of node `places[t, 1]`, and 0 elsewhere.
    `multiplied` and `multipliers` are, in the same way, multiples of neurons that are added to the rows, and paid for with the
    ends of their intervals; of node -1 they are multiples, never below 0, of the property's row that the pass's part, or one
    that it lies in, supposes to be at most a value, and paid for with that value. `bound` is what comes of it in float64,
    `proved` what is left when rounding is paid for.

    Where `mixed`, each row takes of an operation's planes the mean of the pairs `taken[side, i, row, neuron]` (side 0 lower, 1
    upper), i from 0 to `steps[row]` - 1, with weights proportional to i + 1; where `steps[row]` is 0, pair `start`. The neurons
    of `taken` are those of `operations`, one after the other; other operations have one pair. Where not `mixed`, a row takes
    pair `steps[row]` of all operations. Of an operation that has not so many it takes the last one.

    `about` says what the rows are: "neurons" of `node`, "operands" of the operation `node` (as many for each of the neurons
    of the `Polygon` that follows, one neuron after the other), "rows" of the property.
    """

    bounding_pass: int
    about: str
    node: int
    places: Places
    weights: Floats
    mixed: bool
    start: int
    operations: list[int]
    steps: Places
    taken: Choices
    multiplied: Places
    multipliers: Floats
    bound: Floats
    proved: Floats


@dataclass(frozen=True, eq=False)
class Margins:
    """Lower bounds (R,) of the property's rows on the whole region, as they stood after a stage."""

    stage: str
    margins: Floats


@dataclass(frozen=True, eq=False)
class Branch:
    """A node of a search tree, and the bounding pass of its part. Number 0 is the whole region: another tree begins with it.

    `closed` is "proved", "empty", or "" for what was split or stayed open.
    """

    number: int
    parent: int
    bounding_pass: int
    closed: str
    margins: Floats


@dataclass(frozen=True, eq=False)
class Empty:
    """Another interval of a node, on a part, that has nothing in common with the one at hand: there is nothing in that part."""

    bounding_pass: int
    node: int
    lower: Floats
    upper: Floats


@dataclass(frozen=True, eq=False)
class Program:
    """A program of the relaxed network, `minimise cost @ v`, in which `row` of the property is bounded; CSR, m rows.

    Where `node` is not -1, neuron `row` of that node is bounded instead, on the whole region: from below where its cost is 1,
    or its negation, where that is -1.

    Variables `columns[k]` to `columns[k + 1]` - 1 are the neurons of node `members[k]`; those after them are 0 or 1. `origins`
    (m,) say why each row holds, with the variable `held` (m,): `EQUATION`, that neuron is what its affine node makes of its
    operands; `PLANE`, that operation's or energy's neuron keeps to its function where its operands are in their intervals and
    polygons, or in each of their pieces; `EDGE`, these have the operands of that neuron on one side; `PIECES`, that variable
    lies in the piece that its variables of 0 or 1 say. There are no other rows. `dual` (m,) proves `bound`; of a program that
    has variables of 0 or 1, `Leaves` do, and `breaks` are the breakpoints (variable, value) that those begin with. The program
    holds all inputs at which cost @ v is at most `limit`; of others it says nothing.
    """

    bounding_pass: int
    node: int
    row: int
    members: Places
    columns: Places
    cost: Floats
    data: Floats
    indices: Places
    indptr: Places
    row_lower: Floats
    row_upper: Floats
    lower: Floats
    upper: Floats
    origins: Places
    held: Places
    dual: Floats
    bound: float
    breaks: Floats
    limit: float


@dataclass(frozen=True, eq=False)
class CutoffTightening:
    """Variables of the last program bounded where cost @ v is at most `limit`, T times, each over the bounds found before.

    Variable `variables[t]` is at least `ends[t]`, or (`above[t]`) at most. Row `places[i, 1]` has the multiplier `dual[i]` in
    that proof, `places[i, 0]` being t; the row after the program's last is cost @ v <= `limit`. Where an end is infinite the
    multipliers prove, for cost 0, a bound above 0: no such input is left. So it is where the last two ends cross.
    """

    limit: float
    variables: Places
    above: NDArray[np.bool_]
    ends: Floats
    places: Places
    dual: Floats


@dataclass(frozen=True, eq=False)
class Leaves:
    """The leaves of the last program's tree: bounds (L, w) of its variables of 0 or 1, multipliers, and what these prove (L,).

    Leaf `places[t, 0]` has the multiplier `dual[t]` for row `places[t, 1]`. Where `infeasible` (L,) they prove, for cost 0, a
    bound above 0: then there is nothing in that leaf.
    """

    lower: Floats
    upper: Floats
    places: Places
    dual: Floats
    bounds: Floats
    infeasible: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Points:
    """All points of a finite region, and lower bounds (P, R) of the property's rows at each, by interval arithmetic.

    `numbers` (P, T) say which of its vectors each word is. Every sequence of different vectors is there.
    """

    bounding_pass: int
    numbers: Places
    proved: Floats


@dataclass(frozen=True, eq=False)
class Ending:
    """How it ended: the verdict's name, the margins, and a counterexample's flat values, none of them if there is none."""

    verdict: str
    stage: str
    margin: float
    margins: Floats
    point: Floats


Entry = (
    Question
    | BoundingPass
    | Resumed
    | Bounded
    | Pairs
    | Polygon
    | BackSubstitution
    | Margins
    | Branch
    | Empty
    | Program
    | CutoffTightening
    | Leaves
    | Points
    | Ending
)
KINDS: dict[str, type[Entry]] = {
    "Question": Question,
    "BoundingPass": BoundingPass,
    "Resumed": Resumed,
    "Bounded": Bounded,
    "Pairs": Pairs,
    "Polygon": Polygon,
    "BackSubstitution": BackSubstitution,
    "Margins": Margins,
    "Branch": Branch,
    "Empty": Empty,
    "Program": Program,
    "CutoffTightening": CutoffTightening,
    "Leaves": Leaves,
    "Points": Points,
    "Ending": Ending,
}
"""Each kind of entry by its name in files, which stays when the class is renamed or moved."""
NAMES = {kind: name for name, kind in KINDS.items()}
