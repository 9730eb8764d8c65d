"""Regions of each input's own, from the file of the inputs: a radius for each, or a box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tightverify.errors import InputError, UsageError
from tightverify.inputs.npz import ARRAYS, read_named
from tightverify.region import Box, LpBall, Perturbation


def own_region(inputs: Sequence[Path], norm: str, name: str = "", **limits: Any) -> Perturbation:
    """The balls or boxes that a file of arrays states: `eps`, or `lower` and `upper`; each fits its inputs.

    Those of an input of a name, one of several, are called after it: `state_eps`, `state_lower`, `state_upper`.
    """
    x, before = (name, f"{name}_") if name else ("x", "")
    if len(inputs) != 1 or not inputs[0].is_file():
        raise UsageError(f"each input's own region is read from one {ARRAYS} file of arrays beside {x}; give such a file")
    path, (eps, lower, upper) = inputs[0], (f"{before}{each}" for each in ("eps", "lower", "upper"))
    wanted = f"wanted {eps} (N,), a radius for each input {x} (N, ...), or {lower} and {upper}, of the shape of {x}"
    found = read_named(path, (x, eps, lower, upper), wanted)
    given = [each for each in (eps, lower, upper) if each in found]
    if given == [eps]:
        if found[eps].shape != found[x].shape[:1]:
            raise InputError(f"{eps} in {path} has shape {found[eps].shape}, and {x} {found[x].shape}; {wanted}")
        return LpBall(found[eps], float(norm), per=limits.pop("ball_per", None), **limits)  # type: ignore[arg-type]
    if given != [lower, upper]:
        missing = f"neither {eps} nor {lower} and {upper}"
        raise InputError(f"{path} has {' and '.join(given) or missing} beside {x}; {wanted}")
    useless = [name.replace("_", "-") for name, value in {"norm": norm, **limits}.items() if value not in (None, "inf")]
    if useless:
        raise UsageError(f"--{useless[0]} was given with boxes, which {path} has, and says nothing there; leave it out")
    for each in given:
        if found[each].shape != found[x].shape:
            raise InputError(f"{each} in {path} has shape {found[each].shape}, and {x} {found[x].shape}; {wanted}")
    return Box(found[lower], found[upper])  # type: ignore[arg-type]
