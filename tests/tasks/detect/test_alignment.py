"""Task-aligned assignment against cases counted by hand."""

from __future__ import annotations

import torch

from fleetfoot.tasks.detect.alignment import align

POINTS = torch.tensor([[4.0, 4.0], [12.0, 4.0], [4.0, 12.0], [12.0, 12.0]])
"""Centres of a map of 2 × 2 cells at stride 8."""

WHOLE = [0.0, 0.0, 16.0, 16.0]


def test_the_best_points_by_score_and_overlap_get_the_object():
    scores = torch.tensor([[0.9, 0.5], [0.9, 0.5], [0.9, 0.25], [0.9, 0.1]])
    boxes = torch.tensor([WHOLE, [0, 0, 16, 8], [0, 0, 8, 8], WHOLE])

    aligned = align(scores, boxes, POINTS, torch.tensor([WHOLE]), torch.tensor([1]), most=2)

    # t = s · u^6: 0.5 · 1, 0.5 / 64, 0.25 / 4096, 0.1 · 1; the best is given the overlap 1
    assert aligned.objects.tolist() == [0, -1, -1, 0]
    torch.testing.assert_close(aligned.quality, torch.tensor([1.0, 0.0, 0.0, 0.1 / 0.5]))


def test_quality_is_scaled_to_the_largest_overlap_and_not_to_one():
    scores = torch.full((4, 1), 0.5)
    boxes = torch.tensor([[0, 0, 16, 8.0], [0, 0, 8, 8], [0, 8, 16, 16], [8, 8, 16, 16]])

    aligned = align(scores, boxes, POINTS, torch.tensor([WHOLE]), torch.tensor([0]), most=4)

    assert aligned.objects.tolist() == [0, 0, 0, 0]
    # overlaps 1/2, 1/4, 1/2, 1/4: t is 2^6 times smaller at the quarters
    torch.testing.assert_close(aligned.quality, torch.tensor([0.5, 0.5 / 64, 0.5, 0.5 / 64]))


def test_a_point_that_two_objects_claim_goes_to_the_one_it_overlaps_most():
    scores = torch.full((4, 1), 0.5)
    boxes = torch.tensor([[0, 0, 8.0, 8], WHOLE, WHOLE, WHOLE])
    truth = torch.tensor([WHOLE, [0, 0, 8, 8]])

    aligned = align(scores, boxes, POINTS, truth, torch.tensor([0, 0]), most=4)

    assert aligned.objects.tolist() == [1, 0, 0, 0]
    assert aligned.quality.tolist() == [1.0, 1.0, 1.0, 1.0]


def test_an_object_without_a_centre_in_its_box_gets_the_nearest_point():
    boxes = torch.tensor([WHOLE, WHOLE, WHOLE, [8, 8, 16, 16.0]])
    truth = torch.tensor([[9.0, 9.0, 11.0, 11.0]])

    aligned = align(torch.full((4, 1), 0.5), boxes, POINTS, truth, torch.tensor([0]))

    assert aligned.objects.tolist() == [-1, -1, -1, 0]
    torch.testing.assert_close(aligned.quality[3], torch.tensor(4 / 64))


def test_points_outside_the_object_do_not_get_it_however_good_they_are():
    scores = torch.tensor([[0.1], [0.9], [0.9], [0.9]])
    truth = torch.tensor([[0.0, 0.0, 8.0, 8.0]])

    aligned = align(scores, truth.expand(4, 4), POINTS, truth, torch.tensor([0]))

    assert aligned.objects.tolist() == [0, -1, -1, -1]


def test_a_picture_without_objects_is_background():
    aligned = align(
        torch.full((4, 2), 0.5),
        torch.tensor([WHOLE] * 4),
        POINTS,
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
    )

    assert aligned.objects.tolist() == [-1] * 4
    assert aligned.quality.tolist() == [0.0] * 4


def test_boxes_that_do_not_overlap_their_object_aim_at_nothing_and_give_no_nan():
    boxes = torch.tensor([[100.0, 100.0, 108.0, 108.0]] * 4)

    aligned = align(
        torch.full((4, 1), 0.5), boxes, POINTS, torch.tensor([WHOLE]), torch.tensor([0])
    )

    assert aligned.objects.tolist() == [0] * 4
    assert aligned.quality.tolist() == [0.0] * 4


def test_an_overlap_that_is_tiny_to_the_sixth_power_still_aims_at_itself():
    boxes = torch.tensor([[0.0, 0.0, 1600.0, 1600.0]] * 4)  # overlap 1e-4, 1e-24 to the sixth
    scores = torch.tensor([[0.5], [0.25], [0.5], [0.5]])

    aligned = align(scores, boxes, POINTS, torch.tensor([WHOLE]), torch.tensor([0]))

    torch.testing.assert_close(aligned.quality, torch.tensor([1e-4, 5e-5, 1e-4, 1e-4]))
