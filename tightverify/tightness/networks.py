"""Relaxations of a whole network compared: the widths that they leave its neurons, and the margins that they prove.

Each is a bounding pass over the network, as `linear_bounds` is: intervals of all nodes, and lower bounds of rows over them. To
compare another, name it in `RELAXATIONS`. The methods of `certify` that are more than one pass are compared by name too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Unpack

import torch
from torch import Tensor

from tightverify.api.certify import usable_settings
from tightverify.api.checks import as_inputs, as_labels, fitting
from tightverify.api.load import AnyModel, load
from tightverify.api.passes import PASSES
from tightverify.bounds.fitted import Fitting
from tightverify.bounds.interval import claim
from tightverify.bounds.memory import largest_temporary, parts
from tightverify.budget import Budget
from tightverify.calling import plainly
from tightverify.errors import UsageError
from tightverify.graph import Graph
from tightverify.models.answers import answers
from tightverify.region import Perturbation, Region
from tightverify.settings import OF_BOUNDS, Options, Settings, merged, refuse_others
from tightverify.spec import classify_as
from tightverify.stages import METHODS
from tightverify.threads import threads_for
from tightverify.tightness.methods import by_method
from tightverify.tightness.places import Place, places
from tightverify.values import Interval
from tightverify.writing import write_rows

MODEL_FILES = ("widths.csv", "margins.csv")


class Bounds(Protocol):
    """What a relaxation finds on a batch of regions."""

    @property
    def intervals(self) -> Sequence[Interval]:
        """By node."""

    def lower(self, rows: dict[int, Tensor]) -> Tensor:
        """(B, R): sound lower bounds of the sum over nodes of `rows @ node`, rows (B or 1, R, n)."""


def one_pass(name: str, settings: Settings) -> Callable[[Graph, Region], Bounds]:
    return lambda graph, region: PASSES[name](graph, region, settings)


RELAXATIONS: dict[str, Callable[[Graph, Region], Bounds]] = {
    "interval": one_pass("interval", Settings()),
    "linear": one_pass("linear", Settings()),
    "planes_boxes": one_pass("planes", Settings(directions=0)),
    "planes": one_pass("planes", Settings()),
}
"""`planes_boxes` is `planes` without what polygons bring."""
BASELINE = "linear"
ALL = "all"


@dataclass(frozen=True)
class Group:
    """The bounded neurons of one role at one frame of a layer, over all inputs, by relaxation."""

    layer: int
    role: str
    frame: int
    neurons: int
    mean: dict[str, float]
    median_ratio: dict[str, float]
    """The median over neurons and inputs of the width's ratio to the baseline's; NaN where that is 0."""


@dataclass(frozen=True, eq=False)
class ModelTightness:
    """What was found of a network over N regions, by relaxation."""

    labels: Tensor
    places: tuple[Place, ...]
    widths: dict[str, tuple[Tensor, ...]]
    """For each place (N, n)."""
    margins: dict[str, Tensor]
    """(N,): the worst margin, a proved lower bound of the label's output minus the largest other one."""
    seconds: dict[str, float]
    """For all inputs."""
    model: str = ""
    region: str = ""

    @property
    def relaxations(self) -> tuple[str, ...]:
        return tuple(self.margins)

    @property
    def baseline(self) -> str:
        """What ratios are taken to: `linear`, or the first if it is not there."""
        return BASELINE if BASELINE in self.margins else self.relaxations[0]

    def rows(self) -> list[dict[str, Any]]:
        """A line of plain values for each input and bounded node: the mean and the median of its neurons' widths."""
        means = {name: [width.mean(1).tolist() for width in widths] for name, widths in self.widths.items()}
        medians = {name: [width.median(1).values.tolist() for width in widths] for name, widths in self.widths.items()}
        return [
            {"input": number}
            | vars(place)
            | {f"mean_{name}": means[name][k][number] for name in self.relaxations}
            | {f"median_{name}": medians[name][k][number] for name in self.relaxations}
            for number in range(len(self.labels))
            for k, place in enumerate(self.places)
        ]

    def margin_rows(self) -> list[dict[str, Any]]:
        """A line of plain values for each input."""
        return [
            {"input": number, "label": label} | {f"margin_{name}": float(self.margins[name][number]) for name in self.margins}
            for number, label in enumerate(self.labels.tolist())
        ]

    def by_place(self) -> list[Group]:
        """Layer by layer, role by role, frame by frame."""
        groups: dict[tuple[int, str, int], list[int]] = {}
        first: dict[tuple[int, str], int] = {}
        for k, place in enumerate(self.places):
            groups.setdefault((place.layer, place.role, place.frame), []).append(k)
            first.setdefault((place.layer, place.role), k)
        order = sorted(groups, key=lambda key: (key[0], first[key[:2]], key[2]))
        return [self._group(*key, groups[key]) for key in order]

    def _group(self, layer: int, role: str, frame: int, chosen: list[int]) -> Group:
        widths = {name: torch.cat([several[k] for k in chosen], dim=1) for name, several in self.widths.items()}
        ratios = {name: width / widths[self.baseline] for name, width in widths.items()}
        neurons = widths[self.baseline].shape[1]
        mean = {name: float(width.mean()) for name, width in widths.items()}
        return Group(layer, role, frame, neurons, mean, {name: float(ratio.median()) for name, ratio in ratios.items()})

    def ratios(self, name: str) -> Tensor:
        """The ratios of all neurons' widths on all inputs to the baseline's, where these are finite and above 0."""
        ours, base = (torch.cat([width.flatten() for width in self.widths[one]]) for one in (name, self.baseline))
        there = (base > 0) & torch.isfinite(base) & torch.isfinite(ours)
        return ours[there] / base[there]

    def mean_width(self, name: str) -> float:
        widths = torch.cat([width.flatten() for width in self.widths[name]]) if self.places else torch.zeros(0)
        return float(widths.mean())

    def save(self, folder: str | Path, format: str = "png") -> list[Path]:
        """Write widths.csv, margins.csv, and pictures as png, pdf or svg; what had these names is replaced."""
        from tightverify.plots.files import of_model  # drawn when it is asked for, by a layer above

        folder = Path(folder)
        written = [write_rows(folder, MODEL_FILES[0], self.rows())] if self.places else []
        return [*written, write_rows(folder, MODEL_FILES[1], self.margin_rows()), *of_model(self, folder, format)]


