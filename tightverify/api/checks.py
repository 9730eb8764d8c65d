"""What users hand over, checked once, before any work starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightverify.calling import own
from tightverify.errors import InputError, UsageError
from tightverify.models.model import Model


def as_inputs(x: Any) -> Tensor:
    """The inputs as a floating tensor, finite and not empty."""
    try:
        tensor = torch.as_tensor(x) if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the inputs cannot be made a tensor ({error}); give numbers of shape (N, time, features)") from error
    if tensor.dim() < 2:
        raise InputError(f"the inputs have shape {tuple(tensor.shape)}; wanted (N, time, features) or (N, features)")
    if len(tensor) == 0:
        raise InputError("there are no inputs: the first axis has length 0; give at least one")
    if tensor.is_complex():
        raise InputError("the inputs are complex numbers; wanted real ones")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).flatten(1).any(1).nonzero()[0])
        raise InputError(f"input {bad} holds a NaN or an infinite value; every value must be a finite number")
    return own(tensor).cpu()


def fitting(model: Model, x: Tensor) -> Tensor:
    """The inputs in the model's own dtype, of the shape that it takes."""
    if tuple(x.shape[1:]) != model.graph.input_shape:
        raise InputError(
            f"the inputs have shape {tuple(x.shape)}; {model.source} takes (N, {', '.join(map(str, model.graph.input_shape))})"
        )
    return x.to(model.dtype)


def as_labels(labels: Any, count: int) -> Tensor:
    """The labels as integers, one per input."""
    try:
        tensor = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the labels cannot be made a tensor ({error}); give class numbers, one per input") from error
    if tuple(tensor.shape) != (count,):
        raise InputError(f"the labels have shape {tuple(tensor.shape)}; wanted one per input, ({count},)")
    if tensor.is_floating_point() and bool((tensor != tensor.round()).any()):
        raise InputError("the labels are not whole numbers; wanted class numbers from 0 on")
    return own(tensor).to(torch.long)


def usable(device: str) -> str:
    """The device, if there is one."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {device!r} cannot be used here; choose cpu, or cuda where there is a GPU") from error
    return device
