"""ParamRamp: an activation whose caps are learned, by which networks trained with bounds lose less (Lyu et al. 2021).

`eta z` below 0, z up to a cap r, `eta z + (1 - eta) r` above. Dead neurons have bounds that are points on both sides, and
saturated ones nearly so. It is written as `leaky_relu(z) - (1 - eta) relu(z - r)`, of operators that every exporter has; import
makes one operation of that again (`models.ramps`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tightverify.errors import UsageError
from tightverify.training.curved import ramp
from tightverify.training.tracing import Bounded

DIGITS = 2**16
"""eta is a multiple of 1 / DIGITS, so that 1 - eta is exact in float32."""
LEAST = 1e-3
"""A cap that is learned to be less counts as this."""


class ParamRamp(nn.Module):
    """With a cap for each of the channels, which lie along an axis of the input (1: behind the batch)."""

    def __init__(self, channels: int, eta: float = 0.01, cap: float = 1.0, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.slope: Tensor
        self.register_buffer("slope", torch.zeros(()))
        self.eta = eta
        self.cap = nn.Parameter(torch.full((channels,), float(cap)))

    @property
    def eta(self) -> float:
        """The slope below 0 and above the cap, from 0 to 1."""
        return self._eta

    @eta.setter
    def eta(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise UsageError(f"eta is {value}; wanted a slope from 0 to 1")
        self._eta = round(value * DIGITS) / DIGITS
        self.slope.fill_(self._eta)

    def caps(self, dimensions: int) -> Tensor:
        """(channels, 1, ...): as they are broadcast with an input of so many axes."""
        behind = dimensions - 1 - self.axis % dimensions
        return self.cap.clamp(min=LEAST).reshape(-1, *(1,) * behind)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Bounded):
            return ramp(x, self.caps(x.dim()), self.eta)
        over = torch.relu(x - self.caps(x.dim()))
        return torch.sub(F.leaky_relu(x, self.eta), over, alpha=1 - self.eta)

    def extra_repr(self) -> str:
        return f"{len(self.cap)}, eta={self.eta}, axis={self.axis}"

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *more: Any) -> None:
        """The slope goes with the state, as a buffer that nothing but this reads."""
        super()._load_from_state_dict(state_dict, prefix, *more)
        self.eta = float(self.slope)
