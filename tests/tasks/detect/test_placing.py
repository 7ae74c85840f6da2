"""Detections go back to the picture that they were found on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fleetfoot.data.placement import Placement
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.detect.placing import in_picture

# a picture of 100 x 50 at half its size, 7 pixels below the top of an input of 64 x 64
PLACED = Placement(height=50, width=100, scale=(0.5, 0.5), offset=(0.0, 7.0))


def found(boxes: np.ndarray, masks: torch.Tensor | None = None) -> Detections:
    count = len(boxes)
    return Detections(
        boxes=torch.from_numpy(boxes), scores=torch.linspace(0.9, 0.1, count),
        classes=torch.arange(count), masks=masks,
    )  # fmt: skip


def test_boxes_return_to_where_they_were():
    boxes = np.array([[0.0, 0, 100, 50], [10, 20, 30, 44], [99, 49, 100, 50]])
    answer = in_picture(found(PLACED.to_input(boxes)), PLACED)
    np.testing.assert_allclose(answer.boxes.numpy(), boxes, atol=1e-12)
    assert answer.classes.tolist() == [0, 1, 2]


def test_what_lies_in_the_border_is_cut_and_left_out():
    boxes = np.array([[0.0, 0, 50, 7], [10, 2, 20, 12], [0, 40, 50, 64]])
    answer = in_picture(found(boxes), PLACED)
    assert answer.classes.tolist() == [1]
    assert answer.boxes.tolist() == [[20, 0, 40, 10]]
    assert answer.scores.tolist() == pytest.approx([0.5])


def test_what_is_not_finite_is_kept_for_the_meter_to_count():
    answer = in_picture(found(np.array([[0.0, np.nan, 5, 9]])), PLACED)
    assert len(answer) == 1


def test_masks_have_the_pictures_pixels():
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 7 : 7 + 25, :50] = True  # the whole picture
    masks[1, 10:12, 4:6] = True  # two by two pixels of the input are four by four of the picture
    answer = in_picture(found(np.array([[0.0, 7, 50, 32], [4, 10, 6, 12]]), masks), PLACED)
    assert answer.masks.shape == (2, 50, 100)
    assert answer.masks[0].all()
    expected = torch.zeros(50, 100, dtype=torch.bool)
    expected[6:10, 8:12] = True
    assert torch.equal(answer.masks[1], expected)


def test_masks_over_boxes_are_drawn_at_the_pictures_size():
    soft = torch.zeros(3, 28, 28)
    soft[0, :, :14] = 1  # the left half of its box
    soft[1:] = 1
    boxes = np.array([[0.0, 7, 40, 27], [40, 20, 60, 40], [0, np.nan, 5, 9]])
    answer = in_picture(replace(found(boxes), soft_masks=soft), PLACED)
    assert answer.masks.shape == (3, 50, 100)
    assert answer.soft_masks is None
    left = answer.masks[0]  # its box is 80 x 40 in the picture; a cell of the grid is 3 wide
    assert left[2:38, 3:38].all()
    assert not left[:, 43:].any()
    # the second box goes beyond the picture on both sides: its mask fills what is left of it
    assert answer.masks[1][28:, 82:].all()
    assert not answer.masks[1][:24].any()


def test_detections_of_nothing():
    assert len(in_picture(found(np.zeros((0, 4))), PLACED)) == 0


def test_soft_masks_are_drawn_at_the_pictures_size():
    """A grid of four: the left half of the box is the object's. Half of the box lies outside."""
    soft = torch.zeros(1, 4, 4)
    soft[0, :, :2] = 1
    boxes = torch.tensor([[30.0, 7, 70, 32]], dtype=torch.float64)  # to x = 140 in the picture
    given = Detections(boxes=boxes, scores=torch.ones(1), classes=torch.zeros(1).long(),
                       masks=torch.zeros(1, 64, 64, dtype=torch.bool), soft_masks=soft)  # fmt: skip
    answer = in_picture(given, PLACED)
    assert answer.soft_masks is None
    assert answer.masks.shape == (1, 50, 100)
    assert answer.boxes.tolist() == [[60, 0, 100, 50]]
    columns = answer.masks[0].float().mean(0)
    # the middle of the uncut box is at 100: a pixel of the grid is 20 wide, and its edge is soft
    assert columns[:60].sum() == 0
    assert columns[66:94].min() > 0.8
