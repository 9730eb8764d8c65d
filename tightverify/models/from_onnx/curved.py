"""ONNX operators that are made of several operations (`models.composed`), or are curves with numbers of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from tightverify.models import composed
from tightverify.models.builder import Builder, Symbols
from tightverify.models.from_onnx.last import FIRST_OF_ONE_AXIS
from tightverify.models.from_onnx.node import Call
from tightverify.ops import Erf, Exp, Gelu, GeluByTanh, HardSwish, Mish, Operation, Softsign

SELU = 1.6732632423543772, 1.0507009873554805
"""ONNX's alpha and gamma."""


def of(function: Callable[[Builder, Symbols], Symbols], call: Call) -> Symbols:
    return function(call.builder, call.numbers(0))


def applied(op: Operation, call: Call) -> Symbols:
    return call.builder.apply(op, call.numbers(0))


def parametric_relu(call: Call) -> Symbols:
    return composed.two_slopes(call.builder, call.numbers(0), call.weights(1))


def positive(call: Call, name: str, default: float) -> float:
    number = call.number(name, default)
    if number <= 0:
        raise call.unsupported(f"the attribute {name} = {number:g}", "give it a number above 0")
    return number


def elu(call: Call) -> Symbols:
    return composed.exponential_linear(call.builder, call.numbers(0), positive(call, "alpha", 1.0))


def selu(call: Call) -> Symbols:
    alpha, gamma = (positive(call, name, number) for name, number in zip(("alpha", "gamma"), SELU, strict=True))
    return composed.exponential_linear(call.builder, call.numbers(0), alpha, gamma)


def celu(call: Call) -> Symbols:
    alpha = positive(call, "alpha", 1.0)
    return composed.exponential_linear(call.builder, call.numbers(0), alpha, 1.0, 1 / alpha)


def softmax(function: Callable[[Builder, Symbols, int], Symbols], call: Call) -> Symbols:
    """Along one axis; before opset 13 along that and all after it."""
    x, alone = call.numbers(0), call.opset >= FIRST_OF_ONE_AXIS
    axis = call.integer("axis", -1 if alone else 1) % max(x.ndim, 1)
    if alone:
        return function(call.builder, x, axis)
    flat = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return function(call.builder, flat, 1).reshape(x.shape)


def gelu(call: Call) -> Symbols:
    return call.builder.apply(GeluByTanh() if call.text("approximate", "none") == "tanh" else Gelu(), call.numbers(0))


def layer_normalisation(call: Call) -> Symbols:
    """By the mean and the variance over the axes from one on."""
    x, first = call.numbers(0), call.integer("axis", -1)
    call.integer("stash_type", 1)
    axes = tuple(range(first % x.ndim, x.ndim))
    shift = call.weights(2) if call.given(2) else 0.0
    return composed.normalised(call.builder, x, axes, call.number("epsilon", 1e-5), call.weights(1), shift)


CURVED: dict[str, Callable[[Call], Symbols]] = {
    "Abs": partial(of, composed.absolute),
    "Celu": celu,
    "Elu": elu,
    "Erf": partial(applied, Erf()),
    "Exp": partial(applied, Exp()),
    "Gelu": gelu,
    "HardSwish": partial(applied, HardSwish()),
    "LayerNormalization": layer_normalisation,
    "LogSoftmax": partial(softmax, composed.log_softmax),
    "Mish": partial(applied, Mish()),
    "PRelu": parametric_relu,
    "Selu": selu,
    "Sign": partial(of, composed.sign),
    "Softmax": partial(softmax, composed.softmax),
    "Softplus": partial(of, lambda builder, x: composed.softplus(builder, x, 1.0, None)),
    "Softsign": partial(applied, Softsign()),
}
