"""The graph builder: numbers that are moved leave no trace, what computes makes nodes, sums are merged."""

# ruff: noqa: ARG005 - functions of a table share their parameters

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.graphs import bare, kinds, operations
from tightverify.graph import Affine, Graph, Input
from tightverify.models.builder import ZERO, Builder, Symbols
from tightverify.ops import MULTIPLY, Sigmoid, Tanh

TIME, FEATURES, HIDDEN = 3, 2, 3


def made(build: Callable[[Builder, Symbols], Symbols], shape: tuple[int, ...] = (2, 3)) -> tuple[Graph, Tensor, Tensor]:
    """A graph of an input, inputs (5, shape), and the graph's outputs there."""
    builder = Builder()
    graph = bare(builder.graph(build(builder, builder.input(shape))))
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return graph, x, graph.forward(x.flatten(1))


def test_frames_are_nodes_of_their_own() -> None:
    graph, x, y = made(lambda builder, x: x, (4, 3))
    assert [(node.start, node.size) for node in graph.nodes if isinstance(node, Input)] == [(0, 3), (3, 3), (6, 3), (9, 3)]
    assert torch.equal(y, x.flatten(1))
    builder = Builder()
    assert len(builder.graph(builder.input((4,))).nodes) == 1
    assert len(Builder().input((2, 2, 3)).ravel()) == 12


def test_constants_and_zeros() -> None:
    builder = Builder()
    numbers = builder.constant(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))
    assert numbers.shape == (2, 2)
    assert (numbers == ZERO).tolist() == [[True, False], [False, True]]
    value = builder.value(numbers)
    assert value is not None
    assert value.tolist() == [[0, 2], [3, 0]]
    assert (builder.constant(torch.zeros(3)) == ZERO).all()
    x = builder.input((2,))
    assert builder.value(np.append(numbers.ravel(), x)) is None
    constant = builder.apply(Sigmoid(), builder.constant(torch.tensor([0.0, 1.0])))
    torch.testing.assert_close(builder.value(constant), torch.tensor([0.0, 1.0], dtype=torch.float64).sigmoid())


def test_operations_on_a_mix_of_neurons_constants_and_zeros() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        row = np.concatenate([x[0, :2], builder.constant(torch.tensor([0.5])), [ZERO], x[1, 2:]])
        return np.concatenate([row, builder.apply(Sigmoid(), row), builder.multiply(row, row[::-1])])

    _, x, y = made(build)
    row = torch.cat([x[:, 0, :2], torch.full((5, 1), 0.5), torch.zeros(5, 1), x[:, 1, 2:]], 1)
    torch.testing.assert_close(y, torch.cat([row, row.sigmoid(), row * row.flip(1)], 1))


def test_broadcasting() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        outer = builder.multiply(x[0][:, None], x[1][None])
        total = builder.combine([(x[0][:, None], 2.0), (x[1], torch.tensor([1.0, 0.0, -1.0]))], torch.arange(3.0)[:, None])
        return np.stack([outer, total, builder.apply(MULTIPLY, x[0][:, None], x[0, :1])[:, [0, 0, 0]]])

    _, x, y = made(build)
    a, b = x[:, 0, :, None], x[:, 1, None, :]
    total = 2 * a + b * torch.tensor([1.0, 0.0, -1.0]) + torch.arange(3.0)[:, None]
    wanted = torch.stack([a * b, total, (a * x[:, 0, :1, None]).expand(-1, -1, 3)], 1)
    torch.testing.assert_close(y, wanted.flatten(1))


def test_time_steps_stay_apart() -> None:
    builder = Builder()
    x = builder.input((4, 3))
    graph = bare(builder.graph(builder.apply(Tanh(), x)))
    assert kinds(graph)["tanh"] == 4
    summed = Builder()
    x = summed.input((4, 3))
    graph = bare(summed.graph(summed.total(summed.apply(Tanh(), x), (0,), 0.25)))
    assert kinds(graph) == {"Input": 4, "tanh": 4, "Affine": 1}


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (-1,)])
def test_totals(axes: tuple[int, ...]) -> None:
    graph, x, y = made(lambda builder, x: builder.total(x, axes, 0.5))
    batched = tuple(axis % 2 + 1 for axis in axes)
    torch.testing.assert_close(y, 0.5 * x.sum(batched).reshape(5, -1))
    terms = [len(node.terms) for node in graph.nodes if isinstance(node, Affine)]
    assert max(terms) <= 2  # Neurons of one node are one term.


