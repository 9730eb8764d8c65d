"""Imports at their limits: tensors without axes, without numbers or too large, and models that have no value everywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import NodeProto, TensorProto
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import SINGLE, Arrays, agree, build, node, normal, save
from tightverify.cli.main import main
from tightverify.errors import InputError, ModelError, UnsupportedError
from tightverify.graph import Affine
from tightverify.models.builder import Builder
from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.from_torch.module import from_torch
from tightverify.models.model import Model, checked
from tightverify.models.sizes import LARGEST, TooLarge, fits


class Function(nn.Module):
    """A function of single inputs, whose batch goes along the first axis of what it gives."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


# Tensors without axes: x (1, 6) gives u, which is one of its numbers, and v, which is positive

WITHOUT_AXES: dict[str, list[NodeProto]] = {
    "constant over activations": [node("Div", "c v")],
    "activations over a constant": [node("Div", "u c")],
    "constant over all": [node("Sigmoid", "x", "a"), node("Div", "c a")],
    "of two activations": [node("Div", "u v", "a"), node("Mul", "a u", "b"), node("Mul", "b u")],
    "with a tensor": [node("Mul", "x u", "a"), node("Max", "a u h", "b"), node("Min", "c b")],
    "sums": [node("Add", "c u", "a"), node("Sub", "c a", "b"), node("Sum", "a b c u", "d"), node("Neg", "d")],
    "powers": [node("Pow", "u c", "a"), node("Sqrt", "v", "b"), node("Reciprocal", "v", "d"), node("Sum", "a b d")],
    "functions": [
        node("Relu", "u", "a"),
        node("Tanh", "a", "b"),
        node("Log", "v", "d"),
        node("Clip", "d - h", "e"),
        node("Add", "e b"),
    ],
    "reductions": [
        node("ReduceSum", "u", "a"),
        node("ReduceMean", "u", "b"),
        node("ReduceMax", "u", "d"),
        node("Sum", "a b d"),
    ],
    "moves": [
        node("Identity", "u", "a"),
        node("Transpose", "a", "b"),
        node("Squeeze", "b", "d"),
        node("Slice", "x i j", "e"),
        node("Add", "d e"),
    ],
    "choices": [node("Where", "k u c", "a"), node("Where", "k a x")],
    "expanded": [node("Expand", "u s", "a"), node("Unsqueeze", "u i", "b"), node("Mul", "a b")],
}


@pytest.mark.parametrize("name", WITHOUT_AXES)
def test_tensors_without_axes(name: str, tmp_path: Path) -> None:
    constants = {
        "c": np.array(2.0),
        "h": np.array(0.5),
        "k": np.array(True),
        "n": np.array(1),
        "one": np.array(1.0),
        "i": np.array([0]),
        "j": np.array([4]),
        "s": np.array([2, 1]),
        "six": np.array([6]),
        "row": np.array([1, -1]),
    }
    start = [node("Reshape", "x six", "flat"), node("Gather", "flat n", "u"), node("Sigmoid", "u", "v")]
    path = save(
        tmp_path, build([*start, *WITHOUT_AXES[name], node("Reshape", "y row", "out")], [1, 6], constants, output="out")
    )
    agree(path)


@pytest.mark.parametrize(("kind", "inputs"), [("Reshape", "x s"), ("MatMul", "x w"), ("Gemm", "x w"), ("Tile", "x s")])
def test_constants_that_lack_their_axes_are_refused(kind: str, inputs: str, tmp_path: Path) -> None:
    path = save(tmp_path, build([node(kind, inputs)], [1, 6], {"s": np.array(6), "w": np.array(2.0)}))
    with pytest.raises(ModelError, match=rf"{kind}|onnxruntime cannot"):
        from_onnx(path)


