"""The experiments' own pictures, in the product's style: seconds against frames, decided inputs against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from tightverify.plots.names import CYCLE
from tightverify.plots.saving import save
from tightverify.plots.style import drawing, logarithmic
from tightverify.plots.words import legend, title


def growth(frames: Sequence[int], curves: Mapping[str, Sequence[float]], unit: str, detail: str, path: Path) -> None:
    """Seconds against frames, both as logarithms: a line for each kind of network."""
    with drawing(None) as axes:
        for look, (label, seconds) in zip(CYCLE, curves.items(), strict=False):
            axes.loglog(frames, seconds, color=look.colour, marker=look.marker, linestyle=look.line, label=label)
        for which in ("x", "y"):
            logarithmic(axes, which)
        axes.set_xticks(frames, [str(number) for number in frames])
        axes.set(xlabel="frames", ylabel=unit)
        title(axes, "Seconds against frames", detail)
        legend(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    click.echo(f"picture: {save(axes, path)}")


def decided(curves: Mapping[str, Sequence[float]], detail: str, path: Path) -> None:
    """How many inputs are decided within so many seconds each, a line for each network and radius."""
    with drawing(None) as axes:
        for look, (label, seconds) in zip(CYCLE, curves.items(), strict=False):
            heights = range(1, len(seconds) + 1)
            axes.step(sorted(seconds), heights, where="post", color=look.colour, linestyle=look.line, label=label)
        axes.set_xscale("log")
        logarithmic(axes, "x")
        axes.set(xlabel="seconds per input", ylabel="inputs decided")
        title(axes, "Decided inputs against time", detail)
        legend(axes)
    click.echo(f"picture: {save(axes, path)}")
