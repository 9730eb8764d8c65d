"""Public functions give the same in every mode that torch may be in around a call, and take tensors of every mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import HEAD, SINGLE, build, head, node, normal, save
from tightverify.tightness import of_function, of_model

SAMPLES = 4


class Waves(nn.Module):
    """A waveform in frames of two samples, a GRU, and a linear layer on its last frame."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(2, 2, batch_first=True), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.unflatten(1, (-1, 2)))[0][:, -1])


def module(_folder: Path) -> nn.Module:
    torch.manual_seed(4)
    return Waves().float()


def onnx_file(folder: Path) -> Path:
    weights = {"W": normal(SAMPLES, 5, seed=1), "b": normal(5, seed=2)} | head(5)
    return save(
        folder, build([node("Gemm", "x W b", "z"), node("Tanh", "z", "features"), HEAD], ["N", SAMPLES], weights, SINGLE)
    )


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: torch.device("meta"),
}


def given(mode: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, a distance, rows and offsets, as they are made in a mode; `grad` has them require it."""
    with MODES[mode]() if mode == "inference_mode" else nullcontext():
        x = torch.tensor([[0.5, -0.25, 0.125, 0.75], [-0.5, 0.5, 0.25, -0.75]], device="cpu")
        x = x.to(torch.float64)
        far = torch.full((SAMPLES,), 0.25, dtype=torch.float64)
        rows = torch.tensor([[[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]] * 2, dtype=torch.float64)
        every = (x, far, rows, torch.tensor([[0.5, 0.3], [0.6, 0.2]], dtype=torch.float64))
    return tuple(values.requires_grad_() for values in every) if mode == "grad" else every  # type: ignore[return-value]


def plain(value: Any) -> Any:
    """What can be compared of an answer."""
    if isinstance(value, Tensor):
        assert not value.requires_grad
        assert value.device.type == "cpu"
        return value.numpy()
    if isinstance(value, tv.Result):
        return [value.verdict, value.margin, plain(value.margins), value.counterexample is None or plain(value.counterexample)]
    if isinstance(value, tv.Interval):
        return [plain(value.lower), plain(value.upper)]
    return [plain(each) for each in value] if isinstance(value, list | tuple | tv.Results) else value


def certified(model: tv.AnyModel, loaded: tv.Model, *tensors: Tensor) -> list[Any]:
    x, far, rows, offsets = tensors
    box, noise = tv.Box(x.detach() - far, x.detach() + far), tv.AddedNoise(far, 0.5)
    return [
        tv.certify(model, x, None, box, method="complete", rows=(rows, offsets), splits=2),
        tv.certify(loaded, x, None, tv.L2Ball(3.0), method="combine"),
        tv.certify(loaded, x, torch.tensor([0, 1], device="cpu"), noise, method="linear"),
        tv.certify(loaded, x, None, tv.LinfBall(0.2), method="lp", lp_solver="highs"),
        tv.certify(loaded, x, None, tv.Gain(1.0), rows=(rows, offsets)),
        tv.certify(loaded, x, None, tv.Shift(0.5), rows=(rows, offsets)),
    ]


def bounded(model: tv.AnyModel, loaded: tv.Model, *tensors: Tensor) -> list[Any]:
    x, _far, rows, offsets = tensors
    streamed = list(tv.stream(loaded, x, None, tv.LinfBall(0.1), tv.Settings("planes"), (rows, offsets), batch=1))
    clips = tv.certify_clips(model, [x[0], x[1]], None, tv.DecibelBall(-20))
    return [*(tv.bounds(loaded, x, tv.LinfBall(0.1), method) for method in ("interval", "planes", "combine")), streamed, clips]


def studied(model: tv.AnyModel, _loaded: tv.Model, *tensors: Tensor) -> list[Any]:
    x, far, _rows, _offsets = tensors
    model = tv.load(model, (SAMPLES,))
    found = tv.segments(model, x[0], length=2, tolerance=10.0, settings=tv.Settings(restarts=2))
    boxes = torch.stack([-far[:2], far[:2], -2 * far[:2], far[:2]], dim=1)
    fit, rows = tv.planes("sigmoid_tanh", boxes), of_model(model, x, tv.LinfBall(0.1)).rows()
    return [found.proved, found.refuted, fit.lower, fit.upper, rows, of_function("tanh", boxes[:, :2]).rows()]


ASKED = [certified, bounded, studied]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left if "seconds" not in key)
    return bool(np.array_equal(left, right)) if isinstance(left, np.ndarray) else bool(left == right)


@pytest.fixture(scope="module", params=[module, onnx_file])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tv.AnyModel:
    return request.param(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def loaded(model: tv.AnyModel) -> tv.Model:
    """Imports take most of the time: one of each model in no mode, one in each mode (`studied`)."""
    return tv.load(model, (SAMPLES,))


@pytest.fixture(scope="module", params=ASKED)
def asked(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    return request.param


@pytest.fixture(scope="module")
def usual(asked: Callable[..., list[Any]], model: tv.AnyModel, loaded: tv.Model) -> Any:
    """What is answered in no mode at all."""
    return plain(asked(model, loaded, *given("")))


def test_the_same_in_every_mode(asked: Callable[..., list[Any]], model: tv.AnyModel, loaded: tv.Model, usual: Any) -> None:
    for mode, entered in MODES.items():
        tensors = given(mode)
        with entered():
            found = asked(model, loaded, *tensors)
        assert same(usual, plain(found)), mode


def test_tensors_that_require_grad(asked: Callable[..., list[Any]], model: tv.AnyModel, loaded: tv.Model, usual: Any) -> None:
    assert same(usual, plain(asked(model, loaded, *given("grad"))))


def test_a_module_of_inference_mode(tmp_path: Path) -> None:
    """Its parameters are tensors of which no gradient can be asked."""
    with torch.inference_mode():
        made = module(tmp_path)
        x = torch.rand(2, SAMPLES)
    assert next(made.parameters()).is_inference()
    usual = module(tmp_path)
    found, expected = (certified(model, tv.load(model, (SAMPLES,)), *given("")) for model in (made, usual))
    assert same(plain(found), plain(expected))
    assert len(tv.certify(made, x, None, tv.L1Ball(0.1))) == 2


def test_between_results_the_caller_is_where_he_was(tmp_path: Path) -> None:
    loaded = tv.load(module(tmp_path), (SAMPLES,))
    x = given("")[0]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in tv.stream(loaded, x, None, tv.LinfBall(0.1), tv.Settings(), batch=1):
            assert torch.is_inference_mode_enabled()
            assert torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
    for _ in tv.stream(loaded, x, None, tv.LinfBall(0.1), tv.Settings(), batch=1):
        assert torch.is_grad_enabled()
