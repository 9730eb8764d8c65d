"""Regions of inputs: what may happen to an input, and the exact minimum of a linear function over it.

A `Perturbation` is what the user states; `around(x)` makes of it a batch of `Region`s, one per input, over flat inputs.

| file | what it has |
|---|---|
| `ball` | `Region`: balls cut to boxes |
| `zonotope` | `Zonotope`: a point moved along given directions by unknown shares |
| `perturbation` | Lp balls and boxes |
| `sound` | decibels, signal to noise, gain, added noise, shift |
"""

from tightverify.region.ball import Region
from tightverify.region.perturbation import Box, Frames, L1Ball, L2Ball, LinfBall, LpBall, Perturbation, Segment
from tightverify.region.sound import AddedNoise, DecibelBall, Gain, Shift, SnrBall
from tightverify.region.zonotope import Zonotope

__all__ = [
    "AddedNoise",
    "Box",
    "DecibelBall",
    "Frames",
    "Gain",
    "L1Ball",
    "L2Ball",
    "LinfBall",
    "LpBall",
    "Perturbation",
    "Region",
    "Segment",
    "Shift",
    "SnrBall",
    "Zonotope",
]
