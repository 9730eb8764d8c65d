"""Functions `x s(x)` with a share s that rises from 0 to 1: GELU, SiLU, Mish.

If the logarithm of the share's slope is concave, that is if `r = s'' / s'` only falls, then such a function is convex between
two inflections and concave on either side of them, and has one turn:

    f' = s + x s',   f'' = s' (2 + x r).

Right of 0 and of the place where r is 0, x r falls; left of both it rises; in between x r >= 0. So `2 + x r` is 0 at two places
at most. The share is log-concave as its slope is, so that `s' / s` falls, and where x < 0 so does `|x| s' / s`:
f' = s (1 + x s' / s) has one zero there, and none from 0 on.

| function | s | r |
|---|---|---|
| GELU | the normal distribution's share below x | -x |
| its approximation by tanh | sigmoid(2 u), u = a x + b x^3 | -2 tanh(u) u' + u'' / u' |
| SiLU | sigmoid(x) | -tanh(x / 2) |
| Mish | tanh(log(1 + exp x)) | 1 - sigmoid(x) (1 + 2 s) |

All of these r fall: of the second, `u'' / u'` rises where x^2 < a / (3 b) = 7.5, by 6 b / a = .27 at most, and what is taken
off falls by more there (the tests prove it by intervals).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tightverify.relax.exponentials import Softplus
from tightverify.relax.piecewise import Smooth

ALL = 1e3
"""From minus this on down each share is 0 in float64, and the function as good as that."""

SHORT = 0.5
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(8)
RULE = tuple(zip(((POINTS + 1) / 2).tolist(), (WEIGHTS / 2).tolist(), strict=True))


class Gated(Smooth):
    """`x s(x)`, as the module has it."""

    bends = -1, 1, -1

    @abstractmethod
    def share(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def density(self, x: Tensor) -> Tensor:
        """The share's slope."""

    @abstractmethod
    def ratio(self, x: Tensor) -> Tensor:
        """The density's slope as a multiple of itself."""

    def value(self, x: Tensor) -> Tensor:
        return x.clamp(min=-ALL) * self.share(x)

    def derivative(self, x: Tensor) -> Tensor:
        within = x.clamp(-ALL, ALL)
        return self.share(within) + within * self.density(within)

    def second(self, x: Tensor) -> Tensor:
        within = x.clamp(-ALL, ALL)
        return self.density(within) * (2 + within * self.ratio(within))

    def change(self, x: Tensor, d: Tensor) -> Tensor:
        """The mean slope times d, by Gauss's rule, over a short way; else `d s(x) + (x - d) (s(x) - s(x - d))`."""
        here, before = self.share(x), x - d
        mean = sum((weight * self.derivative(x - share * d) for share, weight in RULE), torch.zeros_like(here))
        return torch.where(d.abs() < SHORT, d * mean, d * here + before * (here - self.share(before)))


@dataclass(frozen=True)
class Gelu(Gated):
    """`x` times the normal distribution's share below it."""

    cuts = -1.4142135623730951, 1.4142135623730951
    turns = (-0.7517915246935645,)

    def share(self, x: Tensor) -> Tensor:
        return 0.5 * torch.erfc(-math.sqrt(0.5) * x)

    def density(self, x: Tensor) -> Tensor:
        return math.sqrt(0.5 / math.pi) * torch.exp(-0.5 * x * x)

    def ratio(self, x: Tensor) -> Tensor:
        return -x


@dataclass(frozen=True)
class GeluByTanh(Gated):
    """`x / 2 (1 + tanh(sqrt(2 / pi) (x + cube x^3)))`, for a `cube` between 0.0447 and 0.0448."""

    cube: float = 0.044715
    steep = math.sqrt(2 / math.pi)

    @property
    def cubic(self) -> float:
        return self.steep * self.cube

    @cached_property
    def cuts(self) -> tuple[float, ...]:  # type: ignore[override]
        end = self.zero(lambda x: 2 + x * self.ratio(x), 1.4, 1.45)
        return -end, end

    @cached_property
    def turns(self) -> tuple[float, ...]:  # type: ignore[override]
        return (self.zero(self.derivative, -0.8, -0.7),)

    @staticmethod
    def zero(of: Callable[[Tensor], Tensor], low: float, high: float) -> float:
        """Where a function of opposite signs at two ends is 0, by halving."""
        rising = float(of(torch.tensor(high, dtype=torch.float64))) > 0
        for _ in range(60):
            middle = (low + high) / 2
            above = float(of(torch.tensor(middle, dtype=torch.float64))) > 0
            low, high = (low, middle) if above == rising else (middle, high)
        return low

    def inner(self, x: Tensor) -> Tensor:
        return x * (self.steep + self.cubic * x * x)

    def share(self, x: Tensor) -> Tensor:
        return torch.sigmoid(2 * self.inner(x))

    def density(self, x: Tensor) -> Tensor:
        twice = 2 * self.inner(x)
        return 2 * (self.steep + 3 * self.cubic * x * x) * torch.sigmoid(twice) * torch.sigmoid(-twice)

    def ratio(self, x: Tensor) -> Tensor:
        slope = self.steep + 3 * self.cubic * x * x
        return 6 * self.cubic * x / slope - 2 * torch.tanh(self.inner(x)) * slope


@dataclass(frozen=True)
class Silu(Gated):
    """`x / (1 + exp(-x))`, also called Swish."""

    cuts = -2.3993572805154675, 2.3993572805154675
    turns = (-1.2784645427610737,)

    def share(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def density(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x) * torch.sigmoid(-x)

    def ratio(self, x: Tensor) -> Tensor:
        return -torch.tanh(0.5 * x)


@dataclass(frozen=True)
class Mish(Gated):
    """`x tanh(log(1 + exp x))`"""

    cuts = -2.256376396360793, 1.4905711794854284
    turns = (-1.1924312145154952,)

    def share(self, x: Tensor) -> Tensor:
        return torch.tanh(Softplus().of(x))

    def density(self, x: Tensor) -> Tensor:
        twice = 2 * Softplus().of(x)
        return 4 * torch.sigmoid(twice) * torch.sigmoid(-twice) * torch.sigmoid(x)

    def ratio(self, x: Tensor) -> Tensor:
        return 1 - torch.sigmoid(x) * (1 + 2 * self.share(x))
