"""What every kind of linear map promises: both products agree with the matrix, and sums are as long as they say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tightverify.graph import Affine, Graph, Input, Operand, Term
from tightverify.linear_map import Dense, Diagonal, Identity, LinearMap, side_by_side
from tightverify.values import TINY

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def thinned(*shape: int) -> Tensor:
    """Numbers of both signs, zeros among them."""
    return torch.where(normal(*shape, seed=1) > 0.8, 0.0, normal(*shape, seed=2))


MAPS: dict[str, Callable[[], LinearMap]] = {
    "identity": lambda: Identity(5),
    "negation": lambda: Diagonal(-torch.ones(4, dtype=DOUBLE)),
    "diagonal": lambda: Diagonal(thinned(6)),
    "one number": lambda: Diagonal(thinned(1)),
    "dense": lambda: Dense(thinned(3, 7)),
    "tall": lambda: Dense(thinned(8, 2)),
    "nonnegative": lambda: Dense(thinned(4, 3).abs()),
    "joined": lambda: side_by_side([Dense(thinned(3, 2)), Identity(3), Diagonal(thinned(3))]),
}


@pytest.fixture(params=MAPS)
def mapped(request: pytest.FixtureRequest) -> LinearMap:
    return MAPS[request.param]()


def test_products_are_those_of_the_matrix(mapped: LinearMap) -> None:
    outputs, inputs = mapped.shape
    assert mapped.matrix.shape == (outputs, inputs)
    x, rows = normal(2, 3, inputs), normal(2, 4, outputs)
    torch.testing.assert_close(mapped.push(x), x @ mapped.matrix.T, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(mapped.pull(rows), rows @ mapped.matrix, rtol=1e-14, atol=1e-14)
    adjoint = (mapped.push(x)[:, :, None] * rows[:, None]).sum(-1), (x[:, :, None] * mapped.pull(rows)[:, None]).sum(-1)
    torch.testing.assert_close(*adjoint, rtol=1e-13, atol=1e-13)


def test_values_come_in_the_precision_that_is_asked_for(mapped: LinearMap) -> None:
    assert mapped.push(normal(2, mapped.shape[1]).float()).dtype == torch.float32


def test_sums_are_no_longer_than_they_say(mapped: LinearMap) -> None:
    """Of whatever the map has numbers for, zeros too: a weight may have underflowed."""
    rows, columns, _ = mapped.entries()
    assert int(torch.bincount(rows).max()) == mapped.fan_in
    assert int(torch.bincount(columns).max()) == mapped.fan_out


def test_sizes(mapped: LinearMap) -> None:
    rows, columns, values = mapped.entries()
    assert torch.equal(mapped.absolute.matrix, mapped.matrix.abs())
    sizes = mapped.magnitude.matrix[rows, columns]
    assert bool((sizes >= values.abs()).all())
    assert bool((sizes > 0).all())
    assert bool((sizes <= values.abs() + 2 * TINY).all())


@pytest.mark.parametrize("index", [slice(1, 3), slice(None), torch.tensor([2, 0, 2]), torch.tensor([0])])
def test_some_of_the_values(mapped: LinearMap, index: slice | Tensor) -> None:
    if mapped.shape[0] < 3:
        index = slice(None)
    needed, selected = mapped.select(index)
    x = normal(2, mapped.shape[1])
    torch.testing.assert_close(selected.push(x[:, needed]), mapped.push(x)[:, index])


def test_signs(mapped: LinearMap) -> None:
    x = normal(mapped.shape[1])
    for sign in (1, -1):
        same = mapped.shape == (len(x), len(x)) and torch.equal(mapped.push(x), sign * x)
        assert (mapped.sign == sign) == same
    assert mapped.monotone == (not bool((mapped.matrix < 0).any()))
    assert Diagonal(torch.ones(3, dtype=DOUBLE)).sign == 1


def test_maps_are_equal_where_all_that_they_say_is() -> None:
    for name, make in MAPS.items():
        for other, same in MAPS.items():
            assert make().equals(same()) == (name == other), (name, other)
    assert not Identity(3).equals(Identity(4))
    assert not Identity(3).equals(Diagonal(torch.ones(3, dtype=DOUBLE)))


def test_a_graph_works_its_terms_out_together_and_shares_what_it_joined() -> None:
    """Where time steps share their maps, they share the matrix that these make side by side."""
    one, other = Dense(thinned(3, 2)), Dense(thinned(3, 3))
    zero = torch.zeros(3, dtype=DOUBLE)
    inputs = (Input(0, 2), Input(2, 3))
    terms = (Term(Operand(0), one), Term(Operand(1), Identity(3)), Term(Operand(1), other))
    graph = Graph((*inputs, Affine(terms, zero, zero), Affine(terms[::-1], zero, zero), Affine(terms, zero, zero)), 4, (5,))
    first, second, third = (graph.products[number] for number in (2, 3, 4))
    assert [len(product.operands) for product in first] == [2, 1]
    assert first[0].map is third[0].map
    assert first[0].map is not second[0].map
    rows = normal(1, 2, 3)
    for products in (first, second):
        found = torch.zeros(1, 2, 5, dtype=DOUBLE)
        for product in products:
            for operand, part in product.pull(rows):
                found[..., graph.nodes[operand.source].block] += part  # type: ignore[union-attr]
        torch.testing.assert_close(found, rows @ torch.cat([one.weights, torch.eye(3, dtype=DOUBLE) + other.weights], dim=1))
