"""What functions of torch are made of on bounds: a table from their names, with torch's own arguments.

To add one, write its function and its line. Arguments that are not named here are refused by Python itself; those that would
change what is computed are refused in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tightverify.errors import UnsupportedError
from tightverify.ops import MULTIPLY, Maximum, Square
from tightverify.training.functions import RELU, Function, plain
from tightverify.training.maps import Dense, Map, Weighted
from tightverify.training.nodes import Applied, Back, Moved, Node, Weighing
from tightverify.training.slots import Slot
from tightverify.training.tracing import OPERATORS, Bounded
from tightverify.values import Interval

Number = float | int | Tensor


def refuse(what: str, advice: str) -> UnsupportedError:
    return UnsupportedError(f"training cannot bound {what}; {advice}")


def weighed(terms: Sequence[tuple[Node, Map | None]], bias: Tensor | None = None) -> Bounded:
    return Bounded.of(Weighing(terms[0][0].bounding, terms, bias))


def applied(function: Function, *xs: Bounded) -> Bounded:
    return Bounded.of(Applied(xs[0].node.bounding, function, [x.node for x in broadcast(*xs)]))


def moved(function: Callable[..., Tensor], *xs: Bounded, back: Back | None = None) -> Bounded:
    return Bounded.of(Moved(xs[0].node.bounding, function, [x.node for x in xs], back))


def sliced(x: Bounded, start: int, stop: int) -> Bounded:
    """Some neurons along the last axis."""
    size = x.shape[-1]
    return moved(lambda t: t[..., start:stop], x, back=lambda rows: [Slot(rows, rows.dim() - 1, start, size)])


def broadcast(*xs: Bounded) -> list[Bounded]:
    shape = torch.broadcast_shapes(*(x.shape for x in xs))
    return [x if x.shape == shape else moved(lambda t: t.expand(shape), x) for x in xs]


def constant(value: Number, like: Bounded) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def in_place(x: Any, result: Bounded, inplace: bool = True) -> Bounded:
    """The result, which takes the operand's place where that is asked; nobody knows who else sees a view of it."""
    if not inplace or not isinstance(x, Bounded):
        return result
    if isinstance(x.node, Moved):
        raise refuse("a change in place of what may be a view", "write the module without `inplace`")
    x.node = result.node
    return x


# What moves numbers about


