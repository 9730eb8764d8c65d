"""At least one region of every kind that a user can name, for the contract tests; and inputs that they are stated for."""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.embedding import Embedding
from tightverify.region import (
    AddedNoise,
    Box,
    DecibelBall,
    Gain,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    Perturbation,
    Shift,
    SnrBall,
    Substitution,
)

SAMPLES = 9
GROUPS = [0, 0, 2, 1, 1, 1, 1, 0, 2]


def clips(batch: int = 3, seed: int = 5) -> Tensor:
    """Inputs (B, SAMPLES) between 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return 0.02 + 0.96 * torch.rand((batch, SAMPLES), generator=generator, dtype=torch.float64)


def numbers() -> Embedding:
    """The numbers of `clips` and some others as words of one number each."""
    return Embedding(torch.cat([clips().flatten(), torch.linspace(0, 1, 14, dtype=torch.float64)])[:, None])


CHOICES = {word: [(5 * word + 3 * k * k) % 41 for k in range(word % 5)] for word in range(27)}
"""Up to four other words in the place of each."""

EXAMPLES: dict[str, tuple[Perturbation, ...]] = {
    "LinfBall": (LinfBall(0.1), LinfBall(0.3, clip=(0.0, 1.0)), LinfBall(0.0)),
    "L2Ball": (L2Ball(0.5), L2Ball(0.7, clip=(0.0, 1.0)), L2Ball(0.4, clip=(0.0, 1.0), per=GROUPS)),
    "L1Ball": (L1Ball(0.5), L1Ball(0.9, clip=(0.0, 1.0), samples=(2, 7)), L1Ball(0.4, per=GROUPS)),
    "LpBall": (LpBall(0.5, 2, features=[0, 3, 4]), LpBall(0.5, 2, per="feature")),
    "Box": (Box(torch.tensor(-0.5), torch.linspace(1.0, 3.0, SAMPLES)),),
    "DecibelBall": (DecibelBall(-20.0), DecibelBall(-6.0, samples=(1, 4))),
    "SnrBall": (SnrBall(10.0), SnrBall(3.0, clip=(0.0, 1.0))),
    "Gain": (Gain(3.0), Gain(0.0)),
    "AddedNoise": (AddedNoise(torch.linspace(-1.0, 1.0, SAMPLES, dtype=torch.float64), (-0.5, 0.25)),),
    "Shift": (Shift(1.0), Shift(-0.4)),
    "Substitution": (
        Substitution(numbers(), CHOICES),
        Substitution(numbers(), CHOICES, most=2, frames=[1, 3, 4, 8]),
        Substitution(numbers(), numbers().nearest(3, "l2"), most=3),
    ),
}
"""By the names of `tightverify.region.REGIONS`."""
