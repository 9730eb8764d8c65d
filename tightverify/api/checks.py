"""What users hand over, checked once, before any work starts."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightverify.calling import own
from tightverify.errors import InputError, RegionError, UsageError
from tightverify.models.answers import run_original
from tightverify.models.blocks import joined
from tightverify.models.model import Model
from tightverify.models.sizes import batch_of
from tightverify.region import Perturbation, Several
from tightverify.spec import Property, linear_property
from tightverify.statements import Statement


def given_inputs(x: Any) -> Tensor | dict[str, Tensor]:
    """The inputs as floating tensors: of a model with several perturbed ones a tensor for each name."""
    return as_several(x) if isinstance(x, Mapping) else as_inputs(x)


def as_several(x: Mapping[str, Any]) -> dict[str, Tensor]:
    """Several inputs by their names, each as `as_inputs` makes it."""
    if not x:
        raise InputError("no inputs were given; give an array for each perturbed input by its name")
    found = {}
    for name, values in x.items():
        try:
            found[str(name)] = as_inputs(values)
        except InputError as error:
            raise InputError(f"'{name}': {error}") from error
    return found


def as_inputs(x: Any) -> Tensor:
    """The inputs as a floating tensor, finite and not empty."""
    if isinstance(x, Mapping):
        raise InputError(
            "inputs were given by names, which only `certify`, `stream`, `bounds` and `radius` take; give one array, and `fix` "
            "the others"
        )
    try:
        tensor = torch.as_tensor(x) if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the inputs cannot be made a tensor ({error}); give numbers of shape (N, time, features)") from error
    if tensor.dim() < 2:
        raise InputError(
            f"the inputs have shape {tuple(tensor.shape)}; wanted (N, time, features) or (N, features), the first axis the "
            f"batch's{': give x[None] for a single input' if tensor.dim() else ''}"
        )
    if len(tensor) == 0:
        raise InputError("there are no inputs: the first axis has length 0; give at least one")
    if not tensor[0].numel():
        raise InputError(f"the inputs have shape {tuple(tensor.shape)}: each is empty, of length 0; leave empty ones out")
    if tensor.is_complex():
        raise InputError("the inputs are complex numbers; wanted real ones")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).flatten(1).any(1).nonzero()[0])
        raise InputError(f"input {bad} holds a NaN or an infinite value; every value must be a finite number")
    return own(tensor).cpu()


def fitting(model: Model, x: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The inputs in the model's own dtype, of the shape that it takes: of token numbers their vectors, several side by side."""
    if not isinstance(x, Tensor):
        if not model.blocks:
            raise InputError(
                f"inputs were given by names, {', '.join(map(repr, x))}, and {model.source} was loaded for one perturbed "
                "input; give the shapes of all when it is loaded, shape={name: shape}"
            )
        return joined(x, model.blocks, model.source).to(model.dtype)
    wanted = model.graph.input_shape
    if tuple(x.shape[1:]) == wanted:
        return x.to(model.dtype)
    if model.embedding is not None:
        if tuple(x.shape[1:]) == wanted[:1]:
            return as_read(model, x)
        raise InputError(f"{batch_of(x)}; {model.source} takes sentences of {wanted[0]} token numbers, (N, {wanted[0]})")
    words = f"{batch_of(x)}; {model.source} takes (N, {', '.join(map(str, wanted))})"
    raise InputError(words + (": it is a single input, so give x[None]" if tuple(x.shape) == wanted else ""))


def as_read(model: Model, x: Tensor) -> Tensor:
    """Inputs of any length as the model's graph reads them: in its dtype, of token numbers their vectors."""
    return x.to(model.dtype) if model.embedding is None or x.dim() > 2 else model.embedding(x)


def region_for(model: Model, region: Any) -> Perturbation:
    """The region, or those of a model's several perturbed inputs as one."""
    names = [block.name for block in model.blocks]
    if isinstance(region, Mapping):
        if not names:
            raise RegionError(f"regions were given by names, and {model.source} has one perturbed input; give a region")
        every = {str(name): as_region(each) for name, each in region.items()}
        return Several.of(every, {block.name: block.shape for block in model.blocks})
    stated = as_region(region)
    if names and not stated.inputs:
        wanted = ", ".join(f"{name!r}: region" for name in names)
        raise RegionError(f"a region was given for {model.source}, of which several inputs are perturbed; give {{{wanted}}}")
    return stated


def as_region(region: Any) -> Perturbation:
    """The region, if it is one."""
    if isinstance(region, Perturbation):
        return region
    if isinstance(region, Mapping):
        raise RegionError(
            "regions were given by names, which only `certify`, `stream` and `bounds` take, and `radius` as a family; give "
            "one, and `fix` other inputs"
        )
    if isinstance(region, Real):
        raise RegionError(f"the region is the number {region}; wanted a region around each input, such as LinfBall({region})")
    what = "class" if isinstance(region, type) else "function" if callable(region) else type(region).__name__
    raise RegionError(f"the region is a {what}; wanted a region around each input, such as LinfBall(0.01)")


def as_labels(labels: Any, count: int) -> Tensor:
    """The labels as integers, one per input."""
    words = [] if isinstance(labels, Tensor) else np.asarray(labels, dtype=object).reshape(-1)[:1].tolist()
    if words and isinstance(words[0], str):
        raise InputError(f"the labels are words, such as {words[0]!r}; give class numbers from 0 on, one per input")
    try:
        tensor = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the labels cannot be made a tensor ({error}); give class numbers, one per input") from error
    if tuple(tensor.shape) != (count,):
        raise InputError(f"the labels have shape {tuple(tensor.shape)}; wanted one per input, ({count},)")
    if tensor.is_floating_point() and bool((tensor != tensor.round()).any()):
        raise InputError("the labels are not whole numbers; wanted class numbers from 0 on")
    return own(tensor).to(torch.long)


def as_rows(rows: Any) -> tuple[Tensor, Tensor | None]:
    """The rows C and the offsets d of a property."""
    if not isinstance(rows, (tuple, list)) or len(rows) != 2:
        raise InputError(f"rows is a {type(rows).__name__}; wanted a pair (C, d) for C y + d > 0, or (C, None) where d is 0")
    try:
        C, d = (None if part is None else torch.as_tensor(part, dtype=torch.float64) for part in rows)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the rows cannot be made tensors ({error}); give numbers C (R, classes) and d (R,)") from error
    if C is None:
        raise InputError("rows has no C; wanted a pair (C, d) for C y + d > 0")
    return C, d


def asked_of(model: Model, x: Tensor, rows: Any) -> Property:
    """What is asked by rows, or by what is stated of the outputs at the inputs."""
    model.refuse_left_out("outputs are asked about by their numbers")
    if isinstance(rows, Statement):
        return rows.at(run_original(model, x))
    return linear_property(*as_rows(rows), len(x), model.graph.output_size)


def usable(device: str) -> str:
    """The device, if there is one."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {device!r} cannot be used here; choose cpu, or cuda where there is a GPU") from error
    return device
