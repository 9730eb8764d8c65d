"""Models whose weights are quantised are read as what they are; those that round activations are refused by name."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.onnx_models import SINGLE, agree, build, layer, node, save
from tightverify.api.load import load
from tightverify.errors import UnsupportedError
from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.model import Model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.ao.nn.quantized as static
    import torch.ao.nn.quantized.reference as reference
    from torch.ao.quantization import quantize_dynamic
    from torch.ao.quantization.fx import _decomposed as registered


def eight(values: Any) -> Any:
    return np.array(values, dtype=np.int8)


def single(values: Any) -> Any:
    return np.array(values, dtype=np.float32)


STEP = np.array(0.25, dtype=np.float32)
TIES = np.array([[0.125, 0.375, -0.125, -0.375, 0.6251, 100.0], [1.0, -200.0, 0.0, 0.1249, 0.8749, 0.3]], dtype=np.float32)
ROUNDED = [[0, 2, 0, -2, 3, 127], [4, -128, 0, 0, 3, 1]]
"""`TIES` in steps: halves go to the even one, what is too large to the last one."""


def has_weights(model: Model, wanted: Tensor) -> bool:
    """Whether the outputs of a linear model are those weights times its inputs, and a shift: all but the rounding of sums."""
    inputs = torch.cat([torch.zeros(1, model.graph.input_size), torch.eye(model.graph.input_size)]).double()
    shift, *columns = model.graph.forward(inputs)
    return torch.allclose(torch.stack(columns, 1) - shift[:, None], wanted.double(), rtol=1e-12, atol=1e-13)


def test_quantised_and_dequantised_weights_are_whole_steps(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", "w step zero", "q"),
        node("DequantizeLinear", "q step zero", "rounded"),
        node("Flatten", "x", "flat"),
        node("MatMul", "flat turned"),
    ]
    nodes.insert(2, node("Transpose", "rounded", "turned", perm=[1, 0]))
    constants = {"w": TIES, "step": STEP, "zero": eight(0)}
    model = from_onnx(save(tmp_path, build(nodes, [1, 2, 3], constants, dtype=SINGLE)))
    assert has_weights(model, 0.25 * torch.tensor(ROUNDED))


QUANTITIES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "for a tensor": ({"q": eight(ROUNDED), "step": single(0.1), "zero": eight(3)}, {}, 17),
    "unsigned": ({"q": np.abs(ROUNDED).astype(np.uint8), "step": single(0.1), "zero": np.array(128, dtype=np.uint8)}, {}, 17),
    "per channel": ({"q": eight(ROUNDED), "step": single([0.1, 0.3]), "zero": eight([0, 1])}, {"axis": 0}, 17),
    "in blocks": (
        {"q": eight(ROUNDED), "step": single([[0.1, 0.3], [1, 2]]), "zero": np.zeros((2, 2), dtype=np.int8)},
        {"axis": 1, "block_size": 3},
        21,
    ),
}


@pytest.mark.parametrize("kind", QUANTITIES)
def test_weights_that_the_file_holds_as_whole_numbers(kind: str, tmp_path: Path) -> None:
    constants, attributes, opset = QUANTITIES[kind]
    nodes = [
        node("DequantizeLinear", "q step zero", "w", **attributes),
        node("Flatten", "x", "flat"),
        node("Gemm", "flat w", transB=1),
    ]
    model = agree(save(tmp_path, build(nodes, [1, 2, 3], constants, dtype=SINGLE, opset=opset)))
    steps, zero = constants["step"].astype(np.float64), constants["zero"].astype(np.float64)
    if kind == "per channel":
        steps, zero = steps[:, None], zero[:, None]
    if kind == "in blocks":
        steps, zero = (np.repeat(each, 3, axis=1) for each in (steps, zero))
    wanted = ((constants["q"] - zero) * steps).astype(np.float32)
    assert has_weights(model, torch.as_tensor(wanted))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_weights(kind: str, tmp_path: Path) -> None:
    inputs, constants, attributes = layer(kind)
    nodes, held = [], {"B": constants["B"], "zero": eight(0)}
    for name in ("W", "R"):
        step = single(np.abs(constants[name]).max() / 127)
        held |= {f"{name}_q": eight(np.rint(constants[name] / step)), f"{name}_step": step}
        nodes.append(node("DequantizeLinear", f"{name}_q {name}_step zero", name))
    nodes += [node(kind, inputs, "- h", **attributes), node("Transpose", "h", "t", perm=[1, 0, 2]), node("Flatten", "t")]
    agree(save(tmp_path, build(nodes, [5, 1, 3], held, dtype=SINGLE)), batch=1, batch_axis=1)


@pytest.mark.parametrize("kind", ["QuantizeLinear", "DynamicQuantizeLinear"])
def test_quantised_activations_are_refused(kind: str, tmp_path: Path) -> None:
    read = "x step zero" if kind == "QuantizeLinear" else "x"
    made = "q" if kind == "QuantizeLinear" else "q step zero"
    nodes = [node(kind, read, made), node("DequantizeLinear", "q step zero")]
    constants = {"step": STEP, "zero": eight(0)} if kind == "QuantizeLinear" else {}
    path = save(tmp_path, build(nodes, [1, 2, 3], constants, dtype=SINGLE))
    with pytest.raises(UnsupportedError, match=rf"{kind}.*activations not"):
        from_onnx(path)


class Net(nn.Module):
    """Six numbers for each of three steps; two outputs."""

    def __init__(self, cell: nn.Module | None = None) -> None:
        super().__init__()
        self.cell, self.last = cell, nn.Linear(18 if cell is None else 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        made = x.flatten(1)
        if isinstance(self.cell, nn.RNNCell | nn.GRUCell) or "Cell" in type(self.cell).__name__:
            made = torch.zeros(len(x), 4)
            for k in range(3):
                made = self.cell(x[:, k], made)
        elif self.cell is not None:
            made = self.cell(x)[0][:, -1]
        return torch.as_tensor(self.last(made))


def seeded(cell: Any = None) -> Net:
    torch.manual_seed(0)
    return Net(None if cell is None else cell()).eval()


CELLS = {
    "linear": None,
    "lstm": lambda: nn.LSTM(6, 4, 2, batch_first=True, bidirectional=False),
    "gru": lambda: nn.GRU(6, 4, batch_first=True),
    "gru cell": lambda: nn.GRUCell(6, 4),
    "rnn cell": lambda: nn.RNNCell(6, 4, nonlinearity="relu"),
}


def quantised(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    kinds = {nn.Linear, nn.LSTM, nn.GRU, nn.GRUCell, nn.RNNCell}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = quantize_dynamic(module, kinds, dtype)
    return made


@pytest.mark.parametrize("kind", CELLS)
def test_float16_weights(kind: str) -> None:
    """The import has weights that float16 holds, those of the float module rounded, and the module is left as it was."""
    module = seeded(CELLS[kind])
    half = quantised(module, torch.float16)
    model = load(half, (3, 6))
    x = torch.rand(4, 3, 6)
    with torch.no_grad():
        assert torch.allclose(model.original(x).double(), half(x).double())
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for name, weight in rounded.named_parameters():
            if "weight" in name:
                weight.copy_(weight.half().float())
    ours, theirs = model.graph, load(rounded, (3, 6)).graph
    assert torch.equal(ours.forward(x.flatten(1).double()), theirs.forward(x.flatten(1).double()))
    assert any("quantized" in type(part).__module__ for part in half.modules())


@pytest.mark.parametrize("kind", CELLS)
def test_dynamic_quantisation_of_activations_is_refused(kind: str) -> None:
    part = "last" if kind == "linear" else "cell"
    with pytest.raises(UnsupportedError, match=rf"part '{part}', torch.*dynamic.*rounds activations"):
        load(quantised(seeded(CELLS[kind]), torch.qint8), (3, 6))


def test_static_quantisation_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"the module Sequential: its part '0'.*rounds activations"):
        load(nn.Sequential(static.Quantize(0.1, 0, torch.quint8), static.DeQuantize()), (4,))
    floating = seeded()
    floating.sums = static.FloatFunctional()
    assert load(floating, (3, 6)).graph.output_size == 2


@pytest.mark.parametrize("scheme", [torch.per_tensor_affine, torch.per_channel_affine])
def test_reference_modules(scheme: Any) -> None:
    module = seeded()
    each = scheme is torch.per_channel_affine
    how = {
        "qscheme": scheme,
        "dtype": torch.qint8,
        "scale": torch.tensor([0.01, 0.02]) if each else 0.01,
        "zero_point": torch.zeros(2, dtype=torch.int) if each else 0,
        "axis": 0,
        "is_decomposed": False,
        "quant_min": -127,
        "quant_max": 127,
    }
    module.last = reference.Linear.from_float(module.last, how)
    weight = module.last.get_weight().double()
    model = load(module, (3, 6))
    assert has_weights(model, weight.detach())


def test_rounding_in_a_users_own_module() -> None:
    class Rounding(Net):
        def __init__(self, activations: bool) -> None:
            super().__init__()
            self.activations = activations

        def forward(self, x: Tensor) -> Tensor:
            weight = torch.fake_quantize_per_tensor_affine(self.last.weight, 0.01, 0, -127, 127)
            if self.activations:
                x = torch.fake_quantize_per_tensor_affine(x, 0.01, 0, -127, 127)
            return nn.functional.linear(x.flatten(1), weight, self.last.bias)

    class Whole(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("q", torch.randint(-127, 128, (2, 18)).to(torch.int8))

        def forward(self, x: Tensor) -> Tensor:
            kinds = 0.25, 0, -127, 127, torch.int8
            return nn.functional.linear(x.flatten(1), torch.ops.quantized_decomposed.dequantize_per_tensor(self.q, *kinds))

    assert registered
    whole = Whole()
    assert has_weights(load(whole, (3, 6)), 0.25 * dict(whole.named_buffers())["q"])
    assert load(Rounding(activations=False), (3, 6)).graph.output_size == 2
    with pytest.raises(UnsupportedError, match="quantise weights alone"):
        load(Rounding(activations=True), (3, 6))