def test_totals_of_repeated_neurons_and_zeros() -> None:
    _, x, y = made(lambda builder, x: builder.total(np.stack([x[0], x[0, [1, 1, 0]], np.full(3, ZERO), x[1]]), (0,)))
    torch.testing.assert_close(y, x[:, 0] + x[:, 0, [1, 1, 0]] + x[:, 1])
    _, x, y = made(lambda builder, x: np.concatenate([builder.total(np.full((2, 2), ZERO), (0,)), x[0]]))
    assert not y[:, :2].any()


def test_indices_that_repeat() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        row = x[0, [2, 0, 2, 2, 1]]
        product = builder.multiply(builder.apply(Sigmoid(), row), builder.apply(Tanh(), x[1, [0, 0, 1, 2, 2]]))
        return builder.matmul(np.append(product, row), torch.arange(20.0).reshape(2, 10), torch.tensor([1.0, 2.0]))

    _, x, y = made(build)
    row = x[:, 0, [2, 0, 2, 2, 1]]
    both = torch.cat([row.sigmoid() * x[:, 1, [0, 0, 1, 2, 2]].tanh(), row], 1)
    torch.testing.assert_close(y, both @ torch.arange(20.0, dtype=torch.float64).reshape(2, 10).T + torch.tensor([1.0, 2.0]))


def test_matmul_at_every_position_shares_its_weight() -> None:
    weight = torch.randn(2, 3)
    graph, x, y = made(lambda builder, x: builder.matmul(x, weight), (4, 3))
    torch.testing.assert_close(y, (x @ weight.double().T).flatten(1))
    assert len({id(matrix) for matrix in graph.matrices() if matrix.shape == (2, 3)}) <= 1 + 4  # The output's own gather.
    builder = Builder()
    frames = builder.input((4, 3))
    nodes = [builder.matmul(frames[t], weight) for t in range(4)]
    graph = builder.graph(builder.combine([(node, 1.0) for node in nodes]))
    assert len({id(matrix) for matrix in graph.matrices() if matrix.dim() == 2}) == 1


def test_weights_of_zero_frames_need_no_node() -> None:
    builder = Builder()
    assert (builder.matmul(np.full((2, 3), ZERO), torch.ones(4, 3)) == ZERO).all()
    assert builder.value(builder.matmul(np.full(3, ZERO), torch.ones(2, 3), torch.tensor([1.0, 0.0]))) is not None


def test_a_sum_of_one_neuron_is_that_neuron() -> None:
    builder = Builder()
    x = builder.input((3,))
    zero = np.full(3, ZERO)
    assert (builder.combine([(x, 1.0), (zero, 5.0)]) == x).all()
    assert (builder.combine([(x, torch.tensor([1.0, 0.0, 1.0]))]) == np.where([True, False, True], x, ZERO)).all()
    assert (builder.combine([(zero, 1.0)]) == ZERO).all()


def test_a_computed_shift_keeps_its_size() -> None:
    """A shift that cancelled to 0 may be off by the rounding of what was added up: it must not vanish."""
    builder = Builder()
    x = builder.input((3,))
    size = torch.full((3,), 4.0)
    graph = bare(builder.graph(builder.combine([(x, 1.0)], torch.zeros(3), size)))
    assert isinstance(graph.nodes[-1], Affine)
    assert graph.nodes[-1].bias_size.tolist() == [4.0] * 3
    zero = builder.combine([(np.full(3, ZERO), 1.0)], 0.0, size)
    assert (zero != ZERO).all()


def test_a_rounded_shift_makes_no_gate() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        gate = builder.apply(Sigmoid(), x[0])
        rest = builder.combine([(gate, -1.0)], torch.ones(3), torch.full((3,), 3.0))
        first = builder.combine([(builder.multiply(rest, x[1]), 1.0), (builder.multiply(gate, x[0]), 1.0)])
        exact = builder.combine([(gate, -1.0)], 1.0)
        parts = [(builder.multiply(exact, x[1]), 1.0), (builder.multiply(gate, x[0]), 1.0)]
        return np.append(first, builder.combine(parts, torch.zeros(3), torch.ones(3)))

    graph, _, _ = made(build)
    assert "gru_update" not in operations(graph)


