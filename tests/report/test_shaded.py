"""Words shaded by their radii, for terminals and as a page."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tightverify.errors import UsageError
from tightverify.radius.records import About, Radii, Radius
from tightverify.report.shaded import colour, lines, page, save, shades


def radii(*proved: float, words: tuple[str, ...] = ("not", "<so>", "good")) -> Radii:
    found = torch.tensor(proved, dtype=torch.float64)
    right = Radius(3, 1, found, found + 1, (None,) * 3, found, parts=(0, 1, 2), words=words)
    wrong = Radius(4, 1, 0.0, 0.0, None, 0.0, misclassified=True, words=words)
    return Radii([right, wrong], About("folder/m.onnx", "L2 ball", "", "linear", "word"))


def test_the_least_radius_is_the_darkest() -> None:
    assert shades([0.5, 0.1, 0.3]) == pytest.approx([0.0, 1.0, 0.5])
    assert shades([0.2, 0.2]) == shades([math.inf, 0.2]) == [0.0, 0.0]
    assert shades([]) == []
    assert (colour(0.0), colour(1.0)) == ("#ffffff", "#d55e00")


def test_a_line_for_each_sentence_that_has_radii() -> None:
    (line,) = lines(radii(0.5, 0.1, 0.3))
    assert line.plain == "3:  not  <so>  good "
    assert [str(span.style) for span in line.spans] == ["black on #ffffff", "black on #d55e00", f"black on {colour(0.5)}"]
    assert lines(radii(0.5, 0.1, 0.3, words=())) == []


def test_a_page_says_each_radius(tmp_path: Path) -> None:
    path = save(radii(0.5, 0.12345, 0.3), tmp_path / "new")
    text = path.read_text()
    assert text == page(radii(0.5, 0.12345, 0.3))
    assert '<span style="background:#d55e00" title="proved 0.1234">&lt;so&gt;</span>' in text
    assert "m.onnx" in text
    assert text.count("<span") == 3
    with pytest.raises(UsageError, match="give"):
        save(radii(0.5, 0.1, 0.3), path)
