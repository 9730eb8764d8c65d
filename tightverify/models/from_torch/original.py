"""A user's module as it is run: what of it is asked about, tried once, and in batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tightverify.errors import ModelError, UsageError
from tightverify.models.frames import chosen, rows
from tightverify.models.from_torch.export import reason_of, silence
from tightverify.models.from_torch.wrapped import PLAINLY, Output, Way, Wrapped, entry_of, leaves_of, numbers_of, one_of
from tightverify.models.sizes import batch_of
from tightverify.models.streaming import Streaming, paired


@dataclass(frozen=True, eq=False)
class Asked:
    """A user's module, and of its inputs and outputs those that are asked about; `apart` says whether it has others."""

    module: nn.Module
    source: str
    entry: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    output: Output | None = None
    apart: bool = False
    way: Way = PLAINLY

    @classmethod
    def of(
        cls, module: nn.Module, source: str, fix: Mapping[str, Any], output: Output | None, kind: torch.dtype, way: Way
    ) -> Asked:
        several = [block.name for block in way.blocks]
        entry, numbers = entry_of(module, fix, several), numbers_of(fix, kind)
        return cls(module, source, entry, numbers, output, bool(fix) or bool(several) or output is not None, way)

    @property
    def one_by_one(self) -> bool:
        """Whether what is fixed is so for a single input, or there is no batch."""
        return self.way.calls > 0 or self.way.alone or any(isinstance(value, Tensor) for value in self.numbers.values())

    def unrolled(self, chunk: Tensor, streaming: Streaming) -> Asked:
        """The same, called for one chunk after the other, given one of them with its batch where the module wants it."""
        if self.entry is None:
            raise UsageError(f"{self.source} was to be unrolled, and none of its inputs is fixed as a first state; give fix")
        module = copy.deepcopy(self.module).cpu().eval()
        tensors = {name: value for name, value in self.numbers.items() if isinstance(value, Tensor)}
        try:
            with torch.no_grad(), silence():
                made = module(**{self.entry: chunk}, **self.numbers)
        except Exception as error:
            raise ModelError(f"{self.source} fails on one chunk of shape {tuple(chunk.shape)} ({reason_of(error)})") from error
        chosen_one = one_of(made, self.output)
        if chosen_one.numel() != max(chosen_one.shape, default=1):
            shape = tuple(chosen_one.shape)
            raise ModelError(f"{self.source} is unrolled, and gives an output of shape {shape} in each call; wanted one row")
        found = leaves_of(made)
        others = {name: tuple(leaf.shape) for name, leaf in found.items() if leaf is not chosen_one and name != self.output}
        said = {str(output): entry for output, entry in streaming.state.items()}
        others |= {name: tuple(found[name].shape) for name in said if name in found}
        pairs = paired(others, {name: tuple(value.shape) for name, value in tensors.items()}, said, self.source)
        return replace(self, way=replace(self.way, calls=streaming.calls, states=pairs))

    def copy(self) -> nn.Module:
        """A module of one input and one output, on the CPU, in evaluation mode, without gradients."""
        try:
            own = copy.deepcopy(self.module).cpu().eval().requires_grad_(False)
        except Exception as error:
            raise ModelError(
                f"{self.source} cannot be copied ({reason_of(error)}): give one that `copy.deepcopy` can copy, "
                "without tensors that it computed itself (old weight norm, states from an earlier call)"
            ) from error
        return Wrapped(own, self.entry, self.numbers, self.output, self.way).eval() if self.apart else own

    def with_or_without_batch(self, x: Tensor, inputs: Tensor | None) -> tuple[Asked, Tensor]:
        """The same as `tried`, of a module that gives one row of outputs only without a batch axis, so."""
        try:
            asked, made = self.tried(x, inputs)
        except ModelError:
            alone = self._without_batch(x)
            if alone is None:
                raise
            return alone
        row = max(made.shape) == made.numel()
        return (asked, made) if row else self._without_batch(x) or (asked, made)

    def _without_batch(self, x: Tensor) -> tuple[Asked, Tensor] | None:
        """The module on one input without a batch axis, if it gives a row of numbers (classes,)."""
        asked = replace(self, apart=True, way=replace(self.way, alone=True))
        try:
            with torch.no_grad(), silence():
                made = asked.copy()(x)
        except Exception:  # what is wrong is said of a batch
            return None
        usual = isinstance(made, Tensor) and made.dim() == 2 and made.numel() > 0 and made.is_floating_point()
        return (asked, made) if usual else None

    def tried(self, x: Tensor, inputs: Tensor | None) -> tuple[Asked, Tensor]:
        """What is asked about, and what is made of an input; of several outputs the first, if nothing was said.

        Most mistakes show here, in the module's own words.
        """
        module = self.copy()
        try:
            with torch.no_grad(), silence():
                made = module(x)
        except ModelError:
            raise
        except Exception as error:
            words = f"{self.source} fails on one input of shape {tuple(x.shape)}, batch included ({reason_of(error)}); "
            if x.is_floating_point() and any(isinstance(part, nn.Embedding) for part in module.modules()):
                words += "it has an embedding: if it takes token numbers, give tokens=True to `tightverify.load`; else "
            if inputs is not None:
                words += f"{batch_of(inputs)}: give x[None] for a single input; else "
            raise ModelError(
                f"{words}check the shape given, the axis of the batch, and that the module takes one tensor: `fix` the others"
            ) from error
        leaves = pytree.tree_leaves(made)
        if not isinstance(made, Tensor) and leaves and isinstance(leaves[0], Tensor):
            return replace(self, output=0, apart=True), usable(leaves[0], self.source)
        return self, usable(made, self.source)


