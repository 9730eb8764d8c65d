"""Boxes around inputs, cut to a range: in the inputs' own type, where nothing is to be proved by them."""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.errors import RegionError
from tightverify.values import Interval


def near_box(x: Tensor, eps: float, clip: tuple[float, float] | None, free: Tensor) -> Interval:
    """Right up to rounding, changed only where `free` says."""
    box = Interval(x - eps, x + eps)
    if clip is not None:
        refuse_outside(x, clip)
        box = Interval(box.lower.clamp(min=clip[0]), box.upper.clamp(max=clip[1]))
    return box if bool(free.all()) else box.map(lambda end: torch.where(free, end, x))


def refuse_outside(centre: Tensor, clip: tuple[float, float]) -> None:
    low, high = clip
    if bool(((centre < low) | (centre > high)).any()):
        worst = float(centre.min()) if bool((centre < low).any()) else float(centre.max())
        raise RegionError(
            f"an input has the value {worst:g}, outside the range ({low:g}, {high:g}) of clip; "
            "scale the inputs to that range or give another"
        )
