"""What keeps spoken digits open: the same bounds, if some of the network's intervals were as narrow as points say.

    python -m experiments.speech_states [--db -80 --db -70] [--clips 12] [--points 1000]

The first clips, in the order of their names, that `linear` leaves open and a search does not falsify. For each the smallest
margin by `linear`, and again with the intervals of some nodes narrowed to so many times what perturbed clips reach there. Such
intervals are not proved: the margins say what would be gained by them, not what holds.
"""

from __future__ import annotations

from collections.abc import Collection

import click
import torch
from torch import Tensor

import tightverify as tv
from experiments.data import Clip, ProverSpeech, prover_speech, rightly_heard, spoken_digits
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.bounds.linear import linear_bounds
from tightverify.graph import Apply, Graph
from tightverify.region import Region
from tightverify.spec import classify_as
from tightverify.tightness.places import places
from tightverify.values import Interval

WIDER = 1.5
"""Points fill no region: what they reach is taken to be so many times as wide."""
FIRST, SECOND = 2, 3
"""The layers of the LSTM, as `places` counts."""
EARLY = 6


def sampled(graph: Graph, region: Region, count: int) -> list[Interval]:
    """What nodes (1, n) take on at random points, half of them corners, and at the centre; a little wider."""
    generator = torch.Generator().manual_seed(0)
    inside = region.sample(count // 2, generator)[0]
    corners = region.minimiser(torch.randn(1, count // 2, graph.input_size, dtype=torch.float64, generator=generator))[0]
    values = graph.evaluate(torch.cat([region.centre, inside, corners]))
    found = []
    for value in values:
        low, high = value.amin(0, keepdim=True), value.amax(0, keepdim=True)
        more = (WIDER - 1) / 2 * (high - low)
        found.append(Interval(low - more, high + more))
    return found


def margin(graph: Graph, region: Region, wanted: Tensor, known: list[Interval], nodes: Collection[int]) -> float:
    """The smallest margin by `linear`, the intervals of some nodes being known."""
    everywhere = [Interval(torch.full_like(k.lower, -torch.inf), torch.full_like(k.upper, torch.inf)) for k in known]
    given = [known[number] if number in nodes else nothing for number, nothing in enumerate(everywhere)]
    return float(linear_bounds(graph, region, known=given).lower({graph.output: wanted}).amin())


def narrowed(graph: Graph) -> dict[str, set[int]]:
    """The sets of nodes, by what the table calls them."""
    logs = {k for k, node in enumerate(graph.nodes) if isinstance(node, Apply) and node.op.name == "log"}
    bands = logs | {operand.source for k in logs for operand in graph.nodes[k].operands}
    where = places(graph)
    states = {p.node for p in where if p.layer == FIRST}
    return {
        "nothing": set(),
        "the bands and their logarithms": bands,
        f"the first layer's first {EARLY} frames": {p.node for p in where if p.layer == FIRST and p.frame < EARLY},
        "the first layer": states,
        "both layers": states | {p.node for p in where if p.layer == SECOND},
        "all": set(range(len(graph.nodes))),
    }


def margins(module: ProverSpeech, clip: Clip, decibels: float, points: int) -> list[float] | None:
    """The margins of an open clip, in the table's order; None of one that is decided."""
    model, ball = tv.load(module, shape=(len(clip.samples),)), tv.LinfBall(clip.radius(decibels))
    (result,) = tv.certify(model, clip.samples[None], [clip.digit], ball, method="linear")
    if result.verdict is not tv.Verdict.UNKNOWN:
        return None
    graph, region = model.graph, ball.around(clip.samples[None])
    wanted, known = classify_as(torch.tensor([clip.digit]), graph.output_size).rows, sampled(graph, region, points)
    return [margin(graph, region, wanted, known, nodes) for nodes in narrowed(graph).values()]


@click.command(cls=Experiment)
@click.option("--db", "decibels", type=float, multiple=True, default=(-80.0, -70.0), show_default=True)
@click.option("--clips", "count", default=12, show_default=True)
@click.option("--points", default=1000, show_default=True)
def main(decibels: tuple[float, ...], count: int, points: int) -> None:
    torch.set_num_threads(1)
    module = prover_speech()
    clips = rightly_heard(module, spoken_digits())
    table = table_of(
        "margins if intervals were narrower", "dB", "narrowed", "open clips", "proved", "mean margin", "least", "most"
    )
    for level in decibels:
        found: list[list[float]] = []
        names: list[str] = []
        for clip in clips:
            if len(found) < count and (each := margins(module, clip, level, points)) is not None:
                found.append(each)
                names.append(clip.name)
        graph = tv.load(module, shape=(len(clips[0].samples),)).graph
        for name, column in zip(narrowed(graph), zip(*found, strict=True), strict=True):
            some = [str(len(column)), str(sum(value > 0 for value in column)), f"{sum(column) / len(column):.2f}"]
            table.add_row(f"{level:g}", name, *some, f"{min(column):.2f}", f"{max(column):.2f}")
        report(f"{level:g} dB: {', '.join(names)}")
    report(table)


if __name__ == "__main__":
    main()
