"""Linear bounds whose rows go back through a window only, and then on with the forms that are stored there.

Back-substitution goes from every node to the input, so that its cost grows with the square of the depth: of a recurrent
network, of its frames. Relaxed CROWN-v (Lyu et al. 2021) goes v steps back, and takes the linear functions of the input that it
has of the nodes there (`bounds.forms`). With a window of 0 that is LBP: forward propagation of linear functions, at the cost of
the network. Where a network reads its input frame by frame, a window is counted in frames: in so many operations, one after the
other, as a frame has.

Rows stop at operations that lie at least a window below the node that they start from. The form of an operation is made of its
planes and its operands' forms; that of an operand is what its own rows came to, so that it costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from tightverify.bounds.back_substitution import backward_pass
from tightverify.bounds.bounding_pass import BoundingPass
from tightverify.bounds.forms import Form, Side, composed, composed_size, of_input
from tightverify.bounds.mixtures import START
from tightverify.bounds.recorder import SILENT, PassRecorder
from tightverify.bounds.rows import allowance, neuron_rows, neurons_between
from tightverify.bounds.stops import Stops, inputs_kept
from tightverify.graph import Affine, Apply, Graph, Input, Quadratic
from tightverify.region import Region
from tightverify.relax.planes import Planes
from tightverify.values import TINY, below

FURTHER = 4
"""Rows that take one pair of planes go so many times as far as those whose best mixtures are looked for: they cost little."""


def further(window: int | None) -> int | None:
    """The window of rows that take one pair of planes, beside others with a window of so many frames."""
    return None if window is None else FURTHER * window


def levels_of(graph: Graph) -> list[int]:
    """For each node, how many operations lie one after the other on the longest way to it."""
    found: list[int] = []
    for node in graph.nodes:
        below_it = max((found[operand.source] for operand in node.operands), default=0)
        found.append(below_it + isinstance(node, Apply | Quadratic))
    return found


def frame_of(graph: Graph, levels: list[int]) -> int:
    """How many operations lie one after the other in a frame, where a network has frames."""
    inputs = sum(isinstance(node, Input) for node in graph.nodes)
    return max(1, math.ceil(max(levels) / inputs - 0.5)) if inputs else 1


@dataclass(eq=False)
class WindowPass(BoundingPass):
    """A bounding pass whose rows stop at stored forms, which it makes as it goes.

    They are made of the planes that mixtures start from.
    """

    most_inputs: int = 0
    forms: dict[int, Form] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)
    """the input nodes by their first coordinates"""
    read: dict[int, list[int]] = field(default_factory=dict)
    """the levels at which each input node is read"""
    levels: list[int] = field(default_factory=list)
    first_planes: dict[int, Planes] = field(default_factory=dict)
    several: bool = False
    """whether there is more than one pair of planes for some operation"""

    @classmethod
    def over(cls, graph: Graph, region: Region, frames: int, mixtures: int = 0, recorder: PassRecorder = SILENT) -> WindowPass:
        """One with a window of so many frames."""
        levels = levels_of(graph)
        inputs = {node.start: number for number, node in enumerate(graph.nodes) if isinstance(node, Input)}
        read: dict[int, list[int]] = {number: [] for number in inputs.values()}
        for node, level in zip(graph.nodes, levels, strict=True):
            for operand in node.operands:
                if operand.source in read:
                    read[operand.source].append(level)
        forms, most = dict[int, Form](), inputs_kept(frames)
        stops = Stops(graph.stopped, frames * frame_of(graph, levels), levels, forms)
        return cls(
            stops.graph,
            region,
            mixtures,
            recorder,
            stops=stops,
            most_inputs=most,
            forms=forms,
            inputs=inputs,
            read=read,
            levels=levels,
        )

    def relax(self, number: int, pairs: tuple[Planes, ...]) -> None:
        super().relax(number, pairs)
        node, first = self.graph.nodes[number], pairs[min(START, len(pairs) - 1)]
        self.first_planes[number] = first
        self.several = self.several or len(pairs) > 1
        if isinstance(node, Apply):
            self.forms[number] = self._as_stop(number, self._of_operation(node, first))
            self._forget(number)

    def tighten(self, number: int, chosen: Tensor | None = None) -> None:
        """Learn a node's interval by its rows, and keep the forms that they came to."""
        assert chosen is None
        rows = neuron_rows(self, number)
        constant, slopes = self._function(rows, number)
        lost = allowance(self, rows, number)
        self.learn(number, neurons_between(self, number, below(constant + self._least(slopes), lost)))
        form = self._between(constant, slopes, lost)
        self.forms[number] = self._as_stop(number, form) if isinstance(self.graph.nodes[number], Apply) else form
        if self.several:
            super().tighten(number)

    def _function(self, rows: dict[int, Tensor], number: int) -> tuple[Tensor, dict[int, Tensor]]:
        """Constants (B or 1, R) and slopes (B or 1, R, w) on input nodes of functions below rows that start at a node."""
        slopes = dict[int, Tensor]()

        def at_input(node: Input, row: Tensor, _owned: bool) -> None:
            slopes[self.inputs[node.start]] = row

        assert self.stops is not None
        edge = self.stops.edge(number, self._form_at, FURTHER if self.several else 1)
        return backward_pass(self.graph, self.first_planes, dict(rows), at_input, None, edge), slopes

    def _form_at(self, number: int) -> Form:
        """The form alone, where nothing but forms is looked at."""
        return super()._form_at(number) if self.several else self.forms[number]

    def _least(self, slopes: Mapping[int, Tensor]) -> Tensor:
        """(B, R): the least that rows over input nodes can be on the region."""
        if not self.region.separable and slopes:
            first = next(iter(slopes.values()))
            batch = max(len(row) for row in slopes.values())
            together = first.new_zeros((batch, first.shape[1], self.graph.input_size))
            for number, row in slopes.items():
                together[..., self._block(number)] = row
            return self.region.minimise(together)
        total = self.region.centre.new_zeros((len(self.region), 1))
        for number, row in slopes.items():
            total = total + self.region.minimise(row, self._block(number))
        return total

    def _block(self, number: int) -> slice:
        node = self.graph.nodes[number]
        assert isinstance(node, Input)
        return node.block

    def _between(self, constant: Tensor, slopes: Mapping[int, Tensor], lost: Tensor) -> Form:
        """The form of a node by the functions below its neurons and their negations, (B or 1, 2 n)."""
        low, high = (constant.expand(len(self.region), -1)).chunk(2, dim=1)
        sides = {number: row.chunk(2, dim=1) for number, row in slopes.items()}
        lower = Side({number: pair[0] for number, pair in sides.items()}, low)
        upper = Side({number: -pair[1] for number, pair in sides.items()}, -high)
        return Form(lower, upper).widen(lost.chunk(2, dim=1)[0])

    def _of_operation(self, node: Apply, planes: Planes) -> Form:
        """An operation's form by its operands' forms."""
        operands = [self._form(operand.source)[operand.index] for operand in node.operands]
        sizes = self._sizes(form.lower.slopes.keys() for form in operands)
        lost = self.graph.rounding * composed_size(planes, [form.size(sizes) for form in operands])
        underflow = TINY * (1 + self.met(len(self.intervals) - 1)[:, None]) * (4 * len(operands))
        return composed(planes, operands).widen(lost + underflow)

    def _as_stop(self, number: int, form: Form) -> Form:
        """The form at which rows may stop: of the inputs it has those that were read last, and it has paid for what follows."""

        def age(source: int) -> int:
            return min(abs(self.levels[number] - level) for level in self.read[source])

        last = sorted(form.lower.slopes, key=age)[: self.most_inputs]
        folded = form.folded(last, {k: self.intervals[k] for k in form.lower.slopes})
        return folded.settled(self._sizes([last]), self.graph.rounding, self.met(len(self.intervals) - 1))

    def _sizes(self, inputs: Iterable[Iterable[int]]) -> dict[int, Tensor]:
        """What slopes on input nodes are multiplied by, at the most."""
        return {k: self.intervals[k].magnitude + self.scales[k] for some in inputs for k in some}

    def _form(self, number: int) -> Form:
        """That of any node: the one that is kept, or what its rows come to."""
        if number not in self.forms:
            node = self.graph.nodes[number]
            if isinstance(node, Input):
                return of_input(number, node.size, self.region.centre)
            rows = neuron_rows(self, number)
            self.forms[number] = self._between(*self._function(rows, number), allowance(self, rows, number))
        return self.forms[number]

    def _forget(self, number: int) -> None:
        """Let the forms go of affine nodes that no later operation reads."""
        for operand in self.graph.nodes[number].operands:
            source = operand.source
            if isinstance(self.graph.nodes[source], Affine) and self.graph.last_reader[source] <= number:
                self.forms.pop(source, None)


class IntervalPass(BoundingPass):
    """Planes over the intervals of interval arithmetic, which no rows narrow: CROWN-IBP (Zhang et al. 2020)."""

    def tighten(self, number: int, chosen: Tensor | None = None) -> None:
        """Leave the node's interval as it is."""
