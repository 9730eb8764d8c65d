"""ONNX operators that compute: sums, products, matrices, functions of one neuron, reductions.

Weights that have to be worked out (batch norm's, a mean's) are worked out in float64, and the size of what was added up
goes to the builder with them, so that every bound's rounding allowance covers it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tightverify.errors import ModelError
from tightverify.models import composed, contraction
from tightverify.models.builder import ZERO, Symbols
from tightverify.models.choices import larger, smaller
from tightverify.models.clamps import clamped
from tightverify.models.from_onnx.node import Activations, Call
from tightverify.models.powers import exponential, powers
from tightverify.ops import Floor, LeakyRelu, Log, Operation, Reciprocal, Sigmoid, SquareRoot, Tanh


def signed_sum(call: Call, signs: tuple[float, ...]) -> Symbols:
    """The inputs, each with its sign, added up with broadcasting."""
    summands: list[tuple[Symbols, Tensor | float]] = []
    shift = torch.zeros((), dtype=torch.float64)
    weight = torch.zeros((), dtype=torch.float64)
    for k, sign in enumerate(signs):
        value = call.value(k)
        if isinstance(value, Activations):
            summands.append((value.numbers, sign))
        else:
            shift, weight = shift + sign * call.weights(k), weight + call.weights(k).abs()
    return call.builder.combine(summands, shift, weight)


def add_all(call: Call) -> Symbols:
    return signed_sum(call, (1.0,) * call.count)


def mean_of_all(call: Call) -> Symbols:
    return signed_sum(call, (1.0 / call.count,) * call.count)


def subtract(call: Call) -> Symbols:
    return signed_sum(call, (1.0, -1.0))


def negate(call: Call) -> Symbols:
    return signed_sum(call, (-1.0,))


def multiply(call: Call) -> Symbols:
    for k, other in ((0, 1), (1, 0)):
        if not isinstance(call.value(k), Activations):
            return call.builder.combine([(call.numbers(other), call.weights(k))])
    return call.builder.multiply(call.numbers(0), call.numbers(1))


def divide(call: Call) -> Symbols:
    """By a constant, whose inverse has to be an ordinary number, or by activations that stay above 0."""
    if isinstance(call.value(1), Activations):
        inverse_of = call.builder.apply(Reciprocal(), call.numbers(1))
        return call.builder.multiply(call.numbers(0), inverse_of)
    inverse = 1.0 / call.weights(1)
    if bool((~torch.isfinite(inverse) | (inverse.abs() < torch.finfo(torch.float64).tiny)).any()):
        raise ModelError(f"{call.place} divides by 0 or by a number out of range in '{call.name(1)}'; mend the model")
    return call.builder.combine([(call.numbers(0), inverse)])


def ceiling(call: Call) -> Symbols:
    return signed(call, call.builder.apply(Floor(), signed(call, call.numbers(0), -1.0)), -1.0)


def power(call: Call) -> Symbols:
    """Of a constant exponent, or a constant base above 0; an exponent may be of a type of its own."""
    if not isinstance(call.value(0), Activations):
        base = call.weights(0).numpy()
        if not (base > 0).all():
            raise call.unsupported("a base of 0 or less", "make it a number above 0")
        return exponential(call.builder, base, call.numbers(1))
    exponents = np.asarray(call.constant(1), dtype=np.float64)
    if not np.isfinite(exponents).all():
        raise call.unsupported("an exponent that is no finite number", "give it a number")
    return powers(call.builder, call.numbers(0), exponents)


def applied(op: Operation, call: Call) -> Symbols:
    return call.builder.apply(op, call.numbers(0))


def leaky_relu(call: Call) -> Symbols:
    slope = call.number("alpha", 0.01)
    if slope < 0:
        raise call.unsupported(f"the attribute alpha = {slope:g}", "give it a slope of 0 or more")
    return call.builder.apply(LeakyRelu(slope), call.numbers(0))


def clip(call: Call) -> Symbols:
    """Bounds are attributes up to opset 10, inputs from 11 on, and may be infinite."""
    least, most = call.attribute("min"), call.attribute("max")
    low = call.scalar(1) if call.given(1) else -np.inf if least is None else float(least)
    high = call.scalar(2) if call.given(2) else np.inf if most is None else float(most)
    if not low <= high:
        raise ModelError(f"{call.place} has the bounds {low:g} and {high:g}; wanted the lower one first: mend the model")
    return clamped(call.builder, call.numbers(0), low, high)


def hard_sigmoid(call: Call) -> Symbols:
    """`alpha * x + beta`, kept in [0, 1]."""
    return composed.hard_sigmoid(call.builder, call.numbers(0), call.number("alpha", 0.2), call.number("beta", 0.5))


def extreme(sign: float, call: Call) -> Symbols:
    """The largest of the inputs, or for sign -1 the smallest."""
    best: Symbols | None = None
    for k in range(call.count):
        if not isinstance(call.value(k), Activations):
            continue
        x = call.numbers(k)
        if best is not None:
            x = larger(call.builder, best, x) if sign == 1 else smaller(call.builder, best, x)
        best = x
    if best is None:
        raise ModelError(f"{call.place} has no input that depends on the network's input")
    for k in range(call.count):
        if isinstance(call.value(k), Activations):
            continue
        limits = call.floats(k)
        same = limits.size and (limits == limits.flat[0]).all()  # one bound may be infinite
        limit = torch.from_numpy(limits) if same else call.weights(k)
        best = clamped(call.builder, best, low=limit) if sign == 1 else clamped(call.builder, best, high=limit)
    return best


def signed(call: Call, x: Symbols, sign: float) -> Symbols:
    return x if sign == 1 else call.builder.combine([(x, sign)])


def matrix_product(call: Call) -> Symbols:
    """Of activations, or of one side that is constant; from the left a matrix is the product of the transposes."""
    left, right = (isinstance(call.value(k), Activations) for k in (0, 1))
    if left and right:
        x, y = call.numbers(0), call.numbers(1)
        if min(x.ndim, y.ndim) < 2:
            return contraction.matrix_product(call.builder, x, y)
        return composed.matrix_product(call.builder, x, y)
    x, weight = (call.numbers(0), call.weights(1)) if left else (call.numbers(1), call.weights(0))
    if weight.shape[:-2].numel() != 1:
        return contraction.matrix_product(call.builder, *((x, weight) if left else (weight, x)))
    matrix = weight.reshape(weight.shape[-2:])
    vector = matrix.dim() == 1
    if left:
        result = call.builder.matmul(x, matrix[None] if vector else matrix.transpose(0, 1))
    else:
        result = call.builder.matmul(x if x.ndim == 1 else x.swapaxes(-1, -2), matrix[None] if vector else matrix)
        result = result if x.ndim == 1 or vector else result.swapaxes(-1, -2)
    result = result[..., 0] if vector else result
    return result.reshape((1,) * (weight.dim() - max(x.ndim, 2)) + result.shape)


def gemm(call: Call) -> Symbols:
    """`alpha * A B + beta * C`, A and B transposed where asked."""
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    turned = call.integer("transA", 0) != 0, call.integer("transB", 0) != 0
    if all(isinstance(call.value(k), Activations) for k in (0, 1)):
        x, y = (call.numbers(k).T if turn else call.numbers(k) for k, turn in enumerate(turned))
        product = call.builder.combine([(composed.matrix_product(call.builder, x, y), alpha)])
    elif isinstance(call.value(0), Activations):
        x = call.numbers(0).T if turned[0] else call.numbers(0)
        product = call.builder.matmul(x, alpha * (call.weights(1) if turned[1] else call.weights(1).transpose(0, 1)))
    else:
        x = call.numbers(1) if turned[1] else call.numbers(1).T
        product = call.builder.matmul(x, alpha * (call.weights(0).transpose(0, 1) if turned[0] else call.weights(0))).T
    if not call.given(2):
        return product
    if isinstance(call.value(2), Activations):
        return call.builder.combine([(product, 1.0), (call.numbers(2), beta)])
    return call.builder.combine([(product, 1.0)], beta * call.weights(2))


def batch_normalisation(call: Call) -> Symbols:
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta` along axis 1, by the statistics in the file."""
    call.number("momentum", 0.9)  # concerns training only
    epsilon = call.number("epsilon", 1e-5)
    for name, usual in (("training_mode", 0), ("spatial", 1)):
        if call.integer(name, usual) != usual:
            raise call.unsupported(f"the attribute {name} = {1 - usual}", "export the model after `model.eval()`")
    x = call.numbers(0)
    gamma, beta, mean, variance = (call.weights(k).reshape(-1, *(1,) * (x.ndim - 2)) for k in range(1, 5))
    if not bool((variance + epsilon > 0).all()):
        raise ModelError(f"{call.place} has a variance '{call.name(4)}' of 0 or less; wanted more: export the model again")
    scale = gamma / (variance + epsilon).sqrt()
    return call.builder.combine([(x, scale)], beta - mean * scale, beta.abs() + (mean * scale).abs())