@plainly
def of_model(
    model: AnyModel,
    x: Any,
    region: Perturbation,
    labels: Any = None,
    *,
    relaxations: Sequence[str] | None = None,
    settings: Settings | None = None,
    batch_axis: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[Options],
) -> ModelTightness:
    """Bound the network on the region around every input, once with each relaxation, or method of `certify`.

    `labels` is (N,), or None for the model's own answers. `progress(done, total)` is called for every input that is done.
    Of the settings `device`, `memory` and `batch` count for all, the others but those of the search for the methods.
    """
    refuse_others(options, OF_BOUNDS, "of_model")
    settings = usable_settings(merged(settings, options))
    device, budget = settings.device, Budget(memory=settings.memory)
    x = as_inputs(x)
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    x = fitting(loaded, x)
    chosen = chosen_relaxations(relaxations)
    y = answers(loaded, x) if labels is None else as_labels(labels, len(x))
    spec = classify_as(y, loaded.graph.output_size)
    graph, regions, spec = loaded.graph.to(device), region.around(x).to(device), spec.to(device)
    found: dict[str, list[tuple[list[Tensor], Tensor]]] = {name: [] for name in chosen}
    seconds = dict.fromkeys(chosen, 0.0)
    done = 0
    for start in range(0, len(x), settings.batch):
        some, asked = regions[start : start + settings.batch], spec[start : start + settings.batch]
        for part in parts(graph, some, budget, Fitting().directions):
            for name in chosen:
                began = time.monotonic()
                with threads_for(largest_temporary(graph, some[part], budget), device):
                    if name in RELAXATIONS:
                        bounds = RELAXATIONS[name](graph, some[part])
                        intervals, margins = list(bounds.intervals), bounds.lower({graph.output: asked[part].rows}).amin(1)
                    else:
                        how = replace(settings, method=name, restarts=0, thorough=True)
                        intervals, margins = by_method(how, loaded, graph, some[part], asked[part])
                seconds[name] += time.monotonic() - began
                intervals = claim(graph, intervals)
                found[name].append(([intervals[node].width.cpu() for node in graph.bounded], margins.cpu()))
            for _ in range(len(margins)):
                done += 1
                if progress is not None:
                    progress(done, len(x))
    widths = {
        name: tuple(torch.cat(same) for same in zip(*(w for w, _ in several), strict=True)) for name, several in found.items()
    }
    joined = {name: torch.cat([margins for _, margins in several]) for name, several in found.items()}
    return ModelTightness(y, places(loaded.graph), widths, joined, seconds, loaded.name, region.described)


def chosen_relaxations(names: Sequence[str] | None) -> tuple[str, ...]:
    """The relaxations asked for, each once: bounding passes and methods; all passes if none were, all there are for `all`."""
    if names is None:
        return tuple(RELAXATIONS)
    every = tuple(dict.fromkeys((*RELAXATIONS, *METHODS)))
    if ALL in names:
        return every
    wrong = [name for name in names if name not in every]
    if wrong or not names:
        given = f"the relaxation {wrong[0]!r} does not exist" if wrong else "no relaxations were given"
        raise UsageError(f"{given}; choose of {', '.join(every)}, or {ALL}")
    return tuple(dict.fromkeys(names))
