"""Differentiable bounds of a module over regions, and losses made of them.

The loss is the cross-entropy of the worst that a region may hold: of the lower bounds of the differences between the right
output and each other one (Gowal et al. 2018). CROWN-IBP mixes these bounds with those of intervals (Zhang et al. 2020).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tightverify.errors import UnsupportedError, UsageError
from tightverify.methods import LINES, either
from tightverify.region import Perturbation
from tightverify.training.nodes import Node
from tightverify.training.passes import METHODS, Stop, checked, lower_bounds
from tightverify.training.regions import TrainingRegion
from tightverify.training.tracing import traced
from tightverify.values import Interval

SOFTMAX = (
    "the module ends with a softmax, and the loss has its own; leave it out: it does not change which output is the largest"
)


def known(lines: str) -> str:
    if lines not in LINES:
        raise UsageError(f"the lines {lines!r} do not exist; choose {either(LINES)}")
    return lines


def traced_over(module: nn.Module, x: Tensor, region: Perturbation, method: str, lines: str) -> Node:
    """The module's output over the regions around a batch, checked."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2:
        raise UsageError("inputs for training are a batch of floats, (N, ...); give a tensor of the module's own type")
    forward, stop = METHODS[checked(method)]
    output = traced(module, TrainingRegion(region, x), forward, stop is not Stop.INTERVAL, known(lines))
    if len(output.shape) != 2 or output.shape[0] != len(x):
        raise UsageError(f"the module gives outputs of shape {tuple(output.shape)}; wanted ({len(x)}, classes)")
    return output


def bounds(module: nn.Module, x: Tensor, region: Perturbation, method: str = "ibp", *, lines: str = "default") -> Interval:
    """Bounds (N, K) of the outputs for all inputs of the regions around x (N, ...), up to rounding in the module's precision.

    They are differentiable in the module's parameters. `method` is "ibp", "crown-ibp", "lbp" or "crown-lbp", `lines`
    "default", "tight" or "adaptive".
    """
    output = traced_over(module, x, region, method, lines)
    stop = METHODS[method][1]
    if stop is Stop.INTERVAL:
        return output.interval
    one = torch.eye(output.shape[1], dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
    lower, upper = (lower_bounds(output, sign * one, stop).T * sign for sign in (1, -1))
    return Interval(torch.maximum(output.interval.lower, lower), torch.minimum(output.interval.upper, upper))


def margins(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    region: Perturbation,
    method: str = "ibp",
    beta: float = 1.0,
    *,
    lines: str = "default",
) -> Tensor:
    """Lower bounds (N, K) of output y less each output, 0 for y itself.

    Those of `crown-ibp` and `crown-lbp` count `beta`, those of intervals the rest.
    """
    return _margins(traced_over(module, x, region, method, lines), y, METHODS[method][1], beta)


def _margins(output: Node, y: Tensor, stop: Stop, beta: float) -> Tensor:
    if output.are_shares:
        raise UnsupportedError(SOFTMAX)
    output = output.scores or output
    classes = output.shape[1]
    if y.shape != output.shape[:1] or y.is_floating_point():
        raise UsageError(f"labels have shape {tuple(y.shape)}; wanted whole numbers, one for each of {output.shape[0]} inputs")
    one = torch.eye(classes, dtype=output.interval.lower.dtype, device=y.device)
    rows = one[y][None] - one[:, None]
    if stop is not Stop.INPUT or beta == 1:
        return lower_bounds(output, rows, stop).T
    by_interval = lower_bounds(output, rows, Stop.INTERVAL).T
    return by_interval if beta == 0 else beta * lower_bounds(output, rows, stop).T + (1 - beta) * by_interval


def certified_loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    region: Perturbation,
    method: str = "ibp",
    *,
    kappa: float = 0.0,
    beta: float = 1.0,
    lines: str = "default",
) -> Tensor:
    """`kappa` times the cross-entropy at the inputs, and the rest times that of the worst that bounds let regions hold.

    Back-substitution's margins (`crown-ibp`, `crown-lbp`) count `beta`, those of intervals the rest.
    """
    for name, share in (("kappa", kappa), ("beta", beta)):
        if not 0 <= share <= 1:
            raise UsageError(f"{name} is {share}; wanted a share from 0 to 1")
    clean = F.cross_entropy(model(x), y) if kappa > 0 else torch.zeros((), dtype=x.dtype, device=x.device)
    if kappa == 1:
        return clean
    worst = F.cross_entropy(-margins(model, x, y, region, method, beta, lines=lines), y)
    return kappa * clean + (1 - kappa) * worst
