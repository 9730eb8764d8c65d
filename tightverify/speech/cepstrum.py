"""What follows the logarithm: cosine transform, deltas, normalisation over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tightverify.errors import UsageError
from tightverify.speech.frames import check_choice, check_positive

ENDS = ("replicate", "fit")


class Cosines(nn.Module):
    """The first `n_mfcc` coefficients of each frame's cosine transform (DCT-II): (N, frames, n_mels) to (N, frames, n_mfcc).

    `ortho` scales it to an orthogonal matrix, as librosa and torchaudio do. `lifter` weighs coefficient k (from 1) by
    1 + lifter / 2 sin(pi k / lifter), as librosa does; 0 for none.
    """

    def __init__(self, n_mfcc: int, n_mels: int, *, ortho: bool = True, lifter: float = 0.0) -> None:
        super().__init__()
        if not 1 <= check_positive("n_mfcc", n_mfcc) <= check_positive("n_mels", n_mels):
            raise UsageError(f"n_mfcc is {n_mfcc} of {n_mels} bands; give as many coefficients as bands at most")
        rows, places = torch.arange(n_mfcc, dtype=torch.float64), torch.arange(n_mels, dtype=torch.float64)
        matrix = 2 * torch.cos(math.pi / n_mels * torch.outer(rows, places + 0.5))
        if ortho:
            matrix = matrix * math.sqrt(1 / (2 * n_mels))
            matrix[0] /= math.sqrt(2)
        if lifter > 0:
            matrix = matrix * (1 + lifter / 2 * torch.sin(math.pi * (rows + 1) / lifter))[:, None]
        self.matrix: Tensor
        self.register_buffer("matrix", matrix.to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T


class Deltas(nn.Module):
    """The slope over time of the line fitted to `win_length` frames around each: `sum n x_{t+n} / sum n^2`.

    At the ends `ends="replicate"` repeats the first and the last frame (torchaudio), `ends="fit"` the first and the last slope
    of a whole window (librosa). `keep` gives the features themselves too, the slopes behind them.
    """

    def __init__(self, win_length: int = 5, *, ends: str = "replicate", keep: bool = True) -> None:
        super().__init__()
        if check_positive("win_length", win_length) < 3 or win_length % 2 == 0:
            raise UsageError(f"win_length is {win_length}; it must be odd, 3 or more")
        self.reach, self.ends, self.keep = win_length // 2, check_choice("ends", ends, ENDS), keep

    def forward(self, x: Tensor) -> Tensor:
        reach, count = self.reach, x.shape[1]
        if self.ends == "replicate":
            wide = torch.cat([x[:, :1]] * reach + [x] + [x[:, -1:]] * reach, dim=1)
        elif count < 2 * reach + 1:
            raise UsageError(
                f"{count} frames are fewer than a window of {2 * reach + 1}; give longer clips, or ends='replicate'"
            )
        else:
            wide = x
        middle = wide.shape[1] - 2 * reach
        slopes = torch.zeros_like(wide[:, :middle])
        for step in range(1, reach + 1):
            ahead, behind = wide[:, reach + step : reach + step + middle], wide[:, reach - step : reach - step + middle]
            slopes = slopes + step * (ahead - behind)
        slopes = slopes / (2 * sum(step * step for step in range(1, reach + 1)))
        if self.ends == "fit":
            slopes = torch.cat([slopes[:, :1]] * reach + [slopes] + [slopes[:, -1:]] * reach, dim=1)
        return torch.cat([x, slopes], dim=2) if self.keep else slopes


class Normalised(nn.Module):
    """Each feature less its mean over the clip, and with `variance` divided by `sqrt(variance over the clip + eps)`.

    The mean is linear. The variance is a sum of squares, its inverse root two more operations and the quotient a product: all
    of it is verified, but where the region moves the variance much, loosely.
    """

    def __init__(self, *, variance: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        if variance and not eps > 0:
            raise UsageError(f"eps is {eps:g}; it must be above 0, or a constant feature would be divided by 0")
        self.variance, self.eps = variance, float(eps)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        if not self.variance:
            return centred
        return centred / torch.sqrt((centred * centred).mean(dim=1, keepdim=True) + self.eps)
