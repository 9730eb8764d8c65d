"""What a drawn picture has to keep to: no text over another or cut off, words where they are due, legends beside their axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tightverify.plots import save

TOUCHING = 0.5
"""So many dots may two boxes share: letters do not fill theirs."""


def whole(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def drawn(figure: Figure) -> Any:
    """The renderer, once it was drawn as in a file."""
    with TemporaryDirectory() as folder:
        save(figure, Path(folder) / "drawn.png")
    return FigureCanvasAgg(figure).get_renderer()


def texts(figure: Figure) -> Iterator[Text]:
    """All that is there to be read: titles, notes, labels, numbers at ticks that are in sight, legends."""
    yield from figure.texts
    if figure._suptitle is not None and figure._suptitle not in figure.texts:  # type: ignore[attr-defined]
        yield figure._suptitle  # type: ignore[attr-defined]
    for axes in figure.axes:
        yield from (axes.title, axes._left_title, axes._right_title, *axes.texts)  # type: ignore[attr-defined]
        for axis in (getattr(axes, f"{name}axis") for name in "xyz" if hasattr(axes, f"{name}axis")):
            low, high = sorted(axis.get_view_interval())
            yield axis.label
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if low <= tick.get_loc() <= high:
                    yield from (tick.label1, tick.label2)
        legend = axes.get_legend()
        if legend is not None:
            yield from (legend.get_title(), *legend.get_texts())


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Each text that is shown, and where."""
    renderer = drawn(figure)
    shown = [text for text in texts(figure) if text.get_visible() and text.get_text().strip()]
    shown = [text for text in shown if text.axes is None or text.axes.axison or text in text.axes.texts]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown]


def share_of(one: Bbox, other: Bbox) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > TOUCHING and high > TOUCHING


def assert_readable(axes: Axes) -> None:
    """No text over another, none over the picture's edge, every legend beside its axes and over no text."""
    figure = whole(axes)
    found = boxes(figure)
    frame = figure.bbox
    for text, box in found:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= frame.x1 + 1 and box.y1 <= frame.y1 + 1
        assert inside, f"{text!r} leaves the picture: {box} of {frame}"
    for (first, one), (second, other) in combinations(found, 2):
        assert not share_of(one, other), f"{first!r} and {second!r} lie on one another"
    for each in figure.axes:
        legend = each.get_legend()
        if legend is not None:
            assert not share_of(legend.get_window_extent(), each.get_window_extent()), "the legend is over its axes"


def assert_labelled(*several: Axes) -> None:
    """Both axes say what they are of, and something says what is shown."""
    for axes in several:
        shown = [axes.xaxis, axes.yaxis]
        assert all(axis.label.get_text() for axis in shown)


def colours(axes: Axes) -> dict[str, str]:
    """What colour each entry of a legend has, by its words."""
    legend = axes.get_legend()
    assert legend is not None
    handles = zip(legend.get_texts(), legend.legend_handles, strict=True)
    return {text.get_text(): colour_of(handle) for text, handle in handles}


def colour_of(handle: Any) -> str:
    from matplotlib.colors import to_hex

    colour = handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor()
    return to_hex(colour).upper()
