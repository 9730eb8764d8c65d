"""What a search for radii tells while it goes on."""

from __future__ import annotations

import tightverify as tv
from tests.radius.test_radius import flat_linear, inputs


def test_every_size_that_was_tried_is_told() -> None:
    steps: list[tv.RadiusStep] = []
    x = inputs(2)
    found = tv.radius(flat_linear(), x, per="frame", method="combine", callback=steps.append)
    assert {(step.index, step.part) for step in steps} == {(k, part) for k in range(2) for part in found[0].parts}
    assert {"linear", "attack"} <= {step.method for step in steps} <= {"linear", "attack", "combine"}
    for k, each in enumerate(found):
        for part, (_, proved, refuted, _) in zip(each.parts, each.lines, strict=True):
            mine = [step for step in steps if (step.index, step.part) == (k, part)]
            assert [step.proved for step in mine] == sorted(step.proved for step in mine)
            assert [step.refuted for step in mine] == sorted((step.refuted for step in mine), reverse=True)
            assert [step.seconds for step in mine] == sorted(step.seconds for step in mine)
            assert (mine[-1].proved, mine[-1].refuted) == (proved, refuted)
            assert all(step.tried > 0 for step in mine)
