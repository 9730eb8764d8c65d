"""Proved offsets hold and lose little; derivatives and ranges that the proofs stand on; proofs broken on purpose are caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb_series
from torch import Tensor

from tests.helpers import exact
from tests.helpers.plane_checks import (
    FACTORS,
    PAIRS,
    boxes_of,
    domain,
    every_function,
    every_span,
    full,
    octagons,
    polygons_of,
    proved,
    question,
    rounding_of,
    sides,
    violations,
)
from tightverify.api.planes import planes
from tightverify.relax import curves, ranges
from tightverify.relax.fitted import family, fit, offsets, rectangles
from tightverify.relax.fitted.family import KINDS
from tightverify.relax.fitted.offsets import proved_offset
from tightverify.relax.fitted.pieces import Question
from tightverify.relax.polygons import Polygons
from tightverify.values import FUNCTION_ERROR


@pytest.mark.covering
@every_span
@every_function
def test_proved_offsets_hold_and_lose_little(name: str, span: str) -> None:
    boxes = boxes_of(name, span, 4, seed=11)
    shapes = [polygons_of(name, boxes)]
    if name in PAIRS:
        shapes.append(Polygons.within(boxes, *octagons(boxes)))
    for polygons, sign in product(shapes, (1, -1)):
        asked = question(name, polygons, sign)
        first, second = FACTORS[name]
        corners = polygons.vertices.numpy()
        most = torch.from_numpy(np.abs(first(corners[..., 0]) * second(corners[..., 1])).max(1).astype(float))
        slack = 0.5e-9 * (1 + most)
        faults, loose = proved(name, asked, slack)
        assert not faults
        assert (torch.from_numpy(loose.astype(float)) <= torch.maximum(2 * slack, rounding_of(asked))).all()


def test_steep_slopes_over_a_thin_box_end_soon() -> None:
    """What rounding costs such a plane is more than the slack asked for: halving its pieces would never end."""
    boxes = torch.tensor([[-2.8, -2.3, -0.48, -0.48 + 1e-12], [-3.4, -3.4, -11.0, -11.0 + 1e-12]], dtype=torch.float64)
    asked = question("sigmoid_tanh", Polygons.of_boxes(boxes), 1)
    steep = Question(asked.first, asked.second, asked.sign, asked.slopes + 1e9, asked.anchors, asked.polygons)
    assert not proved("sigmoid_tanh", steep, torch.full((2,), 1e-9, dtype=torch.float64))[0]
    lower, upper = sides(KINDS["r2"](domain("sigmoid_tanh", asked.polygons)))
    assert not violations("sigmoid_tanh", lower[:, 0], upper[:, 0], asked.polygons.vertices)


SMOOTH: dict[str, tuple[curves.Symmetric, Callable[[Any], Any]]] = {
    "sigmoid": (curves.Sigmoid(), exact.sigmoid),
    "tanh": (curves.Tanh(), exact.tanh),
}


SPOTS = [0.0, 1e-30, 1e-9, 0.3, 0.6584, 1.0, 1.31696, 2.5, 7.0, 19.0, 36.0, 90.0, 200.0, 340.0]


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_are_as_exact_as_they_say(name: str) -> None:
    curve, truth = SMOOTH[name]
    for x in SPOTS + [-x for x in SPOTS]:
        series = truth(arb_series([exact.ball(x), 1], 3))
        at = torch.tensor([x], dtype=torch.float64)
        value, first, second = (exact.ball(float(part)) for part in vars(ranges.jet(curve, at)).values())
        allowed = FUNCTION_ERROR / 4 * abs(series[1]) + 1e-300
        assert abs(first - series[1]) <= allowed
        assert abs(second - 2 * series[2]) <= allowed
        true_curl = 2 * series[0] * series[2] / series[1] ** 2
        assert abs(exact.ball(float(curve.curl(at))) - true_curl) <= FUNCTION_ERROR * (1 + abs(true_curl))
        assert abs(value - series[0]) <= FUNCTION_ERROR / 4 * abs(series[0])


@pytest.mark.parametrize("name", SMOOTH)
def test_curls_go_one_way_on_either_side_of_zero(name: str) -> None:
    curve = SMOOTH[name][0]
    x = torch.linspace(0, 40, 4001, dtype=torch.float64)
    for part in (curve.curl(x), curve.curl(-x)):
        steps = part.diff()
        slack = 1e-13 * (1 + part[1:].abs())
        assert (steps <= slack).all() or (steps >= -slack).all()


@every_span
@pytest.mark.parametrize("curve", [curves.Sigmoid(), curves.Tanh(), curves.Identity(), curves.One()], ids=lambda c: repr(c))
def test_ranges_hold_samples(curve: curves.Symmetric, span: str) -> None:
    low, high = boxes_of("tanh", span, 200, seed=41).unbind(1)
    found = ranges.jet_range(curve, high, low, ranges.jet(curve, high), ranges.jet(curve, low))
    share = torch.linspace(0, 1, 401, dtype=torch.float64)[:, None]
    inside = torch.minimum(torch.maximum(low + share * (high - low), low), high)
    for kept, sampled in zip(vars(found).values(), vars(ranges.jet(curve, inside)).values(), strict=True):
        assert ((kept.low <= sampled) & (sampled <= kept.high)).all()
    product_of = found.value * found.first
    both = [(found.value, curve.value(inside)), (found.first, curve.derivative(inside))]
    (one_range, one_sample), (other_range, other_sample) = both
    noise = 1e-15 * (1 + product_of.size)
    assert (product_of.low - noise <= one_sample * other_sample).all()
    assert (one_sample * other_sample <= product_of.high + noise).all()
    total, turned = one_range + other_range, one_range.scaled(-torch.ones_like(low)).plus(low)
    assert ((total.low - noise <= one_sample + other_sample) & (one_sample + other_sample <= total.high + noise)).all()
    assert ((turned.low - noise <= low - one_sample) & (low - one_sample <= turned.high + noise + 1e-14 * low.abs())).all()


@pytest.mark.parametrize("curve", [curves.Sigmoid(), curves.Tanh()], ids=lambda c: repr(c))
def test_ranges_are_the_same_with_any_default_dtype(curve: curves.Symmetric) -> None:
    """A curve's own numbers are rounded to none: the sharpest bend of tanh is 0.7695 in bfloat16, and 0.7698 in truth."""
    low, high = torch.tensor([-3.0], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)
    before = torch.get_default_dtype()
    for dtype in (before, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            found = ranges.jet_range(curve, low, high, ranges.jet(curve, low), ranges.jet(curve, high))
        finally:
            torch.set_default_dtype(before)
        for kept, exact_one in ((found.first.high, curve.steepest), (found.second.high, curve.sharpest)):
            assert exact_one <= float(kept) <= exact_one + 2 * FUNCTION_ERROR
        assert torch.equal(found.second.low, -found.second.high)


def unsound(count: int = 8) -> Iterator[str]:
    """The faults of planes of every kind of box, fitted and with random slopes."""
    for name, span in (("sigmoid_tanh", "ordinary"), ("sigmoid_tanh", "zero"), ("tanh_times", "zero"), ("sigmoid", "zero")):
        boxes = boxes_of(name, span, count, seed=43)
        polygons = polygons_of(name, boxes)
        shapes = [polygons, Polygons.within(boxes, *octagons(boxes))] if name in PAIRS else [polygons]
        for sign, shape in product((1, -1), shapes):
            yield from proved(name, question(name, shape, sign), torch.full((count,), 1e-9, dtype=torch.float64))[0]
        fitted = planes(name, boxes, solver="batched")
        yield from violations(name, full(fitted.lower), full(fitted.upper), polygons.vertices)


def test_the_checks_find_nothing_as_it_is() -> None:
    assert not list(unsound())


ALONG, INSIDE, TOP, CURL, RANGES = (
    offsets.along_edges,
    rectangles.inside,
    rectangles.may_hold_top,
    rectangles.curl_range,
    offsets.jet_range,  # type: ignore[attr-defined]
)


def no_rise_on_edges(asked: Question, pieces: offsets.Pieces) -> tuple[Tensor, Tensor, Tensor]:
    """Only what the function is in the middle of a piece."""
    line = offsets.Line(asked, pieces.owner, pieces.start, pieces.along)
    height = line.height(line.at((pieces.left + pieces.right) / 2))
    return height, *ALONG(asked, pieces)[1:]


def no_rise_inside(asked: Question, owner: Tensor, cells: Tensor, over: rectangles.CellRanges) -> tuple[Tensor, Tensor, Tensor]:
    """Only what the function is at a corner of a cell."""
    low = INSIDE(asked, owner, cells[:, [0, 0, 2, 2]], over)
    return low[2], low[1], low[2]


def without_the_top(*given: Any) -> ranges.JetRange:
    """The derivative's range from the ends alone."""
    at_one, at_other = given[3:]
    found = RANGES(*given)
    least, most = torch.minimum(at_one.second, at_other.second), torch.maximum(at_one.second, at_other.second)
    return ranges.JetRange(found.value, found.first, ranges.Range(0.3 * least, 0.3 * most))


def at_the_steepest(*given: Any) -> ranges.JetRange:
    """The derivative's largest value alone."""
    found = RANGES(*given)
    return ranges.JetRange(found.value, ranges.Range(found.first.high, found.first.high), found.second)


def turned_question(asked: Question, slack: Tensor, level: Tensor | None = None) -> offsets.Answer:
    """Planes above the function for planes below it."""
    other = Question(asked.first, asked.second, -asked.sign, asked.slopes, asked.anchors, asked.polygons)
    return proved_offset(other, slack, level)


def one_edge_less(asked: Question, slack: Tensor, level: Tensor | None = None) -> offsets.Answer:
    corners = asked.polygons.vertices[:, [0, 1, 1, 0]]
    return proved_offset(
        Question(asked.first, asked.second, asked.sign, asked.slopes, asked.anchors, Polygons(corners)), slack, level
    )


MUTATIONS: dict[str, tuple[object, str, object]] = {
    "no rise on the edges": (offsets, "along_edges", no_rise_on_edges),
    "no top inside": (rectangles, "may_hold_top", lambda *given: torch.zeros_like(TOP(*given))),
    "no rise inside": (rectangles, "inside", no_rise_inside),
    "the curls forgotten": (rectangles, "curl_range", lambda *given: CURL(*given).scaled(torch.zeros(1, dtype=torch.float64))),
    "cells taken for outside": (rectangles.Borders, "beyond", lambda *given: torch.ones(len(given[-1]), dtype=torch.bool)),
    "the second derivative": (offsets, "jet_range", without_the_top),
    "the derivative inside": (rectangles, "jet_range", at_the_steepest),
    "the other side": (fit, "proved_offset", turned_question),
    "edges forgotten": (fit, "proved_offset", one_edge_less),
    "offsets a little low": (family, "above", lambda value, _: value - 1e-10),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_broken_proofs_are_caught(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, broken = MUTATIONS[mutation]
    monkeypatch.setattr(where, name, broken)
    assert next(unsound(), None) is not None
