"""Best first: the leaves with the lowest bounds are split, a batch of them at a time, until every leaf is proved.

A row holds on an input's region if it holds on every leaf, so that what is proved of the whole at any moment is the least
over its leaves, closed ones included. Estimated gains are corrected by what splits of the same node have really brought so far.
When more leaves are open than memory is there for, the deepest are split first: then they hardly grow in number.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tightverify.bounds.fitted import Effort
from tightverify.bounds.linear import LinearBounds
from tightverify.branch.choice import Candidate, best, estimates, split_values
from tightverify.branch.leaf import Leaf, Split, halves, together
from tightverify.errors import SoundnessFault
from tightverify.spec import Property
from tightverify.values import below

AT_ONCE = 16
"""leaves that are split together"""
TRUST = 0.05
"""a node's estimates count as much as so large a gain that was seen"""


@dataclass(frozen=True)
class Branch:
    """One node of a search tree, as it can be written down; `closed` says how it ended, if it was not split."""

    number: int
    parent: int
    split: Split | None
    margins: tuple[float, ...]
    closed: str = ""


@dataclass(eq=False)
class Tree:
    """The search for one input: its open leaves, the least that was proved of its closed ones, and all its nodes."""

    floor: Tensor
    open: list[Leaf] = field(default_factory=list)
    stuck: list[Leaf] = field(default_factory=list)
    """leaves in which no split promises anything"""
    branches: list[Branch] = field(default_factory=list)
    gains: dict[int, tuple[float, float]] = field(default_factory=dict)
    """for each node that was split, what its splits brought and what had been estimated"""

    @property
    def margins(self) -> Tensor:
        """(R,): what is proved of the rows on the whole region by now."""
        return torch.stack([self.floor, *(leaf.margins for leaf in (*self.open, *self.stuck))]).amin(0)

    @property
    def splits(self) -> int:
        return len(self.branches) // 2

    def give_up(self) -> None:
        """Split no more: what is open stays open."""
        self.stuck.extend(self.open)
        self.open.clear()

    def choose(self, leaf: Leaf) -> Candidate:
        def promise(candidate: Candidate) -> float:
            brought, estimated = self.gains.get(candidate.node, (0.0, 0.0))
            return candidate.gain * (TRUST + max(0.0, brought)) / (TRUST + estimated)

        return max(leaf.candidates, key=promise)

    def learn(self, candidate: Candidate, gain: float) -> None:
        brought, estimated = self.gains.get(candidate.node, (0.0, 0.0))
        self.gains[candidate.node] = brought + gain, estimated + candidate.gain