TWO = torch.tensor(2.0)
ENTRIES: dict[str, Callable[[Tensor], Tensor]] = {
    "quotients": lambda x: TWO / x[0].sigmoid() + x[1] / TWO,
    "products": lambda x: x[0] * x[1] * x[0] * TWO,
    "clamped": lambda x: torch.maximum(x[0].clamp(-TWO, TWO), torch.minimum(TWO, x[1].abs())),
    "reduced": lambda x: x[0].sum() + x[1].mean() + x[2].amax(),
    "running": lambda x: x[0].cumsum(0) * x[1],
    "blended": lambda x: torch.lerp(x[0], TWO, x[1]),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_torch_tensors_without_axes(name: str) -> None:
    agree_in_torch(Function(lambda x: torch.stack([ENTRIES[name](one) for one in x.unbind()])[:, None]), (6,))


def agree_in_torch(module: nn.Module, shape: tuple[int, ...]) -> Model:
    model = from_torch(module, shape)
    x = torch.from_numpy(normal(3, *shape, seed=5)).to(model.dtype)
    ours = model.graph.forward(x.to(torch.float64).flatten(1))
    torch.testing.assert_close(ours, model.original(x).to(torch.float64), rtol=model.agreement, atol=model.agreement)
    return model


# Tensors without numbers


def test_sums_over_nothing_are_0_and_means_are_refused(tmp_path: Path) -> None:
    nodes = [
        node("Slice", "x a a one", "e"),
        node("ReduceSum", "e one", "s"),
        node("Add", "x s", "b"),
        node("Flatten", "b", "y"),
    ]
    constants = {"a": np.array([0]), "one": np.array([1])}
    agree(save(tmp_path, build(nodes, ["N", 4, 6], constants)))
    nodes[1] = node("ReduceMean", "e", "s", axes=[1])
    with pytest.raises(UnsupportedError, match=r"ReduceMean.*the mean of no numbers"):
        from_onnx(save(tmp_path, build(nodes, ["N", 4, 6], constants)))
    agree_in_torch(Function(lambda x: x[:, :0].sum(1) + x[:, 0]), (4, 6))
    with pytest.raises(UnsupportedError, match=r"aten.mean of no numbers"):
        from_torch(Function(lambda x: x[:, :0].mean(1) + x[:, 0]), (4, 6))


def test_outputs_of_no_numbers_are_refused(tmp_path: Path) -> None:
    nodes = [node("Slice", "x a a i", "e"), node("Squeeze", "e a")]
    for axes in (["N", 6], [1, 6]):
        with pytest.raises(ModelError, match=r"output 'y' has shape .*one row of numbers"):
            from_onnx(save(tmp_path, build(nodes, axes, {"a": np.array([0]), "i": np.array([1])})))
    with pytest.raises(ModelError, match=r"shape \(1, 0\) for one input; wanted \(1, classes\)"):
        from_torch(Function(lambda x: x[:, :0]), (6,))


# An axis for the batch alone


def test_an_input_of_nothing_but_a_batch_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, build([node("Relu", "x")], ["N"]))
    for shape in (None, ()):
        with pytest.raises(ModelError, match=r"shape = \(\).*wanted one axis or more.*\(batch, 1\)"):
            from_onnx(path, shape=shape)
    agree(save(tmp_path, build([node("Tanh", "x")], ["N", 1])))


# Large tensors: made of indices, of terms, or refused

