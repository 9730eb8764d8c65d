"""Regions of each input's own, from the file of the inputs: a radius for each, or a box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tightverify.errors import InputError, UsageError
from tightverify.inputs.npz import ARRAYS, read_named
from tightverify.region import Box, LpBall, Perturbation

WANTED = "wanted eps (N,), a radius for each input x (N, ...), or lower and upper, of the shape of x"


def own_region(inputs: Sequence[Path], norm: str, **limits: Any) -> Perturbation:
    """The balls or boxes that a file of arrays states: `eps`, or `lower` and `upper`; each fits its inputs."""
    if len(inputs) != 1 or not inputs[0].is_file():
        raise UsageError(f"each input's own region is read from one {ARRAYS} file of arrays beside x; give such a file")
    path = inputs[0]
    found = read_named(path, ("x", "eps", "lower", "upper"))
    given = [name for name in ("eps", "lower", "upper") if name in found]
    if given == ["eps"]:
        if found["eps"].shape != found["x"].shape[:1]:
            raise InputError(f"eps in {path} has shape {found['eps'].shape}, and x {found['x'].shape}; {WANTED}")
        return LpBall(found["eps"], float(norm), per=limits.pop("ball_per", None), **limits)  # type: ignore[arg-type]
    if given != ["lower", "upper"]:
        raise InputError(f"{path} has {' and '.join(given) or 'neither eps nor lower and upper'} beside x; {WANTED}")
    useless = [name.replace("_", "-") for name, value in {"norm": norm, **limits}.items() if value not in (None, "inf")]
    if useless:
        raise UsageError(f"--{useless[0]} was given with boxes, which {path} has, and says nothing there; leave it out")
    for name in given:
        if found[name].shape != found["x"].shape:
            raise InputError(f"{name} in {path} has shape {found[name].shape}, and x {found['x'].shape}; {WANTED}")
    return Box(found["lower"], found["upper"])  # type: ignore[arg-type]
