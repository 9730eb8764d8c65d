"""Torch's quantised parts: those that round weights alone are what they compute with rounded weights, others are refused.

Of weights alone are the reference modules (`torch.ao.nn.quantized.reference`), and what `quantize_dynamic` makes with float16:
products are worked out in float32 with weights that float16 holds. For int8 it rounds activations too, by a step that it takes
from the numbers of each call; static quantisation rounds them by fixed steps. Neither is modelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tightverify.errors import UnsupportedError

QUANTISED = "torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized."
REFERENCE, DYNAMIC = "torch.ao.nn.quantized.reference.", "torch.ao.nn.quantized.dynamic."
FLOATING = {"FloatFunctional", "FXFloatFunctional", "LinearPackedParams", "PackedParameter"}
"""What stands among quantised modules and computes as others do, or nothing."""
RECURRENT = {"LSTM": nn.LSTM, "GRU": nn.GRU}
CELLS = {"LSTMCell": nn.LSTMCell, "GRUCell": nn.GRUCell, "RNNCell": nn.RNNCell}


def quantised_parts(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Those of a module, by their names."""
    for name, part in module.named_modules():
        if f"{type(part).__module__}.".startswith(QUANTISED) and type(part).__name__ not in FLOATING:
            yield name, part


def refuse_rounded_activations(module: nn.Module, source: str) -> None:
    """An `UnsupportedError` where a part of the module rounds more than weights."""
    for name, part in quantised_parts(module):
        place = f"{source}: {f'its part {name!r}, ' if name else ''}{type(part).__module__}.{type(part).__name__},"
        if not of_weights_alone(part):
            raise UnsupportedError(
                f"{place} rounds activations as well as weights, which is not modelled; quantise weights alone "
                "(`quantize_dynamic` with float16, or weights that are whole numbers times a step), or give the float model"
            )


def of_weights_alone(part: Any) -> bool:
    kind = f"{type(part).__module__}."
    if kind.startswith(REFERENCE):
        return True
    if not kind.startswith(DYNAMIC) or type(part).__name__ not in {"Linear", *RECURRENT, *CELLS}:
        return False
    packed = getattr(part, "_packed_params", None)
    return getattr(part if packed is None else packed, "dtype", getattr(part, "weight_dtype", None)) is torch.float16


def with_rounded_weights(module: nn.Module) -> nn.Module:
    """The module with its quantised parts replaced by others of their rounded weights; it is changed."""
    for name, part in list(quantised_parts(module)):
        made = of_reference(part) if f"{type(part).__module__}.".startswith(REFERENCE) else of_float16(part)
        if not name:
            return made.eval()
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, made.eval())
    return module


def of_reference(part: Any) -> nn.Module:
    """A reference module is one of torch's own that rounds its weights at every call."""
    weights: Mapping[str, Tensor]
    if isinstance(part, nn.RNNBase):
        names: Any = part._flat_weights_names
        weights = dict(zip(names, part.get_flat_weights(), strict=True))  # type: ignore[operator]
    elif isinstance(part, nn.RNNCellBase):
        weights = {"weight_ih": part.get_weight_ih(), "weight_hh": part.get_weight_hh()}  # type: ignore[operator]
    else:
        weights = {"weight": part.get_weight()}
    part.__class__ = next(kind for kind in type(part).__mro__ if kind.__module__.startswith("torch.nn.modules."))
    return filled(part, weights)


def of_float16(part: Any) -> nn.Module:
    kind = type(part).__name__
    if kind == "Linear":
        weight, bias = part._weight_bias()
        made: nn.Module = nn.Linear(part.in_features, part.out_features, bias is not None)
        return filled(made, {"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    if kind in RECURRENT:
        sizes = part.input_size, part.hidden_size, part.num_layers, part.bias, part.batch_first
        made = RECURRENT[kind](*sizes, bidirectional=part.bidirectional)
    else:
        more = {"nonlinearity": part.nonlinearity} if kind == "RNNCell" else {}
        made = CELLS[kind](part.input_size, part.hidden_size, part.bias, **more)
    return filled(made, {**part.get_weight(), **(part.get_bias() if part.bias else {})})


def filled(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The module with other weights."""
    for name, value in weights.items():
        setattr(module, name, nn.Parameter(value.detach().to(torch.float32), requires_grad=False))
    return module