def reduction(call: Call) -> tuple[Symbols, tuple[int, ...], bool]:
    """The tensor, the axes to reduce (all of them where none is named) and whether they stay, of length 1."""
    x, axes = call.numbers(0), call.integers("axes", 1) or ()
    everything = not call.integer("noop_with_empty_axes", 0)
    if not axes and everything:
        axes = tuple(range(x.ndim))
    return x, tuple(sorted(axis % x.ndim for axis in axes)), call.integer("keepdims", 1) != 0


def total(mean: bool, call: Call) -> Symbols:
    x, axes, kept = reduction(call)
    if not axes:
        return x
    count = math.prod(x.shape[axis] for axis in axes)
    if mean and count == 0:
        raise call.unsupported("the mean of no numbers", "take that of at least one")
    summed = call.builder.total(x, axes, 1.0 / count if mean else 1.0)
    return np.expand_dims(summed, axes) if kept else summed


def reduced_extreme(sign: float, call: Call) -> Symbols:
    x, axes, kept = reduction(call)
    if not axes:
        return x
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(x.shape[axis] for axis in rest)
    flat = signed(call, x.transpose([*rest, *axes]).reshape(*shape, -1), sign)
    result = signed(call, call.builder.largest(flat, -1), sign)
    return np.expand_dims(result, axes) if kept else result


