"""Colours and ticks hold for any record."""

from __future__ import annotations

import pytest

from colours import contrast
from fleetfoot.report.kit.style import Look, log_ticks
from records import measurement, record


def test_every_colour_stands_out_from_its_page():
    rows = [measurement(model=f"timm:{name}_x") for name in ("a", "b", "c", "d")] + record()
    for colour in Look.of(rows).colours.values():
        # 3:1 is what WCAG 2.1 asks of graphics; the pages are the cards of page.css
        assert contrast(colour.light, "#ffffff") >= 3
        assert contrast(colour.dark, "#191c21") >= 3


def test_the_zoos_families_look_the_same_in_every_record():
    whole, part = Look.of(record()), Look.of(record()[:3])
    assert part.colours["FasterNet"] == whole.colours["FasterNet"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (4.0, 210, [5, 10, 20, 50, 100, 200]),
        (130, 350, [150, 200, 300]),
        (0.9, 1.1, [1]),
    ],
)
def test_ticks_are_round_and_there_are_three_where_the_axis_allows(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)
