"""The graph builder, and that gates are found however a cell is spelt and nowhere else."""

# ruff: noqa: ARG005 - functions of a table share their parameters

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tightverify.graph import Affine, Apply, Graph, Input
from tightverify.models.builder import ZERO, Builder, Symbols
from tightverify.models.from_torch.module import from_torch
from tightverify.models.recurrent import GruCell, Weights, run
from tightverify.ops import MULTIPLY, Sigmoid, Tanh

TIME, FEATURES, HIDDEN = 3, 2, 3


def drawn(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    module = module.double().eval()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    return module


def kinds(graph: Graph) -> Counter[str]:
    """How many nodes of each kind there are."""
    return Counter(node.op.name if isinstance(node, Apply) else type(node).__name__ for node in graph.nodes)


def operations(graph: Graph) -> set[str]:
    return {node.op.name for node in graph.nodes if isinstance(node, Apply)}


def bare(graph: Graph) -> Graph:
    """The graph, after a check that it is well formed: topological order, everything read, sizes that fit."""
    read = {operand.source for node in graph.nodes for operand in node.operands}
    for number, node in enumerate(graph.nodes):
        assert all(operand.source < number for operand in node.operands)
        assert number in read or number == graph.output
        sizes = [torch.arange(graph.nodes[o.source].size)[o.index].numel() for o in node.operands]
        if isinstance(node, Apply):
            assert sizes == [node.size] * node.op.arity
        if isinstance(node, Affine):
            assert bool((node.bias_size >= node.bias.abs()).all())
            for size, term in zip(sizes, node.terms, strict=True):
                assert term.map.shape == (node.size, size)
    return graph


class Lstm(nn.Module):
    """An LSTM by hand, with the weights of an `nn.LSTM`."""

    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        w, u, b, c = self.layer.all_weights[0]
        hidden = cell = torch.zeros(x.shape[0], HIDDEN, dtype=x.dtype)
        for t in range(TIME):
            gates = nn.functional.linear(x[:, t], w, b) + nn.functional.linear(hidden, u, c)
            i, f, g, o = gates.chunk(4, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        return hidden


class Gru(nn.Module):
    """A GRU by hand, with the weights of an `nn.GRU` and an update of any spelling."""

    def __init__(self, layer: nn.GRU, update: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.update = layer, update

    def forward(self, x: Tensor) -> Tensor:
        w, u, b, c = self.layer.all_weights[0]
        hidden = torch.zeros(x.shape[0], HIDDEN, dtype=x.dtype)
        for t in range(TIME):
            given, kept = nn.functional.linear(x[:, t], w, b), nn.functional.linear(hidden, u, c)
            r, z = (given + kept)[:, : 2 * HIDDEN].sigmoid().chunk(2, 1)
            n = torch.tanh(given[:, 2 * HIDDEN :] + r * kept[:, 2 * HIDDEN :])
            hidden = self.update(z, n, hidden)
        return hidden


class LastOutput(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


UPDATES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "(1 - z) * n + z * h": lambda z, n, h: (1 - z) * n + z * h,
    "n * (1 - z) + h * z": lambda z, n, h: n * (1 - z) + h * z,
    "z * h + (1 - z) * n": lambda z, n, h: z * h + (1 - z) * n,
    "n + z * (h - n)": lambda z, n, h: n + z * (h - n),
    "(h - n) * z + n": lambda z, n, h: (h - n) * z + n,
    "n - z * (n - h)": lambda z, n, h: n - z * (n - h),
    "h + (1 - z) * (n - h)": lambda z, n, h: h + (1 - z) * (n - h),
    "h - (1 - z) * (h - n)": lambda z, n, h: h - (1 - z) * (h - n),
    "lerp(n, h, z)": lambda z, n, h: torch.lerp(n, h, z),
    "lerp(h, n, 1 - z)": lambda z, n, h: torch.lerp(h, n, 1 - z),
}


def test_a_hand_written_lstm_has_only_its_gates() -> None:
    layer = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    module = drawn(Lstm(layer))
    graph = bare(from_torch(module, (TIME, FEATURES)).graph)
    assert operations(graph) == {"sigmoid_tanh", "sigmoid_times"}
    assert kinds(graph) == kinds(from_torch(LastOutput(layer), (TIME, FEATURES)).graph)
    # A sum for the gates of each step, and one for each cell but the first.
    assert kinds(graph) == {"Input": 3, "Affine": 5, "sigmoid_tanh": 6, "sigmoid_times": 2}


@pytest.mark.parametrize("update", UPDATES)
def test_every_spelling_of_a_gru_is_the_same_graph(update: str) -> None:
    layer = nn.GRU(FEATURES, HIDDEN, batch_first=True)
    module = drawn(Gru(layer, UPDATES[update]))
    graph = bare(from_torch(module, (TIME, FEATURES)).graph)
    whole = bare(from_torch(LastOutput(layer), (TIME, FEATURES)).graph)
    assert kinds(graph)["gru_update"] == kinds(whole)["gru_update"] == TIME - 1
    assert "multiply" not in operations(graph)
    if not update.startswith("h -"):  # Whose first step, from the state 0, is the negation of a product of a negation.
        assert kinds(graph)["sigmoid_tanh"] == kinds(whole)["sigmoid_tanh"] == 1
        assert operations(graph) == operations(whole)
    x = torch.randn(7, TIME * FEATURES, dtype=torch.float64)
    torch.testing.assert_close(graph.forward(x), whole.forward(x))


@pytest.mark.parametrize("update", UPDATES)
def test_swapped_roles_of_a_gru_gate(update: str) -> None:
    """z for 1 - z: the new state and the old one change places."""
    layer = nn.GRU(FEATURES, HIDDEN, batch_first=True)
    module = drawn(Gru(layer, lambda z, n, h: UPDATES[update](1 - z, n, h)))
    graph = bare(from_torch(module, (TIME, FEATURES)).graph)
    assert kinds(graph)["gru_update"] == TIME - 1


class Pair(nn.Module):
    """A function of three linear maps of the input."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.maps = nn.ModuleList(nn.Linear(4, HIDDEN) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(*(part(x) for part in self.maps))


LOOKALIKES: dict[str, Callable[..., Tensor]] = {
    "two gates": lambda a, b, n, h: (1 - a.sigmoid()) * n.tanh() + b.sigmoid() * h,
    "no complement": lambda a, b, n, h: a.sigmoid() * n.tanh() + a.sigmoid() * h,
    "two complements": lambda a, b, n, h: (1 - a.sigmoid()) * n.tanh() + (1 - a.sigmoid()) * h,
    "a sum": lambda a, b, n, h: n + a.sigmoid() * (h + n),
    "a sum, negated": lambda a, b, n, h: n - a.sigmoid() * (h + n),
    "wrong way": lambda a, b, n, h: n + a.sigmoid() * (n - h),
    "wrong way, negated": lambda a, b, n, h: n - a.sigmoid() * (h - n),
    "two of one": lambda a, b, n, h: (2 - a.sigmoid()) * n + a.sigmoid() * h,
    "minus": lambda a, b, n, h: (1 - a.sigmoid()) * n - a.sigmoid() * h,
    "twice": lambda a, b, n, h: (1 - 2 * a.sigmoid()) * n + a.sigmoid() * h,
    "other n": lambda a, b, n, h: n + a.sigmoid() * (h - b),
    "n and tanh(n)": lambda a, b, n, h: n + a.sigmoid() * (h - n.tanh()),
    "a shift": lambda a, b, n, h: n + a.sigmoid() * (h - n + 1),
    "a shift outside": lambda a, b, n, h: (1 - a.sigmoid()) * n + a.sigmoid() * h + 0.5,
    "a scale": lambda a, b, n, h: n + a.sigmoid() * (h - 2 * n),
    "other neurons": lambda a, b, n, h: n + a.sigmoid() * (h - n.flip(1)),
    "other gates": lambda a, b, n, h: (1 - a.sigmoid().flip(1)) * n + a.sigmoid() * h,
    "tanh": lambda a, b, n, h: (1 - a.tanh()) * n + a.tanh() * h,
    "minus new": lambda a, b, n, h: -n + a.sigmoid() * (h - n),
    "plus new": lambda a, b, n, h: n + a.sigmoid() * n,
    "minus other": lambda a, b, n, h: n - a.sigmoid() * h,
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_lookalikes_of_a_gru_are_left_alone(name: str) -> None:
    """`from_torch` compares with the module, so that a wrong rewriting raises."""
    module = drawn(Pair(LOOKALIKES[name]))
    graph = bare(from_torch(module, (4,)).graph)
    if name != "a shift outside":  # A mean and a constant: either way is right.
        assert "gru_update" not in operations(graph)


PRODUCTS: dict[str, tuple[Callable[..., Tensor], set[str]]] = {
    "both orders": (lambda a, b, n, h: a.tanh() * b.sigmoid() + n.sigmoid() * h.tanh(), {"sigmoid_tanh"}),
    "complement": (lambda a, b, n, h: (1 - a.sigmoid()) * b.tanh() + n * (1 - h.sigmoid()), {"sigmoid_tanh", "sigmoid_times"}),
    "two sigmoids": (lambda a, b, n, h: a.sigmoid() * b.sigmoid(), {"sigmoid", "sigmoid_times"}),
    "two tanhs": (lambda a, b, n, h: a.tanh() * b.tanh(), {"tanh", "tanh_times"}),
    "plain": (lambda a, b, n, h: a * b, {"multiply"}),
    "square": (lambda a, b, n, h: a * a, {"square"}),
    "used twice": (lambda a, b, n, h: a.sigmoid() * b.tanh() + a.sigmoid() + b.tanh(), {"sigmoid_tanh", "sigmoid", "tanh"}),
    "used elsewhere": (lambda a, b, n, h: torch.cat([a.sigmoid() * b, a.sigmoid()], 1), {"sigmoid_times", "sigmoid"}),
    "in a blend and elsewhere": (
        lambda a, b, n, h: (1 - a.sigmoid()) * n + a.sigmoid() * h + a.sigmoid() * b,
        {"gru_update", "sigmoid_times"},
    ),
    "the product elsewhere": (
        lambda a, b, n, h: torch.cat([n + a.sigmoid() * (h - n), a.sigmoid() * (h - n), h - n], 1),
        {"gru_update", "sigmoid_times"},
    ),
    "coupled gates": (lambda a, b, n, h: a.sigmoid() * h + (1 - a.sigmoid()) * b.tanh(), {"gru_update", "tanh"}),
    "scaled gate": (lambda a, b, n, h: 0.5 * a.sigmoid() * b, {"multiply", "sigmoid"}),
    "constant": (lambda a, b, n, h: a.sigmoid() * torch.tensor([1.0, -2.0, 0.0]), {"sigmoid"}),
    "slices": (lambda a, b, n, h: torch.cat([a, b], 1).sigmoid()[:, 1:4] * torch.cat([n, h], 1).tanh()[:, 2:5], set()),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_become_gates(name: str) -> None:
    function, wanted = PRODUCTS[name]
    graph = bare(from_torch(drawn(Pair(function)), (4,)).graph)
    assert operations(graph) == wanted or not wanted


def test_gru_with_the_reset_gate_before_the_product() -> None:
    """ONNX's default, against the formula."""
    generator = torch.Generator().manual_seed(0)
    w, u, b, c = (
        torch.randn(3 * HIDDEN, *rest, generator=generator, dtype=torch.float64) for rest in ((FEATURES,), (HIDDEN,), (), ())
    )
    builder = Builder()
    x = builder.input((TIME, FEATURES))
    start = np.full(HIDDEN, ZERO)
    outputs, _ = run(builder, GruCell(Weights(w, u, b, c), reset_after=False), x, (start,), reverse=True)
    graph = bare(builder.graph(outputs))
    values = torch.randn(TIME, FEATURES, generator=generator, dtype=torch.float64)
    h, wanted = torch.zeros(HIDDEN, dtype=torch.float64), []
    for frame in values.flip(0):
        gates = w @ frame + b
        r, z = (gates[: 2 * HIDDEN] + u[: 2 * HIDDEN] @ h + c[: 2 * HIDDEN]).sigmoid().chunk(2)
        n = torch.tanh(gates[2 * HIDDEN :] + u[2 * HIDDEN :] @ (r * h) + c[2 * HIDDEN :])
        h = (1 - z) * n + z * h
        wanted.insert(0, h)
    torch.testing.assert_close(graph.forward(values.flatten()), torch.cat(wanted))
    assert kinds(graph)["gru_update"] == TIME - 1


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
    x = builder.input((4, 3))
    nodes = [builder.matmul(x[t], weight) for t in range(4)]
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
        _, x, y = made(lambda builder, x, axis=axis: builder.largest(x, axis), (5, 3))
        torch.testing.assert_close(y, x.amax(axis + 1))
    _, x, y = made(lambda builder, x: builder.largest(x[0], 0), (1, 3))
    torch.testing.assert_close(y, x[:, 0].amax(1, keepdim=True))
