"""Models of several inputs, outputs and frames: one input is perturbed, the others are fixed, and one row is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import build, node, normal, save
from tightverify.errors import InputError, ModelError, TightVerifyError, UnsupportedError, UsageError
from tightverify.models.frames import along, picked

TIME, FEATURES, HIDDEN = 3, 2, 4


class Streaming(nn.Module):
    """An LSTM whose state comes in and goes out, and a factor."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 3)
        self.to(dtype)

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor, gain: float = 1.0) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        made, state = self.layer(x, (h0, c0))
        return self.head(made) * gain, state


X = torch.rand((5, TIME, FEATURES), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
STATES = {name: 0.3 * normal(1, 1, HIDDEN, seed=k) for k, name in enumerate(("h0", "c0"))}


def streamed(x: Tensor, gain: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    h, c = (torch.from_numpy(STATES[name]).expand(1, len(x), HIDDEN).contiguous() for name in STATES)
    with torch.no_grad():
        made, (hidden, cell) = Streaming().eval()(x, h, c, gain)
    return made, hidden[0], cell[0]


@pytest.mark.parametrize(("frame", "place"), [("last", 2), ("1", 1), (0, 0), (-2, 1)])
def test_states_of_a_module_are_fixed_and_a_frame_is_chosen(frame: Any, place: int) -> None:
    model = tv.load(Streaming(), (TIME, FEATURES), fix={**STATES, "gain": 2.0}, frame=frame)
    wanted = streamed(X, 2.0)[0][:, place]
    assert torch.allclose(model.original(X), wanted, atol=1e-12)
    assert torch.allclose(model.graph.forward(X.flatten(1)), wanted, atol=1e-12)
    assert any("gain = 2.0" in note for note in model.notes)


def test_outputs_of_a_module_are_chosen() -> None:
    for number, wanted in enumerate(streamed(X)):
        rows = wanted.flatten(1)
        frame = "all" if number == 0 else None
        model = tv.load(Streaming(), (TIME, FEATURES), fix=STATES, output=number, frame=frame)
        assert torch.allclose(model.graph.forward(X.flatten(1)), rows, atol=1e-12)
        assert torch.allclose(model.original(X), rows, atol=1e-12)


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"a": torch.tanh(x), "b": torch.relu(x)}


def test_outputs_in_a_dictionary_are_chosen_by_their_names() -> None:
    x = torch.randn(4, 3)
    assert torch.allclose(tv.load(Named(), (3,), output="b").original(x), torch.relu(x))
    first = tv.load(Named(), (3,))
    assert torch.allclose(first.original(x), torch.tanh(x))
    assert any("0 was taken" in note for note in first.notes)
    with pytest.raises(UsageError, match="no output 'c'; wanted one of 'a', 'b'"):
        tv.load(Named(), (3,), output="c")


@pytest.mark.parametrize(
    ("fix", "words"),
    [
        ({}, "takes x, h0, c0, gain; one of them is perturbed.*fix={'h0': array}"),
        ({"h0": 0.0, "c": 0.0}, "no input 'c' to be fixed; it has x, h0, c0, gain"),
        ({**STATES, "x": X[:1], "gain": 1.0}, "all inputs of the module Streaming are fixed"),
        ({"h0": "zeros", "c0": STATES["c0"]}, "'h0' is fixed at 'zeros'; wanted a number or an array"),
        ({"h0": np.full((1, 1, HIDDEN), np.nan), "c0": STATES["c0"]}, "'h0' is fixed at numbers that its type"),
        ({"h0": STATES["h0"][..., 1:], "c0": STATES["c0"]}, "fails on one input"),
    ],
)
def test_what_a_module_refuses(fix: dict[str, Any], words: str) -> None:
    with pytest.raises(TightVerifyError, match=words):
        tv.load(Streaming(), (TIME, FEATURES), fix=fix)


def exported(path: Path) -> Path:
    state = torch.zeros(1, 2, HIDDEN)
    axes = {"x": {0: "n", 1: "time"}, "h0": {1: "n"}, "c0": {1: "n"}, "y": {0: "n"}, "h": {1: "n"}, "c": {1: "n"}}
    torch.onnx.export(
        Streaming(torch.float32).eval(), (X[:2].float(), state, state), str(path), dynamo=False, dynamic_axes=axes,
        input_names=["x", "h0", "c0", "gain"], output_names=["y", "h", "c"],
    )  # fmt: skip
    return path


@pytest.mark.filterwarnings("ignore")
def test_a_file_with_its_state_in_and_out(tmp_path: Path) -> None:
    """In a batch as one by one, every output and frame as onnxruntime has it."""
    path, x = exported(tmp_path / "model.onnx"), X.float()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {name: np.repeat(value, len(x), 1).astype(np.float32) for name, value in STATES.items()}
    feeds["gain"] = np.array(2.0)
    wanted = dict(zip("yhc", session.run(None, {"x": x.numpy(), **feeds}), strict=True))
    for output, frame, rows in (
        (None, "last", wanted["y"][:, -1]),
        ("y", 1, wanted["y"][:, 1]),
        ("y", "all", wanted["y"].reshape(len(x), -1)),
        ("h", None, wanted["h"][0]),
        (2, None, wanted["c"][0]),
    ):
        model = tv.load(path, (TIME, FEATURES), fix={**STATES, "gain": 2}, output=output, frame=frame)
        assert np.allclose(model.original(x), rows, atol=1e-6)
        assert np.allclose(model.graph.forward(x.double().flatten(1)), rows, atol=1e-5)
    zeros = tv.load(path, (TIME, FEATURES), fix={"h0": 0, "c0": 0, "gain": 2}, frame="last")
    assert any("h0 = 0, c0 = 0" in note for note in zeros.notes)
    assert not np.allclose(zeros.original(x), wanted["y"][:, -1], atol=1e-3)
    with pytest.raises(ModelError, match=r"'y' has shape \(1, 3, 3\).*choose a frame, --frame last"):
        tv.load(path, (TIME, FEATURES), fix={**STATES, "gain": 2})


def two(axes: list[Any], other: list[Any], kind: int = TensorProto.DOUBLE) -> ModelProto:
    """`y = x + other`, and `z` of which nothing is supported."""
    more = [node("Cast", "other", "o", to=11), node("Add", "x o"), node("ArgMax", "x", "k"), node("Cast", "k", "z", to=11)]
    model = build(more, axes, output="y z")
    model.graph.input.append(helper.make_tensor_value_info("other", kind, other))
    return model


@pytest.mark.parametrize(
    ("other", "kind", "given", "value"),
    [
        (["N", 3], TensorProto.DOUBLE, 0.5, 0.5),
        (["N", 3], TensorProto.DOUBLE, [[1.0, 2.0, 3.0]], [1.0, 2.0, 3.0]),
        ([1, 3], TensorProto.DOUBLE, [[1.0, 2.0, 3.0]], [1.0, 2.0, 3.0]),
        ([], TensorProto.INT64, 16, 16.0),
        (["M"], TensorProto.FLOAT, [7.0], 7.0),
        (["N", "K"], TensorProto.BOOL, [[True, False, True]], [1.0, 0.0, 1.0]),
    ],
)
def test_fixed_inputs_of_a_file_keep_their_type_and_shape(
    other: Any, kind: int, given: Any, value: Any, tmp_path: Path
) -> None:
    """What only other outputs need, supported or not, is no matter."""
    model = tv.load(save(tmp_path, two(["N", 3], other, kind)), fix={"other": given})
    x = torch.randn(4, 3, dtype=torch.float64)
    wanted = x + torch.tensor(value)
    assert torch.allclose(model.original(x), wanted)
    assert torch.allclose(model.graph.forward(x), wanted)


def test_what_another_output_reads_need_not_be_fixed(tmp_path: Path) -> None:
    model = build([node("Tanh", "x", "y"), node("Add", "x other", "z")], ["N", 3], output="y z")
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.DOUBLE, ["N", 3]))
    assert tv.load(save(tmp_path, model)).graph.output_size == 3
    assert tv.load(save(tmp_path, model), fix={"other": 3.0}).graph.output_size == 3
    with pytest.raises(UnsupportedError, match="other"):
        tv.load(save(tmp_path, model), output="z")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"takes the inputs 'x' \(N, 3\) and 'other' \(N, M\); .*--fix other=0 .*fix={'other': 0.0}"),
        ({"fix": {"else": 0}}, "no input 'else' to be fixed; it has the inputs"),
        ({"fix": {"x": 0, "other": 0}}, "all of its inputs"),
        ({"fix": {"other": 0}}, "'other' .* leaves lengths open; give an array"),
        ({"fix": {"other": [[[1.0]]]}}, r"shape \(1, 1, 1\); wanted \(1, M\)"),
        ({"fix": {"other": [[np.inf, 0, 0]]}}, "that its type float64 does not hold"),
        ({"fix": {"other": [[0.0, 0, 0]]}, "output": "w"}, "no output 'w'; wanted one of 'y', 'z'"),
        ({"fix": {"other": [[0.0, 0, 0]]}, "frame": 0}, r"shape \(1, 3\) .* no frames"),
        ({"fix": {"other": [[0.0, 0, 0]]}, "frame": "first"}, "the frame is 'first'; wanted last, all"),
    ],
)
def test_what_a_file_refuses(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises((ModelError, UsageError, InputError), match=words):
        tv.load(save(tmp_path, two(["N", 3], ["N", "M"])), **options)


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_softmax_of_each_frame_is_left_out_of_one_frame_only(axis: int, tmp_path: Path) -> None:
    path = save(tmp_path, build([node("Neg", "x", "a"), node("Softmax", "a", axis=axis)], ["N", 4, 3]))
    if axis == 1:
        with pytest.raises(ModelError, match="along axis 1, not over the outputs that are asked about"):
            tv.load(path, frame="last")
        return
    model, x = tv.load(path, frame="last"), torch.randn(2, 4, 3, dtype=torch.float64)
    assert model.left_out == "Softmax"
    assert torch.allclose(model.original(x), -x[:, -1])
    for asked in ("all", None):
        with pytest.raises(ModelError):
            tv.load(path, frame=asked)
    module = tv.load(nn.Softmax(-1), (4, 3), frame=1)
    assert torch.allclose(module.original(x.float()), x.float()[:, 1])
    with pytest.raises(ModelError, match="not over the outputs"):
        tv.load(nn.Softmax(-1), (4, 3), frame="all")


def test_frames_are_the_first_axis_beside_the_batch() -> None:
    for shape in ((1, 5, 2), (5, 1, 2)):
        assert picked(shape, "last", "y").tolist() == [8, 9]
        assert picked(shape, 1, "y").tolist() == [2, 3]
        assert picked(shape, "all", "y").tolist() == list(range(10))
    assert picked((1, 5, 1), -5, "y").tolist() == [0]
    with pytest.raises(UsageError, match="5 frames, and frame 5"):
        picked((1, 5, 2), 5, "y")
    assert along(np.array([8, 9]), (1, 5, 2), -1)
    assert not along(np.array([7, 8]), (1, 5, 2), -1)
    assert not along(np.array([8]), (1, 5, 2), -1)
    assert not along(np.arange(10), (1, 5, 2), -1)
