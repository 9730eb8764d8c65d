"""What every kind of linear map promises: both products agree with the matrix, and sums are as long as they say."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tightverify.graph import Affine, Graph, Input, Operand, Term
from tightverify.linear_map import Axis, Convolution, Dense, Diagonal, Identity, LinearMap, convolution, side_by_side
from tightverify.values import TINY, gamma

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
    "convolution": lambda: Convolution(thinned(3, 2, 3), (Axis(7, 4, 3, stride=2, start=-1),)),
    "convolution, 2-d": lambda: Convolution(thinned(2, 3, 2, 3), (Axis(4, 3, 2), Axis(7, 3, 3, 2, 2, -1))),
    "convolution, groups": lambda: Convolution(thinned(4, 2, 2), (Axis(5, 4, 2),), groups=2),
    "convolution, nonnegative": lambda: Convolution(thinned(4, 1, 2, 2).abs(), (Axis(4, 2, 2, 2), Axis(6, 3, 2, 2)), groups=4),
    "convolution, other start": lambda: Convolution(thinned(3, 2, 3), (Axis(7, 4, 3, stride=2, start=-2),)),
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


def drawn(generator: random.Random) -> Convolution:
    """A convolution of any kind in one to three dimensions: paddings cut off or larger than the filters among them."""
    groups, axes = generator.choice([1, 1, 2, 3]), []
    for _ in range(generator.choice([1, 2, 2, 3])):
        length, taps, stride, dilation = (generator.randint(1, most) for most in (6, 4, 3, 3))
        before, after = (generator.randint(-(length // 3), 4) for _ in range(2))
        room = length + before + after - (taps - 1) * dilation - 1
        axes.append(Axis(length, max(0, room) // stride + 1, taps, stride, dilation, -before))
    if not all(axis.most_taps for axis in axes):
        return drawn(generator)
    filters = groups * generator.randint(1, 3), generator.randint(1, 2)
    weights = thinned(*filters, *(axis.taps for axis in axes))
    return Convolution(weights, tuple(axes), groups)


def by_torch(mapped: Convolution, x: Tensor) -> Tensor:
    """What torch makes of the same filters, of numbers (..., m)."""
    space, axes = [axis.length for axis in mapped.axes], mapped.axes
    margins = [margin for axis in reversed(axes) for margin in (-axis.start, axis.start + axis.reach - axis.length)]
    x = functional.pad(x.reshape(-1, *space, mapped.channels).movedim(-1, 1), margins)
    stride, dilation = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(axes) - 1]
    return convolve(x, mapped.weights, None, stride, 0, dilation, mapped.groups).movedim(1, -1).flatten(1)


@pytest.mark.parametrize("seed", range(60))
def test_convolutions_are_those_of_torch_and_their_own_matrices(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(seed)
    mapped = drawn(generator)
    if generator.random() < 0.5:
        monkeypatch.setattr(convolution, "MOST", generator.randint(1, 200))
    x = normal(5, mapped.shape[1])
    torch.testing.assert_close(mapped.push(x), by_torch(mapped, x), rtol=1e-13, atol=1e-13)
    test_products_are_those_of_the_matrix(mapped)
    test_sums_are_no_longer_than_they_say(mapped)
    test_sizes(mapped)
    assert not mapped.monotone or not bool((mapped.matrix < 0).any())
    for count in (1, 2, mapped.shape[0]):
        index = torch.tensor([generator.randrange(mapped.shape[0]) for _ in range(count)])
        needed, selected = mapped.select(index)
        torch.testing.assert_close(selected.push(x[:, needed]), mapped.push(x)[:, index])
        assert selected is mapped or selected.weights.numel() <= mapped.numbers_of(count)


def test_convolutions_are_differentiable() -> None:
    """An attack follows the gradient of values by numbers: what `pull` makes of rows."""
    mapped = MAPS["convolution, 2-d"]()
    x, row = normal(mapped.shape[1]).requires_grad_(), normal(mapped.shape[0], seed=3)
    (found,) = torch.autograd.grad(mapped.push(x) @ row, x)
    torch.testing.assert_close(found, mapped.pull(row))


@pytest.mark.parametrize("seed", range(4))
def test_sums_of_convolutions_are_plain(seed: int) -> None:
    """Of numbers of any size side by side, each value is as exact as its own terms allow, whatever the others are."""
    mapped = drawn(random.Random(seed))
    sizes = 10.0 ** (60 * torch.rand(2, *mapped.shape[::-1][:1], generator=torch.Generator().manual_seed(seed), dtype=DOUBLE))
    x, rows = normal(2, mapped.shape[1]) * sizes, 10.0 ** (60 * normal(2, mapped.shape[0]))
    matrix = [[Fraction(number) for number in row] for row in mapped.matrix.tolist()]
    turned = [list(column) for column in zip(*matrix, strict=True)]
    for numbers, found, by, length in (
        (x, mapped.push(x), matrix, mapped.fan_in),
        (rows, mapped.pull(rows), turned, mapped.fan_out),
    ):
        for own, values in zip(numbers.tolist(), found.tolist(), strict=True):
            for row, value in zip(by, values, strict=True):
                terms = [weight * Fraction(number) for weight, number in zip(row, own, strict=True)]
                assert abs(Fraction(value) - sum(terms)) <= Fraction(gamma(length)) * sum(map(abs, terms))


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
