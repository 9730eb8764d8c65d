"""A network both as the user has it and as a graph, and the check that the two compute the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.errors import ModelError
from tightverify.graph import Graph

AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-5}
"""How far import and original may differ, relative to 1 + |output|, by the original's own precision."""


@dataclass(frozen=True, eq=False)
class Model:
    """`original` maps a batch (N, *input_shape) of `dtype` to outputs (N, K); `graph` is what is bounded.

    Where the model is `narrow`, some numbers on its way are float32 though its inputs are float64: it is as precise as that.
    `source` says where it came from ("LSTM classifier in models/digits.onnx"), `notes` what the import did that a user may want
    to know, a sentence each.
    """

    graph: Graph
    original: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    source: str
    notes: tuple[str, ...] = ()
    narrow: bool = False

    @property
    def agreement(self) -> float:
        """How far its outputs may be from those of the graph, absolutely and relatively."""
        return AGREEMENT[torch.float32 if self.narrow else self.dtype]


def checked(model: Model, seed: int = 0, count: int = 6) -> Model:
    """The model, if both sides agree on random inputs, one at a time and in a batch; else a `ModelError`."""
    generator = torch.Generator().manual_seed(seed)
    shape = model.graph.input_shape
    x = torch.randn((count, *shape), generator=generator, dtype=torch.float64)
    x[count // 2 :] = torch.rand((count - count // 2, *shape), generator=generator, dtype=torch.float64)
    x = x.to(model.dtype)
    with torch.no_grad():
        single = torch.cat([model.original(x[k : k + 1]) for k in range(count)]).to(torch.float64)
        ours = model.graph.forward(x.to(torch.float64).flatten(1))
    if single.shape != ours.shape:
        raise ModelError(
            f"{model.source} gives outputs of shape {tuple(single.shape)} for {count} inputs; wanted ({count}, classes): "
            "end the model with one row of outputs per input"
        )
    fault = "the import does not compute what the model computes; please report the model as a bug"
    if model.agreement == AGREEMENT[torch.float32]:
        fault += ", unless float32 rounding alone does that to it (many steps, large weights): a float64 model would tell"
    _compare(model, single, ours, fault)
    try:
        with torch.no_grad():
            together = model.original(x).to(torch.float64)
    except Exception as error:
        raise ModelError(
            f"{model.source} runs on one input but fails on a batch of {count} ({type(error).__name__}: {error}); "
            "let it take any batch size, or say along which axis its batch goes"
        ) from error
    fault = "its outputs depend on what else is in the batch; let it treat each input by itself"
    _compare(model, together, single, fault)
    return model


def _compare(model: Model, left: Tensor, right: Tensor, fault: str) -> None:
    if left.shape != right.shape:
        raise ModelError(f"{model.source}: outputs of shapes {tuple(left.shape)} and {tuple(right.shape)}: {fault}")
    same = torch.isclose(left, right, rtol=model.agreement, atol=model.agreement, equal_nan=True)
    if not bool(same.all()):
        gap = float((left - right).abs().nan_to_num(nan=torch.inf).max())
        raise ModelError(f"{model.source}: outputs differ by {gap:.3g}: {fault}")
