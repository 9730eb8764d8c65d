"""Kept search trees are gone on with for the same question only, and beside inputs that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.errors import UsageError
from tightverify.graph import Affine, Graph, Term
from tightverify.recording.question import mark_of
from tightverify.spec import classify_as

DOUBLE = torch.float64


class Reader(nn.Module):
    """A small RNN over some frames in some order."""

    def __init__(self, frames: list[int]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.frames = frames
        self.layer, self.head = nn.RNN(2, 3, batch_first=True), nn.Linear(3, 4)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2.5)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(x[:, self.frames])[0][:, -1]))


def mark(graph: Graph) -> str:
    x = torch.zeros((1, *graph.input_shape), dtype=DOUBLE)
    return mark_of(graph, tv.LinfBall(0.1).around(x), classify_as(torch.tensor([0]), graph.output_size))


def test_networks_that_read_other_frames_have_other_marks() -> None:
    graphs = [tv.load(Reader(frames), shape=(4, 2)).graph for frames in ([0, 1, 2], [2, 1, 0], [1, 2, 3], [0, 1, 2])]
    marks = [mark(graph) for graph in graphs]
    assert len(set(marks)) == 3
    assert marks[0] == marks[3]
    assert mark(replace(graphs[0], input_shape=(2, 4))) != marks[0]


def test_the_place_of_a_matrix_counts() -> None:
    graph = tv.load(Reader([0, 1, 2]), shape=(3, 2)).graph
    place = next(k for k, node in enumerate(graph.nodes) if isinstance(node, Affine) and len(node.terms) > 1)
    node = graph.nodes[place]
    assert isinstance(node, Affine)
    one, other = node.terms[:2]
    moved = replace(node, terms=(Term(one.operand, other.map), Term(other.operand, one.map)))
    still = replace(node, terms=(one, Term(other.operand, one.map)))
    marks = {mark(replace(graph, nodes=(*graph.nodes[:place], new, *graph.nodes[place + 1 :]))) for new in (node, moved, still)}
    assert len(marks) == 3


def six() -> Tensor:
    return torch.randn((6, 3, 2), generator=torch.Generator().manual_seed(3), dtype=DOUBLE) * 0.7


def run(model: tv.Model, trees: Path, splits: int, top: int = 1) -> Sequence[tv.Result]:
    ball, labels = tv.LinfBall(0.5), model.original(six()).argmax(1)
    return tv.certify(model, six(), labels, ball, method="complete", top=top, restarts=0, splits=splits, trees=trees)


def test_a_tree_of_a_network_that_reads_backwards_is_refused(tmp_path: Path) -> None:
    rows = torch.eye(4, dtype=DOUBLE)[:1], torch.tensor([0.1])

    def of(frames: list[int]) -> None:
        model = tv.load(Reader(frames), shape=(3, 2))
        tv.certify(model, six(), None, tv.LinfBall(0.5), rows=rows, method="complete", restarts=0, splits=2, trees=tmp_path)

    of([0, 1, 2])
    assert list(tmp_path.glob("*.npz"))
    with pytest.raises(UsageError, match="another network"):
        of([2, 1, 0])


@pytest.mark.covering
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("top", [1, 2])
def test_inputs_with_trees_and_without_go_on_together(top: int, first: int, tmp_path: Path) -> None:
    model = tv.load(Reader([0, 1, 2]), shape=(3, 2))
    before = run(model, tmp_path, 4, top)
    kept = sorted(tmp_path.glob("*.npz"))
    for file in kept[first::2]:
        file.unlink()
    after = run(model, tmp_path, 12, top)
    points = tv.LinfBall(0.5).around(six()).sample(2000, torch.Generator().manual_seed(0))
    wanted = classify_as(torch.tensor([result.label for result in before]), 4, top)
    least = wanted.worst(wanted.margins(model.graph.forward(points))).amin(1)
    assert all(result.margin <= sampled for result, sampled in zip(after, least.tolist(), strict=True))
    assert any(result.margin > old.margin for result, old in zip(after, before, strict=True))