def usable(made: Any, source: str) -> Tensor:
    """An output of numbers with a batch axis."""
    if not isinstance(made, Tensor):
        raise ModelError(f"{source} gives a {type(made).__name__}; wanted one tensor: return only the class scores")
    if made.dim() < 2 or not made.numel() or not made.is_floating_point():
        raise ModelError(
            f"{source} gives a tensor of {made.dtype} of shape {tuple(made.shape)} for one input; wanted (1, classes): "
            "end the module with one row of class scores per input"
        )
    return made


@dataclass(frozen=True, eq=False)
class BatchFirst:
    """A module as a function of a batch (N, *shape) that gives rows (N, K).

    `single` is its output's shape for one input; of that, flattened, the numbers at `kept` are asked about.
    """

    module: Callable[[Tensor], Tensor]
    batch_axis: int
    single: tuple[int, ...]
    kept: NDArray[np.int64]
    one_by_one: bool
    source: str

    def __call__(self, x: Tensor) -> Tensor:
        x = torch.as_tensor(x)
        several = [x[k : k + 1] for k in range(len(x))] if self.one_by_one else [x]
        return torch.cat([self._rows(some) for some in several])

    def _rows(self, x: Tensor) -> Tensor:
        made = self.module(x.movedim(0, self.batch_axis))
        return chosen(rows(made, self.single, len(x), self.source), self.kept)

    def check_repeats(self, x: Tensor) -> None:
        """Refuse a module that keeps a state."""
        with torch.no_grad(), silence():
            first, second = self(x), self(x)
        if not torch.equal(first, second) and not bool(first.isnan().any()):
            raise ModelError(
                f"{self.source} gives two outputs for the same input one after the other; wanted a function of the input "
                "alone: keep no state between calls and draw no random numbers"
            )


def on_table(
    original: BatchFirst, module: Callable[[Tensor], Callable[[Tensor], Tensor]]
) -> Callable[[Tensor, Tensor], Tensor]:
    """The function of token numbers (N, T) and of a table, given the module of a table."""
    return lambda tokens, table: replace(original, module=module(table))(tokens)
