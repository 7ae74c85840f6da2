"""Intersection over union and accuracy of label maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fleetfoot.errors import RecordError
from fleetfoot.tasks.segment.metric import IGNORED, Meter


def drawn(rng, classes, shape=(24, 31)):
    truth = rng.integers(0, classes, shape)
    found = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape))
    truth[rng.random(shape) < 0.1] = IGNORED
    return found, truth


def met(pictures, classes):
    meter = Meter(classes)
    for number, (found, truth) in pictures.items():
        meter.update(number, found, truth)
    return meter


def test_a_case_counted_by_hand():
    truth = torch.tensor([[0, 0, 0, 1], [1, 2, 255, 255]])
    found = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 7]], dtype=torch.uint8)
    meter = Meter(4)
    meter.update(3, found, truth)

    assert meter.matrix.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    # union of class 0: 3 true and 3 given, 2 of them the same; class 3 occurs nowhere
    expected = {"miou": 100 * (2 / 4 + 1 / 3 + 1) / 3, "accuracy": 100 * 4 / 6}
    expected["mean_accuracy"] = 100 * (2 / 3 + 1 / 2 + 1) / 3
    assert meter.figures() == pytest.approx({**expected, "images": 1, "pixels": 6})
    assert meter.per_class()[1] == pytest.approx((1, 2, 100 / 3, 50.0, 50.0))
    assert meter.per_class()[3] == (3, 0, None, None, None)


def test_figures_equal_those_of_sets_of_pixels():
    rng = np.random.default_rng(5)
    found, truth = drawn(rng, 7)
    meter = met({0: (found, truth)}, 7)

    judged = truth != IGNORED
    ious = []
    for number in range(7):
        given, true = (found == number) & judged, truth == number
        ious.append((given & true).sum() / (given | true).sum())
        assert meter.per_class()[number].iou == pytest.approx(100 * ious[-1])
    assert meter.figures()["miou"] == pytest.approx(100 * np.mean(ious))
    assert meter.figures()["accuracy"] == pytest.approx(100 * (found == truth)[judged].mean())


def test_meters_of_parts_add_up_in_any_order_and_a_picture_counts_once():
    rng = np.random.default_rng(6)
    pictures = {number: drawn(rng, 5) for number in range(9)}
    whole = met(pictures, 5)
    parts = [
        met({n: pictures[n] for n in some}, 5) for some in ((7, 0, 3), (1, 2, 8, 7), (4, 5, 6))
    ]

    both = parts[2] + parts[0] + parts[1]
    assert both.images == 9
    assert (both.matrix == whole.matrix).all()
    assert both.figures() == whole.figures()


def test_figures_of_each_picture_and_of_repeated_ones():
    rng = np.random.default_rng(7)
    pictures = {number: drawn(rng, 3) for number in (2, 5)}
    meter = met(pictures, 3)

    alone = met({5: pictures[5]}, 3)
    assert meter.per_picture()[5]["miou"] == alone.figures()["miou"]
    assert (meter.matrix_of([5, 5, 2]) == 2 * alone.matrix + meter.matrix_of([2])).all()


def test_a_meter_comes_back_from_json():
    rng = np.random.default_rng(8)
    meter = met({number: drawn(rng, 4) for number in (4, 1)}, 4)
    again = Meter.from_json(json.loads(json.dumps(meter.as_json())))
    assert again.as_json() == meter.as_json()
    assert again.figures() == meter.figures()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("classes"), r"missing field meter\.classes"),
        (lambda raw: raw["pictures"].append(raw["pictures"][0]), "one number twice"),
        (lambda raw: raw["pictures"][0]["cells"].reverse(), "ascending order"),
        (lambda raw: raw["pictures"][0]["cells"].__setitem__(-1, 16), "cells of a matrix"),
        (lambda raw: raw["pictures"][0]["counts"].pop(), "a count above 0 of each"),
    ],
)
def test_json_that_is_no_meter_is_refused(change, message):
    raw = met({0: drawn(np.random.default_rng(9), 4)}, 4).as_json()
    change(raw)
    with pytest.raises(RecordError, match=message):
        Meter.from_json(raw)


def test_nothing_judged_is_no_figure():
    meter = Meter(3)
    with pytest.raises(ValueError, match="no picture was counted"):
        meter.figures()
    meter.update(0, np.zeros((2, 2), int), np.full((2, 2), IGNORED))
    assert meter.figures() == {
        "miou": None, "accuracy": None, "mean_accuracy": None, "images": 1, "pixels": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "2 x 3 was found, and its truth has 3 x 2"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "found must be a map of whole numbers"),
        (np.zeros((2, 2), int), np.full((2, 2), 3), "a pixel of truth has class 3"),
        (np.full((2, 2), IGNORED), np.zeros((2, 2), int), "a pixel of found has class 255"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(found, truth, message):
    with pytest.raises(ValueError, match=message):
        Meter(3).update(0, found, truth)


def test_a_picture_is_not_counted_twice_and_other_classes_do_not_add():
    meter = Meter(3)
    meter.update(0, np.zeros((2, 2), int), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="picture 0 was counted before"):
        meter.update(0, np.zeros((2, 2), int), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="3 and 4 classes do not add up"):
        meter + Meter(4)
