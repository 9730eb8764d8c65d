"""What normalises by numbers of the activations' own, or of a batch, and softmax; sums run over the last axis.

A softmax is 1 / (1 + sum of exp(x_j - x_i)), as for the verifier: what all have in common drops out before anything is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tightverify.ops import Exp
from tightverify.training.curved import RECIPROCAL, clamp, log, reciprocal, softplus, sqrt, square
from tightverify.training.functions import SIGMOID, increasing
from tightverify.training.maps import Dense
from tightverify.training.operators import (
    absolute,
    add,
    applied,
    extreme,
    matrix_product,
    maximum,
    moved,
    multiply,
    negated,
    refuse,
    subtract,
    weighed,
)
from tightverify.training.tracing import OPERATORS, Bounded

LARGEST = 60.0
"""Differences of a softmax from here on count as this: exp(-60) is less than what is left of 1 in either precision."""
WIDEST = 1024
"""From so many numbers on, a mean is taken off without a matrix, and bounds are wider."""


def batch_norm(
    x: Bounded,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Bounded:
    """In training by the statistics of the batch at the inputs themselves; the running ones stay as they are."""
    mean, variance = running_mean, running_var
    if training or mean is None or variance is None:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean, variance = x.node.value.mean(axes), x.node.value.var(axes, correction=0)
    scale = torch.rsqrt(variance + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = (-1, *(1,) * (x.dim() - 2))
    return add(multiply(x, scale.view(shape)), shift.view(shape))


def average(x: Bounded, axis: int = -1) -> Bounded:
    return moved(lambda t: t.mean(axis, keepdim=True), x)


def centred(x: Bounded) -> Bounded:
    """Less its mean along the last axis."""
    size = x.size(-1)
    if size > WIDEST:
        return add(x, negated(average(x)))
    like = x.node.interval.lower
    return weighed([(x.node, Dense(torch.eye(size).to(like) - 1 / size))])


def normalised(x: Bounded, eps: float) -> Bounded:
    apart = centred(x)
    return multiply(apart, reciprocal(sqrt(add(average(square(apart)), eps))))


def variance(
    x: Bounded, dim: int | None = None, unbiased: bool = True, keepdim: bool = False, *, correction: float = 1
) -> Bounded:
    if not isinstance(dim, int):
        raise refuse(f"a variance over {dim}", "take it over one axis")
    last = centred(moved(lambda t: t.movedim(dim, -1), x))
    count = x.size(dim) - (correction if unbiased else 0)
    found = multiply(moved(lambda t: t.sum(-1), square(last)), 1 / count)
    return moved(lambda t: t.unsqueeze(dim), found) if keepdim else found


def deviation(x: Bounded, *args: Any, **kwargs: Any) -> Bounded:
    return sqrt(variance(x, *args, **kwargs))


def over_last(x: Bounded, count: int, function: Callable[[Bounded], Bounded]) -> Bounded:
    """A function of the last axis, of so many last axes as one."""
    shape = x.shape
    found = function(moved(lambda t: t.flatten(-count), x))
    return moved(lambda t: t.view(shape), found)


def scaled(x: Bounded, weight: Tensor | None, bias: Tensor | None) -> Bounded:
    found = x if weight is None else multiply(x, weight)
    return found if bias is None else add(found, bias)


def layer_norm(
    x: Bounded, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Bounded:
    return scaled(over_last(x, len(normalized_shape), lambda t: normalised(t, eps)), weight, bias)


def rms_norm(x: Bounded, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Bounded:
    least = torch.finfo(x.dtype).eps if eps is None else eps

    def by_mean_square(t: Bounded) -> Bounded:
        return multiply(t, reciprocal(sqrt(add(average(square(t)), least))))

    return scaled(over_last(x, len(normalized_shape), by_mean_square), weight, None)


def group_norm(
    x: Bounded, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Bounded:
    shape, along = x.shape, (-1, *(1,) * (x.dim() - 2))
    grouped = moved(lambda t: t.reshape(len(t), num_groups, -1), x)
    found = moved(lambda t: t.reshape(shape), normalised(grouped, eps))
    return scaled(found, *(None if part is None else part.view(along) for part in (weight, bias)))


def instance_norm(
    x: Bounded,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Bounded:
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return group_norm(x, x.size(1), weight, bias, eps)


def norm(
    x: Bounded,
    p: float | None = 2,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    out: None = None,
    dtype: torch.dtype | None = None,
) -> Bounded:
    """Of order 1, 2 or infinity, over one axis."""
    if not isinstance(dim, int) or p not in (1, 2, math.inf):
        raise refuse(f"the norm {p} over {dim}", "take that of order 1, 2 or infinity over one axis")
    if p == math.inf:
        return extreme(absolute(x), dim, keepdim)
    total = moved(lambda t: t.sum(dim, keepdim=keepdim), absolute(x) if p == 1 else square(x))
    return total if p == 1 else sqrt(total)


def normalize(x: Bounded, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Bounded:
    return multiply(x, reciprocal(maximum(norm(x, p, dim, True), eps)))


# Softmax


def differences(x: Bounded, dim: int) -> Bounded:
    """(..., n, n - 1): by how much each of the others along an axis is larger."""
    count, like = x.size(dim), x.node.interval.lower
    one = torch.eye(count).to(like)
    others = torch.tensor([[j for j in range(count) if j != i] for i in range(count)], device=like.device)
    weight = (one[others] - one[:, None]).flatten(0, 1)
    last = moved(lambda t: t.movedim(dim, -1), x)
    return moved(lambda t: t.unflatten(-1, (count, count - 1)), weighed([(last.node, Dense(weight))]))


def one_and_all(apart: Bounded) -> Bounded:
    return add(moved(lambda t: t.sum(-1), applied(increasing(Exp()), apart)), 1.0)


def checked(x: Bounded, dim: int | None, dtype: torch.dtype | None) -> int:
    """The axis, from 1 on: inputs of a batch know nothing of one another."""
    if dim is None or dim % x.dim() == 0:
        raise refuse(f"a softmax over the axis {dim}", "take one behind the first, which holds the batch")
    if dtype not in (None, x.dtype):
        raise refuse("a change of type on the way", "compute in one precision")
    return dim % x.dim()


def softmax(x: Bounded, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Bounded | Tensor:
    axis = checked(x, dim, dtype)
    if x.size(axis) == 1:
        return torch.ones(x.shape, dtype=x.dtype, device=x.device)
    apart = differences(x, axis)
    if x.size(axis) == 2:
        found = applied(SIGMOID, negated(moved(lambda t: t[..., 0], apart)))
    else:
        found = applied(RECIPROCAL, one_and_all(clamp(apart, max=LARGEST)))
    result = moved(lambda t: t.movedim(-1, axis), found)
    result.node.are_shares = True
    return result


def log_softmax(x: Bounded, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Bounded | Tensor:
    axis = checked(x, dim, dtype)
    if x.size(axis) == 1:
        return torch.zeros(x.shape, dtype=x.dtype, device=x.device)
    apart = differences(x, axis)
    several = x.size(axis) > 2
    found = log(one_and_all(apart)) if several else softplus(moved(lambda t: t[..., 0], apart))
    result = negated(moved(lambda t: t.movedim(-1, axis), found))
    result.node.scores = x.node
    return result


def log_sum_exp(x: Bounded, dim: int, keepdim: bool = False) -> Bounded:
    """The first number less its log-softmax."""
    shares, axis = log_softmax(x, dim), dim % x.dim()
    first = moved(lambda t: t.narrow(axis, 0, 1), x)
    found = subtract(first, moved(lambda t: t.narrow(axis, 0, 1), shares) if isinstance(shares, Bounded) else shares)
    return found if keepdim else moved(lambda t: t.squeeze(axis), found)


def attention(
    query: Bounded,
    key: Bounded,
    value: Bounded,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Bounded:
    if attn_mask is not None or dropout_p or is_causal or enable_gqa:
        raise refuse("attention with a mask, dropout or groups of heads", "write it with `matmul` and `softmax`")
    factor = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    scores = matrix_product(multiply(query, factor), moved(lambda t: t.transpose(-2, -1), key))
    return matrix_product(softmax(scores, -1), value)


OPERATORS.update(
    {
        "batch_norm": batch_norm,
        "group_norm": group_norm,
        "instance_norm": instance_norm,
        "layer_norm": layer_norm,
        "log_softmax": log_softmax,
        "logsumexp": log_sum_exp,
        "norm": norm,
        "normalize": normalize,
        "rms_norm": rms_norm,
        "scaled_dot_product_attention": attention,
        "softmax": softmax,
        "std": deviation,
        "var": variance,
    }
)
