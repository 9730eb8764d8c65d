"""Best first: the leaves with the lowest bounds are split, a batch of them at a time, until every leaf is proved.

A row holds on an input's region if it holds on every leaf, so that what is proved of the whole at any moment is the least
over its leaves, closed ones included. Estimated gains are corrected by what splits of the same node have really brought so far,
measured on both halves.
When more leaves are open than memory is there for, the deepest are split first: then they hardly grow in number.

The whole region is not halved where all rows are needed: its parts are those on which one of the open rows fails, an output
constraint (`bounds.contradiction`). They are bounded over again until that gains nothing more, and halved then. Each part is
about its own row alone: of the others it says the limit, for what is in no part has all open rows above their limits. All parts
are entered together, and the least counts, so that what one says of another's row can only be too low.

A point at which an operation is undefined (the logarithm of a negative number) is in no part at all. That loses nothing: bounds
claim nothing on a part where something may be undefined, and a row has such a part only where a finite margin was proved
before, which means that all is defined.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tightverify.bounds.fitted import Effort
from tightverify.bounds.memory import most_together
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.scores import branching_scores
from tightverify.branch.choice import MATTER, Candidate, best, best_scored, split_value
from tightverify.branch.input_splits import coordinate_gains
from tightverify.branch.leaf import Leaf, halves, output_constrained, together
from tightverify.branch.node import Branch, Split, split_in
from tightverify.branch.passes import CONSTRAINED, bounded_again
from tightverify.budget import Budget
from tightverify.errors import OutOfTimeError, SoundnessFault
from tightverify.evidence import PROPERTY
from tightverify.graph import Graph, Input
from tightverify.region import SplitBy
from tightverify.spec import Property
from tightverify.values import below

FEW = 8
"""So many leaves are split together at first, when little is known of what splits bring; then half as many as were split."""
SURELY = 1e-9
TRUST = 0.05
"""A node's estimates count as much as so large a gain that was seen, relative to what was wanting at first."""


@dataclass(eq=False)
class Tree:
    """The search for one input: its open leaves, the least that was proved of its closed ones, and all its nodes."""

    floor: Tensor
    closed: float = math.inf
    """the least value of the deciding row that was proved of closed leaves"""
    open: list[Leaf] = field(default_factory=list)
    stuck: list[Leaf] = field(default_factory=list)
    """leaves in which no split promises anything"""
    branches: list[Branch] = field(default_factory=list)
    gains: dict[int, tuple[float, float]] = field(default_factory=dict)
    """for each node that was split, what its splits brought and what had been estimated"""
    wanting: float = 0.0
    """how far below 0 what decides has been on a leaf"""

    @property
    def margins(self) -> Tensor:
        """(R,): what is proved of the rows on the whole region by now."""
        return torch.stack([self.floor, *(leaf.margins for leaf in (*self.open, *self.stuck))]).amin(0)

    @property
    def least(self) -> float:
        """What is proved of the row value that decides, on the whole region; each part has its own deciding row."""
        return min((self.closed, *(leaf.worst for leaf in (*self.open, *self.stuck))))

    @property
    def splits(self) -> int:
        return len(self.split)

    @property
    def split(self) -> set[int]:
        """The nodes that have parts."""
        return split_in(self.branches)

    def enter(self, leaf: Leaf, closed: str) -> None:
        if math.isfinite(leaf.worst):
            self.wanting = max(self.wanting, -leaf.worst)
        if closed == "proved" or (closed and leaf.bounds.output_constraint is not None):
            self.floor = torch.minimum(self.floor, leaf.margins)
            self.closed = min(self.closed, leaf.worst)
        elif not closed:
            (self.open if leaf.candidates else self.stuck).append(leaf)

    def give_up(self) -> None:
        """Split no more: what is open stays open."""
        self.stuck.extend(self.open)
        self.open.clear()

    def choose(self, leaf: Leaf) -> Candidate:
        def promise(candidate: Candidate) -> float:
            brought, estimated = self.gains.get(candidate.node, (0.0, 0.0))
            trust = TRUST * self.wanting  # 0 where nothing at all could be said yet of any leaf
            return candidate.gain * (trust + max(0.0, brought)) / (trust + estimated) if trust + estimated else candidate.gain

        return max(leaf.candidates, key=promise)

    def learn(self, candidate: Candidate, gain: float) -> None:
        """A split's gain is the mean of its halves', of which none counts above what proves it."""
        brought, estimated = self.gains.get(candidate.node, (0.0, 0.0))
        self.gains[candidate.node] = brought + gain, estimated + candidate.gain


