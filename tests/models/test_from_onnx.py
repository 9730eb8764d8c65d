"""What an ONNX file says of its shapes and batch is read, and what cannot be imported is refused by name."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper

import tightverify as tv
from tests.helpers.onnx_models import SINGLE, Arrays, agree, build, dense, from_state, head, layer, node, normal, save
from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.builder import Builder
from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.from_onnx.node import Call
from tightverify.models.model import AGREEMENT

# Shapes and batches


def test_a_dynamic_time_axis_needs_a_shape(tmp_path: Path) -> None:
    path = save(tmp_path, dense(["batch", "time", 6]))
    with pytest.raises(ModelError, match=r"\(batch, time, 6\).*dynamic.*--shape 20,6 .*shape=\(20, 6\)"):
        from_onnx(path)
    assert agree(path, shape=(4, 6)).graph.input_shape == (4, 6)


@pytest.mark.parametrize("shape", [(4, 5), (6,), (0, 6), (4, 6, 1)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"shape = \("):
        from_onnx(save(tmp_path, dense(["batch", "time", 6])), shape=shape)


def test_a_fixed_batch_of_one_runs_inputs_one_by_one(tmp_path: Path) -> None:
    model = agree(save(tmp_path, dense([1, "time", 6])), shape=(4, 6))
    assert model.original(torch.zeros(5, 4, 6, dtype=torch.float64)).shape == (5, 3)


def test_a_fixed_batch_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\(2, 4, 6\).*fixed length 2 along axis 0.*batch_axis"):
        from_onnx(save(tmp_path, dense([2, 4, 6])))


def test_the_batch_axis_is_named_or_said(tmp_path: Path) -> None:
    inputs, weights, usual = layer("GRU")
    nodes = from_state(node("GRU", inputs, "- h", **usual))
    for axes in ([5, "N", 3], ["seq", "batch_size", 3], [5, "anything", 3], [5, None, 3]):
        model = agree(save(tmp_path, build(nodes, axes, weights | head(4), SINGLE)), batch=1, shape=(5, 3))
        assert any("axis 1" in note for note in model.notes)
    agree(save(tmp_path, build(nodes, [5, 1, 3], weights | head(4), SINGLE)), batch=1, batch_axis=1)
    with pytest.raises(ModelError, match="batch_axis = 3"):
        from_onnx(save(tmp_path, build(nodes, [5, 1, 3], weights | head(4), SINGLE)), batch_axis=3)


def test_a_wrong_batch_axis_is_noticed(tmp_path: Path) -> None:
    """Taken for the batch, time steps would depend on one another."""
    inputs, weights, usual = layer("GRU")
    nodes = [node("GRU", inputs, "all", **usual), node("Squeeze", "all axis", "rows"), node("Flatten", "rows", "y")]
    path = save(tmp_path, build(nodes, ["t", "u", 3], weights | {"axis": np.array([1])}, SINGLE))
    with pytest.raises(ModelError, match="depend on what else is in the batch"):
        from_onnx(path, shape=(1, 3), batch_axis=0)


def test_a_cast_to_float32_makes_a_float64_file_less_precise(tmp_path: Path) -> None:
    nodes = [node("Cast", "x", "a", to=1), node("Cast", "a", "b", to=11), node("Flatten", "b", "y")]
    model = agree(save(tmp_path, build(nodes, ["N", 4, 6])))
    assert model.narrow
    assert model.agreement == AGREEMENT[torch.float32]


def test_a_file_that_casts_to_float32_is_asked_at_the_inputs_given(tmp_path: Path) -> None:
    """Rounded to float32, the input would be on the other side of what is subtracted from it."""
    at, scale = 0.1, 1e8
    constants = {"c": np.array([at + 7e-10]), "s": np.array([scale]), "w": np.array([[1.0, 0.0]], dtype=np.float32)}
    nodes = [node("Sub", "x c", "a"), node("Mul", "a s", "b"), node("Cast", "b", "f", to=1), node("MatMul", "f w", "m")]
    model = from_onnx(save(tmp_path, build([*nodes, node("Cast", "m", "y", to=11)], ["N", 1], constants)))
    x = np.array([[at]])
    assert model.original(torch.from_numpy(x))[0, 0] < 0
    (own,) = tv.certify(model, x, None, tv.LinfBall(1e-12))
    assert (own.verdict, own.label) == (tv.Verdict.ROBUST, 1)
    (given,) = tv.certify(model, x, [0], tv.LinfBall(1e-12))
    assert given.verdict is tv.Verdict.MISCLASSIFIED


def test_a_recurrent_layer_in_float64_which_onnxruntime_cannot_run_is_refused(tmp_path: Path) -> None:
    inputs, weights, usual = layer("LSTM")
    path = save(tmp_path, build(from_state(node("LSTM", inputs, "- h", **usual)), [5, "N", 3], weights | head(4)))
    with pytest.raises(ModelError, match=r"onnxruntime cannot run.*double.*float32"):
        from_onnx(path)


# What is refused

REFUSALS: dict[str, tuple[list[NodeProto], Arrays, str]] = {
    "spectrum": ([node("Unsqueeze", "x one", "u"), node("DFT", "u")], {"one": np.array([-1])}, r"DFT.*tightverify.speech"),
    "arg max": ([node("ArgMax", "x", "k"), node("Cast", "k", to=11)], {}, r"ArgMax.*my_argmax.*end of a model"),
    "unknown": ([node("Sin", "x")], {}, r"Sin \(node 'my_sin'.*supports --onnx-operators"),
    "negative alpha": ([node("Elu", "x", alpha=-0.5)], {}, r"Elu .*alpha = -0.5"),
    "negative slope": ([node("LeakyRelu", "x", alpha=-0.5)], {}, r"LeakyRelu.*my_leakyrelu.*alpha = -0.5"),
    "by zero": ([node("Div", "x k")], {"k": np.array(0.0)}, r"Div.*divides by 0.*'k'"),
    "power of less than 0": ([node("Pow", "k x")], {"k": np.array(-3.0)}, r"Pow.*a base of 0 or less"),
    "infinite power": ([node("Pow", "x k")], {"k": np.array(np.inf)}, r"Pow.*no finite number"),
    "rounding": ([node("Cast", "x", "a", to=10), node("Cast", "a", to=11)], {}, r"Cast.*FLOAT16"),
    "integers": ([node("Cast", "x", "a", to=5), node("Cast", "a", to=11)], {}, r"Cast.*INT16"),
    "products of integers": (
        [node("Cast", "x", "a", to=7), node("Mul", "a a", "b"), node("Cast", "b", to=11)],
        {},
        r"Mul .* of INT64 numbers that depend on the input",
    ),
    "sums of integers": (
        [node("Cast", "x", "a", to=7), node("Add", "a a", "b"), node("Cast", "b", to=11)],
        {},
        r"Add .* of INT64 numbers that depend on the input",
    ),
    "large integers": (
        [node("Cast", "x", "a", to=7), node("Add", "a k", "b"), node("Cast", "b", to=11)],
        {"k": np.array(2**40)},
        r"Add .* of INT64 numbers that depend on the input",
    ),
    "training": ([node("Dropout", "x r t")], {"r": np.array(0.5), "t": np.array(True)}, r"Dropout.*training_mode"),
    "training on constants": (
        [node("Dropout", "k r t", "d"), node("Add", "x d")],
        {"k": np.array(1.0), "r": np.array(0.5), "t": np.array(True)},
        r"Dropout.*training_mode",
    ),
    "negative variance": (
        [node("BatchNormalization", "x k k k v")],
        {"k": np.ones(4), "v": np.array([1.0, -1.0, 1.0, 1.0])},
        r"BatchNormalization.*variance 'v' of 0 or less",
    ),
    "overflow": (
        [node("Flatten", "x", "f"), node("Gemm", "f k", alpha=1e30)],
        {"k": np.full((24, 2), 1e300)},
        r"weights overflow",
    ),
    "random": ([node("RandomNormalLike", "x", "r"), node("Add", "x r")], {}, r"RandomNormalLike.*same every time"),
    "randomness alone": (
        [node("RandomNormal", "", "r", shape=[6], dtype=11), node("Add", "x r")],
        {},
        r"RandomNormal .*'my_ran",
    ),
    "NaN": ([node("Add", "x k")], {"k": np.array([np.nan])}, r"Add.*my_add.*constant 'k' holds NaN or infinite"),
    "infinite": ([node("MatMul", "x k")], {"k": np.full((6, 2), np.inf)}, r"MatMul.*constant 'k' holds NaN or infinite"),
    "crossed": ([node("Clip", "x a b")], {"a": np.array(1.0), "b": np.array(0.0)}, r"Clip.*bounds 1 and 0"),
    "quantised": (
        [node("Cast", "x", "f", to=1), node("DynamicQuantizeLinear", "f", "q s z"), node("Cast", "q", to=11)],
        {},
        r"DynamicQuantizeLinear.*activations not",
    ),
    "dynamic indices": (
        [node("Shape", "x", "s"), node("Reshape", "x s", "a"), node("Expand", "a s", "b"), node("Pow", "b x")],
        {},
        r"Pow.*input 'x' that depends on the network's input",
    ),
    "no input": ([node("Shape", "x", "s"), node("Cast", "s", to=11)], {}, r"output 'y' does not depend on its input"),
    "wrong shape": ([node("Reshape", "x s")], {"s": np.array([1, 7])}, r"Reshape.*my_reshape.*shapes \(1, 4, 6\), \(2,\)"),
    "a second output": (
        [node("MaxPool", "x", "m k", kernel_shape=[2]), node("Cast", "k", "i", to=11), node("Add", "m i")],
        {},
        r"Cast.*reads 'k', an output that is not supported",
    ),
    "norm in training": (
        [node("BatchNormalization", "x k k k k", "y m v", training_mode=1)],
        {"k": np.ones(4)},
        r"BatchNormalization.*training_mode",
    ),
    "many rows": ([node("Relu", "x")], {}, r"output 'y' has shape \(1, 4, 6\).*one row"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_the_operator_and_its_place(name: str, tmp_path: Path) -> None:
    nodes, constants, named = REFUSALS[name]
    with pytest.raises(ModelError, match=named) as caught:
        from_onnx(save(tmp_path, build(nodes, [1, 4, 6], constants)))
    assert "\n" not in str(caught.value).strip()


def test_what_an_operator_does_not_read_is_refused() -> None:
    """Attributes that a later opset may add, inputs that nobody asked for."""
    for operator, named in ((node("Relu", "x", novel=1), "attribute novel"), (node("Relu", "x z"), "input 'z'")):
        call = Call(operator, Builder(), [np.ones(2)] * len(operator.input))
        call.numbers(0)
        with pytest.raises(UnsupportedError, match=rf"Relu \(node 'my_relu'.*{named}"):
            call.finish()


def test_operators_of_other_domains_are_refused(tmp_path: Path) -> None:
    model = build([node("Gelu", "x", domain="com.microsoft")], ["N", 3], {}, SINGLE)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedError, match=r"com.microsoft.Gelu \(node 'my_gelu'.*standard"):
        from_onnx(save(tmp_path, model))


def test_functions_in_the_file_are_taken_apart(tmp_path: Path) -> None:
    body = [helper.make_node("Tanh", ["a"], ["b"]), helper.make_node("Add", ["b", "a"], ["c"])]
    function = helper.make_function("mine", "Bent", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    model = build([node("Bent", "x", domain="mine")], ["N", 3])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    agree(save(tmp_path, model))


def test_an_input_with_a_default_is_a_constant(tmp_path: Path) -> None:
    model = build([node("Add", "x k")], ["N", 3], {"k": normal(3)})
    model.graph.input.append(helper.make_tensor_value_info("k", 11, [3]))
    agree(save(tmp_path, model))


def test_token_inputs_and_old_opsets_are_refused(tmp_path: Path) -> None:
    model = build([node("Cast", "x", to=11)], ["N", 3])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(UnsupportedError, match=r"'y' is made of token numbers, which may only be looked up .*Gather"):
        from_onnx(save(tmp_path, model))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(UnsupportedError, match=r"'x' is of type INT8.*FLOAT.*token numbers"):
        from_onnx(save(tmp_path, model))
    with pytest.raises(UnsupportedError, match=r"opset 6.*version_converter"):
        from_onnx(save(tmp_path, build([node("Relu", "x")], ["N", 3], opset=6)))


def half(model: ModelProto) -> bytes:
    content: bytes = model.SerializeToString()
    return content[: len(content) // 2]


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "cannot read .*No such file"),
        (b"", "is empty"),
        (b"hello, this is a text\n", "not an ONNX file"),
        (half(dense(["N", 4, 6])), "cut off"),
        (b"\x80\x05\x95}.", r"pickled PyTorch model; export it with torch\.onnx\.export"),
        (pickled(), r"pickled PyTorch model; export it with torch\.onnx\.export"),
    ],
    ids=["missing", "empty", "text", "cut off", "pickle", "pt"],
)
def test_files_that_are_no_onnx_models(content: bytes | None, named: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=named) as caught:
        from_onnx(path)
    assert str(path) in str(caught.value)


def test_every_way_of_cutting_a_file_off_is_a_model_error(tmp_path: Path) -> None:
    content = dense(["N", 4, 6]).SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(1, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError):
            from_onnx(path)


def test_weights_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(dense(["N", 4, 6]), path, save_as_external_data=True, location="weights", size_threshold=0)
    agree(path)
    (tmp_path / "weights").unlink()
    with pytest.raises(ModelError, match="another file that cannot be read"):
        from_onnx(path)


def test_damaged_files_are_model_errors_or_harmless(tmp_path: Path) -> None:
    """Nothing of onnx, numpy or onnxruntime gets through to the user."""
    content = dense(["N", 4, 6]).SerializeToString()
    places = np.random.default_rng(0)
    path = tmp_path / "model.onnx"
    for _ in range(300):
        damaged = bytearray(content)
        damaged[places.integers(len(content))] = places.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(ModelError):
            from_onnx(path)
