"""Colours and ticks hold for any record."""

from __future__ import annotations

import pytest

from colours import contrast
from fleetfoot.report.kit.style import _OTHERS, SHAPES, Look, log_ticks, shape
from fleetfoot.report.kit.style import colour as colour_of
from fleetfoot.report.summary import OWN, PEERS, family
from records import joined, joined_record


def test_every_colour_stands_out_from_its_page():
    rows = [joined(model=f"timm:{name}_x") for name in ("a", "b", "c", "d")] + joined_record()
    for colour in Look.of(rows).colours.values():
        # 3:1 is what WCAG 2.1 asks of graphics; the pages are the cards of page.css
        assert contrast(colour.light, "#ffffff") >= 3
        assert contrast(colour.dark, "#191c21") >= 3


def test_every_colour_of_a_family_without_its_own_stands_out_too():
    for one in _OTHERS:
        assert contrast(one.light, "#ffffff") >= 3
        assert contrast(one.dark, "#191c21") >= 3


def test_a_family_and_an_engine_look_the_same_in_every_record():
    whole = Look.of(joined_record())
    for name in whole.colours:
        rows = [m for m in joined_record() if name == family(m.model)]
        assert Look.of(rows).colours == {name: whole.colours[name]}
    for name in whole.shapes:
        rows = [m for m in joined_record() if name == m.engine]
        assert Look.of(rows).shapes == {name: whole.shapes[name]}
    assert colour_of("starnet") == Look.of([joined(model="timm:starnet_s1")]).colours["starnet"]


def test_no_two_engines_share_a_mark():
    engines = {OWN, *PEERS, "eager", "compiled", "somebody's own"}
    assert len({shape(engine) for engine in engines}) == len(engines) == len(SHAPES)


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


@pytest.mark.parametrize("most", [2, 3, 5, 8])
def test_ticks_are_no_more_than_there_is_room_for(most):
    for low, high in ((0.04, 210), (1, 20_000), (130, 350)):
        found = log_ticks(low, high, most)
        assert 1 <= len(found) <= most
        assert all(low <= value <= high for value in found)