@dataclass(frozen=True, eq=False)
class Bounded:
    """What bounding the rows on a batch of leaves has found: (B, R) margins, (B,) what decides, how each is closed, where to
    split, what else matters, and the points (B, n) at which the decisive rows were bounded.
    """

    margins: Tensor
    worst: Tensor
    closed: list[str]
    candidates: Sequence[tuple[Candidate, ...]]
    matter: Mapping[int, Tensor]
    multipliers: Mapping[int, Tensor]
    points: Tensor

    def leaf(self, k: int, input: int, number: int, path: tuple[Split, ...], bounds: LinearBounds) -> Leaf:
        one = bounds[k : k + 1]
        matter, multipliers = (
            {node: values[k : k + 1] for node, values in kept.items()} for kept in (self.matter, self.multipliers)
        )
        return Leaf(input, number, path, one, self.margins[k], float(self.worst[k]), self.candidates[k], matter, multipliers)


class Past(Protocol):
    """A tree that was kept: its nodes, and its open leaves with all that it takes to bound them again."""

    branches: list[Branch]

    def __len__(self) -> int: ...

    @property
    def numbers(self) -> list[int]: ...

    def paths(self) -> list[tuple[Split, ...]]: ...

    def tensor(self, name: str, like: Tensor) -> Tensor: ...

    def bounds(self, root: LinearBounds, part: slice, effort: Effort, spec: Property) -> LinearBounds: ...


