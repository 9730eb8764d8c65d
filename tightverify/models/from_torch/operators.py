"""What each ATen operator is made of: a table from its name to a small function.

`OPERATORS` maps an overload's full name to a function from a `Call` to a value. To add an operator, write its function and
its line. Calls whose arguments are all constant never come here: torch itself works them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor

from tightverify.models.builder import Symbols
from tightverify.models.choices import larger, smaller
from tightverify.models.clamps import clamped
from tightverify.models.from_torch.call import POSITIONS, Call, Missing
from tightverify.models.from_torch.comparisons import COMPARISONS
from tightverify.models.from_torch.curved import CURVED
from tightverify.models.from_torch.lookups import LIMITS, LOOKUPS, whole
from tightverify.models.from_torch.moves import MOVES
from tightverify.models.from_torch.normalising import NORMALISING, axes_of, kept
from tightverify.models.from_torch.packed import FULL_LENGTH, read_packed
from tightverify.models.from_torch.recurrent import RECURRENT
from tightverify.models.from_torch.windows import WINDOWS
from tightverify.models.powers import exponential, power
from tightverify.ops import Clamp, Floor, LeakyRelu, Log, Operation, Reciprocal, Sigmoid, Square, SquareRoot, Tanh

Handler = Callable[[Call], object]


def weighted(*parts: tuple[str, float | str]) -> Handler:
    """The sum of arguments, each times a number or times the argument of that name, a minus in front of which counts."""

    def build(call: Call) -> object:
        summands: list[tuple[Symbols, Tensor | float]] = []
        shift: Tensor | float = 0.0
        for name, factor in parts:
            if isinstance(factor, str):
                sign = -1.0 if factor.startswith("-") else 1.0
                factor = sign * call.number(factor.lstrip("-"))
            if call.symbolic(name):
                summands.append((call.symbols(name), factor))
            else:
                shift = factor * call.constant(name)
        return call.builder.combine(summands, shift)

    return build


def multiply(call: Call) -> object:
    for name, other in (("self", "other"), ("other", "self")):
        if not call.symbolic(name):
            return call.builder.combine([(call.symbols(other), call.constant(name))])
    return call.builder.multiply(call.symbols("self"), call.symbols("other"))


def divide(call: Call) -> object:
    if call.symbolic("other"):
        return call.builder.multiply(call.symbols("self"), call.builder.apply(Reciprocal(), call.symbols("other")))
    divisor = call.constant("other")
    inverse = 1 / divisor
    if not bool(torch.isfinite(inverse).all()):
        raise call.refuse("by zero is not supported", "divide by numbers whose reciprocal is finite")
    return call.builder.combine([(call.symbols("self"), inverse)])


def to_power(call: Call) -> object:
    x, exponent = call.symbols("self"), call.number("exponent")
    if not math.isfinite(exponent):
        raise call.refuse(f"with exponent {exponent:g} is not supported", "give it a number")
    return power(call.builder, x, exponent)


def power_of_constant(call: Call) -> object:
    base = call.constant("self").to(torch.float64).numpy()
    if not (base > 0).all():
        raise call.refuse("of a base of 0 or less is not supported", "make it a number above 0")
    return exponential(call.builder, base, call.symbols("exponent"))


def ceiling(call: Call) -> object:
    return negative(call, call.builder.apply(Floor(), negative(call, call.symbols("self"))))


def inverse_root(call: Call) -> object:
    return call.builder.apply(Reciprocal(), call.builder.apply(SquareRoot(), call.symbols("self")))


def negative(call: Call, x: Symbols) -> Symbols:
    return call.builder.combine([(x, -1.0)])


def apply(op: Operation, name: str = "self") -> Handler:
    return lambda call: call.builder.apply(op, call.symbols(name))


def leaky_relu(call: Call) -> object:
    slope = call.number("negative_slope")
    if slope < 0:
        raise call.refuse(f"with the negative slope {slope:g} is not supported", "use a slope of 0 or more")
    return call.builder.apply(LeakyRelu(slope), call.symbols("self"))


def clamp(low: str, high: str) -> Handler:
    """Clamp between two arguments, numbers or tensors, either of which may be None."""

    def build(call: Call) -> object:
        least = call.constant(low) if call[low] is not None else torch.tensor(-math.inf, dtype=torch.float64)
        most = call.constant(high) if call[high] is not None else torch.tensor(math.inf, dtype=torch.float64)
        if bool((least > most).any()):
            raise call.refuse("with crossed bounds is not supported", "keep the lower bound at or below the upper")
        return clamped(call.builder, call.symbols("self"), least, most)

    return build


def interpolate(call: Call) -> object:
    """lerp: `n + z * (h - n)`."""
    start, end = call.symbols("self"), call.symbols("end")
    difference = call.builder.combine([(end, 1.0), (start, -1.0)])
    if call.symbolic("weight"):
        step = call.builder.multiply(call.symbols("weight"), difference)
    else:
        step = call.builder.combine([(difference, call.constant("weight"))])
    return call.builder.combine([(start, 1.0), (step, 1.0)])


def clamp_at(least: bool) -> Handler:
    """Clamp at one end."""

    def build(call: Call) -> object:
        limit = call.constant("min" if least else "max")
        x = call.symbols("self")
        return clamped(call.builder, x, low=limit) if least else clamped(call.builder, x, high=limit)

    return build


def logarithm(factor: float) -> Handler:
    def build(call: Call) -> object:
        natural = call.builder.apply(Log(), call.symbols("self"))
        return natural if factor == 1 else call.builder.combine([(natural, factor)])

    return build


def extreme_of_two(largest: bool) -> Handler:
    """max(x, y), or -max(-x, -y); a clamp where one of them is constant."""

    def build(call: Call) -> object:
        for one, other in (("self", "other"), ("other", "self")):
            if not call.symbolic(other):
                limit = call.constant(other)
                x = call.symbols(one)
                return clamped(call.builder, x, low=limit) if largest else clamped(call.builder, x, high=limit)
        x, y = call.symbols("self"), call.symbols("other")
        return larger(call.builder, x, y) if largest else smaller(call.builder, x, y)

    return build


def times(call: Call, a: object, b: object, bias: Tensor | None = None) -> Symbols:
    """The product of two matrices, at least one of them symbolic, and a constant bias to each of its rows."""
    builder = call.builder
    if isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        return builder.matmul(a, call.exact(b).T, bias)
    if isinstance(b, np.ndarray) and not isinstance(a, np.ndarray):
        product = builder.matmul(b.T, call.exact(a)).T
    else:
        x, y = call.neurons(a), call.neurons(b)
        product = builder.total(builder.multiply(x[:, :, None], y[None]), (1,))
    return product if bias is None else builder.combine([(product, 1.0)], bias)


def matrix_product(call: Call) -> object:
    return times(call, call["self"], call["mat2"])


def biased_product(call: Call) -> object:
    """`beta * self + alpha * mat1 @ mat2`"""
    alpha, beta = call.number("alpha"), call.number("beta")
    if alpha == beta == 1 and not call.symbolic("self") and call.constant("self").dim() == 1:
        columns = cast(Tensor, call.node.meta["val"]).shape[-1]
        return times(call, call["mat1"], call["mat2"], call.constant("self").expand(columns))
    product = times(call, call["mat1"], call["mat2"])
    if call.symbolic("self"):
        return call.builder.combine([(product, alpha), (call.symbols("self"), beta)])
    return call.builder.combine([(product, alpha)], beta * call.constant("self"))


def product_with_matrix(call: Call) -> object:
    return call.builder.matmul(call.symbols("self"), call.constant("other").T)


def dense(call: Call) -> object:
    bias = None if call["bias"] is None else call.constant("bias")
    return call.builder.matmul(call.symbols("input"), call.constant("weight"), bias)


def dropout(call: Call) -> object:
    """Nothing, in evaluation."""
    call.number("p")
    if call.flag("train"):
        raise call.refuse("in training is not supported", "drop out only in training: `torch.nn.Dropout`")
    return call.symbols("input")


def batched_product(call: Call) -> object:
    return np.stack([times(call, a, b) for a, b in zip(_each(call["self"]), _each(call["mat2"]), strict=True)])


def _each(batch: object) -> list[object]:
    return list(cast(Tensor, batch))


def batch_norm(call: Call) -> object:
    """A scale and a shift of each channel, by the running statistics."""
    call.number("momentum")  # Of training only.
    x = call.symbols("input")
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    spread = torch.sqrt(variance + call.number("eps"))
    weight = torch.ones_like(mean) if call["weight"] is None else call.constant("weight")
    bias = torch.zeros_like(mean) if call["bias"] is None else call.constant("bias")
    scale = weight / spread
    if not bool(torch.isfinite(scale).all()):
        raise call.refuse("with a variance of 0 or less is not supported", "give it an eps above 0")
    shape = (-1, *(1 for _ in x.shape[2:]))
    shift, size = bias - mean * scale, bias.abs() + (mean * scale).abs()
    result = call.builder.combine([(x, scale.reshape(shape))], shift.reshape(shape), size.reshape(shape))
    statistics = Missing("the statistics of a batch norm", "use its output only")
    return result, statistics, statistics


def addition(mean: bool) -> Handler:
    """The sum or the mean over some axes, or all."""

    def build(call: Call) -> object:
        check_precision(call)
        x = call.symbols("self")
        axes = axes_of(call, x)
        count = math.prod(x.shape[axis] for axis in axes)
        if mean and count == 0:
            raise call.refuse("of no numbers is not supported", "take the mean of at least one")
        factor = 1 / count if mean else 1.0
        return kept(call, call.builder.total(x, axes, factor), axes)

    return build


def check_precision(call: Call) -> None:
    """A dtype asked for must not be coarser than what was there."""
    wanted = call["dtype"]
    if wanted is not None and wanted not in (torch.float32, torch.float64):
        raise call.refuse(f"to {wanted} is not supported", "compute in float32 or float64 throughout")


def running_sum(call: Call) -> object:
    check_precision(call)
    x = call.symbols("self")
    if x.ndim == 0:
        call.integer("dim")
        return x
    x = np.moveaxis(x, call.integer("dim"), 0)
    sums = [call.builder.total(x[: k + 1], (0,)) for k in range(len(x))]
    return np.moveaxis(np.stack(sums), 0, call.integer("dim"))


def extreme(largest: bool, pair: bool) -> Handler:
    """The largest or the smallest over some axes, or all; `pair` operators give positions too."""

    def build(call: Call) -> object:
        x = call.symbols("self")
        axes = axes_of(call, x)
        rest = [axis for axis in range(x.ndim) if axis not in axes]
        flat = x.transpose([*axes, *rest]).reshape(-1, *(x.shape[axis] for axis in rest))
        found = call.builder.largest(flat if largest else negative(call, flat), 0)
        result = kept(call, found if largest else negative(call, found), axes)
        return (result, POSITIONS) if pair else result

    return build


def to_copy(call: Call) -> object:
    if call["dtype"] in LIMITS:
        return whole(call)
    check_precision(call)
    if call["dtype"] is torch.float32 and cast(Tensor, call.node.all_input_nodes[0].meta["val"]).dtype is torch.float64:
        raise call.refuse("from float64 to float32 is not supported", "compute in one precision throughout")
    return call.symbols("self")


def like(value: float | None) -> Handler:
    """A constant of the shape of an argument."""

    def build(call: Call) -> object:
        call.read.update(("self", "dtype"))
        fill = call.number("fill_value") if value is None else value
        return torch.full(tuple(cast(Tensor, call.node.meta["val"]).shape), fill, dtype=torch.float64).to(call.dtype())

    return build


OPERATORS: dict[str, Handler] = {
    **MOVES,
    **COMPARISONS,
    **CURVED,
    **NORMALISING,
    **RECURRENT,
    **WINDOWS,
    **LOOKUPS,
    "aten.add.Tensor": weighted(("self", 1.0), ("other", "alpha")),
    "aten.add.Scalar": weighted(("self", 1.0), ("other", "alpha")),
    "aten.sub.Tensor": weighted(("self", 1.0), ("other", "-alpha")),
    "aten.sub.Scalar": weighted(("self", 1.0), ("other", "-alpha")),
    "aten.rsub.Tensor": weighted(("self", "-alpha"), ("other", 1.0)),
    "aten.rsub.Scalar": weighted(("self", "-alpha"), ("other", 1.0)),
    "aten.neg.default": weighted(("self", -1.0)),
    "aten.mul.Tensor": multiply,
    "aten.mul.Scalar": multiply,
    "aten.div.Tensor": divide,
    "aten.div.Scalar": divide,
    "aten.pow.Tensor_Scalar": to_power,
    "aten.pow.Scalar": power_of_constant,
    "aten.floor.default": apply(Floor()),
    "aten.ceil.default": ceiling,
    "aten.square.default": apply(Square()),
    "aten.sqrt.default": apply(SquareRoot()),
    "aten.rsqrt.default": inverse_root,
    "aten.reciprocal.default": apply(Reciprocal()),
    "aten.log.default": logarithm(1.0),
    "aten.log2.default": logarithm(1 / math.log(2)),
    "aten.log10.default": logarithm(1 / math.log(10)),
    "aten.sigmoid.default": apply(Sigmoid()),
    "aten.tanh.default": apply(Tanh()),
    "aten.relu.default": apply(LeakyRelu()),
    "aten.leaky_relu.default": leaky_relu,
    "aten.relu6.default": apply(Clamp(0.0, 6.0)),
    "aten.hardtanh.default": clamp("min_val", "max_val"),
    "aten.clamp.default": clamp("min", "max"),
    "aten.clamp_min.default": clamp_at(True),
    "aten.clamp_max.default": clamp_at(False),
    "aten.clamp.Tensor": clamp("min", "max"),
    "aten.clamp_min.Tensor": clamp_at(True),
    "aten.clamp_max.Tensor": clamp_at(False),
    "aten.lerp.Tensor": interpolate,
    "aten.lerp.Scalar": interpolate,
    "aten.maximum.default": extreme_of_two(largest=True),
    "aten.minimum.default": extreme_of_two(largest=False),
    "aten.mm.default": matrix_product,
    "aten.bmm.default": batched_product,
    "aten.addmm.default": biased_product,
    "aten.matmul.default": product_with_matrix,
    "aten.linear.default": dense,
    "aten.dropout.default": dropout,
    "aten._native_batch_norm_legit_no_training.default": batch_norm,
    "aten.sum.default": addition(mean=False),
    "aten.sum.dim_IntList": addition(mean=False),
    "aten.mean.default": addition(mean=True),
    "aten.mean.dim": addition(mean=True),
    "aten.cumsum.default": running_sum,
    "aten.amax.default": extreme(largest=True, pair=False),
    "aten.amin.default": extreme(largest=False, pair=False),
    "aten.max.default": extreme(largest=True, pair=False),
    "aten.min.default": extreme(largest=False, pair=False),
    "aten.max.dim": extreme(largest=True, pair=True),
    "aten.min.dim": extreme(largest=False, pair=True),
    "aten.sym_size.int": lambda call: call.symbols("self").shape[call.integer("dim")],
    FULL_LENGTH: read_packed,
    "aten._to_copy.default": to_copy,
    "aten.full_like.default": like(None),
    "aten.zeros_like.default": like(0.0),
    "aten.ones_like.default": like(1.0),
}
"""Every operator that is imported, by its overload's name."""
