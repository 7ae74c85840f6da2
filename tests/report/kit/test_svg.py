"""The figures of an axis have room, and every network of the front has its name."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fleetfoot.report.kit.labels import Box
from fleetfoot.report.kit.style import Look, short
from fleetfoot.report.kit.svg import Scale, axes, top1_against_latency
from fleetfoot.report.summary import pareto
from records import joined


@pytest.mark.parametrize("width", [350, 420, 680])
@pytest.mark.parametrize("span", [(0.03, 400), (0.1, 30), (90, 50_000), (0.8, 1.3)])
@pytest.mark.parametrize("log", [True, False])
def test_the_figures_of_an_axis_do_not_overlap(width, span, log):
    area = Box(44, 26, width - 14, 358)
    x = Scale(*span, area.x0, area.x1, log=log)
    y = Scale(1, 100, area.y1, area.y0, log=True)
    ticks = [
        (float(part.get("x")), 0.56 * 11 * len(part.text))
        for part in axes(x, y, area, "x", "y")
        if part.get("class") == "tick middle"
    ]
    assert ticks
    for (left, one), (right, other) in pairwise(ticks):
        assert right - left >= (one + other) / 2


@pytest.mark.parametrize("narrow", [False, True])
def test_every_network_of_the_front_is_named_among_a_hundred(narrow):
    front = [
        joined(
            [ms / 1e3 * (1 + 0.001 * i) for i in range(9)], model=f"timm:front_network_{i}",
            top1=70.0 + i, engine="native",
        )
        for i, ms in enumerate((5, 5.5, 6, 6.6, 7.2, 8, 9, 10))
    ]  # fmt: skip
    crowd = [
        joined(
            [(5.2 + 0.06 * i) / 1e3] * 9, model=f"crowded_network_{i}", top1=66.0 + 0.03 * i,
            engine="native",
        )
        for i in range(92)
    ]  # fmt: skip
    rows = [*front, *crowd]
    assert pareto(rows) == front
    ids = [f"r{i}" for i in range(len(rows))]
    picture = top1_against_latency(rows, ids, Look.of(rows), narrow=narrow)
    named = {text.text for text in picture.iter("text")}
    assert {short(m.model) for m in front} <= named
