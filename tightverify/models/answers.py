"""What a user's own model answers."""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.models.model import Model
from tightverify.spec import Property
from tightverify.threads import threads_for


def run_original(model: Model, x: Tensor) -> Tensor:
    """The user's model's own outputs, as float64."""
    with torch.no_grad(), threads_for(len(x) * max(node.size for node in model.graph.nodes)):
        return model.original(x).to(torch.float64)


def rightly_answered(model: Model, spec: Property, x: Tensor) -> Tensor:
    """(B,): at which inputs the property holds by the user's model, which is asked of those alone where it seems to break."""
    right = ~spec.broken(spec.margins(run_original(model, x)))
    for k in torch.nonzero(~right).flatten().tolist():
        one = slice(k, k + 1)
        right[k] = ~spec[one].broken(spec[one].margins(run_original(model, x[one])))[0]
    return right


def answers(model: Model, x: Tensor) -> Tensor:
    """The classes that the model itself gives."""
    return run_original(model, x).argmax(1)
