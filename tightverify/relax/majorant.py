"""The least diagonal above a symmetric matrix: s with `diag(s) - Q` positive semidefinite and sum s nearly least.

That is a semidefinite program, whose dual is to maximise trace(Q X) over correlation matrices X (Goemans and Williamson 1995).
With X = V V' for few columns and rows of length 1 (Burer and Monteiro 2003), `V <- rows of Q V, scaled to length 1` climbs; at
its end `s = diag(Q X)` is the answer but for a small shift. No step of this needs to be right: the shift is doubled until the
proof goes through.

Proof. If Cholesky's method, in floats, runs to its end on a symmetric matrix M of order m, it has found R with R' R = M + E and
|E_ij| <= g sqrt(M_ii M_jj), g = gamma(m + 1) (Demmel 1989; Rump 2006), so that M + g trace(M) I is positive semidefinite, M
being what is stored. `rounding` (m,) is what Q's own error adds: row sums of bounds of its absolute values, above it by
Gershgorin. Underflow adds less than TINY (1 + max M_ii) to E.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.values import TINY, UNIT_ROUNDOFF, gamma

COLUMNS = 8
CLIMBS = 60
FIRST_SHIFT = 1e-5
SHIFTS = 24


def diagonal_majorant(matrix: Tensor, rounding: Tensor) -> Tensor | None:
    """(m,) s for a positive semidefinite matrix (m, m); None if no shift can be proved."""
    count = len(matrix)
    generator = torch.Generator().manual_seed(0)
    climbing = torch.randn((count, COLUMNS), generator=generator, dtype=torch.float64).to(matrix.device)
    for _ in range(CLIMBS):
        climbing = matrix @ climbing
        climbing = climbing / torch.linalg.vector_norm(climbing, dim=1, keepdim=True).clamp(min=1e-300)
    diagonal = ((matrix @ climbing) * climbing).sum(1).clamp(min=0)
    shift = FIRST_SHIFT * float(diagonal.mean())
    for _ in range(SHIFTS):
        raised = diagonal + shift
        difference = torch.diag(raised) - matrix
        difference = (difference + difference.T) / 2
        if proved(difference):
            subtraction = 4 * UNIT_ROUNDOFF * (raised + matrix.abs().sum(1))
            asymmetry = (matrix - matrix.T).abs().sum(1)
            trace = difference.diagonal().sum()
            return raised + gamma(count + 4) * trace + subtraction + asymmetry + rounding + TINY * (1 + trace)
        shift *= 2
    return None


def proved(matrix: Tensor) -> bool:
    """Whether Cholesky's method runs to its end on a matrix, all of whose numbers are finite."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    return int(info) == 0 and bool(torch.isfinite(factor).all())
