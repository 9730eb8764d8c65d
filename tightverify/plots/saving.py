"""Pictures as files: PNG, PDF or SVG, the same bytes for the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tightverify.errors import UsageError
from tightverify.plots.style import mpl, rules, whole
from tightverify.writing import FORMATS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save(picture: Axes | Figure | Sequence[Axes], path: str | Path) -> Path:
    """Write a picture, given as its axes, some of them or the figure: .png, .pdf or .svg, replaced if it is there."""
    path = Path(path)
    if path.suffix.lower().lstrip(".") not in FORMATS:
        wanted = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"{path} names no kind of picture that is drawn here; give a name that ends in one of {wanted}")
    first = picture[0] if isinstance(picture, Sequence) else picture
    drawn: Figure = first if isinstance(first, mpl().figure.Figure) else whole(first)  # type: ignore[arg-type]
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix.lower())
    try:
        with mpl().rc_context(rules(drawn.get_size_inches()[0])):
            drawn.savefig(path, metadata=undated)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a folder that can be") from error
    return path
