"""What shall hold of the outputs y on the whole region: of the rows `C y + d > 0`, at least so many.

"Keeps its label" wants all rows y_label - y_other positive. "Stays within the top k" wants all but k - 1 of them: fewer
than k classes may overtake. Rows whose proved lower bound is finite and positive hold everywhere, so that a count of
them proves the property; at a point where too few rows are 0 or more it is broken (a tie breaks nothing).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from tightverify.calling import own
from tightverify.errors import InputError


@dataclass(frozen=True, eq=False)
class Property:
    """Rows (B, R, K), offsets (B, R), and how many of the R rows must be positive."""

    rows: Tensor
    offsets: Tensor
    needed: int

    def __getitem__(self, inputs: slice | Tensor) -> Property:
        return Property(self.rows[inputs], self.offsets[inputs], self.needed)

    def to(self, device: str) -> Property:
        return Property(self.rows.to(device), self.offsets.to(device), self.needed)

    def margins(self, outputs: Tensor) -> Tensor:
        """(..., R): the rows' values at outputs (B, ..., K)."""
        rows = self.rows.view(len(self.rows), *(1,) * (outputs.dim() - 2), *self.rows.shape[1:])
        offsets = self.offsets.view(len(self.rows), *(1,) * (outputs.dim() - 2), -1)
        return (rows * outputs[..., None, :]).sum(-1) + offsets

    def proved(self, lower: Tensor) -> Tensor:
        """(B,): whether lower bounds (B, R) of the rows prove the property. NaN and infinity prove nothing."""
        return (torch.isfinite(lower) & (lower > 0)).sum(-1) >= self.needed

    def broken(self, margins: Tensor) -> Tensor:
        """(...): whether the rows' values (..., R) at a point break the property."""
        return (margins >= 0).sum(-1) < self.needed

    def surely_broken(self, outputs: Tensor) -> bool:
        """Whether finite outputs (K,) of the one input break the property, in exact arithmetic."""
        if not bool(torch.isfinite(outputs).all()):
            return False
        values, held = [Fraction(value) for value in outputs.tolist()], 0
        for row, offset in zip(self.rows[0].tolist(), self.offsets[0].tolist(), strict=True):
            terms = (Fraction(weight) * value for weight, value in zip(row, values, strict=True) if weight)
            held += sum(terms, Fraction(offset)) >= 0
        return held < self.needed

    def worst(self, margins: Tensor) -> Tensor:
        """(...): the row value that decides: positive exactly if enough rows are."""
        finite = torch.where(torch.isfinite(margins), margins, -torch.inf)  # what is no number holds nowhere
        return torch.sort(finite, dim=-1, descending=True).values[..., self.needed - 1]


def classify_as(labels: Tensor, classes: int, top: int = 1) -> Property:
    """Each label stays among the `top` greatest outputs."""
    labels = labels.to(torch.long)
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise InputError(f"labels go from {int(labels.min())} to {int(labels.max())}; the model has classes 0 to {classes - 1}")
    if classes < 2:
        raise InputError(
            f"the model has {classes} output; keeping a label needs two classes or more, so ask that it stays on its side of T "
            "(--side T, tv.SameSide(T)), --above T, --below T, moves by less than D (--within D), or for rows C y + d > 0"
        )
    if top not in range(1, classes):
        raise InputError(f"top is {top}; with {classes} classes it must be 1 to {classes - 1}")
    identity = torch.eye(classes, dtype=torch.float64, device=labels.device)
    others = torch.stack([torch.cat([torch.arange(0, k), torch.arange(k + 1, classes)]) for k in range(classes)]).to(
        labels.device
    )
    rows = identity[labels][:, None, :] - identity[others[labels]]
    return Property(rows, torch.zeros(rows.shape[:2], dtype=torch.float64, device=labels.device), classes - top)


def linear_property(rows: Tensor, offsets: Tensor | None, inputs: int, classes: int) -> Property:
    """`C y + d > 0` for rows C (R, K), the same for all inputs, or (B, R, K), and d (R,) or (B, R), 0 if not given."""
    rows = own(torch.as_tensor(rows, dtype=torch.float64))
    if rows.dim() == 2:
        rows = rows.expand(inputs, -1, -1)
    if rows.dim() != 3 or len(rows) != inputs or rows.shape[2] != classes or rows.shape[1] == 0:
        raise InputError(
            f"the property's rows have shape {tuple(rows.shape)}; "
            f"wanted (R, {classes}) or ({inputs}, R, {classes}) with R at least 1"
        )
    offsets = torch.zeros(rows.shape[1]) if offsets is None else offsets
    offsets = own(torch.as_tensor(offsets, dtype=torch.float64))
    if offsets.shape not in (rows.shape[1:2], rows.shape[:2]):
        raise InputError(
            f"the property's offsets have shape {tuple(offsets.shape)}; "
            f"wanted {tuple(rows.shape[1:2])} or {tuple(rows.shape[:2])}"
        )
    if not bool(torch.isfinite(rows).all() and torch.isfinite(offsets).all()):
        raise InputError("the property has a NaN or infinite coefficient; every coefficient must be a finite number")
    return Property(rows, offsets.expand(rows.shape[:2]), rows.shape[1])