LARGE: dict[str, tuple[list[NodeProto], Arrays]] = {
    "tile": ([node("Tile", "x s")], {"s": np.array([1, 300, 40])}),
    "expand": ([node("Unsqueeze", "x a", "u"), node("Expand", "u s")], {"a": np.array([1]), "s": np.array([1, 3000, 1, 1])}),
    "windows": ([node("Tile", "x s", "t"), node("AveragePool", "t", kernel_shape=[2])], {"s": np.array([1, 1, 4000])}),
    "sums": ([node("Tile", "x s", "t"), node("ReduceMean", "t", axes=[1])], {"s": np.array([1, 1, 4000])}),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_moves_numbers_makes_no_large_matrix(name: str, tmp_path: Path) -> None:
    nodes, constants = LARGE[name]
    nodes = [*nodes, node("Reshape", "y row", "out")]
    path = save(tmp_path, build(nodes, [1, 4, 6], constants | {"row": np.array([1, -1])}, SINGLE, output="out"))
    assert sum(matrix.numel() for matrix in agree(path).graph.matrices()) < 3_000_000


def test_torch_pools_are_sums_of_few_terms() -> None:
    """Every window by a row of one matrix would take 650 MB."""
    for module in (nn.AvgPool2d(3, 2), Function(lambda x: x.repeat(1, 1, 10, 1))):
        model = agree_in_torch(nn.Sequential(module, nn.Flatten()), (2, 96, 96))
        assert sum(matrix.numel() for matrix in model.graph.matrices()) < 3_000_000


def test_a_sum_of_many_is_one_matrix_as_before() -> None:
    """A term for each would be many nodes' worth of work for a matrix of few rows."""
    builder = Builder()
    builder.total(builder.input((6000,)).reshape(3000, 2), (0,))
    (summed,) = (part for part in builder._nodes if isinstance(part, Affine))
    assert [term.map.shape for term in summed.terms] == [(2, 6000)]


def test_rows_taken_many_times_over_are_not_multiplied_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("Gemm", "x w", "a"), node("Tile", "a s", "t"), node("Add", "t c")]
    constants = {"w": normal(6, 2), "s": np.array([1, 50]), "c": normal(100)}
    path = save(tmp_path, build(nodes, ["N", 6], constants))
    assert max(matrix.numel() for matrix in agree(path).graph.matrices()) == 600
    monkeypatch.setattr("tightverify.models.rewrite.LARGEST", 500)
    assert max(matrix.numel() for matrix in agree(path).graph.matrices()) == 100


MANY = np.array([1, 10**5, 10**5])
TOO_LARGE: dict[str, tuple[list[NodeProto], Arrays]] = {
    "Tile": ([node("Tile", "x s")], {"s": MANY}),
    "Expand": ([node("Unsqueeze", "x a", "u"), node("Expand", "u s")], {"a": np.array([1]), "s": np.array([10**8, 1, 1, 1])}),
    "Pad": ([node("Pad", "x p")], {"p": np.array([0, 0, 0, 0, 10**6, 10**6])}),
    "Gather": ([node("Gather", "x k", axis=1)], {"k": np.zeros((3000, 10000), dtype=np.int64)}),
    "Mul": (
        [node("Tile", "x s", "t"), node("Reshape", "t a", "l"), node("Reshape", "t b", "r"), node("Mul", "l r")],
        {"s": np.array([1, 100, 100]), "a": np.array([-1, 1]), "b": np.array([1, -1])},
    ),
    "Where": (
        [node("Tile", "x s", "t"), node("Reshape", "t a", "l"), node("Reshape", "t b", "r"), node("Where", "k l r")],
        {"s": np.array([1, 100, 100]), "a": np.array([-1, 1]), "b": np.array([1, -1]), "k": np.array(True)},
    ),
    "AveragePool": (
        [node("Tile", "x s", "t"), node("AveragePool", "t", kernel_shape=[3000])],
        {"s": np.array([1, 100, 1000])},
    ),
    "Conv": (
        [node("Tile", "x s", "t"), node("Conv", "t w")],
        {"s": np.array([1, 1, 10**5]), "w": np.zeros((1000, 4, 1))},
    ),
}

FAR = np.array([10**5, 10**5])
CONSTANT: dict[str, Callable[[], tuple[NodeProto, Arrays]]] = {
    "ConstantOfShape": lambda: (node("ConstantOfShape", "s", "k"), {"s": FAR}),
    "Expand": lambda: (node("Expand", "a s", "k"), {"a": np.ones(1), "s": FAR}),
    "Tile": lambda: (node("Tile", "a s", "k"), {"a": np.ones((1, 1)), "s": FAR}),
    "Pad": lambda: (node("Pad", "a s", "k"), {"a": np.ones((1, 1)), "s": np.array([0, 0, 10**5, 10**5])}),
    "Range": lambda: (node("Range", "a s d", "k"), {"a": np.array(0), "s": np.array(10**10), "d": np.array(1)}),
    "Mul": lambda: (node("Mul", "a s", "k"), {"a": np.ones((10**5, 1)), "s": np.ones((1, 10**5))}),
    "MatMul": lambda: (node("MatMul", "a s", "k"), {"a": np.ones((10**5, 1)), "s": np.ones((1, 10**5))}),
}