def test_sums_are_merged() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        first = builder.matmul(x[0], torch.eye(3), torch.ones(3))
        second = builder.matmul(x[1], 2 * torch.eye(3), torch.tensor([1.0, 2.0, 3.0]))
        both = builder.combine([(first, 1.0), (second, 1.0)])
        return builder.apply(Tanh(), builder.combine([(both, 1.0), (x[0], -1.0)], torch.full((3,), -4.0)))

    graph, x, y = made(build)
    assert kinds(graph) == {"Input": 2, "Affine": 1, "tanh": 1}
    torch.testing.assert_close(y, torch.tanh(2 * x[:, 1] + torch.tensor([-2.0, -1.0, 0.0])))
    (total,) = (node for node in graph.nodes if isinstance(node, Affine))
    assert total.bias_size.tolist() == [6.0, 7.0, 8.0]


def test_a_sum_with_several_readers_is_not_merged() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        total = builder.combine([(x[0], 1.0), (x[1], 1.0)])
        return builder.apply(Tanh(), np.stack([builder.combine([(total, 1.0), (x[k], 1.0)]) for k in range(2)]))

    graph, x, y = made(build)
    total = x.sum(1)
    torch.testing.assert_close(y, torch.tanh(torch.cat([total + x[:, 0], total + x[:, 1]], 1)))
    assert kinds(graph)["Affine"] >= 3


def test_merging_takes_the_rows_that_are_read() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        first = builder.matmul(x[0], torch.arange(12.0).reshape(4, 3), torch.arange(4.0))
        return builder.combine([(first[[3, 0, 3]], 1.0), (x[1], 1.0)])

    graph, x, y = made(build)
    weight = torch.arange(12.0, dtype=torch.float64).reshape(4, 3)
    torch.testing.assert_close(y, (x[:, 0] @ weight.T + torch.arange(4.0))[:, [3, 0, 3]] + x[:, 1])
    assert kinds(graph) == {"Input": 2, "Affine": 1}


def test_constants_are_added_to_the_sum_that_reads_them() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        shift = builder.constant(torch.tensor([1.0, 2.0, 3.0]))
        sums = [builder.combine([(row, 1.0), (shift, 1.0)]) for row in x]
        return np.concatenate([builder.apply(Tanh(), row) for row in sums])

    graph, x, y = made(build)
    torch.testing.assert_close(y, torch.tanh(x + torch.tensor([1.0, 2.0, 3.0])).flatten(1))
    assert all(node.terms for node in graph.nodes if isinstance(node, Affine))


def test_unread_nodes_are_dropped_and_order_kept() -> None:
    def build(builder: Builder, x: Symbols) -> Symbols:
        builder.apply(Tanh(), builder.matmul(x, torch.ones(7, 3)))
        late = builder.apply(Sigmoid(), x[1])
        return builder.combine([(builder.apply(Tanh(), x[1]), 1.0), (late, 2.0)])

    graph, x, y = made(build)
    assert kinds(graph) == {"Input": 1, "tanh": 1, "sigmoid": 1, "Affine": 1}
    torch.testing.assert_close(y, x[:, 1].tanh() + 2 * x[:, 1].sigmoid())


def test_outputs_in_any_order() -> None:
    _, x, y = made(lambda builder, x: np.append(x.T.ravel()[::-1], [ZERO, x[0, 0]]))
    torch.testing.assert_close(y, torch.cat([x.transpose(1, 2).flatten(1).flip(1), torch.zeros(5, 1), x[:, 0, :1]], 1))


def test_largest() -> None:
    for axis in (0, 1):
        _, x, y = made(lambda builder, x, axis=axis: builder.largest(x, axis), (5, 3))  # type: ignore[misc]
        torch.testing.assert_close(y, x.amax(axis + 1))
    _, x, y = made(lambda builder, x: builder.largest(x[0], 0), (1, 3))
    torch.testing.assert_close(y, x[:, 0].amax(1, keepdim=True))