@dataclass(frozen=True, eq=False)
class Branching:
    """What a search is about and how it goes on: the rows wanted, and how children are bounded."""

    spec: Property
    effort: Effort
    budget: Budget
    """the largest temporary keeps to about its memory: as many leaves are bounded together"""
    most_leaves: int
    """open leaves of all trees together, above which the deepest go first"""

    def start(self, roots: LinearBounds, margins: Tensor, new: bool = True) -> list[Tree]:
        """A tree for each input, whose regions are bounded already; evidence has those trees if they are `new`."""
        count, rows = margins.shape
        trees = [Tree(margins.new_full((rows,), math.inf)) for _ in range(count)]
        self._enter(trees, roots, list(range(count)), [None] * count, margins, {}, new)
        return trees

    def split(self, trees: list[Tree], chosen: Sequence[Leaf]) -> tuple[Tensor, list[int]]:
        """Split leaves, bound the halves, enter them; returns points (n, N) at which they were bounded, and whose these are."""
        groups: dict[int, list[tuple[Leaf, Candidate]]] = defaultdict(list)
        points: list[Tensor] = []
        owners: list[int] = []
        for leaf in chosen:
            if self._may_be_constrained(leaf):
                output_constraint, inputs = self._constrain(trees, leaf)
                points.append(output_constraint)
                owners.extend(inputs)
            else:
                candidate = trees[leaf.input].choose(leaf)
                groups[candidate.node if leaf.bounds.output_constraint is None else PROPERTY].append((leaf, candidate))
        for _, pairs in sorted(groups.items(), key=lambda group: group[0]):
            self.budget.check()
            cuts = [(one.node, one.neuron, split_value(leaf.bounds, one.node, one.neuron)) for leaf, one in pairs]
            matter = {n: torch.cat([leaf.matter[n] for leaf, _ in pairs]) for n in pairs[0][0].matter}
            children = halves(together([leaf.bounds for leaf, _ in pairs]), cuts, matter, self.effort, self.budget)
            inherited = torch.stack([leaf.margins for leaf, _ in pairs]).repeat_interleave(2, 0)
            if children.output_constraint is not None:
                children, highest = bounded_again(children, self.budget)
                inherited = at_least(inherited, children, highest)
            splits = [(leaf, Split(*cut, above)) for (leaf, _), cut in zip(pairs, cuts, strict=True) for above in (False, True)]
            inputs = [leaf.input for leaf, _ in splits]
            start = side_by_side([leaf.multipliers for leaf, _ in pairs], children)
            found = self._enter(trees, children, inputs, splits, inherited, start)
            points.append(found.points)
            owners.extend(inputs)
            for (leaf, candidate), now in zip(pairs, found.worst.clamp(max=0.0).view(-1, 2).mean(1).tolist(), strict=True):
                trees[leaf.input].learn(candidate, now - leaf.worst)
        return torch.cat(points), owners

    def _may_be_constrained(self, leaf: Leaf) -> bool:
        return not leaf.splits and self.spec.needed == len(leaf.margins) and bool(torch.isfinite(leaf.margins).all())

    def _constrain(self, trees: list[Tree], leaf: Leaf) -> tuple[Tensor, list[int]]:
        """The parts of a whole region on which one open row each fails, bounded over again and entered."""
        (rows,) = torch.nonzero(leaf.margins <= 0, as_tuple=True)
        spec = self.spec[leaf.input : leaf.input + 1]
        parts = output_constrained(leaf.bounds, torch.zeros_like(rows), rows, spec, leaf.margins[None])
        bounds, highest = bounded_again(parts, self.budget)
        assert bounds.output_constraint is not None
        limits = bounds.output_constraint.limit
        others = torch.where(leaf.margins > 0, leaf.margins, limits[:, None])
        known = at_least(others.scatter(1, rows[:, None], leaf.margins[rows][:, None]), bounds, highest)
        splits = [(leaf, Split(PROPERTY, row, limit, False)) for row, limit in zip(rows.tolist(), limits.tolist(), strict=True)]
        inputs = [leaf.input] * len(splits)
        return self._enter(trees, bounds, inputs, splits, known, {}).points, inputs

    def resume(self, tree: Tree, input: int, past: Past, root: LinearBounds) -> None:
        """Go on with a tree that was kept: its open leaves are bounded again, a batch at a time."""
        leaves: list[tuple[Leaf, str]] = []
        margins, paths = past.tensor("margins", tree.floor), past.paths()
        most = self._at_once(root)
        for start in range(0, len(past), most):
            self.budget.check()
            part = slice(start, start + most)
            bounds = past.bounds(root, part, self.effort, self.spec[input : input + 1])
            found = self._bounded(bounds, [input] * len(paths[part]), margins[part], {})
            for k, (number, path) in enumerate(zip(past.numbers[part], paths[part], strict=True)):
                leaves.append((found.leaf(k, input, number, path, bounds), found.closed[k]))
        # Only now, as time may run out before: a tree without some of its open leaves would prove what is not proved.
        tree.branches, tree.floor = list(past.branches), past.tensor("floor", tree.floor)
        tree.closed = float(past.tensor("closed", tree.floor))
        tree.open.clear()
        tree.stuck.clear()
        for leaf, closed in leaves:
            tree.enter(leaf, closed)

    def _enter(
        self,
        trees: list[Tree],
        bounds: LinearBounds,
        inputs: list[int],
        splits: Sequence[tuple[Leaf, Split] | None],
        known: Tensor,
        start: Mapping[int, Tensor],
        new: bool = True,
    ) -> Bounded:
        """Bound the rows on new leaves, and enter these in their trees."""
        found = self._bounded(bounds, inputs, known, start)
        for k, (owner, origin) in enumerate(zip(inputs, splits, strict=True)):
            parent, path = (0, ()) if origin is None else (origin[0].number, (*origin[0].splits, origin[1]))
            leaf = found.leaf(k, owner, len(trees[owner].branches), path, bounds)
            mine = self.spec[owner : owner + 1]
            if found.closed[k] == "empty" and leads_to(bounds.graph, bounds.region.centre[k], path, mine):
                raise SoundnessFault("a part of a region that holds its centre came out empty: this is a bug, please report it")
            split = path[-1] if path else None
            trees[owner].branches.append(Branch(leaf.number, parent, split, tuple(leaf.margins.tolist()), found.closed[k]))
            trees[owner].enter(leaf, found.closed[k])
            if new:
                bounds.recorder.branch(k, leaf.number, parent, found.closed[k], leaf.margins)
        return found

    def _bounded(self, bounds: LinearBounds, inputs: list[int], known: Tensor, start: Mapping[int, Tensor]) -> Bounded:
        """The rows that are open, bounded on a batch of leaves, and what that says of each."""
        spec = self.spec[torch.tensor(inputs, device=known.device)]
        left = rows_of(bounds, spec, known)
        which = torch.arange(len(inputs), device=left.device)
        rows = torch.gather(spec.rows, 1, left[..., None].expand(-1, -1, spec.rows.shape[2]))
        steps = self.effort.last_steps if bounds.output_constraint is None else CONSTRAINED.last_steps
        offsets = torch.gather(spec.offsets, 1, left)
        target = None if bounds.output_constraint is None else bounds.output_constraint.limit[:, None] - offsets
        lower, primal_point = bounds.at_primal_point({bounds.graph.output: rows}, steps, start, target)
        lower = below(lower + offsets, 0.0)
        lower = torch.where(torch.isfinite(lower), lower, -math.inf)
        margins = known.scatter(1, left, torch.maximum(torch.gather(known, 1, left), lower))
        empty = bounds.nothing
        if bounds.output_constraint is not None:
            # Where the row fails there is nothing, or the row is not as low as that: so it is above the limit.
            most = known.scatter(1, left, bounds.output_constraint.limit[:, None])
            margins = torch.where(empty[:, None], torch.inf, margins).minimum(most)
        decisive = (left == deciding(spec, margins)[:, None]).long().argmax(1)
        proved = spec.proved(margins)
        scores = branching_scores(bounds, primal_point, decisive)
        gains = dict(scores.gains)
        if SplitBy.COORDINATES in bounds.region.splits:
            gains |= coordinate_gains(bounds, scores.losses)
        return Bounded(
            margins,
            torch.where(empty & (bounds.output_constraint is None), math.inf, spec.worst(margins)),
            ["empty" if e else "proved" if p else "" for e, p in zip(empty.tolist(), proved.tolist(), strict=True)],
            best(gains) or [()] * len(inputs),
            best_scored(scores.gains),
            {node: values[which, decisive][:, None] for node, values in primal_point.multipliers.items()},
            primal_point.point.expand(len(inputs), -1, -1)[which, decisive],
        )

    def _at_once(self, one: LinearBounds) -> int:
        """How many leaves' halves are bounded together."""
        return max(1, most_together(one.graph, one.region, self.budget, 2 * MATTER) // 2)

    def goes_on(self, tree: Tree, most_splits: int) -> bool:
        """Whether there is anything left to split."""
        return bool(tree.open) and tree.splits < most_splits

    def go(self, trees: list[Tree], most_splits: int) -> Iterator[tuple[Tensor, list[int]]]:
        """Split on, a batch at a time, until nothing is open; hands out points, and whose they are, after each batch."""
        while True:
            alive = [tree for tree in trees if self.goes_on(tree, most_splits)]
            if not alive:
                return
            most = max(1, self._at_once(alive[0].open[0].bounds) // len(alive))
            full = sum(len(tree.open) for tree in trees) > self.most_leaves
            chosen: list[Leaf] = []
            for tree in alive:
                tree.open.sort(key=lambda leaf: (-len(leaf.splits) if full else 0, leaf.worst))
                share = min(most, max(FEW, tree.splits // 2), most_splits - tree.splits)
                chosen.extend(tree.open[:share])
                del tree.open[:share]
            try:
                found = self.split(trees, chosen)
            except OutOfTimeError:
                for leaf in chosen:  # what has not been split yet is open still
                    if leaf.number not in trees[leaf.input].split:
                        trees[leaf.input].open.append(leaf)
                raise
            yield found


def side_by_side(kept: Sequence[Mapping[int, Tensor]], halves: LinearBounds) -> dict[int, Tensor]:
    """Parents' multipliers for both halves of each, zeros where a parent has none."""
    found = {}
    for node in {node for one in kept for node in one}:
        none = halves.scales[node].new_zeros((1, 1, halves.graph.nodes[node].size))
        found[node] = torch.cat([one.get(node, none) for one in kept]).repeat_interleave(2, 0)
    return found


def leads_to(graph: Graph, x: Tensor, path: Sequence[Split], spec: Property) -> bool:
    """Whether an input (n,) surely lies in the part of its region that splits lead to: by a little, where neurons are split."""
    values = graph.evaluate(x)
    values.append(spec.margins(values[graph.output][None])[0])  # PROPERTY, as the last
    exact = {number for number, node in enumerate(graph.nodes) if isinstance(node, Input)}
    off = [(float(values[split.node][split.neuron]) - split.value) * (1 if split.above else -1) for split in path]
    sizes = [SURELY * (1 + float(values[split.node].abs().max())) for split in path]
    return all(by >= 0 if split.node in exact else by > size for by, size, split in zip(off, sizes, path, strict=True))


def at_least(margins: Tensor, bounds: LinearBounds, lower: Tensor) -> Tensor:
    """Margins (B, R) of parts with an output constraint, whose own rows have bounds (B,)."""
    assert bounds.output_constraint is not None
    which = bounds.output_constraint.which[:, None]
    return margins.scatter(1, which, torch.fmax(margins.gather(1, which), lower[:, None]))


def rows_of(bounds: LinearBounds, spec: Property, margins: Tensor) -> Tensor:
    """(B, r): the rows that are bounded on each part: those that are open, or of an output constraint its own.

    Of whole regions every row is bounded, whatever is known: a search is the same whichever stages came before it.
    """
    if bounds.output_constraint is not None:
        return bounds.output_constraint.which[:, None]
    return open_rows(spec, margins, every=not bounds.constraints.part)


def open_rows(spec: Property, margins: Tensor, every: bool = False) -> Tensor:
    """(B, r): the rows of each that are not proved, filled up with others to as many as there are at most, or `every` one."""
    if every or spec.needed < margins.shape[1]:
        return torch.arange(margins.shape[1], device=margins.device).expand(len(margins), -1)
    order = torch.sort(torch.where(torch.isfinite(margins), margins, -torch.inf), dim=-1).indices
    most = int((~(torch.isfinite(margins) & (margins > 0))).sum(1).max())
    return order[:, : max(1, most)]


def deciding(spec: Property, margins: Tensor) -> Tensor:
    """(B,): the row whose margin decides."""
    finite = torch.where(torch.isfinite(margins), margins, -torch.inf)
    return torch.sort(finite, dim=-1, descending=True).indices[:, spec.needed - 1]
