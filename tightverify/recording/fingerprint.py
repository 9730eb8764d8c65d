"""A mark of a question: the network, the region and the property, to the last bit."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass

import numpy as np
from torch import Tensor

from tightverify.graph import Graph
from tightverify.region import Region
from tightverify.spec import Property


def fingerprint(graph: Graph, region: Region, wanted: Property) -> str:
    """Of one input's question, every field of it: what is not the same has another one."""
    found = hashlib.sha256()
    known: dict[int, bytes] = {}

    def add(value: object) -> None:
        match value:
            case Tensor():
                if id(value) not in known:  # the same weights at every time step
                    plain = np.ascontiguousarray(value.detach().cpu().numpy())
                    known[id(value)] = hashlib.sha256(f"{plain.dtype} {plain.shape}".encode() + plain.tobytes()).digest()
                found.update(known[id(value)])
            case tuple():
                found.update(f"{len(value)} of ".encode())
                for one in value:
                    add(one)
            case _ if is_dataclass(value):
                found.update(f"{type(value).__name__}: ".encode())
                add(tuple(getattr(value, field.name) for field in fields(value)))
            case _:
                found.update(f"{value!r}, ".encode())

    add((FORMAT, graph, region, wanted))
    return found.hexdigest()


FORMAT = 2
"""Trees of another number are not gone on with: raise it whenever a bound was found wrong, or a file says something else."""