@pytest.mark.parametrize("kind", CONSTANT)
def test_constants_that_are_too_large_are_refused_before_they_are_made(kind: str, tmp_path: Path) -> None:
    made, constants = CONSTANT[kind]()
    nodes = [made, node("ReduceSum", "k", "t", keepdims=0), node("Add", "x t")]
    with pytest.raises(UnsupportedError, match=rf"{kind} \(node 'my_.* is too large: it takes .* GiB\); wanted at most"):
        from_onnx(save(tmp_path, build(nodes, [1, 4], constants)))


def test_constants_of_a_shape(tmp_path: Path) -> None:
    nodes = [node("ConstantOfShape", "s", "c"), node("Cast", "c", "k", to=TensorProto.DOUBLE), node("Concat", "x k", axis=1)]
    agree(save(tmp_path, build(nodes, [1, 4], {"s": np.array([1, 3])})))


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_tensors_that_are_too_large_are_refused_before_they_are_made(kind: str, tmp_path: Path) -> None:
    nodes, constants = TOO_LARGE[kind]
    with pytest.raises(
        UnsupportedError, match=rf"{kind} \(node 'my_.* is too large: it takes .* GiB\); wanted at most"
    ) as caught:
        from_onnx(save(tmp_path, build(nodes, [1, 4, 6], constants)))
    assert "\n" not in str(caught.value)


def test_torch_tensors_that_are_too_large_are_refused_before_they_are_made() -> None:
    with pytest.raises(UnsupportedError, match=r"aten.expand is too large \(.*it takes .* GiB"):
        from_torch(Function(lambda x: x[:, None].expand(-1, LARGEST, 2)[:, 0]), (2,))


def test_an_output_of_too_many_parts_is_refused() -> None:
    builder = Builder()
    x = builder.input((2000, 1))
    with pytest.raises(TooLarge, match=r"the model's output.*takes 2000 x 80000 numbers"):
        builder.graph(np.tile(x, (40, 1)))
    assert fits(LARGEST) == (LARGEST,)


def test_a_node_is_found_as_fast_among_many() -> None:
    """Networks over thousands of frames have tens of thousands of nodes, each of which is looked for while they are built."""

    def seconds(nodes: int) -> float:
        builder = Builder()
        x = builder.input((nodes, 1))
        began = time.process_time()
        for k in range(500):
            assert builder.source_of(x[k % nodes]).tolist() == [k % nodes]
        return time.process_time() - began

    assert seconds(50_000) < 20 * seconds(100)


# Models without a value everywhere


def logarithm(tmp_path: Path, least: float) -> Path:
    nodes = [node("Sub", "x c", "a"), node("Log", "a", "b"), node("Mul", "b w")]
    return save(tmp_path, build(nodes, ["N", 2], {"c": np.array(least), "w": np.array([1.0, 2.0])}))


def scaled(*factors: float) -> nn.Module:
    layer = nn.Linear(len(factors), len(factors), bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor(factors)))
    return layer


def test_random_inputs_outside_the_domain_are_left_out_and_noted(tmp_path: Path) -> None:
    (note,) = (note for note in from_onnx(logarithm(tmp_path, 0.0)).notes if "domain" in note)
    assert "at 3 of 6 random inputs, the model has no value: Log may have none there" in note
    for kind in ("Sqrt", "Reciprocal"):
        agree_inside = from_onnx(save(tmp_path, build([node(kind, "x")], ["N", 2])))
        x = torch.rand(4, 2, dtype=torch.float64) + 0.1
        torch.testing.assert_close(agree_inside.graph.forward(x), agree_inside.original(x))


