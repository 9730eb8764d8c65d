"""ATen operators that normalise, and norms, variances and their like (`models.normalisations`)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tightverify.models import normalisations
from tightverify.models.builder import Symbols
from tightverify.models.from_torch.call import Call

Handler = Callable[[Call], object]


def axes_of(call: Call, x: Symbols) -> tuple[int, ...]:
    """Those that are named, or all."""
    given = call["dim"] if "dim" in call.arguments else None
    axes = () if given is None else call.integers("dim")
    return tuple(axis % max(x.ndim, 1) for axis in axes) or tuple(range(x.ndim))


def kept(call: Call, found: Symbols, axes: tuple[int, ...]) -> Symbols:
    """With the axes of length 1, if they are to stay."""
    keep = "keepdim" in call.arguments and call.flag("keepdim")
    return np.expand_dims(found, axes) if keep else found


def given(call: Call, name: str, usual: float) -> Tensor | float:
    """A constant that may be left out."""
    return usual if call[name] is None else call.constant(name)


def group_norm(call: Call) -> object:
    call.read.add("cudnn_enabled")
    scale, shift = given(call, "weight", 1.0), given(call, "bias", 0.0)
    x, groups = call.symbols("input"), call.integer("num_groups")
    return normalisations.by_groups(call.builder, x, groups, call.number("eps"), scale, shift)


def instance_norm(call: Call) -> object:
    """By the input's own statistics, or by those that were kept."""
    call.read.update(("cudnn_enabled", "momentum"))
    x, epsilon = call.symbols("input"), call.number("eps")
    scale, shift = given(call, "weight", 1.0), given(call, "bias", 0.0)
    mean, variance = given(call, "running_mean", 0.0), given(call, "running_var", 1.0)
    if call.flag("use_input_stats"):
        return normalisations.by_groups(call.builder, x, x.shape[1], epsilon, scale, shift)
    along = (-1, *(1 for _ in x.shape[2:]))
    scale, shift, mean, variance = (torch.as_tensor(part).reshape(along).double() for part in (scale, shift, mean, variance))
    factor = scale / (variance + epsilon).sqrt()
    return call.builder.combine([(x, factor)], shift - mean * factor, shift.abs() + (mean * factor).abs())


def rms_norm(call: Call) -> object:
    """Where no epsilon is given it is the type's."""
    x, count = call.symbols("input"), len(call.integers("normalized_shape"))
    epsilon = torch.finfo(call.dtype()).eps if call["eps"] is None else call.number("eps")
    axes = tuple(range(x.ndim - count, x.ndim))
    return normalisations.by_mean_square(call.builder, x, axes, epsilon, given(call, "weight", 1.0))


def spread(root: bool, pair: bool = False) -> Handler:
    """The variance, or its root; with the mean, if both are asked for."""

    def build(call: Call) -> object:
        x = call.symbols("self")
        axes = axes_of(call, x)
        correction = 1.0
        if "unbiased" in call.arguments:
            correction = float(call.flag("unbiased"))
        elif call["correction"] is not None:
            correction = call.number("correction")
        count = math.prod(x.shape[axis] for axis in axes)
        if count <= correction:
            raise call.refuse(f"of {count} numbers is not supported", "take that of more numbers")
        found = normalisations.variance(call.builder, x, axes, correction)
        found = kept(call, normalisations.root(call.builder, found) if root else found, axes)
        return (found, kept(call, call.builder.total(x, axes, 1 / count), axes)) if pair else found

    return build


def norm(call: Call) -> object:
    x, order = call.symbols("self"), call.number("ord")
    if call["dtype"] not in (None, torch.float32, torch.float64):
        raise call.refuse("to another type is not supported", "compute in float32 or float64 throughout")
    if order not in (1, 2, math.inf):
        raise call.refuse(f"of order {order:g} is not supported", "take the norm of order 1, 2 or infinity")
    axes = axes_of(call, x)
    return kept(call, normalisations.norm(call.builder, x, axes, order), axes)


def log_sum_exp(call: Call) -> object:
    x = call.symbols("self")
    axes = axes_of(call, x)
    return kept(call, normalisations.log_sum_exp(call.builder, x, axes), axes)


def of_kinds(name: str, root: bool, pair: bool = False) -> dict[str, Handler]:
    return {f"aten.{name}.{kind}": spread(root, pair) for kind in ("default", "dim", "correction")}


NORMALISING: dict[str, Handler] = {
    "aten.group_norm.default": group_norm,
    "aten.instance_norm.default": instance_norm,
    "aten.rms_norm.default": rms_norm,
    "aten.linalg_vector_norm.default": norm,
    "aten.logsumexp.default": log_sum_exp,
    **of_kinds("var", False),
    **of_kinds("std", True),
    **of_kinds("var_mean", False, True),
    **of_kinds("std_mean", True, True),
}
