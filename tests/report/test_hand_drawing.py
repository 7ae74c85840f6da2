"""Hands drawn over pictures: where the mesh and the skeleton come to lie."""

from __future__ import annotations

import numpy as np
import pytest

from fleetfoot.data.hands.scenes import Drawing
from fleetfoot.report.hand_drawing import FINGERS, placed, with_mesh, with_skeleton
from fleetfoot.tasks.hand.parametric import parametric_hand

SIZE = 120


def test_positions_lie_where_scale_and_shift_bring_the_joints():
    rng = np.random.default_rng(0)
    joints, vertices = rng.normal(0, 0.05, (21, 3)), rng.normal(0, 0.05, (40, 3))
    points = 700 * joints[:, :2] + [30, 50]
    assert np.allclose(placed(vertices, joints, points), 700 * vertices[:, :2] + [30, 50])


@pytest.mark.parametrize("index", range(3))
def test_the_mesh_covers_the_hand(index):
    drawing = Drawing("val", 3, 0, SIZE)
    hand, pixels = drawing.hand(index), drawing.pixels(index)
    faces, wrist = parametric_hand().faces, hand.joints[0]
    drawn = with_mesh(pixels, hand.vertices - wrist, faces, hand.joints - wrist, hand.points)
    again = with_mesh(
        np.zeros_like(pixels), hand.vertices - wrist, faces, hand.joints - wrist, hand.points
    )
    covered = again.max(2) > 0
    assert np.array_equal(drawn[~covered], pixels[~covered])
    x, y = hand.points.astype(int).T
    assert covered[y, x].mean() > 0.9  # the joints lie within it, but for perspective
    # blue, as the mesh is, and darker where it faces away
    assert (again[covered][:, 2] >= again[covered][:, 0]).all()


def test_each_finger_is_drawn_in_its_colour():
    points = np.zeros((21, 2))
    points[0] = (60, 110)
    for finger in range(5):
        points[1 + 4 * finger : 5 + 4 * finger, 0] = 20 + 20 * finger
        points[1 + 4 * finger : 5 + 4 * finger, 1] = (80, 60, 40, 20)
    drawn = with_skeleton(np.zeros((SIZE, SIZE, 3), np.uint8), points).astype(int)
    for finger, colour in enumerate(FINGERS):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        for y in (50, 20):  # on the line, which is thin and so mixed with black; on the tip
            seen = drawn[y, 20 + 20 * finger]
            assert seen.max() > 0.6 * wanted.max()
            assert np.allclose(seen / seen.max(), wanted / wanted.max(), atol=0.03)
    assert drawn[110, 60].min() > 150
    assert not drawn[5].any()
