"""By how much two networks differ: of each output what is proved and what was found, and where in the network it arises."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tightverify.api.differences import Differences
from tightverify.errors import UsageError
from tightverify.plots.bounded import COLUMNS, LETTERS, key, limits
from tightverify.plots.names import BLUE, VERMILLION, Look
from tightverify.plots.style import drawing, logarithmic, mpl, panels, whole
from tightverify.plots.words import legend, over_title, title
from tightverify.tightness.differences import PlaceDifferences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROVED, FOUND = Look(BLUE, "_", "none"), Look(VERMILLION, "o", "none")
WIDER = 2.0
"""The line at what is proved is so much wider than a point: both are seen where they meet."""
SHARE = 0.7
"""Of the room between two second networks, what the outputs of one take."""


def differences(found: Mapping[str, Differences], axes: Axes | None = None) -> Axes:
    """Of each second network and each output, the largest difference that was found on any input and the largest proved.

    Networks stand beside one another in the order given, by how they were made (int8, float16); of each the outputs from left
    to right.
    """
    largest = {name: (most(each, "found"), most(each, "bound")) for name, each in found.items()}
    if not largest or not any(bool(torch.isfinite(bound).any()) for _, bound in largest.values()):
        raise UsageError("there are no bounds on differences to draw; give results of differ without agree and rows")
    with drawing(axes) as drawn:
        for place, (least, bound) in enumerate(largest.values()):
            share = (torch.arange(len(bound), dtype=torch.float64) + 0.5) / len(bound) - 0.5
            across = place + SHARE * share
            there = torch.isfinite(bound) & (bound > 0)
            seen = there & (least > 0)
            drawn.vlines(across[seen], least[seen], bound[seen], colors="#BBBBBB", linewidth=1.0, zorder=1)
            size = mpl().rcParams["lines.markersize"]
            for look, values, which, wide in ((PROVED, bound, there, WIDER * size), (FOUND, least, seen, 0.7 * size)):
                style = {"color": look.colour, "marker": look.marker, "markersize": wide, "linestyle": look.line}
                drawn.plot(across[which], values[which], markeredgewidth=1.5, **style)
        every = [float(value) for pair in largest.values() for values in pair for value in values]
        drawn.set_ylim(limits(every, log=True) or (0.1, 1.0))
        logarithmic(drawn, "y")
        drawn.set_xticks(range(len(largest)), [textwrap.fill(short(name), 12) for name in largest])
        drawn.grid(visible=False, axis="x")
        drawn.set(xlabel="second network; outputs from left to right", ylabel="largest |difference|")
        drawn.set_xlim(-0.6, len(largest) - 0.4)
        title(drawn, "By how much outputs differ", about(found))
        legend(drawn, [key(PROVED, "proved"), key(FOUND, "found")])
    return drawn


def most(found: Differences, what: str) -> Tensor:
    """(K,): the largest of all inputs."""
    return torch.stack([getattr(result, what) for result in found]).amax(0)


def short(name: str) -> str:
    return Path(name).name


def about(found: Mapping[str, Differences]) -> str:
    """What all have in common."""
    methods = {each.method for each in found.values()}
    counts = {len(each) for each in found.values()}
    words = [f"method {methods.pop()}" if len(methods) == 1 else "", f"{counts.pop()} inputs" if len(counts) == 1 else ""]
    return " · ".join(filter(None, words))


def place_differences(found: PlaceDifferences, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """What is proved of the difference at every place, in parts of how wide neurons are there: axes for each layer and role."""
    roles = found.by_role()
    if not roles:
        raise UsageError("these networks have no neurons that operations read: nothing is to be seen of where they differ")
    rows = -(-len(roles) // COLUMNS) if axes is None else 1
    columns = -(-len(roles) // rows)
    values = [place.relative for place in found.places]
    ends = limits(values, log=True) or (0.1, 1.0)
    with panels(axes, rows, columns, (max(7.2, 2.6 * columns + 1.6), 2.3 * rows + 1.0), sharey=True) as several:
        for number, (panel, ((layer, role), places)) in enumerate(zip(several, roles.items(), strict=False)):
            there = [place for place in places if place.relative > 0]
            panel.set_ylim(*ends)
            logarithmic(panel, "y")
            panel.plot([p.frame for p in there], [p.relative for p in there], color=BLUE, marker="o")
            last = max(place.frame for place in found.places)
            panel.set_xlim(-0.5, last + 0.5)
            panel.xaxis.set_major_locator(mpl().ticker.MaxNLocator(min(5, last + 1), integer=True))
            panel.set_title(textwrap.fill(f"layer {layer}: {role}", LETTERS), loc="left")
            panel.set_xlabel("frame")
            panel.set_ylabel("|difference| / width" if number % columns == 0 else "")
        for panel in several[len(roles) :]:
            panel.set_visible(False)
        if axes is None:
            words = " · ".join([found.models, found.region, f"method {found.method}", f"{found.inputs} inputs"])
            over_title(whole(several[0]), "Where the networks' difference arises", words)
    return several[: len(roles)]
