"""Regions of inputs: what may happen to an input, and the exact minimum of a linear function over it.

A `Perturbation` is what the user states; `around(x)` makes of it a batch of `Region`s, one per input, over flat inputs.

| file | what it has |
|---|---|
| `base` | `Region`: what every kind of region answers |
| `ball` | `Ball`: balls cut to boxes |
| `ball_product` | `BallProduct`: a ball for each group of coordinates, cut to boxes |
| `groups` | groups of coordinates: frames, features, any |
| `zonotope` | `Zonotope`: a point moved along given directions by unknown coefficients |
| `perturbation` | Lp balls and boxes |
| `sound` | decibels, signal to noise, gain, added noise, shift |
| `choices` | `Choices`: sequences of which each word is one of several vectors |
| `substitution` | words replaced by others |
| `beside` | a region beside another of further coordinates |
| `several` | several inputs, each in a region of its own |

`REGIONS` is the list of what a user can name. To add a region, write its `Perturbation` in a file here and name it there (a set
that is no ball and no zonotope: its own final kind of `Region` too); that puts it under every contract test.
"""

from collections.abc import Callable

from tightverify.region.ball import Ball
from tightverify.region.ball_product import BallProduct
from tightverify.region.base import Finite, Generated, Region, SplitBy
from tightverify.region.beside import TwoInputs
from tightverify.region.choices import Choices
from tightverify.region.free import Frames, Segment
from tightverify.region.perturbation import Box, L1Ball, L2Ball, LinfBall, LpBall, Perturbation
from tightverify.region.several import Several
from tightverify.region.sound import AddedNoise, DecibelBall, Gain, Shift, SnrBall
from tightverify.region.substitution import Substitution
from tightverify.region.zonotope import Zonotope

REGIONS: dict[str, Callable[..., Perturbation]] = {
    "LinfBall": LinfBall,
    "L2Ball": L2Ball,
    "L1Ball": L1Ball,
    "LpBall": LpBall,
    "Box": Box,
    "DecibelBall": DecibelBall,
    "SnrBall": SnrBall,
    "Gain": Gain,
    "AddedNoise": AddedNoise,
    "Shift": Shift,
    "Substitution": Substitution,
}
"""The regions that a user can state, by name."""

__all__ = [
    "REGIONS",
    "AddedNoise",
    "Ball",
    "BallProduct",
    "Box",
    "Choices",
    "DecibelBall",
    "Finite",
    "Frames",
    "Gain",
    "Generated",
    "L1Ball",
    "L2Ball",
    "LinfBall",
    "LpBall",
    "Perturbation",
    "Region",
    "Segment",
    "Several",
    "Shift",
    "SnrBall",
    "SplitBy",
    "Substitution",
    "TwoInputs",
    "Zonotope",
]
