"""Functions of one neuron, by torch's names and arguments: activations, logarithms, roots, powers.

What is made of several operations is made of those that the verifier makes it of (`models.composed`). A logarithm and a root
have no value at some points: where rounding, or wide bounds, let an operand reach them it counts as a number just above 0,
which is nothing that a loss gains by. A quotient by what may be 0 is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tightverify.ops import (
    Clamp,
    Elu,
    Erf,
    Exp,
    Gelu,
    GeluByTanh,
    HardSwish,
    LeakyRelu,
    Log,
    Mish,
    Power,
    Ramp,
    Reciprocal,
    Silu,
    Softplus,
    Softsign,
    Square,
    SquareRoot,
)
from tightverify.training.functions import RELU, SIGMOID, TANH, Function, increasing, plain
from tightverify.training.operators import (
    Number,
    add,
    applied,
    constant,
    divide,
    in_place,
    maximum,
    minimum,
    multiply,
    negated,
    refuse,
    subtract,
)
from tightverify.training.tracing import OPERATORS, Bounded
from tightverify.values import Interval

LEAST = 1e-30
"""What an operand counts as that would not be above 0."""
ROUNDING = 1e-6
"""By so much of its upper end rounding may let an operand that is above 0 fall below."""
RECIPROCAL = Function(Reciprocal(), lambda x: Interval(1 / x.upper, 1 / x.lower))


def leaky_relu(x: Bounded, negative_slope: float = 0.01, inplace: bool = False) -> Bounded:
    if negative_slope < 0:
        raise refuse(f"a leaky ReLU of slope {negative_slope:g}", "use a slope of 0 or more")
    return in_place(x, applied(increasing(LeakyRelu(negative_slope)), x), inplace)


def clamp(x: Bounded, min: float | None = None, max: float | None = None) -> Bounded:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        low = x if min is None else maximum(x, min)
        return low if max is None else minimum(low, max)
    low_end, high_end = (-torch.inf if min is None else float(min)), (torch.inf if max is None else float(max))
    return applied(increasing(Clamp(low_end, high_end)), x)


def hardtanh(x: Bounded, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Bounded:
    return in_place(x, clamp(x, min_val, max_val), inplace)


def softplus(x: Bounded, beta: float = 1.0, threshold: float = 20.0) -> Bounded:
    if threshold < 20:
        raise refuse(f"softplus with the threshold {threshold:g}", "leave it at 20")
    return divide(applied(increasing(Softplus()), multiply(x, beta)), beta)


def elu(x: Bounded, alpha: float = 1.0, inplace: bool = False) -> Bounded:
    if alpha <= 0:
        raise refuse(f"ELU with alpha = {alpha:g}", "use an alpha above 0")
    return in_place(x, applied(increasing(Elu(alpha)), x), inplace)


def ramp(x: Bounded, caps: Tensor, eta: float) -> Bounded:
    """ParamRamp, by one whose caps are 1."""
    return multiply(applied(increasing(Ramp(eta, 1.0, eta)), divide(x, caps)), caps)


def of_one(function: Function) -> Callable[..., Bounded]:
    return lambda x, inplace=False: in_place(x, applied(function, x), inplace)


def positive(x: Bounded) -> Bounded:
    """What is above 0, cut off where its bounds are not."""
    return clamp(x, min=LEAST) if bool((x.node.interval.lower < LEAST).any()) else x


def log(x: Bounded) -> Bounded:
    return applied(increasing(Log()), positive(x))


def sqrt(x: Bounded) -> Bounded:
    return applied(increasing(SquareRoot()), positive(x))


def reciprocal(x: Bounded) -> Bounded:
    """Of what is above 0, or below it, each number in all of its region."""
    low, high = x.node.interval.lower, x.node.interval.upper
    both = (low <= 0) & (high >= 0)
    if not bool(both.any()):
        return applied(RECIPROCAL, x)
    if bool((low < -ROUNDING * high).any()):
        raise refuse("a quotient whose divisor may be 0 in a region", "keep it above 0, as in `x / (1 + y.abs())`")
    return applied(RECIPROCAL, positive(x))


def ratio(x: Number | Bounded, y: Number | Bounded) -> Bounded:
    if isinstance(y, Bounded):
        return multiply(x, reciprocal(y))
    assert isinstance(x, Bounded)
    return divide(x, y)


def power(x: Bounded, exponent: float) -> Bounded:
    """Of a few exponents."""
    if isinstance(x, Bounded) and exponent in POWERS:
        return POWERS[exponent](x)
    raise refuse(f"the power {exponent}", f"use one of {', '.join(f'{each:g}' for each in POWERS)}")


def square(x: Bounded) -> Bounded:
    return applied(plain(Square()), x)


POWERS: dict[float, Callable[[Bounded], Bounded]] = {
    -1: reciprocal,
    -0.5: lambda x: reciprocal(sqrt(x)),
    0.5: sqrt,
    1: lambda x: x,
    2: square,
    3: lambda x: applied(plain(Power(3)), x),
    4: lambda x: applied(plain(Power(4)), x),
}


def erf(x: Bounded) -> Bounded:
    return applied(increasing(Erf()), x)


def gelu(x: Bounded, approximate: str = "none") -> Bounded:
    return applied(plain(Gelu() if approximate == "none" else GeluByTanh()), x)


def tanh(x: Bounded) -> Bounded:
    return applied(TANH, x)


def hardsigmoid(x: Bounded, inplace: bool = False) -> Bounded:
    return in_place(x, clamp(add(multiply(x, 1 / 6), 0.5), 0.0, 1.0), inplace)


def selu(x: Bounded, inplace: bool = False) -> Bounded:
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return in_place(x, multiply(elu(x, alpha), scale), inplace)


def celu(x: Bounded, alpha: float = 1.0, inplace: bool = False) -> Bounded:
    """Exponential below 0, with slope 1 there."""
    if alpha <= 0:
        raise refuse(f"CELU with alpha = {alpha:g}", "use an alpha above 0")
    return in_place(x, multiply(applied(increasing(Elu(1.0)), multiply(x, 1 / alpha)), alpha), inplace)


def log_sigmoid(x: Bounded) -> Bounded:
    return negated(softplus(negated(x)))


def soft_shrink(x: Bounded, lambd: float = 0.5) -> Bounded:
    return subtract(x, clamp(x, -lambd, lambd))


def prelu(x: Bounded, weight: Tensor) -> Bounded:
    """x from 0 on, below it a learned slope of x: 1 is shared by all, or there is one for each channel, the second axis."""
    slopes = weight.view(-1, *(1,) * (x.dim() - 2)) if weight.numel() > 1 else weight
    return add(multiply(x, slopes), multiply(applied(RELU, x), 1 - constant(slopes, x)))


OPERATORS.update({"relu": of_one(RELU), "tanh": of_one(TANH), "sigmoid": of_one(SIGMOID)})
OPERATORS.update(dict.fromkeys(("clamp", "clip"), clamp))
OPERATORS.update(dict.fromkeys(("div", "divide", "true_divide", "__truediv__"), ratio))
OPERATORS.update(dict.fromkeys(("__rtruediv__", "__rdiv__"), lambda x, y: ratio(y, x)))
OPERATORS.update(dict.fromkeys(("pow", "__pow__"), power))
OPERATORS.update(dict.fromkeys(("logsigmoid", "log_sigmoid"), log_sigmoid))
OPERATORS.update(
    {
        "celu": celu,
        "div_": lambda x, y: in_place(x, ratio(x, y)),
        "elu": elu,
        "erf": erf,
        "exp": of_one(increasing(Exp())),
        "expm1": lambda x: subtract(applied(increasing(Exp()), x), 1.0),
        "gelu": gelu,
        "hardsigmoid": hardsigmoid,
        "hardswish": of_one(plain(HardSwish())),
        "hardtanh": hardtanh,
        "leaky_relu": leaky_relu,
        "log": log,
        "log10": lambda x: multiply(log(x), 1 / math.log(10)),
        "log1p": lambda x: log(add(x, 1.0)),
        "log2": lambda x: multiply(log(x), 1 / math.log(2)),
        "mish": of_one(plain(Mish())),
        "prelu": prelu,
        "reciprocal": reciprocal,
        "relu6": lambda x, inplace=False: in_place(x, clamp(x, 0.0, 6.0), inplace),
        "rsqrt": POWERS[-0.5],
        "selu": selu,
        "silu": of_one(plain(Silu())),
        "softplus": softplus,
        "softshrink": soft_shrink,
        "softsign": of_one(increasing(Softsign())),
        "sqrt": sqrt,
        "square": square,
        "tanhshrink": lambda x: subtract(x, tanh(x)),
    }
)
