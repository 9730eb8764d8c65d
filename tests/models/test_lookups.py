"""Tables that torch modules look up by what depends on the input: one operation each, that holds both sides of a jump."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.operation_contract import box
from tests.models.test_pair_twins import operations
from tightverify.api.load import load
from tightverify.bounds.interval import interval_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.errors import UnsupportedError
from tightverify.ops import Table
from tightverify.region import LinfBall

EDGES = torch.tensor([-1.5, -0.5, 0.25, 1.0], dtype=torch.float64)
VALUES = torch.tensor([0.1, 0.3, -0.2, 0.7, 0.9], dtype=torch.float64)


class Looked(nn.Module):
    table: Tensor
    edges: Tensor

    def __init__(self, place: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.place = nn.Linear(4, 3).double(), place
        self.register_buffer("table", VALUES.clone())
        self.register_buffer("edges", EDGES.clone())

    def forward(self, x: Tensor) -> Tensor:
        if self.place is by_edges:
            return self.table[torch.bucketize(self.linear(x), self.edges)]
        if self.place is by_search:
            return torch.take(self.table, torch.searchsorted(self.edges, self.linear(x), right=True))
        return self.table[self.place(2 * self.linear(x) + 2)]


def by_edges(z: Tensor) -> Tensor:
    return z


def by_search(z: Tensor) -> Tensor:
    return z


PLACES: dict[str, Callable[[Tensor], Tensor]] = {
    "bucketize": by_edges,
    "searchsorted": by_search,
    "floor, clamp": lambda z: z.floor().clamp(0, 4).long(),
    "clamp, cast": lambda z: z.clamp(0, 4).long(),
    "cast, clamp": lambda z: z.long().clamp(0, 4),
    "clamp, int": lambda z: torch.clamp(z, min=0.0, max=4.75).to(torch.int32),
}


@pytest.mark.parametrize("kind", PLACES)
def test_a_look_up_is_one_table(kind: str) -> None:
    module = Looked(PLACES[kind])
    model = load(module, (4,))
    (table,) = (op for op in operations(model) if isinstance(op, Table))
    assert len(table.straight.breaks) == 4
    x = 3 * torch.randn(2000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(model.graph.forward(x), module(x))
    region = LinfBall(0.8).around(x[:20])
    bounds = linear_bounds(model.graph, region).tighten(model.graph.output)
    inside = x[:20] + 0.8 * (2 * torch.rand(500, 20, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 1)
    values = module(inside)
    assert bool(((bounds.lower <= values) & (values <= bounds.upper)).all())
    assert float(interval_bounds(model.graph, region)[model.graph.output].width.max()) <= 1.1 + 1e-12


def test_jumps_are_where_the_edges_are() -> None:
    (table,) = (op for op in operations(load(Looked(by_edges), (4,))) if isinstance(op, Table))
    found = table.interval(box([(0.25, 0.25), (0.25, 0.5), (0.3, 0.9), (-9.0, 9.0)]))
    assert found.lower.tolist() == [[-0.2, -0.2, 0.7, -0.2]]
    assert found.upper.tolist() == [[0.7, 0.7, 0.7, 0.9]]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda z: z.floor().long(), "by `bucketize`"),
        (lambda z: z.floor().clamp(0, 5).long(), "surely lies in the table"),
        (lambda z: z.floor().clamp(-1, 4).long(), "surely lies in the table"),
        (lambda z: z.clamp(0, 4).long() + 0, "int64"),
        (lambda z: z.clamp(0, 4).round().long(), "round"),
        (lambda z: (z + z.tanh()).sin().clamp(0, 4).long(), "sin"),
    ],
)
def test_other_places_are_refused(place: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        load(Looked(place), (4,))


def exported(kind: str, path: Path) -> Path:
    """As torch writes it to ONNX, in float32."""
    module = Looked(PLACES[kind]).float()
    torch.onnx.export(module, (torch.zeros(1, 4),), str(path), dynamo=False, input_names=["x"])
    return path


@pytest.mark.parametrize("kind", ["floor, clamp", "clamp, cast"])
def test_onnx_has_tables_too(kind: str, tmp_path: Path) -> None:
    model = load(exported(kind, tmp_path / "model.onnx"))
    (table,) = (op for op in operations(model) if isinstance(op, Table))
    assert len(table.straight.breaks) == 4
    x = 3 * torch.randn(500, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(model.graph.forward(x), Looked(PLACES[kind])(x), atol=1e-6)


def test_places_outside_of_a_table_are_refused_in_onnx(tmp_path: Path) -> None:
    PLACES["outside"] = lambda z: z.floor().clamp(0, 5).long()
    try:
        path = exported("outside", tmp_path / "model.onnx")
    finally:
        del PLACES["outside"]
    with pytest.raises(UnsupportedError, match="outside of a table"):
        load(path)
