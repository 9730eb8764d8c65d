"""Intervals of torch's recurrent layers alone, with both ends side by side: as many steps a frame as numbers take.

Ends are (B, 2, n), lower ones first. A matrix W = P - N, of parts not below 0, makes `[P -N; -N P]` of both ends at once. Of a
product `s y` with s between 0 and 1 each end is that of y times the end of s of the same side, where y is above 0, else of the
other side; so it is with a GRU's `n + z (h - n)` and the ends of h and n, for it increases in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tightverify.values import Interval

Step = Callable[[Tensor, Any, Tensor, Tensor | None], tuple[Tensor, Any]]
"""From a frame (B, 2, gates), the state, the matrix of both ends and a bias to the output (B, 2, n) and the state."""


def of_both_ends(weight: Tensor) -> Tensor:
    """(2 outputs, 2 inputs)"""
    positive, other = weight.clamp(min=0), weight.clamp(max=0)
    return torch.cat([torch.cat([positive, other], 1), torch.cat([other, positive], 1)])


def after(state: Tensor, weight: Tensor) -> Tensor:
    """(B, 2, outputs): a matrix times both ends."""
    return (state.flatten(1) @ weight.T).view(len(state), 2, -1)


def times(share: Tensor, y: Tensor) -> Tensor:
    return y * torch.where(y > 0, share, share.flip(1))


def lstm_step(x: Tensor, state: Any, weight: Tensor, _bias: Tensor | None) -> tuple[Tensor, Any]:
    if state is not None:
        x = x + after(state[0], weight)
    size = x.shape[-1] // 4
    gates = torch.sigmoid(x[..., : 2 * size]), torch.tanh(x[..., 2 * size : 3 * size]), torch.sigmoid(x[..., 3 * size :])
    if state is None:
        c = times(gates[0][..., :size], gates[1])
    else:
        both = times(gates[0], torch.cat([gates[1], state[1]], -1))
        c = both[..., :size] + both[..., size:]
    h = times(gates[2], torch.tanh(c))
    return h, (h, c)


def gru_step(x: Tensor, state: Any, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Any]:
    """With weights and biases in torch's order: r, z, n."""
    size = x.shape[-1] // 3
    inner = x.new_zeros(x.shape) if state is None else after(state, weight)
    if bias is not None:
        inner = inner + bias
    gates = torch.sigmoid(x[..., : 2 * size] + inner[..., : 2 * size])
    n = torch.tanh(x[..., 2 * size :] + times(gates[..., :size], inner[..., 2 * size :]))
    way = -n if state is None else state - n
    h = n + times(gates[..., size:], way)
    return h, h


def rnn_step(function: Callable[[Tensor], Tensor]) -> Step:
    def step(x: Tensor, state: Any, weight: Tensor, _bias: Tensor | None) -> tuple[Tensor, Any]:
        h = function(x if state is None else x + after(state, weight))
        return h, h

    return step


STEPS: dict[str, Step] = {
    "lstm": lstm_step,
    "gru": gru_step,
    "rnn_tanh": rnn_step(torch.tanh),
    "rnn_relu": rnn_step(torch.relu),
}


def interval_layer(
    kind: str, frames: Interval, weight: Tensor, bias: Tensor | None, axis: int, backwards: bool
) -> tuple[Interval, list[Interval]]:
    """The outputs over all frames, from a state of 0, and the last state, of what the input's weights make of the frames.

    `bias` is what is added to the state's own part, where a kind has to keep it apart.
    """
    state: Any = None
    step, both = STEPS[kind], of_both_ends(weight)
    x = torch.stack([frames.lower.movedim(axis, 0), frames.upper.movedim(axis, 0)], 2)
    outputs: list[Tensor] = []
    for frame in reversed(x.unbind()) if backwards else x.unbind():
        h, state = step(frame, state, both, bias)
        outputs.append(h)
    joined = torch.stack(outputs[::-1] if backwards else outputs, axis)
    last = list(state) if isinstance(state, tuple) else [state]
    ends = joined.unbind(2)
    return Interval(*ends), [Interval(part[:, 0], part[:, 1]) for part in last]
