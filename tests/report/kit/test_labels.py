"""Names in a picture: none covers another, none covers a mark, none leaves the frame."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.report.kit.labels import Box, anchor, place

FRAME = Box(0, 0, 500, 400)


@pytest.mark.parametrize("seed", range(5))
def test_no_two_names_overlap_and_no_name_covers_a_mark(seed):
    points = list(np.random.default_rng(seed).uniform((20, 20), (480, 380), (25, 2)))
    boxes = place(points, [(70, 12)] * 25, FRAME, radius=6)
    shown = [box for box in boxes if box]
    assert len(shown) >= 20  # a few may find no room; most do
    assert not any(a.overlaps(b) for i, a in enumerate(shown) for b in shown[:i])
    assert all(box.within(FRAME) for box in shown)
    for box in shown:
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in points)


def test_a_lone_name_stands_to_the_right_of_its_mark():
    (box,) = place([(100, 100)], [(50, 10)], FRAME, radius=6)
    assert box == Box(106, 95, 156, 105)


def test_a_name_at_the_edge_stays_inside():
    (box,) = place([(495, 100)], [(50, 10)], FRAME, radius=6)
    assert box.x1 <= 489


def test_a_name_without_room_is_left_out_rather_than_printed_over_another():
    assert place([(25, 10)] * 2, [(50, 10)] * 2, Box(0, 0, 50, 32), radius=5).count(None) == 1


def test_a_leader_ends_at_the_nearest_edge_of_the_name():
    assert anchor((0, 0), Box(10, -5, 60, 5)) == (10, 0)
    assert anchor((20, 0), Box(10, -5, 60, 5)) == (20, 0)


def test_names_that_must_be_there_are_however_crowded_it_is():
    points = list(np.random.default_rng(1).uniform((200, 180), (300, 220), (40, 2)))
    sizes = [(90, 12)] * 40
    without = place(points, sizes, FRAME, radius=6)
    must = [i for i, box in enumerate(without) if box is None][:6]
    assert len(must) == 6
    boxes = place(points, sizes, FRAME, radius=6, must=must)
    assert all(boxes[i] for i in must)
    shown = [box for box in boxes if box]
    assert not any(a.overlaps(b) for i, a in enumerate(shown) for b in shown[:i])


def test_a_name_that_must_be_there_covers_a_mark_before_it_is_left_out():
    # no place beside the first mark is free of the second one
    points, frame = [(25, 16), (40, 8)], Box(0, 0, 50, 24)
    assert place(points, [(50, 10)], frame, radius=5) == [None]
    assert place(points, [(50, 10)], frame, radius=5, must=[0]) != [None]