def test_a_model_without_a_value_at_random_inputs_is_compared_at_the_users(tmp_path: Path) -> None:
    path = logarithm(tmp_path, 1e6)
    fault = r"cannot be compared.*at 6 of 6 random inputs, the model has no value: Log may.*give inputs at which it has one"
    module = nn.Sequential(Function(lambda x: torch.log(x - 1e6)), scaled(1.0, 2.0))
    inputs = 1e6 + np.array([[3.0, 4.0]])
    for load in (lambda **given: tv.load(path, **given), lambda **given: tv.load(module, (2,), **given)):
        with pytest.raises(ModelError, match=fault) as caught:
            load()
        assert "bug" not in str(caught.value)
        with pytest.raises(ModelError, match="nor has it one at the first of the inputs given"):
            load(inputs=np.array([[9e5, 9e5]]))
        assert any("at 6 of 6 random inputs" in note for note in load(inputs=inputs).notes)
    for model in (path, module):
        (result,) = tv.certify(model, inputs, [1], tv.LinfBall(0.1))
        assert result.verdict is tv.Verdict.ROBUST


@pytest.mark.parametrize("least", [3.0, 50.0, 5000.0])
def test_random_inputs_go_as_far_as_the_domain_is(least: float, tmp_path: Path) -> None:
    """Where nobody says what inputs there will be; those that are given are never passed over for others."""
    path = logarithm(tmp_path, least)
    right = tv.load(path)
    assert any("inside the model's domain only: at 6 of 6" in note for note in right.notes)
    wrong = Model(right.graph, lambda x: torch.log(x - least) * 2, torch.float64, "a wrong one")
    with pytest.raises(ModelError, match="the import does not compute what the model computes"):
        checked(wrong)
    with pytest.raises(ModelError, match="nor has it one at the first of the inputs given"):
        tv.load(path, inputs=np.array([[least / 2, least / 2]]))


def test_info_says_what_it_could_not_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(logarithm(tmp_path, 1e6)), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["nodes, unrolled"]["log"] == 1
    assert "cannot be compared with its import: at 6 of 6 random inputs, the model has no value" in facts["agreement"]
    assert main(["info", str(logarithm(tmp_path, 5.0))]) == 0
    assert "were compared on random inputs" in " ".join(capsys.readouterr().out.split())


def test_a_wrong_import_is_found_where_the_users_inputs_are(tmp_path: Path) -> None:
    """Of what is left of the random inputs, or of those that are given in their place."""
    inputs = torch.tensor([[13.0, 14.0]], dtype=torch.float64)
    for least in (0.0, 10.0):
        right = tv.load(logarithm(tmp_path, least), inputs=inputs)
        wrong = Model(right.graph, lambda x, least=least: torch.log(x - least) * 2, torch.float64, "a wrong one")  # type: ignore[misc]
        with pytest.raises(ModelError, match="the import does not compute what the model computes"):
            checked(wrong, inputs)


def test_a_single_input_inside_the_domain_makes_a_batch_with_others_near_it(tmp_path: Path) -> None:
    """Alone, it would not show that the model mixes the inputs of a batch."""
    inputs = torch.tensor([[13.0, 14.0]], dtype=torch.float64)
    right = tv.load(logarithm(tmp_path, 10.0), inputs=inputs)
    factors = torch.tensor([1.0, 2.0], dtype=torch.float64)
    mixing = Model(right.graph, lambda x: torch.log(x.mean(0) - 10).expand_as(x) * factors, torch.float64, "a mixing one")
    with pytest.raises(ModelError, match="depend on what else is in the batch"):
        checked(mixing, inputs)


def test_overflow_is_no_want_of_a_value(tmp_path: Path) -> None:
    right = tv.load(logarithm(tmp_path, 0.0))
    wrong = Model(right.graph, lambda x: torch.full_like(x, torch.inf), torch.float64, "a wrong one")
    with pytest.raises(ModelError, match="the import does not compute what the model computes"):
        checked(wrong)


def test_inputs_that_do_not_fit_the_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"inputs have shape \(1, 3\); wanted \(N, 2\)"):
        tv.load(logarithm(tmp_path, 0.0), (2,), inputs=np.ones((1, 3)))
