"""Hashes of what is asked: the same question has the same one, whatever classes it was held in, and on any machine.

An array's hash is the SHA-256 of its type's name, its shape and its bytes in C order, as in "float64 [2, 3] ..." (`digest`). A
question's (`fingerprint`) is the SHA-256 of the format's number and of the fields of `Question` in their order, each as its
name and its value: of arrays and floats the hash, of all else the JSON with sorted keys. Left out are those that say who asked,
and how: input, model, fingerprint and method. The weights count by the hashes that the nodes have of them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightverify.evidence.entries import FORMAT, Question

ASIDE = ("input", "model", "fingerprint", "method")


def digest(array: NDArray[Any]) -> str:
    """The hash of an array."""
    plain = np.ascontiguousarray(array)
    return hashlib.sha256(f"{plain.dtype.name} {list(array.shape)} ".encode() + plain.tobytes()).hexdigest()


def fingerprint(question: Question) -> str:
    """The hash of what is asked: what is not the same question has another one."""
    found = hashlib.sha256(f"format {FORMAT}\n".encode())
    for each in fields(question):
        if each.name not in ASIDE:
            value = getattr(question, each.name)
            numbers = isinstance(value, float | np.ndarray)
            said = digest(np.asarray(value)) if numbers else json.dumps(value, sort_keys=True, allow_nan=False)
            found.update(f"{each.name} {said}\n".encode())
    return found.hexdigest()
