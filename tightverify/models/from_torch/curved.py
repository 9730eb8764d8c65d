"""ATen operators that are made of several operations (`models.composed`), or are curves with numbers of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from tightverify.models import composed
from tightverify.models.builder import Builder, Symbols
from tightverify.models.clamps import clamped
from tightverify.models.from_torch.call import Call, Missing
from tightverify.ops import Erf, Exp, Gelu, GeluByTanh, HardSwish, Log, Mish, Operation, Softplus

Handler = Callable[[Call], object]
EXACT_BEYOND = 37.0
"""Beyond so much, a softplus in float64 is its operand."""


def of(function: Callable[[Builder, Symbols], Symbols]) -> Handler:
    return lambda call: function(call.builder, call.symbols("self"))


def applied(op: Operation) -> Handler:
    return lambda call: call.builder.apply(op, call.symbols("self"))


def gelu(call: Call) -> object:
    return call.builder.apply(GeluByTanh() if call["approximate"] == "tanh" else Gelu(), call.symbols("self"))


def softplus(call: Call) -> object:
    """Torch takes the operand itself above a threshold: in float32 that is its rounding, in float64 it may be more."""
    beta, threshold = call.number("beta"), call.number("threshold")
    if beta <= 0:
        raise call.refuse(f"with beta = {beta:g} is not supported", "give it a number above 0")
    rounding = call.dtype() is torch.float32 and threshold >= EXACT_BEYOND / 2
    return composed.softplus(
        call.builder, call.symbols("self"), beta, None if rounding or threshold >= EXACT_BEYOND else threshold
    )


def elu(call: Call) -> object:
    alpha, outer, inner = (call.number(name) for name in ("alpha", "scale", "input_scale"))
    if min(alpha, outer, inner) <= 0:
        raise call.refuse("with a number of 0 or less is not supported", "give it an alpha above 0")
    return composed.exponential_linear(call.builder, call.symbols("self"), alpha, outer, inner)


def celu(call: Call) -> object:
    alpha = call.number("alpha")
    if alpha <= 0:
        raise call.refuse(f"with alpha = {alpha:g} is not supported", "give it a number above 0")
    return composed.exponential_linear(call.builder, call.symbols("self"), alpha, 1.0, 1 / alpha)


def exponential_less_one(builder: Builder, x: Symbols) -> Symbols:
    return builder.combine([(builder.apply(Exp(), x), 1.0)], -1.0)


def logarithm_of_one_more(builder: Builder, x: Symbols) -> Symbols:
    return builder.apply(Log(), builder.combine([(x, 1.0)], 1.0))


def log_sigmoid(builder: Builder, x: Symbols) -> Symbols:
    """`-log(1 + exp(-x))`"""
    return builder.combine([(builder.apply(Softplus(), builder.combine([(x, -1.0)])), -1.0)])


def soft_shrink(call: Call) -> object:
    """What is left of a number beyond a limit: the number less itself kept within it."""
    limit, x = call.number("lambd"), call.symbols("self")
    if limit < 0:
        raise call.refuse(f"with lambd = {limit:g} is not supported", "give it 0 or more")
    return call.builder.combine([(x, 1.0), (clamped(call.builder, x, -limit, limit), -1.0)])


def along(function: Callable[[Builder, Symbols, int], Symbols]) -> Handler:
    def build(call: Call) -> object:
        if call.arguments.get("dtype") not in (None, torch.float32, torch.float64) or call.arguments.get("half_to_float"):
            raise call.refuse("to another type is not supported", "compute in float32 or float64 throughout")
        call.read.update(("dtype", "half_to_float"))
        x = call.symbols("self")
        return function(call.builder, x, call.integer("dim") % max(x.ndim, 1))

    return build


def layer_norm(name: str) -> Handler:
    """Over the last axes; the core operator gives its statistics, too."""

    def build(call: Call) -> object:
        x, axes = call.symbols("input"), len(call.integers("normalized_shape"))
        call.read.add("cudnn_enable")
        scale, shift = (
            usual if call[part] is None else call.constant(part) for part, usual in (("weight", 1.0), ("bias", 0.0))
        )
        over = tuple(range(x.ndim - axes, x.ndim))
        found = composed.normalised(call.builder, x, over, call.number("eps"), scale, shift)
        statistics = Missing("the statistics of a layer norm", "use its output only")
        return (found, statistics, statistics) if name == "native" else found

    return build


def parametric_relu(call: Call) -> object:
    """A slope for all, or one for each channel, the second axis."""
    x, slopes = call.symbols("self"), call.constant("weight")
    if slopes.numel() > 1:
        slopes = slopes.reshape(-1, *(1 for _ in range(cast(Tensor, call.node.meta["val"]).dim() - 2)))
    return composed.two_slopes(call.builder, x, slopes)


CURVED: dict[str, Handler] = {
    "aten.abs.default": of(composed.absolute),
    "aten.celu.default": celu,
    "aten.elu.default": elu,
    "aten.erf.default": applied(Erf()),
    "aten.exp.default": applied(Exp()),
    "aten.expm1.default": of(exponential_less_one),
    "aten.gelu.default": gelu,
    "aten.hardsigmoid.default": of(composed.hard_sigmoid),
    "aten.hardswish.default": applied(HardSwish()),
    "aten.layer_norm.default": layer_norm("whole"),
    "aten.log1p.default": of(logarithm_of_one_more),
    "aten.log_sigmoid.default": of(log_sigmoid),
    "aten.mish.default": applied(Mish()),
    "aten.native_layer_norm.default": layer_norm("native"),
    "aten.prelu.default": parametric_relu,
    **dict.fromkeys(("aten.sign.default", "aten.sgn.default"), of(composed.sign)),
    "aten.softplus.default": softplus,
    "aten.softshrink.default": soft_shrink,
    **dict.fromkeys(("aten.softmax.int", "aten._softmax.default"), along(composed.softmax)),
    **dict.fromkeys(("aten.log_softmax.int", "aten._log_softmax.default"), along(composed.log_softmax)),
}