def running_sum(call: Call) -> Symbols:
    """Of the numbers up to each along an axis, without that one itself if exclusive, from the end if reverse."""
    x, axis = call.numbers(0), int(call.constant(1))
    if not -x.ndim <= axis < x.ndim:
        raise ModelError(f"{call.place} sums along axis {axis} of {x.ndim}; wanted one that there is: mend the model")
    exclusive, reverse = (call.integer(name, 0) != 0 for name in ("exclusive", "reverse"))
    along = np.moveaxis(x, axis, 0)[:: -1 if reverse else 1]
    sums = [call.builder.total(along[: k + 1 - exclusive], (0,)) for k in range(int(exclusive), len(along))]
    sums = [np.full(along.shape[1:], ZERO, dtype=np.int64), *sums] if exclusive else sums
    return np.moveaxis(np.stack(sums)[:: -1 if reverse else 1], 0, axis)


COMPUTING: dict[str, Callable[[Call], Symbols]] = {
    "Add": add_all,
    "BatchNormalization": batch_normalisation,
    "Ceil": ceiling,
    "Clip": clip,
    "CumSum": running_sum,
    "Div": divide,
    "Floor": partial(applied, Floor()),
    "Gemm": gemm,
    "HardSigmoid": hard_sigmoid,
    "LeakyRelu": leaky_relu,
    "Log": partial(applied, Log()),
    "MatMul": matrix_product,
    "Max": partial(extreme, 1.0),
    "Min": partial(extreme, -1.0),
    "Mean": mean_of_all,
    "Mul": multiply,
    "Neg": negate,
    "Pow": power,
    "ReduceMax": partial(reduced_extreme, 1.0),
    "ReduceMean": partial(total, True),
    "ReduceMin": partial(reduced_extreme, -1.0),
    "ReduceSum": partial(total, False),
    "Reciprocal": partial(applied, Reciprocal()),
    "Relu": partial(applied, LeakyRelu(0.0)),
    "Sigmoid": partial(applied, Sigmoid()),
    "Sqrt": partial(applied, SquareRoot()),
    "Sub": subtract,
    "Sum": add_all,
    "Tanh": partial(applied, Tanh()),
}
