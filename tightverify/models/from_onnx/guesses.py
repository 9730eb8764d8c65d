"""Shapes of one input for which a file may be read where it leaves them open, the likeliest first, to be tried.

Lengths that a file's own constants have are what its input's may have to be: the rows of a matrix are features, or features of
all frames together.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

from onnx import GraphProto

from tightverify.models.from_onnx.entries import FRAMES, WAVEFORM, Axes

SAMPLES = (WAVEFORM, 16000, 512, 576, 1024, 256, 320, 480, 1600, 160, 80, 2048, 4096)
FEATURES = (FRAMES[1], 13, 40, 80, 64, 1)
TIMES = (FRAMES[0], 10, 50, 100, 1)
MOST_OWN, MOST_TRIED = 20, 60


def likely_shapes(axes: Axes, graph: GraphProto) -> list[tuple[int, ...]]:
    """Shapes that an input's axes but the batch's allow."""
    known = math.prod(n for n in axes if isinstance(n, int) and n)
    own = lengths_of(graph)
    own = [*own, *(n // known for n in own if known > 1 and n % known == 0)]
    choices = []
    for k, n in enumerate(axes):
        usual: tuple[int, ...] = FEATURES if k == len(axes) - 1 else TIMES
        usual = (*SAMPLES, *own) if len(axes) == 1 else (usual[0], *own, *usual[1:])
        choices.append([n] if isinstance(n, int) and n else list(dict.fromkeys(usual)))
    places = sorted(product(*(range(len(each)) for each in choices)), key=sum)
    return [tuple(each[k] for each, k in zip(choices, place, strict=True)) for place in places[:MOST_TRIED]]


def lengths_of(graph: GraphProto) -> list[int]:
    """The lengths of its constants' axes, those that most constants have first."""
    dims = [list(tensor.dims) for tensor in graph.initializer]
    dims += [list(a.t.dims) for node in graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    counted = Counter(int(n) for each in dims if len(each) > 1 for n in each if n > 1)
    return [n for n, _ in counted.most_common(MOST_OWN)]
