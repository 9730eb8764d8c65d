"""Models of streams, called once for each chunk, whose state goes in and comes out: unrolled over some calls as one model.

One input is K chunks (K, *shape), its outputs the K rows (1, K, n), of which a frame is that of one call. The first call's
state is what its inputs are fixed at. Which output goes back into which input is said by the user, or found here where shapes
and names leave no choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tightverify.errors import ModelError, UsageError

Dims = Sequence[int | str] | None
"""The axes of a tensor as far as they are known: lengths, and words where these are open."""
State = Mapping[int | str, str]
"""Names of inputs by the outputs (names, or numbers) that go back into them."""
OPTION = "--state OUTPUT=INPUT on the command line, state={output: input} from Python"
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
ASIDE = {"in", "out", "input", "output", "new", "next", "old", "prev", "initial", "final", "last", "n", "o", "i", "0"}
"""Words that only say whether a state goes in or comes out."""


@dataclass(frozen=True)
class Streaming:
    """How many calls there are, and which outputs go back into which inputs, as far as the user says; no calls, no stream."""

    calls: int = 0
    state: State = field(default_factory=dict)

    @classmethod
    def of(cls, unroll: Any, state: Any) -> Streaming:
        """What a user says, checked."""
        if unroll is None:
            if state:
                raise UsageError("state was given without unroll, and says nothing then; give unroll=K (--unroll K) too")
            return cls()
        if isinstance(unroll, bool) or not isinstance(unroll, int) or unroll < 1:
            raise UsageError(f"unroll is {unroll!r}; wanted the number of calls, 1 or more")
        if state is not None and not isinstance(state, Mapping):
            raise UsageError(f"state is a {type(state).__name__}; wanted {OPTION}")
        return cls(unroll, dict(state or {}))


def paired(outputs: Mapping[str, Dims], inputs: Mapping[str, Dims], state: Mapping[str, str], source: str) -> dict[str, str]:
    """For each input that is a state the output that goes back into it: as the user says, else by shape and name."""
    if state:
        for output, entry in state.items():
            if entry not in inputs:
                shown = ", ".join(map(repr, inputs)) or "none"
                raise UsageError(f"state names the input '{entry}' of {source}, which is not fixed; those fixed are {shown}")
            if output not in outputs:
                shown = ", ".join(map(repr, outputs)) or "none"
                raise UsageError(f"state names the output '{output}', and those that {source} has beside are {shown}")
        if len(set(state.values())) < len(state):
            raise UsageError(f"state lets two outputs of {source} go back into one input; give one for each")
        return {entry: output for output, entry in state.items()}
    found: dict[str, str] = {}
    for entry, dims in inputs.items():
        fitting = [output for output, others in outputs.items() if alike(dims, others)]
        if not fitting:
            continue
        rivals = [other for other, others in inputs.items() if other != entry and alike(dims, others)]
        named = [output for output in fitting if core(output) in (core(entry), f"{core(entry)}n")]
        chosen = named if len(fitting) > 1 or rivals else fitting
        if len(chosen) != 1:
            raise ModelError(
                f"{source}: its outputs {', '.join(map(repr, fitting))} may go back into its input '{entry}'; say which one "
                f"does: {OPTION}"
            )
        found[entry] = chosen[0]
    if not found or len(set(found.values())) < len(found):
        raise ModelError(
            f"{source} is unrolled, and of its other outputs ({', '.join(map(repr, outputs)) or 'none'}) none was found for "
            f"each of its states (fixed inputs: {', '.join(map(repr, inputs)) or 'none'}); say which goes where: {OPTION}"
        )
    return found


def alike(one: Dims, other: Dims) -> bool:
    """Whether two tensors may be of one shape."""
    if one is None or other is None:
        return True
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(isinstance(n, str) or isinstance(m, str) or n == m for n, m in pairs)


def core(name: str) -> str:
    """A name without what says whether it goes in or comes out."""
    return " ".join(word for word in map(str.lower, WORD.findall(name)) if word not in ASIDE)


def note_of(calls: int, pairs: Mapping[str, str]) -> str:
    """What was done, for users."""
    shown = ", ".join(f"{output} goes back into {entry}" for entry, output in pairs.items())
    return f"unrolled over {calls} calls: {shown}"