def moving(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose first argument is the tensor; of several results, each is a node."""

    def build(x: Bounded, *args: Any, **kwargs: Any) -> Any:
        for other in (*args, *kwargs.values()):
            if isinstance(other, Bounded):
                raise refuse(f"{function.__name__} by what depends on the input", "make that a constant")
        found = function(x.node.interval.lower, *args, **kwargs)
        if isinstance(found, Tensor):
            return moved(lambda t: function(t, *args, **kwargs), x)
        parts = range(len(found))
        return tuple(moved(lambda t, k=k: function(t, *args, **kwargs)[k], x) for k in parts)

    return build


def joining(function: Callable[..., Tensor]) -> Callable[..., Any]:
    def build(tensors: Sequence[Tensor], dim: int = 0, **kwargs: Any) -> Bounded:
        axis = int(kwargs.pop("axis", dim))
        where = [k for k, x in enumerate(tensors) if isinstance(x, Bounded)]
        live = [x for x in tensors if isinstance(x, Bounded)]
        zeros = [torch.zeros_like(x) if not isinstance(x, Bounded) else x for x in tensors]

        def joined(*given: Tensor) -> Tensor:
            parts = list(zeros)
            for k, part in zip(where, given, strict=True):
                parts[k] = part
            return function(parts, axis)

        result = moved(joined, *live)
        if len(live) == len(tensors):
            return result
        fixed = [torch.zeros_like(x.node.interval.lower) if isinstance(x, Bounded) else x for x in tensors]
        return weighed([(result.node, None)], function(fixed, axis))

    return build


def pad(x: Bounded, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Bounded:
    if value and mode == "constant":
        raise refuse(f"padding with {value}", "pad with zeros")
    return moved(lambda t: F.pad(t, list(pad), mode), x)


def dropout(x: Bounded, p: float = 0.5, training: bool = True, inplace: bool = False) -> Bounded:
    """In training one draw for all that the region holds."""
    if not training or p == 0:
        return x
    return in_place(x, multiply(x, F.dropout(torch.ones_like(x.node.interval.lower), p, True)), inplace)


def converted(x: Any, *args: Any, **kwargs: Any) -> Any:
    """A constant in the type and on the device of what depends on the input; that itself stays as it is."""
    if isinstance(x, Bounded):
        like = x.node.interval.lower
        if like.to(*args, **kwargs).dtype != like.dtype or like.to(*args, **kwargs).device != like.device:
            raise refuse("a change of type or device on the way", "compute in one precision on one device")
        return x
    return x.to(*(one.node.interval.lower if isinstance(one, Bounded) else one for one in args), **kwargs)


def constant_like(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, *args, **kwargs: function(x.node.interval.lower.detach(), *args, **kwargs)


# Weighted sums


def add(x: Number | Bounded, y: Number | Bounded, alpha: float = 1) -> Bounded:
    if isinstance(x, Bounded) and isinstance(y, Bounded):
        first, second = broadcast(x, y if alpha == 1 else multiply(y, alpha))
        return weighed([(first.node, None), (second.node, None)])
    if not isinstance(x, Bounded):
        assert isinstance(y, Bounded)
        return add(y if alpha == 1 else multiply(y, alpha), x)
    assert not isinstance(y, Bounded)
    bias = alpha * constant(y, x)
    shape = torch.broadcast_shapes(x.shape, bias.shape)
    wide = x if x.shape == shape else moved(lambda t: t.expand(shape), x)
    return weighed([(wide.node, None)], bias)


def subtract(x: Number | Bounded, y: Number | Bounded, alpha: float = 1) -> Bounded:
    return add(x, multiply(y, -1.0) if isinstance(y, Bounded) else -constant_of(y), alpha)


def constant_of(y: Number) -> Tensor:
    return y if isinstance(y, Tensor) else torch.tensor(float(y))


def negated(x: Bounded) -> Bounded:
    return multiply(x, -1.0)


def multiply(x: Number | Bounded, y: Number | Bounded) -> Bounded:
    if isinstance(x, Bounded) and isinstance(y, Bounded):
        return applied(plain(Square()), x) if x is y else applied(plain(MULTIPLY), x, y)
    if not isinstance(x, Bounded):
        x, y = y, x
    assert isinstance(x, Bounded)
    assert not isinstance(y, Bounded)
    return weighed([(x.node, Weighted(torch.mul, constant(y, x), x.shape))])


def divide(x: Bounded, y: Number) -> Bounded:
    return multiply(x, 1 / constant(y, x))


def linear(x: Bounded, weight: Tensor, bias: Tensor | None = None) -> Bounded:
    if not isinstance(x, Bounded) or isinstance(weight, Bounded):
        raise refuse("a weight that depends on the input", "make it a constant")
    return weighed([(x.node, Dense(weight))], bias)


def matrix_product(x: Number | Bounded, y: Number | Bounded) -> Bounded:
    """Of two that depend on the input, (..., a, k) and (..., k, b), or of one and a constant on either side."""
    if isinstance(x, Bounded) and isinstance(y, Bounded):
        if min(x.dim(), y.dim()) < 3:
            raise refuse("a product of vectors of activations", "write it as a sum of products")
        left, right = moved(lambda t: t.unsqueeze(-1), x), moved(lambda t: t.unsqueeze(-3), y)
        return moved(lambda t: t.sum(-2), multiply(left, right))
    if isinstance(x, Bounded):
        assert isinstance(y, Tensor)
        return weighed([(x.node, Dense(y.T) if y.dim() == 2 else Weighted(torch.matmul, y, x.shape))])
    assert isinstance(x, Tensor)
    assert isinstance(y, Bounded)
    return weighed([(y.node, Weighted(lambda t, w: torch.matmul(w, t), x, y.shape))])


def contracted(equation: str, *parts: Number | Bounded) -> Bounded:
    """Einstein's sum of what depends on the input and constants."""
    places = [k for k, part in enumerate(parts) if isinstance(part, Bounded)]
    if len(places) != 1 or len(parts) > 2:
        raise refuse("an einsum of several tensors that depend on the input", "write it with `matmul`, or products and sums")
    if len(parts) == 1:
        (only,) = parts
        assert isinstance(only, Bounded)
        return moved(lambda t: torch.einsum(equation, t), only)

    def function(t: Tensor, weight: Tensor) -> Tensor:
        return torch.einsum(equation, *((t, weight) if places == [0] else (weight, t)))

    x, weight = parts if places == [0] else reversed(parts)
    assert isinstance(x, Bounded)
    assert isinstance(weight, Tensor)
    return weighed([(x.node, Weighted(function, weight, x.shape))])


def biased_product(bias: Tensor, x: Bounded, y: Tensor, *, beta: float = 1, alpha: float = 1) -> Bounded:
    return add(multiply(matrix_product(x, y), alpha), multiply(bias, beta) if isinstance(bias, Bounded) else beta * bias)


def sliding(function: Callable[..., Tensor]) -> Callable[..., Bounded]:
    """A convolution."""

    def build(x: Bounded, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Bounded:
        slide = lambda t, w: function(t, w, None, *args, **kwargs)  # noqa: E731
        behind = len(weight.shape) - 2
        return weighed([(x.node, Weighted(slide, weight, x.shape))], None if bias is None else bias.view(-1, *(1,) * behind))

    return build


# The larger of two, of several


def either_way(x: Interval, y: Interval) -> Interval:
    """Of the larger of a number and its negative, which is not below 0."""
    return Interval(torch.maximum(x.lower, y.lower).clamp(min=0), torch.maximum(x.upper, y.upper))


ABSOLUTE = Function(Maximum(), either_way)


def absolute(x: Bounded) -> Bounded:
    return applied(ABSOLUTE, x, negated(x))


def maximum(x: Number | Bounded, y: Number | Bounded) -> Bounded:
    if isinstance(x, Bounded) and isinstance(y, Bounded):
        return applied(plain(Maximum()), x, y)
    x, y = (x, y) if isinstance(x, Bounded) else (y, x)
    assert isinstance(x, Bounded)
    return add(applied(RELU, subtract(x, y)), y)


def minimum(x: Number | Bounded, y: Number | Bounded) -> Bounded:
    first, second = (negated(t) if isinstance(t, Bounded) else -constant_of(t) for t in (x, y))
    return negated(maximum(first, second))


def largest(parts: Sequence[Bounded]) -> Bounded:
    """Pairs, then pairs of pairs, as the verifier has them."""
    while len(parts) > 1:
        paired = [applied(plain(Maximum()), a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = [*paired, *parts[2 * len(paired) :]]
    return parts[0]


def extreme(x: Bounded, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Bounded:
    if not isinstance(dim, int):
        if dim is None or len(dim) != 1:
            raise refuse("a maximum over several axes", "take it over one")
        (dim,) = dim
    return largest([moved(lambda t, k=k: t.narrow(dim, k, 1) if keepdim else t.select(dim, k), x) for k in range(x.size(dim))])


NAMES = (
    *("__getitem__", "reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "t"),
    *("swapaxes", "movedim", "split", "chunk", "unbind", "select", "narrow", "flip", "roll", "expand", "repeat", "contiguous"),
    *("clone", "index_select", "expand_as", "view_as", "reshape_as", "sum", "mean", "cumsum", "unfold", "diagonal"),
)


def method(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(Tensor, name)
    return found


CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")
OPERATORS.update({name: moving(method(name)) for name in NAMES})
OPERATORS.update({name: sliding(getattr(F, name)) for name in CONVOLUTIONS})
OPERATORS.update({name: constant_like(method(name)) for name in ("new_zeros", "new_ones", "new_full", "new_tensor")})
OPERATORS.update({name: constant_like(getattr(torch, name)) for name in ("zeros_like", "ones_like", "full_like")})
OPERATORS.update(dict.fromkeys(("cat", "concat", "concatenate"), joining(torch.cat)) | {"stack": joining(torch.stack)})
OPERATORS.update(dict.fromkeys(("add", "__add__", "__radd__"), add))
OPERATORS.update(dict.fromkeys(("sub", "subtract", "__sub__"), subtract))
OPERATORS.update(dict.fromkeys(("rsub", "__rsub__"), lambda x, y: subtract(y, x)))
OPERATORS.update(dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), multiply))
OPERATORS.update(dict.fromkeys(("neg", "negative", "__neg__"), negated))
OPERATORS.update(dict.fromkeys(("matmul", "__matmul__", "mm", "bmm"), matrix_product))
OPERATORS.update(dict.fromkeys(("abs", "absolute"), absolute) | dict.fromkeys(("maximum", "fmax"), maximum))
for name, inner in (("add", add), ("sub", subtract), ("mul", multiply)):
    OPERATORS[f"{name}_"] = lambda x, y, inner=inner: in_place(x, inner(x, y))
OPERATORS.update(
    {"addmm": biased_product, "amax": extreme, "dropout": dropout, "linear": linear, "minimum": minimum, "pad": pad}
)
OPERATORS.update({"einsum": contracted, "to": converted})