@dataclass(frozen=True, eq=False)
class Branching:
    """What a search is about and how it goes on: the rows wanted, and how children are bounded."""

    wanted: Property
    effort: Effort
    check: Callable[[], None]
    most_leaves: int
    """open leaves of all trees together, above which the deepest go first"""

    def start(self, roots: LinearBounds, margins: Tensor) -> list[Tree]:
        """A tree for each input, whose regions are bounded already."""
        count, rows = margins.shape
        trees = [Tree(margins.new_full((rows,), math.inf)) for _ in range(count)]
        self._enter(trees, roots, list(range(count)), [None] * count, margins)
        return trees

    def split(self, trees: list[Tree], chosen: Sequence[Leaf]) -> tuple[Tensor, list[int]]:
        """Split leaves, bound the halves, enter them; returns points (n, N) at which they were bounded, and whose these are."""
        groups: dict[int, list[tuple[Leaf, Candidate]]] = defaultdict(list)
        for leaf in chosen:
            candidate = trees[leaf.input].choose(leaf)
            groups[candidate.node].append((leaf, candidate))
        points: list[Tensor] = []
        owners: list[int] = []
        for node, pairs in sorted(groups.items()):
            self.check()
            parents = together([leaf.bounds for leaf, _ in pairs])
            neurons = torch.tensor([candidate.neuron for _, candidate in pairs], device=parents.region.centre.device)
            values = split_values(parents, node, neurons)
            children = halves(parents, node, neurons, values, self.effort, self.check)
            splits = [
                (leaf, Split(node, candidate.neuron, value, above))
                for (leaf, candidate), value in zip(pairs, values.tolist(), strict=True)
                for above in (False, True)
            ]
            inherited = torch.stack([leaf.margins for leaf, _ in pairs]).repeat_interleave(2, 0)
            inputs = [leaf.input for leaf, _ in splits]
            worst, at = self._enter(trees, children, inputs, splits, inherited)
            points.append(at)
            owners.extend(inputs)
            for (leaf, candidate), gain in zip(pairs, worst.view(-1, 2).amin(1).tolist(), strict=True):
                trees[leaf.input].learn(candidate, gain - leaf.worst)
        return torch.cat(points), owners

    def _enter(
        self,
        trees: list[Tree],
        bounds: LinearBounds,
        inputs: list[int],
        splits: Sequence[tuple[Leaf, Split] | None],
        known: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Bound the rows on new leaves and enter these in their trees; returns what decides each, and points there."""
        wanted = self.wanted[torch.tensor(inputs, device=known.device)]
        left = open_rows(wanted, known)
        which = torch.arange(len(inputs), device=left.device)
        rows = torch.gather(wanted.rows, 1, left[..., None].expand(-1, -1, wanted.rows.shape[2]))
        lower, pull = bounds.pulled({bounds.graph.output: rows}, self.effort.last_steps)
        lower = below(lower + torch.gather(wanted.offsets, 1, left), 0.0)
        lower = torch.where(torch.isfinite(lower), lower, -math.inf)
        found = known.scatter(1, left, torch.maximum(torch.gather(known, 1, left), lower))
        decisive = (left == deciding(wanted, found)[:, None]).long().argmax(1)
        proved = wanted.proved(found)
        empty = torch.stack(bounds.empty).any(0) if bounds.empty else torch.zeros_like(proved)
        if bool((empty & bounds.region.contains(bounds.region.centre)).any()):
            raise SoundnessFault(
                "a part of a region came out empty that holds the region's centre: this is a bug, please report it"
            )
        candidates = best(estimates(bounds, pull, decisive)) or [()] * len(inputs)
        for k, owner in enumerate(inputs):
            tree, origin = trees[owner], splits[k]
            closed = "empty" if bool(empty[k]) else "proved" if bool(proved[k]) else ""
            parent, path = (0, ()) if origin is None else (origin[0].number, (*origin[0].splits, origin[1]))
            tree.branches.append(
                Branch(len(tree.branches), parent, path[-1] if path else None, tuple(found[k].tolist()), closed)
            )
            if closed == "proved":
                tree.floor = torch.minimum(tree.floor, found[k])
            elif not closed:
                one = bounds[k : k + 1]
                leaf = Leaf(owner, tree.branches[-1].number, path, one, found[k], float(wanted.worst(found)[k]), candidates[k])
                (tree.open if candidates[k] else tree.stuck).append(leaf)
        return torch.where(empty, math.inf, wanted.worst(found)), pull.point.expand(len(inputs), -1, -1)[which, decisive]

    def go(self, trees: list[Tree], most_splits: int) -> Iterator[tuple[Tensor, list[int]]]:
        """Split on, a batch at a time, until nothing is open; hands out points, and whose they are, after each batch."""
        while True:
            alive = [tree for tree in trees if tree.open and tree.splits < most_splits]
            if not alive:
                return
            share = max(1, AT_ONCE // len(alive))
            full = sum(len(tree.open) for tree in trees) > self.most_leaves
            chosen: list[Leaf] = []
            for tree in alive:
                tree.open.sort(key=lambda leaf: (-len(leaf.splits) if full else 0, leaf.worst))
                chosen.extend(tree.open[:share])
                del tree.open[:share]
            try:
                found = self.split(trees, chosen)
            except BaseException:
                # What was being split is open still; halves that were entered already do no harm beside it.
                for leaf in chosen:
                    trees[leaf.input].open.append(leaf)
                raise
            yield found


def open_rows(wanted: Property, margins: Tensor) -> Tensor:
    """(B, r): the rows of each that are not proved, filled up with others to as many as there are at most."""
    if wanted.needed < margins.shape[1]:
        return torch.arange(margins.shape[1], device=margins.device).expand(len(margins), -1)
    order = torch.sort(torch.where(torch.isfinite(margins), margins, -torch.inf), dim=-1).indices
    most = int((~(torch.isfinite(margins) & (margins > 0))).sum(1).max())
    return order[:, : max(1, most)]


def deciding(wanted: Property, margins: Tensor) -> Tensor:
    """(B,): the row whose margin decides."""
    finite = torch.where(torch.isfinite(margins), margins, -torch.inf)
    return torch.sort(finite, dim=-1, descending=True).indices[:, wanted.needed - 1]
