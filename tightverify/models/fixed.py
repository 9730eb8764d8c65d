"""Inputs of a model that a user fixes, so that another one can be perturbed: `--fix state=0,sr=16000`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tightverify.errors import InputError

RATES = {"sr", "rate", "fs", "sample_rate", "sampling_rate"}
RATE = 16000
"""What a message takes for a sampling rate as an example; 0 for any other input."""


def as_numbers(given: Any, what: str, kind: DTypeLike) -> NDArray[Any]:
    """What an input is fixed at, in its own type: finite, and whole where the type is."""
    try:
        value = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} is fixed at a {type(given).__name__}; wanted a number or an array of numbers") from error
    if value.dtype.kind not in "biuf":
        raise InputError(f"{what} is fixed at {str(given)[:40]!r}; wanted a number or an array of numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        found = value.astype(kind)
    same = found == value if np.dtype(kind).kind in "biu" else np.isfinite(found)
    if not bool(np.all(same)):
        raise InputError(f"{what} is fixed at numbers that its type {np.dtype(kind).name} does not hold; give others")
    return found


def suggested(missing: Mapping[str, bool]) -> str:
    """How a user fixes inputs of some names, as an example; whether each takes whole numbers."""
    values = {name: RATE if name.lower() in RATES else 0 if whole else 0.0 for name, whole in missing.items()}
    line = ",".join(f"{name}={value:g}" for name, value in values.items())
    return f"--fix {line} on the command line, fix={values} from Python, or arrays, --fix {next(iter(values))}=FILE.npz"


def shown_fixed(fix: Mapping[str, Any]) -> str:
    """A note of what was fixed."""
    words = [f"{name} = {value}" if np.ndim(value) == 0 else f"{name} as given" for name, value in fix.items()]
    return f"fixed inputs: {', '.join(words)}"
