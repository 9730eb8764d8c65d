"""For each segment of a clip, the largest ball on its samples alone on which the network is proved to keep its answer.

Levels in decibels, relative to the clip, are bisected: a level proved is the new least, any other outcome the new most. All
segments are worked on together, each at its own level: they are parts of an input (`parts`), and a level is a size of a ball
on one. What is reported of a segment is the highest level at which it was itself proved, never one in between; nothing is taken
to hold at lower levels because it holds at higher ones, or the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from tightverify.api.certify import usable_settings
from tightverify.api.checks import as_inputs, fitting
from tightverify.api.load import AnyModel, load
from tightverify.calling import plainly
from tightverify.errors import InputError, UsageError
from tightverify.former import renamed
from tightverify.json_lines import finite
from tightverify.models.answers import answers
from tightverify.models.model import Model
from tightverify.radius.parts import edges_of, parts_of, time_axis
from tightverify.radius.questions import Questions
from tightverify.region.sound import ROUNDED_UP
from tightverify.settings import PROOFS, Options, Settings, merged
from tightverify.spec import classify_as
from tightverify.verify import Result, Verdict
from tightverify.writing import write_rows

FILES = ("segments.csv", "segments.png")
BETWEEN = (-100.0, -20.0)
"""The levels that are tried, in decibels."""


@dataclass(frozen=True, eq=False)
class Segments:
    """What was found of a clip: segment k is its samples `edges[k]` to `edges[k + 1] - 1`.

    `proved` (S,) are radii in the clip's own units, 0 where no level tried was proved; `refuted` (S,) the least radii at which
    a counterexample was found, infinite where none was. `size` is what levels are relative to: the clip's own norm,
    which is its peak for the norm inf.
    """

    clip: Tensor
    edges: tuple[int, ...]
    label: int
    norm: float
    size: float
    proved: Tensor
    refuted: Tensor
    model: str = ""
    method: str = ""

    @property
    def levels(self) -> list[float]:
        """The radii proved in decibels relative to the clip; -inf for 0."""
        return [decibels(radius / self.size) for radius in self.proved.tolist()]

    def rows(self) -> list[dict[str, Any]]:
        """A line of plain values per segment: its first and last sample, its radii, their levels."""
        each = zip(self.edges, self.edges[1:], self.proved.tolist(), self.refuted.tolist(), strict=False)
        return [
            {
                "first": start,
                "last": stop - 1,
                "proved": proved,
                "proved_db": finite(decibels(proved / self.size)),
                "refuted": finite(refuted),
                "refuted_db": finite(decibels(refuted / self.size)),
            }
            for start, stop, proved, refuted in each
        ]

    def save(self, folder: str | Path, rate: int | None = None, format: str = "png") -> list[Path]:
        """Write segments.csv and a picture of it, as png, pdf or svg, in seconds if the sampling rate is given.

        What had these names is replaced.
        """
        from tightverify.plots.files import of_segments  # drawn when it is asked for, by a layer above

        return [write_rows(Path(folder), FILES[0], self.rows()), of_segments(self, Path(folder), f"segments.{format}", rate)]


@renamed
@plainly
def segments(
    model: AnyModel,
    clip: Any,
    label: int | None = None,
    *,
    length: int | None = None,
    norm: float = math.inf,
    between: tuple[float, float] = BETWEEN,
    tolerance: float = 1.0,
    settings: Settings | None = None,
    batch_axis: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[Options],
) -> Segments:
    """The certified radius of each segment of `length` samples (the last may be shorter; a sixteenth of the clip if None).

    `clip` is one input of the model, without the batch: (samples,), (1, samples) or (samples, 1). Levels from the first to the
    last of `between` are bisected until they are `tolerance` decibels apart. The radius is that of a ball of the norm; for the
    norm inf, level d is `DecibelBall(d)` on the segment alone. `label` None takes the model's own answer. Counterexamples are
    looked for only if `restarts` are asked for. Settings are as in `certify`. `progress(done, total)` counts rounds.
    """
    rounds = rounds_of(between, tolerance)
    settings = usable_settings(merged(settings, options, PROOFS))
    x = as_inputs(clip if isinstance(clip, Tensor) and clip.dim() == 0 else torch.as_tensor(clip)[None])
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    x = fitting(loaded, x)
    kept = kept_label(loaded, x, label)
    parts = parts_of("segment", tuple(x.shape[1:]), length)
    edges = edges_of(x.shape[1:][time_axis(tuple(x.shape[1:]))], length)
    size = float(torch.linalg.vector_norm(x.to(torch.float64).flatten(), ord=norm))
    if size == 0:
        raise InputError("the clip is silent: all its samples are 0, and levels relative to it mean nothing; take another")
    count = len(edges) - 1
    least, most = (torch.full((count,), end, dtype=torch.float64) for end in between)
    proved, refuted = torch.zeros(count, dtype=torch.float64), torch.full((count,), math.inf, dtype=torch.float64)
    spec = classify_as(torch.full((count,), kept), loaded.graph.output_size)
    questions = Questions(loaded, x, torch.zeros(count, dtype=torch.long), spec, parts.families(float(norm), None))

    def enter(k: int, result: Result) -> None:
        robust = result.verdict is Verdict.ROBUST
        proved[k] = radii[k] if robust else proved[k]
        (least if robust else most)[k] = level[k]
        if result.verdict is Verdict.COUNTEREXAMPLE:
            refuted[k] = torch.minimum(refuted[k], radii[k])

    for step in range(rounds):
        level = (least + most) / 2
        radii = size * 10.0 ** (level / 20) * ROUNDED_UP
        for start in range(0, count, settings.batch):
            places = range(start, min(start + settings.batch, count))
            questions.decide(places, radii[start : places.stop].tolist(), settings, enter)
        if progress is not None:
            progress(step + 1, rounds)
    wave = x[0].to(torch.float64).flatten()
    return Segments(wave, edges, kept, float(norm), size, proved, refuted, loaded.name, settings.method)


def rounds_of(between: tuple[float, float], tolerance: float) -> int:
    """How often levels are halved until they are within the tolerance."""
    low, high = between
    if not (math.isfinite(low) and math.isfinite(high) and low < high and tolerance > 0):
        raise UsageError(
            f"levels between {low} and {high} dB to a tolerance of {tolerance} dB were asked for; wanted two finite levels, "
            "the lower one first, and a tolerance above 0"
        )
    return max(1, math.ceil(math.log2((high - low) / tolerance)))


def kept_label(model: Model, x: Tensor, label: int | None) -> int:
    """The label to keep, which has to be the model's answer."""
    answer = int(answers(model, x))
    if label is not None and label != answer:
        raise InputError(f"the model's answer on the clip is {answer}, not the label {label}: there is nothing to keep")
    return answer


def decibels(ratio: float) -> float:
    return -math.inf if ratio == 0 else 20 * math.log10(ratio)
